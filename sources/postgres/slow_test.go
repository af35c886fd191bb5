package postgres

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"coho/models"
	"coho/sources/postgres/postgrestest"
)

// slowConn is a connection whose writes of a query to be parsed return late: not before the server's
// answer has been read by somebody else, who is then waiting for the next one. It
// is what a busy machine does to pgconn, which reads in the background while a
// write is slow, and pings the server before it lets go of the socket.
type slowConn struct {
	net.Conn
	mu    sync.Mutex
	reads int           // calls of Read
	news  chan struct{} // closed and replaced with every one
}

func (c *slowConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.reads++
	close(c.news)
	c.news = make(chan struct{})
	c.mu.Unlock()
	return c.Conn.Read(p)
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	before, news := c.reads, c.news
	c.mu.Unlock()
	n, err := c.Conn.Write(p)
	if len(p) == 0 || p[0] != 'P' {
		return n, err
	}
	late := time.After(200 * time.Millisecond) // nobody reads beside: it is the rows' own write
	for now := before; now < before+2; {
		select {
		case <-news:
		case <-late:
			return n, err
		}
		c.mu.Lock()
		now, news = c.reads, c.news
		c.mu.Unlock()
	}
	return n, err
}

// A ping that pgconn sends on its own takes the place of the unnamed statement. The
// query must be there all the same when it is executed.
func TestReadOverASlowConnection(t *testing.T) {
	dsn := postgrestest.Start(t).CreateDatabase(t)
	s, err := Open(Options{DSN: models.Secret(dsn)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dial := s.config.DialFunc
	s.config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &slowConn{Conn: conn, news: make(chan struct{})}, nil
	}
	rows, err := s.Read(t.Context(), models.Model{SQL: "SELECT 1 AS k UNION ALL SELECT 2"})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil || n != 2 {
		t.Fatalf("%d rows: %v", n, err)
	}
}
