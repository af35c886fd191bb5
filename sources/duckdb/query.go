package duckdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
	"coho/sources"
)

// prepare binds the model's query, which must be one statement that only
// reads. The caller destroys the statement.
func (c *session) prepare(ctx context.Context, m models.Model) (stmt bindings.PreparedStatement, err error) {
	sql, err := querySQL(m)
	if err != nil {
		return stmt, err
	}
	// Timestamps with a zone are cast to text and to dates in the session's
	// zone, which must not be the machine's.
	if err := c.exec("SET TimeZone = 'UTC'"); err != nil {
		return stmt, err
	}
	var parsed bindings.ExtractedStatements
	n := bindings.ExtractStatements(c.conn, resolveFiles(sql, c.source.options.Dir), &parsed)
	defer bindings.DestroyExtracted(&parsed)
	switch {
	case n == 0:
		if message := bindings.ExtractStatementsError(parsed); message != "" {
			return stmt, queryError(ctx, message)
		}
		return stmt, errors.New("the query is empty")
	case n > 1:
		return stmt, errors.New("the query holds several statements: a model must be one query")
	}
	if bindings.PrepareExtractedStatement(c.conn, parsed, 0, &stmt) == bindings.StateError {
		err = queryError(ctx, bindings.PrepareError(stmt))
	} else if bindings.PreparedStatementType(stmt) != bindings.StatementTypeSelect {
		err = errors.New("the statement is not a query: a model must be a SELECT that only reads")
	} else if bindings.NParams(stmt) > 0 {
		err = errors.New("the query has parameters ($1, ?): a model's query must be complete")
	}
	if err != nil {
		bindings.DestroyPrepare(&stmt)
	}
	return stmt, err
}

// exec runs a statement without a result.
func (c *session) exec(sql string) error {
	var res bindings.Result
	defer bindings.DestroyResult(&res)
	if bindings.Query(c.conn, sql, &res) == bindings.StateError {
		return fmt.Errorf("%s: %s", sql, oneLine(bindings.ResultError(&res)))
	}
	return nil
}

// querySQL returns the model's query, with what its grouping adds.
func querySQL(m models.Model) (string, error) {
	query, err := plainSQL(m)
	if err != nil {
		return "", err
	}
	return sources.Grouped(query, m.Groups, sources.Dialect{Quote: sources.DoubleQuote, Text: "VARCHAR"}), nil
}

// plainSQL returns the model's query; a table becomes a SELECT of all its
// columns.
func plainSQL(m models.Model) (string, error) {
	switch {
	case m.Table != "":
		name, err := quoteTable(m.Table)
		if err != nil {
			return "", fmt.Errorf("table %q: %w", m.Table, err)
		}
		return "SELECT * FROM " + name, nil
	case strings.TrimSpace(m.SQL) == "":
		return "", errors.New("the model has neither a query nor a table")
	case strings.IndexByte(m.SQL, 0) >= 0:
		return "", errors.New("the query contains a NUL character")
	}
	return m.SQL, nil
}

var errTableName = errors.New(`want name, schema.name or database.schema.name, parts quoted with "" where they need it`)

// quoteTable takes a table's name apart at its dots, quoted parts whole, and
// returns it with every part quoted. DuckDB compares names without case.
func quoteTable(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", errTableName
	}
	var parts []string
	var part strings.Builder
	quoted, ended := false, false
	end := func() bool {
		if part.Len() == 0 || len(parts) == 3 {
			return false
		}
		parts = append(parts, `"`+strings.ReplaceAll(part.String(), `"`, `""`)+`"`)
		part.Reset()
		ended = false
		return true
	}
	s := strings.TrimSpace(name)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '"' && i+1 < len(s) && s[i+1] == '"':
			part.WriteByte('"')
			i++
		case quoted && c == '"':
			quoted, ended = false, true
		case quoted:
			part.WriteByte(c)
		case c == '"' && part.Len() == 0 && !ended:
			quoted = true
		case c == '.':
			if !end() {
				return "", errTableName
			}
		case ended || c == '"':
			return "", errTableName
		default:
			part.WriteByte(c)
		}
	}
	if quoted || !end() {
		return "", errTableName
	}
	return strings.Join(parts, "."), nil
}

// watcher interrupts a connection when a context ends.
type watcher struct {
	canceled atomic.Bool
	done     chan struct{} // closed by stop
	exited   chan struct{} // closed when the interrupter is gone
	unwatch  func() bool
}

// interruptEvery is how often the interrupt is repeated: DuckDB forgets one
// that arrives before the statement has begun.
const interruptEvery = 5 * time.Millisecond

func watch(ctx context.Context, conn bindings.Connection) *watcher {
	w := &watcher{done: make(chan struct{}), exited: make(chan struct{})}
	w.unwatch = context.AfterFunc(ctx, func() {
		defer close(w.exited)
		w.canceled.Store(true)
		again := time.NewTicker(interruptEvery)
		defer again.Stop()
		for {
			bindings.Interrupt(conn)
			select {
			case <-w.done:
				return
			case <-again.C:
			}
		}
	})
	return w
}

// stop ends the watch; after it the connection may be closed. It is called
// once.
func (w *watcher) stop() {
	close(w.done)
	if !w.unwatch() {
		<-w.exited
	}
}

// queryError turns DuckDB's message into an error of one line.
func queryError(ctx context.Context, message string) error {
	if ctx.Err() != nil {
		return canceledError(ctx)
	}
	return errors.New(oneLine(message))
}

// canceledError says why ctx ended.
func canceledError(ctx context.Context) error {
	return fmt.Errorf("read canceled: %w", context.Cause(ctx))
}

func oneLine(s string) string {
	// DuckDB draws a caret under the place it means, which one line cannot
	// show.
	fields := strings.Fields(s)
	if len(fields) > 0 && fields[len(fields)-1] == "^" {
		fields = fields[:len(fields)-1]
	}
	return strings.Join(fields, " ")
}
