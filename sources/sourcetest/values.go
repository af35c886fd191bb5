package sourcetest

import (
	"fmt"
	"math"
	"testing"

	"coho/models"
	"coho/sources"
)

// Type is a value of one of the warehouse's types.
type Type struct {
	Name string
	SQL  string       // an expression that gives the value
	Want models.Value // what it decodes to

	// Kind is the column's; Null, the zero Kind, stands for Want's.
	Kind models.Kind

	// Err, if set, is part of the error that decoding gives instead.
	Err string

	// NullIs is what the warehouse makes of NULL where that is another value,
	// as an empty array.
	NullIs models.Value
}

// Equal reports whether two values are the same in kind and content. NaN
// equals NaN, and a decimal's digits count: 7.0 is not 7.00.
func Equal(a, b models.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case models.Float:
		return a.Float() == b.Float() || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	case models.List:
		if len(a.List()) != len(b.List()) {
			return false
		}
		for i := range a.List() {
			if !Equal(a.List()[i], b.List()[i]) {
				return false
			}
		}
		return true
	}
	return a.Int() == b.Int() && a.Str() == b.Str()
}

// Show prints a value with its kind, for failures.
func Show(v models.Value) string {
	if v.Kind() != models.List {
		return fmt.Sprintf("%s %q", v.Kind(), v.Text())
	}
	s := "list ["
	for i, e := range v.List() {
		if i > 0 {
			s += ", "
		}
		s += Show(e)
	}
	return s + "]"
}

// ReadAll runs the model and decodes every row. It holds AppendKey to its
// promise for every cell on the way.
func ReadAll(tb testing.TB, s sources.Source, m models.Model) (models.Schema, [][]models.Value) {
	tb.Helper()
	rows, err := s.Read(tb.Context(), m)
	if err != nil {
		tb.Fatalf("Read %.200s: %v", m.SQL, err)
	}
	defer closeRows(tb, rows)
	schema := rows.Schema()
	cells := make([][]byte, len(schema.Columns()))
	var out [][]models.Value
	for rows.Next() {
		if err := models.SplitFrame(rows.Row(), cells); err != nil {
			tb.Fatalf("row %d of %.200s: %v", len(out), m.SQL, err)
		}
		values := make([]models.Value, len(cells))
		for i, cell := range cells {
			if cell == nil {
				continue
			}
			v, err := schema.Decode(i, cell)
			if err != nil {
				tb.Fatalf("row %d of %.200s: %v", len(out), m.SQL, err)
			}
			checkKey(tb, schema, i, cell, v)
			values[i] = v
		}
		out = append(out, values)
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("read %.200s: %v", m.SQL, err)
	}
	return schema, out
}

func checkKey(tb testing.TB, schema models.Schema, col int, cell []byte, v models.Value) {
	tb.Helper()
	key, err := schema.AppendKey([]byte("before "), col, cell)
	if want := "before " + v.Text(); err != nil || string(key) != want {
		tb.Errorf("AppendKey of column %d = %q, %v; Decode gives %q", col, key, err, want)
	}
	texts, ok := schema.(models.TextSchema)
	if ok && texts.IsText(col) && (v.Kind() != models.Text || v.Str() != string(cell)) {
		tb.Errorf("column %d is said to be texts; Decode makes %s of cell %q", col, Show(v), cell)
	}
}

func closeRows(tb testing.TB, rows sources.Rows) {
	tb.Helper()
	if err := rows.Close(); err != nil {
		tb.Errorf("Rows.Close: %v", err)
	}
}
