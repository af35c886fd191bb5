package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// TestOnlySyncDifferent: of rows about to be sent, those whose records hold all of
// them already are not, and of others only the fields that differ. What was found
// equal is on record, so that neither the next run nor one of a state made anew
// sends anything.
func TestOnlySyncDifferent(t *testing.T) {
	for name, write := range map[string]string{
		"rest":     `ingestion_api = "rest"`,
		"bulk 2.0": `ingestion_api = "bulk"`,
		"bulk 1.0": "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"",
	} {
		for _, mode := range []string{"upsert", "update"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, emulator.Options{})
				const there = 40
				for i := range there {
					values := map[string]any{"Warehouse_Key__c": fmt.Sprint("A", i), "Name": fmt.Sprint("Name ", i), "Phone": fmt.Sprint(i), "AnnualRevenue": 100 + i, "Rating": "Hot", "Description": "one\r\ntwo"}
					if i < 4 {
						values["Phone"] = "old"
					}
					if _, err := w.org.Org().Insert("Account", values); err != nil {
						t.Fatal(err)
					}
				}
				w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, ' Name ' || i || ' ' AS name, i::VARCHAR AS phone, 99.5 + i AS arr, 'hot' AS rating, 'one' || chr(10) || 'two' AS about FROM range(40) t(i)`)
				if mode == "upsert" {
					w.sql(`INSERT INTO accounts VALUES ('N1', 'New', '1', 1, 'Cold', NULL)`)
				}
				w.config(strings.NewReplacer(`mode = "upsert"`, fmt.Sprintf("mode = %q", mode)).Replace(accounts("")) +
					"AnnualRevenue = \"arr\"\nRating = \"rating\"\nDescription = \"about\"\n[syncs.accounts.write]\nonly_sync_different = true\n" + write + "\n")

				plan := w.coho("plan", "accounts")
				if !strings.Contains(plan.stdout, "at most     only_sync_different reads the org's records first") {
					t.Errorf("the plan does not say that fewer rows may go:\n%s", plan.stdout)
				}
				preview := w.coho("plan", "accounts", "--key", "A2")
				if n := strings.Count(preview.stdout, ", which the org holds already"); n != 4 || !strings.Contains(preview.stdout, "Phone: (nothing) -> \"2\"\n") {
					t.Errorf("the preview of a row shows %d fields as equal:\n%s", n, preview.stdout)
				}
				before := w.org.Counters()
				run := w.run(exitDone, "accounts")
				o := run.Outcomes
				created := int64(0)
				if mode == "upsert" {
					created = 1
				}
				if o.Updated != 4 || o.Created != created || o.Skipped != there-4 || o.Equal != there-4 || o.Failed != 0 {
					t.Fatalf("%+v", o)
				}
				after := w.org.Counters()
				if n := after.Writes - before.Writes; n != int(4+created) {
					t.Errorf("%d records were written", n)
				}
				if n := readsOf(after) - readsOf(before); n != 1 {
					t.Errorf("%d calls read the org's records: %v", n, after.Calls)
				}
				show := w.coho("runs", "show", run.ID)
				if !strings.Contains(show.stdout, fmt.Sprintf("equal       %d rows of the skipped held all of it in the org already", there-4)) {
					t.Errorf("runs show:\n%s", show.stdout)
				}
				if got := field(w.records("Account")["A2"], "Phone"); got != "2" {
					t.Errorf("the phone of A2 is %q", got)
				}

				// The snapshot has it all: nothing is even read.
				if run = w.run(exitDone, "accounts"); run.Operations.Total() != 0 || readsOf(w.org.Counters()) != readsOf(after) {
					t.Errorf("a second run: %+v, calls %v", run.Operations, w.org.Counters().Calls)
				}
				// And without a snapshot the org is found to hold it all.
				if r := w.coho("snapshot", "reset", "accounts"); r.code != exitDone {
					t.Fatalf("snapshot reset: %s", r.stderr)
				}
				run = w.run(exitDone, "accounts")
				if run.Outcomes.Equal != there+created || run.Outcomes.Skipped != there+created || w.org.Counters().Writes != after.Writes {
					t.Errorf("a run of a new state: %+v, %d records written", run.Outcomes, w.org.Counters().Writes-after.Writes)
				}
				if run = w.run(exitDone, "accounts"); run.Operations.Total() != 0 {
					t.Errorf("the run after it: %+v", run.Operations)
				}

				// A value that somebody edits in the org to what the model will
				// have is not written once more; one that he edits otherwise is.
				a5, a6 := w.records("Account")["A5"]["Id"].(string), w.records("Account")["A6"]["Id"].(string)
				for id, phone := range map[string]string{a5: "55", a6: "0"} {
					if err := w.org.Org().Update("Account", id, map[string]any{"Phone": phone}); err != nil {
						t.Fatal(err)
					}
				}
				w.sql(`UPDATE accounts SET phone = '55' WHERE k IN ('A5', 'A6')`)
				run = w.run(exitDone, "accounts")
				if run.Outcomes.Equal != 1 || run.Outcomes.Updated != 1 {
					t.Errorf("of two changed rows: %+v", run.Outcomes)
				}
				if got := field(w.records("Account")["A6"], "Phone"); got != "55" {
					t.Errorf("the phone of A6 is %q", got)
				}
			})
		}
	}
}

// readsOf is how many calls read records.
func readsOf(c emulator.Counters) int {
	n := 0
	for kind, calls := range c.Calls {
		if kind == "query" || kind == "collections.retrieve" {
			n += calls
		}
	}
	return n
}

// TestOnlySyncDifferentWhereNothingIsThere: of a mode that writes new records only
// the check says that there is nothing to compare.
func TestOnlySyncDifferentWhereNothingIsThere(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql(`CREATE TABLE accounts AS SELECT 'A1' AS k, 'a' AS name, '1' AS phone`)
	w.config(strings.Replace(accounts(""), `mode = "upsert"`, `mode = "insert"`, 1) + "\n[syncs.accounts.write]\nonly_sync_different = true\n")
	if r := w.coho("validate"); r.code != exitDone || !strings.Contains(r.stdout+r.stderr, "only_sync_different has no effect") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if run := w.run(exitDone, "accounts"); run.Outcomes.Created != 1 || readsOf(w.org.Counters()) != 0 {
		t.Errorf("%+v, calls %v", run.Outcomes, w.org.Counters().Calls)
	}
}

// TestOnlySyncDifferentOfTwoObjects: rows of a two-object sync are compared with the
// record that each has, be it a lead or a contact.
func TestOnlySyncDifferentOfTwoObjects(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for i := range 6 {
		address := fmt.Sprintf("p%d@example.com", i)
		if i%2 == 0 {
			w.insertInto("Contact", map[string]any{"LastName": "n", "Title": "t", "Department": "c", "Email": address})
		} else {
			w.insertInto("Lead", map[string]any{"LastName": "n", "Title": "t", "Company": "c", "Email": address})
		}
	}
	w.sql(`CREATE TABLE people AS SELECT 'K' || i AS k, 'P' || i || '@Example.com' AS email, 'n' AS name, CASE WHEN i > 3 THEN 'new' ELSE 't' END AS title, 'c' AS company, NULL::VARCHAR AS account FROM range(7) t(i)`)
	w.config(leadsOrContacts("create_records_as = \"Lead\"\nonly_sync_different = true\n"))
	run := w.run(exitDone, "people")
	if o := run.Outcomes; o.Equal != 4 || o.Skipped != 4 || o.Updated != 2 || o.Created != 1 {
		t.Fatalf("%+v", o)
	}
	w.wantPeople(map[string]string{"p0": "contact n t c", "p1": "lead n t c", "p2": "contact n t c", "p3": "lead n t c", "p4": "contact n new c", "p5": "lead n new c", "p6": "lead n new c"})
	if run = w.run(exitDone, "people"); run.Operations.Total() != 0 {
		t.Errorf("a second run: %+v", run.Operations)
	}
}

// TestKilledWhileComparing: the process is killed at a call, then, in a new world, at
// a later one, until a run lives; after each kill one more run makes the org equal to
// the model, without writing a record that was equal.
func TestKilledWhileComparing(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			for n := int64(2); ; n += 3 {
				w := newWorld(t, emulator.Options{Seed: n})
				want := map[string]string{}
				for i := range 60 {
					k, phone := fmt.Sprint("A", i), fmt.Sprint(i)
					want[k] = "n" + phone + "|" + phone
					if i%3 == 0 {
						phone = "old"
					}
					if i < 50 {
						w.insertInto("Account", map[string]any{"Warehouse_Key__c": k, "Name": fmt.Sprint("n", i), "Phone": phone})
					}
				}
				w.config(accounts("[syncs.accounts.write]\nonly_sync_different = true\ningestion_api = \"" + api + "\"\nrest_batch_size = 10\nbulk_batch_size = 15"))
				w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::VARCHAR AS phone FROM range(60) t(i)`)
				written := w.org.Counters().Writes
				alive := w.killedAtCall(n)
				if !alive {
					w.run(exitDone, "accounts")
				}
				w.want(want)
				// A batch whose answer was lost may go twice; an equal row never does.
				if c := w.org.Counters(); c.Writes-written > 27+15 {
					t.Errorf("killed at call %d: %d records were written of 27 that differ", n, c.Writes-written)
				}
				if run := w.run(exitDone, "accounts"); run.Operations.Total() != 0 {
					t.Errorf("killed at call %d: the run after it has %+v", n, run.Operations)
				}
				if alive {
					if n < 6 {
						t.Errorf("the run made only %d calls", n-1)
					}
					return
				}
			}
		})
	}
}
