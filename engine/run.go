package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"coho/destinations"
	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
	"coho/sources"
)

// RunOptions says how a sync is run.
type RunOptions struct {
	// Full sends every row again, and forgets state that belongs to another
	// org, object, match field or primary key.
	Full bool
	// Approve goes on with the plan that a guard halted, or, where there is
	// none, plans anew and passes the guards. Where the plan was made by a
	// config that means something else, nothing is approved: what the new one
	// would do nobody has seen.
	Approve bool
	// ApproveRun, if set, approves the plan of that run and no other: a plan
	// that was replaced meanwhile is a *UsageError.
	ApproveRun string
	// Key, if set, is the text of each primary key column of the one row that is
	// run: no other is sent. It is for Engine.Run; Full then sends all fields of
	// that row, and forgets nothing. While the plan of an earlier run waits it is
	// a *UsageError.
	Key []string
	// Trigger says who or what started the run, for the history.
	Trigger string
	// Sequence and SequenceRun name the sequence that the run is a part of,
	// and the record of that; RunSequence sets them.
	Sequence, SequenceRun string
	// QueuedAt is when the run was accepted, where it had to wait for its turn
	// before Engine.Run was called.
	QueuedAt time.Time
	// LeaveOut are syncs that RunSequence and RunSyncs pass over, and for each
	// why, in a line. That is no error, and stops no sequence.
	LeaveOut map[string]string
	// Abort, when closed, gives up requests in flight too; what became of
	// them is asked by the next run. Cancelling the run's context stops it
	// gently: nothing new is begun, what is in flight is finished.
	Abort <-chan struct{}
	// Progress, if set, is kept up to date while the run goes on.
	Progress *Progress
	// ID is the run's, made by NewRunID, for a caller that must know it before
	// the run begins; "" makes one. Each run of a sequence gets its own from Do.
	ID string
	// Do, if set, runs a sync of a sequence in place of Engine.Run, so that a
	// daemon can give each run its turn, its id and its own end. A nil record
	// without an error says that the sync was passed over on purpose.
	Do func(ctx context.Context, sync string, o RunOptions) (*Run, error)
}

// Run runs a sync and returns its record, which is also in the history. The
// error, where there is one, is why the run failed, halted or was canceled; a
// run whose rows failed for their own fault ends without an error. The record
// is nil only where the run never began.
func (e *Engine) Run(ctx context.Context, name string, o RunOptions) (*Run, error) {
	s, err := e.Sync(name)
	if err != nil {
		return nil, err
	}
	if err := e.Lock("coho run " + name); err != nil {
		return nil, err
	}
	if o.Key != nil && s.Picklist != "" {
		return nil, togetherError(s)
	}
	if o.Key != nil && len(o.Key) != len(s.Model.PrimaryKey) {
		return nil, usagef("the key of sync %s has %d columns (%v), and %d values were given", name, len(s.Model.PrimaryKey), s.Model.PrimaryKey, len(o.Key))
	}
	if o.ApproveRun != "" {
		if of, err := e.Approval(o.ApproveRun); err != nil {
			return nil, err
		} else if of != name {
			return nil, usagef("run %s is of sync %s, not of %s", o.ApproveRun, of, name)
		}
		o.Approve = true
	}
	release, err := e.claim(name)
	if err != nil {
		return nil, err
	}
	defer release()
	if o.Key != nil {
		if err := e.besidePlan(name); err != nil {
			return nil, err
		}
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}

	started := e.o.Now()
	id := o.ID
	if id == "" {
		if id, err = NewRunID(started); err != nil {
			return nil, err
		}
	}
	run := &Run{ID: id, Sync: name, Status: Running, StartedAt: started, Outcomes: &OutcomeCounts{}, API: &APICounts{Remaining: -1}, Errors: []ErrorCount{}, Trigger: o.Trigger, Sequence: o.Sequence, SequenceRun: o.SequenceRun, ConfigHash: ConfigHash(s), PID: os.Getpid()}
	if o.Key != nil {
		run.Key = keyMap(s.Model.PrimaryKey, o.Key)
	}
	if err := e.history.save(run); err != nil {
		return nil, err
	}
	log := e.o.Logger.With("sync", name, "run", id)
	log.InfoContext(ctx, "run started")

	// Requests in flight outlive ctx, so that a gentle stop settles them;
	// only Abort ends them.
	calls := &callLog{path: e.history.callsPath(id), most: callBytes}
	ctx = context.WithValue(ctx, callLogKey{}, calls)
	ctx = sources.WithPurpose(ctx, sources.Purpose{Sync: name, Run: id})
	work, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-o.Abort:
			abort(errAborted)
		case <-work.Done():
		}
	}()
	r := &running{e: e, sync: s, options: o, rec: newRecorder(e.history, run), run: run, progress: o.Progress}
	watch := newStopwatch(e.o.Now, o.QueuedAt, started)
	o.Progress.entered = watch.enter
	err = r.execute(ctx, work)
	o.Progress.entered = nil
	abort(nil)
	<-watched
	err = errors.Join(err, r.rec.close())
	if missed, cerr := calls.close(); cerr != nil || missed > 0 {
		log.WarnContext(context.WithoutCancel(ctx), "the log of API calls is not whole", "missed", missed, "error", cerr)
	}

	run.Warnings = append(run.Warnings, o.Progress.remarked()...)
	run.Status = statusOf(run, err)
	if err != nil {
		run.Error = err.Error()
	}
	finished := e.o.Now()
	run.FinishedAt, run.Durations = &finished, watch.stop(finished)
	if serr := errors.Join(e.history.save(run), e.history.ran(finished)); serr != nil {
		err = errors.Join(err, serr)
	}
	if e.o.RunEnded != nil {
		e.o.RunEnded(run)
	}
	log.InfoContext(context.WithoutCancel(ctx), "run ended", "status", run.Status, "read", run.Rows.Read, "operations", run.Operations.Total(), "failed", run.Outcomes.Failed, "rejected", run.Rows.Rejected, "api_calls", run.API.Calls, "duration", finished.Sub(started).Round(time.Millisecond))
	return run, err
}

var errAborted = errors.New("aborted; what was in flight is looked up by the next run")

func statusOf(run *Run, err error) Status {
	var guard *planner.GuardError
	var budget *destinations.BudgetError
	switch {
	case err == nil && (run.Outcomes.Failed+run.Outcomes.Held > 0 || run.Rows.Rejected > 0):
		return CompletedWithErrors
	case err == nil:
		return Succeeded
	case errors.As(err, &guard), errors.As(err, &budget):
		return Halted
	case errors.Is(err, destinations.ErrStopped), errors.Is(err, context.Canceled), errors.Is(err, errAborted):
		return Canceled
	}
	return Failed
}

// running is one run while it goes on.
type running struct {
	e        *Engine
	sync     *models.Sync
	options  RunOptions
	rec      *recorder
	run      *Run
	progress *Progress
	// modelRows is, of a run of one row, how many rows with a key the model has.
	modelRows int64
}

func (r *running) execute(ctx, work context.Context) (err error) {
	store, err := r.e.openStore(r.sync.Name)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.e.shared.stores.drop(store); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the snapshot of sync %s: %w", r.sync.Name, cerr))
		}
	}()
	done, err := r.unfinished(ctx, work, store)
	if err != nil || done {
		return err
	}
	if err := ctx.Err(); err != nil {
		return destinations.ErrStopped
	}

	r.progress.enter("checking")
	p, err := r.e.prepare(ctx, r.sync)
	if err != nil {
		return stopped(ctx, err)
	}
	defer r.charge(p.target)
	r.run.Warnings = append(r.run.Warnings, p.target.Warnings()...)
	if err := r.e.bind(store, p, r.options.Full && r.options.Key == nil); err != nil {
		return err
	}
	if r.options.Key != nil {
		return r.executeAlone(ctx, work, store, p)
	}
	dir := r.e.planDir(r.sync.Name, r.run.ID)
	snap, err := r.e.compared(ctx, store, p)
	if err != nil {
		return stopped(ctx, err)
	}
	plan, err := r.e.build(ctx, snap, p, dir, r.options.Full, r.progress)
	if err != nil {
		return errors.Join(stopped(ctx, err), os.RemoveAll(dir))
	}
	defer func() {
		if cerr := plan.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the plan: %w", cerr))
		}
	}()
	sum := plan.Summary()
	r.count(&sum)
	if err := r.recordRejected(store, plan, p.sync.Model.PrimaryKey, nil); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	r.run.Choice = p.target.Estimate(sum).Choice
	if err := checkPlan(p.target, plan, &sum); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}

	ref := snapshot.PlanRef{RunID: r.run.ID, Dir: filepath.Base(dir), Full: r.options.Full, Fields: plan.Fields()}
	if err := savePlanned(dir, p.sync, p.schema.Columns(), nil); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if gerr := planner.CheckGuards(r.sync.Guards, &sum, r.sync.Mode); gerr != nil && !r.options.Approve {
		if r.run.Samples, err = haltedSamples(store, plan, &sum, p.sync.Model.PrimaryKey); err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
		ref.Halted = haltedByGuard
		if err := store.SetActivePlan(ref); err != nil {
			return errors.Join(fmt.Errorf("keep the halted plan: %w", err), os.RemoveAll(dir))
		}
		return gerr
	}
	if err := store.SetActivePlan(ref); err != nil {
		return errors.Join(fmt.Errorf("keep the plan: %w", err), os.RemoveAll(dir))
	}
	return r.apply(ctx, work, store, plan, p.target, p.sync.Model.PrimaryKey)
}

const haltedByGuard = "guard"

// unfinished deals with what an earlier run left behind. done says that the
// run ends here: a halted plan was approved and applied.
func (r *running) unfinished(ctx, work context.Context, store *snapshot.Store) (done bool, err error) {
	ref, ok, err := store.ActivePlan()
	if err != nil {
		return false, err
	}
	if only := r.options.ApproveRun; only != "" && (!ok || ref.Halted != haltedByGuard || ref.RunID != only) {
		return false, noSuchPlan(only)
	}
	if !ok {
		return false, nil
	}
	dir := filepath.Join(r.e.syncDir(r.sync.Name), ref.Dir)
	halted := ref.Halted == haltedByGuard
	if halted && (!r.options.Approve || r.options.Full) {
		return false, r.drop(store, dir)
	}
	if !halted && r.sync.Picklist != "" {
		return false, r.forget(store, dir)
	}

	r.progress.enter("resuming")
	// Finishing the plan is only right where the config still means what the
	// plan was made for.
	dest, err := r.e.destination(r.sync.Destination)
	if err != nil {
		return false, err
	}
	org, err := dest.Org(ctx)
	if err != nil {
		return false, stopped(ctx, fmt.Errorf("destination %s: %w", r.sync.Destination, err))
	}
	if be := bound(store, r.sync, org); be != nil {
		if r.options.Full && r.options.Key == nil && !be.FullIsUnsafe {
			return false, nil // bind forgets the plan with the rest
		}
		return false, be
	}
	saved, err := loadPlanned(dir)
	var plan *planner.Plan
	if err == nil {
		plan, err = planner.OpenPlan(dir)
	}
	if err != nil {
		return false, r.unreadable(store, ref, dir, err)
	}
	defer func() {
		if cerr := plan.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the plan of run %s: %w", ref.RunID, cerr))
		}
	}()
	if halted && !sameMeaning(saved.Sync, r.sync) {
		r.run.Warnings = append(r.run.Warnings, fmt.Sprintf("the plan of run %s, which a guard halted, was made by another config; it was dropped and planned anew, which nobody has approved yet", ref.RunID))
		r.options.Approve = false
		return false, r.drop(store, dir)
	}
	// How it is written may have changed since.
	s := saved.Sync
	s.Write = r.sync.Write
	target, err := r.e.openTarget(ctx, dest, s, saved.Columns)
	if err != nil {
		return false, stopped(ctx, fmt.Errorf("resume the plan of run %s: %w", ref.RunID, err))
	}
	defer r.charge(target)
	if ref.Halted != "" {
		ref.Halted = ""
		if err := store.SetActivePlan(ref); err != nil {
			return false, fmt.Errorf("approve the plan of run %s: %w", ref.RunID, err)
		}
	}
	r.run.Resumed = ref.RunID
	r.e.o.Logger.InfoContext(ctx, "finishing the plan of an earlier run", "sync", s.Name, "run", r.run.ID, "plan", ref.RunID)
	if halted {
		sum := plan.Summary()
		r.count(&sum)
		r.run.Choice = target.Estimate(sum).Choice
		if err := r.recordRejected(store, plan, s.Model.PrimaryKey, nil); err != nil {
			return false, err
		}
		return true, r.apply(ctx, work, store, plan, target, s.Model.PrimaryKey)
	}
	// The record counts as operations those that this run settles of it.
	left, err := remaining(plan, store)
	if err != nil {
		return false, err
	}
	r.run.Operations.plus(left)
	if sameMeaning(saved.Sync, r.sync) {
		return false, r.apply(ctx, work, store, plan, target, s.Model.PrimaryKey)
	}
	return false, r.giveUp(ctx, work, store, plan, target, ref, s.Model.PrimaryKey)
}

// giveUp ends a plan that the config no longer means: what is in flight is
// settled by asking the org, the rest is not sent but planned anew.
func (r *running) giveUp(ctx, work context.Context, store *snapshot.Store, plan *planner.Plan, target destinations.Target, ref snapshot.PlanRef, keyColumns []string) error {
	stop, cancel := context.WithCancel(ctx)
	cancel()
	err := r.apply(stop, work, store, plan, target, keyColumns)
	if !errors.Is(err, destinations.ErrStopped) {
		return err // nil: nothing was left of it
	}
	open, err := store.OpenBatches()
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	if len(open) > 0 {
		// Part of a batch can only be settled by sending more.
		return r.apply(ctx, work, store, plan, target, keyColumns)
	}
	left, err := remaining(plan, store)
	if err != nil {
		return err
	}
	r.run.Operations.minus(left)
	r.run.Warnings = append(r.run.Warnings, fmt.Sprintf("run %s left %d operations unsent that the config no longer means; they were dropped and planned anew", ref.RunID, left.Total()))
	return r.drop(store, plan.Dir())
}

// remaining counts a plan's operations that have no outcome.
func remaining(plan *planner.Plan, store *snapshot.Store) (left OperationCounts, err error) {
	settled, err := store.Settled()
	if err != nil {
		return left, fmt.Errorf("read what is settled: %w", err)
	}
	for pass := range plan.Passes() {
		ops, err := plan.Operations(pass, settled)
		if err != nil {
			return left, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
		for ops.Next() {
			left.add(ops.Operation().Kind, 1)
		}
		if err := errors.Join(ops.Err(), ops.Close()); err != nil {
			return left, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
	}
	return left, nil
}

// unreadable deals with an active plan whose files cannot be read: with
// nothing in flight it is dropped and made anew, else only a person can say.
func (r *running) unreadable(store *snapshot.Store, ref snapshot.PlanRef, dir string, cause error) error {
	open, err := store.OpenBatches()
	if err != nil {
		return errors.Join(cause, err)
	}
	if len(open) > 0 {
		return fmt.Errorf("the plan of run %s was being sent and cannot be read (%w); look at the org, then `coho snapshot reset %s` to begin anew", ref.RunID, cause, r.sync.Name)
	}
	r.run.Warnings = append(r.run.Warnings, fmt.Sprintf("the plan of run %s could not be read and was made anew: %v", ref.RunID, cause))
	return r.drop(store, dir)
}

func (r *running) drop(store *snapshot.Store, dir string) error {
	if err := store.DropPlan(); err != nil {
		return fmt.Errorf("drop the plan: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the dropped plan: %w", err)
	}
	return nil
}

// apply has the destination send what the plan still holds, then finishes it.
func (r *running) apply(ctx, work context.Context, store *snapshot.Store, plan *planner.Plan, target destinations.Target, keyColumns []string) error {
	if d, err := r.e.destination(r.sync.Destination); err == nil {
		r.progress.watch(d)
	}
	r.progress.enter("writing")
	sum := plan.Summary()
	var total int64
	for _, n := range sum.Operations {
		total += n
	}
	settled, err := store.Settled()
	if err != nil {
		return fmt.Errorf("read what is settled: %w", err)
	}
	r.progress.Total.Store(total)
	r.progress.Settled.Store(settled.Len())
	_, mirrors := target.(destinations.Mirror)
	j := &journal{store: store, mirrors: mirrors, rec: r.rec, keyColumns: keyColumns, fields: plan.Fields(), progress: r.progress}
	err = target.Apply(work, destinations.Application{Plan: planView{plan, store}, Journal: j, Stop: ctx.Done(), Owner: store.Owner})
	if ferr := r.rec.flush(); ferr != nil {
		err = errors.Join(err, ferr)
	}
	if err != nil {
		if cause := context.Cause(work); cause != nil && errors.Is(err, context.Canceled) {
			return cause
		}
		return err
	}
	if settled, err = store.Settled(); err != nil {
		return fmt.Errorf("read what is settled: %w", err)
	}
	if n := settled.Len(); n != total {
		return fmt.Errorf("defect: %d of %d operations have an outcome after the plan was applied; the plan is kept", n, total)
	}
	r.progress.enter("committing")
	if mirrors {
		return errors.Join(plan.Remove(), r.drop(store, plan.Dir()))
	}
	notes, err := plan.Notes()
	if err != nil {
		return fmt.Errorf("read the plan's notes: %w", err)
	}
	if err := errors.Join(store.FinishPlan(notes), notes.Close()); err != nil {
		return fmt.Errorf("commit the run to the snapshot: %w", err)
	}
	// All is done. What cannot be removed now, the next run removes.
	if err := errors.Join(plan.Remove(), os.RemoveAll(plan.Dir())); err != nil {
		r.run.Warnings = append(r.run.Warnings, fmt.Sprintf("the finished plan is still on disk: %v", err))
	}
	return nil
}

// stopped is the error of a step that failed: that it was stopped, where it was,
// whatever the warehouse or the org call that.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("stopped while the run was made ready; nothing new was sent: %w", context.Canceled)
}

// charge adds what a target has cost to the run's record.
func (r *running) charge(t destinations.Target) {
	u := t.Usage()
	r.run.API.Calls += u.Calls
	r.run.API.BulkJobs += u.BulkJobs
	if u.Remaining >= 0 {
		r.run.API.Remaining = u.Remaining
	}
}

// count takes a plan's counts into the run's record.
func (r *running) count(sum *planner.Summary) {
	r.run.Rows = rowCounts(sum)
	for k, n := range sum.Operations {
		r.run.Operations.add(planner.Kind(k), n)
	}
}

func rowCounts(sum *planner.Summary) RowCounts {
	c := sum.Rows
	return RowCounts{Read: c.Read, Unchanged: c.Unchanged, Added: c.Added, Changed: c.Changed, Removed: c.Removed, Rejected: c.Rejected}
}

// recordRejected puts the plan's rejected rows, or those of one key, among the run's
// row errors.
func (r *running) recordRejected(store *snapshot.Store, plan *planner.Plan, keyColumns []string, only *planner.Hash) error {
	rows, err := plan.Rejected()
	if err != nil {
		return fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	for rows.Next() {
		row := rows.Rejected()
		if only != nil && row.KeyHash != *only {
			continue
		}
		e := &RowError{
			Key: keyMap(keyColumns, row.Key), Operation: row.Kind.String(),
			Code: row.Code, Message: row.Message, Fields: row.Fields,
		}
		if len(row.Key) > 0 {
			if err := r.rec.describe(e, store, row.KeyHash, nil, nil); err != nil {
				return errors.Join(err, rows.Close())
			}
		}
		if err := r.rec.rowError(e); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	return r.rec.flush()
}

func keyMap(columns, key []string) map[string]string {
	m := make(map[string]string, len(columns))
	for i, c := range columns {
		if i < len(key) {
			m[c] = key[i]
		}
	}
	return m
}
