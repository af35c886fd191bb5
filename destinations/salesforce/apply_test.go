package salesforce

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

func TestUpsert(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		w.insert(map[string]any{"Warehouse_Key__c": "B", "Name": "Old", "Phone": "1", "AnnualRevenue": 7})
		target := w.open(accountSync(models.ModeUpsert, ingestion))
		l := w.ledger(
			[]*planner.Operation{
				op(planner.Upsert, "A", set(fName, "Ärger & Söhne, \"日本\"\nsecond line"), set(fRevenue, "912260031"), set(fAbout, " x\ttab")),
				op(planner.Upsert, "B", null(fPhone)),
			},
			[]*planner.Operation{op(planner.Upsert, "C", set(fName, "Child"), set(fParent, "A"))},
		)
		w.mustApply(target, l)
		l.want(destinations.Created, 2)
		l.want(destinations.Updated, 1)
		w.once(3)
		w.wantField("A", "Name", "Ärger & Söhne, \"日本\"\nsecond line")
		w.wantField("A", "AnnualRevenue", "912260031")
		w.wantField("B", "Phone", nil)
		w.wantField("B", "Name", "Old")
		w.wantField("B", "AnnualRevenue", "7")
		w.wantField("C", "ParentId", w.account("A")["Id"])
		if got := l.of("A").ID; got != w.account("A")["Id"] {
			t.Fatalf("outcome holds Id %s", got)
		}
		if u := target.Usage(); u.Calls == 0 || (u.BulkJobs > 0) != (ingestion != "rest") || u.Remaining <= 0 {
			t.Fatalf("usage is %+v", u)
		}
		// Clearing a parent, and what a checkbox does not have.
		l = w.ledger([]*planner.Operation{op(planner.Upsert, "C", null(fParent))})
		w.mustApply(target, l)
		w.wantField("C", "ParentId", nil)
		w.wantField("C", "Name", "Child")
	})
}

func TestInsert(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		target := w.open(accountSync(models.ModeInsert, ingestion))
		l := w.ledger(many(planner.Insert, 450))
		w.mustApply(target, l)
		l.want(destinations.Created, 450)
		w.once(450)
		w.wantField("K00007", "Phone", "5550007")
	})
}

// Insert by a field that carries the primary key, without a match rule.
func TestInsertByKeyField(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		s := accountSync(models.ModeInsert, ingestion)
		s.Match = models.Match{}
		s.Fields = append(s.Fields, models.Field{Name: "Warehouse_Key__c", Column: "key"})
		target := w.open(s)
		a, b := op(planner.Insert, "A", set(fName, "a"), set(5, "A")), op(planner.Insert, "B", set(fName, "b"), set(5, "B"))
		a.Match, b.Match = "", ""
		l := w.ledger([]*planner.Operation{a, b})
		w.mustApply(target, l)
		l.want(destinations.Created, 2)
		if l.of("B").ID != w.account("B")["Id"] {
			t.Fatal("outcomes are swapped")
		}
	})
}

func TestUpdate(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		id := w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "a", "Site": "s1", "Phone": "1"})
		w.insert(map[string]any{"Warehouse_Key__c": "B", "Name": "b", "Site": "S2"})
		w.insert(map[string]any{"Warehouse_Key__c": "C1", "Name": "c", "Site": "s3"})
		w.insert(map[string]any{"Warehouse_Key__c": "C2", "Name": "c", "Site": "s3"})
		w.insert(map[string]any{"Warehouse_Key__c": "D", "Name": "d", "Site": "s4"})
		s := accountSync(models.ModeUpdate, ingestion)
		s.Match.Field = "Site"
		target := w.open(s)
		known := op(planner.Update, "s4", set(fName, "dd"))
		known.ID, known.Known = w.account("D")["Id"].(string), true
		l := w.ledger([]*planner.Operation{
			op(planner.Update, "s1", set(fName, "aa"), null(fPhone)),
			op(planner.Update, "s2", set(fName, "bb")), // the org has S2
			op(planner.Update, "s3", set(fName, "cc")),
			op(planner.Update, "none", set(fName, "xx")),
			known,
		})
		w.mustApply(target, l)
		l.want(destinations.Updated, 2)
		l.want(destinations.Failed, 3)
		for key, code := range map[string]string{"s2": "NOT_FOUND", "s3": "MULTIPLE_MATCHES", "none": "NOT_FOUND"} {
			if o := l.of(key); o.Code != code || o.Message == "" {
				t.Errorf("%s: %+v", key, o)
			}
		}
		if l.of("s1").ID != id {
			t.Errorf("s1 is %+v", l.of("s1"))
		}
		w.wantField("A", "Name", "aa")
		w.wantField("A", "Phone", nil)
		w.wantField("B", "Name", "b")
		w.wantField("D", "Name", "dd")
	})
}

// An Id from the snapshot may be that of a deleted record while another one
// matches now.
func TestUpdateFindsItsRecordAgain(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		dead := w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "a"})
		if err := w.org.Org().Delete("Account", dead); err != nil {
			t.Fatal(err)
		}
		w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "again"})
		target := w.open(accountSync(models.ModeUpdate, ingestion))
		known, lost := op(planner.Update, "A", set(fName, "aa")), op(planner.Update, "B", set(fName, "bb"))
		known.ID, known.Known, lost.ID, lost.Known = dead, true, dead, true
		l := w.ledger([]*planner.Operation{known, lost})
		w.mustApply(target, l)
		w.wantField("A", "Name", "aa")
		if o := l.of("B"); o.Result != destinations.Failed || o.Code != "NOT_FOUND" {
			t.Fatalf("B is %+v", o)
		}
	})
}

func TestArchive(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		w.insert(map[string]any{"Warehouse_Key__c": "A", "Name": "a"})
		w.insert(map[string]any{"Warehouse_Key__c": "K", "Name": "kept"})
		gone := w.insert(map[string]any{"Warehouse_Key__c": "G", "Name": "gone"})
		if err := w.org.Org().Delete("Account", gone); err != nil {
			t.Fatal(err)
		}
		s := accountSync(models.ModeArchive, ingestion)
		s.Fields = nil
		target := w.open(s)
		dead := op(planner.Archive, "G")
		dead.ID = gone
		l := w.ledger([]*planner.Operation{op(planner.Archive, "A"), op(planner.Archive, "none"), dead})
		w.mustApply(target, l)
		l.want(destinations.Deleted, 2)
		l.want(destinations.Skipped, 1)
		w.once(1)
		for _, key := range []string{"A", "none", "G"} {
			if l.of(key).Forget {
				t.Errorf("%s would be planned again: %+v", key, l.of(key))
			}
		}
	})
}

func TestRemovals(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		var ids []string
		for _, key := range []string{"A", "B", "C", "D"} {
			ids = append(ids, w.insert(map[string]any{"Warehouse_Key__c": key, "Name": key, "Phone": "1"}))
		}
		for _, i := range []int{1, 3} {
			if err := w.org.Org().Delete("Account", ids[i]); err != nil {
				t.Fatal(err)
			}
		}
		target := w.open(accountSync(models.ModeUpsert, ingestion))
		ops := []*planner.Operation{
			op(planner.Archive, "A"), op(planner.Archive, "B"),
			op(planner.ClearFields, "C", null(fPhone)), op(planner.ClearFields, "D", null(fPhone)),
		}
		for i, o := range ops {
			o.ID, o.Known = ids[i], true
		}
		l := w.ledger(ops)
		w.mustApply(target, l)
		want := map[string]destinations.Outcome{
			"A": {Result: destinations.Deleted, Forget: true},
			"B": {Result: destinations.Deleted, Forget: true},
			"C": {Result: destinations.Cleared},
			"D": {Result: destinations.Skipped, Forget: true},
		}
		for key, o := range want {
			if got := l.of(key); got.Result != o.Result || got.Forget != o.Forget {
				t.Errorf("%s is %+v", key, got)
			}
		}
		w.once(1)
		w.wantField("C", "Phone", nil)
		w.wantField("C", "Name", "C")
	})
}

func TestCreateOnly(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		w.insert(map[string]any{"Warehouse_Key__c": "B", "Name": "b", "Origin_System__c": "person", "Site": "person"})
		s := accountSync(models.ModeUpsert, ingestion)
		s.Fields = append(s.Fields, models.Field{Name: "Origin_System__c", Column: "origin"}, models.Field{Name: "Site", Column: "origin", OnCreate: true})
		target := w.open(s)
		if f := target.Fields(); !f[5].CreateOnly || !f[6].CreateOnly || f[2].CreateOnly {
			t.Fatalf("fields are %+v", f)
		}
		origin := planner.Assignment{Field: 5, Cell: models.Cell{Text: "coho"}, Send: planner.OnCreate}
		site := planner.Assignment{Field: 6, Cell: models.Cell{Text: "coho"}, Send: planner.OnCreate}
		l := w.ledger([]*planner.Operation{
			op(planner.Upsert, "A", set(fName, "aa"), origin, site),
			op(planner.Upsert, "B", set(fName, "bb"), origin, site),
		})
		w.mustApply(target, l)
		l.want(destinations.Created, 1)
		l.want(destinations.Updated, 1)
		for _, field := range []string{"Origin_System__c", "Site"} {
			w.wantField("A", field, "coho")
			w.wantField("B", field, "person")
		}
	})
}

// A person deleted records that coho wrote: the sparse upsert creates them
// anew, and they must come back whole.
func TestDeletedByAPerson(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		target := w.open(accountSync(models.ModeUpsert, ingestion))
		kept := func(f int, text string) planner.Assignment {
			return planner.Assignment{Field: f, Cell: models.Cell{Text: text}, Send: planner.Keep}
		}
		// Name is required: A fails at first. B sends the name and is created.
		a := op(planner.Upsert, "A", kept(fName, "a"), set(fPhone, "2"), kept(fRevenue, "10"))
		b := op(planner.Upsert, "B", set(fName, "b"), kept(fPhone, "1"), kept(fRevenue, "10"))
		for _, o := range []*planner.Operation{a, b} {
			o.Known, o.ID = true, "001D000000INjVeIAL"
		}
		var steps []string
		l := w.ledger([]*planner.Operation{a, b})
		l.onUpdate = func(b destinations.Batch) error { steps = append(steps, b.Step); return nil }
		w.mustApply(target, l)
		w.once(2)
		w.wantField("A", "Name", "a")
		w.wantField("A", "Phone", "2")
		w.wantField("A", "AnnualRevenue", "10")
		w.wantField("B", "Phone", "1")
		w.wantField("B", "AnnualRevenue", "10")
		l.want(destinations.Created, 2)
		if steps[len(steps)-1] != stepComplete {
			t.Fatalf("steps were %v", steps)
		}
	})
}

// What CSV cannot say arrives all the same.
func TestRowsAroundCSV(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	target := w.open(accountSync(models.ModeUpsert, "bulk"))
	l := w.ledger([]*planner.Operation{
		op(planner.Upsert, "A", set(fName, "#N/A")),
		op(planner.Upsert, "B", set(fName, "b"), set(fAbout, "one\r\ntwo")),
		op(planner.Upsert, "C", set(fName, "c")),
	})
	w.mustApply(target, l)
	w.wantField("A", "Name", "#N/A")
	w.wantField("B", "Description", "one\r\ntwo")
	if c := w.org.Counters(); c.Calls["collections.upsert"] != 1 || c.JobsCreated != 1 {
		t.Fatalf("calls were %v", c.Calls)
	}
}

// Automatic takes jobs where they are cheaper, and then for every row.
func TestAutomatic(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := accountSync(models.ModeUpsert, "automatic")
	target := w.open(s)
	w.mustApply(target, w.ledger(many(planner.Upsert, 1000)))
	if c := w.org.Counters(); c.JobsCreated != 0 || c.Calls["collections.upsert"] != 5 {
		t.Fatalf("calls were %v", c.Calls)
	}
	w.org.ResetCounters()
	before := target.Usage().Calls
	l := w.ledger(many(planner.Upsert, 12_345))
	w.mustApply(target, l)
	if calls := target.Usage().Calls - before; calls != int64(w.org.Counters().APICalls) {
		t.Fatalf("counted %d calls, the org %d", calls, w.org.Counters().APICalls)
	}
	if c := w.org.Counters(); c.JobsCreated != 1 || c.Calls["collections.upsert"] != 0 {
		t.Fatalf("calls were %v", c.Calls)
	}
	l.want(destinations.Created, 11_345)
	l.want(destinations.Updated, 1000)
	w.once(12_345)
	for _, i := range []int{0, 9_999, 10_000, 12_344} {
		w.wantField(fmt.Sprintf("K%05d", i), "Name", fmt.Sprintf("Name %d", i))
		if got := l.of(fmt.Sprintf("K%05d", i)).ID; got != w.account(fmt.Sprintf("K%05d", i))["Id"] {
			t.Fatalf("row %d has the Id %s", i, got)
		}
	}
}

func TestJobsOfBatchSize(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := accountSync(models.ModeUpsert, "bulk")
	s.Write.BulkBatchSize = 300
	target := w.open(s)
	l := w.ledger(many(planner.Upsert, 1000))
	w.mustApply(target, l)
	l.want(destinations.Created, 1000)
	if target.Usage().BulkJobs != 4 || w.org.Counters().JobsCreated != 4 {
		t.Fatalf("%d jobs, the org says %d", target.Usage().BulkJobs, w.org.Counters().JobsCreated)
	}
}

// Lookups by a field that is no external id are resolved by query, each value
// once.
func TestLookupByQuery(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		parent := w.insert(map[string]any{"Warehouse_Key__c": "P", "Name": "p", "AccountNumber": "77"})
		w.insert(map[string]any{"Warehouse_Key__c": "P2", "Name": "p2", "AccountNumber": "88"})
		w.insert(map[string]any{"Warehouse_Key__c": "P3", "Name": "p3", "AccountNumber": "88"})
		s := accountSync(models.ModeUpsert, ingestion)
		s.Fields[fParent].Lookup.Field = "AccountNumber"
		target := w.open(s)
		contains(t, strings.Join(target.Warnings(), "\n"), "not the match field")
		ops := []*planner.Operation{
			op(planner.Upsert, "X", set(fName, "x"), set(fParent, "88")),
			op(planner.Upsert, "Y", set(fName, "y"), set(fParent, "99")),
			op(planner.Upsert, "Z", set(fName, "z"), null(fParent)),
		}
		for i := range 500 {
			ops = append(ops, op(planner.Upsert, fmt.Sprintf("C%d", i), set(fName, "c"), set(fParent, "77")))
		}
		l := w.ledger(ops)
		w.mustApply(target, l)
		l.want(destinations.Created, 501)
		w.wantField("C499", "ParentId", parent)
		if o := l.of("X"); o.Code != "MULTIPLE_MATCHES" || o.Fields[0] != "ParentId" {
			t.Errorf("X is %+v", o)
		}
		if o := l.of("Y"); o.Code != "REFERENCE_NOT_FOUND" {
			t.Errorf("Y is %+v", o)
		}
	})
}

// References to two kinds of object name the kind.
func TestPolymorphicLookup(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		lead, err := w.org.Org().Insert("Lead", map[string]any{"LastName": "Li", "Company": "Co", "Warehouse_Key__c": "L1"})
		if err != nil {
			t.Fatal(err)
		}
		s := &models.Sync{
			Name: "tasks", Object: "Task", Mode: models.ModeInsert, Model: models.Model{PrimaryKey: []string{"key"}},
			Fields: []models.Field{
				{Name: "Subject", Column: "key"},
				{Name: "WhoId", Lookup: &models.Lookup{Object: "Lead", Field: "Warehouse_Key__c", Column: "parent"}},
			},
			Write: accountSync(models.ModeInsert, ingestion).Write,
		}
		target := w.open(s)
		o := op(planner.Insert, "Call Li", set(0, "Call Li"), set(1, "L1"))
		o.Match = ""
		l := w.ledger([]*planner.Operation{o})
		w.mustApply(target, l)
		l.want(destinations.Created, 1)
		tasks := w.org.Org().Records("Task")
		if len(tasks) != 1 || tasks[0]["WhoId"] != lead {
			t.Fatalf("tasks are %v", tasks)
		}
	})
}

// One bad row fails alone, with the org's code and field.
func TestBadRowsFailAlone(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		target := w.open(accountSync(models.ModeUpsert, ingestion))
		ops := many(planner.Upsert, 50)
		ops[10].Assignments = []planner.Assignment{set(fRevenue, "not a number"), set(fName, "x")}
		ops[20].Assignments = []planner.Assignment{set(fPhone, "1")} // no name
		ops[30].Assignments = append(ops[30].Assignments[:1:1], set(fParent, "nobody"))
		l := w.ledger(ops)
		w.mustApply(target, l)
		l.want(destinations.Created, 47)
		l.want(destinations.Failed, 3)
		if o := l.of("K00020"); o.Code != "REQUIRED_FIELD_MISSING" || len(o.Fields) != 1 || o.Fields[0] != "Name" || o.Attempts == 0 {
			t.Errorf("no name: %+v", o)
		}
		if o := l.of("K00030"); o.Code != "REFERENCE_NOT_FOUND" || o.Fields[0] != "ParentId" || !strings.Contains(o.Message, `no Account record has Warehouse_Key__c "nobody"`) {
			t.Errorf("no parent: %+v", o)
		}
		if o := l.of("K00010"); o.Code == "" || o.Message == "" {
			t.Errorf("no number: %+v", o)
		}
	})
}

func TestStop(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		w := newWorld(t, emulator.Options{})
		s := accountSync(models.ModeUpsert, ingestion)
		s.Write.Parallelism, s.Write.RESTBatchSize, s.Write.BulkBatchSize = 1, 10, 10
		target := w.open(s)
		l := w.ledger(many(planner.Upsert, 100), []*planner.Operation{op(planner.Upsert, "Last", set(fName, "x"))})
		stop := make(chan struct{})
		l.onBegin = func(b destinations.Batch) {
			if b.Seqs[0].From == 30 {
				close(stop)
			}
		}
		err := target.Apply(t.Context(), destinations.Application{Plan: l, Journal: l, Stop: stop})
		if !errors.Is(err, destinations.ErrStopped) {
			t.Fatalf("got %v", err)
		}
		if len(l.open) > 0 {
			t.Fatalf("batches are open: %v", l.open)
		}
		landed := len(w.org.Org().Records("Account"))
		if landed != len(l.outcomes) || landed < 40 || landed > 60 {
			t.Fatalf("%d records, %d outcomes", landed, len(l.outcomes))
		}
		l.onBegin = nil
		w.mustApply(target, l)
		w.once(101)
		// Stopped, but with nothing left to send.
		if err := target.Apply(t.Context(), destinations.Application{Plan: l, Journal: l, Stop: stop}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBudget(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.dest = w.connect(api.Config{DailyCalls: 20, EnforceLimits: true})
	s := accountSync(models.ModeUpsert, "rest")
	s.Write.RESTBatchSize = 10
	target := w.open(s)
	l := w.ledger(many(planner.Upsert, 1000))
	var budget *destinations.BudgetError
	if err := w.apply(target, l); !errors.As(err, &budget) || budget.Limit != 20 {
		t.Fatalf("got %v", err)
	}
	if len(l.open) > 0 || len(l.outcomes) == 0 || len(l.outcomes) != w.org.Org().Count("Account") {
		t.Fatalf("%d outcomes, %d records, open %v", len(l.outcomes), w.org.Org().Count("Account"), l.open)
	}
}
