package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/models"
)

const picklistOrg = `
[[global_value_sets]]
name = "Levels"
label = "Levels"
values = ["gold", "silver", "bronze"]
inactive = ["tin"]
default = "silver"

[[global_value_sets]]
name = "Ranks__gvs"
values = ["first"]

[[objects]]
name = "Account"
fields = [
  { name = "Level__c", type = "picklist", values = ["gold", "silver", "bronze"], inactive = ["tin"], default = "silver", restricted = true },
  { name = "Many_Levels__c", type = "multipicklist", values = ["gold"] },
  { name = "Shared_Level__c", type = "picklist", value_set = "Levels", restricted = true },
]
`

// The two kinds of list, as a config names them and as the org does.
var lists = map[string]struct{ where, component, name string }{
	"field":            {"object = \"Account\"\nfield = \"Level__c\"", api.CustomField, "Account.Level__c"},
	"global value set": {"field = \"Levels\"", api.GlobalValueSet, "Levels"},
}

// levels is the config of a picklist sync of the values in the table levels.
func levels(where, fields string) string {
	return head + `
[models.levels]
source = "warehouse"
primary_key = ["code"]
sql = "SELECT * FROM levels"

[syncs.levels]
type = "picklist"
model = "levels"
destination = "crm"
mode = "all"
` + where + `

[syncs.levels.fields]
value = "code"
` + fields
}

func newPicklistWorld(t *testing.T, seed int64) *world {
	t.Helper()
	org := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(org, []byte(picklistOrg), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, emulator.Options{OrgFile: org, Seed: seed})
	w.sql("CREATE TABLE levels (code VARCHAR, name VARCHAR, pos INTEGER, usual BOOLEAN)")
	return w
}

// client is a client of the org of its own.
func (w *world) client() *api.Client {
	w.t.Helper()
	who := w.org.Credentials()
	c, err := api.New(api.Config{Domain: who.URL, Auth: api.AuthClientCredentials, ClientID: who.ClientID, ClientSecret: models.Secret(who.ClientSecret)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// list is a list as the org has it: "name=label" for each value in its order,
// with a minus before an inactive one and a star behind the default.
func (w *world) list(component, name string) string {
	w.t.Helper()
	set, err := w.client().ReadValueSet(w.t.Context(), component, name)
	if err != nil || set == nil {
		w.t.Fatalf("%v (%v)", set, err)
	}
	var out []string
	for _, v := range set.Values {
		text := v.Name + "=" + v.Label
		if !v.Active {
			text = "-" + text
		}
		if v.Default {
			text += "*"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// replacements counts the calls that write a list.
func (w *world) replacements() int { return w.org.Counters().Calls["soap.updateMetadata"] }

// TestPicklist: the model's rows become the active values; the others are
// deactivated and not deleted; default and order are kept; no change is no call
// that writes, and what somebody did in the org meanwhile is put right.
func TestPicklist(t *testing.T) {
	for kind, l := range lists {
		t.Run(kind, func(t *testing.T) {
			w := newPicklistWorld(t, 1)
			w.config(levels(l.where, "label = \"name\""))
			w.sql("INSERT INTO levels (code, name) VALUES ('silver', 'silver'), ('tin', 'Tin & more'), ('gold', 'Gold'), ('platinum', 'Platin <1>')")
			if r := w.coho("validate", "levels"); r.code != exitDone {
				t.Fatalf("validate: %s%s", r.stdout, r.stderr)
			}
			before := w.list(l.component, l.name)
			plan := w.coho("plan", "levels")
			for _, part := range []string{"3 upsert, 1 archive", "1 unchanged, 2 added, 1 changed, 1 removed", `label: "gold" -> "Gold"`, "Metadata API"} {
				if !strings.Contains(plan.stdout, part) {
					t.Errorf("the plan does not say %q:\n%s%s", part, plan.stdout, plan.stderr)
				}
			}
			if w.list(l.component, l.name) != before || w.replacements() != 0 {
				t.Fatal("the plan wrote something")
			}
			run := w.run(exitDone, "levels")
			if o := run.Outcomes; o.Created != 1 || o.Updated != 2 || o.Deactivated != 1 || o.Total() != 4 || run.Operations.Upsert != 3 || run.Operations.Archive != 1 {
				t.Errorf("%+v %+v", run.Operations, o)
			}
			const want = "gold=Gold silver=silver* -bronze=bronze tin=Tin & more platinum=Platin <1>"
			if got := w.list(l.component, l.name); got != want {
				t.Errorf("the list is %s\nwant %s", got, want)
			}
			again := w.run(exitDone, "levels")
			if again.Operations.Total() != 0 || again.Rows.Unchanged != 4 || w.replacements() != 1 {
				t.Errorf("%+v %+v, %d calls that write", again.Rows, again.Operations, w.replacements())
			}

			// Somebody edits the list in Setup.
			set, err := w.client().ReadValueSet(t.Context(), l.component, l.name)
			if err != nil {
				t.Fatal(err)
			}
			set.Values[0].Label, set.Values[1].Active = "Or", false
			if err := w.client().ReplaceValues(t.Context(), set, set.Values, set.Sorted); err != nil {
				t.Fatal(err)
			}
			if r := w.run(exitDone, "levels"); r.Operations.Upsert != 2 {
				t.Errorf("%+v", r.Operations)
			}
			if got := w.list(l.component, l.name); !strings.HasPrefix(got, "gold=Gold silver=silver") {
				t.Errorf("the list is %s", got)
			}
			if r := w.coho("snapshot", "export", "levels"); r.code != exitDone || strings.Count(r.stdout, "\n") != 1 {
				t.Errorf("the snapshot holds rows: %s%s", r.stdout, r.stderr)
			}
			if r := w.coho("runs", "show", "levels"); !strings.Contains(r.stdout, "2 updated") {
				t.Errorf("runs show: %s", r.stdout)
			}
		})
	}
}

// TestPicklistOrder: order and default come from the model where they are mapped.
func TestPicklistOrder(t *testing.T) {
	for kind, l := range lists {
		t.Run(kind, func(t *testing.T) {
			w := newPicklistWorld(t, 1)
			w.config(levels(l.where, "label = { expr = 'upper(name)' }\norder = \"pos\"\ndefault = \"usual\""))
			w.sql("INSERT INTO levels VALUES ('bronze', 'b', 1, false), ('tin', 't', 2, NULL), ('gold', 'g', 3, true)")
			w.run(exitDone, "levels")
			if got, want := w.list(l.component, l.name), "bronze=B tin=T gold=G* -silver=silver"; got != want {
				t.Errorf("the list is %s, want %s", got, want)
			}
			if r := w.run(exitDone, "levels"); r.Operations.Total() != 0 || w.replacements() != 1 {
				t.Errorf("%+v", r.Operations)
			}
			w.sql("DELETE FROM levels WHERE code = 'bronze'; UPDATE levels SET pos = pos - 1; INSERT INTO levels VALUES ('new', 'n', 3, false)")
			w.run(exitDone, "levels")
			if got, want := w.list(l.component, l.name), "tin=T gold=G* new=N -bronze=B -silver=silver"; got != want {
				t.Errorf("the list is %s, want %s", got, want)
			}
		})
	}
}

// TestPicklistRefused: a list that the org would not take is refused before
// anything is sent, by the plan as by the run.
func TestPicklistRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ fields, rows, want string }{
		"semicolon":      {"#many", "VALUES ('a;b', '', 0, false)", "1 rows of the model are no values"},
		"too many":       {"", "SELECT 'v' || i, '', 0, false FROM range(997) r(i)", "1,001 values"},
		"far too many":   {"", "SELECT 'v' || i, '', 0, false FROM range(50000) r(i)", "of at most 1000"},
		"same label":     {`label = "name"`, "VALUES ('a', 'A', 0, false), ('b', 'A', 0, false)", `"a" and "b" have the same label "A"`},
		"case":           {"", "VALUES ('Tin', '', 0, false)", `"Tin" differs only in case from "tin"`},
		"two of a case":  {"", "VALUES ('x', '', 0, false), ('X', '', 0, false)", "differs only in case"},
		"two defaults":   {`default = "usual"`, "VALUES ('a', '', 0, true), ('b', '', 0, true)", "both the default"},
		"repeated":       {"", "VALUES ('a', '', 0, true), ('a', '', 0, true)", "2 rows of the model are no values"},
		"empty label":    {`label = "name"`, "VALUES ('a', ' ', 0, true), ('b', 'B', 0, true)", "1 rows of the model are no values"},
		"long":           {"", "SELECT repeat('x', 256), '', 0, false", "1 rows of the model are no values"},
		"gap in order":   {`order = "pos"`, "VALUES ('a', '', 1, true), ('b', '', 3, true)", "from 1 to 2"},
		"repeated order": {`order = "pos"`, "VALUES ('a', '', 1, true), ('b', '', 1, true)", "each number once"},
	} {
		t.Run(name, func(t *testing.T) {
			where := lists["field"].where
			if c.fields == "#many" {
				where = strings.Replace(where, "Level__c", "Many_Levels__c", 1)
			}
			w := newPicklistWorld(t, 1)
			w.config(levels(where, c.fields+"\n[syncs.levels.guards]\nmax_deletes = \"100%\"\n"))
			w.sql("INSERT INTO levels " + c.rows)
			if r := w.coho("plan", "levels"); r.code != exitDone || !strings.Contains(r.stdout, "a run would fail") || !strings.Contains(strings.ReplaceAll(r.stdout, "1001", "1,001"), c.want) {
				t.Errorf("plan: %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			run := w.run(exitFailed, "levels")
			if !strings.Contains(strings.ReplaceAll(run.Error, "1001", "1,001"), c.want) || !strings.Contains(run.Error, "nothing was sent") {
				t.Errorf("the run says %s", run.Error)
			}
			if w.replacements() != 0 {
				t.Error("something was sent")
			}
			if strings.Contains(c.want, "no values") && len(w.errorsOf("levels")) == 0 {
				t.Error("no row is named")
			}
		})
	}
}

// TestPicklistGuard: an emptied model halts the run, and --approve goes on with it.
func TestPicklistGuard(t *testing.T) {
	l := lists["field"]
	w := newPicklistWorld(t, 1)
	w.config(levels(l.where, ""))
	halted := w.run(exitHalted, "levels")
	if halted.Status != engine.Halted || w.replacements() != 0 {
		t.Errorf("%s, %d calls that write", halted.Status, w.replacements())
	}
	if r := w.run(exitDone, "levels", "--approve"); r.Outcomes.Deactivated != 3 || r.Resumed != halted.ID {
		t.Errorf("%+v", r.Outcomes)
	}
	if got, want := w.list(l.component, l.name), "-gold=gold -silver=silver -bronze=bronze -tin=tin"; got != want {
		t.Errorf("the list is %s, want %s", got, want)
	}
}

// TestPicklistKilled: killed at any call, or with the answer lost, the next run
// makes the list what it should be.
func TestPicklistKilled(t *testing.T) {
	t.Parallel()
	l := lists["field"]
	const want = "gold=Gold -silver=silver -bronze=bronze -tin=tin new=New"
	prepare := func(seed int64) *world {
		w := newPicklistWorld(t, seed)
		w.config(levels(l.where, "label = \"name\""))
		w.sql("INSERT INTO levels (code, name) VALUES ('gold', 'Gold'), ('new', 'New')")
		return w
	}
	for n := int64(1); ; n++ {
		w := prepare(n)
		alive := w.killed(n, "run", "levels", "--json")
		if r := w.run(exitDone, "levels"); r.Resumed != "" {
			t.Errorf("killed at call %d: a plan of what the list was is gone on with", n)
		}
		if got := w.list(l.component, l.name); got != want {
			t.Errorf("killed at call %d: the list is %s, want %s", n, got, want)
		}
		if alive {
			if n < 4 {
				t.Errorf("the run made only %d calls", n-1)
			}
			break
		}
	}
	w := prepare(1)
	w.org.AddFault(emulator.Fault{Match: "soap", After: 1, CutAfter: true})
	if r := w.run(exitDone, "levels"); r.Outcomes.Created != 1 {
		t.Errorf("%+v", r.Outcomes)
	}
	w.org.AddFault(emulator.Fault{Match: "soap", ExpireSession: true})
	w.sql("UPDATE levels SET name = 'Newer' WHERE code = 'new'")
	w.run(exitDone, "levels")
	if got := w.list(l.component, l.name); got != strings.Replace(want, "New", "Newer", 1) {
		t.Errorf("the list is %s", got)
	}
}

// TestPicklistChecked: what is wrong with a picklist sync is said with its place.
func TestPicklistChecked(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		code   int
		want   string
	}{
		"no such field":     {levels("object = \"Account\"\nfield = \"Levl__c\"", ""), exitUsage, "did you mean Level__c?"},
		"no picklist":       {levels("object = \"Account\"\nfield = \"Warehouse_Key__c\"", ""), exitUsage, "no picklist"},
		"shared":            {levels("object = \"Account\"\nfield = \"Shared_Level__c\"", ""), exitUsage, `global value set Levels`},
		"no such set":       {levels("field = \"Level\"", ""), exitUsage, "did you mean Levels?"},
		"no such column":    {levels(lists["field"].where, "label = \"nam\""), exitUsage, "did you mean name?"},
		"value of a kind":   {strings.Replace(levels(lists["field"].where, ""), `value = "code"`, `value = "usual"`, 1), exitUsage, "cannot be a picklist's API name"},
		"standard field":    {levels("object = \"Account\"\nfield = \"Industry\"", ""), exitUsage, "no custom field"},
		"no value":          {strings.Replace(levels(lists["field"].where, ""), `value = "code"`, `label = "code"`, 1), exitUsage, "value is missing"},
		"another part":      {levels(lists["field"].where, "lable = \"name\""), exitUsage, `nearest: "label"`},
		"another mode":      {strings.Replace(levels(lists["field"].where, ""), `"all"`, `"upsert"`, 1), exitUsage, `a picklist sync has one, "all"`},
		"a key for records": {strings.Replace(levels(lists["field"].where, ""), `mode =`, "on_removed = \"delete\"\nmode =", 1), exitUsage, `on_removed does not go with type "picklist"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPicklistWorld(t, 1)
			w.config(c.config)
			r := w.coho("validate", "levels")
			if out := r.stdout + r.stderr; r.code != c.code || !strings.Contains(out, c.want) || !strings.Contains(out, "coho.toml:") {
				t.Errorf("exit code %d:\n%s", r.code, out)
			}
		})
	}
	w := newPicklistWorld(t, 1)
	w.config(levels("field = \"Ranks\"", ""))
	if r := w.coho("validate", "levels"); r.code != exitDone {
		t.Errorf("a name without its suffix: %s%s", r.stdout, r.stderr)
	}
	w.config(levels(lists["field"].where, ""))
	for _, command := range []string{"plan", "run"} {
		if r := w.coho(command, "levels", "--key", "gold"); r.code != exitUsage || !strings.Contains(r.stderr, "sent together") {
			t.Errorf("%s --key: %d %s", command, r.code, r.stderr)
		}
	}
}

// TestPicklistGoesFirst: of all syncs those of values come before those of records
// that have them.
func TestPicklistGoesFirst(t *testing.T) {
	w := newPicklistWorld(t, 1)
	w.config(strings.Replace(accounts(""), `Phone = "phone"`, `Level__c = "phone"`, 1) + strings.TrimPrefix(levels(lists["field"].where, ""), head))
	w.sql("INSERT INTO levels (code) VALUES ('gold'), ('silver'), ('diamond')")
	w.sql("CREATE TABLE accounts AS SELECT 'A1' AS k, 'Acme' AS name, 'diamond' AS phone")
	r := w.coho("run", "--all", "--json")
	if r.code != exitDone || w.org.Org().Count("Account") != 1 {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if got := fmt.Sprint(w.records("Account")["A1"]["Level__c"]); got != "diamond" {
		t.Errorf("the account's level is %s", got)
	}
}
