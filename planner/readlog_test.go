package planner_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"coho/models"
	"coho/planner"
)

// planned is all that a plan says, in words.
func (b *bench) planned(lines []string) []string {
	b.t.Helper()
	out := b.build(lines...)
	notes, err := b.plan.Notes()
	if err != nil {
		b.t.Fatal(err)
	}
	for notes.Next() {
		out = append(out, fmt.Sprintf("note %+v", *notes.Note()))
	}
	if err := notes.Err(); err != nil {
		b.t.Fatal(err)
	}
	return append(out, fmt.Sprintf("%+v", b.plan.Summary().Rows))
}

// TestOrderLogChangesNothing edits a model over several runs, a part of whose rows
// is refused, and plans each time with the order log and without it.
func TestOrderLogChangesNothing(t *testing.T) {
	before := planner.SeekPast(0)
	defer planner.SeekPast(before)
	passed := 0
	for seed := range uint64(27) {
		rng := rand.New(rand.NewPCG(seed, 1))
		log := filepath.Join(t.TempDir(), "order")
		with, readOnly, early, memory := true, false, false, []int64{1000, 10_000, 100_000}[seed%3]
		b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
			s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
			s.OnRemoved = []models.OnRemoved{models.RemovedNothing, models.RemovedDelete, models.RemovedClearFields}[seed/3%3]
			s.MemoryLimit, s.Partitions = memory, []int{4, 1, 16}[seed/9%3]
			if s.OrderLog = ""; with {
				s.OrderLog, s.OrderLogReadOnly, s.OrderEarly = log, readOnly, early
			}
		})
		row := func(key int) string {
			return fmt.Sprintf("k%d - %d %d x", key, rng.IntN(1000), rng.IntN(1000))
		}
		var rows []string
		next := 0
		add := func(at, n int) {
			for range n {
				rows = slices.Insert(rows, at, row(next))
				next++
			}
		}
		add(0, 200)
		for range 5 {
			b.refuse = map[string]string{}
			if rng.IntN(3) == 0 {
				b.refuse[fmt.Sprintf("k%d", rng.IntN(next))] = "NO"
			}
			before, err := os.ReadFile(log)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if len(before) > 0 && rng.IntN(6) == 0 {
				before = before[:rng.IntN(len(before))]
				if err := os.WriteFile(log, before, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			with = false
			want := b.planned(rows)
			with, readOnly = true, true
			planner.SeekPast([]int{0, 1, 1 << 20}[rng.IntN(3)]) // whatever the order log trusts, some of it, nothing
			b.cuts = nil
			if rng.IntN(2) == 0 {
				b.cuts = []int{rng.IntN(len(rows))}
			}
			if got := b.planned(rows); !slices.Equal(got, want) {
				t.Fatalf("seed %d: with the order log\n%q\nwithout it\n%q", seed, got, want)
			}
			if after, err := os.ReadFile(log); err == nil && string(after) != string(before) {
				t.Fatal("a plan that only looks wrote the order log")
			}
			early = true
			if got := b.planned(rows); !slices.Equal(got, want) {
				t.Fatalf("seed %d: with rows passed over early\n%q\nwithout the order log\n%q", seed, got, want)
			}
			readOnly, early = false, false
			b.run(rows...)
			kept, usual := logged(t, log, len(b.cuts) > 0), log
			log = filepath.Join(t.TempDir(), "scratch")
			b.build(rows...)
			if anew := logged(t, log, len(b.cuts) > 0); !slices.Equal(kept, anew) {
				t.Fatalf("seed %d: the order log is\n%q\nand where there was none before\n%q", seed, kept, anew)
			}
			log = usual
			passed++
			at := rng.IntN(len(rows))
			switch rng.IntN(10) {
			case 9: // the end is gone
				rows = rows[:max(len(rows)-1-rng.IntN(3), 0)]
			case 0:
				rows = slices.Delete(rows, at, min(at+1+rng.IntN(90), len(rows)))
			case 1:
				add(at, 1+rng.IntN(90))
			case 2: // a row twice
				rows = slices.Insert(rows, rng.IntN(len(rows)), rows[at])
			case 3: // a key twice
				var key int
				fmt.Sscanf(rows[at], "k%d", &key)
				rows = slices.Insert(rows, rng.IntN(len(rows)), row(key))
			case 4: // begins elsewhere
				rows = slices.Concat(rows[at:], rows[:at])
			case 5, 6:
				var key int
				fmt.Sscanf(rows[at], "k%d", &key)
				rows[at] = row(key)
			case 7:
				rows[at] = "- - x y z"
			}
			if len(rows) == 0 {
				add(0, 20)
			}
		}
	}
	if passed == 0 {
		t.Error("nothing was planned")
	}
}

// logged are the rows of an order log, in its order or each part's for itself.
func logged(t *testing.T, log string, byPart bool) (rows []string) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for len(b) > 0 {
		if len(b) < 8 {
			t.Fatalf("%s is torn", log)
		}
		n, part := int(b[4])|int(b[5])<<8|int(b[6])<<16, ""
		if byPart {
			part = fmt.Sprint(b[7])
		}
		for b = b[8:]; n > 0; n-- {
			rows, b = append(rows, fmt.Sprintf("%s %x", part, b[:32])), b[32:]
		}
	}
	if byPart {
		slices.SortStableFunc(rows, func(a, b string) int { return int(a[0]) - int(b[0]) })
	}
	return rows
}

// TestSameOrderLogIsNotWritten: a read that goes as the last one leaves the log as it
// is, and with it the verdict, so that the snapshot is not read as a whole again. Any
// other read writes a log, whether it goes another way at its beginning or its end.
func TestSameOrderLogIsNotWritten(t *testing.T) {
	const n = 1200
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprintf("k%d - x y z", i))
	}
	edited := slices.Concat(rows[:n-1], []string{"k1199 - x y other"})
	for _, c := range []struct {
		name    string
		rows    []string
		written bool
	}{
		{"the same", rows, false},
		{"the last row edited", edited, true},
		{"the last row gone", rows[:n-1], true},
		{"a row more", slices.Concat(rows, []string{"new - x y z"}), true},
		{"the first row gone", rows[1:], true},
		{"two rows swapped", slices.Concat(rows[1:2], rows[:1], rows[2:]), true},
		{"a block less", rows[:n-300], true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, cuts := range [][]int{nil, {n / 3}} {
				log := filepath.Join(t.TempDir(), "order")
				b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
					s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
					s.OrderLog, s.MemoryLimit = log, 256<<10 // blocks of 256 rows
				})
				b.cuts = cuts
				b.run(rows...)
				b.build(rows...) // the verdict is kept
				before, err := os.Stat(log)
				if err != nil {
					t.Fatal(err)
				}
				b.build(c.rows...)
				after, err := os.Stat(log)
				if err != nil {
					t.Fatal(err)
				}
				if written := !os.SameFile(before, after); written != c.written {
					t.Errorf("cut at %d: the log was written: %t, want %t", cuts, written, c.written)
				}
				if got := logged(t, log, false); len(got) != len(c.rows) {
					t.Errorf("cut at %d: the log has %d rows, want %d", cuts, len(got), len(c.rows))
				}
			}
		})
	}
}

// TestTornOrderLogIsReplaced: a log of which a read that goes as it says found no end
// is not kept.
func TestTornOrderLogIsReplaced(t *testing.T) {
	var rows []string
	for i := range 1000 {
		rows = append(rows, fmt.Sprintf("k%d - x y z", i))
	}
	log := filepath.Join(t.TempDir(), "order")
	b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
		s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
		s.OrderLog, s.MemoryLimit = log, 100<<10
	})
	b.run(rows...)
	whole := logged(t, log, false)
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("torn"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.want(b.run(rows...))
	if got := logged(t, log, false); !slices.Equal(got, whole) {
		t.Errorf("%d rows are logged, want %d", len(got), len(whole))
	}
}

// TestOrderLogPassesRowsOver: an unchanged model in the same order spills nothing,
// however little memory there is.
func TestOrderLogPassesRowsOver(t *testing.T) {
	var rows []string
	for i := range 150 {
		rows = append(rows, fmt.Sprintf("k%d - x y z", i))
	}
	log, spills := filepath.Join(t.TempDir(), "order"), filepath.Join(t.TempDir(), "absent")
	b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
		s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
		s.MemoryLimit, s.OrderLog, s.Partitions = 1, log, 2
	})
	b.run(rows...)
	last := b.tweak
	b.tweak = func(s *planner.Spec) { last(s); s.SpillDir = spills } // which cannot be written to
	b.want(b.run(rows...))
	if got := b.plan.Summary().Rows; got.Unchanged != 150 {
		t.Errorf("%+v", got)
	}
	b.tweak = last
	b.want(b.run(slices.Concat(rows[60:], []string{"new - x y z"}, rows[:60])...), "new upsert a=x b=y c=z")
	b.want(b.run(rows[50:]...))
}

// TestOrderLogFindsItsPlaceAgain: after rows were taken out of a model, put in or
// put elsewhere, however many, the others are still passed over: what is kept of
// the rows does not fit where it would have to go.
func TestOrderLogFindsItsPlaceAgain(t *testing.T) {
	const n = 20_000
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprintf("k%d - x y z", i))
	}
	for _, c := range []struct {
		name string
		rows []string
		kept int64 // at most
	}{
		{"in order", rows, 0},
		{"a third taken out", slices.Concat(rows[:4000], rows[10_000:]), 400},
		{"the first taken out", rows[15_000:], 600},
		{"begins elsewhere", slices.Concat(rows[5000:], rows[:5000]), 5400},
		{"one moved to the front", slices.Concat(rows[n-1:], rows[:n-1]), 1},
		{"some moved to the front", slices.Concat(rows[n-300:], rows[:n-300]), 300},
		{"every tenth moved to the end", everyTenthLast(rows), n / 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, cuts := range [][]int{nil, {n / 4}} {
				log := filepath.Join(t.TempDir(), "order")
				b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
					s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
					s.OrderLog, s.MemoryLimit = log, 1<<20 // blocks of a thousand rows
				})
				b.cuts = cuts
				b.run(rows...)
				b.build(c.rows...)
				got := b.plan.Summary().Rows
				if got.Unchanged != int64(len(c.rows)) || got.Removed != int64(n-len(c.rows)) {
					t.Errorf("%+v", got)
				}
				if kept := got.Read - b.progress.PassedOver.Load(); cuts == nil && kept > c.kept {
					t.Errorf("%d rows were kept, want at most %d", kept, c.kept)
				}
			}
		})
	}
}

func everyTenthLast(rows []string) []string {
	var first, last []string
	for i, r := range rows {
		if i%10 == 3 {
			last = append(last, r)
		} else {
			first = append(first, r)
		}
	}
	return append(first, last...)
}

// TestUnchangedAllocatesNothingARow: a model ten times as long, unchanged, is
// planned with as many allocations, but for those of a block of rows.
func TestUnchangedAllocatesNothingARow(t *testing.T) {
	allocations := func(n int) float64 {
		var rows []string
		for i := range n {
			rows = append(rows, fmt.Sprintf("k%d - x y z", i))
		}
		log := filepath.Join(t.TempDir(), "order")
		b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
			s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
			s.OrderLog, s.MemoryLimit, s.Workers = log, 1<<20, 1
		})
		b.run(rows...)
		data := table(rows...)
		spec := data.Spec(models.ModeUpsert, "key", "match", "a", "b", "c")
		b.tweak(&spec)
		spec.OrderLogReadOnly = true
		dir := t.TempDir()
		return testing.AllocsPerRun(2, func() {
			plan, err := planner.Build(t.Context(), spec, data.Rewind(), b.store, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := plan.Summary().Rows; got.Unchanged != int64(n) {
				t.Fatalf("%+v", got)
			}
			if err := plan.Remove(); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := allocations(3000), allocations(30_000)
	if more := (many - few) / 27_000; more > 0.02 {
		t.Errorf("%.0f allocations for 3,000 rows, %.0f for 30,000: %.3f a row", few, many, more)
	}
}

// lateRows tell when they have all been read, lateSnapshot is only scanned as a whole
// after that.
type lateRows struct {
	planner.Rows
	read chan struct{}
}

func (r lateRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	close(r.read)
	return false
}

type lateSnapshot struct {
	planner.Snapshot
	read chan struct{}
}

func (s lateSnapshot) Scan(first, limit planner.Hash) (planner.Cursor, error) {
	if first == limit {
		<-s.read
	}
	return s.Snapshot.Scan(first, limit)
}

// TestOrderEarly: rows that were passed over before the log was compared with the
// snapshot are asked for again where the two differ, and only there.
func TestOrderEarly(t *testing.T) {
	var rows []string
	for i := range 200 {
		rows = append(rows, fmt.Sprintf("k%d - x y z", i))
	}
	for _, c := range []struct {
		name   string
		refuse map[string]string
		want   error
	}{
		{"they agree", nil, nil},
		{"a row was refused", map[string]string{"k77": "NO"}, planner.ErrReadAgain},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "order")
			b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
				s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
				s.OrderLog, s.MemoryLimit = log, 10_000
			})
			b.refuse = c.refuse
			b.run(rows...)
			data := table(rows...)
			spec := data.Spec(models.ModeUpsert, "key", "match", "a", "b", "c")
			b.tweak(&spec)
			spec.OrderEarly = true
			read := make(chan struct{})
			var p planner.Progress
			plan, err := planner.Build(t.Context(), spec, lateRows{data, read}, lateSnapshot{b.store, read}, t.TempDir(), &p)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			if got := plan.Summary().Rows; got.Unchanged != 200 || p.PassedOver.Load() != 200 {
				t.Errorf("%+v, %d passed over", got, p.PassedOver.Load())
			}
			if err := plan.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}
