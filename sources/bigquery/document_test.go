package bigquery

import (
	"flag"
	"math"
	"math/big"
	"os"
	"regexp"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"

	"coho/sources/columnar"
	"coho/sources/sourcetest"
)

var rewrite = flag.Bool("rewrite", false, "write the documentation's tables of types anew")

func rational(s string) *big.Rat {
	r, _ := new(big.Rat).SetString(s)
	return r
}

// examples are values as the client hands them out, by the name of its constant for
// the type.
var examples = []struct {
	name  string
	field bigquery.FieldSchema
	shown string
	value bigquery.Value
}{
	{"Boolean", bigquery.FieldSchema{Type: bigquery.BooleanFieldType}, "TRUE", true},
	{"Integer", bigquery.FieldSchema{Type: bigquery.IntegerFieldType}, "9223372036854775807", int64(math.MaxInt64)},
	{"Numeric", bigquery.FieldSchema{Type: bigquery.NumericFieldType}, "NUMERIC '99999999999999999999999999999.999999999'", rational("99999999999999999999999999999.999999999")},
	{"BigNumeric", bigquery.FieldSchema{Type: bigquery.BigNumericFieldType}, "BIGNUMERIC '1.25'", rational("1.25")},
	{"Float", bigquery.FieldSchema{Type: bigquery.FloatFieldType}, "0.1", 0.1},
	{"Float", bigquery.FieldSchema{Type: bigquery.FloatFieldType}, "CAST('NaN' AS FLOAT64)", math.NaN()},
	{"Float", bigquery.FieldSchema{Type: bigquery.FloatFieldType}, "CAST('-inf' AS FLOAT64)", math.Inf(-1)},
	{"String", bigquery.FieldSchema{Type: bigquery.StringFieldType}, "'Grüße 🌍'", "Grüße 🌍"},
	{"Geography", bigquery.FieldSchema{Type: bigquery.GeographyFieldType}, "ST_GEOGPOINT(1, 2)", "POINT(1 2)"},
	{"Bytes", bigquery.FieldSchema{Type: bigquery.BytesFieldType}, `b'\x00\xff\x10'`, []byte{0, 255, 16}},
	{"Date", bigquery.FieldSchema{Type: bigquery.DateFieldType}, "DATE '2024-02-29'", civil.Date{Year: 2024, Month: 2, Day: 29}},
	{"Time", bigquery.FieldSchema{Type: bigquery.TimeFieldType}, "TIME '23:59:59.999999'", civil.Time{Hour: 23, Minute: 59, Second: 59, Nanosecond: 999999000}},
	{"DateTime", bigquery.FieldSchema{Type: bigquery.DateTimeFieldType}, "DATETIME '2024-02-29 12:34:56.789012'", civil.DateTimeOf(time.Date(2024, 2, 29, 12, 34, 56, 789012000, time.UTC))},
	{"Timestamp", bigquery.FieldSchema{Type: bigquery.TimestampFieldType}, "TIMESTAMP '2024-03-31 02:30:00.5+05:30'", time.Date(2024, 3, 31, 2, 30, 0, 5e8, time.FixedZone("", 19800))},
	{"JSON", bigquery.FieldSchema{Type: bigquery.JSONFieldType}, `JSON '{"a":[1,null]}'`, `{"a":[1,null]}`},
	{"Record", bigquery.FieldSchema{Type: bigquery.RecordFieldType, Schema: bigquery.Schema{{Name: "x", Type: bigquery.IntegerFieldType}, {Name: "y", Type: bigquery.StringFieldType}}}, "STRUCT(1 AS x, 'y' AS y)", []bigquery.Value{int64(1), "y"}},
	{"String", bigquery.FieldSchema{Type: bigquery.StringFieldType, Repeated: true}, "['a', 'b;c']", []bigquery.Value{"a", "b;c"}},
	{"Integer", bigquery.FieldSchema{Type: bigquery.IntegerFieldType, Repeated: true}, "CAST([] AS ARRAY<INT64>)", []bigquery.Value{}},
	{"Record", bigquery.FieldSchema{Type: bigquery.RecordFieldType, Repeated: true, Schema: bigquery.Schema{{Name: "x", Type: bigquery.IntegerFieldType}}}, "[STRUCT(1 AS x)]", []bigquery.Value{[]bigquery.Value{int64(1)}}},
}

// TestDocumentedTypes: the documentation's table of BigQuery's types is what this
// package makes of the client's values, and leaves no type out that it knows.
// That a server's values come to the same, the suite shows.
func TestDocumentedTypes(t *testing.T) {
	var found []sourcetest.Example
	seen := map[string]bool{}
	for _, e := range examples {
		seen[e.name] = true
		typ, err := newType(&e.field)
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		cell, err := appendCell(nil, typ, e.value)
		if err != nil {
			t.Errorf("%s %v: %v", e.name, e.value, err)
			continue
		}
		x := sourcetest.Example{Type: typ.Name, Shown: e.shown, Kind: typ.Kind}
		x.Value, x.Err = columnar.NewSchema([]columnar.Field{{Name: "v", Type: typ}}, "").Decode(0, cell)
		found = append(found, x)
	}
	source, err := os.ReadFile("schema.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`bigquery\.(\w+)FieldType`).FindAllStringSubmatch(string(source), -1) {
		if !seen[name[1]] {
			t.Errorf("the type %s has no example", name[1])
		}
	}
	if _, err := newType(&bigquery.FieldSchema{Type: bigquery.IntervalFieldType}); err == nil {
		t.Error("an interval, which has to be cast, is read")
	}
	sourcetest.Document(t, "../../docs/types.md", "BigQuery", found, *rewrite)
}
