package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// batchJob is a Bulk API 1.0 job, to which batches are added one after the
// other.
type batchJob struct {
	r  *run
	id string

	adding sync.Mutex // held while a batch is added, its answer's loss included
	count  int        // guarded by adding: the batches that it has
	dead   bool       // guarded by adding: it takes no more

	poller chan struct{} // admits one at a time to polling for all

	mu     sync.Mutex
	states map[string]api.BatchInfo // guarded by mu; as last heard
	news   chan struct{}            // guarded by mu; closed when states is replaced
	pause  time.Duration            // guarded by mu: before the next poll
	rows   int64                    // guarded by mu: of batches that have not ended
}

// jobKind is what batches must share to be in one job.
type jobKind struct {
	c      call
	serial bool
}

func (r *run) newBatchJob(id string) *batchJob {
	return &batchJob{r: r, id: id, poller: make(chan struct{}, 1), news: make(chan struct{})}
}

// batchJob is the open job of a kind, created where there is none.
func (r *run) batchJob(ctx context.Context, kind jobKind) (*batchJob, error) {
	r.batchMu.Lock()
	defer r.batchMu.Unlock()
	if k := r.batchJobs[kind]; k != nil {
		return k, nil
	}
	t := r.t
	request := api.BatchJob{Object: t.object.Name, Operation: kind.c.String(), AssignmentRuleID: t.assignmentRule(), Serial: kind.serial}
	if kind.c == callUpsert {
		request.ExternalIDField = t.match.Name
	}
	info, err := t.client.CreateBatchJob(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("create a bulk job: %w", err)
	}
	t.jobs.Add(1)
	k := r.newBatchJob(info.ID)
	if r.batchJobs == nil {
		r.batchJobs = make(map[jobKind]*batchJob)
	}
	r.batchJobs[kind] = k
	return k, nil
}

// retire sees to it that no further batch is added to a job. The caller holds
// k.adding.
func (r *run) retire(kind jobKind, k *batchJob) {
	k.dead = true
	r.batchMu.Lock()
	defer r.batchMu.Unlock()
	if r.batchJobs[kind] == k {
		delete(r.batchJobs, kind)
	}
}

// closeJobs closes the jobs that a pass used. One that stays open does no harm:
// it holds nothing but batches that have been dealt with.
func (r *run) closeJobs(ctx context.Context) {
	r.batchMu.Lock()
	defer r.batchMu.Unlock()
	for kind, k := range r.batchJobs {
		if ctx.Err() == nil {
			if _, err := r.t.client.CloseBatchJob(ctx, k.id); err != nil {
				r.t.log.WarnContext(ctx, "a bulk job could not be closed", "job", k.id, "error", err)
			}
		}
		delete(r.batchJobs, kind)
	}
}

// A batch's handle is "job/batch", and while it is being added "job/#n/digest":
// it is then the batch number n of the job, counted from zero, if it arrived,
// and its rows have that digest.

func adding(job string, n int, digest string) string {
	return job + "/#" + strconv.Itoa(n) + "/" + digest
}

// parseHandle reads a handle. batch is "" where it is not known whether it
// arrived.
func parseHandle(handle string) (job, batch string, n int, digest string, err error) {
	job, rest, ok := strings.Cut(handle, "/")
	if ok && job != "" && rest != "" && !strings.HasPrefix(rest, "#") {
		return job, rest, 0, "", nil
	}
	number, digest, split := strings.Cut(strings.TrimPrefix(rest, "#"), "/")
	n, numErr := strconv.Atoi(number)
	if !ok || job == "" || !split || digest == "" || numErr != nil || n < 0 {
		return "", "", 0, "", fmt.Errorf("its handle %q is not one", handle)
	}
	return job, "", n, digest, nil
}

// runBatch sends a batch and settles its rows. all is false where the run
// stopped with some of them still planned.
func (r *run) runBatch(ctx context.Context, j *job) (all bool, err error) {
	body, err := j.open()
	if err != nil {
		return false, err
	}
	digest, err := api.DigestCSV(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return false, fmt.Errorf("read a batch's file: %w", err)
	}
	for try := 1; ; try++ {
		if r.stopping() {
			r.left.Store(true)
			return false, nil
		}
		at, err := r.enterBulk(ctx)
		if errors.Is(err, errStopping) {
			continue
		}
		if err != nil {
			return false, err
		}
		k, info, batch, err := r.addBatch(ctx, j, digest)
		if err == nil && k != nil {
			j.attempts++
			j.place = at
			info, err = k.wait(ctx, info.ID)
			k.await(-j.rows)
			r.t.limiter.done(at)
			if err != nil {
				return false, fmt.Errorf("wait for batch %s: %w", batch.Handle, err)
			}
			return r.finishBatch(ctx, j, batch, k.id, info)
		}
		r.t.limiter.done(at)
		if err != nil {
			r.t.limiter.learn(at, crowdedBy(err))
		}
		var open *journalError
		var e *api.Error
		switch {
		case err == nil: // the job was no more; another takes its place
		case errors.As(err, &open) || ctx.Err() != nil || !errors.As(err, &e):
			return false, err
		case !passing(err) && !jobOver(e):
			return false, err
		}
		if try >= r.maxAttempts() {
			return false, errors.Join(err, fmt.Errorf("a batch could not be added to a bulk job in %d tries", try))
		}
		if ok, err := r.pause(ctx, try); !ok {
			return false, err
		}
	}
}

// jobOver reports an answer by which a job takes no more batches: somebody
// closed or aborted it, or it is a day old.
func jobOver(e *api.Error) bool {
	switch strings.ToUpper(e.Code) {
	case "INVALIDJOBSTATE", "INVALIDJOB":
		return true
	}
	return false
}

// addBatch adds a batch to the open job. k is nil, without an error, where the
// job had come to its end meanwhile. Where the answer is lost, the job is closed:
// what it then holds is final, and says whether the batch arrived. After an error
// that is no journalError the rows are as if never sent.
func (r *run) addBatch(ctx context.Context, j *job, digest string) (k *batchJob, info api.BatchInfo, batch destinations.Batch, err error) {
	kind := jobKind{j.c, j.serial}
	if k, err = r.batchJob(ctx, kind); err != nil {
		return nil, info, batch, err
	}
	k.adding.Lock()
	defer k.adding.Unlock()
	if k.dead {
		return nil, info, batch, nil
	}
	batch, err = r.begin(ctx, destinations.Batch{API: apiBulk1, Step: j.c.String(), Handle: adding(k.id, k.count, digest), Seqs: j.seqs})
	if err != nil {
		return nil, info, batch, &journalError{err}
	}
	info, err = r.t.client.AddBatch(ctx, k.id, j.open)
	if err != nil {
		info, err = r.addFailed(ctx, kind, k, batch, digest, err)
		if err != nil {
			return nil, info, batch, err
		}
	}
	k.count++
	k.await(j.rows)
	batch.Handle = k.id + "/" + info.ID
	if err := r.update(ctx, batch); err != nil {
		r.retire(kind, k)
		return nil, info, batch, &journalError{err}
	}
	return k, info, batch, nil
}

// addFailed deals with a batch whose adding got no good answer. Without an error
// it has arrived all the same.
func (r *run) addFailed(ctx context.Context, kind jobKind, k *batchJob, batch destinations.Batch, digest string, failure error) (api.BatchInfo, error) {
	failure = fmt.Errorf("add a batch to bulk job %s: %w", k.id, failure)
	var e *api.Error
	isAPI := errors.As(failure, &e)
	if ctx.Err() != nil {
		r.retire(kind, k)
		return api.BatchInfo{}, &journalError{failure}
	}
	if isAPI && e.Unknown {
		r.retire(kind, k)
		found, err := r.findBatch(ctx, k.id, k.count, digest, nil)
		if err != nil {
			return api.BatchInfo{}, &journalError{errors.Join(failure, err)}
		}
		if found != nil {
			return *found, nil
		}
	} else if isAPI && jobOver(e) {
		r.retire(kind, k)
	}
	if err := r.settle(ctx, batch.Number, nil, nil, true); err != nil {
		return api.BatchInfo{}, &journalError{errors.Join(failure, err)}
	}
	return api.BatchInfo{}, failure
}

// errJobGone: the org knows a job no more.
var errJobGone = errors.New("the org has forgotten the job")

func gone(err error) bool {
	var e *api.Error
	if !errors.As(err, &e) || e.Unknown {
		return false
	}
	return e.Status == 404 || strings.EqualFold(e.Code, "InvalidJob") || strings.EqualFold(e.Code, "NotFound")
}

// findBatch finds out whether batch number n of a job arrived; nil where it did
// not. The job is closed first, so that it cannot arrive later. Since batches
// are added one at a time, and never after one whose answer was lost, their
// number tells; which one it is, their rows.
func (r *run) findBatch(ctx context.Context, job string, n int, digest string, taken map[string]bool) (*api.BatchInfo, error) {
	if _, err := r.t.client.CloseBatchJob(ctx, job); err != nil {
		if gone(err) {
			return nil, errJobGone
		}
		return nil, fmt.Errorf("close bulk job %s: %w", job, err)
	}
	list, err := r.t.client.Batches(ctx, job)
	if err != nil {
		return nil, fmt.Errorf("list the batches of bulk job %s: %w", job, err)
	}
	if len(list) <= n {
		return nil, nil
	}
	// The newest first: it is nearly always that one.
	slices.SortFunc(list, func(a, b api.BatchInfo) int {
		return strings.Compare(b.CreatedDate+b.ID, a.CreatedDate+a.ID)
	})
	for i := range list {
		if taken[list[i].ID] {
			continue
		}
		there, err := r.t.client.BatchDigest(ctx, job, list[i].ID)
		if err != nil {
			return nil, fmt.Errorf("read batch %s of bulk job %s back: %w", list[i].ID, job, err)
		}
		if there == digest {
			return &list[i], nil
		}
	}
	return nil, fmt.Errorf("bulk job %s holds %d batches where %d were acknowledged, and none of them has the rows of the one whose answer was lost", job, len(list), n)
}

// wait waits until the org has done with a batch. One of those who wait polls
// for all of them: a call tells of every batch of the job.
func (k *batchJob) wait(ctx context.Context, id string) (api.BatchInfo, error) {
	for {
		k.mu.Lock()
		info, news := k.states[id], k.news
		k.mu.Unlock()
		if info.Ended() {
			return info, nil
		}
		select {
		case k.poller <- struct{}{}:
			err := k.poll(ctx, news)
			<-k.poller
			if err != nil {
				return info, err
			}
		case <-news:
		case <-ctx.Done():
			return info, context.Cause(ctx)
		}
	}
}

const (
	batchPollStart = 250 * time.Millisecond
	batchPollCap   = 30 * time.Second

	// batchPatience is how long polls may go on failing for passing reasons.
	batchPatience = 15 * time.Minute
)

// poll pauses and asks for the states of all batches, unless there are news
// since those that were looked at. The pause grows while nothing ends.
func (k *batchJob) poll(ctx context.Context, seen chan struct{}) error {
	k.mu.Lock()
	stale := k.news == seen
	k.mu.Unlock()
	if !stale {
		return nil
	}
	first, longest := k.r.t.options.Poll.Start, k.r.t.options.Poll.Cap
	if first <= 0 {
		first = batchPollStart
	}
	if longest <= 0 {
		longest = batchPollCap
	}
	k.mu.Lock()
	k.pause = min(max(k.pause, first, api.Least(k.rows)), max(first, longest))
	pause := k.pause
	k.mu.Unlock()
	begin := time.Now()
	for {
		if !sleep(ctx, pause) {
			return context.Cause(ctx)
		}
		list, err := k.r.t.client.Batches(ctx, k.id)
		if err != nil {
			if ctx.Err() != nil || !passing(err) || time.Since(begin) > batchPatience {
				return err
			}
			pause = min(longest, pause*2)
			continue
		}
		k.publish(list)
		return nil
	}
}

// await counts rows that the org is to work on, or has.
func (k *batchJob) await(rows int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rows += rows
}

// publish replaces the states and wakes those who wait.
func (k *batchJob) publish(list []api.BatchInfo) {
	k.mu.Lock()
	defer k.mu.Unlock()
	states := make(map[string]api.BatchInfo, len(list))
	ended := false
	for _, b := range list {
		states[b.ID] = b
		ended = ended || b.Ended() && !k.states[b.ID].Ended()
	}
	k.states = states
	close(k.news)
	k.news = make(chan struct{})
	if ended {
		k.pause = 0
	} else {
		k.pause += k.pause / 2
	}
}

// finishBatch settles a batch that has ended and sends again what it left over.
func (r *run) finishBatch(ctx context.Context, j *job, batch destinations.Batch, id string, b api.BatchInfo) (all bool, err error) {
	answers, err := r.readBatch(ctx, j, id, b)
	if err != nil {
		return false, err
	}
	return r.concludeJob(ctx, j, batch, answers, asJob(b))
}

// asJob is a batch in the terms of a job, which it takes the place of.
func asJob(b api.BatchInfo) api.JobInfo {
	info := api.JobInfo{ID: b.ID, State: api.StateJobComplete, ErrorMessage: b.Message, RecordsProcessed: b.RecordsProcessed, RecordsFailed: b.RecordsFailed}
	switch b.State {
	case api.BatchFailed:
		info.State = api.StateFailed
	case api.BatchNotProcessed:
		info.State = api.StateAborted
	}
	return info
}

// readBatch reads a batch's results, which are in the order of its rows.
func (r *run) readBatch(ctx context.Context, j *job, id string, b api.BatchInfo) (*answers, error) {
	a := newAnswers(r.t, j.rows)
	a.block = make([]slot, j.rows)
	for try := 1; ; try++ {
		clear(a.block)
		err := r.readRows(ctx, a, id, b)
		var misfit *misfitError
		if err == nil {
			return a, nil
		}
		if errors.As(err, &misfit) || ctx.Err() != nil || try >= r.maxAttempts() || !passing(err) {
			a.discard()
			return nil, err
		}
		if !sleep(ctx, backoff(r.t.options.RetryPause, try)) {
			a.discard()
			return nil, context.Cause(ctx)
		}
	}
}

func (r *run) readRows(ctx context.Context, a *answers, id string, b api.BatchInfo) error {
	for i := range a.block {
		a.block[i].state = slotUnprocessed
	}
	if b.State == api.BatchNotProcessed || b.State == api.BatchFailed && b.RecordsProcessed == 0 {
		return nil
	}
	file, err := r.t.client.BatchResults(ctx, id, b.ID)
	if err != nil {
		return fmt.Errorf("read the results of batch %s: %w", b.ID, err)
	}
	defer file.Close()
	column := func(name string) int {
		return slices.IndexFunc(file.Header(), func(h string) bool { return strings.EqualFold(h, name) })
	}
	idAt, successAt, createdAt, errorAt := column("Id"), column("Success"), column("Created"), column("Error")
	n := 0
	for ; file.Next(); n++ {
		if successAt < 0 || idAt < 0 || createdAt < 0 || errorAt < 0 {
			return &misfitError{fmt.Sprintf("results of batch %s lack a column of Id, Success, Created and Error", b.ID)}
		}
		if n >= len(a.block) {
			return &misfitError{fmt.Sprintf("results of batch %s hold more rows than the %d that were sent", b.ID, len(a.block))}
		}
		line, s := file.Row(), &a.block[n]
		switch {
		case strings.EqualFold(line[successAt], "true"):
			s.state = slotAccepted
			if strings.EqualFold(line[createdAt], "true") {
				s.state = slotCreated
			}
			copy(s.data[:], line[idAt])
		case line[errorAt] == "" && b.State == api.BatchFailed: // it did not come to this one
		default:
			s.state = slotRefused
			if err := a.keep(s, refusedRow{ID: line[idAt], Error: line[errorAt]}); err != nil {
				return err
			}
		}
	}
	if err := file.Err(); err != nil {
		return fmt.Errorf("read the results of batch %s: %w", b.ID, err)
	}
	if n < len(a.block) && (b.State != api.BatchFailed || int64(n) < b.RecordsProcessed) {
		return &misfitError{fmt.Sprintf("results of batch %s hold %d rows of the %d that were sent", b.ID, n, len(a.block))}
	}
	return nil
}

// recoverBatch asks the org about a batch of Bulk API 1.0 that an earlier run
// left open. taken are the batches that are known by their handles.
func (r *run) recoverBatch(ctx context.Context, b destinations.Batch, pending *planner.SettledSet, taken map[string]bool) error {
	id, batchID, n, digest, err := parseHandle(b.Handle)
	if err != nil {
		return err
	}
	if batchID == "" {
		found, err := r.findBatch(ctx, id, n, digest, taken)
		if errors.Is(err, errJobGone) {
			return r.forgotten(ctx, b, pending)
		}
		if err != nil {
			return err
		}
		if found == nil {
			return r.closeBatch(ctx, b) // it never arrived, and never will
		}
		taken[found.ID] = true
		batchID, b.Handle = found.ID, id+"/"+found.ID
		if err := r.update(ctx, b); err != nil {
			return err
		}
	}
	info, err := r.newBatchJob(id).wait(ctx, batchID)
	if gone(err) {
		return r.forgotten(ctx, b, pending)
	}
	if err != nil {
		return fmt.Errorf("wait for batch %s: %w", b.Handle, err)
	}
	c, ok := callNamed(b.Step)
	if !ok {
		return fmt.Errorf("its step %q is not known", b.Step)
	}
	j := &job{c: c, t: r.t, seqs: b.Seqs, rows: b.Seqs.Len(), attempts: 1}
	answers, err := r.readBatch(ctx, j, id, info)
	var misfit *misfitError
	if gone(err) || errors.As(err, &misfit) && !r.t.keyless {
		r.t.log.WarnContext(ctx, "a batch's results are gone or do not fit its rows", "batch", b.Handle, "error", err)
		return r.forgotten(ctx, b, pending)
	}
	if err != nil {
		return err
	}
	defer answers.discard()
	return r.settleRecovered(ctx, j, b, answers, pending)
}

// forgotten deals with a batch of which the org keeps no record any more, as
// after seven days. Inserts whose records nothing tells apart are then unknown
// for good: on_unknown says what a person has decided about them.
func (r *run) forgotten(ctx context.Context, b destinations.Batch, pending *planner.SettledSet) error {
	if b.Step != callCreate.String() && b.Step != stepUnknown || !r.t.keyless {
		return r.giveUp(ctx, b, pending)
	}
	switch r.t.sync.Write.OnUnknown {
	case "resend":
		return r.closeBatch(ctx, b)
	case "accept":
		return r.accept(ctx, b, pending)
	}
	if b.Step != stepUnknown {
		b.Step = stepUnknown
		if err := r.update(ctx, b); err != nil {
			return err
		}
	}
	r.unknown.Add(b.Seqs)
	for _, seqs := range b.Seqs {
		for seq := seqs.From; seq < seqs.To; seq++ {
			if pending.Has(seq) {
				r.unknowns++
			}
		}
	}
	return nil
}

// stepUnknown marks a batch of inserts that waits for a person.
const stepUnknown = "unknown"

// accept settles what is pending of a batch as created: a person has seen the
// records.
func (r *run) accept(ctx context.Context, b destinations.Batch, pending *planner.SettledSet) error {
	ops, err := r.plan.Read(b.Seqs)
	if err != nil {
		return fmt.Errorf("read its operations: %w", err)
	}
	defer ops.Close()
	var s settled
	for ops.Next() {
		if op := ops.Operation(); pending.Has(op.Seq) {
			s.add(op.Clone(), destinations.Outcome{Result: destinations.Created, Attempts: 1})
		}
	}
	if err := ops.Err(); err != nil {
		return fmt.Errorf("read its operations: %w", err)
	}
	return r.settle(ctx, b.Number, s.ops, s.outcomes, true)
}

// unknownError is how a run ends that holds inserts for a person.
func (r *run) unknownError() error {
	if r.unknowns == 0 {
		return nil
	}
	return fmt.Errorf("nobody can say whether %d of the inserts into %s landed: a run was cut short, and the org no longer keeps the jobs that it had sent, nor does a mapped field tell the records apart. None of them was sent again; all else was. Look in the org for records of that time: where they are there, run once with on_unknown = \"accept\" in [syncs.%s.write], and with \"resend\" where they are not",
		r.unknowns, r.t.object.Name, r.t.sync.Name)
}
