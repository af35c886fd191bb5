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

// fill takes places until there is none.
func fill(t *testing.T, l *limiter, weight int) (places []place) {
	for {
		l.mu.Lock()
		q := &l.lines[lineCalls]
		free := q.busy == 0 || q.held+weight <= int(l.limit)
		l.mu.Unlock()
		if !free {
			return places
		}
		p, err := l.acquire(t.Context(), lineCalls, weight)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
}

// drain gives places back, so many of them crowded.
func drain(l *limiter, places []place, crowded int) {
	for i, p := range places {
		l.done(p)
		l.learn(p, i < crowded)
	}
}

func TestLimiterAdapts(t *testing.T) {
	l := newLimiter(8)
	places := fill(t, l, 1)
	if len(places) != 8 {
		t.Fatalf("%d at once, want 8", len(places))
	}
	drain(l, places, 1)
	places = fill(t, l, 1)
	if n := len(places); n != 4 {
		t.Fatalf("%d at once after one sign of crowding", n)
	}
	drain(l, places, 0)
	for range 10 {
		drain(l, fill(t, l, 1), 0)
	}
	if places = fill(t, l, 1); len(places) != 8 {
		t.Fatalf("%d at once after clean rounds, want 8", len(places))
	}
	drain(l, places, 8)
	if l.limit != 4 {
		t.Fatalf("%v at once after a round that met one crowd, want 4", l.limit)
	}
	for range 8 {
		drain(l, fill(t, l, 1), 8)
	}
	if places = fill(t, l, 1); len(places) != 1 {
		t.Fatalf("%d at once in a crowd, want 1", len(places))
	}
}

// A heavy request takes its share of the limit, and goes alone where it is
// heavier than that.
func TestLimiterWeighs(t *testing.T) {
	l := newLimiter(10)
	places := fill(t, l, 3)
	if len(places) != 3 {
		t.Fatalf("%d of weight 3 in 10, want 3", len(places))
	}
	drain(l, places, 3)
	if places = fill(t, l, 3); len(places) != 1 {
		t.Fatalf("%d of weight 3 in %v, want 1", len(places), l.limit)
	}
	drain(l, places, 1)
	if places = fill(t, l, 3); len(places) != 1 {
		t.Fatalf("%d of weight 3 in %v, want 1", len(places), l.limit)
	}
	if _, err := l.acquire(t.Context(), lineBatches, 1); err != nil {
		t.Fatal(err)
	}
	if _, inFlight := l.reading(); inFlight != 2 {
		t.Fatalf("%d in flight, want a call and a batch", inFlight)
	}
}

func TestLimiterLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1)
		first, err := l.acquire(t.Context(), lineCalls, 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop := make(chan struct{})
		type given struct {
			place
			error
		}
		wait := func(ctx context.Context, stop ...<-chan struct{}) chan given {
			c := make(chan given, 1)
			go func() {
				p, err := l.acquire(ctx, lineCalls, 1, stop...)
				c <- given{p, err}
			}()
			synctest.Wait()
			return c
		}
		canceled, stopped, got := wait(ctx), wait(t.Context(), nil, stop), wait(t.Context())
		cancel()
		if g := <-canceled; !errors.Is(g.error, context.Canceled) {
			t.Fatalf("got %v", g.error)
		}
		close(stop)
		if g := <-stopped; !errors.Is(g.error, errStopping) {
			t.Fatalf("got %v", g.error)
		}
		l.done(first)
		g := <-got
		if g.error != nil {
			t.Fatal(g.error)
		}
		l.done(g.place)
		if q := l.lines[lineCalls]; q.busy != 0 || q.held != 0 || len(q.waiting) != 0 {
			t.Fatalf("%+v", q)
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
	drain(l, fill(t, l, 1), 1)
	if l.limit != 4 {
		t.Fatalf("limit %v after a lock", l.limit)
	}
	for range 8 {
		drain(l, fill(t, l, 1), 1)
	}
	if _, inFlight := l.reading(); inFlight != 0 || l.limit != 1 {
		t.Fatalf("%d in flight, limit %v", inFlight, l.limit)
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
