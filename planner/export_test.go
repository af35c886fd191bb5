package planner

// CutAt has groups of so many rows cut into pieces from now on, and returns how many
// it took before.
func CutAt(rows int) (before int) {
	before, cutRows = cutRows, rows
	return before
}

// SeekPast has entries sought past from now on where there are more than so many for
// each that is of interest, 0 being always, and returns what it was before.
func SeekPast(entries int) (before int) {
	before, sparse = sparse, entries
	return before
}
