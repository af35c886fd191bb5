package planner

import (
	"fmt"
	"strconv"

	"coho/models"
)

// GuardError says that a plan goes past a guard. Nothing was sent.
type GuardError struct {
	Guard string // max_deletes, max_changes
	What  string // what was counted, in words
	Count int64
	Total int64 // the snapshot's rows
	Limit models.Limit
}

// Error implements error, in one line.
func (e *GuardError) Error() string {
	limit := strconv.FormatInt(e.Limit.Count, 10)
	if e.Limit.IsShare {
		limit = strconv.FormatFloat(e.Limit.Percent, 'f', -1, 64) + "%"
	}
	return fmt.Sprintf("halted by the guard %s: the plan %s %d of the %d rows that the snapshot holds, the limit is %s; nothing was sent; run again with --approve if that is meant",
		e.Guard, e.What, e.Count, e.Total, limit)
}

// CheckGuards returns a *GuardError where the plan goes past a limit, deletes
// first. Deletes are archive and clear_fields operations, changes are operations
// on records that the snapshot holds.
//
// In archive mode deleting is what the model asks for and the snapshot holds
// what was deleted before, so a share of it says nothing there: only a max_deletes
// given as a count limits it.
func CheckGuards(g models.Guards, s *Summary, mode models.Mode) error {
	deletes := s.Operations[Archive] + s.Operations[ClearFields]
	if (mode != models.ModeArchive || !g.MaxDeletes.IsShare) && !g.MaxDeletes.Allows(deletes, s.SnapshotRows) {
		return &GuardError{Guard: "max_deletes", What: "deletes or clears", Count: deletes, Total: s.SnapshotRows, Limit: g.MaxDeletes}
	}
	if !g.MaxChanges.Allows(s.Known, s.SnapshotRows) {
		return &GuardError{Guard: "max_changes", What: "changes", Count: s.Known, Total: s.SnapshotRows, Limit: g.MaxChanges}
	}
	return nil
}
