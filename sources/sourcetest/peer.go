package sourcetest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// Peer is a warehouse that other people wrote, running as a process of its
// own for as long as a test runs. scripts/test-warehouses builds them.
type Peer struct {
	done   chan struct{}
	output lockedBuffer
}

// StartPeer starts the peer of that name, whose binary is in the directory
// that COHO_PEERS names.
func StartPeer(tb testing.TB, name string, env []string, args ...string) *Peer {
	tb.Helper()
	dir := os.Getenv("COHO_PEERS")
	if dir == "" {
		tb.Fatalf("COHO_PEERS names no directory with %s in it: run make test-warehouses", name)
	}
	cmd := exec.Command(filepath.Join(dir, name), args...)
	p := &Peer{done: make(chan struct{})}
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = tb.TempDir()
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how a killed process ends says nothing
	}()
	tb.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !p.ended() {
			tb.Errorf("stop %s: %v", name, err)
		}
		<-p.done
		if tb.Failed() {
			tb.Logf("%s said:\n%s", name, p.output.tail())
		}
	})
	return p
}

func (p *Peer) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Await waits until the peer answers at the address.
func (p *Peer) Await(tb testing.TB, address string) {
	tb.Helper()
	await(tb, "the peer to listen at "+address, func() bool {
		if p.ended() {
			tb.Fatalf("the peer ended:\n%s", p.output.tail())
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// FreePort returns a port of the loopback interface that nothing listens on.
func FreePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	return strconv.Itoa(port)
}

// lockedBuffer takes the output of a process.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// tail returns the last of it.
func (b *lockedBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	const most = 4000
	s := b.buf.String()
	return s[max(0, len(s)-most):]
}
