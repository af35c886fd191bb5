package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// orgOf starts a world whose org has more than the default one.
func orgOf(t *testing.T, text string) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return newWorld(t, emulator.Options{OrgFile: path})
}

const rules = `
[[objects]]
name = "Account"
duplicate_rules = [ { name = "Same_Phone", fields = ["Phone"], action = "%s" } ]
`

// A row that a duplicate rule refuses names what was found, whichever API it
// went by.
func TestDuplicatesAreNamed(t *testing.T) {
	for name, write := range map[string]string{
		"rest":     `ingestion_api = "rest"`,
		"bulk 2.0": `ingestion_api = "bulk"`,
		"bulk 1.0": "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"",
	} {
		t.Run(name, func(t *testing.T) {
			w := orgOf(t, strings.Replace(rules, "%s", "alert", 1))
			id, err := w.org.Org().Insert("Account", map[string]any{"Name": "There before", "Phone": "555 1"})
			if err != nil {
				t.Fatal(err)
			}
			w.sql(`CREATE TABLE accounts (k TEXT, name TEXT, phone TEXT);
				INSERT INTO accounts VALUES ('A1', 'Acme', '555 1'), ('A2', 'Bolt', '555 2')`)
			w.config(accounts("") + "\n[syncs.accounts.write]\n" + write + "\n")
			run := w.run(3, "accounts")
			if run.Outcomes.Created != 1 || run.Outcomes.Failed != 1 {
				t.Fatalf("%+v", run.Outcomes)
			}
			errs := w.errorsOf("accounts")
			if len(errs) != 1 || errs[0].Key["k"] != "A1" || errs[0].Code != "DUPLICATES_DETECTED" || !strings.Contains(errs[0].Message, "found "+id) {
				t.Fatalf("%+v, of record %s", errs, id)
			}
			if r := w.coho("runs", "errors", "accounts"); !strings.Contains(r.stdout, id) {
				t.Fatalf("runs errors does not name %s:\n%s", id, r.stdout)
			}
		})
	}
}

// allow_duplicates passes rules that only alert, and none that block.
func TestDuplicatesAreAllowed(t *testing.T) {
	for action, failed := range map[string]int64{"alert": 0, "block": 1} {
		t.Run(action, func(t *testing.T) {
			w := orgOf(t, strings.Replace(rules, "%s", action, 1))
			id, err := w.org.Org().Insert("Account", map[string]any{"Name": "There before", "Phone": "555 1"})
			if err != nil {
				t.Fatal(err)
			}
			w.sql(`CREATE TABLE accounts (k TEXT, name TEXT, phone TEXT); INSERT INTO accounts VALUES ('A1', 'Acme', '555 1')`)
			w.config(accounts("") + "\n[syncs.accounts.write]\nallow_duplicates = true\n")
			if r := w.coho("plan", "accounts"); r.code != 0 || !strings.Contains(r.stdout+r.stderr, "allow_duplicates is a header that the Bulk APIs do not have") {
				t.Fatalf("plan (%d) does not say why Collections:\n%s%s", r.code, r.stdout, r.stderr)
			}
			run := w.run(int(3*failed), "accounts")
			if run.Outcomes.Failed != failed || run.Outcomes.Created != 1-failed {
				t.Fatalf("%+v", run.Outcomes)
			}
			if failed == 1 {
				if errs := w.errorsOf("accounts"); len(errs) != 1 || !strings.Contains(errs[0].Message, "found "+id) {
					t.Fatalf("%+v", errs)
				}
			}
		})
	}
}

// Assignment rules give new leads their owner as assignment_rule says, by REST
// and by both Bulk APIs.
func TestAssignmentRuleOfASync(t *testing.T) {
	t.Parallel()
	const rule = "01Q5f000000IjVeEAK"
	for _, test := range []struct {
		name, write string
		assigned    bool
	}{
		{"rest, the org's own way", `ingestion_api = "rest"`, true},
		{"rest, off", "assignment_rule = \"false\"", false},
		{"rest, on", "assignment_rule = \"TRUE\"", true},
		{"rest, a rule", "ingestion_api = \"rest\"\nassignment_rule = \"" + rule + "\"", true},
		{"bulk 2.0, none", `ingestion_api = "bulk"`, false},
		{"bulk 2.0, a rule", "ingestion_api = \"bulk\"\nassignment_rule = \"" + rule + "\"", true},
		{"bulk 1.0, a rule", "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"\nassignment_rule = \"" + rule + "\"", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := orgOf(t, `
[[records]]
object = "Group"
values = { Name = "Leads of banks", DeveloperName = "Banks", Type = "Queue" }

[[objects]]
name = "Lead"
assignment_rules = [ { name = "All", owner = "Banks" } ]
`)
			w.sql(`CREATE TABLE leads (k TEXT, name TEXT); INSERT INTO leads VALUES ('L1', 'Doe')`)
			w.config(head + `
[models.leads]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM leads"
[syncs.leads]
model = "leads"
destination = "crm"
object = "Lead"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.leads.fields]
LastName = "name"
Company = { value = "Acme" }
[syncs.leads.write]
` + test.write + "\n")
			w.run(0, "leads")
			owner := field(w.records("Lead")["L1"], "OwnerId")
			if strings.HasPrefix(owner, "00G") != test.assigned {
				t.Fatalf("the owner is %q; assigned by the rule: want %t", owner, test.assigned)
			}
		})
	}
}
