package salesforce

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
)

func eventSync() *models.Sync {
	return &models.Sync{
		Name: "orders", Object: "Order_Placed__e", Mode: models.ModeInsert, OnRemoved: models.RemovedNothing, Pos: "coho.toml:1:1",
		Model: models.Model{PrimaryKey: []string{"key"}}, Fields: []models.Field{{Name: "Order_Number__c", Column: "key"}},
		Write: models.Write{RESTBatchSize: 200, Parallelism: 4, MaxAttempts: 5},
	}
}

// TestHourlyLeave: leave to publish is given out until the hour is full, by the
// org's word less what was given since; that word is asked for again when it is old.
func TestHourlyLeave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(file, []byte("[limits]\nhourly_platform_events = 100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, emulator.Options{OrgFile: file})
	target := w.open(eventSync())
	now := time.Now()
	target.hourly.now = func() time.Time { return now }
	take := func(want, get int) {
		t.Helper()
		n, err := target.hourly.take(t.Context(), target, want)
		var used *destinations.BudgetError
		if n != get || (get == 0) != errors.As(err, &used) || get > 0 && err != nil {
			t.Errorf("%d of %d, want %d (%v)", n, want, get, err)
		}
	}
	take(70, 70)
	take(70, 30)
	take(1, 0)
	now = now.Add(hourlyFresh - time.Second)
	take(1, 0)
	if n := w.org.Counters().Calls["limits"]; n != 1 {
		t.Errorf("the limits were read %d times", n)
	}
	now = now.Add(time.Second)
	take(70, 70) // the org has counted none of those
	if err := target.hourly.refusedByLimit("no"); !errors.As(err, new(*destinations.BudgetError)) {
		t.Errorf("%v", err)
	}
	take(1, 0)

	now = now.Add(hourlyFresh)
	w.org.AddFault(emulator.Fault{Match: "limits", Status: 403, Code: "FUNCTIONALITY_NOT_ENABLED"})
	take(1000, 1000) // what is not told is not watched
	if err := target.hourly.refusedByLimit("no"); !errors.As(err, new(*destinations.BudgetError)) {
		t.Errorf("%v", err)
	}
	now = now.Add(hourlyFresh)
	w.org.AddFault(emulator.Fault{Match: "limits", Status: 400, Code: "MALFORMED_QUERY"})
	if n, err := target.hourly.take(t.Context(), target, 1); n != 0 || err == nil {
		t.Errorf("%d (%v)", n, err)
	}
}
