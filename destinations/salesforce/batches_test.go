package salesforce

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// keyless is a sync whose inserted records nothing tells apart.
func keyless() *models.Sync {
	s := accountSync(models.ModeInsert, "automatic")
	s.Match = models.Match{}
	s.Write.BulkAPIVersion = "2.0" // the config's default
	return s
}

// alike makes n inserts whose records are all the same.
func alike(n int) []*planner.Operation {
	out := make([]*planner.Operation, n)
	for i := range out {
		out[i] = op(planner.Insert, fmt.Sprint("K", i), set(fName, "Same"))
		out[i].Match = ""
	}
	return out
}

// wantInserts checks that n accounts are there and that each insert has one of
// its own.
func (w *world) wantInserts(l *ledger, n int) {
	w.Helper()
	if got := w.org.Org().Count("Account"); got != n {
		w.Fatalf("%d records, want %d", got, n)
	}
	owner := map[string]bool{}
	for _, o := range l.outcomes {
		if o.Result == destinations.Created {
			if o.ID == "" || owner[o.ID] {
				w.Fatalf("Id %q is the outcome of two inserts, or of none", o.ID)
			}
			owner[o.ID] = true
		}
	}
	if len(owner) != n {
		w.Fatalf("%d inserts of %d records", len(owner), n)
	}
}

func TestInsertWithoutAKey(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := keyless()
	target := w.open(s)
	contains(t, strings.Join(target.Warnings(), "\n"), "inserts go through Bulk API 1.0")
	contains(t, target.Estimate(planner.Summary{PassOperations: []int64{3}}).Choice, "Bulk API 1.0: no mapped field carries the primary key")
	ops := alike(25_000)
	ops[7] = op(planner.Insert, "bad", set(fName, strings.Repeat("x", 300)))
	ops[9] = op(planner.Insert, "unsendable", set(fName, "#N/A"))
	ops[7].Match, ops[9].Match = "", ""
	l := w.ledger(ops)
	w.mustApply(target, l)
	w.wantInserts(l, 24_998)
	if o := l.of("bad"); o.Code != "STRING_TOO_LONG" || o.Result != destinations.Failed {
		t.Fatalf("outcome is %+v", o)
	}
	if o := l.of("unsendable"); o.Code != codeUnsendable || o.Result != destinations.Failed {
		t.Fatalf("outcome is %+v", o)
	}
	c := w.org.Counters().Calls
	if c["bulk1.create"] != 1 || c["bulk1.batch"] != 3 || c["bulk1.close"] != 1 || c["bulk1.results"] != 3 || c["query"] != 0 || c["collections.create"] != 0 {
		t.Fatalf("calls were %v", c)
	}
}

// Killed at the n-th call, for every n, with the call's answer lost or the call
// not carried out: records that nothing tells apart are there as often as they
// should be.
func TestInsertWithoutAKeyKilledAnywhere(t *testing.T) {
	const rows = 60
	for n := 0; ; n++ {
		for _, after := range []bool{true, false} {
			w := newWorld(t, emulator.Options{Seed: int64(n)})
			s := keyless()
			s.Write.BulkBatchSize, s.Write.Parallelism = 20, 2
			l := w.ledger(alike(rows))
			target := w.open(s)
			ctx, kill := context.WithCancel(t.Context())
			w.org.AddFault(emulator.Fault{After: n, CutAfter: after, CutBefore: !after})
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
			kill()
			w.org.OnCall(nil)
			w.org.ClearFaults()
			if err == nil && calls <= n {
				if n < 8 {
					t.Fatalf("only %d calls", n)
				}
				return
			}
			if err := w.open(s).Apply(t.Context(), destinations.Application{Plan: l, Journal: l}); err != nil {
				t.Fatalf("call %d: the second run: %v", n, err)
			}
			l.done()
			w.wantInserts(l, rows)
		}
	}
}

// Answers that are lost or refused while the run lives on.
func TestInsertWithoutAKeyAmongFaults(t *testing.T) {
	for name, faults := range map[string][]emulator.Fault{
		"batch arrived, answer lost":      {{Match: "bulk1.batch", CutAfter: true, Times: 2}},
		"batch did not arrive":            {{Match: "bulk1.batch", CutBefore: true, Times: 2}},
		"batch refused":                   {{Match: "bulk1.batch", Status: 503, Times: 2}},
		"second batch arrived":            {{Match: "bulk1.batch", CutAfter: true, After: 1}},
		"lost, and so is the closing":     {{Match: "bulk1.batch", CutAfter: true}, {Match: "bulk1.close", CutAfter: true}},
		"lost, and so is the listing":     {{Match: "bulk1.batch", CutAfter: true, After: 2}, {Match: "bulk1.status", CutAfter: true, Times: 2}},
		"lost, and so is the reading":     {{Match: "bulk1.batch", CutAfter: true, After: 1}, {Match: "bulk1.results", CutAfter: true, Times: 2}},
		"job aborted by its failure":      {{FailJob: "InternalServerError : Unknown"}},
		"batch failed half way":           {{FailJob: "InternalServerError : Unknown", FailJobAfter: 10}},
		"batch failed for its lock fight": {{FailJob: "TooManyLockFailure : Too many lock failure 200 Trying again later.", FailJobAfter: 5, Times: 3}},
		"rows locked":                     {{RowCode: "UNABLE_TO_LOCK_ROW", RowShare: 0.5, RowTries: 2}},
		"session ends at every kind": {{Match: "bulk1.create", ExpireSession: true}, {Match: "bulk1.batch", ExpireSession: true}, {Match: "bulk1.status", ExpireSession: true},
			{Match: "bulk1.results", ExpireSession: true}, {Match: "bulk1.close", ExpireSession: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{Seed: 5})
			s := keyless()
			s.Write.BulkBatchSize, s.Write.MaxAttempts = 20, 8
			target := w.open(s)
			for _, f := range faults {
				w.org.AddFault(f)
			}
			l := w.ledger(alike(60))
			w.mustApply(target, l)
			w.wantInserts(l, 60)
		})
	}
}

// What fails for good fails alone, and without Collections.
func TestInsertWithoutAKeyThatStaysLocked(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked"})
	l := w.ledger(alike(300))
	w.mustApply(w.open(keyless()), l)
	l.want(destinations.Failed, 300)
	w.org.ClearFaults()
	w.org.AddFault(emulator.Fault{FailJob: "Timeout : the batch took too long", Times: -1})
	l = w.ledger(alike(300))
	w.mustApply(w.open(keyless()), l)
	l.want(destinations.Failed, 300)
	if o := l.of("K1"); o.Code != "Timeout" || o.Attempts != 5 {
		t.Fatalf("outcome is %+v", o)
	}
}

// Somebody closes the job while batches are being added: another takes its
// place.
func TestJobClosedByAnother(t *testing.T) {
	for _, state := range []string{"Closed", "Aborted"} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			s := keyless()
			s.Write.BulkBatchSize, s.Write.Parallelism = 10, 1
			l := w.ledger(alike(60))
			done := false
			l.onUpdate = func(b destinations.Batch) error {
				if id, _, _ := strings.Cut(b.Handle, "/"); !done {
					done = true
					w.setBatchJob(id, state)
				}
				return nil
			}
			w.mustApply(w.open(s), l)
			w.wantInserts(l, 60)
			if n := w.org.Counters().Calls["bulk1.create"]; n < 2 {
				t.Fatalf("%d jobs", n)
			}
		})
	}
}

// setBatchJob sets a job's state as a person with other tools would.
func (w *world) setBatchJob(id, state string) {
	w.Helper()
	body := `<jobInfo xmlns="http://www.force.com/2009/06/asyncapi/dataload"><state>` + state + `</state></jobInfo>`
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.org.URL()+"/services/async/62.0/job/"+id, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/xml")
	req.Header.Set("X-SFDC-Session", w.org.Credentials().AccessToken)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.Fatalf("setting job %s to %s: %s", id, state, resp.Status)
	}
}

// The org has thrown the job away. Records with a key are looked for; of others
// nobody can say what became of them, and nothing is sent again.
func TestForgottenBatchJob(t *testing.T) {
	for _, keyed := range []bool{true, false} {
		w := newWorld(t, emulator.Options{})
		s, ops := keyless(), alike(3)
		if keyed {
			s, ops = accountSync(models.ModeInsert, "bulk 1.0"), many(planner.Insert, 3)
			w.insert(map[string]any{"Warehouse_Key__c": "K00001", "Name": "landed"})
		}
		l := w.ledger(ops)
		if _, err := l.Begin(t.Context(), destinations.Batch{API: apiBulk1, Step: "insert", Handle: "7505fEXAMPLE4C2AAM/7515fEXAMPLE4C2AAM", Seqs: planner.Seqs{{From: 0, To: 3}}}); err != nil {
			t.Fatal(err)
		}
		err := w.apply(w.open(s), l)
		if !keyed {
			if err == nil || len(l.outcomes) > 0 {
				t.Fatalf("got %v and %d outcomes", err, len(l.outcomes))
			}
			contains(t, err.Error(), "whether 3 of the inserts")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l.done()
		w.once(3)
		w.wantField("K00001", "Name", "landed")
	}
}

// concurrency_mode reaches the job, and batches keep to their number of rows.
func TestSerialBatches(t *testing.T) {
	w := newWorld(t, emulator.Options{Locks: true, LockWait: 1})
	w.insert(map[string]any{"Warehouse_Key__c": "P", "Name": "p"})
	s := accountSync(models.ModeUpsert, "bulk 1.0")
	s.Write.ConcurrencyMode, s.Write.BulkBatchSize, s.Write.Parallelism = "serial", 250, 8
	var ops []*planner.Operation
	for i := range 2000 {
		ops = append(ops, op(planner.Upsert, fmt.Sprint("C", i), set(fName, "c"), set(fParent, "P")))
	}
	l := w.ledger(ops)
	w.mustApply(w.open(s), l)
	w.once(2001)
	for key, o := range l.outcomes {
		if o.Attempts != 1 {
			t.Fatalf("operation %d took %d tries, though batches ran in turn", key, o.Attempts)
		}
	}
	if c := w.org.Counters().Calls; c["bulk1.batch"] != 8 || c["bulk1.create"] != 1 {
		t.Fatalf("calls were %v", c)
	}
}

func TestHandles(t *testing.T) {
	job, batch, n, digest, err := parseHandle(adding("750A", 12, "abc"))
	if err != nil || job != "750A" || batch != "" || n != 12 || digest != "abc" {
		t.Fatalf("got %q %q %d %q %v", job, batch, n, digest, err)
	}
	job, batch, _, _, err = parseHandle("750A/751B")
	if err != nil || job != "750A" || batch != "751B" {
		t.Fatalf("got %q %q %v", job, batch, err)
	}
	for _, bad := range []string{"", "750A", "750A/", "/751B", "750A/#", "750A/#1", "750A/#1/", "750A/#x/abc", "750A/#-1/abc"} {
		if _, _, _, _, err := parseHandle(bad); err == nil {
			t.Errorf("%q was taken for a handle", bad)
		}
	}
}

// TestSettledIsFull: outcomes are recorded before the copies of their operations take
// more memory than they may, however wide the rows are.
func TestSettledIsFull(t *testing.T) {
	for _, c := range []struct {
		name string
		text int // bytes of each of 50 fields
		want int // rows at most
	}{{"narrow", 1, settleRows}, {"wide", 1000, settleBytes / 50_000}, {"very wide", 300_000, 1}} {
		t.Run(c.name, func(t *testing.T) {
			op := &planner.Operation{Key: []string{"k"}}
			fields := 50
			if c.name == "narrow" {
				fields = 1
			}
			for i := range fields {
				op.Assignments = append(op.Assignments, planner.Assignment{Field: i, Cell: models.Cell{Text: strings.Repeat("x", c.text)}})
			}
			var s settled
			for !s.full() {
				s.addCopy(op, destinations.Outcome{})
			}
			if n := s.len(); n > c.want || n < c.want*9/10 {
				t.Errorf("full at %d rows, want about %d", n, c.want)
			}
			s.reset()
			if s.full() {
				t.Error("full when it is empty")
			}
		})
	}
}
