package api

import "fmt"

// Class says what to do about an error.
type Class uint8

// The classes. The zero value is the class of codes that nobody knows.
const (
	// RowFault is permanent for the row: its data or the mapping is wrong.
	RowFault Class = iota
	// RetryRow is a passing condition: the same row may be sent again.
	RetryRow
	// SplitBatch means that fewer rows in one request may succeed.
	SplitBatch
	// RenewSession means that a new login is needed. The client does this
	// itself; a caller sees it only where renewal did not help.
	RenewSession
	// Wait is a condition of the org that passes: pause, then send again.
	Wait
	// StopRun hits every row alike: going on is pointless until a person, or
	// the next day, changes it.
	StopRun
)

// Error is a request that failed as a whole.
type Error struct {
	Op      string // what was being done: "upsert Account records"
	Status  int    // HTTP status, 0 when no answer came
	Code    string // Salesforce's error code, "" when there is none
	Message string
	Fields  []string
	Class   Class
	// Unknown: the request may have been carried out; it was sent and no
	// usable answer came.
	Unknown bool
	Err     error
}

// BudgetError says that a call was not made because it would pass the budget.
type BudgetError struct {
	Used, Limit int64
}

// Error implements error.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("API budget used up: %d of %d calls", e.Used, e.Limit)
}
