package planner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"github.com/zeebo/xxh3"

	"coho/models"
)

// checkEvery is how many rows pass between looks at the context, and between
// updates of the progress.
const checkEvery = 4096

// builder makes one plan.
type builder struct {
	spec     *Spec
	schema   models.Schema
	snap     Snapshot
	dir      string
	progress *Progress
	keyNames []string

	columns []int // those that are kept of each row, ascending
	rows    *spill
	matches *spill
	order   *order // nil where there is none

	operations, rejected, notes *logWriter

	// named says, of some of the operations that are dropped, which row has
	// their match value too.
	named map[int64]matchRef

	meta     planMeta
	fields   []int64 // by field, how many operations send it
	samples  [KindCount][]keptSample
	dropped  SettledSet // operations that turned out not to be sent
	removals int64      // operations on rows that left the model
	writes   int64      // the others
	scratch  []byte
	framed   []byte
}

// Build reads rows to their end and writes the plan into dir, which it makes if
// it has to. When it returns without error, the plan is durable; otherwise
// nothing of it is left. The snapshot must not change while Build runs. p may be
// nil.
func Build(ctx context.Context, spec Spec, rows Rows, snap Snapshot, dir string, p *Progress) (plan *Plan, err error) {
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
	b := &builder{spec: &spec, schema: rows.Schema(), snap: snap, dir: dir, progress: p, named: map[int64]matchRef{}}
	defer func() {
		err = errors.Join(err, b.close())
		if err != nil {
			err = errors.Join(err, RemovePlan(dir))
			plan = nil
		}
	}()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	p.phase.Store(int32(PhaseReading))
	if err := b.read(ctx, rows); err != nil {
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

func (b *builder) open(ctx context.Context) (err error) {
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
	if b.order, err = newOrder(ctx, b, limit); err != nil {
		return err
	}
	b.fields = make([]int64, len(s.Fields))
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

// A row in a partition is its key hash, its fingerprint, the length of its frame
// as four bytes, and the frame: the cells of builder.columns.
const rowHeader = 16 + 16 + 4

// read hashes the rows and spreads them over the partitions. It allocates
// nothing a row.
func (b *builder) read(ctx context.Context, rows Rows) error {
	width := len(b.schema.Columns())
	cells := make([][]byte, width)
	whole := len(b.columns) == width
	mapped := whole && len(b.spec.MappedColumns) == width
	var keys, prints []byte
	read := &b.meta.Summary.Rows.Read
	for rows.Next() {
		if *read%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("plan: %w", context.Cause(ctx))
			}
			b.progress.RowsRead.Store(*read)
		}
		*read++
		frame := rows.Row()
		if err := models.SplitFrame(frame, cells); err != nil {
			return fmt.Errorf("plan: row %d: %w", *read, err)
		}
		var ok bool
		var err error
		if keys, ok, err = b.appendKey(keys[:0], cells); err != nil {
			return err
		}
		if !ok {
			continue
		}
		printed := frame
		if !mapped {
			prints = prints[:0]
			for _, c := range b.spec.MappedColumns {
				prints = models.AppendCell(prints, cells[c])
			}
			printed = prints
		}
		size := len(frame)
		if !whole {
			size = 0
			for _, c := range b.columns {
				size += 4 + len(cells[c])
			}
		}
		key := xxh3.Hash128(keys)
		print := xxh3.Hash128Seed(printed, b.spec.Version)
		if print.Hi|print.Lo == 0 {
			print.Lo = 1 // zero means: a row that left the model
		}
		if b.order != nil {
			same, err := b.order.row(key, print)
			if err != nil {
				return err
			}
			if same {
				continue
			}
		}
		chunk, err := b.rows.room(b.rows.partition(key.Hi), rowHeader+size)
		if err != nil {
			return err
		}
		rec := *chunk
		rec = binary.BigEndian.AppendUint64(rec, key.Hi)
		rec = binary.BigEndian.AppendUint64(rec, key.Lo)
		rec = binary.BigEndian.AppendUint64(rec, print.Hi)
		rec = binary.BigEndian.AppendUint64(rec, print.Lo)
		rec = binary.BigEndian.AppendUint32(rec, uint32(size))
		if whole {
			rec = append(rec, frame...)
		} else {
			for _, c := range b.columns {
				rec = models.AppendCell(rec, cells[c])
			}
		}
		*chunk = rec
	}
	b.progress.RowsRead.Store(*read)
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the model: %w", err)
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

// appendKey appends what is hashed of a primary key: the canonical text of each
// column behind its length. ok is false for a row whose key is null or has no
// text; such a row is rejected here. Where the key is the match value, it is the
// folded text, which is the record's identity.
func (b *builder) appendKey(dst []byte, cells [][]byte) (_ []byte, ok bool, err error) {
	for i, c := range b.spec.KeyColumns {
		if cells[c] == nil {
			return dst, false, b.reject(&Rejected{
				Kind: b.spec.kind(), Code: CodeNullKey,
				Message: fmt.Sprintf("primary key column %s is null", b.keyNames[i]),
			})
		}
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		var bad error
		if dst, bad = b.schema.AppendKey(dst, c, cells[c]); bad != nil {
			return dst, false, b.reject(&Rejected{
				Kind: b.spec.kind(), Code: CodeInvalidValue,
				Message: fmt.Sprintf("primary key column %s: %v", b.keyNames[i], bad),
			})
		}
		if b.spec.MatchIsKey {
			text := dst[at+4:]
			folded := b.spec.normalize(unsafe.String(unsafe.SliceData(text), len(text)))
			dst = append(dst[:at+4], folded...)
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst, true, nil
}

// reject lists a row that cannot be sent.
func (b *builder) reject(r *Rejected) error {
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
