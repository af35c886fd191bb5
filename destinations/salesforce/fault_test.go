package salesforce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

var kinds = map[models.Mode]planner.Kind{models.ModeInsert: planner.Insert, models.ModeUpsert: planner.Upsert, models.ModeUpdate: planner.Update, models.ModeArchive: planner.Archive}

// seed puts the records of many's rows into the org where the mode needs them,
// and returns how many there are to be in the end.
func (w *world) seed(mode models.Mode, n int) int {
	if mode == models.ModeUpdate || mode == models.ModeArchive {
		for i := range n {
			w.insert(map[string]any{"Warehouse_Key__c": fmt.Sprintf("K%05d", i), "Name": "old"})
		}
	}
	if mode == models.ModeArchive {
		return 0
	}
	return n
}

// Every fault here passes. Whatever it is, each record is there once in the end
// and each operation has its outcome, without help from a second run.
func TestPassingFaults(t *testing.T) {
	faults := map[string][]emulator.Fault{
		"row locks":              {{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "unable to obtain exclusive access to this record", RowShare: 0.3, RowTries: 2}},
		"all rows locked once":   {{RowCode: "UNABLE_TO_LOCK_ROW", RowTries: 1}},
		"calls refused":          {{Match: "collections", Status: 503, Times: 3}, {Match: "bulk.create", Status: 503, Times: 2}, {Match: "bulk.upload", Status: 503}, {Match: "bulk1", Status: 503, Times: 3}},
		"calls cut before":       {{Match: "collections", CutBefore: true, Times: 2}, {Match: "bulk.create", CutBefore: true}, {Match: "bulk.upload", CutBefore: true}, {Match: "bulk.close", CutBefore: true}, {Match: "bulk1.create", CutBefore: true}, {Match: "bulk1.batch", CutBefore: true}, {Match: "bulk1.close", CutBefore: true}},
		"calls cut after":        {{Match: "collections", CutAfter: true, Times: 2}, {Match: "bulk.create", CutAfter: true}, {Match: "bulk.upload", CutAfter: true}, {Match: "bulk.close", CutAfter: true}, {Match: "bulk1.create", CutAfter: true}, {Match: "bulk1.batch", CutAfter: true}, {Match: "bulk1.close", CutAfter: true}},
		"reading cut":            {{Match: "bulk.status", CutAfter: true}, {Match: "bulk.results", CutAfter: true, Times: 2}, {Match: "query", CutAfter: true}, {Match: "bulk1.status", CutAfter: true}, {Match: "bulk1.results", CutAfter: true, Times: 2}},
		"reading refused":        {{Match: "bulk.status", Status: 503}, {Match: "bulk.results", Status: 500, Times: 2}, {Match: "query", Status: 503}, {Match: "bulk1.status", Status: 503}, {Match: "bulk1.results", Status: 500, Times: 2}},
		"sessions expire":        {{Match: "collections", ExpireSession: true}, {Match: "bulk.create", ExpireSession: true}, {Match: "bulk.upload", ExpireSession: true}, {Match: "bulk.close", ExpireSession: true}, {Match: "bulk.status", ExpireSession: true}, {Match: "bulk.results", ExpireSession: true}, {Match: "bulk1.create", ExpireSession: true}, {Match: "bulk1.batch", ExpireSession: true}, {Match: "bulk1.status", ExpireSession: true}, {Match: "bulk1.results", ExpireSession: true}, {Match: "bulk1.close", ExpireSession: true}},
		"job failed":             {{FailJob: "TooManyLockFailure : Too many lock failure 200 Trying again later."}},
		"job failed half way":    {{FailJob: "InternalServerError : Unknown", FailJobAfter: 200}},
		"job aborted":            {{AbortJob: true}},
		"job aborted half way":   {{AbortJob: true, FailJobAfter: 200}},
		"too much Apex":          {{RowCode: "TOO_MANY_APEX_REQUESTS", RowShare: 0.2, RowTries: 1}, {Match: "collections", Status: 400, Code: "TOO_MANY_APEX_REQUESTS", Times: 2}},
		"too slow":               {{Match: "collections", Status: 500, Code: "REQUEST_RUNNING_TOO_LONG", Times: 2}, {Match: "bulk.results", Status: 504}, {Match: "bulk1.results", Status: 504}, {Match: "bulk.status", Status: 504}, {Match: "bulk1.status", Status: 504}},
		"silence, then cut":      {{Match: "collections", Delay: 30 * time.Millisecond, CutAfter: true, Times: 2}, {Match: "bulk.upload", Delay: 30 * time.Millisecond, CutAfter: true}, {Match: "bulk.close", Delay: 30 * time.Millisecond, CutAfter: true}, {Match: "bulk1.batch", Delay: 30 * time.Millisecond, CutAfter: true, Times: 2}},
		"carried out twice":      {{Match: "collections.upsert", Twice: true}, {Match: "collections.update", Twice: true}, {Match: "collections.delete", Twice: true}, {Match: "bulk.create", Twice: true}, {Match: "bulk.upload", Twice: true}, {Match: "bulk.close", Twice: true}, {Match: "bulk1.create", Twice: true}, {Match: "bulk1.close", Twice: true}},
		"results lost":           {{LoseResults: 0.3}},
		"jobs fail structurally": {{FailJob: "InvalidBatch : Records not processed", Times: 2}},
	}
	for name, list := range faults {
		for mode, kind := range kinds {
			t.Run(name+"/"+string(mode), func(t *testing.T) {
				both(t, func(t *testing.T, ingestion string) {
					const n = 450
					w := newWorld(t, emulator.Options{Seed: 1})
					w.seed(mode, n)
					s := accountSync(mode, ingestion)
					s.Write.MaxAttempts = 8
					target := w.open(s)
					for _, f := range list {
						w.org.AddFault(f)
					}
					l := w.ledger(many(kind, n))
					w.mustApply(target, l)
					if mode == models.ModeArchive {
						w.once(0)
						if c := l.counts(); c[destinations.Deleted]+c[destinations.Skipped] != n {
							t.Fatalf("outcomes are %v", c)
						}
						return
					}
					w.once(n)
					l.want(destinations.Failed, 0)
					for i := range n {
						key := fmt.Sprintf("K%05d", i)
						w.wantField(key, "Name", fmt.Sprintf("Name %d", i))
						if l.of(key).ID != w.account(key)["Id"] {
							t.Fatalf("the outcome of %s has another Id", key)
						}
					}
				})
			})
		}
	}
}

// Rows that stay locked end as failed, and no others.
func TestLocksThatStay(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{Seed: 3})
		target := w.open(accountSync(models.ModeUpsert, ingestion))
		w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", Times: 5})
		l := w.ledger(many(planner.Upsert, 5))
		w.mustApply(target, l)
		l.want(destinations.Created, 5)
		w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked"})
		l = w.ledger(many(planner.Upsert, 5))
		w.mustApply(target, l)
		l.want(destinations.Failed, 5)
		if o := l.of("K00000"); o.Code != "UNABLE_TO_LOCK_ROW" || o.Attempts != 5 {
			t.Fatalf("outcome is %+v", o)
		}
	})
}

// A refusal that hits every row ends the run and leaves the rows planned.
func TestRefusalsThatEndTheRun(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		for name, f := range map[string]emulator.Fault{
			"storage":     {RowCode: "STORAGE_LIMIT_EXCEEDED", RowMessage: "storage limit exceeded"},
			"daily limit": {Match: "POST", Status: 403, Code: "REQUEST_LIMIT_EXCEEDED", Message: "TotalRequests Limit exceeded.", Times: -1},
		} {
			w := newWorld(t, emulator.Options{})
			target := w.open(accountSync(models.ModeInsert, ingestion))
			w.org.AddFault(f)
			l := w.ledger(many(planner.Insert, 300))
			err := w.apply(target, l)
			if err == nil || len(l.outcomes) > 0 {
				t.Fatalf("%s: got %v and %d outcomes", name, err, len(l.outcomes))
			}
			var budget *destinations.BudgetError
			if errors.As(err, &budget) != (name == "daily limit") {
				t.Fatalf("%s: got %v", name, err)
			}
			w.org.ClearFaults()
			w.mustApply(target, l)
			w.once(300)
		}
	})
}

// A record whose value the deserialiser refuses spoils its whole request; the
// others land all the same.
func TestPoisonedRequest(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := accountSync(models.ModeInsert, "rest")
	target := w.open(s)
	ops := many(planner.Insert, 200)
	for _, i := range []int{3, 150} {
		ops[i].Assignments = append(ops[i].Assignments, set(fRevenue, `"soon"`))
		ops[i].Assignments[0], ops[i].Assignments[2] = ops[i].Assignments[2], ops[i].Assignments[0]
	}
	l := w.ledger(ops)
	w.mustApply(target, l)
	l.want(destinations.Failed, 2)
	l.want(destinations.Created, 198)
	if o := l.of("K00150"); !strings.Contains(o.Code+o.Message, "JSON") && o.Code == "" {
		t.Fatalf("outcome is %+v", o)
	}
	w.once(198)
}

// Killed at the n-th word with the org, for every n, and run again: each record
// is there once.
func TestKilledAnywhere(t *testing.T) {
	for mode, kind := range kinds {
		both(t, func(t *testing.T, ingestion string) {
			for n := 0; ; n++ {
				if done := killedAt(t, mode, kind, ingestion, n); done {
					if n < 5 {
						t.Fatalf("only %d calls", n)
					}
					return
				}
			}
		})
	}
}

// killedAt runs with a context that ends as the n-th call arrives, then again.
// The call itself may or may not be carried out. It returns whether the first
// run came to its end.
func killedAt(t *testing.T, mode models.Mode, kind planner.Kind, ingestion string, n int) bool {
	const rows = 60
	w := newWorld(t, emulator.Options{Seed: int64(n)})
	s := accountSync(mode, ingestion)
	s.Write.RESTBatchSize, s.Write.BulkBatchSize, s.Write.Parallelism = 10, 20, 2
	target := w.open(s)
	left := w.seed(mode, rows)
	l := w.ledger(many(kind, rows))
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	w.org.AddFault(emulator.Fault{After: n, CutAfter: n%2 == 0, CutBefore: n%2 == 1})
	calls := 0
	w.org.OnCall(func(string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if calls == n {
			kill()
		}
		calls++
	})
	err := target.Apply(ctx, destinations.Application{Plan: l, Journal: l})
	if err == nil {
		l.done()
		w.once(left)
		return true
	}
	w.org.OnCall(nil)
	w.org.ClearFaults()
	again := w.open(s)
	if err := again.Apply(t.Context(), destinations.Application{Plan: l, Journal: l}); err != nil {
		t.Fatalf("call %d: the second run: %v", n, err)
	}
	l.done()
	w.once(left)
	l.want(destinations.Failed, 0)
	return false
}

// The state of a job is durable before data goes up, so a run that dies while
// the org is at work settles the job and sends nothing twice.
func TestJobSurvivesTheRun(t *testing.T) {
	w := newWorld(t, emulator.Options{ProcessingDelay: 20 * time.Millisecond})
	target := w.open(accountSync(models.ModeInsert, "bulk"))
	l := w.ledger(many(planner.Insert, 500))
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	w.org.OnCall(func(kind string) {
		if kind == "bulk.status" {
			kill()
		}
	})
	if err := target.Apply(ctx, destinations.Application{Plan: l, Journal: l}); err == nil {
		t.Fatal("the run came to its end")
	}
	if len(l.open) != 1 || len(l.outcomes) != 0 {
		t.Fatalf("%d open batches, %d outcomes", len(l.open), len(l.outcomes))
	}
	w.org.OnCall(nil)
	w.org.ResetCounters()
	w.mustApply(w.open(accountSync(models.ModeInsert, "bulk")), l)
	if c := w.org.Counters(); c.JobsCreated != 0 || c.WriteCalls != 0 {
		t.Fatalf("calls were %v", c.Calls)
	}
	l.want(destinations.Created, 500)
	w.once(500)
}

// A crash between the settling of a job's rows leaves some of them settled.
func TestSettlingSurvivesTheRun(t *testing.T) {
	const rows = settleRows * 5 / 4
	w := newWorld(t, emulator.Options{})
	target := w.open(accountSync(models.ModeInsert, "bulk"))
	l := w.ledger(many(planner.Insert, rows))
	full := errors.New("disk full")
	settles := 0
	l.onSettle = func(uint64) error {
		if settles++; settles == 2 {
			return full
		}
		return nil
	}
	if err := w.apply(target, l); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	if len(l.outcomes) != settleRows {
		t.Fatalf("%d outcomes", len(l.outcomes))
	}
	w.mustApply(target, l)
	l.want(destinations.Created, rows)
	w.once(rows)
}

// The handle cannot be recorded: nothing may go up.
func TestNothingWithoutAHandle(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	target := w.open(accountSync(models.ModeInsert, "bulk"))
	l := w.ledger(many(planner.Insert, 5))
	full := errors.New("disk full")
	l.onUpdate = func(destinations.Batch) error { return full }
	if err := w.apply(target, l); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	if c := w.org.Counters(); c.Calls["bulk.upload"] != 0 {
		t.Fatalf("calls were %v", c.Calls)
	}
	l.onUpdate = nil
	w.mustApply(target, l)
	w.once(5)
}

// A mark that rows must be sent complete survives a crash.
func TestCompleteSurvivesTheRun(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		s := accountSync(models.ModeUpsert, ingestion)
		target := w.open(s)
		a := op(planner.Upsert, "A", set(fName, "a"), planner.Assignment{Field: fPhone, Cell: models.Cell{Text: "1"}})
		a.Known = true
		l := w.ledger([]*planner.Operation{a})
		ctx, kill := context.WithCancel(t.Context())
		defer kill()
		l.onUpdate = func(b destinations.Batch) error {
			if b.Step == stepComplete {
				kill()
			}
			return nil
		}
		if err := target.Apply(ctx, destinations.Application{Plan: l, Journal: l}); err == nil {
			t.Fatal("the run came to its end")
		}
		w.wantField("A", "Phone", nil)
		l.onUpdate = nil
		w.mustApply(w.open(s), l)
		w.wantField("A", "Phone", "1")
	})
}

// A person deleted a record, and the answer of the sparse upsert that created
// it anew was lost: the Id tells, and the record comes back whole. One that
// was there all along keeps what people edited.
func TestLostAnswerOfARecreation(t *testing.T) {
	kept := planner.Assignment{Field: fRevenue, Cell: models.Cell{Text: "10"}}
	run := func(t *testing.T, kill bool) {
		w := newWorld(t, emulator.Options{})
		there := w.insert(map[string]any{"Warehouse_Key__c": "B", "Name": "b", "AnnualRevenue": 99})
		s := accountSync(models.ModeUpsert, "rest")
		a, b := op(planner.Upsert, "A", set(fName, "a"), kept), op(planner.Upsert, "B", set(fName, "bb"), kept)
		a.Known, a.ID, b.Known, b.ID = true, "001D000000INjVeIAL", true, there
		l := w.ledger([]*planner.Operation{a, b})
		w.org.AddFault(emulator.Fault{Match: "collections", CutAfter: true})
		if kill {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.org.OnCall(func(kind string) {
				if w.org.Org().Count("Account") == 2 {
					cancel()
				}
			})
			l.onSettle = func(uint64) error { return errors.New("killed") }
			if err := w.open(s).Apply(ctx, destinations.Application{Plan: l, Journal: l}); err == nil {
				t.Fatal("the run came to its end")
			}
			w.org.OnCall(nil)
			l.onSettle = nil
		}
		w.mustApply(w.open(s), l)
		w.once(2)
		w.wantField("A", "AnnualRevenue", "10")
		w.wantField("B", "AnnualRevenue", "99")
		w.wantField("B", "Name", "bb")
	}
	t.Run("in one run", func(t *testing.T) { run(t, false) })
	t.Run("over a crash", func(t *testing.T) { run(t, true) })
}

// Rows of one parent go together, so that calls side by side do not fight over
// its lock.
func TestRowsOfAParentGoTogether(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for _, key := range []string{"P0", "P1", "P2"} {
		w.insert(map[string]any{"Warehouse_Key__c": key, "Name": key})
	}
	s := accountSync(models.ModeUpsert, "rest")
	s.Write.RESTBatchSize = 10
	target := w.open(s)
	var ops []*planner.Operation
	for i := range 30 {
		ops = append(ops, op(planner.Upsert, fmt.Sprintf("C%02d", i), set(fName, "c"), set(fParent, fmt.Sprintf("P%d", i%3))))
	}
	l := w.ledger(ops)
	w.mustApply(target, l)
	if len(l.begun) != 3 {
		t.Fatalf("%d batches", len(l.begun))
	}
	for _, b := range l.begun {
		for _, r := range b.Seqs {
			if r.From%3 != b.Seqs[0].From%3 || r.To != r.From+1 {
				t.Fatalf("batch %v mixes parents", b.Seqs)
			}
		}
	}
}

// Random rows, faults and deaths over many runs: in the end the org equals the
// plan, nothing is doubled and every operation has its outcome.
func TestRandomFaults(t *testing.T) {
	faults := []emulator.Fault{
		{RowCode: "UNABLE_TO_LOCK_ROW", RowShare: 0.2, RowTries: 1},
		{Match: "collections", CutAfter: true}, {Match: "collections", CutBefore: true}, {Match: "collections", Status: 503},
		{Match: "bulk.create", CutAfter: true}, {Match: "bulk.upload", CutAfter: true}, {Match: "bulk.upload", CutBefore: true},
		{Match: "bulk.close", CutAfter: true}, {Match: "bulk.close", Status: 503}, {Match: "bulk.status", CutBefore: true},
		{Match: "bulk.results", CutAfter: true}, {Match: "query", Status: 503},
		{Match: "bulk1.create", CutAfter: true}, {Match: "bulk1.batch", CutAfter: true}, {Match: "bulk1.batch", CutBefore: true}, {Match: "bulk1.batch", Status: 503},
		{Match: "bulk1.status", CutBefore: true}, {Match: "bulk1.results", CutAfter: true}, {Match: "bulk1.close", CutAfter: true}, {ExpireSession: true},
		{FailJob: "InternalServerError : Unknown", FailJobAfter: 30}, {FailJob: "InvalidBatch : Records not processed"},
	}
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, emulator.Options{Seed: int64(seed)})
			mode := []models.Mode{models.ModeInsert, models.ModeUpsert, models.ModeUpdate, models.ModeArchive}[rng.IntN(4)]
			s := accountSync(mode, []string{"rest", "bulk", "automatic", "bulk 1.0"}[rng.IntN(4)])
			s.Write.RESTBatchSize, s.Write.BulkBatchSize, s.Write.Parallelism = 1+rng.IntN(40), 20+rng.IntN(100), 1+rng.IntN(6)
			s.Write.MaxAttempts = 10
			n := 1 + rng.IntN(300)
			left := w.seed(mode, n)
			all := many(kinds[mode], n)
			l := w.ledger(all[:n/2], all[n/2:])
			for range 6 {
				for range rng.IntN(3) {
					f := faults[rng.IntN(len(faults))]
					f.After = rng.IntN(6)
					w.org.AddFault(f)
				}
				ctx, kill := context.WithCancel(t.Context())
				deadline := rng.IntN(40)
				var calls atomic.Int64
				l.setHook(func() {
					if calls.Add(1) > int64(deadline) {
						kill()
					}
				})
				err := w.open(s).Apply(ctx, destinations.Application{Plan: l, Journal: l})
				kill()
				l.setHook(nil)
				if err == nil {
					break
				}
			}
			w.org.ClearFaults()
			if err := w.open(s).Apply(t.Context(), destinations.Application{Plan: l, Journal: l}); err != nil {
				t.Fatal(err)
			}
			l.done()
			w.once(left)
			l.want(destinations.Failed, 0)
			for i := range left {
				w.wantField(fmt.Sprintf("K%05d", i), "Name", fmt.Sprintf("Name %d", i))
			}
		})
	}
}

// The org locks the parents of the rows that it writes.
func TestRealLocks(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{Locks: true, LockWait: 2 * time.Millisecond, ProcessingDelay: 5 * time.Millisecond})
		for i := range 3 {
			w.insert(map[string]any{"Warehouse_Key__c": fmt.Sprint("P", i), "Name": "p"})
		}
		s := accountSync(models.ModeUpsert, ingestion)
		s.Write.RESTBatchSize, s.Write.BulkBatchSize, s.Write.Parallelism, s.Write.MaxAttempts = 20, 100, 8, 12
		var ops []*planner.Operation
		for i := range 300 {
			ops = append(ops, op(planner.Upsert, fmt.Sprint("C", i), set(fName, "c"), set(fParent, fmt.Sprint("P", i%3))))
		}
		l := w.ledger(ops)
		w.mustApply(w.open(s), l)
		l.want(destinations.Created, 300)
		w.once(303)
	})
}
