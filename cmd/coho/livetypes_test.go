package main

import (
	"encoding/json"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/sources/bigquery/bigquerytest"
)

// TestLiveTypes: coho validate --live-types shows each type of a source, and its
// exit code says whether all arrived as they should.
func TestLiveTypes(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	server := bigquerytest.Start(t, bigquerytest.Options{Answer: func(*bigquerytest.Query) (*bigquerytest.Result, error) {
		return &bigquerytest.Result{Rows: 1, Columns: []bigquerytest.Column{{Name: "v", Type: "STRING", Cell: func(int64) any { return "a\nb" }}}}, nil
	}})
	w.sql("CREATE TABLE accounts (k VARCHAR, name VARCHAR, phone VARCHAR)")
	w.config(accounts("") + "\n[sources.other]\ntype = \"bigquery\"\nproject = \"my-project\"\nendpoint = \"" + server.URL + "\"\n")
	if r := w.coho("validate", "--live-types", "warehouse"); r.code != 0 || !strings.Contains(r.stdout, "HUGEINT") || strings.Contains(r.stdout, "differs") {
		t.Errorf("DuckDB: %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	r := w.coho("validate", "--live-types", "other", "--json")
	var shown struct {
		OK    bool
		Types []typeShown
	}
	if err := json.Unmarshal([]byte(r.stdout), &shown); err != nil {
		t.Fatal(err)
	}
	if r.code != 1 || shown.OK || len(shown.Types) < 14 || shown.Types[0].OK || *shown.Types[0].Arrived != "a\nb" || *shown.Types[0].Expected != "-9223372036854775808" {
		t.Errorf("BigQuery, which sends something else: %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := w.coho("validate", "--live-types", "other"); r.code != 1 || !strings.Contains(r.stdout, `"a\nb"`) || !strings.Contains(r.stdout, "differs") || !strings.Contains(r.stderr, "types differ") {
		t.Errorf("as a table: %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := w.coho("validate", "--live-types", "nowhere"); r.code != 2 {
		t.Errorf("no such source: %d, %s", r.code, r.stderr)
	}
}

// TestBytesBilled: coho plan and coho validate say what the query will bill, in
// words and in JSON.
func TestBytesBilled(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	column := func(name, text string) bigquerytest.Column {
		return bigquerytest.Column{Name: name, Type: "STRING", Cell: func(int64) any { return text }}
	}
	server := bigquerytest.Start(t, bigquerytest.Options{Answer: func(*bigquerytest.Query) (*bigquerytest.Result, error) {
		return &bigquerytest.Result{Rows: 1, Bytes: 7 << 30, Columns: []bigquerytest.Column{column("k", "A1"), column("name", "Acme"), column("phone", "1")}}, nil
	}})
	w.config(strings.Replace(accounts(""), "type = \"duckdb\"\npath = \"warehouse.duckdb\"", "type = \"bigquery\"\nproject = \"my-project\"\nendpoint = \""+server.URL+"\"", 1))
	for _, command := range []string{"validate", "plan"} {
		if r := w.coho(command, "accounts"); r.code != 0 || !strings.Contains(r.stdout, "the query bills "+bytesText(7<<30)) {
			t.Errorf("%s: %d\n%s%s", command, r.code, r.stdout, r.stderr)
		}
		if r := w.coho(command, "accounts", "--json"); r.code != 0 || !strings.Contains(r.stdout, `"bytes_billed":7516192768`) {
			t.Errorf("%s --json: %d\n%s%s", command, r.code, r.stdout, r.stderr)
		}
	}
}
