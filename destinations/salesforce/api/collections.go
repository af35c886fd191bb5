package api

// SaveResult is what became of one record of a Collections call. Success with
// non-empty Errors is a success (platform events answer so).
type SaveResult struct {
	ID      string
	Success bool
	Created bool // upsert: the record is new
	Errors  []RowError
}

// RowError is one reason why a record was refused.
type RowError struct {
	Code, Message string
	Fields        []string
}

// CollectionOptions are the headers of a Collections write.
type CollectionOptions struct {
	// AllowDuplicates lets records past duplicate rules whose action is
	// Allow or Alert; Block still blocks.
	AllowDuplicates bool
	// AssignmentRule is "" to leave the header out (the org then applies its
	// active rule), "FALSE", "TRUE" or the Id of a rule.
	AssignmentRule string
}

// MaxCollection is how many records a Collections call takes.
const MaxCollection = 200
