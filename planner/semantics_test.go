package planner_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"coho/models"
	"coho/planner"
	"coho/planner/plannertest"
	"coho/planner/snapshot"
)

// cutRows is from how many rows on a group is cut, but for tests.
var cutRows int

func TestMain(m *testing.M) {
	cutRows = planner.CutAt(40) // so that small models are cut into pieces and smaller ones are not
	goleak.VerifyTestMain(m)
}

const null = plannertest.Null

// bench is a sync of three fields with its store.
type bench struct {
	t     *testing.T
	store *snapshot.Store
	mode  models.Mode
	tweak func(*planner.Spec)
	runs  int
	// refuse says which operations the destination refuses, by key.
	refuse map[string]string
	plan   *planner.Plan
	// progress is that of the last plan.
	progress planner.Progress
	cuts     []int // where the rows are cut into parts that are read side by side
}

func newBench(t *testing.T, mode models.Mode, tweak func(*planner.Spec)) *bench {
	store, err := snapshot.OpenFS("state", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{t: t, store: store, mode: mode, tweak: tweak, refuse: map[string]string{}}
}

// table has a row for each line "key match a b c"; "-" is null, "_" a space.
func table(lines ...string) *plannertest.Table {
	out := plannertest.NewTable("key", "match", "a", "b", "c")
	for _, l := range lines {
		cells := strings.Fields(l)
		for i, c := range cells {
			switch c {
			case "-":
				cells[i] = null
			case "''":
				cells[i] = ""
			default:
				cells[i] = strings.ReplaceAll(c, "_", " ")
			}
		}
		out.Add(cells...)
	}
	return out
}

// build plans the rows and words the operations, in order of key.
func (b *bench) build(lines ...string) []string {
	b.t.Helper()
	rows := table(lines...)
	spec := rows.Spec(b.mode, "key", "match", "a", "b", "c")
	if b.tweak != nil {
		b.tweak(&spec)
	}
	b.runs++
	read := func() (*planner.Plan, error) {
		parts, from := []planner.Rows{}, 0
		for _, cut := range append(b.cuts, len(lines)) {
			cut = min(cut, len(lines))
			parts, from = append(parts, table(lines[from:cut]...)), cut
		}
		return planner.BuildParts(context.Background(), spec, parts, b.store, filepath.Join(b.t.TempDir(), "plan"), &b.progress)
	}
	plan, err := read()
	if errors.Is(err, planner.ErrReadAgain) {
		spec.OrderEarly = false
		plan, err = read()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { plan.Remove() })
	b.plan = plan
	sum := plan.Summary()
	if r := sum.Rows; r.Read != r.Unchanged+r.Added+r.Changed+r.Rejected {
		b.t.Errorf("rows do not add up: %+v", r)
	}
	var out []string
	total := int64(0)
	for pass := range plan.Passes() {
		r, err := plan.Operations(pass, nil)
		if err != nil {
			b.t.Fatal(err)
		}
		n := int64(0)
		for r.Next() {
			out = append(out, word(r.Operation(), pass))
			n++
		}
		if err := errors.Join(r.Err(), r.Close()); err != nil {
			b.t.Fatal(err)
		}
		if n != sum.PassOperations[pass] {
			b.t.Errorf("pass %d has %d operations, the summary says %d", pass, n, sum.PassOperations[pass])
		}
		total += n
	}
	for _, n := range sum.Operations {
		total -= n
	}
	if total != 0 {
		b.t.Errorf("the summary counts %v operations, the plan has %d more", sum.Operations, total)
	}
	rejected, err := plan.Rejected()
	if err != nil {
		b.t.Fatal(err)
	}
	for rejected.Next() {
		r := rejected.Rejected()
		out = append(out, fmt.Sprintf("%s rejected %s", strings.Join(r.Key, ","), r.Code))
		sum.Rows.Rejected--
	}
	if rejected.Err() != nil || sum.Rows.Rejected != 0 {
		b.t.Errorf("rejected rows: %d too few, %v", sum.Rows.Rejected, rejected.Err())
	}
	slices.Sort(out)
	return out
}

// word is an operation as: key kind [known] field=value..., with ! for on create
// and a = before a value that is kept.
func word(op *planner.Operation, pass int) string {
	s := fmt.Sprintf("%s %s", strings.Join(op.Key, ","), op.Kind)
	if op.Known {
		s += " known"
	}
	if pass > 0 {
		s += fmt.Sprintf(" pass%d", pass)
	}
	for _, a := range op.Assignments {
		v := a.Cell.Text
		if a.Cell.Null {
			v = "-"
		}
		s += " " + string("abc"[a.Field]) + []string{"==", "=", "!="}[a.Send] + v
	}
	return s
}

// run builds and applies.
func (b *bench) run(lines ...string) []string {
	b.t.Helper()
	out := b.build(lines...)
	if err := b.store.SetActivePlan(snapshot.PlanRef{Dir: b.plan.Dir(), Fields: b.plan.Fields()}); err != nil {
		b.t.Fatal(err)
	}
	n, err := b.store.Begin(snapshot.Batch{API: "test"})
	if err != nil {
		b.t.Fatal(err)
	}
	ops, err := plannertest.Operations(b.plan)
	if err != nil {
		b.t.Fatal(err)
	}
	var done []snapshot.Settlement
	for _, op := range ops {
		st := snapshot.Settlement{Op: op, Applied: true, ID: "id-" + op.Match}
		if code := b.refuse[op.Key[0]]; code != "" {
			st = snapshot.Settlement{Op: op, Failed: true, Code: code}
		}
		done = append(done, st)
	}
	if err := b.store.Settle(n, done, true); err != nil {
		b.t.Fatal(err)
	}
	notes, err := b.plan.Notes()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.store.FinishPlan(notes); err != nil {
		b.t.Fatal(err)
	}
	st, err := b.store.Stats()
	if err != nil || st.Rows != b.store.Rows() {
		b.t.Errorf("the store counts %d rows and holds %d (%v)", b.store.Rows(), st.Rows, err)
	}
	return out
}

func (b *bench) want(got []string, want ...string) {
	b.t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.t.Errorf("run %d:\n got %s\nwant %s", b.runs, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestModes(t *testing.T) {
	removed := func(r models.OnRemoved) func(*planner.Spec) {
		return func(s *planner.Spec) { s.OnRemoved = r }
	}
	type step struct {
		rows []string
		want []string
	}
	rows := func(rows ...string) []string { return rows }
	for _, c := range []struct {
		name  string
		mode  models.Mode
		tweak func(*planner.Spec)
		steps []step
	}{
		{"insert", models.ModeInsert, nil, []step{
			{rows("1 m1 x y z"), rows("1 insert a=x b=y c=z")},
			{rows("1 m1 x CHANGED z"), nil},
			{rows(), nil},
			{rows("1 m1 x y z"), nil}, // back: never a second record
		}},
		{"update", models.ModeUpdate, nil, []step{
			{rows("1 m1 x y -"), rows("1 update a=x b=y")},
			{rows("1 m1 x Y -"), rows("1 update known a==x b=Y")},
			{rows("1 m1 x Y -"), nil},
		}},
		{"upsert", models.ModeUpsert, nil, []step{
			{rows("1 m1 x y z", "2 m2 '' y -"), rows("1 upsert a=x b=y c=z", "2 upsert a= b=y")},
			{rows("1 m1 x - z", "2 m2 '' y z"), rows("1 upsert known a==x b=- c==z", "2 upsert known a== b==y c=z")},
			{rows("1 m1 x - z", "2 m2 - y z"), rows("2 upsert known a=- b==y c==z")},
			{rows("2 m2 - y z"), nil},
			{rows("1 m1 x NEW z", "2 m2 - y z"), rows("1 upsert known a==x b=NEW c==z")},
		}},
		{"archive", models.ModeArchive, nil, []step{
			{rows("1 m1 x y z"), rows("1 archive")},
			{rows("1 m1 x CHANGED z"), nil},
			{rows(), nil},
			{rows("1 m1 x y z"), rows("1 archive")}, // forgotten when it left
		}},
		{"delete", models.ModeUpsert, removed(models.RemovedDelete), []step{
			{rows("1 m1 x y z", "2 m2 x y z"), rows("1 upsert a=x b=y c=z", "2 upsert a=x b=y c=z")},
			{rows("2 m2 x y z"), rows("1 archive known")},
		}},
		{"clear", models.ModeUpsert, removed(models.RemovedClearFields), []step{
			{rows("1 m1 x y -"), rows("1 upsert a=x b=y")},
			{rows(), rows("1 clear_fields known a=- b=-")},
			{rows(), nil},
			{rows("1 m1 x - z"), rows("1 upsert known a=x b==- c=z")},
		}},
		{"another match value is another record", models.ModeUpsert, nil, []step{
			{rows("1 m1 x y z"), rows("1 upsert a=x b=y c=z")},
			{rows("1 M1 x Q z"), rows("1 upsert known a==x b=Q c==z")}, // case is folded
			{rows("1 m9 x Q z"), rows("1 upsert a=x b=Q c=z")},
		}},
		{"a key renamed keeps its record", models.ModeUpsert, removed(models.RemovedDelete), []step{
			{rows("1 m1 x y z"), rows("1 upsert a=x b=y c=z")},
			{rows("9 m1 x y z"), rows("9 upsert a=x b=y c=z")},
			{rows("9 m1 x y z"), nil},
			{rows(), rows("9 archive known")},
		}},
		{"bad keys", models.ModeUpsert, removed(models.RemovedDelete), []step{
			{rows("1 m1 x y z", "2 m2 x y z"), rows("1 upsert a=x b=y c=z", "2 upsert a=x b=y c=z")},
			{rows("1 m1 x y z", "1 m1 x y z", "2 - x y z", "- m x y z"), rows(
				"1 rejected DUPLICATE_PRIMARY_KEY", "1 rejected DUPLICATE_PRIMARY_KEY", "2 rejected NULL_MATCH_VALUE", " rejected NULL_PRIMARY_KEY")},
			{rows("1 m1 x y z", "2 m2 x y z"), nil},
		}},
		{"match values shared", models.ModeUpsert, nil, []step{
			{rows("1 m x y z", "2 M x y z", "3 m3 - - -"), rows("1 rejected DUPLICATE_MATCH_VALUE", "2 rejected DUPLICATE_MATCH_VALUE", "3 upsert")},
			{rows("2 M x y z", "3 m3 - - -"), rows("2 upsert a=x b=y c=z")},
		}},
		{"bad values", models.ModeUpsert, removed(models.RemovedDelete), []step{
			{rows("1 m1 x y z"), rows("1 upsert a=x b=y c=z")},
			{rows("1 m1 x !bad z", "2 m2 !bad !bad z"), rows("1 rejected INVALID_VALUE", "2 rejected INVALID_VALUE")},
			{rows("1 m1 x y z"), nil},
		}},
		{"send all", models.ModeUpsert, func(s *planner.Spec) { s.Send = "all" }, []step{
			{rows("1 m1 x y -"), rows("1 upsert a=x b=y")},
			{rows("1 m1 x Q -"), rows("1 upsert known a=x b=Q")},
			{rows("1 m1 x - -"), rows("1 upsert known a=x b=-")},
			{rows("1 m1 Q - -"), rows("1 upsert known a=Q b=-")},
		}},
		{"nulls write", models.ModeUpsert, func(s *planner.Spec) { s.Nulls = "write" }, []step{
			{rows("1 m1 x - -"), rows("1 upsert a=x b=- c=-")},
			{rows("1 m1 Q - -"), rows("1 upsert known a=Q b==- c==-")},
		}},
		{"nulls ignore", models.ModeUpsert, func(s *planner.Spec) { s.Nulls = "ignore" }, []step{
			{rows("1 m1 x y -"), rows("1 upsert a=x b=y")},
			{rows("1 m1 Q - -"), rows("1 upsert known a=Q b==y")},
			{rows("1 m1 Q y -"), nil},
			{rows("1 m1 - - -"), nil},
		}},
		{"create only", models.ModeUpsert, func(s *planner.Spec) { s.Fields[1].CreateOnly = true }, []step{
			{rows("1 m1 x y -"), rows("1 upsert a=x b!=y")},
			{rows("1 m1 x Q -"), nil},
			{rows("1 m1 Q Q -"), rows("1 upsert known a=Q")},
		}},
		{"left on clear", models.ModeUpsert, func(s *planner.Spec) {
			s.OnRemoved, s.Fields[0].KeepOnClear, s.Fields[1].CreateOnly = models.RemovedClearFields, true, true
		}, []step{
			{rows("1 m1 x y z"), rows("1 upsert a=x b!=y c=z")},
			{rows(), rows("1 clear_fields known a==x c=-")},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.mode, c.tweak)
			for _, s := range c.steps {
				b.want(b.run(s.rows...), s.want...)
			}
		})
	}
}

func TestMappingChangeSendsOnlyItsFields(t *testing.T) {
	b := newBench(t, models.ModeUpsert, nil)
	b.run("1 m1 x y z")
	b.tweak = func(s *planner.Spec) { s.Version = 2 }
	b.want(b.run("1 m1 x y z"))
	if n, _ := b.plan.Notes(); !n.Next() || n.Note().Kind != planner.NoteRefresh {
		t.Error("the entry keeps its old fingerprint")
	}
	b.want(b.run("1 m1 x y z"))
	if n, _ := b.plan.Notes(); n.Next() {
		t.Errorf("the refreshed entry is refreshed again")
	}
}

func TestFullSendsEverything(t *testing.T) {
	for mode, want := range map[models.Mode][]string{
		models.ModeUpsert:  {"1 upsert known a=x b=y"},
		models.ModeUpdate:  {"1 update known a=x b=y"},
		models.ModeInsert:  nil,
		models.ModeArchive: {"1 archive"},
	} {
		b := newBench(t, mode, nil)
		b.run("1 m1 x y -")
		b.tweak = func(s *planner.Spec) { s.Full = true }
		b.want(b.run("1 m1 x y -"), want...)
		b.tweak = nil
		b.want(b.run("1 m1 x y -"))
	}
}

func TestRefusedRows(t *testing.T) {
	const row, sent, later = "1 m1 x y z", "1 upsert a=x b=y c=z", "1 rejected RETRY_LATER"
	policy := func(p string) func(*planner.Spec) { return func(s *planner.Spec) { s.RetryRejected = p } }

	b := newBench(t, models.ModeUpsert, policy("always"))
	b.refuse["1"] = "NO"
	for range 3 {
		b.want(b.run(row), sent)
	}

	b = newBench(t, models.ModeUpsert, policy("on_change"))
	b.refuse["1"] = "NO"
	b.want(b.run(row), sent)
	b.want(b.run(row), later)
	b.want(b.run("1 m1 x y Q"), "1 upsert a=x b=y c=Q")
	b.want(b.run("1 m1 x y Q"), later)
	b.want(b.run()) // forgotten with the row
	b.want(b.run("1 m1 x y Q"), "1 upsert a=x b=y c=Q")

	b = newBench(t, models.ModeUpsert, policy("backoff"))
	b.refuse["1"] = "NO"
	var got string
	for range 20 {
		if b.run(row)[0] == sent {
			got += "S"
		} else {
			got += "."
		}
	}
	if want := "SS.S...S.......S...."; got != want {
		t.Errorf("backoff: %s, want %s", got, want)
	}
	b.refuse["1"] = "OTHER" // another error starts over
	b.tweak = func(s *planner.Spec) { s.Full = true }
	b.want(b.run(row), sent)
	b.tweak = policy("backoff")
	b.want(b.run(row), sent)
	b.refuse = nil
	b.want(b.run(row), later)
	b.want(b.run(row), sent)
	b.want(b.run(row))
}

// TestRefusalKeepsWhatWasAcknowledged: a refused change is planned again from the
// record as it was.
func TestRefusalKeepsWhatWasAcknowledged(t *testing.T) {
	b := newBench(t, models.ModeUpsert, func(s *planner.Spec) { s.OnRemoved = models.RemovedDelete })
	b.run("1 m1 x y z")
	b.refuse["1"] = "NO"
	b.want(b.run("1 m1 x Q z"), "1 upsert known a==x b=Q c==z")
	b.want(b.run("1 m1 x y z")) // back as it was
	b.want(b.run(), "1 archive known")
	b.want(b.run(), "1 archive known") // a refused removal stays due
	b.refuse = nil
	b.want(b.run(), "1 archive known")
	b.want(b.run())
	if b.store.Rows() != 0 {
		t.Errorf("%d rows are left", b.store.Rows())
	}
}

func TestSelfReferences(t *testing.T) {
	tweak := func(s *planner.Spec) { s.Fields[0].SelfReference, s.OnRemoved = true, models.RemovedDelete }
	for _, memory := range []int64{0, 1} {
		b := newBench(t, models.ModeUpsert, func(s *planner.Spec) { tweak(s); s.MemoryLimit = memory })
		b.want(b.run("1 m1 - - -", "2 m2 M1 - -", "3 m3 m2 - -", "4 m4 gone - -", "7 m7 m8 - -", "8 m8 m7 - -", "9 m9 m8 - -", "5 d - - -", "6 D - - -", "10 m10 d - -"),
			"1 upsert", "2 upsert pass1 a=M1", "3 upsert pass2 a=m2", "4 upsert a=gone",
			"7 upsert pass2 a=m8", "8 upsert pass2 a=m7", "9 upsert pass2 a=m8", // a circle goes last
			"5 rejected DUPLICATE_MATCH_VALUE", "6 rejected DUPLICATE_MATCH_VALUE", "10 upsert a=d")
		b.want(b.run("1 m1 - - -", "11 m11 m1 - -"), // the parent is there: no later pass, but removals are last
			"11 upsert a=m1", "3 archive known pass1", "9 archive known pass1", // children go before their parents
			"2 archive known pass2", "4 archive known pass2", "7 archive known pass2", "8 archive known pass2", "10 archive known pass2")
		b.want(b.run("1 m1 - - -"), "11 archive known")
		b.want(b.run("12 m12 m13 - -", "13 m13 m14 - -", "14 m14 - - -"), "1 archive known pass3",
			"14 upsert", "13 upsert pass1 a=m14", "12 upsert pass2 a=m13")
		b.want(b.run(), "12 archive known", "13 archive known pass1", "14 archive known pass2")
	}
}
