package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"coho/destinations"
	"coho/models"
)

// Data is how a model's rows fit the fields that they fill, as they are now.
type Data struct {
	Rows int64 `json:"rows"`
	// NullKeys are rows without a primary key, and RepeatedKeys those that share
	// one: none of them can be sent.
	NullKeys     int64    `json:"null_keys"`
	RepeatedKeys Repeated `json:"repeated_keys"`
	// Match is the match field, and RepeatedMatches are values of it that rows
	// share, as the destination compares them. Match is nil where there is none.
	Match           *DataField  `json:"match"`
	RepeatedMatches Repeated    `json:"repeated_matches"`
	Fields          []DataField `json:"fields"`
	// Note says what is not looked at, "" where all is.
	Note string `json:"note,omitempty"`
}

// Repeated counts values that come more than once.
type Repeated struct {
	Values   int64    `json:"values"`
	Rows     int64    `json:"rows"` // that have one of them
	Examples []string `json:"examples,omitempty"`
}

// DataField is how rows fit one field.
type DataField struct {
	Field      string `json:"field"`
	From       string `json:"from"`
	SourceType string `json:"source_type"` // the warehouse's; "" of what is no column
	Type       string `json:"type"`        // the destination's
	// Length is how many characters the field takes, 0 where it counts none, and
	// Longest how many the longest value has.
	Length   int   `json:"length,omitempty"`
	Longest  int   `json:"longest,omitempty"`
	Nulls    int64 `json:"nulls"`
	Required bool  `json:"required"` // a new record must have a value
	// Unfit counts the values that the field cannot take, and Examples are some of
	// them, each with why, no two the same.
	Unfit    int64    `json:"unfit"`
	Examples []string `json:"examples,omitempty"`
}

// Failing reports whether rows would fail for the field.
func (f *DataField) Failing() bool { return f.Unfit > 0 || f.Required && f.Nulls > 0 }

// mostUnfit is how many different values that do not fit are shown of a field.
const mostUnfit = 5

// dataPass is one pass over a model.
type dataPass struct {
	data          *Data
	target        destinations.Target
	keys, matches *repeats
	value, text   []byte
}

// checkData reads the model once and says how its rows fit. It returns nil where
// the destination does not describe its fields. A million rows of six columns of
// DuckDB, on two cores of an AMD EPYC, took the whole of `coho validate` 1.2 s and
// 145 MB at most, a hundred thousand 0.14 s and 125 MB.
func (e *Engine) checkData(ctx context.Context, p *prepared) (data *Data, err error) {
	d, ok := p.target.(destinations.Describer)
	if !ok {
		return nil, nil
	}
	pass := &dataPass{data: &Data{Fields: []DataField{}}, target: p.target, keys: &repeats{}, matches: &repeats{}}
	defer func() { err = errors.Join(err, pass.keys.close(), pass.matches.close()) }()
	if _, ok := p.target.(destinations.Mirror); ok {
		pass.data.Note = "each row is checked by itself; whether they make a list, by `coho plan " + p.sync.Name + "`"
	}
	types := map[string]string{}
	for _, c := range p.schema.Columns() {
		types[c.Name] = c.Type
	}
	describe := func(field int, column string) DataField {
		f := d.DescribeField(field)
		return DataField{Field: f.Name, From: filledBy(p.sync, field), SourceType: types[column], Type: f.Type, Length: f.Length, Required: f.Required}
	}
	for i, f := range p.sync.Fields {
		column := f.Column
		if f.Lookup != nil {
			column = f.Lookup.Column
		}
		pass.data.Fields = append(pass.data.Fields, describe(i, column))
	}
	if p.sync.Match.Column != "" {
		m := describe(destinations.MatchField, p.sync.Match.Column)
		// Without a match value no record can be found, nor an upsert sent.
		m.Required = m.Required || p.sync.Mode != models.ModeInsert
		pass.data.Match = &m
	}
	if err := e.eachData(ctx, p, pass); err != nil {
		return nil, err
	}
	if pass.data.RepeatedKeys, err = pass.keys.count(); err != nil {
		return nil, err
	}
	if pass.data.RepeatedMatches, err = pass.matches.count(); err != nil {
		return nil, err
	}
	return pass.data, nil
}

// eachData reads the model and looks at every row.
func (e *Engine) eachData(ctx context.Context, p *prepared, pass *dataPass) (err error) {
	m := p.sync.Model
	src, err := e.source(m.Source)
	if err != nil {
		return err
	}
	rows, err := src.Read(serving(ctx, p.sync.Name), m)
	if err != nil {
		return fmt.Errorf("read model %s: %w", m.Name, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	schema := rows.Schema()
	if !slices.Equal(schema.Columns(), p.schema.Columns()) {
		return fmt.Errorf("read model %s: its columns changed while it was checked; try again", m.Name)
	}
	spec := e.spec(p, schema, false)
	cells := make([][]byte, len(schema.Columns()))
	values, errs := make([]models.Value, len(p.sync.Fields)), make([]error, len(p.sync.Fields))
	eval := p.mapping.NewEvaluator(schema)
	for rows.Next() {
		if err := models.SplitFrame(rows.Row(), cells); err != nil {
			return fmt.Errorf("read model %s: %w", m.Name, err)
		}
		pass.data.Rows++
		if err := pass.key(schema, spec.KeyColumns, cells); err != nil {
			return err
		}
		if c := spec.MatchColumn; c >= 0 {
			if err := pass.match(schema, c, cells[c]); err != nil {
				return err
			}
		}
		clear(errs)
		eval.Eval(cells, values, errs)
		for i := range values {
			pass.field(i, &pass.data.Fields[i], values[i], errs[i])
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read model %s: %w", m.Name, err)
	}
	return nil
}

// key looks at a row's primary key.
func (d *dataPass) key(schema models.Schema, columns []int, cells [][]byte) (err error) {
	d.value, d.text = d.value[:0], d.text[:0]
	for i, c := range columns {
		if cells[c] == nil {
			d.data.NullKeys++
			return nil
		}
		if i > 0 {
			d.text = append(d.text, " / "...)
		}
		at := len(d.text)
		if d.text, err = schema.AppendKey(d.text, c, cells[c]); err != nil {
			d.data.NullKeys++ // it has no text, and is as good as none
			return nil
		}
		d.value = append(binary.BigEndian.AppendUint32(d.value, uint32(len(d.text)-at)), d.text[at:]...)
	}
	return d.keys.add(d.value, d.text)
}

// match looks at a row's match value.
func (d *dataPass) match(schema models.Schema, column int, cell []byte) error {
	var v models.Value
	var err error
	if cell != nil {
		v, err = schema.Decode(column, cell)
	}
	text, ok := d.field(destinations.MatchField, d.data.Match, v, err)
	if !ok {
		return nil
	}
	d.text = append(d.text[:0], d.target.NormalizeMatch(text)...)
	return d.matches.add(d.text, d.text)
}

// field looks at a field's value. ok says that it fits and is not null.
func (d *dataPass) field(index int, f *DataField, v models.Value, err error) (text string, ok bool) {
	if f.Length > 0 && err == nil && !v.IsNull() && v.Kind() != models.List {
		if s := v.Text(); len(s) > f.Longest {
			f.Longest = max(f.Longest, utf8.RuneCountInString(s))
		}
	}
	var cell models.Cell
	if err == nil {
		cell, err = d.target.Convert(index, v)
	}
	switch {
	case err != nil:
		f.Unfit++
		if len(f.Examples) < mostUnfit {
			if why := err.Error(); !slices.Contains(f.Examples, why) {
				f.Examples = append(f.Examples, why)
			}
		}
	case cell.Null:
		f.Nulls++
	default:
		return cell.Text, true
	}
	return "", false
}
