package postgres_test

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coho/models"
	"coho/sources"
	"coho/sources/postgres"
	"coho/sources/postgres/postgrestest"
	"coho/sources/sourcetest"
)

func TestMain(m *testing.M) {
	code := postgrestest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(tb testing.TB, dsn string) *postgres.Source {
	tb.Helper()
	s, err := postgres.Open(postgres.Options{DSN: models.Secret(dsn)})
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

const fixtures = `
CREATE SCHEMA "Shop";
CREATE TABLE "Shop".things (id int, label text);
INSERT INTO "Shop".things VALUES (1, 'one'), (2, NULL);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'très heureux');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN more_positive AS positive;
CREATE TYPE pair AS (a int, b text);
CREATE EXTENSION citext;
CREATE SEQUENCE counter;
`

func TestConformance(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, fixtures)
	sourcetest.Run(t, sourcetest.Harness{
		Open:         func(tb testing.TB) sources.Source { return open(tb, dsn) },
		Types:        types(),
		Table:        `"Shop".Things`,
		Slow:         "SELECT pg_sleep(60)",
		Failing:      "SELECT 1 / (90000 - g) AS v FROM generate_series(1, 100000) AS s(g)",
		FailingError: "division by zero",
		Refused: map[string]string{
			`INSERT INTO "Shop".things VALUES (3) RETURNING id`:                  "cannot execute INSERT in a read-only transaction",
			`WITH d AS (DELETE FROM "Shop".things RETURNING id) SELECT * FROM d`: "cannot execute SELECT in a read-only transaction",
			`SELECT * FROM "Shop".things FOR UPDATE`:                             "cannot execute SELECT FOR UPDATE in a read-only transaction",
			`DELETE FROM "Shop".things`:                                          "returns no columns",
			`COMMIT`:                                                             "returns no columns",
			`COMMIT; DELETE FROM "Shop".things`:                                  "several statements",
			`SELECT nextval('counter')`:                                          "cannot execute nextval() in a read-only transaction",
		},
		Connections: func(tb testing.TB) int {
			rows := server.Query(tb, dsn, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'coho'")
			n, err := strconv.Atoi(string(rows[0][0]))
			if err != nil {
				tb.Fatal(err)
			}
			return n
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
	long := strings.Repeat("1234567890", 100)
	return []sourcetest.Type{
		{Name: "smallint min", SQL: "'-32768'::int2", Want: integer(math.MinInt16)},
		{Name: "smallint max", SQL: "'32767'::int2", Want: integer(math.MaxInt16)},
		{Name: "integer min", SQL: "'-2147483648'::int4", Want: integer(math.MinInt32)},
		{Name: "integer max", SQL: "'2147483647'::int4", Want: integer(math.MaxInt32)},
		{Name: "bigint min", SQL: "'-9223372036854775808'::int8", Want: integer(math.MinInt64)},
		{Name: "bigint max", SQL: "'9223372036854775807'::int8", Want: integer(math.MaxInt64)},
		{Name: "oid max", SQL: "'4294967295'::oid", Want: integer(math.MaxUint32)},

		{Name: "numeric", SQL: "'1234567.8900'::numeric", Want: decimal("1234567.8900")},
		{Name: "numeric zero", SQL: "'0'::numeric", Want: decimal("0")},
		{Name: "numeric zero with scale", SQL: "'-0.000'::numeric", Want: decimal("0.000")},
		{Name: "numeric integer of thousands", SQL: "'10000000000000000'::numeric", Want: decimal("10000000000000000")},
		{Name: "numeric small", SQL: "'0.000000000000012300'::numeric", Want: decimal("0.000000000000012300")},
		{Name: "numeric negative", SQL: "'-99999.00001'::numeric(20,5)", Want: decimal("-99999.00001")},
		{Name: "numeric padded", SQL: "'7'::numeric(10,2)", Want: decimal("7.00")},
		{Name: "numeric 1000 digits", SQL: "'" + long + "'::numeric", Want: decimal(long)},
		{Name: "numeric 1000 digits after the point", SQL: "'-0." + long + "'::numeric", Want: decimal("-0." + long)},
		{Name: "numeric NaN", SQL: "'NaN'::numeric", Want: float(math.NaN()), Kind: models.Decimal},
		{Name: "numeric Infinity", SQL: "'Infinity'::numeric", Want: float(math.Inf(1)), Kind: models.Decimal},
		{Name: "numeric -Infinity", SQL: "'-Infinity'::numeric", Want: float(math.Inf(-1)), Kind: models.Decimal},

		{Name: "real", SQL: "'0.1'::float4", Want: float(0.1)},
		{Name: "real integer", SQL: "'16777215'::float4", Want: float(16777215)},
		{Name: "real max", SQL: "'3.4028235e38'::float4", Want: float(3.4028235e38)},
		{Name: "real min", SQL: "'1e-45'::float4", Want: float(1e-45)},
		{Name: "real NaN", SQL: "'NaN'::float4", Want: float(math.NaN())},
		{Name: "real -Infinity", SQL: "'-Infinity'::float4", Want: float(math.Inf(-1))},
		{Name: "double", SQL: "'-0.1'::float8", Want: float(-0.1)},
		{Name: "double max", SQL: "'1.7976931348623157e308'::float8", Want: float(math.MaxFloat64)},
		{Name: "double min", SQL: "'5e-324'::float8", Want: float(math.SmallestNonzeroFloat64)},
		{Name: "double NaN", SQL: "'NaN'::float8", Want: float(math.NaN())},
		{Name: "double Infinity", SQL: "'Infinity'::float8", Want: float(math.Inf(1))},

		{Name: "text", SQL: "'Grüße, 世界 🌍'::text", Want: text("Grüße, 世界 🌍")},
		{Name: "text empty", SQL: "''::text", Want: text("")},
		{Name: "text of lines", SQL: `E'a\tb\r\n"c"'::text`, Want: text("a\tb\r\n\"c\"")},
		{Name: "varchar", SQL: "'abc  '::varchar(10)", Want: text("abc  ")},
		{Name: "char", SQL: "'abc'::char(10)", Want: text("abc")},
		{Name: "char blank", SQL: "''::char(3)", Want: text("")},
		{Name: "name", SQL: "'pg_class'::name", Want: text("pg_class")},
		{Name: "citext", SQL: "'MiXed'::citext", Want: text("MiXed")},
		{Name: "untyped literal", SQL: "'plain'", Want: text("plain")},
		{Name: `"char"`, SQL: `'x'::"char"`, Want: text("x")},
		{Name: "xml", SQL: "'<a>1</a>'::xml", Want: text("<a>1</a>")},

		{Name: "true", SQL: "true", Want: models.BoolValue(true)},
		{Name: "false", SQL: "false", Want: models.BoolValue(false)},
		{Name: "uuid", SQL: "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", Want: text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")},
		{Name: "uuid zero", SQL: "'00000000-0000-0000-0000-000000000000'::uuid", Want: text("00000000-0000-0000-0000-000000000000")},
		{Name: "bytea", SQL: `'\x00ff10'::bytea`, Want: models.BytesValue([]byte{0, 255, 16})},
		{Name: "bytea empty", SQL: `'\x'::bytea`, Want: models.BytesValue(nil)},
		{Name: "json", SQL: `'{"b": 1,  "a": "ü"}'::json`, Want: json(`{"b": 1,  "a": "ü"}`)},
		{Name: "jsonb", SQL: `'{"b": 1,  "a": [null, 1.50]}'::jsonb`, Want: json(`{"a": [null, 1.50], "b": 1}`)},
		{Name: "jsonb null", SQL: `'null'::jsonb`, Want: json(`null`)},
		{Name: "enum", SQL: "'très heureux'::mood", Want: text("très heureux")},
		{Name: "domain", SQL: "7::positive", Want: integer(7)},
		{Name: "domain of a domain", SQL: "8::more_positive", Want: integer(8)},

		{Name: "date", SQL: "'2024-02-29'::date", Want: date(days(2024, 2, 29))},
		{Name: "date epoch", SQL: "'1970-01-01'::date", Want: date(0)},
		{Name: "date BC", SQL: "'4713-11-24 BC'::date", Want: date(days(-4712, 11, 24))},
		{Name: "date of year 10000", SQL: "'10000-01-01'::date", Want: date(days(10000, 1, 1))},
		{Name: "date max", SQL: "'5874897-12-31'::date", Want: date(2147483493 - 2440588)},
		{Name: "date infinity", SQL: "'infinity'::date", Err: "infinite"},
		{Name: "date -infinity", SQL: "'-infinity'::date", Err: "infinite"},
		{Name: "time", SQL: "'23:59:59.999999'::time", Want: daytime(86399999999)},
		{Name: "time midnight", SQL: "'00:00'::time", Want: daytime(0)},
		{Name: "time 24:00", SQL: "'24:00'::time", Want: daytime(86400000000)},
		{Name: "timetz", SQL: "'04:05:06.789-08'::timetz", Want: text("04:05:06.789-08")},
		{Name: "timestamp", SQL: "'2024-02-29 12:34:56.789012'::timestamp", Want: timestamp(micros(2024, 2, 29, 12, 34, 56, 789012))},
		{Name: "timestamp before 1970", SQL: "'1969-12-31 23:59:59.999999'::timestamp", Want: timestamp(-1)},
		{Name: "timestamp BC", SQL: "'0044-03-15 12:00 BC'::timestamp", Want: timestamp(micros(-43, 3, 15, 12, 0, 0, 0))},
		{Name: "timestamp min", SQL: "'4713-11-24 00:00:00 BC'::timestamp", Want: timestamp(days(-4712, 11, 24) * 86400e6)},
		{Name: "timestamp of year 10000", SQL: "'10000-01-01 00:00:00.000001'::timestamp", Want: timestamp(days(10000, 1, 1)*86400e6 + 1)},
		{Name: "timestamp beyond int64", SQL: "'294276-12-31 23:59:59.999999'::timestamp", Err: "too far"},
		{Name: "timestamp infinity", SQL: "'infinity'::timestamp", Err: "infinite"},
		{Name: "timestamptz", SQL: "'2024-03-31 02:30:00.5+05:30'::timestamptz", Want: instant(micros(2024, 3, 30, 21, 0, 0, 500000))},
		{Name: "timestamptz -infinity", SQL: "'-infinity'::timestamptz", Err: "infinite"},
		{Name: "timestamptz as text is UTC", SQL: "'2024-07-01 12:00+02'::timestamptz::text", Want: text("2024-07-01 10:00:00+00")},
		{Name: "interval", SQL: "'1 year 2 mons 3 days 04:05:06.7'::interval", Want: text("1 year 2 mons 3 days 04:05:06.7")},

		{Name: "text[]", SQL: `ARRAY['a', NULL, '', 'b;"c"', 'ü']::text[]`, Want: list(text("a"), null, text(""), text(`b;"c"`), text("ü"))},
		{Name: "text[] empty", SQL: "'{}'::text[]", Want: list()},
		{Name: "integer[]", SQL: "'{1,-2,NULL}'::int4[]", Want: list(integer(1), integer(-2), null)},
		{Name: "numeric[]", SQL: "'{1.50,NaN}'::numeric[]", Want: list(decimal("1.50"), float(math.NaN()))},
		{Name: "boolean[]", SQL: "'{t,f}'::bool[]", Want: list(models.BoolValue(true), models.BoolValue(false))},
		{Name: "uuid[]", SQL: "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'::uuid[]", Want: list(text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))},
		{Name: "date[]", SQL: "'{2024-01-01}'::date[]", Want: list(date(days(2024, 1, 1)))},
		{Name: "date[] infinity", SQL: "'{infinity}'::date[]", Err: "infinite"},
		{Name: "timestamptz[]", SQL: "'{2024-01-01 00:00+00}'::timestamptz[]", Want: list(instant(micros(2024, 1, 1, 0, 0, 0, 0)))},
		{Name: "jsonb[]", SQL: `ARRAY['{"a":1}'::jsonb, NULL]`, Want: list(json(`{"a": 1}`), null)},
		{Name: "char[]", SQL: "ARRAY['a  '::char(3)]", Want: list(text("a"))},
		{Name: "enum[]", SQL: "'{sad,\"très heureux\"}'::mood[]", Want: list(text("sad"), text("très heureux"))},
		{Name: "domain[]", SQL: "'{1,2}'::more_positive[]", Want: list(integer(1), integer(2))},
		{Name: "citext[]", SQL: "'{A,b}'::citext[]", Want: list(text("A"), text("b"))},
		{Name: "interval[]", SQL: `ARRAY['1 day'::interval, NULL, '01:00'::interval]`, Want: list(text("1 day"), null, text("01:00:00"))},
		{Name: "interval[] empty", SQL: `'{}'::interval[]`, Want: list()},
		{Name: "inet[]", SQL: `'{10.0.0.1,::1}'::inet[]`, Want: list(text("10.0.0.1"), text("::1"))},
		{Name: "money[]", SQL: `ARRAY['1234.50'::money]`, Want: list(text("$1,234.50"))},
		{Name: "pair[]", SQL: `ARRAY[ROW(1, 'a "b"')::pair]`, Want: list(text(`(1,"a ""b""")`))},
		{Name: "box[]", SQL: `'{(1,1),(0,0)}'::box[]`, Want: text("{(1,1),(0,0)}")},
		{Name: "integer[][]", SQL: "'{{1,2},{3,NULL}}'::int4[]", Want: text("{{1,2},{3,NULL}}"), Kind: models.List},
		{Name: "text[][]", SQL: `'{{"a b",null},{"","\"\\"}}'::text[]`, Want: text(`{{"a b",NULL},{"","\"\\"}}`), Kind: models.List},
		{Name: "interval[][]", SQL: `'{{1 day},{2 days}}'::interval[]`, Want: text(`{{"1 day"},{"2 days"}}`), Kind: models.List},
		{Name: "integer[] from 0", SQL: "'[0:1]={1,2}'::int4[]", Want: text("{1,2}"), Kind: models.List},

		{Name: "inet", SQL: "'192.168.0.1/24'::inet", Want: text("192.168.0.1/24")},
		{Name: "cidr", SQL: "'10.0.0.0/8'::cidr", Want: text("10.0.0.0/8")},
		{Name: "macaddr", SQL: "'08:00:2B:01:02:03'::macaddr", Want: text("08:00:2b:01:02:03")},
		{Name: "money", SQL: "'-1234.5'::money", Want: text("-$1,234.50")},
		{Name: "bit", SQL: "B'101'", Want: text("101")},
		{Name: "bit varying", SQL: "B'1101'::varbit(8)", Want: text("1101")},
		{Name: "int4range", SQL: "'[1,5)'::int4range", Want: text("[1,5)")},
		{Name: "composite", SQL: "ROW(1, 'x y')::pair", Want: text(`(1,"x y")`)},
		{Name: "record", SQL: "ROW(1, NULL)", Want: text("(1,)")},
		{Name: "point", SQL: "'(1.5,2)'::point", Want: text("(1.5,2)")},
		{Name: "tsvector", SQL: "'a b'::tsvector", Want: text("'a' 'b'")},
		{Name: "regclass", SQL: "'pg_class'::regclass", Want: text("pg_class")},
	}
}

func TestTypeProbes(t *testing.T) {
	server := postgrestest.Start(t)
	sourcetest.Probes(t, open(t, server.CreateDatabase(t)))
}
