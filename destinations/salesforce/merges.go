package salesforce

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// Merging: an operation that gives the column of merges a value is not written but
// merged, by the SOAP API, into the record whose match value that is. What a merge
// has done is seen in the org: its victim is live no more. So a call whose answer
// was lost, or a batch of a run that died, is simply begun again: records are looked
// for before each call, and only those that are there are named in it.

const (
	apiSOAP   = "soap"
	stepMerge = "merge"

	// mergeRows is how many operations go together. They make as many requests
	// at most, if each is of a group of its own.
	mergeRows = api.MaxMerges
)

// mergeable are the objects that merge() takes (SOAP API Developer Guide,
// "merge()").
var mergeable = []string{"Account", "Contact", "Individual", "Lead"}

// checkMerge checks a sync that merges, and makes its column.
func (c *checker) checkMerge(m *models.Field, match *field) *column {
	problem := func(format string, args ...any) { c.problem(m.Pos, "", "merge: "+format, args...) }
	if !slices.Contains(mergeable, c.object.Name) {
		problem("%s records cannot be merged; the org merges %s", c.object.Name, strings.Join(mergeable, ", "))
	}
	if !c.object.Deletable || !c.object.Updateable {
		problem("%s records must be updateable and deletable by this user", c.object.Name)
	}
	switch {
	case match == nil:
		return nil // that is a problem already, or the config's
	case match.class != classText && match.class != classInt && match.class != classNumber && match.class != classEmail:
		problem("records cannot be merged by match field %s of type %s", match.Name, match.Type)
	}
	c.warn("merge: parallelism is 1, whatever write.parallelism says")
	f := newField(&api.Field{Name: m.Name, Type: "string", Nillable: true, Updateable: true, Createable: true})
	return &column{field: f, header: m.Name, merge: true, keep: true}
}

// mergeTo reads a value of the merge column: the match value of the master.
func (t *Target) mergeTo(v models.Value) (models.Cell, error) {
	if v.IsNull() {
		return models.NullCell, nil
	}
	text := v.Text()
	if rest, ok := strings.CutPrefix(text, string(models.MergeBad)); ok {
		masters, group, _ := strings.Cut(rest, ":")
		message := fmt.Sprintf("group %s has no master: none of its rows is without another to be merged into", show(group))
		if g := t.sync.Model.Groups; g != nil && g.Master != "" {
			message = fmt.Sprintf("no row has match value %s (column %s) and is no child itself, so that rows cannot be merged into it", show(group), g.Master)
		}
		if masters != "0" {
			message = fmt.Sprintf("group %s has %s masters: one of its rows, and no more, must be no child", show(group), masters)
		}
		return models.Cell{}, &planner.GroupError{Message: message}
	}
	text, ok := strings.CutPrefix(text, string(models.MergeInto))
	if !ok {
		return models.Cell{}, fmt.Errorf("the warehouse's column %s has a value of another form", models.MergeColumn)
	}
	cell, err := t.match.convert(models.TextValue(text))
	if err != nil {
		return cell, fmt.Errorf("the master's match value: %w", err)
	}
	cell.Text = trim(cell.Text)
	return cell, nil
}

// mergedInto is the match value of the record that an operation merges its own
// into, "" for one that does not.
func (t *Target) mergedInto(op *planner.Operation) string {
	if t.mergeColumn < 0 {
		return ""
	}
	for i := range op.Assignments {
		if a := &op.Assignments[i]; a.Field == t.mergeColumn && !a.Cell.Null {
			return a.Cell.Text
		}
	}
	return ""
}

// victim is an operation whose record is to be merged.
type victim struct {
	op       *planner.Operation
	into     string // the master's match value
	master   string // its Id
	id       string // the record's own
	doubt    bool   // it was in a call, and what became of that is not known
	alone    bool   // it goes in a request of its own: another of its request may be at fault
	attempts int
	looks    int // how often the org said that it was gone
}

// merge merges the records of operations, one call after another.
func (r *run) merge(ctx context.Context, rows []*victim) error {
	for failed, held := 0, 0; len(rows) > 0; {
		if r.stopping() {
			r.left.Store(true)
			return nil
		}
		if tries := failed + held; tries > 0 {
			if ok, err := r.pause(ctx, tries); !ok {
				return err
			}
		}
		again, how, err := r.mergeOnce(ctx, rows)
		if err != nil {
			return err
		}
		switch how {
		case mergeFailed:
			if failed++; failed >= r.maxAttempts() {
				return fmt.Errorf("merge records: the org does not answer; run again, the rest stays planned")
			}
		case mergeHeld:
			failed, held = 0, held+1 // a row's own attempts end this
		default:
			failed, held = 0, 0
		}
		rows = again
	}
	return nil
}

// answered says how a call of merge ended.
type answered uint8

const (
	mergeDone   answered = iota
	mergeHeld            // rows of it failed for a passing reason, such as a lock
	mergeFailed          // all of it did
)

// mergeOnce makes one call, and returns the rows that are still to be merged.
func (r *run) mergeOnce(ctx context.Context, rows []*victim) (again []*victim, how answered, err error) {
	s := &settled{}
	ready, err := r.findVictims(ctx, rows, s)
	if err != nil {
		return nil, mergeFailed, err
	}
	at, err := r.enter(ctx)
	if errors.Is(err, errStopping) {
		r.left.Store(true)
		return nil, mergeDone, nil
	}
	if err != nil {
		return nil, mergeFailed, err
	}
	var seqs planner.Seqs
	slices.SortFunc(rows, func(a, b *victim) int { return int(a.op.Seq - b.op.Seq) })
	for _, x := range rows {
		seqs = seqs.Append(x.op.Seq)
	}
	batch, err := r.begin(ctx, destinations.Batch{API: apiSOAP, Step: stepMerge, Seqs: seqs})
	if err != nil || len(ready) == 0 {
		r.leave(at, false)
		if err == nil {
			err = r.settle(ctx, batch.Number, s.ops, s.outcomes, true)
		}
		return nil, mergeDone, err
	}
	requests, parts := mergeRequests(ready)
	for _, x := range ready {
		x.attempts++
	}
	results, failure := r.t.client.Merge(ctx, r.t.object.Name, requests, r.t.collectionOptions())
	r.leave(at, failure != nil && crowdedBy(failure))
	if failure != nil {
		return r.mergeRefused(ctx, batch, ready, s, failure)
	}
	var stop error
	for i, result := range results {
		for _, x := range parts[i] {
			o := destinations.Outcome{Result: destinations.Deleted, Absorbed: true, ID: x.id, Attempts: x.attempts}
			if !result.Success {
				o = refusal(answer{id: x.id, errors: result.Errors}, x.attempts)
				switch r.judgeMerge(x, o, len(parts[i])) {
				case retryRow:
					again, how = append(again, x), mergeHeld
					continue
				case relookRow:
					again = append(again, x)
					continue
				case stopRun:
					stop = r.stopError(o)
					continue
				}
			}
			s.add(x.op, o)
		}
	}
	if err := r.settle(ctx, batch.Number, s.ops, s.outcomes, true); err != nil {
		return nil, mergeFailed, err
	}
	return again, how, stop
}

// maxLooks is how often a victim that the org says is gone is looked for again.
const maxLooks = 2

// judgeMerge says what is to be done about a row whose request, of so many victims,
// was refused: retryRow after a pause, relookRow at once.
func (r *run) judgeMerge(x *victim, o destinations.Outcome, victims int) verdict {
	// The call may have come to the org twice.
	x.doubt = x.doubt || o.Code == "ENTITY_IS_DELETED"
	switch api.Classify(o.Code, o.Message) {
	case api.StopRun:
		return stopRun
	case api.RetryRow, api.SplitBatch, api.Wait, api.RenewSession:
		r.t.tally.retries.Add(1)
		x.alone = true
		if x.attempts < r.maxAttempts() {
			return retryRow
		}
		return settledRow
	}
	switch {
	case victims > 1:
		x.alone = true // the other one may be at fault
		return relookRow
	case o.Code == "ENTITY_IS_DELETED" && x.looks < maxLooks:
		// A call whose answer was lost may have ended after the records were
		// looked for.
		x.looks++
		return relookRow
	}
	return settledRow
}

// mergeRefused deals with a call that failed as a whole. s has the outcomes of rows
// that it was not about.
func (r *run) mergeRefused(ctx context.Context, batch destinations.Batch, rows []*victim, s *settled, failure error) (again []*victim, how answered, err error) {
	var e *api.Error
	var used *api.BudgetError
	if errors.As(failure, &used) {
		return nil, mergeFailed, errors.Join(failure, r.settle(ctx, batch.Number, s.ops, s.outcomes, true))
	}
	if ctx.Err() != nil || !errors.As(failure, &e) {
		return nil, mergeFailed, failure // the batch stays open, and is looked at when the plan is resumed
	}
	for _, x := range rows {
		x.doubt = x.doubt || e.Unknown
	}
	if err := r.settle(ctx, batch.Number, s.ops, s.outcomes, true); err != nil {
		return nil, mergeFailed, err
	}
	// A fault names a call that was refused, save one that says nothing.
	known := e.Code != "" && e.Code != "UNKNOWN_EXCEPTION"
	if e.Class == api.StopRun || known && e.Class == api.RowFault || e.Class == api.RenewSession {
		return nil, mergeFailed, failure
	}
	return rows, mergeFailed, nil
}

// findVictims finds the records of rows and those that they are merged into. Rows
// with nothing to merge, and those that cannot be, are added to s.
func (r *run) findVictims(ctx context.Context, rows []*victim, s *settled) (ready []*victim, err error) {
	t := r.t
	matches := make([]string, 0, 2*len(rows))
	var ids []string
	for _, x := range rows {
		matches = append(matches, x.into, x.op.Match)
		if x.op.ID != "" {
			ids = append(ids, x.op.ID)
		}
	}
	found, err := t.find(ctx, t.object.Name, t.match, matches)
	if err != nil {
		return nil, err
	}
	live := map[string][]string{}
	if len(ids) > 0 {
		if live, err = t.find(ctx, t.object.Name, t.idField, ids); err != nil {
			return nil, err
		}
	}
	var doubtful []*victim
	for _, x := range rows {
		masters, own := found[t.match.fold(x.into)], found[t.match.fold(x.op.Match)]
		if x.op.ID != "" && len(live[t.idField.fold(x.op.ID)]) > 0 {
			own = []string{x.op.ID}
		}
		o := destinations.Outcome{Result: destinations.Failed, Attempts: x.attempts, Fields: []string{t.match.Name}}
		switch {
		case len(own) == 0 && x.doubt:
			doubtful = append(doubtful, x)
			continue
		case len(own) == 0:
			s.add(x.op, destinations.Outcome{Result: destinations.Skipped, Absorbed: true, ID: x.op.ID, Attempts: x.attempts})
			continue
		case len(masters) == 0:
			o.Code, o.Message = codeNotFound, fmt.Sprintf("no %s record has %s %s, into which this row's is to be merged", t.object.Name, t.match.Name, show(x.into))
		case len(masters) > 1:
			o.Code, o.Message = codeMultipleMatches, fmt.Sprintf("%d %s records have %s %s, into which this row's is to be merged", len(masters), t.object.Name, t.match.Name, show(x.into))
		case len(own) > 1:
			o.Code, o.Message = codeMultipleMatches, fmt.Sprintf("%d %s records have %s %s", len(own), t.object.Name, t.match.Name, show(x.op.Match))
		case own[0] == masters[0]:
			s.add(x.op, destinations.Outcome{Result: destinations.Skipped, Absorbed: true, Attempts: x.attempts})
			continue
		default:
			x.master, x.id = masters[0], own[0]
			ready = append(ready, x)
			continue
		}
		s.add(x.op, o)
	}
	if err := r.findMerged(ctx, doubtful, s); err != nil {
		return nil, err
	}
	return ready, nil
}

// findMerged says of rows that were in a call of which nothing is known, and whose
// records are live no more, whether those were merged, by it, or deleted by somebody
// else: a record that was merged stays in the recycle bin with its MasterRecordId
// (Object Reference, "Account").
func (r *run) findMerged(ctx context.Context, rows []*victim, s *settled) error {
	t := r.t
	var values []string
	for _, x := range rows {
		values = append(values, x.op.Match)
	}
	_, queries := search{object: t.object.Name, by: t.match, filter: " AND IsDeleted = true AND MasterRecordId != null"}.queries(values)
	merged := map[string]bool{}
	for _, soql := range queries {
		result, err := t.client.QueryAll(ctx, soql)
		if err != nil {
			return fmt.Errorf("find %s records that were merged: %w", t.object.Name, err)
		}
		for result.Next() {
			value, _ := result.Record().Get(t.match.Name)
			merged[t.match.fold(value)] = true
		}
		if err := errors.Join(result.Err(), result.Close()); err != nil {
			return fmt.Errorf("find %s records that were merged: %w", t.object.Name, err)
		}
	}
	for _, x := range rows {
		o := destinations.Outcome{Result: destinations.Skipped, Absorbed: true, ID: x.op.ID, Attempts: x.attempts}
		if merged[t.match.fold(x.op.Match)] {
			o.Result = destinations.Deleted
		}
		s.add(x.op, o)
	}
	return nil
}

// mergeRequests makes requests of rows, by their masters, and says which are in
// each.
func mergeRequests(rows []*victim) (requests []api.MergeRequest, parts [][]*victim) {
	open := map[string]int{} // by master: the request that still has room
	for _, x := range rows {
		i, ok := open[x.master]
		if !ok || x.alone {
			i = len(requests)
			requests, parts = append(requests, api.MergeRequest{Master: x.master}), append(parts, nil)
			if !x.alone {
				open[x.master] = i
			}
		}
		requests[i].Victims, parts[i] = append(requests[i].Victims, x.id), append(parts[i], x)
		if len(parts[i]) == api.MaxVictims {
			delete(open, x.master)
		}
	}
	return requests, parts
}

// mergeCalls is what merging n records costs where nothing goes wrong: the calls of
// merge, and before each the queries for masters and victims by their match values
// and, where coho wrote such records before, for those that it knows by Id. masters
// counts the records merged into.
func mergeCalls(n, known int64, masters planner.Values) int64 {
	const idBytes = 18
	calls := func(rows int64) int64 {
		if rows == 0 {
			return 0
		}
		// Rows of one master may lie anywhere among the others.
		distinct := float64(masters.Distinct)
		spread := distinct * (1 - math.Pow(1-float64(rows)/float64(n), float64(n)/max(distinct, 1)))
		values := rows + int64(math.Ceil(spread))
		queries := lookUps(values, values, masters.Bytes)
		if known > 0 {
			queries += lookUps(min(rows, known), rows, idBytes)
		}
		return queries + 1
	}
	return n/mergeRows*calls(mergeRows) + calls(n%mergeRows)
}

// withoutMerges takes the operations that merge out of a plan's counts: their
// masters come first, so they are of the last passes.
func withoutMerges(s planner.Summary, n int64) planner.Summary {
	s.PassOperations = slices.Clone(s.PassOperations)
	for i := len(s.PassOperations) - 1; i >= 0 && n > 0; i-- {
		take := min(n, s.PassOperations[i])
		s.PassOperations[i] -= take
		n -= take
	}
	return s
}
