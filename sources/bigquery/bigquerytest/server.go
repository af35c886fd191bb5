package bigquerytest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
)

// Query is a query as a client sent it.
type Query struct {
	SQL            string
	Job            string // its id, as the client chose it
	DryRun         bool
	Project        string
	DefaultDataset string // project.dataset
	Location       string
	Labels         map[string]string
	MaxBytesBilled int64
	Timeout        time.Duration
}

// Failure is an error as BigQuery words it.
type Failure struct {
	Status  int // of HTTP; 0 for a job that begins and then fails
	Reason  string
	Message string
}

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// Options say how the server behaves.
type Options struct {
	// Answer says what a query gives. An error that is no *Failure is an
	// invalidQuery with status 400. A query that fails only when it runs has a
	// result besides its error, for the dry run.
	Answer func(q *Query) (*Result, error)

	// StorageDenied refuses the Storage Read API, as an account without
	// bigquery.readsessions.create is.
	StorageDenied bool

	// Unavailable is how many requests by REST, the first ones, are answered with
	// 503, or with 403 rateLimitExceeded where RateLimited says so.
	Unavailable int
	RateLimited bool
}

// Server is a BigQuery. Its counts may be read at any time.
type Server struct {
	URL     string // of the REST API
	Storage string // host:port of the Storage Read API

	options Options
	mu      sync.Mutex // guards what follows
	queries []Query
	jobs    map[string]*job
	cancels []string
	pages   int
	reads   []Read
	refused int           // requests, by Options.Unavailable
	running chan struct{} // closed when a query runs that will not end
	broken  map[string]bool

	stop func()
}

// Read is a call of ReadRows.
type Read struct {
	Stream string
	Offset int64
}

// job is a query that runs or has run.
type job struct {
	query    Query
	result   *Result
	failure  *Failure
	polls    int           // times it was asked for and had not ended
	canceled chan struct{} // closed by a cancel
}

// Start starts a server, which ends with the test.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := &Server{options: o, jobs: map[string]*job{}, running: make(chan struct{}), broken: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /projects/{project}/jobs", s.insert)
	mux.HandleFunc("GET /projects/{project}/jobs/{job}", s.get)
	mux.HandleFunc("POST /projects/{project}/jobs/{job}/cancel", s.cancel)
	mux.HandleFunc("GET /projects/{project}/queries/{job}", s.results)
	web := httptest.NewServer(s.available(mux))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	rpc := grpc.NewServer()
	storagepb.RegisterBigQueryReadServer(rpc, &reader{server: s})
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(listener) }()
	s.stop = sync.OnceFunc(func() {
		web.CloseClientConnections()
		rpc.Stop()
		web.Close()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(s.stop)
	s.URL, s.Storage = web.URL, listener.Addr().String()
	return s
}

// available refuses the first requests.
func (s *Server) available(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		refused := s.refused < s.options.Unavailable
		if refused {
			s.refused++
		}
		s.mu.Unlock()
		switch {
		case !refused:
			next.ServeHTTP(w, r)
		case s.options.RateLimited:
			refuse(w, http.StatusForbidden, "rateLimitExceeded", "Exceeded rate limits: too many api requests per user per method for this user_method")
		default:
			refuse(w, http.StatusServiceUnavailable, "backendError", "Error encountered during execution. Retrying may solve the problem.")
		}
	})
}

// Refused returns how many requests were answered so, by Options.Unavailable.
func (s *Server) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Queries returns what was asked, dry runs too, in order.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

// Canceled returns the ids of the jobs that were canceled.
func (s *Server) Canceled() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.cancels...)
}

// Pages returns how many pages of rows were had by REST.
func (s *Server) Pages() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages
}

// Reads returns the calls of ReadRows in order.
func (s *Server) Reads() []Read {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Read(nil), s.reads...)
}

// Running returns a channel that is closed once a query runs that will not end
// by itself. A server can run one of them.
func (s *Server) Running() <-chan struct{} { return s.running }

// Stop ends the server now, with whatever it is doing.
func (s *Server) Stop() { s.stop() }

// object is JSON.
type object map[string]any

func answer(w http.ResponseWriter, v object) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	// A client that has gone is no error.
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{"error": object{
		"code": status, "message": message, "errors": []object{{"message": message, "domain": "global", "reason": reason}},
	}})
}

// insert is jobs.insert.
func (s *Server) insert(w http.ResponseWriter, r *http.Request) {
	var sent struct {
		JobReference  struct{ JobID, Location string }
		Configuration struct {
			DryRun       bool
			JobTimeoutMs int64 `json:",string"`
			Labels       map[string]string
			Query        struct {
				Query              string
				UseLegacySQL       *bool
				MaximumBytesBilled int64 `json:",string"`
				DefaultDataset     struct{ ProjectID, DatasetID string }
			}
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
		refuse(w, http.StatusBadRequest, "parseError", err.Error())
		return
	}
	c := sent.Configuration
	if c.Query.UseLegacySQL == nil || *c.Query.UseLegacySQL {
		refuse(w, http.StatusBadRequest, "invalid", "legacy SQL")
		return
	}
	q := Query{
		SQL: c.Query.Query, Job: sent.JobReference.JobID, DryRun: c.DryRun, Project: r.PathValue("project"), Location: sent.JobReference.Location,
		Labels: c.Labels, MaxBytesBilled: c.Query.MaximumBytesBilled, Timeout: time.Duration(c.JobTimeoutMs) * time.Millisecond,
	}
	if d := c.Query.DefaultDataset; d.DatasetID != "" {
		q.DefaultDataset = d.ProjectID + "." + d.DatasetID
	}
	result, err := s.options.Answer(&q)
	var failure *Failure
	if err != nil {
		var ok bool
		if failure, ok = err.(*Failure); !ok {
			failure = &Failure{Status: http.StatusBadRequest, Reason: "invalidQuery", Message: err.Error()}
		}
	}
	s.mu.Lock()
	s.queries = append(s.queries, q)
	_, again := s.jobs[q.Job]
	if !q.DryRun && (failure == nil || failure.Status == 0) && !again {
		s.jobs[q.Job] = &job{query: q, result: result, failure: failure, canceled: make(chan struct{})}
	}
	s.mu.Unlock()
	switch {
	case again && !q.DryRun:
		refuse(w, http.StatusConflict, "duplicate", "Already Exists: Job "+q.Job)
		return
	case failure != nil && (failure.Status != 0 || q.DryRun):
		if failure.Status == 0 {
			s.answerDry(w, &q, result) // it fails only when it runs
			return
		}
		refuse(w, failure.Status, failure.Reason, failure.Message)
		return
	case q.DryRun:
		s.answerDry(w, &q, result)
		return
	case result != nil && result.HoldInsert:
		close(s.running)
		<-r.Context().Done() // the client has gone, without an answer
		return
	}
	s.mu.Lock()
	j := s.jobs[q.Job]
	s.mu.Unlock()
	answer(w, s.describe(j, false))
}

func (s *Server) answerDry(w http.ResponseWriter, q *Query, r *Result) {
	kind := r.Statement
	if kind == "" {
		kind = "SELECT"
	}
	bytes := strconv.FormatInt(r.Bytes, 10)
	answer(w, object{
		"jobReference":  object{"projectId": q.Project, "location": "EU"},
		"configuration": object{"dryRun": true, "jobType": "QUERY", "query": object{"query": q.SQL}},
		"status":        object{"state": "DONE"},
		"statistics": object{"totalBytesProcessed": bytes, "query": object{
			"statementType": kind, "totalBytesProcessed": bytes, "schema": object{"fields": r.schema()},
		}},
	})
}

// describe is a job as jobs.get shows it.
func (s *Server) describe(j *job, done bool) object {
	status := object{"state": "RUNNING"}
	if done {
		status["state"] = "DONE"
		select {
		case <-j.canceled:
			status["errorResult"] = object{"reason": "stopped", "message": "Job execution was cancelled: User requested cancellation"}
		default:
			if f := j.failure; f != nil {
				status["errorResult"] = object{"reason": f.Reason, "message": f.Message}
			}
		}
	}
	query := object{"query": j.query.SQL, "useLegacySql": false}
	if done {
		query["destinationTable"] = object{"projectId": j.query.Project, "datasetId": "_anonymous", "tableId": j.query.Job}
	}
	return object{
		"id":            j.query.Project + ":EU." + j.query.Job,
		"jobReference":  object{"projectId": j.query.Project, "jobId": j.query.Job, "location": "EU"},
		"configuration": object{"jobType": "QUERY", "query": query},
		"status":        status,
		"statistics":    object{"query": object{"statementType": "SELECT"}},
	}
}

// find returns the job that a request names. Jobs are where they ran: a request
// that names another location finds nothing.
func (s *Server) find(w http.ResponseWriter, r *http.Request) *job {
	s.mu.Lock()
	j := s.jobs[r.PathValue("job")]
	s.mu.Unlock()
	if location := r.URL.Query().Get("location"); j == nil || location != "" && location != "EU" {
		refuse(w, http.StatusNotFound, "notFound", "Not found: Job "+r.PathValue("job"))
		return nil
	}
	return j
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	if j := s.find(w, r); j != nil {
		answer(w, s.describe(j, true))
	}
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	j := s.find(w, r)
	if j == nil {
		return
	}
	s.mu.Lock()
	select {
	case <-j.canceled:
	default:
		close(j.canceled)
	}
	s.cancels = append(s.cancels, j.query.Job)
	s.mu.Unlock()
	answer(w, object{"kind": "bigquery#jobCancelResponse", "job": s.describe(j, true)})
}

// pollPatience is how long a request waits for a job's end at most
// ("jobs.getQueryResults", timeoutMs).
const pollPatience = 10 * time.Second

// results is jobs.getQueryResults.
func (s *Server) results(w http.ResponseWriter, r *http.Request) {
	j := s.find(w, r)
	if j == nil {
		return
	}
	if j.failure != nil {
		refuse(w, http.StatusBadRequest, j.failure.Reason, j.failure.Message)
		return
	}
	s.mu.Lock()
	j.polls++
	running := j.polls <= j.result.Polls
	first := j.polls == 1
	s.mu.Unlock()
	if j.result.Hang {
		running = true
		if first {
			close(s.running)
		}
		ctx, cancel := context.WithTimeout(r.Context(), pollPatience)
		defer cancel()
		select {
		case <-j.canceled:
			refuse(w, http.StatusBadRequest, "stopped", "Job execution was cancelled: User requested cancellation")
			return
		case <-ctx.Done():
		}
	}
	if running {
		answer(w, object{"jobComplete": false, "jobReference": object{"jobId": j.query.Job, "location": "EU"}})
		return
	}
	s.page(w, r, j)
}

// page answers with rows, as many as asked for and at most maxPage.
func (s *Server) page(w http.ResponseWriter, r *http.Request, j *job) {
	values := r.URL.Query()
	number := func(name string, fallback int64) int64 {
		n, err := strconv.ParseInt(values.Get(name), 10, 64)
		if err != nil {
			return fallback
		}
		return n
	}
	from := number("startIndex", 0)
	if token := values.Get("pageToken"); token != "" {
		n, err := strconv.ParseInt(strings.TrimPrefix(token, "row "), 10, 64)
		if err != nil {
			refuse(w, http.StatusBadRequest, "invalid", fmt.Sprintf("page token %q", token))
			return
		}
		from = n
	}
	res := j.result
	if s.stopAt(res, from) {
		refuse(w, res.PageFailure.Status, res.PageFailure.Reason, res.PageFailure.Message)
		return
	}
	to := min(from+min(number("maxResults", maxPage), maxPage), res.Rows-res.Lost)
	body := object{
		"jobComplete": true, "totalRows": strconv.FormatInt(res.Rows, 10), "schema": object{"fields": res.schema()},
		"jobReference": object{"jobId": j.query.Job, "location": "EU"},
	}
	if to > from {
		s.mu.Lock()
		s.pages++
		s.mu.Unlock()
		body["rows"] = res.cells(from, to)
	}
	if to < res.Rows-res.Lost && number("maxResults", 1) > 0 {
		body["pageToken"] = fmt.Sprint("row ", to)
	}
	answer(w, body)
}

// maxPage is how many rows a page has at most.
const maxPage = 10_000

func (s *Server) stopAt(r *Result, from int64) bool { return r.PageFailure != nil && from > 0 }
