package planner

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// OperationReader yields operations in ascending order of Seq. It is used by one
// goroutine; several may be open at once.
type OperationReader struct {
	plan    *Plan
	log     logReader
	op      Operation
	seqs    Seqs // Read: what is left to yield
	byPass  bool
	pass    int
	settled *SettledSet
	levels  []byte // of the block at hand
	loaded  int    // the block that levels belong to, as logReader.block counts
	err     error
}

// Operations yields the operations of a pass that are not in settled (nil:
// all). settled must not change while the reader is open.
func (p *Plan) Operations(pass int, settled *SettledSet) (*OperationReader, error) {
	if pass < 0 || pass >= p.Passes() {
		return nil, fmt.Errorf("read the plan: there is no pass %d of %d", pass, p.Passes())
	}
	r := p.reader()
	r.byPass, r.pass, r.settled = true, pass, settled
	return r, nil
}

// Read yields the operations of a set, of whatever pass, in ascending order. It
// goes from block to block by the index and reads no other. Numbers that the plan
// does not have are passed over.
func (p *Plan) Read(seqs Seqs) (*OperationReader, error) {
	r := p.reader()
	r.seqs = append(Seqs(nil), seqs...)
	return r, nil
}

func (p *Plan) reader() *OperationReader {
	return &OperationReader{plan: p, log: logReader{r: p.operations, path: p.operations.Name(), index: p.logs[0]}}
}

// Next advances to the next operation; false at the end or on an error.
func (r *OperationReader) Next() bool {
	for r.err == nil {
		if !r.byPass && !r.seek() {
			return false
		}
		if !r.log.next() {
			r.err = r.log.err
			return false
		}
		if !r.wanted() || r.plan.dropped.Has(r.log.seq) {
			continue
		}
		if r.err != nil {
			return false
		}
		if err := decodeOperation(r.log.body, &r.op, len(r.plan.meta.Fields)); err != nil {
			r.err = fmt.Errorf("read %s: operation %d: %w", r.log.path, r.log.seq, errDamaged)
			return false
		}
		r.op.Seq = r.log.seq
		return true
	}
	return false
}

// seek moves to the block of the next number wanted, or says that there is none.
func (r *OperationReader) seek() bool {
	for len(r.seqs) > 0 && (r.seqs[0].From >= r.seqs[0].To || r.seqs[0].From < 0) {
		r.seqs = r.seqs[1:]
	}
	if len(r.seqs) == 0 {
		return false
	}
	want := r.seqs[0].From
	if r.log.left > 0 && want <= r.log.seq+r.log.left {
		return true
	}
	i := blockOf(r.log.index, want)
	if i >= len(r.log.index) {
		return false
	}
	if i >= r.log.block {
		r.log.load(i)
	}
	return true
}

// wanted reports whether the record at hand is to be yielded.
func (r *OperationReader) wanted() bool {
	seq := r.log.seq
	if !r.byPass {
		if seq < r.seqs[0].From {
			return false
		}
		r.seqs[0].From = seq + 1
		return true
	}
	return !r.settled.Has(seq) && r.passOf(seq) == r.pass
}

// passOf returns the pass of the record at hand: of a row that left the model the
// last, unless its record goes before others, else its level.
func (r *OperationReader) passOf(seq int64) int {
	removal := isRemoval(r.log.body)
	level := 0
	if r.plan.levels != nil {
		at := r.log.index[r.log.block-1]
		if r.loaded != r.log.block {
			r.levels = append(r.levels[:0], make([]byte, 2*at.count)...)
			if _, err := r.plan.levels.ReadAt(r.levels, 2*at.first); err != nil {
				r.err = fmt.Errorf("read %s: %w", r.plan.levels.Name(), err)
				return r.pass
			}
			r.loaded = r.log.block
		}
		level = int(binary.LittleEndian.Uint16(r.levels[2*(seq-at.first):]))
	}
	switch {
	case !removal:
		return level
	case level == 0:
		return r.plan.Passes() - 1
	}
	return level - 1
}

// Operation returns the current operation, valid until the next call of Next.
func (r *OperationReader) Operation() *Operation { return &r.op }

// Err returns what ended the reading early.
func (r *OperationReader) Err() error { return r.err }

// Close ends the reading. The plan stays open.
func (r *OperationReader) Close() error {
	r.seqs, r.byPass, r.log = nil, false, logReader{}
	return nil
}

// RejectedReader yields the rows that cannot be sent.
type RejectedReader struct {
	log logReader
	row Rejected
	err error
}

// Rejected reads the rows that cannot be sent.
func (p *Plan) Rejected() (*RejectedReader, error) {
	return &RejectedReader{log: p.logReader(p.rejected, 1)}, nil
}

func (p *Plan) logReader(f *os.File, log int) logReader {
	return logReader{r: io.ReaderAt(f), path: f.Name(), index: p.logs[log]}
}

// Next advances to the next row; false at the end or on an error.
func (r *RejectedReader) Next() bool {
	if r.err != nil || !r.log.next() {
		return false
	}
	if err := decodeRejected(r.log.body, &r.row); err != nil {
		r.err = fmt.Errorf("read %s: row %d: %w", r.log.path, r.log.seq, errDamaged)
		return false
	}
	return true
}

// Rejected returns the current row, valid until the next call of Next.
func (r *RejectedReader) Rejected() *Rejected { return &r.row }

// Err returns what ended the reading early.
func (r *RejectedReader) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.log.err
}

// Close ends the reading. The plan stays open.
func (r *RejectedReader) Close() error { r.log = logReader{}; return nil }

// NoteReader yields a plan's notes.
type NoteReader struct {
	log  logReader
	note Note
	err  error
}

// Notes reads the changes of the snapshot that cost no call.
func (p *Plan) Notes() (*NoteReader, error) {
	return &NoteReader{log: p.logReader(p.notes, 2)}, nil
}

// Next advances to the next note; false at the end or on an error.
func (r *NoteReader) Next() bool {
	if r.err != nil || !r.log.next() {
		return false
	}
	if err := decodeNote(r.log.body, &r.note); err != nil {
		r.err = fmt.Errorf("read %s: note %d: %w", r.log.path, r.log.seq, errDamaged)
		return false
	}
	return true
}

// Note returns the current note, valid until the next call of Next.
func (r *NoteReader) Note() *Note { return &r.note }

// Err returns what ended the reading early.
func (r *NoteReader) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.log.err
}

// Close ends the reading. The plan stays open.
func (r *NoteReader) Close() error { r.log = logReader{}; return nil }
