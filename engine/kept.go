package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
)

// KeptPlan says of what a plan is that waits on disk: halted by a guard or the
// API budget, or unfinished.
type KeptPlan struct {
	Run        string          `json:"run"`
	Sync       string          `json:"sync"`
	Operations OperationCounts `json:"operations"`
}

// KeptOperation is one operation of a kept plan. Its field names are a contract:
// `coho runs plan --json` prints them.
type KeptOperation struct {
	Number int64 `json:"number"` // its place in the plan, from 1
	Sample
}

// KeptOptions picks operations of a plan.
type KeptOptions struct {
	Kinds  []string // names of operations; empty: all
	Offset int64    // of those, how many to pass over
	Max    int64    // how many to list; 0: all
	// NoValues leaves out the values last acknowledged, and with them the
	// sync's state alone: for a caller whose other runs use that.
	NoValues bool
}

// KeptPlan lists the operations of the plan that a run left, or the last run of
// the sync of that name, in the plan's order, until yield returns false. What is
// deleted or cleared is shown with the values last acknowledged, unless another
// process holds the sync's state. Where there is no such plan it returns a
// *UsageError.
func (e *Engine) KeptPlan(runOrSync string, o KeptOptions, yield func(*KeptOperation) bool) (KeptPlan, error) {
	for _, k := range o.Kinds {
		if !slices.Contains(kindNames(), k) {
			return KeptPlan{}, usagef("there is no operation %q; there is %s", k, strings.Join(kindNames(), ", "))
		}
	}
	id, name, err := e.keptBy(runOrSync)
	if err != nil {
		return KeptPlan{}, err
	}
	kept := KeptPlan{Run: id, Sync: name}
	read := func(store *snapshot.Store) error { return kept.read(e.planDir(name, id), store, o, yield) }
	if o.NoValues {
		return kept, read(nil)
	}
	err = e.withStore(name, "coho runs plan", read)
	var locked *LockedError
	var usage *UsageError
	if errors.As(err, &locked) || errors.As(err, &usage) { // in use, or the config knows the sync no more
		err = read(nil)
	}
	return kept, err
}

func kindNames() []string {
	names := make([]string, planner.KindCount)
	for k := range names {
		names[k] = planner.Kind(k).String()
	}
	return names
}

// keptBy finds the run and the sync of a kept plan.
func (e *Engine) keptBy(runOrSync string) (run, sync string, err error) {
	if r, err := e.history.read(runOrSync); err == nil {
		if _, err := os.Stat(e.planDir(r.Sync, r.ID)); err != nil {
			return "", "", noSuchPlan(r.ID)
		}
		return r.ID, r.Sync, nil
	}
	if runOrSync != filepath.Base(runOrSync) {
		return "", "", usagef("no run and no sync is named %q", runOrSync)
	}
	files, err := os.ReadDir(e.syncDir(runOrSync))
	if err = ignoreMissing(err); err != nil {
		return "", "", fmt.Errorf("list the plans of sync %s: %w", runOrSync, err)
	}
	for _, f := range files {
		if id, ok := strings.CutPrefix(f.Name(), planPrefix); ok {
			run = max(run, id) // ids sort by time
		}
	}
	if run == "" {
		return "", "", usagef("no plan of %q waits; `coho status` shows how each sync stands", runOrSync)
	}
	return run, runOrSync, nil
}

func noSuchPlan(run string) error {
	return usagef("no plan of run %s waits: it was applied, or a later run has planned anew", run)
}

func (k *KeptPlan) read(dir string, store *snapshot.Store, o KeptOptions, yield func(*KeptOperation) bool) (err error) {
	saved, err := loadPlanned(dir)
	if err != nil {
		return err
	}
	plan, err := planner.OpenPlan(dir)
	if err != nil {
		return fmt.Errorf("open the plan of run %s: %w", k.Run, err)
	}
	defer func() { err = errors.Join(err, plan.Close()) }()
	sum := plan.Summary()
	k.Operations = OperationCounts{}
	for kind, n := range sum.Operations {
		k.Operations.add(planner.Kind(kind), n)
	}
	passed, listed := int64(0), int64(0)
	return eachOperation(plan, func(op *planner.Operation) (bool, error) {
		if len(o.Kinds) > 0 && !slices.Contains(o.Kinds, op.Kind.String()) {
			return true, nil
		}
		if passed++; passed <= o.Offset {
			return true, nil
		}
		sample, err := sampleOf(store, op, plan.Fields(), saved.Sync.Model.PrimaryKey)
		if err != nil {
			return false, err
		}
		listed++
		return yield(&KeptOperation{Number: op.Seq + 1, Sample: sample}) && (o.Max == 0 || listed < o.Max), nil
	})
}

// eachOperation calls f with every operation of a plan until it says to stop.
func eachOperation(plan *planner.Plan, f func(*planner.Operation) (bool, error)) error {
	for pass := range plan.Passes() {
		ops, err := plan.Operations(pass, nil)
		if err != nil {
			return fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
		on := true
		for on && err == nil && ops.Next() {
			on, err = f(ops.Operation())
		}
		if err := errors.Join(err, ops.Err(), ops.Close()); err != nil {
			return fmt.Errorf("read the plan's pass %d: %w", pass, err)
		}
		if !on {
			break
		}
	}
	return nil
}

// sampleOf shows an operation: what it sends, and beside that, or for a delete
// alone, what the record was last acknowledged to hold. Without a store that is
// not known.
func sampleOf(store *snapshot.Store, op *planner.Operation, fields, keyColumns []string) (Sample, error) {
	s := Sample{Operation: op.Kind.String(), Key: keyMap(keyColumns, slices.Clone(op.Key)), ID: op.ID}
	var record []planner.RecordField
	if store != nil {
		var err error
		if record, err = acknowledged(store, op.KeyHash); err != nil {
			return s, err
		}
	}
	before := func(name string) *string {
		for _, f := range record {
			if f.Name == name {
				return cellTextOf(f.Cell)
			}
		}
		return nil
	}
	if op.Kind == planner.Archive {
		for _, f := range record {
			s.Fields = append(s.Fields, SampleField{Field: f.Name, Before: cellTextOf(f.Cell)})
		}
		return s, nil
	}
	for _, a := range op.Assignments {
		if a.Send != planner.Keep && a.Field < len(fields) {
			s.Fields = append(s.Fields, SampleField{Field: fields[a.Field], Before: before(fields[a.Field]), After: cellTextOf(a.Cell)})
		}
	}
	return s, nil
}

func cellTextOf(c models.Cell) *string {
	if c.Null {
		return nil
	}
	text := strings.Clone(c.Text)
	return &text
}

// haltedDeletes is how many operations of each kind that deletes or clears a
// halted run's record shows.
const haltedDeletes = 10

// haltedSamples are a plan's samples, those that delete or clear with what they
// would take away.
func haltedSamples(store *snapshot.Store, plan *planner.Plan, sum *planner.Summary, keyColumns []string) ([]Sample, error) {
	left := map[planner.Kind]int64{}
	var open int64
	for _, k := range []planner.Kind{planner.Archive, planner.ClearFields} {
		left[k] = min(haltedDeletes, sum.Operations[k])
		open += left[k]
	}
	out := slices.DeleteFunc(samples(sum, keyColumns), func(s Sample) bool {
		return s.Operation == planner.Archive.String() || s.Operation == planner.ClearFields.String()
	})
	if open == 0 {
		return out, nil
	}
	fields := plan.Fields()
	err := eachOperation(plan, func(op *planner.Operation) (bool, error) {
		if left[op.Kind] == 0 {
			return true, nil
		}
		left[op.Kind]--
		open--
		s, err := sampleOf(store, op, fields, keyColumns)
		for i := range s.Fields {
			s.Fields[i].Before = clippedText(s.Fields[i].Before)
		}
		out = append(out, s)
		return open > 0, err
	})
	return out, err
}

func clippedText(text *string) *string {
	if text == nil {
		return nil
	}
	return clipped(models.Cell{Text: *text})
}

// Approval returns the sync of a run that a guard halted and whose plan still
// waits: what RunOptions.ApproveRun goes on with. It returns a *UsageError for
// any other run.
func (e *Engine) Approval(run string) (sync string, err error) {
	r, err := e.history.Get(run)
	if err != nil {
		return "", err
	}
	if r.ID != run {
		return "", usagef("name the run whose plan is approved, not the sync; the last one is %s", r.ID)
	}
	if r.Status != Halted {
		return "", usagef("run %s %s; only what a guard halted can be approved", run, strings.ReplaceAll(string(r.Status), "_", " "))
	}
	if _, err := os.Stat(e.planDir(r.Sync, run)); err != nil {
		return "", noSuchPlan(run)
	}
	return r.Sync, nil
}
