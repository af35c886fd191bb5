package snapshot

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/klauspost/compress/s2"

	"coho/planner"
)

// foldSizes are in bytes of rows. Tests of crashes make them small.
type foldSizes struct {
	// at is how much is pending before it is folded. It bounds what lies in
	// memory: foldsAtOnce times being folded, once being filled.
	at int
	// tables is from how much on what is pending becomes tables of its own: less
	// is not worth their files.
	tables int
	// lots is from how much on what one Settle brings becomes tables at once.
	lots int
}

var folds = foldSizes{at: 3 << 20, tables: 1 << 20, lots: 512 << 10}

// pending are rows that were acknowledged, durably, as blocks, and that are not
// yet at their place in the store.
//
// A row is its key hash, and its entry and its record, each behind its length.
type pending struct {
	rows  []byte
	refs  []pendingRow
	spare []pendingRow // of sort
	// tables are those that the rows are in already; nil where they are in rows.
	tables *tables
	from   uint64 // number of the first block
	to     uint64 // number after the last block's
}

// pendingRow is where a row lies.
type pendingRow struct {
	hash planner.Hash
	at   uint32
}

func (p *pending) empty() bool { return p.to == p.from }

func (p *pending) reset(from uint64) {
	p.rows, p.refs, p.tables, p.from, p.to = p.rows[:0], p.refs[:0], nil, from, from
}

// has says whether a row lies in a range; the zero limit is none.
func (p *pending) has(first, limit planner.Hash) bool {
	open := limit == planner.Hash{}
	for i := range p.refs {
		h := &p.refs[i].hash
		if bytes.Compare(h[:], first[:]) >= 0 && (open || bytes.Compare(h[:], limit[:]) < 0) {
			return true
		}
	}
	return false
}

// appendPending appends a row to a block.
func appendPending(dst []byte, h planner.Hash, entry, record []byte) []byte {
	dst = append(dst, h[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(entry)))
	dst = append(dst, entry...)
	dst = binary.AppendUvarint(dst, uint64(len(record)))
	return append(dst, record...)
}

// add takes in the rows of a block.
func (p *pending) add(rows []byte) error {
	at := len(p.rows)
	p.rows = append(p.rows, rows...)
	p.to++
	return p.index(at)
}

// index finds the rows from a place on.
func (p *pending) index(at int) error {
	for at < len(p.rows) {
		h, _, _, end, err := pendingAt(p.rows, at)
		if err != nil {
			return err
		}
		p.refs = append(p.refs, pendingRow{hash: h, at: uint32(at)})
		at = end
	}
	return nil
}

// pendingAt cuts a row; end is where the next one begins.
func pendingAt(rows []byte, at int) (h planner.Hash, entry, record []byte, end int, err error) {
	b := rows[at:]
	if len(b) < len(h) {
		return h, nil, nil, 0, errDamaged
	}
	copy(h[:], b)
	b = b[len(h):]
	for _, part := range []*[]byte{&entry, &record} {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return h, nil, nil, 0, errDamaged
		}
		*part, b = b[k:k+int(n)], b[k+int(n):]
	}
	return h, entry, record, len(rows) - len(b), nil
}

// sort puts the rows in the order of their hashes, the last of each hash only.
func (p *pending) sort() {
	if !p.sortRuns() {
		slices.SortFunc(p.refs, orderPending)
	}
	kept := p.refs[:0]
	for i, r := range p.refs {
		if i+1 < len(p.refs) && p.refs[i+1].hash == r.hash {
			continue
		}
		kept = append(kept, r)
	}
	p.refs = kept
}

func orderPending(a, b pendingRow) int {
	if x, y := binary.BigEndian.Uint64(a.hash[:]), binary.BigEndian.Uint64(b.hash[:]); x != y {
		return cmp.Compare(x, y)
	}
	return cmp.Or(bytes.Compare(a.hash[:], b.hash[:]), cmp.Compare(a.at, b.at))
}

// sortRuns sorts rows that are runs of sorted ones, none of which lies across
// another: batches come in a plan's order, but not always in that of each other. It
// says whether they are sorted now.
func (p *pending) sortRuns() bool {
	var runs [][]pendingRow
	for from, i := 0, 1; i <= len(p.refs); i++ {
		if i == len(p.refs) || orderPending(p.refs[i-1], p.refs[i]) > 0 {
			if runs = append(runs, p.refs[from:i]); len(runs) > 64 {
				return false
			}
			from = i
		}
	}
	if len(runs) < 2 {
		return true
	}
	slices.SortFunc(runs, func(a, b []pendingRow) int { return orderPending(a[0], b[0]) })
	p.spare = slices.Grow(p.spare[:0], len(p.refs))
	for _, run := range runs {
		if n := len(p.spare); n > 0 && orderPending(p.spare[n-1], run[0]) > 0 {
			return false
		}
		p.spare = append(p.spare, run...)
	}
	p.refs, p.spare = p.spare, p.refs
	return true
}

// foldsAtOnce is how many folds are under way side by side: while one waits for the
// disk, or to have its tables taken in, the other one compresses.
const foldsAtOnce = 2

// folding is one fold under way.
type folding struct {
	rows *pending
	turn chan struct{} // closed once the rows are at their place, or never will be
	err  error         // to be read then
}

// pend takes in a block that has just become durable, and folds what is pending
// once it is enough, beside the caller. s.mu is held.
func (s *Store) pend(rows []byte) error {
	if err := s.pending.add(rows); err != nil {
		return s.wrap("settle a batch", err)
	}
	if len(s.pending.rows) < s.folds.at {
		return nil
	}
	return s.foldBeside()
}

// foldBeside folds what is pending beside the caller. s.mu is held.
func (s *Store) foldBeside() error {
	if err := s.foldedBut(foldsAtOnce - 1); err != nil {
		return err
	}
	p := s.pending
	p.sort() // here, as others look through it from now on
	s.pending = new(pending)
	if n := len(s.spares); n > 0 {
		s.pending, s.spares = s.spares[n-1], s.spares[:n-1]
	}
	s.pending.reset(p.to)
	s.startFold(p)
	return nil
}

// startFold folds sorted rows beside the caller, after all that are under way.
func (s *Store) startFold(p *pending) {
	var before *folding
	if n := len(s.folding); n > 0 {
		before = s.folding[n-1]
	}
	f := &folding{rows: p, turn: make(chan struct{})}
	s.folding = append(s.folding, f)
	go func() {
		defer close(f.turn)
		f.err = s.fold(p, before)
	}()
}

// folded waits for the folds that are under way. s.mu is held. Once one has failed
// the store is of no use any more: what is pending is durable and is folded when the
// store is opened again.
func (s *Store) folded() error { return s.foldedBut(0) }

// foldedBut waits for all folds that are under way but the last few.
func (s *Store) foldedBut(few int) error {
	for len(s.folding) > few {
		f := s.folding[0]
		<-f.turn
		if s.foldFailed == nil {
			s.foldFailed = f.err
		}
		if f.rows.tables == nil {
			s.spares = append(s.spares, f.rows)
		}
		s.folding = slices.Delete(s.folding, 0, 1)
	}
	return s.foldFailed
}

// foldAll brings all that is pending to its place. s.mu is held.
func (s *Store) foldAll() error {
	if err := s.folded(); err != nil || s.pending.empty() {
		return err
	}
	s.pending.sort()
	if s.foldFailed = s.fold(s.pending, nil); s.foldFailed != nil {
		return s.foldFailed
	}
	s.pending.reset(s.pending.to)
	return nil
}

// isPending says whether a row of a range is not at its place yet. s.mu is held.
func (s *Store) isPending(first, limit planner.Hash) bool {
	return s.pending.has(first, limit) ||
		slices.ContainsFunc(s.folding, func(f *folding) bool { return f.rows.has(first, limit) })
}

// foldRange does so if any of it lies in a range of hashes.
func (s *Store) foldRange(first, limit planner.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.foldFailed != nil {
		return s.foldFailed
	}
	if s.isPending(first, limit) {
		return s.foldAll()
	}
	return nil
}

// foldHash does so if the row of a hash is. s.mu is held.
func (s *Store) foldHash(h planner.Hash) error {
	next := h
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			break
		}
	}
	if s.isPending(h, next) {
		return s.foldAll()
	}
	return nil
}

// fold writes sorted rows to their place, after those of the fold before, and then
// drops their blocks. It can be repeated, from the blocks, after a crash at any
// point.
func (s *Store) fold(p *pending, before *folding) error {
	const doing = "bring acknowledged rows to their place"
	// Whatever settled them is durable first: a row at its place is a settled one.
	b := s.db.NewBatch()
	err := b.LogData(nil, nil)
	if err = errors.Join(err, s.commit(doing, b, pebble.Sync)); err != nil {
		return err
	}
	written := p.tables
	if written == nil && len(p.rows) >= s.folds.tables {
		if written, err = s.writeTables(p); err != nil {
			return s.wrap(doing, err)
		}
	}
	if before != nil {
		<-before.turn
		if before.err != nil {
			return before.err // what is written is removed when the store is opened again, or needed then
		}
	}
	b = s.db.NewBatch()
	if written == nil {
		err = s.foldSet(b, p)
	} else {
		err = s.ingest(written.names(s))
	}
	if err == nil {
		err = b.DeleteRange(numberKey(prefixPending, p.from), numberKey(prefixPending, p.to), nil)
	}
	if err != nil {
		return s.wrap(doing, errors.Join(err, b.Close()))
	}
	// Not synced: whatever is written to these rows later comes later in the
	// same log, and without this they are only folded again.
	return s.commit(doing, b, pebble.NoSync)
}

// foldSet puts few rows into a batch.
func (s *Store) foldSet(b *pebble.Batch, p *pending) error {
	var key []byte
	for i := range p.refs {
		h, entry, record, _, err := pendingAt(p.rows, int(p.refs[i].at))
		if err != nil {
			return err
		}
		key = hashKey(key[:0], prefixEntry, h)
		if err := b.Set(key, entry, nil); err != nil {
			return err
		}
		key[0] = prefixRecord
		if err := b.Set(key, record, nil); err != nil {
			return err
		}
	}
	return nil
}

// loadPending folds what a crash has left pending.
func (s *Store) loadPending() error {
	if err := s.removeLeftovers(); err != nil {
		return err
	}
	var rows []byte
	err := s.each(prefixPending, func(key, value []byte) error {
		if len(key) != 9 {
			return errDamaged
		}
		n := binary.BigEndian.Uint64(key[1:])
		if s.pending.empty() {
			s.pending.reset(n)
		}
		t, err := decodeTables(value)
		switch {
		case err == nil && t != nil && n == s.pending.to:
			return s.loadLot(t)
		case err == nil && t != nil:
			err = errDamaged
		}
		if err != nil {
			return fmt.Errorf("%w: acknowledged rows %d", err, n)
		}
		if rows, err = s2.Decode(rows[:cap(rows)], value); err != nil || n != s.pending.to {
			return fmt.Errorf("%w: acknowledged rows %d", errDamaged, n)
		}
		return s.pend(rows)
	})
	if err != nil {
		return err
	}
	return s.foldAll()
}
