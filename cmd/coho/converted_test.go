package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// TestConvertedLeads: a row whose lead has been converted fails and says what the
// lead became; with skip_converted it is passed over, and so is one that a duplicate
// rule refuses. The others land.
func TestConvertedLeads(t *testing.T) {
	for name, write := range map[string]string{
		"rest":     `ingestion_api = "rest"`,
		"bulk 2.0": `ingestion_api = "bulk"`,
		"bulk 1.0": "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"",
	} {
		for _, mode := range []string{"upsert", "update"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				w := orgOf(t, "[[objects]]\nname = \"Lead\"\nduplicate_rules = [ { name = \"Same_Phone\", fields = [\"Phone\"], action = \"block\" } ]\n")
				leads := map[string]string{}
				for i, k := range []string{"L1", "L2", "L3"} {
					id, err := w.org.Org().Insert("Lead", map[string]any{"LastName": k, "Company": "Acme", "Warehouse_Key__c": k, "Phone": fmt.Sprint("1-", i)})
					if err != nil {
						t.Fatal(err)
					}
					leads[k] = id
				}
				became, err := w.org.Org().ConvertLead(leads["L1"], "", "", "", false)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.org.Org().Insert("Lead", map[string]any{"LastName": "Other", "Company": "Acme", "Phone": "9"}); err != nil {
					t.Fatal(err)
				}
				w.sql(`CREATE TABLE leads AS SELECT * FROM (VALUES ('L1', 'Conner', '2-1'), ('L2', 'Lund', '2-2'), ('L3', 'Moss', '9')) AS t(k, name, phone)`)
				config := func(skip bool) {
					w.config(fmt.Sprintf(head+`
[models.leads]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM leads"

[syncs.leads]
model = "leads"
destination = "crm"
object = "Lead"
mode = "%s"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.leads.fields]
LastName = "name"
Phone = "phone"
[syncs.leads.write]
skip_converted = %t
%s
`, mode, skip, write))
				}
				config(false)
				run := w.run(exitRows, "leads")
				if run.Outcomes.Updated != 1 || run.Outcomes.Failed != 2 {
					t.Fatalf("%+v", run.Outcomes)
				}
				said := map[string]string{}
				for _, e := range w.errorsOf("leads") {
					said[e.Key["k"]] = e.Code + " " + e.Message
				}
				if got := said["L1"]; !strings.HasPrefix(got, "CANNOT_UPDATE_CONVERTED_LEAD") || !strings.Contains(got, "it became contact "+became[1]+", account "+became[0]) {
					t.Errorf("of the converted lead: %q, want what it became: %v", got, became)
				}
				if !strings.HasPrefix(said["L3"], "DUPLICATES_DETECTED") {
					t.Errorf("%q", said)
				}

				config(true)
				run = w.run(exitDone, "leads")
				if run.Outcomes.Skipped != 2 || run.Outcomes.Failed != 0 {
					t.Fatalf("%+v", run.Outcomes)
				}
				if got := field(w.records("Lead")["L2"], "LastName"); got != "Lund" {
					t.Errorf("L2 is %q", got)
				}
			})
		}
	}
}

// TestSkipConvertedIsForLeads: another object has nothing that could be converted.
func TestSkipConvertedIsForLeads(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql(`CREATE TABLE accounts AS SELECT 'A1' AS k, 'a' AS name, '1' AS phone`)
	w.config(accounts("") + "\n[syncs.accounts.write]\nskip_converted = true\n")
	if r := w.coho("validate"); r.code != exitUsage || !strings.Contains(r.stdout+r.stderr, "only leads are converted, not Account") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
