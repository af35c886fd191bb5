package sources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"coho/models"
)

// TypeProber is an optional ability of a Source: to show that each of its types
// arrives as it should.
type TypeProber interface {
	// TypeProbes returns a value of every type.
	TypeProbes() []TypeProbe
}

// TypeProbe is an expression and what its value must arrive as. Any account that
// may run a query can run it: it reads no table.
type TypeProbe struct {
	Type string // the warehouse's own name
	Expr string
	Text string // as models.Value.Text gives it
	Null bool   // it must arrive as null, and Text is empty
}

// Probed is what became of a probe.
type Probed struct {
	TypeProbe
	Got     string
	GotNull bool
	OK      bool
	Err     error // of the query or of its value
}

// Probe runs one query a type, and leaves none out because another failed.
func Probe(ctx context.Context, s Source, probes []TypeProbe) []Probed {
	out := make([]Probed, len(probes))
	for i, p := range probes {
		out[i].TypeProbe = p
		value, err := readOne(ctx, s, p.Expr)
		if err != nil {
			out[i].Err = err
			continue
		}
		out[i].GotNull = value.IsNull()
		if !out[i].GotNull {
			out[i].Got = value.Text()
		}
		out[i].OK = out[i].GotNull == p.Null && (out[i].Got == p.Text || value.Kind() == models.JSON && sameJSON(out[i].Got, p.Text))
	}
	return out
}

// sameJSON: warehouses differ in how they space a document, which means nothing.
func sameJSON(a, b string) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, []byte(a)) == nil && json.Compact(&y, []byte(b)) == nil && x.String() == y.String()
}

// readOne returns the value of an expression.
func readOne(ctx context.Context, s Source, expr string) (v models.Value, err error) {
	rows, err := s.Read(ctx, models.Model{Name: "types", SQL: "SELECT " + expr + " AS v"})
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return v, errors.Join(errors.New("the query gave no row"), rows.Err())
	}
	cells := make([][]byte, 1)
	if err := models.SplitFrame(rows.Row(), cells); err != nil {
		return v, err
	}
	if cells[0] != nil {
		if v, err = rows.Schema().Decode(0, cells[0]); err != nil {
			return v, err
		}
	}
	for rows.Next() { // to the end, which is the warehouse's word that all is well
	}
	return v, rows.Err()
}
