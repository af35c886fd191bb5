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
		different  bool
		sizes      []int
	}{
		{api: "rest", mode: models.ModeUpsert, sizes: []int{1, 200, 201, 5_000}},
		{api: "rest", mode: models.ModeUpsert, parents: true, sizes: []int{1_000, 5_000, 13_000}},
		{api: "rest", mode: models.ModeUpsert, onCreate: true, sizes: []int{150, 3_000}},
		{api: "rest", mode: models.ModeUpdate, sizes: []int{150, 3_000}},
		{api: "rest", mode: models.ModeArchive, sizes: []int{3_000}},
		{api: "bulk", mode: models.ModeInsert, sizes: []int{1, 2_000, 12_000}},
		{api: "bulk", mode: models.ModeUpsert, parents: true, sizes: []int{1_000, 12_000}},
		{api: "bulk", mode: models.ModeUpsert, onCreate: true, sizes: []int{900, 8_000}},
		{api: "bulk", mode: models.ModeUpdate, sizes: []int{900, 8_000}},
		{api: "bulk 1.0", mode: models.ModeInsert, sizes: []int{1, 10_000, 10_001}},
		{api: "bulk 1.0", mode: models.ModeUpsert, parents: true, sizes: []int{1_000, 21_000}},
		{api: "bulk 1.0", mode: models.ModeArchive, sizes: []int{8_000}},
		{api: "automatic", mode: models.ModeUpsert, sizes: []int{2_400, 2_401, 12_000}},
		{api: "rest", mode: models.ModeUpsert, different: true, sizes: []int{1, 150, 3_000}},
		{api: "rest", mode: models.ModeUpsert, different: true, parents: true, sizes: []int{9_000}},
		{api: "rest", mode: models.ModeUpdate, different: true, sizes: []int{3_000}},
		{api: "bulk", mode: models.ModeUpdate, different: true, sizes: []int{900, 8_000}},
		{api: "bulk", mode: models.ModeUpsert, different: true, onCreate: true, sizes: []int{8_000}},
		{api: "bulk 1.0", mode: models.ModeUpsert, different: true, parents: true, sizes: []int{21_000}},
		{api: "automatic", mode: models.ModeUpsert, different: true, sizes: []int{2_401}},
	}
	for _, test := range tests {
		for _, n := range test.sizes {
			name := fmt.Sprintf("%s %s of %d, create-only %v, parents %v, different %v", test.api, test.mode, n, test.onCreate, test.parents, test.different)
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
				s.Write.OnlySyncDifferent = test.different
				opened, err := dest.Open(t.Context(), s, accountColumns)
				if err != nil {
					t.Fatal(err)
				}
				target := opened.(*Target)
				ops := many(kinds[test.mode], n)
				fields := map[string]int64{"Name": int64(n), "Phone": int64(n)}
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

// Of two APIs the one of fewer calls is taken, and the sooner one where it is
// hardly dearer.
func TestChoose(t *testing.T) {
	tests := []struct {
		name  string
		a, b  cost
		spare int64
		want  string
	}{
		{"fewer calls", cost{"a", 12, 0, 30}, cost{"b", 5, 1, 10}, 7, "b"},
		{"fewer calls, later by far", cost{"a", 13, 0, 1}, cost{"b", 5, 1, 100}, 7, "b"},
		{"sooner for the spare calls", cost{"a", 12, 0, 1}, cost{"b", 5, 1, 100}, 7, "a"},
		{"sooner, but every call counts", cost{"a", 12, 0, 1}, cost{"b", 5, 1, 100}, 0, "b"},
		{"as many calls, sooner", cost{"a", 5, 0, 9}, cost{"b", 5, 1, 10}, 0, "a"},
		{"as many calls, later", cost{"a", 5, 0, 11}, cost{"b", 5, 1, 10}, 0, "b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := choose(test.a, test.b, test.spare).api; got != test.want {
				t.Errorf("chose %s", got)
			}
			if got := choose(test.b, test.a, test.spare).api; got != test.want {
				t.Errorf("chose %s the other way about", got)
			}
		})
	}
}

// The number of rows from which a job is taken is where the cost model turns:
// no smaller pass is better off with a job, and no larger one without.
func TestBulkFromIsWhereTheCostModelTurns(t *testing.T) {
	for name, test := range map[string]struct {
		write models.Write
		tight bool
		want  int64
	}{
		"defaults":               {models.Write{}, false, 2401},
		"Bulk API 1.0":           {models.Write{BulkAPIVersion: "1.0"}, false, 2401},
		"a tight org":            {models.Write{}, true, 1001},
		"small calls":            {models.Write{RESTBatchSize: 10}, false, 121},
		"serial, 1.0":            {models.Write{BulkAPIVersion: "1.0", ConcurrencyMode: "serial"}, false, 2401},
		"one call after another": {models.Write{Parallelism: 1}, false, 1401},
	} {
		t.Run(name, func(t *testing.T) {
			r := routes(&test.write)
			r.tight = test.tight
			from := bulkFrom(r, &test.write)
			if from != test.want {
				t.Errorf("jobs from %d rows on, want %d", from, test.want)
			}
			for n := int64(1); n < 4*from; n += max(1, from/37) {
				rest, bulk := restCost(r, &test.write, n), bulkCost(r, &test.write, n, 0)
				if got := choose(rest, bulk, r.spare()).api == bulk.api; got != (n >= from) {
					t.Errorf("%d rows: %v against %v, jobs from %d rows on", n, rest, bulk, from)
				}
			}
		})
	}
}
