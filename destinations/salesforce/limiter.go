package salesforce

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// limiter bounds the requests in flight and adapts the bound: up by one for
// every round of clean answers, halved where the org shows that it is crowded
// (row locks, Apex limits, concurrency limits, 503). It never passes max.
type limiter struct {
	mu      sync.Mutex
	max     float64         // guarded by mu
	members []int           // guarded by mu: what each run that shares it may have in flight
	limit   float64         // guarded by mu; between 1 and max
	busy    int             // guarded by mu
	waiting []chan struct{} // guarded by mu; first come, first served
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

// acquire waits for a place.
func (l *limiter) acquire(ctx context.Context) error {
	l.mu.Lock()
	if l.busy < int(l.limit) && len(l.waiting) == 0 {
		l.busy++
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	l.waiting = append(l.waiting, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiting {
		if w == turn {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return context.Cause(ctx)
		}
	}
	// The place was given in the same moment: hand it on.
	l.busy--
	l.admit()
	return context.Cause(ctx)
}

// release gives a place back and says whether the org was crowded.
func (l *limiter) release(crowded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	if crowded {
		l.limit = max(1, l.limit/2)
	} else {
		l.limit = min(l.max, l.limit+1/l.limit)
	}
	l.admit()
}

func (l *limiter) admit() {
	for l.busy < int(l.limit) && len(l.waiting) > 0 {
		l.busy++
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
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
