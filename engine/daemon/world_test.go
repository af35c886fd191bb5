package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"coho/engine"
	"coho/models"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a config and a state directory, and runs that take as long as a test
// says instead of asking a warehouse. Time is the bubble's: it passes when all
// wait for it.
type world struct {
	t    *testing.T
	dir  string
	took func(sync string) time.Duration // how long a run takes, stopped or not

	config      sync.Mutex // guards the rest of the config
	syncs       map[string]*models.Sync
	order       []string
	sequences   map[string]models.Sequence
	maxRuns     int
	timeout     time.Duration
	refuse      error  // Load's
	fingerprint string // "" : the files are not watched
	loads       int

	log logs

	mu      sync.Mutex // guards the rest
	ran     []ran
	running map[string]int
	most    int // at once
	closed  int // generations
	deaf    bool
	onRun   func(sync string, o engine.RunOptions)
}

// ran is one run.
type ran struct {
	sync     string
	id       string
	from, to time.Time
	trigger  string
	status   engine.Status
	o        engine.RunOptions
}

// logs is what a daemon has logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return true
		}
	}
	return false
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, dir: stateDir(t), syncs: map[string]*models.Sync{}, sequences: map[string]models.Sequence{}, running: map[string]int{},
		took: func(string) time.Duration { return 5 * time.Second },
	}
}

// stateDir is a directory in memory where the system has one: an hour in a
// bubble is thousands of writes that are synced to disk.
func stateDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "coho-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// sync adds a sync with a schedule.
func (w *world) sync(name, line string, timing models.Timing) *models.Sync {
	w.config.Lock()
	defer w.config.Unlock()
	s := &models.Sync{Name: name, Schedule: line, Timezone: "UTC", Timing: timing, Destination: "crm", Object: "Account", Mode: models.ModeUpsert}
	w.syncs[name] = s
	w.order = append(w.order, name)
	return s
}

func (w *world) sequence(name, line string, timing models.Timing, steps ...[]string) {
	w.config.Lock()
	defer w.config.Unlock()
	w.sequences[name] = models.Sequence{Name: name, Steps: steps, Schedule: line, Timezone: "UTC", Timing: timing, OnError: "stop"}
}

func (w *world) load() (*Wired, error) {
	w.config.Lock()
	defer w.config.Unlock()
	w.loads++
	if w.refuse != nil {
		return nil, w.refuse
	}
	return &Wired{
		Engine:  engine.Options{StateDir: w.dir, Syncs: maps.Clone(w.syncs), SyncOrder: slices.Clone(w.order), Sequences: maps.Clone(w.sequences)},
		MaxRuns: w.maxRuns, ShutdownTimeout: w.timeout,
		Close: func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.closed++
			return nil
		},
	}, nil
}

// run stands for Engine.Run.
func (w *world) run(ctx context.Context, e *engine.Engine, name string, o engine.RunOptions) (*engine.Run, error) {
	if _, err := e.Sync(name); err != nil {
		return nil, err
	}
	w.mu.Lock()
	from := time.Now()
	if w.running[name]++; w.running[name] > 1 {
		w.t.Errorf("%s: two runs of sync %s at once", from, name)
	}
	now := 0
	for _, n := range w.running {
		now += n
	}
	w.most = max(w.most, now)
	onRun, deaf := w.onRun, w.deaf
	w.mu.Unlock()
	if onRun != nil {
		onRun(name, o)
	}
	r := &engine.Run{ID: o.ID, Sync: name, StartedAt: from, Status: engine.Succeeded, Trigger: o.Trigger}
	var err error
	stop := ctx.Done()
	if deaf {
		stop = nil
	}
	timer := time.NewTimer(w.took(name))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
		r.Status, err = engine.Canceled, context.Canceled
	case <-o.Abort:
		r.Status, err = engine.Canceled, context.Canceled
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[name]--
	o.Progress, o.Abort = nil, nil // the daemon's, which the test must not keep alive
	w.ran = append(w.ran, ran{name, o.ID, from, time.Now(), o.Trigger, r.Status, o})
	return r, err
}

// daemon returns a daemon over the world that nothing has begun yet.
func (w *world) daemon() *Daemon {
	o := Options{Load: w.load, Logger: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	w.config.Lock()
	if w.fingerprint != "" {
		o.Fingerprint = func() string {
			w.config.Lock()
			defer w.config.Unlock()
			return w.fingerprint
		}
	}
	w.config.Unlock()
	d := New(o)
	d.runSync = w.run
	return d
}

// serve runs a daemon while f looks at it, and stops it then.
func (w *world) serve(f func(d *Daemon)) {
	w.t.Helper()
	d := w.daemon()
	stop := w.begin(d)
	f(d)
	stop()
}

// begin runs a daemon until stop is called.
func (w *world) begin(d *Daemon) (stop func()) {
	w.t.Helper()
	if err := d.Open(); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	synctest.Wait()
	return func() {
		w.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the daemon ended with %v", err)
		}
		if err := d.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
	}
}

// times are the runs that ended, in the order in which they began, each as sync
// and clock; the runs before are forgotten.
func (w *world) times() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.ran, func(a, b ran) int {
		if c := a.from.Compare(b.from); c != 0 {
			return c
		}
		return strings.Compare(a.sync, b.sync)
	})
	var out []string
	for _, r := range w.ran {
		one := fmt.Sprintf("%s %s", r.sync, r.from.UTC().Format("15:04:05"))
		if r.status != engine.Succeeded {
			one += " " + string(r.status)
		}
		out = append(out, one)
	}
	w.ran = nil
	return strings.Join(out, ", ")
}

// past sleeps to a clock of the bubble's first day and lets all come to rest.
func past(clock string) {
	at, err := time.Parse("2006-01-02 15:04:05", "2000-01-01 "+clock)
	if err != nil {
		panic(err)
	}
	time.Sleep(time.Until(at))
	synctest.Wait()
}

// bubble runs a test in time of its own, which begins at midnight, 1 January 2000.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}
