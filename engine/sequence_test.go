package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations"
	"coho/models"
)

// sequenced is a world whose syncs each have an object of their own and one row.
func sequenced(t *testing.T, names ...string) *world {
	w := newWorld(t, names...)
	for _, n := range names {
		w.syncs[n].Object = n
		w.fill(n, "k-"+n, "Name of "+n)
	}
	return w
}

// sequence runs steps and returns the syncs in the order in which they ended.
func (w *world) sequence(ctx context.Context, onError string, steps ...[]string) (ended []Ended, err error) {
	w.sequences["nightly"] = models.Sequence{Name: "nightly", Steps: steps, OnError: onError}
	w.with(func(e *Engine) {
		busy := false
		err = e.RunSequence(ctx, "nightly", RunOptions{Trigger: "sequence"}, func(string) *Progress { return &Progress{} }, func(x Ended) {
			if busy {
				w.t.Error("called with two runs at once")
			}
			busy = true
			ended = append(ended, x)
			busy = false
		})
	})
	return ended, err
}

func names(ended []Ended) (out []string) {
	for _, e := range ended {
		out = append(out, e.Sync)
	}
	return out
}

func TestSequenceRunsStepsInOrder(t *testing.T) {
	w := sequenced(t, "a", "b", "c", "d")
	var mu sync.Mutex
	var applying []string
	together := make(chan struct{})
	waiting := 0
	o := w.options()
	o.OpenDestination = func(string) (destinations.Destination, error) {
		return meeting{w.org, func(name string) {
			mu.Lock()
			applying = append(applying, name)
			if name == "b" || name == "c" {
				if waiting++; waiting == 2 {
					close(together)
				}
			}
			mu.Unlock()
			if name != "b" && name != "c" {
				return
			}
			select {
			case <-together:
			case <-time.After(30 * time.Second):
				t.Error("the syncs of a step do not run side by side")
			}
		}}, nil
	}
	o.Sequences["nightly"] = models.Sequence{Name: "nightly", Steps: [][]string{{"a"}, {"b", "c"}, {"d"}}}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var ended []Ended
	if err := e.RunSequence(t.Context(), "nightly", RunOptions{}, nil, func(x Ended) { ended = append(ended, x) }); err != nil {
		t.Fatal(err)
	}
	got := names(ended)
	slices.Sort(got[1:3])
	slices.Sort(applying[1:3])
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(got, want) || !slices.Equal(applying, want) {
		t.Errorf("ended %q, applied %q", got, applying)
	}
	for _, x := range ended {
		if x.Err != nil || x.Run.Status != Succeeded {
			t.Errorf("%+v", x)
		}
	}
}

// meeting calls met when a sync's plan is about to be applied.
type meeting struct {
	*org
	met func(sync string)
}

func (m meeting) Open(ctx context.Context, s *models.Sync, cols []models.Column) (destinations.Target, error) {
	t, err := m.org.Open(ctx, s, cols)
	if err != nil {
		return nil, err
	}
	return meetingTarget{t.(*target), m.met}, nil
}

type meetingTarget struct {
	*target
	met func(sync string)
}

func (m meetingTarget) Apply(ctx context.Context, a destinations.Application) error {
	m.met(m.sync.Name)
	return m.target.Apply(ctx, a)
}

func TestSequenceOnError(t *testing.T) {
	for _, c := range []struct {
		onError string
		fail    func(w *world)
		want    []string
		ok      bool
	}{
		{"stop", func(w *world) { w.syncs["b"].Fields[0].Column = "nowhere" }, []string{"a", "b", "c"}, false},
		{"", func(w *world) { w.syncs["b"].Fields[0].Column = "nowhere" }, []string{"a", "b", "c"}, false},
		{"continue", func(w *world) { w.syncs["b"].Fields[0].Column = "nowhere" }, []string{"a", "b", "c", "d"}, false},
		// Rows that fail for their own fault stop nothing.
		{"stop", func(w *world) { w.org.refuse["k-b"] = "STRING_TOO_LONG" }, []string{"a", "b", "c", "d"}, true},
		{"stop", func(w *world) {}, []string{"a", "b", "c", "d"}, true},
	} {
		w := sequenced(t, "a", "b", "c", "d")
		c.fail(w)
		ended, err := w.sequence(t.Context(), c.onError, []string{"a"}, []string{"b", "c"}, []string{"d"})
		got := names(ended)
		slices.Sort(got)
		if !slices.Equal(got, c.want) || (err == nil) != c.ok {
			t.Errorf("on_error %q: %q ended, error %v", c.onError, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "sync b: ") {
			t.Errorf("the error does not name the sync: %v", err)
		}
		for _, x := range ended {
			if x.Run == nil || x.Run.Trigger != "sequence" || (x.Sync == "b" || x.Err == nil) == false {
				t.Errorf("%+v", x)
			}
		}
	}
}

func TestSequenceCanceled(t *testing.T) {
	w := sequenced(t, "a", "b")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The stop comes when all of the first step is sent already: it succeeds,
	// and still the sequence is not done.
	w.org.reach = func(point string) error {
		if point == "applied" {
			cancel()
		}
		return nil
	}
	ended, err := w.sequence(ctx, "continue", []string{"a"}, []string{"b"})
	if !slices.Equal(names(ended), []string{"a"}) || ended[0].Run.Status != Succeeded {
		t.Fatalf("%+v", ended)
	}
	if !errors.Is(err, destinations.ErrStopped) || !strings.Contains(err.Error(), "b not begun") {
		t.Errorf("a sequence that was cut short ends with %v", err)
	}
}

func TestRunSyncs(t *testing.T) {
	w := sequenced(t, "a", "b", "c")
	w.syncs["a"].Fields[0].Column = "nowhere"
	w.with(func(e *Engine) {
		var ended []Ended
		each := func(x Ended) { ended = append(ended, x) }
		var invalid *InvalidSyncError
		if err := e.RunSyncs(t.Context(), []string{"b", "a", "c"}, RunOptions{}, nil, each); !errors.As(err, &invalid) {
			t.Errorf("%v", err)
		}
		if got := names(ended); !slices.Equal(got, []string{"b", "a", "c"}) {
			t.Errorf("%q", got)
		}
		ended = nil
		var usage *UsageError
		if err := e.RunSyncs(t.Context(), []string{"b", "x"}, RunOptions{}, nil, each); !errors.As(err, &usage) || len(ended) != 0 {
			t.Errorf("%v, %q ran", err, names(ended))
		}
		if err := e.RunSequence(t.Context(), "nightli", RunOptions{}, nil, each); !errors.As(err, &usage) || len(ended) != 0 {
			t.Errorf("%v, %q ran", err, names(ended))
		}
	})
}
