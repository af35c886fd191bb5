package snapshot

// FoldAt has stores that are opened from now on bring acknowledged rows to their
// place once there are so many bytes of them, and as tables from so many on, also
// where one Settle brings as many. The function it returns undoes that.
func FoldAt(at, tables int) (undo func()) {
	before := folds
	folds = foldSizes{at: at, tables: tables, lots: tables}
	return func() { folds = before }
}
