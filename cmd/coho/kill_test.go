package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

// rounds is how often the random tests go round: a few every day, many where
// COHO_SOAK is set (make soak).
func rounds(few int) int {
	if os.Getenv("COHO_SOAK") != "" {
		return few * 100
	}
	return few
}

// killedAtCall runs the accounts sync in a process that is killed; see killed.
func (w *world) killedAtCall(n int64) (alive bool) {
	w.t.Helper()
	return w.killed(n, "run", "accounts", "--json")
}

// killed runs a command in a process that is killed when the org gets its n-th
// call, before the call is worked on. alive says that it ended before that. When it
// returns, the org has worked on all that the process sent before it died.
func (w *world) killed(n int64, args ...string) (alive bool) {
	w.t.Helper()
	cmd := w.child(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	gone := w.org.Callers()
	var calls atomic.Int64
	started := make(chan struct{})
	w.org.OnCall(func(string) {
		if calls.Add(1) == n {
			<-started
			// The process may have ended by itself only in a defect.
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				w.t.Error(err)
			}
		}
	})
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	close(started)
	err := cmd.Wait()
	w.org.OnCall(nil)
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := gone(ctx); err != nil {
		w.t.Fatal(err)
	}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != -1) {
		w.t.Fatalf("killed at call %d: %v\n%s", n, err, out.String())
	}
	return err == nil
}

// keyMatch is the match of the accounts config.
const keyMatch = `match = { field = "Warehouse_Key__c", column = "k" }`

// TestKilledAtEveryCall: guarantee 1. The process is killed at the first call,
// then, in a new world, at the second, and so on until a run lives; after each
// kill one more run makes the org equal to the model. Without COHO_SOAK it is every
// second call, the odd ones or the even ones.
func TestKilledAtEveryCall(t *testing.T) {
	const bulk1 = "bulk\"\nbulk_api_version = \"1.0"
	first, step := 1+rand.Int64N(2), int64(2)
	if os.Getenv("COHO_SOAK") != "" {
		first, step = 1, 1
	}
	t.Logf("calls %d, %d, ...", first, first+step)
	for name, c := range map[string]struct{ mode, api, match string }{
		"upsert/rest":                    {"upsert", "rest", keyMatch},
		"upsert/bulk":                    {"upsert", "bulk", keyMatch},
		"upsert/bulk 1.0":                {"upsert", bulk1, keyMatch},
		"insert/rest":                    {"insert", "rest", keyMatch},
		"insert/bulk":                    {"insert", "bulk", keyMatch},
		"insert/without a key":           {"insert", "bulk", ""},
		"insert/without a key 1.0":       {"insert", bulk1, ""},
		"insert/without a key automatic": {"insert", "automatic", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			for n := first; ; n += step {
				if n > 200 {
					t.Fatal("the run makes more than 200 calls")
				}
				w := newWorld(t, emulator.Options{Seed: n})
				w.config(strings.Replace(accounts("[syncs.accounts.write]\ningestion_api = \""+c.api+"\"\nrest_batch_size = 20\nbulk_batch_size = 25"), `mode = "upsert"
`+keyMatch, `mode = "`+c.mode+`"
`+c.match, 1))
				w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::VARCHAR AS phone FROM range(60) t(i)`)
				if w.killedAtCall(n) {
					if n < 6 {
						t.Errorf("the run made only %d calls", n-1)
					}
					return
				}
				w.run(exitDone, "accounts")
				want := map[string]string{}
				for i := range 60 {
					want[fmt.Sprintf("A%d", i)] = fmt.Sprintf("n%d|%d", i, i)
				}
				if c.match != "" {
					w.want(want)
				}
				names := map[string]bool{}
				for _, r := range w.org.Org().Records("Account") {
					names[field(r, "Name")+"|"+field(r, "Phone")] = true
				}
				for _, v := range want {
					if !names[v] {
						t.Errorf("killed at call %d: %s is not in the org", n, v)
					}
				}
				if got := w.org.Org().Count("Account"); got != 60 {
					t.Errorf("killed at call %d: the org has %d accounts, want 60", n, got)
				}
				writes := w.org.Counters().Writes
				w.run(exitDone, "accounts")
				if more := w.org.Counters().Writes - writes; more != 0 {
					t.Errorf("killed at call %d: a run without changes made %d writes", n, more)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestRandomLife: guarantees 1 to 5 together. Random edits over many runs,
// rows and requests failing at random, the process killed at random moments;
// after the last clean run the org equals the model, nothing is doubled, and a
// run without changes sends no write.
func TestRandomLife(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("COHO_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for round := range rounds(2) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			t.Logf("COHO_SEED=%d", seed+uint64(round))
			randomLife(t, rand.New(rand.NewPCG(seed+uint64(round), 1)))
		})
	}
}

func randomLife(t *testing.T, rng *rand.Rand) {
	api, version := []string{"rest", "bulk", "automatic"}[rng.IntN(3)], []string{"2.0", "1.0"}[rng.IntN(2)]
	w := newWorld(t, emulator.Options{Seed: rng.Int64()})
	w.config(accounts(fmt.Sprintf("on_removed = \"delete\"\n[syncs.accounts.write]\ningestion_api = %q\nbulk_api_version = %q\nrest_batch_size = %d\nbulk_batch_size = %d\nparallelism = %d\n[syncs.accounts.guards]\nmax_deletes = 1000000", api, version, 3+rng.IntN(20), 10+rng.IntN(40), 1+rng.IntN(6))) +
		"ParentId = { lookup = { object = \"Account\", field = \"Warehouse_Key__c\", column = \"parent\" } }\n")
	w.sql(`CREATE TABLE accounts (k VARCHAR, name VARCHAR, phone VARCHAR, parent VARCHAR)`)
	model := map[string]string{}
	next := 0
	edit := func() {
		var stmts strings.Builder
		for range 1 + rng.IntN(40) {
			phone, text := "NULL", ""
			if rng.IntN(3) > 0 {
				text = strconv.Itoa(rng.IntN(1000))
				phone = "'" + text + "'"
			}
			key := "A" + strconv.Itoa(rng.IntN(next+1))
			switch rng.IntN(5) {
			case 0, 1:
				key = "A" + strconv.Itoa(next)
				next++
				name := "n" + strconv.Itoa(rng.IntN(100))
				parent := "NULL"
				if rng.IntN(3) == 0 {
					for k := range model {
						parent = "'" + k + "'"
						break
					}
				}
				fmt.Fprintf(&stmts, "INSERT INTO accounts VALUES ('%s', '%s', %s, %s);\n", key, name, phone, parent)
				model[key] = name + "|" + text
			case 2:
				if _, ok := model[key]; ok {
					fmt.Fprintf(&stmts, "DELETE FROM accounts WHERE k = '%s'; UPDATE accounts SET parent = NULL WHERE parent = '%s';\n", key, key)
					delete(model, key)
				}
			default:
				if v, ok := model[key]; ok {
					fmt.Fprintf(&stmts, "UPDATE accounts SET phone = %s WHERE k = '%s';\n", phone, key)
					model[key] = v[:strings.IndexByte(v, '|')+1] + text
				}
			}
		}
		if stmts.Len() > 0 { // every edit may have met a row that is gone
			w.sql(stmts.String())
		}
	}
	for range 6 {
		edit()
		switch rng.IntN(4) {
		case 0:
			w.org.AddFault(emulator.Fault{Match: "collections", Times: 3, RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "unable to obtain exclusive access to this record", RowShare: 0.3})
		case 1:
			w.org.AddFault(emulator.Fault{Match: "collections", Times: 2, After: rng.IntN(3), CutAfter: true})
			w.org.AddFault(emulator.Fault{Match: "bulk.upload", Times: 1, CutAfter: true})
		case 2:
			w.org.AddFault(emulator.Fault{Match: "bulk.close", Times: 1, CutAfter: true})
			w.org.AddFault(emulator.Fault{Match: "query", Times: 1, Status: 503, Code: "SERVER_UNAVAILABLE", Message: "busy"})
		}
		if rng.IntN(2) == 0 {
			cmd := w.child("run", "accounts", "--json")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// A random moment, not an event to wait for.
			timer := time.AfterFunc(time.Duration(50+rng.IntN(900))*time.Millisecond, func() {
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Error(err)
				}
			})
			err := cmd.Wait()
			timer.Stop()
			t.Logf("a process was killed or ended: %v", err)
		} else {
			r := w.coho("run", "accounts", "--json")
			t.Logf("a run ended with exit code %d", r.code)
		}
		w.org.ClearFaults()
	}
	w.run(exitDone, "accounts")
	w.want(model)
	if got := w.org.Org().Count("Account"); got != len(model) {
		t.Errorf("the org has %d accounts, want %d", got, len(model))
	}
	writes := w.org.Counters().Writes
	w.run(exitDone, "accounts")
	if more := w.org.Counters().Writes - writes; more != 0 {
		t.Errorf("a run without changes made %d writes", more)
	}
}
