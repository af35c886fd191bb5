package engine

import (
	"context"
	"fmt"

	"coho/destinations"
	"coho/planner"
	"coho/planner/snapshot"
)

// planView gives the destination the plan's operations that the snapshot's
// journal has not settled.
type planView struct {
	plan  *planner.Plan
	store *snapshot.Store
}

func (v planView) Passes() int { return v.plan.Passes() }

func (v planView) Operations(pass int) (destinations.Operations, error) {
	settled, err := v.store.Settled()
	if err != nil {
		return nil, err
	}
	return v.plan.Operations(pass, settled)
}

func (v planView) Read(seqs planner.Seqs) (destinations.Operations, error) {
	return v.plan.Read(seqs)
}

// unsettled is a plan of which nothing was sent.
type unsettled struct{ plan *planner.Plan }

func (v unsettled) Passes() int { return v.plan.Passes() }

func (v unsettled) Operations(pass int) (destinations.Operations, error) {
	return v.plan.Operations(pass, nil)
}

func (v unsettled) Read(seqs planner.Seqs) (destinations.Operations, error) {
	return v.plan.Read(seqs)
}

// journal is the destination's journal over the snapshot store. Row errors are
// on disk before the store forgets that the row was in flight.
type journal struct {
	store      *snapshot.Store
	mirrors    bool // the org itself is what rows are compared with; the store takes in none
	rec        *recorder
	keyColumns []string
	fields     []string // the plan's, which assignments name by number
	progress   *Progress
}

func (j *journal) Begin(_ context.Context, b destinations.Batch) (uint64, error) {
	n, err := j.store.Begin(toStore(b))
	if err != nil {
		return 0, fmt.Errorf("journal a batch: %w", err)
	}
	return n, nil
}

func (j *journal) Update(_ context.Context, b destinations.Batch) error {
	if err := j.store.UpdateBatch(toStore(b)); err != nil {
		return fmt.Errorf("journal batch %d: %w", b.Number, err)
	}
	return nil
}

func (j *journal) Open() ([]destinations.Batch, error) {
	open, err := j.store.OpenBatches()
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	out := make([]destinations.Batch, len(open))
	for i, b := range open {
		out[i] = destinations.Batch{Number: b.Number, API: b.API, Step: b.Step, Handle: b.Handle, Seqs: b.Seqs}
	}
	return out, nil
}

func toStore(b destinations.Batch) snapshot.Batch {
	return snapshot.Batch{Number: b.Number, API: b.API, Step: b.Step, Handle: b.Handle, Seqs: b.Seqs}
}

func (j *journal) Settle(_ context.Context, batch uint64, ops []*planner.Operation, outcomes []destinations.Outcome, last bool) error {
	if len(ops) != len(outcomes) {
		return fmt.Errorf("settle batch %d: %d operations with %d outcomes", batch, len(ops), len(outcomes))
	}
	settlements := make([]snapshot.Settlement, 0, len(ops))
	var failed int64
	said := false
	for i, o := range outcomes {
		if o.Result != destinations.Resent {
			s := settlementOf(ops[i], o)
			if j.mirrors {
				s = snapshot.Settlement{Op: ops[i]}
			}
			settlements = append(settlements, s)
		}
		if o.Result == destinations.Failed {
			failed++
		}
		if o.Result == destinations.Failed || o.Unknown || passedOver(ops[i].Kind, o) || len(o.Omitted) > 0 {
			said = true
			e := &RowError{
				Key: keyMap(j.keyColumns, ops[i].Key), Operation: ops[i].Kind.String(),
				Code: o.Code, Message: o.Message, Fields: o.Fields, Attempts: o.Attempts, ID: o.ID,
			}
			if err := j.rec.describe(e, j.store, ops[i].KeyHash, ops[i], j.fields); err != nil {
				return err
			}
			if err := j.rec.rowError(e); err != nil {
				return err
			}
		}
	}
	if said {
		if err := j.rec.flush(); err != nil {
			return err
		}
	}
	if err := j.store.Settle(batch, settlements, last); err != nil {
		return fmt.Errorf("commit outcomes to the snapshot: %w", err)
	}
	j.rec.outcomes(outcomes)
	j.progress.Settled.Add(int64(len(settlements)))
	j.progress.Failed.Add(failed)
	return nil
}

// settlementOf is an outcome as the snapshot takes it in.
func settlementOf(op *planner.Operation, o destinations.Outcome) snapshot.Settlement {
	s := snapshot.Settlement{Op: op, Forget: o.Forget, ID: o.ID, Code: o.Code, Message: o.Message, Omitted: o.Omitted}
	switch {
	case o.Result == destinations.Failed:
		s.Failed = true
	case o.Result == destinations.Held:
		s.Held = true
	default:
		s.Applied = !passedOver(op.Kind, o)
	}
	return s
}

// passedOver reports a row that was not written and must be planned again:
// unlike one whose record need not be deleted because it is not there.
func passedOver(k planner.Kind, o destinations.Outcome) bool {
	return o.Result == destinations.Skipped && !o.Absorbed && !o.Same && (k == planner.Insert || k == planner.Update || k == planner.Upsert)
}
