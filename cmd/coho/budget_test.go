package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// TestBudget: a run that would pass its share of the day's calls halts with its
// plan kept, and says so by its exit code; the next one goes on from there and
// doubles nothing.
func TestBudget(t *testing.T) {
	const rows, share = 3000, 9
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			write := "[syncs.accounts.write]\nparallelism = 2\ningestion_api = \"" + api + "\"\nbulk_batch_size = 1000\n"
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
			landed := len(w.records("Account"))
			if landed == rows {
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
