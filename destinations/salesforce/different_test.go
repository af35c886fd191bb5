package salesforce

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

// half puts records into the org that hold all that many's rows say, for every
// second row, and for the others all but the phone.
func (w *world) half(n int) {
	w.Helper()
	for i := range n {
		phone := fmt.Sprint(5550000 + i)
		if i%2 == 1 {
			phone = "old"
		}
		w.insert(map[string]any{"Warehouse_Key__c": fmt.Sprintf("K%05d", i), "Name": fmt.Sprintf("Name %d", i), "Phone": phone})
	}
}

// wantHalf checks that n rows ended as half says: equal or updated, once.
func (l *ledger) wantHalf(w *world, n int) {
	w.Helper()
	w.once(n)
	l.want(destinations.Failed, 0)
	l.want(destinations.Created, 0)
	for i := range n {
		key := fmt.Sprintf("K%05d", i)
		w.wantField(key, "Phone", fmt.Sprint(5550000+i))
		if o := l.of(key); i%2 == 0 && !o.Same || o.ID != w.account(key)["Id"] {
			w.Fatalf("the outcome of %s is %+v", key, o)
		}
	}
}

// Whatever passes while rows are compared and sent, each ends as it would have, and
// what is equal is never written.
func TestPassingFaultsWhileComparing(t *testing.T) {
	faults := map[string][]emulator.Fault{
		"reading refused":   {{Match: "query", Status: 503, Times: 2}, {Match: "collections.retrieve", Status: 503, Times: 2}},
		"reading cut":       {{Match: "query", CutAfter: true}, {Match: "collections.retrieve", CutAfter: true}},
		"writing cut after": {{Match: "collections.update", CutAfter: true}, {Match: "collections.upsert", CutAfter: true}, {Match: "bulk.close", CutAfter: true}, {Match: "bulk1.batch", CutAfter: true}},
		"row locks":         {{RowCode: "UNABLE_TO_LOCK_ROW", RowShare: 0.4, RowTries: 1}},
		"results lost":      {{LoseResults: 0.4}},
		"sessions expire":   {{Match: "query", ExpireSession: true}, {Match: "collections", ExpireSession: true}, {Match: "bulk", ExpireSession: true}},
	}
	for name, list := range faults {
		for _, mode := range []models.Mode{models.ModeUpsert, models.ModeUpdate} {
			t.Run(name+"/"+string(mode), func(t *testing.T) {
				both(t, func(t *testing.T, ingestion string) {
					const n = 120
					w := newWorld(t, emulator.Options{Seed: 1})
					w.half(n)
					target := w.open(different(mode, ingestion))
					for _, f := range list {
						w.org.AddFault(f)
					}
					l := w.ledger(many(kinds[mode], n))
					w.mustApply(target, l)
					l.wantHalf(w, n)
					if c := l.counts(); c[destinations.Skipped] < n/2 || c[destinations.Updated] > n/2 {
						t.Fatalf("outcomes are %v", c)
					}
				})
			})
		}
	}
}

// Killed at the n-th word with the org, for every n, and run again: what is equal
// is settled once and never written, and all else lands.
func TestKilledWhileComparing(t *testing.T) {
	for _, mode := range []models.Mode{models.ModeUpsert, models.ModeUpdate} {
		both(t, func(t *testing.T, ingestion string) {
			for n := 0; ; n++ {
				const rows = 40
				w := newWorld(t, emulator.Options{Seed: int64(n)})
				w.half(rows)
				s := different(mode, ingestion)
				s.Write.RESTBatchSize, s.Write.BulkBatchSize = 6, 9
				target := w.open(s)
				l := w.ledger(many(kinds[mode], rows))
				ctx, kill := context.WithCancel(t.Context())
				defer kill()
				w.org.AddFault(emulator.Fault{After: n, CutAfter: n%2 == 0, CutBefore: n%2 == 1})
				calls := 0
				w.org.OnCall(func(string) {
					l.mu.Lock()
					defer l.mu.Unlock()
					if calls == n {
						kill()
					}
					calls++
				})
				err := target.Apply(ctx, destinations.Application{Plan: l, Journal: l})
				w.org.OnCall(nil)
				w.org.ClearFaults()
				if err != nil {
					w.mustApply(w.open(s), l)
				}
				l.wantHalf(w, rows)
				if err == nil {
					if n < 4 {
						t.Fatalf("only %d calls", n)
					}
					return
				}
			}
		})
	}
}

// A field that the org does not let be read goes whether it differs or not; where
// it does not say which it is, all of them go.
func TestWhatCannotBeReadIsSent(t *testing.T) {
	for name, test := range map[string]struct {
		message string
		same    int
	}{
		"one field":   {"No such column 'Phone' on entity 'Account'.", 0},
		"whichever":   {"something is wrong with the fields", 0},
		"another one": {"No such column 'AnnualRevenue' on entity 'Account'.", 5},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.half(10)
			dest, sent := w.watched()
			target := w.openOn(dest, different(models.ModeUpsert, "rest"))
			w.org.AddFault(emulator.Fault{Match: "query", Status: 400, Code: "INVALID_FIELD", Message: test.message})
			l := w.ledger(many(planner.Upsert, 10))
			w.mustApply(target, l)
			l.want(destinations.Skipped, test.same)
			l.want(destinations.Updated, 10-test.same)
			for i := range 10 {
				w.wantField(fmt.Sprintf("K%05d", i), "Phone", fmt.Sprint(5550000+i))
			}
			if named := strings.Contains(sent.String(), `"Name 3"`); named != (name == "whichever") {
				t.Errorf("names were sent: %v\n%s", named, sent)
			}
		})
	}
}

// References are compared by what they are mapped by: an external id of the
// parent, a field that is looked up, an Id.
func TestReferencesAreCompared(t *testing.T) {
	for name, field := range map[string]string{"external id": "Warehouse_Key__c", "query": "AccountNumber", "Id": "Id"} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", known ", known), func(t *testing.T) {
				both(t, func(t *testing.T, ingestion string) {
					w := newWorld(t, emulator.Options{})
					a, b := w.parent("1"), w.parent("2")
					w.insert(map[string]any{"Warehouse_Key__c": "same", "Name": "same", "ParentId": a})
					w.insert(map[string]any{"Warehouse_Key__c": "other", "Name": "other", "ParentId": b})
					w.insert(map[string]any{"Warehouse_Key__c": "none", "Name": "none"})
					w.insert(map[string]any{"Warehouse_Key__c": "clear", "Name": "clear"})
					w.insert(map[string]any{"Warehouse_Key__c": "cleared", "Name": "cleared", "ParentId": b})
					s := different(models.ModeUpsert, ingestion)
					s.Fields[fParent].Lookup.Field = field
					value := map[string]string{"Warehouse_Key__c": "P1", "AccountNumber": "1", "Id": a}[field]
					ops := []*planner.Operation{
						op(planner.Upsert, "same", set(fName, "same"), set(fParent, value)),
						op(planner.Upsert, "other", set(fName, "other"), set(fParent, value)),
						op(planner.Upsert, "none", set(fName, "none"), set(fParent, value)),
						op(planner.Upsert, "clear", set(fName, "clear"), null(fParent)),
						op(planner.Upsert, "cleared", set(fName, "cleared"), null(fParent)),
					}
					if known {
						for _, o := range ops {
							o.ID, o.Known = w.account(o.Key[0])["Id"].(string), true
						}
					}
					l := w.ledger(ops)
					w.mustApply(w.open(s), l)
					for key, parent := range map[string]any{"same": a, "other": a, "none": a, "clear": nil, "cleared": nil} {
						w.wantField(key, "ParentId", parent)
						if o := l.of(key); o.Same != (key == "same" || key == "clear") || o.Result == destinations.Failed {
							t.Errorf("%s: %+v", key, o)
						}
					}
				})
			})
		}
	}
}

// A row without a reference that is not there, of which all else is equal, is
// settled without it, and the snapshot must not claim it.
func TestOmittedReferencesAreNotTakenForEqual(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.half(2)
	s := different(models.ModeUpsert, "rest")
	s.Fields[fParent].Lookup.Field = "AccountNumber"
	s.Write.InvalidRelationships = omitValues
	l := w.ledger([]*planner.Operation{
		op(planner.Upsert, "K00000", set(fName, "Name 0"), set(fParent, "nix")),
		op(planner.Upsert, "K00001", set(fName, "New"), set(fParent, "nix")),
	})
	w.mustApply(w.open(s), l)
	if o := l.of("K00000"); !o.Same || len(o.Omitted) != 1 || o.Omitted[0] != fParent || o.Code != codeReferenceNotFound {
		t.Errorf("%+v", o)
	}
	if o := l.of("K00001"); o.Result != destinations.Updated || len(o.Omitted) != 1 {
		t.Errorf("%+v", o)
	}
}

// Where several records have a row's match value, or a record is gone, it ends as
// it does without a comparison.
func TestComparisonFindsNoOneRecord(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		for range 2 {
			w.insert(map[string]any{"Name": "twin", "AccountNumber": "7", "Phone": "1"})
		}
		gone := w.insert(map[string]any{"Name": "gone", "AccountNumber": "8", "Phone": "1"})
		if err := w.org.Org().Delete("Account", gone); err != nil {
			t.Fatal(err)
		}
		s := different(models.ModeUpdate, ingestion)
		s.Match.Field = "AccountNumber"
		ops := []*planner.Operation{op(planner.Update, "7", set(fPhone, "1")), op(planner.Update, "8", set(fPhone, "1")), op(planner.Update, "9", set(fPhone, "1"))}
		ops[1].ID, ops[1].Known = gone, true
		l := w.ledger(ops)
		w.mustApply(w.open(s), l)
		for key, code := range map[string]string{"7": codeMultipleMatches, "8": codeNotFound, "9": codeNotFound} {
			if o := l.of(key); o.Result != destinations.Failed || o.Code != code {
				t.Errorf("%s: %+v", key, o)
			}
		}
	})
}

// A record that vanished since coho wrote it is created again, complete.
func TestComparisonOfARecordThatIsNoMore(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		id := w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "a", "Phone": "1"})
		if err := w.org.Org().Delete("Account", id); err != nil {
			t.Fatal(err)
		}
		o := op(planner.Upsert, "A", set(fPhone, "2"), planner.Assignment{Field: fName, Cell: models.Cell{Text: "a"}, Send: planner.Keep})
		o.ID, o.Known = id, true
		l := w.ledger([]*planner.Operation{o})
		w.mustApply(w.open(different(models.ModeUpsert, ingestion)), l)
		if got := l.of("A"); got.Result != destinations.Created || got.Same {
			t.Errorf("%+v", got)
		}
		w.wantField("A", "Name", "a")
		w.wantField("A", "Phone", "2")
	})
}

// More names than a query holds are read by several; the records are found once.
func TestReadingsFitQueries(t *testing.T) {
	target := &Target{object: &api.Object{Name: "Account"}}
	var all fieldSet
	for i := range 500 {
		target.columns = append(target.columns, &column{field: fieldOf(api.Field{Name: fmt.Sprintf("A_field_with_a_long_name_%03d__c", i), Type: "string"})})
		all.add(i)
	}
	groups, plain := target.parts(all, map[int]bool{7: true})
	n := 0
	for _, g := range groups {
		n += len(g)
		if text := target.selects(fieldOf(api.Field{Name: "Id", Type: "id"}), g); len(text) > frameBytes+200 {
			t.Errorf("a query begins with %d bytes", len(text))
		}
	}
	if n != 499 || len(groups) < 4 || !plain {
		t.Errorf("%d fields in %d queries", n, len(groups))
	}
}

// What the org shows but a mask of, and what a field refers to by an external id
// where it may refer to several objects, is sent whether it differs or not, and the
// check says so. All else is compared.
func TestWhatCannotBeComparedIsSent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "org.toml")
	err := os.WriteFile(file, []byte(`
[[objects]]
name = "Thing__c"
prefix = "a0T"
fields = [
  { name = "Key__c", type = "string", length = 40, external_id = true, unique = true, case_sensitive = true },
  { name = "Text__c", type = "string", length = 40 },
  { name = "Secret__c", type = "encryptedstring", length = 40 },
  { name = "What__c", type = "reference", reference_to = ["Account", "Contact"] },
]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, emulator.Options{OrgFile: file})
	account := w.insert(map[string]any{"Warehouse_Key__c": "A1", "Name": "a"})
	s := different(models.ModeUpsert, "rest")
	s.Object, s.Match = "Thing__c", models.Match{Field: "Key__c", Column: "key"}
	s.Fields = []models.Field{
		{Name: "Text__c", Column: "about"}, {Name: "Secret__c", Column: "name"},
		{Name: "What__c", Lookup: &models.Lookup{Object: "Account", Field: "Warehouse_Key__c", Column: "parent"}},
	}
	rows := func() []*planner.Operation {
		return []*planner.Operation{
			op(planner.Upsert, "1", set(0, "x"), set(1, "secret")), op(planner.Upsert, "2", set(0, "x"), set(2, "A1")),
			op(planner.Upsert, "3", set(0, "x"), null(1), null(2)), op(planner.Upsert, "4", set(0, "x")),
		}
	}
	dest, sent := w.watched()
	target := w.openOn(dest, s)
	warnings := strings.Join(target.Warnings(), "\n")
	contains(t, warnings, "field Secret__c is encrypted")
	contains(t, warnings, "field What__c may refer to several objects")
	w.mustApply(target, w.ledger(rows()))
	first := sent.String()
	contains(t, first, "Text__c")
	l := w.ledger(rows())
	w.mustApply(target, l)
	again := strings.TrimPrefix(sent.String(), first)
	for key, same := range map[string]bool{"1": false, "2": false, "3": true, "4": true} {
		if o := l.of(key); o.Same != same || o.Result == destinations.Failed {
			t.Errorf("%s: %+v", key, o)
		}
	}
	contains(t, again, `"Secret__c":"secret"`)
	contains(t, again, `"What__r":{`)
	if strings.Contains(again, "Text__c") {
		t.Errorf("what is equal was sent, too: %s", again)
	}
	if got := w.org.Org().Find("Thing__c", "Key__c", "2")[0]["What__c"]; got != account {
		t.Errorf("What__c is %v", got)
	}
}

// A record that is deleted after it was compared is created again by the upsert, of
// which less than all was sent; it is then sent whole, also where coho had not
// written it before.
func TestRecordDeletedBetweenReadAndWrite(t *testing.T) {
	for _, known := range []bool{false, true} {
		for _, name := range []string{"Name", "name differs"} { // without Name the org refuses a new record
			t.Run(fmt.Sprint(name, ", known ", known), func(t *testing.T) {
				both(t, func(t *testing.T, ingestion string) {
					w := newWorld(t, emulator.Options{})
					id := w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": name, "Phone": "old", "AnnualRevenue": 7})
					o := op(planner.Upsert, "A", set(fName, "Name"), set(fPhone, "new"), set(fRevenue, "7"))
					if known {
						o.ID, o.Known = id, true
					}
					l := w.ledger([]*planner.Operation{o})
					var once sync.Once
					l.onBegin = func(destinations.Batch) {
						once.Do(func() {
							if err := w.org.Org().Delete("Account", id); err != nil {
								t.Error(err)
							}
						})
					}
					w.mustApply(w.open(different(models.ModeUpsert, ingestion)), l)
					if got := l.of("A"); got.Result != destinations.Created || got.Same || got.ID == id {
						t.Errorf("%+v", got)
					}
					for field, want := range map[string]any{"Name": "Name", "Phone": "new", "AnnualRevenue": 7} {
						w.wantField("A", field, want)
					}
				})
			})
		}
	}
}

// A run that dies while such a job is at work leaves no half of a record.
func TestRecordDeletedBeforeAJobOutlivesTheRun(t *testing.T) {
	for _, ingestion := range []string{"bulk", "bulk 1.0"} {
		t.Run(ingestion, func(t *testing.T) {
			w := newWorld(t, emulator.Options{ProcessingDelay: 20 * time.Millisecond})
			id := w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "old", "AnnualRevenue": 7})
			l := w.ledger([]*planner.Operation{op(planner.Upsert, "A", set(fName, "new"), set(fRevenue, "7"))})
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			var once sync.Once
			l.onBegin = func(destinations.Batch) {
				once.Do(func() {
					if err := w.org.Org().Delete("Account", id); err != nil {
						t.Error(err)
					}
				})
			}
			w.org.OnCall(func(kind string) {
				if kind == "bulk.status" || kind == "bulk1.status" {
					kill()
				}
			})
			s := different(models.ModeUpsert, ingestion)
			if err := w.open(s).Apply(ctx, destinations.Application{Plan: l, Journal: l}); err == nil {
				t.Fatal("the run came to its end")
			}
			w.org.OnCall(nil)
			w.mustApply(w.open(s), l)
			w.wantField("A", "Name", "new")
			w.wantField("A", "AnnualRevenue", 7)
			if o := l.of("A"); o.Result != destinations.Created {
				t.Errorf("%+v", o)
			}
		})
	}
}

// An upsert goes to the record that has the match value now, and so does what it is
// compared with, whichever record coho wrote before.
func TestComparisonGoesByTheMatchValue(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		wrote := w.insert(map[string]any{"Warehouse_Key__c": "B", "Name": "a", "Phone": "1"})
		now := w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "a", "Phone": "old"})
		o := op(planner.Upsert, "A", set(fPhone, "1"))
		o.ID, o.Known = wrote, true
		l := w.ledger([]*planner.Operation{o})
		w.mustApply(w.open(different(models.ModeUpsert, ingestion)), l)
		w.wantField("A", "Phone", "1")
		if got := l.of("A"); got.Result != destinations.Updated || got.ID != now {
			t.Errorf("%+v", got)
		}
	})
}
