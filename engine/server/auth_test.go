package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/engine"
	"coho/models"
)

// TestOnlyTheTokenLetsIn: over TCP, whatever the request says of where it comes
// from; over the socket nothing is asked for.
func TestOnlyTheTokenLetsIn(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, c := range []struct {
		token, method, path string
		header              []string
		code                int
		want                string
	}{
		{"", "GET", "/healthz", nil, 200, ""},
		{"", "GET", "/readyz", nil, 200, ""},
		{"", "GET", "/healthz", []string{"Host", "evil.example"}, 200, ""},
		{"", "GET", "/api/v1/openapi.json", nil, 200, ""},
		{"", "GET", "/metrics", nil, 200, ""},
		{"", "GET", "/metrics", []string{"Host", "localhost:8484"}, 200, ""},
		{"", "GET", "/metrics", []string{"Host", "[::1]:8484"}, 200, ""},
		{"", "GET", "/metrics", []string{"Host", "evil.example:8484"}, 403, CodeHost},
		{"", "GET", "/metrics", []string{"Host", "127.0.0.1.evil.example"}, 403, CodeHost},
		{"", "GET", "/api/v1/syncs", nil, 401, CodeUnauthorized},
		{"", "POST", "/api/v1/runs", nil, 401, CodeUnauthorized},
		{"", "GET", "/api/v1/nothing", nil, 404, CodeNotFound},
		{"wrong", "GET", "/api/v1/syncs", nil, 401, CodeUnauthorized},
		{token + "x", "GET", "/api/v1/syncs", nil, 401, CodeUnauthorized},
		{token[:len(token)-1], "GET", "/api/v1/syncs", nil, 401, CodeUnauthorized},
		{"", "GET", "/api/v1/syncs", []string{"Authorization", "Basic " + token}, 401, CodeUnauthorized},
		{"", "GET", "/api/v1/syncs", []string{"Authorization", token}, 401, CodeUnauthorized},
		{"", "GET", "/api/v1/syncs?token=" + token, nil, 401, CodeUnauthorized},
		{"", "GET", "/api/v1/syncs", []string{"Authorization", "bearer " + token}, 200, ""},
		{token, "GET", "/api/v1/syncs", nil, 200, ""},
		{token, "GET", "/api/v1/syncs", []string{"Host", "coho.acme.example"}, 200, ""}, // behind a proxy
	} {
		a := w.askAs(c.token, c.method, c.path, "", c.header...)
		if a.code != c.code {
			t.Errorf("%q %s %s %v: %d, want %d: %s", c.token, c.method, c.path, c.header, a.code, c.code, a.body)
			continue
		}
		if c.want == "" {
			continue
		}
		if p := a.problem(t); p.Code != c.want || strings.Contains(a.body, token) {
			t.Errorf("%s %s: %+v, want %s", c.method, c.path, p, c.want)
		}
		if (c.code == 401) != (a.header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s %s: WWW-Authenticate %q", c.method, c.path, a.header.Get("WWW-Authenticate"))
		}
	}
	if _, err := w.client.Syncs(t.Context()); err != nil {
		t.Errorf("over the socket: %v", err)
	}
}

// TestWithoutTokenTheAPIIsClosed: but for the socket.
func TestWithoutTokenTheAPIIsClosed(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.server.token = ""
	for _, given := range []string{"", "x", token} {
		if p := w.askAs(given, "GET", "/api/v1/syncs", "").problem(t); p.Status != 403 || p.Code != CodeNoToken {
			t.Errorf("with %q: %+v", given, p)
		}
	}
	// An empty token in the config is not matched by an empty one in a request.
	if a := w.askAs("", "GET", "/api/v1/syncs", "", "Authorization", "Bearer "); a.code != 403 {
		t.Errorf("with an empty token: %d", a.code)
	}
	if a := w.askAs("", "GET", "/healthz", ""); a.code != 200 {
		t.Errorf("/healthz: %d", a.code)
	}
	if _, err := w.client.Syncs(t.Context()); err != nil {
		t.Errorf("over the socket: %v", err)
	}
}

// TestMetricsBeyondLoopbackNeedTheToken.
func TestMetricsBeyondLoopbackNeedTheToken(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.server.loopback = false
	if p := w.askAs("", "GET", "/metrics", "").problem(t); p.Code != CodeUnauthorized {
		t.Errorf("without: %+v", p)
	}
	if a := w.askAs(token, "GET", "/metrics", "", "Host", "coho.acme.example"); a.code != 200 {
		t.Errorf("with: %d", a.code)
	}
	if a := w.askAs("", "GET", "/healthz", ""); a.code != 200 {
		t.Errorf("/healthz: %d", a.code)
	}
}

func TestCheckAddr(t *testing.T) {
	for _, c := range []struct {
		addr     string
		token    models.Secret
		loopback bool
		bad      string
	}{
		{"127.0.0.1:8484", "", true, ""},
		{"127.8.8.8:8484", "", true, ""},
		{"[::1]:8484", "", true, ""},
		{"[::ffff:127.0.0.1]:8484", "", true, ""},
		{"localhost:8484", "", true, ""},
		{"LocalHost:0", "x", true, ""},
		{":8484", "", false, "no token"},
		{"0.0.0.0:8484", "", false, "no token"},
		{"[::]:8484", "", false, "no token"},
		{"10.0.0.7:8484", "", false, "no token"},
		{"localhost.evil.example:8484", "", false, "no token"},
		{"0.0.0.0:8484", "x", false, ""},
		{"coho.acme.example:8484", "x", false, ""},
		{"8484", "x", false, "port"},
		{"", "x", false, "port"},
	} {
		loopback, err := CheckAddr(c.addr, c.token)
		var usage *engine.UsageError
		if loopback != c.loopback || (err == nil) != (c.bad == "") || err != nil && (!errors.As(err, &usage) || !strings.Contains(err.Error(), c.bad)) {
			t.Errorf("%q with token %v: %v %v", c.addr, c.token != "", loopback, err)
		}
	}
	if _, err := New(Options{Addr: "0.0.0.0:8484", Metrics: NewMetrics("")}); err == nil {
		t.Error("a server was made for all the world to use")
	}
}

func TestSocketIsItsOwnersOnly(t *testing.T) {
	w := newWorld(t, worldOptions{})
	info, err := os.Stat(filepath.Join(w.state, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Mode()&os.ModeSocket == 0 {
		t.Errorf("the socket is %s", info.Mode())
	}
	left, err := os.ReadDir(w.state)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), making) {
			t.Errorf("%s is left", e.Name())
		}
	}
	w.stop()
	if _, err := os.Stat(filepath.Join(w.state, SocketName)); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := Dial(t.Context(), w.state); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("dialing a daemon that ended: %v", err)
	}
}

// TestSocketsInDeepFolders: a socket's name may be 103 bytes long, a folder's more.
func TestSocketsInDeepFolders(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("a-folder-with-a-long-name/", 8), "[state]")
	w := newWorld(t, worldOptions{state: deep})
	if _, err := w.client.Syncs(t.Context()); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(filepath.Join(deep, SocketName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "coho-*", "s")); len(left) > 0 {
		for _, l := range left {
			if to, _ := os.Readlink(l); to == deep {
				t.Errorf("%s is left", l)
			}
		}
	}
}

// TestStaleSockets: what a killed daemon left is no daemon, and in nobody's way.
func TestStaleSockets(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("of an empty folder: %v", err)
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("of no folder: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, SocketName)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(l.Close(), os.MkdirAll(filepath.Join(dir, making+"x", "y"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("of a dead socket: %v", err)
	}
	again, err := listenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left: %v", left, err)
	}
	go func() { // answers one greeting, of another version
		conn, err := again.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 4096)
		_, _ = conn.Read(buf)
		body := `{"version":"v9","api":"v2","pid":1,"started_at":"2026-01-01T00:00:00Z","config_fingerprint":"x"}`
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	}()
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Info().Version != "v9" || c.Info().API != "v2" {
		t.Errorf("%+v", c.Info())
	}
	// The connection ended with that answer and nobody accepts another.
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Syncs(t.Context())
	var lost *LostError
	if !errors.As(err, &lost) || lost.PID != 1 || strings.Contains(err.Error(), "\n") {
		t.Errorf("a daemon that went away: %v", err)
	}
}

// TestServerLimits: a head that is too large is refused.
func TestServerLimits(t *testing.T) {
	w := newWorld(t, worldOptions{})
	req, err := http.NewRequestWithContext(context.Background(), "GET", "http://"+w.addr+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Much", strings.Repeat("x", 2*maxHeader))
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a head of %d bytes: %s", 2*maxHeader, resp.Status)
	}
}
