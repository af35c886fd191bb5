package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestRunRecordSaysWhoHowLongAndByWhatConfig(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme")
	var ended []*Run
	o := w.options()
	o.RunEnded = func(r *Run) { ended = append(ended, r) }
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	queued := w.clock().Add(-3 * time.Second)
	run, err := e.Run(t.Context(), "accounts", RunOptions{Trigger: "cli ada@host", QueuedAt: queued})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.History().Get(run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Trigger != "cli ada@host" || got.ConfigHash != ConfigHash(w.syncs["accounts"]) {
		t.Errorf("%+v", got)
	}
	d := got.Durations
	if d == nil || d.Waiting < 3 || d.Checking <= 0 || d.Reading <= 0 || d.Applying <= 0 || d.Committing <= 0 {
		t.Fatalf("%+v", d)
	}
	sum := d.Checking + d.Reading + d.Applying + d.Committing
	if all := got.FinishedAt.Sub(got.StartedAt).Seconds(); math.Abs(sum-all) > 1e-6 {
		t.Errorf("the stages are %vs together, the run took %vs", sum, all)
	}
	if len(ended) != 1 || ended[0].ID != run.ID || ended[0].FinishedAt == nil {
		t.Errorf("told of %v", ended)
	}
}

// TestLockTellsOfRunsOfTheDead: who wants to know of every run's end hears of
// those whose process died too.
func TestLockTellsOfRunsOfTheDead(t *testing.T) {
	w := newWorld(t, "accounts")
	var ended []*Run
	o := w.options()
	o.RunEnded = func(r *Run) { ended = append(ended, r) }
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := makeDir(e.history.dir); err != nil {
		t.Fatal(err)
	}
	if err := e.history.save(&Run{ID: "x", Sync: "accounts", Status: Running, StartedAt: start}); err != nil {
		t.Fatal(err)
	}
	if err := e.Lock("coho run"); err != nil {
		t.Fatal(err)
	}
	if len(ended) != 1 || ended[0].ID != "x" || ended[0].Status != Failed {
		t.Errorf("told of %+v", ended)
	}
}

func TestRowErrorsSayBeforeAndAfter(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt")
	w.must("accounts")
	long := strings.Repeat("é", valueRunes+50)
	w.fill("accounts", "a", long, "b", "Bolt", "c", "Core")
	w.org.refuse["a"], w.org.refuse["c"] = "STRING_TOO_LONG", "REQUIRED_FIELD_MISSING"
	run, err := w.run("accounts", RunOptions{})
	if err != nil || run.Status != CompletedWithErrors {
		t.Fatalf("%v, %+v", err, run)
	}
	rows := map[string]*RowError{}
	w.with(func(e *Engine) {
		if err := e.History().Errors(run.ID, func(x *RowError) bool { rows[x.Key["k"]] = x; return true }); err != nil {
			t.Fatal(err)
		}
	})
	text := func(m map[string]*string) string { b, _ := json.Marshal(m); return string(b) }
	if got := text(rows["a"].Before); got != `{"Name":"Acme","Phone":"+1 a"}` {
		t.Errorf("before: %s", got)
	}
	if got, want := text(rows["a"].After), `{"Name":"`+strings.Repeat("é", valueRunes)+`..."}`; got != want {
		t.Errorf("after: %s", got)
	}
	if got := text(rows["c"].Before); got != "null" {
		t.Errorf("before of a new record: %s", got)
	}
	if got := text(rows["c"].After); got != `{"Name":"Core","Phone":"+1 c"}` {
		t.Errorf("after of a new record: %s", got)
	}
	// A row that cannot be sent has what was acknowledged of it.
	w.warehouse.rows["accounts"][1][2] = plannerBad
	if run, err = w.run("accounts", RunOptions{}); err != nil || run.Rows.Rejected != 1 {
		t.Fatalf("%v, %+v", err, run)
	}
	w.with(func(e *Engine) {
		if err := e.History().Errors(run.ID, func(x *RowError) bool { rows[x.Key["k"]] = x; return true }); err != nil {
			t.Fatal(err)
		}
	})
	if got := text(rows["b"].Before); got != `{"Name":"Bolt","Phone":"+1 b"}` || rows["b"].After != nil {
		t.Errorf("a rejected row: before %s, after %v", got, rows["b"].After)
	}
}

// TestRowErrorValuesAreBounded: a run in which very many rows fail records the
// values of the first ones only, and all of the rows.
func TestRowErrorValuesAreBounded(t *testing.T) {
	w := newWorld(t, "accounts")
	w.must("accounts")
	h := w.engine().history
	run := &Run{ID: "r"}
	rec := newRecorder(h, run)
	rec.values = 10_000
	text := strings.Repeat("x", 100)
	const n = 1000
	for i := range n {
		e := &RowError{Key: map[string]string{"k": fmt.Sprint(i)}, Code: "C"}
		if rec.wantsValues() {
			e.After = map[string]*string{"Name": &text}
		}
		if err := rec.rowError(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := rec.close(); err != nil {
		t.Fatal(err)
	}
	rows, with := 0, 0
	if err := h.Errors("r", func(e *RowError) bool {
		rows++
		if e.After != nil {
			with++
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if rows != n || with < 30 || with > 100 {
		t.Errorf("%d rows, %d with values", rows, with)
	}
}
