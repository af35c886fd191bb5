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
// itself. Rows that cannot be sent come back decided.
func (t *Target) prepare(ctx context.Context, c call, rows []*row) (ready []*row, done []decided, err error) {
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
	for i, col := range t.columns {
		if !col.byQuery || c == callDelete {
			continue
		}
		var failed []decided
		if ready, failed, err = t.findReferences(ctx, i, ready); err != nil {
			return nil, nil, err
		}
		done = append(done, failed...)
	}
	return ready, done, nil
}

// findRecords fills in the Ids of rows by their match values.
func (t *Target) findRecords(ctx context.Context, rows []*row) (ready []*row, done []decided, err error) {
	var values []string
	for _, r := range rows {
		if r.id == "" && t.match != nil && t.match.isID() {
			r.id = r.op.Match
		}
		if r.id == "" {
			values = append(values, r.op.Match)
		}
	}
	if len(values) == 0 {
		return rows, nil, nil
	}
	found := map[string][]string{}
	if t.match != nil {
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
		var ids []string
		if r.op.Match != "" {
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
	switch r.op.Kind {
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

// findReferences exchanges the cells of a lookup column for Ids.
func (t *Target) findReferences(ctx context.Context, column int, rows []*row) (ready []*row, done []decided, err error) {
	col := t.columns[column]
	cell := func(r *row) (string, bool) {
		for i := range r.op.Assignments {
			if a := &r.op.Assignments[i]; a.Field == column && !a.Cell.Null && t.sends(r, a) {
				return a.Cell.Text, true
			}
		}
		return "", false
	}
	var values []string
	for _, r := range rows {
		if text, ok := cell(r); ok {
			if _, known := t.references.get(column, col.parent.fold(text)); !known {
				values = append(values, text)
			}
		}
	}
	found := map[string][]string{}
	if len(values) > 0 {
		if found, err = t.find(ctx, col.parentObject, col.parent, values); err != nil {
			return nil, nil, err
		}
	}
	for folded, ids := range found {
		if len(ids) == 1 {
			t.references.put(column, folded, ids[0])
		}
	}
	ready = make([]*row, 0, len(rows))
	for _, r := range rows {
		text, ok := cell(r)
		if !ok {
			ready = append(ready, r)
			continue
		}
		folded := col.parent.fold(text)
		ids := found[folded]
		if id, known := t.references.get(column, folded); known {
			ids = []string{id}
		}
		if len(ids) == 1 {
			if r.refs == nil {
				r.refs = make(map[int]string, 1)
			}
			r.refs[column] = ids[0]
			ready = append(ready, r)
			continue
		}
		o := destinations.Outcome{Result: destinations.Failed, Code: codeReferenceNotFound, Fields: []string{col.Name}, Attempts: r.attempts}
		o.Message = fmt.Sprintf("field %s: no %s record has %s %s", col.Name, col.parentObject, col.parent.Name, show(text))
		if len(ids) > 1 {
			o.Code = codeMultipleMatches
			o.Message = fmt.Sprintf("field %s: %d %s records have %s %s", col.Name, len(ids), col.parentObject, col.parent.Name, show(text))
		}
		done = append(done, decided{r, o})
	}
	return ready, done, nil
}
