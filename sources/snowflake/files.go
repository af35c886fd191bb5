package snowflake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/snowflakedb/gosnowflake"
)

// files fetches the files of a result side by side and hands them out in
// their order. next and close are called by one goroutine.
type files struct {
	ctx   context.Context
	again func() ([]*gosnowflake.ArrowBatch, error) // links that have not expired
	total int

	mu      sync.Mutex // guards what follows
	batches []*gosnowflake.ArrowBatch
	renewed int // how often the links were

	ahead   []chan file // being fetched, the next one first
	started int
	wait    sync.WaitGroup
}

// file is a fetched file.
type file struct {
	records []arrow.RecordBatch
	err     error
}

func newFiles(ctx context.Context, batches []*gosnowflake.ArrowBatch, again func() ([]*gosnowflake.ArrowBatch, error)) *files {
	f := &files{ctx: ctx, batches: batches, again: again, total: len(batches)}
	for range min(fetchAhead, len(batches)) {
		f.start()
	}
	return f
}

// start begins to fetch the next file.
func (f *files) start() {
	i := f.started
	f.started++
	done := make(chan file, 1)
	f.ahead = append(f.ahead, done)
	f.wait.Go(func() {
		records, err := f.fetch(i)
		done <- file{records, err}
	})
}

// next returns the next file's record batches, which the caller releases;
// io.EOF after the last.
func (f *files) next() ([]arrow.RecordBatch, error) {
	if len(f.ahead) == 0 {
		return nil, io.EOF
	}
	var got file
	select {
	case got = <-f.ahead[0]:
	case <-f.ctx.Done(): // close waits for the rest
		return nil, f.ctx.Err()
	}
	f.ahead = f.ahead[1:]
	if f.started < f.total && got.err == nil {
		f.start()
	}
	return got.records, got.err
}

// maxRenewals bounds how often links may expire under a reader; each lasts for
// hours. maxTries bounds how often one file is asked for.
const (
	maxRenewals = 10
	maxTries    = 3
)

func (f *files) fetch(i int) ([]arrow.RecordBatch, error) {
	for try := 1; ; try++ {
		f.mu.Lock()
		batch, generation := f.batches[i], f.renewed
		f.mu.Unlock()
		records, err := batch.WithContext(f.ctx).Fetch()
		if err == nil {
			return *records, nil
		}
		if f.ctx.Err() != nil || try == maxTries {
			return nil, err
		}
		// The same batch is not asked again even where its link is good: the
		// driver would hand out what it had read of a file that was cut off
		// as if it were all.
		if rerr := f.renew(generation); rerr != nil {
			return nil, fmt.Errorf("fetch a file of the result: %w; ask for it again: %w", err, rerr)
		}
	}
}

// renew gets new links, unless another fetch has done so since generation.
func (f *files) renew(generation int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.renewed > generation {
		return nil
	}
	if f.renewed == maxRenewals {
		return errors.New("its files could not be read again and again")
	}
	batches, err := f.again()
	if err != nil {
		return err
	}
	if len(batches) != len(f.batches) {
		return fmt.Errorf("the result is now in %d files instead of %d", len(batches), len(f.batches))
	}
	f.batches = batches
	f.renewed++
	return nil
}

// close waits for what is being fetched, whose context has ended.
func (f *files) close() {
	f.wait.Wait()
	for _, done := range f.ahead {
		for _, record := range (<-done).records {
			record.Release()
		}
	}
	f.ahead = nil
}
