package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// people is the config of a two-object sync; write goes into its section of that name.
func people(write string) string {
	return head + `
[models.people]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM people"

[syncs.people]
model = "people"
destination = "crm"
object = "LeadOrContact"
mode = "upsert"
match = { field = "Email", column = "email" }
[syncs.people.fields]
LastName = "name"
Title = "title"
[syncs.people.fields.Lead]
Company = { expr = 'company == nil ? "unknown" : company' }
[syncs.people.fields.Contact]
Department = "company"
AccountId = { lookup = { object = "Account", field = "Warehouse_Key__c", column = "account" } }
[syncs.people.write]
` + write
}

// insertInto puts a record into the org.
func (w *world) insertInto(object string, fields map[string]any) string {
	w.t.Helper()
	id, err := w.org.Org().Insert(object, fields)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// mapped shows the org's contacts and live leads by their address, without the
// domain: "contact Name Title Department" or "lead Name Title Company".
func (w *world) whoIs() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	add := func(r map[string]any, text string) {
		k, _, _ := strings.Cut(field(r, "Email"), "@")
		if _, ok := out[k]; ok {
			text = out[k] + " and " + text
		}
		out[k] = text
	}
	for _, r := range w.org.Org().Records("Contact") {
		text := "contact " + field(r, "LastName") + " " + field(r, "Title") + " " + field(r, "Department")
		if field(r, "AccountId") != "" {
			text += " of an account"
		}
		add(r, text)
	}
	for _, r := range w.org.Org().Records("Lead") {
		if r["IsConverted"] != true {
			add(r, "lead "+field(r, "LastName")+" "+field(r, "Title")+" "+field(r, "Company"))
		}
	}
	return out
}

func (w *world) wantPeople(want map[string]string) {
	w.t.Helper()
	got := w.whoIs()
	for k, v := range want {
		if got[k] != v {
			w.t.Errorf("%s is %q in the org, want %q", k, got[k], v)
		}
	}
	for k, v := range got {
		if want[k] == "" {
			w.t.Errorf("%s is %q in the org, and should not be there", k, v)
		}
	}
}

// quiet checks that a run with nothing changed writes nothing.
func (w *world) quiet(sync string) {
	w.t.Helper()
	writes := w.org.Counters().Writes
	run := w.run(exitDone, sync)
	if more := w.org.Counters().Writes - writes; more != 0 || run.Operations.Total() != 0 {
		w.t.Errorf("a run without changes made %d writes, planned %+v", more, run.Operations)
	}
}

var writers = map[string]string{
	"rest":     "ingestion_api = \"rest\"\n",
	"bulk 2.0": "ingestion_api = \"bulk\"\n",
	"bulk 1.0": "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"\n",
}

// TestTwoObjects: a row updates the contact that has its match value, else the lead,
// else what the lead was converted to, else it becomes what create_records_as says;
// and stays with its record, also through conversion.
func TestTwoObjects(t *testing.T) {
	for api, write := range writers {
		for as, fresh := range map[string][2]string{
			"Contact":            {"contact New New Acme of an account", "contact Alone Alone "},
			"Lead":               {"lead New New Acme", "lead Alone Alone unknown"},
			"ContactIfAccountId": {"contact New New Acme of an account", "lead Alone Alone unknown"},
		} {
			t.Run(api+" "+as, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, emulator.Options{})
				w.insertInto("Account", map[string]any{"Name": "Acme", "Warehouse_Key__c": "ACME"})
				w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "both@x.org"})
				w.insertInto("Lead", map[string]any{"LastName": "untouched", "Company": "x", "Email": "both@x.org"})
				w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Email": "lead@x.org"})
				converted := w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Email": "conv@x.org"})
				became, err := w.org.Org().ConvertLead(converted, "", "", "", false)
				if err != nil {
					t.Fatal(err)
				}
				// The contact goes by another address, so only the lead leads to it.
				if err := w.org.Org().Update("Contact", became[1], map[string]any{"Email": "moved@x.org"}); err != nil {
					t.Fatal(err)
				}
				w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "twice@x.org"})
				w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "twice@x.org"})
				w.sql(`CREATE TABLE people AS SELECT * FROM (VALUES
					(1, 'BOTH@x.org', 'Both', 'Both', 'Acme', NULL),
					(2, 'lead@x.org', 'Lead', 'Lead', 'Acme', 'ACME'),
					(3, 'conv@x.org', 'Conv', 'Conv', 'Acme', NULL),
					(4, 'twice@x.org', 'Twice', 'Twice', 'Acme', NULL),
					(5, 'new@x.org', 'New', 'New', 'Acme', 'ACME'),
					(6, 'alone@x.org', 'Alone', 'Alone', NULL, NULL)) AS t(k, email, name, title, company, account)`)
				w.config(people("create_records_as = \"" + as + "\"\n" + write))
				run := w.run(exitRows, "people")
				if run.Outcomes.Created != 2 || run.Outcomes.Updated != 3 || run.Outcomes.Failed != 1 {
					t.Fatalf("%+v %+v", run.Outcomes, run.Errors)
				}
				if e := w.errorsOf("people"); len(e) != 1 || e[0].Key["k"] != "4" || e[0].Code != "MULTIPLE_MATCHES" || e[0].Operation != "upsert" {
					t.Errorf("%+v", e)
				}
				want := map[string]string{
					"both":  "contact Both Both Acme and lead untouched  x",
					"lead":  "lead Lead Lead Acme",
					"moved": "contact Conv Conv Acme of an account",
					"twice": "contact x   and contact x  ",
					"new":   fresh[0],
					"alone": fresh[1],
				}
				w.wantPeople(want)

				w.sql(`DELETE FROM people WHERE k = 4`)
				w.quiet("people")

				// The salesperson converts the lead, and edits the contact.
				for _, r := range w.org.Org().Find("Lead", "Email", "lead@x.org") {
					if became, err = w.org.Org().ConvertLead(fmt.Sprint(r["Id"]), "", "", "", false); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.org.Org().Update("Contact", became[1], map[string]any{"Title": "edited", "Email": "other@x.org"}); err != nil {
					t.Fatal(err)
				}
				w.quiet("people")
				w.sql(`UPDATE people SET name = 'Renamed' WHERE k IN (2, 3)`)
				run = w.run(exitDone, "people")
				if run.Outcomes.Updated != 2 {
					t.Errorf("%+v", run.Outcomes)
				}
				delete(want, "lead")
				want["moved"] = "contact Renamed Conv Acme of an account"
				// What changed goes, and what no lead has; what was edited stays.
				want["other"] = "contact Renamed edited Acme of an account"
				w.wantPeople(want)
				w.quiet("people")
				if p := w.preview("people", "--key", "2"); p.Snapshot == nil || p.Snapshot.ID != became[1] || len(p.Org) != 1 || p.Org[0].ID != became[1] {
					t.Errorf("the snapshot has not followed the lead to %s: %+v", became[1], p)
				}
			})
		}
	}
}
