package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// TestSignalStopsCleanly: the first signal lets batches in flight finish and
// be committed; the rest stays planned, and the next run goes on with it.
func TestSignalStopsCleanly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sig  syscall.Signal
		code int
		api  string
	}{{syscall.SIGINT, exitInt, "rest"}, {syscall.SIGTERM, exitTerm, "rest"}, {syscall.SIGINT, exitInt, "bulk"}} {
		t.Run(c.sig.String()+"/"+c.api, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(accounts("[syncs.accounts.write]\ningestion_api = \"" + c.api + "\"\nrest_batch_size = 10\nbulk_batch_size = 20\nparallelism = 1"))
			w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::VARCHAR AS phone FROM range(200) t(i)`)
			cmd := w.child("run", "accounts", "--json")
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			var writes atomic.Int64
			started := make(chan struct{})
			w.org.OnCall(func(kind string) {
				if (strings.HasPrefix(kind, "collections") || kind == "bulk.close") && writes.Add(1) == 3 {
					<-started
					if err := cmd.Process.Signal(c.sig); err != nil {
						t.Error(err)
					}
				}
			})
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			close(started)
			err := cmd.Wait()
			w.org.OnCall(nil)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Fatalf("want exit code %d, got %v\n%s%s", c.code, err, out.String(), errs.String())
			}
			run := decodeRun(t, out.String())
			landed := w.org.Org().Count("Account")
			if run.Status != engine.Canceled || landed == 0 || landed == 200 || run.Outcomes.Created != int64(landed) {
				t.Errorf("%s with %+v; %d landed", run.Status, run.Outcomes, landed)
			}
			// The warehouse is not asked for what was planned.
			if err := os.Rename(w.dir+"/warehouse.duckdb", w.dir+"/away"); err != nil {
				t.Fatal(err)
			}
			w.run(exitFailed, "accounts")
			if n := w.org.Org().Count("Account"); n != 200 {
				t.Errorf("after going on the org has %d accounts, want 200", n)
			}
			if err := os.Rename(w.dir+"/away", w.dir+"/warehouse.duckdb"); err != nil {
				t.Fatal(err)
			}
			if r := w.run(exitDone, "accounts"); r.Operations.Total() != 0 {
				t.Errorf("the last run had %+v to do", r.Operations)
			}
			want := map[string]string{}
			for i := range 200 {
				want[fmt.Sprintf("A%d", i)] = fmt.Sprintf("n%d|%d", i, i)
			}
			w.want(want)
		})
	}
}

// TestRunsNeverOverlap: guarantee 9, between processes.
func TestRunsNeverOverlap(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	cmd := w.child("run", "accounts", "--json")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	working, release := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	w.org.OnCall(func(kind string) {
		if strings.HasPrefix(kind, "collections") && once.CompareAndSwap(false, true) {
			close(working)
			<-release
		}
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-working
	second := w.coho("run", "accounts", "--json")
	// What only reads the history works meanwhile.
	status := w.coho("status", "--json")
	close(release)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	w.org.OnCall(nil)
	if second.code != exitLocked || !strings.Contains(second.stderr, fmt.Sprint(cmd.Process.Pid)) || second.stdout != "" {
		t.Errorf("the second run: exit code %d: %s%s", second.code, second.stdout, second.stderr)
	}
	if status.code != 0 || !strings.Contains(status.stdout, `"status":"running"`) {
		t.Errorf("status: %d %s", status.code, status.stdout)
	}
	w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
}
