package salesforce

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// fullJournal is a ledger on a disk that fills up: after so many writes none
// succeeds.
type fullJournal struct {
	*ledger
	room atomic.Int64
}

var errFull = errors.New("no space left on device")

func (j *fullJournal) Begin(ctx context.Context, b destinations.Batch) (uint64, error) {
	if j.room.Add(-1) < 0 {
		return 0, errFull
	}
	return j.ledger.Begin(ctx, b)
}

func (j *fullJournal) Update(ctx context.Context, b destinations.Batch) error {
	if j.room.Add(-1) < 0 {
		return errFull
	}
	return j.ledger.Update(ctx, b)
}

func (j *fullJournal) Settle(ctx context.Context, n uint64, ops []*planner.Operation, outcomes []destinations.Outcome, last bool) error {
	if j.room.Add(-1) < 0 {
		return errFull
	}
	return j.ledger.Settle(ctx, n, ops, outcomes, last)
}

// The disk fills up while batches and jobs are in flight, at whatever write of the
// journal: the run ends saying so, nothing that was not recorded is sent, and once
// there is room again each record is in the org once.
func TestDiskFillsUpUnderWay(t *testing.T) {
	for name, c := range map[string]struct {
		sync *models.Sync
		kind planner.Kind
	}{
		"rest/insert":          {accountSync(models.ModeInsert, "rest"), planner.Insert},
		"rest/upsert":          {accountSync(models.ModeUpsert, "rest"), planner.Upsert},
		"bulk 2.0/insert":      {accountSync(models.ModeInsert, "bulk"), planner.Insert},
		"bulk 2.0/upsert":      {accountSync(models.ModeUpsert, "bulk"), planner.Upsert},
		"bulk 1.0/insert":      {accountSync(models.ModeInsert, "bulk 1.0"), planner.Insert},
		"bulk 1.0/upsert":      {accountSync(models.ModeUpsert, "bulk 1.0"), planner.Upsert},
		"bulk 1.0/without key": {keyless(), planner.Insert},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := false
			for room := 0; room < 40 && !ended; room++ {
				const n = 150
				w := newWorld(t, emulator.Options{})
				c.sync.Write.RESTBatchSize, c.sync.Write.BulkBatchSize = 40, 40
				// Some rows need a second try, by which more is journalled.
				w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", RowTries: 1, Times: 10})
				l := w.ledger(many(c.kind, n))
				target := w.open(c.sync)
				j := &fullJournal{ledger: l}
				j.room.Store(int64(room))
				err := target.Apply(t.Context(), destinations.Application{Plan: l, Journal: j})
				if ended = err == nil; !ended && !errors.Is(err, errFull) {
					t.Fatalf("room for %d writes: got %v", room, err)
				}
				w.mustApply(w.open(c.sync), l)
				if got := l.counts(); got[destinations.Created]+got[destinations.Updated] != n || got[destinations.Updated] > 0 && c.kind == planner.Insert {
					t.Fatalf("room for %d writes: outcomes are %v", room, got)
				}
				names := map[string]bool{}
				for _, r := range w.org.Org().Records("Account") {
					names[fmt.Sprint(r["Name"])] = true
				}
				if all := w.org.Org().Count("Account"); all != n || len(names) != n {
					t.Fatalf("room for %d writes: %d records, %d of them different", room, all, len(names))
				}
			}
			if !ended {
				t.Error("a run takes more writes than were tried")
			}
		})
	}
}
