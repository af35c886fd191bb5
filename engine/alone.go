package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"coho/planner"
	"coho/planner/snapshot"
)

// besidePlan refuses to run one row alone while a larger plan waits. That plan may
// hold an older operation on the same row, which would be sent after this one, and
// a plan that a guard halted is kept for whoever approves it. What a run of one row
// left is no obstacle: it is finished first.
func (e *Engine) besidePlan(name string) (err error) {
	store, err := e.openStore(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.shared.stores.drop(store)) }()
	ref, ok, err := store.ActivePlan()
	if err != nil || !ok {
		return err
	}
	if ref.Halted == haltedByGuard {
		return usagef("the plan of run %s, which a guard halted, waits and is kept; `coho run %s --approve` goes on with it, `coho run %s` replaces it, and after either a row can be sent alone", ref.RunID, name, name)
	}
	if saved, err := loadPlanned(filepath.Join(e.syncDir(name), ref.Dir)); err == nil && saved.Key != nil {
		return nil
	}
	return usagef("run %s left its plan unfinished; `coho run %s` finishes it, after which a row can be sent alone", ref.RunID, name)
}

// executeAlone plans the row that the run is for and sends it, as the whole model's
// plan would have it, but for retry_rejected: a row that is asked for by name is
// tried. No other row is sent, and of no other does the snapshot change.
func (r *running) executeAlone(ctx, work context.Context, store *snapshot.Store, p *prepared) (err error) {
	r.progress.enter("reading")
	dir := r.e.planDir(r.sync.Name, r.run.ID)
	plan, err := r.planAlone(ctx, store, p, dir)
	if err != nil {
		return errors.Join(stopped(ctx, err), os.RemoveAll(dir))
	}
	if plan == nil {
		return os.RemoveAll(dir)
	}
	defer func() {
		if cerr := plan.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the plan: %w", cerr))
		}
	}()
	sum := plan.Summary()
	r.run.Choice = p.target.Estimate(sum).Choice
	// The guards look at the whole model's count: a row that left a model which
	// is empty may have left it by accident.
	sum.Rows.Read = r.modelRows
	if gerr := planner.CheckGuards(r.sync.Guards, &sum, r.sync.Mode); gerr != nil && !r.options.Approve {
		return errors.Join(gerr, os.RemoveAll(dir))
	}
	if err := savePlanned(dir, p.sync, p.schema.Columns(), r.options.Key); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	ref := snapshot.PlanRef{RunID: r.run.ID, Dir: filepath.Base(dir), Full: r.options.Full, Fields: plan.Fields()}
	if err := store.SetActivePlan(ref); err != nil {
		return errors.Join(fmt.Errorf("keep the plan: %w", err), os.RemoveAll(dir))
	}
	return r.apply(ctx, work, store, plan, p.target, p.sync.Model.PrimaryKey)
}

// planAlone plans the row among those that share its match value, and then, where
// there are such, by itself: whether it may be sent is decided with them, and they
// are not sent. It returns nil where there is nothing to send; the run's record has
// the counts, and why a row was rejected.
func (r *running) planAlone(ctx context.Context, store *snapshot.Store, p *prepared, dir string) (*planner.Plan, error) {
	spec := r.e.spec(p, p.schema, r.options.Full)
	spec.RetryRejected = "always"
	a := &alone{p: p, spec: &spec, wanted: spec.KeyHash(r.options.Key), cells: make([][]byte, len(p.schema.Columns()))}
	if err := r.e.readAlone(ctx, a, store); err != nil {
		return nil, err
	}
	r.modelRows = a.read
	if a.same == 0 && !a.held {
		return nil, usagef("sync %s: the model has no row with the key %v, and nothing was ever written for one", r.sync.Name, keyMap(p.sync.Model.PrimaryKey, r.options.Key))
	}
	plan, err := planner.Build(ctx, spec, a, planner.NewAlone(store, a.keys...), dir, &r.progress.Plan)
	if err != nil {
		return nil, fmt.Errorf("plan sync %s: %w", r.sync.Name, err)
	}
	op, rejected, err := findAlone(plan, a.wanted)
	if err != nil {
		return nil, errors.Join(err, plan.Close())
	}
	r.run.Rows.Read = int64(a.same)
	switch {
	case rejected != nil:
		r.run.Rows.Rejected = int64(max(a.same, 1))
		err = r.recordRejected(store, plan, p.sync.Model.PrimaryKey, &a.wanted)
	case op == nil:
		r.run.Rows.Unchanged = int64(a.same)
	case len(a.keys) > 1:
		if err = plan.Close(); err != nil {
			return nil, err
		}
		a.keys, a.at = a.keys[:1], 0
		a.frames = a.frames[:min(a.same, len(a.frames))]
		if plan, err = planner.Build(ctx, spec, a, planner.NewAlone(store, a.wanted), dir, &r.progress.Plan); err != nil {
			return nil, fmt.Errorf("plan sync %s: %w", r.sync.Name, err)
		}
		if op, rejected, err = findAlone(plan, a.wanted); err == nil && (op == nil || rejected != nil) {
			err = fmt.Errorf("defect: the row is planned among others and not by itself")
		}
	}
	if err != nil || op == nil || rejected != nil {
		return nil, errors.Join(err, plan.Close())
	}
	sum := plan.Summary()
	r.count(&sum)
	return plan, nil
}

// findAlone finds what a plan does with one row; both are nil where that is nothing.
func findAlone(plan *planner.Plan, wanted planner.Hash) (op *planner.Operation, bad *planner.Rejected, err error) {
	rows, err := plan.Rejected()
	if err != nil {
		return nil, nil, fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	for rows.Next() {
		if row := rows.Rejected(); row.KeyHash == wanted {
			one := *row
			bad = &one
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, nil, fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	err = eachOperation(plan, func(o *planner.Operation) (bool, error) {
		if o.KeyHash == wanted {
			op = o.Clone()
		}
		return op == nil, nil
	})
	return op, bad, err
}
