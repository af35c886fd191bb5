package salesforce

import (
	"context"
	"slices"
	"strings"

	"coho/destinations"
	"coho/planner"
)

const (
	// prepareRows is how many rows of a job are looked up together.
	prepareRows = 1000

	// pendingBytes bounds the rows that are held while it is open which API
	// takes them.
	pendingBytes = 32 << 20

	// retryByREST is up to how many rows of a job are sent again by
	// Collections, whose batches can shrink down to one row, and lateByREST
	// where they have two tries left: the first in whole calls, the last alone.
	retryByREST = 2000
	lateByREST  = 20_000

	// lastRows is how many of a job's rows go together by Collections where it
	// is their last try.
	lastRows = 10

	// sortCalls is of how many Collections calls the rows are sorted
	// together.
	sortCalls = 12

	// retryRows is down to how many rows a batch shrinks that cannot go
	// through Collections in the end.
	retryRows = 200
)

// stream turns operations of one call, in the plan's order, into batches: of
// Collections while there are few, of Bulk API 2.0 jobs once there are many.
type stream struct {
	r *run
	c call

	// from is the number of operations from which jobs are used; 0: never.
	from     int64
	maxRows  int64 // rows a job
	size     int   // rows a Collections call
	attempts int   // that the rows have behind them
	complete bool
	rematch  bool
	relooked bool // the org refused a reference
	doubt    bool
	serial   bool // jobs work on one batch at a time

	// rest and job take over a batch, to be sent now or in a worker.
	rest func(ctx context.Context, rows []*row) error
	job  func(ctx context.Context, j *job) error

	next        row    // the operation at hand, while it is valid
	bulk        bool   // it has been decided for jobs
	rows        []*row // undecided, or for the next Collections call
	held        int    // bytes of rows
	lookups     []*row // of a job, to be looked up before they are written
	unread      []*row // to be compared with what the org holds
	unreadBytes int    // of those
	builder     *job
	dropped     bool // the run stopped with rows of it still planned
}

// add takes the next operation, which is valid only during the call.
func (s *stream) add(ctx context.Context, op *planner.Operation) error {
	s.next = s.row(op)
	if s.r.t.compares(s.c) {
		x := s.next.keep()
		s.unread = append(s.unread, x)
		if s.unreadBytes += weight(op); len(s.unread) >= comparedRows || s.unreadBytes >= pendingBytes {
			return s.compare(ctx)
		}
		return nil
	}
	return s.take(ctx, &s.next, false)
}

// compare leaves out what the org holds already, and takes in what is left.
func (s *stream) compare(ctx context.Context) error {
	rows := s.unread
	s.unread, s.unreadBytes = nil, 0
	if len(rows) == 0 {
		return nil
	}
	if s.r.stopping() {
		s.drop()
		return nil
	}
	ready, done, err := s.r.prepare(ctx, s.c, rows)
	if err != nil {
		return err
	}
	if err := s.settle(ctx, done); err != nil {
		return err
	}
	for _, x := range ready {
		x.prepared = true
		if err := s.take(ctx, x, true); err != nil {
			return err
		}
	}
	return nil
}

// take takes in a row that is to be sent. owned says that the operation stays
// valid.
func (s *stream) take(ctx context.Context, x *row, owned bool) error {
	if s.bulk {
		return s.addBulk(ctx, x, owned)
	}
	if !owned {
		x = x.keep()
	}
	s.rows = append(s.rows, x)
	s.held += weight(x.op)
	switch {
	case s.from > 0 && (int64(len(s.rows)) >= s.from || s.held >= pendingBytes):
		s.bulk = true
		rows := s.rows
		s.rows, s.held = nil, 0
		for _, x := range rows {
			if err := s.addBulk(ctx, x, true); err != nil {
				return err
			}
		}
	case s.from == 0 && (len(s.rows) >= s.size*sortCalls || s.held >= pendingBytes):
		return s.flush(ctx)
	}
	return nil
}

// row is a row with what the stream knows of it.
func (s *stream) row(op *planner.Operation) row {
	x := s.r.newRow(op, s.c)
	x.attempts, x.jobTries = s.attempts, s.attempts
	x.relooked = s.relooked
	if s.complete {
		x.complete, x.exists = true, false
	}
	x.doubt = x.doubt || s.doubt
	if s.rematch {
		x.id, x.rematch = "", true
	}
	return x
}

// weight is about how many bytes an operation takes.
func weight(op *planner.Operation) int {
	n := 200 + len(op.Match) + len(op.Assignments)*48
	for i := range op.Assignments {
		n += len(op.Assignments[i].Cell.Text)
	}
	return n
}

// addBulk puts a row into a job. owned says that the operation stays valid.
func (s *stream) addBulk(ctx context.Context, x *row, owned bool) error {
	// While rows wait for their lookups, all others wait behind them: a
	// batch's numbers ascend.
	if len(s.lookups) == 0 && !s.r.t.needsLookup(s.c, x) {
		return s.write(ctx, x, owned)
	}
	if !owned {
		x = x.keep()
	}
	s.lookups = append(s.lookups, x)
	if len(s.lookups) >= prepareRows {
		return s.lookUp(ctx)
	}
	return nil
}

// needsLookup reports whether a row cannot be written before a query.
func (t *Target) needsLookup(c call, x *row) bool {
	if x.prepared {
		return false
	}
	switch c {
	case callDelete:
		return x.id == ""
	case callUpdate:
		if x.id == "" {
			return true
		}
	case callUpsert:
		if x.inDoubt() || t.hasCreateOnly && !x.exists && !x.complete {
			return true
		}
	}
	if len(x.omit) > 0 {
		return true // there may be nothing left to send
	}
	for _, col := range t.columns {
		if col.byQuery {
			return true
		}
	}
	return false
}

// lookUp prepares the rows that wait and writes them.
func (s *stream) lookUp(ctx context.Context) error {
	rows := s.lookups
	s.lookups = nil
	if len(rows) == 0 {
		return nil
	}
	ready, done, err := s.r.prepare(ctx, s.c, rows)
	if err != nil {
		return err
	}
	if err := s.settle(ctx, done); err != nil {
		return err
	}
	for _, x := range ready {
		if err := s.write(ctx, x, true); err != nil {
			return err
		}
	}
	return nil
}

// settle records outcomes that are known without anything being sent.
func (s *stream) settle(ctx context.Context, done []decided) error {
	if len(done) == 0 {
		return nil
	}
	batch, err := s.r.begin(ctx, destinations.Batch{API: apiREST, Step: s.c.String(), Seqs: seqsOf(nil, done)})
	if err != nil {
		return err
	}
	var out settled
	for _, d := range done {
		out.add(d.row.op, d.outcome)
	}
	return s.r.settle(ctx, batch.Number, out.ops, out.outcomes, true)
}

// write puts a row's line into the job that is being built, beginning a new
// one where it is full. What CSV cannot carry goes to Collections.
func (s *stream) write(ctx context.Context, x *row, owned bool) error {
	for {
		if s.builder == nil {
			j, err := s.r.newJob(s.c)
			if err != nil {
				return err
			}
			j.relooked = s.relooked
			j.attempts, j.complete, j.maxRows, j.serial = s.attempts, s.complete, s.maxRows, s.serial || s.r.t.serial()
			s.builder = j
		}
		fit, err := s.builder.add(x)
		if err != nil {
			return err
		}
		switch fit {
		case fitted:
			return nil
		case unfit:
			if !owned {
				x = x.keep()
			}
			if s.r.t.keyless {
				return s.refuse(ctx, x)
			}
			s.rows = append(s.rows, x)
			s.held += weight(x.op)
			if len(s.rows) >= s.size || s.held >= maxRequestBytes {
				return s.flush(ctx)
			}
			return nil
		}
		if err := s.seal(ctx); err != nil {
			return err
		}
	}
}

// refuse settles a row that only Collections could carry, where those could not
// be asked afterwards whether they did.
func (s *stream) refuse(ctx context.Context, x *row) error {
	o := destinations.Outcome{Result: destinations.Failed, Code: codeUnsendable, Attempts: x.attempts,
		Message: "a value of the row is one that CSV cannot carry (the text " + csvNull + ", a carriage return, or more than fits a cell or row), and no field of the mapping carries the primary key, which sending it otherwise would take"}
	done := []decided{{x, o}}
	batch, err := s.r.begin(ctx, destinations.Batch{API: apiREST, Step: s.c.String(), Seqs: seqsOf(nil, done)})
	if err != nil {
		return err
	}
	return s.r.settle(ctx, batch.Number, []*planner.Operation{x.op}, []destinations.Outcome{o}, true)
}

// seal hands the job over.
func (s *stream) seal(ctx context.Context) error {
	j := s.builder
	s.builder = nil
	if j == nil {
		return nil
	}
	if j.rows == 0 {
		j.discard()
		return nil
	}
	return s.job(ctx, j)
}

// flush hands over the rows for Collections, a call's worth at a time, rows of
// one parent together: two calls that write children of one record side by side
// fight over its lock.
func (s *stream) flush(ctx context.Context) error {
	rows := s.rows
	s.r.t.sortByParent(rows)
	s.rows, s.held = nil, 0
	for len(rows) > 0 {
		n, bytes := 0, 0
		for n < len(rows) && n < s.size && (n == 0 || bytes < maxRequestBytes) {
			bytes += weight(rows[n].op)
			n++
		}
		if s.r.stopping() {
			s.drop()
			return nil
		}
		if err := s.rest(ctx, rows[:n:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// finish hands over what is left.
func (s *stream) finish(ctx context.Context) error {
	if s.r.stopping() {
		if len(s.unread) > 0 || len(s.rows) > 0 || len(s.lookups) > 0 || s.builder != nil {
			s.drop()
		}
		return nil
	}
	if err := s.compare(ctx); err != nil {
		return err
	}
	if err := s.lookUp(ctx); err != nil {
		return err
	}
	if err := s.seal(ctx); err != nil {
		return err
	}
	return s.flush(ctx)
}

// drop leaves rows to a later run.
func (s *stream) drop() {
	s.dropped = true
	s.r.left.Store(true)
}

// discard drops what was not handed over; it stays planned.
func (s *stream) discard() {
	if s.builder != nil {
		s.builder.discard()
		s.builder = nil
	}
}

// sortByParent sorts rows by the parent whose lock they would fight over, in
// the plan's order where it is the same.
func (t *Target) sortByParent(rows []*row) {
	if t.lockField < 0 {
		return
	}
	parents := make(map[*row]string, len(rows))
	for _, x := range rows {
		parents[x] = t.parentOf(x.op)
	}
	slices.SortStableFunc(rows, func(a, b *row) int { return strings.Compare(parents[a], parents[b]) })
}
