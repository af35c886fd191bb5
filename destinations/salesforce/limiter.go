package salesforce

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coho/destinations"
)

// limiter bounds what is in flight to an org and adapts the bound: up by one for
// every round of clean answers, halved where the org shows that it is crowded
// (row locks, Apex limits, concurrency limits, 503). It never passes max.
//
// Calls and bulk batches wait in lines of their own, each under the whole bound:
// a call that takes a moment does not queue behind a job that takes an hour.
type limiter struct {
	mu      sync.Mutex
	max     float64 // guarded by mu
	members []int   // guarded by mu: what each run that shares it may have in flight
	limit   float64 // guarded by mu; between 1 and max
	round   int     // guarded by mu: how often the limit was halved
	lines   [lineCount]queue
}

// line is what waits together.
type line uint8

const (
	lineCalls   line = iota // Collections calls
	lineBatches             // bulk batches and jobs
	lineCount   int  = iota
)

// queue is one line. It is guarded by the limiter's mu.
type queue struct {
	held    int // of the limit
	busy    int // requests or batches that hold it
	waiting []*turn
}

// turn is one who waits: first come, first served.
type turn struct {
	weight int
	given  chan struct{}
}

// place is what acquire gives and done takes back.
type place struct {
	line   line
	weight int
	round  int // of the limiter when it was given
}

func newLimiter(limit int) *limiter {
	return &limiter{max: float64(limit), limit: float64(limit)}
}

// join makes a run, which may have so many requests in flight, share the
// limiter: all of them together have as many as the widest one may. What was
// learned of the org outlives a run. The run calls leave at its end.
func (l *limiter) join(parallel int) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	width, full := float64(parallel), l.limit >= l.max
	if len(l.members) == 0 || width > l.max {
		l.max = width
		l.limit = min(l.limit, width)
		if full {
			l.limit = width
		}
		l.admit()
	}
	l.members = append(l.members, parallel)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		at := slices.Index(l.members, parallel)
		l.members = slices.Delete(l.members, at, at+1)
		if len(l.members) > 0 {
			l.max = float64(slices.Max(l.members))
			l.limit = min(l.limit, l.max)
		}
	}
}

// acquire waits for a place. weight is how much of the limit it takes; one that
// is heavier than the limit goes alone.
//
// Where a channel of stop closes before, the error is errStopping.
func (l *limiter) acquire(ctx context.Context, on line, weight int, stop ...<-chan struct{}) (place, error) {
	l.mu.Lock()
	q := &l.lines[on]
	mine := &turn{weight: weight, given: make(chan struct{})}
	q.waiting = append(q.waiting, mine)
	l.admit()
	l.mu.Unlock()
	select {
	case <-mine.given:
		return l.placed(on, weight), nil
	default:
	}
	stop = append(stop, nil, nil)
	err := errStopping
	select {
	case <-mine.given:
		return l.placed(on, weight), nil
	case <-stop[0]:
	case <-stop[1]:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.Index(q.waiting, mine); at >= 0 {
		q.waiting = slices.Delete(q.waiting, at, at+1)
	} else {
		// The place was given in the same moment: hand it on.
		q.held -= weight
		q.busy--
	}
	l.admit()
	return place{}, err
}

// errStopping: the run was asked to stop before it was its turn.
var errStopping = errors.New("stopped while waiting for its turn")

func (l *limiter) placed(on line, weight int) place {
	l.mu.Lock()
	defer l.mu.Unlock()
	return place{on, weight, l.round}
}

// done gives a place back.
func (l *limiter) done(p place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.lines[p.line]
	q.held -= p.weight
	q.busy--
	l.admit()
}

// learn takes in how the org took what a place was held for. What was begun
// before the limit was last halved says nothing of the limit that now is: many
// requests in flight together that ran into one crowd halve it once.
func (l *limiter) learn(p place, crowded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case p.round != l.round:
	case crowded:
		l.limit = max(1, l.limit/2)
		l.round++
	default:
		l.limit = min(l.max, l.limit+1/l.limit)
		l.admit()
	}
}

// admit gives places to those who wait, as far as they go.
func (l *limiter) admit() {
	for i := range l.lines {
		q := &l.lines[i]
		for len(q.waiting) > 0 && (q.busy == 0 || q.held+q.waiting[0].weight <= int(l.limit)) {
			q.held += q.waiting[0].weight
			q.busy++
			close(q.waiting[0].given)
			q.waiting = slices.Delete(q.waiting, 0, 1)
		}
	}
}

// reading is the limit and what is in flight.
func (l *limiter) reading() (limit, inFlight int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.lines {
		inFlight += l.lines[i].busy
	}
	return int(l.limit), inFlight
}

// tally counts what goes wrong for a while, over all runs on an org.
type tally struct {
	locks   atomic.Int64 // rows refused for a lock
	retries atomic.Int64 // rows sent again
}

// Reading implements destinations.Meter.
func (d *Destination) Reading() destinations.Reading {
	u := d.client.Usage()
	limit, inFlight := d.limiter.reading()
	return destinations.Reading{
		Parallelism: limit, InFlight: inFlight,
		Calls: u.Calls, Remaining: u.Remaining,
		Locks: d.tally.locks.Load(), Retries: d.tally.retries.Load(),
	}
}

// maxPause is the longest pause before a retry.
const maxPause = 30 * time.Second

// backoff is the pause before a row's next try: doubled with every try, and
// spread by half either way so that rows which met once do not meet again.
func backoff(first time.Duration, tries int) time.Duration {
	pause := first
	for i := 1; i < tries && pause < maxPause; i++ {
		pause *= 2
	}
	pause = min(pause, maxPause)
	return pause/2 + time.Duration(rand.Int64N(int64(pause)+1))
}

// sleep pauses. It returns false where the run was stopped meanwhile.
func sleep(ctx context.Context, d time.Duration, stop ...<-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var stop1, stop2 <-chan struct{}
	if len(stop) > 0 {
		stop1 = stop[0]
	}
	if len(stop) > 1 {
		stop2 = stop[1]
	}
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-stop1:
	case <-stop2:
	}
	return false
}
