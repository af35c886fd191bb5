package salesforce

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// children makes n upserts, half of them of one parent and the others spread
// over forty.
func (w *world) children(n int) []*planner.Operation {
	w.Helper()
	for i := range 41 {
		w.insert(map[string]any{"Warehouse_Key__c": fmt.Sprint("P", i), "Name": "p"})
	}
	ops := make([]*planner.Operation, n)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range ops {
		parent := 0
		if rng.IntN(2) == 0 {
			parent = 1 + rng.IntN(40)
		}
		ops[i] = op(planner.Upsert, fmt.Sprintf("C%06d", i), set(fName, "c"), set(fParent, fmt.Sprint("P", parent)))
	}
	return ops
}

// watch holds a ledger to the rule that no two batches in flight want the same
// parent, and tells how many were in flight at most.
func (l *ledger) watch(most *int) {
	var mu sync.Mutex
	l.onBegin = func(b destinations.Batch) {
		mu.Lock()
		defer mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		*most = max(*most, len(l.open)+1)
		mine := l.parents(b)
		for _, other := range l.open {
			for parent := range l.parents(other) {
				if mine[parent] {
					l.t.Errorf("batches in flight side by side want parent %s", parent)
				}
			}
		}
	}
}

func (l *ledger) parents(b destinations.Batch) map[string]bool {
	out := map[string]bool{}
	for _, r := range b.Seqs {
		for _, o := range l.ops[r.From:r.To] {
			for _, a := range o.Assignments {
				if a.Field == fParent {
					out[a.Cell.Text] = true
				}
			}
		}
	}
	return out
}

// With one parent that has half the rows, its batches go in turn and others
// beside them; no row has to be sent twice for a lock.
func TestNoTwoBatchesOfOneParent(t *testing.T) {
	for _, api := range []string{"rest", "bulk 1.0"} {
		for _, by := range []string{"auto", "parentid"} {
			t.Run(api+" "+by, func(t *testing.T) {
				t.Parallel()
				const n = 4000
				w := newWorld(t, emulator.Options{Locks: true, LockWait: time.Millisecond, ProcessingDelay: 2 * time.Millisecond})
				s := accountSync(models.ModeUpsert, api)
				s.Write.SortBatchesBy, s.Write.RESTBatchSize, s.Write.BulkBatchSize, s.Write.Parallelism = by, 50, 100, 8
				l := w.ledger(w.children(n))
				most := 0
				l.watch(&most)
				w.mustApply(w.open(s), l)
				w.once(n + 41)
				for seq, o := range l.outcomes {
					if o.Attempts != 1 {
						t.Fatalf("operation %d took %d tries", seq, o.Attempts)
					}
				}
				if most < 3 {
					t.Errorf("%d batches were in flight at most", most)
				}
			})
		}
	}
}

// The same rows in no particular order fight: what lanes are for.
func TestUnsortedBatchesFight(t *testing.T) {
	const n = 4000
	w := newWorld(t, emulator.Options{Locks: true, LockWait: time.Millisecond, ProcessingDelay: 2 * time.Millisecond})
	s := accountSync(models.ModeUpsert, "rest")
	s.Write.SortBatchesBy, s.Write.RESTBatchSize, s.Write.Parallelism, s.Write.MaxAttempts = "none", 50, 8, 30
	l := w.ledger(w.children(n))
	w.mustApply(w.open(s), l)
	w.once(n + 41)
	tries := 0
	for _, o := range l.outcomes {
		tries += o.Attempts
	}
	if tries == n {
		t.Error("no row met a lock, so the other test shows nothing")
	}
}

// A job's file holds the rows of one parent together.
func TestRowsOfAParentStandTogetherInAJob(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	target := w.open(accountSync(models.ModeUpsert, "bulk"))
	r := &run{t: target, route: target.route()}
	j, err := r.newJob(callUpsert)
	if err != nil {
		t.Fatal(err)
	}
	defer j.discard()
	j.maxRows = 100_000
	ops := w.children(6000)
	for i, o := range ops {
		o.Seq = int64(i)
		x := newRow(o, callCreate, false)
		if fit, err := j.add(&x); err != nil || fit != fitted {
			t.Fatalf("%v, %v", fit, err)
		}
	}
	if err := j.seal(); err != nil {
		t.Fatal(err)
	}
	body, err := j.open()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 6001 || !strings.HasPrefix(lines[0], "Warehouse_Key__c,") || int64(len(text)) != j.size {
		t.Fatalf("%d lines, the first %q, %d bytes of %d", len(lines), lines[0], len(text), j.size)
	}
	// P0 has half the rows: from its first to its last there are few others.
	is := func(line string) bool { return strings.HasSuffix(line, ",P0,") }
	first := slices.IndexFunc(lines, is)
	last := len(lines) - 1
	for !is(lines[last]) {
		last--
	}
	if span := last - first; span > 4200 {
		t.Fatalf("the rows of one parent span %d lines of 6000", span)
	}
	slices.Sort(lines[1:])
	if len(slices.Compact(lines[1:])) != 6000 {
		t.Fatal("a row is there twice")
	}
}

// However they are dealt and unpacked, each number is there once, in order, and
// those of one parent are in one lane.
func TestLanes(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	target := w.open(accountSync(models.ModeUpsert, "rest"))
	r := &run{t: target}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		l := r.newLanes(callUpsert)
		parent := map[int64]string{}
		n := rng.IntN(3000)
		seq := int64(0)
		for range n {
			seq += 1 + int64(rng.IntN(3))
			o := op(planner.Upsert, "K", set(fName, "n"))
			if rng.IntN(3) > 0 {
				parent[seq] = fmt.Sprint("P", rng.IntN(1+rng.IntN(90)))
				o = op(planner.Upsert, "K", set(fParent, parent[seq]))
			}
			o.Seq = seq
			l.add(target, o)
		}
		seen := map[int64]bool{}
		lane := map[string]int{}
		for i, lists := range l.split(1 + rng.IntN(10)) {
			c := newCursor(lists)
			before := int64(0)
			for {
				seqs := c.take(1 + rng.IntN(200))
				if len(seqs) == 0 {
					break
				}
				for _, part := range seqs {
					for s := part.From; s < part.To; s++ {
						if seen[s] || s <= before {
							t.Fatalf("seed %d: %d after %d", seed, s, before)
						}
						seen[s], before = true, s
						if p := parent[s]; p != "" {
							if at, ok := lane[p]; ok && at != i {
								t.Fatalf("seed %d: parent %s is in lanes %d and %d", seed, p, at, i)
							}
							lane[p] = i
						}
					}
				}
			}
		}
		if len(seen) != n {
			t.Fatalf("seed %d: %d numbers of %d", seed, len(seen), n)
		}
	}
}
