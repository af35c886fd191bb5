package main

import (
	"fmt"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// knownAccounts is a sync that writes parents.
const knownAccounts = `
[models.accounts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM accounts"

[syncs.accounts]
model = "accounts"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.accounts.fields]
Name = "k"
AccountNumber = "number"
`

// TestEstimate: guarantee 10 for API calls. What `coho plan` says that a run will
// cost is within a tenth of what the run then uses, lookups by query included,
// whose values repeat.
func TestEstimate(t *testing.T) {
	const byKey = `match = { field = "Warehouse_Key__c", column = "k" }`
	const byQuery = `AccountId = { lookup = { object = "Account", field = "AccountNumber", column = "parent" } }`
	for _, c := range []struct {
		name, mode, match, write, fields string
		parents                          int // in the org
		known                            int // of them, written by a sync, whose snapshot is asked first
		sizes                            []int
	}{
		{"upsert rest", "upsert", byKey, `ingestion_api = "rest"`, byQuery, 300, 0, []int{1, 200, 201, 10_000}},
		{"upsert bulk 2.0", "upsert", byKey, `ingestion_api = "bulk"`, byQuery, 300, 0, []int{1, 200, 201, 10_000}},
		{"upsert bulk 1.0", "upsert", byKey, "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"", byQuery, 300, 0, []int{1, 200, 201, 10_000}},
		{"upsert of many parents", "upsert", byKey, "", byQuery, 9_000, 0, []int{10_000}},
		{"upsert of many parents, half of which a snapshot knows", "upsert", byKey, "", byQuery, 9_000, 4_500, []int{10_000}},
		{"upsert of many parents, which a snapshot knows", "upsert", byKey, `ingestion_api = "bulk"`, byQuery, 9_000, 9_000, []int{10_000}},
		{"update of few parents, few of which a snapshot knows", "update", byKey, "", byQuery, 40, 3, []int{201}},
		{"insert", "insert", byKey, "", byQuery, 40, 0, []int{200, 10_000}},
		{"update", "update", byKey, "", byQuery, 40, 0, []int{201, 5_000}},
		{"update without a lookup", "update", byKey, "", "", 0, 0, []int{200, 201}},
		{"archive", "archive", byKey, "", "", 0, 0, []int{1, 201, 5_000}},
	} {
		for _, n := range c.sizes {
			t.Run(fmt.Sprintf("%s of %d", c.name, n), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, emulator.Options{})
				org := w.org.Org()
				for i := c.known; i < c.parents; i++ {
					if _, err := org.Insert("Account", map[string]any{"Name": "p", "AccountNumber": fmt.Sprintf("number-%05d", i)}); err != nil {
						t.Fatal(err)
					}
				}
				if c.mode == "update" || c.mode == "archive" {
					for i := range n {
						if _, err := org.Insert("Contact", map[string]any{"LastName": "old", "Warehouse_Key__c": fmt.Sprintf("C%d", i)}); err != nil {
							t.Fatal(err)
						}
					}
				}
				fields := "[syncs.contacts.fields]\nLastName = \"name\"\n" + c.fields
				if c.mode == "archive" {
					fields = ""
				} else if c.mode == "insert" {
					fields += "\nWarehouse_Key__c = \"k\""
				}
				accounts := ""
				if c.known > 0 {
					accounts = knownAccounts
				}
				w.config(head + accounts + `
[models.contacts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM contacts"

[syncs.contacts]
model = "contacts"
destination = "crm"
object = "Contact"
mode = "` + c.mode + `"
` + c.match + "\n" + fields + `
[syncs.contacts.write]
` + c.write + `
[syncs.contacts.guards]
max_deletes = 100000
`)
				w.sql(fmt.Sprintf(`CREATE TABLE contacts AS SELECT 'C' || i AS k, 'n' || i AS name, printf('number-%%05d', (i * 7919) %% %d) AS parent FROM range(%d) t(i)`, max(c.parents, 1), n))
				if c.known > 0 {
					w.sql(fmt.Sprintf(`CREATE TABLE accounts AS SELECT 'A' || i AS k, printf('number-%%05d', i) AS number FROM range(%d) t(i)`, c.known))
					w.run(exitDone, "accounts")
				}
				planned := w.coho("plan", "contacts", "--json")
				if planned.code != exitDone {
					t.Fatal(planned.stdout, planned.stderr)
				}
				said := decodeRun(t, planned.stdout).Estimate.APICalls
				before := w.org.Counters()
				run := w.run(exitDone, "contacts")
				after := w.org.Counters()
				if run.Outcomes.Failed > 0 || run.Operations.Total() != int64(n) {
					t.Fatalf("%d operations, %d failed", run.Operations.Total(), run.Outcomes.Failed)
				}
				used := int64(after.APICalls - before.APICalls)
				if used != run.API.Calls {
					t.Errorf("the run counted %d calls, the org %d", run.API.Calls, used)
				}
				// Polls past the first of a job are the slowness of a machine busy
				// with other tests.
				late := max(0, int64(after.Polls-before.Polls)-max(run.API.BulkJobs, 1))
				near := func(used int64) bool { return max(said-used, used-said)*10 <= used }
				if !near(used) && !near(used-late) {
					t.Errorf("%d calls were estimated and %d used: %v", said, used, after.Calls)
				}
			})
		}
	}
}
