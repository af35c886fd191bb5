package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// known is what the snapshots of one sync hold: Ids by value.
type known struct {
	ids   map[string][]string
	asked int
	err   error
}

func (k *known) Syncs(string, string) []string { return []string{"parents"} }

func (k *known) Records(_ context.Context, _, _ string, each func(value, id string)) error {
	k.asked++
	for v, ids := range k.ids {
		for _, id := range ids {
			each(v, id)
		}
	}
	return k.err
}

// byNumber is accountSync with a lookup by a field that is no external id.
func byNumber(ingestion string) *models.Sync {
	s := accountSync(models.ModeUpsert, ingestion)
	s.Fields[fParent].Lookup.Field = "AccountNumber"
	return s
}

// parent makes a record that others refer to by number.
func (w *world) parent(number string) string {
	return w.insert(map[string]any{"Warehouse_Key__c": "P" + number, "Name": "p" + number, "AccountNumber": number})
}

// child is an operation that refers to a parent.
func child(key, parent string) *planner.Operation {
	return op(planner.Upsert, key, set(fName, key), set(fParent, parent))
}

// What a snapshot knows costs no call; what it knows twice, or not, is asked of
// the org, each value once whatever the number of rows and requests.
func TestLookupFromSnapshot(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		snap := &known{ids: map[string][]string{}}
		var ops []*planner.Operation
		for i := range 900 {
			n := fmt.Sprint(i % 30)
			if i < 30 {
				if id := w.parent(n); i < 20 {
					snap.ids[n] = []string{id, id} // one record, known to two syncs
				}
			}
			ops = append(ops, child(fmt.Sprintf("C%d", i), n))
		}
		snap.ids["5"] = append(snap.ids["5"], snap.ids["6"][0])
		target := w.open(byNumber(ingestion))
		target.UseParents(snap)
		l := w.ledger(ops)
		w.org.ResetCounters()
		w.mustApply(target, l)
		l.want(destinations.Created, 900)
		for _, n := range []int{0, 5, 19, 20, 29} {
			parent := w.account(fmt.Sprintf("P%d", n))["Id"]
			w.wantField(fmt.Sprintf("C%d", n), "ParentId", parent)
			w.wantField(fmt.Sprintf("C%d", 870+n), "ParentId", parent)
		}
		if n := w.org.Counters().Calls["query"]; n != 1 || snap.asked != 1 {
			t.Errorf("%d queries and %d looks at the snapshot for 30 values", n, snap.asked)
		}
		if got := target.Lookups(); len(got) != 1 || got[0].How != "snapshot" || got[0].By != "AccountNumber" || got[0].Syncs[0] != "parents" {
			t.Errorf("lookups are %+v", got)
		}
	})
}

// A snapshot that cannot be read does not stop a run: the org is asked.
func TestLookupWithoutSnapshot(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	id := w.parent("1")
	target := w.open(byNumber("rest"))
	target.UseParents(&known{err: errors.New("it is damaged")})
	l := w.ledger([]*planner.Operation{child("C", "1")})
	w.mustApply(target, l)
	w.wantField("C", "ParentId", id)
}

// An Id that the org refuses, because its record was deleted, merged or never
// was, is looked up again once a value; the rows that it finds nothing for fail
// alone.
func TestStaleReference(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		for name, spoil := range map[string]func(w *world, id string) string{
			"deleted": func(w *world, id string) string {
				if err := w.org.Org().Delete("Account", id); err != nil {
					w.Fatal(err)
				}
				return id
			},
			"merged": func(w *world, id string) string {
				into := w.insert(map[string]any{"Warehouse_Key__c": "into " + id, "Name": "survivor"})
				if err := w.org.Org().Merge("Account", into, id); err != nil {
					w.Fatal(err)
				}
				return id
			},
			"never was": func(_ *world, id string) string { return id[:10] + "zzzzz" },
		} {
			w := newWorld(t, emulator.Options{})
			snap := &known{ids: map[string][]string{}}
			for _, n := range []string{"1", "2", "3"} {
				snap.ids[n] = []string{w.parent(n)}
			}
			snap.ids["1"] = []string{spoil(w, snap.ids["1"][0])}
			snap.ids["2"] = []string{spoil(w, snap.ids["2"][0])}
			var now string
			if name != "never was" {
				now = w.insert(map[string]any{"Warehouse_Key__c": "again", "Name": "again", "AccountNumber": "1"})
			} else {
				now, _ = w.account("P1")["Id"].(string)
				if err := w.org.Org().Update("Account", w.account("P2")["Id"].(string), map[string]any{"AccountNumber": nil}); err != nil {
					t.Fatal(err)
				}
			}
			var ops []*planner.Operation
			for i := range 300 {
				ops = append(ops, child(fmt.Sprintf("C%d", i), fmt.Sprint(1+i%3)))
			}
			target := w.open(byNumber(ingestion))
			target.UseParents(snap)
			l := w.ledger(ops)
			w.org.ResetCounters()
			w.mustApply(target, l)
			l.want(destinations.Created, 200)
			l.want(destinations.Failed, 100)
			w.wantField("C297", "ParentId", now)
			w.wantField("C299", "ParentId", snap.ids["3"][0])
			if o := l.of("C298"); o.Code != "REFERENCE_NOT_FOUND" || !strings.Contains(o.Message, `field ParentId: no Account record has AccountNumber "2"`) || !slices.Equal(o.Fields, []string{"ParentId"}) {
				t.Errorf("%s: C298 is %+v", name, o)
			}
			if n := w.org.Counters().Calls["query"]; n > 2 {
				t.Errorf("%s: two stale values took %d queries", name, n)
			}
		}
	})
}

// The org's refusal of a record that is there (sharing, say) is the row's error
// after one more look.
func TestReferenceRefusedTwice(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		w.parent("1")
		w.org.AddFault(emulator.Fault{RowCode: "INVALID_CROSS_REFERENCE_KEY", RowMessage: "invalid cross reference id", Times: -1})
		l := w.ledger([]*planner.Operation{child("C", "1")})
		w.mustApply(w.open(byNumber(ingestion)), l)
		if o := l.of("C"); o.Result != destinations.Failed || o.Code != "INVALID_CROSS_REFERENCE_KEY" || o.Attempts != 2 {
			t.Errorf("C is %+v", o)
		}
	})
}

// invalid_relationships in its three forms, for references that the org resolves
// and for those that are looked up.
func TestInvalidRelationships(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		for _, by := range []string{"Warehouse_Key__c", "AccountNumber"} {
			for _, rule := range []string{"error", "omit_values", "omit_records"} {
				w := newWorld(t, emulator.Options{})
				id := w.parent("1")
				value := "1"
				if by == "Warehouse_Key__c" {
					value = "P1"
				}
				s := accountSync(models.ModeUpsert, ingestion)
				s.Fields[fParent].Lookup.Field = by
				s.Write.InvalidRelationships = rule
				w.insert(map[string]any{"Warehouse_Key__c": "old", "Name": "old", "ParentId": id})
				old := op(planner.Upsert, "old", set(fParent, "nobody"))
				old.Known, old.ID = true, w.account("old")["Id"].(string)
				ops := []*planner.Operation{child("good", value), child("bad", "nobody"), child("bad2", "no one"), old}
				for i := range 250 {
					ops = append(ops, child(fmt.Sprintf("C%d", i), value))
				}
				l := w.ledger(ops)
				w.mustApply(w.open(s), l)
				w.wantField("good", "ParentId", id)
				w.wantField("C249", "ParentId", id)
				w.wantField("old", "ParentId", id)
				bad, was := l.of("bad"), l.of("old")
				message := fmt.Sprintf(`field ParentId: no Account record has %s "nobody"`, by)
				for _, o := range []destinations.Outcome{bad, was} {
					if o.Code != "REFERENCE_NOT_FOUND" || !strings.Contains(o.Message, message) || !slices.Equal(o.Fields, []string{"ParentId"}) {
						t.Errorf("%s by %s: %+v", rule, by, o)
					}
				}
				there := w.find("bad") != nil
				switch {
				case rule == "error" && (bad.Result != destinations.Failed || was.Result != destinations.Failed || there):
					t.Errorf("error by %s: %+v %+v", by, bad, was)
				case rule == "omit_records" && (bad.Result != destinations.Skipped || was.Result != destinations.Skipped || there):
					t.Errorf("omit_records by %s: %+v %+v", by, bad, was)
				case rule == "omit_values":
					w.wantField("bad", "ParentId", nil)
					w.wantField("bad2", "Name", "bad2")
					if bad.Result != destinations.Created || !slices.Equal(bad.Omitted, []int{fParent}) {
						t.Errorf("omit_values by %s: %+v", by, bad)
					}
					if was.Result != destinations.Skipped || len(was.Omitted) != 0 {
						t.Errorf("omit_values by %s, with nothing left to send: %+v", by, was)
					}
				}
				if o := l.of("good"); len(o.Omitted) != 0 || o.Message != "" {
					t.Errorf("%s by %s: a good row is %+v", rule, by, o)
				}
			}
		}
	})
}

// find returns an account by its key, nil where there is none.
func (w *world) find(key string) map[string]any {
	for _, r := range w.org.Org().Records("Account") {
		if r["Warehouse_Key__c"] == key {
			return r
		}
	}
	return nil
}

// Killed at any word with the org: a record that the org created without a
// reference is never acknowledged with it.
func TestOmittedSurvivesTheRun(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		for _, by := range []string{"Warehouse_Key__c", "AccountNumber"} {
			for n := 0; ; n++ {
				w := newWorld(t, emulator.Options{Seed: int64(n)})
				w.parent("1")
				value := map[string]string{"Warehouse_Key__c": "P1", "AccountNumber": "1"}[by]
				s := accountSync(models.ModeInsert, ingestion)
				s.Fields[fParent].Lookup.Field = by
				s.Write.InvalidRelationships, s.Write.RESTBatchSize, s.Write.BulkBatchSize = omitValues, 10, 20
				var ops []*planner.Operation
				for i := range 40 {
					parent := value
					if i%2 == 0 {
						parent = "nobody"
					}
					o := child(fmt.Sprintf("C%02d", i), parent)
					o.Kind = planner.Insert
					ops = append(ops, o)
				}
				target := w.open(s)
				l := w.ledger(ops)
				ctx, kill := context.WithCancel(t.Context())
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
				kill()
				w.org.OnCall(nil)
				w.org.ClearFaults()
				if err != nil {
					if err := w.open(s).Apply(t.Context(), destinations.Application{Plan: l, Journal: l}); err != nil {
						t.Fatalf("call %d: the second run: %v", n, err)
					}
				}
				l.done()
				w.once(41)
				l.want(destinations.Failed, 0)
				for i := range 40 {
					key := fmt.Sprintf("C%02d", i)
					o, has := l.of(key), w.account(key)["ParentId"] != nil
					if claimed := len(o.Omitted) == 0; claimed && !has {
						t.Fatalf("by %s, call %d: %s was acknowledged with a parent and has none: %+v", by, n, key, o)
					}
					if !has && i%2 == 1 {
						t.Errorf("by %s, call %d: %s lost its parent", by, n, key)
					}
				}
				if err == nil {
					if n < 5 {
						t.Fatalf("only %d calls", n)
					}
					break
				}
			}
		}
	})
}

// Who is meant where several differ only in case: SOQL takes them for one, a
// value that is the same to the letter comes first.
func TestLookupCase(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	exact := w.insert(map[string]any{"Warehouse_Key__c": "1", "Name": "p", "AccountNumber": "Ab"})
	w.insert(map[string]any{"Warehouse_Key__c": "2", "Name": "p", "AccountNumber": "aB"})
	lone := w.insert(map[string]any{"Warehouse_Key__c": "3", "Name": "p", "AccountNumber": "Xy"})
	l := w.ledger([]*planner.Operation{child("A", "Ab"), child("B", "xY"), child("C", "AB"), child("D", "XY")})
	w.mustApply(w.open(byNumber("rest")), l)
	w.wantField("A", "ParentId", exact)
	w.wantField("B", "ParentId", lone)
	w.wantField("D", "ParentId", lone)
	if o := l.of("C"); o.Code != "MULTIPLE_MATCHES" || !strings.Contains(o.Message, `2 Account records have AccountNumber "AB"`) {
		t.Errorf("C is %+v", o)
	}
}

// Owners by email, name and queue, and a parent of an external id that two have.
func TestOwnerLookups(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		org := w.org.Org()
		add := func(object string, fields map[string]any) string {
			id, err := org.Insert(object, fields)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		user := func(name, email string) string {
			return add("User", map[string]any{"Username": name + "@u.example", "FirstName": "Ann", "LastName": name, "Email": email, "Alias": name, "IsActive": true})
		}
		ann := user("one", "ann@x.example")
		user("twin", "twin@x.example")
		user("twin2", "twin@x.example")
		add("Group", map[string]any{"Name": "Support", "DeveloperName": "Support", "Type": "Regular"})
		queue := add("Group", map[string]any{"Name": "Support", "DeveloperName": "Support", "Type": "Queue"})
		for _, c := range []struct{ object, field, value, want string }{
			{"User", "Email", "ANN@x.example", ann},
			{"User", "Username", "one@u.example", ann},
			{"User", "Name", "ann ONE", ann},
			{"Group", "DeveloperName", "Support", queue},
			{"Queue", "Name", "Support", queue},
			{"User", "Email", "twin@x.example", ""},
		} {
			s := &models.Sync{
				Name: "leads", Object: "Lead", Mode: models.ModeUpsert, Model: models.Model{PrimaryKey: []string{"key"}},
				Match: models.Match{Field: "Warehouse_Key__c", Column: "key"},
				Fields: []models.Field{
					{Name: "Company", Column: "name"}, {Name: "LastName", Column: "name"},
					{Name: "OwnerId", Lookup: &models.Lookup{Object: c.object, Field: c.field, Column: "parent"}},
				},
				Write: accountSync(models.ModeUpsert, ingestion).Write,
			}
			l := w.ledger([]*planner.Operation{op(planner.Upsert, c.field+c.value, set(0, "c"), set(1, "l"), set(2, c.value))})
			w.mustApply(w.open(s), l)
			o := l.of(c.field + c.value)
			if c.want == "" {
				if o.Code != "MULTIPLE_MATCHES" || !strings.Contains(o.Message, `field OwnerId: 2 User records have Email "twin@x.example"`) {
					t.Errorf("two owners: %+v", o)
				}
				continue
			}
			for _, r := range org.Records("Lead") {
				if r["Warehouse_Key__c"] == c.field+c.value && r["OwnerId"] != c.want {
					t.Errorf("%s by %s: owner is %v, want %s", c.object, c.field, r["OwnerId"], c.want)
				}
			}
			if o.Result != destinations.Created {
				t.Errorf("%s by %s: %+v", c.object, c.field, o)
			}
		}
	})
}

// A book remembers more than its memory holds, and the newest of each value.
func TestBook(t *testing.T) {
	dir := t.TempDir()
	b := newBook(dir)
	b.page = 300
	ref := func(i, generation int) reference {
		f := reference{count: uint32(i), pass: uint32(generation), fresh: i%2 == 0}
		copy(f.id[:], fmt.Sprintf("%015d", i))
		return f
	}
	const n = 5000
	for generation := range 2 {
		for i := range n {
			if generation == 1 && i%3 != 0 {
				continue
			}
			if err := b.put(b.key(fmt.Sprint(i)), ref(i, generation)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(b.files) < 10 || len(b.open) >= 300 {
		t.Errorf("%d files, %d in memory", len(b.files), len(b.open))
	}
	for i := range n {
		generation := 0
		if i%3 == 0 {
			generation = 1
		}
		if f, ok, err := b.get(b.key(fmt.Sprint(i))); !ok || err != nil || f != ref(i, generation) {
			t.Fatalf("%d is %+v %v %v", i, f, ok, err)
		}
	}
	for i := range 1000 {
		if f, ok, err := b.get(b.key(fmt.Sprint("absent ", i))); ok || err != nil {
			t.Fatalf("%+v %v", f, err)
		}
	}
	if err := errors.Join(b.discard(), b.discard()); err != nil {
		t.Error(err)
	}
}

// More distinct values than a window are looked up window by window, each once.
func TestManyDistinctLookups(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := byNumber("bulk")
	s.Write.InvalidRelationships = omitValues
	last := w.parent("119999")
	var ops []*planner.Operation
	for i := range 120_000 {
		ops = append(ops, op(planner.Upsert, fmt.Sprintf("C%d", i), set(fName, "c"), set(fParent, fmt.Sprint(i))))
	}
	ops = append(ops, child("again", "7"), child("more", "119999"))
	l := w.ledger(ops)
	target := w.open(s)
	target.UseParents(&known{})
	w.mustApply(target, l)
	w.wantField("C119999", "ParentId", last)
	w.wantField("more", "ParentId", last)
	l.want(destinations.Created, 120_002)
	least := 120_000 / 800
	if n := w.org.Counters().Calls["query"]; n < least || n > least+5 {
		t.Errorf("%d queries, want about %d", n, least)
	}
}
