package snapshot

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"coho/planner"
)

// cursor walks entries, and beside them, where asked, their records: both in the
// order of the hash, so a second iterator follows with short seeks.
type cursor struct {
	s       *Store
	it      *pebble.Iterator
	records *pebble.Iterator // nil until the first record is asked for
	moved   *pebble.Iterator // displaced rows, from the current entry on; nil at their end
	bounds  pebble.IterOptions
	started bool
	entry   planner.Entry
	key     []byte
	names   []string
	err     error
}

// Scan implements planner.Snapshot.
func (s *Store) Scan(first, limit planner.Hash) (planner.Cursor, error) {
	if err := s.log.failure(); err != nil {
		return nil, s.wrap("read the state", err)
	}
	if err := s.foldRange(first, limit); err != nil {
		return nil, err
	}
	c := &cursor{s: s}
	c.bounds = pebble.IterOptions{LowerBound: hashKey(nil, prefixRecord, first), UpperBound: []byte{prefixRecord + 1}}
	entries := pebble.IterOptions{LowerBound: hashKey(nil, prefixEntry, first), UpperBound: []byte{prefixEntry + 1}}
	if (limit != planner.Hash{}) {
		c.bounds.UpperBound = hashKey(nil, prefixRecord, limit)
		entries.UpperBound = hashKey(nil, prefixEntry, limit)
	}
	s.mu.Lock()
	c.names = s.names
	moved := s.moved
	s.mu.Unlock()
	it, err := s.db.NewIter(&entries)
	if err != nil {
		return nil, s.wrap("read the state", err)
	}
	c.it = it
	if moved {
		bounds := pebble.IterOptions{LowerBound: hashKey(nil, prefixDisplaced, first), UpperBound: []byte{prefixDisplaced + 1}}
		if c.moved, err = s.db.NewIter(&bounds); err != nil {
			return nil, s.wrap("read the state", errors.Join(err, it.Close()))
		}
		if !c.moved.First() {
			c.endMoved()
		}
	}
	return c, nil
}

// Next implements planner.Cursor.
func (c *cursor) Next() bool {
	if c.err != nil {
		return false
	}
	var ok bool
	if c.started {
		ok = c.it.Next()
	} else {
		ok, c.started = c.it.First(), true
	}
	return ok && c.read()
}

// Seek implements planner.Cursor.
func (c *cursor) Seek(from planner.Hash) bool {
	if c.err != nil {
		return false
	}
	c.started = true
	c.key = hashKey(c.key[:0], prefixEntry, from)
	if !c.it.SeekGE(c.key) {
		return false
	}
	if c.moved != nil {
		c.key[0] = prefixDisplaced
		if bytes.Compare(c.moved.Key(), c.key) < 0 && !c.moved.SeekGE(c.key) {
			if c.endMoved(); c.err != nil {
				return false
			}
		}
	}
	return c.read()
}

// read reads the entry where the walk is.
func (c *cursor) read() bool {
	value, err := c.it.ValueAndErr()
	key := c.it.Key()
	if err == nil && len(key) != 17 {
		err = errDamaged
	}
	if err == nil {
		copy(c.entry.KeyHash[:], key[1:])
		if err = planner.DecodeEntry(value, &c.entry); err != nil {
			err = fmt.Errorf("%w: entry %s", errDamaged, c.entry.KeyHash)
		}
	}
	for err == nil && c.moved != nil {
		order := bytes.Compare(c.moved.Key()[1:], key[1:])
		if order >= 0 {
			c.entry.Displaced = order == 0
			break
		}
		if !c.moved.Next() {
			c.endMoved()
			err = c.err
		}
	}
	c.err = err
	return err == nil
}

// endMoved closes the walk over the displaced rows.
func (c *cursor) endMoved() {
	if c.moved != nil {
		c.err = errors.Join(c.err, c.moved.Error(), c.moved.Close())
		c.moved = nil
	}
}

// Entry implements planner.Cursor.
func (c *cursor) Entry() planner.Entry { return c.entry }

// Record implements planner.Cursor.
func (c *cursor) Record() (planner.Record, error) {
	if c.records == nil {
		it, err := c.s.db.NewIter(&c.bounds)
		if err != nil {
			return planner.Record{}, c.s.wrap("read the state", err)
		}
		c.records = it
	}
	c.key = hashKey(c.key[:0], prefixRecord, c.entry.KeyHash)
	if !c.records.SeekGE(c.key) || string(c.records.Key()) != string(c.key) {
		err := c.records.Error()
		if err == nil {
			err = fmt.Errorf("%w: entry %s has no record", errDamaged, c.entry.KeyHash)
		}
		return planner.Record{}, c.s.wrap("read the state", err)
	}
	value, err := c.records.ValueAndErr()
	if err != nil {
		return planner.Record{}, c.s.wrap("read the state", err)
	}
	rec, err := decodeRecord(value, c.names)
	if err != nil {
		err = fmt.Errorf("%w: record %s", errDamaged, c.entry.KeyHash)
	}
	return rec, c.s.wrap("read the state", err)
}

// Err implements planner.Cursor.
func (c *cursor) Err() error {
	return c.s.wrap("read the state", errors.Join(c.err, c.it.Error()))
}

// Close implements planner.Cursor.
func (c *cursor) Close() error {
	err := c.it.Close()
	if c.moved != nil {
		err = errors.Join(err, c.moved.Close())
	}
	if c.records != nil {
		err = errors.Join(err, c.records.Close())
	}
	return c.s.wrap("read the state", err)
}

// Owner implements planner.Snapshot.
func (s *Store) Owner(id string) (owner planner.Hash, ok bool, err error) {
	v, err := s.get(ownerKey(nil, id))
	if err == nil && v != nil && len(v) != len(owner) {
		err = fmt.Errorf("%w: owner of %s", errDamaged, id)
	}
	if err != nil || v == nil {
		return owner, false, s.wrap("read the state", err)
	}
	copy(owner[:], v)
	return owner, true, nil
}
