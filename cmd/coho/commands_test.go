package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// TestLogins: each way to log in, through to a run.
func TestLogins(t *testing.T) {
	for auth, keys := range map[string]string{
		"client_credentials": "client_id = \"${ORG_ID}\"\nclient_secret = \"${ORG_SECRET}\"",
		"jwt_bearer":         "client_id = \"${ORG_ID}\"\nusername = \"${ORG_USER}\"\nprivate_key_file = \"key.pem\"",
		"refresh_token":      "client_id = \"${ORG_ID}\"\nclient_secret = \"${ORG_SECRET}\"\nrefresh_token = \"${ORG_REFRESH}\"",
	} {
		t.Run(auth, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			c := w.org.Credentials()
			w.env["ORG_USER"], w.env["ORG_REFRESH"] = c.Username, c.RefreshToken
			key, err := w.org.JWTKey()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.dir, "key.pem"), []byte(key), 0o600); err != nil {
				t.Fatal(err)
			}
			text := strings.Replace(accounts(""), "client_id = \"${ORG_ID}\"\nclient_secret = \"${ORG_SECRET}\"", keys, 1)
			w.config(strings.Replace(text, `auth = "client_credentials"`, `auth = "`+auth+`"`, 1))
			w.sql(threeAccounts)
			w.run(exitDone, "accounts")
			w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
		})
	}
}

// TestSessionEndsInMidRun: the session is renewed and nothing is lost.
func TestSessionEndsInMidRun(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(accounts("[syncs.accounts.write]\ningestion_api = \"" + api + "\"\nrest_batch_size = 10\nbulk_batch_size = 40"))
			w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::VARCHAR AS phone FROM range(100) t(i)`)
			w.org.AddFault(emulator.Fault{Match: "/services/data", After: 3, Times: 2, ExpireSession: true})
			if r := w.run(exitDone, "accounts"); r.Outcomes.Created != 100 {
				t.Errorf("%+v", r.Outcomes)
			}
			if n := len(w.records("Account")); n != 100 {
				t.Errorf("the org has %d accounts", n)
			}
		})
	}
}

// TestKeysOfSeveralColumns: a key of several columns of several types, matched
// by an expression-free column of its own.
func TestKeysOfSeveralColumns(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(strings.Replace(accounts("on_removed = \"delete\""), `primary_key = ["k"]`, `primary_key = ["region", "no", "since"]`, 1))
	w.sql(`CREATE TABLE accounts (region VARCHAR, no INTEGER, since DATE, k VARCHAR, name VARCHAR, phone VARCHAR);
		INSERT INTO accounts VALUES ('eu', 1, '2024-01-01', 'eu-1', 'Acme', '1'), ('eu', 2, '2024-01-01', 'eu-2', 'Bolt', NULL), ('us', 1, '2024-01-01', 'us-1', 'Core', '3'), ('us', NULL, '2024-01-01', 'us-2', 'Dune', NULL)`)
	r := w.run(exitRows, "accounts")
	if r.Outcomes.Created != 3 || r.Rows.Rejected != 1 {
		t.Errorf("%+v %+v", r.Rows, r.Outcomes)
	}
	if e := w.errorsOf("accounts"); len(e) != 1 || e[0].Code != "NULL_PRIMARY_KEY" || !strings.Contains(e[0].Message, "no") {
		t.Errorf("errors: %+v", e)
	}
	// The type of a key column changes, and with it nothing else.
	w.sql(`DELETE FROM accounts WHERE no IS NULL; ALTER TABLE accounts ALTER no TYPE DECIMAL(18, 4); DELETE FROM accounts WHERE k = 'eu-2'`)
	r = w.run(exitDone, "accounts")
	if r.Operations.Archive != 1 || r.Operations.Total() != 1 || r.Rows.Unchanged != 2 {
		t.Errorf("%+v %+v", r.Rows, r.Operations)
	}
	w.want(map[string]string{"eu-1": "Acme|1", "us-1": "Core|3"})
}

// TestCreateOnlyFields: sent when the record is created, left out when it
// exists.
func TestCreateOnlyFields(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			if _, err := w.org.Org().Insert("Account", map[string]any{"Name": "old", "Warehouse_Key__c": "A1", "Origin_System__c": "import", "Industry": "Energy"}); err != nil {
				t.Fatal(err)
			}
			w.config(accounts("[syncs.accounts.write]\ningestion_api = \""+api+"\"") + "Origin_System__c = { value = \"warehouse\" }\nIndustry = { value = \"Retail\", on = \"create\" }\n")
			w.sql(threeAccounts)
			w.run(exitDone, "accounts")
			got := w.records("Account")
			for key, want := range map[string]string{"A1": "import|Energy", "A2": "warehouse|Retail", "A3": "warehouse|Retail"} {
				if have := field(got[key], "Origin_System__c") + "|" + field(got[key], "Industry"); have != want {
					t.Errorf("%s: %s, want %s", key, have, want)
				}
			}
			if r := w.run(exitDone, "accounts"); r.Operations.Total() != 0 {
				t.Errorf("a second run: %+v", r.Operations)
			}
		})
	}
}

func TestSequence(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts("") + `
[models.contacts]
source = "warehouse"
primary_key = ["c"]
sql = "SELECT * FROM contacts"

[syncs.contacts]
model = "contacts"
destination = "crm"
object = "Contact"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "c" }

[syncs.contacts.fields]
LastName = "last"
AccountId = { lookup = { object = "Account", field = "Warehouse_Key__c", column = "k" } }

[sequences.both]
steps = ["accounts", ["contacts"]]
`)
	w.sql(threeAccounts + `CREATE TABLE contacts AS SELECT 'C' || i AS c, 'last' || i AS last, 'A' || (1 + i % 4) AS k FROM range(8) t(i)`)
	for _, args := range [][]string{{"--sequence", "both"}, {"--all"}} {
		r := w.coho(append([]string{"run", "--json"}, args...)...)
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		if r.code != exitRows || len(lines) != 2 || !strings.Contains(lines[0], `"sync":"accounts"`) || !strings.Contains(lines[1], `"sync":"contacts"`) {
			t.Errorf("%v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	got, parents := w.records("Contact"), w.records("Account")
	if len(got) != 6 || field(got["C1"], "AccountId") != field(parents["A2"], "Id") {
		t.Errorf("%d contacts: %v", len(got), got["C1"])
	}
	if e := w.errorsOf("contacts"); len(e) != 2 || !strings.Contains(e[0].Message, "A4") {
		t.Errorf("errors: %+v", e)
	}
}

func TestPlanExitCodes(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	if r := w.coho("plan", "accounts", "--detailed-exitcode"); r.code != exitChanges {
		t.Errorf("with something to do: %d", r.code)
	}
	if r := w.coho("run", "accounts", "--dry-run"); r.code != exitDone || w.org.Org().Count("Account") != 0 {
		t.Errorf("dry run: %d, %d accounts", r.code, w.org.Org().Count("Account"))
	}
	w.run(exitDone, "accounts")
	if r := w.coho("plan", "accounts", "--detailed-exitcode"); r.code != exitDone {
		t.Errorf("with nothing to do: %d", r.code)
	}
}

// TestValidateFindsAllAtOnce: every mistake of both sides, each with its place.
func TestValidateFindsAllAtOnce(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts("") + "Fax = { expr = 'trim(fone)' }\nNope__c = \"name\"\nCreatedDate = \"name\"\nNumberOfEmployees = \"flags\"\n")
	w.sql(`CREATE TABLE accounts (k VARCHAR, name VARCHAR, phone VARCHAR, flags VARCHAR[])`)
	r := w.coho("validate")
	if r.code != exitUsage {
		t.Errorf("exit code %d", r.code)
	}
	for _, part := range []string{"fone", `"phone"`, "Nope__c", "CreatedDate", "flags", "coho.toml:3"} {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("validate does not name %s:\n%s%s", part, r.stdout, r.stderr)
		}
	}
	if r := w.coho("validate", "--offline"); r.code != exitDone {
		t.Errorf("offline: %d %s", r.code, r.stderr)
	}
	var doc engine.Checked
	if err := json.Unmarshal([]byte(w.coho("validate", "--json").stdout), &doc); err != nil || len(doc.Problems) < 4 {
		t.Errorf("json: %v %+v", err, doc)
	}
}

func TestSmallCommands(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	if r := w.coho("init"); r.code != exitDone {
		t.Errorf("init: %d %s", r.code, r.stderr)
	}
	if r := w.coho("init"); r.code != exitUsage || !strings.Contains(r.stderr, "--force") {
		t.Errorf("a second init: %d %s", r.code, r.stderr)
	}
	if r := w.coho("validate", "--offline"); r.code != exitDone {
		t.Errorf("what init wrote: %d %s", r.code, r.stderr)
	}
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"completion", "bash"}, {"completion", "zsh"}, {"--help"}, {"run", "--help"}, {}} {
		if r := w.coho(args...); r.code != exitDone || !strings.Contains(r.stdout, "coho") && !strings.Contains(r.stdout, "version") {
			t.Errorf("coho %v: %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
}

func TestDemo(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	r := w.coho("demo", "--rows", "12000")
	if r.code != exitDone {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, part := range []string{"2,000 accounts and 10,000 contacts", "edit of A0000042's industry survived", "nothing to send", "2,040 accounts and 9,975 contacts"} {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("the demo does not say %q:\n%s", part, r.stdout)
		}
	}
}
