package salesforce

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

func TestLimiterAdapts(t *testing.T) {
	l := newLimiter(8)
	fill := func() (n int) {
		for {
			l.mu.Lock()
			free := l.busy < int(l.limit)
			l.mu.Unlock()
			if !free {
				return n
			}
			if err := l.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	drain := func(n int, crowded bool) {
		for i := range n {
			l.release(crowded && i == 0)
		}
	}
	if n := fill(); n != 8 {
		t.Fatalf("%d at once, want 8", n)
	}
	drain(8, true)
	after := fill()
	if after < 4 || after > 6 {
		t.Fatalf("%d at once after one sign of crowding", after)
	}
	drain(after, false)
	for range 10 {
		drain(fill(), false)
	}
	if n := fill(); n != 8 {
		t.Fatalf("%d at once after clean rounds, want 8", n)
	}
	for range 8 {
		l.release(true)
	}
	if n := fill(); n != 1 {
		t.Fatalf("%d at once in a crowd, want 1", n)
	}
}

func TestLimiterLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1)
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		got := make(chan error, 1)
		go func() { gaveUp <- l.acquire(ctx) }()
		synctest.Wait()
		go func() { got <- l.acquire(t.Context()) }()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		l.release(false)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		l.release(false)
		if l.busy != 0 || len(l.waiting) != 0 {
			t.Fatalf("%d busy, %d waiting", l.busy, len(l.waiting))
		}
	})
}

func TestBackoff(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 40: maxPause} {
		for range 100 {
			if got := backoff(time.Second, tries); got < want/2 || got > want*3/2 {
				t.Fatalf("pause %d is %v, want about %v", tries, got, want)
			}
		}
	}
}

func TestSleepEnds(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	if sleep(t.Context(), time.Hour, nil, stop) {
		t.Fatal("slept through a stop")
	}
	if !sleep(t.Context(), time.Nanosecond, nil, nil) {
		t.Fatal("did not sleep")
	}
}

// What one run learns of an org holds for all, and they share what it takes.
func TestLimiterIsShared(t *testing.T) {
	l := newLimiter(0)
	narrow := l.join(2)
	wide := l.join(8)
	if l.limit != 8 || l.max != 8 {
		t.Fatalf("limit %v of %v", l.limit, l.max)
	}
	for range 8 {
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.release(true)
	if l.limit != 4 {
		t.Fatalf("limit %v after a lock", l.limit)
	}
	for range 7 {
		l.release(true)
	}
	if l.busy != 0 || l.limit != 1 {
		t.Fatalf("%d busy, limit %v", l.busy, l.limit)
	}
	wide()
	narrow()
	again := l.join(16)
	if l.limit != 1 || l.max != 16 {
		t.Fatalf("the next run begins with limit %v of %v", l.limit, l.max)
	}
	again()
}

// Two runs on one org have together no more in flight than the wider may.
func TestRunsShareAnOrgsParallelism(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	flight := &inFlight{next: http.DefaultTransport.(*http.Transport).Clone()}
	defer flight.next.CloseIdleConnections()
	w.dest = w.connect(api.Config{Transport: flight})
	w.org.AddFault(emulator.Fault{Match: "collections", Delay: 3 * time.Millisecond, Times: -1})
	all := many(planner.Upsert, 600)
	var g errgroup.Group
	for i, parallel := range []int{3, 4} {
		s := accountSync(models.ModeUpsert, "rest")
		s.Write.RESTBatchSize, s.Write.Parallelism = 10, parallel
		target, l := w.open(s), w.ledger(all[300*i:300*i+300])
		w.org.OnCall(nil) // which sees the batches of one ledger only
		g.Go(func() error {
			return target.Apply(t.Context(), destinations.Application{Plan: l, Journal: l})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	w.once(600)
	if most := flight.most.Load(); most > 4 || most < 2 {
		t.Fatalf("%d calls were in flight at most", most)
	}
}

// inFlight counts writes in flight.
type inFlight struct {
	next      *http.Transport
	now, most atomic.Int64
}

func (f *inFlight) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPatch {
		n := f.now.Add(1)
		defer f.now.Add(-1)
		for m := f.most.Load(); n > m && !f.most.CompareAndSwap(m, n); m = f.most.Load() {
		}
	}
	return f.next.RoundTrip(r)
}
