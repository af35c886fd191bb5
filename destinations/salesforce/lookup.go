package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coho/destinations"
	"coho/planner"
)

// A lookup's references are found in one of three ways. Where the parent's field
// is one by which the org finds records, the row says its value and the org does
// the rest. Else, before a pass is sent, its distinct values are gathered, a
// window at a time, and looked for in the snapshots of the syncs that write the
// parent; and what those do not know, or know twice, in the org, by queries as
// long as they may be. What was found is remembered for the run, so that each
// value is asked for once.
//
// A snapshot may know a record that was deleted or merged since, and a record may
// be deleted while the run goes on. Where the org refuses a row for a reference
// that was found so, the value is looked for in the org once more (a value, not a
// row), and the row sent once more.

// windowValues is how many distinct values of a column are looked up together.
const windowValues = 50_000

// What invalid_relationships says.
const (
	omitValues  = "omit_values"
	omitRecords = "omit_records"
)

var _ destinations.Referrer = (*Target)(nil)

// UseParents implements destinations.Referrer.
func (t *Target) UseParents(p destinations.Parents) {
	t.parents = p
	for _, col := range t.columns {
		if col.byQuery {
			col.syncs = p.Syncs(col.parentObject, col.parent.Name)
		}
	}
}

// Lookups implements destinations.Referrer.
func (t *Target) Lookups() []destinations.Lookup {
	var out []destinations.Lookup
	for i, col := range t.columns {
		if col.recordType != "" {
			out = append(out, col.recordTypeNote())
			continue
		}
		if t.sync.Fields[i].Lookup == nil || col.foreign {
			continue
		}
		one := destinations.Lookup{Field: col.Name, Object: col.parentName(), By: "Id", How: "external_id", Setup: unlocked(col.parentObject)}
		if col.parent != nil {
			one.By = col.parent.Name
		}
		if col.byQuery {
			one.How, one.Syncs = "query", col.syncs
			if len(col.syncs) > 0 {
				one.How = "snapshot"
			}
		}
		out = append(out, one)
	}
	return out
}

// referenceCalls is what finding a plan's references costs in queries, but for
// those of which a snapshot is asked first: see UnknownReferences.
func (t *Target) referenceCalls(s planner.Summary) int64 {
	var calls int64
	for _, col := range t.columns {
		if v := s.Values[col.Name]; col.byQuery && len(col.syncs) == 0 && v.Distinct > 0 {
			calls += lookUps(v.Distinct, windowValues, v.Bytes)
		}
	}
	return calls
}

// UnknownReferences implements destinations.Referrer: it does what a run does
// before it sends a pass, but asks the snapshots alone, and counts the queries for
// what they do not know.
func (t *Target) UnknownReferences(ctx context.Context, plan destinations.Plan) (calls int64, err error) {
	var columns []int
	for i, col := range t.columns {
		if col.byQuery && len(col.syncs) > 0 {
			columns = append(columns, i)
		}
	}
	if len(columns) == 0 {
		return 0, nil
	}
	r := &run{t: t, plan: plan, books: t.newBooks(), asked: &calls}
	defer r.dropBooks()
	for pass := range plan.Passes() {
		if err := r.resolvePass(ctx, columns, pass); err != nil {
			return 0, err
		}
	}
	return calls, nil
}

// parentName is what messages call the object that the column refers to.
func (c *column) parentName() string {
	if c.queue {
		return "queue"
	}
	return c.parentObject
}

// resolve looks up the references of a pass before it is sent.
func (r *run) resolve(ctx context.Context, pass int) error {
	t := r.t
	r.passNumber.Store(uint32(pass))
	var columns []int
	for i, col := range t.columns {
		if col.byQuery {
			columns = append(columns, i)
		}
	}
	if len(columns) == 0 || r.stopping() {
		return nil
	}
	return r.resolvePass(ctx, columns, pass)
}

func (r *run) resolvePass(ctx context.Context, columns []int, pass int) error {
	ops, err := r.plan.Operations(pass)
	if err != nil {
		return fmt.Errorf("read the plan's pass %d: %w", pass, err)
	}
	err = r.resolveAll(ctx, columns, ops)
	if closed := ops.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close the plan's pass %d: %w", pass, closed)
	}
	return err
}

func (r *run) resolveAll(ctx context.Context, columns []int, ops destinations.Operations) error {
	windows := make(map[int]map[bookKey]string, len(columns))
	for _, i := range columns {
		windows[i] = map[bookKey]string{}
	}
	for ops.Next() {
		op := ops.Operation()
		for i := range op.Assignments {
			a := &op.Assignments[i]
			w := windows[a.Field]
			if w == nil || a.Cell.Null || a.Send == planner.Keep {
				continue
			}
			k := r.books[a.Field].key(r.t.columns[a.Field].parent.fold(a.Cell.Text))
			if _, ok := w[k]; ok {
				continue
			}
			if _, known, err := r.known(a.Field, k); err != nil {
				return err
			} else if known {
				continue
			}
			w[k] = strings.Clone(a.Cell.Text)
			if len(w) < windowValues {
				continue
			}
			if r.stopping() {
				return nil
			}
			if err := r.lookUp(ctx, a.Field, w, false); err != nil {
				return err
			}
			clear(w)
		}
	}
	if err := ops.Err(); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	for _, i := range columns {
		if err := r.lookUp(ctx, i, windows[i], false); err != nil {
			return err
		}
	}
	return nil
}

// known returns what is remembered of a value. What was not there may have been
// created by an earlier pass, where a record refers to its own object.
func (r *run) known(column int, k bookKey) (f reference, ok bool, err error) {
	f, ok, err = r.books[column].get(k)
	if ok && f.count == 0 && f.pass < r.passNumber.Load() && r.t.columns[column].parentObject == r.t.object.Name {
		return f, false, err
	}
	return f, ok, err
}

// lookUp looks values up and remembers what was found. again says that what the
// snapshots say was refused by the org, which alone is asked then.
func (r *run) lookUp(ctx context.Context, column int, values map[bookKey]string, again bool) error {
	if len(values) == 0 {
		return nil
	}
	t, b, col := r.t, r.books[column], r.t.columns[column]
	left := values
	if !again && len(col.syncs) > 0 {
		var err error
		if left, err = r.askSnapshots(ctx, column, values); err != nil {
			return err
		}
	}
	if len(left) == 0 {
		return nil
	}
	texts := make([]string, 0, len(left))
	for _, text := range left {
		texts = append(texts, text)
	}
	slices.Sort(texts)
	how := search{object: col.parentObject, by: col.parent, filter: col.filter(), loose: true}
	if r.asked != nil {
		_, queries := how.queries(texts)
		*r.asked += int64(len(queries))
		for k := range left {
			if err := b.put(k, reference{count: 1}); err != nil {
				return err
			}
		}
		return nil
	}
	found, err := t.search(ctx, how, texts)
	if err != nil {
		return err
	}
	for k, text := range left {
		f := reference{pass: r.passNumber.Load(), fresh: again}
		ids := found[col.parent.fold(text)]
		f.count = uint32(len(ids))
		if len(ids) > 0 {
			copy(f.id[:], ids[0])
		}
		if err := b.put(k, f); err != nil {
			return err
		}
	}
	return nil
}

// filter narrows down the records that a lookup may find.
func (c *column) filter() string {
	if c.queue {
		return " AND Type = 'Queue'"
	}
	return ""
}

// askSnapshots looks values up in the snapshots of the syncs that write the
// parent, and returns those for which exactly one record is not known: only the
// org can say how many there are.
func (r *run) askSnapshots(ctx context.Context, column int, values map[bookKey]string) (left map[bookKey]string, err error) {
	b, col := r.books[column], r.t.columns[column]
	found := make(map[bookKey]reference)
	err = r.t.parents.Records(ctx, col.parentObject, col.parent.Name, func(value, id string) {
		k := b.key(col.parent.fold(value))
		if _, ok := values[k]; !ok || len(id) < 15 {
			return
		}
		f := found[k]
		if f.count == 0 || string(f.id[:]) != id[:15] {
			f.count++
			copy(f.id[:], id)
		}
		found[k] = f
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r.t.log.WarnContext(ctx, "references are looked up in the org, as a snapshot could not be read", "field", col.Name, "error", err)
		return values, nil
	}
	left = make(map[bookKey]string, len(values)-len(found))
	for k, text := range values {
		f := found[k]
		if f.count != 1 {
			left[k] = text
			continue
		}
		f.pass = r.passNumber.Load()
		if err := b.put(k, f); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// cell is the value by which a row's reference is found; ok is false where the
// row has none or does not send it.
func (t *Target) cell(x *row, column int) (text string, ok bool) {
	for i := range x.op.Assignments {
		if a := &x.op.Assignments[i]; a.Field == column {
			return a.Cell.Text, !a.Cell.Null && t.sends(x, a)
		}
	}
	return "", false
}

// findReferences exchanges the cells of a lookup column for Ids.
func (r *run) findReferences(ctx context.Context, column int, rows []*row) (ready []*row, done []decided, err error) {
	t, b, col := r.t, r.books[column], r.t.columns[column]
	ask, askAgain := map[bookKey]string{}, map[bookKey]string{}
	for _, x := range rows {
		text, ok := t.cell(x, column)
		if !ok {
			continue
		}
		k := b.key(col.parent.fold(text))
		f, known, err := r.known(column, k)
		switch {
		case err != nil:
			return nil, nil, err
		case x.relooked && !(known && f.fresh):
			askAgain[k] = text
		case !known:
			ask[k] = text
		}
	}
	if err := errors.Join(r.lookUp(ctx, column, ask, false), r.lookUp(ctx, column, askAgain, true)); err != nil {
		return nil, nil, err
	}
	ready = make([]*row, 0, len(rows))
	for _, x := range rows {
		text, ok := t.cell(x, column)
		if !ok {
			ready = append(ready, x)
			continue
		}
		f, known, err := b.get(b.key(col.parent.fold(text)))
		if err != nil {
			return nil, nil, err
		}
		switch {
		case known && f.count == 1:
			if x.refs == nil {
				x.refs = make(map[int]string, 1)
			}
			x.refs[column] = f.ID()
			ready = append(ready, x)
		case f.count > 1:
			done = append(done, decided{x, destinations.Outcome{
				Result: destinations.Failed, Code: codeMultipleMatches, Fields: []string{col.Name}, Attempts: x.attempts,
				Message: fmt.Sprintf("field %s: %d %s records have %s %s", col.Name, f.count, col.parentName(), col.parent.Name, show(text)),
			}})
		default:
			o, v := r.noReference(x, []int{column}, "")
			if v == settledRow {
				done = append(done, decided{x, o})
			} else {
				ready = append(ready, x)
			}
		}
	}
	return ready, done, nil
}

// noReference deals with references that are not there, as
// invalid_relationships says: the row fails, or is passed over (settledRow), or
// is to be sent without them (omitRow).
func (r *run) noReference(x *row, columns []int, said string) (destinations.Outcome, verdict) {
	o := destinations.Outcome{Result: destinations.Failed, Code: codeReferenceNotFound, Attempts: x.attempts, ID: x.id}
	for _, i := range columns {
		o.Fields = append(o.Fields, r.t.columns[i].Name)
	}
	o.Message = cut(r.t.missing(x.op, columns) + said)
	switch r.t.sync.Write.InvalidRelationships {
	case omitRecords:
		o.Result, o.Message = destinations.Skipped, "passed over: "+o.Message
	case omitValues:
		for _, i := range columns {
			if !slices.Contains(x.omit, i) {
				x.omit = append(x.omit, i)
			}
		}
		slices.Sort(x.omit)
		return o, omitRow
	}
	return o, settledRow
}

// missing says which references of an operation are not there.
func (t *Target) missing(op *planner.Operation, columns []int) string {
	var parts []string
	for _, i := range columns {
		col, by, text := t.columns[i], "Id", ""
		for j := range op.Assignments {
			if op.Assignments[j].Field == i {
				text = op.Assignments[j].Cell.Text
			}
		}
		if col.parent != nil {
			by = col.parent.Name
		}
		parts = append(parts, fmt.Sprintf("field %s: no %s record has %s %s", col.Name, col.parentName(), by, show(text)))
	}
	return strings.Join(parts, "; ")
}

// idle reports a row of which, without the references that are not there,
// nothing is left to send to a record that exists.
func (t *Target) idle(x *row) bool {
	if len(x.omit) == 0 || x.complete || x.kind == planner.Insert || x.kind == planner.Upsert && !x.op.Known {
		return false
	}
	for i := range x.op.Assignments {
		if t.sends(x, &x.op.Assignments[i]) {
			return false
		}
	}
	return true
}

// passIdle takes the rows out that are idle: they are passed over.
func (t *Target) passIdle(rows []*row) (ready []*row, done []decided) {
	if t.sync.Write.InvalidRelationships != omitValues {
		return rows, nil
	}
	ready = make([]*row, 0, len(rows))
	for _, x := range rows {
		if !t.idle(x) {
			ready = append(ready, x)
			continue
		}
		o := destinations.Outcome{Result: destinations.Skipped, Code: codeReferenceNotFound, Attempts: x.attempts, ID: x.op.ID, Message: cut("nothing else to send: " + t.missing(x.op, x.omit))}
		for _, i := range x.omit {
			o.Fields = append(o.Fields, t.columns[i].Name)
		}
		done = append(done, decided{x, o})
	}
	return ready, done
}

// stale are the codes by which the org refuses the Id of a reference: of a record
// that was deleted or merged, or that never was one.
var stale = []string{
	"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "INVALID_CROSS_REFERENCE_TYPE_FOR_FIELD", "INVALID_ID_FIELD",
	noAccess, "MALFORMED_ID",
}

// noAccess refuses a record that is there, and that this user may not refer to.
const noAccess = "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"

// judgeReference turns the refusal of a reference into what to do next. ok is
// false where it is about something else.
func (r *run) judgeReference(ctx context.Context, x *row, a answer) (o destinations.Outcome, v verdict, ok bool) {
	if len(a.errors) == 0 {
		return o, v, false
	}
	said := a.errors[0]
	tail := " (" + said.Code + ": " + said.Message + ")"
	switch {
	case said.Code == "INVALID_FIELD":
		if columns := r.t.refusedReferences(x, said.Message); len(columns) > 0 {
			o, v = r.noReference(x, columns, "")
			return o, v, true
		}
	case said.Code == "DUPLICATE_EXTERNAL_ID":
		if columns := r.t.refusedReferences(x, said.Message); len(columns) > 0 {
			return r.ambiguous(ctx, x, columns[0], tail), settledRow, true
		}
	case slices.Contains(stale, said.Code):
		named := func(i int) bool {
			return slices.ContainsFunc(said.Fields, func(f string) bool { return strings.EqualFold(f, r.t.columns[i].Name) })
		}
		var byID []int
		for i, col := range r.t.columns {
			if _, sent := r.t.cell(x, i); !sent || len(said.Fields) > 0 && !named(i) {
				continue
			}
			if col.byQuery && !x.relooked {
				return refusal(a, x.attempts), relookRow, true
			}
			if col.parent == nil && r.t.sync.Fields[i].Lookup != nil && said.Code != noAccess {
				byID = append(byID, i)
			}
		}
		if len(byID) == 1 && (len(said.Fields) > 0 || x.kind != planner.Update) {
			o, v = r.noReference(x, byID, tail)
			return o, v, true
		}
	}
	return o, v, false
}

// refusedReferences finds the columns that the org could not resolve, by what it
// says of them: "Foreign key external ID: VALUE not found for field FIELD in
// entity OBJECT".
func (t *Target) refusedReferences(x *row, message string) []int {
	const begin, object = "Foreign key external ID: ", " in entity "
	_, rest, ok := strings.Cut(message, begin)
	end := strings.LastIndex(rest, object)
	if !ok || end < 0 {
		return nil
	}
	entity := strings.TrimRight(rest[end+len(object):], " .")
	at := strings.LastIndex(rest[:end], " for field ")
	if at < 0 {
		return nil
	}
	fieldName, value := rest[at+len(" for field "):end], rest[:at]
	for _, what := range []string{" not found", " matches more than one record"} {
		value = strings.TrimSuffix(value, what)
	}
	var candidates, exact []int
	for i, col := range t.columns {
		text, sent := t.cell(x, i)
		if col.parent == nil || col.byQuery || !sent || !strings.EqualFold(col.parent.Name, fieldName) || !strings.EqualFold(col.parentObject, entity) {
			continue
		}
		candidates = append(candidates, i)
		if strings.EqualFold(col.parent.fold(text), col.parent.fold(value)) {
			exact = append(exact, i)
		}
	}
	switch {
	case len(exact) > 0:
		return exact
	case len(candidates) == 1:
		return candidates
	}
	return nil
}

// ambiguous is the outcome of a row whose reference the org found several times.
// How many there are is asked once a value.
func (r *run) ambiguous(ctx context.Context, x *row, column int, said string) destinations.Outcome {
	col := r.t.columns[column]
	text, _ := r.t.cell(x, column)
	number := "several"
	b := r.books[column]
	k := b.key(col.parent.fold(text))
	f, known, err := b.get(k)
	if err == nil && !known {
		if err = r.lookUp(ctx, column, map[bookKey]string{k: text}, true); err == nil {
			f, _, err = b.get(k)
		}
	}
	if err == nil && f.count > 1 {
		number = fmt.Sprint(f.count)
	}
	return destinations.Outcome{
		Result: destinations.Failed, Code: codeMultipleMatches, Fields: []string{col.Name}, Attempts: x.attempts, ID: x.id,
		Message: cut(fmt.Sprintf("field %s: %s %s records have %s %s%s", col.Name, number, col.parentName(), col.parent.Name, show(text), said)),
	}
}

// newBooks makes a book for each lookup that is not by Id.
func (t *Target) newBooks() []*book {
	out := make([]*book, len(t.columns))
	for i, col := range t.columns {
		if col.parent != nil {
			out[i] = newBook(t.options.SpoolDir)
		}
	}
	return out
}

// dropBooks forgets the references.
func (r *run) dropBooks() {
	for _, b := range r.books {
		if err := b.discard(); err != nil {
			r.t.log.Warn("a file of looked up references", "error", err)
		}
	}
}
