package planner

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/zeebo/xxh3"

	"coho/models"
)

// checkEvery is how many rows pass between looks at the context, and between
// updates of the progress.
const checkEvery = 4096

// A row in a partition is its key hash, its fingerprint, the length of its frame
// as four bytes, and the frame: the cells of builder.columns.
const rowHeader = 16 + 16 + 4

// stageBytes is how much of the rows of a part are put into the partitions at
// once where several parts are read.
const stageBytes = 64 << 10

// reader reads a part of the result. It is used by one goroutine.
type reader struct {
	b      *builder
	rows   Rows
	order  *orderPart // nil where there is none
	failed *atomic.Bool
	shared bool // there are other parts
	read   int64

	cells        [][]byte
	first        int  // of the cells, how many are needed of each row
	whole        bool // all columns are kept
	mapped       bool // and all of them are mapped
	keys, prints []byte
	stage        []byte
}

func newReader(b *builder, rows Rows, failed *atomic.Bool) *reader {
	width := len(b.schema.Columns())
	whole := len(b.columns) == width
	mapped, first := whole && len(b.spec.MappedColumns) == width, width
	if mapped {
		first = slices.Max(b.spec.KeyColumns) + 1
	}
	return &reader{b: b, rows: rows, failed: failed, cells: make([][]byte, width), first: first, whole: whole, mapped: mapped}
}

// run reads to the end of the part, or until another one has failed.
func (r *reader) run(ctx context.Context) error {
	err := r.all(ctx)
	if err == nil && len(r.stage) > 0 {
		err = r.unstage()
	}
	if err != nil {
		r.failed.Store(true)
	}
	return err
}

// all allocates nothing a row.
func (r *reader) all(ctx context.Context) error {
	b := r.b
	for r.rows.Next() {
		if r.read%checkEvery == 0 {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("plan: %w", context.Cause(ctx))
			}
			if r.failed.Load() {
				return nil
			}
			if r.order != nil {
				if err := r.order.checkEarly(); err != nil {
					return err
				}
			}
			if r.read > 0 {
				b.progress.RowsRead.Add(checkEvery)
			}
		}
		r.read++
		frame := r.rows.Row()
		rest, err := models.SplitFirst(frame, r.cells[:r.first])
		if err == nil && len(rest) > 0 && r.first == len(r.cells) {
			err = models.ErrFrame
		}
		if err != nil {
			return fmt.Errorf("plan: row %d: %w", r.read, err)
		}
		var ok bool
		if r.keys, ok, err = r.appendKey(r.keys[:0], r.cells); err != nil {
			return err
		}
		if !ok {
			continue
		}
		printed := frame
		if !r.mapped {
			r.prints = r.prints[:0]
			for _, c := range b.spec.MappedColumns {
				r.prints = models.AppendCell(r.prints, r.cells[c])
			}
			printed = r.prints
		}
		key := xxh3.Hash128(r.keys)
		print := xxh3.Hash128Seed(printed, b.spec.Version)
		const zeros = 8 * (len(Hash{}) - printSize)
		if print.Lo = print.Lo >> zeros << zeros; print.Hi|print.Lo == 0 {
			print.Hi = 1 // zero means: a row that left the model
		}
		if r.order != nil {
			same, err := r.order.row(key, print)
			if err != nil {
				return err
			}
			if same {
				continue
			}
		}
		if r.first < len(r.cells) { // one that is not kept was split when it was
			if err := models.SplitFrame(frame, r.cells); err != nil {
				return fmt.Errorf("plan: row %d: %w", r.read, err)
			}
		}
		if err := r.keep(key, print, frame); err != nil {
			return err
		}
	}
	if r.read > 0 {
		b.progress.RowsRead.Add((r.read-1)%checkEvery + 1)
	}
	if err := r.rows.Err(); err != nil {
		return fmt.Errorf("read the model: %w", err)
	}
	return nil
}

// keep puts the current row into its partition, by way of the stage where other
// parts do the same.
func (r *reader) keep(key, print xxh3.Uint128, frame []byte) error {
	size := len(frame)
	if !r.whole {
		size = 0
		for _, c := range r.b.columns {
			size += 4 + len(r.cells[c])
		}
	}
	chunk := &r.stage
	if !r.shared {
		var err error
		if chunk, err = r.b.rows.room(r.b.rows.partition(key.Hi), rowHeader+size); err != nil {
			return err
		}
	}
	rec := *chunk
	rec = binary.BigEndian.AppendUint64(rec, key.Hi)
	rec = binary.BigEndian.AppendUint64(rec, key.Lo)
	rec = binary.BigEndian.AppendUint64(rec, print.Hi)
	rec = binary.BigEndian.AppendUint64(rec, print.Lo)
	rec = binary.BigEndian.AppendUint32(rec, uint32(size))
	if r.whole {
		rec = append(rec, frame...)
	} else {
		for _, c := range r.b.columns {
			rec = models.AppendCell(rec, r.cells[c])
		}
	}
	*chunk = rec
	if !r.shared || len(rec) < stageBytes {
		return nil
	}
	return r.unstage()
}

// unstage moves the staged rows into their partitions.
func (r *reader) unstage() error {
	rows := r.b.rows
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	for rec := r.stage; len(rec) > 0; {
		n := rowHeader + int(binary.BigEndian.Uint32(rec[32:]))
		chunk, err := rows.room(rows.partition(binary.BigEndian.Uint64(rec)), n)
		if err != nil {
			return err
		}
		*chunk = append(*chunk, rec[:n]...)
		rec = rec[n:]
	}
	r.stage = r.stage[:0]
	return nil
}

// appendKey appends what is hashed of a primary key: the canonical text of each
// column behind its length. ok is false for a row whose key is null or has no
// text; such a row is rejected here. Where the key is the match value, it is the
// folded text, which is the record's identity.
func (r *reader) appendKey(dst []byte, cells [][]byte) (_ []byte, ok bool, err error) {
	for i, c := range r.b.spec.KeyColumns {
		if cells[c] == nil {
			return dst, false, r.b.reject(&Rejected{
				Kind: r.b.spec.kind(), Code: CodeNullKey,
				Message: fmt.Sprintf("primary key column %s is null", r.b.keyNames[i]),
			})
		}
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		var bad error
		if dst, bad = r.b.schema.AppendKey(dst, c, cells[c]); bad != nil {
			return dst, false, r.b.reject(&Rejected{
				Kind: r.b.spec.kind(), Code: CodeInvalidValue,
				Message: fmt.Sprintf("primary key column %s: %v", r.b.keyNames[i], bad),
			})
		}
		if r.b.spec.MatchIsKey {
			text := dst[at+4:]
			folded := r.b.spec.normalize(unsafe.String(unsafe.SliceData(text), len(text)))
			dst = append(dst[:at+4], folded...)
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst, true, nil
}
