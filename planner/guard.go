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
	var limit string
	switch {
	case !e.Limit.Set:
		limit = "none is set, and that is more than is done without one"
	case e.Limit.IsShare:
		limit = "the limit is " + strconv.FormatFloat(e.Limit.Percent, 'f', -1, 64) + "%"
	default:
		limit = "the limit is " + strconv.FormatInt(e.Limit.Count, 10)
	}
	return fmt.Sprintf("halted by the guard %s: the plan %s %d of the %d rows that the snapshot holds, %s; nothing was sent; run again with --approve if that is meant",
		e.Guard, e.What, e.Count, e.Total, limit)
}

// CheckGuards returns a *GuardError where the plan goes past a limit, deletes
// first. Deletes are archive and clear_fields operations, and records that are
// merged into others where max_deletes is given; changes are operations on records
// that the snapshot holds.
//
// In archive mode deleting is what the model asks for and the snapshot holds
// what was deleted before, so a share of it says nothing there: only a max_deletes
// given as a count limits it.
//
// Without a max_deletes, what left the model is still guarded, because a model
// that was emptied by accident must not empty the org: see unguarded.
func CheckGuards(g models.Guards, s *Summary, mode models.Mode) error {
	deletes, what := s.Operations[Archive]+s.Operations[ClearFields], "deletes or clears"
	if merges := s.Fields[models.MergeField]; g.MaxDeletes.Set && merges > 0 {
		deletes, what = deletes+merges, "deletes, clears or merges away"
	}
	if (mode != models.ModeArchive || !g.MaxDeletes.IsShare) && !g.MaxDeletes.Allows(deletes, s.SnapshotRows) ||
		!g.MaxDeletes.Set && mode != models.ModeArchive && !unguarded(deletes, s) {
		return &GuardError{Guard: "max_deletes", What: what, Count: deletes, Total: s.SnapshotRows, Limit: g.MaxDeletes}
	}
	if !g.MaxChanges.Allows(s.Known, s.SnapshotRows) {
		return &GuardError{Guard: "max_changes", What: "changes", Count: s.Known, Total: s.SnapshotRows, Limit: g.MaxChanges}
	}
	return nil
}

// unguarded is what a sync that names no max_deletes may remove: anything up to
// 10 records, up to half of the snapshot's rows, and past 100 records up to a
// tenth of them; and nothing at all when the model is empty.
func unguarded(deletes int64, s *Summary) bool {
	switch {
	case deletes == 0:
		return true
	case s.Rows.Read == 0:
		return false
	case deletes > 100:
		return deletes*10 <= s.SnapshotRows
	case deletes > 10:
		return deletes*2 <= s.SnapshotRows
	}
	return true
}
