package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The operations of an ingest job.
const (
	OpInsert     = "insert"
	OpUpdate     = "update"
	OpUpsert     = "upsert"
	OpDelete     = "delete"
	OpHardDelete = "hardDelete"
)

// The states of a job.
const (
	StateOpen           = "Open"
	StateUploadComplete = "UploadComplete"
	StateInProgress     = "InProgress"
	StateJobComplete    = "JobComplete"
	StateFailed         = "Failed"
	StateAborted        = "Aborted"
)

// MaxUploadBytes is the size of the CSV that one ingest job takes: 150 MB once
// base64-encoded by the org, so 100 MB of data (Bulk API 2.0 Developer Guide,
// "Upload Job Data").
const MaxUploadBytes = 100_000_000

// IngestJob is a Bulk API 2.0 ingest job to create. Its data is CSV, delimited
// by commas, with LF line endings.
type IngestJob struct {
	Object           string
	Operation        string // OpInsert, OpUpdate, OpUpsert, OpDelete or OpHardDelete
	ExternalIDField  string // upsert only
	AssignmentRuleID string
}

// JobInfo is a job as the org reports it, ingest and query alike.
type JobInfo struct {
	ID, Object, Operation, State string
	ExternalIDField              string
	ErrorMessage                 string
	// RecordsProcessed counts failed records too; in a Failed or Aborted job
	// it may count unprocessed ones.
	RecordsProcessed, RecordsFailed int64
	Retries                         int64
	TotalProcessingTime             time.Duration
	CreatedDate                     string
}

// Terminal reports whether the job has ended, well or not.
func (j JobInfo) Terminal() bool {
	return j.State == StateJobComplete || j.State == StateFailed || j.State == StateAborted
}

// Failure splits ErrorMessage, which reads "InvalidBatch : Field name not
// found : Foo__c", into a code for Classify and the rest. Of a message without
// a code the code is "".
func (j JobInfo) Failure() (code, message string) {
	message = oneLine(j.ErrorMessage)
	for {
		name, rest, found := strings.Cut(message, " : ")
		if !found || !known(name) {
			break
		}
		code, message = name, rest // "InvalidBatch : InvalidBatch : ..." occurs
	}
	if code == "" && (strings.Contains(message, "retried more than") || strings.Contains(message, "times without success")) {
		code = "Timeout"
	}
	return code, message
}

// Poll says how to wait for a job. The zero value starts at 250 ms and backs
// off to 30 s.
type Poll struct {
	Start time.Duration // the first pause
	Cap   time.Duration // the longest pause
	// Rows is how many rows the job has, where that is known. The first poll
	// then comes when they could be done at the earliest, and each further
	// one when they will be at the pace so far, so that the number of polls
	// hardly depends on theirs.
	Rows int64
	// OnPoll, where set, sees each state that was read.
	OnPoll func(JobInfo)
}

const (
	pollStart = 250 * time.Millisecond
	pollCap   = 30 * time.Second
	// pollFloor keeps a caller's Start from becoming a busy poll.
	pollFloor = 5 * time.Millisecond
	// pollPatience is how long polls may go on failing for passing reasons
	// before the job is given up; the job itself runs on.
	pollPatience = 15 * time.Minute
	// quickest is the least time that an org takes for a row.
	quickest = 10 * time.Microsecond
)

// Least is how soon so many rows could be done.
func Least(rows int64) time.Duration { return time.Duration(rows) * quickest }

// wireJob is a job as it travels.
type wireJob struct {
	ID               string `json:"id"`
	Object           string `json:"object"`
	Operation        string `json:"operation"`
	State            string `json:"state"`
	ExternalIDField  string `json:"externalIdFieldName"`
	ErrorMessage     string `json:"errorMessage"`
	RecordsProcessed int64  `json:"numberRecordsProcessed"`
	RecordsFailed    int64  `json:"numberRecordsFailed"`
	Retries          int64  `json:"retries"`
	TotalTime        int64  `json:"totalProcessingTime"` // milliseconds
	CreatedDate      string `json:"createdDate"`
}

const (
	ingestPath = "/jobs/ingest"
	queryPath  = "/jobs/query"
)

// CreateJob creates an ingest job. It is not repeated after a lost answer: the
// job that may then exist is open, holds nothing and expires by itself.
func (c *Client) CreateJob(ctx context.Context, job IngestJob) (JobInfo, error) {
	return c.createJob(ctx, "create a job to "+job.Operation+" "+job.Object, ingestPath, false, map[string]string{
		"object": job.Object, "operation": job.Operation, "contentType": "CSV", "lineEnding": "LF", "columnDelimiter": "COMMA",
		"externalIdFieldName": job.ExternalIDField, "assignmentRuleId": job.AssignmentRuleID,
	})
}

// CreateQueryJob creates a query job, which the org begins at once.
func (c *Client) CreateQueryJob(ctx context.Context, soql string) (JobInfo, error) {
	// A second query job costs one of the day's ten thousand, and nothing else.
	return c.createJob(ctx, "create a query job", queryPath, true, map[string]string{
		"operation": "query", "query": soql, "contentType": "CSV", "lineEnding": "LF", "columnDelimiter": "COMMA",
	})
}

func (c *Client) createJob(ctx context.Context, op, path string, repeat bool, settings map[string]string) (JobInfo, error) {
	for name, value := range settings {
		if value == "" {
			delete(settings, name)
		}
	}
	body, err := json.Marshal(settings)
	if err != nil {
		return JobInfo{}, &Error{Op: op, Class: StopRun, Message: "the job could not be written as JSON", Err: err}
	}
	r := &call{op: op, method: http.MethodPost, path: c.prefix + path, accept: "application/json",
		contentType: "application/json; charset=UTF-8", body: body, repeat: repeat}
	return c.job(ctx, r)
}

// UploadJob sends an ingest job's CSV, compressed, as it is read. A job takes
// data once (a second upload is refused), so nothing is repeated; body is
// opened again only where the session had expired, since the data was then not
// taken. It is closed when UploadJob returns.
func (c *Client) UploadJob(ctx context.Context, id string, body func() (io.ReadCloser, error)) error {
	_, err := c.do(ctx, &call{
		op: "upload the data of job " + id, method: http.MethodPut, path: c.jobPath(ingestPath, id) + "/batches",
		accept: "application/json", contentType: "text/csv; charset=UTF-8", open: body,
	})
	if e, ok := err.(*Error); ok && e.Status == http.StatusBadRequest && e.Code == "INVALIDBATCH" {
		// The job has data already: something on the way sent it twice. Only
		// the job is spoilt, not what was to go into it.
		e.Class = RetryRow
	}
	return err
}

// CloseJob says that an ingest job's data is complete, which starts it.
func (c *Client) CloseJob(ctx context.Context, id string) (JobInfo, error) {
	return c.setState(ctx, "close job "+id, ingestPath, id, StateUploadComplete)
}

// AbortJob ends an ingest job. What it has written stays written.
func (c *Client) AbortJob(ctx context.Context, id string) (JobInfo, error) {
	return c.setState(ctx, "abort job "+id, ingestPath, id, StateAborted)
}

// AbortQueryJob ends a query job.
func (c *Client) AbortQueryJob(ctx context.Context, id string) (JobInfo, error) {
	return c.setState(ctx, "abort query job "+id, queryPath, id, StateAborted)
}

func (c *Client) setState(ctx context.Context, op, path, id, state string) (JobInfo, error) {
	r := &call{op: op, method: http.MethodPatch, path: c.jobPath(path, id), accept: "application/json",
		contentType: "application/json; charset=UTF-8", body: []byte(`{"state":"` + state + `"}`), repeat: true}
	a, err := c.do(ctx, r)
	if err == nil {
		return decodeJob(r, a)
	}
	// A request whose answer was lost has perhaps done its work, and is then
	// refused when it is sent again: the job itself says.
	if e, ok := err.(*Error); ok && (e.Status == http.StatusBadRequest || e.Status == http.StatusConflict || e.Unknown) {
		job, jobErr := c.readJob(ctx, path, id)
		if jobErr == nil && (job.State == state || state == StateUploadComplete && reached(job)) {
			return job, nil
		}
	}
	return JobInfo{}, err
}

// reached reports a job whose data was closed by this client or another.
func reached(job JobInfo) bool {
	return job.State == StateInProgress || job.State == StateJobComplete || job.State == StateFailed
}

// Job reads an ingest job.
func (c *Client) Job(ctx context.Context, id string) (JobInfo, error) {
	return c.readJob(ctx, ingestPath, id)
}

// QueryJob reads a query job.
func (c *Client) QueryJob(ctx context.Context, id string) (JobInfo, error) {
	return c.readJob(ctx, queryPath, id)
}

func (c *Client) readJob(ctx context.Context, path, id string) (JobInfo, error) {
	return c.job(ctx, &call{op: "read job " + id, method: http.MethodGet, path: c.jobPath(path, id), accept: "application/json", repeat: true})
}

// DeleteJob removes an ingest job that has ended, and its data.
func (c *Client) DeleteJob(ctx context.Context, id string) error {
	return c.deleteJob(ctx, ingestPath, id)
}

// DeleteQueryJob removes a query job that has ended, and its results.
func (c *Client) DeleteQueryJob(ctx context.Context, id string) error {
	return c.deleteJob(ctx, queryPath, id)
}

func (c *Client) deleteJob(ctx context.Context, path, id string) error {
	_, err := c.do(ctx, &call{op: "delete job " + id, method: http.MethodDelete, path: c.jobPath(path, id), accept: "application/json", repeat: true})
	if e, ok := err.(*Error); ok && e.Status == http.StatusNotFound && e.Code == "NOT_FOUND" {
		return nil // it is gone, which is what was asked for
	}
	return err
}

// WaitJob reads an ingest job until it has ended. Expired sessions and errors
// that pass do not end the waiting; ctx does.
func (c *Client) WaitJob(ctx context.Context, id string, poll Poll) (JobInfo, error) {
	return c.waitJob(ctx, ingestPath, id, poll)
}

// WaitQueryJob is WaitJob of a query job.
func (c *Client) WaitQueryJob(ctx context.Context, id string, poll Poll) (JobInfo, error) {
	return c.waitJob(ctx, queryPath, id, poll)
}

func (c *Client) waitJob(ctx context.Context, path, id string, poll Poll) (JobInfo, error) {
	pause, longest := poll.Start, poll.Cap
	if pause <= 0 {
		pause = pollStart
	}
	if longest <= 0 {
		longest = pollCap
	}
	pause = max(pause, pollFloor)
	longest = max(longest, pause)
	begun := time.Now()
	good := begun
	if poll.Rows > 0 && !sleep(ctx, min(longest, max(pause, Least(poll.Rows)))) {
		return JobInfo{}, &Error{Op: "wait for job " + id, Class: Wait, Message: "stopped", Err: context.Cause(ctx)}
	}
	for {
		job, err := c.readJob(ctx, path, id)
		switch {
		case err == nil:
			good = time.Now()
			if poll.OnPoll != nil {
				poll.OnPoll(job)
			}
			if job.Terminal() {
				return job, nil
			}
			if done := job.RecordsProcessed; done > 0 && done < poll.Rows {
				left := time.Duration(float64(time.Since(begun)) * float64(poll.Rows-done) / float64(done))
				pause = min(longest, max(pause, left+left/16))
			}
		case ctx.Err() != nil:
			return JobInfo{}, err
		default:
			e, ok := errors.AsType[*Error](err)
			if !ok || !passing(e) || time.Since(good) > pollPatience {
				return JobInfo{}, err
			}
		}
		// A little jitter keeps jobs that began together from polling so.
		if !sleep(ctx, pause+rand.N(pause/8+1)) {
			return JobInfo{}, &Error{Op: "wait for job " + id, Class: Wait, Message: "stopped", Err: context.Cause(ctx)}
		}
		pause = min(longest, pause+pause/2)
	}
}

func (c *Client) jobPath(path, id string) string { return c.prefix + path + "/" + url.PathEscape(id) }

// job sends a call that answers with a job.
func (c *Client) job(ctx context.Context, r *call) (JobInfo, error) {
	a, err := c.do(ctx, r)
	if err != nil {
		return JobInfo{}, err
	}
	return decodeJob(r, a)
}

func decodeJob(r *call, a *answer) (JobInfo, error) {
	var w wireJob
	if err := json.Unmarshal(a.body, &w); err != nil || w.ID == "" || w.State == "" {
		return JobInfo{}, garbled(r, a, err)
	}
	return JobInfo{
		ID: w.ID, Object: w.Object, Operation: w.Operation, State: w.State,
		ExternalIDField: w.ExternalIDField, ErrorMessage: w.ErrorMessage,
		RecordsProcessed: w.RecordsProcessed, RecordsFailed: w.RecordsFailed, Retries: w.Retries,
		TotalProcessingTime: time.Duration(w.TotalTime) * time.Millisecond, CreatedDate: w.CreatedDate,
	}, nil
}
