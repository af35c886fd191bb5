package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"coho/destinations"
	"coho/engine"
	"coho/engine/server"
	"coho/models"
)

// cancelTimeout is how long the daemon may take to accept that a run is to stop.
const cancelTimeout = 10 * time.Second

// runByDaemon has the daemon run what is asked for, shows how far it is, and calls
// each with every run as it ends. When ctx ends, the runs are stopped gently; when
// abort is closed, what is in flight is given up too. It returns once all ended.
func runByDaemon(ctx context.Context, x *conducted, ask server.StartRequest, l *live, abort <-chan struct{}, each func(engine.Ended)) error {
	d, log := x.daemon, x.log
	var maxRowErrors models.Limit
	if seq, err := x.engine.Sequence(ask.Sequence); err == nil {
		maxRowErrors = seq.MaxRowErrors
	}
	runs, err := d.Start(ctx, ask)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		return nil // all were left out
	}
	ids := make([]string, len(runs))
	for i, r := range runs {
		ids[i] = r.Run
	}
	// What the daemon has begun is followed to its end, stopped or not.
	ctx, whole := context.WithoutCancel(ctx), ctx
	ended := make(chan struct{})
	var stopping sync.WaitGroup
	stopping.Go(func() { stopByDaemon(ctx, d, ids, log, whole.Done(), abort, ended) })
	defer stopping.Wait()
	defer close(ended)

	var errs []error
	begun := map[string]bool{}
	begin := func(run, sync string) {
		if !begun[run] {
			begun[run] = true
			log.Info("run started", "sync", sync, "run", run)
		}
	}
	calledOff := false
	err = d.Watch(ctx, ids, func(p server.Progress) {
		if p.Stage != "queued" {
			begin(p.Run, p.Sync)
		}
		l.follow(p)
	}, func(e server.Ended) {
		end := engine.Ended{Sync: e.Sync, Run: e.Record}
		switch {
		case e.Problem == nil:
			if err := engine.TooManyRowErrors(maxRowErrors, e.Record); err != nil {
				errs = append(errs, fmt.Errorf("sync %s: %w", e.Sync, err))
			}
		case e.Problem.Code == server.CodeNotBegun:
			// Said once, as of steps that are not begun; where a step failed
			// that is said, and why the others were not begun is known.
			if whole.Err() != nil && !calledOff {
				calledOff = true
				end.Err = fmt.Errorf("%s not begun: %w", e.Sync, destinations.ErrStopped)
				errs = append(errs, end.Err)
			}
		default:
			end.Err = fmt.Errorf("sync %s: %w", e.Sync, e.Problem)
			errs = append(errs, end.Err)
		}
		if r := e.Record; r != nil {
			begin(r.ID, r.Sync)
			log.Info("run ended", endedLine(r)...)
		}
		each(end)
	})
	return errors.Join(append(errs, err)...)
}

// endedLine is what the log says of a run that ended: what the engine says of its
// own.
func endedLine(r *engine.Run) []any {
	line := []any{"sync", r.Sync, "run", r.ID, "status", r.Status, "read", r.Rows.Read, "operations", r.Operations.Total(), "rejected", r.Rows.Rejected}
	if r.Outcomes != nil {
		line = append(line, "failed", r.Outcomes.Failed)
	}
	if r.API != nil {
		line = append(line, "api_calls", r.API.Calls)
	}
	if r.FinishedAt != nil {
		line = append(line, "duration", r.FinishedAt.Sub(r.StartedAt).Round(time.Millisecond))
	}
	return line
}

// stopByDaemon stops runs gently when stop is closed and at once when abort is,
// until ended is.
func stopByDaemon(ctx context.Context, d *server.Client, ids []string, log *slog.Logger, stop, abort <-chan struct{}, ended <-chan struct{}) {
	for _, one := range []struct {
		when  <-chan struct{}
		abort bool
	}{{stop, false}, {abort, true}} {
		select {
		case <-one.when:
		case <-ended:
			return
		}
		for _, id := range ids {
			call, cancel := context.WithTimeout(ctx, cancelTimeout)
			_, err := d.Cancel(call, id, one.abort)
			cancel()
			var p *server.Problem
			if err != nil && !(errors.As(err, &p) && (p.Code == server.CodeEnded || p.Code == server.CodeUnknownName || p.Code == server.CodeUsage)) {
				log.Warn("the daemon could not be told to stop a run", "run", id, "error", err)
			}
		}
	}
}
