package planner

// NoteKind says what a note changes in the snapshot.
type NoteKind uint8

// The kinds of note.
const (
	// NoteRefresh: the row's bytes are new and its fields are not (a column
	// that an expression ignores, a new mapping or schema version), or a
	// refusal is past: the entry becomes Note.Entry.
	NoteRefresh NoteKind = iota
	// NoteGone: the row left the model and its record stays as it is.
	NoteGone
	// NoteReturned: the row is back in the model, its record as it should be.
	NoteReturned
	// NoteForget: drop the entry; nothing is sent. The record, if there is
	// one, belongs to another row by now.
	NoteForget
	// NoteWait: a refused row was passed over once more.
	NoteWait
	noteKinds
)

// Note is a change of the snapshot that costs no call. Notes are applied when
// all operations of the plan have an outcome.
type Note struct {
	Kind NoteKind
	// Entry is the entry as it is to be, so that applying a note reads
	// nothing; for NoteForget only its KeyHash matters.
	Entry Entry
	// Counted says that Snapshot.Rows counted the row when the plan was made.
	Counted bool
}
