package engine

import (
	"sync/atomic"

	"coho/planner"
)

// Progress is how far a run is. All of it may be read at any time.
type Progress struct {
	stage atomic.Pointer[string]

	Plan planner.Progress // rows read and planned

	Total   atomic.Int64 // operations in the plan
	Settled atomic.Int64 // of those, operations with an outcome
	Failed  atomic.Int64 // of those, failed
}

func (p *Progress) enter(stage string) { p.stage.Store(&stage) }

// Stage says what the run is doing: checking, reading, planning, resuming,
// writing, committing; "" before it began.
func (p *Progress) Stage() string {
	if s := p.stage.Load(); s != nil {
		return *s
	}
	return ""
}
