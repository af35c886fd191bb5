package salesforce

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
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
