package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"coho/engine"
	"coho/engine/server"
)

// accountsFrom fills the accounts' file with the accounts from one up to twenty.
func (w *world) accountsFrom(from int) {
	var text strings.Builder
	text.WriteString("k,name\n")
	for i := from; i < 20; i++ {
		fmt.Fprintf(&text, "A%d,n%d\n", i, i)
	}
	w.write("accounts.csv", text.String())
}

// TestApprovedRunIsKilled: a daemon that is killed while it applies a plan that was
// approved goes on with that plan at its next start, and approves nothing that was
// planned after it.
func TestApprovedRunIsKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		sig     syscall.Signal
		approve func(ctx context.Context, d *server.Client, halted string) error
	}{
		{"by the run, killed", syscall.SIGKILL, func(ctx context.Context, d *server.Client, halted string) error {
			_, err := d.Approve(ctx, halted, server.ApproveRequest{By: "ada@host"})
			return err
		}},
		{"by the run, stopped", syscall.SIGTERM, func(ctx context.Context, d *server.Client, halted string) error {
			_, err := d.Approve(ctx, halted, server.ApproveRequest{})
			return err
		}},
		{"by the sync, killed", syscall.SIGKILL, func(ctx context.Context, d *server.Client, _ string) error {
			_, err := d.Start(ctx, server.StartRequest{Syncs: []string{"accounts"}, Approve: true})
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newBeside(t)
			w.accountsFrom(0)
			w.run(exitDone, "accounts")
			w.accountsFrom(8)
			s := w.serve()
			halted := w.run(exitHalted, "accounts")
			d, err := server.Dial(t.Context(), w.dir+"/.coho")
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			wait := w.endAt(s, 2, c.sig)
			if err := c.approve(t.Context(), d, halted.ID); err != nil {
				t.Fatal(err)
			}
			wait()
			if n := w.org.Org().Count("Account"); n == 20 || n == 12 {
				t.Fatalf("the org has %d accounts: it was not stopped in the middle", n)
			}
			w.accountsFrom(14) // six more leave: nobody has seen that
			s = w.serve()
			s.await("run ended", "halted")
			s.stop()
			if n := w.org.Org().Count("Account"); n != 12 {
				t.Errorf("the org has %d accounts, want 12", n)
			}
			runs := w.runsOf("accounts")
			if last := runs[len(runs)-1]; last.Status != engine.Halted || last.Resumed != halted.ID {
				t.Errorf("%+v", last)
			}
			// And that one is approved in its turn, by its own name.
			s = w.serve()
			if r := w.coho("run", "accounts", "--approve"); r.code != exitDone {
				t.Errorf("%d %s", r.code, r.stderr)
			}
			s.stop()
			if n := w.org.Org().Count("Account"); n != 6 {
				t.Errorf("the org has %d accounts, want 6", n)
			}
		})
	}
}

// TestApprovingCommandIsKilled: `coho run --approve` without a daemon is killed at
// call after call. What it approved is finished by the next run, which approves
// nothing itself; no record is deleted that was not in the plan that was seen, none
// is deleted twice.
func TestApprovingCommandIsKilled(t *testing.T) {
	t.Parallel()
	before, within := 0, 0
	for n := int64(1); ; n++ {
		w := newBeside(t)
		w.accountsFrom(0)
		w.run(exitDone, "accounts")
		w.accountsFrom(8)
		seen := w.run(exitHalted, "accounts")
		if w.killed(n, "run", "accounts", "--approve") {
			if n < 4 || before == 0 || within < 3 {
				t.Errorf("killed at %d calls, %d of them after the plan was approved", n-1, within)
			}
			return
		}
		w.accountsFrom(14) // six more leave: nobody has seen that
		next := w.run(exitHalted, "accounts")
		switch left := w.org.Org().Count("Account"); {
		case left == 20: // it was killed before the approval was noted
			before++
			if next.Resumed != "" {
				t.Errorf("call %d: nothing was deleted, and %+v", n, next)
			}
		case left == 12:
			within++
			if next.Resumed != seen.ID || next.Outcomes.Deleted > 8 {
				t.Errorf("call %d: %+v", n, next)
			}
		default:
			t.Errorf("call %d: the org has %d accounts", n, left)
		}
		w.run(exitDone, "accounts", "--approve")
		if left, deleted := w.org.Org().Count("Account"), w.org.Counters().Records.Deleted; left != 6 || deleted != 14 {
			t.Errorf("call %d: the org has %d accounts and deleted %d", n, left, deleted)
		}
	}
}
