package planner

import "coho/models"

// Snapshot is what the planner reads of the store that keeps, for each primary
// key, what the destination has acknowledged.
type Snapshot interface {
	// Scan reads the entries whose key hash is from first (inclusive) up to
	// limit (exclusive; the zero Hash means no limit), in ascending order of
	// key hash. Several scans may be open at once.
	Scan(first, limit Hash) (Cursor, error)

	// Owner returns the key hash of the row that last acknowledged the
	// record with this Id. ok is false where none did or where the sync keeps
	// no such index (Spec.MatchIsKey).
	Owner(id string) (owner Hash, ok bool, err error)

	// Revision names what the snapshot's entries are: two snapshots, or one at
	// two times, that have the same revision have the same entries. The zero
	// Hash says nothing.
	Revision() Hash

	// Rows returns how many rows the snapshot holds: acknowledged and not
	// marked gone.
	Rows() int64
}

// Cursor walks snapshot entries. It is used by one goroutine.
type Cursor interface {
	Next() bool
	// Seek moves on to the first entry that is not before from. It never moves
	// back: from lies behind the current entry.
	Seek(from Hash) bool
	// Entry is valid until the next call of Next or Seek.
	Entry() Entry
	// Record reads the current entry's acknowledged record.
	Record() (Record, error)
	Err() error
	Close() error
}

// Entry is the small part of the snapshot that every run reads.
type Entry struct {
	KeyHash     Hash
	Fingerprint Hash

	// Gone: the row left the model and its record was left as it is (or
	// cleared), so the row's return is no addition.
	Gone bool

	// Refused: the destination refused RefusedPrint, the row as it was then,
	// RefusedTimes runs in a row. An entry with no Acked part (nothing was ever
	// acknowledged for the key) exists only to carry this.
	Refused      bool
	RefusedPrint Hash
	RefusedTimes uint32
	// RefusedSkips counts the runs that have passed the row over since its
	// last refusal (retry_rejected = "backoff").
	RefusedSkips uint32
	RefusedCode  string // the destination's code of the last refusal
	Acked        bool

	// Displaced: another row has acknowledged the record since, so nothing is
	// known any more of what the record holds. It is no part of the entry's
	// durable form; the store keeps it beside.
	Displaced bool
}

// Record is what the destination acknowledged for a row.
type Record struct {
	ID     string
	Key    []string
	Match  string
	Fields []RecordField // by field name, ascending
}

// RecordField is one acknowledged field.
type RecordField struct {
	Name string
	Cell models.Cell
}
