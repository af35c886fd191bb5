// Command coho moves what a company knows in its data warehouse into
// Salesforce: reverse ETL.
//
// This folder owns flags, wiring, exit codes and what people and scripts see;
// it decides nothing about data. One file a command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"coho/engine"
	"coho/engine/config"
	"coho/engine/server"

	"coho/destinations"
	"coho/planner"
)

// Exit codes: a contract, never renumbered.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitRows     = 3
	exitHalted   = 4
	exitLocked   = 5
	exitChanges  = 10
	exitInt      = 130
	exitTerm     = 143
	exitCodeHelp = `Exit codes: 0 done; 1 the run failed; 2 usage or config; 3 done, but rows failed;
4 halted by a guard or the API budget, to be resumed; 5 another run holds the
sync; 10 from plan --detailed-exitcode when there is something to do; 130 and
143 after a signal, state clean.`
)

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line with the process's signals and environment.
func execute(args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	return Execute(args, stdout, stderr, os.LookupEnv, signals)
}

// Execute runs one command line and returns its exit code. The first signal
// stops gently: nothing new is begun and what is in flight is finished. The
// second gives up requests in flight too.
func Execute(args []string, stdout, stderr io.Writer, env func(string) (string, bool), signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(context.Background())
	abort := make(chan struct{})
	stopped := make(chan struct{})
	watching := make(chan struct{})
	var first os.Signal
	c := newCLI(stdout, stderr, env, abort)
	stderr = c.stderr
	go func() {
		defer close(watching)
		select {
		case first = <-signals:
		case <-stopped:
			return
		}
		cancel()
		if c.writing.Load() {
			fmt.Fprintln(stderr, "stopping: what is in flight is finished first (again to give that up too)")
		}
		select {
		case <-signals:
			close(abort)
		case <-stopped:
		}
	}()
	root := c.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	close(stopped)
	<-watching
	cancel()
	return c.finish(err, first)
}

// rowsFailed is how commands say that they are done but rows failed; changes,
// that a plan has something to do. Neither is printed.
var (
	errRowsFailed = errors.New("rows failed")
	errChanges    = errors.New("there is something to do")
)

// finish prints an error and maps it to the exit code.
func (c *cli) finish(err error, sig os.Signal) int {
	code := exitCode(err)
	if err != nil && !errors.Is(err, errRowsFailed) && !errors.Is(err, errChanges) && !c.reported {
		for _, line := range lines(err) {
			fmt.Fprintln(c.stderr, "coho: "+line)
		}
	}
	// A run that a signal cut short failed by it; a daemon that it ended did not.
	byIt := code == exitFailed
	if c.serving {
		byIt = err == nil
	}
	if sig != nil && (byIt || errors.Is(err, context.Canceled) || errors.Is(err, destinations.ErrStopped)) {
		if sig == syscall.SIGTERM {
			return exitTerm
		}
		return exitInt
	}
	return code
}

// lines are what is said of an error: a line for each thing that went wrong.
// Problems of a sync name their place and sync themselves.
func lines(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []string
		for _, e := range joined.Unwrap() {
			out = append(out, lines(e)...)
		}
		return out
	}
	var invalid *engine.InvalidSyncError
	var problems config.Problems
	var told *server.Problem
	switch {
	case errors.As(err, &invalid):
		return strings.Split(invalid.Error(), "\n")
	case errors.As(err, &problems):
		return strings.Split(problems.Error(), "\n")
	case errors.As(err, &told) && told.Code == server.CodeInvalidSync:
		return told.Problems
	}
	return []string{oneLine(err.Error())}
}

// severity orders the codes that several syncs may end with, the worst last.
var severity = []int{exitDone, exitChanges, exitRows, exitHalted, exitLocked, exitUsage, exitFailed}

// exitCode maps an error to the exit code: the only place that does. Of errors
// that were joined it is the worst one's.
func exitCode(err error) int {
	var (
		usage    *engine.UsageError
		invalid  *engine.InvalidSyncError
		bound    *engine.BoundError
		problems config.Problems
		flags    *flagError
		locked   *engine.LockedError
		guard    *planner.GuardError
		budget   *destinations.BudgetError
		told     *server.Problem
	)
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		// Of several syncs, the worst.
		worst := exitDone
		for _, e := range joined.Unwrap() {
			if code := exitCode(e); slices.Index(severity, code) > slices.Index(severity, worst) {
				worst = code
			}
		}
		return worst
	}
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errChanges):
		return exitChanges
	case errors.As(err, &locked):
		return exitLocked
	case errors.As(err, &usage), errors.As(err, &invalid), errors.As(err, &bound), errors.As(err, &problems), errors.As(err, &flags):
		return exitUsage
	case errors.As(err, &guard), errors.As(err, &budget):
		return exitHalted
	case errors.Is(err, errRowsFailed):
		return exitRows
	case errors.As(err, &told):
		return toldCode(told)
	}
	return exitFailed
}

// toldCode is the exit code for what the daemon said, the same as for the error
// that it speaks of.
func toldCode(p *server.Problem) int {
	switch p.Code {
	case server.CodeBusy:
		return exitLocked
	case server.CodeHalted:
		return exitHalted
	case server.CodeUsage, server.CodeBadRequest, server.CodeUnknownName, server.CodeInvalidSync, server.CodeBound, server.CodeConfig, server.CodeEnded, server.CodeNoPlan:
		return exitUsage
	}
	return exitFailed
}
