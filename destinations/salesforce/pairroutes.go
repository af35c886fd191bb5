package salesforce

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// A row of a two-object sync finds its object so:
//
//   - a record that coho wrote before is the row's own, by its Id, as long as it is
//     there: also where another has the match value meanwhile;
//   - else a contact (or account) with the match value, else a lead with it;
//   - a lead that was converted, known or matched, is the contact (account) that it
//     became. Of what that does not hold yet, it gets what the lead had; what it
//     holds stays, save what changed in the model;
//   - else the row is a new record, as create_records_as says.
//
// Rows are looked up a chunk at a time, and what was found is kept for as many rows
// as are then sent, a section of the pass: nothing of it need outlive a crash, since
// what a run has sent is found in the org by the next one.

const (
	// routeRows is how many rows are looked up together, and sectionRows how many
	// are routed before they are sent.
	routeRows   = 1000
	sectionRows = 100_000

	codeConvertedLead = "CONVERTED_LEAD"
)

// routed is what an operation comes to.
type routed struct {
	seq      int64
	id       [idLength]byte // of the record; zero for a new one
	side     uint8
	call     call
	complete bool // nothing is known of what the record holds
}

// section is the operations that are sent together, in ascending order of seq.
type section struct {
	rows  []routed
	fills map[int64][]int // operations of converted leads: what the contact lacks
}

func (s *section) of(seq int64) *routed {
	i, ok := slices.BinarySearchFunc(s.rows, seq, func(r routed, seq int64) int { return cmp.Compare(r.seq, seq) })
	if !ok {
		return nil
	}
	return &s.rows[i]
}

// callOf is the wire call of an operation.
func (r *run) callOf(op *planner.Operation) call {
	if r.section != nil {
		if to := r.section.of(op.Seq); to != nil {
			return to.call
		}
	}
	return callOf(op.Kind)
}

// follow gives a row of a two-object sync the record that was found for it.
func (r *run) follow(x *row) {
	if !r.t.paired {
		return
	}
	if r.section != nil {
		if to := r.section.of(x.op.Seq); to != nil {
			x.id = ""
			if to.id != ([idLength]byte{}) {
				x.id = string(to.id[:])
			}
			x.complete = x.complete || to.complete
			x.fill = r.section.fills[x.op.Seq]
			return
		}
	}
	if !r.t.holds(x.id) {
		x.id = "" // the record that was known is of the other object
	}
}

// traced is an operation whose object is being looked for.
type traced struct {
	op   *planner.Operation
	side int
	id   string // of the record; "" while none is found
	lead string // the converted lead that led to it
	// fresh: coho did not write the record before.
	fresh bool
	done  *destinations.Outcome
}

// tracer finds the objects of rows.
type tracer struct {
	p     *Pair
	runs  [sides]*run
	owner func(id string) (planner.Hash, bool, error)
	taken map[string]planner.Hash // the rows that converted leads led to a record
}

// trace finds the objects of operations, and their records.
func (x *tracer) trace(ctx context.Context, rows []*traced) error {
	if err := x.known(ctx, rows); err != nil {
		return err
	}
	if err := x.match(ctx, rows); err != nil {
		return err
	}
	return x.create(ctx, rows)
}

// open reports a row of which it is not yet known where it goes.
func (r *traced) open() bool { return r.done == nil && r.id == "" }

// writes reports an operation that gives a record values.
func (r *traced) writes() bool {
	return r.op.Kind == planner.Upsert || r.op.Kind == planner.Update
}

// known looks at the records that coho wrote before: whether they are there, and
// whether leads were converted.
func (x *tracer) known(ctx context.Context, rows []*traced) error {
	var at [sides][]*traced
	var ids [sides][]string
	for _, r := range rows {
		for side, t := range x.p.targets {
			if t.holds(r.op.ID) {
				at[side] = append(at[side], r)
				ids[side] = append(ids[side], r.op.ID)
			}
		}
	}
	there, err := x.p.targets[first].find(ctx, x.p.targets[first].object.Name, x.p.targets[first].idField, ids[first])
	if err != nil {
		return err
	}
	for _, r := range at[first] {
		if len(there[r.op.ID]) > 0 || !r.writes() {
			r.side, r.id = first, r.op.ID // what is to be emptied or deleted may be gone as well
		}
	}
	found, err := x.leads(ctx, x.p.targets[leads].idField, ids[leads])
	if err != nil {
		return err
	}
	var converted []*traced
	became := map[*traced][]string{}
	for _, r := range at[leads] {
		switch f := found[r.op.ID]; {
		case f == nil && !r.writes(), f != nil && len(f.live) > 0:
			r.side, r.id = leads, r.op.ID
		case f == nil:
		case r.op.Kind == planner.Archive:
			r.done = &destinations.Outcome{
				Result: destinations.Skipped, Forget: true, ID: r.op.ID, Code: codeConvertedLead,
				Message: fmt.Sprintf("lead %s was converted; what it became stays: %s", r.op.ID, f.said()),
			}
		default:
			converted = append(converted, r)
			became[r] = f.became
			r.lead = r.op.ID
		}
	}
	return x.convert(ctx, converted, became)
}

// match looks for the records of rows by their match values.
func (x *tracer) match(ctx context.Context, rows []*traced) error {
	a, b := x.p.targets[first], x.p.targets[leads]
	values := func() (values []string, open []*traced) {
		for _, r := range rows {
			if r.open() && r.writes() {
				open = append(open, r)
				values = append(values, r.op.Match)
			}
		}
		return values, open
	}
	texts, open := values()
	found, err := a.find(ctx, a.object.Name, a.match, texts)
	if err != nil {
		return err
	}
	for _, r := range open {
		switch ids := found[a.match.fold(r.op.Match)]; len(ids) {
		case 0:
		case 1:
			r.side, r.id, r.fresh = first, ids[0], true
		default:
			r.done = several(a, len(ids), r.op.Match)
		}
	}
	texts, open = values()
	held, err := x.leads(ctx, b.match, texts)
	if err != nil {
		return err
	}
	var converted []*traced
	became := map[*traced][]string{}
	for _, r := range open {
		switch f := held[b.match.fold(r.op.Match)]; {
		case f == nil:
		case len(f.live) == 1:
			r.side, r.id, r.fresh = leads, f.live[0], true
		case len(f.live) > 1:
			r.done = several(b, len(f.live), r.op.Match)
		default:
			converted = append(converted, r)
			became[r] = f.became
			r.lead = f.converted[0]
		}
	}
	return x.convert(ctx, converted, became)
}

func several(t *Target, n int, match string) *destinations.Outcome {
	return &destinations.Outcome{
		Result: destinations.Failed, Code: codeMultipleMatches, Fields: []string{t.match.Name},
		Message: fmt.Sprintf("%d %s records have %s %s", n, t.object.Name, t.match.Name, show(match)),
	}
}

// lead is the leads with one value.
type lead struct {
	live      []string // not converted
	converted []string
	became    []string // the contacts or accounts of those that were, each once
}

func (l *lead) said() string {
	if len(l.became) == 0 {
		return "the org does not say what that is"
	}
	return l.became[0]
}

// leads reads leads by a field, by the folded value.
func (x *tracer) leads(ctx context.Context, by *field, values []string) (map[string]*lead, error) {
	t := x.p.targets[leads]
	became := "Converted" + x.p.targets[first].object.Name + "Id"
	wanted, queries := search{object: t.object.Name, by: by, also: ", IsConverted, " + became}.queries(values)
	found := map[string]*lead{}
	for _, soql := range queries {
		err := t.each(ctx, soql, func(record *api.Record) {
			value, _ := record.Get(by.Name)
			folded := by.fold(value)
			if !wanted[folded] {
				return
			}
			one := found[folded]
			if one == nil {
				one = &lead{}
				found[folded] = one
			}
			id, _ := record.Get("Id")
			if full, ok := canonicalID(id); ok {
				id = full
			}
			if text, _ := record.Get("IsConverted"); text != "true" {
				one.live = append(one.live, id)
				return
			}
			one.converted = append(one.converted, id)
			if to, null := record.Get(became); !null && to != "" {
				if full, ok := canonicalID(to); ok {
					to = full
				}
				if !slices.Contains(one.became, to) {
					one.became = append(one.became, to)
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("find leads by %s: %w", by.Name, err)
		}
	}
	return found, nil
}

// each gives the records of a query.
func (t *Target) each(ctx context.Context, soql string, yield func(*api.Record)) error {
	result, err := t.client.Query(ctx, soql)
	if err != nil {
		return err
	}
	defer result.Close()
	for result.Next() {
		yield(result.Record())
	}
	return result.Err()
}

// convert routes rows of converted leads to what those became.
func (x *tracer) convert(ctx context.Context, rows []*traced, became map[*traced][]string) error {
	if len(rows) == 0 {
		return nil
	}
	t := x.p.targets[first]
	var ids []string
	for _, r := range rows {
		ids = append(ids, became[r]...)
	}
	lacks, err := x.lacking(ctx, ids)
	if err != nil {
		return err
	}
	for _, r := range rows {
		live := slices.DeleteFunc(slices.Clone(became[r]), func(id string) bool { return lacks[id] == nil })
		switch {
		case len(live) > 1:
			r.done = several(t, len(live), r.op.Match)
			r.done.Message = fmt.Sprintf("leads with this match value were converted to %d %s records", len(live), t.object.Name)
			continue
		case len(live) == 0 && !r.writes():
			r.done = &destinations.Outcome{Result: destinations.Skipped, Forget: true, ID: r.op.ID, Code: codeConvertedLead,
				Message: fmt.Sprintf("lead %s was converted, and what it became is gone", r.lead)}
			continue
		case len(live) == 0:
			continue // as if there had been no such lead
		}
		owner, taken, err := x.ownerOf(live[0])
		if err != nil {
			return err
		}
		if taken && owner != r.op.KeyHash {
			r.done = &destinations.Outcome{
				Result: destinations.Failed, Code: planner.CodeDuplicateMatch, ID: live[0], Fields: []string{t.match.Name},
				Message: fmt.Sprintf("lead %s was converted to %s, which is the record of another row: two rows cannot fill one record", r.lead, live[0]),
			}
			continue
		}
		x.taken[live[0]] = r.op.KeyHash
		r.side, r.id, r.fresh = first, live[0], r.lead != r.op.ID
		to := x.runs[first].section
		for i := range r.op.Assignments {
			if a := &r.op.Assignments[i]; r.writes() && a.Send == planner.Keep && !t.columns[a.Field].foreign && !a.Cell.Null && lacks[live[0]][a.Field] {
				to.fills[r.op.Seq] = append(to.fills[r.op.Seq], a.Field)
			}
		}
	}
	return nil
}

// ownerOf is the row that has a record.
func (x *tracer) ownerOf(id string) (row planner.Hash, ok bool, err error) {
	if row, ok = x.taken[id]; ok || x.owner == nil {
		return row, ok, nil
	}
	return x.owner(id)
}

// lacking reads records, and says which columns each has no value for: those that
// only this object has count as such, since no lead was ever given them. A record
// that is not there is not in it.
func (x *tracer) lacking(ctx context.Context, ids []string) (map[string]map[int]bool, error) {
	t := x.p.targets[first]
	also := ""
	for i, col := range t.columns {
		if !col.virtual() && x.p.sync.Fields[i].Object == "" {
			also += ", " + col.Name
		}
	}
	wanted, queries := search{object: t.object.Name, by: t.idField, also: also}.queries(ids)
	out := map[string]map[int]bool{}
	for _, soql := range queries {
		err := t.each(ctx, soql, func(record *api.Record) {
			id, _ := record.Get("Id")
			if full, ok := canonicalID(id); ok {
				id = full
			}
			if !wanted[id] {
				return
			}
			lacks := map[int]bool{}
			for i, col := range t.columns {
				if col.virtual() {
					continue
				}
				text, null := record.Get(col.Name)
				lacks[i] = null || text == "" || x.p.sync.Fields[i].Object != "" || col.class == classBool && text == "false"
			}
			out[id] = lacks
		})
		if err != nil {
			return nil, fmt.Errorf("read what leads became: %w", err)
		}
	}
	return out, nil
}

// create decides what becomes of rows that neither object has.
func (x *tracer) create(ctx context.Context, rows []*traced) error {
	var open []*traced
	for _, r := range rows {
		if r.open() {
			open = append(open, r)
		}
	}
	accounts := map[*traced]bool{}
	if x.p.creates == asAccountKnown && len(open) > 0 {
		var err error
		if accounts, err = x.accounts(ctx, open); err != nil {
			return err
		}
	}
	for _, r := range open {
		switch {
		case x.p.sync.Mode == models.ModeUpdate:
			a, b := x.p.targets[first], x.p.targets[leads]
			r.done = &destinations.Outcome{
				Result: destinations.Failed, Code: codeNotFound, Fields: []string{a.match.Name},
				Message: fmt.Sprintf("no %s and no %s record has %s %s", a.object.Name, b.object.Name, a.match.Name, show(r.op.Match)),
			}
		case x.p.creates == objectLead, x.p.creates == asAccountKnown && !accounts[r]:
			r.side = leads
		default:
			r.side = first
		}
		r.fresh = true
	}
	return nil
}

// accounts says which rows' accounts are known.
func (x *tracer) accounts(ctx context.Context, rows []*traced) (map[*traced]bool, error) {
	run, column := x.runs[first], x.p.account
	col := run.t.columns[column]
	out := map[*traced]bool{}
	ask, texts := map[bookKey]string{}, map[*traced]string{}
	for _, r := range rows {
		for i := range r.op.Assignments {
			a := &r.op.Assignments[i]
			if a.Field != column || a.Cell.Null {
				continue
			}
			if !col.byQuery {
				out[r] = true // it is the Id itself
				continue
			}
			texts[r] = a.Cell.Text
			k := run.books[column].key(col.parent.fold(a.Cell.Text))
			_, known, err := run.known(column, k)
			if err != nil {
				return nil, err
			}
			if !known {
				ask[k] = a.Cell.Text
			}
		}
	}
	if err := run.lookUp(ctx, column, ask, false); err != nil {
		return nil, err
	}
	for r, text := range texts {
		f, _, err := run.books[column].get(run.books[column].key(col.parent.fold(text)))
		if err != nil {
			return nil, err
		}
		out[r] = f.count > 0 // several are the row's error, once it is sent
	}
	return out, nil
}
