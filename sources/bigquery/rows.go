package bigquery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"cloud.google.com/go/bigquery"
	"github.com/apache/arrow-go/v18/arrow"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coho/models"
	"coho/sources/columnar"
)

// largeRows is from where on a result is read through the Storage Read API: a
// session takes longer to set up than some pages of REST.
const largeRows = 20_000

// pageRows is the size of a page of REST.
const pageRows = 10_000

var errRowsClosed = errors.New("the rows were closed before their end")

// rows streams a result.
type rows struct {
	source *Source
	ctx    context.Context // the rows' life
	cancel context.CancelFunc
	job    *bigquery.Job
	schema *columnar.Schema

	// Of a result by REST.
	iterator *bigquery.RowIterator
	values   []bigquery.Value

	// Of a result through the Storage Read API.
	streams *streams
	batch   *columnar.Batch
	record  arrow.RecordBatch

	total, read uint64 // rows of the result, and given so far
	frame, row  []byte
	complete    bool
	err         error
	closing     sync.Once
}

// start makes ready to read what the query gave.
func (r *rows) start() error {
	var err error
	if r.iterator, err = r.job.Read(r.ctx); err != nil {
		return err
	}
	r.iterator.PageInfo().MaxSize = pageRows
	if r.total = r.iterator.TotalRows; r.total == 0 {
		r.complete = true
		return nil
	}
	if r.total < r.source.large || !r.source.mayReadStorage() {
		return nil
	}
	if r.streams, err = r.source.openStreams(r.ctx, r.job); err != nil {
		if status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("open the result: %w", err)
		}
		r.source.forbidStorage()
		return nil
	}
	r.batch = columnar.NewBatch(r.schema.Fields())
	r.iterator = nil
	return nil
}

func (s *Source) mayReadStorage() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	// An emulator that has no such API is read by REST.
	return !s.noRead && (s.options.Endpoint == "" || s.options.StorageEndpoint != "")
}

func (s *Source) forbidStorage() {
	s.mu.Lock()
	said := s.noRead
	s.noRead = true
	s.mu.Unlock()
	if !said {
		s.log.Warn("large results are read by REST, which is slower: the source's account may not use the Storage Read API; grant it BigQuery Read Session User")
	}
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
	switch {
	case r.ctx.Err() != nil:
		err = r.ctx.Err()
	case r.iterator != nil:
		err = r.nextValues()
	default:
		err = r.nextArrow()
	}
	switch {
	case errors.Is(err, io.EOF) && r.read != r.total:
		r.err = fmt.Errorf("the result has %d rows and ended after %d", r.total, r.read)
		return false
	case errors.Is(err, io.EOF):
		r.complete = true
		return false
	case err != nil:
		r.err = describeError(r.ctx, err)
		return false
	}
	r.read++
	r.row = r.frame
	return true
}

func (r *rows) nextValues() error {
	if err := r.iterator.Next(&r.values); err != nil {
		if errors.Is(err, iterator.Done) {
			return io.EOF
		}
		return err
	}
	fields := r.schema.Fields()
	if len(r.values) != len(fields) {
		return fmt.Errorf("a row has %d columns instead of %d", len(r.values), len(fields))
	}
	r.frame = r.frame[:0]
	for i, f := range fields {
		var err error
		if r.frame, err = appendValue(r.frame, f.Type, r.values[i]); err != nil {
			return fmt.Errorf("column %q (%s): %w", f.Name, f.Type.Name, err)
		}
	}
	return nil
}

func (r *rows) nextArrow() error {
	for {
		if r.record != nil {
			var err error
			if r.frame, err = r.batch.Next(); !errors.Is(err, io.EOF) {
				return err
			}
			r.record.Release()
			r.record = nil
		}
		record, err := r.streams.next()
		if err != nil {
			return err
		}
		r.record = record
		if err := r.batch.Reset(record); err != nil {
			return err
		}
	}
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
		if r.record != nil {
			r.record.Release()
		}
		if r.streams != nil {
			r.streams.close()
		}
	})
	return nil
}
