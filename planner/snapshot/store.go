package snapshot

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"coho/planner"
)

const (
	format       = 3
	pebbleFormat = pebble.FormatWALSyncChunks
	cacheBytes   = 8 << 20
	// baseBytes is how much may lie above the last level before that is compacted with
	// it, or more where the last level is more than ten times that: rows that have
	// changed are there twice.
	baseBytes     = 16 << 20
	manifestBytes = 64 << 10 // from which on, or from doubling on, the list of tables is written anew
	memTableBytes = 12 << 20 // several times what is pending, so that most of that is never flushed
	blockBytes    = 16 << 10
	lastBytes     = 64 << 10 // of a block of the last level
	restBytes     = 8 << 20  // of the write-ahead log that a closed store may keep
)

// lastLevel compresses data by zstd at its first level, and the rest by Snappy, as
// the format of the tables has no MinLZ.
var lastLevel = func() sstable.CompressionProfile {
	p := *block.SnappyCompression
	p.DataBlocks, p.ValueBlocks = block.BalancedCompression.DataBlocks, block.BalancedCompression.ValueBlocks
	return p
}()

// LockedError says that another process, or another part of this one, holds the
// store.
type LockedError struct{ Dir string }

// Error implements error.
func (e *LockedError) Error() string {
	return fmt.Sprintf("the state in %s is held by another coho process; wait for it to end or ask it", e.Dir)
}

// VersionError says that a newer program wrote the store.
type VersionError struct {
	Dir  string
	What string // which format, and its version
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the state in %s was written by a newer coho (%s); update coho, nothing was changed", e.Dir, e.What)
}

// CorruptError says that the store's bytes are not those that were written.
type CorruptError struct {
	Dir string
	Err error
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("the state in %s fails its checks and was not read any further: bring it back from a backup or an export (coho snapshot import), or start over with coho snapshot reset: %v", e.Dir, e.Err)
}

// Unwrap returns what Pebble said.
func (e *CorruptError) Unwrap() error { return e.Err }

// Store is an open snapshot. It is safe for use by several goroutines.
type Store struct {
	dir  string
	db   *pebble.DB
	lock *pebble.Lock
	log  *logger
	opts *pebble.Options

	mu       sync.Mutex // guards all below, and the order of writes
	rows     int64
	names    []string       // of fields, by number
	numbers  map[string]int // of fields, by name
	plan     *PlanRef
	columns  []int // the numbers of plan.Fields
	settled  planner.SettledSet
	sets     uint64 // number of the next settled set
	batches  uint64 // number of the last batch
	open     map[uint64]struct{}
	revision planner.Hash
	applied  int64 // notes of the plan that are in the store
	owned    bool  // there may be owners
	moved    bool  // there may be displaced rows
	identity *Identity

	pending    *pending   // being filled
	spares     []*pending // to be filled next
	folding    []*folding // under way, in the order in which they began
	foldFailed error
	lots       atomic.Uint64 // number of the last tables

	folds foldSizes

	blocks [][]byte // of Settle, to be used again
	packed []byte
}

var _ planner.Snapshot = (*Store)(nil)

// Open opens the store in dir and makes it if it is not there. Its errors are
// *LockedError, *VersionError, *CorruptError, or the file system's.
func Open(dir string) (*Store, error) { return OpenFS(dir, vfs.Default) }

// OpenFS opens a store in a file system of the caller's choosing, as tests of
// crashes do.
func OpenFS(dir string, fs vfs.FS) (*Store, error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the state: %w", err)
	}
	if err := checkPebbleFormat(dir, fs); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		if isLocked(err) {
			return nil, &LockedError{Dir: dir}
		}
		return nil, fmt.Errorf("open the state: lock %s: %w", dir, err)
	}
	s := &Store{dir: dir, lock: lock, log: newLogger(), numbers: map[string]int{}, open: map[uint64]struct{}{}, pending: new(pending), folds: folds}
	s.opts = &pebble.Options{
		FS: fs, Lock: lock, Logger: s.log,
		LBaseMaxBytes: baseBytes, MaxManifestFileSize: manifestBytes, CacheSize: cacheBytes, MemTableSize: memTableBytes, MaxOpenFiles: 256,
		L0StopWritesThreshold: 40, CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		FormatMajorVersion: pebbleFormat,
		// Without a listener of its own Pebble takes damage that it reads for
		// fatal; here it is the reading call's error.
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}},
	}
	last := len(s.opts.Levels) - 1
	for i := range s.opts.Levels {
		l := &s.opts.Levels[i]
		l.BlockSize, l.FilterPolicy = blockBytes, bloom.FilterPolicy(10)
	}
	// Nearly all rows lie on the last level: there bytes count, and what is looked
	// for is there.
	s.opts.Levels[last].FilterPolicy, s.opts.Levels[last].BlockSize = pebble.NoFilterPolicy, lastBytes
	s.opts.Levels[last].Compression = func() *sstable.CompressionProfile { return &lastLevel }
	s.opts.Levels[0].Compression = func() *sstable.CompressionProfile { return block.NoCompression } // blocks of pending rows are compressed
	s.opts.Levels[1].Compression = func() *sstable.CompressionProfile { return block.SnappyCompression }
	s.opts.EnsureDefaults()
	if s.db, err = pebble.Open(dir, s.opts); err != nil {
		return nil, errors.Join(s.wrap("open the state", err), lock.Close())
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// isLocked tells a lock that is held from one that cannot be taken. Pebble has
// no error of its own for a lock held by this process.
func isLocked(err error) bool {
	var file *os.PathError
	if errors.As(err, &file) {
		return false // the lock file itself cannot be made
	}
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		strings.Contains(err.Error(), "lock held by current process")
}

// checkPebbleFormat looks at Pebble's format marker, a file whose name ends in the
// version, before Pebble does: Pebble has no error of its own for a newer one.
func checkPebbleFormat(dir string, fs vfs.FS) error {
	files, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	for _, name := range files {
		rest, ok := strings.CutPrefix(name, "marker.format-version.")
		if !ok {
			continue
		}
		_, version, _ := strings.Cut(rest, ".")
		if v, err := strconv.ParseUint(version, 10, 64); err == nil && v > uint64(pebble.FormatNewest) {
			return &VersionError{Dir: dir, What: "Pebble format " + strconv.FormatUint(v, 10)}
		}
	}
	return nil
}

// Close waits for the store's own work and releases it. After an error of the
// disk that Pebble cannot go on from, the store stays open until the process
// ends, and Close returns that error.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.folded() // whoever wanted what was folded has been told, and the rest is durable
	if err := s.log.failure(); err != nil {
		return s.wrap("close the state", err)
	}
	logs := s.db.Metrics().WAL
	flushed := max(logs.Size, logs.PhysicalSize+logs.ObsoletePhysicalSize) > restBytes
	var err error
	if flushed {
		err = s.db.Flush()
	}
	if err = errors.Join(err, s.db.Close()); err == nil && flushed {
		err = s.removeLogs()
	}
	return errors.Join(s.wrap("close the state", err), s.lock.Close())
}

// removeLogs removes the write-ahead logs but the newest of a store that has been
// flushed and closed: it is the only one that is read again, and the others, which
// Pebble keeps to write over them, are as long as a memtable each.
func (s *Store) removeLogs() error {
	names, err := s.opts.FS.List(s.dir)
	if err != nil {
		return err
	}
	numbers := map[string]uint64{}
	var newest uint64
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, ".log"); ok {
			if n, err := strconv.ParseUint(base, 10, 64); err == nil {
				numbers[name] = n
				newest = max(newest, n)
			}
		}
	}
	for name, n := range numbers {
		if n != newest {
			err = errors.Join(err, s.opts.FS.Remove(s.opts.FS.PathJoin(s.dir, name)))
		}
	}
	return err
}

// wrap says what was being done, and makes damage known as such.
func (s *Store) wrap(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case pebble.IsCorruptionError(err), errors.Is(err, errDamaged):
		return &CorruptError{Dir: s.dir, Err: err}
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%s in %s: the disk is full; free some space and run again: %w", doing, s.dir, err)
	}
	return fmt.Errorf("%s in %s: %w", doing, s.dir, err)
}

// commit applies a batch durably. It does not outlast a failure that would leave
// Pebble waiting for ever.
func (s *Store) commit(doing string, b *pebble.Batch, how *pebble.WriteOptions) error {
	if err := s.log.failure(); err != nil {
		return s.wrap(doing, err)
	}
	done := make(chan error, 1)
	go func() { done <- s.db.Apply(b, how) }()
	select {
	case err := <-done:
		if failed := s.log.failure(); failed != nil {
			return s.wrap(doing, failed)
		}
		return s.wrap(doing, errors.Join(err, b.Close()))
	case <-s.log.failed:
		return s.wrap(doing, s.log.failure())
	}
}

// apply applies a batch as commit does, durably once wait has returned. The batches
// of several callers become durable together.
func (s *Store) apply(doing string, b *pebble.Batch) (wait func() error, err error) {
	if err := s.log.failure(); err != nil {
		return nil, s.wrap(doing, err)
	}
	applied, synced := make(chan error, 1), make(chan error, 1)
	go func() {
		err := s.db.ApplyNoSyncWait(b, pebble.Sync)
		if applied <- err; err == nil {
			synced <- errors.Join(b.SyncWait(), b.Close())
		}
	}()
	either := func(done <-chan error) error {
		select {
		case err := <-done:
			return s.wrap(doing, errors.Join(s.log.failure(), err))
		case <-s.log.failed:
			return s.wrap(doing, s.log.failure())
		}
	}
	return func() error { return either(synced) }, either(applied)
}

// logger takes Pebble's messages. Only the first fatal one is kept.
type logger struct {
	failed chan struct{} // closed by the first fatal message
	once   sync.Once
	err    error // set before failed is closed
}

func newLogger() *logger { return &logger{failed: make(chan struct{})} }

// Infof drops a message.
func (l *logger) Infof(string, ...any) {}

// Errorf drops a message: the error it is about comes back from the call.
func (l *logger) Errorf(string, ...any) {}

// Fatalf keeps the error. Pebble expects it not to return: what it would do next
// rests on a write that did not happen. A commit does return, to the caller that
// waits for it; background work stops here.
func (l *logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = fmt.Errorf("%s: %w", strings.SplitN(format, ":", 2)[0], cause)
		}
	}
	l.once.Do(func() {
		l.err = err
		close(l.failed)
	})
	if !strings.HasPrefix(format, "pebble: fatal commit error") {
		select {}
	}
}

func (l *logger) failure() error {
	select {
	case <-l.failed:
		return l.err
	default:
		return nil
	}
}

// get reads a value into memory of its own; nil where there is none.
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, v...), closer.Close()
}

func (s *Store) getJSON(key []byte, into any) (bool, error) {
	v, err := s.get(key)
	if err != nil || v == nil {
		return false, err
	}
	if err := json.Unmarshal(v, into); err != nil {
		return false, fmt.Errorf("%w: %s", errDamaged, key)
	}
	return true, nil
}

// getCount reads a number; 0 where there is none.
func (s *Store) getCount(key []byte) (uint64, error) {
	v, err := s.get(key)
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: %s", errDamaged, key)
	}
	return binary.BigEndian.Uint64(v), nil
}

// load reads what is kept in memory, and writes the format into a new store.
func (s *Store) load() error {
	v, err := s.get(keyFormat)
	if err != nil {
		return s.wrap("open the state", err)
	}
	switch {
	case v != nil && len(v) != 1:
		return s.wrap("open the state", errDamaged)
	case v != nil && v[0] > format:
		return &VersionError{Dir: s.dir, What: "format " + strconv.Itoa(int(v[0]))}
	case v != nil && v[0] < format:
		if err := s.upgrade(v[0]); err != nil {
			return s.wrap("bring the state to this version's format", err)
		}
	case v == nil:
		b := s.db.NewBatch()
		err := b.Set(keyFormat, []byte{format}, nil)
		if err = errors.Join(err, s.commit("make the state", b, pebble.Sync)); err != nil {
			return err
		}
	}
	importing, err := s.get(keyImporting)
	if err == nil && importing != nil {
		err = s.Reset()
	}
	if err != nil {
		return s.wrap("open the state", err)
	}
	return s.wrap("open the state", s.loadMeta())
}

// upgrade moves what format 1 has under other letters. What a crash leaves of it is
// still format 1, and is done again. Format 2 differs in entries, which are read as
// they are and change as they are written.
func (s *Store) upgrade(from byte) error {
	const doing, atOnce = "bring the state to this version's format", 4 << 20
	b := s.db.NewBatch()
	var moved []byte
	var moves []move
	if from == 1 {
		moves = moved1
	}
	for _, m := range moves {
		err := s.each(m.from, func(key, value []byte) error {
			if bytes.Equal(key, keyFormat) {
				return nil
			}
			moved = append(append(moved[:0], m.to), key[1:]...)
			if err := b.Set(moved, value, nil); err != nil || b.Len() < atOnce {
				return err
			}
			err := s.commit(doing, b, pebble.NoSync)
			b = s.db.NewBatch()
			return err
		})
		if err != nil {
			return errors.Join(err, b.Close())
		}
	}
	var err error
	for _, m := range moves {
		err = errors.Join(err, b.DeleteRange([]byte{m.from}, []byte{m.from + 1}, nil))
	}
	err = errors.Join(err, b.Set(keyFormat, []byte{format}, nil))
	if err != nil {
		return errors.Join(err, b.Close())
	}
	return s.commit(doing, b, pebble.Sync)
}

func (s *Store) loadMeta() error {
	if err := s.loadPending(); err != nil {
		return err
	}
	rows, err := s.getCount(keyRows)
	if err != nil {
		return err
	}
	s.rows = int64(rows)
	revision, err := s.get(keyRevision)
	if err != nil {
		return err
	}
	copy(s.revision[:], revision)
	if s.batches, err = s.getCount(keyBatches); err != nil {
		return err
	}
	applied, err := s.getCount(keyNotes)
	if err != nil {
		return err
	}
	s.applied = int64(applied)
	var names []string
	if _, err := s.getJSON(keyFields, &names); err != nil {
		return err
	}
	s.setNames(names)
	var id Identity
	if ok, err := s.getJSON(keyIdentity, &id); err != nil {
		return err
	} else if ok {
		s.identity = &id
	}
	var plan PlanRef
	if ok, err := s.getJSON(keyPlan, &plan); err != nil {
		return err
	} else if ok {
		if s.columns, err = s.columnsOf(plan.Fields); err != nil {
			return err
		}
		s.plan = &plan
	}
	if s.owned, err = s.any(prefixOwner); err != nil {
		return err
	}
	if s.moved, err = s.any(prefixDisplaced); err != nil {
		return err
	}
	if err := s.each(prefixSettled, func(key, value []byte) error {
		seqs, rest, err := planner.DecodeSeqs(value)
		if err != nil || len(rest) != 0 || len(key) != 9 {
			return errDamaged
		}
		s.settled.Add(seqs)
		s.sets = binary.BigEndian.Uint64(key[1:]) + 1
		return nil
	}); err != nil {
		return err
	}
	return s.each(prefixBatch, func(key, _ []byte) error {
		if len(key) != 9 {
			return errDamaged
		}
		s.open[binary.BigEndian.Uint64(key[1:])] = struct{}{}
		return nil
	})
}

func (s *Store) setNames(names []string) {
	s.names = names
	clear(s.numbers)
	for i, n := range names {
		s.numbers[n] = i
	}
}

// columnsOf finds the numbers of fields that are in the list already.
func (s *Store) columnsOf(fields []string) ([]int, error) {
	out := make([]int, len(fields))
	for i, f := range fields {
		n, ok := s.numbers[f]
		if !ok {
			return nil, fmt.Errorf("%w: the active plan has a field without a number", errDamaged)
		}
		out[i] = n
	}
	return out, nil
}

// each calls f for every key with a letter.
func (s *Store) each(prefix byte, f func(key, value []byte) error) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := f(it.Key(), value); err != nil {
			return err
		}
	}
	return nil
}

// any says whether there is a key with a letter.
func (s *Store) any(prefix byte) (bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return false, err
	}
	found := it.First()
	return found, errors.Join(it.Error(), it.Close())
}

// revise has a batch that changes entries change the revision too. The caller
// takes the new one over once the batch is applied.
func revise(b *pebble.Batch) (planner.Hash, error) {
	var revision planner.Hash
	if _, err := rand.Read(revision[:]); err != nil {
		return revision, err
	}
	return revision, b.Set(keyRevision, revision[:], nil)
}

// Revision implements planner.Snapshot.
func (s *Store) Revision() planner.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

// Rows implements planner.Snapshot.
func (s *Store) Rows() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows
}
