package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// connections are those that a client has open. A transport closes none that is
// in use, nor one that is still being dialed, when it is told to close them.
type connections struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	outage outage

	mu     sync.Mutex // guards what follows
	open   map[*connection]bool
	closed bool
}

type connection struct {
	net.Conn
	owner *connections
}

func newConnections(dial func(ctx context.Context, network, address string) (net.Conn, error), patience time.Duration) *connections {
	return &connections{dial: dial, outage: outage{patience: patience}, open: map[*connection]bool{}}
}

// dialContext opens a connection that close closes.
func (c *connections) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	inner, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, c.failed(ctx, address, err)
	}
	conn := &connection{Conn: inner, owner: c}
	c.outage.ended()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(errClosed, inner.Close())
	}
	c.open[conn] = true
	return conn, nil
}

// failed returns the error of a connection that could not be had: at first the
// network's own, with which the client tries again, and then one with which it
// does not.
func (c *connections) failed(ctx context.Context, address string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if out := c.outage.failed(time.Now()); out > 0 {
		return fmt.Errorf("%s is out of reach since %s", address, out.Round(time.Second))
	}
	return err
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
