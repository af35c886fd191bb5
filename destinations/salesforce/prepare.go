package salesforce

import (
	"context"
	"fmt"

	"coho/destinations"
	"coho/models"
	"coho/planner"
)

// The codes of outcomes that are coho's own. All others are the org's.
const (
	codeNotFound          = "NOT_FOUND"
	codeMultipleMatches   = "MULTIPLE_MATCHES"
	codeReferenceNotFound = "REFERENCE_NOT_FOUND"
	codeUnprocessed       = "UNPROCESSED"
	codeUnsendable        = "NOT_SENDABLE_IN_CSV"
)

// decided is a row whose outcome is known.
type decided struct {
	row     *row
	outcome destinations.Outcome
}

// prepare finds out by query what rows need before they can be sent: the Ids
// of records to update or delete, whether records exist where a row has
// create-only fields, and the Ids of references that the org does not resolve
// itself. Rows that cannot be sent come back decided; which ones are to be sent
// without a reference is on record.
func (r *run) prepare(ctx context.Context, c call, rows []*row) (ready []*row, done []decided, err error) {
	t := r.t
	if t.compares(c) {
		return r.prepareDifferent(ctx, c, rows)
	}
	ready = rows
	if c == callUpdate || c == callDelete {
		if ready, done, err = t.findRecords(ctx, ready); err != nil {
			return nil, nil, err
		}
	}
	if c == callUpsert {
		if err := t.findRecreated(ctx, ready); err != nil {
			return nil, nil, err
		}
	}
	if c == callUpsert && t.hasCreateOnly {
		if err := t.findExisting(ctx, ready); err != nil {
			return nil, nil, err
		}
	}
	ready, failed, err := r.findAllReferences(ctx, c, ready)
	if err != nil {
		return nil, nil, err
	}
	ready, idle := t.passIdle(ready)
	if err := r.markOmits(ctx, ready); err != nil {
		return nil, nil, err
	}
	return ready, append(append(done, failed...), idle...), nil
}

// findAllReferences exchanges the cells of every lookup that the org does not
// resolve itself for Ids.
func (r *run) findAllReferences(ctx context.Context, c call, rows []*row) (ready []*row, done []decided, err error) {
	ready = rows
	for i, col := range r.t.columns {
		if !col.byQuery || c == callDelete {
			continue
		}
		var failed []decided
		if ready, failed, err = r.findReferences(ctx, i, ready); err != nil {
			return nil, nil, err
		}
		done = append(done, failed...)
	}
	return ready, done, nil
}

// findRecords fills in the Ids of rows by their match values.
func (t *Target) findRecords(ctx context.Context, rows []*row) (ready []*row, done []decided, err error) {
	var values []string
	open := false
	for _, r := range rows {
		if r.id == "" && t.match != nil && t.match.isID() {
			r.id = r.op.Match
		}
		if r.id == "" && !r.compared {
			values = append(values, r.op.Match)
		}
		open = open || r.id == ""
	}
	if !open {
		return rows, nil, nil
	}
	found := map[string][]string{}
	if t.match != nil && len(values) > 0 {
		if found, err = t.find(ctx, t.object.Name, t.match, values); err != nil {
			return nil, nil, err
		}
	}
	ready = make([]*row, 0, len(rows))
	for _, r := range rows {
		if r.id != "" {
			ready = append(ready, r)
			continue
		}
		ids := r.found
		if !r.compared && r.op.Match != "" {
			ids = found[t.match.fold(r.op.Match)]
		}
		switch len(ids) {
		case 0:
			done = append(done, decided{r, t.absent(r)})
		case 1:
			r.id = ids[0]
			ready = append(ready, r)
		default:
			done = append(done, decided{r, destinations.Outcome{
				Result: destinations.Failed, Code: codeMultipleMatches, Attempts: r.attempts,
				Message: fmt.Sprintf("%d %s records have %s %s", len(ids), t.object.Name, t.match.Name, show(r.op.Match)),
				Fields:  []string{t.match.Name},
			}})
		}
	}
	return ready, done, nil
}

// absent is the outcome of a row whose record is not there: an update fails;
// what was to be deleted or cleared needs nothing more.
func (t *Target) absent(r *row) destinations.Outcome {
	o := destinations.Outcome{Result: destinations.Skipped, Code: codeNotFound, Attempts: r.attempts}
	if t.match != nil {
		o.Message = fmt.Sprintf("no %s record has %s %s", t.object.Name, t.match.Name, show(r.op.Match))
		o.Fields = []string{t.match.Name}
	} else {
		o.Message = "the record is gone from the org"
	}
	switch r.kind {
	case planner.Archive:
		o.Forget = t.sync.Mode != models.ModeArchive
	case planner.ClearFields:
		o.Forget = true
	default:
		o.Result = destinations.Failed
	}
	return o
}

// findRecreated looks at upserts of records that coho wrote before and whose
// answer was lost. Where the match value is now on a record with another Id,
// the lost call created it, with no more than what had changed: the row must be
// sent complete. It is not sent complete otherwise, since that would undo what
// people edited.
func (t *Target) findRecreated(ctx context.Context, rows []*row) error {
	var values []string
	for _, r := range rows {
		if r.inDoubt() {
			values = append(values, r.op.Match)
		}
	}
	if len(values) == 0 {
		return nil
	}
	found, err := t.find(ctx, t.object.Name, t.match, values)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if !r.inDoubt() {
			continue
		}
		if ids := found[t.match.fold(r.op.Match)]; len(ids) == 1 && ids[0] != r.op.ID {
			r.complete, r.exists = true, false
		}
	}
	return nil
}

func (r *row) inDoubt() bool { return r.doubt && r.op.Known && r.op.ID != "" && !r.complete }

// findExisting finds out which rows' records are there, for rows with
// create-only fields whose records coho did not write before.
func (t *Target) findExisting(ctx context.Context, rows []*row) error {
	var values []string
	var asked []*row
	for _, r := range rows {
		if r.exists || r.complete {
			continue
		}
		for i := range r.op.Assignments {
			if r.op.Assignments[i].Send == planner.OnCreate {
				values = append(values, r.op.Match)
				asked = append(asked, r)
				break
			}
		}
	}
	if len(values) == 0 {
		return nil
	}
	found, err := t.find(ctx, t.object.Name, t.match, values)
	if err != nil {
		return err
	}
	for _, r := range asked {
		r.exists = len(found[t.match.fold(r.op.Match)]) > 0
	}
	return nil
}
