package engine

import "time"

// stopwatch measures a run's stages. It is used by the run's goroutine.
type stopwatch struct {
	now   func() time.Time
	spent *float64 // of the stage that goes on
	since time.Time
	d     Durations
}

// newStopwatch begins with the checks. queued is zero for a run that did not
// wait.
func newStopwatch(now func() time.Time, queued, started time.Time) *stopwatch {
	w := &stopwatch{now: now, since: started}
	if !queued.IsZero() {
		w.d.Waiting = max(0, started.Sub(queued).Seconds())
	}
	w.spent = &w.d.Checking
	return w
}

// enter ends a stage and begins the next.
func (w *stopwatch) enter(stage string) {
	at := w.now()
	w.add(at)
	switch stage {
	case "reading":
		w.spent = &w.d.Reading
	case "writing":
		w.spent = &w.d.Applying
	case "committing":
		w.spent = &w.d.Committing
	default: // checking, resuming
		w.spent = &w.d.Checking
	}
}

func (w *stopwatch) add(at time.Time) {
	*w.spent += max(0, at.Sub(w.since).Seconds())
	w.since = at
}

// stop ends the last stage.
func (w *stopwatch) stop(at time.Time) *Durations {
	w.add(at)
	return &w.d
}
