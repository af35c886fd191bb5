package emulator

import (
	"bufio"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
)

// maxUpload is 150 MB of base64, which is what an org stores a job's data as.
const maxUpload = 150_000_000 / 4 * 3

// maxMultipart is the longest data in a job's creation, in characters.
const maxMultipart = 100_000

// bulk serves /jobs/ingest and /jobs/query.
func (s *Server) bulk(c *call, rest []string) {
	if len(rest) > 0 && rest[len(rest)-1] == "" {
		rest = rest[:len(rest)-1]
	}
	switch {
	case len(rest) == 0:
		c.notFound()
	case rest[0] == "query":
		s.bulkQuery(c, rest[1:])
	case rest[0] != "ingest":
		c.notFound()
	case len(rest) == 1 && c.r.Method == http.MethodPost:
		s.createIngest(c)
	case len(rest) == 1 && c.r.Method == http.MethodGet:
		s.listJobs(c, "/jobs/ingest")
	case len(rest) == 1:
		c.methodNotAllowed("GET,POST")
	default:
		s.ingestJob(c, rest[1:])
	}
}

func (s *Server) ingestJob(c *call, rest []string) {
	id, _ := canonicalID(rest[0])
	j := s.jobs.findIngest(id)
	if j == nil {
		c.notFound()
		return
	}
	switch {
	case len(rest) == 1 && c.r.Method == http.MethodGet:
		j.mu.Lock()
		info := j.info(s, true)
		j.mu.Unlock()
		c.json(http.StatusOK, info)
	case len(rest) == 1 && c.r.Method == http.MethodPatch:
		s.patchIngest(c, j)
	case len(rest) == 1 && c.r.Method == http.MethodDelete:
		s.deleteIngest(c, j)
	case len(rest) == 2 && rest[1] == "batches" && c.r.Method == http.MethodPut:
		s.upload(c, j)
	case len(rest) == 2 && c.r.Method == http.MethodGet && (rest[1] == "successfulResults" || rest[1] == "failedResults" || rest[1] == "unprocessedrecords"):
		s.ingestResults(c, j, rest[1])
	case len(rest) == 1 || len(rest) == 2 && rest[1] == "batches":
		c.methodNotAllowed("GET,PATCH,PUT,DELETE")
	default:
		c.notFound()
	}
}

// findIngest returns a job that has not expired.
func (js *jobs) findIngest(id string) *ingestJob {
	now := js.s.org.Clock()
	js.mu.Lock()
	defer js.mu.Unlock()
	j := js.ingest[id]
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state == stateOpen && now.Sub(j.created) > openLife || j.terminal() && now.Sub(j.changed) > doneLife {
		delete(js.ingest, id)
		js.s.dropJob(id)
		return nil
	}
	return j
}

var ingestOperations = map[string]operation{"insert": opInsert, "update": opUpdate, "upsert": opUpsert, "delete": opDelete, "hardDelete": opHardDelete}

func (s *Server) createIngest(c *call) {
	media, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err == nil && media == "multipart/form-data" {
		s.createMultipart(c, params["boundary"])
		return
	}
	doc, _, ok := c.document()
	if !ok {
		return
	}
	j, e := s.newIngest(c, doc)
	if e != nil {
		c.reject(e)
		return
	}
	if !s.jobKept(c, j, false) {
		return
	}
	s.jobs.mu.Lock()
	s.jobs.ingest[j.id] = j
	s.jobs.mu.Unlock()
	c.json(http.StatusOK, j.info(s, false))
}

// createMultipart makes a job with its data, which is then closed already.
func (s *Server) createMultipart(c *call, boundary string) {
	r := multipart.NewReader(c.r.Body, boundary)
	var job *node
	content, found := "", false
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			c.fail(http.StatusBadRequest, "INVALID_MULTIPART_REQUEST", "malformed multipart body")
			return
		}
		text, err := io.ReadAll(io.LimitReader(p, maxMultipart+1))
		if err != nil || len(text) > maxMultipart {
			c.fail(http.StatusBadRequest, "EXCEEDED_MAX_SIZE_REQUEST", "The content of a multipart request is limited to 100000 characters")
			return
		}
		switch p.FormName() {
		case "job":
			if job, err = parseJSON(string(text)); err != nil {
				c.fail(http.StatusBadRequest, "JSON_PARSER_ERROR", err.Error())
				return
			}
		case "content":
			content, found = string(text), true
		}
	}
	if job == nil || !found {
		c.fail(http.StatusBadRequest, "INVALID_MULTIPART_REQUEST", "the parts job and content are needed")
		return
	}
	j, e := s.newIngest(c, job)
	if e != nil {
		c.reject(e)
		return
	}
	j.load.text, j.uploaded, j.state = content, true, stateUploaded
	if !s.jobKept(c, j, true) {
		return
	}
	info := j.info(s, false)
	s.jobs.mu.Lock()
	s.jobs.ingest[j.id] = j
	s.jobs.mu.Unlock()
	s.jobs.start(j)
	c.json(http.StatusOK, info)
}

func bulkError(code, message string) *apiError {
	return &apiError{http.StatusBadRequest, code, message, nil}
}

func (s *Server) newIngest(c *call, doc *node) (*ingestJob, *apiError) {
	if doc.kind != jsonObject {
		return nil, bulkError("INVALIDJOB", "InvalidJob : a job is an object")
	}
	for i, k := range doc.keys {
		switch k {
		case "object", "operation", "externalIdFieldName", "contentType", "lineEnding", "columnDelimiter", "assignmentRuleId":
			if v := &doc.items[i]; v.kind != jsonString && v.kind != jsonNull {
				return nil, bulkError("JSON_PARSER_ERROR", "Cannot deserialize instance of "+k+" from "+v.valueKind())
			}
		default:
			return nil, bulkError("JSON_PARSER_ERROR", "Unrecognized field \""+k+"\"")
		}
	}
	j := &ingestJob{
		objectName: doc.str("object"), operationName: doc.str("operation"), keyName: doc.str("externalIdFieldName"), delimName: doc.str("columnDelimiter"),
		lineEnd: doc.str("lineEnding"), rule: doc.str("assignmentRuleId"), version: c.version, number: c.number, state: stateOpen,
	}
	if j.delimName == "" {
		j.delimName = "COMMA"
	}
	if j.lineEnd == "" {
		j.lineEnd = "LF"
	}
	if t := doc.str("contentType"); t != "" && t != "CSV" {
		return nil, bulkError("UNSUPPORTEDCONTENTTYPE", "UnsupportedContentType : "+t+" is not a valid Content-Type")
	}
	var ok bool
	if j.load.delim, ok = delimiters[j.delimName]; !ok {
		return nil, bulkError("INVALIDJOB", "InvalidJob : unknown columnDelimiter "+j.delimName)
	}
	if j.lineEnd != "LF" && j.lineEnd != "CRLF" {
		return nil, bulkError("INVALIDJOB", "InvalidJob : unknown lineEnding "+j.lineEnd)
	}
	var e *apiError
	if j.obj, j.op, j.key, e = s.jobTarget(j.objectName, j.operationName, j.keyName); e != nil {
		return nil, e
	}
	j.objectName = j.obj.name
	if s.jobs.batchesUsed() >= s.file.Limits.DailyBulkBatches {
		return nil, bulkError("EXCEEDEDQUOTA", "ExceededQuota : ApiBatchItems Limit exceeded.")
	}
	j.created = s.org.Clock()
	j.changed = j.created
	s.jobs.mu.Lock()
	j.id = s.jobs.newID("750")
	s.jobs.mu.Unlock()
	return j, nil
}

// jobTarget checks what a job of either Bulk API is about.
func (s *Server) jobTarget(objectName, operationName, keyName string) (*object, operation, *field, *apiError) {
	if objectName == "" || operationName == "" {
		return nil, 0, nil, bulkError("INVALIDJOB", "InvalidJob : object and operation are required")
	}
	op, ok := ingestOperations[operationName]
	if !ok {
		return nil, 0, nil, bulkError("INVALIDJOB", "InvalidJob : Unknown operation "+operationName)
	}
	obj := s.org.object(objectName)
	if obj == nil {
		return nil, 0, nil, bulkError("INVALIDENTITY", "InvalidEntity : Unable to find object: "+objectName)
	}
	if !obj.bulk || !obj.createable {
		return nil, 0, nil, bulkError("INVALIDENTITY", "InvalidEntity : Entity '"+obj.name+"' is not supported by the Bulk API.")
	}
	if op != opUpsert {
		if keyName != "" {
			return nil, 0, nil, bulkError("INVALIDJOB", "InvalidJob : External ID was specified for "+obj.name+". An External ID can only be specified for upsert.")
		}
		return obj, op, nil, nil
	}
	if keyName == "" {
		return nil, 0, nil, bulkError("INVALIDJOB", "InvalidJob : External ID was blank for "+obj.name+". An External ID must be specified for upsert.")
	}
	key := obj.visible(keyName)
	if key == nil || !key.idLookup {
		return nil, 0, nil, bulkError("INVALIDJOB", "InvalidJob : Field name provided, "+keyName+" does not match an External ID, Salesforce Id, or indexed field for "+obj.name)
	}
	return obj, op, key, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000+0000") }

// info renders a job; full adds what only a GET shows. Callers hold j.mu, but
// for a job that nobody else knows yet.
func (j *ingestJob) info(s *Server, full bool) map[string]any {
	m := map[string]any{
		"id": j.id, "operation": j.operationName, "object": j.objectName, "createdById": s.org.person(integrationUser), "createdDate": stamp(j.created),
		"systemModstamp": stamp(j.changed), "state": j.state, "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": j.number,
	}
	if j.keyName != "" {
		m["externalIdFieldName"] = j.key.name
	}
	if j.rule != "" {
		m["assignmentRuleId"] = j.rule
	}
	m["lineEnding"], m["columnDelimiter"] = j.lineEnd, j.delimName
	if j.state == stateOpen {
		m["contentUrl"] = "services/data/v" + j.version + "/jobs/ingest/" + j.id + "/batches"
	}
	if !full {
		return m
	}
	m["jobType"] = "V2Ingest"
	took := j.took.Milliseconds()
	m["retries"], m["totalProcessingTime"], m["apiActiveProcessingTime"], m["apexProcessingTime"] = j.retries, took, took, 0
	if j.state != stateOpen {
		j.load.mu.Lock()
		m["numberRecordsProcessed"], m["numberRecordsFailed"] = j.load.done, j.load.failed
		j.load.mu.Unlock()
	}
	if j.message != "" {
		m["errorMessage"] = j.message
	}
	return m
}

func (s *Server) patchIngest(c *call, j *ingestJob) {
	doc, _, ok := c.document()
	if !ok {
		return
	}
	want := doc.str("state")
	j.mu.Lock()
	defer j.mu.Unlock()
	switch want {
	case stateUploaded:
		if j.state != stateOpen {
			c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : Closing already "+j.state+" Job not allowed"))
			return
		}
		j.state = stateUploaded
	case stateAborted:
		if j.terminal() {
			c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : Aborting already "+j.state+" Job not allowed"))
			return
		}
		j.state = stateAborted
		if j.order == nil {
			j.load.mu.Lock()
			if header, starts, err := scan(j.load.text, j.load.delim); err == nil && j.load.starts == nil {
				j.load.header, j.load.starts = header, starts
				j.load.state, j.load.ids = make([]uint8, len(starts)), make([]uint64, len(starts))
			}
			j.order = shuffled(len(j.load.starts), s.opts.Seed)
			j.load.mu.Unlock()
		}
	default:
		c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : a job cannot be set to "+want))
		return
	}
	j.changed = s.org.Clock()
	if !s.jobKept(c, j, false) {
		return
	}
	if want == stateUploaded {
		s.jobs.start(j)
	}
	m := j.info(s, false)
	delete(m, "lineEnding")
	delete(m, "columnDelimiter")
	c.json(http.StatusOK, m)
}

func (s *Server) deleteIngest(c *call, j *ingestJob) {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.terminal() && j.state != stateUploaded {
		c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : a job in state "+j.state+" cannot be deleted"))
		return
	}
	delete(s.jobs.ingest, j.id)
	s.dropJob(j.id)
	c.w.WriteHeader(http.StatusNoContent)
}

// upload takes a job's data, which nobody looks at before the job is closed.
func (s *Server) upload(c *call, j *ingestJob) {
	if media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || media != "text/csv" {
		c.fail(http.StatusUnsupportedMediaType, "UNSUPPORTEDCONTENTTYPE", "UnsupportedContentType : text/csv is expected")
		return
	}
	text, ok := c.body(maxUpload)
	if !ok {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state != stateOpen {
		c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : the job is "+j.state+", it takes no data"))
		return
	}
	if j.uploaded {
		c.reject(bulkError("INVALIDBATCH", "Found multiple contents for job: <"+j.id+">, please 'Close' / 'Abort' / 'Delete' the current Job then create a new Job and make sure you only do 'PUT' once on a given Job."))
		return
	}
	j.load.text, j.uploaded = text, true
	if s.jobKept(c, j, true) {
		c.w.WriteHeader(http.StatusCreated)
	}
}

// jobKept keeps a job as it is now; false when that fails and the answer is
// given.
func (s *Server) jobKept(c *call, j *ingestJob, withData bool) bool {
	err := s.keepJob(j, withData)
	if err != nil {
		s.log.ErrorContext(c.r.Context(), "a Bulk job could not be kept", "error", err)
		c.fail(http.StatusInternalServerError, "UNKNOWN_EXCEPTION", "An unexpected error occurred")
	}
	return err == nil
}

// ingestResults streams one of a job's three result files.
func (s *Server) ingestResults(c *call, j *ingestJob, which string) {
	j.mu.Lock()
	if !j.terminal() {
		state := j.state
		j.mu.Unlock()
		c.reject(bulkError("INVALIDJOBSTATE", "InvalidJobState : the results of a job in state "+state+" are not ready"))
		return
	}
	switch which {
	case "failedResults":
		j.readFailed = true
	case "unprocessedrecords":
		j.readUnproc = true
	}
	order := j.order
	j.mu.Unlock()
	c.w.Header().Set("Content-Type", "text/csv; charset=UTF-8")
	c.w.Header().Set("Sforce-Locator", "null")
	c.w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(c.w, 1<<16)
	j.load.writeResults(out, order, j.obj, which)
	_ = out.Flush() // fails only when the client has gone
}

// writeResults renders a result file: the sf__ headers quoted, the job's own
// columns as uploaded (where their case is the field's own), every cell quoted
// and re-rendered by its type.
func (l *load) writeResults(out *bufio.Writer, order []uint32, obj *object, which string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.header == nil {
		return // the file could not be read: its rows are not known
	}
	delim := l.delim
	cols := make([]*column, len(l.header))
	for i := range l.cols {
		cols[l.cols[i].at] = &l.cols[i]
	}
	var line []byte
	switch which {
	case "successfulResults":
		line = append(append(append(line, `"sf__Id"`...), delim), `"sf__Created"`...)
	case "failedResults":
		line = append(append(append(line, `"sf__Id"`...), delim), `"sf__Error"`...)
	}
	for i, h := range l.header {
		if cols[i] != nil && !cols[i].exact && which != "unprocessedrecords" {
			continue
		}
		if len(line) > 0 {
			line = append(line, delim)
		}
		line = append(line, h...)
	}
	r := &csvReader{s: l.text, delim: delim}
	_, _ = out.Write(append(line, '\n')) // the writer keeps its error for Flush
	for _, n := range order {
		state := l.state[n]
		line = line[:0]
		switch {
		case which == "successfulResults" && (state == rowCreated || state == rowUpdated):
			line = append(line, '"')
			line = appendID(line, obj.prefix, l.ids[n])
			line = append(append(line, '"', delim), `"`+strconv.FormatBool(state == rowCreated)+`"`...)
		case which == "failedResults" && state == rowFailed:
			line = append(line, '"')
			if l.ids[n] != 0 {
				line = appendID(line, obj.prefix, l.ids[n])
			}
			line = append(line, '"', delim)
			line = appendCSV(line, l.errs[int(n)].text)
		case which == "unprocessedrecords" && state == rowUnprocessed:
		default:
			continue
		}
		r.i = int(l.starts[n])
		cells, _, _, _ := r.next() // was read before; what cannot be read has no cells
		for i := range l.header {
			if cols[i] != nil && !cols[i].exact && which != "unprocessedrecords" {
				continue
			}
			cell := ""
			if i < len(cells) {
				cell = cells[i]
			}
			if len(line) > 0 {
				line = append(line, delim)
			}
			if cols[i] != nil && cols[i].key == nil && cols[i].f.kind == kindDouble && cell != "" && which != "unprocessedrecords" {
				if _, p := cols[i].f.parse(cell); p == nil {
					cell = formatDouble(trim(cell))
				}
			}
			line = appendCSV(line, cell)
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return
		}
	}
}

// listPage is how many jobs a page of the list has.
const listPage = 1000

func (s *Server) listJobs(c *call, at string) {
	q := c.r.URL.Query()
	kind := q.Get("jobType")
	var all []map[string]any
	s.jobs.mu.Lock()
	for _, j := range s.jobs.ingest {
		j.mu.Lock()
		if at == "/jobs/ingest" && (kind == "" || kind == "V2Ingest") {
			m := j.info(s, false)
			m["jobType"] = "V2Ingest"
			all = append(all, m)
		}
		j.mu.Unlock()
	}
	for _, j := range s.jobs.queries {
		if at == "/jobs/query" && (kind == "" || kind == "V2Query") {
			all = append(all, j.info(s))
		}
	}
	for _, j := range s.jobs.classic {
		if kind == "" || kind == "Classic" {
			all = append(all, j.listed(s))
		}
	}
	s.jobs.mu.Unlock()
	sort.Slice(all, func(i, k int) bool { // no order is promised; this one is neither of creation nor of change
		a, _ := all[i]["id"].(string)
		b, _ := all[k]["id"].(string)
		return strings.ToLower(a[10:]) > strings.ToLower(b[10:])
	})
	from, err := strconv.Atoi(q.Get("queryLocator"))
	if err != nil || from < 0 || from > len(all) {
		from = 0
	}
	to := min(len(all), from+listPage)
	out := map[string]any{"done": to == len(all), "records": append([]map[string]any{}, all[from:to]...), "nextRecordsUrl": nil}
	if to < len(all) {
		q.Set("queryLocator", strconv.Itoa(to))
		out["nextRecordsUrl"] = "/services/data/v" + c.version + at + "?" + q.Encode()
	}
	c.json(http.StatusOK, out)
}
