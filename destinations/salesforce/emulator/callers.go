package emulator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// callers knows the connections that are open, in the order they came in.
type callers struct {
	mu      sync.Mutex
	last    int64 // of all there have been
	open    map[net.Conn]int64
	changed chan struct{} // closed at the next change
}

func newCallers() *callers {
	return &callers{open: map[net.Conn]int64{}, changed: make(chan struct{})}
}

// state is the http.Server's ConnState: a connection comes before its first
// request is read, and goes after its last one was answered.
func (c *callers) state(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.last++
		c.open[conn] = c.last
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	default:
		return
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// after reports whether a connection that came after the n-th is open.
func (c *callers) after(n int64) (open bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.open {
		open = open || at > n
	}
	return open, c.changed
}

// Callers returns a function that waits until all who connected to the org since
// are gone and what they sent has been worked on, as far as it came whole: a
// process that was killed leaves requests behind that are still to be read. It
// does not wait for bulk jobs. No one else may connect in between.
func (s *Server) Callers() (gone func(ctx context.Context) error) {
	s.callers.mu.Lock()
	n := s.callers.last
	s.callers.mu.Unlock()
	return func(ctx context.Context) error {
		// Connections are taken in the order they were made, so once one made now
		// is taken and closed, none of those before it is still to come.
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", s.listener.Addr().String())
		if err != nil {
			return fmt.Errorf("connect to the org: %w", err)
		}
		mine := conn.LocalAddr().String()
		for {
			taken, changed := s.callers.from(mine, n)
			if taken {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				_ = conn.Close() // ctx is what ended it
				return fmt.Errorf("wait for the org to take a connection: %w", context.Cause(ctx))
			}
		}
		if err := conn.Close(); err != nil {
			return fmt.Errorf("close a connection to the org: %w", err)
		}
		for {
			open, changed := s.callers.after(n)
			if !open {
				return nil
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return fmt.Errorf("wait for the org's callers to be gone: %w", context.Cause(ctx))
			}
		}
	}
}

// from reports whether the connection from addr has been taken.
func (c *callers) from(addr string, n int64) (taken bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, at := range c.open {
		taken = taken || at > n && conn.RemoteAddr().String() == addr
	}
	return taken, c.changed
}
