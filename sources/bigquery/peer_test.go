//go:build warehouses

package bigquery

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"coho/models"
	"coho/sources"
	"coho/sources/sourcetest"
)

// emulator starts goccy/bigquery-emulator and returns how to reach it.
func emulator(t *testing.T) Options {
	t.Helper()
	port, storage := sourcetest.FreePort(t), sourcetest.FreePort(t)
	p := sourcetest.StartPeer(t, "bigquery-emulator", nil, "--host=127.0.0.1", "--project=test", "--dataset=shop", "--port="+port, "--grpc-port="+storage)
	p.Await(t, "127.0.0.1:"+port)
	p.Await(t, "127.0.0.1:"+storage)
	return Options{Project: "test", Dataset: "shop", Endpoint: "http://127.0.0.1:" + port, StorageEndpoint: "127.0.0.1:" + storage}
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

// exec runs a statement that is no query.
func exec(t *testing.T, o Options, sql string) {
	t.Helper()
	client, err := open(t, o).jobs()
	if err != nil {
		t.Fatal(err)
	}
	job, err := client.Query(sql).Run(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	status, err := job.Wait(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if err := status.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestConformance runs the suite by REST and through the Storage Read API.
func TestConformance(t *testing.T) {
	o := emulator(t)
	exec(t, o, "CREATE TABLE shop.things (id INT64, label STRING)")
	exec(t, o, "INSERT INTO shop.things (id, label) VALUES (1, 'one'), (2, NULL)")
	for _, way := range []struct {
		name  string
		large uint64
		types []sourcetest.Type
	}{
		{"REST", math.MaxUint64, types()},
		// The emulator puts these into Arrow otherwise than BigQuery does, or
		// not at all; sources/columnar tests them from Arrow's own forms.
		{"storage", 1, slices.DeleteFunc(types(), func(t sourcetest.Type) bool {
			k := t.Want.Kind()
			return k == models.Bytes || k == models.Timestamp || k == models.Time || k == models.List
		})},
	} {
		t.Run(way.name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Harness{
				Open: func(tb testing.TB) sources.Source {
					s := open(tb, o)
					s.large = way.large
					return s
				},
				Types:        way.types,
				Table:        "shop.things",
				Slow:         "SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 3000)) AS a, UNNEST(GENERATE_ARRAY(1, 3000)) AS b",
				Failing:      "SELECT 1 / (50 - g) AS v FROM UNNEST(GENERATE_ARRAY(1, 100)) AS g",
				FailingError: "zero",
				FailsWhole:   true,
				Refused: map[string]string{
					"INSERT INTO shop.things (id) VALUES (3)":            "a model must be one SELECT",
					"SELECT 1; DELETE FROM shop.things WHERE TRUE":       "several statements",
					"/* SELECT */ DROP TABLE shop.things":                "a model must be one SELECT",
					"BEGIN DELETE FROM shop.things WHERE TRUE; END":      "several statements",
					"EXPORT DATA OPTIONS (uri = 'gs://x/*') AS SELECT 1": "a model must be one SELECT",
				},
				Dialect: dialect,
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

func types() []sourcetest.Type {
	decimal := models.DecimalValue
	return []sourcetest.Type{
		{Name: "int64 min", SQL: "-9223372036854775808", Want: models.IntValue(math.MinInt64)},
		{Name: "int64 max", SQL: "9223372036854775807", Want: models.IntValue(math.MaxInt64)},
		{Name: "float64", SQL: "CAST(0.1 AS FLOAT64)", Want: models.FloatValue(0.1)},
		{Name: "numeric", SQL: "NUMERIC '-1234567.891'", Want: decimal("-1234567.891000000")},
		{Name: "numeric of 38 digits", SQL: "NUMERIC '99999999999999999999999999999.999999999'", Want: decimal("99999999999999999999999999999.999999999")},
		{Name: "bignumeric", SQL: "BIGNUMERIC '1.25'", Want: decimal("1.25000000000000000000000000000000000000")},
		{Name: "true", SQL: "TRUE", Want: models.BoolValue(true)},
		{Name: "false", SQL: "FALSE", Want: models.BoolValue(false)},
		{Name: "string", SQL: "'héé\\n\"x\" 🎈'", Want: models.TextValue("héé\n\"x\" 🎈")},
		{Name: "empty string", SQL: "''", Want: models.TextValue("")},
		{Name: "bytes", SQL: "b'\\x00\\xffa'", Want: models.BytesValue([]byte("\x00\xffa"))},
		{Name: "date", SQL: "DATE '2024-02-29'", Want: models.DateValue(day(2024, 2, 29))},
		{Name: "first date", SQL: "DATE '0001-01-01'", Want: models.DateValue(day(1, 1, 1))},
		{Name: "last date", SQL: "DATE '9999-12-31'", Want: models.DateValue(day(9999, 12, 31))},
		{Name: "datetime", SQL: "DATETIME '2024-02-29 23:59:59.123456'", Want: models.TimestampValue(moment(2024, 2, 29, 23, 59, 59, 123456))},
		{Name: "datetime before 1970", SQL: "DATETIME '1900-01-01 00:00:00.000001'", Want: models.TimestampValue(moment(1900, 1, 1, 0, 0, 0, 1))},
		{Name: "time", SQL: "TIME '23:59:59.999999'", Want: models.TimeValue(86_399_999_999)},
		{Name: "timestamp", SQL: "TIMESTAMP '2024-02-29 23:59:59.123456+02'", Want: models.TimestampTZValue(moment(2024, 2, 29, 21, 59, 59, 123456))},
		{Name: "json", SQL: "JSON '{\"a\":[1,null]}'", Want: models.JSONValue(`{"a":[1,null]}`)},
		{Name: "array of string", SQL: "['a', '', 'b;c']", Want: models.ListValue([]models.Value{models.TextValue("a"), models.TextValue(""), models.TextValue("b;c")}), NullIs: models.ListValue(nil)},
		{Name: "struct", SQL: "STRUCT(1 AS x, 'y' AS y)", Want: models.JSONValue(`{"x":1,"y":"y"}`)},
	}
}

func day(year int, month time.Month, d int) int64 {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

func moment(year int, month time.Month, d, h, m, s, us int) int64 {
	return time.Date(year, month, d, h, m, s, us*1000, time.UTC).UnixMicro()
}
