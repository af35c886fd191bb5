package api

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	orgID  = "00D000000000062EAA"
	userID = "005000000000001AAA"
)

// fakeOrg answers by what a test registers, with the bodies that Salesforce
// documents.
type fakeOrg struct {
	*httptest.Server
	mux    *http.ServeMux
	logins atomic.Int64
	login  atomic.Pointer[http.HandlerFunc] // replaces the token endpoint

	mu    sync.Mutex
	valid map[string]bool // the tokens that are accepted
}

func newOrg(t *testing.T) *fakeOrg {
	t.Helper()
	o := &fakeOrg{mux: http.NewServeMux(), valid: map[string]bool{}}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == tokenPath {
			o.token(w, r)
			return
		}
		o.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *fakeOrg) token(w http.ResponseWriter, r *http.Request) {
	n := o.logins.Add(1)
	if h := o.login.Load(); h != nil {
		(*h)(w, r)
		return
	}
	token := fmt.Sprintf("00D000000000062!session%d", n)
	o.mu.Lock()
	o.valid[token] = true
	o.mu.Unlock()
	reply(w, 200, fmt.Sprintf(`{"access_token":%q,"instance_url":%q,"id":"https://login.salesforce.com/id/%s/%s","token_type":"Bearer","issued_at":"1725700000000","signature":"c2ln","scope":"api id"}`,
		token, o.URL, orgID, userID))
}

func (o *fakeOrg) onLogin(h http.HandlerFunc) { o.login.Store(&h) }

// expire ends all sessions there are.
func (o *fakeOrg) expire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.valid)
}

// on registers a resource that needs a session.
func (o *fakeOrg) on(pattern string, h http.HandlerFunc) {
	o.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		ok := o.valid[trimBearer(r.Header.Get("Authorization"))]
		o.mu.Unlock()
		if !ok {
			_, _ = io.Copy(io.Discard, r.Body)
			reply(w, 401, `[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`)
			return
		}
		h(w, r)
	})
}

func trimBearer(h string) string {
	if len(h) < 7 || h[:7] != "Bearer " {
		return ""
	}
	return h[7:]
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// sequence answers each call by the next handler, and further ones by the last.
func sequence(hs ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		hs[min(int(n.Add(1)), len(hs))-1](w, r)
	}
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		reply(w, status, body)
	}
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// client is a client of the org that does not dawdle.
func (o *fakeOrg) client(t *testing.T, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Domain: o.URL, Auth: AuthClientCredentials, ClientID: "consumer", ClientSecret: "s3cr3t-value"}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.retry.start, c.retry.cap = time.Millisecond, 4*time.Millisecond
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// body reads what was sent, decompressed.
func body(t *testing.T, r *http.Request) string {
	t.Helper()
	var from io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := newGunzip(r.Body)
		if err != nil {
			t.Error(err)
			return ""
		}
		from = z
	}
	b, err := io.ReadAll(from)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
