package main

import (
	"fmt"
	"strings"
	"testing"
)

const personOrg = `
[org]
person_accounts = true
[[objects]]
name = "Contact"
fields = [ { name = "Loyalty__c", length = 20 } ]
[[objects]]
name = "Account"
record_types = [
  { developer_name = "Business", default = true }, { developer_name = "Partner" },
  { developer_name = "PersonAccount", name = "Person Account", person = true }, { developer_name = "Patient", person = true },
  { developer_name = "Retired", inactive = true }, { developer_name = "Internal", unavailable = true },
]
`

// people is the config of a sync of accounts with these fields.
func people(mode, match, fields, more string) string {
	if match != "" {
		match = "match = { field = \"" + match + "\", column = \"k\" }"
	}
	return head + fmt.Sprintf(`
[models.people]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM people"

[syncs.people]
model = "people"
destination = "crm"
object = "Account"
mode = "%s"
%s
%s
[syncs.people.fields]
%s
`, mode, match, more, fields)
}

const personFields = `RecordTypeId = { record_type = "PersonAccount" }
FirstName = "first"
LastName = "last"
PersonEmail = "email"
Loyalty__pc = "loyalty"
`

const peopleTable = `CREATE TABLE people AS SELECT * FROM (VALUES ('P1', 'Ada', 'Lovelace', 'ada@b.cd', 'gold'),
	('P2', NULL, 'Turing', NULL, NULL), ('P3', 'Grace', 'Hopper', 'grace@b.cd', 'iron')) AS t(k, first, last, email, loyalty)`

// recordTypes gives the Ids of the org's record types by developer name.
func (w *world) recordTypes() map[string]string {
	out := map[string]string{}
	for _, r := range w.org.Org().Records("RecordType") {
		out[field(r, "DeveloperName")] = field(r, "Id")
	}
	return out
}

// Person accounts and companies land by every way, each of its kind; afterwards
// what changed goes alone, and nothing where nothing did.
func TestPersonAccounts(t *testing.T) {
	for name, write := range map[string]string{
		"rest":     `ingestion_api = "rest"`,
		"bulk 2.0": `ingestion_api = "bulk"`,
		"bulk 1.0": "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"",
	} {
		for _, mode := range []string{"upsert", "insert"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				w := orgOf(t, personOrg)
				w.sql(peopleTable + `; CREATE TABLE accounts AS SELECT 'C1' AS k, 'Acme' AS name, '555' AS phone`)
				w.config(people(mode, "Warehouse_Key__c", personFields+"[syncs.people.write]\n"+write+"\n", "") +
					strings.TrimPrefix(strings.Replace(accounts(""), "Phone = ", "RecordTypeId = { record_type = \"partner\" }\nPhone = ", 1), head))
				types := w.recordTypes()
				if r := w.coho("validate"); r.code != 0 {
					t.Fatalf("validate: %s%s", r.stdout, r.stderr)
				}
				for _, args := range [][]string{{"plan", "people"}, {"plan", "people", "--key", "P1"}, {"plan", "people", "--json"}} {
					r := w.coho(args...)
					if r.code != 0 || !strings.Contains(r.stdout, "PersonAccount") || !strings.Contains(r.stdout, types["PersonAccount"]) {
						t.Fatalf("%v shows not both name and Id of the record type: %s%s", args, r.stdout, r.stderr)
					}
				}
				if run := w.run(0, "people"); run.Outcomes.Created != 3 || run.Estimate != nil && run.API.Calls == 0 {
					t.Fatalf("%+v", run.Outcomes)
				}
				w.run(0, "accounts")
				got := w.records("Account")
				for k, want := range map[string]string{"P1": "Ada Lovelace|ada@b.cd|gold|true|PersonAccount", "P2": "Turing|||true|PersonAccount", "P3": "Grace Hopper|grace@b.cd|iron|true|PersonAccount", "C1": "Acme|||false|Partner"} {
					r := got[k]
					kind := ""
					for n, id := range types {
						if id == field(r, "RecordTypeId") {
							kind = n
						}
					}
					if have := strings.Join([]string{field(r, "Name"), field(r, "PersonEmail"), field(r, "Loyalty__pc"), field(r, "IsPersonAccount"), kind}, "|"); have != want {
						t.Errorf("%s is %s, want %s", k, have, want)
					}
				}
				if mode == "insert" {
					return
				}
				contact := field(got["P1"], "PersonContactId")
				// Somebody else's edit stays, since nothing but what changed is sent.
				if err := w.org.Org().Update("Account", field(got["P1"], "Id"), map[string]any{"FirstName": "A."}); err != nil {
					t.Fatal(err)
				}
				w.sql(`UPDATE people SET email = 'new@b.cd', loyalty = NULL WHERE k = 'P1'`)
				if run := w.run(0, "people"); run.Outcomes.Updated != 1 || run.Rows.Changed != 1 {
					t.Fatalf("%+v %+v", run.Outcomes, run.Rows)
				}
				c := w.org.Org().Find("Contact", "Id", contact)[0]
				if field(c, "Email") != "new@b.cd" || field(c, "Loyalty__c") != "" || field(c, "FirstName") != "A." {
					t.Fatalf("the person is %v", c)
				}
				if run := w.run(0, "people"); run.Operations.Total() != 0 {
					t.Fatalf("with nothing changed %+v", run.Operations)
				}
				if t.Failed() || w.org.Org().Count("Contact") != 3 {
					t.Fatalf("%d contacts", w.org.Org().Count("Contact"))
				}
			})
		}
	}
}

// Persons are found by their address, where no external id is on them.
func TestPersonAccountsByEmail(t *testing.T) {
	w := orgOf(t, personOrg)
	person := w.recordTypes()["PersonAccount"]
	id, err := w.org.Org().Insert("Account", map[string]any{"RecordTypeId": person, "LastName": "King", "PersonEmail": "ada@b.cd"})
	if err != nil {
		t.Fatal(err)
	}
	w.sql(`CREATE TABLE people AS SELECT 'Ada@B.cd' AS k, 'Lovelace' AS last, 'gold' AS loyalty`)
	w.config(people("update", "PersonEmail", "LastName = \"last\"\nLoyalty__pc = \"loyalty\"", ""))
	if run := w.run(0, "people"); run.Outcomes.Updated != 1 {
		t.Fatalf("%+v", run.Outcomes)
	}
	if r := w.org.Org().Find("Account", "Id", id)[0]; field(r, "Name") != "Lovelace" || field(r, "Loyalty__pc") != "gold" {
		t.Fatalf("%v", r)
	}
	// Where the org says that it finds records by the address, an upsert does too.
	w.sql(`INSERT INTO people VALUES ('new@b.cd', 'Hopper', 'iron')`)
	w.config(people("upsert", "PersonEmail", strings.Replace(personFields, "FirstName = \"first\"\nLastName = \"last\"\nPersonEmail = \"email\"", "LastName = \"last\"", 1), ""))
	if run := w.run(0, "people", "--full"); run.Outcomes.Updated != 1 || run.Outcomes.Created != 1 {
		t.Fatalf("%+v", run.Outcomes)
	}
	if r := w.org.Org().Find("Account", "PersonEmail", "new@b.cd"); len(r) != 1 || field(r[0], "Name") != "Hopper" || field(r[0], "IsPersonAccount") != "true" || w.org.Org().Count("Account") != 2 {
		t.Fatalf("%v", r)
	}
	w.config(people("upsert", "PersonMobilePhone", "LastName = \"last\"", ""))
	if r := w.coho("validate"); r.code != 2 || !strings.Contains(r.stdout+r.stderr, "must match on an external id, and field PersonMobilePhone is none (Account has: Warehouse_Key__c") {
		t.Fatalf("%d %s%s", r.code, r.stdout, r.stderr)
	}
}

// What a mapping cannot mean is said, with its place, before anything is sent.
func TestPersonAccountsRefused(t *testing.T) {
	const plain = `
[[objects]]
name = "Account"
record_types = [ { developer_name = "Business", default = true }, { developer_name = "Partner" } ]
`
	const person = "RecordTypeId = { record_type = \"PersonAccount\" }\n"
	for name, test := range map[string]struct {
		org, mode, match, fields string
		want                     []string // of validate; none: it finds nothing wrong
	}{
		"no person accounts": {plain, "upsert", "Warehouse_Key__c", personFields, []string{
			"coho.toml:26:1: ", "Account has no record type PersonAccount: this org has no person accounts (Account has no field IsPersonAccount)",
			"coho.toml:29:1: ", "Account has no field PersonEmail: this org has no person accounts",
			"Account has no field Loyalty__pc: this org", "Account has no field LastName: this org", "Account has no field FirstName: this org"}},
		"no person accounts to match":          {plain, "update", "PersonEmail", `Phone = "last"`, []string{"Account has no field PersonEmail: this org has no person accounts"}},
		"no LastName":                          {personOrg, "upsert", "Warehouse_Key__c", person + `PersonEmail = "email"`, []string{"coho.toml:26:1: new person accounts need LastName"}},
		"no LastName, by a field":              {personOrg, "insert", "Warehouse_Key__c", `Loyalty__pc = "loyalty"`, []string{"coho.toml:26:1: new person accounts need LastName"}},
		"no LastName, never created":           {personOrg, "update", "Warehouse_Key__c", `PersonEmail = "email"`, nil},
		"no record type":                       {personOrg, "upsert", "Warehouse_Key__c", `LastName = "last"`, nil},
		"name of a person":                     {personOrg, "update", "Warehouse_Key__c", person + `Name = "last"`, []string{"coho.toml:27:1: a person account's Name is made of FirstName and LastName and cannot be written"}},
		"name and last name":                   {personOrg, "upsert", "Warehouse_Key__c", "Name = \"last\"\nLastName = \"last\"", []string{"coho.toml:26:1: Name and LastName exclude each other"}},
		"name and address":                     {personOrg, "update", "Warehouse_Key__c", "Name = \"last\"\nPersonEmail = \"email\"", []string{"coho.toml:26:1: Name and PersonEmail exclude each other"}},
		"company with an address":              {personOrg, "update", "Warehouse_Key__c", "RecordTypeId = { record_type = \"Business\" }\nPersonEmail = \"email\"", []string{"coho.toml:27:1: record type Business is one of business accounts"}},
		"company by its Id":                    {personOrg, "update", "Warehouse_Key__c", "RecordTypeId = { value = \"BUSINESS\" }\nPersonEmail = \"email\"", []string{"is one of business accounts"}},
		"the contact behind":                   {personOrg, "update", "Warehouse_Key__c", `PersonContactId = "k"`, []string{"the org makes the contact of a person account by itself"}},
		"the kind itself":                      {personOrg, "update", "Warehouse_Key__c", `IsPersonAccount = { value = true }`, []string{"the record type says it"}},
		"record type misspelt":                 {personOrg, "update", "Warehouse_Key__c", `RecordTypeId = { record_type = "Persnaccount" }`, []string{"coho.toml:26:1: Account has no record type Persnaccount (did you mean PersonAccount?)"}},
		"record type by its label":             {personOrg, "update", "Warehouse_Key__c", `RecordTypeId = { record_type = "Person Account" }`, []string{"(Person Account is the label of PersonAccount)"}},
		"record type unlike any":               {personOrg, "update", "Warehouse_Key__c", `RecordTypeId = { record_type = "zzz" }`, []string{"has no record type zzz (it has: Business, Partner, PersonAccount, Patient, Retired, Internal)"}},
		"record type inactive":                 {personOrg, "update", "Warehouse_Key__c", `RecordTypeId = { record_type = "Retired" }`, []string{"coho.toml:26:1: record type Retired of Account is inactive"}},
		"record type of others":                {personOrg, "update", "Warehouse_Key__c", `RecordTypeId = { record_type = "Internal" }`, []string{"record type Internal of Account is not available to this user"}},
		"master":                               {personOrg, "update", "Warehouse_Key__c", `RecordTypeId = { record_type = "Master" }`, []string{"Master stands for records that have none"}},
		"each row its own type and both names": {personOrg, "upsert", "Warehouse_Key__c", "RecordTypeId = \"k\"\nName = \"first\"\nLastName = \"last\"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := orgOf(t, test.org)
			w.sql(peopleTable)
			w.config(people(test.mode, test.match, strings.ReplaceAll(test.fields, "BUSINESS", w.recordTypes()["Business"]), ""))
			r := w.coho("validate", "--no-data")
			if (r.code == 0) != (test.want == nil) {
				t.Fatalf("validate: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			for _, line := range test.want {
				if !strings.Contains(r.stdout+r.stderr, line) {
					t.Errorf("validate does not say %q:\n%s%s", line, r.stdout, r.stderr)
				}
			}
			if test.want != nil {
				if run := w.coho("run", "people"); run.code == 0 || w.org.Org().Count("Account") != 0 {
					t.Errorf("the run goes on: %s%s", run.stdout, run.stderr)
				}
			}
		})
	}
}

// What one object of a two-object sync is mapped to is no business of the other.
func TestPersonAccountsBesideLeads(t *testing.T) {
	for name, test := range map[string]struct{ as, account, want string }{
		"companies":                 {"Account", `Name = "last"`, ""},
		"people":                    {"Account", "LastName = \"last\"\nRecordTypeId = { record_type = \"Patient\" }", ""},
		"people without a LastName": {"Account", `PersonMobilePhone = "first"`, "new person accounts need LastName"},
		"people never created":      {"Lead", `PersonMobilePhone = "first"`, ""},
		"both names":                {"Lead", "Name = \"last\"\nLastName = \"last\"", "Name and LastName exclude each other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := orgOf(t, personOrg)
			w.sql(peopleTable)
			w.config(strings.Replace(people("upsert", "Warehouse_Key__c", "", "")+"[syncs.people.fields.Lead]\nLastName = \"last\"\nCompany = { value = \"none\" }\n[syncs.people.fields.Account]\n"+
				test.account+"\n[syncs.people.write]\ncreate_records_as = \""+test.as+"\"\n", `object = "Account"`, `object = "LeadOrAccount"`, 1))
			r := w.coho("validate")
			if (r.code == 0) != (test.want == "") || !strings.Contains(r.stdout+r.stderr, test.want) {
				t.Fatalf("%d %s%s", r.code, r.stdout, r.stderr)
			}
			if test.want != "" {
				return
			}
			if run := w.run(0, "people"); run.Outcomes.Created != 3 || w.org.Org().Count(test.as) != 3 {
				t.Fatalf("%+v", run.Outcomes)
			}
		})
	}
}

// What the org itself refuses of a person is that row's error; what a sync of
// persons clears is everything but what a person cannot be without.
func TestPersonAccountRows(t *testing.T) {
	w := orgOf(t, personOrg)
	w.sql(peopleTable + `; UPDATE people SET last = NULL WHERE k = 'P2'; UPDATE people SET email = 'nonsense' WHERE k = 'P3'`)
	w.config(people("upsert", "Warehouse_Key__c", personFields, `on_removed = "clear_fields"`))
	r := w.coho("validate")
	if r.code != 0 || !strings.Contains(r.stdout, "LastName") {
		t.Fatalf("%d %s%s", r.code, r.stdout, r.stderr)
	}
	for _, f := range []string{"LastName", "RecordTypeId"} {
		if !strings.Contains(r.stdout+r.stderr, "leaves field "+f+" as it is: it cannot be empty") {
			t.Errorf("clear_fields is not said to leave %s: %s%s", f, r.stdout, r.stderr)
		}
	}
	if run := w.run(3, "people"); run.Outcomes.Created != 1 {
		t.Fatalf("%+v", run.Outcomes)
	}
	errs := map[string]string{}
	for _, e := range w.errorsOf("people") {
		errs[e.Key["k"]] = e.Code + " " + strings.Join(e.Fields, ",")
	}
	if len(errs) != 2 || errs["P2"] != "REQUIRED_FIELD_MISSING LastName" || !strings.Contains(errs["P3"], "PersonEmail") {
		t.Fatalf("%v", errs)
	}
	w.sql(`DELETE FROM people WHERE k = 'P1'`)
	w.config(people("upsert", "Warehouse_Key__c", personFields, "on_removed = \"clear_fields\"\n[syncs.people.guards]\nmax_deletes = 5"))
	if run := w.run(3, "people"); run.Outcomes.Cleared != 1 {
		t.Fatalf("%+v", run.Outcomes)
	}
	got := w.records("Account")["P1"]
	if field(got, "LastName") != "Lovelace" || field(got, "FirstName") != "" || field(got, "PersonEmail") != "" || field(got, "IsPersonAccount") != "true" {
		t.Fatalf("%v", got)
	}
}

// A record type is known by its name: naming another sends that field alone, an
// Id in its place sends nothing, and in another org the same config means the Id
// that the type has there.
func TestRecordTypeByName(t *testing.T) {
	w := orgOf(t, personOrg)
	types := w.recordTypes()
	w.sql(`CREATE TABLE people AS SELECT 'C1' AS k, 'Acme' AS last`)
	mapped := func(filler string) {
		w.config(people("upsert", "Warehouse_Key__c", "Name = \"last\"\nRecordTypeId = { "+filler+" }", ""))
	}
	kind := func(w *world) string { return field(w.records("Account")["C1"], "RecordTypeId") }
	mapped(`record_type = "Business"`)
	w.run(0, "people")
	if kind(w) != types["Business"] {
		t.Fatalf("the type is %s", kind(w))
	}
	for _, step := range []struct {
		filler, want string
		sent         int64
	}{
		{`record_type = "Partner"`, "Partner", 1},
		{fmt.Sprintf("value = %q", types["Partner"]), "Partner", 0},
		{`record_type = "Partner"`, "Partner", 0},
	} {
		mapped(step.filler)
		plan := w.coho("plan", "people", "--json")
		if only := `"fields":{"RecordTypeId":1}`; strings.Contains(plan.stdout, only) != (step.sent == 1) {
			t.Fatalf("%s: the plan is %s", step.filler, plan.stdout)
		}
		if run := w.run(0, "people"); run.Outcomes.Updated != step.sent || kind(w) != types[step.want] {
			t.Fatalf("%s: %+v, %s", step.filler, run.Outcomes, kind(w))
		}
	}

	other := orgOf(t, "[org]\nid = \"00D5f000000IjVfEAK\"\n[[objects]]\nname = \"Account\"\nrecord_types = [ { developer_name = \"First\", default = true }, { developer_name = \"Second\" }, { developer_name = \"Third\" }, { developer_name = \"Partner\" } ]\n")
	if other.recordTypes()["Partner"] == types["Partner"] {
		t.Fatal("both orgs know the type by one Id")
	}
	w.env = other.env
	if r := w.coho("run", "people"); r.code == 0 || !strings.Contains(r.stderr, "--full") {
		t.Fatalf("the other org was written to: %s%s", r.stdout, r.stderr)
	}
	w.org = other.org
	w.run(0, "people", "--full")
	if kind(w) != other.recordTypes()["Partner"] {
		t.Fatalf("the type is %s in the other org", kind(w))
	}
}
