package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"coho/engine"
	"coho/engine/server"
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
	progress func() server.Progress
	told     *atomic.Pointer[server.Progress] // of a run of the daemon: what progress returns
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
			for _, r := range l.runs {
				log.Info("run goes on", r.logged(time.Now())...)
			}
			l.mu.Unlock()
		}
	}()
	return l
}

// logged is a run's log line. The pace of reading is in it while the run reads, and
// what its org is given at once while it writes. Only the goroutine that logs it
// calls it.
func (r *liveRun) logged(now time.Time) []any {
	p := r.progress()
	line := []any{"sync", p.Sync, "stage", p.Stage, "rows_read", p.RowsRead, "planned", p.Total, "settled", p.Settled, "failed", p.Failed}
	if p.Stage != r.stage {
		r.stage, r.since, r.settled = p.Stage, now, p.Settled
	}
	if p.Stage == "reading" {
		if p.RowsExpected > 0 {
			line = append(line, "rows_expected", p.RowsExpected)
		}
		if rate, left := readingPace(p, now.Sub(r.since).Seconds()); rate > 0 {
			line = append(line, "rows_per_second", rate)
			if left > 0 {
				line = append(line, "left", left.String())
			}
		}
	}
	if p.Parallelism > 0 {
		line = append(line, "in_flight", p.InFlight, "parallelism", p.Parallelism, "locks", p.Locks, "retries", p.Retries)
	}
	return line
}

// begin shows a run of this process from now on.
func (l *live) begin(sync string) *engine.Progress {
	p := &engine.Progress{}
	l.show(sync, func() server.Progress { return server.ProgressOf("", sync, p) })
	return p
}

// follow shows how far a run of the daemon is.
func (l *live) follow(p server.Progress) {
	l.mu.Lock()
	r := l.runs[p.Sync]
	l.mu.Unlock()
	if r != nil {
		r.told.Store(&p)
		return
	}
	if p.Stage == "queued" {
		return // a line for each that waits says nothing
	}
	told := &atomic.Pointer[server.Progress]{}
	told.Store(&p)
	l.show(p.Sync, func() server.Progress { return *told.Load() }).told = told
}

// show shows a run from now on.
func (l *live) show(sync string, progress func() server.Progress) *liveRun {
	r := &liveRun{progress: progress, since: time.Now()}
	if l.bars != nil {
		r.bar = l.bars.New(0, mpb.NopStyle(), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			return r.line(sync, time.Now())
		})))
	}
	l.mu.Lock()
	l.runs[sync] = r
	l.mu.Unlock()
	return r
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

// readingPace is how many rows a second have been read since reading began, and
// how long the others will take at that; 0 where that is not known.
func readingPace(p server.Progress, seconds float64) (rate int64, left time.Duration) {
	if seconds < 0.5 || p.RowsRead == 0 {
		return 0, 0
	}
	pace := float64(p.RowsRead) / seconds
	if rest := p.RowsExpected - p.RowsRead; rest > 0 {
		left = (time.Duration(float64(rest)/pace) * time.Second).Round(time.Second)
	}
	return int64(pace), left
}

// line is the run's live line. Only the goroutine that draws it calls it.
func (r *liveRun) line(sync string, now time.Time) string {
	p := r.progress()
	if p.Stage != r.stage {
		r.stage, r.since, r.settled = p.Stage, now, p.Settled
	}
	elapsed := now.Sub(r.since).Seconds()
	line := fmt.Sprintf("%s: %s", sync, p.Stage)
	switch p.Stage {
	case "reading":
		line += fmt.Sprintf("  %s rows", comma(p.RowsRead))
		if p.RowsExpected > p.RowsRead {
			line = fmt.Sprintf("%s: %s  %s of about %s rows", sync, p.Stage, comma(p.RowsRead), comma(p.RowsExpected))
		}
		if rate, left := readingPace(p, elapsed); rate > 0 {
			line += fmt.Sprintf("  %s rows/s", comma(rate))
			if left > 0 {
				line += fmt.Sprintf("  about %s left", left)
			}
		}
	case planner.PhaseComparing.String(), planner.PhaseOrdering.String():
		line += fmt.Sprintf("  %s rows  %s operations", comma(p.RowsRead), comma(p.Planned))
	case "writing":
		line += fmt.Sprintf("  %s of %s sent", comma(p.Settled), comma(p.Total))
		if p.Failed > 0 {
			line += fmt.Sprintf("  %s failed", comma(p.Failed))
		}
		if p.Parallelism > 0 {
			line += fmt.Sprintf("  %d of %d in flight", p.InFlight, p.Parallelism)
		}
		if done := p.Settled - r.settled; elapsed > 0.5 && done > 0 {
			rate := float64(done) / elapsed
			line += fmt.Sprintf("  %s rows/s  %s left", comma(int64(rate)), (time.Duration(float64(p.Total-p.Settled)/rate) * time.Second).Round(time.Second))
		}
	}
	return line
}
