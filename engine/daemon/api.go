package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"coho/engine"
)

// Wired is a config made into what the daemon needs of it.
type Wired struct {
	Engine engine.Options
	// MaxRuns is how many syncs run at once; 0: 4.
	MaxRuns int
	// ShutdownTimeout is how long Run waits for what is in flight once it is
	// told to end; then requests are given up too. 0: 30 seconds.
	ShutdownTimeout time.Duration
	// Fingerprint tells this config from others, for whoever asks which one is
	// in force; the daemon makes nothing of it.
	Fingerprint string
	// Close, if set, closes what was opened beside the engine; it is called
	// after the engine's own Close.
	Close func() error
}

// Options is what a daemon works with.
type Options struct {
	// Load reads and wires the config: when the daemon begins, and for each
	// reload. Its error refuses the config and says why.
	Load func() (*Wired, error)
	// Fingerprint, if set, says in a few bytes what the config's files look
	// like now. The daemon looks every WatchEvery (0: 2 seconds) and reloads
	// when they have changed. It is first asked before Load.
	Fingerprint func() string
	WatchEvery  time.Duration

	Logger *slog.Logger

	// Abort, when closed while Run ends, gives up requests in flight at once.
	Abort <-chan struct{}
}

// Kind tells the two things that have schedules and can be paused.
type Kind string

// The kinds.
const (
	Sync     Kind = "sync"
	Sequence Kind = "sequence"
)

// Request asks for runs. Exactly one of Syncs, Sequence, All and ApproveRun is
// set. Several syncs run one after another, in the order given; all of them,
// parents before those that look them up.
type Request struct {
	Syncs    []string
	Sequence string
	All      bool
	// ApproveRun is a run that a guard halted: its sync goes on with that very
	// plan, and with no other. See [engine.Engine.Approval].
	ApproveRun string

	Full    bool
	Approve bool
	// Key, where one sync is named, is the one row that is run: see
	// [engine.Engine.RowKey] for its parts.
	Key     []string
	Trigger string // who or what asks, for the history

	// LeaveOut are syncs that are passed over, and for each why, in a line.
	LeaveOut map[string]string
}

// Job is what a request or a schedule set off: one sync, several in order, or a
// sequence.
type Job struct {
	ID       string // of a sequence: its own id
	Sequence string // "" where syncs were named
	Trigger  string
	Runs     []Started
}

// Started is a run that was accepted: it goes on, or waits for its turn.
type Started struct {
	Sync  string
	RunID string
	State RunState
	Since time.Time // when it was accepted
}

// RunState says where a run is.
type RunState string

// The states of a run. A planned one is a later step of its job; a queued one
// waits for the sync or for a place among the runs that go on at once.
const (
	RunPlanned RunState = "planned"
	RunQueued  RunState = "queued"
	RunRunning RunState = "running"
	RunEnded   RunState = "ended"
)

// SyncStatus is how a sync stands.
type SyncStatus struct {
	Name     string
	Schedule string // "" where it has none
	Timezone string
	// NextRun is when the schedule comes next, jitter included; zero where
	// there is no schedule or the sync is paused.
	NextRun time.Time
	Paused  bool
	Running string // the id of the run that goes on, "" if none
	Queued  string // the id of the run that waits, "" if none
	LastRun *engine.Run
}

// SequenceStatus is how a sequence stands.
type SequenceStatus struct {
	Name     string
	Steps    [][]string
	Schedule string
	Timezone string
	NextRun  time.Time
	Paused   bool
	Running  string // the id of the job that goes on, "" if none
	Queued   string // the id of the job that waits for it, "" if none
}

// ErrStopping says that the daemon takes no more work because it is ending.
var ErrStopping = errors.New("coho is stopping and takes no more work; what is left goes on at its next start")

// ErrNotBegun says that a run was called off before it began: its sequence
// stopped, or it was canceled while it waited.
var ErrNotBegun = errors.New("the run was called off before it began")

// BusyError says that a sync or a sequence is in use already. It unwraps to an
// *engine.LockedError.
type BusyError struct {
	Kind   Kind
	Name   string
	RunID  string // of the run or job, "" where a plan or the snapshot is looked at
	Queued bool   // it waits and has not begun
}

// Error implements error.
func (e *BusyError) Error() string {
	switch {
	case e.RunID == "":
		return fmt.Sprintf("%s %s is in use; try again in a moment", e.Kind, e.Name)
	case e.Queued:
		return fmt.Sprintf("%s %s is queued already as run %s", e.Kind, e.Name, e.RunID)
	}
	return fmt.Sprintf("%s %s is running already as run %s; wait for it to end, or `coho cancel %s`", e.Kind, e.Name, e.RunID, e.RunID)
}

// Unwrap makes it an *engine.LockedError for those who know only that.
func (e *BusyError) Unwrap() error { return &engine.LockedError{Sync: e.Name} }

// ReloadError says that a new config was refused; the old one is in force.
type ReloadError struct{ Err error }

// Error implements error.
func (e *ReloadError) Error() string {
	return "the new config is refused and the old one kept: " + e.Err.Error()
}

// Unwrap returns what is wrong with the config.
func (e *ReloadError) Unwrap() error { return e.Err }
