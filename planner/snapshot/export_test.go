package snapshot

// FoldAt has stores that are opened from now on bring acknowledged rows to their
// place once there are so many bytes of them, and as tables from so many on. The
// function it returns undoes that.
func FoldAt(at, tables int) (undo func()) {
	before := folds
	folds = foldSizes{at: at, tables: tables}
	return func() { folds = before }
}
