package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"coho/engine"
	"coho/models"
)

// TestHundredSyncsEveryMinute: an hour of 100 syncs, each due every minute, on
// 16 places: none lost, none overlapping, never more at once than allowed, and
// neither memory nor the state grows.
func TestHundredSyncsEveryMinute(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const syncs, places, minutes = 100, 16, 60
		for i := range syncs {
			w.sync(fmt.Sprintf("s%02d", i), "* * * * *", models.Timing{Overlap: "queue"})
		}
		w.maxRuns = places
		w.took = func(name string) time.Duration {
			return time.Second + time.Duration(int(name[1])*7+int(name[2])*13)%9*time.Second
		}
		measure := func() (heap uint64, goroutines int, state int64) {
			synctest.Wait()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			info, err := os.Stat(filepath.Join(w.dir, stateFile))
			if err != nil {
				t.Fatal(err)
			}
			return m.HeapAlloc, runtime.NumGoroutine(), info.Size()
		}
		w.mu.Lock()
		w.ran = make([]ran, 0, syncs*minutes+syncs) // the test's own memory, all at once
		w.mu.Unlock()
		w.serve(func(*Daemon) {
			past("00:15:59")
			heap, goroutines, state := measure()
			past("00:59:59")
			heap2, goroutines2, state2 := measure()
			// What the test notes of each run is all that may stay: an id and a
			// name, some thirty bytes.
			if grown := int64(heap2) - int64(heap); grown > 44*syncs*100 {
				t.Errorf("the heap grew by %d bytes, from %d", grown, heap)
			}
			if goroutines2 != goroutines || state2 != state {
				t.Errorf("goroutines %d, then %d; state %d bytes, then %d", goroutines, goroutines2, state, state2)
			}
			past("01:00:59")
		})
		perMinute := map[string][]int{}
		for _, r := range w.ran {
			if r.status != engine.Succeeded || r.trigger != "schedule" {
				t.Fatalf("%+v", r)
			}
			if perMinute[r.sync] == nil {
				perMinute[r.sync] = make([]int, minutes+1)
			}
			perMinute[r.sync][int(r.from.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Minutes())]++
		}
		if len(w.ran) != syncs*minutes || len(perMinute) != syncs {
			t.Errorf("%d runs of %d syncs", len(w.ran), len(perMinute))
		}
		for name, n := range perMinute {
			for minute, times := range n {
				if want := min(minute, 1); times != want {
					t.Errorf("%s ran %d times in minute %d, want %d", name, times, minute, want)
				}
			}
		}
		if w.most > places {
			t.Errorf("%d runs at once, %d allowed", w.most, places)
		}
		if w.most < places {
			t.Errorf("only %d runs at once: the cap was not tested", w.most)
		}
	})
}

// TestOverlap: a run that has not ended when its sync is due again.
func TestOverlap(t *testing.T) {
	for _, c := range []struct{ overlap, want, said string }{
		{"skip", "s 00:01:00, s 00:04:00", "skipped: a run of the sync has not ended"},
		// Of several times that pass meanwhile, one waits: five are three runs.
		{"queue", "s 00:01:00, s 00:03:30, s 00:06:00", "queued: a run of the sync has not ended"},
	} {
		t.Run(c.overlap, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.sync("s", "1-5 0 * * *", models.Timing{Overlap: c.overlap})
				w.took = func(string) time.Duration { return 150 * time.Second }
				w.serve(func(d *Daemon) {
					past("00:02:01")
					st, err := d.Syncs()
					if err != nil || st[0].Running == "" || (st[0].Queued != "") != (c.overlap == "queue") {
						t.Errorf("%+v %v", st, err)
					}
					past("00:20:00")
				})
				if got := w.times(); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if !w.log.has(c.said, "sync=s", "run=") {
					t.Errorf("the log does not say %q:\n%s", c.said, w.log.buf.String())
				}
			})
		})
	}
}

// TestMissedWhileDown: what becomes of times at which no daemon ran.
func TestMissedWhileDown(t *testing.T) {
	for _, c := range []struct{ catchUp, want string }{
		{"skip", "s 06:00:00"},
		{"once", "s 05:30:00, s 06:00:00"},
	} {
		t.Run(c.catchUp, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.sync("s", "0 * * * *", models.Timing{CatchUp: c.catchUp})
				w.sync("new", "", models.Timing{})
				w.serve(func(*Daemon) { past("01:10:00") })
				if got := w.times(); got != "s 01:00:00" {
					t.Fatal(got)
				}
				past("05:30:00")
				// A schedule that is new has missed nothing, whatever its rule.
				w.syncs["new"].Schedule, w.syncs["new"].Timing.CatchUp = "0 * * * *", "once"
				w.serve(func(*Daemon) { past("05:59:00") })
				w.syncs["new"].Schedule = ""
				w.serve(func(*Daemon) { past("06:10:00") })
				if got := w.times(); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if !w.log.has("scheduled times were missed", "sync=s", "missed=4") {
					t.Errorf("the log does not say what was missed:\n%s", w.log.buf.String())
				}
			})
		})
	}
	t.Run("a line that was changed", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			s := w.sync("s", "0 * * * *", models.Timing{CatchUp: "once"})
			w.serve(func(*Daemon) { past("01:10:00") })
			s.Schedule = "30 * * * *"
			past("05:45:00")
			w.serve(func(*Daemon) { past("06:40:00") })
			if got := w.times(); got != "s 01:00:00, s 06:30:00" {
				t.Error(got)
			}
		})
	})
}

// TestClockChange: a daemon that serves while the clock is changed. In the year
// of the bubble New York changes at 2:00 on 2 April and on 29 October.
func TestClockChange(t *testing.T) {
	for _, c := range []struct {
		name, line string
		from       time.Time
		want       string // in UTC
	}{
		{"spring", "30 2 * * *", time.Date(2000, 4, 1, 0, 0, 0, 0, time.UTC), "s 07:30:00, s 07:00:00, s 06:30:00"},
		{"autumn", "30 1 * * *", time.Date(2000, 10, 28, 0, 0, 0, 0, time.UTC), "s 05:30:00, s 05:30:00, s 06:30:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.sync("s", c.line, models.Timing{}).Timezone = "America/New_York"
				time.Sleep(time.Until(c.from))
				w.serve(func(*Daemon) {
					time.Sleep(72 * time.Hour)
					synctest.Wait()
				})
				if got := w.times(); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
			})
		})
	}
}

// TestJitterSpreads: syncs due at the same minute begin apart, and the status
// says when.
func TestJitterSpreads(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for i := range 20 {
			w.sync(fmt.Sprintf("s%02d", i), "0 * * * *", models.Timing{Jitter: 10 * time.Minute})
		}
		w.maxRuns = 20
		next := map[string]time.Time{}
		w.serve(func(d *Daemon) {
			st, err := d.Syncs()
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range st {
				next[s.Name] = s.NextRun
			}
			past("01:11:00")
		})
		begun := map[time.Time]int{}
		for _, r := range w.ran {
			if !r.from.Equal(next[r.sync]) {
				t.Errorf("%s began at %s, and was said to at %s", r.sync, r.from, next[r.sync])
			}
			begun[r.from]++
		}
		if len(w.ran) != 20 || len(begun) < 18 {
			t.Errorf("%d runs at %d moments", len(w.ran), len(begun))
		}
	})
}

// TestPause: what is paused stays so over a restart, is not made up for, and can
// be run by name.
func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("s", "0 * * * *", models.Timing{CatchUp: "once"})
		w.sync("other", "", models.Timing{})
		w.sequence("q", "30 * * * *", models.Timing{CatchUp: "once"}, []string{"s"}, []string{"other"})
		w.serve(func(d *Daemon) {
			if err := d.Pause(Sync, "s"); err != nil {
				t.Error(err)
			}
			if err := d.Pause(Sync, "s"); err != nil {
				t.Error(err)
			}
			past("01:40:00")
		})
		// The sequence runs without the sync that is paused.
		if got := w.times(); got != "other 00:30:00, other 01:30:00" {
			t.Error(got)
		}
		w.serve(func(d *Daemon) {
			st, err := d.Syncs()
			if err != nil || !st[0].Paused || !st[0].NextRun.IsZero() || st[1].Paused {
				t.Errorf("%+v %v", st, err)
			}
			past("02:10:00")
			j, err := d.Start(Request{Syncs: []string{"s"}, Trigger: "api"})
			if err != nil {
				t.Fatal(err)
			}
			if x, err := d.Wait(t.Context(), j.Runs[0].RunID); err != nil || x.Run == nil || x.Run.Status != engine.Succeeded {
				t.Errorf("%+v %v", x, err)
			}
			if err := d.Pause(Sequence, "q"); err != nil {
				t.Error(err)
			}
			past("02:50:00")
			if err := d.Resume(Sync, "s"); err != nil {
				t.Error(err)
			}
			past("03:40:00")
		})
		if got := w.times(); got != "s 02:10:00, s 03:00:00" {
			t.Error(got)
		}
		w.serve(func(d *Daemon) {
			if st := d.Sequences(); !st[0].Paused {
				t.Errorf("%+v", st)
			}
			for _, err := range []error{d.Resume(Sequence, "q"), d.Resume(Sequence, "q")} {
				if err != nil {
					t.Error(err)
				}
			}
			past("04:40:00")
			if d.Pause(Sync, "nobody") == nil || d.Pause(Sequence, "s") == nil {
				t.Error("what does not exist was paused")
			}
		})
		if got := w.times(); got != "s 04:00:00, s 04:30:00, other 04:30:05" {
			t.Error(got)
		}
	})
}
