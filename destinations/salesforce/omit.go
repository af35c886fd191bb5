package salesforce

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"coho/destinations"
	"coho/planner"
)

// stepOmit marks a batch that is none: its rows are sent without the reference
// that the rest of the step names, whatever batch they are in. It is recorded
// before they are sent and stays open as long as one of them may be in flight, so
// that no crash makes the snapshot claim a reference that was not sent.
const stepOmit = "omit "

// markOmits records which rows are sent without which references.
func (r *run) markOmits(ctx context.Context, rows []*row) error {
	var fresh map[int][]int64
	r.mu.Lock()
	for _, x := range rows {
		for _, i := range x.omit {
			if set := r.omitted[i]; set == nil || !set.Has(x.op.Seq) {
				if fresh == nil {
					fresh = map[int][]int64{}
				}
				fresh[i] = append(fresh[i], x.op.Seq)
			}
		}
	}
	r.mu.Unlock()
	for i, list := range fresh {
		slices.Sort(list)
		var seqs planner.Seqs
		for _, n := range list {
			seqs = seqs.Append(n)
		}
		if err := r.markOmitted(ctx, i, seqs); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) markOmitted(ctx context.Context, column int, seqs planner.Seqs) error {
	if seqs.Len() == 0 {
		return nil
	}
	b, err := r.begin(ctx, destinations.Batch{API: apiREST, Step: stepOmit + r.t.columns[column].Name, Seqs: seqs})
	if err != nil {
		return err
	}
	r.takeMark(column, b)
	return nil
}

// takeMark takes over a mark, of this run or one before.
func (r *run) takeMark(column int, b destinations.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.omitted == nil {
		r.omitted = map[int]*planner.SettledSet{}
	}
	if r.omitted[column] == nil {
		r.omitted[column] = &planner.SettledSet{}
	}
	r.omitted[column].Add(b.Seqs)
	r.omitMarks = append(r.omitMarks, b.Number)
}

// recoverMarks takes over the marks that an earlier run left open, and returns
// the other batches. They come first: what became of those depends on them.
func (r *run) recoverMarks(open []destinations.Batch) (rest []destinations.Batch, err error) {
	for _, b := range open {
		name, ok := strings.CutPrefix(b.Step, stepOmit)
		if !ok {
			rest = append(rest, b)
			continue
		}
		i := slices.IndexFunc(r.t.columns, func(c *column) bool { return c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("batch %d was sent without field %s, which the sync does not map", b.Number, name)
		}
		r.takeMark(i, b)
	}
	return rest, nil
}

// closeMarks closes the marks, once nothing is in flight.
func (r *run) closeMarks(ctx context.Context) error {
	r.mu.Lock()
	marks := r.omitMarks
	r.omitMarks = nil
	r.mu.Unlock()
	for _, b := range marks {
		if err := r.settle(ctx, b, nil, nil, true); err != nil {
			return err
		}
	}
	return nil
}

// omits is which references an operation is sent without. The caller holds r.mu.
func (r *run) omits(seq int64) (columns []int) {
	for i, set := range r.omitted {
		if set.Has(seq) {
			columns = append(columns, i)
		}
	}
	slices.Sort(columns)
	return columns
}

// tellOmitted adds to outcomes what their operations were sent without.
func (r *run) tellOmitted(ops []*planner.Operation, outcomes []destinations.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.omitted) == 0 {
		return
	}
	for i, op := range ops {
		o := &outcomes[i]
		if o.Result != destinations.Created && o.Result != destinations.Updated {
			continue
		}
		if o.Omitted = r.omits(op.Seq); len(o.Omitted) == 0 {
			continue
		}
		o.Code, o.Message = codeReferenceNotFound, cut("sent without "+r.t.missing(op, o.Omitted))
		for _, c := range o.Omitted {
			o.Fields = append(o.Fields, r.t.columns[c].Name)
		}
	}
}
