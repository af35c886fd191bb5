package engine

import (
	"fmt"
	"strings"

	"coho/destinations"
	"coho/models"
)

// UsageError is a mistake in how coho was asked: an unknown name, flags that
// do not go together.
type UsageError struct{ Message string }

// Error implements error.
func (e *UsageError) Error() string { return e.Message }

func usagef(format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...)}
}

// InvalidSyncError is all that is wrong with a sync as its warehouse and its
// org see it.
type InvalidSyncError struct {
	Sync     string
	Problems destinations.Problems
}

// Error implements error: a line for each problem.
func (e *InvalidSyncError) Error() string { return e.Problems.Error() }

// LockedError says that the state directory, or one of its syncs, is in use.
type LockedError struct {
	Dir    string // the state directory, where another process holds it
	Holder string // what the holder says of itself, "" if unknown
	Sync   string // the sync, where this process runs it already
}

// Error implements error.
func (e *LockedError) Error() string {
	if e.Sync != "" {
		return fmt.Sprintf("sync %s is running already; wait for it to end", e.Sync)
	}
	who := "another coho process"
	if e.Holder != "" {
		who = e.Holder
	}
	return fmt.Sprintf("state directory %s is in use by %s; wait for it to end, or give this run a state directory of its own", e.Dir, who)
}

// StateVersionError says that a newer coho wrote the state directory.
type StateVersionError struct {
	Dir     string
	Version string
}

// Error implements error.
func (e *StateVersionError) Error() string {
	return fmt.Sprintf("state directory %s has format %q, which a newer coho wrote; run that version or newer", e.Dir, e.Version)
}

// BoundError says that a sync's state belongs to something other than what the
// config now names, so going on would delete or double records.
type BoundError struct {
	Sync, What, Was, Now string
	// FullIsUnsafe: --full would create every record a second time.
	FullIsUnsafe bool
}

// Error implements error.
func (e *BoundError) Error() string {
	hint := fmt.Sprintf("say what you mean: `coho run %s --full` forgets the old state and sends every row, `coho snapshot reset %s` only forgets", e.Sync, e.Sync)
	if e.FullIsUnsafe {
		hint = fmt.Sprintf("in insert mode that would create every record again; if you mean it, `coho snapshot reset %s` forgets the old state", e.Sync)
	}
	return fmt.Sprintf("sync %s: its state is of %s %s, and the config now says %s; %s", e.Sync, e.What, e.Was, e.Now, hint)
}

// suggest returns `; did you mean "x"?` for the known name nearest to name, or
// the known names where none is near and they are few.
func suggest(name string, known []string) string {
	if near := models.Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	if len(known) > 0 && len(known) <= 12 {
		return "; there is " + strings.Join(known, ", ")
	}
	return ""
}
