package duckdb_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"coho/models"
	"coho/sources/duckdb"
	"coho/sources/sourcetest"
)

var rewrite = flag.Bool("rewrite", false, "write the documentation's tables of types anew")

// examples has values of each of DuckDB's types, by its own name of it.
var examples = map[string][]string{
	"BOOLEAN": {"true"}, "TINYINT": {"127::TINYINT"}, "SMALLINT": {"32767::SMALLINT"}, "INTEGER": {"2147483647::INTEGER"}, "BIGINT": {"9223372036854775807::BIGINT"},
	"UTINYINT": {"255::UTINYINT"}, "USMALLINT": {"65535::USMALLINT"}, "UINTEGER": {"4294967295::UINTEGER"}, "UBIGINT": {"18446744073709551615::UBIGINT"},
	"HUGEINT": {"170141183460469231731687303715884105727::HUGEINT"}, "UHUGEINT": {"340282366920938463463374607431768211455::UHUGEINT"},
	"BIGNUM": {"'12345678901234567890123456789012345678901234567890'::BIGNUM"}, "FLOAT": {"0.1::FLOAT"}, "DOUBLE": {"0.1::DOUBLE", "'NaN'::DOUBLE", "'-Infinity'::DOUBLE"},
	"DECIMAL": {"12.30::DECIMAL(18,4)"}, "VARCHAR": {"'Grüße 🌍'", `'{"b": 1}'::JSON`}, "BLOB": {`'\x00\xFF\x10'::BLOB`}, "BIT": {"'0101011'::BIT"},
	"UUID": {"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::UUID"}, "DATE": {"'2024-02-29'::DATE", "'infinity'::DATE"}, "TIME": {"'23:59:59.999999'::TIME"},
	"TIME_NS": {"'12:00:00.123456789'::TIME_NS"}, "TIME WITH TIME ZONE": {"'04:05:06.789-08'::TIMETZ"}, "TIMESTAMP": {"'2024-02-29 12:34:56.789012'::TIMESTAMP", "'infinity'::TIMESTAMP"},
	"TIMESTAMP_S": {"'2024-02-29 12:34:56'::TIMESTAMP_S"}, "TIMESTAMP_MS": {"'2024-02-29 12:34:56.789'::TIMESTAMP_MS"}, "TIMESTAMP_NS": {"'2024-02-29 12:34:56.789012345'::TIMESTAMP_NS"},
	"TIMESTAMP WITH TIME ZONE": {"'2024-03-31 02:30:00.5+05:30'::TIMESTAMPTZ"}, "INTERVAL": {"INTERVAL '14 months 3 days 04:05:06.7'"},
	"ENUM": {"'sad'::ENUM ('sad', 'ok')"}, "LIST": {"['a', NULL, 'b;c']", "[]::VARCHAR[]"}, "ARRAY": {"[1, 2, 3]::INTEGER[3]"},
	"STRUCT": {"{'i': 1, 's': 'x'}"}, "MAP": {"MAP {'k1': 1, 'k2': NULL}"}, "UNION": {"union_value(num := 7)::UNION(num INT, str VARCHAR)"},
}

// unread are types that a query has to cast, and a value of each.
var unread = map[string]string{"GEOMETRY": "NULL::GEOMETRY", "VARIANT": "7::VARIANT"}

// noColumn are types that no column of a table is of.
var noColumn = []string{"NULL", "ANY", "TYPE", "LAMBDA", "POINTER", "INVALID", "UNKNOWN"}

// TestDocumentedTypes: the documentation's table of DuckDB's types is what its
// values are read as, and leaves no type out that a column can have.
func TestDocumentedTypes(t *testing.T) {
	s := open(t, duckdb.Options{})
	_, rows := sourcetest.ReadAll(t, s, models.Model{SQL: "SELECT DISTINCT logical_type FROM duckdb_types()"})
	seen := map[string]bool{}
	var found []sourcetest.Example
	for _, row := range rows {
		name := row[0].Text()
		seen[name] = true
		if _, ok := examples[name]; !ok && unread[name] == "" && !slices.Contains(noColumn, name) {
			t.Errorf("the type %s has no example", name)
		}
	}
	for name, expr := range unread {
		if _, err := s.Describe(t.Context(), models.Model{SQL: "SELECT " + expr + " AS v"}); err == nil || !strings.Contains(err.Error(), "cast it in the query") || !seen[name] {
			t.Errorf("%s, of type %s: %v", expr, name, err)
		}
	}
	for name, list := range examples {
		if !seen[name] && name != "ARRAY" { // which it lists as LIST
			t.Errorf("DuckDB has no type %s", name)
		}
		for _, expr := range list {
			found = append(found, sourcetest.ReadExample(t, s, expr))
		}
	}
	slices.SortFunc(found, func(a, b sourcetest.Example) int {
		switch {
		case a.Kind != b.Kind:
			return int(a.Kind) - int(b.Kind)
		case a.Type != b.Type && a.Type < b.Type, a.Type == b.Type && a.Shown < b.Shown:
			return -1
		}
		return 1
	})
	sourcetest.Document(t, "../../docs/types.md", "DuckDB", found, *rewrite)
}
