package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// Error is what the server answered, on one line.
type Error struct {
	Code    string // SQLSTATE
	Message string
	Detail  string
	Hint    string
	Line    int // where in the query, counted from 1; 0 if unknown
	Column  int // in characters, counted from 1
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Line > 0 {
		fmt.Fprintf(&b, " at line %d, column %d", e.Line, e.Column)
	}
	if e.Detail != "" {
		b.WriteString("; " + e.Detail)
	}
	if e.Hint != "" {
		b.WriteString("; hint: " + e.Hint)
	}
	if e.Code != "" {
		b.WriteString(" (SQLSTATE " + e.Code + ")")
	}
	return b.String()
}

// codeSyntaxError is the SQLSTATE that gets a message of our own.
const codeSyntaxError = "42601"

// serverError keeps of a pgconn error what a user may see.
func serverError(e *pgconn.PgError, query string) *Error {
	out := &Error{Code: e.Code, Message: oneLine(e.Message), Detail: oneLine(e.Detail), Hint: oneLine(e.Hint)}
	if query != "" && e.Position > 0 {
		out.Line, out.Column = position(query, int(e.Position))
	}
	if e.Code == codeSyntaxError && strings.Contains(e.Message, "multiple commands") {
		// The server has no code of its own for this.
		out.Message = "the query holds several statements: a model must be one query"
	}
	return out
}

// position turns the server's 1-based character offset into line and column.
func position(query string, offset int) (line, column int) {
	line, column = 1, 1
	for _, r := range query {
		if offset--; offset == 0 {
			break
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}

func oneLine(s string) string {
	if !utf8.ValidString(s) { // sent before the encoding was agreed upon
		s = strings.ToValidUTF8(s, "?")
	}
	return strings.Join(strings.Fields(s), " ")
}

// canceledError says why ctx ended. It wraps context.Canceled or
// context.DeadlineExceeded where nothing else was given as the cause.
func canceledError(ctx context.Context) error {
	return fmt.Errorf("read canceled: %w", context.Cause(ctx))
}

// queryError turns an error of a connection into one line.
func (s *Source) queryError(ctx context.Context, err error, query string) error {
	if ctx.Err() != nil {
		return canceledError(ctx)
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		return serverError(pg, query)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the server at %s closed the connection", s.address())
	}
	return fmt.Errorf("connection to %s: %s", s.address(), oneLine(err.Error()))
}

// connectError turns pgconn's connection error into one line. pgconn's own
// error is not wrapped, since it carries the configuration with the password.
func (s *Source) connectError(err error) error {
	where := fmt.Sprintf("connect to %s, database %q, as user %q: ", s.address(), s.config.Database, s.config.User)
	var (
		pg  *pgconn.PgError
		op  *net.OpError
		dns *net.DNSError
		sys syscall.Errno
	)
	switch {
	case errors.As(err, &pg):
		return fmt.Errorf("%s%w", where, serverError(pg, ""))
	case errors.As(err, &dns):
		return errors.New(where + "unknown host " + dns.Name)
	case errors.As(err, &sys):
		return fmt.Errorf("%s%w", where, sys)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%sno answer within %s", where, s.config.ConnectTimeout)
	case errors.As(err, &op):
		return errors.New(where + oneLine(op.Err.Error()))
	}
	return errors.New(where + s.redact(rootCause(err)))
}

// rootCause is the text of the innermost error, without the wrapping that
// repeats the connection's parameters.
func rootCause(err error) string {
	for {
		switch u := err.(type) {
		case interface{ Unwrap() []error }:
			if len(u.Unwrap()) == 0 {
				return err.Error()
			}
			err = u.Unwrap()[0]
		case interface{ Unwrap() error }:
			if u.Unwrap() == nil {
				return err.Error()
			}
			err = u.Unwrap()
		default:
			return err.Error()
		}
	}
}

func (s *Source) redact(text string) string {
	if s.config.Password != "" {
		text = strings.ReplaceAll(text, s.config.Password, "[redacted]")
	}
	return oneLine(text)
}

// address is where the source connects: host:port, or a socket's path.
func (s *Source) address() string {
	if strings.HasPrefix(s.config.Host, "/") {
		return s.config.Host
	}
	return net.JoinHostPort(s.config.Host, strconv.Itoa(int(s.config.Port)))
}

// parseError says that a connection string is malformed without quoting it:
// in a malformed one nothing tells where the password is.
func parseError(err error) error {
	const want = "want postgres://user:password@host:port/database, or key=value pairs such as host, user and dbname"
	// These are found after the string was taken apart, so their cause does
	// not quote it.
	if cause := errors.Unwrap(err); cause != nil {
		for _, what := range []string{"failed to configure TLS", "failed to read service", "invalid connect_timeout", "invalid sslcertmode"} {
			if strings.Contains(err.Error(), "`: "+what) {
				return fmt.Errorf("dsn: %s: %s", what, oneLine(cause.Error()))
			}
		}
	}
	return errors.New("dsn is not a PostgreSQL connection string: " + want)
}
