// Package alerts tells people of runs that failed, halted or left rows behind,
// and of syncs that are well again: by Slack, PagerDuty, e-mail, Teams, a
// webhook, and what else the library shoutrrr can speak.
//
// An alert tells of a change of state and not of every run: what it has said
// last of each sync is on disk, so that a restart says nothing twice. What could
// not be delivered is tried again, with growing pauses while the process lives
// and at the next run after that. When a sync has changed once more by then, only
// how it stands now is told.
//
// It must never fail a run or delay one: [Notifier.RunEnded] notes and returns,
// and one goroutine an alert does the rest, until [Notifier.Close]. It must never
// put an alert's address, which is a secret, or a row's values into a message, a
// log line or an error.
package alerts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"coho/engine"
	"coho/models"
)

// Recovered is the event of a sync that is well again; all others are named as
// the status of the run that set them off.
const Recovered = "recovered"

// Events are what an alert can tell of.
func Events() []string {
	return []string{string(engine.Failed), string(engine.Halted), string(engine.CompletedWithErrors), Recovered}
}

// Alert is an address that is told of syncs.
type Alert struct {
	Name  string
	URL   models.Secret // as shoutrrr takes it, or a web address
	On    []string      // events; empty: all
	Syncs []string      // names; empty: all
	Pos   string        // file:line:column, for messages
}

func (a *Alert) tells(event string) bool { return len(a.On) == 0 || slices.Contains(a.On, event) }
func (a *Alert) watches(sync string) bool {
	return len(a.Syncs) == 0 || slices.Contains(a.Syncs, sync)
}

// Options is what a notifier works with.
type Options struct {
	// StateDir is the state directory; what was told is in its file alerts.json.
	StateDir string
	Alerts   []Alert
	Logger   *slog.Logger

	// Timeout is how long one delivery may take; 0: 10 seconds. CloseTimeout
	// is how long Close waits for all that are under way; 0: 15 seconds.
	Timeout, CloseTimeout time.Duration
	// Retry is the first pause after a delivery failed, doubled each time up to
	// 10 minutes; 0: 5 seconds.
	Retry time.Duration
}

const maxRetry = 10 * time.Minute

// Notifier tells of runs. It is safe for use by several goroutines.
type Notifier struct {
	o       Options
	host    string
	state   *stateFile
	workers []*worker

	closing chan struct{} // closed when Close begins
	ctx     context.Context
	cancel  context.CancelFunc // gives up deliveries under way
	done    sync.WaitGroup     // the workers' goroutines

	mu      sync.Mutex // guards the rest
	started bool
	closed  bool
}

// New returns a notifier that has started nothing yet. Alerts whose address
// cannot be used are errors that name the alert and its place, not the address.
func New(o Options) (*Notifier, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.CloseTimeout == 0 {
		o.CloseTimeout = 15 * time.Second
	}
	if o.Retry == 0 {
		o.Retry = 5 * time.Second
	}
	n := &Notifier{o: o, state: &stateFile{path: filepath.Join(o.StateDir, "alerts.json")}, closing: make(chan struct{})}
	if n.host, _ = os.Hostname(); n.host == "" {
		n.host = "an unnamed machine"
	}
	var errs []error
	for _, a := range o.Alerts {
		if _, err := newSender(a.URL); err != nil {
			errs = append(errs, fmt.Errorf("%s: alerts.%s: url: %w", a.Pos, a.Name, err))
			continue
		}
		n.workers = append(n.workers, &worker{n: n, alert: a, wake: make(chan struct{}, 1), due: map[string]bool{}})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n, nil
}

// RunEnded notes how a run ended and returns; whoever is to be told hears of it
// soon. Canceled runs say nothing about their sync.
func (n *Notifier) RunEnded(r *engine.Run) {
	// What became of one row says nothing about the sync.
	if len(n.workers) == 0 || !tellable(r.Status) || len(r.Key) > 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	latest := factsOf(r)
	changed := false
	states, err := n.state.update(func(states map[string]*syncState) bool {
		s := states[r.Sync]
		if s == nil {
			s = &syncState{}
			states[r.Sync] = s
		}
		changed = s.Latest.Status != latest.Status
		for _, w := range n.workers {
			changed = changed || w.behind(s, r.Sync, latest.Status)
		}
		if changed {
			s.Latest = latest
		}
		return changed
	})
	if err != nil {
		n.o.Logger.Warn("what is to be told could not be noted, so it is not told", "error", err)
		return
	}
	first := !n.started
	for _, w := range n.workers {
		for sync, s := range states {
			// What an earlier process could not deliver is tried with the
			// first run of this one.
			if (first || sync == r.Sync) && w.behind(s, sync, s.Latest.Status) {
				w.add(sync)
			}
		}
	}
	if first && slices.ContainsFunc(n.workers, (*worker).waits) {
		n.started = true
		for _, w := range n.workers {
			n.done.Go(w.run)
		}
	}
}

func tellable(s engine.Status) bool {
	switch s {
	case engine.Succeeded, engine.CompletedWithErrors, engine.Failed, engine.Halted:
		return true
	}
	return false
}

// Close waits for what is under way and tries once what is still to be told,
// all for no longer than the close timeout. It may be called twice.
func (n *Notifier) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	close(n.closing)
	timer := time.AfterFunc(n.o.CloseTimeout, n.cancel)
	n.done.Wait()
	timer.Stop()
	n.cancel()
	return nil
}

// Test sends a message that says it is a test by the alert of that name, and
// waits for it. It changes nothing of what was told.
func (n *Notifier) Test(ctx context.Context, name string) error {
	for _, w := range n.workers {
		if w.alert.Name == name {
			d := delivery{alert: &w.alert}
			return d.send(ctx, testMessage(name, n.host), n.o.Timeout)
		}
	}
	return fmt.Errorf("no alert is named %q", name)
}

// worker tells one alert's address of what is due, one after another.
type worker struct {
	n        *Notifier
	alert    Alert
	wake     chan struct{}
	delivery delivery // of the goroutine

	mu  sync.Mutex // guards due
	due map[string]bool
}

// behind reports whether the alert is to tell of a sync, or to forget what it
// told.
func (w *worker) behind(s *syncState, sync string, status engine.Status) bool {
	told := s.Told[w.alert.Name].Status
	event, now := w.decide(sync, told, status)
	return event != "" || now != told
}

// decide says what to tell of a sync that was told of as told ("" as well, or
// not at all) and stands as status now, and as what it is told of then.
func (w *worker) decide(sync string, told, status engine.Status) (event string, now engine.Status) {
	if !w.alert.watches(sync) {
		return "", told
	}
	problem := status != engine.Succeeded
	switch {
	case problem && w.alert.tells(string(status)):
		if told == status {
			return "", told
		}
		return string(status), status
	case problem && status != engine.CompletedWithErrors:
		return "", told // not its affair; what it told of may well go on
	case told == "":
		return "", ""
	case w.alert.tells(Recovered):
		return Recovered, ""
	}
	return "", ""
}

func (w *worker) add(sync string) {
	w.mu.Lock()
	w.due[sync] = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) waits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.due) > 0
}

func (w *worker) dueNow() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]string, 0, len(w.due))
	for s := range w.due {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// run tells until the notifier closes.
func (w *worker) run() {
	w.delivery.alert = &w.alert
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	pausing, pause := false, w.n.o.Retry
	for {
		select {
		case <-w.n.closing:
			if !pausing { // else the address does not answer, and the next process tries
				w.tellAll()
			}
			return
		case <-w.wake:
			if pausing {
				continue
			}
		case <-retry.C:
		}
		if pausing = !w.tellAll(); pausing {
			retry.Reset(pause)
			pause = min(2*pause, maxRetry)
			continue
		}
		if pause = w.n.o.Retry; w.waits() { // for what another tells
			retry.Reset(pause)
		}
	}
}

// tellAll tells what is due; ok is false where something could not be
// delivered.
func (w *worker) tellAll() (ok bool) {
	ok = true
	for _, sync := range w.dueNow() {
		if w.n.ctx.Err() != nil {
			return false
		}
		if err := w.tell(sync); err != nil {
			if errors.Is(err, errElsewhere) {
				continue
			}
			ok = false
			w.n.o.Logger.Warn("an alert could not be delivered; it is tried again", "alert", w.alert.Name, "sync", sync, "error", err)
		}
	}
	return ok
}

// tell brings an address up to date on one sync.
func (w *worker) tell(sync string) error {
	// What is added from here on is looked at again.
	w.mu.Lock()
	delete(w.due, sync)
	w.mu.Unlock()
	var latest facts
	var was told
	var event string
	var now engine.Status
	elsewhere := false
	name := w.alert.Name
	begun := time.Now().UTC()
	_, err := w.n.state.update(func(states map[string]*syncState) bool {
		s := states[sync]
		if s == nil {
			return false
		}
		latest, was = s.Latest, s.Told[name]
		event, now = w.decide(sync, was.Status, latest.Status)
		switch {
		case event == "" && now == was.Status:
			return false
		case event == "":
			s.tell(name, told{Status: now})
		case was.Sending != nil && begun.Sub(*was.Sending).Abs() < 2*w.n.o.Timeout:
			elsewhere = true
			return false
		default:
			sending := was
			sending.Sending = &begun
			s.tell(name, sending)
		}
		return true
	})
	switch {
	case err != nil:
		w.again(sync)
		return err
	case elsewhere:
		// By the notifier of another config; whether it can is seen later.
		w.again(sync)
		return errElsewhere
	case event == "":
		return nil
	}
	failed := w.delivery.send(w.n.ctx, compose(event, sync, latest, was, w.n.host), w.n.o.Timeout)
	if failed != nil {
		w.again(sync)
	} else {
		w.n.o.Logger.Info("alert told", "alert", name, "sync", sync, "event", event, "run", latest.Run)
		was = told{Status: now, Run: latest.Run, At: time.Now().UTC()}
	}
	_, err = w.n.state.update(func(states map[string]*syncState) bool {
		s := states[sync]
		if s == nil {
			return false
		}
		was.Sending = nil
		s.tell(name, was)
		return true
	})
	if err != nil {
		w.n.o.Logger.Warn("what alerts have told could not be written; they may be told twice", "error", err)
	}
	return failed
}

// again has a sync looked at once more.
func (w *worker) again(sync string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due[sync] = true
}

var errElsewhere = errors.New("it is being told already")

// tell notes what an alert has said.
func (s *syncState) tell(alert string, t told) {
	if t.Status == "" && t.Sending == nil {
		delete(s.Told, alert)
		return
	}
	if s.Told == nil {
		s.Told = map[string]told{}
	}
	s.Told[alert] = t
}
