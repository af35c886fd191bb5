package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

const threeAccounts = `CREATE TABLE accounts (k VARCHAR, name VARCHAR, phone VARCHAR);
INSERT INTO accounts VALUES ('A1', 'Acme', '1'), ('A2', 'Bolt', NULL), ('A3', 'Core', '3');`

// TestOnlyChangesAreSent is the main job: a first load, then only the changes,
// then nothing; through both of the org's APIs.
func TestOnlyChangesAreSent(t *testing.T) {
	t.Parallel()
	for _, api := range []string{"automatic", "rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(accounts("on_removed = \"delete\"\n[syncs.accounts.write]\ningestion_api = \"" + api + "\"\n[syncs.accounts.guards]\nmax_deletes = \"50%\""))
			w.sql(threeAccounts)

			r := w.run(exitDone, "accounts")
			if r.Status != engine.Succeeded || r.Rows.Read != 3 || r.Rows.Added != 3 || r.Operations.Upsert != 3 || r.Outcomes.Created != 3 {
				t.Errorf("first load: %+v %+v %+v", r.Rows, r.Operations, r.Outcomes)
			}
			w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})

			writes := w.org.Counters().Writes
			if r := w.run(exitDone, "accounts"); r.Operations.Total() != 0 || r.Rows.Unchanged != 3 {
				t.Errorf("second run: %+v %+v", r.Rows, r.Operations)
			}
			if n := w.org.Counters().Writes; n != writes {
				t.Errorf("a run without changes made %d writes", n-writes)
			}

			w.sql(`UPDATE accounts SET phone = '11' WHERE k = 'A1'; UPDATE accounts SET phone = NULL WHERE k = 'A3';
				INSERT INTO accounts VALUES ('A4', 'Dune', '4'); DELETE FROM accounts WHERE k = 'A2'`)
			plan := w.coho("plan", "accounts", "--json")
			p := decodeRun(t, plan.stdout)
			if p.Status != engine.Planned || p.Fields["Phone"] != 3 || p.Fields["Name"] != 1 {
				t.Errorf("plan: %s %v", p.Status, p.Fields)
			}
			r = w.run(exitDone, "accounts")
			if r.Rows != p.Rows || r.Operations != p.Operations {
				t.Errorf("the run did other than the plan said: %+v %+v, planned %+v %+v", r.Rows, r.Operations, p.Rows, p.Operations)
			}
			if r.Rows.Added != 1 || r.Rows.Changed != 2 || r.Rows.Removed != 1 || r.Outcomes.Created != 1 || r.Outcomes.Updated != 2 || r.Outcomes.Deleted != 1 {
				t.Errorf("third run: %+v %+v", r.Rows, r.Outcomes)
			}
			w.want(map[string]string{"A1": "Acme|11", "A3": "Core|", "A4": "Dune|4"})
		})
	}
}

// TestOrgEditSurvives: guarantee 4.
func TestOrgEditSurvives(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	id := w.records("Account")["A1"]["Id"].(string)
	if err := w.org.Org().Update("Account", id, map[string]any{"Name": "Acme (VIP)"}); err != nil {
		t.Fatal(err)
	}
	w.sql(`UPDATE accounts SET phone = '99' WHERE k = 'A1'`)
	w.run(exitDone, "accounts")
	w.want(map[string]string{"A1": "Acme (VIP)|99", "A2": "Bolt|", "A3": "Core|3"})
}

func TestMappingChangeSendsItsFieldOnly(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	w.config(accounts("") + "Description = { expr = '\"Phone: \" + (phone ?? \"none\")' }\n")
	r := w.run(exitDone, "accounts")
	if r.Operations.Upsert != 3 {
		t.Errorf("operations: %+v", r.Operations)
	}
	p := decodeRun(t, w.coho("plan", "--full", "accounts", "--json").stdout)
	if p.Fields["Description"] != 3 || p.Fields["Name"] != 3 {
		t.Errorf("a full plan sends %v", p.Fields)
	}
	if got := field(w.records("Account")["A2"], "Description"); got != "Phone: none" {
		t.Errorf("description %q", got)
	}
}

func TestOneBadRowFailsAlone(t *testing.T) {
	t.Parallel()
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(accounts("[syncs.accounts.write]\ningestion_api = \""+api+"\"") + "Tier__c = \"tier\"\nNumberOfEmployees = \"n\"\n")
			w.sql(`CREATE TABLE accounts (k VARCHAR, name VARCHAR, phone VARCHAR, tier VARCHAR, n VARCHAR);
				INSERT INTO accounts VALUES ('A1', 'Acme', '1', 'Gold', '7'), ('A2', NULL, NULL, 'Gold', '7'), ('A3', 'Core', '3', 'Tin', '7'),
				('A4', 'Dune', '4', NULL, 'many'), (NULL, 'Nil', NULL, NULL, NULL), ('A5', 'Twin', NULL, NULL, NULL), ('A5', 'Twin', NULL, NULL, NULL)`)
			r := w.run(exitRows, "accounts")
			if r.Status != engine.CompletedWithErrors || r.Outcomes.Created != 1 {
				t.Errorf("%s %+v %+v", r.Status, r.Rows, r.Outcomes)
			}
			if r.Rows.Rejected+r.Outcomes.Failed != 6 {
				t.Errorf("rejected %d and failed %d, want 6 together", r.Rows.Rejected, r.Outcomes.Failed)
			}
			w.want(map[string]string{"A1": "Acme|1"})
			byKey := map[string]engine.RowError{}
			for _, e := range w.errorsOf("accounts") {
				byKey[e.Key["k"]] = e
			}
			for key, want := range map[string]string{"A2": "REQUIRED_FIELD_MISSING", "A4": "INVALID_VALUE", "A5": "DUPLICATE_PRIMARY_KEY"} {
				if got := byKey[key].Code; got != want {
					t.Errorf("row %s: code %q, want %q (%s)", key, got, want, byKey[key].Message)
				}
			}
			if e := byKey["A4"]; !strings.Contains(e.Message, "NumberOfEmployees") || !strings.Contains(e.Message, "many") || !strings.Contains(e.Message, "column n") {
				t.Errorf("the message names not field, column and value: %s", e.Message)
			}
			// The snapshot does not claim them: they are tried again as they are.
			if again := w.run(exitRows, "accounts"); again.Rows.Rejected != r.Rows.Rejected || again.Outcomes.Failed != r.Outcomes.Failed || again.Rows.Unchanged != 1 {
				t.Errorf("a second run: %+v %+v", again.Rows, again.Outcomes)
			}
			// Mended in the warehouse, they land.
			w.sql(`UPDATE accounts SET name = 'Bolt' WHERE k = 'A2'; UPDATE accounts SET tier = 'Silver' WHERE k = 'A3'; UPDATE accounts SET n = '8' WHERE k = 'A4';
				DELETE FROM accounts WHERE k IS NULL OR k = 'A5'`)
			if r := w.run(exitDone, "accounts"); r.Outcomes.Created != 3 {
				t.Errorf("after mending: %+v", r.Outcomes)
			}
			w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3", "A4": "Dune|4"})
		})
	}
}

func TestGuards(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts("on_removed = \"delete\"\n[syncs.accounts.guards]\nmax_deletes = \"40%\""))
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	w.sql(`DELETE FROM accounts WHERE k <> 'A1'`)
	writes := w.org.Counters().Writes
	r := w.run(exitHalted, "accounts")
	if r.Status != engine.Halted || !strings.Contains(r.Error, "max_deletes") {
		t.Errorf("%s: %s", r.Status, r.Error)
	}
	if n := w.org.Counters().Writes; n != writes {
		t.Errorf("a halted run made %d writes", n-writes)
	}
	// The approved plan is the one that was halted, not a new one.
	w.sql(`INSERT INTO accounts VALUES ('A9', 'Late', NULL)`)
	if r := w.run(exitDone, "accounts", "--approve"); r.Outcomes.Deleted != 2 || r.Outcomes.Created != 0 || r.Resumed == "" {
		t.Errorf("approved: %+v, resumed %q", r.Outcomes, r.Resumed)
	}
	w.want(map[string]string{"A1": "Acme|1"})
	w.run(exitDone, "accounts")
	w.want(map[string]string{"A1": "Acme|1", "A9": "Late|"})
}

// TestEmptyModelDeletesNothing: guarantee 6, without any guard configured.
func TestEmptyModelDeletesNothing(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts("on_removed = \"delete\""))
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	w.sql(`DELETE FROM accounts`)
	w.run(exitHalted, "accounts")
	w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
}

func TestClearFields(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts("on_removed = \"clear_fields\""))
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	w.sql(`DELETE FROM accounts WHERE k = 'A1'`)
	if r := w.run(exitDone, "accounts"); r.Operations.ClearFields != 1 || r.Outcomes.Cleared != 1 {
		t.Errorf("%+v %+v", r.Operations, r.Outcomes)
	}
	// Name is required and stays.
	w.want(map[string]string{"A1": "Acme|", "A2": "Bolt|", "A3": "Core|3"})
	w.sql(`INSERT INTO accounts VALUES ('A1', 'Acme', '1')`)
	w.run(exitDone, "accounts")
	w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
}

func TestInsertNeverDoubles(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(strings.Replace(accounts("[syncs.accounts.write]\ningestion_api = \""+api+"\""), `mode = "upsert"`, `mode = "insert"`, 1))
			w.sql(threeAccounts)
			if r := w.run(exitDone, "accounts"); r.Operations.Insert != 3 || r.Outcomes.Created != 3 {
				t.Errorf("%+v %+v", r.Operations, r.Outcomes)
			}
			w.sql(`UPDATE accounts SET phone = '5'; DELETE FROM accounts WHERE k = 'A2'`)
			if r := w.run(exitDone, "accounts"); r.Operations.Total() != 0 {
				t.Errorf("changed and gone rows: %+v", r.Operations)
			}
			w.sql(`INSERT INTO accounts VALUES ('A2', 'Bolt', NULL)`)
			if r := w.run(exitDone, "accounts"); r.Operations.Total() != 0 {
				t.Errorf("a row that came back: %+v", r.Operations)
			}
			w.run(exitDone, "accounts", "--full")
			w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
		})
	}
}

func TestUpdateMode(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			for _, k := range []string{"A1", "A2"} {
				if _, err := w.org.Org().Insert("Account", map[string]any{"Name": "was " + k, "Warehouse_Key__c": k}); err != nil {
					t.Fatal(err)
				}
			}
			w.config(strings.Replace(accounts("[syncs.accounts.write]\ningestion_api = \""+api+"\""), `mode = "upsert"`, `mode = "update"`, 1))
			w.sql(threeAccounts)
			r := w.run(exitRows, "accounts")
			if r.Operations.Update != 3 || r.Outcomes.Updated != 2 || r.Outcomes.Failed != 1 {
				t.Errorf("%+v %+v", r.Operations, r.Outcomes)
			}
			if es := w.errorsOf("accounts"); len(es) != 1 || es[0].Code != "NOT_FOUND" || es[0].Key["k"] != "A3" {
				t.Errorf("errors: %+v", es)
			}
			w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|"})
		})
	}
}

func TestArchiveMode(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			for _, k := range []string{"A1", "A2", "A7"} {
				if _, err := w.org.Org().Insert("Account", map[string]any{"Name": "was " + k, "Warehouse_Key__c": k}); err != nil {
					t.Fatal(err)
				}
			}
			text := strings.Replace(accounts("[syncs.accounts.write]\ningestion_api = \""+api+"\""), `mode = "upsert"`, `mode = "archive"`, 1)
			text = text[:strings.Index(text, "[syncs.accounts.fields]")]
			w.config(text)
			w.sql(threeAccounts)
			r := w.run(exitDone, "accounts")
			if r.Operations.Archive != 3 || r.Outcomes.Deleted != 2 {
				t.Errorf("%+v %+v", r.Operations, r.Outcomes)
			}
			w.want(map[string]string{"A7": "was A7|"})
			if r := w.run(exitDone, "accounts"); r.Operations.Total() != 0 {
				t.Errorf("second run: %+v", r.Operations)
			}
		})
	}
}

// TestAnotherOrg: state is bound to the org's Id.
func TestAnotherOrg(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	other := newWorld(t, emulator.Options{OrgFile: "testdata/other_org.toml"})
	for k, v := range other.env {
		w.env[k] = v
	}
	w.org = other.org
	r := w.coho("run", "accounts")
	if r.code != exitUsage || !strings.Contains(r.stderr, "--full") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	w.run(exitDone, "accounts", "--full")
	w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
}

func TestChangedIdentityStopsTheRun(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	w.config(strings.Replace(accounts(""), `object = "Account"`, `object = "Lead"`, 1))
	r := w.coho("run", "accounts")
	if r.code != exitUsage {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if w.org.Org().Count("Lead") != 0 {
		t.Error("leads were written")
	}
}

// TestParentsFirst: a record and its new parent on the same object, in one
// run, and contacts that refer to them.
func TestParentsFirst(t *testing.T) {
	t.Parallel()
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(accounts("[syncs.accounts.write]\ningestion_api = \""+api+"\"") + `ParentId = { lookup = { object = "Account", field = "Warehouse_Key__c", column = "parent" } }
`)
			w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, NULL::VARCHAR AS phone, CASE WHEN i > 0 THEN 'A' || (i // 3) END AS parent FROM range(500) t(i)`)
			r := w.run(exitDone, "accounts")
			if r.Outcomes.Created != 500 {
				t.Errorf("%+v", r.Outcomes)
			}
			got := w.records("Account")
			for _, pair := range [][2]string{{"A499", "A166"}, {"A166", "A55"}, {"A3", "A1"}} {
				if field(got[pair[0]], "ParentId") != field(got[pair[1]], "Id") {
					t.Errorf("the parent of %s is not %s", pair[0], pair[1])
				}
			}
			if field(got["A0"], "ParentId") != "" {
				t.Error("A0 has a parent")
			}
		})
	}
}

func TestStatusAndHistory(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	if r := w.coho("status"); r.code != 0 || !strings.Contains(r.stdout, "never") {
		t.Errorf("status before any run: %d %s", r.code, r.stdout)
	}
	run := w.run(exitDone, "accounts")
	for _, args := range [][]string{{"status"}, {"runs"}, {"runs", "show", "accounts"}, {"runs", "show", run.ID}, {"runs", "errors", "accounts"}, {"snapshot", "show", "accounts"}, {"validate"}, {"describe", "Account"}} {
		if r := w.coho(args...); r.code != 0 || !strings.Contains(r.stdout, "ccount") {
			t.Errorf("coho %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := w.coho("query", "SELECT Name FROM Account WHERE Warehouse_Key__c = 'A1'"); r.code != 0 || !strings.Contains(r.stdout, "Acme") {
		t.Errorf("query: %d %s%s", r.code, r.stdout, r.stderr)
	}
	export := w.coho("snapshot", "export", "accounts")
	if r := export; r.code != 0 || strings.Count(r.stdout, "\n") != 4 { // a head and a line a row
		t.Errorf("export: %d %s%s", r.code, r.stdout, r.stderr)
	}
	if r := w.coho("snapshot", "reset", "accounts"); r.code != 0 {
		t.Errorf("reset: %d %s", r.code, r.stderr)
	}
	file := filepath.Join(w.dir, "export.jsonl")
	if err := os.WriteFile(file, []byte(export.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.coho("snapshot", "import", "accounts", file); r.code != 0 {
		t.Errorf("import: %d %s", r.code, r.stderr)
	}
	if r := w.run(exitDone, "accounts"); r.Rows.Unchanged != 3 {
		t.Errorf("after an import: %+v", r.Rows)
	}
	if r := w.coho("snapshot", "import", "accounts", file); r.code != exitFailed || !strings.Contains(r.stderr, "not empty") {
		t.Errorf("an import over a state: %d %s", r.code, r.stderr)
	}
	if r := w.coho("snapshot", "reset", "accounts"); r.code != 0 {
		t.Errorf("reset: %d %s", r.code, r.stderr)
	}
	if r := w.run(exitDone, "accounts"); r.Rows.Added != 3 || r.Outcomes.Updated != 3 {
		t.Errorf("after a reset: %+v %+v", r.Rows, r.Outcomes)
	}
	// No secret is anywhere in the state directory.
	err := filepath.WalkDir(filepath.Join(w.dir, ".coho"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c := w.org.Credentials()
		// A session's token begins with the org's Id and an exclamation mark.
		for _, secret := range []string{c.ClientSecret, c.AccessToken, c.AccessToken[:strings.Index(c.AccessToken, "!")+1]} {
			if strings.Contains(string(b), secret) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
