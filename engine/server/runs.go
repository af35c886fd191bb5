package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"coho/engine"
	"coho/engine/daemon"
	"coho/planner"
)

// Pages of lists.
const (
	mostRuns  = 200
	mostLines = 1000
	someRuns  = 20
	someLines = 100
)

// mostBy is how long the name of who asks may be.
const mostBy = 100

// mostWhy is how long the reason may be for which a sync is left out.
const mostWhy = 1000

// number reads a query parameter between least and most, or its default.
func number(q url.Values, name string, least, most, usual int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, problem(http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("%s must be a number from %d to %d, not %q", name, least, most, text))
	}
	return n, nil
}

// runs lists runs, newest first, a page at a time.
func (s *Server) runs(w http.ResponseWriter, r *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	q := r.URL.Query()
	limit, err := number(q, "limit", 1, mostRuns, someRuns)
	if err != nil {
		return err
	}
	runs, more, err := s.o.Daemon.Engine().History().Page(q.Get("sync"), q.Get("before"), limit)
	if err != nil {
		return err
	}
	answer := struct {
		Runs []*engine.Run `json:"runs"`
		Next string        `json:"next,omitempty"`
	}{Runs: runs}
	if answer.Runs == nil {
		answer.Runs = []*engine.Run{}
	}
	if more {
		answer.Next = runs[len(runs)-1].ID
	}
	return reply(w, http.StatusOK, answer)
}

// start starts runs.
func (s *Server) start(w http.ResponseWriter, r *http.Request) error {
	if err := s.working(); err != nil {
		return err
	}
	var ask StartRequest
	if err := body(w, r, &ask); err != nil {
		return err
	}
	chosen := 0
	for _, b := range []bool{len(ask.Syncs) > 0, ask.Sequence != "", ask.All} {
		if b {
			chosen++
		}
	}
	if chosen != 1 {
		return problem(http.StatusBadRequest, CodeBadRequest, "give one of syncs, sequence and all")
	}
	trigger, err := trigger(r, ask.By)
	if err != nil {
		return err
	}
	for sync, why := range ask.LeaveOut {
		if len(why) > mostWhy || strings.ContainsFunc(why, unicode.IsControl) {
			return problem(http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("leave_out: the reason for %q is a text of at most %d bytes, in one line", sync, mostWhy))
		}
	}
	job, err := s.o.Daemon.Start(daemon.Request{Syncs: ask.Syncs, Sequence: ask.Sequence, All: ask.All, Full: ask.Full, Approve: ask.Approve, Key: ask.Key, Trigger: trigger, LeaveOut: ask.LeaveOut})
	if err != nil {
		return err
	}
	return accepted(w, job)
}

// trigger says in a line who asks, for the history.
func trigger(r *http.Request, by string) (string, error) {
	if len(by) > mostBy || strings.ContainsFunc(by, unicode.IsControl) {
		return "", problem(http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("by is a text of at most %d bytes, in one line", mostBy))
	}
	how := "api"
	if r.Context().Value(local{}) != nil {
		how = "cli"
	}
	if by == "" {
		return how, nil
	}
	return how + " " + by, nil
}

// accepted answers with the runs of a job.
func accepted(w http.ResponseWriter, job daemon.Job) error {
	answer := StartedRuns{Runs: []StartedRun{}}
	if job.Sequence != "" {
		answer.SequenceRun = job.ID
	}
	for _, one := range job.Runs {
		answer.Runs = append(answer.Runs, StartedRun{Run: one.RunID, Sync: one.Sync})
	}
	return reply(w, http.StatusAccepted, answer)
}

// approve goes on with the plan of a run that a guard halted: that plan, and no
// other that was made since.
func (s *Server) approve(w http.ResponseWriter, r *http.Request) error {
	if err := s.working(); err != nil {
		return err
	}
	var ask ApproveRequest
	if err := body(w, r, &ask); err != nil {
		return err
	}
	trigger, err := trigger(r, ask.By)
	if err != nil {
		return err
	}
	run, err := s.found(r)
	if err != nil {
		return err
	}
	// By the path's name, which must be a run's: what is approved is what was seen.
	if _, err := s.o.Daemon.Engine().Approval(r.PathValue("run")); err != nil {
		return notWaiting(err)
	}
	job, err := s.o.Daemon.Start(daemon.Request{ApproveRun: run.ID, Trigger: trigger})
	if err != nil {
		return notWaiting(err)
	}
	return accepted(w, job)
}

// notWaiting says of a run's plan that it is not there, where the engine refuses
// what was asked for.
func notWaiting(err error) error {
	var usage *engine.UsageError
	if errors.As(err, &usage) {
		return problem(http.StatusConflict, CodeNoPlan, err.Error())
	}
	return err
}

// keptPlan lists the operations of a plan that waits: a page of them, or, where
// the caller takes ndjson, all.
func (s *Server) keptPlan(w http.ResponseWriter, r *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	q := r.URL.Query()
	o := engine.KeptOptions{Kinds: q["operation"]}
	for _, k := range o.Kinds {
		if !slices.Contains(operations, k) {
			return problem(http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("there is no operation %q; there is %s", k, strings.Join(operations, ", ")))
		}
	}
	name := r.PathValue("run")
	if strings.Contains(r.Header.Get("Accept"), ndjson) {
		return allLines(w, r, nil, func(yield func(*engine.KeptOperation) bool) (bool, error) {
			_, err := s.o.Daemon.KeptPlan(name, o, yield)
			return true, notWaiting(err)
		})
	}
	limit, err := number(q, "limit", 1, mostLines, someLines)
	if err != nil {
		return err
	}
	offset, err := number(q, "offset", 0, 1<<31-1, 0)
	if err != nil {
		return err
	}
	o.Offset = int64(offset)
	answer := KeptPlan{Listed: []*engine.KeptOperation{}}
	answer.KeptPlan, err = s.o.Daemon.KeptPlan(name, o, func(op *engine.KeptOperation) bool {
		if r.Context().Err() != nil {
			return false
		}
		if len(answer.Listed) == limit {
			answer.Next = offset + limit
			return false
		}
		answer.Listed = append(answer.Listed, op)
		return true
	})
	if err != nil {
		return notWaiting(err)
	}
	return reply(w, http.StatusOK, answer)
}

// operations are the names of what a plan consists of.
var operations = func() (names []string) {
	for k := range planner.KindCount {
		names = append(names, planner.Kind(k).String())
	}
	return names
}()

// found returns the run of the request's path: by id, or the last of the sync of
// that name.
func (s *Server) found(r *http.Request) (*engine.Run, error) {
	if err := s.began(); err != nil {
		return nil, err
	}
	run, err := s.o.Daemon.Engine().History().Get(r.PathValue("run"))
	var usage *engine.UsageError
	if errors.As(err, &usage) || errors.Is(err, fs.ErrNotExist) {
		return nil, problem(http.StatusNotFound, CodeUnknownName, err.Error())
	}
	return run, err
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) error {
	run, err := s.found(r)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, run)
}

// active returns a run that was accepted and has not ended.
func (s *Server) active(id string) (daemon.Started, bool) {
	one, ok := s.o.Daemon.Find(id)
	return one, ok && one.State != daemon.RunEnded
}

// goesOn reports whether the id is of a run, or of a job, that goes on.
func (s *Server) goesOn(id string) bool {
	for _, job := range s.o.Daemon.Jobs() {
		if job.ID == id {
			return true
		}
	}
	_, ok := s.active(id)
	return ok
}

// cancel stops a run: one that waits is called off.
func (s *Server) cancel(w http.ResponseWriter, r *http.Request) error {
	if err := s.began(); err != nil {
		return err
	}
	var ask CancelRequest
	if err := body(w, r, &ask); err != nil {
		return err
	}
	id := r.PathValue("run")
	if !s.goesOn(id) {
		run, err := s.found(r)
		if err != nil {
			return err
		}
		if id = run.ID; !s.goesOn(id) {
			return problem(http.StatusConflict, CodeEnded, fmt.Sprintf("run %s of sync %s has ended: %s", run.ID, run.Sync, run.Status))
		}
	}
	if err := s.o.Daemon.Cancel(id, ask.Abort); err != nil {
		return err
	}
	return reply(w, http.StatusAccepted, map[string]string{"run": id})
}

// errors lists a run's failed and rejected rows: a page of them, or, where the
// caller takes ndjson, all.
func (s *Server) errors(w http.ResponseWriter, r *http.Request) error {
	run, err := s.found(r)
	if err != nil {
		return err
	}
	return lines(w, r, "errors", nil, func(yield func(*engine.RowError) bool) (bool, error) {
		return true, s.o.Daemon.Engine().History().Errors(run.ID, yield)
	})
}

// calls lists a run's API calls, bodies only where they are asked for.
func (s *Server) calls(w http.ResponseWriter, r *http.Request) error {
	run, err := s.found(r)
	if err != nil {
		return err
	}
	bodies := r.URL.Query().Get("bodies") == "true"
	return lines(w, r, "calls", func(call *engine.APICall) {
		if !bodies {
			call.Request, call.Answer = "", ""
		}
	}, func(yield func(*engine.APICall) bool) (bool, error) {
		return s.o.Daemon.Engine().History().Calls(run.ID, yield)
	})
}

// lines answers with what each gives: as ndjson, or a page of it as JSON.
func lines[T any](w http.ResponseWriter, r *http.Request, name string, change func(*T), each func(yield func(*T) bool) (kept bool, err error)) error {
	if strings.Contains(r.Header.Get("Accept"), ndjson) {
		return allLines(w, r, change, each)
	}
	q := r.URL.Query()
	limit, err := number(q, "limit", 1, mostLines, someLines)
	if err != nil {
		return err
	}
	offset, err := number(q, "offset", 0, 1<<31-1, 0)
	if err != nil {
		return err
	}
	page, at, more := []*T{}, 0, false
	kept, err := each(func(v *T) bool {
		switch at++; {
		case r.Context().Err() != nil:
			return false
		case at <= offset:
			return true
		case len(page) == limit:
			more = true
			return false
		}
		if change != nil {
			change(v)
		}
		page = append(page, v)
		return true
	})
	if err != nil {
		return err
	}
	answer := map[string]any{name: page, "kept": kept}
	if more {
		answer["next_offset"] = offset + limit
	}
	return reply(w, http.StatusOK, answer)
}

func allLines[T any](w http.ResponseWriter, r *http.Request, change func(*T), each func(yield func(*T) bool) (kept bool, err error)) error {
	out := &lineWriter{ctx: r.Context(), w: w}
	buf := bufio.NewWriterSize(out, 32<<10)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	var failed error
	kept, err := each(func(v *T) bool {
		if change != nil {
			change(v)
		}
		failed = enc.Encode(v)
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	if !kept {
		w.Header().Set(headerKept, "false") // nothing has been written
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return out.end()
}
