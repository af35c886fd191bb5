package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// Where only_sync_different compares very many rows, reading their records by key
// takes a call for every few hundred of them. A query job of Bulk API 2.0 reads all
// records of an object in a handful of calls: it goes before the first pass where
// that is cheaper, and the records wait in temporary files. Rows that are sent again
// are compared with what the org holds then, by calls of their own. Where the job
// comes to nothing, so are all rows.

const (
	// aheadPage is how many records a call gets of a query job's result.
	aheadPage = 100_000

	// aheadShare is how many records the object has at most for each row that is
	// compared: an object of fifty million is not read for a hundred thousand.
	aheadShare = 4

	// abortPatience is how long a job that is not wanted any more may take to be
	// told so.
	abortPatience = 10 * time.Second
)

// aheadCalls is what reading all records of the sync's object costs: the job, a
// look at its state and its results.
func (t *Target) aheadCalls() int64 { return 2 + max(1, ceilDiv(t.records, aheadPage)) }

// countRecords asks how many records the sync's object has, as far as the org says.
func (t *Target) countRecords(ctx context.Context) error {
	if m := t.sync.Mode; !t.compares(callUpdate) || m != models.ModeUpsert && m != models.ModeUpdate {
		return nil
	}
	n, err := t.client.RecordCount(ctx, t.object.Name)
	var e *api.Error
	switch {
	case err == nil:
		t.records = n
	case ctx.Err() != nil || !errors.As(err, &e) || e.Class == api.StopRun && callsUsedUp(e):
		return err
	default:
		t.log.DebugContext(ctx, "the org does not say how many records there are", "error", err)
	}
	return nil
}

// dropAhead forgets the records.
func (r *run) dropAhead() {
	if r.ahead == nil {
		return
	}
	if err := r.ahead.discard(); err != nil {
		r.t.log.Warn("files of records that were read", "error", err)
	}
}

// readsAhead decides whether the records of so many rows are read by a query job,
// where reading them by key takes so many calls.
func (t *Target) readsAhead(r route, rows, calls int64) bool {
	if t.records < 0 || t.records > aheadShare*rows {
		return false
	}
	return calls-t.aheadCalls() > r.spare()
}

// ahead is the records that a query job has read.
type ahead struct {
	*recordBook
	names map[string]int // the values' places, by what was selected
	set   fieldSet       // columns that were read
}

// storedRecord is one of them.
type storedRecord struct {
	values []string
	names  map[string]int
}

// Get gives a field's text as api.Record does.
func (r storedRecord) Get(path string) (text string, null bool) {
	i, ok := r.names[path]
	if !ok || i >= len(r.values) || r.values[i] == "" {
		return "", true
	}
	return r.values[i], false
}

// The keys of records, by their Ids and by their match values.
func idKey(id string) string {
	if full, ok := canonicalID(id); ok {
		id = full
	}
	return "i" + id
}

func (t *Target) matchKey(value string) string { return "m" + t.match.fold(value) }

// readAhead reads the org's records before the first pass, where that pays.
func (r *run) readAhead(ctx context.Context) error {
	t := r.t
	if !t.compares(callUpdate) || t.records < 0 || r.stopping() {
		return nil
	}
	sum, wanted, err := r.sumCompared()
	if err != nil {
		return err
	}
	rows, _ := t.comparedIn(sum)
	route := t.route()
	route.lanes = r.apart() // as Estimate has it, for the calls that are saved
	if !t.readsAhead(route, rows, t.compareCalls(route, sum)) {
		return nil
	}
	for {
		err := r.readAll(ctx, wanted)
		var e *api.Error
		var used *api.BudgetError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.stopping():
			return nil
		case errors.As(err, &used) || errors.As(err, &e) && e.Class == api.StopRun && callsUsedUp(e):
			return err
		case r.blind(ctx, err):
		default:
			t.log.WarnContext(ctx, "records are read by key, as a query job came to nothing", "error", err)
			return nil
		}
	}
}

// sumCompared sums up what a plan has left, for what reading its records costs.
func (r *run) sumCompared() (sum planner.Summary, wanted fieldSet, err error) {
	t := r.t
	sum.Fields = map[string]int64{}
	counts := make([]int64, len(t.columns))
	var keys int64
	for pass := range r.plan.Passes() {
		ops, err := r.plan.Operations(pass)
		if err != nil {
			return sum, nil, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
		n := int64(0)
		for ops.Next() {
			op := ops.Operation()
			n++
			sum.Operations[op.Kind]++
			if op.Known {
				sum.Known++
			}
			keys += int64(len(op.Match))
			for i := range op.Assignments {
				if a := &op.Assignments[i]; a.Send == planner.Always {
					counts[a.Field]++
					sum.Bytes += int64(len(a.Cell.Text))
				}
			}
		}
		sum.PassOperations = append(sum.PassOperations, n)
		if err := errors.Join(ops.Err(), ops.Close()); err != nil {
			return sum, nil, fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
	}
	var all int64
	for _, n := range sum.PassOperations {
		all += n
	}
	if all == 0 {
		return sum, nil, nil
	}
	sum.Samples = []planner.Sample{{Key: []string{strings.Repeat("k", int(keys/all))}}}
	for i, n := range counts {
		if col := t.columns[i]; n > 0 && !col.createOnly && !col.virtual() {
			sum.Fields[col.Name] = n
			wanted.add(i)
		}
	}
	return sum, wanted, nil
}

// readAll reads all records of the sync's object.
func (r *run) readAll(ctx context.Context, wanted fieldSet) (err error) {
	t := r.t
	r.mu.Lock()
	var columns []int
	for i := range t.columns {
		if wanted.has(i) && !r.unread[i] {
			columns = append(columns, i)
		}
	}
	r.mu.Unlock()
	names := t.names(t.match, columns)
	soql := "SELECT " + strings.Join(names, ", ") + " FROM " + t.object.Name
	if t.sync.Mode == models.ModeUpsert {
		soql += " WHERE " + t.match.Name + " != null"
	}
	job, err := t.client.CreateQueryJob(ctx, soql)
	if err != nil {
		return fmt.Errorf("create a query job: %w", err)
	}
	t.jobs.Add(1)
	if job, err = r.awaitQuery(ctx, job.ID); err != nil {
		return err
	}
	if job.State != api.StateJobComplete {
		return fmt.Errorf("query job %s ended as %s: %s", job.ID, job.State, job.ErrorMessage)
	}
	book, err := newRecordBook(t.options.SpoolDir)
	if err != nil {
		return err
	}
	if err := r.fill(ctx, book, job.ID, names); err != nil {
		return errors.Join(err, book.discard())
	}
	r.ahead = &ahead{recordBook: book, names: make(map[string]int, len(names))}
	for i, name := range names {
		r.ahead.names[name] = i
	}
	for _, i := range columns {
		r.ahead.set.add(i)
	}
	return nil
}

// awaitQuery waits until a query job has ended. One that is not wanted any more is
// aborted.
func (r *run) awaitQuery(ctx context.Context, id string) (api.JobInfo, error) {
	waiting, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-r.stop:
			cancel(errStopping)
		case <-done:
		}
	}()
	poll := r.t.options.Poll
	poll.Rows = r.t.records
	job, err := r.t.client.WaitQueryJob(waiting, id, poll)
	stopped := waiting.Err() != nil
	close(done)
	<-watched
	cancel(nil)
	if err != nil && stopped {
		last, end := context.WithTimeout(context.WithoutCancel(ctx), abortPatience)
		defer end()
		if _, gone := r.t.client.AbortQueryJob(last, id); gone != nil {
			r.t.log.WarnContext(ctx, "a query job runs on that nobody waits for", "job", id, "error", gone)
		}
	}
	if err != nil {
		return job, fmt.Errorf("wait for query job %s: %w", id, err)
	}
	return job, nil
}

// fill reads a query job's result into a book.
func (r *run) fill(ctx context.Context, book *recordBook, id string, names []string) error {
	t := r.t
	results, err := t.client.QueryResults(ctx, id, aheadPage)
	if err != nil {
		return fmt.Errorf("read what query job %s found: %w", id, err)
	}
	defer results.Close()
	places := make([]int, len(names))
	for i, name := range names {
		places[i] = slices.IndexFunc(results.Header(), func(h string) bool { return strings.EqualFold(h, name) })
		if places[i] < 0 && len(results.Header()) > 0 {
			return fmt.Errorf("the result of query job %s has no column %s", id, name)
		}
	}
	byMatch := t.match != nil && !t.match.isID()
	values, keys := make([]string, len(names)), make([]string, 0, 2)
	for results.Next() {
		row := results.Row()
		for i, at := range places {
			values[i] = row[at]
		}
		keys = append(keys[:0], idKey(values[0]))
		if byMatch && values[1] != "" { // names has the match field second
			keys = append(keys, t.matchKey(values[1]))
		}
		if err := book.add(keys, values); err != nil {
			return err
		}
	}
	if err := results.Err(); err != nil {
		return fmt.Errorf("read what query job %s found: %w", id, err)
	}
	return book.seal()
}

// takeAhead compares rows with records that were read ahead. It returns the others.
func (r *run) takeAhead(c call, rows []*row) (left []*row, err error) {
	if r.ahead == nil {
		return rows, nil
	}
	g := &reading{t: r.t, set: r.ahead.set, first: true}
	for _, x := range rows {
		if x.attempts > 0 || x.doubt || x.rematch || x.relooked {
			left = append(left, x) // it may hold more by now
			continue
		}
		key := idKey(x.id)
		if c == callUpsert || x.id == "" {
			if r.t.match == nil || x.op.Match == "" {
				left = append(left, x)
				continue
			}
			key = r.t.matchKey(x.op.Match)
		}
		values, n, err := r.ahead.find(key)
		if err != nil {
			return nil, err
		}
		switch n {
		case 1:
			g.take(x, storedRecord{values, r.ahead.names})
		case 2:
			left = append(left, x) // how many there are is asked
		}
	}
	return left, nil
}
