package planner_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"coho/models"
	"coho/planner"
	"coho/planner/plannertest"
	"coho/planner/snapshot"
)

// describe is a plan in full: operations, rejected rows, notes, summary.
func describe(t *testing.T, p *planner.Plan) string {
	t.Helper()
	var b strings.Builder
	for pass := range p.Passes() {
		r, err := p.Operations(pass, nil)
		if err != nil {
			t.Fatal(err)
		}
		for r.Next() {
			o := r.Operation()
			fmt.Fprintln(&b, pass, o.Seq, o.Kind, o.KeyHash, o.Fingerprint, o.Key, o.ID, o.Match, o.Known, o.Counted, o.Assignments)
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	rejected, err := p.Rejected()
	if err != nil {
		t.Fatal(err)
	}
	for rejected.Next() {
		fmt.Fprintf(&b, "%+v\n", *rejected.Rejected())
	}
	notes, err := p.Notes()
	if err != nil {
		t.Fatal(err)
	}
	for notes.Next() {
		fmt.Fprintf(&b, "%+v\n", *notes.Note())
	}
	if err := errors.Join(rejected.Err(), notes.Err()); err != nil {
		t.Fatal(err)
	}
	sum := p.Summary()
	samples := sum.Samples
	sum.Samples = nil
	fmt.Fprintf(&b, "%+v\n", sum)
	for _, s := range samples {
		fmt.Fprintf(&b, "%s %v %s", s.Kind, s.Key, s.ID)
		for _, f := range s.Fields {
			fmt.Fprintf(&b, " %s:%v", f.Name, f.After)
			if f.Before != nil {
				fmt.Fprintf(&b, " was %v", *f.Before)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func changedModel(rng *rand.Rand, n int) []string {
	var lines []string
	for i := range n {
		switch rng.IntN(12) {
		case 0: // left out
		case 1:
			lines = append(lines, fmt.Sprintf("k%d m%d x changed z", i, i))
		case 2:
			lines = append(lines, fmt.Sprintf("k%d m%d x y z", i, i), fmt.Sprintf("k%d m%d x y z", i, i))
		case 3:
			lines = append(lines, fmt.Sprintf("new%d m%d m%d y z", i, i, i+1))
		case 4:
			lines = append(lines, fmt.Sprintf("new%d n%d n%d y z", i, i%50, i/2))
		default:
			lines = append(lines, fmt.Sprintf("k%d m%d x y z", i, i))
		}
	}
	return lines
}

// TestPartitionsDoNotMatter: the plan is the same whatever the number of
// partitions, the memory, the workers and the order of the rows.
func TestPartitionsDoNotMatter(t *testing.T) {
	b := newBench(t, models.ModeUpsert, nil)
	var first []string
	for i := range 1000 {
		first = append(first, fmt.Sprintf("k%d m%d x y z", i, i))
	}
	b.run(first...)
	rng := rand.New(rand.NewPCG(1, 2))
	lines := changedModel(rng, 1000)
	lines = append(lines, strings.Split(strings.Repeat("same m x y z,", 200)+"same m x y z", ",")...)
	want := ""
	for _, partitions := range []int{1, 0, 2, 64, 1000} {
		for _, memory := range []int64{0, 20000, 500, 1} {
			if memory == 500 && partitions > 64 || memory == 1 && partitions != 2 {
				continue
			}
			b.tweak = func(s *planner.Spec) {
				s.OnRemoved, s.Partitions, s.MemoryLimit, s.Workers = models.RemovedDelete, partitions, memory, 1+partitions%3
				s.Fields[0].SelfReference = true
			}
			rng.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
			b.build(lines...)
			got := describe(t, b.plan)
			if want == "" {
				want = got
				if n := strings.Count(got, planner.CodeDuplicateKey); n < 200 {
					t.Errorf("%d rows are rejected for their key", n)
				}
				if b.plan.Passes() < 3 {
					t.Errorf("%d passes", b.plan.Passes())
				}
			} else if got != want {
				t.Fatalf("%d partitions and %d bytes of memory give another plan:\n%.3000s\n\n%.3000s", partitions, memory, got, want)
			}
			if left, _ := filepath.Glob(filepath.Join(b.plan.Dir(), "spill-*")); left != nil {
				t.Errorf("spilled rows are left: %v", left)
			}
		}
	}
}

func TestPlanReadsBack(t *testing.T) {
	b := newBench(t, models.ModeUpsert, nil)
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("k%d m%d %s y z", i, i, strings.Repeat("long", 20)))
	}
	b.build(lines...)
	want := describe(t, b.plan)
	again, err := planner.OpenPlan(b.plan.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := describe(t, again); got != want {
		t.Errorf("the plan reads back otherwise")
	}
	// a set, read by the index
	seqs := planner.Seqs{{0, 2}, {1500, 1503}, {1504, 1505}, {4999, 6000}}
	r, err := again.Read(seqs)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	var kept []*planner.Operation
	for r.Next() {
		got = append(got, r.Operation().Seq)
		kept = append(kept, r.Operation().Clone())
	}
	if fmt.Sprint(got) != "[0 1 1500 1501 1502 1504 4999]" || r.Err() != nil {
		t.Errorf("read %v, %v", got, r.Err())
	}
	var settled planner.SettledSet
	settled.Add(planner.Seqs{{0, 1500}, {1502, 4999}})
	r, err = again.Operations(0, &settled)
	if err != nil {
		t.Fatal(err)
	}
	got = got[:0]
	for r.Next() {
		got = append(got, r.Operation().Seq)
	}
	if fmt.Sprint(got) != "[1500 1501 4999]" || r.Err() != nil {
		t.Errorf("not settled: %v, %v", got, r.Err())
	}
	if k := kept[3]; k.Match != "m"+k.Key[0][1:] || k.Assignments[0].Cell.Text != strings.Repeat("long", 20) {
		t.Errorf("the clone is %+v", k)
	}
}

// TestDamagedPlans: a plan with any byte changed, or cut short, is refused.
func TestDamagedPlans(t *testing.T) {
	b := newBench(t, models.ModeUpsert, func(s *planner.Spec) { s.Fields[0].SelfReference = true })
	b.build("1 m1 - y z", "2 m2 m1 y z", "3 - x y z")
	for _, name := range []string{"plan", "operations", "rejected", "levels"} {
		path := filepath.Join(b.plan.Dir(), name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			bad := append([]byte(nil), whole...)
			bad[i] ^= 0x40
			for _, content := range [][]byte{bad, whole[:i]} {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if p, err := planner.OpenPlan(b.plan.Dir()); err == nil {
					p.Close()
					t.Errorf("%s with byte %d damaged is taken for whole", name, i)
				}
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(b.plan.Dir(), "plan")); err != nil {
		t.Fatal(err)
	}
	if _, err := planner.OpenPlan(b.plan.Dir()); !errors.Is(err, planner.ErrIncomplete) {
		t.Errorf("without its marker: %v", err)
	}
}

// brokenSnapshot cannot be read.
type brokenSnapshot struct{ planner.Snapshot }

var errBroken = errors.New("broken")

func (brokenSnapshot) Scan(_, _ planner.Hash) (planner.Cursor, error) { return nil, errBroken }

func TestBuildLeavesNothing(t *testing.T) {
	store, err := snapshot.OpenFS("state", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		snap planner.Snapshot
		rows func() *plannertest.Table
		spec func(*planner.Spec)
	}{
		{"the warehouse fails", context.Background(), store, func() *plannertest.Table {
			rows := table("1 m x y z", "2 n x y z")
			rows.Fail = errBroken
			return rows
		}, func(s *planner.Spec) { s.MemoryLimit = 1 }},
		{"canceled", canceled, store, func() *plannertest.Table { return table("1 m x y z") }, func(*planner.Spec) {}},
		{"the snapshot fails", context.Background(), brokenSnapshot{store}, func() *plannertest.Table { return table("1 m x y z") }, func(s *planner.Spec) { s.MemoryLimit = 1 }},
		{"no place to spill", context.Background(), store, func() *plannertest.Table { return table("1 m x y z", "2 n x y z") }, func(s *planner.Spec) {
			s.MemoryLimit, s.SpillDir = 1, "/proc/no/such/place"
		}},
		{"a short row", context.Background(), store, func() *plannertest.Table { return table("1 m x y z").Add("1") }, func(*planner.Spec) {}},
		{"no key", context.Background(), store, func() *plannertest.Table { return table() }, func(s *planner.Spec) { s.KeyColumns = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := c.rows()
			spec := rows.Spec(models.ModeUpsert, "key", "match", "a", "b", "c")
			c.spec(&spec)
			dir := filepath.Join(t.TempDir(), "plan")
			plan, err := planner.Build(c.ctx, spec, rows, c.snap, dir, nil)
			if err == nil || plan != nil {
				t.Fatalf("no error")
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left: %v", err)
			}
		})
	}
}

func TestGuards(t *testing.T) {
	share := func(p float64) models.Limit { return models.Limit{Set: true, IsShare: true, Percent: p} }
	number := func(n int64) models.Limit { return models.Limit{Set: true, Count: n} }
	sum := func(deletes, clears, known, rows int64) *planner.Summary {
		s := &planner.Summary{Known: known, SnapshotRows: rows}
		s.Rows.Read = max(rows-deletes-clears, 0)
		s.Operations[planner.Archive], s.Operations[planner.ClearFields] = deletes, clears
		return s
	}
	for _, c := range []struct {
		name   string
		guards models.Guards
		sum    *planner.Summary
		mode   models.Mode
		want   string
	}{
		{"unset, a few", models.Guards{}, sum(4, 6, 10, 12), models.ModeUpsert, ""},
		{"unset, half", models.Guards{}, sum(50, 50, 100, 200), models.ModeUpsert, ""},
		{"unset, past half", models.Guards{}, sum(11, 0, 11, 21), models.ModeUpsert, "deletes or clears 11 of the 21 rows that the snapshot holds, none is set"},
		{"unset, a tenth", models.Guards{}, sum(500, 500, 1000, 10000), models.ModeUpsert, ""},
		{"unset, past a tenth", models.Guards{}, sum(1001, 0, 1001, 10000), models.ModeUpsert, "max_deletes"},
		{"unset, an empty model", models.Guards{}, sum(3, 0, 3, 3), models.ModeUpsert, "max_deletes"},
		{"unset, archive mode", models.Guards{}, sum(1000, 0, 0, 0), models.ModeArchive, ""},
		{"at the limit", models.Guards{MaxDeletes: share(10)}, sum(5, 5, 10, 100), models.ModeUpsert, ""},
		{"past it", models.Guards{MaxDeletes: share(10)}, sum(6, 5, 11, 100), models.ModeUpsert,
			"halted by the guard max_deletes: the plan deletes or clears 11 of the 100 rows that the snapshot holds, the limit is 10%; nothing was sent; run again with --approve if that is meant"},
		{"a count", models.Guards{MaxDeletes: number(3)}, sum(4, 0, 4, 100), models.ModeUpsert, "the limit is 3;"},
		{"changes", models.Guards{MaxChanges: share(50)}, sum(0, 0, 51, 100), models.ModeUpsert, "max_changes: the plan changes 51 of the 100"},
		{"first load", models.Guards{MaxDeletes: share(10), MaxChanges: share(50)}, sum(0, 0, 0, 0), models.ModeUpsert, ""},
		{"archive mode, a share", models.Guards{MaxDeletes: share(10)}, sum(50, 0, 0, 0), models.ModeArchive, ""},
		{"archive mode, a count", models.Guards{MaxDeletes: number(10)}, sum(50, 0, 0, 0), models.ModeArchive, "max_deletes"},
	} {
		err := planner.CheckGuards(c.guards, c.sum, c.mode)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		var guard *planner.GuardError
		if err != nil && !errors.As(err, &guard) {
			t.Errorf("%s: %T", c.name, err)
		}
	}
}
