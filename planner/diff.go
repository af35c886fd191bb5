package planner

import (
	"fmt"
	"sort"

	"coho/models"
)

// plan maps a row and plans what makes its record equal to it. e is the row's
// entry, nil where there is none.
func (j *joiner) plan(rec []byte, e *Entry) error {
	if err := j.row(rec); err != nil {
		return err
	}
	key, err := j.key()
	if err != nil {
		return err
	}
	match, folded, ok, err := j.match(rec, key)
	if ok && err == nil {
		ok, err = j.evaluate(rec, key)
	}
	if err != nil {
		return err
	}
	if !ok {
		return j.keep(rec, e)
	}

	if e != nil && e.Acked && j.spec.Mode == models.ModeInsert && !j.merges() {
		// Of a record that was inserted, all that may follow is that it is merged.
		return j.settledAlready(rec, e.Fingerprint == Hash(rec[16:32]) && !e.Displaced)
	}

	o := &j.op
	*o = Operation{
		Kind: j.spec.kind(), KeyHash: Hash(rec[:16]), Fingerprint: Hash(rec[16:32]), Key: key, Match: match,
		Assignments: o.Assignments[:0],
	}
	var before *Record
	known := e != nil && e.Acked
	if known {
		record, err := j.cur.Record()
		if err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		// Another match value is another record, of which nothing is known:
		// it gets every field.
		if j.spec.Mode != models.ModeArchive && !e.Displaced && j.spec.normalize(record.Match) == folded {
			before, o.ID, o.Known = &record, record.ID, true
		}
		o.Counted, o.held = !e.Gone, true
	}
	if j.spec.Mode == models.ModeArchive {
		return j.count(known, nil, folded)
	}
	sends := j.assign(before)
	if known && o.Known && !sends && !j.spec.Full {
		return j.settledAlready(rec, false)
	}
	return j.count(known, before, folded)
}

// count adds j.op to the plan as that of a new or of a changed row.
func (j *joiner) count(known bool, before *Record, folded string) error {
	if known {
		j.chunk.rows.Changed++
	} else {
		j.chunk.rows.Added++
	}
	return j.emit(before, folded)
}

// match converts the row's match value, and folds it. ok is false where the row was rejected
// for it.
func (j *joiner) match(rec []byte, key []string) (match, folded string, ok bool, err error) {
	c := j.spec.MatchColumn
	if c < 0 {
		return "", "", true, nil
	}
	if j.cells[c] != nil {
		v, err := j.b.schema.Decode(c, j.cells[c])
		var cell models.Cell
		if err == nil {
			cell, err = j.spec.Convert(matchField, v)
		}
		if err != nil {
			return "", "", false, j.reject(rec, key, CodeInvalidValue, fmt.Sprintf("match column %s: %v", j.matchColumn(), err), j.matchNames()...)
		}
		if !cell.Null {
			if folded = j.spec.normalize(cell.Text); folded != "" {
				return cell.Text, folded, true, nil
			}
		}
	}
	return "", "", false, j.reject(rec, key, CodeNullMatch, fmt.Sprintf("match column %s is null or empty, so the row has no record", j.matchColumn()), j.matchNames()...)
}

func (j *joiner) matchColumn() string { return j.b.schema.Columns()[j.spec.MatchColumn].Name }

func (j *joiner) matchNames() []string {
	if j.spec.MatchField == "" {
		return nil
	}
	return []string{j.spec.MatchField}
}

// evaluate maps and converts the fields into j.result. ok is false where the row
// was rejected for a value.
func (j *joiner) evaluate(rec []byte, key []string) (ok bool, err error) {
	if len(j.spec.Fields) == 0 || j.spec.Mode == models.ModeArchive {
		return true, nil
	}
	if j.eval == nil {
		j.eval = j.spec.NewEvaluator()
	}
	j.eval.Eval(j.cells, j.values, j.errs)
	var code, message string
	var bad []string
	for i, v := range j.values {
		err := j.errs[i]
		if err == nil {
			j.result[i], err = j.spec.Convert(i, v)
		}
		if err == nil {
			continue
		}
		if bad == nil {
			code, message = j.spec.valueProblem(i, err)
		}
		bad = append(bad, j.spec.Fields[i].Name)
	}
	if bad == nil {
		return true, nil
	}
	if len(bad) > 1 {
		message = fmt.Sprintf("%s (and %d more fields)", message, len(bad)-1)
	}
	return false, j.reject(rec, key, code, message, bad...)
}

// assign fills in j.op's assignments from j.result and the acknowledged record,
// nil for a record of which nothing is known, and reports whether any is sent.
func (j *joiner) assign(before *Record) (sends bool) {
	o := &j.op
	differs, merges := false, j.merges()
	for i := range j.result {
		f, cell := &j.spec.Fields[i], j.result[i]
		if merges && i != j.absorbed {
			continue
		}
		if f.CreateOnly {
			if before == nil && o.Kind != Update && (!cell.Null || j.spec.Nulls == "write") {
				o.Assignments = append(o.Assignments, Assignment{Field: i, Cell: cell, Send: OnCreate})
			}
			continue
		}
		old, had := recorded(before, f.Name)
		a := Assignment{Field: i, Cell: cell, Send: Always}
		switch {
		case had && old == cell:
			a.Send = Keep
		case !cell.Null:
		case f.Absorbed:
			if !had {
				continue
			}
		case j.spec.Nulls == "ignore":
			if !had {
				continue
			}
			a.Cell, a.Send = old, Keep
		case !had && j.spec.Nulls != "write":
			continue
		}
		if a.Send == Always {
			differs = true
		}
		o.Assignments = append(o.Assignments, a)
	}
	if !j.spec.Full && (!differs || j.spec.Send != "all") {
		return differs
	}
	// Everything goes: but a null is sent only where one was or may be, and
	// never in place of a value that "ignore" has kept.
	for i := range o.Assignments {
		a := &o.Assignments[i]
		if a.Send != Keep || j.result[a.Field].Null && (j.spec.Nulls == "ignore" || j.spec.Nulls != "write" && j.spec.Full) {
			continue
		}
		a.Send = Always
	}
	return true
}

// merges reports whether the row's record is to be merged into another, by j.result.
func (j *joiner) merges() bool { return j.absorbed >= 0 && !j.result[j.absorbed].Null }

// recorded returns what a record holds in a field.
func recorded(r *Record, field string) (models.Cell, bool) {
	if r == nil {
		return models.Cell{}, false
	}
	i := sort.Search(len(r.Fields), func(i int) bool { return r.Fields[i].Name >= field })
	if i < len(r.Fields) && r.Fields[i].Name == field {
		return r.Fields[i].Cell, true
	}
	return models.Cell{}, false
}

// removed plans what on_removed says for the current entry, whose row left the
// model.
func (j *joiner) removed() error {
	e := &j.entry
	if e.Held() {
		return nil // should the row return, it is still not known what became of it
	}
	if !e.Acked {
		return j.note(Note{Kind: NoteForget, Entry: Entry{KeyHash: e.KeyHash}})
	}
	if err := j.checkDisplaced(); err != nil {
		return err
	}
	if e.Displaced {
		if !e.Gone {
			j.chunk.rows.Removed++
		}
		return j.note(Note{Kind: NoteForget, Counted: !e.Gone, Entry: Entry{KeyHash: e.KeyHash}})
	}
	if e.Gone {
		if j.spec.Mode == models.ModeArchive {
			return j.note(Note{Kind: NoteForget, Entry: Entry{KeyHash: e.KeyHash}})
		}
		return nil
	}
	j.chunk.rows.Removed++
	forget := Note{Kind: NoteForget, Counted: true, Entry: Entry{KeyHash: e.KeyHash}}
	gone := Note{Kind: NoteGone, Counted: true, Entry: *e}
	gone.Entry.Gone = true
	switch {
	case j.spec.Mode == models.ModeArchive:
		return j.note(forget)
	case j.spec.Mode == models.ModeInsert, j.spec.OnRemoved == models.RemovedNothing, j.spec.OnRemoved == "":
		return j.note(gone)
	}
	record, err := j.cur.Record()
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if j.absorbed >= 0 {
		if cell, had := recorded(&record, j.spec.Fields[j.absorbed].Name); had && !cell.Null {
			return j.note(forget) // the record is another row's, of which this one was a part
		}
	}
	if record.ID != "" && !j.spec.MatchIsKey {
		owner, ok, err := j.b.snap.Owner(record.ID)
		if err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		if ok && owner != e.KeyHash {
			return j.note(forget)
		}
	}
	o := &j.op
	*o = Operation{
		Kind: Archive, KeyHash: e.KeyHash, Key: record.Key, ID: record.ID, Match: record.Match,
		Known: true, Counted: true, held: true, Assignments: o.Assignments[:0],
	}
	if j.spec.OnRemoved == models.RemovedClearFields {
		o.Kind = ClearFields
		if !j.clear(&record) {
			return j.note(gone)
		}
	}
	folded := ""
	if record.Match != "" {
		folded = j.spec.normalize(record.Match)
	}
	return j.emit(&record, folded)
}

// clear assigns null to every recorded field that can take it and has it not,
// and reports whether there is one.
func (j *joiner) clear(record *Record) (sends bool) {
	o := &j.op
	for i := range j.spec.Fields {
		f := &j.spec.Fields[i]
		old, had := recorded(record, f.Name)
		if !had || f.CreateOnly {
			continue
		}
		a := Assignment{Field: i, Cell: old, Send: Keep}
		if !old.Null && !f.KeepOnClear && f.Name != j.spec.MatchField {
			a.Cell, a.Send = models.NullCell, Always
			sends = true
		}
		o.Assignments = append(o.Assignments, a)
	}
	return sends
}
