package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coho/destinations"
	"coho/models"
	"coho/planner"
	"coho/planner/plannertest"
	"coho/sources"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderVar); dir != "" {
		os.Exit(hold(dir))
	}
	goleak.VerifyTestMain(m)
}

// warehouse is a source in memory. Every model of it has the columns k, name
// and phone, all text.
type warehouse struct {
	mu    sync.Mutex // guards the rest
	rows  map[string][][]string
	reads int

	describeErr, readErr error
	// streamErr ends a result in the middle, after its rows.
	streamErr error
	// onRow is called before each row is handed out.
	onRow func(n int)
	// columns replaces the result's columns from the next Read on.
	columns []string
}

var warehouseColumns = []string{"k", "name", "phone"}

func (w *warehouse) Ping(context.Context) error { return nil }
func (w *warehouse) Close() error               { return nil }

func (w *warehouse) Describe(context.Context, models.Model) (models.Schema, error) {
	if w.describeErr != nil {
		return nil, w.describeErr
	}
	return plannertest.NewTable(warehouseColumns...), nil
}

func (w *warehouse) Read(ctx context.Context, m models.Model) (sources.Rows, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	if w.readErr != nil {
		return nil, w.readErr
	}
	columns := warehouseColumns
	if w.columns != nil {
		columns = w.columns
	}
	t := plannertest.NewTable(columns...)
	for _, r := range w.rows[m.Name] {
		t.Add(r...)
	}
	t.Fail = w.streamErr
	return &stream{Table: t, ctx: ctx, w: w}, nil
}

// stream is a result being read.
type stream struct {
	*plannertest.Table
	ctx context.Context // bounds the rows' life, as the port says
	w   *warehouse
	n   int
	err error
}

func (s *stream) Next() bool {
	if s.w.onRow != nil {
		s.w.onRow(s.n)
	}
	s.n++
	if err := s.ctx.Err(); err != nil {
		s.err = errors.New("canceling statement due to user request")
		return false
	}
	return s.Table.Next()
}

func (s *stream) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.Table.Err()
}

func (s *stream) Close() error { return nil }

// org is a destination in memory that keeps the ports' contracts: a batch is
// begun and its handle journaled before anything of it lands, and what an
// earlier run left open is looked up by its handle before anything is sent.
type org struct {
	mu      sync.Mutex // guards the rest
	id      string
	records map[string]map[string]string // by object/key
	created map[string]int               // how often each was created
	jobs    map[string]map[int64]destinations.Outcome
	sent    int64    // operations that arrived
	opened  []string // objects of the syncs opened
	batches int

	refuse   map[string]string // key: the code with which its rows fail
	problems destinations.Problems
	orgErr   error
	// budget is how many batches may still be sent, -1: any number.
	budget int
	// short leaves the first operation of every batch without an outcome.
	short bool
	// reach is called at each named point of Apply; its error is the writer's.
	reach func(point string) error
}

func newOrg() *org {
	return &org{id: "00D000000000001EAA", records: map[string]map[string]string{}, created: map[string]int{}, jobs: map[string]map[int64]destinations.Outcome{}, refuse: map[string]string{}, budget: -1}
}

// clone copies what the org holds.
func (o *org) clone() *org {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := newOrg()
	c.id, c.sent, c.batches = o.id, o.sent, o.batches
	for k, r := range o.records {
		c.records[k] = maps.Clone(r)
	}
	c.created, c.refuse = maps.Clone(o.created), maps.Clone(o.refuse)
	for k, j := range o.jobs {
		c.jobs[k] = maps.Clone(j)
	}
	return c
}

func (o *org) Org(context.Context) (string, error) { return o.id, o.orgErr }
func (o *org) Close() error                        { return nil }

func (o *org) Open(_ context.Context, s *models.Sync, _ []models.Column) (destinations.Target, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = append(o.opened, s.Object)
	if len(o.problems) > 0 {
		return nil, o.problems
	}
	return &target{org: o, sync: s}, nil
}

func (o *org) at(point string) error {
	if o.reach == nil {
		return nil
	}
	return o.reach(point)
}

// target is one sync's object in the org.
type target struct {
	org   *org
	sync  *models.Sync
	calls int64
}

func (t *target) Fields() []planner.Field {
	out := make([]planner.Field, len(t.sync.Fields))
	for i, f := range t.sync.Fields {
		out[i].Name = f.Name
	}
	return out
}

func (t *target) Convert(field int, v models.Value) (models.Cell, error) {
	return plannertest.Convert(field, v)
}

func (t *target) NormalizeMatch(match string) string { return match }
func (t *target) Warnings() []string                 { return []string{"a remark"} }

func (t *target) Estimate(s planner.Summary) destinations.Estimate {
	var n int64
	for _, k := range s.Operations {
		n += k
	}
	return destinations.Estimate{APICalls: n, Choice: "in memory"}
}

func (t *target) Usage() destinations.Usage {
	return destinations.Usage{Calls: t.calls, Remaining: 1000 - t.calls}
}

// batchSize is how many operations the target sends at once.
const batchSize = 2

func (t *target) Apply(ctx context.Context, a destinations.Application) error {
	if err := t.org.at("apply"); err != nil {
		return err
	}
	open, err := a.Journal.Open()
	if err != nil {
		return err
	}
	for _, b := range open {
		if err := t.recover(ctx, a, b); err != nil {
			return err
		}
	}
	for pass := range a.Plan.Passes() {
		if err := t.pass(ctx, a, pass); err != nil {
			return err
		}
	}
	return t.org.at("applied")
}

// recover looks up what became of a batch.
func (t *target) recover(ctx context.Context, a destinations.Application, b destinations.Batch) error {
	t.org.mu.Lock()
	results, landed := t.org.jobs[b.Handle]
	t.org.mu.Unlock()
	var ops []*planner.Operation
	var outcomes []destinations.Outcome
	if landed {
		r, err := a.Plan.Read(b.Seqs)
		if err != nil {
			return err
		}
		for r.Next() {
			ops = append(ops, r.Operation().Clone())
			outcomes = append(outcomes, results[r.Operation().Seq])
		}
		if err := errors.Join(r.Err(), r.Close()); err != nil {
			return err
		}
	}
	return a.Journal.Settle(ctx, b.Number, ops, outcomes, true)
}

func (t *target) pass(ctx context.Context, a destinations.Application, pass int) (err error) {
	ops, err := a.Plan.Operations(pass)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	var batch []*planner.Operation
	for more := true; more; {
		if more = ops.Next(); more {
			batch = append(batch, ops.Operation().Clone())
		}
		if len(batch) == 0 || more && len(batch) < batchSize {
			continue
		}
		select {
		case <-a.Stop:
			return destinations.ErrStopped
		default:
		}
		if err := t.send(ctx, a.Journal, batch); err != nil {
			return err
		}
		batch = nil
	}
	return ops.Err()
}

func (t *target) send(ctx context.Context, j destinations.Journal, ops []*planner.Operation) error {
	o := t.org
	o.mu.Lock()
	left := o.budget
	if left > 0 {
		o.budget--
	}
	o.batches++
	handle := fmt.Sprintf("job-%d", o.batches)
	o.mu.Unlock()
	if left == 0 {
		return fmt.Errorf("send: %w", &destinations.BudgetError{Used: 7, Limit: 7})
	}
	var b destinations.Batch
	for _, op := range ops {
		b.Seqs = b.Seqs.Append(op.Seq)
	}
	var err error
	if b.Number, err = j.Begin(ctx, b); err != nil {
		return err
	}
	if err := o.at("begun"); err != nil {
		return err
	}
	b.API, b.Step, b.Handle = "memory", "send", handle
	if err := j.Update(ctx, b); err != nil {
		return err
	}
	if err := o.at("named"); err != nil {
		return err
	}
	t.calls++
	outcomes := t.land(handle, ops)
	if err := o.at("landed"); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("await the answer: %w", err)
	}
	if o.short {
		ops, outcomes = ops[1:], outcomes[1:]
	}
	if err := j.Settle(ctx, b.Number, ops, outcomes, true); err != nil {
		return err
	}
	return o.at("settled")
}

// land is what happens in the org.
func (t *target) land(handle string, ops []*planner.Operation) []destinations.Outcome {
	o := t.org
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]destinations.Outcome, len(ops))
	results := map[int64]destinations.Outcome{}
	for i, op := range ops {
		o.sent++
		out[i] = t.one(op)
		results[op.Seq] = out[i]
	}
	o.jobs[handle] = results
	return out
}

func (t *target) one(op *planner.Operation) destinations.Outcome {
	o := t.org
	key := t.sync.Object + "/" + op.Key[0]
	if code := o.refuse[op.Key[0]]; code != "" {
		return destinations.Outcome{Result: destinations.Failed, Code: code, Message: "refused " + op.Key[0], Fields: []string{"Name"}, Attempts: 1}
	}
	record, exists := o.records[key]
	id := fmt.Sprintf("001%015s", op.Key[0])
	switch op.Kind {
	case planner.Archive:
		delete(o.records, key)
		return destinations.Outcome{Result: destinations.Deleted, ID: id, Forget: t.sync.Mode != models.ModeArchive, Attempts: 1}
	case planner.Insert:
		exists = false
	}
	if !exists {
		record = map[string]string{}
		o.records[key] = record
		o.created[key]++
	}
	for _, a := range op.Assignments {
		switch name := t.sync.Fields[a.Field].Name; {
		case a.Send == planner.Keep, a.Send == planner.OnCreate && exists:
		case a.Cell.Null:
			delete(record, name)
		default:
			record[name] = a.Cell.Text
		}
	}
	switch {
	case op.Kind == planner.ClearFields:
		return destinations.Outcome{Result: destinations.Cleared, ID: id, Attempts: 1}
	case exists:
		return destinations.Outcome{Result: destinations.Updated, ID: id, Attempts: 1}
	}
	return destinations.Outcome{Result: destinations.Created, ID: id, Attempts: 1}
}

// world is a warehouse, an org and a state directory.
type world struct {
	t         *testing.T
	dir       string
	warehouse *warehouse
	org       *org
	syncs     map[string]*models.Sync
	order     []string
	sequences map[string]models.Sequence
	clock     func() time.Time
}

// start is when the tests' clocks begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newWorld has the syncs named, each of a model of its own name.
func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := &world{
		t: t, dir: filepath.Join(t.TempDir(), "state"), warehouse: &warehouse{rows: map[string][][]string{}}, org: newOrg(),
		syncs: map[string]*models.Sync{}, order: names, sequences: map[string]models.Sequence{},
		clock: ticking(),
	}
	for _, n := range names {
		w.syncs[n] = upsert(n)
	}
	return w
}

// ticking is a clock on which every look takes a millisecond.
func ticking() func() time.Time {
	var mu sync.Mutex
	at := start
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Millisecond)
		return at
	}
}

func upsert(name string) *models.Sync {
	return &models.Sync{
		Name: name, Destination: "crm", Object: "Account", Mode: models.ModeUpsert, OnRemoved: models.RemovedNothing,
		Model:  models.Model{Name: name, Source: "warehouse", SQL: "SELECT k, name, phone FROM " + name, PrimaryKey: []string{"k"}},
		Match:  models.Match{Field: "Key__c", Column: "k"},
		Fields: []models.Field{{Name: "Name", Column: "name"}, {Name: "Phone", Column: "phone"}},
	}
}

// options are an engine's over the world, as a new process would have them.
func (w *world) options() Options {
	return Options{
		StateDir: w.dir, Syncs: w.syncs, SyncOrder: w.order, Sequences: w.sequences, Now: w.clock,
		OpenSource: func(name string) (sources.Source, error) { return w.warehouse, nil },
		OpenDestination: func(name string) (destinations.Destination, error) {
			return w.org, nil
		},
	}
}

func (w *world) engine() *Engine {
	w.t.Helper()
	e, err := New(w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// with gives f an engine, as a process of its own has one.
func (w *world) with(f func(e *Engine)) {
	w.t.Helper()
	e := w.engine()
	defer func() {
		if err := e.Close(); err != nil {
			w.t.Errorf("close the engine: %v", err)
		}
	}()
	f(e)
}

// run runs a sync in an engine of its own.
func (w *world) run(name string, o RunOptions) (run *Run, err error) {
	w.t.Helper()
	w.with(func(e *Engine) { run, err = e.Run(context.Background(), name, o) })
	return run, err
}

// must runs a sync that has to succeed.
func (w *world) must(name string) *Run {
	w.t.Helper()
	run, err := w.run(name, RunOptions{})
	if err != nil || run.Status != Succeeded {
		w.t.Fatalf("run: %v, %+v", err, run)
	}
	return run
}

// fill sets a model's rows: k and name as given, a phone made of k.
func (w *world) fill(model string, keysAndNames ...string) {
	w.warehouse.mu.Lock()
	defer w.warehouse.mu.Unlock()
	var rows [][]string
	for i := 0; i < len(keysAndNames); i += 2 {
		k := keysAndNames[i]
		rows = append(rows, []string{k, keysAndNames[i+1], "+1 " + k})
	}
	w.warehouse.rows[model] = rows
}

// equal checks that the org holds the model's rows and nothing else, each
// created once.
func (w *world) equal(name string) {
	w.t.Helper()
	w.org.mu.Lock()
	defer w.org.mu.Unlock()
	object := w.syncs[name].Object
	want := map[string]string{}
	for _, r := range w.warehouse.rows[name] {
		want[object+"/"+r[0]] = r[1] + "|" + r[2]
	}
	got := map[string]string{}
	for k, r := range w.org.records {
		got[k] = r["Name"] + "|" + r["Phone"]
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("the org holds %v, the model is %v", got, want)
	}
	for k, n := range w.org.created {
		if n != 1 {
			w.t.Errorf("%s was created %d times", k, n)
		}
	}
}

// plans lists the plan directories that a sync has on disk.
func (w *world) plans(name string) []string {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "syncs", name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != "store" {
			out = append(out, e.Name())
		}
	}
	return out
}

// unfinished is the run whose plan a sync has left, "" if none.
func (w *world) unfinished(name string) (id string) {
	w.t.Helper()
	w.with(func(e *Engine) {
		info, err := e.SnapshotInfo(name)
		if err != nil {
			w.t.Fatal(err)
		}
		id = info.Unfinished
	})
	return id
}
