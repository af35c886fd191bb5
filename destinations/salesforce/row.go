package salesforce

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"coho/destinations"
	"coho/models"
	"coho/planner"
)

// call is a call of the wire protocol. Operations of one call share requests.
type call uint8

const (
	callCreate call = iota
	callUpdate
	callUpsert
	callDelete
	callCount int = iota
)

// String names the call as the API's operations are named, which is what a
// batch's Step holds.
func (c call) String() string {
	return [...]string{"insert", "update", "upsert", "delete"}[c]
}

// stepComplete marks a batch whose unsettled operations must be sent complete,
// because the org created records that were thought to exist.
const stepComplete = "complete"

func callOf(k planner.Kind) call {
	switch k {
	case planner.Insert:
		return callCreate
	case planner.Upsert:
		return callUpsert
	case planner.Archive:
		return callDelete
	}
	return callUpdate
}

// row is an operation on its way.
type row struct {
	op   *planner.Operation
	kind planner.Kind // what is done: the operation's, or what it comes to in a two-object sync

	id       string         // the record's Id where the call goes by Id
	exists   bool           // upsert: the record is there, so create-only fields are left out
	complete bool           // send what the org is thought to hold too
	fill     []int          // of that, send these columns
	refs     map[int]string // Ids of references found by query, by column
	omit     []int          // references that are not there and are not sent
	relooked bool           // the org refused a reference, which is looked up anew
	rematch  bool           // the Id was found dead and looked for anew
	doubt    bool           // it was sent, and what became of it is not known
	compared bool           // with what the org holds
	found    []string       // where it was compared: the Ids of its records
	same     fieldSet       // columns of which the org holds the row's values already
	part     bool           // upsert: a record was there when it was compared, so that less than all may be sent
	prepared bool           // nothing is left to find out before it is sent
	attempts int
	jobTries int // of the attempts, those in bulk jobs
}

func newRow(op *planner.Operation, c call, complete bool) row {
	x := row{op: op, kind: op.Kind, id: op.ID, exists: op.Known && !complete, complete: complete}
	if op.Kind == planner.Upsert {
		// In a two-object sync an upsert is one of these.
		switch c {
		case callCreate:
			x.kind = planner.Insert
		case callUpdate:
			x.kind = planner.Update
		}
	}
	return x
}

// keep is a copy of a row whose operation is about to become invalid.
func (r *row) keep() *row {
	kept := *r
	kept.op = r.op.Clone()
	return &kept
}

// sends reports whether an assignment goes into the row's record.
func (t *Target) sends(r *row, a *planner.Assignment) bool {
	col := t.columns[a.Field]
	if col.virtual() {
		return false
	}
	if t.match != nil && col.Name == t.match.Name && callOf(r.kind) != callUpdate {
		return false // the match value goes as itself
	}
	if len(r.omit) > 0 && slices.Contains(r.omit, a.Field) || r.same.has(a.Field) {
		return false
	}
	switch a.Send {
	case planner.Always:
		return true
	case planner.OnCreate:
		switch r.kind {
		case planner.Insert:
			return true
		case planner.Upsert:
			return !r.exists
		}
		return false
	}
	return r.complete || slices.Contains(r.fill, a.Field)
}

// keyOf gives the text by which a row's result is recognised and its record
// found again, in the form that key's field gave it.
func (t *Target) keyOf(c call, r *row) string {
	switch c {
	case callUpdate, callDelete:
		return r.id
	case callCreate:
		if t.keyField != destinations.MatchField {
			for i := range r.op.Assignments {
				if a := &r.op.Assignments[i]; a.Field == t.keyField {
					return a.Cell.Text
				}
			}
		}
	}
	return r.op.Match
}

// key is the field whose value keyOf gives.
func (t *Target) key(c call) *field {
	switch c {
	case callUpdate, callDelete:
		return t.idField
	case callCreate:
		if t.keyField != destinations.MatchField {
			return t.columns[t.keyField].field
		}
	}
	return t.match
}

// appendJSON appends a row's record as a Collections call takes it. A field
// that is not sent is not in it; null clears.
func (t *Target) appendJSON(dst []byte, c call, r *row) []byte {
	dst = append(dst, `{"attributes":{"type":`...)
	dst = appendString(dst, t.object.Name)
	dst = append(dst, '}')
	switch {
	case c == callUpdate:
		dst = append(dst, `,"Id":`...)
		dst = appendString(dst, r.id)
	case t.match != nil && r.op.Match != "":
		dst = appendName(dst, t.match.Name)
		dst = t.match.appendValue(dst, r.op.Match)
	}
	for i := range r.op.Assignments {
		a := &r.op.Assignments[i]
		if !t.sends(r, a) {
			continue
		}
		col := t.columns[a.Field]
		id, found := r.refs[a.Field]
		switch {
		case a.Cell.Null && col.class == classBool:
			dst = append(appendName(dst, col.Name), "false"...)
		case a.Cell.Null:
			dst = append(appendName(dst, col.Name), "null"...)
		case found:
			dst = appendString(appendName(dst, col.Name), id)
		case col.parent != nil:
			dst = append(appendName(dst, col.RelationshipName), '{')
			if len(col.ReferenceTo) > 1 {
				dst = append(dst, `"attributes":{"type":`...)
				dst = appendString(dst, col.parentObject)
				dst = append(dst, "},"...)
			}
			dst = appendString(dst, col.parent.Name)
			dst = append(dst, ':')
			dst = append(col.parent.appendValue(dst, a.Cell.Text), '}')
		default:
			dst = col.appendValue(appendName(dst, col.Name), a.Cell.Text)
		}
	}
	return append(dst, '}')
}

func appendName(dst []byte, name string) []byte {
	dst = append(dst, ',')
	dst = appendString(dst, name)
	return append(dst, ':')
}

// appendValue appends a cell's text as JSON: numbers and booleans as such,
// with the digits they have.
func (f *field) appendValue(dst []byte, text string) []byte {
	switch f.class {
	case classInt, classNumber, classBool:
		return append(dst, text...)
	}
	return appendString(dst, text)
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= ' ' && b != '"' && b != '\\' && b < utf8.RuneSelf {
			i++
			continue
		}
		if b >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			i += size
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// What a CSV row can say (Bulk API 2.0 Developer Guide, "Prepare CSV Files").
const (
	csvNull      = "#N/A"
	maxCellRunes = 131_072
	maxRowRunes  = 400_000
)

// appendHeader appends the header of a call's CSV: the key first, then every
// field that a row of the call could fill, named as describe names them, since
// the org's results repeat only columns named exactly so.
func (t *Target) appendHeader(dst []byte, c call) []byte {
	first := true
	add := func(name string) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendCSV(dst, name)
	}
	if c == callUpdate || c == callDelete {
		add("Id")
	} else if t.match != nil {
		add(t.match.Name)
	}
	for i := range t.columns {
		if t.inCSV(c, i) {
			add(t.csvName(i))
		}
	}
	return append(dst, '\n')
}

// csvName is a column's header. What was resolved by query goes under the
// field's own name, as an Id.
func (t *Target) csvName(i int) string {
	if t.columns[i].byQuery {
		return t.columns[i].Name
	}
	return t.columns[i].header
}

func (t *Target) inCSV(c call, i int) bool {
	col := t.columns[i]
	if col.virtual() {
		return false
	}
	switch c {
	case callDelete:
		return false
	case callUpdate:
		return col.Updateable
	case callCreate:
		return col.Createable && (t.match == nil || col.Name != t.match.Name)
	}
	return t.match == nil || col.Name != t.match.Name
}

// appendRow appends a row's line of CSV. An empty cell leaves a field alone,
// #N/A clears it. ok is false for a row that CSV cannot carry and that must go
// through Collections: one with the text #N/A, for which there is no escape;
// one with a carriage return, which the org takes for a wrong line ending; one
// past the size limits.
func (t *Target) appendRow(dst []byte, c call, r *row) (line []byte, ok bool) {
	start := len(dst)
	first := true
	put := func(text string) bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if !sayable(text) {
			return false
		}
		dst = appendCSV(dst, text)
		return true
	}
	if c == callUpdate || c == callDelete {
		put(r.id)
	} else if t.match != nil && !put(r.op.Match) {
		return dst[:start], false
	}
	next := 0 // both assignments and columns ascend
	for i := range t.columns {
		if !t.inCSV(c, i) {
			continue
		}
		for next < len(r.op.Assignments) && r.op.Assignments[next].Field < i {
			next++
		}
		if next == len(r.op.Assignments) || r.op.Assignments[next].Field != i || !t.sends(r, &r.op.Assignments[next]) {
			put("")
			continue
		}
		cell := r.op.Assignments[next].Cell
		id, found := r.refs[i]
		switch {
		case cell.Null && t.columns[i].class == classBool:
			put("false")
		case cell.Null:
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, csvNull...)
		case found:
			put(id)
		case !put(cell.Text):
			return dst[:start], false
		}
	}
	dst = append(dst, '\n')
	if len(dst)-start > maxRowRunes && utf8.RuneCount(dst[start:]) > maxRowRunes {
		return dst[:start], false
	}
	return dst, true
}

// sayable reports whether a CSV cell can hold the text.
func sayable(text string) bool {
	if text == csvNull || strings.IndexByte(text, '\r') >= 0 {
		return false
	}
	return len(text) <= maxCellRunes || utf8.RuneCountInString(text) <= maxCellRunes
}

// appendCSV appends one cell, quoted where it must be: where it holds a comma,
// a quote or a line break, or has white space at an end.
func appendCSV(dst []byte, s string) []byte {
	if !strings.ContainsAny(s, ",\"\n\r") && trim(s) == s {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// literal is a value of the field as SOQL writes it.
func (f *field) literal(s string, quote func(string) string) string {
	switch f.class {
	case classInt, classNumber, classBool, classDate, classTime:
		return s
	case classDatetime:
		if t, err := parseTime(s); err == nil {
			// Instants are stored in whole seconds.
			return string(models.AppendTimestamp(nil, floorDiv(t.micros, 1e6)*1e6, true))
		}
	}
	return quote(s)
}

// describeKey names a row for messages and logs of the writer itself.
func describeKey(op *planner.Operation) string {
	return strings.Join(op.Key, "/") + " (operation " + strconv.FormatInt(op.Seq, 10) + ")"
}
