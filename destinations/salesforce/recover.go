package salesforce

import (
	"context"
	"errors"
	"fmt"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// recover finds out what became of the batches that a run before this one left
// open, and settles or closes them. Operations that it leaves without an
// outcome are sent with the rest of the plan.
func (r *run) recover(ctx context.Context) error {
	open, err := r.journal.Open()
	if err != nil {
		return fmt.Errorf("list open batches: %w", err)
	}
	if open, err = r.recoverMarks(open); err != nil || len(open) == 0 {
		return err
	}
	pending, err := r.pending(open)
	if err != nil {
		return err
	}
	taken := make(map[string]bool) // batches of Bulk API 1.0 jobs that are accounted for
	for _, b := range open {
		if b.API == apiBulk1 {
			if _, id, _, _, err := parseHandle(b.Handle); err == nil && id != "" {
				taken[id] = true
			}
		}
	}
	for _, b := range open {
		var err error
		switch {
		case b.Step == stepComplete:
			// It stays open until its rows have been sent complete.
			r.markComplete(b.Seqs)
			r.markers = append(r.markers, b.Number)
		case b.Step == stepUnknown:
			err = r.forgotten(ctx, b, pending)
		case b.API == apiSOAP:
			// What was merged is seen when the rest is.
			r.doubtful.Add(b.Seqs)
			err = r.closeBatch(ctx, b)
		case b.API == apiREST:
			err = r.giveUp(ctx, b, pending)
		case b.API == apiBulk2:
			err = r.recoverJob(ctx, b, pending)
		case b.API == apiBulk1:
			err = r.recoverBatch(ctx, b, pending, taken)
		default:
			err = fmt.Errorf("batch %d was sent by %q, which this version does not know", b.Number, b.API)
		}
		if err != nil {
			return fmt.Errorf("find out what became of batch %d: %w", b.Number, err)
		}
	}
	return nil
}

// pending is the operations of open batches that have no outcome.
func (r *run) pending(open []destinations.Batch) (*planner.SettledSet, error) {
	var inBatches, pending planner.SettledSet
	for _, b := range open {
		inBatches.Add(b.Seqs)
	}
	for pass := range r.plan.Passes() {
		ops, err := r.plan.Operations(pass)
		if err != nil {
			return nil, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
		for ops.Next() {
			if seq := ops.Operation().Seq; inBatches.Has(seq) {
				pending.Add(planner.Seqs{{From: seq, To: seq + 1}})
			}
		}
		err = ops.Err()
		if closed := ops.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
	}
	return &pending, nil
}

// closeBatch gives a batch up: what has no outcome is as if never sent.
func (r *run) closeBatch(ctx context.Context, b destinations.Batch) error {
	return r.settle(ctx, b.Number, nil, nil, true)
}

// giveUp closes a batch of which no more can be learned than what records are
// there: one sent by Collections, or a job that the org has forgotten. An
// upsert, update or delete may be sent twice; an insert may not, so its rows
// are looked for by their key.
func (r *run) giveUp(ctx context.Context, b destinations.Batch, pending *planner.SettledSet) error {
	if r.t.event {
		return r.settleLost(ctx, b, pending)
	}
	r.doubtful.Add(b.Seqs)
	if b.Step == callCreate.String() {
		if err := r.settleLanded(ctx, b, pending); err != nil {
			return err
		}
	}
	return r.closeBatch(ctx, b)
}

// settleLanded settles those operations of an insert batch whose records are
// there.
func (r *run) settleLanded(ctx context.Context, b destinations.Batch, pending *planner.SettledSet) error {
	ops, err := r.plan.Read(b.Seqs)
	if err != nil {
		return fmt.Errorf("read its operations: %w", err)
	}
	defer ops.Close()
	var rows []*row
	ask := func() error {
		if len(rows) == 0 {
			return nil
		}
		found, err := r.landed(ctx, callCreate, rows)
		if err != nil {
			return err
		}
		var s settled
		for _, x := range rows {
			if id := found[x]; id != "" {
				s.add(x.op, destinations.Outcome{Result: destinations.Created, ID: id, Attempts: 1})
			}
		}
		rows = nil
		if len(s.ops) == 0 {
			return nil
		}
		return r.settle(ctx, b.Number, s.ops, s.outcomes, false)
	}
	for ops.Next() {
		if op := ops.Operation(); pending.Has(op.Seq) {
			x := newRow(op, callCreate, false)
			r.follow(&x)
			rows = append(rows, x.keep())
		}
		if len(rows) >= prepareRows {
			if err := ask(); err != nil {
				return err
			}
		}
	}
	if err := ops.Err(); err != nil {
		return fmt.Errorf("read its operations: %w", err)
	}
	return ask()
}

// recoverJob asks the org about a job. A job that never got its data is
// aborted, so that it cannot begin to run; one at work is waited for.
func (r *run) recoverJob(ctx context.Context, b destinations.Batch, pending *planner.SettledSet) error {
	if b.Handle == "" {
		return r.closeBatch(ctx, b) // nothing was uploaded
	}
	info, err := r.job(ctx, b.Handle)
	if err != nil {
		return err
	}
	if info != nil && info.State == api.StateOpen {
		dead, err := r.abort(ctx, b.Handle)
		if err != nil {
			return err
		}
		if dead {
			return r.closeBatch(ctx, b)
		}
	}
	if info == nil {
		return r.giveUp(ctx, b, pending) // expired, results and all
	}
	if !info.Terminal() {
		ended, err := r.wait(ctx, b.Handle, 0)
		if err != nil {
			return fmt.Errorf("wait for bulk job %s: %w", b.Handle, err)
		}
		info = &ended
	}
	j, whole, err := r.rebuild(b)
	if err != nil {
		return err
	}
	defer j.discard()
	if !whole {
		// Ids that were found by query are not in the plan. The job is over,
		// and sending its rows again changes nothing that it did.
		return r.giveUp(ctx, b, pending)
	}
	answers, err := r.readAnswers(ctx, j, *info)
	var misfit *misfitError
	if errors.As(err, &misfit) {
		// The run that sent the job said so aloud. Now that the job is over,
		// the org itself tells which inserts it holds, and all else may be
		// sent again.
		r.t.log.WarnContext(ctx, "a job's results do not fit its rows", "job", b.Handle, "error", err)
		return r.giveUp(ctx, b, pending)
	}
	if err != nil {
		return err
	}
	defer answers.discard()
	return r.settleRecovered(ctx, j, b, answers, pending)
}

// settleRecovered settles what the answers say of an earlier run's job. The rest
// is sent with the plan.
func (r *run) settleRecovered(ctx context.Context, j *job, b destinations.Batch, answers *answers, pending *planner.SettledSet) error {
	left, err := r.settleJob(ctx, j, b, answers, pending)
	if err != nil {
		return err
	}
	r.doubtful.Add(left.unknown)
	if len(left.complete) > 0 {
		b.Step = stepComplete
		if err := r.update(ctx, b); err != nil {
			return err
		}
		r.markComplete(left.complete)
		r.markers = append(r.markers, b.Number)
		return nil
	}
	return r.closeBatch(ctx, b)
}

// rebuild makes a job's index again from the plan. whole is false where the
// plan does not hold every key.
func (r *run) rebuild(b destinations.Batch) (j *job, whole bool, err error) {
	c, ok := callNamed(b.Step)
	if !ok {
		return nil, false, fmt.Errorf("its step %q is not known", b.Step)
	}
	j = &job{c: c, t: r.t, seqs: b.Seqs, index: newIndex(r.t.key(c), r.t.options.SpoolDir), attempts: 1}
	ops, err := r.plan.Read(b.Seqs)
	if err != nil {
		j.discard()
		return nil, false, fmt.Errorf("read its operations: %w", err)
	}
	defer ops.Close()
	for ops.Next() {
		x := newRow(ops.Operation(), c, false)
		r.follow(&x)
		key := r.t.keyOf(c, &x)
		if key == "" {
			return j, false, nil
		}
		if !j.index.add(key) {
			j.discard()
			return nil, false, fmt.Errorf("two operations have the key of %s", describeKey(x.op))
		}
		j.rows++
	}
	if err := ops.Err(); err != nil {
		j.discard()
		return nil, false, fmt.Errorf("read its operations: %w", err)
	}
	return j, true, nil
}

func callNamed(step string) (call, bool) {
	for c := range call(callCount) {
		if c.String() == step {
			return c, true
		}
	}
	return 0, false
}
