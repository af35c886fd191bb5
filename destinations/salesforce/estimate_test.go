package salesforce

import (
	"fmt"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// What a plan says that it will cost is within a tenth of what the org then
// counts, describes included, where nothing goes wrong.
func TestEstimateIsWhatARunCosts(t *testing.T) {
	tests := []struct {
		api, match string
		mode       models.Mode
		onCreate   bool
		parents    bool
		sizes      []int
	}{
		{api: "rest", mode: models.ModeUpsert, sizes: []int{1, 200, 201, 5_000, 21_000}},
		{api: "rest", mode: models.ModeUpsert, parents: true, sizes: []int{1_000, 5_000, 21_000}},
		{api: "rest", mode: models.ModeUpsert, onCreate: true, sizes: []int{150, 3_000}},
		{api: "rest", mode: models.ModeUpdate, sizes: []int{150, 3_000}},
		{api: "rest", mode: models.ModeArchive, sizes: []int{3_000}},
		{api: "bulk", mode: models.ModeInsert, sizes: []int{1, 2_000, 30_000}},
		{api: "bulk", mode: models.ModeUpsert, parents: true, sizes: []int{1_000, 30_000}},
		{api: "bulk", mode: models.ModeUpsert, onCreate: true, sizes: []int{900, 8_000}},
		{api: "bulk", mode: models.ModeUpdate, sizes: []int{900, 8_000}},
		{api: "bulk 1.0", mode: models.ModeInsert, sizes: []int{1, 10_000, 30_000}},
		{api: "bulk 1.0", mode: models.ModeUpsert, parents: true, sizes: []int{1_000, 45_000}},
		{api: "bulk 1.0", mode: models.ModeArchive, sizes: []int{8_000}},
		{api: "automatic", mode: models.ModeUpsert, sizes: []int{2_400, 2_401, 12_000}},
	}
	for _, test := range tests {
		for _, n := range test.sizes {
			name := fmt.Sprintf("%s %s of %d, create-only %v, parents %v", test.api, test.mode, n, test.onCreate, test.parents)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, emulator.Options{})
				who := w.org.Credentials()
				client, err := api.New(api.Config{Domain: w.org.URL(), Auth: api.AuthClientCredentials, ClientID: who.ClientID, ClientSecret: models.Secret(who.ClientSecret)})
				if err != nil {
					t.Fatal(err)
				}
				// No org answers sooner than the first poll by default, and the
				// emulator, beside other tests, not always.
				dest := New(client, Options{SpoolDir: w.spool, Poll: api.Poll{Start: 1500 * time.Millisecond}})
				defer dest.Close()
				w.seed(test.mode, n)
				s := accountSync(test.mode, test.api)
				s.Fields[fPhone].OnCreate = test.onCreate
				opened, err := dest.Open(t.Context(), s, accountColumns)
				if err != nil {
					t.Fatal(err)
				}
				target := opened.(*Target)
				ops := many(kinds[test.mode], n)
				fields := map[string]int64{}
				if test.parents {
					fields["ParentId"] = int64(n)
					for i := range 97 {
						w.insert(map[string]any{"Warehouse_Key__c": fmt.Sprint("P", i), "Name": "p"})
					}
					for i, o := range ops {
						o.Assignments = append(o.Assignments, set(fParent, fmt.Sprint("P", i%97)))
						o.Assignments[1], o.Assignments[2] = o.Assignments[2], o.Assignments[1]
					}
				}
				if test.onCreate {
					for _, o := range ops {
						o.Assignments[1].Send = planner.OnCreate
					}
				}
				sum := planner.Summary{Fields: fields, PassOperations: []int64{int64(n)}, Bytes: int64(n) * 20, Samples: []planner.Sample{{Key: ops[0].Key}}}
				sum.Operations[kinds[test.mode]] = int64(n)
				e := target.Estimate(sum)
				said := e.APICalls + target.Usage().Calls
				l := w.ledger(ops)
				if err := target.Apply(t.Context(), destinations.Application{Plan: l, Journal: l}); err != nil {
					t.Fatal(err)
				}
				l.done()
				l.want(destinations.Failed, 0)
				used := int64(w.org.Counters().APICalls)
				// A machine busy with other tests makes the org slower than any
				// estimate supposes: polls past the first of a job are let off.
				late := max(0, int64(w.org.Counters().Polls)-max(e.BulkJobs, 1))
				near := func(used int64) bool { return max(said-used, used-said)*10 <= used }
				if !near(used) && !near(used-late) {
					t.Errorf("%d calls were estimated and %d used: %v (%s)", said, used, w.org.Counters().Calls, e.Choice)
				}
				if e.BulkJobs != target.Usage().BulkJobs {
					t.Errorf("%d jobs were estimated and %d used", e.BulkJobs, target.Usage().BulkJobs)
				}
			})
		}
	}
}
