package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"coho/models"
)

const (
	readBuffer = 256 << 10

	// maxMessage is above the gigabyte to which PostgreSQL limits a row.
	maxMessage = 1<<30 + 1<<20

	// cancelTimeout bounds how long a server that does not answer can hold up
	// the end of a cancelled read.
	cancelTimeout = 5 * time.Second
)

var errRowsClosed = errors.New("the rows were closed before their end")

// rows reads DataRow messages off the socket.
type rows struct {
	source *Source
	schema *schema
	query  string
	conn   net.Conn
	pg     *pgconn.PgConn // for the cancel request and the clean-up only

	ctx      context.Context // the rows' life: ends the statement when it ends
	cancel   context.CancelFunc
	unwatch  func() bool
	watched  chan struct{} // closed when the watcher has run
	canceled atomic.Bool   // set by the watcher before the socket is touched
	reading  sync.Mutex    // held while the socket is read

	buf  []byte // buf[r:w] is read but not consumed
	r, w int

	estimate  int64 // rows that the server expects, -1 unknown
	row       []byte
	complete  bool // the server said that the result is complete
	err       error
	closing   sync.Once
	releasing sync.Once
}

// stream sends the query for execution and returns its rows. From here on the
// rows own c and cancel. The query is parsed once more in the same breath: pgconn
// may have pinged the server since it was prepared (SyncConn, where a write was
// slow), and a ping takes the place of the unnamed statement.
func (s *Source) stream(ctx context.Context, cancel context.CancelFunc, c *conn, sc *schema, query string) (*rows, error) {
	r := &rows{source: s, schema: sc, query: query, conn: c.pg.Conn(), pg: c.pg,
		ctx: ctx, cancel: cancel, estimate: -1, watched: make(chan struct{}), buf: make([]byte, readBuffer)}
	r.unwatch = context.AfterFunc(ctx, r.abort)

	msg, err := (&pgproto3.Parse{Query: query}).Encode(nil)
	if err == nil {
		msg, err = (&pgproto3.Bind{ResultFormatCodes: sc.formats}).Encode(msg)
	}
	if err == nil {
		msg, err = (&pgproto3.Execute{}).Encode(msg)
	}
	if err == nil {
		msg, err = (&pgproto3.Sync{}).Encode(msg)
	}
	if err == nil {
		_, err = r.conn.Write(msg)
	}
	if err != nil {
		err = fmt.Errorf("send the query: %w", s.queryError(ctx, err, query))
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// abort runs when ctx ends: it wakes a reader that waits for the server, has
// the server stop, and gives the connection up without waiting for Close.
func (r *rows) abort() {
	defer close(r.watched)
	r.canceled.Store(true)
	_ = r.conn.SetReadDeadline(time.Unix(1, 0))
	r.endStatement()
	r.release()
}

// endStatement has the server stop and waits, for a while, until it has. One
// cancel request may not do: it ends what the server is at when it arrives, and
// that may be nothing yet. So it is sent again until the server, which is also
// told that the connection ends, has hung up.
func (r *rows) endStatement() {
	r.reading.Lock()
	defer r.reading.Unlock()
	if msg, err := (&pgproto3.Terminate{}).Encode(nil); err == nil {
		_ = r.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		_, _ = r.conn.Write(msg)
	}
	last := time.Now().Add(cancelTimeout)
	for pause := 50 * time.Millisecond; time.Now().Before(last); pause *= 2 {
		r.cancelStatement()
		_ = r.conn.SetReadDeadline(time.Now().Add(pause))
		if _, err := io.Copy(io.Discard, r.conn); !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// release closes the socket, once.
func (r *rows) release() {
	r.releasing.Do(func() {
		defer r.source.cleanup.Done()
		if err := r.conn.Close(); err != nil {
			r.source.log.Debug("close connection", "error", err)
		}
	})
}

// cancelStatement asks the server to stop, over a second connection. A
// request that fails is not an error: the server notices the closed socket
// when it next sends.
func (r *rows) cancelStatement() {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	if err := r.pg.CancelRequest(ctx); err != nil {
		r.source.log.DebugContext(ctx, "cancel statement", "error", err)
	}
}

// Schema implements sources.Rows.
func (r *rows) Schema() models.Schema { return r.schema }

// Estimate implements sources.Estimator.
func (r *rows) Estimate() (int64, bool) { return r.estimate, r.estimate >= 0 }

// Row implements sources.Rows.
func (r *rows) Row() []byte { return r.row }

// Err implements sources.Rows.
func (r *rows) Err() error { return r.err }

// Next implements sources.Rows.
func (r *rows) Next() bool {
	r.row = nil
	if r.err != nil || r.complete {
		return false
	}
	for {
		typ, body, err := r.message()
		if r.canceled.Load() {
			return r.fail(canceledError(r.ctx))
		}
		if err != nil {
			return r.fail(fmt.Errorf("read the result: %w", r.source.queryError(r.ctx, err, r.query)))
		}
		if typ == 'D' {
			if len(body) < 2 || int(binary.BigEndian.Uint16(body)) != len(r.schema.columns) {
				return r.fail(errors.New("the server sent a row with another number of columns than it described"))
			}
			r.row = body[2:]
			return true
		}
		if done, err := r.control(typ, body); err != nil {
			return r.fail(err)
		} else if done {
			return false
		}
	}
}

// control handles every message but a row.
func (r *rows) control(typ byte, body []byte) (done bool, err error) {
	switch typ {
	case 'C': // CommandComplete; an error may still follow
		return false, nil
	case 'Z': // ReadyForQuery
		r.complete = true
		return true, nil
	case 'E':
		var msg pgproto3.ErrorResponse
		if err := msg.Decode(body); err != nil {
			return false, fmt.Errorf("read the server's error: %w", err)
		}
		return false, r.source.queryError(r.ctx, pgconn.ErrorResponseToPgError(&msg), r.query)
	case '1', '2', 'N', 'S', 'A': // ParseComplete, BindComplete, NoticeResponse, ParameterStatus, NotificationResponse
		return false, nil
	}
	return false, fmt.Errorf("the server sent an unexpected message of type %q in the result", typ)
}

func (r *rows) fail(err error) bool {
	r.err = err
	return false
}

// message returns the next message, valid until the next call.
func (r *rows) message() (typ byte, body []byte, err error) {
	if r.w-r.r < 5 {
		if err := r.fill(5); err != nil {
			return 0, nil, err
		}
	}
	n := int(int32(binary.BigEndian.Uint32(r.buf[r.r+1:])))
	if n < 4 || n > maxMessage {
		return 0, nil, fmt.Errorf("the server sent a message of %d bytes", n)
	}
	n++ // the type is not counted
	if r.w-r.r < n {
		if err := r.fill(n); err != nil {
			return 0, nil, err
		}
	}
	typ, body = r.buf[r.r], r.buf[r.r+5:r.r+n:r.r+n]
	r.r += n
	return typ, body, nil
}

// fill reads until n bytes are buffered. The buffer grows for a message that
// is larger, and shrinks when that has been consumed.
func (r *rows) fill(n int) error {
	rest := r.buf[r.r:r.w]
	switch {
	case n > len(r.buf):
		grown := make([]byte, n+readBuffer)
		copy(grown, rest)
		r.buf = grown
	case len(r.buf) > 4*readBuffer && n <= readBuffer && len(rest) <= readBuffer:
		shrunk := make([]byte, readBuffer)
		copy(shrunk, rest)
		r.buf = shrunk
	default:
		copy(r.buf, rest)
	}
	r.r, r.w = 0, len(rest)
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.canceled.Load() {
		return os.ErrDeadlineExceeded
	}
	m, err := io.ReadAtLeast(r.conn, r.buf[r.w:], n-r.w)
	r.w += m
	return err
}

// Close implements sources.Rows. Rows closed before their end are not
// complete, and Err says so.
func (r *rows) Close() error {
	r.closing.Do(func() {
		r.row = nil
		if !r.unwatch() {
			<-r.watched
			return
		}
		defer r.cancel()
		defer r.release()
		if !r.complete {
			if r.err == nil {
				r.err = errRowsClosed
			}
			r.endStatement()
			return
		}
		// Without this message the server would log a lost connection.
		if msg, err := (&pgproto3.Terminate{}).Encode(nil); err == nil {
			_ = r.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
			_, _ = r.conn.Write(msg)
		}
	})
	return nil
}
