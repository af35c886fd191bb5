package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/sources/postgres/postgrestest"
)

// typed is one column of the types test: its type in PostgreSQL, the field it
// fills, and for each row a literal and what the org then holds ("" for null).
var typed = []struct {
	column, pgType, field string
	literals              [3]string
	want                  [3]string
}{
	{"c_int2", "int2", "Small__c", [3]string{"32767", "-32768", "0"}, [3]string{"32767", "-32768", "0"}},
	{"c_int4", "int4", "Int__c", [3]string{"2147483647", "-2147483648", "0"}, [3]string{"2147483647", "-2147483648", "0"}},
	{"c_int8", "int8", "Big__c", [3]string{"123456789012345", "-1", "0"}, [3]string{"123456789012345", "-1", "0"}},
	{"c_int8t", "int8", "Big_Text__c", [3]string{"9223372036854775807", "-9223372036854775808", "7"}, [3]string{"9223372036854775807", "-9223372036854775808", "7"}},
	{"c_num", "numeric(18,6)", "Numeric__c", [3]string{"123456789.123456", "-0.000001", "10"}, [3]string{"123456789.123456", "-0.000001", "10"}},
	{"c_numt", "numeric", "Numeric_Text__c", [3]string{"'12345678901234567890123456789.000000000000000000001'", "-0.10", "1e3"}, [3]string{"12345678901234567890123456789.000000000000000000001", "-0.1", "1000"}},
	{"c_real", "float4", "Real__c", [3]string{"1.5", "-0.25", "0"}, [3]string{"1.5", "-0.25", "0"}},
	{"c_double", "float8", "Double__c", [3]string{"0.1", "-123456.78901234", "1e-8"}, [3]string{"0.1", "-123456.78901234", "0.00000001"}},
	{"c_text", "text", "Text__c", [3]string{`E'two\nlines, "quoted", and a comma'`, "'žluťoučký 🐎 漢字'", "''"}, [3]string{"two\nlines, \"quoted\", and a comma", "žluťoučký 🐎 漢字", ""}},
	{"c_varchar", "varchar(255)", "Varchar__c", [3]string{"'#N/A'", "'null'", "'=1+1'"}, [3]string{"#N/A", "null", "=1+1"}},
	{"c_char", "char(5)", "Char__c", [3]string{"'ab'", "'abcde'", "''"}, [3]string{"ab", "abcde", ""}},
	{"c_bool", "bool", "Bool__c", [3]string{"true", "false", "true"}, [3]string{"true", "false", "true"}},
	{"c_uuid", "uuid", "Uuid__c", [3]string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"}, [3]string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"}},
	{"c_date", "date", "Date__c", [3]string{"'2024-02-29'", "'1899-12-31'", "'3999-12-31'"}, [3]string{"2024-02-29", "1899-12-31", "3999-12-31"}},
	{"c_ts", "timestamp", "Stamp__c", [3]string{"'2024-02-29 23:59:59.999'", "'1999-12-31 00:00:00'", "'2024-06-01 12:00:00'"}, [3]string{"2024-02-29T23:59:59", "1999-12-31T00:00:00", "2024-06-01T12:00:00"}},
	{"c_tstz", "timestamptz", "Stamp_Tz__c", [3]string{"'2024-02-29 23:59:59+02'", "'1999-12-31 00:00:00-05:30'", "'2024-06-01 12:00:00Z'"}, [3]string{"2024-02-29T21:59:59", "1999-12-31T05:30:00", "2024-06-01T12:00:00"}},
	{"c_tstzt", "timestamptz", "Stamp_Text__c", [3]string{"'2024-02-29 23:59:59.123456+02'", "'1999-12-31 00:00:00+00'", "'2024-06-01 12:00:00Z'"}, [3]string{"2024-02-29T21:59:59.123456Z", "1999-12-31T00:00:00Z", "2024-06-01T12:00:00Z"}},
	{"c_json", "json", "Json__c", [3]string{`'{"a": [1, 2], "b": null}'`, "'[]'", `'"x"'`}, [3]string{`{"a": [1, 2], "b": null}`, "[]", `"x"`}},
	{"c_jsonb", "jsonb", "Jsonb__c", [3]string{`'{"b":1,"a":"ž"}'`, "'3'", "'true'"}, [3]string{`{"a": "ž", "b": 1}`, "3", "true"}},
	{"c_array", "text[]", "Array__c", [3]string{"ARRAY['red','blue sky']", "ARRAY['green']", "ARRAY[]::text[]"}, [3]string{"red;blue sky", "green", ""}},
	{"c_arrayt", "varchar[]", "Array_Text__c", [3]string{"ARRAY['x','y;z']", "ARRAY['one']", "ARRAY[]::varchar[]"}, [3]string{"x;y;z", "one", ""}},
	{"c_enum", "mood", "Enum__c", [3]string{"'happy'", "'sad'", "'happy'"}, [3]string{"happy", "sad", "happy"}},
}

// TestEveryTypeArrives: every type of a real PostgreSQL server, and the null of
// each, read back from the org and compared value for value.
func TestEveryTypeArrives(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	create := "CREATE TYPE mood AS ENUM ('happy', 'sad');\nCREATE SCHEMA crm;\nCREATE TABLE crm.typed (k int PRIMARY KEY"
	rows := make([]string, 4)
	var fields strings.Builder
	for i := range rows {
		rows[i] = fmt.Sprint(i)
	}
	for _, c := range typed {
		create += ", " + c.column + " " + c.pgType
		for i := range c.literals {
			rows[i] += ", " + c.literals[i]
		}
		rows[3] += ", NULL"
		fmt.Fprintf(&fields, "%s = %q\n", c.field, c.column)
	}
	server.Exec(t, dsn, create+");\nINSERT INTO crm.typed VALUES ("+strings.Join(rows, "),\n(")+");")

	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{OrgFile: "testdata/types_org.toml"})
			w.env["DSN"] = dsn
			w.config(strings.Replace(head, "type = \"duckdb\"\npath = \"warehouse.duckdb\"", "type = \"postgres\"\ndsn = \"${DSN}\"", 1) + `
[models.typed]
source = "warehouse"
primary_key = ["k"]
table = "crm.typed"

[syncs.typed]
model = "typed"
destination = "crm"
object = "Typed__c"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }

[syncs.typed.write]
ingestion_api = "` + api + `"

[syncs.typed.fields]
` + fields.String())
			r := w.run(exitDone, "typed")
			if r.Outcomes.Created != 4 {
				t.Errorf("%+v", r.Outcomes)
			}
			got := w.records("Typed__c")
			for _, c := range typed {
				for i := range 4 {
					want := ""
					if i < 3 {
						want = c.want[i]
					}
					have := field(got[fmt.Sprint(i)], c.field)
					if c.field == "Bool__c" && want == "" {
						want = "false"
					}
					if c.pgType == "timestamp" || c.field == "Stamp_Tz__c" {
						have = strings.TrimSuffix(have, ".000+0000")
					}
					have = strings.TrimSuffix(have, ".0")
					if have != want {
						t.Errorf("%s %s row %d: the org holds %q, want %q", c.column, c.pgType, i, have, want)
					}
				}
			}
			writes := w.org.Counters().Writes
			if r := w.run(exitDone, "typed"); r.Operations.Total() != 0 || w.org.Counters().Writes != writes {
				t.Errorf("a run without changes: %+v", r.Operations)
			}
			// A single column of each row changes, and nothing else is sent.
			server.Exec(t, dsn, "UPDATE crm.typed SET c_text = 'new'")
			if p := decodeRun(t, w.coho("plan", "typed", "--json").stdout); p.Fields["Text__c"] != 4 || len(p.Fields) != 1 {
				t.Errorf("plan: %v", p.Fields)
			}
			w.run(exitDone, "typed")
			server.Exec(t, dsn, "UPDATE crm.typed SET c_text = NULL")
			w.run(exitDone, "typed")
			if got := field(w.records("Typed__c")["0"], "Text__c"); got != "" {
				t.Errorf("a cleared text is %q", got)
			}
			server.Exec(t, dsn, "UPDATE crm.typed SET c_text = "+typed[8].literals[0]+" WHERE k = 0; UPDATE crm.typed SET c_text = "+typed[8].literals[1]+" WHERE k = 1; UPDATE crm.typed SET c_text = '' WHERE k = 2")
		})
	}
}

// TestServerGoesAway: a server that dies while rows are read fails the run with
// its message, and nothing is written.
func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.New(t)
	dsn := server.CreateDatabase(t)
	w := newWorld(t, emulator.Options{})
	w.env["DSN"] = dsn
	config := func(sql, more string) {
		w.config(strings.Replace(strings.Replace(accounts(""), "type = \"duckdb\"\npath = \"warehouse.duckdb\"", "type = \"postgres\"\ndsn = \"${DSN}\""+more, 1), "SELECT * FROM accounts", sql, 1))
	}
	config("SELECT 'A' || i AS k, 'n' AS name, pg_sleep(0.2 * (i % 2))::text AS phone FROM generate_series(1, 100) i", "\nstatement_timeout = \"500ms\"")
	if r := w.coho("run", "accounts"); r.code != exitFailed || !strings.Contains(r.stderr, "statement timeout") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	config("SELECT 'A' || i AS k, 'n' AS name, (1 / (5 - i))::text AS phone FROM generate_series(1, 10) i", "")
	if r := w.coho("run", "accounts"); r.code != exitFailed || !strings.Contains(r.stderr, "division by zero") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	config("SELECT 'A' || i AS k, 'n' AS name, pg_terminate_backend(CASE WHEN i = 90000 THEN pg_backend_pid() ELSE 0 END)::text AS phone FROM generate_series(1, 100000) i", "")
	if r := w.coho("run", "accounts"); r.code != exitFailed {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	w.env["DSN"] = server.DSNFor("nobody_here", "s3cret-word", "postgres")
	if r := w.coho("run", "accounts"); r.code != exitFailed || strings.Contains(r.stderr+r.stdout, "s3cret-word") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	server.Kill(t)
	w.env["DSN"] = dsn
	if r := w.coho("run", "accounts"); r.code != exitFailed || !strings.Contains(r.stderr, "refused") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if n := w.org.Org().Count("Account"); n != 0 {
		t.Errorf("%d accounts were written", n)
	}
	var last *engine.Run
	if r := w.coho("runs", "show", "accounts", "--json"); r.code == 0 {
		last = decodeRun(t, r.stdout)
	}
	if last == nil || last.Status != engine.Failed || last.Error == "" {
		t.Errorf("the history says %+v", last)
	}
}
