package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// only_sync_different: before rows are sent, the org is asked what it holds of the
// fields that they would write, comparedRows rows at a time, and those that do not
// differ (field.holds) are left out. A row of which nothing is left is settled as
// carried out, since the org's answer acknowledges all of it. It is done ahead of
// everything else that a stream does, so that batches and jobs are made of the rows
// that are sent.
//
// Records whose Ids are known are retrieved by them, 2,000 a call, and the others
// found by their match values, as many to a query as its length allows. A field that
// cannot be read, or of which the org shows but a mask, goes as if it differed.
// Nothing but the row at hand remembers a comparison: after a crash, a lost answer
// or a pause for a job, the org is asked anew.

const (
	comparedRows = api.MaxRetrieve

	// frameBytes is how long, encoded, the names of the fields of a query may be
	// together; more of them go in a query of their own.
	frameBytes = 4000
)

// compares reports whether rows of a call are compared with what the org holds.
func (t *Target) compares(c call) bool {
	return t.sync.Write.OnlySyncDifferent && (c == callUpdate || c == callUpsert)
}

// prepareDifferent is prepare, with a comparison. Rows that were compared before
// are not compared again.
func (r *run) prepareDifferent(ctx context.Context, c call, rows []*row) (ready []*row, done []decided, err error) {
	t := r.t
	if c == callUpsert {
		if err := t.findRecreated(ctx, rows); err != nil {
			return nil, nil, err
		}
	}
	if ready, done, err = r.findAllReferences(ctx, c, rows); err != nil {
		return nil, nil, err
	}
	if err := r.compare(ctx, c, ready); err != nil {
		return nil, nil, err
	}
	if c == callUpdate {
		var failed []decided
		if ready, failed, err = t.findRecords(ctx, ready); err != nil {
			return nil, nil, err
		}
		done = append(done, failed...)
	}
	ready, idle := t.passIdle(ready)
	ready, same := t.passSame(ready)
	if err := r.markOmits(ctx, ready); err != nil {
		return nil, nil, err
	}
	return ready, append(append(done, idle...), same...), nil
}

// uncompared makes a row one that is to be compared anew, as before it is sent once
// more to a record that may be another, or that may hold it already.
func (x *row) uncompared() {
	x.same, x.found, x.part = nil, nil, false
	if x.compared {
		x.compared, x.exists = false, x.op.Known && !x.complete
	}
}

// compare reads the org's records of rows and marks what does not differ.
func (r *run) compare(ctx context.Context, c call, rows []*row) error {
	var open []*row
	for _, x := range rows {
		if x.complete {
			x.uncompared() // it is sent as it is
		} else if !x.compared {
			x.uncompared()
			open = append(open, x)
		}
	}
	for chunk := range slices.Chunk(open, comparedRows) {
		for {
			err := r.compareSome(ctx, c, chunk)
			if err == nil {
				break
			}
			if !r.blind(ctx, err) {
				return err
			}
			for _, x := range chunk {
				x.uncompared()
			}
		}
		for _, x := range chunk {
			x.compared = true
			if len(x.found) != 1 {
				x.same = nil
			}
		}
	}
	return nil
}

// blind deals with a read that the org refused for one of its fields, as where it
// was taken from this user since the sync was checked: from then on that field, or
// where the org does not say which it is, every field, goes unread. ok is false
// where the error is about something else.
func (r *run) blind(ctx context.Context, err error) (ok bool) {
	var e *api.Error
	if !errors.As(err, &e) || e.Code != "INVALID_FIELD" {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.unread)
	if r.unread == nil {
		r.unread = map[int]bool{}
	}
	for i, col := range r.t.columns {
		if col.virtual() {
			continue
		}
		names := []string{col.Name}
		if col.readable() {
			names = append(names, col.parent.Name, col.RelationshipName)
		}
		for _, name := range names {
			if strings.Contains(strings.ToLower(e.Message), "'"+strings.ToLower(name)+"'") {
				r.unread[i] = true
			}
		}
	}
	if len(r.unread) == n {
		for i := range r.t.columns {
			r.unread[i] = true
		}
	}
	r.t.log.WarnContext(ctx, "fields that cannot be read are sent whether they differ or not", "error", err)
	return len(r.unread) > n
}

// reading is what the org is asked of some rows.
type reading struct {
	t       *Target
	columns []int // that are compared
	set     fieldSet
	first   bool // no other reading of these rows was before: it finds the records

	mu sync.Mutex // held while a row takes in what was read
}

func (t *Target) newReading(columns []int, first bool) *reading {
	g := &reading{t: t, columns: columns, first: first}
	for _, i := range columns {
		g.set.add(i)
	}
	return g
}

// compareSome is compare of rows that fit one call.
func (r *run) compareSome(ctx context.Context, c call, rows []*row) error {
	t := r.t
	var byID, byMatch []*row
	for _, x := range rows {
		if c == callUpdate && x.id == "" && t.match != nil && t.match.isID() {
			x.id = x.op.Match
		}
	}
	rows, err := r.takeAhead(c, rows)
	if err != nil {
		return err
	}
	for _, x := range rows {
		switch {
		case t.knownByID(c, x):
			byID = append(byID, x)
		case t.match != nil && x.op.Match != "":
			byMatch = append(byMatch, x)
		}
	}
	if len(byID)+len(byMatch) == 0 {
		return nil
	}
	groups, plain := r.readings(rows)
	if plain && len(byID) > 0 {
		columns := slices.Concat(groups...)
		if err := r.retrieve(ctx, c, byID, columns); err != nil {
			return err
		}
		byID = nil
	}
	for i, columns := range groups {
		g := t.newReading(columns, i == 0)
		if err := g.query(ctx, t.idField, byID); err != nil {
			return err
		}
		if err := g.query(ctx, t.match, byMatch); err != nil {
			return err
		}
	}
	return nil
}

// knownByID reports whether a row's record is read by its Id. That of an upsert is
// where no other can have the match value.
func (t *Target) knownByID(c call, x *row) bool {
	if c == callUpdate {
		return x.id != ""
	}
	return x.op.Known && x.op.ID != "" && t.match.Unique
}

// readings groups the columns that rows send, so that the names of each group fit a
// query. plain says that all of them are fields of the record itself.
func (r *run) readings(rows []*row) (groups [][]int, plain bool) {
	t := r.t
	var wanted fieldSet
	for _, x := range rows {
		for i := range x.op.Assignments {
			if a := &x.op.Assignments[i]; a.Send != planner.OnCreate && t.sends(x, a) {
				wanted.add(a.Field)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return t.parts(wanted, r.unread)
}

// parts is readings of columns, but for those that cannot be read.
func (t *Target) parts(wanted fieldSet, unread map[int]bool) (groups [][]int, plain bool) {
	plain = true
	groups = [][]int{nil}
	size := 0
	for i, col := range t.columns {
		if !wanted.has(i) || unread[i] {
			continue
		}
		n := len(col.Name) + 3
		if col.readable() {
			n += len(col.header) + 3
			plain = false
		}
		if size += n; size > frameBytes {
			groups, size = append(groups, nil), n
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], i)
	}
	return groups, plain
}

// selects is a query for columns of records up to the values of a field by which
// they are found.
func (t *Target) selects(by *field, columns []int) string {
	return "SELECT " + strings.Join(t.names(by, columns), ", ") + " FROM " + t.object.Name + " WHERE " + by.Name + " IN ("
}

// names is what is selected for columns.
func (t *Target) names(by *field, columns []int) []string {
	names := []string{"Id"}
	if by != nil && !by.isID() {
		names = append(names, by.Name)
	}
	for _, i := range columns {
		col := t.columns[i]
		if !slices.Contains(names, col.Name) {
			names = append(names, col.Name)
		}
		if col.readable() {
			names = append(names, col.header)
		}
	}
	return names
}

// retrieve reads records by their Ids.
func (r *run) retrieve(ctx context.Context, c call, rows []*row, columns []int) error {
	t := r.t
	by := t.idField
	if c == callUpsert {
		by = t.match
	}
	ids := make([]string, len(rows))
	for i, x := range rows {
		ids[i] = x.id
		if c == callUpsert {
			ids[i] = x.op.ID
		}
	}
	records, err := t.client.RetrieveRecords(ctx, t.object.Name, ids, t.names(by, columns))
	if err != nil {
		return fmt.Errorf("compare %s records with the org's: %w", t.object.Name, err)
	}
	g := t.newReading(columns, true)
	for i := range records {
		if c == callUpsert {
			// The upsert goes to the record that has the match value now.
			if value, null := records[i].Get(by.Name); null || by.fold(value) != by.fold(rows[i].op.Match) {
				continue
			}
		}
		g.take(rows[i], &records[i])
	}
	return nil
}

// query reads records by a field's values.
func (g *reading) query(ctx context.Context, by *field, rows []*row) error {
	if len(rows) == 0 {
		return nil
	}
	t := g.t
	wanted := make(map[string][]*row, len(rows))
	literals := make([]string, 0, len(rows))
	for _, x := range rows {
		value := x.op.Match
		if by == t.idField {
			if value = x.id; value == "" {
				value = x.op.ID
			}
		}
		folded := by.fold(value)
		if wanted[folded] = append(wanted[folded], x); len(wanted[folded]) == 1 {
			literals = append(literals, by.literal(value, api.QuoteSOQL))
		}
	}
	queries := api.InLiterals(t.selects(by, g.columns), ")", literals, 0)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(findParallel)
	for _, soql := range queries {
		eg.Go(func() error {
			result, err := t.client.Query(ctx, soql)
			if err != nil {
				return fmt.Errorf("compare %s records with the org's: %w", t.object.Name, err)
			}
			defer result.Close()
			for result.Next() {
				record := result.Record()
				if value, null := record.Get(by.Name); !null {
					// SOQL compares without regard to case, which an upsert may not.
					g.mu.Lock()
					for _, x := range wanted[by.fold(value)] {
						g.take(x, record)
					}
					g.mu.Unlock()
				}
			}
			if err := result.Err(); err != nil {
				return fmt.Errorf("compare %s records with the org's: %w", t.object.Name, err)
			}
			return nil
		})
	}
	return eg.Wait()
}

// values is a record as it was read: a field's text by its path.
type values interface {
	Get(path string) (text string, null bool)
}

// take compares a row with a record that was found for it.
func (g *reading) take(x *row, record values) {
	id, null := record.Get("Id")
	if null {
		return
	}
	if full, ok := canonicalID(id); ok {
		id = full
	}
	if g.first {
		if slices.Contains(x.found, id) {
			return
		}
		x.found = append(x.found, id)
		x.exists, x.part = true, true
	}
	if len(x.found) != 1 || x.found[0] != id {
		return // whichever it is, all of the row is sent
	}
	for i := range x.op.Assignments {
		a := &x.op.Assignments[i]
		if g.set.has(a.Field) && g.t.sends(x, a) && g.t.same(x, a, record) {
			x.same.add(a.Field)
		}
	}
}

// same reports whether a record holds what a row would write into a field.
func (t *Target) same(x *row, a *planner.Assignment, record values) bool {
	col := t.columns[a.Field]
	text, null := record.Get(col.Name)
	if col.class != classReference {
		return col.holds(a.Cell, text, null)
	}
	by, known := "", false
	if col.readable() {
		var none bool
		by, none = record.Get(col.header)
		known = !none
	}
	return col.holdsReference(a.Cell, x.refs[a.Field], text, null, by, known)
}

// passSame takes the rows out whose records hold all of them already.
func (t *Target) passSame(rows []*row) (ready []*row, done []decided) {
	ready = make([]*row, 0, len(rows))
	for _, x := range rows {
		if !x.compared || len(x.found) != 1 || t.sendsAny(x) {
			ready = append(ready, x)
			continue
		}
		o := destinations.Outcome{Result: destinations.Skipped, Same: true, ID: x.found[0], Attempts: x.attempts}
		if x.doubt && x.attempts > 0 {
			// It was sent, and the answer was lost: this is the answer.
			o.Result, o.Same = destinations.Updated, false
			if x.kind == planner.ClearFields {
				o.Result = destinations.Cleared
			}
		}
		if len(x.omit) > 0 {
			o.Omitted = x.omit
			o.Code, o.Message = codeReferenceNotFound, cut("taken for equal without "+t.missing(x.op, x.omit))
			for _, i := range x.omit {
				o.Fields = append(o.Fields, t.columns[i].Name)
			}
		}
		done = append(done, decided{x, o})
	}
	return ready, done
}

func (t *Target) sendsAny(x *row) bool {
	for i := range x.op.Assignments {
		if t.sends(x, &x.op.Assignments[i]) {
			return true
		}
	}
	return false
}
