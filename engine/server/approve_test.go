package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coho/engine"
)

// halt has the model lose accounts, more than the guard lets go, and returns the
// run that was halted.
func (w *world) halt(keys ...string) string {
	w.t.Helper()
	w.sql("DELETE FROM accounts WHERE k IN ('" + strings.Join(keys, "', '") + "')")
	ended := w.run(StartRequest{Syncs: []string{"accounts"}})
	if r := ended[0].Record; r == nil || r.Status != engine.Halted || r.Operations.Archive < int64(len(keys)) {
		w.t.Fatalf("no guard halted %s", ended[0])
	}
	return ended[0].Run
}

// daemonRests waits until nothing goes on.
func (w *world) daemonRests() {
	w.t.Helper()
	var ids []StartedRun
	for _, j := range w.daemon.Jobs() {
		for _, r := range j.Runs {
			ids = append(ids, StartedRun{Run: r.RunID, Sync: r.Sync})
		}
	}
	if len(ids) > 0 {
		w.watch(ids)
	}
	for len(w.daemon.Jobs()) > 0 {
		time.Sleep(time.Millisecond) // a job ends a moment after its last run
	}
}

// list lists a kept plan over the socket.
func (w *world) list(of string, o engine.KeptOptions) (kept engine.KeptPlan, ops []string) {
	w.t.Helper()
	kept, err := w.client.KeptPlan(w.t.Context(), of, o, func(op *engine.KeptOperation) bool {
		text := fmt.Sprint(op.Number, " ", op.Operation, " ", op.Key["k"])
		for _, f := range op.Fields {
			if f.Before != nil {
				text += " " + f.Field + "=" + *f.Before
			}
		}
		ops = append(ops, text)
		return true
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return kept, ops
}

// TestApproveWhatWasSeen: who asks sees what a halted run would delete, page by
// page and with what the records hold, and has that very plan go on; one that was
// replaced is refused.
func TestApproveWhatWasSeen(t *testing.T) {
	w := newWorld(t, worldOptions{})
	if e := w.run(StartRequest{Syncs: []string{"accounts"}}); e[0].Problem != nil {
		t.Fatal(e[0])
	}
	first := w.halt("A1", "A2", "A3")
	second := w.halt("A4") // all four of them, planned anew
	kept, ops := w.list(second, engine.KeptOptions{Kinds: []string{"archive"}, Max: 10})
	if kept.Run != second || kept.Sync != "accounts" || kept.Operations != (engine.OperationCounts{Archive: 4}) || len(ops) != 4 {
		t.Fatalf("%+v %q", kept, ops)
	}
	for _, k := range []string{"A1 Name=n1 Phone=1", "A4 Name=n4 Phone=4"} {
		if !slices.ContainsFunc(ops, func(op string) bool { return strings.HasSuffix(op, " archive "+k) }) {
			t.Errorf("no %q among %q", k, ops)
		}
	}
	_, all := w.list("accounts", engine.KeptOptions{}) // by the sync's name, in one stream
	_, a := w.list(second, engine.KeptOptions{Max: 3})
	_, b := w.list(second, engine.KeptOptions{Offset: 3, Max: 3})
	_, c := w.list(second, engine.KeptOptions{Offset: 1, Max: mostLines + 1})
	if !slices.Equal(all, ops) || !slices.Equal(slices.Concat(a, b), ops) || !slices.Equal(c, ops[1:]) {
		t.Errorf("at once %q, in pages %q and %q, in a stream %q", all, a, b, c)
	}
	var page KeptPlan
	if err := json.Unmarshal([]byte(w.want(200, "GET", "/api/v1/runs/"+second+"/plan?limit=3", "").body), &page); err != nil || page.Next != 3 || len(page.Listed) != 3 {
		t.Errorf("%v %+v", err, page)
	}
	page = KeptPlan{}
	if err := json.Unmarshal([]byte(w.want(200, "GET", "/api/v1/runs/"+second+"/plan?limit=3&offset=3", "").body), &page); err != nil || page.Next != 0 || len(page.Listed) != 1 {
		t.Errorf("%v %+v", err, page)
	}

	var p *Problem
	for _, run := range []string{first, "accounts"} {
		if _, err := w.client.Approve(t.Context(), run, ApproveRequest{}); !errors.As(err, &p) || p.Code != CodeNoPlan || p.Status != 409 {
			t.Errorf("approved %s: %v", run, err)
		}
	}
	if _, err := w.client.KeptPlan(t.Context(), first, engine.KeptOptions{}, nil); !errors.As(err, &p) || p.Code != CodeNoPlan {
		t.Errorf("listed a plan that is gone: %v", err)
	}
	w.sql("DELETE FROM accounts WHERE k = 'A5'") // which is not in the plan that is approved
	runs, err := w.client.Approve(t.Context(), second, ApproveRequest{By: "ada@host"})
	if err != nil || len(runs) != 1 {
		t.Fatalf("%v %v", runs, err)
	}
	e := w.watch(runs)[0]
	if r := e.Record; e.Problem != nil || r.Resumed != second || r.Outcomes.Deleted != 4 || r.Trigger != "cli ada@host" {
		t.Errorf("%s %+v", e, e.Record)
	}
	if n := w.org.Org().Count("Account"); n != 26 {
		t.Errorf("the org has %d accounts, want 26", n)
	}
	if _, err := w.client.Approve(t.Context(), second, ApproveRequest{}); !errors.As(err, &p) || p.Code != CodeNoPlan {
		t.Errorf("approved twice: %v", err)
	}
}

// TestPlanOfASyncInUse: a plan is listed while its sync runs, and no run is
// disturbed by that.
func TestPlanOfASyncInUse(t *testing.T) {
	w := newWorld(t, worldOptions{})
	working, release := w.held(2)
	runs, err := w.client.Start(t.Context(), StartRequest{Syncs: []string{"accounts"}, By: "ada@host"})
	if err != nil {
		t.Fatal(err)
	}
	<-working
	kept, ops := w.list("accounts", engine.KeptOptions{})
	if kept.Run != runs[0].Run || len(ops) != 30 || kept.Operations.Upsert != 30 {
		t.Errorf("%+v %d", kept, len(ops))
	}
	release()
	if e := w.watch(runs)[0]; e.Problem != nil || e.Record.Outcomes.Created != 30 {
		t.Errorf("%s", e)
	}
}

// TestSequenceRecords: whole and page by page, also under the id that starting
// gave.
func TestSequenceRecords(t *testing.T) {
	w := newWorld(t, worldOptions{})
	var ids []string
	for range 3 {
		var started StartedRuns
		if err := json.Unmarshal([]byte(w.want(202, "POST", "/api/v1/runs", `{"sequence":"nightly","by":"cron"}`).body), &started); err != nil || started.SequenceRun == "" || len(started.Runs) != 2 {
			t.Fatalf("%v %+v", err, started)
		}
		ids = append(ids, started.SequenceRun)
		w.watch(started.Runs)
	}
	w.daemonRests()
	slices.Reverse(ids)
	for _, max := range []int{0, 2} {
		runs, err := w.client.ListSequences(t.Context(), "nightly", max)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range runs {
			got = append(got, r.ID)
		}
		want := ids
		if max > 0 {
			want = ids[:max]
		}
		if !slices.Equal(got, want) {
			t.Errorf("the last %d: %v, want %v", max, got, want)
		}
	}
	if runs, err := w.client.ListSequences(t.Context(), "hourly", 0); err != nil || len(runs) != 0 {
		t.Errorf("runs of a sequence that is not: %v %v", runs, err)
	}
	var page struct {
		Runs []engine.SequenceRun
		Next string
	}
	if err := json.Unmarshal([]byte(w.want(200, "GET", "/api/v1/sequences/nightly/runs?limit=2", "").body), &page); err != nil || len(page.Runs) != 2 || page.Next != ids[1] {
		t.Errorf("%v %+v", err, page)
	}
	page.Next, page.Runs = "", nil
	if err := json.Unmarshal([]byte(w.want(200, "GET", "/api/v1/sequence-runs?limit=2&before="+ids[1], "").body), &page); err != nil || len(page.Runs) != 1 || page.Next != "" || page.Runs[0].ID != ids[2] {
		t.Errorf("%v %+v", err, page)
	}
	for _, name := range []string{ids[0], "nightly"} {
		if s, err := w.client.SequenceRun(t.Context(), name); err != nil || s.ID != ids[0] || s.Trigger != "api cron" || len(s.Steps) != 2 || s.Steps[1][0].RowErrors != 1 {
			t.Errorf("%v %+v", err, s)
		}
	}
}
