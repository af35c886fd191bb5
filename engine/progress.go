package engine

import (
	"slices"
	"sync"
	"sync/atomic"

	"coho/destinations"
	"coho/planner"
	"coho/sources"
)

// Progress is how far a run is. All of it may be read at any time.
type Progress struct {
	stage   atomic.Pointer[string]
	entered func(stage string) // if set, told of each stage; of the run's goroutine

	Plan planner.Progress // rows read and planned

	// Rows is how many rows the model has, as its source knows or estimates; 0
	// where it does not say.
	Rows atomic.Int64

	Total   atomic.Int64 // operations in the plan
	Settled atomic.Int64 // of those, operations with an outcome
	Failed  atomic.Int64 // of those, failed

	meter atomic.Pointer[destinations.Meter]

	mu      sync.Mutex // guards remarks
	remarks []string
}

// expect notes how many rows are to be read.
func (p *Progress) expect(parts []sources.Rows) {
	p.Rows.Store(0)
	var sum int64
	for _, r := range parts {
		e, ok := r.(sources.Estimator)
		if !ok {
			return
		}
		n, ok := e.Estimate()
		if !ok {
			return
		}
		sum += n
	}
	p.Rows.Store(sum)
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

// watch lets Reading tell of a destination, where it is one that can say.
func (p *Progress) watch(d destinations.Destination) {
	if m, ok := d.(destinations.Meter); ok {
		p.meter.Store(&m)
	}
}

// Reading is what the run's destination does at the moment, for all runs that
// use it; ok is false where that is not known, as before the run began to write.
func (p *Progress) Reading() (r destinations.Reading, ok bool) {
	m := p.meter.Load()
	if m == nil {
		return r, false
	}
	return (*m).Reading(), true
}

// Readings is what the destinations that were used so far do at the moment, by
// name, as far as they can say.
func (e *Engine) Readings() map[string]destinations.Reading {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]destinations.Reading, len(e.destinations))
	for name, d := range e.destinations {
		if m, ok := d.(destinations.Meter); ok {
			out[name] = m.Reading()
		}
	}
	return out
}

func (p *Progress) enter(stage string) {
	p.stage.Store(&stage)
	if p.entered != nil {
		p.entered(stage)
	}
}

// Stage says what the run is doing: checking, reading, planning, resuming,
// writing, committing; "" before it began.
func (p *Progress) Stage() string {
	if s := p.stage.Load(); s != nil {
		return *s
	}
	return ""
}
