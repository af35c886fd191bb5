package duckdb_test

import (
	"database/sql"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"go.uber.org/goleak"

	"coho/models"
	"coho/sources"
	"coho/sources/duckdb"
	"coho/sources/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// build makes a database file with the driver that people use.
func build(tb testing.TB, statements ...string) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "warehouse.duckdb")
	db, err := sql.Open("duckdb", path)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			tb.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

func open(tb testing.TB, o duckdb.Options) *duckdb.Source {
	tb.Helper()
	s, err := duckdb.Open(o)
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

func TestConformance(t *testing.T) {
	path := build(t,
		`CREATE SCHEMA "Shop"`,
		`CREATE TABLE "Shop".things (id int, label text)`,
		`INSERT INTO "Shop".things VALUES (1, 'one'), (2, NULL)`,
		`CREATE TYPE mood AS ENUM ('sad', 'ok', 'très heureux')`,
	)
	sourcetest.Run(t, sourcetest.Harness{
		Open:         func(tb testing.TB) sources.Source { return open(tb, duckdb.Options{Path: path}) },
		Types:        types(),
		Table:        `"Shop".Things`,
		Slow:         "SELECT sum(a.range * b.range % 7) AS n FROM range(10000000) a, range(10000000) b",
		Failing:      "SELECT CASE WHEN g < 9000000 THEN g ELSE CAST('x' || g AS INTEGER) END AS v FROM generate_series(1, 10000000) AS s(g)",
		FailingError: "Could not convert string 'x9000000' to INT32",
		Refused: map[string]string{
			`INSERT INTO "Shop".things VALUES (3, NULL)`:           "not a query",
			`INSERT INTO "Shop".things VALUES (3, '') RETURNING *`: "not a query",
			`DELETE FROM "Shop".things`:                            "not a query",
			`CREATE TEMP TABLE x AS SELECT 1`:                      "not a query",
			`COPY (SELECT 1) TO '/dev/null'`:                       "not a query",
			`ATTACH ':memory:' AS other`:                           "not a query",
			`EXPLAIN ANALYZE SELECT 1`:                             "not a query",
			`COMMIT; DELETE FROM "Shop".things`:                    "several statements",
		},
	})
}

func micros(year int, month time.Month, day, h, m, s, us int) int64 {
	return time.Date(year, month, day, h, m, s, us*1000, time.UTC).UnixMicro()
}

func days(year int, month time.Month, day int) int64 {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

func list(vs ...models.Value) models.Value { return models.ListValue(vs) }

var (
	text      = models.TextValue
	integer   = models.IntValue
	decimal   = models.DecimalValue
	float     = models.FloatValue
	json      = models.JSONValue
	null      = models.Value{}
	date      = models.DateValue
	timestamp = models.TimestampValue
	instant   = models.TimestampTZValue
	daytime   = models.TimeValue
)

// types are the values of every type, as SQL and as they must arrive.
func types() []sourcetest.Type {
	big := strings.Repeat("1234567890", 20)
	return []sourcetest.Type{
		{Name: "tinyint min", SQL: "'-128'::TINYINT", Want: integer(math.MinInt8)},
		{Name: "tinyint max", SQL: "'127'::TINYINT", Want: integer(math.MaxInt8)},
		{Name: "smallint min", SQL: "'-32768'::SMALLINT", Want: integer(math.MinInt16)},
		{Name: "smallint max", SQL: "'32767'::SMALLINT", Want: integer(math.MaxInt16)},
		{Name: "integer min", SQL: "'-2147483648'::INTEGER", Want: integer(math.MinInt32)},
		{Name: "integer max", SQL: "'2147483647'::INTEGER", Want: integer(math.MaxInt32)},
		{Name: "bigint min", SQL: "'-9223372036854775808'::BIGINT", Want: integer(math.MinInt64)},
		{Name: "bigint max", SQL: "'9223372036854775807'::BIGINT", Want: integer(math.MaxInt64)},
		{Name: "utinyint", SQL: "'255'::UTINYINT", Want: integer(math.MaxUint8)},
		{Name: "usmallint", SQL: "'65535'::USMALLINT", Want: integer(math.MaxUint16)},
		{Name: "uinteger", SQL: "'4294967295'::UINTEGER", Want: integer(math.MaxUint32)},
		{Name: "ubigint", SQL: "'18446744073709551615'::UBIGINT", Want: decimal("18446744073709551615")},
		{Name: "ubigint zero", SQL: "'0'::UBIGINT", Want: decimal("0")},
		{Name: "hugeint min", SQL: "'-170141183460469231731687303715884105728'::HUGEINT", Want: decimal("-170141183460469231731687303715884105728")},
		{Name: "hugeint max", SQL: "'170141183460469231731687303715884105727'::HUGEINT", Want: decimal("170141183460469231731687303715884105727")},
		{Name: "hugeint -1", SQL: "'-1'::HUGEINT", Want: decimal("-1")},
		{Name: "hugeint 10^19", SQL: "'10000000000000000000'::HUGEINT", Want: decimal("10000000000000000000")},
		{Name: "uhugeint max", SQL: "'340282366920938463463374607431768211455'::UHUGEINT", Want: decimal("340282366920938463463374607431768211455")},
		{Name: "uhugeint 10^38", SQL: "'100000000000000000000000000000000000000'::UHUGEINT", Want: decimal("100000000000000000000000000000000000000")},
		{Name: "bignum", SQL: "'" + big + "'::BIGNUM", Want: decimal(big)},
		{Name: "bignum negative", SQL: "'-" + big + "'::BIGNUM", Want: decimal("-" + big)},
		{Name: "bignum zero", SQL: "'0'::BIGNUM", Want: decimal("0")},

		{Name: "decimal(4,2)", SQL: "'-12.30'::DECIMAL(4,2)", Want: decimal("-12.30")},
		{Name: "decimal(9,4)", SQL: "'0.0001'::DECIMAL(9,4)", Want: decimal("0.0001")},
		{Name: "decimal(18,2)", SQL: "'9999999999999999.99'::DECIMAL(18,2)", Want: decimal("9999999999999999.99")},
		{Name: "decimal(18,18)", SQL: "'-0.000000000000000001'::DECIMAL(18,18)", Want: decimal("-0.000000000000000001")},
		{Name: "decimal(38,10)", SQL: "'-1234567890123456789012345678.0123456789'::DECIMAL(38,10)", Want: decimal("-1234567890123456789012345678.0123456789")},
		{Name: "decimal(38,0)", SQL: "'99999999999999999999999999999999999999'::DECIMAL(38,0)", Want: decimal("99999999999999999999999999999999999999")},
		{Name: "decimal zero", SQL: "'0'::DECIMAL(10,2)", Want: decimal("0.00")},
		{Name: "decimal of hundreds", SQL: "'700'::DECIMAL(10,0)", Want: decimal("700")},

		{Name: "float", SQL: "'0.1'::FLOAT", Want: float(0.1)},
		{Name: "float integer", SQL: "'16777215'::FLOAT", Want: float(16777215)},
		{Name: "float max", SQL: "'3.4028235e38'::FLOAT", Want: float(3.4028235e38)},
		{Name: "float NaN", SQL: "'NaN'::FLOAT", Want: float(math.NaN())},
		{Name: "float -Infinity", SQL: "'-Infinity'::FLOAT", Want: float(math.Inf(-1))},
		{Name: "double", SQL: "'-0.1'::DOUBLE", Want: float(-0.1)},
		{Name: "double max", SQL: "'1.7976931348623157e308'::DOUBLE", Want: float(math.MaxFloat64)},
		{Name: "double min", SQL: "'5e-324'::DOUBLE", Want: float(math.SmallestNonzeroFloat64)},
		{Name: "double NaN", SQL: "'NaN'::DOUBLE", Want: float(math.NaN())},
		{Name: "double Infinity", SQL: "'Infinity'::DOUBLE", Want: float(math.Inf(1))},

		{Name: "varchar", SQL: "'Grüße, 世界 🌍'", Want: text("Grüße, 世界 🌍")},
		{Name: "varchar empty", SQL: "''", Want: text("")},
		{Name: "varchar of 12 bytes", SQL: "'abcdefghijkl'", Want: text("abcdefghijkl")},
		{Name: "varchar of 13 bytes", SQL: "'abcdefghijklm'", Want: text("abcdefghijklm")},
		{Name: "varchar of lines", SQL: `e'a\tb\r\n"c"'`, Want: text("a\tb\r\n\"c\"")},
		{Name: "blob", SQL: `'\x00\xFF\x10'::BLOB`, Want: models.BytesValue([]byte{0, 255, 16})},
		{Name: "blob empty", SQL: `''::BLOB`, Want: models.BytesValue(nil)},
		{Name: "bit", SQL: "'0101011'::BIT", Want: text("0101011")},
		{Name: "bit of two bytes", SQL: "'1010101111000011'::BIT", Want: text("1010101111000011")},
		{Name: "true", SQL: "true", Want: models.BoolValue(true)},
		{Name: "false", SQL: "false", Want: models.BoolValue(false)},
		{Name: "uuid", SQL: "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::UUID", Want: text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")},
		{Name: "uuid zero", SQL: "'00000000-0000-0000-0000-000000000000'::UUID", Want: text("00000000-0000-0000-0000-000000000000")},
		{Name: "enum", SQL: "'très heureux'::mood", Want: text("très heureux")},
		{Name: "json", SQL: `'{"b": 1,  "a": "ü"}'::JSON`, Want: json(`{"b": 1,  "a": "ü"}`)},

		{Name: "date", SQL: "'2024-02-29'::DATE", Want: date(days(2024, 2, 29))},
		{Name: "date before 1970", SQL: "'1969-12-31'::DATE", Want: date(-1)},
		{Name: "date BC", SQL: "'0044-03-15 (BC)'::DATE", Want: date(days(-43, 3, 15))},
		{Name: "date of year 10000", SQL: "'10000-01-01'::DATE", Want: date(days(10000, 1, 1))},
		{Name: "date max", SQL: "'5881580-07-10'::DATE", Want: date(math.MaxInt32 - 1)},
		{Name: "date infinity", SQL: "'infinity'::DATE", Err: "infinite"},
		{Name: "date -infinity", SQL: "'-infinity'::DATE", Err: "infinite"},
		{Name: "time", SQL: "'23:59:59.999999'::TIME", Want: daytime(86399999999)},
		{Name: "time midnight", SQL: "'00:00:00'::TIME", Want: daytime(0)},
		{Name: "time_ns", SQL: "'12:00:00.123456789'::TIME_NS", Want: daytime(12*3600e6 + 123456)},
		{Name: "timetz", SQL: "'04:05:06.789-08'::TIMETZ", Want: text("04:05:06.789-08")},
		{Name: "timetz of half an hour", SQL: "'04:05:06+05:30'::TIMETZ", Want: text("04:05:06+05:30")},
		{Name: "timetz UTC", SQL: "'04:05:06+00'::TIMETZ", Want: text("04:05:06+00")},
		{Name: "timestamp", SQL: "'2024-02-29 12:34:56.789012'::TIMESTAMP", Want: timestamp(micros(2024, 2, 29, 12, 34, 56, 789012))},
		{Name: "timestamp before 1970", SQL: "'1969-12-31 23:59:59.999999'::TIMESTAMP", Want: timestamp(-1)},
		{Name: "timestamp BC", SQL: "'0044-03-15 (BC) 12:00:00'::TIMESTAMP", Want: timestamp(micros(-43, 3, 15, 12, 0, 0, 0))},
		{Name: "timestamp of year 10000", SQL: "'10000-01-01 00:00:00.000001'::TIMESTAMP", Want: timestamp(days(10000, 1, 1)*86400e6 + 1)},
		{Name: "timestamp max", SQL: "'294247-01-10 04:00:54.775806'::TIMESTAMP", Want: timestamp(math.MaxInt64 - 1)},
		{Name: "timestamp infinity", SQL: "'infinity'::TIMESTAMP", Err: "infinite"},
		{Name: "timestamp -infinity", SQL: "'-infinity'::TIMESTAMP", Err: "infinite"},
		{Name: "timestamp_s", SQL: "'2024-02-29 12:34:56'::TIMESTAMP_S", Want: timestamp(micros(2024, 2, 29, 12, 34, 56, 0))},
		{Name: "timestamp_s infinity", SQL: "'infinity'::TIMESTAMP_S", Err: "infinite"},
		{Name: "timestamp_ms", SQL: "'1969-12-31 23:59:59.999'::TIMESTAMP_MS", Want: timestamp(-1000)},
		{Name: "timestamp_ns", SQL: "'2024-02-29 12:34:56.789012345'::TIMESTAMP_NS", Want: timestamp(micros(2024, 2, 29, 12, 34, 56, 789012))},
		{Name: "timestamp_ns before 1970", SQL: "'1969-12-31 23:59:59.999999999'::TIMESTAMP_NS", Want: timestamp(-1)},
		{Name: "timestamptz", SQL: "'2024-03-31 02:30:00.5+05:30'::TIMESTAMPTZ", Want: instant(micros(2024, 3, 30, 21, 0, 0, 500000))},
		{Name: "timestamptz infinity", SQL: "'infinity'::TIMESTAMPTZ", Err: "infinite"},
		{Name: "timestamptz as text is UTC", SQL: "'2024-07-01 12:00:00+02'::TIMESTAMPTZ::VARCHAR", Want: text("2024-07-01 10:00:00+00")},
		{Name: "interval", SQL: "INTERVAL '14 months 3 days 04:05:06.7'", Want: text("1 year 2 months 3 days 04:05:06.7")},
		{Name: "interval negative", SQL: "INTERVAL '-1 months -2 days -00:00:01.5'", Want: text("-1 month -2 days -00:00:01.5")},
		{Name: "interval zero", SQL: "INTERVAL '0 days'", Want: text("00:00:00")},
		{Name: "interval of 1000 hours", SQL: "INTERVAL '1000 hours'", Want: text("1000:00:00")},

		{Name: "varchar[]", SQL: `['a', NULL, '', 'b;"c"', 'ü and a long tail of text']`, Want: list(text("a"), null, text(""), text(`b;"c"`), text("ü and a long tail of text"))},
		{Name: "varchar[] empty", SQL: "[]::VARCHAR[]", Want: list()},
		{Name: "integer[]", SQL: "[1, -2, NULL]", Want: list(integer(1), integer(-2), null)},
		{Name: "integer[3]", SQL: "[1, NULL, 3]::INTEGER[3]", Want: list(integer(1), null, integer(3))},
		{Name: "decimal[]", SQL: "[1.50, 20.25]::DECIMAL(6,2)[]", Want: list(decimal("1.50"), decimal("20.25"))},
		{Name: "enum[]", SQL: "['sad', 'très heureux']::mood[]", Want: list(text("sad"), text("très heureux"))},
		{Name: "integer[][]", SQL: "[[1], NULL, [], [2, NULL]]", Want: list(list(integer(1)), null, list(), list(integer(2), null))},
		{Name: "date[] infinity", SQL: "['infinity'::DATE]", Err: "infinite"},
		{Name: "struct[]", SQL: "[{'a': 1}, NULL]", Want: list(json(`{"a":1}`), null)},
		{Name: "json[]", SQL: `['{"a": 1}'::JSON]`, Want: list(json(`{"a": 1}`))},

		{Name: "struct", SQL: `{'i': 1, 's': e'x "y"\n\x01', 'n': NULL::INT, 'd': '2024-01-02'::DATE, 'f': 0.5::DOUBLE, 'nan': 'nan'::DOUBLE, 'm': 1.50::DECIMAL(4,2), 'b': true, 'l': [1, NULL], 'j': '{"k": 2}'::JSON}`,
			Want: json(`{"i":1,"s":"x \"y\"\n\u0001","n":null,"d":"2024-01-02","f":0.5,"nan":"NaN","m":1.5,"b":true,"l":[1,null],"j":{"k": 2}}`)},
		{Name: "struct nested", SQL: "{'a': {'b': {'c': 'deep'}}}", Want: json(`{"a":{"b":{"c":"deep"}}}`)},
		{Name: "struct of infinite dates", SQL: "{'a': 'infinity'::DATE, 'b': '-infinity'::TIMESTAMP}", Want: json(`{"a":"infinity","b":"-infinity"}`)},
		{Name: "row", SQL: "row(1, 'x')", Want: json(`[1,"x"]`)},
		{Name: "map", SQL: "MAP {'k1': 1, 'k2': NULL}", Want: json(`{"k1":1,"k2":null}`)},
		{Name: "map of numbers", SQL: "MAP {1: 'a', 2: 'b'}", Want: json(`{"1":"a","2":"b"}`)},
		{Name: "map empty", SQL: "MAP {}::MAP(VARCHAR, INT)", Want: json(`{}`)},
		{Name: "union", SQL: "union_value(num := 7)::UNION(num INT, str VARCHAR)", Want: json(`{"num":7}`)},
		{Name: "union second", SQL: "union_value(str := 'x')::UNION(num INT, str VARCHAR)", Want: json(`{"str":"x"}`)},
	}
}

func TestTypeProbes(t *testing.T) {
	sourcetest.Probes(t, open(t, duckdb.Options{Path: build(t)}))
}
