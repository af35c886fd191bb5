package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"coho/destinations"
	"coho/models"
)

// Ended is one sync's run within a sequence, as it ended. Run is nil where it
// never began; Err is what Engine.Run returned.
type Ended struct {
	Sync string
	Run  *Run
	Err  error
}

// RunSequence runs a sequence's steps in order, the syncs of a step side by
// side, and calls each with every run as it ends, one at a time. With on_error
// "stop", a step in which a sync did not complete (it failed, halted or was
// canceled) is the last; rows that failed for their own fault stop nothing.
// Options are the same for every sync; newProgress, if set, gives each its own.
func (e *Engine) RunSequence(ctx context.Context, name string, o RunOptions, newProgress func(sync string) *Progress, each func(Ended)) error {
	seq, err := e.Sequence(name)
	if err != nil {
		return err
	}
	return e.runSteps(ctx, seq.Steps, seq.OnError != "continue", o, newProgress, each)
}

// RunSyncs runs syncs one after another in the order given.
func (e *Engine) RunSyncs(ctx context.Context, names []string, o RunOptions, newProgress func(sync string) *Progress, each func(Ended)) error {
	steps := make([][]string, len(names))
	for i, n := range names {
		if _, err := e.Sync(n); err != nil {
			return err
		}
		steps[i] = []string{n}
	}
	return e.runSteps(ctx, steps, false, o, newProgress, each)
}

func (e *Engine) runSteps(ctx context.Context, steps [][]string, stop bool, o RunOptions, newProgress func(string) *Progress, each func(Ended)) error {
	if err := e.Lock("coho run"); err != nil {
		return err
	}
	do := e.Run
	if o.Do != nil {
		do, o.Do = o.Do, nil
	}
	o.ID = ""         // each run has its own
	var mu sync.Mutex // serializes each, guards errs
	var errs []error
	for _, step := range steps {
		if ctx.Err() != nil {
			// What is not begun is not done, though all that was begun is.
			errs = append(errs, fmt.Errorf("%s not begun: %w", strings.Join(step, ", "), destinations.ErrStopped))
			break
		}
		failed := false
		var wg sync.WaitGroup
		for _, name := range step {
			wg.Add(1)
			go func() {
				defer wg.Done()
				opts := o
				if newProgress != nil {
					opts.Progress = newProgress(name)
				}
				run, err := do(ctx, name, opts)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = true
					errs = append(errs, fmt.Errorf("sync %s: %w", name, err))
				}
				each(Ended{Sync: name, Run: run, Err: err})
			}()
		}
		wg.Wait()
		if failed && stop {
			break
		}
	}
	return errors.Join(errs...)
}

// AllSyncs returns every sync, those that others look up before those others,
// and else in the config's order. Syncs that look up each other keep the
// config's order.
func (e *Engine) AllSyncs() []string {
	var out []string
	state := map[string]int{} // 1: being placed, 2: placed
	var place func(name string)
	place = func(name string) {
		if state[name] != 0 {
			return
		}
		state[name] = 1
		s := e.o.Syncs[name]
		for _, other := range e.o.SyncOrder {
			if other != name && looksUp(s, e.o.Syncs[other]) {
				place(other)
			}
		}
		state[name] = 2
		out = append(out, name)
	}
	for _, name := range e.o.SyncOrder {
		place(name)
	}
	return out
}

func looksUp(child, parent *models.Sync) bool {
	if child.Destination != parent.Destination || child.Object == parent.Object {
		return false
	}
	for _, f := range child.Fields {
		if f.Lookup != nil && f.Lookup.Object == parent.Object {
			return true
		}
	}
	return false
}
