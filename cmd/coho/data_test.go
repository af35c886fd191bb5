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

// TestValidateData: what validate says of the data is what a run then refuses.
func TestValidateData(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql(`CREATE TABLE accounts AS SELECT * FROM (VALUES
		('A1', 'Acme', '1', 'M1'), ('A2', repeat('x', 256), '2', 'M2'), ('A3', NULL, repeat('9', 41), 'M3'),
		('A4', 'four', NULL, 'M1'), ('A5', 'five', '5', NULL), ('A6', 'six', '6', 'M6'), ('A6', 'again', '6', 'M7'), (NULL, 'nobody', '7', 'M8')) t(id, name, phone, k)`)
	w.config(strings.Replace(accounts(""), `["k"]`, `["id"]`, 1))
	check := func(args ...string) (ch engine.Checked) {
		t.Helper()
		r := w.coho(append([]string{"validate", "--json"}, args...)...)
		if r.code != 0 {
			t.Fatalf("validate: %d %s%s", r.code, r.stdout, r.stderr)
		}
		if err := json.Unmarshal([]byte(r.stdout), &ch); err != nil {
			t.Fatal(err)
		}
		return ch
	}
	if ch := check("--no-data"); ch.Data != nil {
		t.Errorf("--no-data read %+v", ch.Data)
	}
	d := check().Data
	if d == nil || d.Rows != 8 || d.NullKeys != 1 || len(d.Fields) != 2 || d.Match == nil {
		t.Fatalf("the data is %+v", d)
	}
	if r := d.RepeatedKeys; r.Values != 1 || r.Rows != 2 || len(r.Examples) != 1 || r.Examples[0] != "A6" {
		t.Errorf("repeated keys are %+v", r)
	}
	if r := d.RepeatedMatches; r.Values != 1 || r.Rows != 2 || len(r.Examples) != 1 || r.Examples[0] != "M1" {
		t.Errorf("repeated match values are %+v", r)
	}
	if m := d.Match; m.Field != "Warehouse_Key__c" || m.Nulls != 1 || !m.Required || m.SourceType != "VARCHAR" {
		t.Errorf("the match is %+v", m)
	}
	if f := d.Fields[0]; f.Field != "Name" || f.From != "column name" || f.SourceType != "VARCHAR" || f.Type != "string(255)" || f.Length != 255 || f.Longest != 256 || f.Nulls != 1 || !f.Required || f.Unfit != 1 || len(f.Examples) != 1 {
		t.Errorf("Name is %+v", f)
	}
	if f := d.Fields[1]; f.Longest != 41 || f.Nulls != 1 || f.Required || f.Unfit != 1 || !strings.Contains(f.Examples[0], "41 characters, the field takes 40") {
		t.Errorf("Phone is %+v", f)
	}
	text := w.coho("validate").stdout
	for _, want := range []string{"8 rows read", "Warehouse_Key__c (match)", "string(255)", "1 row without a primary key", `repeated primary keys: 1 in 2 rows ("A6")`, `repeated match values: 1 in 2 rows ("M1")`, "Name: 1 row null: a record needs a value", "the field takes 40"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table does not say %q:\n%s", want, text)
		}
	}
	// All but A1 or A4 were said to fail; of those two, one has the record.
	if run := w.run(3, "accounts"); run.Outcomes.Created > 1 {
		t.Errorf("the run landed %+v", run.Outcomes)
	}
}

// TestValidatePicklist: values that a restricted picklist does not have.
func TestValidatePicklist(t *testing.T) {
	org := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(org, []byte("[[objects]]\nname = \"Account\"\n[[objects.fields]]\nname = \"Tier__c\"\ntype = \"picklist\"\nvalues = [\"Gold\"]\nrestricted = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, emulator.Options{OrgFile: org})
	w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name' AS name, CASE WHEN i % 2 = 0 THEN 'Nope ' || i % 20 ELSE NULL END AS phone FROM range(1, 101) t(i)`)
	w.config(strings.Replace(accounts(""), "Phone =", "Tier__c =", 1))
	r := w.coho("validate", "--json")
	var ch engine.Checked
	if err := json.Unmarshal([]byte(r.stdout), &ch); err != nil || ch.Data == nil {
		t.Fatalf("%v %s%s", err, r.stdout, r.stderr)
	}
	if f := ch.Data.Fields[1]; f.Unfit != 50 || f.Nulls != 50 || len(f.Examples) != 5 || !strings.Contains(f.Type, "restricted") || !strings.Contains(f.Examples[0], "restricted picklist") {
		t.Errorf("Tier__c is %+v", f)
	}
}

// TestValidateDataOfLists: the values of a picklist sync are checked one by one, and
// that the list is not is said; so are the fields of a platform event.
func TestValidateDataOfLists(t *testing.T) {
	w := newPicklistWorld(t, 1)
	w.sql(`CREATE OR REPLACE TABLE levels AS SELECT * FROM (VALUES ('gold', 'Gold', 1), ('silver', repeat('x', 256), 2), ('tin', NULL, 1001), (NULL, 'None', 4), ('gold ', 'Again', 5)) t(code, name, position);
		CREATE TABLE orders AS SELECT * FROM (VALUES (1, 'O1'), (2, repeat('9', 256)), (2, NULL)) t(id, number)`)
	w.config(levels(lists["field"].where, "label = \"name\"\norder = \"position\"\n") + `
[models.orders]
source = "warehouse"
primary_key = ["id"]
sql = "SELECT * FROM orders"

[syncs.orders]
model = "orders"
destination = "crm"
object = "Order_Placed__e"
mode = "insert"
[syncs.orders.fields]
Order_Number__c = "number"
`)
	data := func(sync string) *engine.Data {
		t.Helper()
		r := w.coho("validate", sync, "--json")
		var ch engine.Checked
		if err := json.Unmarshal([]byte(r.stdout), &ch); err != nil || r.code != 0 || ch.Data == nil {
			t.Fatalf("%v %s%s", err, r.stdout, r.stderr)
		}
		return ch.Data
	}
	d := data("levels")
	if d.Rows != 5 || d.NullKeys != 1 || d.Match == nil || d.Match.Field != "value" || d.Match.Unfit != 1 || d.RepeatedMatches.Values != 1 || !strings.Contains(d.Note, "coho plan levels") {
		t.Errorf("the values are %+v %+v", d, d.Match)
	}
	if label, order := d.Fields[0], d.Fields[1]; label.Field != "label" || label.Longest != 256 || label.Length != 255 || label.Unfit != 2 || order.Unfit != 1 || !strings.Contains(order.Examples[0], "1001 is not within") {
		t.Errorf("label is %+v, order %+v", label, order)
	}
	if text := w.coho("validate", "levels").stdout; !strings.Contains(text, "whether they make a list, by `coho plan levels`") {
		t.Errorf("the table does not say what is not looked at:\n%s", text)
	}
	d = data("orders")
	if f := d.Fields[0]; d.Rows != 3 || d.Match != nil || d.RepeatedKeys.Rows != 2 || d.Note != "" || f.Unfit != 1 || f.Nulls != 1 || f.Longest != 256 {
		t.Errorf("the events are %+v", d)
	}
}
