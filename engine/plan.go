package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/zeebo/xxh3"

	"coho/destinations"
	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
	"coho/sources"
)

// conversionVersion is part of every fingerprint's seed: raise it when the way
// in which a row becomes cells changes, so that rows are compared once more.
const conversionVersion = "1"

// PlanOptions says how a plan is made.
type PlanOptions struct {
	Full     bool
	Progress *Progress
}

// Plan works out what a run would do, and sends nothing. The record's status is
// Planned; it does not enter the history.
func (e *Engine) Plan(ctx context.Context, name string, o PlanOptions) (run *Run, err error) {
	s, err := e.Sync(name)
	if err != nil {
		return nil, err
	}
	if err := e.Lock("coho plan " + name); err != nil {
		return nil, err
	}
	release, err := e.claim(name)
	if err != nil {
		return nil, err
	}
	defer release()
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	started := e.o.Now()
	id, err := NewRunID(started)
	if err != nil {
		return nil, err
	}
	store, err := e.openStore(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.shared.stores.drop(store)) }()

	run = &Run{ID: id, Sync: name, Status: Planned, StartedAt: started, Errors: []ErrorCount{}}
	if ref, ok, err := store.ActivePlan(); err != nil {
		return nil, err
	} else if ok && ref.Halted == haltedByGuard {
		run.Warnings = append(run.Warnings, fmt.Sprintf("run %s was halted by a guard; `coho run %s --approve` goes on with that plan", ref.RunID, name))
	} else if ok {
		run.Warnings = append(run.Warnings, fmt.Sprintf("run %s left a plan unfinished; the next run finishes it first", ref.RunID))
	}
	o.Progress.enter("checking")
	p, err := e.prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	run.Warnings = append(run.Warnings, p.target.Warnings()...)
	defer func() {
		if run != nil {
			u := p.target.Usage()
			run.API = &APICounts{Calls: u.Calls, BulkJobs: u.BulkJobs, Remaining: u.Remaining}
		}
	}()
	var snap planner.Snapshot = store
	if berr := bound(store, s, p.org); berr != nil {
		if !o.Full || berr.FullIsUnsafe {
			return nil, berr
		}
		snap = nothing{}
	}
	if snap, err = e.compared(ctx, snap, p); err != nil {
		return nil, err
	}
	dir := e.planDir(name, id)
	plan, err := e.buildFor(ctx, snap, p, dir, o.Full, false, o.Progress)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, plan.Close(), os.RemoveAll(dir)) }()
	sum := plan.Summary()
	run.Rows = rowCounts(&sum)
	for k, n := range sum.Operations {
		run.Operations.add(planner.Kind(k), n)
	}
	run.Fields, run.Lookups = sum.Fields, lookupNotes(p.target)
	est := p.target.Estimate(sum)
	if r, ok := p.target.(destinations.Referrer); ok {
		calls, err := r.UnknownReferences(ctx, unsettled{plan})
		if err != nil {
			return nil, fmt.Errorf("estimate API calls: %w", err)
		}
		est.APICalls += calls
	}
	// A run checks the sync as this plan did, which costs calls too.
	run.Estimate = &EstimateCounts{APICalls: est.APICalls + p.target.Usage().Calls, BulkJobs: est.BulkJobs, AtMost: est.AtMost}
	if run.Estimate.BytesBilled, err = e.bytesBilled(ctx, s); err != nil {
		return nil, err
	}
	run.Choice = est.Choice
	run.Samples = samples(&sum, s.Model.PrimaryKey)
	if gerr := planner.CheckGuards(s.Guards, &sum, s.Mode); gerr != nil {
		run.Warnings = append(run.Warnings, "a run would halt: "+gerr.Error())
	}
	if err := checkPlan(p.target, plan, &sum); err != nil {
		run.Warnings = append(run.Warnings, "a run would fail: "+err.Error())
	}
	rejected, err := plan.Rejected()
	if err != nil {
		return nil, fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	groups := map[string]int{}
	for rejected.Next() {
		row := rejected.Rejected()
		at, ok := groups[row.Code]
		if !ok {
			at = len(run.Errors)
			groups[row.Code] = at
			run.Errors = append(run.Errors, ErrorCount{Code: row.Code, Example: row.Message})
		}
		run.Errors[at].Count++
	}
	if err := errors.Join(rejected.Err(), rejected.Close()); err != nil {
		return nil, fmt.Errorf("read the plan's rejected rows: %w", err)
	}
	finished := e.o.Now()
	run.FinishedAt = &finished
	return run, nil
}

// build reads the model and writes the plan that is to be applied into dir.
func (e *Engine) build(ctx context.Context, snap planner.Snapshot, p *prepared, dir string, full bool, progress *Progress) (*planner.Plan, error) {
	return e.buildFor(ctx, snap, p, dir, full, true, progress)
}

// orderFile is the planner's order log, beside a sync's store.
const orderFile = "order"

// buildFor is build, also for a plan that is only looked at: that leaves the order
// log as it is.
func (e *Engine) buildFor(ctx context.Context, snap planner.Snapshot, p *prepared, dir string, full, apply bool, progress *Progress) (*planner.Plan, error) {
	ctx = serving(ctx, p.sync.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make room for the plan: %w", err)
	}
	src, err := e.source(p.sync.Model.Source)
	if err != nil {
		return nil, err
	}
	progress.enter("reading")
	log := filepath.Join(e.syncDir(p.sync.Name), orderFile)
	early := false
	if st, err := os.Stat(log); err == nil {
		early = st.Size() >= earlyOrder
	}
	plan, err := e.readInto(ctx, src, snap, p, dir, full, apply, early, progress)
	if errors.Is(err, planner.ErrReadAgain) {
		plan, err = e.readInto(ctx, src, snap, p, dir, full, apply, false, progress)
	}
	return plan, err
}

// earlyOrder is the size of an order log that takes so long to check that reading
// does not wait for it.
const earlyOrder = 16 << 20

// readInto reads the model once and makes a plan of it.
func (e *Engine) readInto(ctx context.Context, src sources.Source, snap planner.Snapshot, p *prepared, dir string, full, apply, early bool, progress *Progress) (_ *planner.Plan, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := read(ctx, src, p.sync.Model)
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", p.sync.Model.Name, err)
	}
	defer func() {
		for _, r := range rows {
			if cerr := r.Close(); cerr != nil && err == nil {
				err = fmt.Errorf("read model %s: %w", p.sync.Model.Name, cerr)
			}
		}
	}()
	parts := make([]planner.Rows, len(rows))
	for i, r := range rows {
		if !slices.Equal(r.Schema().Columns(), p.schema.Columns()) {
			return nil, fmt.Errorf("read model %s: its columns changed while the run began; run again", p.sync.Model.Name)
		}
		parts[i] = r
	}
	progress.expect(rows)
	spec := e.spec(p, rows[0].Schema(), full)
	if _, ok := p.target.(destinations.Mirror); ok {
		spec.Workers = 1 // there are few rows, and nothing that a log of them could save
		return planRows(ctx, &spec, parts, snap, dir, p, progress)
	}
	spec.OrderLog, spec.OrderLogReadOnly, spec.OrderEarly = filepath.Join(e.syncDir(p.sync.Name), orderFile), !apply, early
	return planRows(ctx, &spec, parts, snap, dir, p, progress)
}

func planRows(ctx context.Context, spec *planner.Spec, parts []planner.Rows, snap planner.Snapshot, dir string, p *prepared, progress *Progress) (*planner.Plan, error) {
	plan, err := planner.BuildParts(ctx, *spec, parts, snap, dir, &progress.Plan)
	if err != nil {
		return nil, fmt.Errorf("plan sync %s: %w", p.sync.Name, err)
	}
	return plan, nil
}

// serving names the sync in queries of ctx, which may name a run already.
func serving(ctx context.Context, sync string) context.Context {
	p := sources.PurposeOf(ctx)
	p.Sync = sync
	return sources.WithPurpose(ctx, p)
}

// biller is a source that bills by what a query reads.
type biller interface {
	// BytesBilled returns how many bytes a read of the model would bill, as
	// far as is known before.
	BytesBilled(ctx context.Context, m models.Model) (int64, error)
}

// bytesBilled asks what a read of the sync's model would bill; 0 where the
// source does not bill by that.
func (e *Engine) bytesBilled(ctx context.Context, s *models.Sync) (int64, error) {
	src, err := e.source(s.Model.Source)
	if err != nil {
		return 0, err
	}
	b, ok := src.(biller)
	if !ok {
		return 0, nil
	}
	n, err := b.BytesBilled(serving(ctx, s.Name), s.Model)
	if err != nil {
		return 0, fmt.Errorf("ask what model %s would bill: %w", s.Model.Name, err)
	}
	return n, nil
}

// read opens a model's rows, in parts where the source can.
func read(ctx context.Context, src sources.Source, m models.Model) ([]sources.Rows, error) {
	if parted, ok := src.(sources.Parted); ok {
		return parted.ReadParts(ctx, m)
	}
	rows, err := src.Read(ctx, m)
	if err != nil {
		return nil, err
	}
	return []sources.Rows{rows}, nil
}

// spec tells the planner what it must know of the sync. schema is that of the
// rows being read, which may have changed since the sync was checked.
func (e *Engine) spec(p *prepared, schema models.Schema, full bool) planner.Spec {
	s := p.sync
	index := map[string]int{}
	for i, c := range schema.Columns() {
		index[c.Name] = i
	}
	spec := planner.Spec{
		Mode: s.Mode, OnRemoved: s.OnRemoved,
		Send: s.Write.Send, Nulls: s.Write.Nulls, RetryRejected: s.Write.RetryRejected, OnUnknown: s.Write.OnUnknown,
		Fields:         p.target.Fields(),
		KeyNames:       s.Model.PrimaryKey,
		MatchColumn:    -1,
		MatchField:     s.Match.Field,
		Version:        xxh3.HashString(conversionVersion + "\x00" + p.mapping.Hash() + "\x00" + schema.Version()),
		NewEvaluator:   func() planner.Evaluator { return p.mapping.NewBorrower(schema) },
		Convert:        p.target.Convert,
		ColumnName:     func(field int) string { return filledBy(s, field) },
		NormalizeMatch: p.target.NormalizeMatch,
		MatchIsKey:     matchIsKey(p),
		Full:           full,
	}
	if s.Mode == models.ModeAll {
		spec.Mode, spec.OnRemoved = models.ModeUpsert, models.RemovedDelete
	}
	for _, k := range s.Model.PrimaryKey {
		spec.KeyColumns = append(spec.KeyColumns, index[k])
	}
	used := map[int]bool{}
	if s.Match.Column != "" {
		spec.MatchColumn = index[s.Match.Column]
		used[spec.MatchColumn] = true
	}
	for _, c := range p.mapping.Columns() {
		used[c] = true
	}
	for i := range schema.Columns() {
		if used[i] {
			spec.MappedColumns = append(spec.MappedColumns, i)
		}
	}
	return spec
}

// matchIsKey reports whether rows of different keys are always different
// records: the match column is the key, and the org tells its values apart by
// case as keys are.
func matchIsKey(p *prepared) bool {
	s := p.sync
	// Rows of two objects may become one record, where a lead is converted.
	return len(s.Objects()) == 1 && len(s.Model.PrimaryKey) == 1 && s.Model.PrimaryKey[0] == s.Match.Column && p.target.NormalizeMatch("aA") == "aA"
}

// filledBy names what fills a field, for messages.
func filledBy(s *models.Sync, field int) string {
	if field < 0 {
		return "column " + s.Match.Column
	}
	switch f := s.Fields[field]; {
	case f.Merge:
		return "columns of merge"
	case f.Column != "":
		return "column " + f.Column
	case f.Lookup != nil:
		return "column " + f.Lookup.Column
	case f.RecordType != "":
		return "record type " + f.RecordType
	case f.Expr != "":
		return "expression"
	}
	return "constant"
}

// bound compares what a sync's state belongs to with what the config says now;
// org is that of the destination in the config.
func bound(store *snapshot.Store, s *models.Sync, org string) *BoundError {
	was, ok := store.Identity()
	if !ok {
		return nil
	}
	be := &BoundError{Sync: s.Name}
	// The records that an insert sync created are still there, and what knew of
	// them would be forgotten.
	insert := s.Mode == models.ModeInsert
	switch {
	case was.Org != org:
		be.What, be.Was, be.Now = "org", was.Org, org
	case was.Destination != s.Destination:
		be.What, be.Was, be.Now = "destination", was.Destination, s.Destination
		be.FullIsUnsafe = insert && was.Object == s.Object
	case was.Object != s.Object:
		be.What, be.Was, be.Now = "object", was.Object, s.Object
	case (was.Mode == string(models.ModeArchive)) != (s.Mode == models.ModeArchive):
		// The rows of an archive sync's state are records deleted, those of
		// any other sync records written.
		be.What, be.Was, be.Now = "mode", was.Mode, string(s.Mode)
	case was.MatchField != s.Match.Field:
		be.What, be.Was, be.Now = "match field", was.MatchField, s.Match.Field
		be.FullIsUnsafe = insert
	case !slices.Equal(was.PrimaryKey, s.Model.PrimaryKey):
		be.What, be.Was, be.Now = "primary key", fmt.Sprint(was.PrimaryKey), fmt.Sprint(s.Model.PrimaryKey)
		be.FullIsUnsafe = insert
	default:
		return nil
	}
	return be
}

// bind makes sure that the state is the sync's own, forgetting a stranger's
// where full says so, and binds an empty state.
func (e *Engine) bind(store *snapshot.Store, p *prepared, full bool) error {
	if be := bound(store, p.sync, p.org); be != nil {
		if !full || be.FullIsUnsafe {
			return be
		}
		if err := store.Reset(); err != nil {
			return fmt.Errorf("forget the old state of sync %s: %w", p.sync.Name, err)
		}
	}
	if was, ok := store.Identity(); ok && was.MatchIsKey == matchIsKey(p) {
		return nil
	}
	if err := store.SetIdentity(identityOf(p)); err != nil {
		return fmt.Errorf("bind the state of sync %s: %w", p.sync.Name, err)
	}
	return nil
}

func identityOf(p *prepared) snapshot.Identity {
	return snapshot.Identity{Org: p.org, Destination: p.sync.Destination, Object: p.sync.Object, MatchField: p.sync.Match.Field, PrimaryKey: p.sync.Model.PrimaryKey, Mode: string(p.sync.Mode), MatchIsKey: matchIsKey(p)}
}

// nothing is the snapshot of a sync whose state would be forgotten.
type nothing struct{}

func (nothing) Scan(_, _ planner.Hash) (planner.Cursor, error)    { return nothing{}, nil }
func (nothing) Owner(string) (h planner.Hash, ok bool, err error) { return }
func (nothing) Revision() planner.Hash                            { return planner.Hash{} }

func (nothing) Rows() int64                     { return 0 }
func (nothing) Next() bool                      { return false }
func (nothing) Seek(planner.Hash) bool          { return false }
func (nothing) Entry() planner.Entry            { return planner.Entry{} }
func (nothing) Record() (planner.Record, error) { return planner.Record{}, nil }
func (nothing) Err() error                      { return nil }
func (nothing) Close() error                    { return nil }

// planned is what a plan was made of, kept beside it so that it can be applied
// after the config has changed.
type planned struct {
	Sync    *models.Sync    `json:"sync"`
	Columns []models.Column `json:"columns"`
	Key     []string        `json:"key,omitempty"` // of the one row that the plan is of
}

const plannedFile = "sync.json"

func savePlanned(dir string, s *models.Sync, columns []models.Column, key []string) error {
	b, err := json.Marshal(planned{s, columns, key})
	if err != nil {
		return fmt.Errorf("encode the planned sync: %w", err)
	}
	return writeFile(filepath.Join(dir, plannedFile), b)
}

func loadPlanned(dir string) (*planned, error) {
	b, err := os.ReadFile(filepath.Join(dir, plannedFile))
	if err != nil {
		return nil, fmt.Errorf("read the planned sync: %w", err)
	}
	var p planned
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("read the planned sync: %w", err)
	}
	if p.Sync == nil {
		return nil, errors.New("read the planned sync: it is empty")
	}
	return &p, nil
}

// sameMeaning reports whether two versions of a sync would send the same.
func sameMeaning(a, b *models.Sync) bool {
	strip := func(s *models.Sync) []byte {
		c := *s
		c.Write = models.Write{Send: s.Write.Send, Nulls: s.Write.Nulls}
		c.Guards, c.Schedule, c.Timezone, c.Timing, c.Pos = models.Guards{}, "", "", models.Timing{}, ""
		c.Fields = append([]models.Field(nil), s.Fields...)
		for i := range c.Fields {
			c.Fields[i].Pos = ""
		}
		b, err := json.Marshal(c)
		if err != nil {
			return nil
		}
		return b
	}
	x, y := strip(a), strip(b)
	return x != nil && string(x) == string(y)
}

func samples(sum *planner.Summary, keyColumns []string) []Sample {
	out := make([]Sample, 0, len(sum.Samples))
	text := func(c *models.Cell) *string {
		if c == nil || c.Null {
			return nil
		}
		return &c.Text
	}
	for _, s := range sum.Samples {
		one := Sample{Operation: s.Kind.String(), Key: keyMap(keyColumns, s.Key), ID: s.ID}
		for _, f := range s.Fields {
			one.Fields = append(one.Fields, SampleField{Field: f.Name, Before: text(f.Before), After: text(&f.After)})
		}
		out = append(out, one)
	}
	return out
}
