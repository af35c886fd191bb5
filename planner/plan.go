package planner

import "coho/models"

// Summary is what a plan says about itself.
type Summary struct {
	Rows       RowCounts
	Operations [KindCount]int64
	Fields     map[string]int64 // field name to how many operations send it
	Samples    []Sample         // the first few operations of each kind

	// SnapshotRows is the snapshot's rows when the plan was made: what the
	// guards' shares are of.
	SnapshotRows int64
	// Passes is how many passes the operations are written in, one after
	// another: parents before the children that refer to them, and removals
	// (archive and clear_fields of rows that left the model) last, children
	// before the parents that they refer to.
	Passes int
	// PassOperations counts the operations of each pass.
	PassOperations []int64
	// Known counts the operations on records that the snapshot holds, which
	// the guard max_changes limits.
	Known int64
	// Bytes is the sum of the lengths of all cells that would be sent, for
	// estimates.
	Bytes int64
	// Values counts the different values of each field that asks for it
	// (Field.CountValues), for estimates.
	Values map[string]Values `json:",omitempty"`
}

// RowCounts counts rows of the model: Read = Unchanged + Added + Changed +
// Rejected; Removed counts rows that left it since the last run.
type RowCounts struct {
	Read, Unchanged, Added, Changed, Removed, Rejected int64
}

// Sample shows one planned operation to people.
type Sample struct {
	Kind   Kind
	Key    []string
	ID     string
	Fields []SampleField
}

// SampleField is one field that a sampled operation sends. Before is nil
// where coho has not written the field before.
type SampleField struct {
	Name   string
	Before *models.Cell
	After  models.Cell
}
