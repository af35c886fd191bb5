package bigquery

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"go.uber.org/goleak"

	"coho/models"
	"coho/sources"
	"coho/sources/bigquery/bigquerytest"
	"coho/sources/sourcetest"
)

func TestMain(m *testing.M) {
	sourcetest.ServeElsewhere(serveAccounts)
	goleak.VerifyTestMain(m)
}

func open(tb testing.TB, o Options) *Source {
	tb.Helper()
	s, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// start starts a BigQuery for a test and returns how to reach it.
func start(tb testing.TB, o bigquerytest.Options) (*bigquerytest.Server, Options) {
	tb.Helper()
	server := bigquerytest.Start(tb, o)
	return server, Options{Project: "test", Dataset: "shop", Endpoint: server.URL, StorageEndpoint: server.Storage}
}

const (
	slow    = "SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 3000)) AS a, UNNEST(GENERATE_ARRAY(1, 3000)) AS b"
	failing = "SELECT 1 / (50 - g) AS v FROM UNNEST(GENERATE_ARRAY(1, 100)) AS g"
)

var refused = map[string]string{
	"INSERT INTO shop.things (id) VALUES (3)":            "a model must be one SELECT",
	"SELECT 1; DELETE FROM shop.things WHERE TRUE":       "several statements",
	"/* SELECT */ DROP TABLE shop.things":                "a model must be one SELECT",
	"BEGIN DELETE FROM shop.things WHERE TRUE; END":      "several statements",
	"EXPORT DATA OPTIONS (uri = 'gs://x/*') AS SELECT 1": "a model must be one SELECT",
}

// TestConformance runs the suite by REST and through the Storage Read API, with
// every type in the form in which BigQuery's documentation has it. What another
// reader of that documentation made of it, TestPeer shows.
func TestConformance(t *testing.T) {
	for _, way := range []struct {
		name    string
		large   uint64
		rows    int
		decoded bool
	}{{"REST", math.MaxUint64, 50_000, true}, {"storage", 1, 0, false}} {
		t.Run(way.name, func(t *testing.T) {
			_, o := start(t, bigquerytest.Options{Answer: suite})
			d := dialect
			d.Rows, d.Decoded = way.rows, way.decoded
			sourcetest.Run(t, sourcetest.Harness{
				Open: func(tb testing.TB) sources.Source {
					s := open(tb, o)
					s.large, s.side = way.large, maxStreams
					return s
				},
				Types: types(), Table: "shop.things", Slow: slow,
				Failing: failing, FailingError: "zero", FailsWhole: true,
				Refused: refused, Dialect: d,
			})
		})
	}
}

var dialect = sourcetest.Dialect{
	Numbers:     func(n int) string { return "UNNEST(GENERATE_ARRAY(1, " + strconv.Itoa(n) + ")) AS g" },
	Name:        func(name string) string { return "`" + name + "`" },
	Text:        func(expr string) string { return "CAST(" + expr + " AS STRING)" },
	Mod:         func(expr string, n int) string { return "MOD(" + expr + ", " + strconv.Itoa(n) + ")" },
	Endless:     "SELECT g AS id, 'row' AS label FROM UNNEST(GENERATE_ARRAY(1, 60000)) AS g",
	OtherNumber: "NUMERIC '1'",
	BadQueries: map[string]string{
		"SELECT *\nFROM no_such_table_here": "no_such_table_here",
		"SELEC 1":                           "SELEC",
		"SELECT no_such_column FROM UNNEST([1]) AS g": "no_such_column",
		"SELECT @p": "",
	},
	SevenToo: []string{"SELECT v FROM UNNEST([7]) AS v"},
	Rows:     100_000, // it holds results whole, as JSON
	Decoded:  true,
}

// form is a value in BigQuery's two forms.
type form struct {
	sourcetest.Type
	column bigquerytest.Column // Type, Mode, Fields and Arrow
	cell   any                 // in the REST API's JSON
	arrow  string              // in the JSON of arrow-go
}

func types() []sourcetest.Type {
	var out []sourcetest.Type
	for _, f := range forms() {
		out = append(out, f.Type)
	}
	return out
}

// The Arrow types are those of "Arrow schema details" in the documentation of the
// Storage Read API.
func forms() []form {
	decimal := models.DecimalValue
	of := func(typ string, a arrow.DataType) bigquerytest.Column {
		return bigquerytest.Column{Type: typ, Arrow: a}
	}
	integer, text := of("INTEGER", arrow.PrimitiveTypes.Int64), of("STRING", arrow.BinaryTypes.String)
	numeric := of("NUMERIC", &arrow.Decimal128Type{Precision: 38, Scale: 9})
	bignumeric := of("BIGNUMERIC", &arrow.Decimal256Type{Precision: 76, Scale: 38})
	float, boolean := of("FLOAT", arrow.PrimitiveTypes.Float64), of("BOOLEAN", arrow.FixedWidthTypes.Boolean)
	bytes, date := of("BYTES", arrow.BinaryTypes.Binary), of("DATE", arrow.FixedWidthTypes.Date32)
	datetime := of("DATETIME", &arrow.TimestampType{Unit: arrow.Microsecond})
	clock := of("TIME", arrow.FixedWidthTypes.Time64us)
	timestamp := of("TIMESTAMP", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"})
	document := of("JSON", arrow.BinaryTypes.String)
	texts := bigquerytest.Column{Type: "STRING", Mode: "REPEATED", Arrow: arrow.ListOf(arrow.BinaryTypes.String)}
	x, y := integer, text
	x.Name, y.Name = "x", "y"
	object := bigquerytest.Column{Type: "RECORD", Fields: []bigquerytest.Column{x, y}, Arrow: arrow.StructOf(
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true},
	)}
	list := func(s ...string) models.Value {
		values := make([]models.Value, len(s))
		for i := range s {
			values[i] = models.TextValue(s[i])
		}
		return models.ListValue(values)
	}
	return []form{
		{sourcetest.Type{Name: "int64 min", SQL: "-9223372036854775808", Want: models.IntValue(math.MinInt64)}, integer, "-9223372036854775808", "-9223372036854775808"},
		{sourcetest.Type{Name: "int64 max", SQL: "9223372036854775807", Want: models.IntValue(math.MaxInt64)}, integer, "9223372036854775807", "9223372036854775807"},
		{sourcetest.Type{Name: "float64", SQL: "CAST(0.1 AS FLOAT64)", Want: models.FloatValue(0.1)}, float, "0.1", "0.1"},
		{sourcetest.Type{Name: "numeric", SQL: "NUMERIC '-1234567.891'", Want: decimal("-1234567.891000000")}, numeric, "-1234567.891", `"-1234567.891"`},
		{sourcetest.Type{Name: "numeric of 38 digits", SQL: "NUMERIC '99999999999999999999999999999.999999999'", Want: decimal("99999999999999999999999999999.999999999")}, numeric, "99999999999999999999999999999.999999999", `"99999999999999999999999999999.999999999"`},
		{sourcetest.Type{Name: "bignumeric", SQL: "BIGNUMERIC '1.25'", Want: decimal("1.25000000000000000000000000000000000000")}, bignumeric, "1.25", `"1.25"`},
		{sourcetest.Type{Name: "true", SQL: "TRUE", Want: models.BoolValue(true)}, boolean, "true", "true"},
		{sourcetest.Type{Name: "false", SQL: "FALSE", Want: models.BoolValue(false)}, boolean, "false", "false"},
		{sourcetest.Type{Name: "string", SQL: "'héé\\n\"x\" 🎈'", Want: models.TextValue("héé\n\"x\" 🎈")}, text, "héé\n\"x\" 🎈", `"héé\n\"x\" 🎈"`},
		{sourcetest.Type{Name: "empty string", SQL: "''", Want: models.TextValue("")}, text, "", `""`},
		{sourcetest.Type{Name: "bytes", SQL: "b'\\x00\\xffa'", Want: models.BytesValue([]byte("\x00\xffa"))}, bytes, "AP9h", `"AP9h"`},
		{sourcetest.Type{Name: "date", SQL: "DATE '2024-02-29'", Want: models.DateValue(day(2024, 2, 29))}, date, "2024-02-29", `"2024-02-29"`},
		{sourcetest.Type{Name: "first date", SQL: "DATE '0001-01-01'", Want: models.DateValue(day(1, 1, 1))}, date, "0001-01-01", `"0001-01-01"`},
		{sourcetest.Type{Name: "last date", SQL: "DATE '9999-12-31'", Want: models.DateValue(day(9999, 12, 31))}, date, "9999-12-31", `"9999-12-31"`},
		{sourcetest.Type{Name: "datetime", SQL: "DATETIME '2024-02-29 23:59:59.123456'", Want: models.TimestampValue(moment(2024, 2, 29, 23, 59, 59, 123456))}, datetime, "2024-02-29T23:59:59.123456", `"2024-02-29 23:59:59.123456"`},
		{sourcetest.Type{Name: "datetime before 1970", SQL: "DATETIME '1900-01-01 00:00:00.000001'", Want: models.TimestampValue(moment(1900, 1, 1, 0, 0, 0, 1))}, datetime, "1900-01-01T00:00:00.000001", `"1900-01-01 00:00:00.000001"`},
		{sourcetest.Type{Name: "time", SQL: "TIME '23:59:59.999999'", Want: models.TimeValue(86_399_999_999)}, clock, "23:59:59.999999", `"23:59:59.999999"`},
		{sourcetest.Type{Name: "timestamp", SQL: "TIMESTAMP '2024-02-29 23:59:59.123456+02'", Want: models.TimestampTZValue(moment(2024, 2, 29, 21, 59, 59, 123456))}, timestamp, "1709243999123456", `"2024-02-29 21:59:59.123456Z"`},
		{sourcetest.Type{Name: "json", SQL: "JSON '{\"a\":[1,null]}'", Want: models.JSONValue(`{"a":[1,null]}`)}, document, `{"a":[1,null]}`, `"{\"a\":[1,null]}"`},
		{sourcetest.Type{Name: "array of string", SQL: "['a', '', 'b;c']", Want: list("a", "", "b;c"), NullIs: models.ListValue(nil)}, texts, []any{"a", "", "b;c"}, `["a", "", "b;c"]`},
		{sourcetest.Type{Name: "struct", SQL: "STRUCT(1 AS x, 'y' AS y)", Want: models.JSONValue(`{"x":1,"y":"y"}`)}, object, bigquerytest.Record{"1", "y"}, `{"x": 1, "y": "y"}`},
	}
}

// constant is a column of the value, NULL in the second row.
func (f form) constant(name string) bigquerytest.Column {
	c := f.column
	c.Name = name
	null, missing := any(nil), "null"
	if c.Mode == "REPEATED" {
		null, missing = []any{}, "[]"
	}
	c.Cell = func(row int64) any {
		if row == 1 {
			return null
		}
		return f.cell
	}
	c.Append = func(b array.Builder, row int64) {
		text := f.arrow
		if row == 1 {
			text = missing
		}
		if err := b.UnmarshalJSON([]byte("[" + text + "]")); err != nil {
			panic(f.Name + ": " + err.Error())
		}
	}
	return c
}

func day(year int, month time.Month, d int) int64 {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

func moment(year int, month time.Month, d, h, m, s, us int) int64 {
	return time.Date(year, month, d, h, m, s, us*1000, time.UTC).UnixMicro()
}

// numbers is a column of whole numbers; ok false is NULL.
func numbers(name string, value func(row int64) (n int64, ok bool)) bigquerytest.Column {
	return bigquerytest.Column{
		Name: name, Type: "INTEGER", Arrow: arrow.PrimitiveTypes.Int64,
		Cell: func(row int64) any {
			if n, ok := value(row); ok {
				return strconv.FormatInt(n, 10)
			}
			return nil
		},
		Append: func(b array.Builder, row int64) {
			n, ok := value(row)
			if !ok {
				b.AppendNull()
				return
			}
			b.(*array.Int64Builder).Append(n)
		},
	}
}

// words is a column of texts, which value appends; nil is NULL.
func words(name string, value func(dst []byte, row int64) []byte) bigquerytest.Column {
	return bigquerytest.Column{
		Name: name, Type: "STRING", Arrow: arrow.BinaryTypes.String,
		Cell: func(row int64) any {
			if text := value([]byte{}, row); text != nil {
				return string(text)
			}
			return nil
		},
		Append: func(b array.Builder, row int64) {
			var room [64]byte
			text := value(room[:0], row)
			if text == nil {
				b.AppendNull()
				return
			}
			b.(*array.StringBuilder).BinaryBuilder.Append(text)
		},
	}
}

// series is the rows (1, 'row 1') to (n, 'row n').
func series(n int64) *bigquerytest.Result {
	return &bigquerytest.Result{Rows: n, Streams: 4, BatchRow: 20_000, Columns: []bigquerytest.Column{
		numbers("id", func(row int64) (int64, bool) { return row + 1, true }),
		words("label", func(dst []byte, row int64) []byte { return strconv.AppendInt(append(dst, "row "...), row+1, 10) }),
	}}
}

var (
	seriesSQL = regexp.MustCompile("^SELECT g AS `id`, CONCAT\\('row ', CAST\\(g AS STRING\\)\\) AS `label` FROM UNNEST\\(GENERATE_ARRAY\\(1, ([0-9]+)\\)\\) AS g$")
	twoSQL    = regexp.MustCompile(`^SELECT g \+ ([01]) AS v FROM UNNEST\(GENERATE_ARRAY\(1, ([0-9]+)\)\) AS g ORDER BY g$`)
	typeSQL   = regexp.MustCompile("(?s)^SELECT v AS `v` FROM \\(SELECT 1 AS g, (.*) AS v UNION ALL SELECT 2, NULL\\) AS s ORDER BY g$")
	sevenSQL  = regexp.MustCompile(`SELECT 7 AS v|UNNEST\(\[7\]\)`)
)

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// suite answers the conformance suite's queries.
func suite(q *bigquerytest.Query) (*bigquerytest.Result, error) {
	for bad, want := range dialect.BadQueries {
		if q.SQL == bad {
			return nil, errors.New("Unrecognized: " + want + " at [1:1]")
		}
	}
	all := forms()
	together := make([]string, len(all))
	columns := make([]bigquerytest.Column, len(all))
	for i, f := range all {
		name := "c" + strconv.Itoa(i)
		together[i], columns[i] = f.SQL+" AS "+name, f.constant(name)
	}
	if m := typeSQL.FindStringSubmatch(q.SQL); m != nil {
		for _, f := range all {
			if f.SQL == m[1] {
				return &bigquerytest.Result{Rows: 2, Columns: []bigquerytest.Column{f.constant("v")}}, nil
			}
		}
	}
	if m := seriesSQL.FindStringSubmatch(q.SQL); m != nil {
		r := series(number(m[1]))
		if r.Rows < 1000 {
			r.Streams = 1 // the suite looks at their order
		}
		return r, nil
	}
	if m := twoSQL.FindStringSubmatch(q.SQL); m != nil {
		return &bigquerytest.Result{Rows: number(m[2]), Columns: []bigquerytest.Column{
			numbers("v", func(row int64) (int64, bool) { return row + 1 + number(m[1]), true }),
		}}, nil
	}
	switch {
	case q.SQL == "SELECT 1" || sevenSQL.MatchString(q.SQL):
		return &bigquerytest.Result{Rows: 1, Columns: []bigquerytest.Column{numbers("v", func(int64) (int64, bool) { return 7, true })}}, nil
	case q.SQL == "SELECT "+strings.Join(together, ", "):
		return &bigquerytest.Result{Rows: 1, Columns: columns}, nil
	case q.SQL == "SELECT "+dialect.OtherNumber+" AS `id`, 'x' AS `label`":
		r := series(1)
		r.Columns[0].Type = "NUMERIC"
		return r, nil
	case q.SQL == dialect.Endless:
		return series(5_000_000), nil
	case q.SQL == slow:
		return &bigquerytest.Result{Hang: true, Columns: series(0).Columns}, nil
	case q.SQL == failing:
		return series(1), &bigquerytest.Failure{Reason: "invalidQuery", Message: "division by zero: 1 / 0"}
	case strings.HasPrefix(q.SQL, "SELECT CASE WHEN MOD(g, 2) = 0 THEN g + 0 END AS c0"):
		wide := make([]bigquerytest.Column, 500)
		for i := range wide {
			wide[i] = numbers("c"+strconv.Itoa(i), func(row int64) (int64, bool) { return row + 1 + int64(i), row%2 == 1 })
		}
		return &bigquerytest.Result{Rows: 100, Columns: wide}, nil
	case strings.HasPrefix(q.SQL, "SELECT repeat('ä'"):
		return &bigquerytest.Result{Rows: 30, Columns: []bigquerytest.Column{
			words("v", func(dst []byte, row int64) []byte {
				return append(dst, strings.Repeat("ä", []int{524288, 0, 5}[(row+1)%3])...)
			}),
			numbers("g", func(row int64) (int64, bool) { return row + 1, true }),
		}}, nil
	case q.SQL == "SELECT * FROM `shop`.`things`":
		return &bigquerytest.Result{Rows: 2, Columns: []bigquerytest.Column{
			numbers("id", func(row int64) (int64, bool) { return row + 1, true }),
			words("label", func(dst []byte, row int64) []byte {
				if row == 1 {
					return nil
				}
				return append(dst, "one"...)
			}),
		}}, nil
	}
	return nil, &bigquerytest.Failure{Status: 404, Reason: "notFound", Message: "Not found: Table test:" + q.SQL}
}
