package main

import (
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// TestRunOneRow follows runs of one row: no other row is sent, of no other does the
// snapshot change, and what is left is what a whole run then does.
func TestRunOneRow(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql("CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name ' || i AS name, '1' AS phone FROM range(1, 6) t(i)")
	w.config(accounts(`on_removed = "delete"`))
	one := func(code int, key string, more ...string) *engine.Run {
		t.Helper()
		return w.run(code, append([]string{"accounts", "--key", key}, more...)...)
	}
	if run := one(0, "A2"); run.Operations.Upsert != 1 || run.Outcomes.Created != 1 || run.Rows.Added != 1 || run.Key["k"] != "A2" {
		t.Errorf("a new row alone did %+v %+v %+v", run.Rows, run.Operations, run.Outcomes)
	}
	w.want(map[string]string{"A2": "Name 2|1"})
	if run := one(0, "A2"); run.Operations.Total() != 0 || run.Rows.Unchanged != 1 {
		t.Errorf("a row that is done did %+v", run.Operations)
	}
	if run := one(0, "A2", "--full"); run.Operations.Upsert != 1 {
		t.Errorf("--full did %+v", run.Operations)
	}
	if run := w.run(0, "accounts"); run.Operations.Upsert != 4 || run.Rows.Unchanged != 1 {
		t.Errorf("the whole run after it did %+v", run.Operations)
	}

	// A row that left goes alone, but not where the model is empty.
	w.sql("DELETE FROM accounts WHERE k IN ('A1', 'A2'); UPDATE accounts SET phone = '2'")
	if run := one(0, "A1"); run.Operations.Archive != 1 || run.Outcomes.Deleted != 1 {
		t.Errorf("a row that left did %+v", run.Operations)
	}
	w.want(map[string]string{"A2": "Name 2|1", "A3": "Name 3|1", "A4": "Name 4|1", "A5": "Name 5|1"})
	w.sql("CREATE TABLE kept AS FROM accounts; DELETE FROM accounts")
	if run := one(4, "A2"); run.Status != engine.Halted {
		t.Errorf("an empty model deletes: %+v", run)
	}
	w.sql("INSERT INTO accounts FROM kept")
	if run := one(0, "A3"); run.Operations.Upsert != 1 || run.Rows.Changed != 1 {
		t.Errorf("a halted row is in the way of another: %+v", run.Operations)
	}
	if run := w.run(0, "accounts"); run.Operations.Upsert != 2 || run.Operations.Archive != 1 {
		t.Errorf("the whole run did %+v", run.Operations)
	}
	w.want(map[string]string{"A3": "Name 3|2", "A4": "Name 4|2", "A5": "Name 5|2"})

	// A row that cannot be sent says why; an unknown one is a mistake.
	w.sql("INSERT INTO accounts VALUES ('A5', 'again', '3')")
	if run := one(3, "A5"); run.Rows.Rejected != 2 || len(run.Errors) != 1 || run.Errors[0].Code != "DUPLICATE_PRIMARY_KEY" {
		t.Errorf("a doubled row is %+v %+v", run.Rows, run.Errors)
	}
	for _, args := range []string{"accounts --key nobody", "accounts --key A1 --key A2", "--all --key A1", "accounts --key A1 --after-dbt x.json", "accounts --key A3 --dry-run --full"} {
		if r := w.coho(append([]string{"run"}, strings.Fields(args)...)...); r.code != 2 {
			t.Errorf("coho run %s: exit code %d, want 2\n%s", args, r.code, r.stderr)
		}
	}
	if r := w.coho("run", "accounts", "--key", "A3", "--dry-run"); r.code != 0 || !strings.Contains(r.stdout, "unchanged") {
		t.Errorf("--dry-run: %d %s", r.code, r.stdout)
	}
}

// TestRunOneRowMatchShared: rows of other keys with the row's match value decide
// whether it may be sent, and are not sent.
func TestRunOneRowMatchShared(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql("CREATE TABLE accounts AS SELECT * FROM (VALUES (1, 'A', 'one'), (2, 'B', 'two')) t(no, k, name)")
	w.config(strings.Replace(strings.Replace(accounts(`on_removed = "delete"`), `["k"]`, `["no"]`, 1), `Phone = "phone"`, "", 1))
	w.run(0, "accounts")
	// Row 3 takes the record of row 1 over, which therefore must not be deleted.
	w.sql("DELETE FROM accounts WHERE no = 1; INSERT INTO accounts VALUES (3, 'A', 'three')")
	if run := w.run(0, "accounts", "--key", "1"); run.Operations.Total() != 0 {
		t.Errorf("a record that another row has is %+v", run.Operations)
	}
	w.want(map[string]string{"A": "one|", "B": "two|"})
	// Row 4 shares row 2's record, which row 2 keeps.
	w.sql("INSERT INTO accounts VALUES (4, 'B', 'four'); UPDATE accounts SET name = 'second' WHERE no = 2")
	if run := w.run(3, "accounts", "--key", "4"); run.Rows.Rejected != 1 || run.Operations.Total() != 0 || run.Errors[0].Code != "DUPLICATE_MATCH_VALUE" {
		t.Errorf("a row whose record another has is %+v %+v", run.Rows, run.Errors)
	}
	w.want(map[string]string{"A": "one|", "B": "two|"})
	if run := w.run(0, "accounts", "--key", "2"); run.Operations.Upsert != 1 || run.Rows.Read != 1 {
		t.Errorf("the row that has the record did %+v", run.Operations)
	}
	if run := w.run(0, "accounts", "--key", "3"); run.Operations.Upsert != 1 {
		t.Errorf("the row that takes a record over did %+v", run.Operations)
	}
	w.want(map[string]string{"A": "three|", "B": "second|"})
	if run := w.run(3, "accounts"); run.Operations.Total() != 0 || run.Rows.Rejected != 1 {
		t.Errorf("the whole run after it did %+v", run.Operations)
	}
}

// TestRunOneRowBesidePlans: a plan that waits is neither replaced nor overtaken.
func TestRunOneRowBesidePlans(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql("CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name ' || i AS name, '1' AS phone FROM range(1, 6) t(i)")
	w.config(accounts("on_removed = \"delete\"\nguards = { max_deletes = 1 }"))
	w.run(0, "accounts")
	w.sql("DELETE FROM accounts WHERE k < 'A3'")
	halted := w.run(4, "accounts")
	w.sql("UPDATE accounts SET phone = '2'")
	if r := w.coho("run", "accounts", "--key", "A4"); r.code != 2 || !strings.Contains(r.stderr, halted.ID) || !strings.Contains(r.stderr, "--approve") {
		t.Errorf("a row beside a halted plan: %d %s", r.code, r.stderr)
	}
	w.want(map[string]string{"A1": "Name 1|1", "A2": "Name 2|1", "A3": "Name 3|1", "A4": "Name 4|1", "A5": "Name 5|1"})
	if run := w.run(0, "accounts", "--approve"); run.Operations.Archive != 2 || run.Operations.Upsert != 0 {
		t.Errorf("the kept plan did %+v", run.Operations)
	}
	if run := w.run(0, "accounts", "--key", "A4"); run.Operations.Upsert != 1 {
		t.Errorf("the row did %+v", run.Operations)
	}
}

// TestRunOneRowKilled: guarantee 1 for a row alone. Whatever call the process is
// killed at, the same command or a whole run then ends right.
func TestRunOneRowKilled(t *testing.T) {
	for n := int64(1); ; n++ {
		w := newWorld(t, emulator.Options{})
		w.sql("CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name ' || i AS name, '1' AS phone FROM range(1, 4) t(i)")
		w.config(strings.Replace(accounts("[syncs.accounts.write]\ningestion_api = \"rest\""), `"upsert"`, `"insert"`, 1))
		alive := w.killed(n, "run", "accounts", "--key", "A2")
		if n%2 == 0 {
			w.run(0, "accounts")
			w.want(map[string]string{"A1": "Name 1|1", "A2": "Name 2|1", "A3": "Name 3|1"})
		} else {
			w.run(0, "accounts", "--key", "A2")
			w.want(map[string]string{"A2": "Name 2|1"})
		}
		if alive {
			if n < 4 {
				t.Errorf("the command ended before call %d", n)
			}
			return
		}
	}
}

// TestRunOneRowKilledUpserting: guarantee 1 for a row alone that is upserted, new or
// changed, by each API. Whatever call the process is killed at, what it left is in no
// row's way: the same command, that of another row, or a whole run ends right.
func TestRunOneRowKilledUpserting(t *testing.T) {
	for name, write := range map[string]string{
		"rest":     `ingestion_api = "rest"`,
		"bulk 2.0": `ingestion_api = "bulk"`,
		"bulk 1.0": "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := int64(1); ; n++ {
				if n > 40 {
					t.Fatal("the command makes more than 40 calls")
				}
				w := newWorld(t, emulator.Options{Seed: n})
				w.sql("CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name ' || i AS name, '1' AS phone FROM range(1, 4) t(i)")
				w.config(accounts("[syncs.accounts.write]\n" + write))
				known := n%2 == 0 // a row that is known has changed
				want := map[string]string{"A2": "Name 2|2"}
				if known {
					w.run(0, "accounts")
					want["A1"], want["A3"] = "Name 1|1", "Name 3|1"
				}
				w.sql("UPDATE accounts SET phone = '2'")
				alive := w.killed(n, "run", "accounts", "--key", "A2")
				switch n % 3 {
				case 0: // the same again
					w.run(0, "accounts", "--key", "A2")
				case 1: // another row, before which the first one is finished
					w.run(0, "accounts", "--key", "A3")
					want["A3"] = "Name 3|2"
					w.run(0, "accounts", "--key", "A2")
				default:
					w.run(0, "accounts")
					want = map[string]string{"A1": "Name 1|2", "A2": "Name 2|2", "A3": "Name 3|2"}
				}
				w.want(want)
				if got := w.org.Org().Count("Account"); got != len(want) {
					t.Errorf("killed at call %d: the org has %d accounts, want %d", n, got, len(want))
				}
				writes := w.org.Counters().Writes
				if run := w.run(0, "accounts", "--key", "A2"); run.Operations.Total() != 0 || w.org.Counters().Writes != writes {
					t.Errorf("killed at call %d: the row is sent again: %+v", n, run.Operations)
				}
				if t.Failed() {
					t.Fatalf("killed at call %d", n)
				}
				if alive {
					if n < 5 {
						t.Errorf("the command ended before call %d", n)
					}
					return
				}
			}
		})
	}
}

// TestRunOneRowBesideUnfinished: a whole run that died is finished before a row of it
// can go alone, which is said with the command that does so.
func TestRunOneRowBesideUnfinished(t *testing.T) {
	for name, write := range map[string]string{"rest": `ingestion_api = "rest"`, "bulk": `ingestion_api = "bulk"`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unfinished := 0
			for n := int64(1); ; n++ {
				w := newWorld(t, emulator.Options{Seed: n})
				w.sql("CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name ' || i AS name, '1' AS phone FROM range(1, 4) t(i)")
				w.config(accounts("[syncs.accounts.write]\n" + write))
				if w.killedAtCall(n) {
					break
				}
				r := w.coho("run", "accounts", "--key", "A2")
				if r.code == 0 { // it died before it had a plan
					w.want(map[string]string{"A2": "Name 2|1"})
					continue
				}
				unfinished++
				if r.code != 2 || !strings.Contains(r.stderr, "left its plan unfinished; `coho run accounts` finishes it, after which a row can be sent alone") || strings.Count(strings.TrimSpace(r.stderr), "\n") != 0 {
					t.Fatalf("killed at call %d: %d %s", n, r.code, r.stderr)
				}
				w.run(0, "accounts")
				w.want(map[string]string{"A1": "Name 1|1", "A2": "Name 2|1", "A3": "Name 3|1"})
				if run := w.run(0, "accounts", "--key", "A2"); run.Operations.Total() != 0 {
					t.Errorf("killed at call %d: the row is sent again: %+v", n, run.Operations)
				}
			}
			if unfinished == 0 {
				t.Error("no run died with a plan")
			}
		})
	}
}
