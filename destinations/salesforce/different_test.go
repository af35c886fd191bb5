package salesforce

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// written is what a destination sent to be written, as one text.
type written struct {
	mu    sync.Mutex
	text  strings.Builder
	reads int
}

func (s *written) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// watched is a destination whose writes are kept.
func (w *world) watched() (*Destination, *written) {
	s := &written{}
	return w.connect(api.Config{TraceBytes: 1 << 20, Trace: func(_ context.Context, c api.Call) {
		s.mu.Lock()
		defer s.mu.Unlock()
		retrieve := c.Method == "POST" && strings.Contains(c.Path, "/composite/sobjects/")
		switch {
		case c.Login:
		case retrieve || strings.HasSuffix(c.Path, "/query"):
			s.reads++
		case c.Method != "GET":
			s.text.WriteString(c.Request)
		}
	}}), s
}

func (w *world) openOn(d *Destination, s *models.Sync) *Target {
	w.Helper()
	target, err := d.Open(context.Background(), s, accountColumns)
	if err != nil {
		w.Fatal(err)
	}
	return target.(*Target)
}

func different(mode models.Mode, ingestion string) *models.Sync {
	s := accountSync(mode, ingestion)
	s.Write.OnlySyncDifferent = true
	return s
}

// Rows whose records hold all of them already are not sent, others only what
// differs of them, and new ones whole: by every API, by match value and by Id.
func TestOnlyWhatDiffersIsSent(t *testing.T) {
	for _, mode := range []models.Mode{models.ModeUpsert, models.ModeUpdate} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, known %v", mode, known), func(t *testing.T) {
				both(t, func(t *testing.T, ingestion string) {
					w := newWorld(t, emulator.Options{})
					ops := many(kinds[mode], 33)
					for i := range 30 {
						phone := fmt.Sprint(5550000 + i)
						if i < 3 {
							phone = "old"
						}
						id := w.insert(map[string]any{"Warehouse_Key__c": ops[i].Key[0], "Name": fmt.Sprintf("Name %d", i), "Phone": phone})
						if known {
							ops[i].ID, ops[i].Known = id, true
						}
					}
					dest, sent := w.watched()
					l := w.ledger(ops)
					w.mustApply(w.openOn(dest, different(mode, ingestion)), l)
					l.want(destinations.Skipped, 27)
					l.want(destinations.Updated, 3)
					if mode == models.ModeUpsert {
						l.want(destinations.Created, 3)
						w.once(33)
					} else if o := l.of("K00031"); o.Result != destinations.Failed || o.Code != codeNotFound {
						t.Fatalf("a row without a record: %+v", o)
					}
					for i := range 30 {
						o := l.of(ops[i].Key[0])
						if o.Same != (i >= 3) || o.ID != w.account(ops[i].Key[0])["Id"] {
							t.Fatalf("row %d: %+v", i, o)
						}
						w.wantField(ops[i].Key[0], "Phone", fmt.Sprint(5550000+i))
						if strings.Contains(sent.String(), fmt.Sprintf("Name %d,", i)) || strings.Contains(sent.String(), fmt.Sprintf(`"Name %d"`, i)) {
							t.Fatalf("the name of row %d was sent:\n%s", i, sent)
						}
					}
					contains(t, sent.String(), "5550002")
					if strings.Contains(sent.String(), "5550003") {
						t.Fatalf("an equal row was sent:\n%s", sent)
					}
					if sent.reads > 2 {
						t.Errorf("%d calls read 33 records", sent.reads)
					}
				})
			})
		}
	}
}

// A record that nothing more is to be cleared in is settled as cleared.
func TestClearingWhatIsClearSendsNothing(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	id := w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "a"})
	other := w.insert(map[string]any{"Warehouse_Key__c": "B", "Name": "b", "Phone": "1"})
	dest, sent := w.watched()
	ops := []*planner.Operation{
		op(planner.ClearFields, "A", null(fPhone), null(fParent), null(fRevenue)),
		op(planner.ClearFields, "B", null(fPhone), null(fParent), null(fRevenue)),
	}
	ops[0].ID, ops[0].Known, ops[1].ID, ops[1].Known = id, true, other, true
	l := w.ledger(ops)
	w.mustApply(w.openOn(dest, different(models.ModeUpsert, "rest")), l)
	if o := l.of("A"); o.Result != destinations.Skipped || !o.Same {
		t.Fatalf("A: %+v", o)
	}
	if o := l.of("B"); o.Result != destinations.Cleared || o.Same {
		t.Fatalf("B: %+v", o)
	}
	w.wantField("B", "Phone", nil)
	if strings.Contains(sent.String(), "AnnualRevenue") {
		t.Fatalf("sent %s", sent)
	}
}
