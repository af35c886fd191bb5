package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"coho/destinations"
	"coho/models"
)

// Ended is one sync's run within a sequence, as it ended. Run is nil where it
// never began; Err is what Engine.Run returned.
type Ended struct {
	Sync string
	Run  *Run
	Err  error
}

// LeftOut is what the log says of a sync of RunOptions.LeaveOut.
const LeftOut = "sync left out"

// RunSequence runs a sequence's steps in order, the syncs of a step side by
// side, and calls each with every run as it ends, one at a time. With on_error
// "stop", a step in which a sync did not complete (it failed, halted or was
// canceled) is the last; rows that failed for their own fault stop nothing,
// unless they are more than the sequence's max_row_errors: that is a
// *RowErrorsError. Options are the same for every sync but the ID, which is that
// of the sequence's record; newProgress, if set, gives each its own. An ID whose
// record is there already is of a sequence that goes on.
func (e *Engine) RunSequence(ctx context.Context, name string, o RunOptions, newProgress func(sync string) *Progress, each func(Ended)) error {
	seq, err := e.Sequence(name)
	if err != nil {
		return err
	}
	if err := e.Lock("coho run --sequence " + name); err != nil {
		return err
	}
	record, err := e.beginSequence(seq, o)
	if err != nil {
		return err
	}
	o.Sequence, o.SequenceRun = seq.Name, record.run.ID
	e.o.Logger.InfoContext(ctx, "sequence started", "sequence", name, "sequence_run", record.run.ID)
	s := steps{e: e, steps: seq.Steps, stop: seq.OnError != "continue", maxRowErrors: seq.MaxRowErrors, record: record}
	err = s.run(ctx, o, newProgress, each)
	err = errors.Join(err, record.end(e.o.Now(), ctx.Err() != nil, err))
	e.o.Logger.InfoContext(context.WithoutCancel(ctx), "sequence ended", "sequence", name, "sequence_run", record.run.ID, "status", record.run.Status)
	return err
}

// RunSyncs runs syncs one after another in the order given.
func (e *Engine) RunSyncs(ctx context.Context, names []string, o RunOptions, newProgress func(sync string) *Progress, each func(Ended)) error {
	in := make([][]string, len(names))
	for i, n := range names {
		if _, err := e.Sync(n); err != nil {
			return err
		}
		in[i] = []string{n}
	}
	if err := e.Lock("coho run"); err != nil {
		return err
	}
	s := steps{e: e, steps: in}
	return s.run(ctx, o, newProgress, each)
}

// RowErrorsError says that more rows of a run failed for their own fault than
// its sequence takes for granted.
type RowErrorsError struct {
	Sync   string
	Errors int64 // rows that failed or were rejected
	Rows   int64 // rows that the run was to write, those rejected among them
	Limit  models.Limit
}

// Error implements error.
func (e *RowErrorsError) Error() string {
	limit := fmt.Sprint(e.Limit.Count)
	if e.Limit.IsShare {
		limit = fmt.Sprintf("%g%%", e.Limit.Percent)
	}
	return fmt.Sprintf("%d of %d rows failed, more than the sequence's max_row_errors of %s", e.Errors, e.Rows, limit)
}

// TooManyRowErrors compares a run that completed with its sequence's limit, and
// returns a *RowErrorsError where it is past it.
func TooManyRowErrors(limit models.Limit, run *Run) error {
	if run == nil {
		return nil
	}
	failed, rows := rowErrors(run), run.Operations.Total()+run.Rows.Rejected
	if limit.Allows(failed, rows) {
		return nil
	}
	return &RowErrorsError{Sync: run.Sync, Errors: failed, Rows: rows, Limit: limit}
}

// steps runs syncs in order.
type steps struct {
	e            *Engine
	steps        [][]string
	stop         bool // at the first step in which a sync did not complete
	maxRowErrors models.Limit
	record       *sequenceRecord // nil where it is no sequence
}

func (s *steps) run(ctx context.Context, o RunOptions, newProgress func(string) *Progress, each func(Ended)) error {
	do := s.e.Run
	given := o.Do != nil
	if given {
		do, o.Do = o.Do, nil
	}
	var mu sync.Mutex // serializes each, guards errs
	var errs []error
	for at, step := range s.steps {
		if ctx.Err() != nil {
			// What is not begun is not done, though all that was begun is.
			errs = append(errs, fmt.Errorf("%s not begun: %w", strings.Join(step, ", "), destinations.ErrStopped))
			break
		}
		failed := false
		var wg sync.WaitGroup
		for i, name := range step {
			if why, ok := o.LeaveOut[name]; ok {
				s.e.o.Logger.WarnContext(ctx, LeftOut, "sync", name, "why", why)
				s.record.change(at, i, func(p *SequencePart) { p.Status, p.Why = PassedOver, why })
				continue
			}
			opts := o
			opts.ID = "" // each run has its own
			opts.QueuedAt = s.e.o.Now()
			if !given {
				id, err := NewRunID(opts.QueuedAt)
				if err != nil {
					errs = append(errs, err)
					failed = true
					continue
				}
				opts.ID = id
			}
			if newProgress != nil {
				opts.Progress = newProgress(name)
			}
			var before SequencePart // what the record says where a sequence goes on
			s.record.change(at, i, func(p *SequencePart) {
				before = *p
				p.Run, p.Status, p.Error = opts.ID, Running, ""
			})
			wg.Go(func() {
				run, err := do(ctx, name, opts)
				ended := Ended{Sync: name, Run: run, Err: err}
				if err == nil {
					err = TooManyRowErrors(s.maxRowErrors, run)
				}
				s.record.change(at, i, func(p *SequencePart) { p.ended(run, err, before, ctx.Err() != nil) })
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = true
					errs = append(errs, fmt.Errorf("sync %s: %w", name, err))
				}
				each(ended)
			})
		}
		wg.Wait()
		if failed && s.stop {
			break
		}
	}
	return errors.Join(errs...)
}

// ended notes how a part ended. A nil run without an error was passed over: on
// purpose, or because it was over before the sequence went on.
func (p *SequencePart) ended(run *Run, err error, before SequencePart, canceled bool) {
	switch {
	case run != nil:
		p.take(run)
	case err != nil && canceled:
		p.Run, p.Status = "", NotBegun
		return
	case err != nil:
		p.Run, p.Status = "", Failed
	default:
		if p.Status = PassedOver; before.Run != "" && before.Status != Running {
			*p = before
		}
	}
	if err != nil {
		p.Error = firstLine(err.Error())
	}
}
