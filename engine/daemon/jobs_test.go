package daemon

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"coho/engine"
	"coho/models"
)

func syncsOf(names ...string) Request { return Request{Syncs: names, Trigger: "api"} }

// mustStart starts what must be accepted.
func mustStart(t *testing.T, d *Daemon, r Request) Job {
	t.Helper()
	j, err := d.Start(r)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func state(d *Daemon, run string) RunState {
	s, _ := d.Find(run)
	return s.State
}

// TestQueueIsFair: with every place taken, what was asked for first has its
// turn first, whatever asked; a sync that is busy holds nobody else up.
func TestQueueIsFair(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, n := range []string{"a", "b", "c", "d"} {
			w.sync(n, "", models.Timing{})
		}
		w.sync("timed", "1 0 * * *", models.Timing{})
		w.sequence("q", "", models.Timing{}, []string{"a"}, []string{"b"})
		w.maxRuns = 1
		w.took = func(string) time.Duration { return 10 * time.Second }
		w.serve(func(d *Daemon) {
			past("00:00:55")
			mustStart(t, d, Request{Sequence: "q"})
			mustStart(t, d, syncsOf("d"))
			past("00:01:00") // timed is due
			mustStart(t, d, syncsOf("c"))
			past("00:03:00")
		})
		// The place that the sequence's first step gives back is d's; its second
		// step then comes before all else that was asked for later.
		if got := w.times(); got != "a 00:00:55, d 00:01:05, b 00:01:15, timed 00:01:25, c 00:01:35" {
			t.Error(got)
		}
	})
}

// TestStartRefuses: what is wrong with a request is said by its type, and
// nothing of it runs.
func TestStartRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, n := range []string{"a", "b", "c"} {
			w.sync(n, "", models.Timing{})
		}
		w.sequence("q", "", models.Timing{}, []string{"a"})
		w.maxRuns = 1
		d := w.daemon()
		if _, err := d.Start(syncsOf("a")); err == nil || d.Ready() == nil {
			t.Errorf("a daemon that has not begun took work: %v", err)
		}
		stop := w.begin(d)
		if err := d.Ready(); err != nil {
			t.Error(err)
		}
		for _, r := range []Request{{}, syncsOf("nobody"), syncsOf("a", "nobody"), {Sequence: "nothing"}, {Syncs: []string{"a"}, All: true}, {Sequence: "q", All: true}} {
			_, err := d.Start(r)
			var usage *engine.UsageError
			if !errors.As(err, &usage) {
				t.Errorf("%+v: %v", r, err)
			}
		}
		running := mustStart(t, d, syncsOf("a"))
		queued := mustStart(t, d, syncsOf("b"))
		for _, c := range []struct {
			r      Request
			id     string
			queued bool
		}{
			{syncsOf("a"), running.Runs[0].RunID, false},
			{syncsOf("c", "a"), running.Runs[0].RunID, false},
			{syncsOf("b"), queued.Runs[0].RunID, true},
		} {
			_, err := d.Start(c.r)
			var busy *BusyError
			var locked *engine.LockedError
			if !errors.As(err, &busy) || busy.RunID != c.id || busy.Queued != c.queued || !errors.As(err, &locked) {
				t.Errorf("%v: %v", c.r.Syncs, err)
			}
		}
		mustStart(t, d, Request{Sequence: "q"}) // waits for a
		var busy *BusyError
		if _, err := d.Start(Request{Sequence: "q"}); !errors.As(err, &busy) || busy.Kind != Sequence {
			t.Errorf("a sequence twice: %v", err)
		}
		all := mustStart(t, d, Request{All: true}) // waits for both
		if len(all.Runs) != 3 {
			t.Errorf("%+v", all)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		if got := w.times(); got != "a 00:00:00, b 00:00:05, a 00:00:10, a 00:00:15, b 00:00:20, c 00:00:25" {
			t.Error(got)
		}
		if _, err := d.Start(syncsOf("a")); !errors.Is(err, ErrStopping) || !errors.Is(d.Ready(), ErrStopping) {
			t.Errorf("a daemon that has ended: %v", err)
		}
	})
}

// TestCancel: a run that goes on, one that waits, and a whole sequence.
func TestCancel(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, n := range []string{"a", "b", "c"} {
			w.sync(n, "", models.Timing{})
		}
		w.sequence("q", "", models.Timing{}, []string{"a"}, []string{"b"}, []string{"c"})
		w.maxRuns = 1
		w.took = func(string) time.Duration { return time.Minute }
		w.serve(func(d *Daemon) {
			running, waiting := mustStart(t, d, syncsOf("a")).Runs[0].RunID, mustStart(t, d, syncsOf("b")).Runs[0].RunID
			whole := mustStart(t, d, syncsOf("c")).ID
			synctest.Wait()
			if state(d, running) != RunRunning || state(d, waiting) != RunQueued {
				t.Errorf("%s, %s", state(d, running), state(d, waiting))
			}
			past("00:00:10")
			// None of those that wait gets the place that is given back.
			for _, id := range []string{whole, waiting, running} {
				if err := d.Cancel(id, false); err != nil {
					t.Error(err)
				}
			}
			if x, err := d.Wait(t.Context(), waiting); err != nil || x.Run != nil || !errors.Is(x.Err, ErrNotBegun) {
				t.Errorf("%+v %v", x, err)
			}
			if x, err := d.Wait(t.Context(), running); err != nil || x.Run == nil || x.Run.Status != engine.Canceled {
				t.Errorf("%+v %v", x, err)
			}
			var usage *engine.UsageError
			for _, id := range []string{running, "nothing"} {
				if err := d.Cancel(id, false); !errors.As(err, &usage) {
					t.Errorf("cancel %s: %v", id, err)
				}
			}
			past("00:00:20")
			q := mustStart(t, d, Request{Sequence: "q"})
			past("00:01:30") // in its second step
			if err := d.Cancel(q.ID, false); err != nil {
				t.Error(err)
			}
			if x, err := d.Wait(t.Context(), q.Runs[2].RunID); err != nil || !errors.Is(x.Err, ErrNotBegun) {
				t.Errorf("%+v %v", x, err)
			}
			// One that does not listen is given up.
			w.deaf = true
			a := mustStart(t, d, syncsOf("a"))
			past("00:01:40")
			if err := d.Cancel(a.Runs[0].RunID, false); err != nil {
				t.Error(err)
			}
			past("00:01:45")
			if state(d, a.Runs[0].RunID) != RunRunning {
				t.Error("a run in flight was given up by a gentle cancel")
			}
			if err := d.Cancel(a.Runs[0].RunID, true); err != nil {
				t.Error(err)
			}
			past("00:01:46")
			if jobs := d.Jobs(); len(jobs) != 0 {
				t.Errorf("%+v", jobs)
			}
		})
		if got := w.times(); got != "a 00:00:00 canceled, a 00:00:20, b 00:01:20 canceled, a 00:01:30 canceled" {
			t.Error(got)
		}
		// What a person has canceled does not come back at the next start.
		w.serve(func(d *Daemon) { past("00:10:00") })
		if got := w.times(); got != "" {
			t.Error(got)
		}
	})
}

// TestSequenceAndSchedule: a sync in a sequence and its own schedule never run
// at once: whichever comes second waits, or is skipped.
func TestSequenceAndSchedule(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("a", "1 0 * * *", models.Timing{Overlap: "queue"})
		w.sync("b", "2 0 * * *", models.Timing{Overlap: "skip"})
		w.sync("c", "4 0 * * *", models.Timing{})
		w.sequence("q", "", models.Timing{}, []string{"a"}, []string{"b"}, []string{"c"})
		w.took = func(n string) time.Duration { return 50 * time.Second }
		w.serve(func(d *Daemon) {
			past("00:00:40")
			q := mustStart(t, d, Request{Sequence: "q"}) // a to 1:30, b to 2:20
			past("00:01:01")
			st, err := d.Syncs()
			if err != nil || st[0].Running != q.Runs[0].RunID || st[0].Queued == "" {
				t.Errorf("%+v %v", st, err)
			}
			past("00:03:50")
			w.took = func(string) time.Duration { return 20 * time.Second }
			mustStart(t, d, Request{Sequence: "q"}) // a, b from 4:10; c, due at 4:00, goes on to 4:20
			past("00:06:00")
		})
		if got := w.times(); got != "a 00:00:40, a 00:01:30, b 00:01:30, c 00:02:20, a 00:03:50, c 00:04:00, b 00:04:10, c 00:04:30" {
			t.Error(got)
		}
		if !w.log.has("skipped: a run of the sync has not ended", "sync=b") {
			t.Error("it was not said that b was skipped")
		}
	})
}

// TestSequenceOverlap: a sequence that is due while it runs.
func TestSequenceOverlap(t *testing.T) {
	for overlap, want := range map[string]string{
		"skip": "a 00:01:00, b 00:01:44, a 00:03:00, b 00:03:44",
		// What comes due while one waits is skipped: five times are four runs.
		"queue": "a 00:01:00, b 00:01:44, a 00:02:28, b 00:03:12, a 00:03:56, b 00:04:40, a 00:05:24, b 00:06:08",
	} {
		t.Run(overlap, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.sync("a", "", models.Timing{})
				w.sync("b", "", models.Timing{})
				w.sequence("q", "1-5 0 * * *", models.Timing{Overlap: overlap}, []string{"a"}, []string{"b"})
				w.took = func(string) time.Duration { return 44 * time.Second }
				w.serve(func(d *Daemon) {
					past("00:02:10")
					st := d.Sequences()
					if st[0].Running == "" || (st[0].Queued != "") != (overlap == "queue") {
						t.Errorf("%+v", st)
					}
					past("00:04:00")
					if overlap == "skip" {
						if err := d.Pause(Sequence, "q"); err != nil { // it goes on to its end
							t.Error(err)
						}
					}
					past("00:10:00")
				})
				if got := w.times(); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		})
	}
}

// TestPauseCallsOffWhatWaits: a scheduled run that waits is called off, one that
// a person asked for is not.
func TestPauseCallsOffWhatWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("long", "", models.Timing{})
		w.sync("timed", "1 0 * * *", models.Timing{})
		w.sync("asked", "", models.Timing{})
		w.maxRuns = 1
		w.took = func(string) time.Duration { return 3 * time.Minute }
		w.serve(func(d *Daemon) {
			mustStart(t, d, syncsOf("long"))
			mustStart(t, d, syncsOf("asked"))
			past("00:01:10")
			for _, name := range []string{"timed", "asked", "long"} {
				if err := d.Pause(Sync, name); err != nil {
					t.Error(err)
				}
			}
			past("00:10:00")
		})
		if got := w.times(); got != "long 00:00:00, asked 00:03:00" {
			t.Error(got)
		}
	})
}

// TestStop: what is in flight is finished within the time that the config gives,
// then given up; what is left of it all goes on at the next start.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		name  string
		deaf  bool
		abort time.Duration // after the stop; 0: never
		ended time.Duration
	}{
		{"gently", false, 0, 0},
		{"past the timeout", true, 0, 20 * time.Second},
		{"given up at once", true, 2 * time.Second, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				for _, n := range []string{"a", "b", "c", "x"} {
					w.sync(n, "", models.Timing{})
				}
				w.sequence("q", "", models.Timing{}, []string{"a"}, []string{"b"}, []string{"c"})
				w.maxRuns, w.timeout, w.deaf = 1, 20*time.Second, c.deaf
				w.took = func(string) time.Duration { return time.Minute }
				d := w.daemon()
				abort := make(chan struct{})
				d.o.Abort = abort
				stop := w.begin(d)
				q := mustStart(t, d, Request{Sequence: "q", Trigger: "api"})
				x := mustStart(t, d, Request{Syncs: []string{"x"}, Full: true, Trigger: "cli"})
				past("00:01:30") // a has ended, x goes on, b waits
				if c.abort > 0 {
					time.AfterFunc(c.abort, func() { close(abort) })
				}
				began := time.Now()
				stop()
				if took := time.Since(began); took != c.ended {
					t.Errorf("the daemon ended after %s, want %s", took, c.ended)
				}
				if got := w.times(); got != "a 00:00:00, x 00:01:00 canceled" {
					t.Error(got)
				}
				w.deaf = false
				past("00:05:00")
				w.serve(func(d *Daemon) {
					jobs := d.Jobs()
					if len(jobs) != 2 || jobs[0].ID != q.ID || jobs[0].Sequence != "q" || jobs[0].Trigger != "api" || jobs[1].ID != x.ID {
						t.Errorf("%+v", jobs)
					}
					past("00:09:00")
				})
				for _, r := range w.ran {
					if r.o.Full != (r.sync == "x") {
						t.Errorf("%s ran with %+v", r.sync, r.o)
					}
				}
				if got := w.times(); got != "b 00:05:00, x 00:06:00, c 00:07:00" {
					t.Error(got)
				}
				// And that was all.
				w.serve(func(d *Daemon) { past("00:20:00") })
				if got := w.times(); got != "" {
					t.Error(got)
				}
			})
		})
	}
}

// TestLeaveOut: syncs that are left out have no run, hold up nothing and are left
// out after a stop as well.
func TestLeaveOut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, n := range []string{"a", "b", "c", "d", "busy"} {
			w.sync(n, "", models.Timing{})
		}
		w.sequence("q", "", models.Timing{}, []string{"a"}, []string{"b"}, []string{"c"}, []string{"d"})
		w.maxRuns = 1
		w.took = func(string) time.Duration { return time.Minute }
		d := w.daemon()
		stop := w.begin(d)
		var usage *engine.UsageError
		if _, err := d.Start(Request{All: true, LeaveOut: map[string]string{"nobody": "x"}}); !errors.As(err, &usage) {
			t.Errorf("a sync that does not exist is left out: %v", err)
		}
		mustStart(t, d, syncsOf("busy"))
		if j := mustStart(t, d, Request{Syncs: []string{"busy"}, LeaveOut: map[string]string{"busy": "x"}}); len(j.Runs) != 0 {
			t.Errorf("%+v", j)
		}
		q := mustStart(t, d, Request{Sequence: "q", LeaveOut: map[string]string{"a": "x", "c": "dbt skipped c"}})
		if len(q.Runs) != 2 || q.Runs[0].Sync != "b" || q.Runs[1].Sync != "d" {
			t.Errorf("%+v", q.Runs)
		}
		past("00:01:30") // b goes on, d is to come
		stop()
		if got := w.times(); got != "busy 00:00:00, b 00:01:00 canceled" {
			t.Error(got)
		}
		past("00:05:00")
		w.serve(func(d *Daemon) {
			past("00:09:00")
			s, err := d.Engine().History().Sequence("q")
			if err != nil {
				t.Fatal(err)
			}
			if p := s.Steps[2][0]; s.ID != q.ID || p.Status != engine.PassedOver || p.Why != "dbt skipped c" {
				t.Errorf("%+v", s)
			}
		})
		if got := w.times(); got != "b 00:05:00, d 00:06:00" {
			t.Error(got)
		}
	})
}

// TestGivenUpAfterManyStarts: a run that brings the process down each time does
// not do so for ever.
func TestGivenUpAfterManyStarts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("a", "", models.Timing{})
		w.took = func(string) time.Duration { return time.Hour }
		w.serve(func(d *Daemon) {
			mustStart(t, d, syncsOf("a"))
			synctest.Wait()
		})
		for range maxResumes + 2 {
			w.serve(func(d *Daemon) { synctest.Wait() })
		}
		if n := len(w.ran); n != 1+maxResumes {
			t.Errorf("%d runs", n)
		}
		if !w.log.has("given up") {
			t.Error("it was not said")
		}
	})
}

// TestHold: a plan, or a look at a snapshot, and runs keep out of each other's
// way, and nothing that is due meanwhile is lost.
func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("a", "1 0 * * *", models.Timing{})
		w.serve(func(d *Daemon) {
			past("00:00:55")
			if err := d.Hold("a", func(*engine.Engine) error {
				var busy *BusyError
				if err := d.Hold("a", nil); !errors.As(err, &busy) {
					t.Errorf("held twice: %v", err)
				}
				past("00:01:10")
				return nil
			}); err != nil {
				t.Error(err)
			}
			past("00:01:12")
			var busy *BusyError
			if err := d.Hold("a", nil); !errors.As(err, &busy) || busy.RunID == "" {
				t.Errorf("held while it runs: %v", err)
			}
			past("00:02:00")
			var usage *engine.UsageError
			if err := d.Hold("nobody", nil); !errors.As(err, &usage) {
				t.Error(err)
			}
		})
		if got := w.times(); got != "a 00:01:10" {
			t.Error(got)
		}
	})
}

// TestReload: what begins later goes by the new config; a config that is refused
// changes nothing.
func TestReload(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("a", "*/2 * * * *", models.Timing{})
		w.sync("b", "*/2 * * * *", models.Timing{})
		w.fingerprint, w.maxRuns = "1", 1
		w.took = func(string) time.Duration { return 70 * time.Second }
		d := w.daemon()
		stop := w.begin(d)
		past("00:02:10") // a runs, b waits
		w.config.Lock()
		w.fingerprint, w.refuse = "2", errors.New("coho.toml:7: no")
		w.config.Unlock()
		past("00:02:20")
		_, since, refused := d.Config()
		if refused == nil || !since.Equal(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) || !w.log.has("refused", "coho.toml:7: no") || w.loads != 2 {
			t.Errorf("%v, %v, %d loads", since, refused, w.loads)
		}
		if err := d.Ready(); err != nil {
			t.Errorf("a daemon whose new config was refused: %v", err)
		}
		w.config.Lock()
		w.fingerprint, w.refuse = "3", nil
		w.maxRuns = 2
		delete(w.syncs, "a")
		w.order = []string{"b"}
		w.config.Unlock()
		w.sync("c", "3 0 * * *", models.Timing{})
		past("00:02:30")
		if _, _, refused := d.Config(); refused != nil || w.loads != 3 {
			t.Errorf("%v, %d loads", refused, w.loads)
		}
		if st, err := d.Syncs(); err != nil || len(st) != 2 || st[0].Running == "" {
			t.Errorf("b did not get the place that the new config gives: %+v %v", st, err)
		}
		w.mu.Lock()
		closed := w.closed
		w.mu.Unlock()
		if closed != 0 {
			t.Error("the old config was closed under the run that goes on with it")
		}
		past("00:03:40") // a has ended with the old config
		w.mu.Lock()
		closed = w.closed
		w.mu.Unlock()
		if closed != 1 {
			t.Errorf("%d configs closed, want the old one", closed)
		}
		// Where the state is cannot change.
		dir := w.dir
		w.config.Lock()
		w.dir = t.TempDir()
		w.config.Unlock()
		var refusal *ReloadError
		var usage *engine.UsageError
		if err := d.Reload(t.Context()); !errors.As(err, &refusal) || !errors.As(err, &usage) {
			t.Errorf("another state directory: %v", err)
		}
		w.config.Lock()
		w.dir = dir
		w.config.Unlock()
		past("00:05:30")
		stop()
		if got := w.times(); got != "a 00:02:00, b 00:02:24, c 00:03:10, b 00:04:00" {
			t.Error(got)
		}
		if w.closed != w.loads-1 { // one was refused before it was wired
			t.Errorf("%d loads, %d closed", w.loads, w.closed)
		}
	})
}

// TestReloadLosesNothing: a schedule that a reload does not change keeps its
// times, also one that is due while the config is read.
func TestReloadLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("a", "* * * * *", models.Timing{Jitter: 30 * time.Second})
		w.sync("b", "@every 7m", models.Timing{})
		w.serve(func(d *Daemon) {
			for range 600 {
				time.Sleep(time.Second)
				if err := d.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
		n := map[string]int{}
		for _, r := range w.ran {
			n[r.sync]++
		}
		if n["a"] < 9 || n["a"] > 10 || n["b"] < 1 || n["b"] > 2 {
			t.Errorf("%v runs in ten minutes", n)
		}
	})
}

// TestDamagedState: a file that cannot be read is not taken for an empty one:
// what is paused would run.
func TestDamagedState(t *testing.T) {
	for _, text := range []string{`{"format":"coho-daemon-1","pau`, `{"format":"coho-daemon-2"}`, `{"format":"coho-daemon-1","new":1}`} {
		bubble(t, func(t *testing.T, w *world) {
			w.sync("a", "", models.Timing{})
			d := w.daemon()
			if err := d.Open(); err != nil {
				t.Fatal(err)
			}
			if err := d.Engine().SaveFile(stateFile, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := d.Run(t.Context()); err == nil {
				t.Errorf("%s was taken", text)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTwoDaemons: one state directory is one daemon's.
func TestTwoDaemons(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sync("a", "", models.Timing{})
		w.serve(func(*Daemon) {
			var locked *engine.LockedError
			if err := w.daemon().Open(); !errors.As(err, &locked) {
				t.Errorf("%v", err)
			}
		})
		w.serve(func(*Daemon) {}) // and given up by the first
		if w.closed != 3 {
			t.Errorf("%d configs closed", w.closed)
		}
	})
}

func TestEntriesRoundTrip(t *testing.T) {
	for _, e := range []entry{{Sync, "a"}, {Sequence, "a-b_c"}} {
		if got := entryOf(e.String()); got != e {
			t.Errorf("%v became %v", e, got)
		}
	}
	if !slices.Equal(sortedNames(map[string]models.Sequence{"b": {}, "a": {}}), []string{"a", "b"}) {
		t.Error("names are not sorted")
	}
}
