package server

import (
	"time"

	"coho/engine"
	"coho/planner"
)

// The documents of the API, besides those that are the engine's own (runs, row
// errors, API calls, snapshots) and [Problem]. Their field names are a contract;
// openapi.json describes them.

// Info says who answers.
type Info struct {
	Version   string    `json:"version"` // of coho
	API       string    `json:"api"`     // "v1"
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	// Config is the fingerprint of the config in use.
	Config string `json:"config_fingerprint"`
	// ConfigError says why a newer config was refused, "" where none was.
	ConfigError string `json:"config_error,omitempty"`
}

// SyncState is a sync and how it stands: what `coho status --json` prints.
type SyncState struct {
	Sync  string `json:"sync"`
	Model string `json:"model"`
	// Description is what the model's dbt project says of it.
	Description string      `json:"description,omitempty"`
	Destination string      `json:"destination"`
	Object      string      `json:"object"`
	Field       string      `json:"field,omitempty"` // of a picklist sync
	Mode        string      `json:"mode"`
	Schedule    string      `json:"schedule,omitempty"`
	Timezone    string      `json:"timezone,omitempty"`
	NextRun     *time.Time  `json:"next_run,omitempty"`
	Paused      bool        `json:"paused"`
	Running     string      `json:"running,omitempty"` // the run that goes on
	Queued      string      `json:"queued,omitempty"`  // the run that waits for its turn
	LastRun     *engine.Run `json:"last_run"`
}

// SequenceState is a sequence and how it stands.
type SequenceState struct {
	Sequence string     `json:"sequence"`
	Steps    [][]string `json:"steps"`
	OnError  string     `json:"on_error"`
	Schedule string     `json:"schedule,omitempty"`
	Timezone string     `json:"timezone,omitempty"`
	NextRun  *time.Time `json:"next_run,omitempty"`
	Paused   bool       `json:"paused"`
	Running  bool       `json:"running"`

	LastRun *engine.SequenceRun `json:"last_run"`
}

// StartRequest asks for runs: of syncs one after another, of a sequence, or of
// every sync.
type StartRequest struct {
	Syncs    []string `json:"syncs,omitempty"`
	Sequence string   `json:"sequence,omitempty"`
	All      bool     `json:"all,omitempty"`
	Full     bool     `json:"full,omitempty"`    // send every row again
	Approve  bool     `json:"approve,omitempty"` // pass the guards
	By       string   `json:"by,omitempty"`      // who asks, for the history
	// Key, where one sync is named, is the primary key of the one row that is
	// run: its value, or "COLUMN=VALUE" for each column.
	Key []string `json:"key,omitempty"`
	// LeaveOut are syncs that are passed over, and for each why: a text of one
	// line.
	LeaveOut map[string]string `json:"leave_out,omitempty"`
}

// StartedRun is a run that was started, or that waits for its turn.
type StartedRun struct {
	Run  string `json:"run"`
	Sync string `json:"sync"`
}

// StartedRuns are the runs of a request, in the order in which they will run, and
// where it was for a sequence, the record of that.
type StartedRuns struct {
	Runs        []StartedRun `json:"runs"`
	SequenceRun string       `json:"sequence_run,omitempty"`
}

// ApproveRequest goes on with a plan that a guard halted.
type ApproveRequest struct {
	By string `json:"by,omitempty"` // who approves, for the history
}

// KeptPlan is a page of the operations of a plan that waits.
type KeptPlan struct {
	engine.KeptPlan
	Listed []*engine.KeptOperation `json:"listed"`
	Next   int                     `json:"next_offset,omitempty"` // of the next page, absent at the end
}

// PlanRequest says how to plan.
type PlanRequest struct {
	Full bool `json:"full,omitempty"`
}

// PreviewRequest names a row by its primary key, as StartRequest.Key does.
type PreviewRequest struct {
	Key []string `json:"key"`
}

// CancelRequest says how to cancel.
type CancelRequest struct {
	// Abort gives up what is in flight too; else that is finished.
	Abort bool `json:"abort,omitempty"`
}

// Progress is how far a run is: an event.
type Progress struct {
	Run      string `json:"run"`
	Sync     string `json:"sync"`
	Stage    string `json:"stage"`     // queued, starting, checking, reading, comparing, ordering, resuming, writing, committing
	RowsRead int64  `json:"rows_read"` // rows of the model
	// RowsExpected is how many rows the model has, as its source knows or
	// estimates; absent where it does not say.
	RowsExpected int64 `json:"rows_expected,omitempty"`
	Planned      int64 `json:"planned"` // operations found so far
	Total        int64 `json:"total"`   // operations of the plan, once it is made
	Settled      int64 `json:"settled"` // of those, operations with an outcome
	Failed       int64 `json:"failed"`  // of those, failed

	// While a run writes, where its destination can say: what it is given at
	// once, for all runs that use it, and how it has fared since the process
	// began.
	InFlight    int   `json:"in_flight,omitempty"`
	Parallelism int   `json:"parallelism,omitempty"`
	Locks       int64 `json:"locks,omitempty"`
	Retries     int64 `json:"retries,omitempty"`
}

// Ended says that a run ended: a run's last event.
type Ended struct {
	Run  string `json:"run"`
	Sync string `json:"sync"`
	// Record is the run's record, null where it never began.
	Record *engine.Run `json:"record"`
	// Problem is why the run failed, halted, was canceled or never began.
	Problem *Problem `json:"problem,omitempty"`
}

// ProgressOf reads how far a run is.
func ProgressOf(run, sync string, p *engine.Progress) Progress {
	stage := p.Stage()
	switch {
	case stage == "":
		stage = "starting"
	case stage == "reading" && p.Plan.Phase() != planner.PhaseReading:
		stage = p.Plan.Phase().String()
	}
	out := Progress{
		Run: run, Sync: sync, Stage: stage,
		RowsRead: p.Plan.RowsRead.Load(), RowsExpected: p.Rows.Load(), Planned: p.Plan.Planned.Load(),
		Total: p.Total.Load(), Settled: p.Settled.Load(), Failed: p.Failed.Load(),
	}
	if r, ok := p.Reading(); ok {
		out.InFlight, out.Parallelism, out.Locks, out.Retries = r.InFlight, r.Parallelism, r.Locks, r.Retries
	}
	return out
}
