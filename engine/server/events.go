package server

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"

	"coho/engine"
	"coho/engine/daemon"
)

// enter takes a place among the event streams.
func (s *Server) enter() (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= mostStreams {
		return nil, problem(http.StatusServiceUnavailable, CodeTooMany, "as many event streams are open as there may be; close some")
	}
	s.streams++
	s.o.Metrics.streams.Inc()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.streams--
		s.o.Metrics.streams.Dec()
	}, nil
}

// runEvents streams the progress of the run of the path.
func (s *Server) runEvents(w http.ResponseWriter, r *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	id := r.PathValue("run")
	if !s.known(id) {
		run, err := s.found(r)
		if err != nil {
			return err
		}
		id = run.ID
	}
	return s.follow(w, r, []string{id})
}

// events streams the progress of the runs that are named, or of all, those that
// begin later too.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	ids := r.URL.Query()["run"]
	if len(ids) > maxFollowed {
		return problem(http.StatusBadRequest, CodeBadRequest, "too many runs are named")
	}
	for _, id := range ids {
		if !s.known(id) {
			return problem(http.StatusNotFound, CodeUnknownName, "there is no run "+id)
		}
	}
	return s.follow(w, r, ids)
}

// known reports whether there is a run with the id, or was.
func (s *Server) known(id string) bool {
	if _, ok := s.o.Daemon.Find(id); ok {
		return true
	}
	run, err := s.o.Daemon.Engine().History().Get(id)
	return err == nil && run.ID == id
}

// maxFollowed bounds the runs that one stream may name.
const maxFollowed = 1000

// follow streams events of runs until all of them have ended, or, where none are
// named, of all runs until the client goes or the server stops.
//
// Every event tells the whole of how a run stands, and a stream begins with that
// of each run that goes on. So a client that reconnects needs nothing of what it
// has missed but runs that ended, which the history has; Last-Event-ID is not
// used. Where a client reads slowly, it gets fewer events; where it does not read
// at all, it is dropped.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, ids []string) error {
	release, err := s.enter()
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f := &following{s: s, ctx: ctx, ended: make(chan Ended), runs: map[string]*followed{}, gone: map[string]bool{}}
	defer f.waiting.Wait()
	defer cancel() // before the wait
	if f.out, err = openStream(w); err != nil {
		return err
	}
	for _, id := range ids {
		f.add(id)
	}
	all := len(ids) == 0
	for _, one := range s.o.Daemon.Recent() {
		f.gone[one.RunID] = true
	}
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for all || len(f.runs) > 0 {
		if all {
			f.addAll()
		}
		if err := f.sample(); err != nil {
			return err
		}
		select {
		case e := <-f.ended:
			delete(f.runs, e.Run)
			f.gone[e.Run] = true
			if err := f.out.send(eventEnded, e); err != nil {
				return err
			}
		case <-tick.C:
		case <-ctx.Done():
			return errGone
		case <-s.over(all, len(f.runs)):
			return nil
		}
	}
	return nil
}

// over is closed when a stream of all runs has nothing more to come.
func (s *Server) over(all bool, left int) <-chan struct{} {
	if all && left == 0 {
		return s.stopping.Done()
	}
	return nil
}

// following is one stream of runs.
type following struct {
	s       *Server
	ctx     context.Context // of the stream
	out     *stream
	runs    map[string]*followed
	gone    map[string]bool // ended lately, and told of or before the stream
	ended   chan Ended
	waiting sync.WaitGroup
}

// followed is a run of a stream.
type followed struct {
	sync string
	sent Progress
}

// add follows a run, where it is not followed yet.
func (f *following) add(id string) {
	if f.runs[id] != nil {
		return
	}
	one := &followed{}
	f.runs[id] = one
	if started, ok := f.s.o.Daemon.Find(id); ok {
		one.sync = started.Sync
	}
	f.waiting.Go(func() {
		e := f.s.await(f.ctx, id, one.sync)
		select {
		case f.ended <- e:
		case <-f.ctx.Done():
		}
	})
}

// addAll follows what was accepted since the last look, and what ended since so
// soon that no look has seen it.
func (f *following) addAll() {
	lately := map[string]bool{}
	for _, one := range f.s.o.Daemon.Recent() {
		lately[one.RunID] = true
		if !f.gone[one.RunID] {
			f.add(one.RunID)
		}
	}
	maps.DeleteFunc(f.gone, func(id string, _ bool) bool { return !lately[id] })
	for _, job := range f.s.o.Daemon.Jobs() {
		for _, one := range job.Runs {
			if one.State != daemon.RunEnded {
				f.add(one.RunID)
			}
		}
	}
}

// sample sends how far each run is, where that has changed.
func (f *following) sample() error {
	for id, one := range f.runs {
		started, ok := f.s.active(id)
		if !ok {
			continue
		}
		now := Progress{Run: id, Sync: one.sync, Stage: "queued"}
		if p, ok := f.s.o.Daemon.Progress(id); ok && started.State == daemon.RunRunning {
			now = ProgressOf(id, one.sync, p)
		}
		if now == one.sent {
			continue
		}
		one.sent = now
		if err := f.out.send(eventProgress, now); err != nil {
			return err
		}
	}
	return f.out.beat(time.Now())
}

// settle waits until a sequence whose last run has ended has ended itself, a moment
// later: who was told of the run's end may start the sequence again.
func (s *Server) settle(ctx context.Context, id string) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for s.ending(id) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

const settleEvery = 5 * time.Millisecond

// ending reports whether the run is of a job all of whose runs have ended.
func (s *Server) ending(id string) bool {
	for _, job := range s.o.Daemon.Jobs() {
		mine, open := false, false
		for _, one := range job.Runs {
			mine = mine || one.RunID == id
			open = open || one.State != daemon.RunEnded
		}
		if mine {
			return !open
		}
	}
	return false
}

// await waits for a run's end. Of one that ended long ago there is the history's
// record.
func (s *Server) await(ctx context.Context, id, sync string) Ended {
	e := Ended{Run: id, Sync: sync}
	ended, err := s.o.Daemon.Wait(ctx, id)
	s.settle(ctx, id)
	if err == nil {
		err = ended.Err
	}
	run := ended.Run
	if run != nil {
		e.Sync, e.Record = run.Sync, run
	}
	switch {
	case err != nil:
		e.Problem = problemOf(err)
	case run == nil || run.Error == "":
	case run.Status == engine.Halted:
		e.Problem = problem(http.StatusConflict, CodeHalted, run.Error)
	case run.Status == engine.Canceled:
		e.Problem = problem(http.StatusConflict, CodeCanceled, run.Error)
	default:
		e.Problem = problem(http.StatusInternalServerError, CodeRunFailed, run.Error)
	}
	return e
}
