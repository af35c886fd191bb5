package planner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"coho/models"
	"coho/planner"
	"coho/planner/plannertest"
	"coho/planner/snapshot"
)

// stream makes rows as it goes, of which every n-th is changed.
type stream struct {
	*plannertest.Table
	rows, at, every int
	frame, text, a  []byte
}

func (s *stream) Next() bool {
	if s.at >= s.rows {
		return false
	}
	s.at++
	s.text = strconv.AppendInt(append(s.text[:0], "row-"...), int64(s.at), 10)
	state := "a text as a field of a CRM has one, in the middle of forty"
	if s.every > 0 && s.at%s.every == 0 {
		state = "another text"
	}
	s.a = append(append(s.a[:0], s.text...), state...)
	s.frame = s.frame[:0]
	for _, cell := range [][]byte{s.text, s.text, s.a, s.text, nil} { // key, match, a, b, c
		s.frame = models.AppendCell(s.frame, cell)
	}
	return true
}

func (s *stream) Row() []byte { return s.frame }

// rowsOfBench is COHO_BENCH_ROWS, or 100,000. It undoes what tests change of the
// planner.
func rowsOfBench(b *testing.B) int {
	before := planner.CutAt(cutRows)
	b.Cleanup(func() { planner.CutAt(before) })
	text := os.Getenv("COHO_BENCH_ROWS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("COHO_BENCH_ROWS is %q, want a number of rows", text)
	}
	return n
}

func BenchmarkBuild(b *testing.B) {
	rows := rowsOfBench(b)
	dir := b.TempDir()
	store, err := snapshot.Open(filepath.Join(dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	build := func(every int) *planner.Plan {
		s := &stream{Table: plannertest.NewTable("key", "match", "a", "b", "c"), rows: rows, every: every}
		spec := s.Spec(models.ModeUpsert, "key", "match", "a", "b", "c")
		spec.MatchIsKey, spec.OrderLog, spec.OrderLogReadOnly = true, filepath.Join(dir, "order"), every > 0
		plan, err := planner.Build(context.Background(), spec, s, store, filepath.Join(dir, "plan"), nil)
		if err != nil {
			b.Fatal(err)
		}
		return plan
	}
	first := build(0)
	began := time.Now()
	settleAll(b, store, first, true)
	b.Logf("first load: %d rows settled, %.0f rows/s", rows, float64(rows)/time.Since(began).Seconds())
	first.Remove()
	for _, c := range []struct {
		name  string
		every int
	}{{"0", 0}, {"1%", 100}, {"100%", 1}} {
		b.Run(fmt.Sprintf("rows=%d/changed=%s", rows, c.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				build(c.every).Remove()
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			if st, err := store.Stats(); err != nil || st.Rows != int64(rows) {
				b.Fatal(st, err)
			}
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}

// BenchmarkSettle acknowledges a first load, with the match value as the key and
// with an index of owners.
func BenchmarkSettle(b *testing.B) {
	rows := rowsOfBench(b)
	for _, matchIsKey := range []bool{true, false} {
		b.Run(fmt.Sprintf("rows=%d/matchIsKey=%t", rows, matchIsKey), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				store, err := snapshot.Open(filepath.Join(dir, "state"))
				if err != nil {
					b.Fatal(err)
				}
				s := &stream{Table: plannertest.NewTable("key", "match", "a", "b", "c"), rows: rows}
				spec := s.Spec(models.ModeUpsert, "key", "match", "a", "b", "c")
				spec.MatchIsKey = matchIsKey
				plan, err := planner.Build(context.Background(), spec, s, store, filepath.Join(dir, "plan"), nil)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				settleAll(b, store, plan, matchIsKey)
				b.StopTimer()
				if err := errors.Join(plan.Remove(), store.Close()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// settleAll acknowledges a plan in batches of ten thousand.
func settleAll(b *testing.B, store *snapshot.Store, plan *planner.Plan, matchIsKey bool) {
	if err := store.SetIdentity(snapshot.Identity{MatchIsKey: matchIsKey}); err != nil {
		b.Fatal(err)
	}
	if err := store.SetActivePlan(snapshot.PlanRef{Dir: plan.Dir(), Fields: plan.Fields()}); err != nil {
		b.Fatal(err)
	}
	r, err := plan.Operations(0, nil)
	if err != nil {
		b.Fatal(err)
	}
	n, err := store.Begin(snapshot.Batch{API: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	var done []snapshot.Settlement
	for more := true; more; {
		if more = r.Next(); more {
			done = append(done, snapshot.Settlement{Op: r.Operation().Clone(), Applied: true, ID: fmt.Sprintf("%018d", r.Operation().Seq)})
		}
		if len(done) == 10_000 || !more {
			if err := store.Settle(n, done, !more); err != nil {
				b.Fatal(err)
			}
			done = done[:0]
		}
	}
	notes, err := plan.Notes()
	if err != nil {
		b.Fatal(err)
	}
	if err := store.FinishPlan(notes); err != nil {
		b.Fatal(err)
	}
}
