package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"coho/destinations"
	"coho/engine"
	"coho/planner"
)

// TestExitCodeOfSignals: a run that a signal cut short says so, and so does a
// daemon that it ended; one that failed while it ended did fail.
func TestExitCodeOfSignals(t *testing.T) {
	gone := errors.New("gone")
	for _, c := range []struct {
		name    string
		serving bool
		err     error
		sig     os.Signal
		want    int
	}{
		{"a run that was stopped", false, destinations.ErrStopped, syscall.SIGTERM, exitTerm},
		{"a run that was stopped by Ctrl-C", false, gone, os.Interrupt, exitInt},
		{"a run that had ended", false, nil, syscall.SIGTERM, exitDone},
		{"a run that had ended with rows that failed", false, errRowsFailed, syscall.SIGTERM, exitRows},
		{"a daemon", true, nil, syscall.SIGTERM, exitTerm},
		{"a daemon, by Ctrl-C", true, nil, os.Interrupt, exitInt},
		{"a daemon that was just starting", true, fmt.Errorf("sign in: %w", context.Canceled), syscall.SIGTERM, exitTerm},
		{"a daemon whose state could not be written", true, gone, syscall.SIGTERM, exitFailed},
		{"a daemon beside another", true, &engine.LockedError{}, syscall.SIGTERM, exitLocked},
		{"a daemon without a port", true, gone, nil, exitFailed},
	} {
		k := newCLI(io.Discard, io.Discard, nil, nil)
		k.serving = c.serving
		if got := k.finish(c.err, c.sig); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestUnitTakesCleanEndsForSuccess: systemd is told of the exit codes of a clean
// stop, and of those that starting anew does not mend.
func TestUnitTakesCleanEndsForSuccess(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/coho.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		fmt.Sprintf("SuccessExitStatus=%d %d", exitTerm, exitInt),
		fmt.Sprintf("RestartPreventExitStatus=%d %d", exitUsage, exitLocked),
	} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("the unit does not say %q", line)
		}
	}
}

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
