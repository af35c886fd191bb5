package duckdb

import (
	"strings"
	"testing"
)

func TestResolveFiles(t *testing.T) {
	for in, want := range map[string]string{
		"SELECT * FROM 'a.csv'":                                             "SELECT * FROM '/d/a.csv'",
		"FROM read_csv('x/a.csv', delim='|')":                               "FROM read_csv('/d/x/a.csv', delim='|')",
		"from READ_PARQUET ( -- the file\n'*.parquet')":                     "from READ_PARQUET ( -- the file\n'/d/*.parquet')",
		"FROM read_json(['a.json', 'b.json'], columns={'a':'INT'})":         "FROM read_json(['/d/a.json', '/d/b.json'], columns={'a':'INT'})",
		"SELECT * FROM t JOIN 'b''s.csv' USING (id)":                        "SELECT * FROM t JOIN '/d/b''s.csv' USING (id)",
		"FROM read_csv('/abs/a.csv')":                                       "FROM read_csv('/abs/a.csv')",
		"FROM read_csv('https://h/a.csv')":                                  "FROM read_csv('https://h/a.csv')",
		"SELECT 'a.csv' FROM t WHERE n IN ('a.csv')":                        "SELECT 'a.csv' FROM t WHERE n IN ('a.csv')",
		"SELECT trim(both 'x' from name) -- from 'a.csv'":                   "SELECT trim(both 'x' from name) -- from 'a.csv'",
		"SELECT $$from 'a.csv'$$, $t$ from 'a' $t$ /* from 'a' */":          "SELECT $$from 'a.csv'$$, $t$ from 'a' $t$ /* from 'a' */",
		`SELECT "from 'a'" FROM t`:                                          `SELECT "from 'a'" FROM t`,
		"SELECT extract(year FROM '2024-01-01'::DATE), trim(both FROM 'x')": "SELECT extract(year FROM '2024-01-01'::DATE), trim(both FROM 'x')",
		"SELECT trim((SELECT v FROM 'a.csv')) FROM 'b.csv'":                 "SELECT trim((SELECT v FROM '/d/a.csv')) FROM '/d/b.csv'",
		"SELECT * FROM t WHERE a IS DISTINCT FROM 'a.csv'":                  "SELECT * FROM t WHERE a IS DISTINCT FROM 'a.csv'",
		"FROM read_csv('open":                                               "FROM read_csv('open",
		"FROM read_csv('a.csv', nullstr=['NA', 'b'])":                       "FROM read_csv('/d/a.csv', nullstr=['NA', 'b'])",
	} {
		if got := resolveFiles(in, "/d"); got != want {
			t.Errorf("%s\nbecame %s\nwant   %s", in, got, want)
		}
		if got := resolveFiles(in, ""); got != in {
			t.Errorf("without a directory %s became %s", in, got)
		}
	}
}

func FuzzResolveFiles(f *testing.F) {
	f.Add("SELECT * FROM 'a.csv'")
	f.Add("FROM read_csv(['a', 'b''c'])")
	f.Fuzz(func(t *testing.T, sql string) {
		got := resolveFiles(sql, "/d")
		if strings.ReplaceAll(got, "/d/", "") == sql || got == sql {
			return
		}
		// A name may be cleaned too (./a), never lost: resolving is done once.
		if again := resolveFiles(got, "/d"); again != got {
			t.Fatalf("%q became %q, then %q", sql, got, again)
		}
	})
}
