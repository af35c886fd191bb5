package salesforce

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/planner"
)

// settleRows is how many outcomes are recorded at once, and settleBytes how much
// memory their operations may take, so that wide rows are fewer: so many that the
// snapshot takes them as tables.
const (
	settleRows  = 16_000
	settleBytes = 12 << 20
)

// runJob sends a job and settles its rows. all is false where the run stopped
// with some of them still planned. The job's file is gone afterwards.
func (r *run) runJob(ctx context.Context, j *job) (all bool, err error) {
	defer j.discard()
	if err := j.seal(); err != nil {
		return false, err
	}
	if r.t.bulk1() {
		return r.runBatch(ctx, j)
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
		info, batch, err := r.submit(ctx, j)
		r.t.limiter.done(at)
		if err == nil {
			j.attempts++
			j.place = at
			return r.finishJob(ctx, j, batch, info)
		}
		r.t.limiter.learn(at, crowdedBy(err))
		again, err := r.submitFailed(ctx, batch, err, try)
		if errors.Is(err, errRuns) {
			if info, err = r.wait(ctx, batch.Handle, j.rows); err != nil {
				return false, fmt.Errorf("wait for bulk job %s: %w", batch.Handle, err)
			}
			j.attempts++
			j.place = at
			return r.finishJob(ctx, j, batch, info)
		}
		if !again || err != nil {
			return false, err
		}
		if ok, err := r.pause(ctx, try); !ok {
			return false, err
		}
	}
}

// submit brings a job to its end: created, its handle recorded before data goes
// up, uploaded, closed, waited for.
func (r *run) submit(ctx context.Context, j *job) (api.JobInfo, destinations.Batch, error) {
	t := r.t
	batch, err := r.begin(ctx, destinations.Batch{API: apiBulk2, Step: j.c.String(), Seqs: j.seqs})
	if err != nil {
		return api.JobInfo{}, batch, &journalError{err}
	}
	request := api.IngestJob{Object: t.object.Name, Operation: j.c.String(), AssignmentRuleID: t.assignmentRule()}
	if j.c == callUpsert {
		request.ExternalIDField = t.match.Name
	}
	info, err := t.client.CreateJob(ctx, request)
	if err != nil {
		return info, batch, fmt.Errorf("create a bulk job: %w", err)
	}
	t.jobs.Add(1)
	batch.Handle = info.ID
	if err := r.update(ctx, batch); err != nil {
		return info, batch, &journalError{err}
	}
	if err := t.client.UploadJob(ctx, info.ID, j.open); err != nil {
		return info, batch, fmt.Errorf("upload bulk job %s: %w", info.ID, err)
	}
	if info, err = t.client.CloseJob(ctx, info.ID); err != nil {
		return info, batch, fmt.Errorf("close bulk job %s: %w", batch.Handle, err)
	}
	info, err = r.wait(ctx, batch.Handle, j.rows)
	if err != nil {
		// The org is at work on it: nothing may be sent again before it is
		// known what became of it.
		return info, batch, &journalError{fmt.Errorf("wait for bulk job %s: %w", batch.Handle, err)}
	}
	return info, batch, nil
}

// wait polls a job until it has ended.
func (r *run) wait(ctx context.Context, id string, rows int64) (api.JobInfo, error) {
	poll := r.t.options.Poll
	poll.Rows = rows
	return r.t.client.WaitJob(ctx, id, poll)
}

// journalError is a failure after which a batch must stay open.
type journalError struct{ err error }

func (e *journalError) Error() string { return e.err.Error() }
func (e *journalError) Unwrap() error { return e.err }

// submitFailed deals with a job that did not come to be processed. It is
// closed for good before its rows go into another, since a job whose upload or
// close lost its answer could still begin to run.
func (r *run) submitFailed(ctx context.Context, batch destinations.Batch, failure error, try int) (again bool, err error) {
	var open *journalError
	if errors.As(failure, &open) || ctx.Err() != nil {
		return false, failure
	}
	if batch.Handle != "" {
		dead, err := r.abort(ctx, batch.Handle)
		if err != nil {
			return false, errors.Join(failure, err)
		}
		if !dead {
			return false, errRuns
		}
	}
	if err := r.settle(ctx, batch.Number, nil, nil, true); err != nil {
		return false, err
	}
	var e *api.Error
	if !errors.As(failure, &e) || try >= r.maxAttempts() {
		return false, failure
	}
	passing := e.Unknown || e.Class == api.Wait || e.Class == api.RetryRow || e.Class == api.SplitBatch ||
		(batch.Handle != "" && e.Class != api.StopRun)
	if !passing {
		return false, failure
	}
	return true, nil
}

// errRuns: a job whose close seemed to fail is past being given up.
var errRuns = errors.New("the job runs")

// abort makes sure that an open job never runs. dead is false where it is past
// that: the org takes an abort of a job that it works on, too, and rows that it
// has in hand are then written all the same.
func (r *run) abort(ctx context.Context, id string) (dead bool, err error) {
	info, err := r.job(ctx, id)
	switch {
	case err != nil:
		return false, fmt.Errorf("abort bulk job %s: %w", id, err)
	case info == nil:
		return true, nil
	case info.State != api.StateOpen:
		return false, nil
	}
	ended, err := r.t.client.AbortJob(ctx, id)
	if err != nil {
		return false, fmt.Errorf("abort bulk job %s: %w", id, err)
	}
	return ended.RecordsProcessed == 0, nil
}

// settleDown waits until an aborted job writes no further row: what the org had
// in hand when somebody aborted it still comes to its end.
func (r *run) settleDown(ctx context.Context, info api.JobInfo) (api.JobInfo, error) {
	for calm := 0; calm < abortedCalm; {
		if !sleep(ctx, 5*r.t.options.RetryPause) {
			return info, context.Cause(ctx)
		}
		now, err := r.job(ctx, info.ID)
		if err != nil {
			return info, err
		}
		if now == nil {
			return info, nil
		}
		if calm++; now.RecordsProcessed != info.RecordsProcessed {
			calm = 0
		}
		info = *now
	}
	return info, nil
}

// abortedCalm is how often in a row an aborted job must show no further row.
const abortedCalm = 3

// job reads a job's state; nil where the org knows it no more.
func (r *run) job(ctx context.Context, id string) (*api.JobInfo, error) {
	info, err := r.t.client.Job(ctx, id)
	var e *api.Error
	if errors.As(err, &e) && !e.Unknown && e.Status == 404 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the state of bulk job %s: %w", id, err)
	}
	return &info, nil
}

// leftovers are the rows of a job that have no outcome from it.
type leftovers struct {
	retry, rematch, relook, omit, complete, unprocessed, unknown planner.Seqs
}

// finishJob settles a job that has ended and sends again what it left over.
func (r *run) finishJob(ctx context.Context, j *job, batch destinations.Batch, info api.JobInfo) (all bool, err error) {
	answers, err := r.readAnswers(ctx, j, info)
	if err != nil {
		return false, err
	}
	return r.concludeJob(ctx, j, batch, answers, info)
}

// concludeJob settles what a job's answers say and sends again what is left.
func (r *run) concludeJob(ctx context.Context, j *job, batch destinations.Batch, answers *answers, info api.JobInfo) (all bool, err error) {
	// One at a time: the journal writes one after the other all the same, and
	// so memory holds the rows of one.
	select {
	case r.settling <- struct{}{}:
	case <-ctx.Done():
		answers.discard()
		return false, context.Cause(ctx)
	}
	left, err := r.settleJob(ctx, j, batch, answers, nil)
	<-r.settling
	code, message := info.Failure()
	r.t.limiter.learn(j.place, j.crowded || crowded(code, message))
	answers.discard()
	j.discard()
	if err != nil {
		return false, err
	}
	if r.t.keyless && j.attempts >= r.maxAttempts() {
		if err := r.failUnprocessed(ctx, j, batch, &left, info); err != nil {
			return false, err
		}
	}
	if left.unknown.Len() > 0 {
		r.t.log.WarnContext(ctx, "rows are in none of the job's result files", "job", info.ID, "rows", left.unknown.Len())
	}
	if len(left.complete) > 0 {
		batch.Step = stepComplete
		if err := r.update(ctx, batch); err != nil {
			return false, err
		}
	} else if err := r.settle(ctx, batch.Number, nil, nil, true); err != nil {
		return false, err
	}
	whole, err := r.jobFailure(j, info, left)
	if err != nil {
		return false, err
	}
	return r.resendAll(ctx, j, batch, left, whole)
}

// failUnprocessed settles rows that the org left unprocessed as often as a row
// may be tried, where Collections are no way to try them one by one.
func (r *run) failUnprocessed(ctx context.Context, j *job, batch destinations.Batch, left *leftovers, info api.JobInfo) error {
	code, message := info.Failure()
	if code == "" {
		code = codeUnprocessed
	}
	if left.unprocessed.Len() == 0 || api.Classify(code, message) == api.StopRun {
		return nil // jobFailure ends the run
	}
	ops, err := r.plan.Read(left.unprocessed)
	if err != nil {
		return fmt.Errorf("read a batch's operations: %w", err)
	}
	defer ops.Close()
	var s settled
	for ops.Next() {
		s.add(ops.Operation().Clone(), destinations.Outcome{Result: destinations.Failed, Code: code, Message: cut(message), Attempts: j.attempts})
	}
	if err := ops.Err(); err != nil {
		return fmt.Errorf("read a batch's operations: %w", err)
	}
	left.unprocessed = nil
	return r.settle(ctx, batch.Number, s.ops, s.outcomes, false)
}

// jobFailure says why a job as a whole left rows unprocessed, and whether
// smaller jobs may do better. The error is one that ends the run.
func (r *run) jobFailure(j *job, info api.JobInfo, left leftovers) (code string, err error) {
	if info.State != api.StateFailed && len(left.unprocessed) == 0 {
		return "", nil
	}
	code, message := info.Failure()
	if code == "" {
		code = codeUnprocessed
	}
	if len(left.unprocessed) == 0 {
		return code, nil
	}
	// An InvalidBatch may be one row's fault or the mapping's. Collections tell
	// the two apart, and that is where its rows end up.
	if api.Classify(code, message) == api.StopRun && (r.t.keyless || !strings.EqualFold(code, "InvalidBatch")) {
		return code, fmt.Errorf("bulk job %s failed: %s: %s (%s)", info.ID, code, message, api.Explain(code))
	}
	return code, nil
}

// resendAll sends a job's leftovers again.
func (r *run) resendAll(ctx context.Context, j *job, batch destinations.Batch, left leftovers, failure string) (all bool, err error) {
	all = true
	send := func(seqs planner.Seqs, change func(*stream)) error {
		if len(seqs) == 0 || !all {
			return nil
		}
		done, err := r.resend(ctx, j, seqs, change)
		all = all && done
		return err
	}
	if err := send(left.complete, func(s *stream) { s.complete = true }); err != nil {
		return false, err
	}
	if len(left.complete) > 0 && all {
		if err := r.settle(ctx, batch.Number, nil, nil, true); err != nil {
			return false, err
		}
	}
	if err := send(left.rematch, func(s *stream) { s.rematch, s.from = true, 0 }); err != nil {
		return false, err
	}
	if err := send(left.relook, func(s *stream) { s.relooked = true }); err != nil {
		return false, err
	}
	if err := send(left.omit, func(*stream) {}); err != nil {
		return false, err
	}
	if len(left.retry)+len(left.unprocessed)+len(left.unknown) == 0 {
		return all, nil
	}
	r.t.tally.retries.Add(left.retry.Len() + left.unprocessed.Len() + left.unknown.Len())
	if ok, err := r.pause(ctx, j.attempts); !ok {
		return false, err
	}
	if err := send(left.retry, func(*stream) {}); err != nil {
		return false, err
	}
	if err := send(left.unknown, func(s *stream) { s.doubt = true }); err != nil {
		return false, err
	}
	// What an entire job choked on may be one row, or their number.
	err = send(left.unprocessed, func(s *stream) {
		s.maxRows = max(1, min(s.maxRows, j.rows/2))
		if !r.t.keyless && (failure == "" || j.rows <= retryByREST) {
			s.from = 0
		}
	})
	return all, err
}

// resend sends operations of a job again, here and now: by Collections where
// they are few.
func (r *run) resend(ctx context.Context, j *job, seqs planner.Seqs, change func(*stream)) (all bool, err error) {
	all = true
	s := &stream{r: r, c: j.c, from: 1, maxRows: j.maxRows, attempts: j.attempts, complete: j.complete, relooked: j.relooked}
	s.size = int(restBatch(&r.t.sync.Write))
	few, last := int64(retryByREST), r.maxAttempts()-1
	if r.t.sync.Write.SplitRetries {
		switch {
		case j.attempts == last-1:
			few = lateByREST
		case j.attempts >= last:
			s.size = min(s.size, lastRows)
		}
	}
	if seqs.Len() <= few {
		s.from = 0
	}
	if r.t.keyless {
		// In ever smaller batches, at last in serial: Collections are no way.
		s.from, s.serial = 1, j.attempts >= r.maxAttempts()-1
		if r.t.sync.Write.SplitRetries {
			s.maxRows = max(retryRows, min(s.maxRows, j.rows/4))
		}
	}
	s.rest = func(ctx context.Context, rows []*row) error {
		done, err := r.sendRows(ctx, j.c, rows)
		all = all && done
		return err
	}
	s.job = func(ctx context.Context, smaller *job) error {
		done, err := r.runJob(ctx, smaller)
		all = all && done
		return err
	}
	change(s)
	defer s.discard()
	ops, err := r.plan.Read(seqs)
	if err != nil {
		return false, fmt.Errorf("read operations to send again: %w", err)
	}
	defer ops.Close()
	for ops.Next() {
		if err := s.add(ctx, ops.Operation()); err != nil {
			return false, err
		}
	}
	if err := ops.Err(); err != nil {
		return false, fmt.Errorf("read operations to send again: %w", err)
	}
	if err := s.finish(ctx); err != nil {
		return false, err
	}
	return all && !s.dropped, nil
}
