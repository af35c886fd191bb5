package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// merging is the config of a sync that merges accounts.
func merging(mode, more, merge string) string {
	return strings.Replace(strings.Replace(accounts(more), `mode = "upsert"`, "mode = \""+mode+"\"", 1),
		"[syncs.accounts.fields]", "[syncs.accounts.merge]\n"+merge+"\n[syncs.accounts.fields]", 1)
}

const (
	byGroup  = "group = \"grp\"\nchild = \"is_child\""
	byMaster = "master = \"into\""
)

// account puts an account into the org, as somebody else would.
func (w *world) account(key, name string) string {
	w.t.Helper()
	id, err := w.org.Org().Insert("Account", map[string]any{"Warehouse_Key__c": key, "Name": name})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// live gives the keys of the org's accounts, in order.
func (w *world) live() string {
	var keys []string
	for k := range w.records("Account") {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

const groupTable = `CREATE TABLE accounts (k TEXT, name TEXT, phone TEXT, grp TEXT, is_child BOOLEAN, "into" TEXT);
	INSERT INTO accounts VALUES
	('M', 'Master', '1', 'G', FALSE, NULL), ('C1', 'Child 1', '2', 'G', TRUE, 'M'), ('C2', 'Child 2', '3', 'G', TRUE, 'M'),
	('C3', 'Child 3', '4', 'G', TRUE, 'M'), ('C4', 'Child 4', '5', 'G', TRUE, 'M'), ('C5', 'Child 5', '6', 'G', TRUE, 'M'),
	('S', 'Single', '7', NULL, NULL, NULL), ('O', 'Own', '8', 'H', FALSE, 'O')`

// The rows of a group become one record, by either form, in both modes: the
// children's records are merged two at a time, what refers to them becomes the
// master's, and no further run does anything.
func TestMergeGroups(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"upsert", "insert"} {
		for name, merge := range map[string]string{"group": byGroup, "master": byMaster} {
			t.Run(mode+" by "+name, func(t *testing.T) {
				w := newWorld(t, emulator.Options{})
				var children []string
				for i := 1; i <= 4; i++ { // the fifth has no record
					children = append(children, w.account(fmt.Sprintf("C%d", i), "Before"))
				}
				contact, err := w.org.Org().Insert("Contact", map[string]any{"LastName": "Doe", "AccountId": children[2]})
				if err != nil {
					t.Fatal(err)
				}
				w.sql(groupTable)
				w.config(merging(mode, "", merge))

				valid := w.coho("validate")
				plan := w.coho("plan", "accounts")
				for what, r := range map[string]result{"validate": valid, "plan": plan} {
					if r.code != 0 || !strings.Contains(r.stdout+r.stderr, "parallelism is 1") {
						t.Fatalf("%s (%d) does not say that parallelism is 1:\n%s%s", what, r.code, r.stdout, r.stderr)
					}
				}
				if !strings.Contains(plan.stdout, "merged into 5") {
					t.Fatalf("plan does not say what is merged:\n%s", plan.stdout)
				}
				run := w.run(0, "accounts")
				if run.Outcomes.Created != 3 || run.Outcomes.Deleted != 4 || run.Outcomes.Skipped != 1 || run.Outcomes.Failed != 0 {
					t.Fatalf("%+v", run.Outcomes)
				}
				if got := w.live(); got != "M O S" {
					t.Fatalf("the org has %s", got)
				}
				master := w.records("Account")["M"]
				if field(master, "Name") != "Master" || field(master, "Phone") != "1" {
					t.Fatalf("the master's values are not its row's: %v", master)
				}
				if got := w.org.Org().Find("Contact", "Id", contact)[0]["AccountId"]; got != master["Id"] {
					t.Fatalf("the contact is of %v, not of the master", got)
				}
				if n := w.org.Counters().Calls["soap.merge"]; n != 1 {
					t.Fatalf("%d calls of merge", n)
				}
				for _, args := range [][]string{{"accounts"}, {"accounts", "--full"}} {
					run = w.run(0, args...)
					if n := w.org.Counters().Calls["soap.merge"]; n != 1 || w.live() != "M O S" || run.Outcomes.Deleted != 0 || run.Outcomes.Created != 0 {
						t.Fatalf("run %v merges or creates again: %d calls, %s, %+v", args, n, w.live(), run.Outcomes)
					}
				}
				if run := w.run(0, "accounts"); run.Operations.Total() != 0 {
					t.Fatalf("a run in which nothing changed plans %+v", run.Operations)
				}
			})
		}
	}
}

// A row that coho wrote becomes a child later, and none again after that; what left
// the model is not deleted with the record that it is part of.
func TestMergeLater(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql(`CREATE TABLE accounts (k TEXT, name TEXT, phone TEXT, grp TEXT, is_child BOOLEAN);
		INSERT INTO accounts VALUES ('M', 'Master', '1', NULL, NULL), ('C', 'Child', '2', NULL, NULL), ('D', 'Other', '3', NULL, NULL)`)
	w.config(merging("upsert", `on_removed = "delete"`, byGroup))
	w.run(0, "accounts")
	w.sql(`UPDATE accounts SET grp = 'G', is_child = k <> 'M'`)
	run := w.run(0, "accounts")
	if run.Outcomes.Deleted != 2 || w.live() != "M" {
		t.Fatalf("%+v, the org has %s", run.Outcomes, w.live())
	}
	w.sql(`UPDATE accounts SET name = 'Child renamed' WHERE k = 'C'; UPDATE accounts SET name = 'Master renamed' WHERE k = 'M'`)
	run = w.run(0, "accounts")
	if run.Operations.Total() != 1 || field(w.records("Account")["M"], "Name") != "Master renamed" {
		t.Fatalf("%+v: %v", run.Operations, w.records("Account"))
	}
	w.sql(`DELETE FROM accounts WHERE k = 'D'`)
	if run = w.run(0, "accounts"); run.Operations.Total() != 0 || w.live() != "M" {
		t.Fatalf("a merged row that left the model: %+v, the org has %s", run.Operations, w.live())
	}
	w.sql(`UPDATE accounts SET is_child = FALSE, grp = NULL WHERE k = 'C'`)
	w.run(0, "accounts")
	if got := w.records("Account")["C"]; w.live() != "C M" || field(got, "Name") != "Child renamed" || field(got, "Phone") != "2" {
		t.Fatalf("a row that is no child any more has no record of its own: %s, %v", w.live(), got)
	}
}

// Each row of a group with no master, or with two, is rejected by name; other
// groups are merged.
func TestMergeGroupsThatCannotBe(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for _, k := range []string{"A", "B", "C", "D", "F"} {
		w.account(k, "Before")
	}
	w.sql(`CREATE TABLE accounts (k TEXT, name TEXT, phone TEXT, grp INTEGER, is_child BOOLEAN, "into" TEXT);
		INSERT INTO accounts VALUES ('A', 'a', '', 1, TRUE, 'nobody'), ('B', 'b', '', 1, TRUE, 'A'),
		('C', 'c', '', 2, FALSE, NULL), ('D', 'd', '', 2, NULL, NULL), ('E', 'e', '', 3, FALSE, NULL), ('F', 'f', '', 3, TRUE, 'E')`)
	w.config(merging("upsert", "", byGroup))
	run := w.run(3, "accounts")
	if run.Rows.Rejected != 4 || run.Outcomes.Created != 1 || run.Outcomes.Deleted != 1 || w.live() != "A B C D E" {
		t.Fatalf("%+v %+v, the org has %s", run.Rows, run.Outcomes, w.live())
	}
	got := map[string]string{}
	for _, e := range w.errorsOf("accounts") {
		got[e.Key["k"]] = e.Code + ": " + e.Message
	}
	for k, want := range map[string]string{
		"A": "MERGE_GROUP: group \"1\" has no master", "B": "MERGE_GROUP: group \"1\" has no master",
		"C": "MERGE_GROUP: group \"2\" has 2 masters", "D": "MERGE_GROUP: group \"2\" has 2 masters",
	} {
		if !strings.HasPrefix(got[k], want) {
			t.Errorf("%s: %s, want %s", k, got[k], want)
		}
	}
	w.sql(`UPDATE accounts SET grp = NULL, is_child = NULL`)
	w.config(merging("upsert", "", byMaster))
	w.run(3, "accounts")
	got = map[string]string{}
	for _, e := range w.errorsOf("accounts") {
		got[e.Key["k"]] = e.Message
	}
	if len(got) != 2 || !strings.Contains(got["A"], `no row has match value "nobody"`) || !strings.Contains(got["B"], `no row has match value "A"`) {
		t.Fatalf("%v", got)
	}
}

// What is wrong with a merge section is said with its place.
func TestMergeConfig(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql(groupTable)
	for name, test := range map[string]struct{ config, want string }{
		"unknown key":      {merging("upsert", "", "group = \"grp\"\nchildren = \"is_child\""), `unknown key "children" (nearest: "child")`},
		"both":             {merging("upsert", "", byGroup+"\n"+byMaster), "master excludes group and child"},
		"half":             {merging("upsert", "", `group = "grp"`), "want group and child"},
		"mode":             {merging("update", "", byGroup), `mode "update" does not merge`},
		"column":           {merging("upsert", "", "group = \"grpp\"\nchild = \"is_child\""), `group: the query has no column "grpp" (nearest: "grp")`},
		"child's type":     {merging("upsert", "", "group = \"grp\"\nchild = \"name\""), "child: column name must be true or false, and is text"},
		"master's type":    {merging("upsert", "", `master = "is_child"`), "master: column is_child is bool"},
		"object":           {strings.Replace(merging("upsert", "", byGroup), `"Account"`, `"Opportunity"`, 1), "Opportunity records cannot be merged; the org merges Account, Contact, Individual, Lead"},
		"insert, no match": {strings.Replace(merging("insert", "", byGroup), `match = {`, `# {`, 1), "merging needs match"},
	} {
		t.Run(name, func(t *testing.T) {
			w.config(test.config)
			if r := w.coho("validate"); r.code == 0 || !strings.Contains(r.stdout+r.stderr, test.want) || !strings.Contains(r.stdout+r.stderr, "coho.toml:") {
				t.Fatalf("%d\n%s%s", r.code, r.stdout, r.stderr)
			}
		})
	}
}

// An explicit max_deletes counts merges too.
func TestMergeIsGuarded(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.account("C1", "Before")
	w.sql(groupTable)
	w.config(merging("upsert", "guards = { max_deletes = 1 }", byGroup))
	w.run(4, "accounts")
	if w.live() != "C1" {
		t.Fatalf("the org has %s", w.live())
	}
	w.run(0, "accounts", "--approve")
	if w.live() != "M O S" {
		t.Fatalf("the org has %s", w.live())
	}
}
