package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"coho/engine"
)

// job is runs that belong together: a sync, several in order, or a sequence.
// What has no comment is set when the job is made and not changed.
type job struct {
	id         string
	sequence   string
	syncs      []string // where syncs were named
	full       bool
	approve    bool
	approveRun string   // the halted run whose plan was approved, "" for none
	key        []string // of the one row that is run, nil for all
	trigger    string
	leaveOut   map[string]string // syncs that are passed over, and why
	byItself   bool              // a schedule set it off, or a start after a stop
	acceptedAt time.Time
	resumes    int // how often a start has gone on with it

	parts []*part // in order; guarded by Daemon.mu

	after    *job // that must end first, nil: none
	done     chan struct{}
	ctx      context.Context // ends when the job is stopped; bounds its life
	cancel   context.CancelFunc
	canceled bool // by a person; guarded by Daemon.mu
}

// part is a sync's run within a job. What has no comment is set when the part
// is made and not changed.
type part struct {
	job      *job
	sync     string
	id       string
	progress *engine.Progress
	again    bool // its plan is on disk, so that nothing is sent in full, or approved, anew
	approved bool // the plan on disk is what was approved, so that nothing is approved anew

	state    RunState // guarded by Daemon.mu
	claimed  bool     // the engine has come to it; guarded by Daemon.mu
	canceled bool     // by a person; guarded by Daemon.mu
	over     bool     // ended and not to be gone on with; guarded by Daemon.mu

	ctx       context.Context // ends when the run is stopped; bounds its life
	cancel    context.CancelFunc
	abort     chan struct{}
	abortOnce sync.Once
	turn      chan struct{} // closed when the run may begin

	done chan struct{}
	run  *engine.Run // valid once done is closed
	err  error       // likewise
}

// giveUp has the run give up its requests in flight too.
func (p *part) giveUp() { p.abortOnce.Do(func() { close(p.abort) }) }

// makeJob makes a job of steps; it is not accepted yet. d.mu is held.
func (d *Daemon) makeJob(steps [][]string, now time.Time) (*job, error) {
	id, err := engine.NewRunID(now)
	if err != nil {
		return nil, err
	}
	j := &job{id: id, acceptedAt: now, done: make(chan struct{})}
	j.ctx, j.cancel = context.WithCancel(d.jobsCtx)
	for _, step := range steps {
		for _, s := range step {
			if _, err := j.add(s, now); err != nil {
				return nil, err
			}
		}
	}
	return j, nil
}

func (j *job) add(sync string, now time.Time) (*part, error) {
	id, err := engine.NewRunID(now)
	if err != nil {
		return nil, err
	}
	p := &part{
		job: j, sync: sync, id: id, progress: &engine.Progress{}, state: RunPlanned,
		abort: make(chan struct{}), turn: make(chan struct{}), done: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(j.ctx)
	j.parts = append(j.parts, p)
	return p, nil
}

// accept takes a job in. The parts that can begin at once join the queue now,
// so that jobs have their turn in the order in which they were accepted. The
// caller persists it, then calls begin. d.mu is held.
func (d *Daemon) accept(j *job, firstStep int) {
	d.jobs = append(d.jobs, j)
	if j.after == nil {
		for _, p := range j.parts[:firstStep] {
			d.enqueue(p)
		}
	}
}

// begin runs an accepted job.
func (d *Daemon) begin(j *job) {
	d.jobsDone.Go(func() { d.runJob(j) })
}

// enqueue lets a part wait for its turn. d.mu is held.
func (d *Daemon) enqueue(p *part) {
	if p.state != RunPlanned {
		return
	}
	p.state = RunQueued
	// First come, first served, by jobs: the next step of a sequence, which
	// joins the queue when the step before has ended, is not put behind all
	// that came due meanwhile.
	at := slices.IndexFunc(d.queue, func(q *part) bool { return q.job.acceptedAt.After(p.job.acceptedAt) })
	if at < 0 {
		at = len(d.queue)
	}
	d.queue = slices.Insert(d.queue, at, p)
	d.dispatch()
}

// dispatch gives turns while there are places. d.mu is held.
func (d *Daemon) dispatch() {
	for d.running < d.gen.maxRuns() && !d.stopping {
		at := slices.IndexFunc(d.queue, func(p *part) bool { return d.busy[p.sync] == nil && !d.held[p.sync] })
		if at < 0 {
			return
		}
		p := d.queue[at]
		d.queue = slices.Delete(d.queue, at, at+1)
		d.running++
		d.busy[p.sync] = p
		p.state = RunRunning
		close(p.turn)
	}
}

// standBack takes a part out of the queue, or gives back the place that it has.
// d.mu is held.
func (d *Daemon) standBack(p *part) {
	d.leaveQueue(p)
	if d.busy[p.sync] == p {
		delete(d.busy, p.sync)
		d.running--
		d.dispatch()
	}
}

// leaveQueue takes a part out of the queue, so that it gets no turn any
// more. d.mu is held.
func (d *Daemon) leaveQueue(p *part) {
	d.queue = slices.DeleteFunc(d.queue, func(q *part) bool { return q == p })
}

// callOff stops a job as a person asks for it. d.mu is held.
func (d *Daemon) callOff(j *job) {
	j.canceled = true
	for _, p := range j.parts {
		d.leaveQueue(p)
	}
	j.cancel()
}

// runJob runs a job to its end.
func (d *Daemon) runJob(j *job) {
	if j.after != nil {
		select {
		case <-j.after.done:
		case <-j.ctx.Done():
		}
	}
	err := d.With(func(e *engine.Engine) error {
		o := engine.RunOptions{ID: j.id, Full: j.full, Approve: j.approve, ApproveRun: j.approveRun, Key: j.key, Trigger: j.trigger, LeaveOut: j.leaveOut}
		o.Do = func(_ context.Context, sync string, o engine.RunOptions) (*engine.Run, error) {
			return d.part(j, sync, o)
		}
		each := func(engine.Ended) {} // each part says so itself
		if j.sequence != "" {
			return e.RunSequence(j.ctx, j.sequence, o, nil, each)
		}
		return e.RunSyncs(j.ctx, j.syncs, o, nil, each)
	})
	d.endJob(j, err)
}

// part runs the next run of a sync within a job, when its turn comes.
func (d *Daemon) part(j *job, sync string, o engine.RunOptions) (*engine.Run, error) {
	d.mu.Lock()
	at := slices.IndexFunc(j.parts, func(p *part) bool { return p.sync == sync && !p.claimed })
	var p *part
	if at >= 0 {
		p = j.parts[at]
	} else {
		// The sequence has changed since the job was made.
		var err error
		if p, err = j.add(sync, time.Now()); err != nil {
			d.mu.Unlock()
			return nil, err
		}
	}
	p.claimed = true
	if p.over {
		d.mu.Unlock()
		return p.run, p.err
	}
	if j.sequence != "" && j.byItself && d.paused[entry{Sync, sync}] {
		d.standBack(p)
		d.mu.Unlock()
		d.log.Info("a paused sync is passed over", "sync", sync, "sequence", j.sequence)
		d.endPart(p, nil, nil)
		return nil, nil
	}
	d.enqueue(p)
	d.mu.Unlock()

	select {
	case <-p.turn:
	case <-p.ctx.Done():
		d.mu.Lock()
		waiting := p.state == RunQueued
		d.leaveQueue(p)
		d.mu.Unlock()
		if waiting {
			err := fmt.Errorf("%w: %w", ErrNotBegun, context.Canceled)
			d.endPart(p, nil, err)
			return nil, err
		}
	}
	var run *engine.Run
	err := d.With(func(e *engine.Engine) (err error) {
		o.ID, o.Progress, o.Abort, o.Do = p.id, p.progress, p.abort, nil
		if p.again {
			o.Full = false
		}
		if p.again || p.approved {
			o.Approve, o.ApproveRun = false, ""
		}
		run, err = d.runSync(p.ctx, e, sync, o)
		return err
	})
	d.mu.Lock()
	d.standBack(p)
	d.mu.Unlock()
	d.endPart(p, run, err)
	return run, err
}

// endPart notes how a part ended.
func (d *Daemon) endPart(p *part, run *engine.Run, err error) {
	p.cancel()
	d.mu.Lock()
	p.run, p.err = run, err
	p.state = RunEnded
	// What only the stop has cut short goes on at the next start.
	cut := d.stopping && !p.canceled && !p.job.canceled && (run == nil && err != nil || run != nil && run.Status == engine.Canceled)
	p.over = !cut
	d.remember(p)
	more := len(p.job.parts) > 1
	d.mu.Unlock()
	close(p.done)
	if more { // else the job ends next
		d.note()
	}
}

// maxRecent bounds the runs that Wait knows of after their end; those before
// are in the history.
const maxRecent = 1000

// remember keeps a part that ended for Wait. d.mu is held.
func (d *Daemon) remember(p *part) {
	d.recent[p.id] = p
	if d.order = append(d.order, p.id); len(d.order) > maxRecent {
		delete(d.recent, d.order[0])
		d.order = slices.Delete(d.order, 0, 1)
	}
}

// endJob ends what of a job was not begun, and drops it, unless the daemon is
// stopping and something of it is left.
func (d *Daemon) endJob(j *job, err error) {
	d.mu.Lock()
	stopped := d.stopping && !j.canceled && j.ctx.Err() != nil
	left := false
	var open []*part
	for _, p := range j.parts {
		if p.state != RunEnded {
			d.standBack(p)
			open = append(open, p)
			p.state, p.err = RunEnded, ErrNotBegun
			if err != nil {
				p.err = fmt.Errorf("%w: %w", ErrNotBegun, err)
			}
			p.over = !stopped
			d.remember(p)
		}
		left = left || !p.over
	}
	if !left {
		d.jobs = slices.DeleteFunc(d.jobs, func(x *job) bool { return x == j })
	}
	d.mu.Unlock()
	for _, p := range open {
		p.cancel()
		close(p.done)
	}
	j.cancel()
	close(j.done)
	var usage *engine.UsageError
	if errors.As(err, &usage) {
		// The config has lost it since, or one row was asked for and cannot be run;
		// a run's own error is in its log.
		d.log.Error("what was to run was refused", "sequence", j.sequence, "syncs", j.syncs, "error", err)
	}
	d.note()
}

// Start accepts runs and returns at once: they go on, or wait for their turn.
// It returns an *engine.UsageError for names that do not exist, a *BusyError
// where a sync named, or the sequence, runs or waits already, and ErrStopping.
// The syncs of a sequence, and all of them, wait for runs that are going on.
func (d *Daemon) Start(r Request) (Job, error) {
	j, err := d.take(r)
	if err != nil {
		return Job{}, err
	}
	d.note()
	d.mu.Lock()
	shown := j.shown()
	d.mu.Unlock()
	d.begin(j)
	return shown, nil
}

// take makes a job of a request and accepts it.
func (d *Daemon) take(r Request) (*job, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.notReady != nil {
		return nil, d.notReady
	}
	chosen := 0
	for _, b := range []bool{len(r.Syncs) > 0, r.Sequence != "", r.All, r.ApproveRun != ""} {
		if b {
			chosen++
		}
	}
	if chosen != 1 {
		return nil, &engine.UsageError{Message: "name syncs, or a sequence, or ask for all syncs, or name a run to approve"}
	}
	e := d.gen.engine
	if r.ApproveRun != "" {
		sync, err := e.Approval(r.ApproveRun)
		if err != nil {
			return nil, err
		}
		r.Syncs = []string{sync}
	}
	var key []string
	if len(r.Key) > 0 {
		if len(r.Syncs) != 1 || r.ApproveRun != "" {
			return nil, &engine.UsageError{Message: "a key is of one row of one sync: name that sync"}
		}
		var err error
		if key, err = e.RowKey(r.Syncs[0], r.Key); err != nil {
			return nil, err
		}
	}
	for s := range r.LeaveOut {
		if _, err := e.Sync(s); err != nil {
			return nil, err
		}
	}
	var steps [][]string
	switch {
	case r.Sequence != "":
		s, err := e.Sequence(r.Sequence)
		if err != nil {
			return nil, err
		}
		if active, waiting := d.jobsOf(r.Sequence); active != nil {
			if waiting != nil {
				active = waiting
			}
			return nil, &BusyError{Kind: Sequence, Name: r.Sequence, RunID: active.id, Queued: waiting != nil}
		}
		steps = s.Steps
	case r.All:
		r.Syncs = e.AllSyncs()
		if len(r.Syncs) == 0 {
			return nil, &engine.UsageError{Message: "the config has no sync"}
		}
	default:
		for _, s := range r.Syncs {
			if _, err := e.Sync(s); err != nil {
				return nil, err
			}
			if _, out := r.LeaveOut[s]; out {
				continue
			}
			if p := d.inUse(s); p != nil {
				return nil, &BusyError{Kind: Sync, Name: s, RunID: p.id, Queued: p.state == RunQueued}
			}
		}
	}
	for _, s := range r.Syncs {
		steps = append(steps, []string{s})
	}
	steps = without(steps, r.LeaveOut)
	j, err := d.makeJob(steps, time.Now())
	if err != nil {
		return nil, err
	}
	j.leaveOut = maps.Clone(r.LeaveOut)
	j.sequence, j.syncs = r.Sequence, slices.Clone(r.Syncs)
	j.full, j.approve, j.approveRun, j.trigger = r.Full, r.Approve, r.ApproveRun, r.Trigger
	j.key = key
	d.accept(j, len(steps[0]))
	return j, nil
}

// without returns steps without the syncs that are left out.
func without(steps [][]string, out map[string]string) [][]string {
	left := make([][]string, len(steps))
	for i, step := range steps {
		for _, s := range step {
			if _, ok := out[s]; !ok {
				left[i] = append(left[i], s)
			}
		}
	}
	return left
}

// inUse returns the run of a sync that goes on, else the one that waits, else
// nil. d.mu is held.
func (d *Daemon) inUse(sync string) *part {
	if p := d.busy[sync]; p != nil {
		return p
	}
	return d.queued(sync)
}

// queued returns the first run of a sync that waits. d.mu is held.
func (d *Daemon) queued(sync string) *part {
	if at := slices.IndexFunc(d.queue, func(p *part) bool { return p.sync == sync }); at >= 0 {
		return d.queue[at]
	}
	return nil
}

// jobsOf returns the job of a sequence that goes on and the one that waits for
// it. d.mu is held.
func (d *Daemon) jobsOf(sequence string) (active, waiting *job) {
	for _, j := range d.jobs {
		switch {
		case j.sequence != sequence || j.ended():
		case active == nil:
			active = j
		default:
			waiting = j
		}
	}
	return active, waiting
}

func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// shown is what callers see of a job. Daemon.mu is held.
func (j *job) shown() Job {
	out := Job{ID: j.id, Sequence: j.sequence, Trigger: j.trigger}
	for _, p := range j.parts {
		out.Runs = append(out.Runs, p.shown())
	}
	return out
}

// shown is what callers see of a part. Daemon.mu is held.
func (p *part) shown() Started {
	return Started{Sync: p.sync, RunID: p.id, State: p.state, Since: p.job.acceptedAt}
}

// Jobs returns what was accepted and has not ended, oldest first.
func (d *Daemon) Jobs() []Job {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Job, 0, len(d.jobs))
	for _, j := range d.jobs {
		if !j.ended() {
			out = append(out, j.shown())
		}
	}
	return out
}

// Recent returns the runs that ended lately, oldest first.
func (d *Daemon) Recent() []Started {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Started, 0, len(d.order))
	for _, id := range d.order {
		out = append(out, d.recent[id].shown())
	}
	return out
}

// find returns a run that has not been forgotten. d.mu is held.
func (d *Daemon) find(run string) *part {
	for _, j := range d.jobs {
		for _, p := range j.parts {
			if p.id == run {
				return p
			}
		}
	}
	return d.recent[run]
}

// Cancel stops a run, or with the id of a job all of it: what has not begun is
// called off, and batches in flight are finished; with abort, requests in
// flight are given up, and the next run asks what became of them. It returns at
// once. A run that is not going on is an *engine.UsageError.
func (d *Daemon) Cancel(id string, abort bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var parts []*part
	for _, j := range d.jobs {
		if j.id == id && !j.ended() {
			d.callOff(j)
			parts = j.parts
		}
	}
	if p := d.find(id); p != nil && p.state != RunEnded {
		p.canceled = true
		d.leaveQueue(p)
		p.cancel()
		parts = []*part{p}
	}
	if len(parts) == 0 {
		return &engine.UsageError{Message: fmt.Sprintf("no run %q is going on; `coho runs` lists them", id)}
	}
	for _, p := range parts {
		if abort {
			p.giveUp()
		}
	}
	return nil
}

// Find returns where a run is that was accepted and has not ended, or ended
// lately.
func (d *Daemon) Find(run string) (Started, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.find(run); p != nil {
		return p.shown(), true
	}
	return Started{}, false
}

// Wait waits for a run to end and returns how it did; of one that ended long
// ago, what the history has. Its record is nil where it never began, and its Err
// then says why. The error is that of waiting.
func (d *Daemon) Wait(ctx context.Context, run string) (engine.Ended, error) {
	d.mu.Lock()
	p := d.find(run)
	var history *engine.History
	if d.gen != nil {
		history = d.gen.engine.History()
	}
	d.mu.Unlock()
	if p == nil {
		if history == nil {
			return engine.Ended{}, d.Ready()
		}
		r, err := history.Get(run)
		if err != nil {
			return engine.Ended{}, err
		}
		return engine.Ended{Sync: r.Sync, Run: r, Err: errorOf(r)}, nil
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return engine.Ended{}, ctx.Err()
	}
	x := engine.Ended{Sync: p.sync, Run: p.run, Err: p.err}
	if x.Run == nil && x.Err == nil {
		x.Err = ErrNotBegun // passed over in its sequence
	}
	return x, nil
}

// Progress returns how far a run is that was accepted and has not ended.
func (d *Daemon) Progress(run string) (*engine.Progress, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.find(run); p != nil && p.state != RunEnded {
		return p.progress, true
	}
	return nil, false
}
