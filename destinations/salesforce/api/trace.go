package api

import (
	"io"
	"net/url"
	"regexp"
	"sync"
	"unicode/utf8"
)

// head keeps the beginning of a text that passes by, for Config.Trace. A nil
// head keeps nothing.
type head struct {
	mu   sync.Mutex
	text []byte // guarded by mu
	most int
	cut  bool // guarded by mu: there was more
}

func (h *head) add(p []byte) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(len(p), h.most-len(h.text))
	h.text = append(h.text, p[:n]...)
	h.cut = h.cut || n < len(p)
}

func (h *head) String() string {
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	text := h.text
	for i := 0; h.cut && i < utf8.UTFMax && len(text) > 0 && !utf8.Valid(text); i++ {
		text = text[:len(text)-1] // a character was cut in two
	}
	if h.cut {
		return string(text) + "..."
	}
	return string(text)
}

// heard is a source whose beginning is kept.
type heard struct {
	io.ReadCloser
	by *head
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.by.add(p[:n])
	return n, err
}

// rowCounter is a body to stream that knows how many rows it holds.
type rowCounter interface{ Rows() int64 }

// tokens are session ids and access tokens, which no body of a recorded call
// should hold; those that this client knows are taken out by their text.
var tokens = regexp.MustCompile(`00D[A-Za-z0-9]{12}![A-Za-z0-9._]{16,}|(?i)("?(?:access_token|refresh_token|client_secret|password|sessionId|assertion)"?\s*[:=>]\s*"?)[^"&<,\s]+`)

// clean takes secrets out of a body.
func (c *Client) clean(text string) string {
	if text == "" {
		return ""
	}
	return tokens.ReplaceAllString(c.scrub(text), "${1}[redacted]")
}

// trace fills in what Config.Trace gets beyond OnCall.
func (x *exchange) trace(report Call) Call {
	report.Rows = x.call.rows + x.rows.Load()
	if !x.call.counted() {
		return report // its bodies are nothing but secrets
	}
	report.Request = x.client.clean(x.asked.String())
	report.Answer = x.client.clean(x.answer.String())
	if report.Request == "" && x.call.query != "" {
		if text, err := url.QueryUnescape(x.call.query); err == nil {
			h := head{most: x.client.cfg.TraceBytes}
			h.add([]byte(text))
			report.Request = x.client.clean(h.String())
		}
	}
	return report
}
