package salesforce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// maxRequestBytes bounds a Collections request, of which the org takes 50 MB.
const maxRequestBytes = 8 << 20

// parcel is rows that are sent in one Collections call.
type parcel struct {
	rows  []*row
	pause int // how long to wait before, as the number of tries so far; 0: not at all
	tries int // how often the whole request failed for a passing reason

	due time.Time // when the pause is over
}

// parcels are sent one after the other. While some wait for their next try, others
// go.
type parcels struct {
	r     *run
	c     call
	work  []parcel
	later []parcel // that wait out a pause, the one that is due first in front
	rows  int      // of those that wait
}

// add takes parcels in; those that came of one call wait together.
func (q *parcels) add(more ...parcel) {
	var due time.Time
	for _, p := range more {
		if p.pause == 0 {
			q.work = append(q.work, p)
			continue
		}
		if due.IsZero() {
			due = time.Now().Add(backoff(q.r.t.options.RetryPause, p.pause))
		}
		p.due = due
		at, _ := slices.BinarySearchFunc(q.later, p, func(a, b parcel) int { return cmp.Or(a.due.Compare(b.due), -1) })
		q.later = slices.Insert(q.later, at, p)
		q.rows += len(p.rows)
	}
}

// next takes the parcel whose turn it is; wait is how long it is until there is
// one, where there is none yet.
func (q *parcels) next() (p parcel, wait time.Duration, ok bool) {
	if len(q.later) > 0 {
		if wait = time.Until(q.later[0].due); wait <= 0 {
			p = q.later[0]
			q.later = slices.Delete(q.later, 0, 1)
			q.rows -= len(p.rows)
			return p, 0, true
		}
	}
	if len(q.work) == 0 {
		return p, wait, false
	}
	p, q.work = q.work[0], q.work[1:]
	return p, 0, true
}

// send sends what is there until no more than so many rows wait for their next
// try. all is false where the run stopped before, or rows were left.
func (q *parcels) send(ctx context.Context, waiting int) (all bool, err error) {
	all = true
	for len(q.work) > 0 || q.rows > waiting {
		if q.r.stopping() {
			q.r.left.Store(true)
			return false, nil
		}
		p, wait, ok := q.next()
		if !ok {
			if ok, err := q.r.sleep(ctx, wait); !ok {
				return false, err
			}
			continue
		}
		again, done, err := q.r.sendParcel(ctx, q.c, p)
		if err != nil {
			return false, err
		}
		all = all && done
		q.add(again...)
	}
	return all, nil
}

// sendRows sends rows by Collections until each has its outcome, retrying and
// splitting as their errors say. all is false where the run stopped before.
func (r *run) sendRows(ctx context.Context, c call, rows []*row) (all bool, err error) {
	q := &parcels{r: r, c: c}
	q.add(parcel{rows: rows})
	return q.send(ctx, 0)
}

// sendParcel makes one Collections call and settles what it says.
func (r *run) sendParcel(ctx context.Context, c call, p parcel) (again []parcel, all bool, err error) {
	ready, done, err := r.prepare(ctx, c, p.rows)
	if err != nil {
		return nil, false, err
	}
	bodies, again := r.bodies(c, &ready)
	at, err := r.enter(ctx)
	if errors.Is(err, errStopping) {
		r.left.Store(true)
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if r.t.event && len(ready) > 0 {
		n, err := r.t.hourly.take(ctx, r.t, len(ready))
		if err != nil {
			r.leave(at, false)
			return nil, false, err
		}
		if n < len(ready) {
			again = append(again, parcel{rows: slices.Clone(ready[n:])})
			ready, bodies = ready[:n], bodies[:n]
		}
	}
	batch, err := r.begin(ctx, destinations.Batch{API: apiREST, Step: c.String(), Seqs: seqsOf(ready, done)})
	if err != nil {
		r.leave(at, false)
		return nil, false, err
	}
	var results []api.SaveResult
	if len(ready) > 0 {
		for _, x := range ready {
			x.attempts++
		}
		results, err = r.post(ctx, c, ready, bodies)
	}
	s := &settled{}
	for _, d := range done {
		s.add(d.row.op, d.outcome)
	}
	if err != nil {
		r.leave(at, crowdedBy(err))
		more, err := r.refused(ctx, c, batch, parcel{rows: ready, tries: p.tries}, s, err)
		return append(again, more...), err == nil, err
	}
	more, all, err := r.answered(ctx, c, batch, ready, results, s, at)
	return append(again, more...), all, err
}

// seqsOf is what a batch covers: the rows that it sends and those whose
// outcome is known without.
func seqsOf(ready []*row, done []decided) planner.Seqs {
	numbers := make([]int64, 0, len(ready)+len(done))
	for _, x := range ready {
		numbers = append(numbers, x.op.Seq)
	}
	for _, d := range done {
		numbers = append(numbers, d.row.op.Seq)
	}
	slices.Sort(numbers)
	var seqs planner.Seqs
	for _, n := range numbers {
		seqs = seqs.Append(n)
	}
	return seqs
}

// bodies encodes rows, as many as one request may hold; the rest of them comes
// back as a parcel of its own.
func (r *run) bodies(c call, ready *[]*row) (bodies [][]byte, rest []parcel) {
	if c == callDelete {
		return nil, nil
	}
	var text []byte
	ends := make([]int, 0, len(*ready))
	for i, x := range *ready {
		text = r.t.appendJSON(text, c, x)
		if len(text) > maxRequestBytes && i > 0 {
			rest = []parcel{{rows: slices.Clone((*ready)[i:])}}
			*ready = (*ready)[:i]
			break
		}
		if i == 0 {
			text = slices.Grow(text, len(text)*len(*ready)*9/8) // records are much alike
		}
		ends = append(ends, len(text))
	}
	bodies = make([][]byte, len(ends))
	begin := 0
	for i, end := range ends {
		bodies[i] = text[begin:end:end]
		begin = end
	}
	return bodies, rest
}

// post makes the call.
func (r *run) post(ctx context.Context, c call, rows []*row, bodies [][]byte) (results []api.SaveResult, err error) {
	t := r.t
	switch c {
	case callCreate:
		results, err = t.client.CreateRecords(ctx, bodies, t.collectionOptions())
	case callUpdate:
		results, err = t.client.UpdateRecords(ctx, bodies, t.collectionOptions())
	case callUpsert:
		results, err = t.client.UpsertRecords(ctx, t.object.Name, t.match.Name, bodies, t.collectionOptions())
	default:
		ids := make([]string, len(rows))
		for i, x := range rows {
			ids[i] = x.id
		}
		results, err = t.client.DeleteRecords(ctx, ids)
	}
	if err == nil && len(results) != len(rows) {
		// Nobody knows which row such an answer is about.
		err = &api.Error{Op: c.String() + " records", Unknown: true, Message: fmt.Sprintf("%d results for %d records", len(results), len(rows))}
	}
	return results, err
}

// answered settles what the org said of each row. It gives the call's place back.
func (r *run) answered(ctx context.Context, c call, batch destinations.Batch, rows []*row, results []api.SaveResult, s *settled, at place) (again []parcel, all bool, err error) {
	var retry, complete []*row
	var stop error
	busy := false
	for i, x := range rows {
		a := answer{ok: results[i].Success, id: results[i].ID, created: results[i].Created, errors: results[i].Errors}
		o, v := r.judge(ctx, x, a)
		busy = busy || crowded(o.Code, o.Message)
		switch v {
		case settledRow:
			s.add(x.op, o)
		case retryRow:
			retry = append(retry, x)
		case rematchRow:
			x.id, x.rematch = "", true
			x.uncompared()
			again = append(again, parcel{rows: []*row{x}})
		case relookRow:
			x.relooked, x.refs = true, nil
			x.uncompared()
			again = append(again, parcel{rows: []*row{x}})
		case omitRow:
			again = append(again, parcel{rows: []*row{x}})
		case completeRow:
			x.complete, x.exists = true, false
			complete = append(complete, x)
		case stopRun:
			stop = r.stopError(o)
		}
	}
	r.leave(at, busy)
	r.t.tally.retries.Add(int64(len(retry)))
	again = merge(again)
	again = append(again, r.split(retry)...)
	if err := r.settle(ctx, batch.Number, s.ops, s.outcomes, len(complete) == 0); err != nil {
		return nil, false, err
	}
	if stop != nil {
		return nil, false, stop
	}
	if len(complete) == 0 {
		return again, true, nil
	}
	all, err = r.sendComplete(ctx, c, batch, complete)
	return again, all, err
}

// merge makes one parcel of several.
func merge(several []parcel) []parcel {
	if len(several) < 2 {
		return several
	}
	var rows []*row
	for _, p := range several {
		rows = append(rows, p.rows...)
	}
	return []parcel{{rows: rows}}
}

// split makes parcels of rows that failed for a passing reason: smaller ones
// with every try, at last one row each, as rows that fight over a lock get by
// when they meet one at a time. Tries in bulk jobs do not count in that: rows that
// come from there begin with a whole call.
func (r *run) split(rows []*row) []parcel {
	if len(rows) == 0 {
		return nil
	}
	size, tries, calls := len(rows), 0, 0
	for _, x := range rows {
		tries, calls = max(tries, x.attempts), max(calls, x.attempts-x.jobTries)
	}
	if r.t.sync.Write.SplitRetries {
		size = retrySize(calls)
		if tries >= r.maxAttempts()-1 {
			size = 1
		}
	}
	var out []parcel
	for chunk := range slices.Chunk(rows, size) {
		out = append(out, parcel{rows: slices.Clone(chunk), pause: tries})
	}
	return out
}

// retrySize is how many rows go together after so many calls.
func retrySize(tries int) int {
	size := 200
	for ; tries > 0 && size > 1; tries-- {
		size = max(1, size/4)
	}
	return size
}

// sendComplete sends rows whose records the org had to create, though coho
// thought them there, with all that their records hold. The batch stays open
// as a mark until then, so that a crash does not leave half a record.
func (r *run) sendComplete(ctx context.Context, c call, batch destinations.Batch, rows []*row) (all bool, err error) {
	batch.Step = stepComplete
	if err := r.update(ctx, batch); err != nil {
		return false, err
	}
	all, err = r.sendRows(ctx, c, rows)
	if err != nil || !all {
		return false, err
	}
	return true, r.settle(ctx, batch.Number, nil, nil, true)
}

// refused deals with a call that failed as a whole. s holds outcomes that the
// batch has all the same.
func (r *run) refused(ctx context.Context, c call, batch destinations.Batch, p parcel, s *settled, failure error) (again []parcel, err error) {
	var e *api.Error
	isAPI := errors.As(failure, &e)
	var used *api.BudgetError
	if errors.As(failure, &used) {
		return nil, errors.Join(failure, r.settle(ctx, batch.Number, s.ops, s.outcomes, true))
	}
	if ctx.Err() != nil || !isAPI {
		// What became of the batch is found out when the plan is resumed.
		return nil, failure
	}
	switch {
	case r.t.event && e.Unknown:
		p.rows = r.lostEvents(p.rows, s, e)
	case r.t.event && e.Code == codeLimit:
		return nil, errors.Join(r.t.hourly.refusedByLimit(e.Message), r.settle(ctx, batch.Number, s.ops, s.outcomes, true))
	case e.Unknown && c == callCreate:
		found, err := r.landed(ctx, c, p.rows)
		if err != nil {
			return nil, err
		}
		var open []*row
		for _, x := range p.rows {
			if id := found[x]; id != "" {
				s.add(x.op, destinations.Outcome{Result: destinations.Created, ID: id, Attempts: x.attempts})
			} else {
				open = append(open, x)
			}
		}
		p.rows = open
	}
	for _, x := range p.rows {
		if e.Unknown {
			x.doubt = true
			x.uncompared()
		}
	}
	one := len(p.rows) == 1
	if !e.Unknown && one && (e.Class == api.RowFault || e.Class == api.SplitBatch) {
		x := p.rows[0]
		s.add(x.op, refusal(answer{id: x.id, errors: []api.RowError{{Code: e.Code, Message: e.Message, Fields: e.Fields}}}, x.attempts))
		p.rows = nil
	}
	if err := r.settle(ctx, batch.Number, s.ops, s.outcomes, true); err != nil {
		return nil, err
	}
	r.t.tally.retries.Add(int64(len(p.rows)))
	switch {
	case len(p.rows) == 0:
		return nil, nil
	case e.Unknown || e.Class == api.Wait || e.Class == api.RetryRow:
		if p.tries++; p.tries >= r.maxAttempts() {
			return nil, failure
		}
		p.pause = p.tries
		return []parcel{p}, nil
	case e.Class == api.StopRun || e.Class == api.RenewSession:
		return nil, failure
	}
	// One of the rows spoils the request for all: halve until it stands alone.
	half := len(p.rows) / 2
	return []parcel{{rows: slices.Clone(p.rows[:half])}, {rows: slices.Clone(p.rows[half:])}}, nil
}

// landedChecks is how often the org is asked whether rows of a lost call are
// there before they count as never sent: the call may still be at work.
const landedChecks = 5

// landed asks the org which rows of an insert whose answer was lost are there.
// The org commits a call's rows together, so as soon as one is found no other
// is still to come.
func (r *run) landed(ctx context.Context, c call, rows []*row) (map[*row]string, error) {
	by := r.t.key(c)
	values := make([]string, len(rows))
	for i, x := range rows {
		values[i] = r.t.keyOf(c, x)
	}
	landed := make(map[*row]string)
	for check := 1; ; check++ {
		found, err := r.t.find(ctx, r.t.object.Name, by, values)
		if err != nil {
			return nil, err
		}
		for i, x := range rows {
			ids := found[by.fold(values[i])]
			if len(ids) == 0 {
				continue
			}
			if len(ids) > 1 {
				r.t.log.WarnContext(ctx, "several records carry the key of an inserted row", "field", by.Name, "records", len(ids))
			}
			landed[x] = ids[0]
		}
		if len(landed) > 0 || check == landedChecks {
			return landed, nil
		}
		if !sleep(ctx, backoff(r.t.options.RetryPause, check)) {
			return nil, context.Cause(ctx)
		}
	}
}
