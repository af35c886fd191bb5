package salesforce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

const (
	apiREST  = "rest"
	apiBulk2 = "bulk2"
	apiBulk1 = "bulk1"

	defaultParallelism = 10
	defaultMaxAttempts = 5

	// maxJobs is how many Bulk API 2.0 jobs are in flight. The org works on
	// the batches of one job side by side, so more would only take memory.
	maxJobs = 3
)

// run is one Apply.
type run struct {
	t        *Target
	plan     destinations.Plan
	journal  destinations.Journal
	stop     <-chan struct{}
	route    route
	calls    chan struct{} // one for each Collections call in flight: the run's own bound, which stays
	slots    chan struct{} // one for each worker of Collections batches
	jobs     chan struct{} // one for each job in flight
	weight   int           // what a job takes of the org's limit
	settling chan struct{} // one for the job or batch that is being settled
	workers  sync.WaitGroup

	left atomic.Bool // operations remain without an outcome

	halt chan struct{} // closed with the first error
	once sync.Once
	err  error // the first error; written before halt is closed

	batchMu   sync.Mutex            // held while a job is created
	batchJobs map[jobKind]*batchJob // guarded by batchMu: the Bulk API 1.0 jobs that take batches

	mu        sync.Mutex
	complete  planner.SettledSet          // guarded by mu: operations to send complete
	doubtful  planner.SettledSet          // operations that an earlier run may have sent; recovery alone writes
	unknown   planner.SettledSet          // inserts that wait for a person; recovery alone writes
	unknowns  int64                       // how many those are
	markers   []uint64                    // batches to close once those are sent; recovery alone writes
	omitted   map[int]*planner.SettledSet // guarded by mu: operations sent without the reference of a column
	omitMarks []uint64                    // guarded by mu: the batches that say so

	books      []*book // by column: the references that lookups found
	passNumber atomic.Uint32

	unread map[int]bool // guarded by mu: columns that cannot be compared, because the org does not let them be read

	ahead *ahead // the org's records, where a query job has read them; nil where not

	compared atomic.Int64 // rows whose duplicates the org was asked for

	section *section // two-object sync: what operations come to; nil in any other

	asked *int64 // where queries for references are only counted: how many
}

// Apply sends a plan's operations that have no outcome yet. See the package
// comment for the protocol.
func (t *Target) Apply(ctx context.Context, a destinations.Application) error {
	r := t.newRun(a)
	defer t.limiter.join(cap(r.calls))()
	defer r.dropBooks()
	defer r.dropAhead()
	ctx = api.CountCalls(ctx, t.calls)
	return r.conclude(ctx, r.apply(ctx))
}

// newRun is a run that has not begun. Its books must be dropped.
func (t *Target) newRun(a destinations.Application) *run {
	parallel := parallelism(&t.sync.Write)
	jobs, calls := min(parallel, maxJobs), parallel
	if t.serial() {
		calls = 1
	}
	if t.bulk1() {
		jobs = parallel
	}
	return &run{
		t: t, plan: a.Plan, journal: a.Journal, stop: a.Stop,
		route:    t.route(),
		calls:    make(chan struct{}, calls),
		slots:    make(chan struct{}, calls),
		jobs:     make(chan struct{}, jobs),
		settling: make(chan struct{}, 1),
		weight:   max(1, calls/jobs), // the org works on parts of a Bulk API 2.0 job side by side
		books:    t.newBooks(),
		halt:     make(chan struct{}),
	}
}

// conclude closes what a run that ended with err has left open.
func (r *run) conclude(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, destinations.ErrStopped) {
		err = errors.Join(err, r.closeMarks(ctx))
	}
	if err == nil {
		err = r.unknownError()
	}
	return budget(r.t.client, err)
}

func (r *run) apply(ctx context.Context) error {
	if err := r.recover(ctx); err != nil {
		return err
	}
	if err := r.readAhead(ctx); err != nil {
		return err
	}
	for pass := range r.plan.Passes() {
		if r.stopping() {
			some, err := r.any(pass)
			if err != nil {
				return err
			}
			if some {
				return destinations.ErrStopped
			}
			continue
		}
		if err := r.pass(ctx, pass); err != nil {
			return err
		}
		if r.left.Load() {
			return destinations.ErrStopped
		}
	}
	for _, batch := range r.markers {
		if err := r.settle(ctx, batch, nil, nil, true); err != nil {
			return err
		}
	}
	return nil
}

// any reports whether a pass has operations without an outcome.
func (r *run) any(pass int) (bool, error) {
	ops, err := r.plan.Operations(pass)
	if err != nil {
		return false, fmt.Errorf("read the plan's pass %d: %w", pass, err)
	}
	some := ops.Next()
	return some, errors.Join(ops.Err(), ops.Close())
}

// pass sends one pass and waits for all of it: the next one may refer to its
// records.
func (r *run) pass(ctx context.Context, pass int) error {
	if err := r.resolve(ctx, pass); err != nil {
		return err
	}
	ops, err := r.plan.Operations(pass)
	if err != nil {
		return fmt.Errorf("read the plan's pass %d: %w", pass, err)
	}
	return r.send(ctx, ops)
}

// send sends operations of a pass and waits for them.
func (r *run) send(ctx context.Context, ops destinations.Operations) error {
	err := r.feed(ctx, ops)
	if closed := ops.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close the plan: %w", closed)
	}
	if err != nil {
		r.fail(err)
	}
	r.workers.Wait()
	r.closeJobs(ctx)
	select {
	case <-r.halt:
		return r.err
	default:
		return nil
	}
}

// feed gives a pass's operations to a stream for each wire call, or to lanes of
// them where rows of one parent are to be kept apart.
func (r *run) feed(ctx context.Context, ops destinations.Operations) error {
	var streams [callCount]*stream
	var apart [callCount]*lanes
	var merges []*victim
	defer func() {
		for _, s := range streams {
			if s != nil {
				s.discard()
			}
		}
	}()
	for ops.Next() {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if r.stopping() {
			r.left.Store(true)
			return nil
		}
		op := ops.Operation()
		if r.unknown.Has(op.Seq) {
			continue
		}
		if into := r.t.mergedInto(op); into != "" {
			merges = append(merges, &victim{op: op.Clone(), into: into, doubt: r.doubtful.Has(op.Seq)})
			if len(merges) == mergeRows {
				if err := r.merge(ctx, merges); err != nil {
					return err
				}
				merges = nil
			}
			continue
		}
		c := r.callOf(op)
		if r.apart() {
			if apart[c] == nil {
				apart[c] = r.newLanes(c)
			}
			apart[c].add(r.t, op)
			continue
		}
		if streams[c] == nil {
			streams[c] = r.newStream(c)
		}
		if err := streams[c].add(ctx, op); err != nil {
			return err
		}
	}
	if err := ops.Err(); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if err := r.merge(ctx, merges); err != nil {
		return err
	}
	for _, l := range apart {
		if l == nil {
			continue
		}
		if err := r.feedLanes(ctx, l); err != nil {
			return err
		}
	}
	for _, s := range streams {
		if s == nil {
			continue
		}
		if err := s.finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// newStream is the stream of a pass: its batches run side by side in workers
// that pass waits for.
func (r *run) newStream(c call) *stream {
	s := &stream{r: r, c: c, from: 1}
	switch {
	case !r.route.bulk:
		s.from = 0
	case r.route.rest:
		s.from = bulkFrom(r.route, &r.t.sync.Write)
	}
	s.maxRows = maxJobRows
	if r.t.bulk1() {
		s.maxRows = api.MaxBatchRows
	}
	if n := r.t.sync.Write.BulkBatchSize; n > 0 {
		s.maxRows = min(s.maxRows, int64(n))
	}
	s.size = int(restBatch(&r.t.sync.Write))
	s.rest = func(ctx context.Context, rows []*row) error {
		return r.spawn(ctx, r.slots, nil, func() error {
			_, err := r.sendRows(ctx, c, rows)
			return err
		})
	}
	s.job = func(ctx context.Context, j *job) error {
		return r.spawn(ctx, r.jobs, j.discard, func() error {
			_, err := r.runJob(ctx, j)
			return err
		})
	}
	return s
}

// spawn runs work in a goroutine of its own once there is a slot for it. Where
// the run ends before, drop is called instead and the operations stay planned.
func (r *run) spawn(ctx context.Context, slots chan struct{}, drop func(), work func() error) error {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		if drop != nil {
			drop()
		}
		return context.Cause(ctx)
	case <-r.halt:
		if drop != nil {
			drop()
		}
		return nil
	}
	r.workers.Go(func() {
		defer func() { <-slots }()
		if err := work(); err != nil {
			r.fail(err)
		}
	})
	return nil
}

// fail ends the run with an error. Batches in flight still finish.
func (r *run) fail(err error) {
	r.once.Do(func() {
		r.err = err
		close(r.halt)
	})
}

// stopping reports whether no further batch may begin.
func (r *run) stopping() bool {
	select {
	case <-r.halt:
		return true
	case <-r.stop:
		return true
	default:
		return false
	}
}

// pause waits before a retry, after so many tries. ok is false where the run
// stops meanwhile; what was to be retried then stays planned.
func (r *run) pause(ctx context.Context, tries int) (ok bool, err error) {
	return r.sleep(ctx, backoff(r.t.options.RetryPause, tries))
}

func (r *run) sleep(ctx context.Context, d time.Duration) (ok bool, err error) {
	if sleep(ctx, d, r.stop, r.halt) {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	r.left.Store(true)
	return false, nil
}

func (r *run) maxAttempts() int {
	if n := r.t.sync.Write.MaxAttempts; n > 0 {
		return n
	}
	return defaultMaxAttempts
}

// newRow is a row for an operation, as the run must send it.
func (r *run) newRow(op *planner.Operation, c call) row {
	r.mu.Lock()
	complete := r.complete.Has(op.Seq)
	omit := r.omits(op.Seq)
	r.mu.Unlock()
	x := newRow(op, c, complete)
	r.follow(&x)
	x.omit = omit
	x.doubt = r.doubtful.Has(op.Seq)
	return x
}

func (r *run) markComplete(seqs planner.Seqs) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complete.Add(seqs)
}

// begin records a batch.
func (r *run) begin(ctx context.Context, b destinations.Batch) (destinations.Batch, error) {
	n, err := r.journal.Begin(ctx, b)
	if err != nil {
		return b, fmt.Errorf("record a batch before sending it: %w", err)
	}
	b.Number = n
	return b, nil
}

// update records a batch's new step or handle.
func (r *run) update(ctx context.Context, b destinations.Batch) error {
	if err := r.journal.Update(context.WithoutCancel(ctx), b); err != nil {
		return fmt.Errorf("record a batch's state: %w", err)
	}
	return nil
}

// settle records outcomes. What the org has answered is recorded also where
// the run is being cancelled.
func (r *run) settle(ctx context.Context, batch uint64, ops []*planner.Operation, outcomes []destinations.Outcome, last bool) error {
	r.tellOmitted(ops, outcomes)
	r.nameDuplicates(ctx, ops, outcomes)
	r.nameConverted(ctx, ops, outcomes)
	r.skipConverted(outcomes)
	if err := r.journal.Settle(context.WithoutCancel(ctx), batch, ops, outcomes, last); err != nil {
		return fmt.Errorf("record outcomes: %w", err)
	}
	return nil
}

// settled collects outcomes for one call of settle.
type settled struct {
	ops      []*planner.Operation
	outcomes []destinations.Outcome
	copies   copies
}

func (s *settled) add(op *planner.Operation, o destinations.Outcome) {
	s.ops = append(s.ops, op)
	s.outcomes = append(s.outcomes, o)
}

// copies are operations that outlive the reader that gave them, with their
// outcomes. The memory is used again, so that a row costs no allocation.
type copies struct {
	ops         []planner.Operation
	outcomes    []destinations.Outcome
	keys        []string
	assignments []planner.Assignment
	text        []byte
}

// addCopy is add of an operation that is valid only during the call.
func (s *settled) addCopy(op *planner.Operation, o destinations.Outcome) {
	c := &s.copies
	c.ops, c.outcomes = append(c.ops, *op), append(c.outcomes, o)
	c.keys = append(c.keys, op.Key...)
	c.assignments = append(c.assignments, op.Assignments...)
	c.text = append(append(c.text, op.ID...), op.Match...)
	for _, k := range op.Key {
		c.text = append(c.text, k...)
	}
	for i := range op.Assignments {
		c.text = append(c.text, op.Assignments[i].Cell.Text...)
	}
}

func (s *settled) len() int { return len(s.ops) + len(s.copies.ops) }

// full says whether the copies are to be settled before there are more of them.
func (s *settled) full() bool {
	c := &s.copies
	const each = int(unsafe.Sizeof(planner.Operation{}) + unsafe.Sizeof(destinations.Outcome{}))
	bytes := len(c.text) + len(c.ops)*each + len(c.assignments)*int(unsafe.Sizeof(planner.Assignment{}))
	return s.len() >= settleRows || bytes >= settleBytes
}

// collect gives the copies texts, keys and assignments of their own and puts
// them with the other operations. Of what they came with only the lengths count.
func (s *settled) collect() {
	c := &s.copies
	text, keys, assignments := string(c.text), c.keys, c.assignments
	take := func(old string) string {
		out := text[:len(old)]
		text = text[len(old):]
		return out
	}
	for i := range c.ops {
		op := &c.ops[i]
		op.ID, op.Match = take(op.ID), take(op.Match)
		n := len(op.Key)
		op.Key, keys = keys[:n:n], keys[n:]
		for j, k := range op.Key {
			op.Key[j] = take(k)
		}
		n = len(op.Assignments)
		op.Assignments, assignments = assignments[:n:n], assignments[n:]
		for j := range op.Assignments {
			op.Assignments[j].Cell.Text = take(op.Assignments[j].Cell.Text)
		}
		s.add(op, c.outcomes[i])
	}
}

// reset makes room for the next outcomes. Those that were there are invalid.
func (s *settled) reset() {
	s.ops, s.outcomes = s.ops[:0], s.outcomes[:0]
	c := &s.copies
	c.ops, c.outcomes, c.keys, c.assignments, c.text = c.ops[:0], c.outcomes[:0], c.keys[:0], c.assignments[:0], c.text[:0]
}

// enter waits for a place for a Collections call: one of the run's, and one of
// those that the org takes at present from all runs.
func (r *run) enter(ctx context.Context) (place, error) {
	select {
	case r.calls <- struct{}{}:
	case <-r.stop:
		return place{}, errStopping
	case <-r.halt:
		return place{}, errStopping
	case <-ctx.Done():
		return place{}, context.Cause(ctx)
	}
	p, err := r.t.limiter.acquire(ctx, lineCalls, 1, r.stop, r.halt)
	if err != nil {
		<-r.calls
	}
	return p, err
}

// leave gives the place back and says whether the org was crowded.
func (r *run) leave(p place, crowded bool) {
	r.t.limiter.done(p)
	r.t.limiter.learn(p, crowded)
	<-r.calls
}

// enterBulk waits for a place for a job or a batch, which runJob gives back.
func (r *run) enterBulk(ctx context.Context) (place, error) {
	return r.t.limiter.acquire(ctx, lineBatches, r.weight, r.stop, r.halt)
}
