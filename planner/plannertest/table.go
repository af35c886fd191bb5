// Package plannertest holds what tests of the planner and of its snapshot share:
// a model in memory and a spec for it. It is for tests only.
package plannertest

import (
	"errors"
	"fmt"
	"strings"

	"coho/models"
	"coho/planner"
)

// Table is a result in memory whose columns are all text. It is its own schema.
type Table struct {
	Names  []string
	frames [][]byte
	at     int
	row    []byte
	// Fail ends the rows with this error.
	Fail error
}

// NewTable returns an empty table.
func NewTable(names ...string) *Table { return &Table{Names: names} }

// Add adds a row; "\x00" is null.
func (t *Table) Add(cells ...string) *Table {
	var frame []byte
	for _, c := range cells {
		if c == Null {
			frame = models.AppendCell(frame, nil)
		} else {
			frame = models.AppendCell(frame, append([]byte{}, c...))
		}
	}
	t.frames = append(t.frames, frame)
	return t
}

// Null is a null cell.
const Null = "\x00"

// Bad is a text that no field can take.
const Bad = "!bad"

// Schema implements planner.Rows.
func (t *Table) Schema() models.Schema { return t }

// Next implements planner.Rows.
func (t *Table) Next() bool {
	if t.at >= len(t.frames) {
		return false
	}
	// A copy into memory that is used again: what the planner keeps of a row
	// without copying it, it loses.
	t.row = append(t.row[:0], t.frames[t.at]...)
	t.at++
	return true
}

// Row implements planner.Rows.
func (t *Table) Row() []byte { return t.row }

// Err implements planner.Rows.
func (t *Table) Err() error { return t.Fail }

// Rewind starts over.
func (t *Table) Rewind() *Table { t.at = 0; return t }

// Columns implements models.Schema.
func (t *Table) Columns() []models.Column {
	out := make([]models.Column, len(t.Names))
	for i, n := range t.Names {
		out[i] = models.Column{Name: n, Type: "text", Kind: models.Text}
	}
	return out
}

// Version implements models.Schema.
func (t *Table) Version() string { return "plannertest" }

// Decode implements models.Schema.
func (t *Table) Decode(_ int, cell []byte) (models.Value, error) {
	return models.TextValue(string(cell)), nil
}

// AppendKey implements models.Schema.
func (t *Table) AppendKey(dst []byte, _ int, cell []byte) ([]byte, error) {
	return append(dst, cell...), nil
}

func (t *Table) column(name string) int {
	for i, n := range t.Names {
		if n == name {
			return i
		}
	}
	return -1
}

type evaluator struct {
	t    *Table
	cols []int
}

func (e evaluator) Eval(cells [][]byte, out []models.Value, errs []error) {
	for i, c := range e.cols {
		out[i], errs[i] = models.Value{}, nil
		if cells[c] != nil {
			out[i], errs[i] = e.t.Decode(c, cells[c])
		}
	}
}

// Convert takes texts as they are, null as null, and Bad not at all.
func Convert(_ int, v models.Value) (models.Cell, error) {
	switch {
	case v.IsNull():
		return models.NullCell, nil
	case v.Text() == Bad:
		return models.Cell{}, fmt.Errorf("%q is no such value", v.Text())
	}
	return models.Cell{Text: v.Text()}, nil
}

// Spec maps columns of t: keys is the primary key, match a column or "", fields
// the columns that fill fields of their own names, which must ascend.
func (t *Table) Spec(mode models.Mode, keys, match string, fields ...string) planner.Spec {
	s := planner.Spec{
		Mode: mode, OnRemoved: models.RemovedNothing, MatchColumn: t.column(match), MatchField: "Match", Version: 1,
		Convert: Convert, NormalizeMatch: func(m string) string { return strings.ToLower(strings.TrimSpace(m)) },
		ColumnName: func(f int) string { return "column " + fields[f] },
	}
	mapped := map[int]bool{}
	for _, k := range strings.Split(keys, ",") {
		s.KeyColumns = append(s.KeyColumns, t.column(k))
	}
	var cols []int
	for _, f := range fields {
		s.Fields = append(s.Fields, planner.Field{Name: f})
		cols = append(cols, t.column(f))
		mapped[t.column(f)] = true
	}
	if match != "" {
		mapped[s.MatchColumn] = true
	}
	for c := range t.Names {
		if mapped[c] {
			s.MappedColumns = append(s.MappedColumns, c)
		}
	}
	s.NewEvaluator = func() planner.Evaluator { return evaluator{t, cols} }
	return s
}

// Operations reads a plan's operations of all passes.
func Operations(p *planner.Plan) (ops []*planner.Operation, err error) {
	for pass := range p.Passes() {
		r, err := p.Operations(pass, nil)
		if err != nil {
			return nil, err
		}
		for r.Next() {
			ops = append(ops, r.Operation().Clone())
		}
		if err := errors.Join(r.Err(), r.Close()); err != nil {
			return nil, err
		}
	}
	return ops, nil
}
