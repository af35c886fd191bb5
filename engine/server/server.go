package server

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"coho/engine"
	"coho/engine/daemon"
	"coho/models"
)

// Daemon is what the server speaks for: a [daemon.Daemon], whose methods it
// describes.
type Daemon interface {
	Ready() error
	Engine() *engine.Engine
	Config() (w *daemon.Wired, since time.Time, refused error)
	Hold(sync string, f func(*engine.Engine) error) error
	Plan(ctx context.Context, sync string, o engine.PlanOptions) (*engine.Run, error)
	Preview(ctx context.Context, sync string, key []string) (*engine.Preview, error)
	KeptPlan(runOrSync string, o engine.KeptOptions, yield func(*engine.KeptOperation) bool) (engine.KeptPlan, error)
	Start(r daemon.Request) (daemon.Job, error)
	Cancel(id string, abort bool) error
	Pause(kind daemon.Kind, name string) error
	Resume(kind daemon.Kind, name string) error
	Reload(ctx context.Context) error
	Jobs() []daemon.Job
	Recent() []daemon.Started
	Find(run string) (daemon.Started, bool)
	Progress(run string) (*engine.Progress, bool)
	Wait(ctx context.Context, run string) (engine.Ended, error)
	Syncs() ([]daemon.SyncStatus, error)
	Sequences() []daemon.SequenceStatus
}

// Options is what a server works with.
type Options struct {
	Daemon   Daemon
	StateDir string // where its socket is; the daemon holds it
	Addr     string // where it listens over TCP
	Token    models.Secret

	Version string // of coho
	// Config is the fingerprint of the config in force.
	Config  func() string
	Metrics *Metrics
	Logger  *slog.Logger
}

// Server answers HTTP: the API, its events, probes and metrics.
type Server struct {
	o        Options
	token    models.Secret
	loopback bool
	log      *slog.Logger
	started  time.Time
	handler  http.Handler

	// stopping ends when the server is told to stop: plans and what else waits
	// give up then, and streams of runs go on until those have ended.
	stopping context.Context
	stop     context.CancelFunc

	mu      sync.Mutex // guards streams
	streams int
}

// Limits on what a client may send and how slowly.
const (
	headerTimeout = 10 * time.Second // to send a request's head
	bodyTimeout   = 10 * time.Second // to send a JSON body
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
	maxBody       = 1 << 20 // of a JSON body; what is imported is streamed and has no limit
)

const ndjson = "application/x-ndjson"

// headerKept says whether the calls of a run are still kept.
const headerKept = "Coho-Kept"

//go:embed openapi.json
var openAPI []byte

// New checks the options and returns a server that does not listen yet. An
// address that others can reach and no token is a *[engine.UsageError].
func New(o Options) (*Server, error) {
	loopback, err := CheckAddr(o.Addr, o.Token)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, token: o.Token, loopback: loopback, log: o.Logger, started: time.Now()}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.handler = s.routes()
	o.Metrics.Observe(s.observed)
	return s, nil
}

// Listeners are where a server listens.
type Listeners struct {
	tcp, unix net.Listener
	stateDir  string
}

// Addr is the TCP address, with the port that was found where it was to be any.
func (l *Listeners) Addr() string { return l.tcp.Addr().String() }

// Close stops listening and takes the socket away.
func (l *Listeners) Close() error {
	// The HTTP server may have closed them already.
	closed := func(err error) error {
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	}
	return errors.Join(removeSocket(l.stateDir), closed(l.unix.Close()), closed(l.tcp.Close()))
}

// Listen takes the address and the state directory's socket. The daemon must hold
// the directory's lock.
func (s *Server) Listen() (*Listeners, error) {
	tcp, err := net.Listen("tcp", s.o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on [server] addr: %w", err)
	}
	unix, err := listenSocket(s.o.StateDir)
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return &Listeners{tcp: tcp, unix: unix, stateDir: s.o.StateDir}, nil
}

// closeTimeout is how long answers that are being sent may take to end once the
// server ends.
const closeTimeout = 5 * time.Second

// Serve answers until ctx ends, then lets answers that are being sent end for a
// while, and closes the listeners. [Server.Stop] comes before, while runs come to
// their end.
func (s *Server) Serve(ctx context.Context, l *Listeners) (err error) {
	defer func() { err = errors.Join(err, l.Close()) }()
	hs := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ConnContext: connContext, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 2)
	for _, one := range []net.Listener{l.tcp, l.unix} {
		go func() { ended <- hs.Serve(one) }()
	}
	left := 2
	select {
	case <-ctx.Done():
	case err = <-ended: // a listener broke; without it the daemon is not what was asked for
		left--
	}
	s.Stop()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if hs.Shutdown(closing) != nil {
		err = errors.Join(err, hs.Close())
	}
	for range left {
		err = errors.Join(err, <-ended)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Stop has plans and whatever else waits give up, and refuses new ones. Streams of
// runs go on until those have ended.
func (s *Server) Stop() { s.stop() }

// route is what is answered at one path.
type route struct {
	path    string
	access  access
	methods map[string]handler
}

// handler answers a request. An error that it returns before it has written
// anything becomes a problem.
type handler func(w http.ResponseWriter, r *http.Request) error

// table is every route: openapi.json describes them all.
func (s *Server) table() []route {
	get := func(h handler) map[string]handler { return map[string]handler{http.MethodGet: h} }
	post := func(h handler) map[string]handler { return map[string]handler{http.MethodPost: h} }
	return []route{
		{"/healthz", open, get(s.health)},
		{"/readyz", open, get(s.ready)},
		{"/metrics", byPlace, get(s.metrics())},
		{"/api/v1/openapi.json", open, get(s.openAPI)},
		{"/api/v1/server", byToken, get(s.server)},
		{"/api/v1/reload", byToken, post(s.reload)},
		{"/api/v1/syncs", byToken, get(s.syncs)},
		{"/api/v1/syncs/{sync}", byToken, get(s.sync)},
		{"/api/v1/syncs/{sync}/plan", byToken, post(s.plan)},
		{"/api/v1/syncs/{sync}/preview", byToken, post(s.preview)},
		{"/api/v1/syncs/{sync}/pause", byToken, post(s.pause(daemon.Sync, true))},
		{"/api/v1/syncs/{sync}/resume", byToken, post(s.pause(daemon.Sync, false))},
		{"/api/v1/syncs/{sync}/snapshot", byToken, map[string]handler{http.MethodGet: s.snapshot, http.MethodDelete: s.resetSnapshot}},
		{"/api/v1/syncs/{sync}/snapshot/rows", byToken, map[string]handler{http.MethodGet: s.exportSnapshot, http.MethodPut: s.importSnapshot}},
		{"/api/v1/sequences", byToken, get(s.sequences)},
		{"/api/v1/sequences/{sequence}", byToken, get(s.sequence)},
		{"/api/v1/sequences/{sequence}/pause", byToken, post(s.pause(daemon.Sequence, true))},
		{"/api/v1/sequences/{sequence}/resume", byToken, post(s.pause(daemon.Sequence, false))},
		{"/api/v1/sequences/{sequence}/runs", byToken, get(s.sequenceRuns)},
		{"/api/v1/sequence-runs", byToken, get(s.allSequenceRuns)},
		{"/api/v1/sequence-runs/{run}", byToken, get(s.sequenceRun)},
		{"/api/v1/runs", byToken, map[string]handler{http.MethodGet: s.runs, http.MethodPost: s.start}},
		{"/api/v1/runs/{run}", byToken, get(s.run)},
		{"/api/v1/runs/{run}/approve", byToken, post(s.approve)},
		{"/api/v1/runs/{run}/cancel", byToken, post(s.cancel)},
		{"/api/v1/runs/{run}/plan", byToken, get(s.keptPlan)},
		{"/api/v1/runs/{run}/errors", byToken, get(s.errors)},
		{"/api/v1/runs/{run}/calls", byToken, get(s.calls)},
		{"/api/v1/runs/{run}/events", byToken, get(s.runEvents)},
		{"/api/v1/events", byToken, get(s.events)},
	}
}

// routes makes one handler of the table.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.table() {
		allowed := make([]string, 0, len(rt.methods))
		for m := range rt.methods {
			allowed = append(allowed, m)
		}
		slices.Sort(allowed)
		mux.HandleFunc(rt.path, func(w http.ResponseWriter, r *http.Request) {
			method := r.Method
			if method == http.MethodHead {
				method = http.MethodGet
			}
			h := rt.methods[method]
			if h == nil {
				w.Header().Set("Allow", strings.Join(allowed, ", "))
				// What others name as their method is no label of a metric.
				s.serve(w, r, rt.path, "other", rt.access, func(http.ResponseWriter, *http.Request) error {
					return problem(http.StatusMethodNotAllowed, CodeMethod, fmt.Sprintf("%s takes %s", rt.path, strings.Join(allowed, ", ")))
				})
				return
			}
			s.serve(w, r, rt.path, method, rt.access, h)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, "other", "other", open, func(http.ResponseWriter, *http.Request) error {
			return problem(http.StatusNotFound, CodeNotFound, "there is nothing at this path; /api/v1/openapi.json lists what there is")
		})
	})
	return mux
}

// serve answers one request: it checks who asks, and makes a problem of an error.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, route, method string, a access, h handler) {
	began := time.Now()
	// The answers are for programs: a browser shall not guess, frame or keep them.
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	rec := &recorded{ResponseWriter: w}
	var err error
	if p := s.allow(r, a); p != nil {
		err = p
	} else {
		err = h(rec, r)
	}
	broken := false
	if err != nil {
		p := problemOf(err)
		switch {
		case rec.code == 0:
			if p.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="coho"`)
			}
			refresh(rec)
			p.write(rec)
		case !errors.Is(err, errGone):
			// Half an answer must not be taken for a whole one.
			broken = true
		}
		if (p.Status >= 500 || broken) && !errors.Is(err, errGone) {
			s.log.WarnContext(r.Context(), "a request failed", "method", r.Method, "route", route, "status", p.Status, "error", err)
		}
	}
	s.o.Metrics.request(route, method, rec.code, time.Since(began))
	if broken {
		panic(http.ErrAbortHandler) // the documented way to cut an answer off
	}
}

// recorded remembers the status of an answer.
type recorded struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorded) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorded) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorded) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// refresh gives the client time to take what is written next.
func refresh(w http.ResponseWriter) {
	// A connection without deadlines has none to set.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
}

// reply answers with a JSON document.
func reply(w http.ResponseWriter, status int, v any) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	refresh(w)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return errGone
	}
	return nil
}

// done answers that there is nothing to say.
func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// body decodes a request's JSON body into v; none leaves v as it is.
func body(w http.ResponseWriter, r *http.Request, v any) error {
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errGone
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return problem(http.StatusRequestEntityTooLarge, CodeTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody))
		case errors.Is(err, os.ErrDeadlineExceeded):
			return problem(http.StatusRequestTimeout, CodeBadRequest, "the body did not come in time")
		}
		return problem(http.StatusBadRequest, CodeBadRequest, "the body could not be read")
	}
	if err := rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errGone
	}
	if len(b) == 0 {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return problem(http.StatusUnsupportedMediaType, CodeMediaType, "the body must be application/json, and its Content-Type say so")
	}
	return decode(b, v)
}

// decode decodes one JSON document, no key of which may be unknown.
func decode(b []byte, v any) error {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the document")
		}
	}
	if err != nil {
		return problem(http.StatusBadRequest, CodeBadRequest, "the body cannot be understood: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// until returns a context that ends with the request, and when the server stops.
func (s *Server) until(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	off := context.AfterFunc(s.stopping, cancel)
	return ctx, func() { off(); cancel() }
}

// health answers that the process lives.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	return reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready answers whether the daemon takes work.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := s.working(); err != nil {
		return err
	}
	return reply(w, http.StatusOK, map[string]string{"status": "ready"})
}

// working returns a problem where the daemon takes no work.
func (s *Server) working() error {
	err := s.o.Daemon.Ready()
	if err == nil && s.stopping.Err() != nil {
		err = daemon.ErrStopping
	}
	if err != nil {
		return problem(http.StatusServiceUnavailable, CodeStopping, err.Error())
	}
	return nil
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	refresh(w)
	if _, err := w.Write(openAPI); err != nil {
		return errGone
	}
	return nil
}

// OpenAPI returns the API's description, an OpenAPI 3.1 document.
func OpenAPI() []byte { return slices.Clone(openAPI) }

// metrics answers Prometheus.
func (s *Server) metrics() handler {
	h := promhttp.HandlerFor(s.o.Metrics.registry, promhttp.HandlerOpts{})
	return func(w http.ResponseWriter, r *http.Request) error {
		s.o.Metrics.keep(s.observed().Syncs)
		refresh(w)
		h.ServeHTTP(w, r)
		return nil
	}
}

// observed is how the daemon stands, for metrics.
func (s *Server) observed() Observed {
	d := s.o.Daemon
	o := Observed{Ready: s.working() == nil}
	e := d.Engine()
	if e == nil {
		return o
	}
	o.Destinations = e.Readings()
	_, taken, refused := d.Config()
	o.Reloaded, o.ReloadFailed = taken, refused != nil
	syncs, err := d.Syncs()
	if err != nil {
		s.log.Warn("how the syncs stand cannot be read", "error", err)
	}
	for _, y := range syncs {
		o.Syncs = append(o.Syncs, ObservedSync{Name: y.Name, NextRun: y.NextRun, Paused: y.Paused, Running: y.Running != "", Queued: y.Queued != ""})
	}
	for _, q := range d.Sequences() {
		o.Sequences = append(o.Sequences, ObservedSequence{Name: q.Name, NextRun: q.NextRun, Paused: q.Paused, Running: q.Running != ""})
	}
	return o
}

// server says who answers.
func (s *Server) server(w http.ResponseWriter, _ *http.Request) error {
	_, _, refused := s.o.Daemon.Config()
	info := Info{Version: s.o.Version, API: "v1", PID: os.Getpid(), StartedAt: s.started, Config: s.o.Config()}
	if refused != nil {
		info.ConfigError = refused.Error()
	}
	return reply(w, http.StatusOK, info)
}

// reload has the daemon read its config again.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) error {
	if err := s.working(); err != nil {
		return err
	}
	err := s.o.Daemon.Reload(r.Context())
	var refused *daemon.ReloadError
	if errors.As(err, &refused) {
		p := problem(http.StatusUnprocessableEntity, CodeConfig, err.Error())
		p.Problems = strings.Split(refused.Err.Error(), "\n")
		return p
	}
	if err != nil {
		return err
	}
	return done(w)
}
