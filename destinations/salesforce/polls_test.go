package salesforce

import (
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// A job that the org does not get round to is asked for ever more rarely, up to
// the cap, and by one call for all batches of Bulk API 1.0.
func TestPollsBackOff(t *testing.T) {
	for _, ingestion := range []string{"bulk", "bulk 1.0"} {
		t.Run(ingestion, func(t *testing.T) {
			t.Parallel()
			const polls = 20
			w := newWorld(t, emulator.Options{})
			w.org.HoldBulk(true)
			s := accountSync(models.ModeUpsert, ingestion)
			s.Write.SortBatchesBy, s.Write.Parallelism = "none", 6
			if ingestion == "bulk 1.0" {
				s.Write.BulkBatchSize = 10 // six batches, of which one call tells all
			}
			target, l := w.open(s), w.ledger(many(planner.Upsert, 60))
			var mu sync.Mutex
			var times []time.Time
			w.org.OnCall(func(kind string) {
				if !strings.HasSuffix(kind, ".status") {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if times = append(times, time.Now()); len(times) == polls {
					w.org.HoldBulk(false)
				}
			})
			w.mustApply(target, l)
			w.org.OnCall(nil)
			w.once(60)
			// The world's first pause is 5 ms and its cap 20; each pause is half
			// as long again as the one before.
			least, pause := time.Duration(0), 5*time.Millisecond
			for range polls - 2 {
				pause = min(20*time.Millisecond, pause*3/2)
				least += pause
			}
			took := times[polls-1].Sub(times[0])
			if took < least*9/10 {
				t.Errorf("%d polls in %v, want pauses of %v in all", polls, took, least)
			}
			if took > 10*time.Second { // 16 s without a cap
				t.Errorf("%d polls took %v: the pause has no cap", polls, took)
			}
			if n := len(times); n > polls+8 {
				t.Errorf("%d polls after the org began to work", n-polls)
			}
		})
	}
}
