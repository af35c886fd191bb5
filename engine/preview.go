package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"coho/destinations"
	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
)

// Preview is everything about one row of a sync: what the warehouse, the
// snapshot and the org hold of it, and what a run would do with it.
type Preview struct {
	Sync string            `json:"sync"`
	Key  map[string]string `json:"key"`
	// InModel is how many rows of the model have the key.
	InModel int             `json:"in_model"`
	Columns []PreviewColumn `json:"columns"`
	Fields  []PreviewField  `json:"fields"`
	Match   *PreviewField   `json:"match,omitempty"`
	Lookups []LookupNote    `json:"lookups,omitempty"`

	// Snapshot is nil where nothing was acknowledged or refused of the row.
	Snapshot *PreviewSnapshot `json:"snapshot"`
	// Org are the records that the org has for the row.
	Org []PreviewRecord `json:"org"`

	// Operation is what a run would do: an operation's name, "unchanged",
	// "rejected", or "nothing" where the row is in neither model nor snapshot.
	Operation string        `json:"operation"`
	Why       string        `json:"why"`
	Code      string        `json:"code,omitempty"`
	Changes   []SampleField `json:"changes,omitempty"`
	// Equal are those of Changes that the org's record holds already, so that
	// they will not be sent (only_sync_different).
	Equal    []string `json:"equal,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// PreviewColumn is a column of the model's row.
type PreviewColumn struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Value *string `json:"value"`
	Error string  `json:"error,omitempty"`
}

// PreviewField is a mapped field, what fills it, and the value as it would be
// sent. A lookup's is the value that the record is found by.
type PreviewField struct {
	Field string  `json:"field"`
	From  string  `json:"from"`
	Value *string `json:"value"`
	Error string  `json:"error,omitempty"`
}

// PreviewSnapshot is what is known of the row's record.
type PreviewSnapshot struct {
	ID      string             `json:"id"`
	Match   string             `json:"match"`
	Fields  map[string]*string `json:"fields"`
	Gone    bool               `json:"gone,omitempty"`
	Refused string             `json:"refused,omitempty"` // the code of the last refusal
}

// PreviewRecord is a record as the org holds it now.
type PreviewRecord struct {
	ID     string             `json:"id"`
	Fields map[string]*string `json:"fields"`
}

// mostAlike is how many rows with one match value are compared.
const mostAlike = 1000

// Preview shows one row of a sync, and sends nothing. key has the text of each
// primary key column. The whole model is read; one row is kept of it, and those
// that share its match value.
func (e *Engine) Preview(ctx context.Context, name string, key []string) (pre *Preview, err error) {
	s, err := e.Sync(name)
	if err != nil {
		return nil, err
	}
	if len(key) != len(s.Model.PrimaryKey) {
		return nil, usagef("the key of sync %s has %d columns (%v), and %d values were given", name, len(s.Model.PrimaryKey), s.Model.PrimaryKey, len(key))
	}
	if s.Picklist != "" {
		return nil, togetherError(s)
	}
	if err := e.Lock("coho plan " + name); err != nil {
		return nil, err
	}
	release, err := e.claim(name)
	if err != nil {
		return nil, err
	}
	defer release()
	store, err := e.openStore(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.shared.stores.drop(store)) }()
	p, err := e.prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	if be := bound(store, s, p.org); be != nil {
		return nil, be
	}
	pre = &Preview{Sync: name, Key: keyMap(s.Model.PrimaryKey, key), Columns: []PreviewColumn{}, Fields: []PreviewField{}, Org: []PreviewRecord{}, Lookups: lookupNotes(p.target)}
	if ref, ok, err := store.ActivePlan(); err != nil {
		return nil, err
	} else if ok {
		pre.Warnings = append(pre.Warnings, fmt.Sprintf("the plan of run %s is not finished; this shows the row as it would be planned now", ref.RunID))
	}
	spec := e.spec(p, p.schema, false)
	a := &alone{p: p, spec: &spec, wanted: spec.KeyHash(key), cells: make([][]byte, len(p.schema.Columns()))}
	if err := e.readAlone(ctx, a, store); err != nil {
		return nil, err
	}
	pre.InModel = a.same
	match, err := pre.mapped(p, &spec, a)
	if err != nil {
		return nil, err
	}
	id, err := pre.known(store, a.wanted, &match)
	if err != nil {
		return nil, err
	}
	if l, ok := p.target.(destinations.Looker); ok {
		found, err := l.Look(ctx, id, match)
		if err != nil {
			return nil, err
		}
		a.found = found
		for _, f := range found {
			one := PreviewRecord{ID: f.ID, Fields: map[string]*string{}}
			for n, c := range f.Fields {
				one.Fields[n] = textOf(c)
			}
			pre.Org = append(pre.Org, one)
		}
	}
	return pre, e.decide(ctx, pre, store, a)
}

// alone are the rows of a model that decide what becomes of one.
type alone struct {
	p      *prepared
	spec   *planner.Spec
	wanted planner.Hash
	same   int    // rows with the key
	read   int64  // rows of the model that have a key
	held   bool   // the snapshot has an entry for the row
	match  string // its match value, folded; "" where there is none to compare
	first  []byte // the frame of the first of them
	frames [][]byte
	keys   []planner.Hash
	cells  [][]byte
	buf    []byte
	at     int
	found  []destinations.Found // what the org holds of the row
}

// readAlone reads the model for the row, and, where rows of other keys may be
// the same record, once more for those.
func (e *Engine) readAlone(ctx context.Context, a *alone, store *snapshot.Store) error {
	rec, held, err := recordOf(store, a.wanted)
	if err != nil {
		return err
	}
	a.held = held
	a.keys = []planner.Hash{a.wanted}
	err = e.eachRow(ctx, a, func(h planner.Hash, frame []byte) {
		if h != a.wanted {
			return
		}
		a.same++
		if len(a.frames) < 2 { // two are enough to be a duplicate
			a.frames = append(a.frames, bytes.Clone(frame))
		}
	})
	if err != nil {
		return err
	}
	if a.same > 0 {
		a.first = a.frames[0]
	}
	if a.same > 1 || a.spec.MatchColumn < 0 || a.spec.MatchIsKey {
		return nil
	}
	if a.same == 0 {
		// A row of another key may have taken the record over.
		a.match = a.p.target.NormalizeMatch(rec.Match)
	} else {
		if err := models.SplitFrame(a.first, a.cells); err != nil {
			return err
		}
		a.match = a.matchValue()
	}
	if a.match == "" {
		return nil
	}
	return e.eachRow(ctx, a, func(h planner.Hash, frame []byte) {
		if h != a.wanted && len(a.frames) < mostAlike && a.matchValue() == a.match {
			a.frames, a.keys = append(a.frames, bytes.Clone(frame)), append(a.keys, h)
		}
	})
}

// matchValue is the folded match value of the row in a.cells, "" where it has
// none.
func (a *alone) matchValue() string {
	c := a.spec.MatchColumn
	if a.cells[c] == nil {
		return ""
	}
	v, err := a.p.schema.Decode(c, a.cells[c])
	if err != nil {
		return ""
	}
	cell, err := a.p.target.Convert(destinations.MatchField, v)
	if err != nil || cell.Null {
		return ""
	}
	return a.p.target.NormalizeMatch(cell.Text)
}

// eachRow reads the model's rows that have a key. The frame is valid, and
// a.cells with it, while each is called.
func (e *Engine) eachRow(ctx context.Context, a *alone, each func(h planner.Hash, frame []byte)) (err error) {
	m := a.p.sync.Model
	src, err := e.source(m.Source)
	if err != nil {
		return err
	}
	rows, err := src.Read(serving(ctx, a.p.sync.Name), m)
	if err != nil {
		return fmt.Errorf("read model %s: %w", m.Name, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if rows.Schema().Version() != a.p.schema.Version() {
		return fmt.Errorf("read model %s: its columns changed while it was read; try again", m.Name)
	}
	a.read = 0
	for rows.Next() {
		frame := rows.Row()
		if err := models.SplitFrame(frame, a.cells); err != nil {
			return fmt.Errorf("read model %s: %w", m.Name, err)
		}
		var h planner.Hash
		var ok bool
		if h, ok, a.buf = a.spec.RowHash(a.p.schema, a.cells, a.buf); ok {
			a.read++
			each(h, frame)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read model %s: %w", m.Name, err)
	}
	return nil
}

// Schema implements planner.Rows.
func (a *alone) Schema() models.Schema { return a.p.schema }

// Next implements planner.Rows.
func (a *alone) Next() bool { a.at++; return a.at <= len(a.frames) }

// Row implements planner.Rows.
func (a *alone) Row() []byte { return a.frames[a.at-1] }

// Err implements planner.Rows.
func (a *alone) Err() error { return nil }

// recordOf reads what the snapshot holds of a row, and whether that is anything.
func recordOf(store *snapshot.Store, h planner.Hash) (rec planner.Record, held bool, err error) {
	cur, err := planner.NewAlone(store, h).Scan(planner.Hash{}, planner.Hash{})
	if err != nil {
		return rec, false, fmt.Errorf("read the snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, cur.Close()) }()
	if !cur.Next() {
		return rec, false, cur.Err()
	}
	if cur.Entry().Acked {
		if rec, err = cur.Record(); err != nil {
			return rec, true, fmt.Errorf("read the snapshot: %w", err)
		}
	}
	return rec, true, nil
}

// mapped shows the row's columns and what the mapping makes of them.
func (pre *Preview) mapped(p *prepared, spec *planner.Spec, a *alone) (match string, err error) {
	if a.first == nil {
		return "", nil
	}
	if err := models.SplitFrame(a.first, a.cells); err != nil {
		return "", err
	}
	columns := p.schema.Columns()
	decoded := make([]models.Value, len(columns))
	for i, c := range columns {
		one := PreviewColumn{Name: c.Name, Type: c.Type}
		if a.cells[i] != nil {
			if decoded[i], err = p.schema.Decode(i, a.cells[i]); err != nil {
				one.Error = err.Error()
			} else {
				text := decoded[i].Text()
				one.Value = &text
			}
		}
		pre.Columns = append(pre.Columns, one)
	}
	convert := func(field int, name, from string, v models.Value, err error) PreviewField {
		one := PreviewField{Field: name, From: from}
		var cell models.Cell
		if err == nil {
			cell, err = p.target.Convert(field, v)
		}
		if err != nil {
			one.Error = err.Error()
			return one
		}
		one.Value = textOf(cell)
		return one
	}
	if c := spec.MatchColumn; c >= 0 {
		one := convert(destinations.MatchField, spec.MatchField, filledBy(p.sync, destinations.MatchField), decoded[c], nil)
		pre.Match = &one
		if one.Value != nil {
			match = *one.Value
		}
	}
	values, errs := make([]models.Value, len(spec.Fields)), make([]error, len(spec.Fields))
	spec.NewEvaluator().Eval(a.cells, values, errs)
	for i, f := range spec.Fields {
		from := filledBy(p.sync, i)
		if l := p.sync.Fields[i].Lookup; l != nil {
			from = fmt.Sprintf("%s of the %s whose %s is column %s", "Id", l.Object, l.Field, l.Column)
		}
		pre.Fields = append(pre.Fields, convert(i, f.Name, from, values[i], errs[i]))
	}
	return match, nil
}

// known shows what the snapshot holds of the row, and gives its record's Id and,
// where the model has no such row, its match value.
func (pre *Preview) known(store *snapshot.Store, h planner.Hash, match *string) (id string, err error) {
	cur, err := planner.NewAlone(store, h).Scan(planner.Hash{}, planner.Hash{})
	if err != nil {
		return "", fmt.Errorf("read the snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, cur.Close()) }()
	if !cur.Next() {
		return "", cur.Err()
	}
	entry := cur.Entry()
	pre.Snapshot = &PreviewSnapshot{Gone: entry.Gone, Fields: map[string]*string{}}
	if entry.Refused {
		pre.Snapshot.Refused = entry.RefusedCode
	}
	if !entry.Acked {
		return "", nil
	}
	rec, err := cur.Record()
	if err != nil {
		return "", fmt.Errorf("read the snapshot: %w", err)
	}
	pre.Snapshot.ID, pre.Snapshot.Match = rec.ID, rec.Match
	for _, f := range rec.Fields {
		pre.Snapshot.Fields[f.Name] = textOf(f.Cell)
	}
	if *match == "" {
		*match = rec.Match
	}
	return rec.ID, nil
}

// decide plans the row, among those that share its match value.
func (e *Engine) decide(ctx context.Context, pre *Preview, store *snapshot.Store, a *alone) (err error) {
	if a.same == 0 && pre.Snapshot == nil {
		pre.Operation, pre.Why = "nothing", "the model has no such row, and nothing was ever written for one"
		return nil
	}
	id, err := NewRunID(e.o.Now())
	if err != nil {
		return err
	}
	dir := e.planDir(pre.Sync, id)
	plan, err := planner.Build(ctx, *a.spec, a, planner.NewAlone(store, a.keys...), dir, nil)
	if err != nil {
		return errors.Join(fmt.Errorf("plan sync %s: %w", pre.Sync, err), os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, plan.Close(), os.RemoveAll(dir)) }()
	rejected, err := plan.Rejected()
	if err != nil {
		return fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	for rejected.Next() {
		if r := rejected.Rejected(); r.KeyHash == a.wanted {
			pre.Operation, pre.Code, pre.Why = "rejected", r.Code, r.Message
		}
	}
	if err := errors.Join(rejected.Err(), rejected.Close()); err != nil {
		return fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	for pass := range plan.Passes() {
		ops, err := plan.Operations(pass, &planner.SettledSet{})
		if err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		for ops.Next() {
			if o := ops.Operation(); o.KeyHash == a.wanted {
				pre.planned(o, plan.Fields(), a.same > 0)
				pre.compared(o, plan.Fields(), a)
			}
		}
		if err := errors.Join(ops.Err(), ops.Close()); err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
	}
	if pre.Operation == "" {
		pre.Operation = "unchanged"
		switch mode := a.p.sync.Mode; {
		case a.same > 0 && (mode == models.ModeInsert || mode == models.ModeArchive):
			pre.Why = fmt.Sprintf("mode %s does nothing more with a row that is done", mode)
		case a.same > 0:
			pre.Why = "the fields are what the org has acknowledged"
		case pre.Snapshot.Gone:
			pre.Why = "the model has no such row any more, and what on_removed says was done when it left"
		default:
			pre.Why = fmt.Sprintf("the model has no such row any more; on_removed = %q leaves its record as it is", a.p.sync.OnRemoved)
		}
	}
	return nil
}

// planned shows an operation, and what it changes.
func (pre *Preview) planned(o *planner.Operation, fields []string, inModel bool) {
	pre.Operation = o.Kind.String()
	for _, as := range o.Assignments {
		if as.Send == planner.Keep {
			continue
		}
		one := SampleField{Field: fields[as.Field], After: textOf(as.Cell)}
		if pre.Snapshot != nil {
			one.Before = pre.Snapshot.Fields[one.Field]
		}
		pre.Changes = append(pre.Changes, one)
	}
	switch {
	case !inModel:
		pre.Why = "the model has no such row any more, and on_removed says so"
	case !o.Known:
		pre.Why = "nothing was acknowledged for the row yet"
	default:
		pre.Why = fmt.Sprintf("%d fields differ from what the org has acknowledged", len(pre.Changes))
	}
	if pre.Snapshot != nil && pre.Snapshot.Refused != "" {
		pre.Why += "; it was refused last time with " + pre.Snapshot.Refused
	}
}

// compared shows which changes the org's record holds already.
func (pre *Preview) compared(o *planner.Operation, fields []string, a *alone) {
	c, ok := a.p.target.(destinations.Comparer)
	if !ok || len(a.found) != 1 || o.Kind == planner.Insert || o.Kind == planner.Archive {
		return
	}
	for _, as := range o.Assignments {
		if as.Send == planner.Always && c.Holds(as.Field, as.Cell, a.found[0]) {
			pre.Equal = append(pre.Equal, fields[as.Field])
		}
	}
}

func textOf(c models.Cell) *string {
	if c.Null {
		return nil
	}
	text := c.Text
	return &text
}
