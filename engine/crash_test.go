package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coho/destinations"
	"coho/models"
	"coho/planner"
)

// errCrash is a journal that dies with its process.
var errCrash = errors.New("the process died")

// modes are the syncs that the crash tests run. Each begins with rows that a
// first run has landed; then edit is made.
var modes = []struct {
	name string
	set  func(s *models.Sync)
}{
	{"upsert with deletes", func(s *models.Sync) { s.OnRemoved = models.RemovedDelete }},
	{"insert", func(s *models.Sync) { s.Mode, s.Match = models.ModeInsert, models.Match{} }},
}

// halfway is a world with landed rows and changes that are due.
func halfway(t *testing.T, set func(s *models.Sync)) *world {
	w := newWorld(t, "accounts")
	set(w.syncs["accounts"])
	if w.syncs["accounts"].Mode == models.ModeInsert {
		w.fill("accounts", "a", "Acme", "b", "Bolt")
		w.must("accounts")
		w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core", "d", "Dot", "e", "Elk", "f", "Fir", "g", "Gum")
		return w
	}
	w.fill("accounts", "a", "Acme", "b", "Bolt", "x", "Xen", "y", "Yam")
	w.must("accounts")
	w.fill("accounts", "a", "Acme & Son", "b", "Bolt", "c", "Core", "d", "Dot", "e", "Elk")
	return w
}

// settles checks that from here one run makes the org equal to the model, and
// that the run after it has nothing to send.
func settles(t *testing.T, w *world) {
	t.Helper()
	w.must("accounts")
	w.equal("accounts")
	before := w.org.sent
	w.must("accounts")
	if w.org.sent != before {
		t.Errorf("a run with nothing changed sent %d operations", w.org.sent-before)
	}
	if left := w.plans("accounts"); len(left) != 0 {
		t.Errorf("on disk: %v", left)
	}
}

// TestJournalFails lets the n-th call of the journal fail, for every n, before
// and after it has taken effect.
func TestJournalFails(t *testing.T) {
	for _, m := range modes {
		for _, after := range []bool{false, true} {
			n := 1
			for ; ; n++ {
				w := halfway(t, m.set)
				j := &frailJournal{fail: n, after: after}
				o := w.options()
				o.OpenDestination = func(string) (destinations.Destination, error) { return frailOrg{w.org, j}, nil }
				e, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				run, err := e.Run(context.Background(), "accounts", RunOptions{})
				if cerr := e.Close(); cerr != nil {
					t.Fatal(cerr)
				}
				if j.calls < n {
					if err != nil {
						t.Fatalf("%s: %v", m.name, err)
					}
					break
				}
				t.Run(fmt.Sprintf("%s/call %d, after=%v", m.name, n, after), func(t *testing.T) {
					if !errors.Is(err, errCrash) || run.Status != Failed {
						t.Fatalf("%v, %+v", err, run)
					}
					w.t = t
					settles(t, w)
				})
			}
			if n < 10 {
				t.Errorf("%s: only %d calls of the journal were seen", m.name, n-1)
			}
		}
	}
}

type frailJournal struct {
	destinations.Journal
	calls, fail int
	after       bool
}

func (j *frailJournal) call(do func() error) error {
	if j.calls++; j.calls != j.fail {
		return do()
	}
	if j.after {
		return errors.Join(do(), errCrash)
	}
	return errCrash
}

func (j *frailJournal) Begin(ctx context.Context, b destinations.Batch) (n uint64, err error) {
	err = j.call(func() (err error) { n, err = j.Journal.Begin(ctx, b); return err })
	return n, err
}

func (j *frailJournal) Update(ctx context.Context, b destinations.Batch) error {
	return j.call(func() error { return j.Journal.Update(ctx, b) })
}

func (j *frailJournal) Open() (open []destinations.Batch, err error) {
	err = j.call(func() (err error) { open, err = j.Journal.Open(); return err })
	return open, err
}

func (j *frailJournal) Settle(ctx context.Context, batch uint64, ops []*planner.Operation, outcomes []destinations.Outcome, last bool) error {
	return j.call(func() error { return j.Journal.Settle(ctx, batch, ops, outcomes, last) })
}

type frailOrg struct {
	*org
	j *frailJournal
}

func (f frailOrg) Open(ctx context.Context, s *models.Sync, cols []models.Column) (destinations.Target, error) {
	t, err := f.org.Open(ctx, s, cols)
	if err != nil {
		return nil, err
	}
	return frailTarget{t.(*target), f.j}, nil
}

type frailTarget struct {
	*target
	j *frailJournal
}

func (f frailTarget) Apply(ctx context.Context, a destinations.Application) error {
	f.j.Journal = a.Journal
	a.Journal = f.j
	return f.target.Apply(ctx, a)
}

// death is what a process that was killed at some point leaves: its state
// directory, and the org as it was.
type death struct {
	point string
	dir   string
	org   *org
}

// TestKilledAnywhere copies the state directory and the org at every point at
// which a run calls its ports, its clock or its log, as a kill there would leave
// them, and goes on from each copy.
func TestKilledAnywhere(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			w := halfway(t, m.set)
			var deaths []death
			die := func(point string) {
				d := death{point: fmt.Sprintf("%02d %s", len(deaths), point), dir: filepath.Join(t.TempDir(), "state"), org: w.org.clone()}
				if err := copyTree(w.dir, d.dir); err != nil {
					t.Fatalf("%s: %v", point, err)
				}
				deaths = append(deaths, d)
			}
			// The run that dies has itself half of another's work to finish.
			w.org.budget = 1
			if run, err := w.run("accounts", RunOptions{}); run.Status != Halted {
				t.Fatalf("%v, %+v", err, run)
			}
			w.org.budget = -1
			w.warehouse.rows["accounts"][0] = []string{"a", w.warehouse.rows["accounts"][0][1], "+1 changed"}
			tick := w.clock
			w.clock = func() time.Time { die("clock"); return tick() }
			w.org.reach = func(point string) error { die(point); return nil }
			w.warehouse.onRow = func(n int) { die(fmt.Sprintf("row %d", n)) }
			run, err := w.run("accounts", RunOptions{})
			if err != nil || run.Resumed == "" {
				t.Fatalf("%v, %+v", err, run)
			}
			if len(deaths) < 20 {
				t.Errorf("only %d points were seen", len(deaths))
			}
			for _, d := range deaths {
				t.Run(d.point, func(t *testing.T) {
					c := *w
					c.t, c.dir, c.org, c.clock = t, d.dir, d.org, tick
					c.warehouse = &warehouse{rows: w.warehouse.rows}
					if m.name == "insert" {
						// A row that was inserted is not updated.
						c.warehouse.rows = map[string][][]string{"accounts": append([][]string{{"a", "Acme", "+1 a"}}, w.warehouse.rows["accounts"][1:]...)}
					}
					settles(t, &c)
					c.with(func(e *Engine) {
						runs, err := e.History().List("", 0)
						if err != nil {
							t.Fatal(err)
						}
						for _, r := range runs {
							if r.Status == Running || r.FinishedAt == nil {
								t.Errorf("run %s is said to go on", r.ID)
							}
						}
					})
				})
			}
		})
	}
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the store was just then clearing old files away
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		in, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
}
