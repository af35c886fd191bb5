package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"coho/engine"
	"coho/engine/daemon"
	"coho/models"
)

// named returns the sync of the request's path, or a problem with status 404.
func (s *Server) named(r *http.Request) (*models.Sync, error) {
	e := s.o.Daemon.Engine()
	if e == nil {
		return nil, s.working()
	}
	sync, err := e.Sync(r.PathValue("sync"))
	if err != nil {
		return nil, problem(http.StatusNotFound, CodeUnknownName, err.Error())
	}
	return sync, nil
}

// time or nil where it is zero.
func some(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// states returns how the syncs stand, of those that the config in use has.
func (s *Server) states() ([]SyncState, error) {
	stand, err := s.o.Daemon.Syncs()
	if err != nil {
		return nil, err
	}
	out := []SyncState{}
	e := s.o.Daemon.Engine()
	if e == nil {
		return out, nil
	}
	for _, y := range stand {
		sync, err := e.Sync(y.Name)
		if err != nil {
			continue // gone with a reload, just now
		}
		out = append(out, SyncState{
			Sync: y.Name, Model: sync.Model.Name, Description: sync.Model.Description, Destination: sync.Destination, Object: sync.Object, Field: sync.Picklist, Mode: string(sync.Mode),
			Schedule: y.Schedule, Timezone: y.Timezone, NextRun: some(y.NextRun), Paused: y.Paused,
			Running: y.Running, Queued: y.Queued, LastRun: y.LastRun,
		})
	}
	return out, nil
}

func (s *Server) syncs(w http.ResponseWriter, _ *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	syncs, err := s.states()
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, map[string]any{"syncs": syncs})
}

// began returns a problem where the daemon has not begun yet.
func (s *Server) began() error {
	if s.o.Daemon.Engine() == nil {
		return s.working()
	}
	return nil
}

func (s *Server) sync(w http.ResponseWriter, r *http.Request) error {
	sync, err := s.named(r)
	if err != nil {
		return err
	}
	syncs, err := s.states()
	if err != nil {
		return err
	}
	for _, y := range syncs {
		if y.Sync == sync.Name {
			return reply(w, http.StatusOK, y)
		}
	}
	return problem(http.StatusNotFound, CodeUnknownName, "the sync "+sync.Name+" is no longer in the config")
}

func (s *Server) sequenceStates() ([]SequenceState, error) {
	out := []SequenceState{}
	e := s.o.Daemon.Engine()
	if e == nil {
		return out, nil
	}
	for _, q := range s.o.Daemon.Sequences() {
		seq, err := e.Sequence(q.Name)
		if err != nil {
			continue
		}
		onError := seq.OnError
		if onError == "" {
			onError = "stop"
		}
		last, err := e.History().ListSequences(q.Name, 1)
		if err != nil {
			return nil, err
		}
		one := SequenceState{
			Sequence: q.Name, Steps: q.Steps, OnError: onError, Schedule: q.Schedule, Timezone: q.Timezone,
			NextRun: some(q.NextRun), Paused: q.Paused, Running: q.Running != "",
		}
		if len(last) > 0 {
			one.LastRun = last[0]
		}
		out = append(out, one)
	}
	return out, nil
}

func (s *Server) sequences(w http.ResponseWriter, _ *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	sequences, err := s.sequenceStates()
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, map[string]any{"sequences": sequences})
}

func (s *Server) sequence(w http.ResponseWriter, r *http.Request) error {
	if err := s.namedSequence(r); err != nil {
		return err
	}
	sequences, err := s.sequenceStates()
	if err != nil {
		return err
	}
	for _, q := range sequences {
		if q.Sequence == r.PathValue("sequence") {
			return reply(w, http.StatusOK, q)
		}
	}
	return problem(http.StatusNotFound, CodeUnknownName, "the sequence is no longer in the config")
}

// sequenceRuns lists the runs of a sequence, newest first, a page at a time.
func (s *Server) sequenceRuns(w http.ResponseWriter, r *http.Request) error {
	if err := s.namedSequence(r); err != nil {
		return err
	}
	return s.sequencePage(w, r, r.PathValue("sequence"))
}

// allSequenceRuns lists the runs of sequences, of one or of all, also of those
// that the config has no more.
func (s *Server) allSequenceRuns(w http.ResponseWriter, r *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	return s.sequencePage(w, r, r.URL.Query().Get("sequence"))
}

func (s *Server) sequencePage(w http.ResponseWriter, r *http.Request, name string) error {
	q := r.URL.Query()
	limit, err := number(q, "limit", 1, mostRuns, someRuns)
	if err != nil {
		return err
	}
	runs, more, err := s.o.Daemon.Engine().History().PageSequences(name, q.Get("before"), limit)
	if err != nil {
		return err
	}
	answer := struct {
		Runs []*engine.SequenceRun `json:"runs"`
		Next string                `json:"next,omitempty"`
	}{Runs: runs}
	if answer.Runs == nil {
		answer.Runs = []*engine.SequenceRun{}
	}
	if more {
		answer.Next = runs[len(runs)-1].ID
	}
	return reply(w, http.StatusOK, answer)
}

// sequenceRun shows a run of a sequence.
func (s *Server) sequenceRun(w http.ResponseWriter, r *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	run, err := s.o.Daemon.Engine().History().Sequence(r.PathValue("run"))
	var usage *engine.UsageError
	if errors.As(err, &usage) || errors.Is(err, fs.ErrNotExist) {
		return problem(http.StatusNotFound, CodeUnknownName, err.Error())
	}
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, run)
}

// namedSequence returns a problem where the path's sequence is not in the config.
func (s *Server) namedSequence(r *http.Request) error {
	e := s.o.Daemon.Engine()
	if e == nil {
		return s.working()
	}
	if _, err := e.Sequence(r.PathValue("sequence")); err != nil {
		return problem(http.StatusNotFound, CodeUnknownName, err.Error())
	}
	return nil
}

// pause pauses or resumes a schedule.
func (s *Server) pause(kind daemon.Kind, pause bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.working(); err != nil {
			return err
		}
		name := r.PathValue(string(kind))
		var err error
		if kind == daemon.Sync {
			_, err = s.named(r)
		} else {
			err = s.namedSequence(r)
		}
		switch {
		case err != nil:
		case pause:
			err = s.o.Daemon.Pause(kind, name)
		default:
			err = s.o.Daemon.Resume(kind, name)
		}
		if err != nil {
			return err
		}
		return done(w)
	}
}

// plan plans a sync: at once, or, where the caller takes events, with its progress.
func (s *Server) plan(w http.ResponseWriter, r *http.Request) error {
	if err := s.working(); err != nil {
		return err
	}
	sync, err := s.named(r)
	if err != nil {
		return err
	}
	var ask PlanRequest
	if err := body(w, r, &ask); err != nil {
		return err
	}
	ctx, cancel := s.until(r)
	defer cancel()
	o := engine.PlanOptions{Full: ask.Full, Progress: &engine.Progress{}}
	if !takesEvents(r) {
		run, err := s.o.Daemon.Plan(ctx, sync.Name, o)
		if err != nil {
			return err
		}
		return reply(w, http.StatusOK, run)
	}
	release, err := s.enter()
	if err != nil {
		return err
	}
	defer release()
	type result struct {
		run *engine.Run
		err error
	}
	planned := make(chan result, 1)
	// The plan holds the sync, so the answer waits for it even where the client
	// is gone: cancel ends it.
	go func() {
		run, err := s.o.Daemon.Plan(ctx, sync.Name, o)
		planned <- result{run, err}
	}()
	var out *stream
	var sent Progress
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case res := <-planned:
			if out == nil && res.err != nil {
				return res.err // refused at once
			}
			if out == nil {
				if out, err = openStream(w); err != nil {
					return err
				}
			}
			e := Ended{Sync: sync.Name, Record: res.run}
			if res.run != nil {
				e.Run = res.run.ID
			}
			if res.err != nil {
				e.Record, e.Problem = nil, problemOf(res.err)
			}
			return out.send(eventEnded, e)
		case <-tick.C:
		}
		if out == nil {
			if out, err = openStream(w); err != nil {
				cancel()
				<-planned
				return err
			}
		}
		now := ProgressOf("", sync.Name, o.Progress)
		if now == sent {
			err = out.beat(time.Now())
		} else {
			sent = now
			err = out.send(eventProgress, now)
		}
		if err != nil {
			cancel()
			<-planned
			return err
		}
	}
}

// preview shows one row of a sync.
func (s *Server) preview(w http.ResponseWriter, r *http.Request) error {
	if err := s.working(); err != nil {
		return err
	}
	sync, err := s.named(r)
	if err != nil {
		return err
	}
	var ask PreviewRequest
	if err := body(w, r, &ask); err != nil {
		return err
	}
	ctx, cancel := s.until(r)
	defer cancel()
	p, err := s.o.Daemon.Preview(ctx, sync.Name, ask.Key)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, p)
}

func takesEvents(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// held calls f while nothing else uses the request's sync.
func (s *Server) held(r *http.Request, f func(e *engine.Engine, sync string) error) error {
	if err := s.working(); err != nil {
		return err
	}
	sync, err := s.named(r)
	if err != nil {
		return err
	}
	return s.o.Daemon.Hold(sync.Name, func(e *engine.Engine) error { return f(e, sync.Name) })
}

func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) error {
	var info engine.SnapshotInfo
	err := s.held(r, func(e *engine.Engine, sync string) (err error) {
		info, err = e.SnapshotInfo(sync)
		return err
	})
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, info)
}

func (s *Server) resetSnapshot(w http.ResponseWriter, r *http.Request) error {
	if err := s.held(r, func(e *engine.Engine, sync string) error { return e.ResetSnapshot(sync) }); err != nil {
		return err
	}
	return done(w)
}

// exportSnapshot streams the snapshot. The sync is in use meanwhile, so a client
// that does not read is dropped.
func (s *Server) exportSnapshot(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := s.until(r)
	defer cancel()
	return s.held(r, func(e *engine.Engine, sync string) error {
		out := &lineWriter{ctx: ctx, w: w}
		if err := e.ExportSnapshot(sync, out); err != nil {
			return err
		}
		return out.end()
	})
}

// lineWriter streams lines of JSON, dropping a client that does not take them.
// The answer begins with the first write, so that an error before it can be said.
type lineWriter struct {
	ctx   context.Context // of the request
	w     http.ResponseWriter
	begun bool
}

// Write implements io.Writer.
func (l *lineWriter) Write(p []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, errGone
	}
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", ndjson)
	}
	refresh(l.w)
	n, err := l.w.Write(p)
	if err != nil {
		return n, errGone
	}
	return n, nil
}

// end begins the answer where there was nothing to write.
func (l *lineWriter) end() error {
	if !l.begun {
		_, err := l.Write(nil)
		return err
	}
	return nil
}

// importTimeout is how long a client that sends an import may pause: the sync is
// in use meanwhile.
const importTimeout = time.Minute

// importSnapshot fills the empty state of a sync from a stream.
func (s *Server) importSnapshot(w http.ResponseWriter, r *http.Request) error {
	if kind := r.Header.Get("Content-Type"); kind != ndjson {
		return problem(http.StatusUnsupportedMediaType, CodeMediaType, "the body must be what an export gave, as "+ndjson)
	}
	ctx, cancel := s.until(r)
	defer cancel()
	in := &slowReader{ctx: ctx, r: r.Body, rc: http.NewResponseController(w)}
	err := s.held(r, func(e *engine.Engine, sync string) error { return e.ImportSnapshot(sync, in) })
	if in.err != nil {
		return problem(http.StatusBadRequest, CodeBadRequest, "the import broke off: "+in.err.Error())
	}
	if err != nil {
		p := problemOf(err)
		if p.Code == CodeRunFailed {
			p.Status, p.Title = http.StatusUnprocessableEntity, http.StatusText(http.StatusUnprocessableEntity) // what was sent is no export
		}
		return p
	}
	if err := in.rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errGone
	}
	return done(w)
}

// slowReader reads a body of any length from a client that keeps sending.
type slowReader struct {
	ctx context.Context // of the request
	r   io.Reader
	rc  *http.ResponseController
	err error // what ended the body before its end
}

// Read implements io.Reader.
func (s *slowReader) Read(p []byte) (n int, err error) {
	if s.ctx.Err() != nil {
		s.err = daemon.ErrStopping
		return 0, s.err
	}
	if err = s.rc.SetReadDeadline(time.Now().Add(importTimeout)); err == nil {
		n, err = s.r.Read(p)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
