package bigquery

import (
	"context"
	"errors"
	"net"
	"sync"
)

// connections are those that a client has open. A transport closes none that is
// in use, nor one that is still being dialed, when it is told to close them.
type connections struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex // guards what follows
	open   map[*connection]bool
	closed bool
}

type connection struct {
	net.Conn
	owner *connections
}

func newConnections(dial func(ctx context.Context, network, address string) (net.Conn, error)) *connections {
	return &connections{dial: dial, open: map[*connection]bool{}}
}

// dialContext opens a connection that close closes.
func (c *connections) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	inner, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: inner, owner: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(errClosed, inner.Close())
	}
	c.open[conn] = true
	return conn, nil
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.open, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// close closes all and lets no other be opened.
func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.open {
		_ = conn.Conn.Close() // broken ones too: nothing is sent any more
	}
	clear(c.open)
}
