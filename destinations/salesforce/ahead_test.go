package salesforce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
)

// A book gives back what it was given, whatever its size, and says where a key is
// on more than one record.
func TestRecordBook(t *testing.T) {
	book, err := newRecordBook(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer book.discard()
	long := strings.Repeat("lang ", 30_000)
	const n = 3000
	for i := range n {
		keys := []string{fmt.Sprint("i", i), fmt.Sprint("m", i)}
		switch i % 100 {
		case 98, 99:
			keys[1] = fmt.Sprint("m twins ", i/100)
		}
		values := []string{fmt.Sprint(i), "", "ß", ""}
		if i%500 == 0 {
			values[3] = long
		}
		if err := book.add(keys, values); err != nil {
			t.Fatal(err)
		}
	}
	if err := book.seal(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := range n {
				values, found, err := book.find(fmt.Sprint("i", i))
				if err != nil || found != 1 || len(values) != 4 || values[0] != fmt.Sprint(i) || values[1] != "" || values[2] != "ß" || (values[3] == long) != (i%500 == 0) {
					t.Errorf("record %d: %d, %d values, %v", i, found, len(values), err)
					return
				}
				want := 1
				if i%100 >= 98 {
					want = 0
				}
				if _, found, err = book.find(fmt.Sprint("m", i)); found != want || err != nil {
					t.Errorf("record %d by its other key: %d, %v", i, found, err)
				}
			}
			if _, found, err := book.find("m twins 7"); found != 2 || err != nil {
				t.Errorf("a key of two records: %d, %v", found, err)
			}
			if _, found, err := book.find("nix"); found != 0 || err != nil {
				t.Errorf("a key of no record: %d, %v", found, err)
			}
		})
	}
	readers.Wait()
	if err := errors.Join(book.discard(), book.discard()); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyRecordBook(t *testing.T) {
	book, err := newRecordBook(t.TempDir())
	if err == nil {
		err = book.seal()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := book.find("a"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := book.discard(); err != nil {
		t.Fatal(err)
	}
}

// Very many rows are compared with what one query job reads, by match value and by
// Id; where that job comes to nothing, with what is read by key.
func TestManyRowsAreComparedWithAQueryJob(t *testing.T) {
	for name, test := range map[string]struct {
		fault *emulator.Fault
		ahead bool
	}{
		"as it should":     {nil, true},
		"not created":      {&emulator.Fault{Match: "bulk_query.create", Status: 400, Code: "INVALIDENTITY"}, false},
		"status refused":   {&emulator.Fault{Match: "bulk_query.status", Status: 503}, true},
		"result not there": {&emulator.Fault{Match: "bulk_query.results", Status: 404, Code: "NOT_FOUND"}, false},
		"result cut":       {&emulator.Fault{Match: "bulk_query.results", CutAfter: true}, true},
	} {
		for _, mode := range []models.Mode{models.ModeUpsert, models.ModeUpdate} {
			t.Run(fmt.Sprint(name, " ", mode), func(t *testing.T) {
				t.Parallel()
				const n = 9000
				w := newWorld(t, emulator.Options{})
				w.half(n)
				target := w.open(different(mode, "bulk"))
				if test.fault != nil {
					w.org.AddFault(*test.fault)
				}
				ops := many(kinds[mode], n)
				if mode == models.ModeUpdate {
					for i := range 100 {
						ops[i].ID, ops[i].Known = w.account(ops[i].Key[0])["Id"].(string), true
					}
				}
				l := w.ledger(ops)
				w.org.ResetCounters()
				w.mustApply(target, l)
				l.want(destinations.Skipped, n/2)
				l.want(destinations.Updated, n/2)
				w.once(n)
				for _, i := range []int{0, 1, 2, 3, n - 2, n - 1} {
					w.wantField(fmt.Sprintf("K%05d", i), "Phone", fmt.Sprint(5550000+i))
				}
				c := w.org.Counters()
				if ahead := c.Calls["query"]+c.Calls["collections.retrieve"] == 0; ahead != test.ahead || c.Calls["bulk_query.create"] != 1 {
					t.Errorf("calls were %v", c.Calls)
				}
			})
		}
	}
}

// An object with far more records than there are rows, and few rows, are read by
// key.
func TestReadsAheadWhereItPays(t *testing.T) {
	target := &Target{sync: &models.Sync{}}
	for _, test := range []struct {
		records, rows, calls int64
		tight, want          bool
	}{
		{1_000_000, 1_000_000, 1667, false, true},
		{1_000_000, 200_000, 334, false, false},
		{100_000, 6000, 10, false, false},
		{6000, 6000, 10, false, false},
		{6000, 6000, 10, true, true},
		{6000, 8000, 12, false, true},
		{-1, 1_000_000, 1667, false, false},
		{0, 8000, 12, false, true},
	} {
		target.records = test.records
		if got := target.readsAhead(route{tight: test.tight}, test.rows, test.calls); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// A run that is asked to stop while its query job is at work leaves the job, and all
// rows planned.
func TestStopWhileRecordsAreRead(t *testing.T) {
	const n = 9000
	w := newWorld(t, emulator.Options{})
	w.half(n)
	target := w.open(different(models.ModeUpsert, "bulk"))
	l := w.ledger(many(kinds[models.ModeUpsert], n))
	stop := make(chan struct{})
	var once sync.Once
	w.org.AddFault(emulator.Fault{Match: "bulk_query.status", Status: 503})
	w.org.OnCall(func(kind string) {
		if kind == "bulk_query.status" {
			once.Do(func() { close(stop) })
		}
	})
	err := target.Apply(context.Background(), destinations.Application{Plan: l, Journal: l, Stop: stop})
	if !errors.Is(err, destinations.ErrStopped) || len(l.outcomes) != 0 {
		t.Fatalf("%v, %d outcomes", err, len(l.outcomes))
	}
	w.org.OnCall(nil)
	w.org.ClearFaults()
	w.mustApply(w.open(different(models.ModeUpsert, "bulk")), l)
	l.want(destinations.Skipped, n/2)
}
