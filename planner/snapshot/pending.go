package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
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
}

var folds = foldSizes{at: 3 << 20, tables: 1 << 20}

const tablePattern = "fold-"

// pending are rows that were acknowledged, durably, as blocks, and that are not
// yet at their place in the store.
//
// A row is its key hash, and its entry and its record, each behind its length.
type pending struct {
	rows  []byte
	refs  []pendingRow
	spare []pendingRow // of sort
	from  uint64       // number of the first block
	to    uint64       // number after the last block's
}

// pendingRow is where a row lies.
type pendingRow struct {
	hash planner.Hash
	at   uint32
}

func (p *pending) empty() bool { return p.to == p.from }

func (p *pending) reset(from uint64) {
	p.rows, p.refs, p.from, p.to = p.rows[:0], p.refs[:0], from, from
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
	for at < len(p.rows) {
		h, _, _, end, err := pendingAt(p.rows, at)
		if err != nil {
			return err
		}
		p.refs = append(p.refs, pendingRow{hash: h, at: uint32(at)})
		at = end
	}
	p.to++
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
	return nil
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
		s.spares = append(s.spares, f.rows)
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
	var tables []string
	if len(p.rows) >= s.folds.tables {
		if tables, err = s.writeTables(p); err != nil {
			return s.wrap(doing, errors.Join(err, s.removeTables(tables...)))
		}
	}
	if before != nil {
		<-before.turn
		if before.err != nil {
			return errors.Join(before.err, s.removeTables(tables...))
		}
	}
	b = s.db.NewBatch()
	if tables == nil {
		err = s.foldSet(b, p)
	} else if err = s.ingest(tables); err != nil {
		err = errors.Join(err, s.removeTables(tables...))
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

// writeTables writes many rows as tables, of entries and of records, which the
// store takes in as they are: they are sorted once and compressed once, and where
// nothing lies between their keys, as in a first load, never rewritten. It returns
// the names also of those that an error cut short.
func (s *Store) writeTables(p *pending) ([]string, error) {
	var names [2][]string // of entries, of records
	var parts [][]pendingRow
	for from := 0; from < len(p.refs); {
		to := from + p.stretch(from)
		parts, from = append(parts, p.refs[from:to]), to
	}
	write := func(kind int, prefix byte) error {
		for i, part := range parts {
			name := s.opts.FS.PathJoin(s.dir, fmt.Sprintf("%s%d-%d-%c", tablePattern, p.from, i, prefix))
			names[kind] = append(names[kind], name)
			if err := s.writeTable(name, prefix, p.rows, part); err != nil {
				return err
			}
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- write(0, prefixEntry) }()
	err := write(1, prefixRecord)
	err = errors.Join(err, <-done)
	return append(names[0], names[1]...), err
}

// wideGap is how many times the usual distance between two hashes a gap is: in what
// hashes do by chance there is none as wide among a million.
const wideGap = 32

// stretch is the number of rows, from one on, that lie in one stretch of hashes. A
// gap is where a batch is missing that is settled before or after this fold: one
// table over both sides of it would lie across that batch's.
func (p *pending) stretch(from int) int {
	at := func(i int) uint64 { return binary.BigEndian.Uint64(p.refs[i].hash[:]) }
	last := len(p.refs) - 1
	usual := p.usualGap()
	for i := from; i < last; i++ {
		if (at(i+1)-at(i))/wideGap > usual {
			return i + 1 - from
		}
	}
	return len(p.refs) - from
}

// usualGap is the median distance of neighbours, of some of them.
func (p *pending) usualGap() uint64 {
	var some []uint64
	for i, step := 1, max(len(p.refs)/256, 1); i < len(p.refs); i += step {
		some = append(some, binary.BigEndian.Uint64(p.refs[i].hash[:])-binary.BigEndian.Uint64(p.refs[i-1].hash[:]))
	}
	slices.Sort(some)
	if len(some) == 0 {
		return 0
	}
	return some[len(some)/2]
}

func (s *Store) writeTable(name string, prefix byte, rows []byte, refs []pendingRow) (err error) {
	f, err := s.opts.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	o := s.opts.MakeWriterOptions(len(s.opts.Levels)-1, s.db.TableFormat())
	if prefix == prefixEntry {
		o.Compression = block.NoCompression // hashes are what they are
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), o)
	defer func() { err = errors.Join(err, w.Close()) }()
	var key []byte
	for i := range refs {
		h, entry, record, _, err := pendingAt(rows, int(refs[i].at))
		if err != nil {
			return err
		}
		value := entry
		if prefix == prefixRecord {
			value = record
		}
		key = hashKey(key[:0], prefix, h)
		if err := w.Set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// ingest has the store take in tables. It does not outlast a failure that would
// leave Pebble waiting for ever.
func (s *Store) ingest(names []string) error {
	done := make(chan error, 1)
	go func() { done <- s.db.Ingest(context.Background(), names) }()
	select {
	case err := <-done:
		return errors.Join(s.log.failure(), err)
	case <-s.log.failed:
		return s.log.failure()
	}
}

// removeTables removes tables that were not taken in.
func (s *Store) removeTables(names ...string) error {
	var errs []error
	for _, name := range names {
		if err := s.opts.FS.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// loadPending folds what a crash has left pending.
func (s *Store) loadPending() error {
	left, err := s.opts.FS.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range left {
		if strings.HasPrefix(name, tablePattern) {
			err = errors.Join(err, s.removeTables(s.opts.FS.PathJoin(s.dir, name)))
		}
	}
	if err != nil {
		return err
	}
	var rows []byte
	err = s.each(prefixPending, func(key, value []byte) error {
		if len(key) != 9 {
			return errDamaged
		}
		n := binary.BigEndian.Uint64(key[1:])
		if s.pending.empty() {
			s.pending.reset(n)
		}
		var err error
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
