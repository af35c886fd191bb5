package main

import (
	"errors"
	"fmt"
	"testing"

	"coho/destinations"
	"coho/engine"
	"coho/planner"
)

// TestExitCodeOfTheWorst: of several syncs the worst decides, in whatever order
// they ended.
func TestExitCodeOfTheWorst(t *testing.T) {
	of := func(err error) error { return fmt.Errorf("sync x: %w", err) }
	failed, halted, locked := of(errors.New("gone")), of(&planner.GuardError{}), of(&engine.LockedError{Sync: "x"})
	budget, invalid, rows := of(&destinations.BudgetError{}), of(&engine.InvalidSyncError{}), of(&engine.RowErrorsError{})
	for _, c := range []struct {
		name string
		errs []error
		want int
	}{
		{"one that halted", []error{halted}, exitHalted},
		{"halted and failed", []error{halted, failed}, exitFailed},
		{"failed and halted", []error{failed, halted}, exitFailed},
		{"halted and locked", []error{halted, locked, budget}, exitLocked},
		{"locked and invalid", []error{locked, invalid}, exitUsage},
		{"too many row errors", []error{halted, rows}, exitFailed},
		{"joins in joins", []error{halted, errors.Join(errors.Join(locked), halted)}, exitLocked},
	} {
		if got := exitCode(errors.Join(c.errs...)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	// What went wrong besides is of the same sync.
	if got := exitCode(of(errors.Join(&planner.GuardError{}, errors.New("close")))); got != exitHalted {
		t.Errorf("a run that halted, and then could not be closed: %d", got)
	}
}
