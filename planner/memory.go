package planner

import "sort"

// Memory is a snapshot that somebody made up of what a destination holds. It is
// safe for use by several goroutines.
type Memory struct{ rows []MemoryRow }

// MemoryRow is a row of it: acknowledged, and with no fingerprint, so that it is
// compared field by field.
type MemoryRow struct {
	KeyHash Hash
	Record  Record
}

var _ Snapshot = (*Memory)(nil)

// NewMemory takes over rows whose key hashes differ.
func NewMemory(rows []MemoryRow) *Memory {
	sort.Slice(rows, func(i, j int) bool { return compareHashes(rows[i].KeyHash, rows[j].KeyHash) < 0 })
	return &Memory{rows}
}

// Scan implements Snapshot.
func (m *Memory) Scan(first, limit Hash) (Cursor, error) {
	at := func(h Hash) int {
		return sort.Search(len(m.rows), func(i int) bool { return compareHashes(m.rows[i].KeyHash, h) >= 0 })
	}
	end := len(m.rows)
	if limit != (Hash{}) {
		end = at(limit)
	}
	return &memoryCursor{rows: m.rows[:end], at: at(first) - 1}, nil
}

// Owner implements Snapshot: no such index is kept.
func (m *Memory) Owner(string) (owner Hash, ok bool, err error) { return Hash{}, false, nil }

// Revision implements Snapshot: it has none.
func (m *Memory) Revision() Hash { return Hash{} }

// Rows implements Snapshot.
func (m *Memory) Rows() int64 { return int64(len(m.rows)) }

type memoryCursor struct {
	rows []MemoryRow
	at   int
}

func (c *memoryCursor) Next() bool { c.at++; return c.at < len(c.rows) }
func (c *memoryCursor) Seek(from Hash) bool {
	c.at = max(c.at, 0)
	c.at += sort.Search(len(c.rows)-c.at, func(i int) bool { return compareHashes(c.rows[c.at+i].KeyHash, from) >= 0 })
	return c.at < len(c.rows)
}
func (c *memoryCursor) Entry() Entry {
	return Entry{KeyHash: c.rows[c.at].KeyHash, Acked: true}
}
func (c *memoryCursor) Record() (Record, error) { return c.rows[c.at].Record, nil }
func (c *memoryCursor) Err() error              { return nil }
func (c *memoryCursor) Close() error            { return nil }
