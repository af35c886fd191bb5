package planner

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"coho/models"
)

// builder makes one plan.
type builder struct {
	spec     *Spec
	schema   models.Schema
	snap     Snapshot
	dir      string
	progress *Progress
	keyNames []string

	columns []int      // those that are kept of each row, ascending
	mu      sync.Mutex // guards rows, rejected and what reject uses, while parts are read
	rows    *spill
	matches *spill
	order   *order // nil where there is none

	operations, rejected, notes *logWriter

	// named says, of some of the operations that are dropped, which row has
	// their match value too.
	named map[int64]matchRef

	meta     planMeta
	fields   []int64       // by field, how many operations send it
	distinct []*valueCount // guarded by mu: by field, its values where they are counted
	samples  [KindCount][]keptSample
	dropped  SettledSet // operations that turned out not to be sent
	removals int64      // operations on rows that left the model
	leaving  []edge     // removals: whose record must go before whose
	writes   int64      // the others
	scratch  []byte
	framed   []byte
}

// Build reads rows to their end and writes the plan into dir, which it makes if
// it has to. When it returns without error, the plan is durable; otherwise
// nothing of it is left. The snapshot must not change while Build runs. p may be
// nil.
func Build(ctx context.Context, spec Spec, rows Rows, snap Snapshot, dir string, p *Progress) (*Plan, error) {
	return BuildParts(ctx, spec, []Rows{rows}, snap, dir, p)
}

// BuildParts is Build for a result in several parts, of the same columns and as of
// the same moment, which are read side by side.
func BuildParts(ctx context.Context, spec Spec, parts []Rows, snap Snapshot, dir string, p *Progress) (plan *Plan, err error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if p == nil {
		p = new(Progress)
	}
	if spec.SpillDir == "" {
		spec.SpillDir = dir
	}
	if err := RemovePlan(dir); err != nil {
		return nil, fmt.Errorf("plan: clear %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError(dir, err)
	}
	b := &builder{spec: &spec, schema: parts[0].Schema(), snap: snap, dir: dir, progress: p, named: map[int64]matchRef{}}
	defer func() {
		err = errors.Join(err, b.close())
		if err != nil {
			err = errors.Join(err, RemovePlan(dir))
			plan = nil
		}
	}()
	if err := b.open(ctx, len(parts)); err != nil {
		return nil, err
	}
	p.RowsRead.Store(0)
	p.PassedOver.Store(0)
	p.phase.Store(int32(PhaseReading))
	if err := b.read(ctx, parts); err != nil {
		return nil, err
	}
	p.phase.Store(int32(PhaseComparing))
	if err := b.join(ctx); err != nil {
		return nil, err
	}
	p.phase.Store(int32(PhaseOrdering))
	if err := b.finish(ctx); err != nil {
		return nil, err
	}
	if b.order != nil {
		if err := b.order.keep(); err != nil {
			return nil, err
		}
	}
	p.phase.Store(int32(PhaseDone))
	return openPlan(dir)
}

func (b *builder) open(ctx context.Context, parts int) (err error) {
	s := b.spec
	cols := b.schema.Columns()
	b.columns = append(append(b.columns, s.KeyColumns...), s.MappedColumns...)
	if s.MatchColumn >= 0 {
		b.columns = append(b.columns, s.MatchColumn)
	}
	slices.Sort(b.columns)
	b.columns = slices.Compact(b.columns)
	if b.columns[0] < 0 || b.columns[len(b.columns)-1] >= len(cols) {
		return fmt.Errorf("plan: the spec names a column that the rows do not have")
	}
	b.keyNames = s.KeyNames
	if b.keyNames == nil {
		for _, c := range s.KeyColumns {
			b.keyNames = append(b.keyNames, cols[c].Name)
		}
	}
	limit := s.MemoryLimit
	if limit <= 0 {
		limit = defaultMemory
	}
	n := s.Partitions
	if n <= 0 {
		n = defaultPartitions
	}
	b.rows = newSpill(s.SpillDir, n, 0, limit)
	b.matches = newSpill(s.SpillDir, max(n/4, 1), 0, limit/4)
	if b.order, err = newOrder(ctx, b, parts, limit); err != nil {
		return err
	}
	b.fields = make([]int64, len(s.Fields))
	b.distinct = make([]*valueCount, len(s.Fields))
	for i := range s.Fields {
		b.meta.Fields = append(b.meta.Fields, s.Fields[i].Name)
	}
	b.meta.Summary.SnapshotRows = b.snap.Rows()
	for _, l := range []struct {
		w    **logWriter
		name string
	}{{&b.operations, operationsFile}, {&b.rejected, rejectedFile}, {&b.notes, notesFile}} {
		if *l.w, err = createLog(filepath.Join(b.dir, l.name)); err != nil {
			return err
		}
	}
	return nil
}

// close releases all that Build holds; the finished plan's files stay.
func (b *builder) close() error {
	var errs []error
	for _, w := range []*logWriter{b.operations, b.rejected, b.notes} {
		if w != nil {
			errs = append(errs, w.close())
		}
	}
	if b.order != nil {
		errs = append(errs, b.order.close())
	}
	for _, s := range []*spill{b.rows, b.matches} {
		if s != nil {
			errs = append(errs, s.remove())
		}
	}
	return errors.Join(errs...)
}

// read hashes the rows and spreads them over the partitions, the parts of the
// result side by side.
func (b *builder) read(ctx context.Context, parts []Rows) error {
	readers := make([]*reader, len(parts))
	var failed atomic.Bool
	errs := make([]error, len(parts))
	for i, rows := range parts {
		readers[i] = newReader(b, rows, &failed)
		if b.order != nil {
			readers[i].order = b.order.parts[i]
		}
		readers[i].shared = len(parts) > 1
	}
	var others sync.WaitGroup
	for i, r := range readers[1:] {
		others.Go(func() { errs[i+1] = r.run(ctx) })
	}
	errs[0] = readers[0].run(ctx)
	others.Wait()
	for _, r := range readers {
		b.meta.Summary.Rows.Read += r.read
	}
	// The one that failed made the others stop, which say nothing then.
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("plan: %w", context.Cause(ctx))
	}
	if b.order != nil {
		if err := b.order.finish(); err != nil {
			return err
		}
	}
	return b.rows.seal()
}

// reject lists a row that cannot be sent. Several readers may call it.
func (b *builder) reject(r *Rejected) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meta.Summary.Rows.Rejected++
	b.framed = appendFramed(b.framed[:0], &b.scratch, func(dst []byte) []byte { return appendRejected(dst, r) })
	return b.rejected.append(b.framed, 1)
}

// groups says how many ranges of the key hashes are joined one by one: the
// partitions, or fewer where all rows are in memory and few.
func (b *builder) groups() int {
	if b.rows.spilled() || b.spec.Partitions > 0 || b.order != nil && b.order.expected != nil && b.order.expected.spilled() {
		return len(b.rows.parts)
	}
	n := max(b.rows.held>>22, b.snap.Rows()>>16)
	return min(1<<bits.Len(uint(n)), len(b.rows.parts))
}
