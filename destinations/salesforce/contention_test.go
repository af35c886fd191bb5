package salesforce

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// contention is what writing rows cost an org that locks their parents.
type contention struct {
	api, by        string
	took           time.Duration
	calls          int64
	locks, retries int64 // refusals for a lock; rows sent again
	failed         int64
}

// skewed is the parent of a row: every second row has the same one, the others
// are spread over sixty.
func skewed(row int) string {
	if row%2 == 0 {
		return "acct-1000000"
	}
	return fmt.Sprintf("acct-%d", 1_000_001+row/2*7919%60)
}

// contend writes rows with skewed parents to an org of its own, in which a row's
// parent is locked while its batch is worked on.
func contend(t testing.TB, ingestion, by string, rows int) contention {
	t.Helper()
	f := newFarOrg(t, emulator.Options{Locks: true, LockWait: 10 * time.Millisecond, ProcessingDelay: 20 * time.Millisecond},
		Options{RetryPause: 10 * time.Millisecond, Poll: api.Poll{Start: 10 * time.Millisecond}})
	s := accountSync(models.ModeUpsert, ingestion)
	f.apply(s, &made{rows: 61})
	s.Write.SortBatchesBy, s.Write.Parallelism, s.Write.MaxAttempts = by, 8, 12
	s.Write.RESTBatchSize, s.Write.BulkBatchSize = 100, min(10_000, rows/20)
	before := f.dest.Reading()
	p := &made{rows: rows, first: 61, parent: skewed}
	begun := time.Now()
	usage := f.apply(s, p)
	now := f.dest.Reading()
	if got := f.counters().Records.UpsertCreated; int64(got) != 61+int64(rows)-p.failed.Load() {
		t.Errorf("%s, %s: %d records were created for %d rows", ingestion, by, got, rows)
	}
	return contention{ingestion, by, time.Since(begun), usage.Calls, now.Locks - before.Locks, now.Retries - before.Retries, p.failed.Load()}
}

// sideBySide writes the same rows with and without lanes, by the APIs whose
// batches coho makes, and prints what each cost.
func sideBySide(t testing.TB, rows int) (all []contention) {
	t.Helper()
	var table strings.Builder
	fmt.Fprintf(&table, "\n%d rows, half of them of one parent\n%-9s %-16s %9s %9s %12s %13s %7s\n", rows, "api", "sort_batches_by", "time", "API calls", "lock errors", "rows retried", "failed")
	for _, ingestion := range []string{"rest", "bulk 1.0"} {
		for _, by := range []string{"auto", "none"} {
			c := contend(t, ingestion, by, rows)
			fmt.Fprintf(&table, "%-9s %-16s %8.2fs %9d %12d %13d %7d\n", c.api, c.by, c.took.Seconds(), c.calls, c.locks, c.retries, c.failed)
			all = append(all, c)
		}
	}
	t.Log(table.String())
	return all
}

// Rows kept apart by their parents meet no lock, and the same rows that are not
// meet some: with a parent that half the rows share.
func TestAutoAgainstNone(t *testing.T) {
	for _, c := range sideBySide(t, benchRows(t, 1_500)) {
		switch {
		case c.by == "auto" && (c.locks != 0 || c.retries != 0 || c.failed != 0):
			t.Errorf("%s: %d locks, %d rows retried, %d failed although rows were kept apart", c.api, c.locks, c.retries, c.failed)
		case c.by == "none" && (c.locks == 0 || c.retries == 0):
			t.Errorf("%s: no lock was met, so that the others met none shows nothing", c.api)
		}
	}
}

// The Meter tells of locks, retries and the bound, and of a run's end.
func TestReading(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	var meter destinations.Meter = w.dest
	if r := meter.Reading(); r.Parallelism != 0 || r.InFlight != 0 {
		t.Fatalf("before the first run: %+v", r)
	}
	w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", Times: 3})
	during := 0
	s := accountSync(models.ModeUpsert, "rest")
	target, l := w.open(s), w.ledger(many(planner.Upsert, 10))
	l.onBegin = func(destinations.Batch) { during = max(during, meter.Reading().InFlight) }
	w.mustApply(target, l)
	r := meter.Reading()
	if r.Parallelism != 2 || r.InFlight != 0 || during != 1 || r.Locks != 3 || r.Retries != 3 || r.Calls < 2 || r.Remaining <= 0 {
		t.Fatalf("%+v, %d in flight at most", r, during)
	}
}
