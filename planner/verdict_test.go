package planner_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coho/models"
	"coho/planner"
)

// scans counts how often a snapshot is read as a whole.
type scans struct {
	planner.Snapshot
	whole int
}

func (s *scans) Scan(first, limit planner.Hash) (planner.Cursor, error) {
	if first == limit {
		s.whole++
	}
	return s.Snapshot.Scan(first, limit)
}

// TestKeptVerdict: the snapshot is read as a whole by the first plan after a change
// of it or of the log, and by no other; and what is done to log and verdict in
// between loses no row.
func TestKeptVerdict(t *testing.T) {
	var rows []string
	for i := range 2000 {
		rows = append(rows, fmt.Sprintf("k%d - x y z", i))
	}
	damage := func(t *testing.T, path string, at int64) {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[at] ^= 0x40
		if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chtimes(path, time.Time{}, st.ModTime())); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		between func(t *testing.T, b *bench, log string)
		edit    bool // the model is edited meanwhile
		undone  bool // and the acknowledged edits are not in it any more
		scans   int  // of the plan after that
		again   bool // which first asks for the rows again
	}{
		{name: "nothing", between: func(*testing.T, *bench, string) {}},
		{name: "a row was edited in the model", edit: true, between: func(*testing.T, *bench, string) {}},
		{name: "the edit was acknowledged and undone", undone: true, scans: 1, between: func(t *testing.T, b *bench, _ string) {
			edited := append([]string{}, rows...)
			edited[700], edited[701] = "k700 - x y other", "k701 - x y other"
			b.run(edited...)
		}},
		{name: "the verdict is damaged", edit: true, scans: 1, between: func(t *testing.T, _ *bench, log string) { damage(t, log+".verdict", 1000) }},
		{name: "the verdict is cut", edit: true, scans: 1, between: func(t *testing.T, _ *bench, log string) {
			if err := os.Truncate(log+".verdict", 100); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "the log was written again", edit: true, scans: 1, between: func(t *testing.T, _ *bench, log string) {
			if err := os.Chtimes(log, time.Time{}, time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "the log is damaged in its middle", edit: true, again: true, between: func(t *testing.T, _ *bench, log string) { damage(t, log, 20_000) }},
		{name: "the log is gone", edit: true, between: func(t *testing.T, _ *bench, log string) {
			if err := os.Remove(log); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "order")
			tweak := func(s *planner.Spec) {
				s.MatchIsKey, s.MatchColumn, s.MappedColumns = true, s.KeyColumns[0], []int{0, 2, 3, 4}
				s.OrderLog, s.MemoryLimit, s.Partitions = log, 10_000, 4
			}
			b := newBench(t, models.ModeUpsert, tweak)
			b.run(rows...)
			counted := &scans{Snapshot: b.store}
			plan := func(rows []string) (*planner.Plan, error) {
				data := table(rows...)
				spec := data.Spec(models.ModeUpsert, "key", "match", "a", "b", "c")
				tweak(&spec)
				spec.OrderLogReadOnly = true
				counted.whole = 0
				return planner.Build(t.Context(), spec, data, counted, filepath.Join(t.TempDir(), "plan"), nil)
			}
			check := func(rows []string, changed int64) {
				t.Helper()
				p, err := plan(rows)
				if c.again && errors.Is(err, planner.ErrReadAgain) {
					c.again = false
					p, err = plan(rows)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := p.Summary().Rows; got.Changed != changed || got.Unchanged != int64(len(rows))-changed {
					t.Errorf("%+v, want %d changed", got, changed)
				}
				if err := p.Remove(); err != nil {
					t.Error(err)
				}
			}
			again := c.again
			c.again = false
			check(rows, 0)
			if counted.whole != 1 {
				t.Fatalf("the first plan read the snapshot %d times", counted.whole)
			}
			check(rows, 0)
			if counted.whole != 0 {
				t.Fatalf("the second plan read the snapshot %d times", counted.whole)
			}
			c.between(t, b, log)
			now, changed := append([]string{}, rows...), int64(0)
			switch {
			case c.edit:
				now[700], changed = "k700 - x y edited", 1
			case c.undone:
				changed = 2
			}
			c.again = again
			check(now, changed)
			if counted.whole != c.scans {
				t.Errorf("the plan after that read the snapshot %d times, want %d", counted.whole, c.scans)
			}
			if c.again {
				t.Error("the damage went unnoticed")
			}
		})
	}
}
