package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBody bounds an answer that is read into memory. The largest are
	// pages of query results and describes of wide objects.
	maxBody = 64 << 20

	// maxRenewals is how often one call may renew the session. A 401 means
	// that the request was not carried out, so any request may be repeated.
	maxRenewals = 2

	// maxURI is the length of path and query that the org accepts, less room
	// for the headers that count towards the same limit (16,384 bytes).
	maxURI = 14_000
)

// call is one request, as often as it is sent.
type call struct {
	op     string // for errors: "upsert Account records"
	method string
	path   string
	query  string // encoded

	contentType string
	accept      string
	header      http.Header // further headers, may be nil

	rows int64 // records in body, for Config.Trace
	body []byte
	// open gives a body to stream instead, afresh each time the request is
	// sent.
	open func() (io.ReadCloser, error)

	repeat bool // sending it again is harmless: passing errors are retried
	stream bool // hand the answer's body over unread
	// classic calls are of Bulk API 1.0, which has a header of its own for the
	// session and ignores the other.
	classic bool
	// soap is the namespace of a SOAP call: the body goes into an envelope that
	// has the session in it.
	soap        string
	soapHeaders string // elements of the envelope's header beside the session
	plain       bool   // the body travels as it is, not compressed
	login       bool   // no session is sent, and the call is not counted
	whoami      bool   // about the login: a session is sent, and the call is not counted
	free        bool   // not authenticated: the list of versions
}

// counted: the org counts the call against its limit, which it does with none of
// /services/oauth2.
func (r *call) counted() bool { return !r.login && !r.whoami }

// answer is a successful response.
type answer struct {
	status int
	header http.Header
	body   []byte
	stream io.ReadCloser // instead of body, where the call asked for it
	// repeated: the request was sent more than once, so an earlier sending
	// may be what was carried out.
	repeated bool
}

// backoff is a jittered exponential pause between attempts.
type backoff struct {
	start, cap time.Duration
	attempts   int
}

// pause waits before the attempt that follows. It reports false, without
// waiting, where there should be none.
func (b backoff) pause(ctx context.Context, attempt int, e *Error, asked time.Duration) bool {
	attempts := b.attempts
	if e.Status == 0 && !e.Unknown {
		// Nothing listens, or the name is unknown: that is rarely a blip.
		attempts = min(attempts, 3)
	}
	if attempt >= attempts {
		return false
	}
	wait := min(b.cap, b.start<<(attempt-1))
	wait = wait/2 + rand.N(wait/2+1)
	return sleep(ctx, max(wait, min(asked, b.cap)))
}

// sleep waits, or reports false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// do sends a call, renewing the session where it has expired and, where the
// call may be repeated, again after an error that passes.
func (c *Client) do(ctx context.Context, r *call) (*answer, error) {
	if len(r.path)+len(r.query) > maxURI {
		return nil, &Error{Op: r.op, Code: "URI_TOO_LONG", Class: SplitBatch,
			Message: "the request's address would be longer than the org accepts: ask for less at a time"}
	}
	var stale *session
	renewals, sent := 0, 0
	for attempt := 1; ; {
		s, err := c.session(ctx, stale)
		if err != nil {
			return nil, err
		}
		sent++
		a, err := c.exchange(ctx, s, r)
		if err == nil {
			a.repeated = sent-renewals > 1
			return a, nil
		}
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return nil, err
		}
		if e.Class == RenewSession && renewals < maxRenewals {
			renewals++
			stale = s
			continue
		}
		if e.Status == http.StatusNotFound || e.Status == http.StatusGone {
			if verdict := c.checkVersion(ctx, s, r.path); verdict != "" {
				e.Code, e.Message, e.Class = "UNSUPPORTED_API_VERSION", verdict, StopRun
				return nil, e
			}
		}
		if !r.repeat || !passing(e) || !c.retry.pause(ctx, attempt, e, e.retryAfter) {
			return nil, e
		}
		attempt++
	}
}

// exchange sends a call once.
func (c *Client) exchange(ctx context.Context, s *session, r *call) (_ *answer, err error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{Op: r.op, Class: Wait, Message: "stopped before the request was sent", Err: context.Cause(ctx)}
	}
	start := time.Now()
	if r.counted() {
		if err := c.meter.reserve(start); err != nil {
			return nil, err
		}
	}

	patience := c.patience.write
	if r.repeat {
		patience = c.patience.read
	}
	ctx, cancel := context.WithCancelCause(ctx)
	x := &exchange{client: c, call: r, start: start, patience: patience, ctx: ctx, cancel: cancel}
	if n := c.cfg.TraceBytes; n > 0 && c.cfg.Trace != nil && r.counted() {
		x.asked, x.answer = &head{most: n}, &head{most: n}
		x.asked.add(r.body)
	}
	x.timer = time.AfterFunc(patience, func() { cancel(errSilent) })
	defer func() {
		if err != nil {
			x.finish(err)
		}
	}()

	// Whether the request can have reached the org is known from the
	// connection: a transport that reports wanting one and getting none has
	// sent nothing.
	var wanted, got atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	})
	req, upload, err := x.request(ctx, s)
	if err != nil {
		x.unsent = true
		return nil, err
	}
	if upload != nil {
		// The transport may still read the body when it has returned; closing
		// waits for that, and the caller's source is closed when we return.
		defer upload.Close()
	}
	resp, err := c.transport.RoundTrip(req)
	if resp != nil {
		x.raw, x.status = resp.Body, resp.StatusCode
	}
	if cause := upload.failure(); cause != nil {
		return nil, &Error{Op: r.op, Class: StopRun, Message: "the data to send could not be read", Unknown: got.Load(), Err: cause}
	}
	if err != nil {
		x.unsent = !got.Load() && (wanted.Load() || isDial(err))
		return nil, transportError(ctx, r, c.hostOf(s), err, !x.unsent)
	}
	if r.counted() {
		c.meter.note(resp.Header.Get("Sforce-Limit-Info"), time.Now())
	}
	body, err := x.reader(resp)
	if err != nil {
		return nil, c.brokenAnswer(ctx, r, x.status, err)
	}
	good := resp.StatusCode >= 200 && resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified && r.header.Get("If-Modified-Since") != ""
	if good && r.stream {
		x.timer.Stop()
		x.body = body
		return &answer{status: resp.StatusCode, header: resp.Header, stream: x}, nil
	}
	text, err := readAll(body, resp.ContentLength)
	x.answer.add(text)
	if good {
		if err != nil {
			return nil, c.brokenAnswer(ctx, r, x.status, err)
		}
		if !upload.complete() {
			return nil, &Error{Op: r.op, Status: x.status, Class: Wait, Message: "the org answered before it had all the data", Unknown: true}
		}
		x.finish(nil)
		return &answer{status: resp.StatusCode, header: resp.Header, body: text}, nil
	}
	return nil, c.httpError(r, resp, text)
}

func (c *Client) hostOf(s *session) string { return s.base.Host }

// brokenAnswer is the error for an answer that ended early.
func (c *Client) brokenAnswer(ctx context.Context, r *call, status int, err error) *Error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &Error{Op: r.op, Status: status, Class: Wait, Message: "the answer broke off", Unknown: true, Err: err}
}

var errSilent = errors.New("the org did not answer in time")

// exchange is the state of one sending. As the body of a streamed answer it
// ends the exchange when it is closed.
type exchange struct {
	client   *Client
	call     *call
	start    time.Time
	patience time.Duration
	ctx      context.Context // bounds this sending alone; cancel ends it
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	raw      io.ReadCloser // the answer's body as it travels
	body     io.Reader     // and as it reads
	unzip    *gunzip
	status   int
	unsent   bool
	sent     atomic.Int64
	received atomic.Int64
	once     sync.Once
	readErr  error

	rows          atomic.Int64 // records streamed
	asked, answer *head        // nil where nobody traces
}

// request builds the HTTP request. upload is set for a streamed body.
func (x *exchange) request(ctx context.Context, s *session) (req *http.Request, upload *upload, err error) {
	r := x.call
	u := url.URL{Scheme: s.base.Scheme, Host: s.base.Host, Path: r.path, RawQuery: r.query}
	if raw, err := url.PathUnescape(r.path); err == nil && raw != r.path {
		u.Path, u.RawPath = raw, r.path
	}
	body, zipped := r.body, false
	if r.soap != "" {
		body = envelope(r.soap, s.token, r.soapHeaders, r.body)
	}
	if !r.plain && len(body) > gzipAbove {
		body, zipped = compress(body), true
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
		x.sent.Store(int64(len(body)))
	}
	if r.open != nil {
		source, err := r.open()
		if err != nil {
			return nil, nil, &Error{Op: r.op, Class: StopRun, Message: "the data to send could not be opened", Err: err}
		}
		if n, ok := source.(rowCounter); ok {
			x.rows.Store(n.Rows())
		}
		if x.asked != nil {
			source = heard{source, x.asked}
		}
		upload = newUpload(source, func(n int) {
			x.sent.Add(int64(n))
			x.timer.Reset(x.patience)
		})
		reader, zipped = upload, true
	}
	req, err = http.NewRequestWithContext(ctx, r.method, u.String(), reader)
	if err != nil {
		if upload != nil {
			_ = upload.Close()
		}
		return nil, nil, &Error{Op: r.op, Class: StopRun, Message: "the request could not be built", Err: err}
	}
	h := req.Header
	for name, values := range r.header {
		h[name] = values
	}
	if s.token != "" && !r.login && !r.free && r.soap == "" {
		if r.classic {
			h.Set("X-SFDC-Session", s.token)
		} else {
			h.Set("Authorization", "Bearer "+s.token)
		}
		h.Set("Sforce-Call-Options", "client="+defaultUserAgent)
	}
	h.Set("User-Agent", x.client.cfg.UserAgent)
	h.Set("Accept", r.accept)
	h.Set("Accept-Encoding", "gzip")
	if reader != nil {
		h.Set("Content-Type", r.contentType)
	}
	if zipped {
		h.Set("Content-Encoding", "gzip")
	}
	return req, upload, nil
}

// reader gives the answer's body as text.
func (x *exchange) reader(resp *http.Response) (io.Reader, error) {
	counted := &countedReader{from: resp.Body, onRead: func(n int) {
		x.received.Add(int64(n))
		x.timer.Reset(x.patience)
	}}
	if !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") || resp.ContentLength == 0 || resp.StatusCode == http.StatusNoContent {
		return counted, nil
	}
	unzip, err := newGunzip(counted)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return bytes.NewReader(nil), nil // announced, but empty
		}
		return nil, err
	}
	x.unzip = unzip
	return unzip, nil
}

// Read implements io.Reader for a streamed answer. The org has to answer each
// read in time; how long the reader takes between them is its own affair.
func (x *exchange) Read(p []byte) (int, error) {
	x.timer.Reset(x.patience)
	n, err := x.body.Read(p)
	x.timer.Stop()
	x.answer.add(p[:n])
	if err != nil && err != io.EOF {
		if cause := context.Cause(x.ctx); cause != nil {
			err = cause
		}
		x.readErr = err
	}
	return n, err
}

// Close ends a streamed answer.
func (x *exchange) Close() error {
	x.finish(x.readErr)
	return nil
}

// finish drains what little may be left, so that the connection can be used
// again, lets go of it and reports the call. It acts once.
func (x *exchange) finish(err error) {
	x.once.Do(func() {
		if x.raw != nil {
			if err == nil {
				_, _ = io.CopyN(io.Discard, x.raw, 4<<10)
			}
			_ = x.raw.Close()
		}
		if x.unzip != nil {
			x.unzip.release()
		}
		x.timer.Stop()
		x.cancel(nil)
		r := x.call
		if x.unsent && r.counted() {
			x.client.meter.refund(x.start)
		} else if n, ok := x.ctx.Value(counterKey{}).(*atomic.Int64); ok && r.counted() {
			n.Add(1)
		}
		made := Call{
			Time: x.start, Method: r.method, Path: r.path, Status: x.status, Duration: time.Since(x.start),
			Sent: x.sent.Load(), Received: x.received.Load(), Login: !r.counted(), Err: err,
		}
		if report := x.client.cfg.OnCall; report != nil {
			report(made)
		}
		if report := x.client.cfg.Trace; report != nil {
			report(x.ctx, x.trace(made))
		}
	})
}

// readAll reads a body of bounded size.
func readAll(r io.Reader, length int64) ([]byte, error) {
	var b bytes.Buffer
	if length > 0 && length <= maxBody {
		b.Grow(int(length) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(r, maxBody+1))
	if err == nil && n > maxBody {
		err = errors.New("the answer is larger than 64 MB")
	}
	return b.Bytes(), err
}

type countedReader struct {
	from   io.Reader
	onRead func(n int)
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if n > 0 {
		r.onRead(n)
	}
	return n, err
}

// retryAfter reads the header of that name, which core REST does not send but
// what stands before it may.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil || seconds <= 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
