package snapshot

import (
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

	"coho/planner"
)

const tablePattern = "fold-"

// tables are files of many rows that the store takes in as they are: sorted once and
// compressed once, and where nothing lies between their keys, as in a first load,
// never rewritten. There are two of each stretch of rows, of entries and of records.
type tables struct {
	lot    uint64         // a number that no other has meanwhile
	firsts []planner.Hash // the first row of each stretch
}

// names are the files', entries first.
func (t *tables) names(s *Store) []string {
	var names []string
	for _, prefix := range []byte{prefixEntry, prefixRecord} {
		for i := range t.firsts {
			names = append(names, t.name(s, i, prefix))
		}
	}
	return names
}

func (t *tables) name(s *Store, i int, prefix byte) string {
	return s.opts.FS.PathJoin(s.dir, fmt.Sprintf("%s%d-%d-%c", tablePattern, t.lot, i, prefix))
}

// append appends what stands for a block whose rows are in tables: a zero, which no
// block begins with as none is empty, the lot's number and the first row of each
// stretch.
func (t *tables) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, 0), t.lot)
	for i := range t.firsts {
		dst = append(dst, t.firsts[i][:]...)
	}
	return dst
}

// decodeTables returns nil for a block that holds the rows itself.
func decodeTables(v []byte) (*tables, error) {
	if len(v) == 0 || v[0] != 0 {
		return nil, nil
	}
	lot, n := binary.Uvarint(v[1:])
	if n <= 0 {
		return nil, errDamaged
	}
	v = v[1+n:]
	if len(v) == 0 || len(v)%len(planner.Hash{}) != 0 {
		return nil, errDamaged
	}
	t := &tables{lot: lot}
	for ; len(v) > 0; v = v[len(planner.Hash{}):] {
		t.firsts = append(t.firsts, planner.Hash(v[:len(planner.Hash{})]))
	}
	return t, nil
}

// isLot says whether the rows of a Settle are worth tables of their own, and what
// else it writes does not depend on what others write meanwhile.
func (s *Store) isLot(w *settling) bool {
	return len(w.block) >= s.folds.lots && s.identity != nil && s.identity.MatchIsKey && !s.moved
}

// writeLot writes the rows of a Settle as tables, durably, while others settle. s.mu
// is held, but not meanwhile.
func (s *Store) writeLot(w *settling) (*pending, error) {
	p := &pending{rows: w.block, refs: make([]pendingRow, 0, w.seqs.Len())}
	s.mu.Unlock()
	defer s.mu.Lock()
	if err := p.index(0); err != nil {
		return nil, err
	}
	p.sort()
	t, err := s.writeTables(p)
	if err != nil {
		return nil, err
	}
	p.rows, p.spare, p.tables = nil, nil, t
	dir, err := s.opts.FS.OpenDir(s.dir)
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return nil, errors.Join(err, s.removeTables(t.names(s)...))
	}
	return p, nil
}

// isCurrent says whether nothing has come that what was encoded depends on. s.mu is
// held.
func (s *Store) isCurrent(w *settling) bool {
	_, open := s.open[w.batch]
	return open && s.plan == w.plan && s.owned == w.owned && s.moved == w.moved && !slices.ContainsFunc(w.seqs, s.settled.HasAny)
}

// pendLot has rows that are in tables taken in, after those that are pending: all
// that come later are taken in later. s.mu is held.
func (s *Store) pendLot(p *pending) error {
	p.from, p.to = s.pending.to, s.pending.to+1
	if !s.pending.empty() {
		if err := s.foldBeside(); err != nil {
			return err
		}
	}
	if err := s.foldedBut(lotsAtOnce - 1); err != nil {
		return err
	}
	s.pending.reset(p.to)
	s.startFold(p)
	return nil
}

// lotsAtOnce is how many lots wait side by side to be taken in: they hold the hashes
// of their rows.
const lotsAtOnce = 4

// loadLot takes in tables that a crash has left. Where one of them is missing all
// have been taken in before it.
func (s *Store) loadLot(t *tables) error {
	if err := s.foldAll(); err != nil {
		return err
	}
	names, missing := t.names(s), 0
	for _, name := range names {
		if _, err := s.opts.FS.Stat(name); errors.Is(err, os.ErrNotExist) {
			missing++
		} else if err != nil {
			return err
		}
	}
	if missing == 0 {
		p := &pending{from: s.pending.to, to: s.pending.to + 1, tables: t}
		s.pending.reset(p.to)
		return s.fold(p, nil)
	}
	for _, h := range t.firsts {
		if v, err := s.get(hashKey(nil, prefixEntry, h)); err != nil || v == nil {
			return errors.Join(err, fmt.Errorf("%w: tables of acknowledged rows are missing", errDamaged))
		}
	}
	b := s.db.NewBatch()
	err := b.Delete(numberKey(prefixPending, s.pending.to), nil)
	s.pending.reset(s.pending.to + 1)
	return errors.Join(err, s.commit("open the state", b, pebble.NoSync), s.removeTables(names...))
}

// removeLeftovers removes tables that a crash has left and no block stands for.
func (s *Store) removeLeftovers() error {
	named := map[string]bool{}
	err := s.each(prefixPending, func(_, value []byte) error {
		t, err := decodeTables(value)
		if err != nil || t == nil {
			return err
		}
		s.lots.Store(max(s.lots.Load(), t.lot))
		for _, name := range t.names(s) {
			named[s.opts.FS.PathBase(name)] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	left, err := s.opts.FS.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range left {
		if strings.HasPrefix(name, tablePattern) && !named[name] {
			err = errors.Join(err, s.removeTables(s.opts.FS.PathJoin(s.dir, name)))
		}
	}
	return err
}

// writeTables writes sorted rows as tables. They are removed again where that fails.
func (s *Store) writeTables(p *pending) (*tables, error) {
	t := &tables{lot: s.lots.Add(1)}
	var parts [][]pendingRow
	for from := 0; from < len(p.refs); {
		to := from + p.stretch(from)
		parts, from = append(parts, p.refs[from:to]), to
		t.firsts = append(t.firsts, parts[len(parts)-1][0].hash)
	}
	write := func(prefix byte) error {
		for i, part := range parts {
			if err := s.writeTable(t.name(s, i, prefix), prefix, p.rows, part); err != nil {
				return err
			}
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- write(prefixEntry) }()
	err := write(prefixRecord)
	if err = errors.Join(err, <-done); err != nil {
		return nil, errors.Join(err, s.removeTables(t.names(s)...))
	}
	return t, nil
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
