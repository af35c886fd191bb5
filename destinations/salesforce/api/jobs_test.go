package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	jobID  = "7505fEXAMPLE4C2AAM"
	jobURL = "/services/data/v62.0/jobs/ingest/" + jobID
	gone   = `[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]`
)

// jobJSON is a job as the org shows it.
func jobJSON(state string, processed, failed int) string {
	return `{"id":"` + jobID + `","operation":"upsert","object":"Account","createdById":"0055f","createdDate":"2022-01-02T21:33:43.000+0000",
	"systemModstamp":"2022-01-02T21:33:43.000+0000","state":"` + state + `","externalIdFieldName":"Ext__c","concurrencyMode":"Parallel","contentType":"CSV","apiVersion":62.0,
	"contentUrl":"services/data/v62.0/jobs/ingest/` + jobID + `/batches","lineEnding":"LF","columnDelimiter":"COMMA","jobType":"V2Ingest",
	"numberRecordsProcessed":` + itoa(processed) + `,"numberRecordsFailed":` + itoa(failed) + `,"retries":0,"totalProcessingTime":1250,"apiActiveProcessingTime":1100,"apexProcessingTime":0}`
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// source is a body that knows whether it was closed.
type source struct {
	io.Reader
	open *atomic.Int64
}

func (s source) Close() error { s.open.Add(-1); return nil }

func sourceOf(text string, open, opened *atomic.Int64) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		open.Add(1)
		opened.Add(1)
		return source{strings.NewReader(text), open}, nil
	}
}

func TestIngestJobFromCreateToDelete(t *testing.T) {
	org := newOrg(t)
	data := "Ext__c,Name\n" + strings.Repeat("A-1,\"a, b\"\n", 50_000)
	org.on("POST /services/data/v62.0/jobs/ingest", func(w http.ResponseWriter, r *http.Request) {
		var got map[string]string
		if err := json.Unmarshal([]byte(body(t, r)), &got); err != nil {
			t.Error(err)
		}
		want := map[string]string{"object": "Account", "operation": "upsert", "externalIdFieldName": "Ext__c", "contentType": "CSV", "lineEnding": "LF", "columnDelimiter": "COMMA", "assignmentRuleId": "01Q"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("created %v", got)
		}
		reply(w, 200, jobJSON(StateOpen, 0, 0))
	})
	org.on("PUT "+jobURL+"/batches", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "text/csv; charset=UTF-8" || r.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("headers %v", r.Header)
		}
		if got := body(t, r); got != data {
			t.Errorf("%d bytes arrived of %d", len(got), len(data))
		}
		w.WriteHeader(201)
	})
	org.on("PATCH "+jobURL, func(w http.ResponseWriter, r *http.Request) {
		if got := body(t, r); got != `{"state":"UploadComplete"}` {
			t.Errorf("patched %s", got)
		}
		reply(w, 200, jobJSON(StateUploadComplete, 0, 0))
	})
	org.on("GET "+jobURL, sequence(answering(200, jobJSON(StateUploadComplete, 0, 0)), answering(200, jobJSON(StateInProgress, 20_000, 1)), answering(200, jobJSON(StateJobComplete, 50_000, 3))))
	org.on("DELETE "+jobURL, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	c := org.client(t)
	ctx := t.Context()

	job, err := c.CreateJob(ctx, IngestJob{Object: "Account", Operation: OpUpsert, ExternalIDField: "Ext__c", AssignmentRuleID: "01Q"})
	if err != nil || job.ID != jobID || job.State != StateOpen || job.Terminal() {
		t.Fatalf("job %+v, %v", job, err)
	}
	var open, opened atomic.Int64
	if err := c.UploadJob(ctx, job.ID, sourceOf(data, &open, &opened)); err != nil || open.Load() != 0 || opened.Load() != 1 {
		t.Fatalf("upload: %v, %d opened, %d still open", err, opened.Load(), open.Load())
	}
	if job, err = c.CloseJob(ctx, job.ID); err != nil || job.State != StateUploadComplete {
		t.Fatalf("job %+v, %v", job, err)
	}
	var states []string
	job, err = c.WaitJob(ctx, job.ID, Poll{Start: time.Millisecond, OnPoll: func(j JobInfo) { states = append(states, j.State) }})
	want := JobInfo{ID: jobID, Object: "Account", Operation: "upsert", State: StateJobComplete, ExternalIDField: "Ext__c",
		RecordsProcessed: 50_000, RecordsFailed: 3, TotalProcessingTime: 1250 * time.Millisecond, CreatedDate: "2022-01-02T21:33:43.000+0000"}
	if err != nil || job != want || !reflect.DeepEqual(states, []string{StateUploadComplete, StateInProgress, StateJobComplete}) {
		t.Fatalf("job %+v by %v, %v", job, states, err)
	}
	if err := c.DeleteJob(ctx, job.ID); err != nil {
		t.Fatal(err)
	}
}

func TestUploadIsSentAgainOnlyAfterRenewal(t *testing.T) {
	for name, test := range map[string]struct {
		h       http.HandlerFunc
		expired bool
		opened  int64
		unknown bool
		fails   bool
	}{
		"expired session": {answering(201, ""), true, 2, false, false},
		"hung up":         {hangUp, false, 1, true, true},
		"502":             {answering(502, "<html></html>"), false, 1, true, true},
		"second upload":   {answering(400, `[{"errorCode":"CLIENTINPUTERROR","message":"Found multiple contents for job: 7505f, please 'Close' / 'Abort' / 'Delete' the current Job then create a new Job"}]`), false, 1, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.on("PUT "+jobURL+"/batches", test.h)
			c := org.client(t)
			if _, err := c.session(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if test.expired {
				org.expire()
			}
			var open, opened atomic.Int64
			err := c.UploadJob(t.Context(), jobID, sourceOf(strings.Repeat("x,y\n", 100_000), &open, &opened))
			e, _ := errors.AsType[*Error](err)
			if (err != nil) != test.fails || (e != nil && e.Unknown != test.unknown) || open.Load() != 0 || opened.Load() != test.opened {
				t.Errorf("error %v, %d opened, %d still open", err, opened.Load(), open.Load())
			}
		})
	}
}

// An org that refuses an upload before it has read it does not keep the client
// sending.
func TestUploadRefusedEarly(t *testing.T) {
	org := newOrg(t)
	org.on("PUT "+jobURL+"/batches", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 400, `[{"errorCode":"INVALIDJOBSTATE","message":"InvalidJobState : the job is closed"}]`)
	})
	var open atomic.Int64
	noise := &endless{}
	err := org.client(t).UploadJob(t.Context(), jobID, func() (io.ReadCloser, error) { open.Add(1); return source{noise, &open}, nil })
	if err == nil || open.Load() != 0 {
		t.Errorf("error %v, %d still open", err, open.Load())
	}
}

// endless never ends, nor compresses well.
type endless struct{ state uint64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		e.state = e.state*6364136223846793005 + 1442695040888963407
		p[i] = byte(e.state >> 33)
	}
	return len(p), nil
}

func TestUploadSourceFails(t *testing.T) {
	org := newOrg(t)
	org.on("PUT "+jobURL+"/batches", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(201)
	})
	c := org.client(t)
	broken := errors.New("disk on fire")
	var open atomic.Int64
	err := c.UploadJob(t.Context(), jobID, func() (io.ReadCloser, error) {
		open.Add(1)
		return source{io.MultiReader(strings.NewReader("a,b\n"), errReader{broken}), &open}, nil
	})
	if !errors.Is(err, broken) || open.Load() != 0 {
		t.Errorf("error %v, %d still open", err, open.Load())
	}
	err = c.UploadJob(t.Context(), jobID, func() (io.ReadCloser, error) { return nil, broken })
	if e, ok := errors.AsType[*Error](err); !ok || e.Unknown || !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestStateChangesWhoseAnswerWasLost(t *testing.T) {
	const invalid = `[{"errorCode":"INVALIDJOBSTATE","message":"InvalidJobState : Closing already Completed Job not allowed"}]`
	for name, test := range map[string]struct {
		patch http.HandlerFunc
		now   string
		abort bool
		fails bool
	}{
		"closed before":          {sequence(hangUp, answering(400, invalid)), StateInProgress, false, false},
		"closed, never heard":    {hangUp, StateUploadComplete, false, false},
		"not closed":             {answering(502, ""), StateOpen, false, true},
		"aborted before":         {sequence(hangUp, answering(400, invalid)), StateAborted, true, false},
		"completed before abort": {answering(400, invalid), StateJobComplete, true, true},
		"aborted, then closed":   {answering(400, invalid), StateAborted, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.on("PATCH "+jobURL, test.patch)
			org.on("GET "+jobURL, answering(200, jobJSON(test.now, 0, 0)))
			c := org.client(t)
			do := c.CloseJob
			if test.abort {
				do = c.AbortJob
			}
			job, err := do(t.Context(), jobID)
			if (err != nil) != test.fails || (!test.fails && job.State != test.now) {
				t.Errorf("job %+v, %v", job, err)
			}
		})
	}
}

func TestCreateJobIsNotRepeated(t *testing.T) {
	org := newOrg(t)
	var calls atomic.Int64
	org.on("POST /services/data/v62.0/jobs/ingest", func(w http.ResponseWriter, r *http.Request) { calls.Add(1); hangUp(w, r) })
	_, err := org.client(t).CreateJob(t.Context(), IngestJob{Object: "Account", Operation: OpInsert})
	if e, ok := errors.AsType[*Error](err); !ok || !e.Unknown || calls.Load() != 1 {
		t.Errorf("%d calls, error %v", calls.Load(), err)
	}
}

func TestDeleteJobThatIsGone(t *testing.T) {
	org := newOrg(t)
	org.on("DELETE "+jobURL, sequence(hangUp, answering(404, gone)))
	org.mux.HandleFunc("GET /services/data/{$}", answering(200, `[{"version":"62.0"}]`))
	if err := org.client(t).DeleteJob(t.Context(), jobID); err != nil {
		t.Error(err)
	}
}

func TestWaitOutlastsWhatPasses(t *testing.T) {
	org := newOrg(t)
	expire := func(w http.ResponseWriter, r *http.Request) {
		org.expire()
		reply(w, 200, jobJSON(StateInProgress, 0, 0))
	}
	busy := make([]http.HandlerFunc, 20) // more than a single read bears
	for i := range busy {
		busy[i] = answering(503, "")
	}
	steps := append([]http.HandlerFunc{expire, hangUp, expire}, busy...)
	org.on("GET "+jobURL, sequence(append(steps, answering(200, jobJSON(StateFailed, 10, 10)))...))
	c := org.client(t)
	job, err := c.WaitJob(t.Context(), jobID, Poll{Start: time.Millisecond, Cap: 2 * time.Millisecond})
	if err != nil || job.State != StateFailed || org.logins.Load() != 3 {
		t.Errorf("job %+v, %d logins, %v", job, org.logins.Load(), err)
	}
}

func TestWaitEnds(t *testing.T) {
	org := newOrg(t)
	org.on("GET "+jobURL, answering(200, jobJSON(StateInProgress, 0, 0)))
	org.on("GET /services/data/v62.0/jobs/ingest/gone", answering(404, gone))
	org.mux.HandleFunc("GET /services/data/{$}", answering(200, `[{"version":"62.0"}]`))
	c := org.client(t)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	polls := 0
	_, err := c.WaitJob(ctx, jobID, Poll{Start: time.Hour, OnPoll: func(JobInfo) { polls++; cancel(why) }})
	if !errors.Is(err, why) || polls != 1 {
		t.Errorf("%d polls, error %v", polls, err)
	}
	if _, err := c.WaitJob(t.Context(), "gone", Poll{}); err == nil {
		t.Error("a job that is gone was waited for")
	}
	limited := org.client(t, func(c *Config) { c.EnforceLimits, c.DailyCalls = true, 3 })
	_, err = limited.WaitJob(t.Context(), jobID, Poll{Start: time.Millisecond})
	if _, ok := errors.AsType[*BudgetError](err); !ok {
		t.Errorf("error %v", err)
	}
}

// The pauses grow, and never so that the poll is a busy one.
func TestWaitBacksOff(t *testing.T) {
	org := newOrg(t)
	var times []time.Time
	done := make([]http.HandlerFunc, 0, 7)
	for range 6 {
		done = append(done, answering(200, jobJSON(StateInProgress, 0, 0)))
	}
	org.on("GET "+jobURL, sequence(append(done, answering(200, jobJSON(StateJobComplete, 0, 0)))...))
	_, err := org.client(t).WaitJob(t.Context(), jobID, Poll{Start: time.Nanosecond, OnPoll: func(JobInfo) { times = append(times, time.Now()) }})
	if err != nil || len(times) != 7 {
		t.Fatalf("%d polls, error %v", len(times), err)
	}
	least := pollFloor
	for i := 1; i < len(times); i++ {
		if gap := times[i].Sub(times[i-1]); gap < least {
			t.Errorf("pause %d lasted %s, less than %s", i, gap, least)
		}
		least += least / 2
	}
}

func TestJobFailure(t *testing.T) {
	for message, want := range map[string][2]string{
		"InvalidBatch : Field name not found : Foo__c":                                            {"InvalidBatch", "Field name not found : Foo__c"},
		"InvalidBatch : InvalidBatch : Field name not found : Name. Batch will not be retried.":   {"InvalidBatch", "Field name not found : Name. Batch will not be retried."},
		"ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is LF": {"ClientInputError", "LineEnding is invalid on user data. Current LineEnding setting is LF"},
		"TooManyLockFailure : Too many lock failure 200 Trying again later.":                      {"TooManyLockFailure", "Too many lock failure 200 Trying again later."},
		"ExceededQuota : ApiBatchItems Limit exceeded.":                                           {"ExceededQuota", "ApiBatchItems Limit exceeded."},
		"The batch was retried more than 20 times":                                                {"Timeout", "The batch was retried more than 20 times"},
		"Something : else": {"", "Something : else"},
		"":                 {"", ""},
	} {
		code, text := JobInfo{ErrorMessage: message}.Failure()
		if code != want[0] || text != want[1] {
			t.Errorf("%q: %q, %q", message, code, text)
		}
	}
}

func TestQueryJob(t *testing.T) {
	org := newOrg(t)
	const path = "/services/data/v62.0/jobs/query"
	info := func(state string) string {
		return `{"id":"750Q","operation":"query","object":"Account","state":"` + state + `","concurrencyMode":"Parallel","contentType":"CSV","apiVersion":62.0,"jobType":"V2Query","lineEnding":"LF","columnDelimiter":"COMMA","numberRecordsProcessed":3}`
	}
	org.on("POST "+path, sequence(hangUp, func(w http.ResponseWriter, r *http.Request) {
		if got := body(t, r); !strings.Contains(got, `"query":"SELECT Id FROM Account"`) || !strings.Contains(got, `"operation":"query"`) {
			t.Errorf("created %s", got)
		}
		reply(w, 200, info(StateUploadComplete))
	}))
	org.on("GET "+path+"/750Q", sequence(answering(200, info(StateInProgress)), answering(200, info(StateJobComplete))))
	org.on("PATCH "+path+"/750Q", answering(200, info(StateAborted)))
	org.on("DELETE "+path+"/750Q", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	c := org.client(t)
	ctx := t.Context()
	if job, err := c.CreateQueryJob(ctx, "SELECT Id FROM Account"); err != nil || job.ID != "750Q" {
		t.Fatalf("job %+v, %v", job, err)
	}
	if job, err := c.QueryJob(ctx, "750Q"); err != nil || job.State != StateInProgress {
		t.Errorf("job %+v, %v", job, err)
	}
	if job, err := c.WaitQueryJob(ctx, "750Q", Poll{Start: time.Millisecond}); err != nil || job.RecordsProcessed != 3 {
		t.Errorf("job %+v, %v", job, err)
	}
	if job, err := c.AbortQueryJob(ctx, "750Q"); err != nil || job.State != StateAborted {
		t.Errorf("job %+v, %v", job, err)
	}
	if err := c.DeleteQueryJob(ctx, "750Q"); err != nil {
		t.Error(err)
	}
}

func TestCompressRoundTrips(t *testing.T) {
	for _, text := range []string{"", "x", strings.Repeat("abc", 100_000)} {
		for _, zipped := range [][]byte{compress([]byte(text)), drain(t, text)} {
			z, err := newGunzip(bytes.NewReader(zipped))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(z)
			if err != nil || string(got) != text {
				t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
			}
			z.release()
		}
	}
}

func drain(t *testing.T, text string) []byte {
	u := newUpload(io.NopCloser(strings.NewReader(text)), func(int) {})
	b, err := io.ReadAll(u)
	if err != nil || !u.complete() || u.Close() != nil || u.Close() != nil {
		t.Fatalf("upload: %v", err)
	}
	return b
}
