// Package daemon is what `coho serve` does by itself: it holds the state
// directory and its engine for as long as it lives, runs syncs and sequences by
// their schedules and on request, never one sync twice at once and never more
// at once than it may, and takes a new config without stopping.
//
// What it has accepted it keeps in the state directory until it has ended, so
// that after a stop, a crash or a kill the next start goes on with it: a sync's
// run with the rest of its plan, a sequence with the steps that are left.
//
// It must never decide anything about data, which is the engine's, nor speak a
// protocol, which is the server's.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"coho/engine"
	"coho/engine/schedule"
)

const (
	defaultMaxRuns         = 4
	defaultShutdownTimeout = 30 * time.Second
	defaultWatchEvery      = 2 * time.Second
)

// Daemon runs syncs by schedule and on request. Its methods may be called from
// several goroutines, once Run has taken the state directory (see Ready).
type Daemon struct {
	o   Options
	log *slog.Logger

	// runSync is Engine.Run, but for tests of the daemon alone.
	runSync func(ctx context.Context, e *engine.Engine, sync string, o engine.RunOptions) (*engine.Run, error)

	wake     chan struct{} // the timetable has changed
	reloadMu sync.Mutex    // one reload at a time

	jobsDone sync.WaitGroup // the goroutines of jobs
	files    files

	mu       sync.Mutex // guards the rest
	gen      *generation
	taken    time.Time  // when gen came into force
	users    int        // of all generations
	unused   *sync.Cond // users is 0
	closed   bool
	looked   string // the fingerprint of the files when Open read them
	refused  error  // why a newer config was not, nil where none was
	notReady error  // why the daemon does not work, nil while it does
	stopping bool
	jobsCtx  context.Context // ends when the daemon stops; bounds the jobs' life
	table    *schedule.Timetable
	paused   map[entry]bool
	last     map[entry]lastTime
	jobs     []*job // accepted and not ended, oldest first
	queue    []*part
	running  int
	busy     map[string]*part // by sync: the run that goes on
	held     map[string]bool  // by sync: used for something else than a run
	recent   map[string]*part // runs that ended lately, by id
	order    []string         // recent's ids, oldest first
}

// entry names a sync or a sequence.
type entry struct {
	kind Kind
	name string
}

// New returns a daemon that has not touched anything yet.
func New(o Options) *Daemon {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.WatchEvery == 0 {
		o.WatchEvery = defaultWatchEvery
	}
	d := &Daemon{
		o: o, log: o.Logger,
		runSync: func(ctx context.Context, e *engine.Engine, sync string, o engine.RunOptions) (*engine.Run, error) {
			return e.Run(ctx, sync, o)
		},
		wake:     make(chan struct{}, 1),
		notReady: errors.New("coho is starting"),
		paused:   map[entry]bool{}, last: map[entry]lastTime{}, table: schedule.NewTimetable(nil, time.Time{}),
		busy: map[string]*part{}, held: map[string]bool{}, recent: map[string]*part{},
	}
	d.unused = sync.NewCond(&d.mu)
	return d
}

// generation is an engine made from one config, and who uses it.
type generation struct {
	*Wired
	engine  *engine.Engine
	users   int  // guarded by Daemon.mu
	retired bool // guarded by Daemon.mu: closed when nobody uses it
}

func (g *generation) close() error {
	err := g.engine.Close()
	if g.Close != nil {
		err = errors.Join(err, g.Close())
	}
	return err
}

func (g *generation) maxRuns() int {
	if g.MaxRuns > 0 {
		return g.MaxRuns
	}
	return defaultMaxRuns
}

func (g *generation) shutdownTimeout() time.Duration {
	if g.ShutdownTimeout > 0 {
		return g.ShutdownTimeout
	}
	return defaultShutdownTimeout
}

// Open loads the config and takes the state directory. It returns an
// *engine.LockedError where another process has it. Run may follow; Close must.
func (d *Daemon) Open() error {
	// Before the files are read: what changes meanwhile is seen later.
	fingerprint := d.fingerprint()
	w, err := d.o.Load()
	if err != nil {
		return err
	}
	g, err := wire(w, nil)
	if err != nil {
		return err
	}
	if err := g.engine.Lock("coho serve"); err != nil {
		return errors.Join(err, g.close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen, d.taken, d.looked = g, time.Now(), fingerprint
	return nil
}

// Close closes what is open and gives the state directory up, once nobody uses
// With or Hold any more. It follows Open, and Run where that was called.
func (d *Daemon) Close() error {
	d.mu.Lock()
	d.closed = true
	for d.users > 0 { // plans, and whoever looks at a snapshot
		d.unused.Wait()
	}
	g := d.gen
	d.mu.Unlock()
	return g.close()
}

// Run goes on with what an earlier process left, and runs what is due until ctx
// ends. Then it takes no more work, lets what is in flight finish, and returns;
// past the shutdown timeout, or on Options.Abort, requests in flight are given
// up and looked up at the next start.
func (d *Daemon) Run(ctx context.Context) error {
	jobsCtx, stopJobs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJobs()
	d.mu.Lock()
	d.jobsCtx = jobsCtx
	g, looked := d.gen, d.looked
	d.mu.Unlock()
	if err := d.restore(); err != nil {
		stopJobs()
		d.jobsDone.Wait()
		return err
	}
	d.mu.Lock()
	d.notReady = nil
	d.mu.Unlock()
	d.log.InfoContext(ctx, "coho serves", "state", g.Engine.StateDir, "syncs", len(g.Engine.Syncs), "max_runs", g.maxRuns())

	var background sync.WaitGroup
	defer background.Wait()
	if d.o.Fingerprint != nil {
		background.Go(func() { d.watch(ctx, looked) })
	}
	d.keepTime(ctx)
	return d.stop(stopJobs)
}

// wire makes an engine of a config; before is the one it succeeds.
func wire(w *Wired, before *generation) (*generation, error) {
	var e *engine.Engine
	var err error
	if before == nil {
		e, err = engine.New(w.Engine)
	} else {
		e, err = before.engine.Successor(w.Engine)
	}
	if err != nil {
		if w.Close != nil {
			err = errors.Join(err, w.Close())
		}
		return nil, err
	}
	return &generation{Wired: w, engine: e}, nil
}

// stop ends all jobs: gently at first, and past the time that the config gives
// at once.
func (d *Daemon) stop(stopJobs context.CancelFunc) error {
	d.mu.Lock()
	d.stopping, d.notReady = true, ErrStopping
	timeout := d.gen.shutdownTimeout()
	active := d.running
	d.mu.Unlock()
	d.log.Info("coho is stopping: what is in flight is finished", "runs", active, "timeout", timeout)
	stopJobs()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.jobsDone.Wait()
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		d.log.Warn("the shutdown timeout is over: requests in flight are given up, the next start asks what became of them", "timeout", timeout)
		d.abortAll()
	case <-d.o.Abort:
		d.log.Warn("requests in flight are given up, the next start asks what became of them")
		d.abortAll()
	}
	<-done
	return d.persist()
}

func (d *Daemon) abortAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, j := range d.jobs {
		for _, p := range j.parts {
			p.giveUp()
		}
	}
}

// Ready returns nil while the daemon works, and else why it does not: it has
// not begun, or is stopping.
func (d *Daemon) Ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notReady
}

// Engine returns the engine of the config in force, for the history and for
// looking names up. What opens connections or a sync's state goes through With
// and Hold. It is nil before Ready.
func (d *Daemon) Engine() *engine.Engine {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gen == nil {
		return nil
	}
	return d.gen.engine
}

// With calls f with the engine of the config in force, which stays open until f
// returns.
func (d *Daemon) With(f func(*engine.Engine) error) error {
	g, err := d.acquire()
	if err != nil {
		return err
	}
	return errors.Join(f(g.engine), d.release(g))
}

// Hold calls f while no run of a sync goes on or begins: for plans, and for
// looking at a snapshot or forgetting it. Runs that come due meanwhile wait. It
// returns a *BusyError where the sync is in use.
func (d *Daemon) Hold(sync string, f func(*engine.Engine) error) error {
	return d.With(func(e *engine.Engine) error {
		if _, err := e.Sync(sync); err != nil {
			return err
		}
		d.mu.Lock()
		if p := d.busy[sync]; p != nil || d.held[sync] {
			err := &BusyError{Kind: Sync, Name: sync}
			if p != nil {
				err.RunID = p.id
			}
			d.mu.Unlock()
			return err
		}
		d.held[sync] = true
		d.mu.Unlock()
		defer func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.held, sync)
			d.dispatch()
		}()
		return f(e)
	})
}

// Plan works out what a run of a sync would do; see Engine.Plan and Hold.
func (d *Daemon) Plan(ctx context.Context, sync string, o engine.PlanOptions) (run *engine.Run, err error) {
	err = d.Hold(sync, func(e *engine.Engine) error {
		run, err = e.Plan(ctx, sync, o)
		return err
	})
	return run, err
}

// Preview shows one row of a sync; see Engine.Preview, Engine.RowKey for the parts
// of its key, and Hold.
func (d *Daemon) Preview(ctx context.Context, sync string, key []string) (p *engine.Preview, err error) {
	err = d.Hold(sync, func(e *engine.Engine) error {
		texts, err := e.RowKey(sync, key)
		if err != nil {
			return err
		}
		p, err = e.Preview(ctx, sync, texts)
		return err
	})
	return p, err
}

// KeptPlan lists the plan that a run left, or the last one of the sync of that
// name; see Engine.KeptPlan. While the sync is in use, what its records were last
// written is not known.
func (d *Daemon) KeptPlan(runOrSync string, o engine.KeptOptions, yield func(*engine.KeptOperation) bool) (kept engine.KeptPlan, err error) {
	list := func(e *engine.Engine) error {
		kept, err = e.KeptPlan(runOrSync, o, yield)
		return err
	}
	sync := runOrSync
	if run, err := d.Engine().History().Get(runOrSync); err == nil {
		sync = run.Sync
	}
	// A run that comes due waits, instead of finding the sync's state in use.
	err = d.Hold(sync, list)
	var busy *BusyError
	var usage *engine.UsageError
	if errors.As(err, &busy) || errors.As(err, &usage) { // in use, or the config knows the sync no more
		o.NoValues = true
		err = d.With(list)
	}
	return kept, err
}

// acquire returns the generation in force, which stays open until release.
func (d *Daemon) acquire() (*generation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gen == nil || d.closed {
		return nil, d.notReady
	}
	d.gen.users++
	d.users++
	return d.gen, nil
}

func (d *Daemon) release(g *generation) error {
	d.mu.Lock()
	g.users--
	if d.users--; d.users == 0 {
		d.unused.Broadcast()
	}
	last := g.retired && g.users == 0
	d.mu.Unlock()
	if !last {
		return nil
	}
	if err := g.close(); err != nil {
		return fmt.Errorf("close what the old config had open: %w", err)
	}
	return nil
}

// Reload reads the config again and, where it is good, puts it in force: runs
// that go on keep the old one to their end, all that begin later have the new
// one. A config that is refused is a *ReloadError, and changes nothing.
func (d *Daemon) Reload(ctx context.Context) error {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	if err := d.Ready(); err != nil {
		return err
	}
	w, err := d.o.Load()
	if err != nil {
		return d.refuse(ctx, err)
	}
	d.mu.Lock()
	old := d.gen
	d.mu.Unlock()
	g, err := wire(w, old)
	if err != nil {
		return d.refuse(ctx, err)
	}
	d.mu.Lock()
	if d.stopping {
		d.mu.Unlock()
		return errors.Join(ErrStopping, g.close())
	}
	d.gen, old.retired = g, true
	d.taken, d.refused = time.Now(), nil
	unused := old.users == 0
	d.setTable(time.Now())
	d.dispatch() // there may be more places now
	d.mu.Unlock()
	d.rouse()
	d.log.InfoContext(ctx, "the config was reloaded", "syncs", len(w.Engine.Syncs), "max_runs", g.maxRuns())
	if unused {
		if err := old.close(); err != nil {
			d.log.WarnContext(ctx, "what the old config had open could not be closed", "error", err)
		}
	}
	return d.persist()
}

// refuse keeps the config in force, and says why.
func (d *Daemon) refuse(ctx context.Context, err error) error {
	d.log.ErrorContext(ctx, "the new config is refused and the old one kept", "error", err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = err
	return &ReloadError{err}
}

// Config returns the config in force, since when it is, and why a newer one was
// refused, nil where none was. The config is nil before Ready.
func (d *Daemon) Config() (w *Wired, since time.Time, refused error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gen == nil {
		return nil, time.Time{}, nil
	}
	return d.gen.Wired, d.taken, d.refused
}

func (d *Daemon) fingerprint() string {
	if d.o.Fingerprint == nil {
		return ""
	}
	return d.o.Fingerprint()
}

// watch reloads the config when its files have changed and then stayed as they
// are from one look to the next, until ctx ends. A config that was refused is
// looked at again when its files change again.
func (d *Daemon) watch(ctx context.Context, loaded string) {
	tick := time.NewTicker(d.o.WatchEvery)
	defer tick.Stop()
	seen := loaded
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := d.fingerprint()
		if now != loaded && now == seen {
			loaded = now
			if err := d.Reload(ctx); err != nil && errors.Is(err, ErrStopping) {
				return
			}
		}
		seen = now
	}
}
