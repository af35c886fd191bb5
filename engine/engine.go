package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"coho/destinations"
	"coho/models"
	"coho/planner/snapshot"
	"coho/sources"
)

// Options is what an engine works with. The maps and functions are read, never
// changed.
type Options struct {
	// StateDir is the state directory; it is made when it does not exist.
	StateDir string

	Syncs     map[string]*models.Sync
	SyncOrder []string // names in the config's order
	Sequences map[string]models.Sequence

	// OpenSource and OpenDestination connect to what the config names. Each
	// name is opened once, on first use, and closed by Close.
	OpenSource      func(name string) (sources.Source, error)
	OpenDestination func(name string) (destinations.Destination, error)

	Logger *slog.Logger
	Now    func() time.Time

	// Keep says how much of the history is kept.
	Keep Retention

	// RunEnded, if set, is told of each run that ended, when its record is in
	// the history, and of those found that a dead process left unfinished. It
	// is called from several goroutines, must not wait, and must not change the
	// record.
	RunEnded func(*Run)
}

// Engine runs syncs. It is safe for use by several goroutines.
type Engine struct {
	o       Options
	history *History
	shared  *shared

	mu           sync.Mutex // guards the maps below
	sources      map[string]sources.Source
	destinations map[string]destinations.Destination
}

// shared is what an engine shares with its successors: the lock, and which syncs
// are in use.
type shared struct {
	mu      sync.Mutex // guards the rest
	unlock  func() error
	engines map[*Engine]bool // that are not closed
	running map[string]bool
	stores  stores
}

// New returns an engine over a state directory without touching it yet: what
// only reads the history needs no lock.
func New(o Options) (*Engine, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.StateDir == "" {
		return nil, errors.New("no state directory given")
	}
	e := &Engine{
		o:            o,
		history:      OpenHistory(filepath.Join(o.StateDir, "runs"), o.Keep),
		sources:      map[string]sources.Source{},
		destinations: map[string]destinations.Destination{},
		shared:       &shared{engines: map[*Engine]bool{}, running: map[string]bool{}},
	}
	e.shared.engines[e] = true
	return e, nil
}

// Successor returns an engine for a new config over the same state directory.
// It shares this one's lock, which is given up when both are closed, and what
// syncs are in use: runs that go on with the old config and runs with the new
// one do not overlap. Another state directory is a *UsageError.
func (e *Engine) Successor(o Options) (*Engine, error) {
	if o.StateDir != e.o.StateDir {
		return nil, usagef("the state directory cannot change from %s to %s while coho runs; start it anew", e.o.StateDir, o.StateDir)
	}
	n, err := New(o)
	if err != nil {
		return nil, err
	}
	e.shared.mu.Lock()
	defer e.shared.mu.Unlock()
	e.shared.engines[n] = true
	n.shared = e.shared
	return n, nil
}

// History returns the record of runs. Reading it needs no lock.
func (e *Engine) History() *History { return e.history }

// Lock makes the state directory this process's own until Close. purpose is
// shown to whoever else wants it. It returns a *LockedError where another
// process holds it, and a *StateVersionError where a newer coho wrote it. Runs
// that a dead process left unfinished are marked so.
func (e *Engine) Lock(purpose string) error {
	e.shared.mu.Lock()
	defer e.shared.mu.Unlock()
	if e.shared.unlock != nil {
		return nil
	}
	unlock, err := lockState(e.o.StateDir, purpose)
	if err != nil {
		return err
	}
	interrupted, err := e.history.closeInterrupted(e.o.Now())
	if err != nil {
		return errors.Join(err, unlock())
	}
	e.shared.unlock = unlock
	e.shared.engines[e] = true
	if e.o.RunEnded != nil {
		for _, r := range interrupted {
			e.o.RunEnded(r)
		}
	}
	return nil
}

// Close closes sources and destinations, and gives up the lock where no other
// engine shares it. It may be called twice.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for name, s := range e.sources {
		if err := s.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close source %s: %w", name, err))
		}
	}
	for name, d := range e.destinations {
		if err := d.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close destination %s: %w", name, err))
		}
	}
	clear(e.sources)
	clear(e.destinations)
	e.shared.mu.Lock()
	defer e.shared.mu.Unlock()
	delete(e.shared.engines, e)
	if len(e.shared.engines) == 0 && e.shared.unlock != nil {
		errs = append(errs, e.shared.unlock())
		e.shared.unlock = nil
	}
	return errors.Join(errs...)
}

// Sync returns a sync by name, or a *UsageError that names the nearest one.
func (e *Engine) Sync(name string) (*models.Sync, error) {
	if s, ok := e.o.Syncs[name]; ok {
		return s, nil
	}
	return nil, usagef("no sync is named %q%s", name, suggest(name, e.o.SyncOrder))
}

// Sequence returns a sequence by name, or a *UsageError that names the nearest.
func (e *Engine) Sequence(name string) (models.Sequence, error) {
	if s, ok := e.o.Sequences[name]; ok {
		return s, nil
	}
	var names []string
	for n := range e.o.Sequences {
		names = append(names, n)
	}
	sort.Strings(names)
	return models.Sequence{}, usagef("no sequence is named %q%s", name, suggest(name, names))
}

func (e *Engine) source(name string) (sources.Source, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, ok := e.sources[name]; ok {
		return s, nil
	}
	s, err := e.o.OpenSource(name)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", name, err)
	}
	e.sources[name] = s
	return s, nil
}

func (e *Engine) destination(name string) (destinations.Destination, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d, ok := e.destinations[name]; ok {
		return d, nil
	}
	d, err := e.o.OpenDestination(name)
	if err != nil {
		return nil, fmt.Errorf("destination %s: %w", name, err)
	}
	e.destinations[name] = d
	return d, nil
}

// claim makes sure that a sync is not run twice at once within this process;
// the lock does the same between processes.
func (e *Engine) claim(name string) (release func(), err error) {
	h := e.shared
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running[name] {
		return nil, &LockedError{Sync: name}
	}
	h.running[name] = true
	return func() {
		h.mu.Lock()
		delete(h.running, name)
		h.mu.Unlock()
	}, nil
}

func (e *Engine) syncDir(name string) string {
	return filepath.Join(e.o.StateDir, "syncs", name)
}

const planPrefix = "plan-"

// planDir is where the plan of a run is made.
func (e *Engine) planDir(sync, run string) string {
	return filepath.Join(e.syncDir(sync), planPrefix+run)
}

// storeDir is a sync's snapshot store in its folder.
const storeDir = "store"

// openStore opens a sync's snapshot store, to be given to shared.stores.drop in
// the end, and clears away the plan directories of runs that never got as far as
// applying their plan.
func (e *Engine) openStore(name string) (*snapshot.Store, error) {
	dir := e.syncDir(name)
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the state of sync %s: %w", name, err)
	}
	store, err := e.shared.stores.use(filepath.Join(dir, storeDir))
	if err != nil {
		return nil, fmt.Errorf("open the snapshot of sync %s: %w", name, err)
	}
	active := ""
	if ref, ok, err := store.ActivePlan(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the active plan of sync %s: %w", name, err), e.shared.stores.drop(store))
	} else if ok {
		active = ref.Dir
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list plans of sync %s: %w", name, err), e.shared.stores.drop(store))
	}
	for _, p := range left {
		if strings.HasPrefix(p.Name(), planPrefix) && p.Name() != active {
			if err := os.RemoveAll(filepath.Join(dir, p.Name())); err != nil {
				return nil, errors.Join(fmt.Errorf("remove an abandoned plan: %w", err), e.shared.stores.drop(store))
			}
		}
	}
	return store, nil
}

// prepared is a sync checked against its warehouse and its org.
type prepared struct {
	sync    *models.Sync
	schema  models.Schema
	mapping *models.Mapping
	target  destinations.Target
	org     string
}

// prepare checks a sync against the warehouse and the org, collecting what is
// wrong on both sides before it gives up.
func (e *Engine) prepare(ctx context.Context, s *models.Sync) (*prepared, error) {
	src, err := e.source(s.Model.Source)
	if err != nil {
		return nil, err
	}
	ctx = serving(ctx, s.Name)
	if err := checkGroups(ctx, src, s); err != nil {
		return nil, err
	}
	schema, err := src.Describe(ctx, s.Model)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", s.Model.Name, err)
	}
	cols := schema.Columns()
	var problems destinations.Problems
	mapping, err := models.CompileMapping(s, cols)
	if err != nil {
		var me models.MappingErrors
		if !errors.As(err, &me) {
			return nil, fmt.Errorf("sync %s: %w", s.Name, err)
		}
		for _, m := range me {
			message := fmt.Sprintf("sync %s: %s", s.Name, m.Message)
			if m.Field != "" {
				message = fmt.Sprintf("sync %s, field %s: %s", s.Name, m.Field, m.Message)
			}
			problems = append(problems, destinations.Problem{Pos: m.Pos, Field: m.Field, Message: message})
		}
	}
	dest, err := e.destination(s.Destination)
	if err != nil {
		return nil, err
	}
	target, err := e.openTarget(ctx, dest, s, cols)
	if err != nil {
		var ps destinations.Problems
		if !errors.As(err, &ps) {
			return nil, fmt.Errorf("destination %s: %w", s.Destination, err)
		}
		problems = append(problems, ps...)
	}
	if len(problems) > 0 {
		return nil, &InvalidSyncError{Sync: s.Name, Problems: problems}
	}
	org, err := dest.Org(ctx)
	if err != nil {
		return nil, fmt.Errorf("destination %s: %w", s.Destination, err)
	}
	return &prepared{sync: s, schema: schema, mapping: mapping, target: target, org: org}, nil
}
