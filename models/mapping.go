package models

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/expr-lang/expr/vm"
)

// MappingError is one mistake of a sync's mapping.
type MappingError struct {
	Pos     string // file:line:column, "" if unknown
	Field   string // the destination's field; "" for the primary key and the match
	Message string
}

// Error implements error, in one line.
func (e MappingError) Error() string {
	var b strings.Builder
	if e.Pos != "" {
		b.WriteString(e.Pos)
		b.WriteString(": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// MappingErrors is every mistake of a sync's mapping. It is never empty.
type MappingErrors []MappingError

// Error implements error, a line a mistake.
func (es MappingErrors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Mapping is a sync's field mappings bound to the columns of its query. It is
// immutable and safe for use by several goroutines.
type Mapping struct {
	fields  []boundField
	names   []string // of all columns of the query
	columns []int
	hash    string
}

// boundField is a field with its columns' indexes.
type boundField struct {
	column   int // of a column or a lookup; -1 for the others
	constant Value
	expr     *Expression
	reads    []int // columns of expr, in the order of its vars
}

// CompileMapping binds the sync's fields to the columns of its query. The
// error is a [MappingErrors] with every mistake: a column (mapped, of the
// match, of the primary key) that the query does not have or has twice, an
// expression that does not compile or is not pure.
func CompileMapping(s *Sync, cols []Column) (*Mapping, error) {
	m := &Mapping{fields: make([]boundField, len(s.Fields)), names: make([]string, len(cols))}
	for i, c := range cols {
		m.names[i] = c.Name
	}
	var mistakes MappingErrors
	for _, key := range s.Model.PrimaryKey {
		if _, err := m.index(key); err != nil {
			mistakes = append(mistakes, MappingError{Pos: s.Pos, Message: "primary key: " + err.Error()})
		}
	}
	if s.Match.Column != "" && !slices.Contains(s.Model.PrimaryKey, s.Match.Column) {
		if _, err := m.index(s.Match.Column); err != nil {
			mistakes = append(mistakes, MappingError{Pos: s.Pos, Message: "match: " + err.Error()})
		}
	}
	for i := range s.Fields {
		f := &s.Fields[i]
		bound, err := m.bind(f)
		for _, e := range err {
			mistakes = append(mistakes, MappingError{Pos: f.Pos, Field: f.Name, Message: e.Error()})
		}
		m.fields[i] = bound
		if bound.column >= 0 {
			m.columns = append(m.columns, bound.column)
		}
		m.columns = append(m.columns, bound.reads...)
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	slices.Sort(m.columns)
	m.columns = slices.Compact(m.columns)
	m.hash = hashFields(s.Fields)
	return m, nil
}

func (m *Mapping) bind(f *Field) (boundField, []error) {
	bound := boundField{column: -1}
	var err error
	switch {
	case f.Column != "":
		bound.column, err = m.index(f.Column)
	case f.Lookup != nil:
		bound.column, err = m.index(f.Lookup.Column)
	case f.Constant != nil:
		bound.constant = *f.Constant
	case f.RecordType != "":
		bound.constant = TextValue(f.RecordType)
	case f.Expr != "":
		if bound.expr, err = CompileExpression(f.Expr); err != nil {
			break
		}
		var unknown []error
		for _, name := range bound.expr.names {
			i, err := m.index(name)
			if err != nil {
				unknown = append(unknown, fmt.Errorf("expression: %w", err))
			}
			bound.reads = append(bound.reads, i)
		}
		if unknown != nil {
			return boundField{column: -1}, unknown
		}
	default:
		err = errors.New("nothing fills the field")
	}
	if err != nil {
		return boundField{column: -1}, []error{err}
	}
	return bound, nil
}

func (m *Mapping) index(name string) (int, error) {
	i := slices.Index(m.names, name)
	if i < 0 {
		if near := Nearest(name, m.names); near != "" {
			return -1, fmt.Errorf("the query has no column %q (nearest: %q)", name, near)
		}
		return -1, fmt.Errorf("the query has no column %q", name)
	}
	if slices.Contains(m.names[i+1:], name) {
		return -1, fmt.Errorf("the query has several columns %q", name)
	}
	return i, nil
}

// Columns returns the indexes of the columns that the mapped fields read,
// ascending, each once. Key columns are among them only if mapped.
func (m *Mapping) Columns() []int { return slices.Clone(m.columns) }

// Hash identifies the mapping: the fields' names and what fills them. Two
// mappings with the same hash give the same values for the same row.
func (m *Mapping) Hash() string { return m.hash }

func hashFields(fields []Field) string {
	h := sha256.New()
	part := func(s string) {
		// The length keeps the parts apart, whatever they hold.
		_, _ = fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	for i := range fields {
		f := &fields[i]
		part(f.Name)
		if f.Object != "" {
			part("object")
			part(f.Object)
		}
		part(strconv.FormatBool(f.OnCreate))
		switch {
		case f.Column != "":
			part("column")
			part(f.Column)
		case f.Lookup != nil:
			part("lookup")
			part(f.Lookup.Object)
			part(f.Lookup.Field)
			part(f.Lookup.Column)
		case f.Constant != nil:
			part("value")
			part(f.Constant.kind.String())
			part(f.Constant.Text())
		case f.RecordType != "":
			part("record_type")
			part(f.RecordType)
		case f.Expr != "":
			part("expr")
			part(f.Expr)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// NewEvaluator returns an evaluator of the mapping for rows of schema, whose
// columns must be those that the mapping was compiled with.
func (m *Mapping) NewEvaluator(schema Schema) *Evaluator {
	e := &Evaluator{
		m:      m,
		schema: schema,
		cells:  make([]decoded, len(m.names)),
		once:   make([]bool, len(m.names)),
		env:    map[string]any{},
		vm:     vm.VM{MemoryBudget: expressionBudget},
	}
	uses := make([]int, len(m.names))
	for i := range m.fields {
		if c := m.fields[i].column; c >= 0 {
			uses[c]++
		}
		for _, c := range m.fields[i].reads {
			uses[c]++
		}
	}
	for c, n := range uses {
		e.once[c] = n == 1
	}
	return e
}

// NewBorrower returns an evaluator whose values' texts may be parts of the row's
// cells, which are to be left as they are until the values are done with. Expressions
// get texts of their own, as nobody knows what they keep.
func (m *Mapping) NewBorrower(schema Schema) *Evaluator {
	e := m.NewEvaluator(schema)
	if s, ok := schema.(TextSchema); ok {
		e.texts = make([]bool, len(m.names))
		for c := range e.texts {
			e.texts[c] = s.IsText(c)
		}
	}
	return e
}

// Evaluator computes the values of the mapped fields of one row after
// another. It is for one goroutine.
type Evaluator struct {
	m      *Mapping
	schema Schema
	row    uint64 // number of the current row
	cells  []decoded
	once   []bool // the columns that nothing reads twice, so that cells need not hold them
	env    map[string]any
	vm     vm.VM

	texts []bool // the columns whose cells are their texts; nil where none is borrowed
}

// decoded is a column's value in the row whose number it carries.
type decoded struct {
	row   uint64 // 0: none yet
	bound uint64 // the row whose value env holds
	value Value
	err   error
}

// Eval sets out[i] and errs[i] for the i-th field of the sync: the value that
// fills it, or why this row has none. A lookup's value is that of its column
// and a record type's its developer name; finding the record is the destination's part. cells is the row as
// [SplitFrame] leaves it. Each column is decoded once at most.
func (e *Evaluator) Eval(cells [][]byte, out []Value, errs []error) {
	e.row++
	for i := range e.m.fields {
		f := &e.m.fields[i]
		switch {
		case f.column >= 0 && e.once[f.column]:
			cell := cells[f.column]
			switch {
			case cell == nil:
				out[i], errs[i] = Value{}, nil
			case e.texts != nil && e.texts[f.column] && utf8.Valid(cell):
				out[i], errs[i] = TextValue(unsafe.String(unsafe.SliceData(cell), len(cell))), nil
			default:
				out[i], errs[i] = e.schema.Decode(f.column, cell)
			}
		case f.column >= 0:
			out[i], errs[i] = e.cell(cells, f.column)
		case f.expr != nil:
			out[i], errs[i] = e.run(cells, f)
		default:
			out[i], errs[i] = f.constant, nil
		}
	}
}

func (e *Evaluator) cell(cells [][]byte, col int) (Value, error) {
	d := &e.cells[col]
	if d.row == e.row {
		return d.value, d.err
	}
	d.row, d.value, d.err = e.row, Value{}, nil
	if cells[col] != nil {
		if d.value, d.err = e.schema.Decode(col, cells[col]); d.err != nil {
			d.value = Value{}
		}
	}
	return d.value, d.err
}

func (e *Evaluator) run(cells [][]byte, f *boundField) (Value, error) {
	for i, col := range f.reads {
		v, err := e.cell(cells, col)
		if err != nil {
			return Value{}, err
		}
		if d := &e.cells[col]; d.bound != e.row {
			d.bound = e.row
			e.env[f.expr.vars[i]] = exprValue(v)
		}
	}
	result, err := e.vm.Run(f.expr.program, e.env)
	if err != nil {
		return Value{}, fmt.Errorf("expression: %w", oneLine(err))
	}
	return valueOf(result)
}
