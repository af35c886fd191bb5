package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"coho/engine"
	"coho/planner"
)

// live shows runs while they go on: a line each on a terminal, redrawn in
// place; elsewhere a log line every now and then.
type live struct {
	c    *cli
	bars *mpb.Progress // nil where there is no terminal

	mu   sync.Mutex // guards runs
	runs map[string]*liveRun

	stop chan struct{}
	done sync.WaitGroup
}

type liveRun struct {
	progress *engine.Progress
	bar      *mpb.Bar

	stage   string // what the rate below is of
	since   time.Time
	settled int64 // when the stage began
}

// logEvery is how often a run's progress is logged where no terminal shows it.
const logEvery = 10 * time.Second

func (c *cli) newLive() *live {
	l := &live{c: c, runs: map[string]*liveRun{}, stop: make(chan struct{})}
	if c.terminal != nil {
		l.bars = mpb.New(mpb.WithOutput(c.terminal), mpb.WithRefreshRate(150*time.Millisecond))
		return l
	}
	log := c.logger()
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		tick := time.NewTicker(logEvery)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			l.mu.Lock()
			for name, r := range l.runs {
				log.Info("run goes on", logged(name, r.progress)...)
			}
			l.mu.Unlock()
		}
	}()
	return l
}

// logged is a run's log line. What its org is given at once is in it while the
// run writes.
func logged(sync string, p *engine.Progress) []any {
	line := []any{"sync", sync, "stage", p.Stage(), "rows_read", p.Plan.RowsRead.Load(), "planned", p.Total.Load(), "settled", p.Settled.Load(), "failed", p.Failed.Load()}
	if org, ok := p.Reading(); ok {
		line = append(line, "in_flight", org.InFlight, "parallelism", org.Parallelism, "locks", org.Locks, "retries", org.Retries)
	}
	return line
}

// begin shows a run from now on.
func (l *live) begin(sync string) *engine.Progress {
	r := &liveRun{progress: &engine.Progress{}, since: time.Now()}
	if l.bars != nil {
		r.bar = l.bars.New(0, mpb.NopStyle(), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			return r.line(sync, time.Now())
		})))
	}
	l.mu.Lock()
	l.runs[sync] = r
	l.mu.Unlock()
	return r.progress
}

// end stops showing a run.
func (l *live) end(sync string) {
	l.mu.Lock()
	r := l.runs[sync]
	delete(l.runs, sync)
	l.mu.Unlock()
	if r != nil && r.bar != nil {
		r.bar.Abort(true)
		r.bar.Wait()
	}
}

// close stops showing anything.
func (l *live) close() {
	close(l.stop)
	l.done.Wait()
	if l.bars != nil {
		l.bars.Shutdown()
	}
}

// line is the run's live line. Only the goroutine that draws it calls it.
func (r *liveRun) line(sync string, now time.Time) string {
	p := r.progress
	stage := p.Stage()
	switch {
	case stage == "":
		stage = "starting"
	case stage == "reading" && p.Plan.Phase() != planner.PhaseReading:
		stage = p.Plan.Phase().String()
	}
	settled, total := p.Settled.Load(), p.Total.Load()
	if stage != r.stage {
		r.stage, r.since, r.settled = stage, now, settled
	}
	elapsed := now.Sub(r.since).Seconds()
	line := fmt.Sprintf("%s: %s", sync, stage)
	switch stage {
	case "reading":
		read := p.Plan.RowsRead.Load()
		line += fmt.Sprintf("  %s rows", comma(read))
		if elapsed > 0.5 {
			line += fmt.Sprintf("  %s rows/s", comma(int64(float64(read)/elapsed)))
		}
	case planner.PhaseComparing.String(), planner.PhaseOrdering.String():
		line += fmt.Sprintf("  %s rows  %s operations", comma(p.Plan.RowsRead.Load()), comma(p.Plan.Planned.Load()))
	case "writing":
		line += fmt.Sprintf("  %s of %s sent", comma(settled), comma(total))
		if failed := p.Failed.Load(); failed > 0 {
			line += fmt.Sprintf("  %s failed", comma(failed))
		}
		if org, ok := p.Reading(); ok {
			line += fmt.Sprintf("  %d of %d in flight", org.InFlight, org.Parallelism)
		}
		if done := settled - r.settled; elapsed > 0.5 && done > 0 {
			rate := float64(done) / elapsed
			line += fmt.Sprintf("  %s rows/s  %s left", comma(int64(rate)), (time.Duration(float64(total-settled)/rate) * time.Second).Round(time.Second))
		}
	}
	return line
}
