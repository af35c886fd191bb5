package models

// Grouping says which rows of a model are to become one record: one row of a
// group is the master, the others are its children. Either Group and Child are
// columns, or Master is one.
type Grouping struct {
	Group  string // rows with the same value are a group; null: the row is in none
	Child  string // true: the row is to be merged into its group's master
	Master string // the match value of the row that this one is merged into; null or its own: none
	Match  string // the match column
}

// MergeColumn is the column that a source adds to the result of a model with a
// Grouping, as text: null for a row that is no child, MergeInto and the master's
// match value for one, and for each row of a group that has no master or several
// MergeBad, their number, a colon and the group's value.
const MergeColumn = "coho_merge"

// The first character of a value of MergeColumn.
const (
	MergeInto = '+'
	MergeBad  = '-'
)

// MergeField is the name of the field that MergeColumn fills: no field of the org,
// but one of the snapshot's records, in which it says where a row's record went.
const MergeField = "merged into"
