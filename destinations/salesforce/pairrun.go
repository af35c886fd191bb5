package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// pairRun is one Apply of a two-object sync: a run for each object, over the same plan
// and journal. Each sees only its own batches.
type pairRun struct {
	p    *Pair
	a    destinations.Application
	runs [sides]*run
}

// Apply implements destinations.Target: a section of a pass after the other is routed
// and then sent, to one object and then to the other.
func (p *Pair) Apply(ctx context.Context, a destinations.Application) error {
	pr := &pairRun{p: p, a: a}
	for side, t := range p.targets {
		mine := a
		mine.Journal = &sideJournal{Journal: a.Journal, object: t.object.Name}
		pr.runs[side] = t.newRun(mine)
		defer pr.runs[side].dropBooks()
	}
	defer p.targets[first].limiter.join(cap(pr.runs[first].calls))()
	p.shareBooks(pr.runs)
	ctx = api.CountCalls(ctx, p.targets[first].calls)
	err := pr.apply(ctx)
	if err == nil || errors.Is(err, destinations.ErrStopped) {
		err = errors.Join(err, pr.runs[leads].closeMarks(ctx))
	}
	return pr.runs[first].conclude(ctx, err)
}

// shareBooks has both runs remember together what is found by the same lookup.
func (p *Pair) shareBooks(runs [sides]*run) {
	for i, book := range runs[first].books {
		if book != nil && runs[leads].books[i] != nil {
			runs[leads].books[i] = book
		}
	}
}

func (pr *pairRun) apply(ctx context.Context) error {
	for _, r := range pr.runs {
		if err := r.recover(ctx); err != nil {
			return err
		}
	}
	for pass := range pr.a.Plan.Passes() {
		for _, r := range pr.runs {
			if err := r.resolve(ctx, pass); err != nil {
				return err
			}
		}
		if err := pr.pass(ctx, pass); err != nil {
			return err
		}
		for _, r := range pr.runs {
			if r.left.Load() {
				return destinations.ErrStopped
			}
		}
	}
	return nil
}

// pass sends a pass, section by section.
func (pr *pairRun) pass(ctx context.Context, pass int) (err error) {
	ops, err := pr.a.Plan.Operations(pass)
	if err != nil {
		return fmt.Errorf("read the plan's pass %d: %w", pass, err)
	}
	defer func() {
		if closed := ops.Close(); err == nil && closed != nil {
			err = fmt.Errorf("close the plan's pass %d: %w", pass, closed)
		}
	}()
	for more := true; more; {
		var seqs planner.Seqs
		if seqs, more, err = pr.route(ctx, ops); err != nil {
			return err
		}
		for side, r := range pr.runs {
			if r.left.Load() {
				return nil
			}
			if !slices.ContainsFunc(r.section.rows, func(to routed) bool { return int(to.side) == side }) {
				continue
			}
			mine, err := pr.a.Plan.Read(seqs)
			if err != nil {
				return fmt.Errorf("read the plan: %w", err)
			}
			if err := r.send(ctx, &sideOperations{Operations: mine, section: r.section, side: side}); err != nil {
				return err
			}
		}
	}
	return nil
}

// route routes operations, as many as are sent together. more is false where the pass
// has no others.
func (pr *pairRun) route(ctx context.Context, ops destinations.Operations) (seqs planner.Seqs, more bool, err error) {
	to := &section{fills: map[int64][]int{}}
	for _, r := range pr.runs {
		r.section = to
	}
	x := &tracer{p: pr.p, runs: pr.runs, owner: pr.a.Owner, taken: map[string]planner.Hash{}}
	var rows []*traced
	for more = true; more && len(to.rows) < sectionRows; {
		if pr.runs[first].stopping() {
			for _, r := range pr.runs {
				r.left.Store(true)
			}
			return seqs, false, nil
		}
		if more = ops.Next(); more {
			rows = append(rows, &traced{op: ops.Operation().Clone()})
		}
		if len(rows) < routeRows && more {
			continue
		}
		if err := x.trace(ctx, rows); err != nil {
			return nil, false, err
		}
		if seqs, err = pr.enter(ctx, to, rows, seqs); err != nil {
			return nil, false, err
		}
		rows = rows[:0]
	}
	if err := ops.Err(); err != nil {
		return nil, false, fmt.Errorf("read the plan: %w", err)
	}
	return seqs, more, nil
}

// enter takes routed rows into a section, and settles those of which the outcome is
// known already.
func (pr *pairRun) enter(ctx context.Context, to *section, rows []*traced, seqs planner.Seqs) (planner.Seqs, error) {
	var done [sides]settled
	for _, r := range rows {
		if r.done == nil {
			at := routed{seq: r.op.Seq, side: uint8(r.side), call: callCreate, complete: r.fresh && r.op.Known}
			if r.id != "" {
				at.call = callUpdate
				if r.op.Kind == planner.Archive {
					at.call = callDelete
				}
				copy(at.id[:], r.id)
			}
			to.rows = append(to.rows, at)
			if pr.sends(r, at.call) {
				seqs = seqs.Append(r.op.Seq)
				continue
			}
			to.rows = to.rows[:len(to.rows)-1]
			r.done = &destinations.Outcome{Result: destinations.Skipped, Same: true, ID: r.id}
		}
		done[r.side].add(r.op, *r.done)
	}
	for side := range done {
		d := &done[side]
		if d.len() == 0 {
			continue
		}
		var settling planner.Seqs
		for _, op := range d.ops {
			settling = settling.Append(op.Seq)
		}
		run := pr.runs[side]
		batch, err := run.begin(ctx, destinations.Batch{API: apiREST, Step: callUpdate.String(), Seqs: settling})
		if err != nil {
			return nil, err
		}
		if err := run.settle(ctx, batch.Number, d.ops, d.outcomes, true); err != nil {
			return nil, err
		}
	}
	return seqs, nil
}

// sends reports whether a row has anything to send: what changed may be a field of
// the object that does not have its record.
func (pr *pairRun) sends(r *traced, c call) bool {
	if c != callUpdate {
		return true
	}
	run := pr.runs[r.side]
	x := run.newRow(r.op, c)
	for i := range r.op.Assignments {
		if run.t.sends(&x, &r.op.Assignments[i]) {
			return true
		}
	}
	return false
}

// sideOperations are the operations of one object.
type sideOperations struct {
	destinations.Operations
	section *section
	side    int
}

// Next implements destinations.Operations.
func (s *sideOperations) Next() bool {
	for s.Operations.Next() {
		if to := s.section.of(s.Operation().Seq); to != nil && int(to.side) == s.side {
			return true
		}
	}
	return false
}

// sideJournal is the journal as the run of one object sees it: a batch's API says
// which object it is of.
type sideJournal struct {
	destinations.Journal
	object string
}

func (j *sideJournal) named(b destinations.Batch) destinations.Batch {
	b.API += "/" + j.object
	return b
}

// Begin implements destinations.Journal.
func (j *sideJournal) Begin(ctx context.Context, b destinations.Batch) (uint64, error) {
	return j.Journal.Begin(ctx, j.named(b))
}

// Update implements destinations.Journal.
func (j *sideJournal) Update(ctx context.Context, b destinations.Batch) error {
	return j.Journal.Update(ctx, j.named(b))
}

// Open implements destinations.Journal.
func (j *sideJournal) Open() ([]destinations.Batch, error) {
	all, err := j.Journal.Open()
	var mine []destinations.Batch
	for _, b := range all {
		if name, ok := strings.CutSuffix(b.API, "/"+j.object); ok {
			b.API = name
			mine = append(mine, b)
		}
	}
	return mine, err
}
