package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// awaited is what a command says, and tells when it has said a text.
type awaited struct {
	text string
	said chan struct{}

	mu  sync.Mutex // guards the rest
	buf bytes.Buffer
}

func (a *awaited) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := strings.Contains(a.buf.String(), a.text)
	a.buf.Write(p)
	if !before && strings.Contains(a.buf.String(), a.text) {
		close(a.said)
	}
	return len(p), nil
}

func (a *awaited) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.buf.String()
}

// TestCommandsLeaveNoGoroutines: whatever a command starts has ended when it has,
// that of a daemon with a run behind it among them.
func TestCommandsLeaveNoGoroutines(t *testing.T) {
	w := newBeside(t)
	before := goleak.IgnoreCurrent()
	for _, args := range [][]string{
		{"validate"}, {"plan", "accounts"}, {"run", "accounts"}, {"run", "--sequence", "nightly"}, {"run", "wrong"}, {"status"}, {"query", "SELECT Id FROM Account"},
	} {
		w.coho(args...)
	}
	w.config(strings.Replace(besideConfig, "on_removed", "schedule = \"@every 1s\"\non_removed", 1))
	w.write("accounts.csv", "k,name\nA1,Acme\nA2,Bolt\nA3,Core\nA4,Dune\n")
	log := &awaited{text: "run ended", said: make(chan struct{})}
	signals := make(chan os.Signal, 2)
	env := func(name string) (string, bool) { v, ok := w.env[name]; return v, ok }
	ended := make(chan int)
	go func() {
		ended <- Execute([]string{"--config", filepath.Join(w.dir, "coho.toml"), "serve"}, io.Discard, log, env, signals)
	}()
	select {
	case <-log.said:
		signals <- syscall.SIGTERM
		if code := <-ended; code != exitTerm {
			t.Errorf("exit code %d", code)
		}
	case code := <-ended:
		t.Errorf("the daemon ended at once: exit code %d\n%s", code, log)
	}
	goleak.VerifyNone(t, before)
}
