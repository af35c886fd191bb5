package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

// oneGroup is a table of a master and five children, who have records, and a group
// of two beside it. It returns the Ids of the children.
func (w *world) oneGroup() map[string]string {
	w.t.Helper()
	ids := map[string]string{}
	for _, k := range []string{"C1", "C2", "C3", "C4", "C5", "D1"} {
		ids[k] = w.account(k, "Before")
	}
	w.sql(`CREATE TABLE accounts (k TEXT, name TEXT, phone TEXT, grp TEXT, is_child BOOLEAN);
		INSERT INTO accounts VALUES ('M', 'Master', '', 'G', FALSE), ('C1', '1', '', 'G', TRUE), ('C2', '2', '', 'G', TRUE), ('C3', '3', '', 'G', TRUE),
		('C4', '4', '', 'G', TRUE), ('C5', '5', '', 'G', TRUE), ('N', 'Other', '', 'H', FALSE), ('D1', '1', '', 'H', TRUE)`)
	w.config(merging("upsert", "", byGroup))
	return ids
}

// One record that cannot be merged keeps none of the others from it: its row alone
// fails, with the org's reason, and is merged once that is gone.
func TestMergeOneBadVictim(t *testing.T) {
	for bad, code := range map[string]string{ // each has another place among the requests
		"C1": "ENTITY_IS_LOCKED", "C2": "INSUFFICIENT_ACCESS_OR_READONLY", "C3": "MERGE_FAILED", "C4": "ENTITY_IS_LOCKED", "C5": "MERGE_FAILED",
	} {
		t.Run(bad+" "+code, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			ids := w.oneGroup()
			w.org.AddFault(emulator.Fault{Match: "soap merge", RowCode: code, RowMessage: "not this one", RowHas: ids[bad]})
			run := w.run(exitRows, "accounts")
			if w.live() != bad+" M N" || run.Outcomes.Deleted != 5 || run.Outcomes.Failed != 1 || run.Outcomes.Created != 2 {
				t.Fatalf("%+v, the org has %s", run.Outcomes, w.live())
			}
			errs := w.errorsOf("accounts")
			if len(errs) != 1 || errs[0].Key["k"] != bad || errs[0].Code != code || !strings.Contains(errs[0].Message, "not this one") || errs[0].ID != ids[bad] {
				t.Fatalf("%+v", errs)
			}
			w.org.ClearFaults()
			if run := w.run(exitDone, "accounts"); w.live() != "M N" || run.Operations.Total() != 1 || run.Outcomes.Deleted != 1 {
				t.Fatalf("%+v, the org has %s", run.Outcomes, w.live())
			}
			if run := w.run(exitDone, "accounts"); run.Operations.Total() != 0 {
				t.Fatalf("a run without changes plans %+v", run.Operations)
			}
		})
	}
}

// A record that the org itself cannot merge into its master: a company is no person.
func TestMergeOfTwoKinds(t *testing.T) {
	w := orgOf(t, personOrg)
	person := w.recordTypes()["PersonAccount"]
	for _, k := range []string{"C1", "C2"} {
		if _, err := w.org.Org().Insert("Account", map[string]any{"Warehouse_Key__c": k, "LastName": k, "RecordTypeId": person}); err != nil {
			t.Fatal(err)
		}
	}
	w.account("C3", "Company")
	w.sql(`CREATE TABLE people AS SELECT * FROM (VALUES ('M', 'Master', FALSE), ('C1', 'x', TRUE), ('C2', 'y', TRUE), ('C3', 'z', TRUE)) AS t(k, last, is_child)`)
	w.config(strings.Replace(people("upsert", "Warehouse_Key__c", "RecordTypeId = { record_type = \"PersonAccount\" }\nLastName = \"last\"",
		"merge = { group = \"grp\", child = \"is_child\" }"), "SELECT * FROM people", "SELECT *, 1 AS grp FROM people", 1))
	run := w.run(exitRows, "people")
	errs := w.errorsOf("people")
	if run.Outcomes.Deleted != 2 || w.live() != "C3 M" || len(errs) != 1 || errs[0].Key["k"] != "C3" || errs[0].Code != "INVALID_PERSON_ACCOUNT_OPERATION" {
		t.Fatalf("%+v %+v, the org has %s", run.Outcomes, errs, w.live())
	}
}

// A record that somebody deletes while the call is under way is no child's any more:
// the others are merged, and it does not count as merged.
func TestMergeVictimDeletedUnderWay(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	ids := w.oneGroup()
	var gone atomic.Bool
	w.org.OnCall(func(kind string) {
		if strings.HasPrefix(kind, "soap") && gone.CompareAndSwap(false, true) {
			if err := w.org.Org().Delete("Account", ids["C2"]); err != nil {
				t.Error(err)
			}
		}
	})
	run := w.run(exitDone, "accounts")
	if !gone.Load() || w.live() != "M N" || run.Outcomes.Deleted != 5 || run.Outcomes.Skipped != 1 {
		t.Fatalf("%+v, the org has %s", run.Outcomes, w.live())
	}
	if run := w.run(exitDone, "accounts"); run.Operations.Total() != 0 {
		t.Fatalf("a run without changes plans %+v", run.Operations)
	}
}

// A record that is locked for a while is tried again after a pause, alone, and merged;
// one that stays locked fails after max_attempts.
func TestMergeLocked(t *testing.T) {
	t.Parallel()
	const lock = "UNABLE_TO_LOCK_ROW"
	w := newWorld(t, emulator.Options{})
	ids := w.oneGroup()
	w.org.AddFault(emulator.Fault{Match: "soap merge", RowCode: lock, RowMessage: "unable to obtain exclusive access to this record", RowHas: ids["C3"], RowTries: 1})
	var calls []time.Time // one after another
	w.org.OnCall(func(kind string) {
		if strings.HasPrefix(kind, "soap") {
			calls = append(calls, time.Now())
		}
	})
	run := w.run(exitDone, "accounts")
	for i := 1; i < len(calls); i++ {
		if pause := calls[i].Sub(calls[i-1]); pause < 100*time.Millisecond {
			t.Errorf("the lock is tried again after %v", pause)
		}
	}
	if w.live() != "M N" || run.Outcomes.Deleted != 6 || len(calls) != 2 {
		t.Fatalf("%+v, %d calls, the org has %s", run.Outcomes, len(calls), w.live())
	}
	t.Run("for good", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, emulator.Options{})
		ids := w.oneGroup()
		w.config(strings.Replace(merging("upsert", "", byGroup), "[syncs.accounts.fields]", "[syncs.accounts.write]\nmax_attempts = 2\n[syncs.accounts.fields]", 1))
		w.org.AddFault(emulator.Fault{Match: "soap merge", RowCode: lock, RowMessage: "unable to obtain exclusive access to this record", RowHas: ids["C3"]})
		w.run(exitRows, "accounts")
		errs := w.errorsOf("accounts")
		if w.live() != "C3 M N" || len(errs) != 1 || errs[0].Key["k"] != "C3" || errs[0].Code != lock || errs[0].Attempts != 2 {
			t.Fatalf("%+v, the org has %s", errs, w.live())
		}
	})
}

// More requests than a call takes go in several; what `coho plan` said that they cost
// is within a tenth of what they do.
func TestMergeEstimate(t *testing.T) {
	for _, c := range []struct {
		name             string
		groups, children int
		key              string // printf of the key, of group and child
		written          bool   // coho wrote the children's records before
	}{
		{"one child", 1, 1, "G%dC%d", false},
		{"two hundred pairs", 200, 1, "G%dC%d", false},
		{"five hundred pairs", 500, 1, "G%dC%d", false},
		{"groups of six", 90, 5, "G%dC%d", false},
		{"long keys", 230, 2, "00000000-0000-4000-8000-0000%04d%04d", false},
		{"records that coho wrote", 150, 3, "G%dC%d", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			w.sql(fmt.Sprintf(`CREATE TABLE accounts AS SELECT printf('%s', g, c) AS k, 'n' || g AS name, '' AS phone, %s AS grp, c > 0 AS is_child FROM range(%d) a(g), range(%d) b(c)`,
				c.key, map[bool]string{false: "g", true: "CAST(NULL AS BIGINT)"}[c.written], c.groups, c.children+1))
			w.config(merging("upsert", "", byGroup))
			if c.written {
				w.run(exitDone, "accounts")
				w.sql(`UPDATE accounts SET grp = CAST(substr(name, 2) AS BIGINT)`)
			} else {
				for g := range c.groups {
					for n := range c.children {
						w.account(fmt.Sprintf(c.key, g, n+1), "Before")
					}
				}
			}
			planned := w.coho("plan", "accounts", "--json")
			if planned.code != exitDone {
				t.Fatal(planned.stdout, planned.stderr)
			}
			said := decodeRun(t, planned.stdout).Estimate.APICalls
			merges := w.org.Counters().Calls["soap.merge"]
			run := w.run(exitDone, "accounts")
			n := int64(c.groups * c.children)
			if run.Outcomes.Deleted != n || w.org.Org().Count("Account") != c.groups {
				t.Fatalf("%+v, the org has %d accounts", run.Outcomes, w.org.Org().Count("Account"))
			}
			if got, want := int64(w.org.Counters().Calls["soap.merge"]-merges), (n+199)/200; got != want {
				t.Errorf("%d calls of merge, want %d", got, want)
			}
			if used := run.API.Calls; max(said-used, used-said)*10 > used {
				t.Errorf("%d calls were estimated and %d used: %v", said, used, w.org.Counters().Calls)
			}
		})
	}
}
