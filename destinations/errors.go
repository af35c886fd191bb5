package destinations

import (
	"errors"
	"fmt"
	"strings"
)

// ErrStopped is returned by Apply when it was asked to stop with operations
// left to send.
var ErrStopped = errors.New("stopped before every operation was sent")

// BudgetError says that the API budget, or another limit of the org, does not
// allow further calls.
type BudgetError struct {
	Used, Limit int64

	// Of is what else is limited, such as "events an hour"; "" for API calls.
	Of string
}

// Error implements error.
func (e *BudgetError) Error() string {
	switch {
	case e.Of != "" && e.Limit == 0:
		return fmt.Sprintf("limit of %s used up; run again when there is room, the plan is kept", e.Of)
	case e.Of != "":
		return fmt.Sprintf("limit used up: %d of %d %s; run again when there is room, the plan is kept", e.Used, e.Limit, e.Of)
	}
	return fmt.Sprintf("API budget used up: %d of %d calls; run again when calls are available, the plan is kept", e.Used, e.Limit)
}

// Problem is one thing that is wrong with a sync.
type Problem struct {
	Pos     string // file:line:column, "" if unknown
	Field   string // the field it is about, "" for the sync as a whole
	Message string
}

// String is the problem as one line.
func (p Problem) String() string {
	if p.Pos == "" {
		return p.Message
	}
	return p.Pos + ": " + p.Message
}

// Problems is all that is wrong with a sync.
type Problems []Problem

// Error implements error: a line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
