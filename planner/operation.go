package planner

import (
	"encoding/hex"

	"coho/models"
)

// Kind is what an operation does to one record.
type Kind uint8

// The kinds of operation, in the order in which JSON and tables list them.
const (
	Insert Kind = iota
	Update
	Upsert
	Archive
	ClearFields
	KindCount int = iota
)

var kindNames = [KindCount]string{"insert", "update", "upsert", "archive", "clear_fields"}

// String names the kind as configs, JSON and tables do.
func (k Kind) String() string { return kindNames[k] }

// Hash is a 128-bit hash of a row's primary key, its identity in the snapshot, or
// the first 96 bits of one of the row's mapped columns, its fingerprint, before
// zeros. Fingerprints are only ever compared with that of the same row as it was,
// never with those of other rows, so one change in 2^96 would go unseen.
type Hash [16]byte

// printSize is how many bytes of a fingerprint are not zeros.
const printSize = 12

// String returns the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Send says whether an assignment goes to the destination.
type Send uint8

const (
	// Keep: the destination holds this value already; it is recorded in the
	// snapshot with the rest of the record and not sent.
	Keep Send = iota
	// Always: send it.
	Always
	// OnCreate: send it only where the record is created. It is not recorded
	// in the snapshot.
	OnCreate
)

// Assignment gives one destination field a value. Field is an index into
// Spec.Fields.
type Assignment struct {
	Field int
	Cell  models.Cell
	Send  Send
}

// Operation is one planned change of one record. Its Keep and Always
// assignments together are the record's mapped fields as they are once the
// operation is acknowledged; a field that is in none of them is left alone.
type Operation struct {
	// Seq is the operation's place in its plan, from 0, unique and stable.
	Seq int64
	Kind
	KeyHash     Hash
	Fingerprint Hash // of the row; zero for a row that left the model

	// Key is the primary key's canonical text, a string for each key column.
	Key []string

	// ID is the record's Id as the snapshot knows it, "" when unknown.
	ID string

	// Match is the match field's value in the destination's canonical text;
	// "" where the sync has no match. Insert and upsert send it as a field,
	// update and archive find the record by it when ID is unknown.
	Match string

	// Known says that the snapshot holds this row: coho wrote the record
	// before. Only a known record is ever cleared or, by on_removed, deleted.
	Known bool

	// Counted says that Snapshot.Rows counts this row: something was
	// acknowledged for it and it is not marked gone. With it the store keeps
	// its exact count without reading what it overwrites.
	Counted bool

	// held: the snapshot has something acknowledged for the row, be it gone
	// or under another match value; so the row counts as changed.
	held bool

	// Assignments are in ascending order of Field. Empty for Archive.
	Assignments []Assignment
}

// Field is what the planner must know about one mapped destination field. The
// destination fills it in from its own knowledge of the field.
type Field struct {
	Name string

	// CreateOnly: sent when the record is created and left out when it
	// exists (mapped with on = "create", or not updateable there).
	CreateOnly bool

	// KeepOnClear: clear_fields leaves the field, because it cannot be null.
	KeepOnClear bool

	// SelfReference: the cell is the match value of another record of the
	// same object, so that record must be written in an earlier pass.
	SelfReference bool

	// Absorbed: a cell that is not null says into which record this row's was
	// merged, or is to be. Such a row has no other field: its operation has this
	// assignment alone, and where it leaves the model nothing is sent.
	Absorbed bool

	// CountValues has the summary say how many different values the field has
	// among the operations that send it.
	CountValues bool
}

// Clone returns a copy that stays valid when the reader moves on. The copy's
// texts share one allocation.
func (o *Operation) Clone() *Operation {
	n := len(o.ID) + len(o.Match)
	for _, k := range o.Key {
		n += len(k)
	}
	for i := range o.Assignments {
		n += len(o.Assignments[i].Cell.Text)
	}
	buf := make([]byte, 0, n)
	buf = append(append(buf, o.ID...), o.Match...)
	for _, k := range o.Key {
		buf = append(buf, k...)
	}
	for i := range o.Assignments {
		buf = append(buf, o.Assignments[i].Cell.Text...)
	}
	text := string(buf)
	take := func(s string) string {
		out := text[:len(s)]
		text = text[len(s):]
		return out
	}
	c := *o
	c.ID, c.Match = take(o.ID), take(o.Match)
	c.Key = make([]string, len(o.Key))
	for i, k := range o.Key {
		c.Key[i] = take(k)
	}
	c.Assignments = make([]Assignment, len(o.Assignments))
	for i, a := range o.Assignments {
		a.Cell.Text = take(a.Cell.Text)
		c.Assignments[i] = a
	}
	return &c
}

// The codes of rejected rows.
const (
	CodeNullKey        = "NULL_PRIMARY_KEY"
	CodeDuplicateKey   = "DUPLICATE_PRIMARY_KEY"
	CodeDuplicateMatch = "DUPLICATE_MATCH_VALUE"
	CodeNullMatch      = "NULL_MATCH_VALUE"
	CodeInvalidValue   = "INVALID_VALUE"
	CodeExpression     = "EXPRESSION_FAILED"
	CodeMergeGroup     = "MERGE_GROUP"

	// CodeRetryLater: the destination refused the row as it is before, and
	// the sync's retry_rejected says that it is not yet due again. The message
	// names the code of the refusal.
	CodeRetryLater = "RETRY_LATER"

	// CodeUnknown: nobody can say whether the destination carried out what was
	// sent for the row, and Spec.OnUnknown holds it for a person. It is also the
	// RefusedCode of such a row's entry.
	CodeUnknown = "UNKNOWN_OUTCOME"
)

// GroupError is what Convert returns where rows of a group cannot become one record,
// because it has no master or several.
type GroupError struct{ Message string }

// Error implements error.
func (e *GroupError) Error() string { return e.Message }

// Rejected is a row that cannot be sent at all.
type Rejected struct {
	KeyHash Hash
	Key     []string // empty where a key column is null
	Kind    Kind     // the operation that the row would have become
	Code    string   // one of the Code constants
	Message string   // one line for people; names column, field and value where it is about one
	Fields  []string
}
