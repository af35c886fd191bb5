package planner

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"

	"coho/models"
)

// KeyHash is the identity of the row whose primary key has these canonical
// texts, a string a key column.
func (s *Spec) KeyHash(key []string) Hash {
	var b []byte
	for _, text := range key {
		b = s.appendIdentity(b, text)
	}
	return hashOf(b)
}

// RowHash is the identity of a row, split into cells. ok is false for one that
// has none, because its key is null or has no text. buf is room to work in.
func (s *Spec) RowHash(schema models.Schema, cells [][]byte, buf []byte) (h Hash, ok bool, _ []byte) {
	buf = buf[:0]
	for _, c := range s.KeyColumns {
		if cells[c] == nil {
			return h, false, buf
		}
		at := len(buf)
		buf = append(buf, 0, 0, 0, 0)
		var err error
		if buf, err = schema.AppendKey(buf, c, cells[c]); err != nil {
			return h, false, buf
		}
		if s.MatchIsKey {
			buf = append(buf[:at+4], s.normalize(string(buf[at+4:]))...)
		}
		binary.BigEndian.PutUint32(buf[at:], uint32(len(buf)-at-4))
	}
	return hashOf(buf), true, buf
}

func (s *Spec) appendIdentity(b []byte, text string) []byte {
	if s.MatchIsKey {
		text = s.normalize(text)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...)
}

func hashOf(b []byte) (h Hash) {
	x := xxh3.Hash128(b)
	binary.BigEndian.PutUint64(h[:], x.Hi)
	binary.BigEndian.PutUint64(h[8:], x.Lo)
	return h
}

// Alone is a snapshot of which only some rows are seen. Its count of rows and
// its owners are the whole snapshot's.
type Alone struct {
	Snapshot
	keys []Hash
}

// NewAlone shows of a snapshot the rows of these keys.
func NewAlone(s Snapshot, keys ...Hash) *Alone {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, compareHashes)
	return &Alone{Snapshot: s, keys: slices.Compact(keys)}
}

// Scan implements Snapshot.
func (a *Alone) Scan(first, limit Hash) (Cursor, error) {
	c := &aloneCursor{of: a.Snapshot}
	for _, k := range a.keys {
		if compareHashes(k, first) >= 0 && (limit == Hash{} || compareHashes(k, limit) < 0) {
			c.keys = append(c.keys, k)
		}
	}
	return c, nil
}

// aloneCursor looks one key up after another.
type aloneCursor struct {
	of   Snapshot
	keys []Hash
	Cursor
	err error
}

// Next implements Cursor.
func (c *aloneCursor) Next() bool {
	for c.err == nil {
		if c.Cursor != nil {
			if c.err = errors.Join(c.Cursor.Err(), c.Cursor.Close()); c.err != nil {
				return false
			}
			c.Cursor = nil
		}
		if len(c.keys) == 0 {
			return false
		}
		k := c.keys[0]
		c.keys = c.keys[1:]
		cur, err := c.of.Scan(k, after(k))
		if err != nil {
			c.err = fmt.Errorf("look a row up: %w", err)
			return false
		}
		c.Cursor = cur
		if cur.Next() {
			return true
		}
	}
	return false
}

// Seek implements Cursor.
func (c *aloneCursor) Seek(from Hash) bool {
	for len(c.keys) > 0 && compareHashes(c.keys[0], from) < 0 {
		c.keys = c.keys[1:]
	}
	return c.Next()
}

// Err implements Cursor.
func (c *aloneCursor) Err() error { return c.err }

// Close implements Cursor.
func (c *aloneCursor) Close() error {
	if c.Cursor == nil {
		return nil
	}
	err := c.Cursor.Close()
	c.Cursor = nil
	return err
}

// after is the hash that follows h; the zero Hash, no limit, follows the last.
func after(h Hash) Hash {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i]++; h[i] != 0 {
			break
		}
	}
	return h
}
