package snowflaketest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Options say how a server behaves.
type Options struct {
	// Answer returns what a statement gives. An error that is no *Failure is
	// a syntax error.
	Answer func(sql string) (*Result, error)

	// Users are who may sign in. None: everybody may.
	Users []User

	// JSON answers all statements in JSON.
	JSON bool

	// Gzip compresses the files.
	Gzip bool

	// Keep makes one file for each number of rows that a file has, and sends it
	// in place of all others of as many: for benchmarks, of which making files
	// is no part. The results of all queries have the same columns.
	Keep bool
}

// Server is a running server.
type Server struct {
	URL string

	http *httptest.Server
	o    Options
	tb   testing.TB

	mu       sync.Mutex // guards what follows
	sessions map[string]*session
	masters  map[string]*session
	queries  map[string]*query
	requests map[string]*query // by the request that began them
	expired  bool              // answers with 390112 until the token is renewed
	links    int               // the generation of links that works
	cut      int               // files that are cut off in the middle
	fetched  int
	again    int // times a result was asked for by its query's id
	renewals int
	aborts   []string // statements that were aborted
	seen     []Statement
	logins   []Login
	next     int
	kept     map[int][]byte // files by their number of rows
}

// Statement is one that was run.
type Statement struct {
	SQL          string
	DescribeOnly bool
	Tag          string
}

// Login is a sign-in that succeeded.
type Login struct {
	User, Authenticator, Account      string
	Role, Warehouse, Database, Schema string
	Parameters                        map[string]any
}

type session struct {
	token, master string
}

type query struct {
	id, sql string
	result  *Result
	json    bool
	polls   int
	aborted chan struct{}
	once    sync.Once
}

// Start starts a server, which ends with the test.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := &Server{o: o, tb: tb, sessions: map[string]*session{}, masters: map[string]*session{}, queries: map[string]*query{}, requests: map[string]*query{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /session/v1/login-request", s.login)
	mux.HandleFunc("POST /session/token-request", s.renew)
	mux.HandleFunc("POST /session/heartbeat", s.signedIn(func(w http.ResponseWriter, _ *http.Request) { s.succeed(w, nil) }))
	mux.HandleFunc("POST /session", s.logout)
	mux.HandleFunc("POST /queries/v1/query-request", s.signedIn(s.run))
	mux.HandleFunc("POST /queries/v1/abort-request", s.signedIn(s.abort))
	mux.HandleFunc("GET /queries/{id}/result", s.signedIn(s.result))
	mux.HandleFunc("GET /monitoring/queries/{id}", s.signedIn(s.monitor))
	mux.HandleFunc("GET /files/{id}/{n}", s.file)
	s.http = httptest.NewServer(mux)
	s.URL = s.http.URL
	tb.Cleanup(s.Stop)
	return s
}

// Stop ends the server, and every connection to it, at once.
func (s *Server) Stop() {
	s.mu.Lock()
	for _, q := range s.queries {
		q.abort()
	}
	s.mu.Unlock()
	s.http.CloseClientConnections()
	s.http.Close()
}

// Sessions returns how many sessions are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// ExpireSession makes every token need a renewal.
func (s *Server) ExpireSession() { s.change(func() { s.expired = true }) }

// ExpireLinks makes every link that was given so far useless.
func (s *Server) ExpireLinks() { s.change(func() { s.links++ }) }

// CutFiles lets the connection go in the middle of the next n files.
func (s *Server) CutFiles(n int) { s.change(func() { s.cut = n }) }

func (s *Server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Counts are what a server has done.
type Counts struct {
	Fetched  int // files
	Again    int // results asked for by their query's id
	Renewals int // of tokens
}

// Counts returns them.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counts{Fetched: s.fetched, Again: s.again, Renewals: s.renewals}
}

// Aborted returns the statements that were aborted.
func (s *Server) Aborted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.aborts...)
}

// Statements returns what was run.
func (s *Server) Statements() []Statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Statement(nil), s.seen...)
}

// Logins returns the sign-ins that succeeded.
func (s *Server) Logins() []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Login(nil), s.logins...)
}

// id returns one that was not given before.
func (s *Server) id() string {
	s.next++
	return fmt.Sprintf("01b00000-0000-0000-0000-%012d", s.next)
}

func (q *query) abort() { q.once.Do(func() { close(q.aborted) }) }

func (s *Server) reply(w http.ResponseWriter, code string, success bool, message string, data any) {
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]any{"success": success, "message": message, "data": data}
	if code != "" {
		answer["code"] = code
	}
	_ = json.NewEncoder(w).Encode(answer) // a client that has gone reads nothing
}

func (s *Server) succeed(w http.ResponseWriter, data any) { s.reply(w, "", true, "", data) }

func (s *Server) fail(w http.ResponseWriter, err error, id string) {
	var f *Failure
	if !errors.As(err, &f) {
		f = &Failure{Code: "001003", SQLState: "42000", Message: "SQL compilation error:\n" + err.Error()}
	}
	s.reply(w, f.Code, false, f.Message, map[string]any{"sqlState": f.SQLState, "queryId": id})
}

// token takes the token out of a request's header.
func token(r *http.Request) string {
	t := strings.TrimPrefix(r.Header.Get("Authorization"), `Snowflake Token="`)
	return strings.TrimSuffix(t, `"`)
}

// signedIn lets requests with a session's token through.
func (s *Server) signedIn(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		known, expired := s.sessions[token(r)] != nil, s.expired
		s.mu.Unlock()
		switch {
		case !known:
			s.reply(w, "390104", false, "Session no longer exists. New login required to access the service.", nil)
		case expired:
			s.reply(w, "390112", false, "Session token has expired. The session must be renewed.", nil)
		default:
			next(w, r)
		}
	}
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.masters[token(r)]
	if old == nil {
		s.reply(w, "390114", false, "Authentication token has expired. The user must authenticate again.", nil)
		return
	}
	delete(s.sessions, old.token)
	s.expired = false
	s.renewals++
	old.token = "session-" + s.id()
	s.sessions[old.token] = old
	s.succeed(w, map[string]any{"sessionToken": old.token, "masterToken": old.master, "sessionId": s.next, "validityInSecondsST": 3600, "validityInSecondsMT": 14400})
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gone := s.sessions[token(r)]; gone != nil {
		delete(s.sessions, gone.token)
		delete(s.masters, gone.master)
	}
	s.succeed(w, nil)
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	var body struct {
		SQL        string         `json:"sqlText"`
		Describe   bool           `json:"describeOnly"`
		Parameters map[string]any `json:"parameters"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tag, _ := body.Parameters["QUERY_TAG"].(string)
	q := &query{sql: body.SQL, aborted: make(chan struct{})}
	s.mu.Lock()
	q.id = s.id()
	s.seen = append(s.seen, Statement{SQL: body.SQL, DescribeOnly: body.Describe, Tag: tag})
	s.queries[q.id], s.requests[r.URL.Query().Get("requestId")] = q, q
	s.mu.Unlock()
	var err error
	if body.SQL == "SELECT 1" {
		q.result = &Result{Columns: []Column{{Name: "1", Type: "fixed", Precision: 1, Int: func(int) int64 { return 1 }}}, Rows: 1}
	} else if q.result, err = s.o.Answer(body.SQL); err != nil {
		s.fail(w, err, q.id)
		return
	}
	if body.Describe {
		described := *q.result
		described.Rows, described.Slow, described.Polls, described.FileRows = 0, false, 0, 0
		q.result = &described
	}
	q.polls, q.json = q.result.Polls, s.o.JSON || q.result.JSON
	s.answer(w, r, q)
}

// answer gives a result, or says that it is not there yet.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, q *query) {
	if q.result.Slow {
		select {
		case <-q.aborted:
			s.fail(w, &Failure{Code: "000604", SQLState: "57014", Message: "SQL execution canceled"}, q.id)
		case <-r.Context().Done(): // nobody is told
		}
		return
	}
	s.mu.Lock()
	wait := q.polls > 0
	if wait {
		q.polls--
	}
	s.mu.Unlock()
	if wait {
		s.reply(w, "333333", true, "Query execution in progress.", map[string]any{"queryId": q.id, "getResultUrl": "/queries/" + q.id + "/result"})
		return
	}
	data, err := s.describe(q)
	if err != nil {
		s.fail(w, err, q.id)
		return
	}
	s.succeed(w, data)
}

// describe returns a result as the protocol has it.
func (s *Server) describe(q *query) (map[string]any, error) {
	types := make([]map[string]any, len(q.result.Columns))
	for i, c := range q.result.Columns {
		types[i] = map[string]any{"name": c.Name, "type": c.Type, "precision": c.Precision, "scale": c.Scale, "nullable": true}
	}
	files := q.result.files()
	data := map[string]any{
		"rowtype": types, "queryId": q.id, "total": q.result.Rows, "returned": q.result.Rows, "statementTypeId": 4096,
		"parameters": []any{}, "queryResultFormat": "arrow",
	}
	if q.json {
		data["queryResultFormat"] = "json"
		rows, err := q.result.rows(files[0][0], files[0][1])
		if err != nil {
			return nil, err
		}
		data["rowset"] = rows
	} else {
		var b bytes.Buffer
		if files[0][1] > 0 || len(files) == 1 {
			if err := q.result.writeArrow(&b, files[0][0], files[0][1]); err != nil {
				return nil, err
			}
		}
		data["rowsetBase64"] = base64.StdEncoding.EncodeToString(b.Bytes())
	}
	s.mu.Lock()
	links := s.links
	s.mu.Unlock()
	var chunks []map[string]any
	for i, f := range files[1:] {
		chunks = append(chunks, map[string]any{
			"url": fmt.Sprintf("%s/files/%s/%d?X-Amz-Signature=signature-%d", s.URL, q.id, i+1, links), "rowCount": f[1] - f[0],
		})
	}
	if chunks != nil {
		data["chunks"] = chunks
		data["chunkHeaders"] = map[string]string{"x-amz-server-side-encryption-customer-key": "key-of-" + q.id}
	}
	return data, nil
}

func (r *Result) rows(from, to int) ([][]*string, error) {
	rows := make([][]*string, 0, to-from)
	for row := from; row < to; row++ {
		cells := make([]*string, len(r.Columns))
		for i := range r.Columns {
			var err error
			if cells[i], err = r.Columns[i].json(row); err != nil {
				return nil, err
			}
		}
		rows = append(rows, cells)
	}
	return rows, nil
}

func (s *Server) result(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	q := s.queries[r.PathValue("id")]
	if q != nil && q.polls == 0 && q.result.Polls == 0 {
		s.again++
	}
	s.mu.Unlock()
	if q == nil {
		s.fail(w, &Failure{Code: "000709", SQLState: "02000", Message: "Statement not found"}, "")
		return
	}
	s.answer(w, r, q)
}

func (s *Server) monitor(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	q := s.queries[r.PathValue("id")]
	s.mu.Unlock()
	if q == nil {
		s.succeed(w, map[string]any{"queries": []any{}})
		return
	}
	s.succeed(w, map[string]any{"queries": []any{map[string]any{"status": "SUCCESS", "sqlText": q.sql}}})
}

func (s *Server) abort(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Request string `json:"requestId"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	q := s.requests[body.Request]
	if q != nil {
		s.aborts = append(s.aborts, q.sql)
	}
	s.mu.Unlock()
	if q == nil {
		s.fail(w, &Failure{Code: "000605", SQLState: "02000", Message: "Identified SQL statement is not currently executing."}, "")
		return
	}
	q.abort()
	s.succeed(w, nil)
}

// file serves a file of a result.
func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	s.mu.Lock()
	q := s.queries[r.PathValue("id")]
	good := r.URL.Query().Get("X-Amz-Signature") == fmt.Sprintf("signature-%d", s.links)
	cut := s.cut > 0
	if good {
		s.fetched++
		if cut {
			s.cut--
		}
	}
	s.mu.Unlock()
	switch {
	case !good || q == nil || r.Header.Get("x-amz-server-side-encryption-customer-key") != "key-of-"+q.id:
		http.Error(w, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", http.StatusForbidden)
		return
	case err != nil || n < 1 || n >= len(q.result.files()):
		http.NotFound(w, r)
		return
	}
	if err := s.writeFile(w, q, n, cut); err != nil {
		var gone *net.OpError
		if !errors.As(err, &gone) && !errors.Is(err, errCut) {
			s.tb.Errorf("write file %d of %.100q: %v", n, q.sql, err)
		}
		panic(http.ErrAbortHandler) // ends the connection, so that the client sees no whole file
	}
}

var errCut = errors.New("cut off")

// cutter writes so many bytes and then fails.
type cutter struct {
	w    http.ResponseWriter
	left int
}

// Write implements io.Writer.
func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		n, _ := c.w.Write(p[:c.left])
		_ = http.NewResponseController(c.w).Flush() // the client has begun to read when the connection goes
		c.left = 0
		return n, errCut
	}
	c.left -= len(p)
	return c.w.Write(p)
}

func (s *Server) writeFile(w http.ResponseWriter, q *query, n int, cut bool) error {
	rows := q.result.files()[n]
	if s.o.Keep {
		b, err := s.keep(q, rows)
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	}
	var out io.Writer = w
	if cut {
		out = &cutter{w: w, left: 1000}
	}
	var zip *gzip.Writer
	if s.o.Gzip {
		zip, _ = gzip.NewWriterLevel(out, gzip.BestSpeed) // the level is a known one
		out = zip
	}
	if q.json {
		if err := q.result.writeJSON(out, rows[0], rows[1]); err != nil {
			return err
		}
	} else if err := q.result.writeArrow(out, rows[0], rows[1]); err != nil {
		return err
	}
	if zip != nil {
		return zip.Close()
	}
	return nil
}

// keep returns a file in Arrow, made once.
func (s *Server) keep(q *query, rows [2]int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := rows[1] - rows[0]
	if s.kept[n] != nil {
		return s.kept[n], nil
	}
	var b bytes.Buffer
	var out io.Writer = &b
	var zip *gzip.Writer
	if s.o.Gzip {
		zip = gzip.NewWriter(&b)
		out = zip
	}
	err := q.result.writeArrow(out, rows[0], rows[1])
	if zip != nil {
		err = errors.Join(err, zip.Close())
	}
	if err != nil {
		return nil, err
	}
	if s.kept == nil {
		s.kept = map[int][]byte{}
	}
	s.kept[n] = b.Bytes()
	return s.kept[n], nil
}

// writeJSON writes rows as a file has them: a list without its brackets.
func (r *Result) writeJSON(w io.Writer, from, to int) error {
	rows, err := r.rows(from, to)
	if err != nil {
		return err
	}
	b, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = w.Write(b[1 : len(b)-1])
	return err
}
