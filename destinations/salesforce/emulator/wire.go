package emulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// meter counts what is answered.
type meter struct {
	http.ResponseWriter
	n      int64
	status int
}

func (m *meter) WriteHeader(status int) {
	m.status = status
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.ResponseWriter.Write(p)
	m.n += int64(n)
	return n, err
}

// Unwrap serves http.ResponseController.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// discard takes the answer of a request whose connection will be cut.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// recorder takes the answer of a part of a composite request.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (d *recorder) Header() http.Header { return d.header }
func (d *recorder) WriteHeader(status int) {
	if d.status == 0 {
		d.status = status
	}
}

func (d *recorder) Write(p []byte) (int, error) {
	d.WriteHeader(http.StatusOK)
	return d.body.Write(p)
}

type countedBody struct {
	io.ReadCloser
	n int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

type gzipBody struct {
	*gzip.Reader
	under io.Closer
}

func (b gzipBody) Close() error { return b.under.Close() }

// inflate makes a gzip body plain.
func inflate(r *http.Request) error {
	if !strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") || r.Body == http.NoBody {
		return nil
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return err
	}
	r.Body = gzipBody{z, r.Body}
	return nil
}

// gzipWriter compresses an answer, if it turns out to have a body.
type gzipWriter struct {
	http.ResponseWriter
	status int
	z      *gzip.Writer
}

func (g *gzipWriter) WriteHeader(status int) { g.status = status }

func (g *gzipWriter) Write(p []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewWriterLevel(g.ResponseWriter, gzip.BestSpeed)
		if err != nil {
			return 0, err
		}
		g.z = z
		g.Header().Set("Content-Encoding", "gzip")
		g.ResponseWriter.WriteHeader(max(g.status, http.StatusOK))
	}
	return g.z.Write(p)
}

// deflate compresses the answer when the client takes that; the function it
// returns ends the answer.
func deflate(c *call) func() {
	if !strings.Contains(c.r.Header.Get("Accept-Encoding"), "gzip") {
		return func() {}
	}
	if _, cut := c.w.(*discard); cut {
		return func() {}
	}
	g := &gzipWriter{ResponseWriter: c.w}
	c.w = g
	return func() {
		switch {
		case g.z != nil:
			_ = g.z.Close() // fails only when the client has gone
		case g.status != 0:
			g.ResponseWriter.WriteHeader(g.status)
		}
	}
}

func (c *call) json(status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(c.w, "cannot render the answer", http.StatusInternalServerError)
		return
	}
	c.raw(status, text)
}

// raw answers with JSON text.
func (c *call) raw(status int, text []byte) {
	if c.r.Header.Get("X-PrettyPrint") == "1" {
		var b bytes.Buffer
		if json.Indent(&b, text, "", "  ") == nil {
			text = b.Bytes()
		}
	}
	c.w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(text) // fails only when the client has gone
}

// body reads the request's body up to a limit in bytes; false when it is too
// large or the client went away, in which case the answer is given.
func (c *call) body(limit int64) (string, bool) {
	var text strings.Builder
	if n := c.r.ContentLength; n > 0 && n <= limit {
		text.Grow(int(n))
	}
	if _, err := io.Copy(&text, io.LimitReader(c.r.Body, limit+1)); err != nil {
		c.fail(http.StatusBadRequest, "INVALID_CONTENT", "the body cannot be read")
		return "", false
	}
	if int64(text.Len()) > limit {
		c.fail(http.StatusBadRequest, "EXCEEDED_MAX_SIZE_REQUEST", "The request is larger than the maximum allowed size")
		return "", false
	}
	return text.String(), true
}

// maxBody is the largest REST or SOAP body.
const maxBody = 50_000_000

// document reads a JSON body; false when the answer is given.
func (c *call) document() (*node, string, bool) {
	text, ok := c.body(maxBody)
	if !ok {
		return nil, "", false
	}
	n, err := parseJSON(text)
	if err != nil {
		at := 0
		if e, ok := err.(*jsonError); ok {
			at = e.at
		}
		c.fail(http.StatusBadRequest, "JSON_PARSER_ERROR", err.Error()+" at "+place(text, at))
		return nil, "", false
	}
	return n, text, true
}
