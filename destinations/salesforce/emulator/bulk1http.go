package emulator

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

const asyncNamespace = "http://www.force.com/2009/06/asyncapi/dataload"

// pair is an element of a job or batch, in the order in which it is shown.
type pair struct {
	name  string
	value any
}

// classic answers with pairs, as XML or JSON.
func (c *call) classic(status int, asJSON bool, root string, pairs []pair) {
	if asJSON {
		m := make(map[string]any, len(pairs))
		for _, p := range pairs {
			m[p.name] = p.value
		}
		c.json(status, m)
		return
	}
	c.xml(status, `<`+root+` xmlns="`+asyncNamespace+`">`+elements(pairs)+`</`+root+`>`)
}

func (c *call) xml(status int, text string) {
	c.w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	c.w.WriteHeader(status)
	_, _ = c.w.Write([]byte(`<?xml version="1.0" encoding="UTF-8"?>` + text)) // the client may have gone
}

func elements(pairs []pair) string {
	var b strings.Builder
	for _, p := range pairs {
		text := fmt.Sprint(p.value)
		if t, ok := p.value.(string); ok && strings.HasSuffix(t, "+0000") {
			text = strings.TrimSuffix(t, "+0000") + "Z" // dates differ between the two formats
		}
		b.WriteString("<" + p.name + ">" + escapeXML(text) + "</" + p.name + ">")
	}
	return b.String()
}

func escapeXML(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

func (c *call) wantsJSON() bool {
	return strings.Contains(c.r.Header.Get("Content-Type"), "json") || c.r.Header.Get("Content-Type") == "" && strings.Contains(c.r.Header.Get("Accept"), "json")
}

func (c *call) classicFail(asJSON bool, code, message string) {
	c.classic(http.StatusBadRequest, asJSON, "error", []pair{{"exceptionCode", code}, {"exceptionMessage", message}})
}

// bulk1 serves /services/async/XX.0/job...
func (s *Server) bulk1(c *call) {
	token := c.r.Header.Get("X-SFDC-Session")
	if token == "" {
		_, token, _ = strings.Cut(c.r.Header.Get("Authorization"), " ")
	}
	if s.auth.check(token) == nil {
		c.classicFail(c.wantsJSON(), "InvalidSessionId", "Invalid session id")
		return
	}
	if c.number < goneVersion || c.number > newestVersion {
		c.classicFail(c.wantsJSON(), "InvalidVersion", "Invalid API version")
		return
	}
	if len(c.path) == 0 || c.path[0] != "job" {
		c.classicFail(c.wantsJSON(), "InvalidUrl", "Unknown resource")
		return
	}
	if len(c.path) == 1 {
		s.createClassic(c)
		return
	}
	id, _ := canonicalID(c.path[1])
	j := s.jobs.findClassic(id)
	if j == nil {
		c.classicFail(c.wantsJSON(), "InvalidJob", "Unable to find job with id: "+c.path[1])
		return
	}
	asJSON := j.contentType == "JSON"
	rest := c.path[2:]
	post := c.r.Method == http.MethodPost
	switch {
	case len(rest) == 0 && post:
		s.setClassic(c, j)
	case len(rest) == 0:
		c.classic(http.StatusOK, asJSON, "jobInfo", j.info(s))
	case rest[0] != "batch":
		c.classicFail(asJSON, "InvalidUrl", "Unknown resource")
	case len(rest) == 1 && post:
		s.addBatch(c, j)
	case len(rest) == 1:
		s.listBatches(c, j)
	default:
		s.classicBatch(c, j, rest[1:])
	}
}

// control reads a control document, XML or JSON, into its elements by name.
func (c *call) control() (map[string]string, []string, error) {
	text, ok := c.body(maxClassicBytes)
	if !ok {
		return nil, nil, fmt.Errorf("the body is too large")
	}
	out := map[string]string{}
	if c.wantsJSON() {
		n, err := parseJSON(text)
		if err != nil {
			return nil, nil, err
		}
		for i, k := range n.keys {
			out[k] = n.items[i].text
		}
		return out, n.keys, nil
	}
	n, err := parseXML(text)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for i := range n.kids {
		out[n.kids[i].name] = n.kids[i].text
		names = append(names, n.kids[i].name)
	}
	return out, names, nil
}

// classicOrder is the order that the schema gives a job's elements.
var classicOrder = []string{"id", "operation", "object", "createdById", "createdDate", "systemModstamp", "state", "externalIdFieldName", "concurrencyMode", "contentType", "assignmentRuleId"}

func inOrder(names []string) bool {
	at := 0
	for _, n := range names {
		for at < len(classicOrder) && classicOrder[at] != n {
			at++
		}
		if at == len(classicOrder) {
			return false
		}
	}
	return true
}

func (s *Server) createClassic(c *call) {
	asJSON := c.wantsJSON()
	if c.r.Method != http.MethodPost {
		c.classicFail(asJSON, "MethodNotAllowed", "POST is expected")
		return
	}
	doc, names, err := c.control()
	if err != nil {
		c.classicFail(asJSON, "InvalidXML", err.Error())
		return
	}
	if !asJSON && !inOrder(names) {
		c.classicFail(asJSON, "InvalidXML", "the elements of jobInfo are not those of the schema, or not in its order")
		return
	}
	j := &classicJob{operationName: doc["operation"], contentType: doc["contentType"], rule: doc["assignmentRuleId"], serial: doc["concurrencyMode"] == "Serial", number: c.number, state: stateOpen, created: s.org.Clock()}
	j.changed = j.created
	if j.contentType == "" {
		j.contentType = "XML"
	}
	if j.contentType != "CSV" && j.contentType != "JSON" && j.contentType != "XML" {
		c.classicFail(asJSON, "UnsupportedContentType", j.contentType+" is not a valid Content-Type")
		return
	}
	if j.query = doc["operation"] == "query" || doc["operation"] == "queryAll"; j.query {
		if j.obj = s.org.object(doc["object"]); j.obj == nil || !j.obj.queryable {
			c.classicFail(asJSON, "InvalidEntity", "Unable to find object: "+doc["object"])
			return
		}
		s.keepClassic(c, j)
		return
	}
	var e *apiError
	if j.obj, j.op, j.key, e = s.jobTarget(doc["object"], doc["operation"], doc["externalIdFieldName"]); e != nil {
		code, message, _ := strings.Cut(e.message, " : ")
		c.classicFail(asJSON, code, message)
		return
	}
	s.keepClassic(c, j)
}

func (s *Server) keepClassic(c *call, j *classicJob) {
	s.jobs.mu.Lock()
	j.id = s.jobs.newID("750")
	s.jobs.classic[j.id] = j
	s.jobs.mu.Unlock()
	c.classic(http.StatusCreated, j.contentType == "JSON", "jobInfo", j.info(s))
}

func formatVersion(number float64) string { return strconv.FormatFloat(number, 'f', 1, 64) }

func (j *classicJob) info(s *Server) []pair {
	j.mu.Lock()
	defer j.mu.Unlock()
	mode := "Parallel"
	if j.serial {
		mode = "Serial"
	}
	p := []pair{{"id", j.id}, {"operation", j.operationName}, {"object", j.obj.name}, {"createdById", s.org.person(integrationUser)}, {"createdDate", stamp(j.created)}, {"systemModstamp", stamp(j.changed)}, {"state", j.state}}
	if j.key != nil {
		p = append(p, pair{"externalIdFieldName", j.key.name})
	}
	count := map[string]int{}
	done, failed, retries, took := 0, 0, 0, int64(0)
	for _, b := range j.batches {
		count[b.state]++
		b.load.mu.Lock()
		done, failed = done+b.load.done, failed+b.load.failed
		b.load.mu.Unlock()
		took += b.took.Milliseconds()
		retries += b.retries
	}
	return append(p, pair{"concurrencyMode", mode}, pair{"contentType", j.contentType},
		pair{"numberBatchesQueued", count[classicQueued]}, pair{"numberBatchesInProgress", count[stateRunning]}, pair{"numberBatchesCompleted", count[classicCompleted]},
		pair{"numberBatchesFailed", count[stateFailed]}, pair{"numberBatchesTotal", len(j.batches)}, pair{"numberRecordsProcessed", done}, pair{"numberRetries", retries},
		pair{"apiVersion", formatVersion(j.number)}, pair{"numberRecordsFailed", failed}, pair{"totalProcessingTime", took},
		pair{"apiActiveProcessingTime", took}, pair{"apexProcessingTime", 0})
}

// setClassic closes or aborts a job.
func (s *Server) setClassic(c *call, j *classicJob) {
	asJSON := j.contentType == "JSON"
	doc, _, err := c.control()
	if err != nil {
		c.classicFail(asJSON, "InvalidXML", err.Error())
		return
	}
	j.mu.Lock()
	ok := j.state == stateOpen && (doc["state"] == classicClosed || doc["state"] == stateAborted) || j.state == classicClosed && doc["state"] == stateAborted
	if ok {
		j.state, j.changed = doc["state"], s.org.Clock()
		for _, b := range j.batches {
			if j.state == stateAborted && b.state == classicQueued {
				b.state = classicNotProcessed
			}
		}
	}
	state := j.state
	j.mu.Unlock()
	if !ok {
		c.classicFail(asJSON, "InvalidJobState", "a job that is "+state+" cannot be set to "+doc["state"])
		return
	}
	c.classic(http.StatusOK, asJSON, "jobInfo", j.info(s))
}

func (s *Server) addBatch(c *call, j *classicJob) {
	asJSON := j.contentType == "JSON"
	if !s.jobs.takeBatches(1) { // a batch that is refused counts too
		c.classicFail(asJSON, "ExceededQuota", "ApiBatchItems Limit exceeded.")
		return
	}
	closed := func() { c.classicFail(asJSON, "InvalidJobState", "the job is closed, it takes no batches") }
	if !j.open() {
		closed()
		return
	}
	text, ok := c.body(maxClassicBytes)
	if !ok {
		return
	}
	if trim(text) == "" {
		c.classicFail(asJSON, "InvalidBatch", "The batch is empty")
		return
	}
	b := &classicBatch{job: j, text: text, state: classicQueued, created: s.org.Clock()}
	b.changed = b.created
	b.load.text, b.load.delim = text, ','
	switch {
	case j.query:
	case j.contentType == "JSON":
		n, err := parseJSON(text)
		if err != nil || n.kind != jsonArray {
			c.classicFail(asJSON, "InvalidBatch", "Failed to parse JSON: an array of records is expected")
			return
		}
		b.records = n.items
	case j.contentType == "XML":
		n, err := parseXML(text)
		if err != nil {
			c.classicFail(asJSON, "InvalidBatch", "Failed to parse XML: "+err.Error())
			return
		}
		for i := range n.kids {
			b.records = append(b.records, s.xmlRecord(j.obj, &n.kids[i]))
		}
	}
	s.jobs.mu.Lock()
	b.id, b.resultID = s.jobs.newID("751"), s.jobs.newID("752")
	s.jobs.mu.Unlock()
	j.mu.Lock()
	if j.state != stateOpen { // it was closed while the batch came in
		j.mu.Unlock()
		closed()
		return
	}
	j.batches = append(j.batches, b)
	info := b.info()
	j.mu.Unlock()
	s.jobs.running.Go(func() { s.jobs.processBatch(s.ctx, b) })
	c.classic(http.StatusCreated, asJSON, "batchInfo", info)
}

// info renders a batch; callers hold the job's mutex.
func (b *classicBatch) info() []pair {
	b.load.mu.Lock()
	defer b.load.mu.Unlock()
	p := []pair{{"id", b.id}, {"jobId", b.job.id}, {"state", b.state}}
	if b.message != "" {
		p = append(p, pair{"stateMessage", b.message})
	}
	took := b.took.Milliseconds()
	return append(p, pair{"createdDate", stamp(b.created)}, pair{"systemModstamp", stamp(b.changed)}, pair{"numberRecordsProcessed", b.load.done},
		pair{"numberRecordsFailed", b.load.failed}, pair{"totalProcessingTime", took}, pair{"apiActiveProcessingTime", took}, pair{"apexProcessingTime", 0})
}

func (s *Server) listBatches(c *call, j *classicJob) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.contentType == "JSON" {
		all := []map[string]any{}
		for _, b := range j.batches {
			m := map[string]any{}
			for _, p := range b.info() {
				m[p.name] = p.value
			}
			all = append(all, m)
		}
		c.json(http.StatusOK, map[string]any{"batchInfo": all})
		return
	}
	text := ""
	for _, b := range j.batches {
		text += "<batchInfo>" + elements(b.info()) + "</batchInfo>"
	}
	c.xml(http.StatusOK, `<batchInfoList xmlns="`+asyncNamespace+`">`+text+`</batchInfoList>`)
}

func (s *Server) classicBatch(c *call, j *classicJob, rest []string) {
	asJSON := j.contentType == "JSON"
	id, _ := canonicalID(rest[0])
	j.mu.Lock()
	var b *classicBatch
	for _, x := range j.batches {
		if x.id == id {
			b = x
		}
	}
	var info []pair
	state := ""
	if b != nil {
		info, state = b.info(), b.state
	}
	j.mu.Unlock()
	switch {
	case b == nil:
		c.classicFail(asJSON, "InvalidBatch", "Unable to find batch with id: "+rest[0])
	case len(rest) == 1:
		c.classic(http.StatusOK, asJSON, "batchInfo", info)
	case rest[1] == "request":
		c.w.Header().Set("Content-Type", contentTypes[j.contentType])
		_, _ = c.w.Write([]byte(b.text)) // the client may have gone
	case rest[1] != "result":
		c.classicFail(asJSON, "InvalidUrl", "Unknown resource")
	case state != classicCompleted && state != stateFailed:
		c.classicFail(asJSON, "InvalidBatch", "Batch not completed")
	case j.query:
		s.classicAnswer(c, b, rest[2:])
	default:
		s.classicResults(c, b)
	}
}

// classicAnswer lists a query's results, of which there is one, or shows it.
func (s *Server) classicAnswer(c *call, b *classicBatch, rest []string) {
	asJSON := b.job.contentType == "JSON"
	b.load.mu.Lock()
	answer := b.answer
	b.load.mu.Unlock()
	switch {
	case len(rest) == 0 && asJSON:
		c.json(http.StatusOK, []string{b.resultID})
	case len(rest) == 0:
		c.xml(http.StatusOK, `<result-list xmlns="`+asyncNamespace+`"><result>`+b.resultID+`</result></result-list>`)
	case rest[0] != b.resultID && rest[0] != b.resultID[:15]:
		c.classicFail(asJSON, "InvalidBatch", "Unable to find result with id: "+rest[0])
	default:
		c.w.Header().Set("Content-Type", contentTypes[b.job.contentType])
		for _, piece := range answer {
			if _, err := c.w.Write(piece); err != nil {
				return
			}
		}
	}
}

var contentTypes = map[string]string{"CSV": "text/csv; charset=UTF-8", "JSON": "application/json; charset=UTF-8", "XML": "application/xml; charset=UTF-8"}

// classicResults shows a result a row, in the order of the batch.
func (s *Server) classicResults(c *call, b *classicBatch) {
	b.load.mu.Lock()
	defer b.load.mu.Unlock()
	l := &b.load
	id := func(i int) string {
		if l.ids[i] == 0 {
			return ""
		}
		return makeID(b.job.obj.prefix, l.ids[i])
	}
	switch b.job.contentType {
	case "JSON":
		out := make([]map[string]any, 0, l.done)
		for i, state := range l.state {
			m := map[string]any{"success": state == rowCreated || state == rowUpdated, "created": state == rowCreated, "id": orNull(id(i)), "errors": faultsOf(l.errs[i].list)}
			out = append(out, m)
		}
		c.json(http.StatusOK, out)
	case "XML":
		var t strings.Builder
		t.WriteString(`<results xmlns="` + asyncNamespace + `">`)
		for i, state := range l.state {
			t.WriteString("<result>")
			for _, e := range l.errs[i].list {
				t.WriteString("<errors>")
				for _, f := range e.fields {
					t.WriteString("<fields>" + escapeXML(f) + "</fields>")
				}
				t.WriteString("<message>" + escapeXML(e.message) + "</message><statusCode>" + escapeXML(e.code) + "</statusCode></errors>")
			}
			if n := id(i); n != "" {
				t.WriteString("<id>" + n + "</id>")
			}
			t.WriteString("<success>" + strconv.FormatBool(state == rowCreated || state == rowUpdated) + "</success><created>" + strconv.FormatBool(state == rowCreated) + "</created></result>")
		}
		t.WriteString("</results>")
		c.xml(http.StatusOK, t.String())
	default:
		c.w.Header().Set("Content-Type", "text/csv")
		c.w.WriteHeader(http.StatusOK)
		out := bufio.NewWriter(c.w)
		_, _ = out.WriteString("\"Id\",\"Success\",\"Created\",\"Error\"\n") // the writer keeps its error
		var line []byte
		for i, state := range l.state {
			line = appendCSV(line[:0], id(i))
			line = append(line, `,"`+strconv.FormatBool(state == rowCreated || state == rowUpdated)+`","`+strconv.FormatBool(state == rowCreated)+`",`...)
			line = append(appendCSV(line, l.errs[i].text), '\n')
			_, _ = out.Write(line)
		}
		_ = out.Flush() // fails only when the client has gone
	}
}
