package planner

// CutAt has groups of so many rows cut into pieces from now on.
func CutAt(rows int) { cutRows = rows }
