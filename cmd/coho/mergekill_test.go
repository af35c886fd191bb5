package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// fiveGroups is a table of groups of six, whose children have records already but
// for one of each.
func (w *world) fiveGroups() {
	w.t.Helper()
	for g := range 5 {
		for c := 1; c < 5; c++ {
			w.account(fmt.Sprintf("G%dC%d", g, c), "Before")
		}
	}
	w.sql(`CREATE TABLE accounts AS SELECT 'G' || g || 'C' || c AS k, 'n' || g || c AS name, '' AS phone, g AS grp, c > 0 AS is_child FROM range(5) a(g), range(6) b(c)`)
	w.config(merging("upsert", "", byGroup))
}

const masters = "G0C0 G1C0 G2C0 G3C0 G4C0"

// TestMergeKilledAtEveryCall: whenever the process dies, one more run merges what is
// left, and a further one does nothing.
func TestMergeKilledAtEveryCall(t *testing.T) {
	t.Parallel()
	for n := int64(1); ; n++ {
		if n > 60 {
			t.Fatal("the run makes more than 60 calls")
		}
		w := newWorld(t, emulator.Options{Seed: n})
		w.fiveGroups()
		alive := w.killedAtCall(n)
		w.run(exitDone, "accounts")
		if got := w.live(); got != masters {
			t.Fatalf("killed at call %d: the org has %s", n, got)
		}
		merges, writes := w.org.Counters().Calls["soap.merge"], w.org.Counters().Writes
		if run := w.run(exitDone, "accounts"); run.Operations.Total() != 0 || w.org.Counters().Writes != writes || w.org.Counters().Calls["soap.merge"] != merges {
			t.Fatalf("killed at call %d: a run without changes plans %+v", n, run.Operations)
		}
		if alive {
			if n < 7 {
				t.Fatalf("the run made only %d calls", n-1)
			}
			return
		}
	}
}

// Whatever becomes of a call, each record is merged once and its row says so.
func TestMergeCallsThatFail(t *testing.T) {
	for name, fault := range map[string]emulator.Fault{
		"the answer is lost":        {Match: "soap", CutAfter: true},
		"the request is lost":       {Match: "soap", CutBefore: true},
		"carried out, and a page":   {Match: "soap", CutAfter: true, Times: 2},
		"the org is busy":           {Match: "soap", Status: 503, Code: "SERVER_UNAVAILABLE"},
		"the session has ended":     {Match: "soap", ExpireSession: true},
		"the org fails by a page":   {Match: "soap", Status: 500},
		"it comes twice to the org": {Match: "soap", Twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			w.fiveGroups()
			w.org.AddFault(fault)
			run := w.run(exitDone, "accounts")
			if w.live() != masters || run.Outcomes.Created != 5 || run.Outcomes.Deleted != 20 || run.Outcomes.Skipped != 5 {
				t.Fatalf("%+v, the org has %s", run.Outcomes, w.live())
			}
			if run := w.run(exitDone, "accounts"); run.Operations.Total() != 0 {
				t.Fatalf("a run without changes plans %+v", run.Operations)
			}
		})
	}
}

// A child whose master is refused is not merged into nothing, and is merged once the
// master is there.
func TestMergeWaitsForTheMaster(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.account("C", "Before")
	w.sql(`CREATE TABLE accounts (k TEXT, name TEXT, phone TEXT, grp TEXT, is_child BOOLEAN);
		INSERT INTO accounts VALUES ('M', NULL, '1', 'G', FALSE), ('C', 'c', '', 'G', TRUE)`)
	w.config(merging("upsert", "", byGroup))
	w.run(exitRows, "accounts")
	for _, e := range w.errorsOf("accounts") {
		if e.Key["k"] == "C" && (e.Code != "NOT_FOUND" || !strings.Contains(e.Message, `no Account record has Warehouse_Key__c "M", into which`)) {
			t.Fatalf("%+v", e)
		}
	}
	if w.live() != "C" {
		t.Fatalf("the org has %s", w.live())
	}
	w.sql(`UPDATE accounts SET name = 'm' WHERE k = 'M'`)
	w.run(exitDone, "accounts")
	if w.live() != "M" {
		t.Fatalf("the org has %s", w.live())
	}
}
