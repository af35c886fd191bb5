package columnar_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/decimal256"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"pgregory.net/rapid"

	"coho/models"
	"coho/sources/columnar"
	"coho/sources/sourcetest"
)

var (
	boolean   = &columnar.Type{Name: "BOOLEAN", Kind: models.Bool, Form: columnar.Boolean}
	integer   = &columnar.Type{Name: "INT64", Kind: models.Int, Form: columnar.Number}
	number    = &columnar.Type{Name: "NUMBER(38,2)", Kind: models.Decimal, Form: columnar.Number, Scale: 2}
	whole     = &columnar.Type{Name: "NUMBER(38,0)", Kind: models.Decimal, Form: columnar.Number}
	bigNumber = &columnar.Type{Name: "BIGNUMERIC", Kind: models.Decimal, Form: columnar.BigNumber, Scale: 38}
	double    = &columnar.Type{Name: "FLOAT", Kind: models.Float, Form: columnar.Double}
	text      = &columnar.Type{Name: "TEXT", Kind: models.Text}
	binary    = &columnar.Type{Name: "BINARY", Kind: models.Bytes}
	document  = &columnar.Type{Name: "VARIANT", Kind: models.JSON}
	date      = &columnar.Type{Name: "DATE", Kind: models.Date, Form: columnar.Day}
	clock     = &columnar.Type{Name: "TIME(9)", Kind: models.Time, Form: columnar.Clock, Scale: 9}
	wall      = &columnar.Type{Name: "TIMESTAMP_NTZ(9)", Kind: models.Timestamp, Form: columnar.Instant, Scale: 9}
	moment    = &columnar.Type{Name: "TIMESTAMP_TZ(3)", Kind: models.TimestampTZ, Form: columnar.Instant, Scale: 3}
	texts     = &columnar.Type{Name: "ARRAY<STRING>", Kind: models.List, Form: columnar.Items, Elem: text}
	mixed     = &columnar.Type{Name: "ARRAY", Kind: models.List}
	decfloat  = &columnar.Type{Name: "DECFLOAT", Kind: models.Decimal}
	object    = &columnar.Type{Name: "STRUCT", Kind: models.JSON, Fields: []columnar.Field{{Name: "a", Type: integer}, {Name: `b"`, Type: texts}, {Name: "c", Type: double}}}
)

var epochAndFraction = arrow.StructOf(
	arrow.Field{Name: "epoch", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	arrow.Field{Name: "fraction", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	arrow.Field{Name: "timezone", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
)

// recordOf builds a batch of one column from Arrow's JSON form.
func recordOf(tb testing.TB, t arrow.DataType, rows string) arrow.RecordBatch {
	tb.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, t, strings.NewReader(rows))
	if err != nil {
		tb.Fatalf("build an array of %s: %v", t, err)
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: t, Nullable: true}}, nil)
	return array.NewRecordBatch(schema, []arrow.Array{a}, int64(a.Len()))
}

func frameOf(tb testing.TB, t *columnar.Type, record arrow.RecordBatch, row int) []byte {
	tb.Helper()
	b := columnar.NewBatch([]columnar.Field{{Name: "v", Type: t}})
	if err := b.Reset(record); err != nil {
		tb.Fatalf("Reset: %v", err)
	}
	for range row {
		if _, err := b.Next(); err != nil {
			tb.Fatalf("Next: %v", err)
		}
	}
	frame, err := b.Next()
	if err != nil {
		tb.Fatalf("Next: %v", err)
	}
	return bytes.Clone(frame)
}

func valueOf(tb testing.TB, t *columnar.Type, frame []byte) models.Value {
	tb.Helper()
	schema := columnar.NewSchema([]columnar.Field{{Name: "v", Type: t}}, "test")
	cells := make([][]byte, 1)
	if err := models.SplitFrame(frame, cells); err != nil {
		tb.Fatalf("SplitFrame: %v", err)
	}
	if cells[0] == nil {
		return models.Value{}
	}
	v, err := schema.Decode(0, cells[0])
	if err != nil {
		tb.Fatalf("Decode: %v", err)
	}
	key, err := schema.AppendKey(nil, 0, cells[0])
	if err != nil || string(key) != v.Text() {
		tb.Errorf("AppendKey gives %q, %v, want %q", key, err, v.Text())
	}
	return v
}

// TestForms reads every type from every Arrow type that may carry it: the
// value is right and the bytes are the same whatever carried it.
func TestForms(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  *columnar.Type
		want models.Value
		from map[arrow.DataType]string
	}{
		{"true", boolean, models.BoolValue(true), map[arrow.DataType]string{arrow.FixedWidthTypes.Boolean: "true"}},
		{"a small number", integer, models.IntValue(-7), map[arrow.DataType]string{
			arrow.PrimitiveTypes.Int8: "-7", arrow.PrimitiveTypes.Int16: "-7", arrow.PrimitiveTypes.Int32: "-7", arrow.PrimitiveTypes.Int64: "-7",
			&arrow.Decimal128Type{Precision: 18}: `"-7"`,
		}},
		{"the least number", integer, models.IntValue(math.MinInt64), map[arrow.DataType]string{arrow.PrimitiveTypes.Int64: "-9223372036854775808"}},
		{"a decimal", number, models.DecimalValue("-1.05"), map[arrow.DataType]string{
			arrow.PrimitiveTypes.Int8: "-105", arrow.PrimitiveTypes.Int64: "-105",
			&arrow.Decimal32Type{Precision: 9, Scale: 2}: `"-1.05"`, &arrow.Decimal128Type{Precision: 38, Scale: 2}: `"-1.05"`, &arrow.Decimal256Type{Precision: 76, Scale: 2}: `"-1.05"`,
		}},
		{"a decimal of fewer digits", number, models.DecimalValue("-1.50"), map[arrow.DataType]string{
			&arrow.Decimal128Type{Precision: 38, Scale: 1}: `"-1.5"`, &arrow.Decimal256Type{Precision: 76, Scale: 1}: `"-1.5"`, arrow.PrimitiveTypes.Int16: "-150",
		}},
		{"38 digits", whole, models.DecimalValue("99999999999999999999999999999999999999"), map[arrow.DataType]string{
			&arrow.Decimal128Type{Precision: 38}: `"99999999999999999999999999999999999999"`,
		}},
		{"a big decimal", bigNumber, models.DecimalValue("-0.00000000000000000000000000000000000001"), map[arrow.DataType]string{
			&arrow.Decimal256Type{Precision: 76, Scale: 38}: `"-0.00000000000000000000000000000000000001"`,
			&arrow.Decimal128Type{Precision: 38, Scale: 38}: `"-0.00000000000000000000000000000000000001"`,
		}},
		{"a double", double, models.FloatValue(-0.1), map[arrow.DataType]string{arrow.PrimitiveTypes.Float64: "-0.1"}},
		{"a text", text, models.TextValue("héé"), map[arrow.DataType]string{arrow.BinaryTypes.String: `"héé"`, arrow.BinaryTypes.LargeString: `"héé"`}},
		{"an empty text", text, models.TextValue(""), map[arrow.DataType]string{arrow.BinaryTypes.String: `""`, arrow.BinaryTypes.LargeString: `""`}},
		{"bytes", binary, models.BytesValue([]byte{0, 1, 255}), map[arrow.DataType]string{
			arrow.BinaryTypes.Binary: `"AAH/"`, arrow.BinaryTypes.LargeBinary: `"AAH/"`, &arrow.FixedSizeBinaryType{ByteWidth: 3}: `"AAH/"`,
		}},
		{"a document", document, models.JSONValue(`{"a": 1}`), map[arrow.DataType]string{arrow.BinaryTypes.String: `"{\"a\": 1}"`}},
		{"a day before 1970", date, models.DateValue(-1), map[arrow.DataType]string{arrow.FixedWidthTypes.Date32: `"1969-12-31"`}},
		{"a time of day", clock, models.TimeValue(3_723_000_001), map[arrow.DataType]string{
			arrow.PrimitiveTypes.Int64: "3723000001000", arrow.FixedWidthTypes.Time64us: `"01:02:03.000001"`, arrow.FixedWidthTypes.Time64ns: `"01:02:03.000001"`,
		}},
		{"a wall clock before 1970", wall, models.TimestampValue(-1), map[arrow.DataType]string{
			arrow.PrimitiveTypes.Int64:                    "-1000",
			epochAndFraction:                              `{"epoch": -1, "fraction": 999999000, "timezone": 1500}`,
			&arrow.TimestampType{Unit: arrow.Microsecond}: `"1969-12-31 23:59:59.999999"`,
			&arrow.TimestampType{Unit: arrow.Nanosecond}:  `"1969-12-31 23:59:59.999999"`,
		}},
		{"a moment of the year 9999", moment, models.TimestampTZValue(253402300799_999_000), map[arrow.DataType]string{
			arrow.PrimitiveTypes.Int64: "253402300799999",
			epochAndFraction:           `{"epoch": 253402300799, "fraction": 999000000, "timezone": 0}`,
			arrow.StructOf(epochAndFraction.Field(0), epochAndFraction.Field(2)): `{"epoch": 253402300799999, "timezone": 960}`,
		}},
		{"a list", texts, models.ListValue([]models.Value{models.TextValue("a"), {}, models.TextValue("")}), map[arrow.DataType]string{
			arrow.ListOf(arrow.BinaryTypes.String): `["a", null, ""]`, arrow.LargeListOf(arrow.BinaryTypes.String): `["a", null, ""]`,
		}},
		{"a list printed as JSON", mixed, models.ListValue([]models.Value{models.TextValue("a"), {}, models.IntValue(1), models.DecimalValue("0.0015"), models.BoolValue(true), models.JSONValue(`{"b": [1]}`)}), map[arrow.DataType]string{
			arrow.BinaryTypes.String: `"[\n  \"a\",\n null, 1, 1.5e-3, true, {\"b\": [1]} ]"`,
		}},
		{"a decimal floating point number", decfloat, models.DecimalValue("-12.5"), map[arrow.DataType]string{
			arrow.StructOf(arrow.Field{Name: "exponent", Type: arrow.PrimitiveTypes.Int16}, arrow.Field{Name: "significand", Type: arrow.BinaryTypes.Binary}): `{"exponent": -1, "significand": "gw=="}`,
			arrow.BinaryTypes.String: `"-12.5"`,
		}},
		{"a large decimal floating point number", decfloat, models.DecimalValue("12800"), map[arrow.DataType]string{
			arrow.StructOf(arrow.Field{Name: "exponent", Type: arrow.PrimitiveTypes.Int16}, arrow.Field{Name: "significand", Type: arrow.BinaryTypes.Binary}): `{"exponent": 2, "significand": "AIA="}`,
		}},
		{"an object", object, models.JSONValue(`{"a":1,"b\"":["x\u000a",null],"c":null}`), map[arrow.DataType]string{
			arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: `b"`, Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true}, arrow.Field{Name: "c", Type: arrow.PrimitiveTypes.Float64, Nullable: true}): `{"a": 1, "b\"": ["x\n", null], "c": null}`,
			arrow.BinaryTypes.String: `"{\"a\":1,\"b\\\"\":[\"x\\u000a\",null],\"c\":null}"`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var first []byte
			for from, value := range c.from {
				// Among others, and in a slice of a larger batch.
				record := recordOf(t, from, "["+value+","+value+",null,"+value+"]").NewSlice(1, 4)
				for row := range 3 {
					frame := frameOf(t, c.typ, record, row)
					got := valueOf(t, c.typ, frame)
					if row == 1 {
						if !got.IsNull() {
							t.Errorf("NULL from %s became %s", from, sourcetest.Show(got))
						}
						continue
					}
					if !sourcetest.Equal(got, c.want) {
						t.Errorf("from %s: got %s, want %s", from, sourcetest.Show(got), sourcetest.Show(c.want))
					}
					if first == nil {
						first = frame
					}
					if string(frame) != string(first) {
						t.Errorf("from %s: the bytes are %x, from another type %x", from, frame, first)
					}
				}
			}
		})
	}
}

// TestUnexpected refuses arrays that are not a form of the type.
func TestUnexpected(t *testing.T) {
	for name, c := range map[string]struct {
		typ   *columnar.Type
		from  arrow.DataType
		value string
		want  string
	}{
		"text as a number":           {integer, arrow.BinaryTypes.String, `"1"`, "utf8, which is not a form of int"},
		"another scale":              {number, &arrow.Decimal128Type{Precision: 38, Scale: 3}, `"1.000"`, "decimal(38, 3)"},
		"a power of ten":             {number, &arrow.Decimal128Type{Precision: 38, Scale: -2}, `"100"`, "decimal(38, -2)"},
		"a double as a date":         {date, arrow.PrimitiveTypes.Float64, "1", "float64, which is not a form of date"},
		"a struct without seconds":   {wall, arrow.StructOf(epochAndFraction.Field(1)), `{"fraction": 1}`, "not a form of timestamp"},
		"a number as a list":         {texts, arrow.PrimitiveTypes.Int64, "1", "not a form of list"},
		"numbers as texts of a list": {texts, arrow.ListOf(arrow.PrimitiveTypes.Int64), "[1]", "not a form of text"},
		"an object of fewer members": {object, arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64}), `{"a": 1}`, "1 members instead of 3"},
		"a number as a text":         {text, arrow.PrimitiveTypes.Int64, "1", "not a form of text"},
		"a text as a truth":          {boolean, arrow.BinaryTypes.String, `"t"`, "not a form of bool"},
		"a decimal as a time of day": {clock, &arrow.Decimal128Type{Precision: 38}, `"1"`, "not a form of time"},
		"a text as a double":         {double, arrow.BinaryTypes.String, `"1"`, "not a form of float"},
	} {
		t.Run(name, func(t *testing.T) {
			b := columnar.NewBatch([]columnar.Field{{Name: "v", Type: c.typ}})
			err := b.Reset(recordOf(t, c.from, "["+c.value+"]"))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `column "v"`) {
				t.Errorf("got error %v, want one with %q and the column", err, c.want)
			}
		})
	}
	t.Run("more columns than described", func(t *testing.T) {
		if err := columnar.NewBatch(nil).Reset(recordOf(t, arrow.BinaryTypes.String, `["x"]`)); err == nil {
			t.Error("accepted")
		}
	})
	for name, c := range map[string]struct {
		typ   *columnar.Type
		from  arrow.DataType
		value string
	}{
		"digits beyond the form": {number, &arrow.Decimal256Type{Precision: 76, Scale: 2}, `"9999999999999999999999999999999999999999.00"`},
		"too many nanoseconds":   {wall, epochAndFraction, `{"epoch": 1, "fraction": 1000000000, "timezone": 0}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := columnar.NewBatch([]columnar.Field{{Name: "v", Type: c.typ}})
			if err := b.Reset(recordOf(t, c.from, "["+c.value+"]")); err != nil {
				t.Fatal(err)
			}
			if frame, err := b.Next(); err == nil || errors.Is(err, io.EOF) || frame != nil {
				t.Errorf("Next = %x, %v", frame, err)
			}
		})
	}
}

// TestDecodeErrors are values that no kind can hold: the row's fault.
func TestDecodeErrors(t *testing.T) {
	for name, c := range map[string]struct {
		typ  *columnar.Type
		cell []byte
	}{
		"invalid UTF-8":         {text, []byte{0xff}},
		"invalid UTF-8 in JSON": {document, []byte{'"', 0xff, '"'}},
		"a torn number":         {integer, make([]byte, 15)},
		"a moment too far":      {wall, columnar.AppendSecondsNanos(nil, math.MaxInt64/1_000_000, 0)},
		"a moment long ago":     {wall, columnar.AppendSecondsNanos(nil, math.MinInt64/1_000_000-1, 0)},
		"an array cut off":      {mixed, []byte(`["a"`)},
		"no array":              {mixed, []byte(`{"a": 1}`)},
		"an array not of JSON":  {mixed, []byte(`[undefinite]`)},
		"an array not of UTF-8": {mixed, []byte("[\"\xff\"]")},
		"a torn list":           {texts, []byte{0, 0, 0, 9, 'x'}},
		"a list of half a size": {texts, []byte{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			schema := columnar.NewSchema([]columnar.Field{{Name: "v", Type: c.typ}}, "test")
			if v, err := schema.Decode(0, c.cell); err == nil || !strings.Contains(err.Error(), `column "v"`) {
				t.Errorf("Decode gives %s, %v", sourcetest.Show(v), err)
			}
			if _, err := schema.AppendKey(nil, 0, c.cell); err == nil {
				t.Error("AppendKey accepts it")
			}
		})
	}
}

// TestUndefined: Snowflake prints an SQL NULL within an array as no JSON knows it
// (snowflakedb/snowflake-connector-python issue 1388).
func TestUndefined(t *testing.T) {
	schema := columnar.NewSchema([]columnar.Field{{Name: "v", Type: mixed}}, "test")
	v, err := schema.Decode(0, []byte("[\n  \"un\\\"defined\",\n  undefined,\n  \"undefined\",\n  [undefined, null]\n]"))
	if err != nil {
		t.Fatal(err)
	}
	want := models.ListValue([]models.Value{models.TextValue(`un"defined`), {}, models.TextValue("undefined"), models.JSONValue("[null, null]")})
	if !sourcetest.Equal(v, want) {
		t.Errorf("got %s, want %s", sourcetest.Show(v), sourcetest.Show(want))
	}
}

// TestDigits compares the printing of numbers with math/big's, from Arrow and
// from text.
func TestDigits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		large := rapid.Bool().Draw(t, "large")
		typ := &columnar.Type{Name: "N", Kind: models.Decimal, Form: columnar.Number}
		width, bitsOfForm := 16, 127
		if large {
			typ.Form, width, bitsOfForm = columnar.BigNumber, 32, 255
		}
		typ.Scale = rapid.IntRange(0, 38).Draw(t, "scale")
		raw := rapid.SliceOfN(rapid.Byte(), 0, width).Draw(t, "digits")
		n := new(big.Int).SetBytes(raw)
		n.And(n, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bitsOfForm)), big.NewInt(1)))
		if rapid.Bool().Draw(t, "negative") {
			n.Neg(n)
		}
		want := n.String()
		if typ.Scale > 0 {
			want = new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(typ.Scale)), nil)).FloatString(typ.Scale)
		}
		cell, err := typ.AppendDecimal(nil, want)
		if err != nil {
			t.Fatalf("AppendDecimal(%s): %v", want, err)
		}
		var arrowCell []byte
		if large {
			d := decimal256.FromBigInt(n)
			b := array.NewDecimal256Builder(memory.DefaultAllocator, &arrow.Decimal256Type{Precision: 76, Scale: int32(typ.Scale)})
			b.Append(d)
			arrowCell = b.NewArray().Data().Buffers()[1].Bytes()[:width]
		} else {
			d := decimal128.FromBigInt(n)
			b := array.NewDecimal128Builder(memory.DefaultAllocator, &arrow.Decimal128Type{Precision: 38, Scale: int32(typ.Scale)})
			b.Append(d)
			arrowCell = b.NewArray().Data().Buffers()[1].Bytes()[:width]
		}
		if string(cell) != string(arrowCell) {
			t.Fatalf("the text %s gives %x, Arrow %x", want, cell, arrowCell)
		}
		v, err := columnar.NewSchema([]columnar.Field{{Name: "v", Type: typ}}, "test").Decode(0, cell)
		if err != nil || v.Str() != want {
			t.Fatalf("got %s, %v, want %s", v.Str(), err, want)
		}
	})
}

func TestAppendDecimal(t *testing.T) {
	for given, want := range map[string]string{
		"1.5": "1.50", "-1e1": "-10.00", "0.25": "0.25", "1.005": "", "x": "", "": "",
		"1e40": "", "170141183460469231731687303715884105.00": "170141183460469231731687303715884105.00",
		"1" + strings.Repeat("0", 500): "",
	} {
		cell, err := number.AppendDecimal(nil, given)
		if want == "" {
			if err == nil {
				t.Errorf("%.50q is accepted", given)
			}
			continue
		}
		if err != nil {
			t.Errorf("%.50q: %v", given, err)
			continue
		}
		if got := valueOf(t, number, append([]byte{0, 0, 0, 16}, cell...)).Str(); got != want {
			t.Errorf("%.50q became %s, want %s", given, got, want)
		}
	}
}

func TestPlainDecimal(t *testing.T) {
	for given, want := range map[string]string{
		"0": "0", "-0.0": "0.0", "1e3": "1000", "-1.25E-2": "-0.0125", "12": "12", "1.50": "1.50", "0e99": "0",
		"": "", "e1": "", "1e": "", "1e99999": "", "0x1": "", "1_0": "", "nan": "", "1.2.3": "",
	} {
		got, err := columnar.PlainDecimal(given)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", given, got, err, want)
		}
	}
}

// TestScaleOfTheBatch reads a time whose unit only the batch tells.
func TestScaleOfTheBatch(t *testing.T) {
	record := recordOf(t, arrow.PrimitiveTypes.Int64, "[1500]")
	unscaled := &columnar.Type{Name: "TIMESTAMP_NTZ", Kind: models.Timestamp, Form: columnar.Instant, Scale: 9}
	meta := arrow.NewMetadata([]string{"logicalType", "scale"}, []string{"TIMESTAMP_NTZ", "3"})
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.PrimitiveTypes.Int64, Metadata: meta}}, nil)
	frame := frameOf(t, unscaled, array.NewRecordBatch(schema, record.Columns(), 1), 0)
	if got := valueOf(t, unscaled, frame); got.Int() != 1_500_000 {
		t.Errorf("got %d microseconds", got.Int())
	}
	b := columnar.NewBatch([]columnar.Field{{Name: "v", Type: number}})
	if err := b.Reset(array.NewRecordBatch(schema, record.Columns(), 1)); err == nil {
		t.Error("a number of another scale than its type's is accepted")
	}
}

// TestVersion holds that what decides the bytes decides the version, and the
// columns' order does not.
func TestVersion(t *testing.T) {
	a, b := columnar.Field{Name: "a", Type: text}, columnar.Field{Name: "b", Type: integer}
	version := columnar.NewSchema([]columnar.Field{a, b}, "s").Version()
	if columnar.NewSchema([]columnar.Field{b, a}, "s").Version() != version {
		t.Error("the order of the columns changes the version")
	}
	for name, other := range map[string]*columnar.Schema{
		"a type":    columnar.NewSchema([]columnar.Field{a, {Name: "b", Type: number}}, "s"),
		"a setting": columnar.NewSchema([]columnar.Field{a, b}, "t"),
		"a column":  columnar.NewSchema([]columnar.Field{a}, "s"),
	} {
		if other.Version() == version {
			t.Errorf("%s does not change the version", name)
		}
	}
}

// FuzzDecode looks for cells that decode and key otherwise than promised.
func FuzzDecode(f *testing.F) {
	types := []*columnar.Type{boolean, integer, number, whole, bigNumber, double, text, binary, document, date, clock, wall, moment, texts, mixed}
	f.Add(uint8(2), []byte("0123456789abcdef"))
	f.Add(uint8(13), []byte{0, 0, 0, 1, 'x', 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, which uint8, cell []byte) {
		typ := types[int(which)%len(types)]
		schema := columnar.NewSchema([]columnar.Field{{Name: "v", Type: typ}}, "test")
		v, err := schema.Decode(0, cell)
		key, kerr := schema.AppendKey([]byte("x"), 0, cell)
		if (err == nil) != (kerr == nil) {
			t.Fatalf("Decode says %v, AppendKey %v", err, kerr)
		}
		if err == nil && string(key) != "x"+v.Text() {
			t.Fatalf("the key is %q, the text %q", key[1:], v.Text())
		}
	})
}

// BenchmarkFrames writes frames of ten columns; no row may allocate.
func BenchmarkFrames(b *testing.B) {
	const rows = 4096
	fields := make([]columnar.Field, 0, 10)
	var arrays []arrow.Array
	var schema []arrow.Field
	for i, c := range []struct {
		t    *columnar.Type
		from arrow.DataType
		v    string
	}{
		{integer, arrow.PrimitiveTypes.Int32, "123456"}, {text, arrow.BinaryTypes.String, `"Acme Corporation"`}, {text, arrow.BinaryTypes.String, `"info@acme.example"`},
		{text, arrow.BinaryTypes.String, `"+1 555 0100"`}, {number, &arrow.Decimal128Type{Precision: 38, Scale: 2}, `"1234567.89"`}, {boolean, arrow.FixedWidthTypes.Boolean, "true"},
		{date, arrow.FixedWidthTypes.Date32, `"2026-01-31"`}, {wall, &arrow.TimestampType{Unit: arrow.Microsecond}, `"2026-01-31 01:02:03"`}, {double, arrow.PrimitiveTypes.Float64, "0.25"}, {text, arrow.BinaryTypes.String, `"Berlin"`},
	} {
		record := recordOf(b, c.from, "["+strings.Repeat(c.v+",", rows-1)+c.v+"]")
		name := string(rune('a' + i))
		fields = append(fields, columnar.Field{Name: name, Type: c.t})
		schema = append(schema, arrow.Field{Name: name, Type: c.from})
		arrays = append(arrays, record.Column(0))
	}
	batch := columnar.NewBatch(fields)
	record := array.NewRecordBatch(arrow.NewSchema(schema, nil), arrays, rows)
	if err := batch.Reset(record); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		frame, err := batch.Next()
		if errors.Is(err, io.EOF) {
			if err = batch.Reset(record); err == nil {
				frame, err = batch.Next()
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		size = len(frame)
	}
	b.SetBytes(int64(size))
}

func TestAppendClockText(t *testing.T) {
	for text, want := range map[string]int64{
		"00:00:00": 0, "23:59:59.999999999": 86_399_999_999_999, "01:02:03.5": 3_723_500_000_000, "12:00:00.000000001": 43_200_000_000_001,
	} {
		record := recordOf(t, arrow.BinaryTypes.String, `["`+text+`"]`)
		got := frameOf(t, clock, record, 0)
		if want := append([]byte{0, 0, 0, 8}, columnar.AppendClock(nil, want)...); string(got) != string(want) {
			t.Errorf("%s gave %x, want %x", text, got, want)
		}
	}
	for _, text := range []string{"", "24:00:00", "23:60:00", "23:59:60", "1:00:00", "01:00", "01-00-00", "01:00:00.", "01:00:00.0000000001", "01:00:00,5", "01:00:0x", "-1:00:00", "01:00:00 "} {
		if got, err := columnar.AppendClockText(nil, text); err == nil || got != nil {
			t.Errorf("%q gave %x, %v", text, got, err)
		}
	}
}
