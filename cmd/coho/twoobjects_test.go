package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// leadsOrContacts is the config of a two-object sync; write goes into its section of that name.
func leadsOrContacts(write string) string {
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

// whoIs shows the org's contacts and live leads by their address, without the
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
				w.config(leadsOrContacts("create_records_as = \"" + as + "\"\n" + write))
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

// TestTwoObjectsKilledAtEveryCall: whenever the process dies, one more run ends with
// each row in one record, and a further one writes nothing. Without COHO_SOAK it is
// every third call.
func TestTwoObjectsKilledAtEveryCall(t *testing.T) {
	first, step := 1+rand.Int64N(3), int64(3)
	if os.Getenv("COHO_SOAK") != "" {
		first, step = 1, 1
	}
	t.Logf("calls %d, %d, ...", first, first+step)
	for api, write := range writers {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			for n := first; ; n += step {
				if n > 100 {
					t.Fatal("the run makes more than 100 calls")
				}
				w := newWorld(t, emulator.Options{Seed: n})
				w.insertInto("Account", map[string]any{"Name": "Acme", "Warehouse_Key__c": "ACME"})
				want := map[string]string{}
				for i := range 40 {
					email := fmt.Sprintf("p%d@x.org", i)
					text := fmt.Sprintf("lead n%d t%d c", i, i)
					switch i % 5 {
					case 0:
						w.insertInto("Contact", map[string]any{"LastName": "x", "Email": email})
						text = fmt.Sprintf("contact n%d t%d c", i, i)
					case 1:
						w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Email": email})
					case 2:
						id := w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Email": email})
						if _, err := w.org.Org().ConvertLead(id, "", "", "", false); err != nil {
							t.Fatal(err)
						}
						text = fmt.Sprintf("contact n%d t%d c of an account", i, i)
					case 3:
						text = fmt.Sprintf("contact n%d t%d c of an account", i, i)
					}
					want[fmt.Sprintf("p%d", i)] = text
				}
				w.sql(`CREATE TABLE people AS SELECT i AS k, 'p' || i || '@x.org' AS email, 'n' || i AS name, 't' || i AS title, 'c' AS company, CASE WHEN i % 5 = 3 THEN 'ACME' END AS account FROM range(40) t(i)`)
				w.config(leadsOrContacts("create_records_as = \"ContactIfAccountId\"\nrest_batch_size = 7\nbulk_batch_size = 9\nparallelism = 2\n" + write))
				alive := w.killed(n, "run", "people", "--json")
				w.run(exitDone, "people")
				w.wantPeople(want)
				w.quiet("people")
				if t.Failed() {
					t.Fatalf("killed at call %d", n)
				}
				if alive {
					if n < 10 {
						t.Errorf("the run made only %d calls", n-1)
					}
					return
				}
			}
		})
	}
}

// Whatever becomes of a call, a row is one record.
func TestTwoObjectsCallsThatFail(t *testing.T) {
	for name, fault := range map[string]emulator.Fault{
		"the answer is lost":    {Match: "composite/sobjects", CutAfter: true},
		"the request is lost":   {Match: "composite/sobjects", CutBefore: true},
		"the org is busy":       {Match: "composite/sobjects", Status: 503, Code: "SERVER_UNAVAILABLE"},
		"it comes twice":        {Match: "composite/sobjects", Twice: true},
		"a query fails":         {Match: "query", Status: 503, Code: "SERVER_UNAVAILABLE"},
		"a query's end is lost": {Match: "query", CutAfter: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "p0@x.org"})
			w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Email": "p1@x.org"})
			w.sql(`CREATE TABLE people AS SELECT i AS k, 'p' || i || '@x.org' AS email, 'n' AS name, 't' AS title, 'c' AS company, NULL::VARCHAR AS account FROM range(4) t(i)`)
			w.config(leadsOrContacts("create_records_as = \"Lead\"\ningestion_api = \"rest\"\n"))
			w.org.AddFault(fault)
			w.run(exitDone, "people")
			w.wantPeople(map[string]string{"p0": "contact n t c", "p1": "lead n t c", "p2": "lead n t c", "p3": "lead n t c"})
			w.quiet("people")
		})
	}
}

// A record that somebody deleted is looked for among both objects again, and made
// anew with all of its fields where there is none.
func TestTwoObjectsRecordsThatWentMissing(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql(`CREATE TABLE people AS SELECT i AS k, 'p' || i || '@x.org' AS email, 'n' AS name, 't' AS title, 'c' AS company, NULL::VARCHAR AS account FROM range(3) t(i)`)
	w.config(leadsOrContacts("create_records_as = \"Lead\"\n"))
	w.run(exitDone, "people")
	for _, r := range w.org.Org().Records("Lead") {
		if err := w.org.Org().Delete("Lead", fmt.Sprint(r["Id"])); err != nil {
			t.Fatal(err)
		}
	}
	w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "p1@x.org"})
	w.quiet("people")
	w.sql(`UPDATE people SET title = 'u' WHERE k < 2`)
	if run := w.run(exitDone, "people"); run.Outcomes.Created != 1 || run.Outcomes.Updated != 1 {
		t.Errorf("%+v", run.Outcomes)
	}
	w.wantPeople(map[string]string{"p0": "lead n u c", "p1": "contact n u c"})
	w.quiet("people")
}

// A lead that was converted to the contact of another row is that row's: one row of
// the two fails and says so, whichever run comes to it.
func TestTwoObjectsLeadBecomesAnothersContact(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	contact := w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "b@x.org"})
	w.sql(`CREATE TABLE people AS SELECT * FROM (VALUES (1, 'a@x.org', 'A', 'A', 'c', NULL), (2, 'b@x.org', 'B', 'B', 'c', NULL)) AS t(k, email, name, title, company, account)`)
	w.config(leadsOrContacts("create_records_as = \"Lead\"\n"))
	w.run(exitDone, "people")
	for _, r := range w.org.Org().Find("Lead", "Email", "a@x.org") {
		if _, err := w.org.Org().ConvertLead(fmt.Sprint(r["Id"]), "", contact, "", false); err != nil {
			t.Fatal(err)
		}
	}
	w.sql(`UPDATE people SET title = 'changed'`)
	for range 3 {
		w.run(exitRows, "people")
		if e := w.errorsOf("people"); len(e) != 1 || e[0].Key["k"] != "1" || e[0].Code != "DUPLICATE_MATCH_VALUE" || !strings.Contains(e[0].Message, "was converted to "+contact) {
			t.Errorf("%+v", e)
		}
		w.wantPeople(map[string]string{"b": "contact B changed c"})
	}
}

// Rows that left the model: their records are emptied or deleted, be they leads or
// contacts, but what a salesperson made of a lead is not deleted.
func TestTwoObjectsRemoved(t *testing.T) {
	for rule, want := range map[string]map[string]string{
		"clear_fields": {"p0": "contact n  ", "p1": "lead n  c", "p2": "contact n  ", "p3": "lead n t c"},
		"delete":       {"p2": "contact n t ", "p3": "lead n t c"},
	} {
		t.Run(rule, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "p0@x.org"})
			w.sql(`CREATE TABLE people AS SELECT i AS k, 'p' || i || '@x.org' AS email, 'n' AS name, 't' AS title, 'c' AS company, NULL::VARCHAR AS account FROM range(4) t(i)`)
			w.config(strings.Replace(leadsOrContacts("create_records_as = \"Lead\"\n"), `mode = "upsert"`, "mode = \"upsert\"\non_removed = \""+rule+"\"\nguards = { max_deletes = 10 }", 1))
			w.run(exitDone, "people")
			for _, r := range w.org.Org().Find("Lead", "Email", "p2@x.org") {
				became, err := w.org.Org().ConvertLead(fmt.Sprint(r["Id"]), "", "", "", false)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.org.Org().Update("Contact", became[1], map[string]any{"AccountId": nil}); err != nil {
					t.Fatal(err)
				}
			}
			w.sql(`DELETE FROM people WHERE k < 3`)
			w.run(exitDone, "people")
			w.wantPeople(want)
			w.quiet("people")
		})
	}
}

// In update mode nothing is created, and who is nowhere is said to be.
func TestTwoObjectsUpdate(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.insertInto("Contact", map[string]any{"LastName": "x", "Email": "p0@x.org"})
	w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Email": "p1@x.org"})
	w.sql(`CREATE TABLE people AS SELECT i AS k, 'p' || i || '@x.org' AS email, 'n' AS name, 't' AS title, 'c' AS company, NULL::VARCHAR AS account FROM range(3) t(i)`)
	w.config(strings.Replace(leadsOrContacts(""), `"upsert"`, `"update"`, 1))
	w.run(exitRows, "people")
	w.wantPeople(map[string]string{"p0": "contact n t c", "p1": "lead n t c"})
	if e := w.errorsOf("people"); len(e) != 1 || e[0].Key["k"] != "2" || e[0].Code != "NOT_FOUND" || e[0].Message != `no Contact and no Lead record has Email "p2@x.org"` {
		t.Errorf("%+v", e)
	}
	// What changed is a field that contacts alone have, and p1 is a lead.
	w.sql(`DELETE FROM people WHERE k = 2`)
	w.insertInto("Account", map[string]any{"Name": "Acme", "Warehouse_Key__c": "ACME"})
	w.sql(`UPDATE people SET account = 'ACME'`)
	writes := w.org.Counters().Writes
	if run := w.run(exitDone, "people"); run.Outcomes.Updated != 1 || run.Outcomes.Skipped != 1 || w.org.Counters().Writes != writes+1 {
		t.Errorf("%+v, %d writes", run.Outcomes, w.org.Counters().Writes-writes)
	}
	w.quiet("people")
}

// LeadOrAccount is the same with accounts.
func TestLeadOrAccount(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.insertInto("Account", map[string]any{"Name": "x", "Warehouse_Key__c": "A"})
	w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Warehouse_Key__c": "L"})
	converted := w.insertInto("Lead", map[string]any{"LastName": "x", "Company": "x", "Warehouse_Key__c": "C"})
	became, err := w.org.Org().ConvertLead(converted, "", "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	w.sql(`CREATE TABLE companies AS SELECT k, 'name ' || k AS name, '1' AS phone FROM (VALUES ('A'), ('L'), ('C'), ('N')) AS t(k)`)
	w.config(head + `
[models.companies]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM companies"

[syncs.companies]
model = "companies"
destination = "crm"
object = "LeadOrAccount"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.companies.fields]
Phone = "phone"
[syncs.companies.fields.Lead]
Company = "name"
LastName = "name"
[syncs.companies.fields.Account]
Name = "name"
[syncs.companies.write]
create_records_as = "Account"
`)
	if run := w.run(exitDone, "companies"); run.Outcomes.Created != 1 || run.Outcomes.Updated != 3 {
		t.Errorf("%+v", run.Outcomes)
	}
	got := map[string]string{}
	for _, r := range w.org.Org().Records("Account") {
		got[field(r, "Name")] = field(r, "Id") + field(r, "Phone")
	}
	if len(got) != 3 || got["name C"] != became[0]+"1" || got["name A"] == "" || got["name N"] == "" || field(w.records("Lead")["L"], "Company") != "name L" {
		t.Errorf("the org has accounts %v", got)
	}
	w.quiet("companies")

	// A lead becomes the account of another row, whose key is its match value.
	for _, r := range w.org.Org().Find("Lead", "Warehouse_Key__c", "L") {
		if _, err := w.org.Org().ConvertLead(fmt.Sprint(r["Id"]), fmt.Sprint(w.records("Account")["A"]["Id"]), "", "", false); err != nil {
			t.Fatal(err)
		}
	}
	w.sql(`UPDATE companies SET phone = '2'`)
	for range 2 {
		w.run(exitRows, "companies")
		if e := w.errorsOf("companies"); len(e) != 1 || e[0].Key["k"] != "L" || e[0].Code != "DUPLICATE_MATCH_VALUE" {
			t.Errorf("%+v", e)
		}
		if got := field(w.records("Account")["A"], "Name"); got != "name A" {
			t.Errorf("account A is %q", got)
		}
	}
}

// A plan of more rows than are routed together: the queries and calls are few, and as
// many as the estimate says.
func TestTwoObjectsInSections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{})
	const n = 101_500
	for i := range 500 {
		w.insertInto("Contact", map[string]any{"LastName": "x", "Email": fmt.Sprintf("p%d@x.org", i*200)})
	}
	w.sql(fmt.Sprintf(`CREATE TABLE people AS SELECT i AS k, 'p' || i || '@x.org' AS email, 'n' AS name, 't' AS title, 'c' AS company, NULL::VARCHAR AS account FROM range(%d) t(i)`, n))
	w.config(leadsOrContacts("create_records_as = \"Lead\"\ningestion_api = \"bulk\"\n"))
	plan := decodeRun(t, w.coho("plan", "people", "--json").stdout)
	run := w.run(exitDone, "people")
	if run.Outcomes.Created != n-500 || run.Outcomes.Updated != 500 {
		t.Errorf("%+v", run.Outcomes)
	}
	if got := w.org.Org().Count("Lead"); got != n-500 {
		t.Errorf("the org has %d leads", got)
	}
	if most := int64(2*n/300 + 50); run.API.Calls > most {
		t.Errorf("%d calls, want %d at most", run.API.Calls, most)
	}
	if got, want := plan.Estimate.APICalls, run.API.Calls; got < want*9/10 || got > want*11/10 {
		t.Errorf("the plan foresaw %d calls, and %d were made", got, want)
	}
	w.quiet("people")
}

// only_sync_different works on both objects.
func TestTwoObjectsOnlyWhatDiffers(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.insertInto("Contact", map[string]any{"LastName": "n", "Title": "t", "Department": "c", "Email": "p0@x.org"})
	w.insertInto("Lead", map[string]any{"LastName": "n", "Title": "t", "Company": "c", "Email": "p1@x.org"})
	w.insertInto("Lead", map[string]any{"LastName": "n", "Title": "x", "Company": "c", "Email": "p2@x.org"})
	w.sql(`CREATE TABLE people AS SELECT i AS k, 'p' || i || '@x.org' AS email, 'n' AS name, 't' AS title, 'c' AS company, NULL::VARCHAR AS account FROM range(3) t(i)`)
	w.config(leadsOrContacts("create_records_as = \"Lead\"\nonly_sync_different = true\n"))
	writes := w.org.Counters().Writes
	run := w.run(exitDone, "people")
	if run.Outcomes.Updated != 1 || run.Outcomes.Skipped != 2 || w.org.Counters().Writes != writes+1 {
		t.Errorf("%+v, %d writes", run.Outcomes, w.org.Counters().Writes-writes)
	}
	w.wantPeople(map[string]string{"p0": "contact n t c", "p1": "lead n t c", "p2": "lead n t c"})
	w.quiet("people")
}

// What contradicts itself, or what one of the objects does not have, is said before
// anything runs.
func TestTwoObjectsWrongConfig(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"mode":                    {`mode = "upsert"`, `mode = "insert"`, `mode: "insert" does not go with LeadOrContact`},
		"nothing to create":       {`create_records_as = "Lead"`, ``, "write.create_records_as is missing: what a row becomes that neither object has: Contact, Lead, ContactIfAccountId"},
		"another pair's":          {`create_records_as = "Lead"`, `create_records_as = "Account"`, `"Account" does not go with LeadOrContact, which allows Contact, Lead, ContactIfAccountId`},
		"a plain object":          {`object = "LeadOrContact"`, `object = "Contact"`, "goes with a two-object sync"},
		"a field of one":          {`Title = "title"`, `Title = "title"` + "\nDepartment = \"company\"", "Lead has no field Department"},
		"a field of neither":      {`Title = "title"`, `Titel = "title"`, "Contact has no field Titel that this user may see (did you mean Title?)"},
		"an unknown column":       {`Company = {`, "Rating = \"ratin\"\nCompany = {", "the query has no column ratin"},
		"match on Id":             {`field = "Email"`, `field = "Id"`, "match"},
		"match of one":            {`field = "Email"`, `field = "AssistantName"`, "Lead has no field AssistantName"},
		"account without mapping": {`AccountId = { lookup = { object = "Account", field = "Warehouse_Key__c", column = "account" } }`, "", "needs AccountId in [syncs.people.fields.Contact]"},
		"skip_converted":          {`create_records_as = "Lead"`, "create_records_as = \"Lead\"\nskip_converted = true", "a converted lead is followed to what it became"},
		"the match field mapped":  {`Company = {`, "Email = \"title\"\nCompany = {", "Email is the match field"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.sql(`CREATE TABLE people AS SELECT 1 AS k, 'p' AS email, 'n' AS name, 't' AS title, 'c' AS company, NULL::VARCHAR AS account`)
			text := leadsOrContacts("create_records_as = \"Lead\"\n")
			if name == "account without mapping" {
				text = leadsOrContacts("create_records_as = \"ContactIfAccountId\"\n")
			}
			if !strings.Contains(text, test.old) {
				t.Fatal("the config has no such line")
			}
			w.config(strings.Replace(text, test.old, test.new, 1))
			if r := w.coho("validate"); r.code != exitUsage || !strings.Contains(r.stdout+r.stderr, test.want) {
				t.Errorf("exit code %d, want %q in\n%s%s", r.code, test.want, r.stdout, r.stderr)
			}
		})
	}
}
