package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations"
	"coho/models"
	"coho/planner"
)

func TestRunSendsOnlyChanges(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
	run := w.must("accounts")
	if run.Rows != (RowCounts{Read: 3, Added: 3}) || run.Operations != (OperationCounts{Upsert: 3}) || *run.Outcomes != (OutcomeCounts{Created: 3}) {
		t.Errorf("first run: %+v %+v %+v", run.Rows, run.Operations, run.Outcomes)
	}
	if *run.API != (APICounts{Calls: 2, Remaining: 998}) || run.Choice != "in memory" || run.Warnings[0] != "a remark" {
		t.Errorf("first run: %+v %q %q", run.API, run.Choice, run.Warnings)
	}
	if run.FinishedAt == nil || !run.FinishedAt.After(run.StartedAt) {
		t.Errorf("started %v, finished %v", run.StartedAt, run.FinishedAt)
	}
	w.equal("accounts")

	before := w.org.sent
	run = w.must("accounts")
	if run.Rows != (RowCounts{Read: 3, Unchanged: 3}) || w.org.sent != before {
		t.Errorf("second run: %+v, %d operations sent", run.Rows, w.org.sent-before)
	}
	w.fill("accounts", "a", "Acme", "b", "Bolt & Nut", "c", "Core")
	w.org.records["Account/b"]["Phone"] = "edited in the org"
	run = w.must("accounts")
	if run.Rows.Changed != 1 || w.org.sent != before+1 || w.org.records["Account/b"]["Phone"] != "edited in the org" || w.org.records["Account/b"]["Name"] != "Bolt & Nut" {
		t.Errorf("third run: %+v, the record is %v", run.Rows, w.org.records["Account/b"])
	}
	if left := w.plans("accounts"); len(left) != 0 {
		t.Errorf("finished runs left %v", left)
	}
}

func TestRunRowsThatFail(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", plannerBad, "d", "Dot", "d", "Dot again")
	w.org.refuse["b"] = "STRING_TOO_LONG"
	run, err := w.run("accounts", RunOptions{})
	if err != nil || run.Status != CompletedWithErrors {
		t.Fatalf("status %s, error %v", run.Status, err)
	}
	if run.Outcomes.Failed != 1 || run.Outcomes.Created != 1 || run.Rows.Rejected != 3 {
		t.Errorf("%+v %+v", run.Outcomes, run.Rows)
	}
	if len(run.Errors) != 3 || run.Errors[0] != (ErrorCount{Code: planner.CodeDuplicateKey, Count: 2, Example: run.Errors[0].Example}) {
		t.Errorf("errors, most frequent first: %+v", run.Errors)
	}
	var rows []RowError
	w.with(func(e *Engine) {
		if err := e.History().Errors(run.ID, func(r *RowError) bool { rows = append(rows, *r); return true }); err != nil {
			t.Fatal(err)
		}
	})
	codes := map[string]string{}
	for _, r := range rows {
		codes[r.Key["k"]] = r.Code
	}
	if len(rows) != 4 || codes["b"] != "STRING_TOO_LONG" || codes["c"] != planner.CodeInvalidValue || codes["d"] != planner.CodeDuplicateKey {
		t.Errorf("row errors: %+v", rows)
	}
	// What failed is due again, what landed is not.
	delete(w.org.refuse, "b")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core", "d", "Dot")
	before := w.org.sent
	w.must("accounts")
	if w.org.sent != before+3 {
		t.Errorf("%d operations sent, not 3", w.org.sent-before)
	}
	w.equal("accounts")
}

const plannerBad = "!bad" // a text that the double's fields cannot take

func TestRunFailsBeforeAnythingIsSent(t *testing.T) {
	boom := errors.New("the warehouse said no")
	for _, c := range []struct {
		name string
		make func(w *world)
		want string
		kind func(error) bool
	}{
		{"the query fails", func(w *world) { w.warehouse.describeErr = boom }, "model accounts: the warehouse said no", nil},
		{"the read fails", func(w *world) { w.warehouse.readErr = boom }, "read model accounts: the warehouse said no", nil},
		{"the stream breaks", func(w *world) { w.warehouse.streamErr = boom }, "the warehouse said no", nil},
		{"the columns changed", func(w *world) { w.warehouse.columns = []string{"k", "phone", "name"} }, "its columns changed while the run began", nil},
		{"the org does not answer", func(w *world) { w.org.orgErr = errors.New("connection refused") }, "destination crm: connection refused", nil},
		{"a field and a column are not there", func(w *world) {
			w.org.problems = destinations.Problems{{Field: "Name", Message: "Account has no field Name"}}
			w.syncs["accounts"].Fields[1].Column = "phon"
		}, "Phone", func(err error) bool {
			var e *InvalidSyncError
			return errors.As(err, &e) && len(e.Problems) == 2 && e.Sync == "accounts"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "accounts")
			w.fill("accounts", "a", "Acme", "b", "Bolt")
			c.make(w)
			run, err := w.run("accounts", RunOptions{Trigger: "test"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if c.kind != nil && !c.kind(err) {
				t.Errorf("error %T: %v", err, err)
			}
			if run.Status != Failed || run.Error != err.Error() || run.Trigger != "test" {
				t.Errorf("the run's record: %+v", run)
			}
			if w.org.sent != 0 {
				t.Errorf("%d operations were sent", w.org.sent)
			}
			if left := w.plans("accounts"); len(left) != 0 {
				t.Errorf("left on disk: %v", left)
			}
			if id := w.unfinished("accounts"); id != "" {
				t.Errorf("the plan of run %s is active", id)
			}
		})
	}
}

func TestRunOfUnknownSync(t *testing.T) {
	w := newWorld(t, "accounts")
	var usage *UsageError
	if run, err := w.run("acounts", RunOptions{}); run != nil || !errors.As(err, &usage) || !strings.Contains(err.Error(), `did you mean "accounts"?`) {
		t.Errorf("%v, %v", run, err)
	}
	if _, err := os.Stat(w.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a state directory was made: %v", err)
	}
}

// shrunk is a world in which the next run would delete more than its guard
// allows.
func shrunk(t *testing.T) *world {
	w := newWorld(t, "accounts")
	w.syncs["accounts"].OnRemoved = models.RemovedDelete
	w.syncs["accounts"].Guards.MaxDeletes = models.Limit{Set: true, Count: 1}
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core", "d", "Dot")
	w.must("accounts")
	w.fill("accounts", "a", "Acme")
	return w
}

// halt runs a shrunk world's sync into its guard.
func halt(t *testing.T, w *world) *Run {
	t.Helper()
	before := w.org.sent
	run, err := w.run("accounts", RunOptions{})
	var guard *planner.GuardError
	if !errors.As(err, &guard) || guard.Guard != "max_deletes" || run.Status != Halted {
		t.Fatalf("%v, %+v", err, run)
	}
	if w.org.sent != before {
		t.Fatalf("%d operations were sent past the guard", w.org.sent-before)
	}
	if len(run.Samples) == 0 || run.Operations.Archive != 3 {
		t.Errorf("the record does not show what was halted: %+v", run)
	}
	return run
}

func TestGuardHaltsAndApproveAppliesThatPlan(t *testing.T) {
	w := shrunk(t)
	halted := halt(t, w)
	if id := w.unfinished("accounts"); id != halted.ID {
		t.Fatalf("the plan kept is of run %q, not %q", id, halted.ID)
	}
	// The model moved on; what was approved is what was shown.
	w.fill("accounts", "a", "Acme", "d", "Dot")
	reads := w.warehouse.reads
	run, err := w.run("accounts", RunOptions{Approve: true})
	if err != nil || run.Status != Succeeded || run.Resumed != halted.ID {
		t.Fatalf("%v, %+v", err, run)
	}
	if w.warehouse.reads != reads {
		t.Error("the warehouse was asked again")
	}
	if run.Rows != halted.Rows || run.Operations != halted.Operations || run.Outcomes.Deleted != 3 {
		t.Errorf("approved %+v %+v, halted %+v %+v", run.Operations, run.Outcomes, halted.Operations, halted.Rows)
	}
	if len(w.org.records) != 1 || len(w.plans("accounts")) != 0 {
		t.Errorf("the org holds %v, on disk is %v", w.org.records, w.plans("accounts"))
	}
	clear(w.org.created)
	w.must("accounts")
	w.equal("accounts")
}

func TestGuardWithoutApprovePlansAnew(t *testing.T) {
	w := shrunk(t)
	first := halt(t, w)
	if second := halt(t, w); w.unfinished("accounts") != second.ID {
		t.Errorf("the plan kept is not the second run's (the first was %s)", first.ID)
	}
	if left := w.plans("accounts"); len(left) != 1 {
		t.Errorf("plans on disk: %v", left)
	}
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core", "d", "Dot")
	if run := w.must("accounts"); run.Resumed != "" || run.Operations.Total() != 0 {
		t.Errorf("%+v", run)
	}
	w.equal("accounts")
}

func TestApproveAfterTheConfigChanged(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(s *models.Sync)
		same   bool
	}{
		{"a mapping", func(s *models.Sync) { s.Fields = s.Fields[:1] }, false},
		{"the query", func(s *models.Sync) { s.Model.SQL += " WHERE true" }, false},
		{"on_removed", func(s *models.Sync) { s.OnRemoved = models.RemovedNothing }, false},
		{"nulls", func(s *models.Sync) { s.Write.Nulls = "ignore" }, false},
		{"the batch size", func(s *models.Sync) { s.Write.RESTBatchSize = 5 }, true},
		{"the guard", func(s *models.Sync) { s.Guards.MaxDeletes.Count = 2 }, true},
		{"the schedule", func(s *models.Sync) { s.Schedule = "@hourly" }, true},
		{"its place in the file", func(s *models.Sync) { s.Pos, s.Fields[0].Pos = "coho.toml:9:1", "coho.toml:12:1" }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := shrunk(t)
			halted := halt(t, w)
			c.change(w.syncs["accounts"])
			reads := w.warehouse.reads
			run, err := w.run("accounts", RunOptions{Approve: true})
			if c.same {
				if err != nil {
					t.Fatal(err)
				}
				if run.Resumed != halted.ID || w.warehouse.reads != reads {
					t.Errorf("another plan was applied: %+v", run)
				}
				return
			}
			if run.Resumed != "" || w.warehouse.reads != reads+1 {
				t.Errorf("a plan of the old config was applied: %+v", run)
			}
			if !strings.Contains(strings.Join(run.Warnings, "\n"), halted.ID) {
				t.Errorf("nothing says that the halted plan was not the one applied: %q", run.Warnings)
			}
			// The new plan was never shown, so its guards hold.
			if w.syncs["accounts"].OnRemoved == models.RemovedNothing {
				if err != nil || w.unfinished("accounts") != "" {
					t.Errorf("a plan without deletes: %v", err)
				}
				return
			}
			var guard *planner.GuardError
			if !errors.As(err, &guard) || run.Outcomes.Deleted != 0 || w.unfinished("accounts") != run.ID {
				t.Fatalf("a plan that nobody has seen was approved: %v, %+v", err, run)
			}
			if again, err := w.run("accounts", RunOptions{Approve: true}); err != nil || again.Resumed != run.ID || again.Outcomes.Deleted != 3 {
				t.Errorf("approved once more: %v, %+v", err, again)
			}
		})
	}
}

func TestBudgetHaltsAndTheNextRunGoesOn(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core", "d", "Dot", "e", "Elk")
	w.org.budget = 1
	first, err := w.run("accounts", RunOptions{})
	var budget *destinations.BudgetError
	if !errors.As(err, &budget) || first.Status != Halted || first.Outcomes.Created != 2 {
		t.Fatalf("%v, %+v %+v", err, first.Status, first.Outcomes)
	}
	// The warehouse is down; what is left of the plan needs it not.
	w.org.budget = -1
	w.warehouse.readErr = errors.New("the warehouse is down")
	reads := w.warehouse.reads
	run, err := w.run("accounts", RunOptions{})
	if !errors.Is(err, w.warehouse.readErr) || run.Status != Failed {
		t.Fatalf("%v, %+v", err, run)
	}
	if run.Resumed != first.ID || run.Operations.Upsert != 3 || run.Outcomes.Created != 3 || w.warehouse.reads != reads+1 {
		t.Errorf("%+v %+v %+v", run, run.Operations, run.Outcomes)
	}
	w.equal("accounts")
	w.warehouse.readErr = nil
	if run := w.must("accounts"); run.Operations.Total() != 0 || run.Resumed != "" {
		t.Errorf("%+v", run)
	}
}

func TestCancelWhileReading(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.warehouse.onRow = func(n int) {
		if n == 2 {
			cancel()
		}
	}
	var run *Run
	var err error
	w.with(func(e *Engine) { run, err = e.Run(ctx, "accounts", RunOptions{}) })
	if err == nil || run.Status != Canceled || w.org.sent != 0 || len(w.plans("accounts")) != 0 {
		t.Fatalf("%v, %+v, %d sent, on disk %v", err, run, w.org.sent, w.plans("accounts"))
	}
	w.warehouse.onRow = nil
	w.must("accounts")
	w.equal("accounts")
}

func TestCancelBeforeAndDuringTheChecks(t *testing.T) {
	w := newWorld(t, "accounts")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.with(func(e *Engine) {
		if run, err := e.Run(ctx, "accounts", RunOptions{}); err == nil || run.Status != Canceled {
			t.Errorf("%v, %+v", err, run)
		}
	})
	// A source's own words for a cancelled statement say nothing of it.
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	w.warehouse.readErr = errors.New("canceling statement due to user request")
	o := w.options()
	open := o.OpenDestination
	o.OpenDestination = func(name string) (destinations.Destination, error) { cancel(); return open(name) }
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if run, err := e.Run(ctx, "accounts", RunOptions{}); err == nil || run.Status != Canceled {
		t.Errorf("%v, %+v", err, run)
	}
}

func TestCancelWhileWriting(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core", "d", "Dot", "e", "Elk")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.org.reach = func(point string) error {
		if point == "named" {
			cancel() // while the first batch is in flight
		}
		return nil
	}
	var first *Run
	var err error
	w.with(func(e *Engine) { first, err = e.Run(ctx, "accounts", RunOptions{}) })
	if !errors.Is(err, destinations.ErrStopped) || first.Status != Canceled {
		t.Fatalf("%v, %+v", err, first)
	}
	if first.Outcomes.Created != 2 || w.org.sent != 2 || w.unfinished("accounts") != first.ID {
		t.Errorf("in flight was not finished: %+v, %d sent", first.Outcomes, w.org.sent)
	}
	w.org.reach = nil
	run := w.must("accounts")
	if run.Resumed != first.ID || run.Outcomes.Created != 3 || run.Operations.Upsert != 3 {
		t.Errorf("%+v %+v", run, run.Outcomes)
	}
	w.equal("accounts")
}

func TestAbortGivesUpWhatIsInFlight(t *testing.T) {
	w := newWorld(t, "accounts")
	w.syncs["accounts"].Mode, w.syncs["accounts"].Match = models.ModeInsert, models.Match{}
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
	abort := make(chan struct{})
	ended := make(chan struct{})
	w.org.reach = func(point string) error {
		if point == "landed" && w.org.sent == 2 {
			close(abort)
			<-ended
		}
		return nil
	}
	// The answer is lost once the work's context is over.
	o := w.options()
	o.OpenDestination = func(string) (destinations.Destination, error) { return awaitWork{w.org, ended}, nil }
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	first, err := e.Run(context.Background(), "accounts", RunOptions{Abort: abort})
	if cerr := e.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	if !errors.Is(err, errAborted) || first.Status != Canceled {
		t.Fatalf("%v, %+v", err, first)
	}
	w.org.reach = nil
	run := w.must("accounts")
	if run.Resumed != first.ID || w.org.sent != 3 {
		t.Errorf("%+v, %d operations sent", run, w.org.sent)
	}
	w.equal("accounts")
}

// awaitWork tells when the context of Apply ends.
type awaitWork struct {
	*org
	ended chan struct{}
}

func (a awaitWork) Open(ctx context.Context, s *models.Sync, cols []models.Column) (destinations.Target, error) {
	t, err := a.org.Open(ctx, s, cols)
	if err != nil {
		return nil, err
	}
	return awaitTarget{t.(*target), a.ended}, nil
}

type awaitTarget struct {
	*target
	ended chan struct{}
}

func (a awaitTarget) Apply(ctx context.Context, app destinations.Application) error {
	stop := context.AfterFunc(ctx, func() { close(a.ended) })
	defer stop()
	return a.target.Apply(ctx, app)
}

func TestApplyThatSettlesTooLittleIsADefect(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
	w.org.short = true
	run, err := w.run("accounts", RunOptions{})
	if err == nil || run.Status != Failed || !strings.Contains(err.Error(), "defect: 1 of 3 operations have an outcome") {
		t.Fatalf("%v, %+v", err, run)
	}
	if id := w.unfinished("accounts"); id != run.ID {
		t.Errorf("the plan is not kept: %q", id)
	}
	w.org.short = false
	if next := w.must("accounts"); next.Resumed != run.ID {
		t.Errorf("%+v", next)
	}
	w.equal("accounts")
}

// halfSent leaves a world with a plan half sent: with a batch in flight, or
// between two batches.
func halfSent(t *testing.T, inFlight bool) (w *world, planDir string) {
	w = newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
	at := "settled"
	if inFlight {
		at = "landed"
	}
	crash := errors.New("the writer died")
	w.org.reach = func(point string) error {
		if point == at {
			return crash
		}
		return nil
	}
	run, err := w.run("accounts", RunOptions{})
	if !errors.Is(err, crash) || run.Status != Failed {
		t.Fatalf("%v, %+v", err, run)
	}
	w.org.reach = nil
	left := w.plans("accounts")
	if len(left) != 1 || left[0] != "plan-"+run.ID {
		t.Fatalf("on disk: %v", left)
	}
	return w, filepath.Join(w.dir, "syncs", "accounts", left[0])
}

func TestUnreadablePlan(t *testing.T) {
	damage := map[string]func(dir string) error{
		"its directory is gone": os.RemoveAll,
		"a block is damaged": func(dir string) error {
			path := filepath.Join(dir, "operations")
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len(b)-1] ^= 0xff
			return os.WriteFile(path, b, 0o600)
		},
		"its sync is torn": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, plannedFile), []byte(`{"sync":{"Na`), 0o600)
		},
		"its sync is empty": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, plannedFile), []byte(`{}`), 0o600)
		},
	}
	for name, harm := range damage {
		t.Run(name+", nothing in flight", func(t *testing.T) {
			w, dir := halfSent(t, false)
			if err := harm(dir); err != nil {
				t.Fatal(err)
			}
			run := w.must("accounts")
			if run.Resumed != "" || !strings.Contains(strings.Join(run.Warnings, "\n"), "could not be read and was made anew") {
				t.Errorf("%+v", run)
			}
			w.equal("accounts")
			if w.org.sent != 3 {
				t.Errorf("%d operations were sent, not 3", w.org.sent)
			}
		})
		t.Run(name+", a batch in flight", func(t *testing.T) {
			w, dir := halfSent(t, true)
			if err := harm(dir); err != nil {
				t.Fatal(err)
			}
			run, err := w.run("accounts", RunOptions{})
			if err == nil || run.Status != Failed || !strings.Contains(err.Error(), "coho snapshot reset accounts") {
				t.Fatalf("%v, %+v", err, run)
			}
			if w.org.sent != 2 {
				t.Errorf("%d operations were sent while two are in doubt", w.org.sent)
			}
			w.with(func(e *Engine) {
				if err := e.ResetSnapshot("accounts"); err != nil {
					t.Fatal(err)
				}
			})
			w.must("accounts")
			w.equal("accounts")
		})
	}
}

func TestPlanSendsNothingAndSaysWhatARunDoes(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", plannerBad, "c", "Core")
	var plan *Run
	var err error
	w.with(func(e *Engine) { plan, err = e.Plan(context.Background(), "accounts", PlanOptions{}) })
	if err != nil || plan.Status != Planned || plan.Outcomes != nil || w.org.sent != 0 {
		t.Fatalf("%v, %+v", err, plan)
	}
	if plan.Fields["Name"] != 2 || plan.Estimate.APICalls != 2 || len(plan.Samples) != 2 || plan.Errors[0].Code != planner.CodeInvalidValue {
		t.Errorf("%+v", plan)
	}
	if left := w.plans("accounts"); len(left) != 0 {
		t.Errorf("on disk: %v", left)
	}
	w.with(func(e *Engine) {
		if runs, err := e.History().List("", 0); err != nil || len(runs) != 0 {
			t.Errorf("in the history: %v, %v", runs, err)
		}
	})
	run, err := w.run("accounts", RunOptions{})
	if err != nil || run.Rows != plan.Rows || run.Operations != plan.Operations {
		t.Errorf("%v: planned %+v %+v, done %+v %+v", err, plan.Rows, plan.Operations, run.Rows, run.Operations)
	}
}

func TestPlanSaysWhatIsLeft(t *testing.T) {
	w := shrunk(t)
	halted := halt(t, w)
	w.with(func(e *Engine) {
		plan, err := e.Plan(context.Background(), "accounts", PlanOptions{})
		all := strings.Join(plan.Warnings, "\n")
		if err != nil || !strings.Contains(all, halted.ID) || !strings.Contains(all, "--approve") || !strings.Contains(all, "a run would halt") {
			t.Errorf("%v, %q", err, all)
		}
	})
	if w.unfinished("accounts") != halted.ID {
		t.Error("planning dropped the halted plan")
	}
	w, _ = halfSent(t, true)
	w.with(func(e *Engine) {
		plan, err := e.Plan(context.Background(), "accounts", PlanOptions{})
		if err != nil || !strings.Contains(strings.Join(plan.Warnings, "\n"), "the next run finishes it first") {
			t.Errorf("%v, %+v", err, plan)
		}
	})
}

func TestFullSendsEveryRowAgain(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
	w.must("accounts")
	w.org.records["Account/a"]["Name"] = "edited in the org"
	run, err := w.run("accounts", RunOptions{Full: true})
	if err != nil || run.Operations.Upsert != 3 || run.Outcomes.Updated != 3 {
		t.Errorf("%v, %+v", err, run)
	}
	w.equal("accounts")
}

func TestUnfinishedPlanOfAnotherMapping(t *testing.T) {
	for _, inFlight := range []bool{false, true} {
		w, _ := halfSent(t, inFlight)
		w.fill("accounts", "a", "Acme", "b", "Bolt & Co", "c", "Core") // b is in the second batch
		w.syncs["accounts"].Fields = w.syncs["accounts"].Fields[:1]    // Phone was a mistake
		run := w.must("accounts")
		if w.org.sent != 3 || len(w.org.records) != 3 {
			t.Fatalf("%d operations sent, the org holds %v", w.org.sent, w.org.records)
		}
		if b := w.org.records["Account/b"]; b["Phone"] != "" || b["Name"] != "Bolt & Co" {
			t.Errorf("what was not sent yet was sent as the old config had it: %v", b)
		}
		want := OutcomeCounts{Created: 1}
		if inFlight {
			want.Created = 3 // those that the dead run never heard of are this run's
		}
		if *run.Outcomes != want || run.Operations.Total() != want.Total() {
			t.Errorf("in flight %v: %+v, %+v", inFlight, run.Operations, run.Outcomes)
		}
		if !strings.Contains(strings.Join(run.Warnings, "\n"), "no longer") {
			t.Errorf("%q", run.Warnings)
		}
		for i, r := range w.warehouse.rows["accounts"] {
			r[2] = "" // what the mapping leaves alone is not compared
			delete(w.org.records["Account/"+[]string{"a", "b", "c"}[i]], "Phone")
		}
		settles(t, w)
	}
}

func TestFullAndApprovePlanAnew(t *testing.T) {
	w := shrunk(t)
	halt(t, w)
	run, err := w.run("accounts", RunOptions{Full: true, Approve: true})
	if err != nil || run.Resumed != "" || run.Operations != (OperationCounts{Upsert: 1, Archive: 3}) {
		t.Fatalf("%v, %+v", err, run)
	}
	w.equal("accounts")
}
