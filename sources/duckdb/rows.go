package duckdb

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
)

// maxCell is the most a frame's length can say.
const maxCell = 1<<31 - 1

var (
	errRowsClosed = errors.New("the rows were closed before their end")
	errCellSize   = errors.New("a value of 2 GiB or more cannot be read")
)

// rows streams a result's chunks.
type rows struct {
	session *session
	ctx     context.Context // the rows' life: the query is interrupted when it ends
	cancel  context.CancelFunc
	watch   *watcher

	estimate int64 // rows that DuckDB expects, -1 unknown

	schema  *schema
	result  bindings.Result
	chunk   bindings.DataChunk
	vectors []vector // of chunk
	at, n   int      // next row of chunk, and how many it has

	frame    []byte // reused for every row
	row      []byte
	complete bool
	err      error
	closing  sync.Once
}

// start runs the query until its result can be taken.
func (r *rows) start(m models.Model) error {
	stmt, err := r.session.prepare(r.ctx, m)
	if err != nil {
		return err
	}
	defer bindings.DestroyPrepare(&stmt)
	r.estimate = r.session.estimate(m)
	if r.schema, err = preparedSchema(stmt); err != nil {
		return err
	}
	var pending bindings.PendingResult
	defer bindings.DestroyPending(&pending)
	// Marked as deprecated in DuckDB's header, and still the only call that
	// does not hold the whole result in memory.
	if bindings.PendingPreparedStreaming(stmt, &pending) == bindings.StateError {
		return queryError(r.ctx, bindings.PendingError(pending))
	}
	if bindings.ExecutePending(pending, &r.result) == bindings.StateError {
		return queryError(r.ctx, bindings.ResultError(&r.result))
	}
	if n := int(bindings.ColumnCount(&r.result)); n != len(r.schema.types) {
		return errors.New("DuckDB gave another number of columns than it described")
	}
	r.vectors = make([]vector, len(r.schema.types))
	for i, t := range r.schema.types {
		r.vectors[i] = newVector(t)
	}
	return nil
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
	if r.watch.canceled.Load() {
		r.err = canceledError(r.ctx)
		return false
	}
	for r.at == r.n {
		if !r.fetch() {
			return false
		}
	}
	frame := r.frame[:0]
	for i := range r.vectors {
		v := &r.vectors[i]
		if v.null(r.at) {
			frame = append(frame, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		start := len(frame)
		frame = v.append(append(frame, 0, 0, 0, 0), r.at)
		size := len(frame) - start - 4
		if size > maxCell {
			r.err = errCellSize
			return false
		}
		binary.BigEndian.PutUint32(frame[start:], uint32(size))
	}
	r.frame, r.row = frame, frame
	r.at++
	return true
}

// fetch takes the next chunk.
func (r *rows) fetch() bool {
	bindings.DestroyDataChunk(&r.chunk)
	r.at, r.n = 0, 0
	r.chunk = bindings.FetchChunk(r.result)
	if r.watch.canceled.Load() {
		r.err = canceledError(r.ctx)
		return false
	}
	if r.chunk.Ptr == nil {
		if message := bindings.ResultError(&r.result); message != "" {
			r.err = queryError(r.ctx, message)
		} else {
			r.complete = true
		}
		return false
	}
	r.n = int(bindings.DataChunkGetSize(r.chunk))
	for i := range r.vectors {
		r.vectors[i].bind(bindings.DataChunkGetVector(r.chunk, bindings.IdxT(i)))
	}
	return true
}

// Close implements sources.Rows. Rows closed before their end are not
// complete, and Err says so.
func (r *rows) Close() error {
	r.closing.Do(func() {
		if r.err == nil && !r.complete {
			r.err = errRowsClosed
		}
		r.row = nil
		r.watch.stop()
		r.cancel()
		bindings.DestroyDataChunk(&r.chunk)
		bindings.DestroyResult(&r.result)
		r.session.release()
	})
	return nil
}
