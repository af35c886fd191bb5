package salesforce

import (
	"context"
	"sync"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
)

// Somebody aborts a job while the org has some of its rows in hand: those are
// written all the same, after the job is said to be over.
func TestAbortedUnderWay(t *testing.T) {
	for _, mode := range []models.Mode{models.ModeInsert, models.ModeUpsert} {
		t.Run(string(mode), func(t *testing.T) {
			const n = 1000
			w := newWorld(t, emulator.Options{ProcessingDelay: 100 * time.Millisecond}) // of five transactions
			target := w.open(accountSync(mode, "bulk"))
			l := w.ledger(many(kinds[mode], n))
			var once sync.Once
			w.org.OnCall(func(kind string) {
				if kind == "bulk.status" {
					once.Do(func() {
						if _, err := w.dest.client.AbortJob(t.Context(), l.handle()); err != nil {
							t.Error(err)
						}
					})
				}
			})
			w.mustApply(target, l)
			l.want(destinations.Failed, 0)
			w.once(n)
			if c := w.org.Counters().Records; c.Inserted > n || c.Inserted+c.UpsertCreated != n {
				t.Fatalf("%+v", c)
			}
		})
	}
}

// handle is that of the open batch.
func (l *ledger) handle() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.open {
		return b.Handle
	}
	return ""
}

// Closing a job seems to have failed, and the org is at work on it: it is not
// aborted, which would leave rows in it and send them again, but waited for.
func TestCloseThatSeemedToFail(t *testing.T) {
	for _, mode := range []models.Mode{models.ModeInsert, models.ModeUpsert} {
		t.Run(string(mode), func(t *testing.T) {
			const n = 1000
			w := newWorld(t, emulator.Options{ProcessingDelay: 500 * time.Millisecond})
			target := w.open(accountSync(mode, "bulk"))
			l := w.ledger(many(kinds[mode], n))
			w.org.AddFault(emulator.Fault{Match: "bulk.close", CutAfter: true})
			w.org.AddFault(emulator.Fault{Match: "bulk.close", Status: 400, Code: "SOMETHING_ELSE"})
			w.org.AddFault(emulator.Fault{Match: "bulk.status", Status: 400, Code: "SOMETHING_ELSE"})
			w.mustApply(target, l)
			w.once(n)
			if c := w.org.Counters(); c.JobsCreated != 1 || c.Records.RowAttempts != n {
				t.Fatalf("%d jobs, %d rows tried", c.JobsCreated, c.Records.RowAttempts)
			}
		})
	}
}

// The plan's own lists of results may name a row twice: the run says so, and the
// next one finds out from the org what it holds.
func TestResultsNamedTwice(t *testing.T) {
	for mode, kind := range kinds {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			left := w.seed(mode, 300)
			s := accountSync(mode, "bulk")
			l := w.ledger(many(kind, 300))
			w.org.AddFault(emulator.Fault{RepeatResults: 0.1})
			if err := w.apply(w.open(s), l); err == nil {
				t.Fatal("nobody noticed")
			} else {
				contains(t, err.Error(), "twice")
			}
			if len(l.outcomes) != 0 {
				t.Fatalf("%d outcomes", len(l.outcomes))
			}
			w.mustApply(w.open(s), l)
			w.once(left)
			l.want(destinations.Failed, 0)
		})
	}
}

// A run that inserts what nothing tells apart dies, and nobody runs coho again
// before the org has forgotten the job: the rows are held for a person, all else
// lands, and what the person says of them is done.
func TestForgottenInserts(t *testing.T) {
	for _, test := range []struct {
		decision string
		records  int // of 90, where 30 had been sent and landed
	}{{"accept", 90}, {"resend", 120}} {
		t.Run(test.decision, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			s := keyless()
			s.Write.BulkBatchSize, s.Write.Parallelism = 30, 1
			l := w.ledger(alike(90))
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			w.org.OnCall(func(kind string) {
				if kind == "bulk1.status" {
					kill()
				}
			})
			if err := w.open(s).Apply(ctx, destinations.Application{Plan: l, Journal: l}); err == nil {
				t.Fatal("the run came to its end")
			}
			w.org.OnCall(nil)
			if n := w.org.Org().Count("Account"); n != 30 || len(l.outcomes) != 0 {
				t.Fatalf("%d records, %d outcomes", n, len(l.outcomes))
			}
			w.org.Org().AdvanceTime(8 * 24 * time.Hour)
			for range 2 { // it stays so until somebody decides
				err := w.apply(w.open(s), l)
				if err == nil {
					t.Fatal("nothing was said")
				}
				for _, part := range []string{"30 of the inserts into Account", "on_unknown", "[syncs.accounts.write]"} {
					contains(t, err.Error(), part)
				}
				if n := w.org.Org().Count("Account"); n != 90 || len(l.outcomes) != 60 {
					t.Fatalf("%d records, %d outcomes", n, len(l.outcomes))
				}
			}
			s.Write.OnUnknown = test.decision
			w.mustApply(w.open(s), l)
			if n := w.org.Org().Count("Account"); n != test.records {
				t.Fatalf("%d records, want %d", n, test.records)
			}
			l.want(destinations.Created, 90)
			if len(l.open) != 0 {
				t.Fatalf("open batches: %v", l.open)
			}
		})
	}
}
