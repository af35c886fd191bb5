package emulator

import (
	"bufio"
	"encoding/base64"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// queryJob is a Bulk API 2.0 query job (Bulk API 2.0 Developer Guide, "Bulk API
// 2.0 Query"). Its result is what the records were when it ran.
type queryJob struct {
	id, operation, text, delimName, lineEnd, version string
	number                                           float64
	delim                                            byte
	plan                                             *plan

	mu      sync.Mutex
	state   string
	message string
	created time.Time
	changed time.Time
	took    time.Duration
	lines   [][]byte // rendered rows
	header  []byte
}

func (j *queryJob) terminal() bool {
	return j.state == stateComplete || j.state == stateFailed || j.state == stateAborted
}

func (s *Server) bulkQuery(c *call, rest []string) {
	if len(rest) == 0 {
		switch c.r.Method {
		case http.MethodPost:
			s.createQueryJob(c)
		case http.MethodGet:
			s.listJobs(c, "/jobs/query")
		default:
			c.methodNotAllowed("GET,POST")
		}
		return
	}
	id, _ := canonicalID(rest[0])
	now := s.org.Clock()
	s.jobs.mu.Lock()
	j := s.jobs.queries[id]
	if j != nil && now.Sub(j.created) > doneLife {
		delete(s.jobs.queries, id)
		j = nil
	}
	s.jobs.mu.Unlock()
	if j == nil {
		c.notFound()
		return
	}
	switch {
	case len(rest) == 1 && c.r.Method == http.MethodGet:
		c.json(http.StatusOK, j.info(s))
	case len(rest) == 1 && c.r.Method == http.MethodPatch:
		s.patchQueryJob(c, j)
	case len(rest) == 1 && c.r.Method == http.MethodDelete:
		s.deleteQueryJob(c, j)
	case len(rest) == 2 && rest[1] == "results" && c.r.Method == http.MethodGet:
		s.queryResults(c, j)
	case len(rest) == 2 && rest[1] == "resultPages" && c.r.Method == http.MethodGet:
		s.resultPages(c, j)
	default:
		c.notFound()
	}
}

func (s *Server) createQueryJob(c *call) {
	doc, _, ok := c.document()
	if !ok {
		return
	}
	j := &queryJob{operation: doc.str("operation"), text: doc.str("query"), delimName: doc.str("columnDelimiter"), lineEnd: doc.str("lineEnding"), version: c.version, number: c.number, state: stateUploaded}
	if j.delimName == "" {
		j.delimName = "COMMA"
	}
	if j.lineEnd == "" {
		j.lineEnd = "LF"
	}
	j.delim, ok = delimiters[j.delimName]
	if !ok || j.lineEnd != "LF" && j.lineEnd != "CRLF" || j.operation != "query" && j.operation != "queryAll" {
		c.reject(bulkError("INVALIDJOB", "InvalidJob : unknown operation, columnDelimiter or lineEnding"))
		return
	}
	q, err := parseSOQL(j.text)
	if err == nil {
		s.org.mu.RLock()
		j.plan, err = s.org.plan(q, j.operation == "queryAll")
		s.org.mu.RUnlock()
	}
	if err == nil {
		err = unfitForBulk(q, j.plan)
	}
	if err != nil {
		c.fail(http.StatusBadRequest, err.code, err.render(j.text))
		return
	}
	j.created = s.org.Clock()
	j.changed = j.created
	s.jobs.mu.Lock()
	j.id = s.jobs.newID("750")
	s.jobs.queries[j.id] = j
	s.jobs.mu.Unlock()
	info := j.info(s)
	s.jobs.running.Go(func() { s.runQueryJob(j) })
	c.json(http.StatusOK, info)
}

// unfitForBulk finds what Bulk queries do not support.
func unfitForBulk(q *soqlQuery, p *plan) *soqlError {
	if p.grouped || p.counter || q.offset > 0 {
		return malformed(-1, "GROUP BY, aggregates and OFFSET are not supported in Bulk queries")
	}
	for _, it := range q.items {
		if it.sub != nil || it.fn != "" {
			return malformed(it.at, "subqueries and functions are not supported in Bulk queries")
		}
	}
	for _, ref := range p.columns {
		if ref.leaf.kind == kindCompound {
			return &soqlError{"FUNCTIONALITY_NOT_ENABLED", "Selecting compound data not supported in Bulk Query", -1}
		}
	}
	return nil
}

func (s *Server) runQueryJob(j *queryJob) {
	j.mu.Lock()
	if j.state == stateUploaded {
		j.state = stateRunning
	}
	j.mu.Unlock()
	s.jobs.gate(s.ctx)
	begin := time.Now()
	o := s.org
	end := "\n"
	if j.lineEnd == "CRLF" {
		end = "\r\n"
	}
	header := bulkHeader(j.plan, j.delim, end)
	var lines [][]byte
	o.mu.RLock()
	for _, r := range o.match(j.plan) {
		lines = append(lines, o.bulkLine(j.plan, r, j.delim, end))
	}
	o.mu.RUnlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.took, j.changed = time.Since(begin), s.org.Clock()
	if j.state == stateRunning {
		j.state, j.header, j.lines = stateComplete, header, lines
	}
}

// columnName is a selected field as a CSV header names it.
func columnName(ref *pathRef) string {
	name := ""
	for _, hop := range ref.hops {
		name += hop.relationship + "."
	}
	return name + ref.name
}

func bulkHeader(p *plan, delim byte, end string) []byte {
	var line []byte
	for i, ref := range p.columns {
		if i > 0 {
			line = append(line, delim)
		}
		line = appendCSV(line, columnName(ref))
	}
	return append(line, end...)
}

// bulkLine renders a record as a CSV line; callers hold Org.mu.
func (o *Org) bulkLine(p *plan, r *record, delim byte, end string) []byte {
	var line []byte
	for i, ref := range p.columns {
		if i > 0 {
			line = append(line, delim)
		}
		v, f, ok := o.follow(p.obj, r, ref)
		if ok {
			v = plainText(f, v)
		}
		line = appendCSV(line, v)
	}
	return append(line, end...)
}

// plainText renders a value for a CSV file.
func plainText(f *field, v string) string {
	switch f.kind {
	case kindDouble:
		return formatDouble(v)
	default:
		return v
	}
}

func (j *queryJob) info(s *Server) map[string]any {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := map[string]any{
		"id": j.id, "operation": j.operation, "object": j.plan.obj.name, "createdById": s.org.person(integrationUser), "createdDate": stamp(j.created),
		"systemModstamp": stamp(j.changed), "state": j.state, "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": j.number, "jobType": "V2Query",
		"lineEnding": j.lineEnd, "columnDelimiter": j.delimName, "retries": 0, "totalProcessingTime": j.took.Milliseconds(), "isPkChunkingSupported": len(j.plan.q.order) == 0 && j.plan.q.limit < 0,
	}
	if j.state != stateUploaded {
		m["numberRecordsProcessed"] = len(j.lines)
	}
	if j.message != "" {
		m["errorMessage"] = j.message
	}
	return m
}

func (s *Server) patchQueryJob(c *call, j *queryJob) {
	doc, _, ok := c.document()
	if !ok {
		return
	}
	j.mu.Lock()
	bad := j.terminal() || doc.str("state") != stateAborted
	if !bad {
		j.state = stateAborted
	}
	j.mu.Unlock()
	if bad {
		c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : only a running job can be aborted"))
		return
	}
	c.json(http.StatusOK, j.info(s))
}

func (s *Server) deleteQueryJob(c *call, j *queryJob) {
	j.mu.Lock()
	over := j.terminal()
	j.mu.Unlock()
	if !over {
		c.fail(http.StatusBadRequest, "API_ERROR", "Error encountered when deleting the job because the job is not terminated")
		return
	}
	s.jobs.mu.Lock()
	delete(s.jobs.queries, j.id)
	s.jobs.mu.Unlock()
	c.w.WriteHeader(http.StatusNoContent)
}

// maxResults is how many rows a page of results has when the client does not
// say.
const maxResults = 50_000

// locate reads a locator, which is opaque to clients; false when it is none.
func (j *queryJob) locate(locator string) (int, bool) {
	if locator == "" {
		return 0, true
	}
	text, err := base64.RawURLEncoding.DecodeString(locator)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(text))
	return n, err == nil && n >= 0 && n <= len(j.lines)
}

func locatorOf(n int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(n)))
}

// ready checks that a job's results can be had with this version; false when
// the answer is given.
func (s *Server) ready(c *call, j *queryJob) bool {
	j.mu.Lock()
	state := j.state
	j.mu.Unlock()
	if c.version != j.version {
		c.fail(http.StatusConflict, "INVALID_VERSION", "the job was created with API version "+j.version)
		return false
	}
	if state != stateComplete {
		c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : the job is "+state+", it has no results"))
		return false
	}
	return true
}

func (s *Server) queryResults(c *call, j *queryJob) {
	if !s.ready(c, j) {
		return
	}
	q := c.r.URL.Query()
	from, ok := j.locate(q.Get("locator"))
	limit := maxResults
	if text := q.Get("maxRecords"); text != "" {
		n, err := strconv.Atoi(text)
		ok = ok && err == nil && n > 0
		limit = n
	}
	if !ok {
		c.reject(bulkError("INVALIDREQUEST", "InvalidRequest : locator or maxRecords is not valid"))
		return
	}
	to := min(from+limit, len(j.lines))
	h := c.w.Header()
	h.Set("Content-Type", "text/csv; charset=UTF-8")
	h.Set("Sforce-NumberOfRecords", strconv.Itoa(to-from))
	h.Set("Sforce-Locator", "null")
	if to < len(j.lines) {
		h.Set("Sforce-Locator", locatorOf(to))
	}
	c.w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(c.w, 1<<16)
	_, _ = out.Write(j.header) // the writer keeps its error
	for _, line := range j.lines[from:to] {
		if _, err := out.Write(line); err != nil {
			return
		}
	}
	_ = out.Flush() // fails only when the client has gone
}

// pagesAtOnce is how many addresses /resultPages gives.
const pagesAtOnce = 5

func (s *Server) resultPages(c *call, j *queryJob) {
	if !s.ready(c, j) {
		return
	}
	from, ok := j.locate(c.r.URL.Query().Get("locator"))
	if !ok {
		c.reject(bulkError("INVALIDREQUEST", "InvalidRequest : locator is not valid"))
		return
	}
	base := "/services/data/v" + j.version + "/jobs/query/" + j.id
	pages := []map[string]string{}
	for len(pages) < pagesAtOnce && (from < len(j.lines) || len(pages) == 0) {
		pages = append(pages, map[string]string{"resultUrl": base + "/results?locator=" + locatorOf(from)})
		from = min(from+maxResults, len(j.lines))
	}
	out := map[string]any{"resultPages": pages, "done": from >= len(j.lines)}
	if from < len(j.lines) {
		out["nextRecordsUrl"] = base + "/resultPages?locator=" + locatorOf(from)
	}
	c.json(http.StatusOK, out)
}
