package engine

import (
	"slices"
	"sync"
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

	mu      sync.Mutex // guards remarks
	remarks []string
}

// maxRemarks bounds what is remarked on a run: one that never ends could be
// remarked on every minute.
const maxRemarks = 20

// Remark adds a line to the warnings that the run's record will hold: what the
// one who started it knows of it, such as a scheduled time that passed
// meanwhile. Past 20 lines the first ones are kept.
func (p *Progress) Remark(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.remarks) < maxRemarks {
		p.remarks = append(p.remarks, line)
	}
}

func (p *Progress) remarked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.remarks)
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
