package emulator

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Bulk API 2.0 jobs (Bulk API 2.0 Developer Guide, "Bulk API 2.0 Ingest").

const (
	stateOpen     = "Open"
	stateUploaded = "UploadComplete"
	stateRunning  = "InProgress"
	stateComplete = "JobComplete"
	stateFailed   = "Failed"
	stateAborted  = "Aborted"
)

// How long an org keeps jobs.
const (
	openLife = 24 * time.Hour
	doneLife = 7 * 24 * time.Hour
)

// ingestJob is a Bulk 2.0 ingest job. Its mutex guards what follows it.
type ingestJob struct {
	id, objectName, operationName, keyName, delimName, lineEnd, rule, version string
	number                                                                    float64
	obj                                                                       *object
	op                                                                        operation
	key                                                                       *field
	load                                                                      load

	mu         sync.Mutex
	state      string
	created    time.Time
	changed    time.Time
	uploaded   bool
	message    string
	order      []uint32 // of the result files
	took       time.Duration
	retries    int // how often one of its batches went back to the queue
	readFailed bool
	readUnproc bool
}

func (j *ingestJob) terminal() bool {
	return j.state == stateComplete || j.state == stateFailed || j.state == stateAborted
}

// jobs are the Bulk jobs of the org.
type jobs struct {
	s       *Server
	mu      sync.Mutex
	ingest  map[string]*ingestJob
	queries map[string]*queryJob
	classic map[string]*classicJob
	next    uint64
	batches int           // used today
	held    chan struct{} // not nil while jobs are held; closed to let them go
	serial  sync.Mutex    // Bulk 1.0 jobs in serial mode run one batch at a time
	running sync.WaitGroup
}

func newJobs(s *Server) *jobs {
	return &jobs{s: s, ingest: map[string]*ingestJob{}, queries: map[string]*queryJob{}, classic: map[string]*classicJob{}}
}

func (js *jobs) newID(prefix string) string {
	js.next++
	return makeID(prefix, firstSequence+js.next*3)
}

// HoldBulk keeps Bulk jobs in progress without processing a row until it is
// called with false.
func (s *Server) HoldBulk(hold bool) {
	if !hold {
		s.jobs.release()
		return
	}
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	if s.jobs.held == nil {
		s.jobs.held = make(chan struct{})
	}
}

func (js *jobs) release() {
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.held != nil {
		close(js.held)
		js.held = nil
	}
}

// gate waits while jobs are held.
func (js *jobs) gate(ctx context.Context) {
	js.mu.Lock()
	held := js.held
	js.mu.Unlock()
	if held == nil {
		return
	}
	select {
	case <-held:
	case <-ctx.Done():
	}
}

func (js *jobs) wait() { js.running.Wait() }

func (js *jobs) batchesUsed() int {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.batches
}

func (js *jobs) queriesUsed() int {
	js.mu.Lock()
	defer js.mu.Unlock()
	return len(js.queries)
}

// takeBatches counts batches against the day's allocation; false when that is
// used up.
func (js *jobs) takeBatches(n int) bool {
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.batches+n > js.s.file.Limits.DailyBulkBatches {
		return false
	}
	js.batches += n
	return true
}

func (js *jobs) audit(c *Counters) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.ingest {
		j.mu.Lock()
		if j.state == stateOpen {
			c.JobsNeverClosed++
		}
		if j.terminal() {
			if j.load.failed > 0 && !j.readFailed {
				c.FailedResultsNeverRead++
			}
			if j.load.done < len(j.load.starts) && !j.readUnproc {
				c.UnprocessedNeverRead++
			}
		}
		j.mu.Unlock()
	}
	for _, j := range js.classic {
		if j.open() {
			c.JobsNeverClosed++
		}
	}
}

// start processes a closed job in the background.
func (js *jobs) start(j *ingestJob) {
	js.running.Go(func() { js.process(js.s.ctx, j) })
}

func (js *jobs) process(ctx context.Context, j *ingestJob) {
	j.mu.Lock()
	if j.state != stateUploaded {
		j.mu.Unlock()
		return
	}
	j.state, j.changed = stateRunning, js.s.org.Clock()
	j.mu.Unlock()
	js.gate(ctx)
	begin := time.Now()
	message := js.rows(ctx, j)
	if err := js.s.org.log.sync(); err != nil {
		message = "InternalServerError : " + err.Error()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.took = time.Since(begin)
	j.changed = js.s.org.Clock()
	j.order = shuffled(len(j.load.starts), js.s.opts.Seed)
	lost, twice := js.s.faults.results("bulk " + j.operationName + " " + j.obj.name)
	for _, n := range j.order[:int(lost*float64(len(j.order)))] {
		j.load.state[n] |= rowLost
	}
	j.order = append(j.order, j.order[:int(twice*float64(len(j.order)))]...)
	defer func() {
		if err := js.s.keepJob(j, false); err != nil {
			js.s.log.ErrorContext(ctx, "a Bulk job could not be kept", "error", err)
		}
	}()
	switch {
	case j.state == stateAborted:
	case message != "":
		j.state, j.message = stateFailed, message
	case ctx.Err() != nil: // the org is shutting down; the job is as far as it got
	default:
		j.state = stateComplete
	}
}

func shuffled(n int, seed int64) []uint32 {
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(n)))
	rng.Shuffle(n, func(i, k int) { order[i], order[k] = order[k], order[i] })
	return order
}

// parallelBatches is how many internal batches of a job run at once where rows
// are locked; without locks nothing is gained by it.
const parallelBatches = 4

// rows processes a job's rows and returns the message of its failure, if any.
func (js *jobs) rows(ctx context.Context, j *ingestJob) string {
	s := js.s
	if badLineEnding(j.load.text, j.lineEnd) {
		return "ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is " + j.lineEnd
	}
	if err := j.load.prepare(s.org, j.obj, j.op); err != nil {
		// The rows are still counted where they can be, to be given back as
		// unprocessed.
		if header, starts, scanErr := scan(j.load.text, j.load.delim); scanErr == nil {
			j.load.header, j.load.starts = header, starts
			j.load.state, j.load.ids = make([]uint8, len(starts)), make([]uint64, len(starts))
		}
		return err.Error()
	}
	n := len(j.load.starts)
	batches := (n + bulkBatch - 1) / bulkBatch
	if !js.takeBatches(batches) {
		return "ExceededQuota : ApiBatchItems Limit exceeded."
	}
	fault, failing := s.faults.job("bulk " + j.operationName + " " + j.obj.name)
	end := n
	if failing {
		end = min(n, fault.FailJobAfter)
	}
	s.org.mu.RLock()
	limit := len(j.obj.records)
	s.org.mu.RUnlock()
	t := transactions{s: s, obj: j.obj, op: j.op, key: j.key, assign: j.rule != "", selfLimit: max(limit, 1), stop: func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.state == stateAborted
	}, requeued: func(out bool) {
		if out {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.retries++
		}
	}}
	slots := 1
	if s.opts.Locks && !failing {
		slots = parallelBatches
	}
	var group sync.WaitGroup
	free := make(chan struct{}, slots)
	var mu sync.Mutex
	var first error
	for from := 0; from < end; from += bulkBatch {
		to := min(from+bulkBatch, end)
		free <- struct{}{}
		group.Go(func() {
			defer func() { <-free }()
			batch := t
			batch.delay = s.opts.ProcessingDelay / time.Duration((to-from+bulkChunk-1)/bulkChunk)
			err := batch.run(ctx, &j.load, from, to, batch.csvRows(&j.load))
			if err == nil {
				err = s.org.log.sync()
			}
			if err != nil {
				mu.Lock()
				first = err
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if locked, ok := errors.AsType[*lockFailure](first); ok {
		return locked.Error()
	}
	if first != nil {
		s.log.ErrorContext(ctx, "a Bulk job could not be kept", "error", first)
		return "InternalServerError : the records could not be kept"
	}
	if failing && fault.AbortJob {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.state = stateAborted
		return ""
	}
	if failing {
		return fault.FailJob
	}
	return ""
}
