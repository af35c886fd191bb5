package main

import (
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// TestCircle: new records that refer to each other in a circle cannot be written
// with their references, in no order. They fail saying so and what to do, the
// others land, and with invalid_relationships = "omit_values" they are written
// without and get their references in the next run, which the snapshot knows it
// still owes.
func TestCircle(t *testing.T) {
	for name, write := range map[string]string{"rest": `ingestion_api = "rest"`, "bulk": `ingestion_api = "bulk"`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			config := func(more string) {
				w.config(head + `
[models.accounts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM accounts"

[syncs.accounts]
model = "accounts"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.accounts.fields]
Name = "name"
ParentId = { lookup = { object = "Account", field = "Warehouse_Key__c", column = "parent" } }
[syncs.accounts.write]
` + write + "\n" + more)
			}
			config("")
			w.sql(`CREATE TABLE accounts AS SELECT * FROM (VALUES ('A', 'a', 'B'), ('B', 'b', 'A'), ('C', 'c', NULL), ('D', 'd', 'C')) AS t(k, name, parent)`)
			run := w.run(exitRows, "accounts")
			if run.Outcomes.Created != 2 || run.Outcomes.Failed != 2 {
				t.Fatalf("%+v %+v", run.Outcomes, run.Errors)
			}
			for _, e := range run.Errors {
				if e.Code != "REFERENCE_NOT_FOUND" {
					t.Errorf("%+v", e)
				}
			}
			if r := w.coho("runs", "errors", run.ID); !strings.Contains(r.stdout, "circle") || !strings.Contains(r.stdout, "omit_values") {
				t.Errorf("what to do about a circle is not said:\n%s", r.stdout)
			}

			config(`invalid_relationships = "omit_values"`)
			if run := w.run(exitDone, "accounts"); run.Outcomes.Created != 2 {
				t.Fatalf("%+v %+v", run.Outcomes, run.Errors)
			}
			if run := w.run(exitDone, "accounts"); run.Outcomes.Updated != 2 {
				t.Fatalf("%+v %+v", run.Outcomes, run.Errors)
			}
			ids := map[string]string{}
			for k, r := range w.records("Account") {
				ids[k] = field(r, "Id")
			}
			for k, r := range w.records("Account") {
				want := map[string]string{"A": ids["B"], "B": ids["A"], "D": ids["C"]}[k]
				if got := field(r, "ParentId"); got != want {
					t.Errorf("ParentId of %s is %q, want %q", k, got, want)
				}
			}
			if run := w.run(exitDone, "accounts"); run.Operations.Total() != 0 {
				t.Errorf("a run without changes has %d operations", run.Operations.Total())
			}
		})
	}
}
