package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// written is one value of a column on its way into one field.
type written struct {
	column string // the column's type in the warehouse
	value  string // an expression
	field  string // the field as an org file describes it, without its name; @ is that
}

// account is the Id of the one account that a matrix's org has.
const account = "0015f0000004OmWAAU"

// arrived is what became of it.
type arrived struct {
	refused    string // by coho validate, with why
	json, bulk string // what was sent by each API, "" for nothing
	byRest     bool   // with ingestion_api = "bulk" it went through Collections all the same
	err        string // the row's error
	held       string // what the org holds afterwards
}

// warehouse is where a matrix of values is read from.
type warehouse struct {
	source string // its section of the config
	env    map[string]string
	exec   func(w *world, statements string)
}

// duckDB is a database file of each world's own.
var duckDB = warehouse{
	source: "type = \"duckdb\"\npath = \"warehouse.duckdb\"",
	exec:   func(w *world, statements string) { w.sql(statements) },
}

// matrix sends each value into a field of its own, by both APIs, and returns what
// became of each. Afterwards every value is nulled, and the fields must be cleared.
func matrix(t *testing.T, from warehouse, all []written) []arrived {
	t.Helper()
	var org strings.Builder
	org.WriteString("[[objects]]\nname = \"Matrix__c\"\nprefix = \"a91\"\nfields = [\n  { name = \"Warehouse_Key__c\", type = \"string\", length = 64, external_id = true, unique = true, case_sensitive = true },\n")
	for i, c := range all {
		fmt.Fprintf(&org, "  { name = %q, %s },\n", name(i), strings.ReplaceAll(c.field, "@", fmt.Sprint("F", i)))
	}
	org.WriteString("]\n")
	orgFile := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(orgFile, []byte(org.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := make([]arrived, len(all))
	for _, api := range []string{"rest", "bulk"} {
		w := newWorld(t, emulator.Options{OrgFile: orgFile, Seed: 7})
		tp := newTap(w)
		for k, v := range from.env {
			w.env[k] = v
		}
		if id, err := w.org.Org().Insert("Account", map[string]any{"Name": "Acme"}); err != nil || id != account {
			t.Fatalf("the account is %s, not %s: %v", id, account, err)
		}
		table := "m_" + api
		create := "CREATE TABLE " + table + " (k VARCHAR PRIMARY KEY"
		var insert strings.Builder
		for i, c := range all {
			create += fmt.Sprintf(", c%d %s", i, c.column)
			fmt.Fprintf(&insert, "INSERT INTO %s (k, c%d) VALUES ('%d', %s);\n", table, i, i, c.value)
		}
		from.exec(w, "BEGIN;\n"+create+");\n"+insert.String()+"COMMIT")

		config := func(refused func(i int) bool) {
			var fields strings.Builder
			for i := range all {
				if !refused(i) {
					fmt.Fprintf(&fields, "%s = \"c%d\"\n", name(i), i)
				}
			}
			w.config(strings.Replace(head, duckDB.source, from.source, 1) + `
[models.matrix]
source = "warehouse"
primary_key = ["k"]
table = "` + table + `"
[syncs.matrix]
model = "matrix"
destination = "crm"
object = "Matrix__c"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.matrix.write]
ingestion_api = "` + api + `"
[syncs.matrix.fields]
` + fields.String())
		}
		config(func(int) bool { return false })
		for i, why := range w.refused() {
			out[i].refused = why
		}
		config(func(i int) bool { return out[i].refused != "" })
		if r := w.coho("run", "matrix", "--json"); r.code != exitRows && r.code != exitDone {
			t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		errs := map[string]engine.RowError{}
		for _, e := range w.errorsOf("matrix") {
			errs[e.Key["k"]] = e
		}
		records := w.records("Matrix__c")
		for i := range all {
			k, f := fmt.Sprint(i), name(i)
			a := &out[i]
			if api == "rest" {
				a.json = tp.json[k][f]
				a.held = field(records[k], f)
			} else {
				a.bulk = tp.csv[k][f]
				if _, ok := tp.json[k]; ok {
					a.bulk, a.byRest = tp.json[k][f], true
				}
				if held := field(records[k], f); a.refused == "" && held != a.held {
					t.Errorf("%s into %s: the org holds %q after REST and %q after Bulk", all[i].value, all[i].field, a.held, held)
				}
			}
			err := ""
			if e, ok := errs[k]; ok {
				err = w.plainError(e, i)
			}
			if api == "bulk" && err != a.err {
				t.Errorf("%s into %s: the row's error is %q by REST and %q by Bulk", all[i].value, all[i].field, a.err, err)
			}
			a.err = err
		}

		// A second run has nothing to do but what failed, and null clears.
		var clear []string
		for i := range all {
			clear = append(clear, fmt.Sprintf("c%d = NULL", i))
		}
		writes := w.org.Counters().Writes
		failed := int64(0)
		for i := range out {
			if out[i].err != "" {
				failed++
			}
		}
		if p := decodeRun(t, w.coho("plan", "matrix", "--json").stdout); p.Operations.Total()+p.Rows.Rejected != failed || w.org.Counters().Writes != writes {
			t.Errorf("%s: a plan after the run: %+v, %+v; %d rows had failed", api, p.Operations, p.Rows, failed)
		}
		from.exec(w, "UPDATE "+table+" SET "+strings.Join(clear, ", "))
		tp.empty()
		w.run(exitDone, "matrix")
		cleared := w.records("Matrix__c")
		for i := range all {
			if out[i].refused != "" || out[i].err != "" || out[i].json == "" {
				continue
			}
			k, f := fmt.Sprint(i), name(i)
			sent, want := tp.json[k][f], "null"
			if api == "bulk" {
				sent, want = tp.csv[k][f], "#N/A"
			}
			held := ""
			if strings.Contains(all[i].field, `"boolean"`) {
				want, held = "false", "false"
				if out[i].held == "false" {
					sent, want = "", "" // it is so
				}
			}
			if sent != want || field(cleared[k], f) != held {
				t.Errorf("%s: null after %s into %s: %q was sent, want %q; the org holds %q", api, all[i].value, all[i].field, sent, want, field(cleared[k], f))
			}
		}
		from.exec(w, "DROP TABLE "+table)
	}
	return out
}

// name is the field of the i-th value.
func name(i int) string { return fmt.Sprintf("F%d__c", i) }

var fieldNumber = regexp.MustCompile(`F(\d+)__c`)

// refused lists the values that coho validate refuses, with why.
func (w *world) refused() map[int]string {
	w.t.Helper()
	r := w.coho("validate", "matrix", "--json")
	var checked engine.Checked
	if err := json.Unmarshal([]byte(r.stdout), &checked); err != nil {
		w.t.Fatalf("validate: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	out := map[int]string{}
	for _, p := range checked.Problems {
		m := fieldNumber.FindStringSubmatch(p)
		if m == nil {
			w.t.Errorf("a problem of no field: %s", p)
			continue
		}
		var i int
		if _, err := fmt.Sscan(m[1], &i); err != nil {
			w.t.Fatal(err)
		}
		why := p[strings.Index(p, "field F"):]
		if _, takes, ok := strings.Cut(why, ": it takes "); ok {
			why = "the field takes " + takes
		}
		out[i] = strings.NewReplacer(" "+m[0], "", "F"+m[1]+"_", "").Replace(why)
	}
	return out
}

// plainError is a row's error without the names that stand for the documentation's
// own. coho's own errors must name column and field.
func (w *world) plainError(e engine.RowError, i int) string {
	w.t.Helper()
	message, own := strings.CutPrefix(e.Message, fmt.Sprintf("F%d__c from column c%d: ", i, i))
	if own != (e.Code == "INVALID_VALUE") {
		w.t.Errorf("an error that names column and field, or the org's own: %+v", e)
	}
	message = strings.Replace(message, fmt.Sprintf("column \"c%d\" ", i), "", 1)
	return e.Code + ": " + strings.Replace(message, fmt.Sprintf("F%d: ", i), "", 1)
}
