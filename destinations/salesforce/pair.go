package salesforce

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// asAccountKnown is the create_records_as by which a new row becomes a contact where
// its account is known, and a lead otherwise.
const asAccountKnown = "ContactIfAccountId"

// The sides of a Pair.
const (
	first = iota // contacts or accounts, which are looked at first
	leads
	sides
)

// Pair is a two-object sync's target: a row's record is a contact (or an account), or
// else a lead. Each object has a Target of its own, with a column for each of the
// sync's fields; those that belong to the other object stand for nothing. See section
// for how a row finds its object.
type Pair struct {
	sync     *models.Sync
	targets  [sides]*Target
	creates  string // what create_records_as says
	account  int    // the column of the account that makes a new row a contact; -1: none
	warnings []string
}

var (
	_ destinations.Target    = (*Pair)(nil)
	_ destinations.Referrer  = (*Pair)(nil)
	_ destinations.Looker    = (*Pair)(nil)
	_ destinations.Describer = (*Pair)(nil)
)

// openPair checks a two-object sync against both of its objects.
func (d *Destination) openPair(ctx context.Context, sync *models.Sync, columns []models.Column) (destinations.Target, error) {
	calls := new(atomic.Int64)
	p := &Pair{sync: sync, creates: sync.Write.CreateRecordsAs, account: -1}
	whole := &checker{client: d.client, sync: sync, columns: columns}
	whole.checkWrite()
	problems := whole.problems
	for i, object := range sync.Objects() {
		one := *sync
		one.Object = object
		c := &checker{client: d.client, sync: &one, columns: columns, paired: true, creates: p.makes(object)}
		t, err := c.run(api.CountCalls(ctx, calls))
		if err != nil {
			return nil, budget(d.client, err)
		}
		problems = append(problems, c.problems...)
		p.warnings = append(p.warnings, c.warnings...)
		if len(c.problems) == 0 {
			d.adopt(t, c, calls)
			p.targets[i] = t
		}
	}
	if p.targets[first] != nil && p.targets[leads] != nil {
		problems = append(problems, p.check()...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return p, nil
}

// makes reports whether new rows may become records of an object.
func (p *Pair) makes(object string) bool {
	return p.creates == object || p.creates == asAccountKnown && object != "Account"
}

// check finds what only both objects together show.
func (p *Pair) check() (problems destinations.Problems) {
	problem := func(pos, field, format string, args ...any) {
		if pos == "" {
			pos = p.sync.Pos
		}
		problems = append(problems, destinations.Problem{Pos: pos, Field: field, Message: fmt.Sprintf(format, args...)})
	}
	a, b := p.targets[first], p.targets[leads]
	if x, y := a.match, b.match; x != nil && y != nil && x.class != y.class {
		problem("", x.Name, "match field %s is of type %s on %s and %s on %s: a row could not be compared with both", x.Name, x.Type, a.object.Name, y.Type, b.object.Name)
	}
	for i := range p.sync.Fields {
		m, x, y := &p.sync.Fields[i], a.columns[i], b.columns[i]
		if x.foreign || y.foreign {
			continue
		}
		section := fmt.Sprintf("map it in [syncs.%s.fields.%s] and in [syncs.%s.fields.%s]", p.sync.Name, a.object.Name, p.sync.Name, b.object.Name)
		switch {
		case x.source().class != y.source().class:
			problem(m.Pos, x.Name, "field %s is of type %s on %s and %s on %s: %s", x.Name, x.Type, a.object.Name, y.Type, b.object.Name, section)
		case x.recordType != y.recordType:
			problem(m.Pos, x.Name, "record types are of one object: %s", section)
		case x.createOnly != y.createOnly:
			problem(m.Pos, x.Name, "field %s can be updated on one of %s and %s only: %s", x.Name, a.object.Name, b.object.Name, section)
		}
	}
	if p.creates != asAccountKnown {
		return problems
	}
	for i, col := range a.columns {
		if !col.foreign && col.Name == "AccountId" {
			p.account = i
			// Whether the account is there must be known before the row is sent.
			col.byQuery = col.parent != nil
		}
	}
	if p.account < 0 {
		problem("", "AccountId", "write.create_records_as %q needs AccountId in [syncs.%s.fields.Contact], which says whether a row's account is known", asAccountKnown, p.sync.Name)
	}
	return problems
}

// side is the target of a column: where both objects have it, the first.
func (p *Pair) side(field int) *Target {
	if field >= 0 && p.targets[first].columns[field].foreign {
		return p.targets[leads]
	}
	return p.targets[first]
}

// name is a column's, as the planner and people know it.
func (p *Pair) name(field int) string {
	f := &p.sync.Fields[field]
	name := p.side(field).columns[field].Name
	if f.Object != "" {
		return f.Object + "." + name
	}
	return name
}

// Fields implements destinations.Target. A field of one object is named
// Object.Field.
func (p *Pair) Fields() []planner.Field {
	out := p.targets[first].Fields()
	other := p.targets[leads].Fields()
	for i := range out {
		switch x, y := p.targets[first].columns[i], p.targets[leads].columns[i]; {
		case x.foreign:
			out[i] = other[i]
		case !y.foreign:
			out[i].KeepOnClear = out[i].KeepOnClear || other[i].KeepOnClear
			out[i].SelfReference = out[i].SelfReference || other[i].SelfReference
			out[i].CountValues = out[i].CountValues || other[i].CountValues
		}
		out[i].Name = p.name(i)
	}
	return out
}

// Convert implements destinations.Target. A value that goes to both objects must fit
// both: which of them has the row's record is not known yet.
func (p *Pair) Convert(i int, v models.Value) (models.Cell, error) {
	a, b := p.targets[first], p.targets[leads]
	if i >= 0 && i < len(p.sync.Fields) && (a.columns[i].foreign || b.columns[i].foreign) {
		return p.side(i).Convert(i, v)
	}
	cell, err := a.Convert(i, v)
	if err != nil {
		return cell, fmt.Errorf("on %s, %w", a.object.Name, err)
	}
	if _, err := b.Convert(i, v); err != nil {
		return cell, fmt.Errorf("on %s, %w", b.object.Name, err)
	}
	return cell, nil
}

// NormalizeMatch implements destinations.Target. Values that either object takes for
// one are one row's.
func (p *Pair) NormalizeMatch(match string) string {
	return p.targets[first].NormalizeMatch(p.targets[leads].NormalizeMatch(match))
}

// Warnings implements destinations.Target.
func (p *Pair) Warnings() []string { return p.warnings }

// Usage implements destinations.Target. Both targets count calls together.
func (p *Pair) Usage() destinations.Usage {
	u := p.targets[first].Usage()
	u.BulkJobs += p.targets[leads].jobs.Load()
	return u
}

// Estimate implements destinations.Target. Which object has a row's record is not
// known before a run has asked, so all rows are counted as of the object that new
// ones are created as.
func (p *Pair) Estimate(s planner.Summary) destinations.Estimate {
	t := p.targets[first]
	if p.creates == objectLead {
		t = p.targets[leads]
	}
	r := t.route()
	r.lanes = t.lockField >= 0 && !t.serial() && parallelism(&t.sync.Write) > 1 && s.Fields[p.name(t.lockField)] > 0
	e := estimate(r, &t.sync.Write, s)
	if e.APICalls == 0 {
		return e
	}
	for i := range p.sync.Fields {
		col := p.side(i).columns[i]
		if v := s.Values[p.name(i)]; col.byQuery && len(col.syncs) == 0 && v.Distinct > 0 {
			e.APICalls += lookUps(v.Distinct, windowValues, v.Bytes)
		}
	}
	var all int64
	for _, n := range s.Operations {
		all += n
	}
	known := min(s.Known, all)
	e.APICalls += lookUps(known, routeRows, idLength)
	// New rows are looked for among both objects.
	e.APICalls += 2 * lookUps(all-known, routeRows, matchBytes(s))
	if p.sync.Write.OnlySyncDifferent {
		// Those that are there are read by their Ids.
		s.Operations[planner.Update], s.Operations[planner.Upsert], s.Known = s.Operations[planner.Update]+s.Operations[planner.Upsert], 0, all
		e.APICalls += t.compareCalls(r, s)
		e.AtMost = atMost
	}
	return e
}

// idLength is how many characters an Id has.
const idLength = 18

// matchBytes is about how long a match value is.
func matchBytes(s planner.Summary) int64 {
	if len(s.Samples) == 0 {
		return idLength
	}
	var bytes int64
	for _, sample := range s.Samples {
		bytes += int64(len(strings.Join(sample.Key, "")))
	}
	return bytes/int64(len(s.Samples)) + 6
}

// UseParents implements destinations.Referrer.
func (p *Pair) UseParents(parents destinations.Parents) {
	for _, t := range p.targets {
		t.UseParents(parents)
	}
}

// Lookups implements destinations.Referrer.
func (p *Pair) Lookups() []destinations.Lookup {
	out := p.targets[first].Lookups()
	for _, l := range p.targets[leads].Lookups() {
		if !slices.ContainsFunc(out, func(o destinations.Lookup) bool { return o.Field == l.Field && o.Object == l.Object && o.By == l.By }) {
			out = append(out, l)
		}
	}
	return out
}

// UnknownReferences implements destinations.Referrer.
func (p *Pair) UnknownReferences(ctx context.Context, plan destinations.Plan) (calls int64, err error) {
	for _, t := range p.targets {
		n, err := t.UnknownReferences(ctx, plan)
		if err != nil {
			return 0, err
		}
		calls += n
	}
	return calls, nil
}

// DescribeField implements destinations.Describer. Of a field of both objects the
// shorter length counts.
func (p *Pair) DescribeField(i int) destinations.FieldNote {
	note := p.side(i).DescribeField(i)
	if i == destinations.MatchField || p.sync.Fields[i].Object == "" {
		other := p.targets[leads].DescribeField(i)
		if other.Length > 0 && (note.Length == 0 || other.Length < note.Length) {
			note.Type, note.Length = other.Type, other.Length
		}
		note.Required = note.Required || other.Required
	}
	if i != destinations.MatchField {
		note.Name = p.name(i)
	}
	return note
}

// Look implements destinations.Looker: the record with an Id, of whichever object,
// or all of both that have the match value.
func (p *Pair) Look(ctx context.Context, id, match string) ([]destinations.Found, error) {
	var out []destinations.Found
	for _, t := range p.targets {
		if id != "" && !t.holds(id) {
			continue
		}
		found, err := t.Look(ctx, id, match)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			one := destinations.Found{ID: f.ID, Fields: map[string]models.Cell{}}
			for i, c := range t.columns {
				if !c.foreign {
					one.Fields[p.name(i)] = f.Fields[c.Name]
				}
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// holds reports whether an Id is that of a record of the target's object, as its
// first three characters say ("Standard Object Prefixes").
func (t *Target) holds(id string) bool {
	return t.object.KeyPrefix != "" && strings.HasPrefix(id, t.object.KeyPrefix)
}
