package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"coho/models"
	"coho/planner"
	"coho/planner/plannertest"
	"coho/planner/snapshot"
)

// org is a destination in memory that knows what its jobs did, as a real one
// does. It survives crashes.
type org struct {
	records map[string]*record // by Id
	next    int
	jobs    map[string][]snapshot.Settlement
	writes  int
}

type record struct {
	match  string
	fields map[string]string      // null: absent
	sent   map[string]models.Cell // what coho sent last
	edited map[string]bool        // a person wrote the field since
}

func (o *org) find(match string) string {
	ids := slices.Sorted(maps.Keys(o.records))
	for _, id := range ids {
		if strings.EqualFold(o.records[id].match, match) {
			return id
		}
	}
	return ""
}

func (o *org) create(match string) string {
	o.next++
	id := fmt.Sprintf("%018d", o.next)
	o.records[id] = &record{match: match, fields: map[string]string{}, sent: map[string]models.Cell{}, edited: map[string]bool{}}
	return id
}

// apply does one operation as a writer would.
func (w *world) apply(op *planner.Operation, fields []string) snapshot.Settlement {
	o := w.org
	st := snapshot.Settlement{Op: op, Applied: true, ID: op.ID}
	created := false
	switch op.Kind {
	case planner.Insert:
		st.ID, created = o.create(op.Match), true
	case planner.Upsert:
		if st.ID = o.find(op.Match); st.ID == "" {
			st.ID, created = o.create(op.Match), true
		}
	default:
		if st.ID == "" {
			st.ID = o.find(op.Match)
		}
		if o.records[st.ID] == nil {
			if op.Kind == planner.Archive {
				return snapshot.Settlement{Op: op, Forget: true}
			}
			return snapshot.Settlement{Op: op, Failed: true, Code: "NOT_FOUND"}
		}
	}
	o.writes++
	rec := o.records[st.ID]
	if op.Fingerprint == (planner.Hash{}) && w.claimed[rec.match] > 0 {
		w.t.Fatalf("%s of row %v, which left, hits record %s of a row of the model", op.Kind, op.Key, rec.match)
	}
	if op.Kind == planner.Archive {
		delete(o.records, st.ID)
		st.Forget = true
		return st
	}
	for _, a := range op.Assignments {
		if a.Send == planner.Keep || a.Send == planner.OnCreate && !created {
			continue
		}
		f := fields[a.Field]
		if was, ok := rec.sent[f]; ok && was == a.Cell && rec.edited[f] && op.Known && w.onlyChanged {
			w.t.Fatalf("row %v writes %s over what a person wrote, and the model did not change it", op.Key, f)
		}
		rec.sent[f], rec.edited[f] = a.Cell, false
		if a.Cell.Null {
			delete(rec.fields, f)
		} else {
			rec.fields[f] = a.Cell.Text
		}
	}
	return st
}

var errCrash = errors.New("crash")

// world is a sync with its org and state.
type world struct {
	t     *rapid.T
	fs    *crashable
	dir   string // of plans, on a real disk
	org   *org
	fail  int // percent of rows that are refused
	crash int // calls until the process dies; negative: never
	store *snapshot.Store

	// Of the plan that is being applied: how many rows of the model have a
	// match value, and whether it sends changed fields only.
	claimed     map[string]int
	onlyChanged bool
}

// tick is called between any two calls.
func (w *world) tick() error {
	if w.crash--; w.crash == -1 {
		return errCrash
	}
	return nil
}

// run does what the engine does: resume what is there, else plan; apply; commit.
func (w *world) run(table *modelTable, spec planner.Spec) (sum planner.Summary, err error) {
	s := w.store
	if s == nil {
		if s, err = snapshot.OpenFS("state", w.fs); err != nil {
			w.t.Fatalf("open: %v", err)
		}
		w.store = s
	}
	if err := s.SetIdentity(snapshot.Identity{MatchIsKey: spec.MatchIsKey}); err != nil {
		return sum, err
	}
	ref, active, err := s.ActivePlan()
	if err != nil {
		return sum, err
	}
	var plan *planner.Plan
	if active {
		plan, err = planner.OpenPlan(ref.Dir)
	} else {
		w.claimed, w.onlyChanged = table.claimed, !spec.Full && spec.Send == "changed"
		plan, err = planner.Build(context.Background(), spec, table.Rewind(), s, w.dir, nil)
	}
	if err != nil {
		return sum, err
	}
	defer plan.Close()
	if err := w.tick(); err != nil {
		return sum, err
	}
	if !active {
		if err := s.SetActivePlan(snapshot.PlanRef{Dir: w.dir, Fields: plan.Fields()}); err != nil {
			return sum, err
		}
	}
	open, err := s.OpenBatches()
	if err != nil {
		return sum, err
	}
	for _, b := range open {
		if err := w.tick(); err != nil {
			return sum, err
		}
		if err := s.Settle(b.Number, w.org.jobs[b.Handle], true); err != nil {
			return sum, err
		}
	}
	for pass := range plan.Passes() {
		if err := w.pass(plan, pass); err != nil {
			return sum, err
		}
	}
	if err := w.tick(); err != nil {
		return sum, err
	}
	notes, err := plan.Notes()
	if err != nil {
		return sum, err
	}
	if err := s.FinishPlan(notes); err != nil {
		return sum, err
	}
	sum = plan.Summary()
	return sum, w.tick()
}

func (w *world) pass(plan *planner.Plan, pass int) error {
	s := w.store
	settled, err := s.Settled()
	if err != nil {
		return err
	}
	r, err := plan.Operations(pass, settled)
	if err != nil {
		return err
	}
	for more := true; more; {
		var batch []*planner.Operation
		var seqs planner.Seqs
		for len(batch) < 3 {
			if more = r.Next(); !more {
				break
			}
			batch = append(batch, r.Operation().Clone())
			seqs = seqs.Append(r.Operation().Seq)
		}
		if len(batch) == 0 {
			break
		}
		handle := fmt.Sprintf("job%d", len(w.org.jobs))
		n, err := s.Begin(snapshot.Batch{API: "test", Handle: handle, Seqs: seqs})
		if err != nil {
			return err
		}
		if err := w.tick(); err != nil {
			return err
		}
		var outcomes []snapshot.Settlement
		for _, op := range batch {
			if rapid.IntRange(0, 99).Draw(w.t, "fails") < w.fail {
				outcomes = append(outcomes, snapshot.Settlement{Op: op, Failed: true, Code: "REFUSED"})
			} else {
				outcomes = append(outcomes, w.apply(op, plan.Fields()))
			}
		}
		w.org.jobs[handle] = outcomes
		if err := w.tick(); err != nil {
			return err
		}
		half := len(outcomes) / 2
		if err := s.Settle(n, outcomes[:half], false); err != nil {
			return err
		}
		if err := w.tick(); err != nil {
			return err
		}
		if err := s.Settle(n, outcomes, true); err != nil {
			return err
		}
	}
	return errors.Join(r.Err(), r.Close())
}

// die loses what was not synced.
func (w *world) die() {
	after := w.fs.crash(vfs.CrashCloneCfg{})
	if err := w.store.Close(); err != nil {
		w.t.Fatalf("close: %v", err)
	}
	w.fs, w.store = after, nil
}

func (w *world) checkCount() {
	st, err := w.store.Stats()
	if err != nil {
		w.t.Fatalf("stats: %v", err)
	}
	if st.Rows != w.store.Rows() {
		w.t.Fatalf("the store counts %d rows and holds %d", w.store.Rows(), st.Rows)
	}
}

type modelRow struct {
	key, match string
	cells      [3]string
}

// modelTable is the model with how many of its rows have a match value.
type modelTable struct {
	*plannertest.Table
	claimed map[string]int
}

var fieldNames = []string{"a", "b", "c"}

// TestEverythingLands runs random models through random edits, refusals and
// crashes, and then compares the org with the model.
func TestEverythingLands(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := fmt.Sprintf("%s/%d", base, n)
		defer os.RemoveAll(dir)
		w := &world{t: t, fs: newCrashable(), dir: dir, crash: -1,
			org: &org{records: map[string]*record{}, jobs: map[string][]snapshot.Settlement{}}}
		defer func() {
			if w.store != nil {
				w.store.Close()
			}
		}()
		defer snapshot.FoldAt(rapid.SampledFrom([]int{1, 300, 1 << 20}).Draw(t, "fold at"), rapid.SampledFrom([]int{1, 1 << 20}).Draw(t, "fold tables"))()
		orderLog := dir + ".order"
		defer os.Remove(orderLog)
		// The key may be the match value, or another: the first has the order
		// log, the second the index of owners.
		matchIsKey := rapid.Bool().Draw(t, "match is key")
		mode := rapid.SampledFrom([]models.Mode{models.ModeUpsert, models.ModeUpsert, models.ModeInsert, models.ModeUpdate}).Draw(t, "mode")
		removed := models.RemovedNothing
		switch mode {
		case models.ModeUpsert:
			removed = rapid.SampledFrom([]models.OnRemoved{models.RemovedNothing, models.RemovedClearFields, models.RemovedDelete}).Draw(t, "on_removed")
		case models.ModeUpdate:
			removed = rapid.SampledFrom([]models.OnRemoved{models.RemovedNothing, models.RemovedClearFields}).Draw(t, "on_removed")
			for i := range 30 {
				w.org.create(fmt.Sprintf("m%d", i))
			}
		}
		nulls := rapid.SampledFrom([]string{"on_change", "write"}).Draw(t, "nulls")
		send := rapid.SampledFrom([]string{"changed", "all"}).Draw(t, "send")
		partitions := rapid.SampledFrom([]int{0, 1, 2, 64}).Draw(t, "partitions")
		memory := rapid.SampledFrom([]int64{0, 1, 300}).Draw(t, "memory")

		rows := map[string]*modelRow{}
		used := map[string]bool{} // match values that a row has left behind
		var left []modelRow       // rows that left the model
		claims := func() map[string]int {
			out := map[string]int{}
			for _, r := range rows {
				out[r.match]++
			}
			return out
		}
		nextKey := 0
		// free is a match value that no row has, or now and then any.
		free := func() string {
			var out []string
			taken := claims()
			any := rapid.IntRange(0, 3).Draw(t, "shared") == 0
			for i := range 30 {
				if m := fmt.Sprintf("m%d", i); any && i < 8 || taken[m] == 0 {
					out = append(out, m)
				}
			}
			if len(out) == 0 {
				return ""
			}
			return rapid.SampledFrom(out).Draw(t, "match")
		}
		cell := func() string { return rapid.SampledFrom([]string{plannertest.Null, "", "x", "y", "z"}).Draw(t, "cell") }
		edit := func() {
			keys := slices.Sorted(maps.Keys(rows))
			what := rapid.IntRange(0, 10).Draw(t, "edit")
			if len(keys) == 0 && what != 10 {
				what = 0
			}
			var r *modelRow
			if what > 2 && what < 10 {
				r = rows[rapid.SampledFrom(keys).Draw(t, "row")]
			}
			switch what {
			case 0, 1, 2:
				if m := free(); m != "" {
					nextKey++
					r = &modelRow{key: fmt.Sprintf("k%d", nextKey), match: m, cells: [3]string{cell(), cell(), cell()}}
					rows[r.key] = r
				}
			case 3:
				delete(rows, r.key)
				used[r.match] = true
				left = append(left, *r)
			case 4: // the key is another, the record the same
				delete(rows, r.key)
				left = append(left, *r)
				nextKey++
				r.key = fmt.Sprintf("k%d", nextKey)
				rows[r.key] = r
				used[r.match] = true
			case 5: // the record is another
				if mode != models.ModeInsert {
					if m := free(); m != "" {
						used[r.match] = true
						r.match = m
					}
				}
			case 6: // a person edits a field that coho wrote
				if id := w.org.find(r.match); id != "" && mode != models.ModeInsert {
					f := rapid.SampledFrom(fieldNames).Draw(t, "field")
					w.org.records[id].fields[f] = "edited"
					w.org.records[id].edited[f] = true
				}
			case 10: // a row comes back as it was
				if len(left) > 0 {
					back := rapid.SampledFrom(left).Draw(t, "back")
					if rows[back.key] == nil {
						rows[back.key] = &back
					}
				}
			default:
				r.cells[rapid.IntRange(0, 2).Draw(t, "which")] = cell()
			}
		}
		makeTable := func(dirt bool) (*modelTable, planner.Spec) {
			table := plannertest.NewTable("a", "k1", "unused", "b", "k2", "match", "c")
			add := func(r *modelRow, k2 string) {
				table.Add(r.cells[0], r.key, "u", r.cells[1], k2, r.match, r.cells[2])
			}
			for _, k := range rapid.Permutation(slices.Sorted(maps.Keys(rows))).Draw(t, "order") {
				r := rows[k]
				add(r, "2")
				if dirt && rapid.IntRange(0, 9).Draw(t, "dirt") == 0 {
					add(r, "2") // repeated
				}
			}
			if dirt {
				add(&modelRow{key: plannertest.Null, match: "never"}, "2")
				add(&modelRow{key: "never", match: "never"}, plannertest.Null)
				add(&modelRow{key: "nomatch", match: plannertest.Null}, "2")
				add(&modelRow{key: "bad", match: "never", cells: [3]string{plannertest.Bad}}, "2")
			}
			keys := "k1,k2"
			if matchIsKey {
				keys = "match"
			}
			spec := table.Spec(mode, keys, "match", fieldNames...)
			spec.MatchIsKey, spec.OrderLog = matchIsKey, orderLog
			spec.OnRemoved, spec.Nulls, spec.Send, spec.Partitions, spec.MemoryLimit = removed, nulls, send, partitions, memory
			return &modelTable{table, claims()}, spec
		}

		for range rapid.IntRange(1, 5).Draw(t, "runs") {
			for range rapid.IntRange(0, 8).Draw(t, "edits") {
				edit()
			}
			w.fail = rapid.SampledFrom([]int{0, 30}).Draw(t, "refusals")
			w.crash = rapid.IntRange(0, 25).Draw(t, "crash")
			if b, err := os.ReadFile(orderLog); err == nil && len(b) > 0 && rapid.IntRange(0, 3).Draw(t, "damage") == 0 {
				at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
				if rapid.Bool().Draw(t, "cut") {
					b = b[:at]
				} else {
					b[at] ^= 1
				}
				if err := os.WriteFile(orderLog, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			table, spec := makeTable(true)
			spec.Full = mode == models.ModeUpsert && rapid.IntRange(0, 9).Draw(t, "full") == 0
			if _, err := w.run(table, spec); errors.Is(err, errCrash) {
				w.die()
			} else if err != nil {
				t.Fatalf("run: %v", err)
			} else {
				w.checkCount()
			}
		}
		// Of rows that share a match value one stays.
		for m, n := range claims() {
			for _, k := range slices.Sorted(maps.Keys(rows)) {
				if rows[k].match == m && n > 1 {
					delete(rows, k)
					used[m] = true
					n--
				}
			}
		}
		claimed := claims()
		// What was planned before is finished, then the model as it is lands.
		w.fail, w.crash = 0, -1
		for range 2 {
			table, spec := makeTable(false)
			if _, err := w.run(table, spec); err != nil {
				t.Fatalf("clean run: %v", err)
			}
			w.checkCount()
		}
		before := w.org.writes
		table, spec := makeTable(false)
		sum, err := w.run(table, spec)
		if err != nil {
			t.Fatalf("unchanged run: %v", err)
		}
		if w.org.writes != before || sum.Operations != [planner.KindCount]int64{} || sum.Rows.Unchanged != int64(len(rows)) {
			t.Fatalf("a run without changes plans %+v", sum)
		}
		// compare
		found := map[string]string{}
		for id, r := range w.org.records {
			if other := found[r.match]; other != "" && (mode != models.ModeInsert || !used[r.match]) {
				t.Fatalf("record %s is there twice: %s and %s", r.match, other, id)
			}
			found[r.match] = id
		}
		for _, r := range rows {
			id := found[r.match]
			if id == "" {
				t.Fatalf("row %s has no record %s", r.key, r.match)
			}
			if mode == models.ModeInsert {
				continue
			}
			for i, f := range fieldNames {
				want, got := r.cells[i], plannertest.Null
				if v, ok := w.org.records[id].fields[f]; ok {
					got = v
				}
				if w.org.records[id].edited[f] {
					want = "edited"
				}
				if want == plannertest.Null && used[r.match] && nulls != "write" {
					continue
				}
				if got != want {
					t.Fatalf("%s of %s is %q, the model says %q", f, r.match, got, want)
				}
			}
		}
		if removed == models.RemovedDelete {
			for m := range found {
				if claimed[m] == 0 && !used[m] {
					t.Fatalf("record %s was never asked for", m)
				}
			}
		}
	})
}
