package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what org to start. The zero value is the default org in memory on
// a free loopback port.
type Options struct {
	OrgFile       string // TOML description; "": the default org
	Dir           string // keeps the records; "": memory only
	Addr          string // to listen on; "": 127.0.0.1:0
	DailyAPICalls int    // 0: the org file's
	Seed          int64  // of everything that is left to chance
	// ProcessingDelay is how long a Bulk batch of 10,000 records takes, spread
	// over its chunks, and how long one chunk of another write takes. The rows
	// and their parents stay locked meanwhile.
	ProcessingDelay time.Duration
	LockWait        time.Duration // how long a write waits for a locked row; 0: ten seconds
	Locks           bool          // rows are locked
	Logger          *slog.Logger  // nil: discards
}

// Credentials are what a client needs to log in.
type Credentials struct {
	URL          string `json:"url"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Username     string `json:"username"`
	Password     string `json:"password"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// Server is a running org.
type Server struct {
	opts     Options
	file     *orgFile
	org      *Org
	log      *slog.Logger
	listener net.Listener
	http     *http.Server
	url      string
	auth     *auth
	faults   *faults
	counting counting
	jobs     *jobs
	locks    *lockTable
	cursors  *cursors
	daily    atomic.Int64 // API calls used today
	hook     atomic.Pointer[func(string)]
	callers  *callers

	ctx    context.Context // ends with Close; bounds the processing of jobs
	cancel context.CancelFunc
	wait   sync.WaitGroup
	calls  gate
	closed sync.Once
	err    error
}

// Start starts an org; it ends with ctx or Close, whichever comes first.
func Start(ctx context.Context, o Options) (*Server, error) {
	file, err := loadOrgFile(o.OrgFile)
	if err != nil {
		return nil, err
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.LockWait == 0 {
		o.LockWait = 10 * time.Second
	}
	if o.DailyAPICalls == 0 {
		o.DailyAPICalls = file.Limits.DailyAPICalls
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	org, err := openOrg(file, o)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, file: file, org: org, log: o.Logger, faults: newFaults(o.Seed), locks: newLockTable(), cursors: newCursors(), callers: newCallers()}
	if s.auth, err = newAuth(file, org); err != nil {
		return nil, errors.Join(err, org.log.close())
	}
	s.jobs = newJobs(s)
	if err := s.loadJobs(); err != nil {
		return nil, errors.Join(err, org.log.close())
	}
	if s.listener, err = net.Listen("tcp", o.Addr); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for the org: %w", err), org.log.close())
	}
	s.url = "http://" + s.listener.Addr().String()
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 1 << 20, ConnState: s.callers.state,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.wait.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.ErrorContext(s.ctx, "the org stopped serving", "error", err)
		}
	})
	s.wait.Go(func() {
		<-s.ctx.Done()
		if err := s.http.Close(); err != nil {
			s.log.DebugContext(ctx, "close the org's listener", "error", err)
		}
	})
	return s, nil
}

// openOrg builds the org, loads its records and adds the seed rows of a new one.
func openOrg(file *orgFile, o Options) (*Org, error) {
	org, err := buildOrg(file, o.Seed)
	if err != nil {
		return nil, err
	}
	fresh := true
	if o.Dir != "" {
		if org.log, fresh, err = openJournal(o.Dir, org); err != nil {
			return nil, err
		}
	}
	if err := org.seed(file, fresh); err != nil {
		return nil, errors.Join(err, org.log.close())
	}
	return org, nil
}

// URL is where the org listens, such as http://127.0.0.1:41234.
func (s *Server) URL() string { return s.url }

// Org is the database behind the server.
func (s *Server) Org() *Org { return s.org }

// OnCall sets a function that is called with its kind as each request arrives,
// before anything is done for it; nil unsets it.
func (s *Server) OnCall(f func(kind string)) {
	if f == nil {
		s.hook.Store(nil)
		return
	}
	s.hook.Store(&f)
}

// Close stops the org, waits for what it started and closes its directory. It
// may be called again.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.cancel()
		s.jobs.release()
		s.wait.Wait()
		s.calls.shut()
		s.jobs.wait()
		s.org.mu.Lock()
		defer s.org.mu.Unlock()
		s.err = s.org.log.close()
	})
	return s.err
}

// SetAPICallsUsed sets how many of the day's API calls are used up.
func (s *Server) SetAPICallsUsed(n int) { s.daily.Store(int64(n)) }

// call is one request on its way.
type call struct {
	s          *Server
	w          http.ResponseWriter
	r          *http.Request
	kind       string
	version    string // "62.0"; "" outside /services/data
	number     float64
	path       []string // what follows the version, by segment
	session    *session
	at         time.Time
	cut        bool     // the connection is to be dropped without an answer
	soapHeader *element // of a SOAP request
	soapLogin  bool     // it is a login, whose faults are of their own kind
	txn        *[]*dml  // what was written for a composite request that stands or falls together
}

// apiError is the answer of a request that failed as a whole.
type apiError struct {
	status  int
	code    string
	message string
	fields  []string
}

func (c *call) fail(status int, code, message string, fields ...string) {
	e := map[string]any{"message": message, "errorCode": code}
	if len(fields) > 0 {
		e["fields"] = fields
	}
	c.json(status, []any{e})
}

// refuse fails a request in the shape of the API that it is of.
func (c *call) refuse(status int, code, message string) {
	switch {
	case strings.HasPrefix(c.kind, "soap"):
		c.soapFaultAs(status, code, message)
	case strings.HasPrefix(c.kind, "bulk1"):
		if code == "REQUEST_LIMIT_EXCEEDED" {
			code = "ExceededQuota" // Bulk API Developer Guide, "Errors"
		}
		c.classic(status, c.wantsJSON(), "error", []pair{{"exceptionCode", code}, {"exceptionMessage", message}})
	default:
		c.fail(status, code, message)
	}
}

func (c *call) reject(e *apiError) { c.fail(e.status, e.code, e.message, e.fields...) }

func (c *call) notFound() {
	c.fail(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
}

func (c *call) methodNotAllowed(allowed string) {
	c.w.Header().Set("Allow", allowed)
	c.fail(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "HTTP Method '"+c.r.Method+"' not allowed. Allowed are "+allowed)
}

// gate counts the requests in progress and lets none in once it is shut.
type gate struct {
	mu   sync.Mutex
	n    int
	over bool
	idle chan struct{}
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.idle != nil {
		close(g.idle)
	}
}

// shut waits for the requests in progress.
func (g *gate) shut() {
	g.mu.Lock()
	g.over = true
	if g.n > 0 {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.calls.enter() {
		return
	}
	defer s.calls.leave()
	m := &meter{ResponseWriter: w}
	in := &countedBody{ReadCloser: r.Body}
	r.Body = in
	c := &call{s: s, w: m, r: r, at: time.Now()}
	c.route()
	counts := c.version != "" && c.kind != "versions" || strings.HasPrefix(c.kind, "bulk1") || strings.HasPrefix(c.kind, "soap")
	if c.kind == "emulator" {
		s.control(c)
		return
	}
	limits := &s.file.Limits
	open, long := s.counting.begin(c, counts, time.Duration(limits.LongRequestSeconds*float64(time.Second)))
	defer func() {
		s.counting.end(c, in.n, m.n) // before the client can hear that the request is over
		if c.cut {
			hangUp(w)
		}
	}()
	if hook := s.hook.Load(); hook != nil {
		(*hook)(c.kind)
	}
	if counts && limits.ConcurrentLongRequests > 0 && long >= limits.ConcurrentLongRequests {
		s.limitInfo(c)
		c.refuse(http.StatusForbidden, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded.")
		return
	}
	fault, hit := s.faults.request(c.kind, r.Method+" "+r.URL.RequestURI(), open)
	if hit && !s.misbehave(c, &fault) {
		return
	}
	if err := inflate(r); err != nil {
		c.fail(http.StatusBadRequest, "INVALID_CONTENT", "the body is not gzip: "+err.Error())
		return
	}
	if hit && fault.Twice {
		if err := s.rehearse(c, counts); err != nil {
			c.fail(http.StatusBadRequest, "INVALID_CONTENT", "the body broke off: "+err.Error())
			return
		}
	}
	done := deflate(c)
	s.handle(c, counts)
	done()
	c.cut = hit && fault.CutAfter
	s.log.DebugContext(r.Context(), "call", "kind", c.kind, "method", r.Method, "path", r.URL.Path, "status", m.status, "took", time.Since(c.at))
}

// rehearse carries a request out without an answer, and puts its body back.
func (s *Server) rehearse(c *call, counts bool) error {
	body, err := io.ReadAll(c.r.Body)
	if err != nil {
		return err
	}
	first := *c
	first.w, first.r = &discard{header: http.Header{}}, c.r.Clone(c.r.Context())
	first.r.Body = io.NopCloser(bytes.NewReader(body))
	s.handle(&first, counts)
	c.r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// misbehave does what a fault says before the work; it returns whether the work
// is to be done at all.
func (s *Server) misbehave(c *call, f *Fault) bool {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.r.Context().Done():
		case <-s.ctx.Done():
		}
	}
	if f.ExpireSession {
		s.ExpireSessions()
	}
	if f.CutBefore {
		c.cut = true
		return false
	}
	if f.Status != 0 || f.Code != "" {
		status, code, message := f.Status, f.Code, f.Message
		if status == 0 {
			status = http.StatusInternalServerError
		}
		if code == "" {
			code = map[int]string{503: "SERVER_UNAVAILABLE", 429: "REQUEST_LIMIT_EXCEEDED", 403: "REQUEST_LIMIT_EXCEEDED", 401: "INVALID_SESSION_ID"}[status]
		}
		if code == "" {
			code = "UNKNOWN_EXCEPTION"
		}
		if message == "" {
			message = "An unexpected error occurred. Please include this ErrorId if you contact support: 1234567890-12345 (-1234567890)"
		}
		s.limitInfo(c)
		if c.kind == "token" {
			c.json(status, map[string]string{"error": strings.ToLower(code), "error_description": message})
		} else {
			c.refuse(status, code, message)
		}
		return false
	}
	if f.CutAfter {
		c.w = &discard{header: http.Header{}}
	}
	return true
}

// hangUp drops a connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, as a broken network gives; without it the client sees a clean end
	}
	_ = conn.Close() // nobody is left to be told
}

func (s *Server) limitInfo(c *call) {
	c.w.Header().Set("Sforce-Limit-Info", "api-usage="+strconv.FormatInt(s.daily.Load(), 10)+"/"+strconv.Itoa(s.opts.DailyAPICalls))
}

// maxURI is the longest address, and address with headers, that the platform
// reads (Developer Limits Quick Reference, "API Requests Limits").
const maxURI = 16384

// tooLong checks the request line and the headers.
func tooLong(c *call) bool {
	n := len(c.r.URL.RequestURI())
	if n > maxURI {
		c.fail(http.StatusRequestURITooLong, "URI_TOO_LONG", "The URI is longer than 16384 bytes")
		return true
	}
	for k, vs := range c.r.Header {
		for _, v := range vs {
			n += len(k) + len(v)
		}
	}
	if n > maxURI {
		c.fail(http.StatusRequestHeaderFieldsTooLarge, "REQUEST_HEADER_TOO_LARGE", "The URI and headers are longer than 16384 bytes")
		return true
	}
	return false
}

func (s *Server) handle(c *call, counts bool) {
	if tooLong(c) {
		return
	}
	if counts {
		used := s.daily.Add(1)
		s.limitInfo(c)
		if used > int64(s.opts.DailyAPICalls) {
			s.daily.Add(-1)
			s.limitInfo(c)
			c.refuse(http.StatusForbidden, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
			return
		}
	}
	switch {
	case c.kind == "versions":
		s.versions(c)
	case c.kind == "token":
		s.token(c)
	case c.kind == "revoke":
		s.revoke(c)
	case c.kind == "userinfo":
		s.userinfo(c)
	case strings.HasPrefix(c.kind, "bulk1"):
		s.bulk1(c)
	case strings.HasPrefix(c.kind, "soap"):
		s.soap(c)
	case c.version != "":
		s.data(c)
	default:
		c.notFound()
	}
}

// Supported API versions. Older ones are retired, later ones unknown.
const (
	oldestVersion = 31
	newestVersion = 67
	goneVersion   = 21
)

// data serves /services/data/vXX.0.
func (s *Server) data(c *call) {
	if c.number < oldestVersion && c.number >= goneVersion {
		c.fail(http.StatusGone, "UNSUPPORTED_API_VERSION", "API version "+c.version+" is retired")
		return
	}
	if c.number < oldestVersion || c.number > newestVersion || c.number != float64(int(c.number)) {
		c.notFound()
		return
	}
	if !s.authenticate(c) {
		return
	}
	s.resource(c)
}

// resource serves what lies below a version, for a request or for a part of a
// composite one.
func (s *Server) resource(c *call) {
	if len(c.path) == 0 {
		s.resources(c)
		return
	}
	rest := c.path[1:]
	switch c.path[0] {
	case "limits":
		s.limits(c, rest)
	case "sobjects":
		s.sobjects(c, rest)
	case "query", "queryAll":
		s.query(c, rest)
	case "composite":
		s.composite(c, rest)
	case "jobs":
		s.bulk(c, rest)
	case "tooling":
		s.tooling(c, rest)
	case "recent": // nobody has looked at anything
		c.json(http.StatusOK, []any{})
	default:
		c.notFound()
	}
}
