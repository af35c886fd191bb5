package bigquerytest

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Column is a column of a result in both of BigQuery's forms.
type Column struct {
	Name   string
	Type   string // "INTEGER", "STRING", "RECORD", as the REST API names it
	Mode   string // "" or "REPEATED"
	Fields []Column

	// Cell is a row's value as the REST API puts it into JSON: a string, nil,
	// for a REPEATED column []any, for a RECORD a Record.
	Cell func(row int64) any

	// Arrow is the type in Arrow and Append adds a row's value.
	Arrow  arrow.DataType
	Append func(b array.Builder, row int64)
}

// Record is a STRUCT's value in the REST API's JSON.
type Record []any

// Result is what a query gives.
type Result struct {
	Columns []Column
	Rows    int64
	Bytes   int64 // that the query processes

	Statement  string // SELECT if empty
	Polls      int    // times the job is not done when asked for
	Hang       bool   // it runs until it is canceled
	HoldInsert bool   // it runs, and the insert is never answered

	Streams  int   // of the Storage Read API; 1 if 0
	BatchRow int64 // rows of a response; 1000 if 0
	Break    int   // each stream breaks once after so many responses
	BreakAll bool  // and never gives anything afterwards
	Lost     int64 // rows at the end that are never sent
	Schemas  bool  // each response begins with the schema, as those of emulators do
	Repeat   bool  // every response repeats the first's rows, so that making them costs nothing

	// PageFailure is what every page by REST but the first answers.
	PageFailure *Failure
}

func fields(columns []Column) []object {
	out := make([]object, len(columns))
	for i, c := range columns {
		out[i] = object{"name": c.Name, "type": c.Type, "mode": "NULLABLE"}
		if c.Mode != "" {
			out[i]["mode"] = c.Mode
		}
		if c.Fields != nil {
			out[i]["fields"] = fields(c.Fields)
		}
	}
	return out
}

func (r *Result) schema() []object { return fields(r.Columns) }

// cells are rows as the REST API gives them.
func (r *Result) cells(from, to int64) []object {
	rows := make([]object, 0, to-from)
	for row := from; row < to; row++ {
		cells := make([]object, len(r.Columns))
		for i, c := range r.Columns {
			cells[i] = object{"v": wrapped(c.Cell(row))}
		}
		rows = append(rows, object{"f": cells})
	}
	return rows
}

// wrapped puts the members of arrays and records into the objects that the REST
// API has around them.
func wrapped(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]object, len(v))
		for i, e := range v {
			out[i] = object{"v": wrapped(e)}
		}
		return out
	case Record:
		out := make([]object, len(v))
		for i, e := range v {
			out[i] = object{"v": wrapped(e)}
		}
		return object{"f": out}
	}
	return v
}

func (r *Result) arrowSchema() *arrow.Schema {
	fields := make([]arrow.Field, len(r.Columns))
	for i, c := range r.Columns {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Arrow, Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

// serializedSchema is the schema's message, as a read session has it.
func (r *Result) serializedSchema() ([]byte, error) {
	p := ipc.GetSchemaPayload(r.arrowSchema(), memory.DefaultAllocator)
	defer p.Release()
	return serialized(&p)
}

// serializedBatch is the message of a record batch, without the schema before it
// or a mark of the end behind it.
func (r *Result) serializedBatch(from, to int64) ([]byte, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, r.arrowSchema())
	defer b.Release()
	for i, c := range r.Columns {
		for row := from; row < to; row++ {
			c.Append(b.Field(i), row)
		}
	}
	record := b.NewRecordBatch()
	defer record.Release()
	p, err := ipc.GetRecordBatchPayload(record)
	if err != nil {
		return nil, fmt.Errorf("serialize rows %d to %d: %w", from, to, err)
	}
	defer p.Release()
	return serialized(&p)
}

func serialized(p *ipc.Payload) ([]byte, error) {
	var out bytes.Buffer
	if _, err := p.WritePayload(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
