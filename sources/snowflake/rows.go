package snowflake

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/snowflakedb/gosnowflake"

	"coho/models"
	"coho/sources/columnar"
)

var errRowsClosed = errors.New("the rows were closed before their end")

// rows streams a result.
type rows struct {
	source   *Source
	printed  map[int]bool // columns that are times of day as text
	settings *resultContext
	ctx      context.Context // the rows' life: the statement is cancelled when it ends
	cancel   context.CancelFunc
	conn     *sql.Conn
	result   driver.Rows
	schema   *columnar.Schema

	// Of a result in Arrow.
	files   *files
	batch   *columnar.Batch
	records []arrow.RecordBatch // of the current file, the current one first

	values []driver.Value // of a result in JSON; nil for Arrow
	ended  bool           // there is no more of it

	frame, row []byte
	complete   bool
	err        error
	closing    sync.Once
	closeErr   error
}

// start makes ready to read what the statement gave.
func (r *rows) start() error {
	var err error
	if r.schema, err = newSchema(r.result, r.printed); err != nil {
		return err
	}
	for i, f := range r.schema.Fields() {
		if f.Type.Form == columnar.Clock && !r.printed[i] {
			return fmt.Errorf("column %q became a %s while the query was being compiled: run it again", f.Name, f.Type.Name)
		}
	}
	snowflakeRows, ok := r.result.(gosnowflake.SnowflakeRows)
	if !ok {
		return fmt.Errorf("the driver gave rows that are not its own: %T", r.result)
	}
	batches, err := snowflakeRows.GetArrowBatches()
	var answer *gosnowflake.SnowflakeError
	switch {
	case errors.As(err, &answer) && answer.Number == gosnowflake.ErrNonArrowResponseInArrowBatches:
		r.settings.plain.Store(true)
		r.values = make([]driver.Value, len(r.schema.Fields()))
		return nil
	case err != nil:
		return r.source.fail(r.ctx, err)
	}
	r.batch = columnar.NewBatch(r.schema.Fields())
	r.files = newFiles(r.ctx, batches, func() ([]*gosnowflake.ArrowBatch, error) { return r.again(snowflakeRows.GetQueryID()) })
	return nil
}

// again asks for the same result once more, for links to its files that have
// not expired. The statement does not run again. The ping renews the session,
// whose token lasts less long than a link and which the driver does not renew
// when it asks for a result.
func (r *rows) again(queryID string) ([]*gosnowflake.ArrowBatch, error) {
	if err := r.conn.PingContext(r.ctx); err != nil {
		return nil, err
	}
	result, err := query(gosnowflake.WithFetchResultByID(r.settings, queryID), r.conn, "")
	if err != nil {
		return nil, err
	}
	snowflakeRows, ok := result.(gosnowflake.SnowflakeRows)
	if !ok {
		return nil, fmt.Errorf("the driver gave rows that are not its own: %T", result)
	}
	return snowflakeRows.GetArrowBatches()
}

// Schema implements sources.Rows.
func (r *rows) Schema() models.Schema { return r.schema }

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
	var err error
	if r.values != nil {
		err = r.nextValues()
	} else {
		err = r.nextArrow()
	}
	switch {
	case errors.Is(err, io.EOF):
		r.complete = true
		return false
	case err != nil:
		r.err = err
		return false
	}
	r.row = r.frame
	return true
}

func (r *rows) nextArrow() error {
	for {
		if len(r.records) > 0 {
			var err error
			if r.frame, err = r.batch.Next(); !errors.Is(err, io.EOF) {
				return err
			}
		}
		if err := r.nextRecord(); err != nil {
			return err
		}
	}
}

// nextRecord moves to the next record batch, of this file or the next.
func (r *rows) nextRecord() error {
	if len(r.records) > 0 {
		r.records[0].Release()
		r.records = r.records[1:]
	}
	for len(r.records) == 0 {
		var err error
		if r.records, err = r.files.next(); errors.Is(err, io.EOF) && r.ctx.Err() == nil {
			return io.EOF
		} else if err != nil {
			return r.source.fail(r.ctx, err)
		}
	}
	return r.batch.Reset(r.records[0])
}

func (r *rows) nextValues() error {
	err := r.result.Next(r.values)
	r.ended = err != nil
	switch {
	case errors.Is(err, io.EOF) && r.ctx.Err() == nil:
		return io.EOF
	case err != nil || r.ctx.Err() != nil:
		return r.source.fail(r.ctx, err)
	}
	r.frame = r.frame[:0]
	for i, f := range r.schema.Fields() {
		var err error
		if r.frame, err = appendValue(r.frame, f.Type, r.values[i]); err != nil {
			return fmt.Errorf("column %q (%s): %w", f.Name, f.Type.Name, err)
		}
	}
	return nil
}

// Close implements sources.Rows. Rows closed before their end are not
// complete, and Err says so.
func (r *rows) Close() error {
	r.closing.Do(func() {
		if r.err == nil && !r.complete {
			r.err = errRowsClosed
		}
		r.row = nil
		r.cancel()
		for _, record := range r.records {
			record.Release()
		}
		switch {
		case r.files != nil:
			r.files.close()
		case r.values != nil && !r.ended:
			for r.result.Next(r.values) == nil { // until the driver's goroutine has seen that the context ended
			}
		}
		r.closeErr = errors.Join(r.result.Close(), release(r.conn))
	})
	return r.closeErr
}
