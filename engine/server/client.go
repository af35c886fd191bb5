package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"coho/destinations"
	"coho/engine"
)

// ErrNoDaemon says that no daemon holds the state directory.
var ErrNoDaemon = errors.New("no daemon runs on this state directory")

// LostError says that the daemon was asked and ended, or hung up, before it
// answered.
type LostError struct {
	PID int
	Err error
}

// Error implements error.
func (e *LostError) Error() string {
	return fmt.Sprintf("the daemon (process %d) went away before it answered (%v); see its log, and `coho status` for what became of its runs", e.PID, e.Err)
}

// Unwrap returns what went wrong with the connection.
func (e *LostError) Unwrap() error { return e.Err }

// Is reports a problem of a canceled run as the engine's own error for it.
func (p *Problem) Is(target error) bool {
	return p.Code == CodeCanceled && target == destinations.ErrStopped
}

// Client asks the daemon of a state directory, over its socket. It is safe for
// use by several goroutines.
type Client struct {
	http *http.Client
	info Info
}

// helloTimeout is how long the daemon may take to say who it is.
const helloTimeout = 10 * time.Second

// Dial connects to the daemon that holds a state directory and asks who it is.
// It returns ErrNoDaemon where none does.
func Dial(ctx context.Context, stateDir string) (*Client, error) {
	c := &Client{http: &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, stateDir) },
		DisableCompression: true,
	}}}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	if err := c.get(ctx, "server", nil, &c.info); err != nil {
		c.Close()
		if errors.Is(err, ErrNoDaemon) {
			return nil, ErrNoDaemon
		}
		return nil, fmt.Errorf("ask the daemon of %s who it is: %w", stateDir, err)
	}
	return c, nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Info says who the daemon is, as it was when the client connected.
func (c *Client) Info() Info { return c.info }

// do sends a request and returns its answer, whose body the caller closes. An
// answer that is a problem is a *Problem.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	u := "http://daemon/api/v1/" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	var p Problem
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		return nil, fmt.Errorf("the daemon (process %d, version %s) answered %s, which this version of coho does not understand", c.info.PID, c.info.Version, resp.Status)
	}
	return nil, &p
}

// lost says why no answer came.
func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("stopped while the daemon was asked: %w", context.Canceled)
	}
	if errors.Is(err, ErrNoDaemon) && c.info.PID == 0 {
		return ErrNoDaemon
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the method and the made-up host
	}
	return &LostError{PID: c.info.PID, Err: err}
}

func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	return c.answer(ctx, http.MethodGet, path, query, nil, into)
}

// answer sends body as JSON and decodes the answer into into; either may be nil.
func (c *Client) answer(ctx context.Context, method, path string, query url.Values, body, into any) error {
	var r io.Reader
	header := http.Header{}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("ask the daemon: %w", err)
		}
		r = bytes.NewReader(b)
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.do(ctx, method, path, query, r, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		if errors.As(err, &syntax) || errors.As(err, &kind) {
			return fmt.Errorf("the daemon (process %d, version %s) gave an answer that this version of coho does not understand: %w", c.info.PID, c.info.Version, err)
		}
		return c.lost(ctx, err)
	}
	return nil
}

// Syncs returns every sync and how it stands, in the config's order.
func (c *Client) Syncs(ctx context.Context) ([]SyncState, error) {
	var out struct {
		Syncs []SyncState `json:"syncs"`
	}
	err := c.get(ctx, "syncs", nil, &out)
	return out.Syncs, err
}

// Sync returns a sync and how it stands.
func (c *Client) Sync(ctx context.Context, name string) (s SyncState, err error) {
	err = c.get(ctx, "syncs/"+url.PathEscape(name), nil, &s)
	return s, err
}

// Sequences returns every sequence and how it stands, by name.
func (c *Client) Sequences(ctx context.Context) ([]SequenceState, error) {
	var out struct {
		Sequences []SequenceState `json:"sequences"`
	}
	err := c.get(ctx, "sequences", nil, &out)
	return out.Sequences, err
}

// Start starts runs and returns them in the order in which they will run.
func (c *Client) Start(ctx context.Context, r StartRequest) ([]StartedRun, error) {
	var out StartedRuns
	err := c.answer(ctx, http.MethodPost, "runs", nil, r, &out)
	return out.Runs, err
}

// Approve goes on with the plan of a run that a guard halted.
func (c *Client) Approve(ctx context.Context, run string, r ApproveRequest) ([]StartedRun, error) {
	var out StartedRuns
	err := c.answer(ctx, http.MethodPost, "runs/"+url.PathEscape(run)+"/approve", nil, r, &out)
	return out.Runs, err
}

// Cancel stops a run, named by its id or by its sync, and returns its id: gently,
// or, with abort, giving up what is in flight too.
func (c *Client) Cancel(ctx context.Context, run string, abort bool) (string, error) {
	var out struct {
		Run string `json:"run"`
	}
	err := c.answer(ctx, http.MethodPost, "runs/"+url.PathEscape(run)+"/cancel", nil, CancelRequest{Abort: abort}, &out)
	return out.Run, err
}

// Pause stops the schedule of a sync or sequence until Resume.
func (c *Client) Pause(ctx context.Context, kind, name string) error {
	return c.answer(ctx, http.MethodPost, kind+"/"+url.PathEscape(name)+"/pause", nil, nil, nil)
}

// Resume takes the schedule of a sync or sequence up again.
func (c *Client) Resume(ctx context.Context, kind, name string) error {
	return c.answer(ctx, http.MethodPost, kind+"/"+url.PathEscape(name)+"/resume", nil, nil, nil)
}

// Reload has the daemon read its config again.
func (c *Client) Reload(ctx context.Context) error {
	return c.answer(ctx, http.MethodPost, "reload", nil, nil, nil)
}

// events reads an event stream until each says that there is no more to wait for.
func (c *Client) events(ctx context.Context, method, path string, query url.Values, body []byte, progress func(Progress), ended func(Ended) (more bool)) error {
	header := http.Header{"Accept": {"text/event-stream"}}
	var r io.Reader
	if body != nil {
		header.Set("Content-Type", "application/json")
		r = bytes.NewReader(body)
	}
	resp, err := c.do(ctx, method, path, query, r, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	err = readEvents(resp.Body, func(event string, data []byte) (bool, error) {
		switch event {
		case eventProgress:
			var p Progress
			if err := json.Unmarshal(data, &p); err != nil {
				return false, fmt.Errorf("read the daemon's events: %w", err)
			}
			progress(p)
		case eventEnded:
			var e Ended
			if err := json.Unmarshal(data, &e); err != nil {
				return false, fmt.Errorf("read the daemon's events: %w", err)
			}
			return ended(e), nil
		}
		return true, nil
	})
	if err != nil {
		return c.lost(ctx, err)
	}
	return nil
}

// Watch follows runs until all have ended. progress and ended are called one at
// a time.
func (c *Client) Watch(ctx context.Context, runs []string, progress func(Progress), ended func(Ended)) error {
	left := map[string]bool{}
	for _, id := range runs {
		left[id] = true
	}
	return c.events(ctx, http.MethodGet, "events", url.Values{"run": runs}, nil, progress, func(e Ended) bool {
		if left[e.Run] {
			delete(left, e.Run)
			ended(e)
		}
		return len(left) > 0
	})
}

// Plan has the daemon plan a sync; progress is called meanwhile.
func (c *Client) Plan(ctx context.Context, sync string, full bool, progress func(Progress)) (run *engine.Run, err error) {
	body, err := json.Marshal(PlanRequest{Full: full})
	if err != nil {
		return nil, err
	}
	var failed *Problem
	err = c.events(ctx, http.MethodPost, "syncs/"+url.PathEscape(sync)+"/plan", nil, body, progress, func(e Ended) bool {
		run, failed = e.Record, e.Problem
		return false
	})
	if err == nil && failed != nil {
		err = failed
	}
	return run, err
}

// Preview has the daemon show one row of a sync; key is as [StartRequest] has it.
func (c *Client) Preview(ctx context.Context, sync string, key []string) (*engine.Preview, error) {
	var p engine.Preview
	if err := c.answer(ctx, http.MethodPost, "syncs/"+url.PathEscape(sync)+"/preview", nil, PreviewRequest{Key: key}, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// List returns runs, newest first, as [engine.History.List] does.
func (c *Client) List(ctx context.Context, sync string, max int) ([]*engine.Run, error) {
	q := url.Values{}
	if sync != "" {
		q.Set("sync", sync)
	}
	var out []*engine.Run
	for {
		page := mostRuns
		if max > 0 {
			page = min(page, max-len(out))
		}
		q.Set("limit", strconv.Itoa(page))
		var answer struct {
			Runs []*engine.Run `json:"runs"`
			Next string        `json:"next"`
		}
		if err := c.get(ctx, "runs", q, &answer); err != nil {
			return nil, err
		}
		out = append(out, answer.Runs...)
		if answer.Next == "" || max > 0 && len(out) >= max {
			return out, nil
		}
		q.Set("before", answer.Next)
	}
}

// Get returns a run by its id, or the last of the sync of that name.
func (c *Client) Get(ctx context.Context, idOrSync string) (*engine.Run, error) {
	var r engine.Run
	if err := c.get(ctx, "runs/"+url.PathEscape(idOrSync), nil, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// ListSequences returns runs of sequences, newest first, as
// [engine.History.ListSequences] does.
func (c *Client) ListSequences(ctx context.Context, sequence string, max int) (out []*engine.SequenceRun, err error) {
	q := url.Values{}
	if sequence != "" {
		q.Set("sequence", sequence)
	}
	for {
		page := mostRuns
		if max > 0 {
			page = min(page, max-len(out))
		}
		q.Set("limit", strconv.Itoa(page))
		var answer struct {
			Runs []*engine.SequenceRun `json:"runs"`
			Next string                `json:"next"`
		}
		if err := c.get(ctx, "sequence-runs", q, &answer); err != nil {
			return nil, err
		}
		out = append(out, answer.Runs...)
		if answer.Next == "" || max > 0 && len(out) >= max {
			return out, nil
		}
		q.Set("before", answer.Next)
	}
}

// SequenceRun returns the run of a sequence with an id, or the last one of the
// sequence of that name.
func (c *Client) SequenceRun(ctx context.Context, idOrName string) (*engine.SequenceRun, error) {
	var s engine.SequenceRun
	if err := c.get(ctx, "sequence-runs/"+url.PathEscape(idOrName), nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// KeptPlan lists the operations of a plan that waits, as
// [engine.Engine.KeptPlan] does.
func (c *Client) KeptPlan(ctx context.Context, runOrSync string, o engine.KeptOptions, yield func(*engine.KeptOperation) bool) (engine.KeptPlan, error) {
	many := o.Max == 0 || o.Max > mostLines // more than a page
	q := url.Values{"operation": o.Kinds, "offset": {strconv.FormatInt(o.Offset, 10)}, "limit": {strconv.FormatInt(o.Max, 10)}}
	if many {
		q.Set("limit", "1")
	}
	var answer KeptPlan
	if err := c.get(ctx, "runs/"+url.PathEscape(runOrSync)+"/plan", q, &answer); err != nil {
		return engine.KeptPlan{}, err
	}
	if !many {
		for _, op := range answer.Listed {
			if !yield(op) {
				break
			}
		}
		return answer.KeptPlan, nil
	}
	at := int64(0)
	_, err := c.lines(ctx, "runs/"+url.PathEscape(answer.Run)+"/plan", url.Values{"operation": o.Kinds}, func(line []byte) (bool, error) {
		if at++; at <= o.Offset {
			return true, nil
		}
		var op engine.KeptOperation
		if err := json.Unmarshal(line, &op); err != nil {
			return false, fmt.Errorf("read the plan of run %s: %w", answer.Run, err)
		}
		return yield(&op) && (o.Max == 0 || at < o.Offset+o.Max), nil
	})
	return answer.KeptPlan, err
}

// lines calls yield with each line of an ndjson answer until it returns false.
func (c *Client) lines(ctx context.Context, path string, query url.Values, yield func(line []byte) (bool, error)) (*http.Response, error) {
	resp, err := c.do(ctx, http.MethodGet, path, query, nil, http.Header{"Accept": {ndjson}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return resp, nil
		}
		if err != nil {
			return resp, c.lost(ctx, err)
		}
		if more, err := yield(line); err != nil || !more {
			return resp, err
		}
	}
}

// Errors calls yield for each failed and rejected row of a run until it returns
// false.
func (c *Client) Errors(ctx context.Context, run string, yield func(*engine.RowError) bool) error {
	_, err := c.lines(ctx, "runs/"+url.PathEscape(run)+"/errors", nil, func(line []byte) (bool, error) {
		var e engine.RowError
		if err := json.Unmarshal(line, &e); err != nil {
			return false, fmt.Errorf("read the errors of run %s: %w", run, err)
		}
		return yield(&e), nil
	})
	return err
}

// Calls calls yield for each API call kept of a run until it returns false; kept
// is false where none are kept.
func (c *Client) Calls(ctx context.Context, run string, bodies bool, yield func(*engine.APICall) bool) (kept bool, err error) {
	resp, err := c.lines(ctx, "runs/"+url.PathEscape(run)+"/calls", url.Values{"bodies": {strconv.FormatBool(bodies)}}, func(line []byte) (bool, error) {
		var call engine.APICall
		if err := json.Unmarshal(line, &call); err != nil {
			return false, fmt.Errorf("read the API calls of run %s: %w", run, err)
		}
		return yield(&call), nil
	})
	return resp != nil && !strings.EqualFold(resp.Header.Get(headerKept), "false"), err
}

// Snapshot says what a sync's state holds.
func (c *Client) Snapshot(ctx context.Context, sync string) (engine.SnapshotInfo, error) {
	var info engine.SnapshotInfo
	err := c.get(ctx, "syncs/"+url.PathEscape(sync)+"/snapshot", nil, &info)
	return info, err
}

// ResetSnapshot forgets a sync's state.
func (c *Client) ResetSnapshot(ctx context.Context, sync string) error {
	return c.answer(ctx, http.MethodDelete, "syncs/"+url.PathEscape(sync)+"/snapshot", nil, nil, nil)
}

// ExportSnapshot writes a sync's snapshot as JSON lines.
func (c *Client) ExportSnapshot(ctx context.Context, sync string, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, "syncs/"+url.PathEscape(sync)+"/snapshot/rows", nil, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := &sink{w: w}
	if _, err := io.Copy(out, resp.Body); err != nil {
		if out.err != nil {
			return out.err
		}
		return c.lost(ctx, err)
	}
	return nil
}

// sink remembers that writing failed, as opposed to reading.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (n int, err error) {
	n, s.err = s.w.Write(p)
	return n, s.err
}

// ImportSnapshot fills the empty state of a sync from what an export wrote.
func (c *Client) ImportSnapshot(ctx context.Context, sync string, r io.Reader) error {
	resp, err := c.do(ctx, http.MethodPut, "syncs/"+url.PathEscape(sync)+"/snapshot/rows", nil, io.NopCloser(r), http.Header{"Content-Type": {ndjson}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
