package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/sources/postgres/postgrestest"
)

// related is a warehouse in PostgreSQL whose rows refer to each other, and an
// org that they go to by a sequence.
type related struct {
	*world
	server   *postgrestest.Server
	dsn      string
	external bool   // the org has external ids
	key      string // the field that carries the warehouse's key
}

const relatedTables = `
CREATE SCHEMA crm;
CREATE TABLE crm.accounts (k text PRIMARY KEY, name text, parent text, owner text);
CREATE TABLE crm.contacts (k text PRIMARY KEY, name text, account text, boss text);
CREATE TABLE crm.opportunities (k text PRIMARY KEY, name text, account text, closes date);
CREATE TABLE crm.tasks (k text PRIMARY KEY, contact text, opportunity text, owner text);

-- Parents have lower and higher keys than their children, and some have none.
INSERT INTO crm.accounts SELECT 'a' || i, 'Account ' || i,
  CASE WHEN i % 5 = 0 THEN NULL WHEN i % 2 = 0 THEN 'a' || i / 2 ELSE 'a' || (i + (40 - i) / 2 + 1) / 5 * 5 END,
  CASE WHEN i % 3 = 0 THEN 'ann' ELSE 'bob' END FROM generate_series(1, 40) i;
INSERT INTO crm.contacts SELECT 'c' || i, 'Contact ' || i,
  CASE WHEN i % 7 = 0 THEN '' ELSE 'a' || 1 + i % 40 END,
  CASE WHEN i < 90 THEN 'c' || i + 31 END FROM generate_series(1, 120) i;
INSERT INTO crm.opportunities SELECT 'o' || i, 'Opportunity ' || i, 'a' || 1 + i * 7 % 40, DATE '2026-01-01' + i FROM generate_series(1, 80) i;
INSERT INTO crm.tasks SELECT 't' || i, 'c' || i, 'o' || i, CASE WHEN i % 2 = 0 THEN 'ann' ELSE 'bob' END FROM generate_series(1, 50) i;
`

func newRelated(t *testing.T, external bool, api string, o emulator.Options) *related {
	t.Helper()
	w := &related{server: postgrestest.Start(t), external: external, key: "Warehouse_Key__c"}
	if !external {
		w.key, o.OrgFile = "Key__c", "testdata/lookups_org.toml"
	}
	w.world = newWorld(t, o)
	w.dsn = w.server.CreateDatabase(t)
	w.exec(relatedTables)
	for _, name := range []string{"ann", "bob"} {
		w.insert("User", map[string]any{"Username": name + "@u.example", "LastName": name, "Email": name + "@x.example", "Alias": name, "IsActive": true})
	}
	w.env["DSN"] = w.dsn
	w.config(w.relatedConfig(api))
	return w
}

func (w *related) exec(sql string) {
	w.t.Helper()
	w.server.Exec(w.t, w.dsn, sql)
}

func (w *related) insert(object string, fields map[string]any) string {
	w.t.Helper()
	id, err := w.org.Org().Insert(object, fields)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// relatedConfig syncs the four tables. Without external ids they are inserted,
// found by a plain field, and contacts are then kept up to date by another sync.
func (w *related) relatedConfig(api string) string {
	var b strings.Builder
	b.WriteString(strings.Replace(head, "type = \"duckdb\"\npath = \"warehouse.duckdb\"", "type = \"postgres\"\ndsn = \"${DSN}\"", 1))
	lookup := func(object, column string) string {
		return fmt.Sprintf(`{ lookup = { object = %q, field = %q, column = %q } }`, object, w.key, column)
	}
	mode, owner := "upsert", `{ lookup = { object = "User", field = "Email", column = "owner" } }`
	owned := "owner || '@x.example' AS owner"
	if !w.external {
		mode, owner, owned = "insert", `{ lookup = { object = "User", field = "Name", column = "owner" } }`, "owner"
	}
	model := func(name, sql string) {
		fmt.Fprintf(&b, "\n[models.%s]\nsource = \"warehouse\"\nprimary_key = [\"k\"]\nsql = %q\n", name, sql)
	}
	write := func(name string) {
		fmt.Fprintf(&b, "[syncs.%s.write]\ningestion_api = %q\nrest_batch_size = 20\nbulk_batch_size = 60\nparallelism = 2\n", name, api)
	}
	sync := func(name, model, object, mode, match string, fields ...string) {
		fmt.Fprintf(&b, "\n[syncs.%s]\nmodel = %q\ndestination = \"crm\"\nobject = %q\nmode = %q\nmatch = { field = %q, column = \"k\" }\n", name, model, object, mode, match)
		write(name)
		fmt.Fprintf(&b, "[syncs.%s.fields]\n%s\n", name, strings.Join(fields, "\n"))
	}
	model("accounts", "SELECT k, name, parent, "+owned+" FROM crm.accounts")
	model("contacts", "SELECT * FROM crm.contacts")
	model("opportunities", "SELECT * FROM crm.opportunities")
	model("tasks", "SELECT k, contact, opportunity, "+owned+" FROM crm.tasks")
	sync("accounts", "accounts", "Account", mode, w.key, `Name = "name"`, "ParentId = "+lookup("Account", "parent"), "OwnerId = "+owner)
	sync("contacts", "contacts", "Contact", mode, w.key, `LastName = "name"`, "AccountId = "+lookup("Account", "account"), "ReportsToId = "+lookup("Contact", "boss"))
	sync("opportunities", "opportunities", "Opportunity", mode, w.key, `Name = "name"`, `StageName = { value = "Prospecting" }`, `CloseDate = "closes"`, "AccountId = "+lookup("Account", "account"))
	sync("tasks", "tasks", "Task", "insert", "Subject", "WhoId = "+lookup("Contact", "contact"), "WhatId = "+lookup("Opportunity", "opportunity"), "OwnerId = "+owner)
	steps := `"accounts", ["contacts", "opportunities"], "tasks"`
	if !w.external {
		sync("moves", "contacts", "Contact", "update", w.key, "AccountId = "+lookup("Account", "account"), "ReportsToId = "+lookup("Contact", "boss"))
		steps += `, "moves"`
	}
	fmt.Fprintf(&b, "\n[sequences.nightly]\nsteps = [%s]\non_error = \"continue\"\n", steps)
	return b.String()
}

// process runs a command as a process of its own and returns the records that it
// printed, by sync.
func (w *related) process(code int, args ...string) map[string]*engine.Run {
	w.t.Helper()
	cmd := w.child(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		w.t.Fatalf("coho %v: exit code %d, want %d\n%s%s", args, got, code, out.String(), errs.String())
	}
	runs := map[string]*engine.Run{}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var run engine.Run
		if err := json.Unmarshal([]byte(line), &run); err != nil {
			w.t.Fatalf("%v in %s", err, line)
		}
		runs[run.Sync] = &run
	}
	return runs
}

func (w *related) nightly(code int) map[string]*engine.Run {
	w.t.Helper()
	return w.process(code, "run", "--sequence", "nightly", "--json")
}

// silent checks that another run writes nothing.
func (w *related) silent() {
	w.t.Helper()
	writes := w.org.Counters().Writes
	for name, r := range w.nightly(exitDone) {
		if r.Operations.Total() != 0 {
			w.t.Errorf("a run of %s without changes plans %+v", name, r.Operations)
		}
	}
	if n := w.org.Counters().Writes - writes; n != 0 {
		w.t.Errorf("a run without changes wrote %d records", n)
	}
}

// byKey returns an object's records by the field that carries the key.
func (w *related) byKey(object, key string) map[string]map[string]any {
	w.t.Helper()
	out := map[string]map[string]any{}
	for _, r := range w.org.Org().Records(object) {
		k := field(r, key)
		if k == "" {
			continue
		}
		if out[k] != nil {
			w.t.Errorf("two %s records have the key %s", object, k)
		}
		out[k] = r
	}
	return out
}

// right checks every reference of every record against the warehouse.
func (w *related) right() {
	w.t.Helper()
	objects := map[string]map[string]map[string]any{
		"Account": w.byKey("Account", w.key), "Contact": w.byKey("Contact", w.key), "Opportunity": w.byKey("Opportunity", w.key),
		"Task": w.byKey("Task", "Subject"), "User": w.byKey("User", "LastName"),
	}
	for _, c := range []struct{ table, object, field, column, parent string }{
		{"accounts", "Account", "ParentId", "parent", "Account"},
		{"accounts", "Account", "OwnerId", "owner", "User"},
		{"contacts", "Contact", "AccountId", "account", "Account"},
		{"contacts", "Contact", "ReportsToId", "boss", "Contact"},
		{"opportunities", "Opportunity", "AccountId", "account", "Account"},
		{"tasks", "Task", "WhoId", "contact", "Contact"},
		{"tasks", "Task", "WhatId", "opportunity", "Opportunity"},
		{"tasks", "Task", "OwnerId", "owner", "User"},
	} {
		rows := w.rows(fmt.Sprintf("SELECT k, coalesce(%s, '') FROM crm.%s", c.column, c.table))
		if len(rows) < 40 || len(objects[c.object]) != len(rows) {
			w.t.Errorf("%d %s records for %d rows", len(objects[c.object]), c.object, len(rows))
		}
		wrong := 0
		for _, row := range rows {
			want := ""
			if row[1] != "" {
				want = field(objects[c.parent][row[1]], "Id")
				if want == "" {
					w.t.Errorf("%s %s is not in the org", c.parent, row[1])
				}
			}
			if got := field(objects[c.object][row[0]], c.field); got != want {
				if wrong++; wrong < 4 {
					w.t.Errorf("%s %s: %s is %q, want %q (%s)", c.object, row[0], c.field, got, want, row[1])
				}
			}
		}
	}
}

// rows reads two columns of text from the warehouse.
func (w *related) rows(sql string) [][2]string {
	w.t.Helper()
	var out [][2]string
	for _, r := range w.server.Query(w.t, w.dsn, sql) {
		out = append(out, [2]string{string(r[0]), string(r[1])})
	}
	return out
}

// eachRelated runs a test with and without external ids, by both APIs.
func eachRelated(t *testing.T, f func(t *testing.T, external bool, api string)) {
	for _, external := range []bool{true, false} {
		for _, api := range []string{"rest", "bulk"} {
			t.Run(fmt.Sprintf("external ids %v/%s", external, api), func(t *testing.T) {
				t.Parallel() // most of it is waiting
				f(t, external, api)
			})
		}
	}
}

// TestSequenceOfReferences: accounts, contacts, opportunities and tasks from
// PostgreSQL, every reference right, by processes of their own: the first load, a
// silent second run, changes, and parents that were deleted, merged and created
// again in the org.
func TestSequenceOfReferences(t *testing.T) {
	eachRelated(t, func(t *testing.T, external bool, api string) {
		w := newRelated(t, external, api, emulator.Options{})
		if r := w.coho("validate"); r.code != exitDone || strings.Contains(r.stdout, "later step") {
			t.Fatalf("%d %s%s", r.code, r.stdout, r.stderr)
		}
		how := "lookup      AccountId by Warehouse_Key__c of Account, which the org finds by itself\n"
		if !external {
			how = "lookup      AccountId by Key__c of Account, in the snapshot of sync accounts, else by query\n"
		}
		if r := w.coho("plan", "contacts"); !strings.Contains(r.stdout, how) {
			t.Errorf("the plan does not say %q:\n%s", how, r.stdout)
		}
		runs := w.nightly(exitDone)
		for name, n := range map[string]int64{"accounts": 40, "contacts": 120, "opportunities": 80, "tasks": 50} {
			if r := runs[name]; r == nil || r.Outcomes.Created != n || r.Outcomes.Failed != 0 {
				t.Errorf("%s: %+v", name, r)
			}
		}
		w.right()
		w.silent()

		// The parents of new rows: one that was deleted and created again in the
		// org, one whose record was merged into another that bears its key now,
		// and one that was deleted for good.
		accounts := w.byKey("Account", w.key)
		id := func(key string) string { return field(accounts[key], "Id") }
		org := w.org.Org()
		if err := errors.Join(org.Delete("Account", id("a7")), org.Delete("Account", id("a11")), org.Merge("Account", id("a9"), id("a8"))); err != nil {
			t.Fatal(err)
		}
		w.insert("Account", map[string]any{"Name": "Account 7 again", w.key: "a7"})
		if err := org.Update("Account", id("a9"), map[string]any{w.key: "a8"}); err != nil {
			t.Fatal(err)
		}
		w.exec(`
			INSERT INTO crm.contacts SELECT 'n' || i, 'New ' || i, 'a' || 7 + i % 2, 'c1' FROM generate_series(1, 60) i;
			INSERT INTO crm.opportunities SELECT 'n' || i, 'New ' || i, 'a' || 7 + i % 2, DATE '2026-05-01' FROM generate_series(1, 60) i;
			INSERT INTO crm.contacts VALUES ('lost', 'Lost', 'a11', NULL);
			UPDATE crm.contacts SET account = 'a20' WHERE k IN ('c1', 'c2', 'c3');
			UPDATE crm.contacts SET account = NULL WHERE k = 'c4'`)
		calls := w.org.Counters().Calls["query"]
		runs = w.nightly(exitRows)
		if r := runs["contacts"]; r.Outcomes.Created != 60 || r.Outcomes.Failed != 1 {
			t.Errorf("contacts: %+v %+v", r.Outcomes, r.Errors)
		}
		if n := w.org.Counters().Calls["query"] - calls; external && api == "bulk" && n > 0 || n > 20 {
			t.Errorf("%d queries", n)
		}
		lost := w.errorsOf("contacts")
		if len(lost) != 1 || lost[0].Code != "REFERENCE_NOT_FOUND" || !strings.Contains(lost[0].Message, fmt.Sprintf(`field AccountId: no Account record has %s "a11"`, w.key)) || lost[0].Fields[0] != "AccountId" {
			t.Errorf("%+v", lost)
		}
		accounts = w.byKey("Account", w.key)
		for object, prefix := range map[string]string{"Contact": "n", "Opportunity": "n"} {
			for i := range 60 {
				r := w.byKey(object, w.key)[fmt.Sprint(prefix, i+1)]
				if want := id(fmt.Sprint("a", 7+(i+1)%2)); field(r, "AccountId") != want {
					t.Fatalf("%s %d refers to %q, want %q", object, i+1, field(r, "AccountId"), want)
				}
			}
		}
		contacts := w.byKey("Contact", w.key)
		if field(contacts["c2"], "AccountId") != id("a20") || field(contacts["c4"], "AccountId") != "" {
			t.Errorf("moved contacts refer to %q and %q", field(contacts["c2"], "AccountId"), field(contacts["c4"], "AccountId"))
		}
		// The row that waits for its parent gets it as soon as there is one.
		w.exec(`UPDATE crm.contacts SET account = 'a10' WHERE k = 'lost'`)
		w.nightly(exitDone)
		if got := field(w.byKey("Contact", w.key)["lost"], "AccountId"); got != id("a10") {
			t.Errorf("the lost contact refers to %q", got)
		}
		w.silent()
	})
}

// TestSequenceOfReferencesKilled: guarantee 1. The sequence is killed at call
// after call, and the runs that follow make every reference right.
func TestSequenceOfReferencesKilled(t *testing.T) {
	eachRelated(t, func(t *testing.T, external bool, api string) {
		w := newRelated(t, external, api, emulator.Options{})
		kills := 0
		for n := int64(7); ; n += 6 {
			if !w.killed(n, "run", "--sequence", "nightly", "--json") {
				kills++
				continue
			}
			break
		}
		if kills < 3 {
			t.Errorf("the sequence was killed only %d times", kills)
		}
		w.nightly(exitDone)
		w.right()
		w.silent()
	})
}

// TestMissingParents: what invalid_relationships says, over several runs. What
// was left out is tried again by every run without writing anything else, and
// filled in once the parent is there.
func TestMissingParents(t *testing.T) {
	eachRelated(t, func(t *testing.T, external bool, api string) {
		for _, rule := range []string{"omit_values", "omit_records"} {
			w := newRelated(t, external, api, emulator.Options{})
			text, _, _ := strings.Cut(w.relatedConfig(api), "[sequences.nightly]")
			if !external {
				// A sync that updates too: contacts are there, with a key.
				w.exec(`DELETE FROM crm.contacts WHERE k NOT IN ('c1', 'c2', 'c3')`)
				for _, k := range []string{"c1", "c2", "c3"} {
					w.insert("Contact", map[string]any{"LastName": k, w.key: k})
				}
				text = strings.Replace(text, "object = \"Contact\"\nmode = \"insert\"", "object = \"Contact\"\nmode = \"update\"", 1)
			} else {
				w.exec(`DELETE FROM crm.contacts WHERE k NOT IN ('c1', 'c2', 'c3')`)
			}
			text = strings.Replace(text, "[syncs.contacts.write]\n", "[syncs.contacts.write]\ninvalid_relationships = \""+rule+"\"\n", 1)
			w.config(text)
			w.exec(`UPDATE crm.contacts SET boss = NULL, account = CASE k WHEN 'c1' THEN 'a1' WHEN 'c2' THEN 'none' END`)
			home := w.insert("Account", map[string]any{"Name": "one", w.key: "a1"})
			contacts := func() *engine.Run { t.Helper(); return w.run(exitDone, "contacts") }

			r := contacts()
			got := w.byKey("Contact", w.key)
			if r.Status != engine.Succeeded || field(got["c1"], "AccountId") != home || field(got["c3"], "LastName") != "Contact 3" {
				t.Fatalf("%s: %+v, contacts %v", rule, r, got)
			}
			said := w.errorsOf("contacts")
			message := fmt.Sprintf(`field AccountId: no Account record has %s "none"`, w.key)
			if len(said) != 1 || said[0].Code != "REFERENCE_NOT_FOUND" || said[0].Key["k"] != "c2" || !strings.Contains(said[0].Message, message) {
				t.Errorf("%s: %+v", rule, said)
			}
			switch sent := field(got["c2"], "LastName") == "Contact 2"; {
			case rule == "omit_records" && (sent || r.Outcomes.Skipped != 1):
				t.Errorf("omit_records: %+v, contact %v", r.Outcomes, got["c2"])
			case rule == "omit_values" && (!sent || r.Outcomes.Skipped != 0):
				t.Errorf("omit_values: %+v, contact %v", r.Outcomes, got["c2"])
			}

			for range 2 {
				writes := w.org.Counters().Writes
				if r = contacts(); r.Operations.Total() != 1 || r.Outcomes.Skipped != 1 || w.org.Counters().Writes != writes {
					t.Errorf("%s: a run without changes: %+v %+v, %d writes", rule, r.Operations, r.Outcomes, w.org.Counters().Writes-writes)
				}
			}

			late := w.insert("Account", map[string]any{"Name": "late", w.key: "none"})
			r = contacts()
			if got = w.byKey("Contact", w.key); field(got["c2"], "AccountId") != late || field(got["c2"], "LastName") != "Contact 2" {
				t.Errorf("%s: with its parent there the contact is %v (%+v)", rule, got["c2"], r)
			}
			// Another parent that is not there: the one that is stays, and a null
			// still clears it.
			w.exec(`UPDATE crm.contacts SET account = 'nowhere' WHERE k = 'c2'`)
			contacts()
			if got = w.byKey("Contact", w.key); field(got["c2"], "AccountId") != late {
				t.Errorf("%s: a parent that is not there took the one that is: %v", rule, got["c2"])
			}
			w.exec(`UPDATE crm.contacts SET account = 'nowhere', name = 'Renamed' WHERE k = 'c2'`)
			contacts()
			if got = w.byKey("Contact", w.key); (field(got["c2"], "LastName") == "Renamed") != (rule == "omit_values") {
				t.Errorf("%s: the contact is %v", rule, got["c2"])
			}
			w.exec(`UPDATE crm.contacts SET account = NULL WHERE k = 'c2'`)
			contacts()
			if got = w.byKey("Contact", w.key); field(got["c2"], "AccountId") != "" || field(got["c2"], "LastName") != "Renamed" {
				t.Errorf("%s: a null did not clear the reference: %v", rule, got["c2"])
			}
			writes := w.org.Counters().Writes
			if r = contacts(); r.Operations.Total() != 0 || w.org.Counters().Writes != writes {
				t.Errorf("%s: at last: %+v", rule, r.Operations)
			}
		}
	})
}
