package postgres_test

import (
	"flag"
	"slices"
	"testing"

	"coho/models"
	"coho/sources/postgres/postgrestest"
	"coho/sources/sourcetest"
)

var rewrite = flag.Bool("rewrite", false, "write the documentation's tables of types anew")

// examples has a value of each of the server's types, by the server's name of it.
var examples = map[string]string{
	"bigint": "'9223372036854775807'::bigint", "bit": "B'1'", "bit varying": "B'1101'::varbit(8)", "boolean": "true",
	"box": "'(1,1),(0,0)'::box", "bytea": `'\x00ff10'::bytea`, "character": "'abc'::char(10)",
	"character varying": "'abc'::varchar(10)", "cidr": "'10.0.0.0/8'::cidr", "circle": "'<(0,0),2>'::circle", "date": "'2024-02-29'::date",
	"daterange":        "'[2024-01-01,2024-02-01)'::daterange",
	"double precision": "0.1::float8", "inet": "'192.168.0.1/24'::inet", "int4range": "'[1,5)'::int4range",
	"int8range": "'[1,5)'::int8range", "integer": "'-2147483648'::integer",
	"interval": "'1 year 2 days 04:05:06.7'::interval", "json": `'{"b": 1,  "a": "ü"}'::json`, "jsonb": `'{"b": 1, "a": [null, 1.50]}'::jsonb`,
	"jsonpath": "'$.a'::jsonpath", "line": "'{1,-1,0}'::line", "lseg": "'[(0,0),(1,1)]'::lseg", "macaddr": "'08:00:2B:01:02:03'::macaddr",
	"macaddr8": "'08:00:2B:01:02:03:04:05'::macaddr8", "money": "'1234.5'::money", "name": "'pg_class'::name",
	"numeric": "'12345678901234567890123456789012345678.50'::numeric", "numrange": "'[1.5,2)'::numrange",
	"oid": "'4294967295'::oid", "path": "'[(0,0),(1,1)]'::path", "point": "'(1.5,2)'::point", "polygon": "'((0,0),(1,1),(1,0))'::polygon",
	"real": "0.1::real", "smallint": "'32767'::smallint", "text": "'Grüße 🌍'::text", "time without time zone": "'23:59:59.999999'::time",
	"time with time zone": "'04:05:06.789-08'::timetz", "timestamp without time zone": "'2024-02-29 12:34:56.789012'::timestamp",
	"timestamp with time zone": "'2024-03-31 02:30:00.5+05:30'::timestamptz",
	"tsquery":                  "'a & b'::tsquery", "tsrange": "'[2024-01-01,2024-01-02)'::tsrange",
	"tstzrange": "'[2024-01-01 00:00Z,2024-01-02 00:00Z)'::tstzrange", "tsvector": "'a b'::tsvector", "uuid": "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "xml": "'<a>1</a>'::xml",
}

// more are values of types that are made of others, and of those that are not like
// the others of their type.
var more = []string{
	"'NaN'::numeric", "'-Infinity'::float8", "'infinity'::date", "'infinity'::timestamptz", "'24:00'::time",
	`'x'::"char"`, "'très heureux'::mood", "7::positive", "'MiXed'::citext", "ROW(1, 'x y')::pair",
	`ARRAY['a', NULL, 'b;c']::text[]`, "'{1,-2,NULL}'::int4[]", "'{}'::text[]", `ARRAY['{"a":1}'::jsonb]`, "'{sad}'::mood[]", "'{{1,2},{3,4}}'::int4[]",
}

// TestDocumentedTypes: the documentation's table of PostgreSQL's types is what a
// server's values are read as, and leaves no type out that a column can have.
func TestDocumentedTypes(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, fixtures)
	s := open(t, dsn)
	_, rows := sourcetest.ReadAll(t, s, models.Model{SQL: `SELECT format_type(oid, NULL) FROM pg_type
WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r') AND typcategory NOT IN ('A', 'Z')
AND typname !~ '^(pg_|reg|_)' AND typname NOT IN ('tid', 'xid', 'xid8', 'cid', 'gtsvector', 'refcursor', 'txid_snapshot', 'aclitem', 'int2vector', 'oidvector')`})
	var found []sourcetest.Example
	seen := map[string]bool{}
	for _, row := range rows {
		name := row[0].Str()
		expr, ok := examples[name]
		if !ok {
			t.Errorf("the type %s has no example", name)
			continue
		}
		seen[name] = true
		e := sourcetest.ReadExample(t, s, expr)
		if e.Type != name {
			t.Errorf("%s is a %s, not a %s", expr, e.Type, name)
		}
		found = append(found, e)
	}
	for name := range examples {
		if !seen[name] {
			t.Errorf("the server has no type %s", name)
		}
	}
	slices.SortFunc(found, func(a, b sourcetest.Example) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		if a.Type < b.Type {
			return -1
		}
		return 1
	})
	for _, expr := range more {
		found = append(found, sourcetest.ReadExample(t, s, expr))
	}
	sourcetest.Document(t, "../../docs/types.md", "PostgreSQL", found, *rewrite)
}
