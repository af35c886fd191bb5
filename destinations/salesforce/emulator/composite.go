package emulator

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// The composite family (REST API Developer Guide, "Composite Resources").

const (
	maxSubrequests = 25
	maxSubQueries  = 5
	maxTree        = 200
	maxTreeDepth   = 5
	maxTreeTypes   = 5
)

func (s *Server) composite(c *call, rest []string) {
	switch {
	case len(rest) > 0 && rest[0] == "sobjects":
		s.collections(c, rest[1:])
	case c.r.Method != http.MethodPost:
		c.methodNotAllowed("POST")
	case len(rest) == 0 || rest[0] == "":
		s.compositeRequests(c)
	case rest[0] == "batch" && len(rest) == 1:
		s.batchRequests(c)
	case rest[0] == "tree" && len(rest) == 2:
		s.treeRequest(c, rest[1])
	default:
		c.notFound()
	}
}

// sub runs a subrequest through the same code as a request of its own.
func (s *Server) sub(c *call, method, target, body string, header http.Header) *recorder {
	out := &recorder{header: http.Header{}}
	u, err := url.Parse(target)
	if err != nil || !strings.HasPrefix(u.Path, "/services/data/v") {
		(&call{s: s, w: out, r: c.r}).notFound()
		return out
	}
	r := c.r.Clone(c.r.Context())
	r.Method, r.URL, r.Body = method, u, io.NopCloser(strings.NewReader(body))
	for k, v := range header {
		r.Header[k] = v
	}
	part := &call{s: s, w: out, r: r, session: c.session, at: c.at, txn: c.txn}
	part.route()
	if part.number < oldestVersion || part.number > newestVersion || len(part.path) > 0 && part.path[0] == "jobs" {
		part.notFound()
		return out
	}
	s.resource(part)
	if out.status == 0 {
		out.status = http.StatusOK
	}
	return out
}

var (
	referenceID = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	// A reference to an earlier subrequest's answer.
	referenceUse = regexp.MustCompile(`@\{([A-Za-z0-9_]+)((?:\.[A-Za-z0-9_]+|\[[0-9]+\])*)\}`)
)

func (s *Server) compositeRequests(c *call) {
	doc, _, ok := c.document()
	if !ok {
		return
	}
	reqs := doc.get("compositeRequest")
	if reqs == nil || reqs.kind != jsonArray || len(reqs.items) == 0 {
		c.fail(http.StatusBadRequest, "INVALID_INPUT", "compositeRequest is required")
		return
	}
	if len(reqs.items) > maxSubrequests {
		c.fail(http.StatusBadRequest, "INVALID_INPUT", "The composite request has more than 25 subrequests")
		return
	}
	if e := checkSubrequests(reqs.items); e != nil {
		c.reject(e)
		return
	}
	allOrNone := doc.isTrue("allOrNone")
	if allOrNone {
		c.txn = new([]*dml)
	}
	type answer struct {
		Body           json.RawMessage   `json:"body"`
		HTTPHeaders    map[string]string `json:"httpHeaders"`
		HTTPStatusCode int               `json:"httpStatusCode"`
		ReferenceID    string            `json:"referenceId"`
	}
	answers := make([]answer, 0, len(reqs.items))
	bodies := map[string]*node{}
	failed := -1
	halted := func(message string) json.RawMessage {
		text, err := json.Marshal([]map[string]string{{"errorCode": "PROCESSING_HALTED", "message": message}})
		if err != nil {
			return nil
		}
		return text
	}
	const rolled = "The transaction was rolled back since another operation in the same transaction failed."
	for i := range reqs.items {
		req := &reqs.items[i]
		a := answer{HTTPHeaders: map[string]string{}, ReferenceID: req.str("referenceId"), HTTPStatusCode: http.StatusBadRequest}
		if allOrNone && failed >= 0 {
			a.Body = halted(rolled)
			answers = append(answers, a)
			continue
		}
		target, bad := fillReferences(req.str("url"), bodies)
		body, badBody := fillReferences(render(req.get("body")), bodies)
		if bad == "" {
			bad = badBody
		}
		if bad != "" {
			a.Body = halted("Invalid reference specified. No value for " + bad)
		} else {
			header := http.Header{}
			if h := req.get("httpHeaders"); h != nil {
				for k := range h.items {
					header.Set(h.keys[k], h.items[k].text)
				}
			}
			out := s.sub(c, req.str("method"), target, body, header)
			a.HTTPStatusCode, a.Body = out.status, json.RawMessage("null")
			if out.body.Len() > 0 {
				a.Body = out.body.Bytes()
				if n, err := parseJSON(out.body.String()); err == nil {
					bodies[a.ReferenceID] = n
				}
			}
			for _, k := range []string{"Location", "ETag", "Last-Modified"} {
				if v := out.header.Get(k); v != "" {
					a.HTTPHeaders[k] = v
				}
			}
		}
		if a.HTTPStatusCode >= http.StatusBadRequest || rowsFailed(bodies[a.ReferenceID]) {
			failed = i
		}
		answers = append(answers, a)
	}
	if allOrNone && failed < 0 {
		if err := errors.Join(s.org.finishHeld(*c.txn), s.org.log.sync()); err != nil {
			s.log.ErrorContext(c.r.Context(), "a transaction could not be kept", "error", err)
		}
	}
	if allOrNone && failed >= 0 {
		s.org.undoRuns(*c.txn)
		if err := s.org.log.sync(); err != nil {
			s.log.ErrorContext(c.r.Context(), "a transaction could not be taken back", "error", err)
		}
		for i := range answers {
			if i != failed && i < failed {
				answers[i].Body, answers[i].HTTPStatusCode, answers[i].HTTPHeaders = halted(rolled), http.StatusBadRequest, map[string]string{}
			}
		}
	}
	c.json(http.StatusOK, map[string]any{"compositeResponse": answers})
}

// rowsFailed says whether an answer is of a collection with a failed record.
func rowsFailed(n *node) bool {
	if n == nil || n.kind != jsonArray {
		return false
	}
	for i := range n.items {
		if m := n.items[i].get("success"); m != nil && m.text == "false" {
			return true
		}
	}
	return false
}

func checkSubrequests(items []node) *apiError {
	seen := map[string]bool{}
	queries := 0
	for i := range items {
		id, target := items[i].str("referenceId"), items[i].str("url")
		if !referenceID.MatchString(id) || seen[id] {
			return bulkError("INVALID_INPUT", "Provided referenceId ("+id+") is missing, not unique or has other than letters, digits and underscores")
		}
		seen[id] = true
		if strings.Contains(target, "/query") {
			queries++
		}
		if strings.Contains(target, "/composite") && !strings.Contains(target, "/composite/sobjects") {
			return bulkError("INVALID_INPUT", "A composite request cannot hold another")
		}
		switch items[i].str("method") {
		case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodPut, http.MethodHead:
		default:
			return bulkError("INVALID_INPUT", "Unknown method "+items[i].str("method"))
		}
	}
	if queries > maxSubQueries {
		return bulkError("INVALID_INPUT", "The composite request has more than 5 queries")
	}
	return nil
}

// render turns a node back into JSON text.
func render(n *node) string {
	if n == nil {
		return ""
	}
	return string(appendNode(nil, n))
}

func appendNode(dst []byte, n *node) []byte {
	switch n.kind {
	case jsonString:
		return appendJSONString(dst, n.text)
	case jsonArray:
		dst = append(dst, '[')
		for i := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendNode(dst, &n.items[i])
		}
		return append(dst, ']')
	case jsonObject:
		dst = append(dst, '{')
		for i := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSONString(dst, n.keys[i])
			dst = append(dst, ':')
			dst = appendNode(dst, &n.items[i])
		}
		return append(dst, '}')
	default:
		return append(dst, n.text...)
	}
}

// fillReferences puts in what @{ref.path} stands for; bad is the first that
// stands for nothing.
func fillReferences(text string, bodies map[string]*node) (out, bad string) {
	out = referenceUse.ReplaceAllStringFunc(text, func(use string) string {
		m := referenceUse.FindStringSubmatch(use)
		n := bodies[m[1]]
		for _, step := range strings.FieldsFunc(m[2], func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
			if n == nil {
				break
			}
			if n.kind == jsonArray {
				k, err := strconv.Atoi(step)
				if err != nil || k >= len(n.items) {
					n = nil
					break
				}
				n = &n.items[k]
				continue
			}
			n = n.get(step)
		}
		if n == nil {
			if bad == "" {
				bad = strings.TrimPrefix(m[2], ".") + " found in " + m[1]
			}
			return ""
		}
		return n.text
	})
	return out, bad
}

func (s *Server) batchRequests(c *call) {
	doc, _, ok := c.document()
	if !ok {
		return
	}
	reqs := doc.get("batchRequests")
	if reqs == nil || reqs.kind != jsonArray || len(reqs.items) == 0 || len(reqs.items) > maxSubrequests {
		c.fail(http.StatusBadRequest, "INVALID_INPUT", "batchRequests holds 1 to 25 subrequests")
		return
	}
	type answer struct {
		StatusCode int             `json:"statusCode"`
		Result     json.RawMessage `json:"result"`
	}
	answers := make([]answer, 0, len(reqs.items))
	hasErrors := false
	for i := range reqs.items {
		req := &reqs.items[i]
		if hasErrors && doc.isTrue("haltOnError") {
			answers = append(answers, answer{http.StatusPreconditionFailed, json.RawMessage(`[{"errorCode":"BATCH_PROCESSING_HALTED","message":"Batch processing halted per request"}]`)})
			continue
		}
		target := req.str("url")
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
		if !strings.HasPrefix(target, "/services/") {
			target = "/services/data" + target
		}
		out := s.sub(c, req.str("method"), target, render(req.get("richInput")), nil)
		a := answer{out.status, json.RawMessage("null")}
		if out.body.Len() > 0 {
			a.Result = out.body.Bytes()
		}
		hasErrors = hasErrors || out.status >= http.StatusBadRequest
		answers = append(answers, a)
	}
	c.json(http.StatusOK, map[string]any{"hasErrors": hasErrors, "results": answers})
}
