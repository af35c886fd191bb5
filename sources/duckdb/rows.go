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

// chunksAhead is how many chunks are fetched before they are asked for. A chunk
// of ten CRM columns is half a megabyte.
const chunksAhead = 4

// rows streams a result's chunks. DuckDB makes a chunk in the call that fetches
// it, so a goroutine of its own fetches: on two cores the next chunks are read
// while the rows of this one are taken.
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

	chunks   chan bindings.DataChunk // closed when fetching has ended; nil before it began
	ended    bool                    // written before chunks is closed: the result has no more
	failure  string                  // written before chunks is closed
	fetching sync.WaitGroup
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
	r.chunks = make(chan bindings.DataChunk, chunksAhead)
	r.fetching.Go(r.fetchAll)
	return nil
}

// fetchAll fetches chunks until the result or the rows' life ends.
func (r *rows) fetchAll() {
	defer close(r.chunks)
	for !r.watch.canceled.Load() {
		chunk := bindings.FetchChunk(r.result)
		if chunk.Ptr == nil {
			r.failure = bindings.ResultError(&r.result)
			r.ended = r.failure == "" && !r.watch.canceled.Load()
			return
		}
		select {
		case r.chunks <- chunk:
		case <-r.ctx.Done():
			bindings.DestroyDataChunk(&chunk)
			return
		}
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
	chunk, more := <-r.chunks
	r.chunk = chunk
	switch {
	case r.watch.canceled.Load() || r.ctx.Err() != nil:
		r.err = canceledError(r.ctx)
		return false
	case !more && r.failure != "":
		r.err = queryError(r.ctx, r.failure)
		return false
	case !more && !r.ended:
		r.err = canceledError(r.ctx)
		return false
	case !more:
		r.complete = true
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
		r.cancel() // interrupts a fetch
		if r.chunks != nil {
			for chunk := range r.chunks {
				bindings.DestroyDataChunk(&chunk)
			}
		}
		r.fetching.Wait()
		r.watch.stop()
		bindings.DestroyDataChunk(&r.chunk)
		bindings.DestroyResult(&r.result)
		r.session.release()
	})
	return nil
}
