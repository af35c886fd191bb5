package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// writes are the ways to write three thousand rows in more than a few calls.
var writes = map[string]string{
	"rest":     "[syncs.accounts.write]\nparallelism = 2\ningestion_api = \"rest\"\n",
	"bulk 2.0": "[syncs.accounts.write]\nparallelism = 2\ningestion_api = \"bulk\"\nbulk_batch_size = 1000\n",
	"bulk 1.0": "[syncs.accounts.write]\nparallelism = 2\ningestion_api = \"bulk\"\nbulk_api_version = \"1.0\"\nbulk_batch_size = 1000\n",
}

// TestBudget: a run that would pass its share of the day's calls halts with its
// plan kept, and says so by its exit code; the next one goes on from there and
// doubles nothing.
func TestBudget(t *testing.T) {
	t.Parallel()
	const rows, share = 3000, 9
	for api, write := range writes {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			limited := func(n int, enforce bool) {
				limit := fmt.Sprintf("daily_api_calls = %d\nenforce_api_limits = %v\n", n, enforce)
				w.config(strings.Replace(accounts(write), "auth = \"client_credentials\"", "auth = \"client_credentials\"\n"+limit, 1))
			}
			limited(share, true)
			w.sql("CREATE TABLE accounts AS SELECT 'K' || i AS k, 'Name ' || i AS name, NULL::VARCHAR AS phone FROM range(" + fmt.Sprint(rows) + ") r(i)")

			first := w.run(exitHalted, "accounts")
			if first.Status != engine.Halted || !strings.Contains(first.Error, "API budget") {
				t.Fatalf("%s: %s", first.Status, first.Error)
			}
			if n := w.org.Counters().APICalls; int64(n) > share {
				t.Fatalf("%d calls were made of %d", n, share)
			}
			if first.Outcomes.Created == rows {
				t.Fatal("nothing was left to do")
			}
			// Another run on the same day finds nothing left of the share.
			w.run(exitHalted, "accounts")
			if n := w.org.Counters().APICalls; int64(n) > share {
				t.Fatalf("two runs made %d calls of %d", n, share)
			}
			limited(1000, true)
			last := w.run(exitDone, "accounts")
			if last.Resumed != first.ID {
				t.Errorf("the plan of %s was not resumed: %q", first.ID, last.Resumed)
			}
			if n := len(w.records("Account")); n != rows {
				t.Fatalf("%d records, want %d", n, rows)
			}
			if n := w.org.Org().Count("Account"); n != rows {
				t.Fatalf("%d accounts, want %d", n, rows)
			}
		})
	}
}

// TestOrgsOwnLimit: where the org's own calls of the day are used up a run halts
// in the same way, be it by what it heard of them or by the org's refusal, and
// the next ones go on as calls come back.
func TestOrgsOwnLimit(t *testing.T) {
	t.Parallel()
	const rows, daily = 3000, 9
	for api, write := range writes {
		for _, enforce := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, enforce_api_limits = %v", api, enforce), func(t *testing.T) {
				w := newWorld(t, emulator.Options{DailyAPICalls: daily})
				limit := fmt.Sprintf("enforce_api_limits = %v\n", enforce)
				w.config(strings.Replace(accounts(write), "auth = \"client_credentials\"", "auth = \"client_credentials\"\n"+limit, 1))
				w.sql("CREATE TABLE accounts AS SELECT 'K' || i AS k, 'Name ' || i AS name, NULL::VARCHAR AS phone FROM range(" + fmt.Sprint(rows) + ") r(i)")

				first := w.run(exitHalted, "accounts")
				if first.Status != engine.Halted || !strings.Contains(first.Error, "API budget") {
					t.Fatalf("%s: %s", first.Status, first.Error)
				}
				code := exitHalted
				for day := 0; code == exitHalted; day++ {
					if day == 8 {
						t.Fatal("eight days were not enough")
					}
					w.org.SetAPICallsUsed(0)
					r := w.coho("run", "--json", "accounts")
					if code = r.code; code != exitHalted && code != exitDone {
						t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
					}
				}
				if n := len(w.records("Account")); n != rows || w.org.Org().Count("Account") != rows {
					t.Fatalf("%d records of %d rows, %d in all", n, rows, w.org.Org().Count("Account"))
				}
			})
		}
	}
}
