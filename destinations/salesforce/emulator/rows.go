package emulator

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// sobjects serves /sobjects/... (REST API Developer Guide, "sObject Rows").
func (s *Server) sobjects(c *call, rest []string) {
	if len(rest) == 0 || rest[0] == "" {
		s.describeGlobal(c)
		return
	}
	obj := s.org.object(rest[0])
	if obj == nil {
		c.notFound()
		return
	}
	for i := range rest {
		plain, err := url.PathUnescape(rest[i])
		if err != nil {
			c.notFound()
			return
		}
		rest[i] = plain
	}
	method := c.r.Method
	if m := c.r.URL.Query().Get("_HttpMethod"); m != "" && method == http.MethodPost {
		method = m
	}
	switch {
	case len(rest) == 1 && method == http.MethodPost:
		s.createRow(c, obj)
	case len(rest) == 1:
		c.json(http.StatusOK, map[string]any{"objectDescribe": s.describeBasic(c, obj), "recentItems": []any{}})
	case len(rest) == 2 && rest[1] == "describe":
		s.describe(c, obj)
	case len(rest) == 2 && rest[1] == "updated":
		s.updated(c, obj)
	case len(rest) == 2 && rest[1] == "deleted":
		s.deleted(c, obj)
	case len(rest) == 2 && strings.EqualFold(rest[1], "Id") && method == http.MethodPost:
		s.createRow(c, obj)
	case len(rest) == 2:
		s.rowByID(c, obj, rest[1], method)
	case len(rest) == 3:
		s.rowByKey(c, obj, rest[1], rest[2], method)
	default:
		c.notFound()
	}
}

// rowResult is one record's result in the JSON of rows, Collections and trees.
type rowResult struct {
	ID      string     `json:"id,omitempty"`
	Success bool       `json:"success"`
	Errors  []rowFault `json:"errors"`
	Created *bool      `json:"created,omitempty"`
}

type rowFault struct {
	StatusCode string   `json:"statusCode"`
	Message    string   `json:"message"`
	Fields     []string `json:"fields"`
}

func faultsOf(errs []rowError) []rowFault {
	out := make([]rowFault, 0, len(errs))
	for _, e := range errs {
		fields := e.fields
		if fields == nil {
			fields = []string{}
		}
		out = append(out, rowFault{e.code, e.message, fields})
	}
	return out
}

// failRow answers a single-row request that failed.
func (c *call) failRow(b *dml, w *rowWrite) {
	errs := w.errs
	status := http.StatusBadRequest
	switch errs[0].code {
	case "ENTITY_IS_DELETED", "NOT_FOUND":
		status = http.StatusNotFound
	case "INVALID_CROSS_REFERENCE_KEY":
		if len(errs[0].fields) == 0 {
			status = http.StatusNotFound
		}
	case "INSUFFICIENT_ACCESS_OR_READONLY", "STORAGE_LIMIT_EXCEEDED":
		status = http.StatusForbidden
	}
	out := make([]map[string]any, 0, len(errs))
	for _, e := range errs {
		fields := e.fields
		if fields == nil {
			fields = []string{}
		}
		m := map[string]any{"errorCode": e.code, "message": e.message, "fields": fields}
		if e.code == "DUPLICATES_DETECTED" && w.found != nil {
			m["duplicateResut"] = w.found.json(b)
		}
		out = append(out, m)
	}
	c.json(status, out)
}

// one runs a transaction of one row.
func (s *Server) one(c *call, b *dml) (*rowWrite, bool) {
	b.allErrors, b.hold = true, c.txn != nil
	b.delay = s.opts.ProcessingDelay
	b.allowDups, b.assign = allowsDuplicates(c.r), autoAssigns(c.r)
	b.fault = s.faults.rows("rows " + b.op.String() + " " + b.obj.name)
	if !s.commit(c, b) {
		return nil, false
	}
	c.wrote(b)
	return &b.rows[0], true
}

// wrote remembers a transaction that a composite request may take back.
func (c *call) wrote(b *dml) {
	if c.txn != nil {
		*c.txn = append(*c.txn, b)
	}
}

// commit runs a transaction and forces it to disk; false when the answer is
// given.
func (s *Server) commit(c *call, b *dml) bool {
	err := s.transact(c.r.Context(), b)
	if err == nil {
		err = s.org.log.sync()
	}
	if err != nil {
		s.log.ErrorContext(c.r.Context(), "a transaction could not be kept", "error", err)
		c.fail(http.StatusInternalServerError, "UNKNOWN_EXCEPTION", "An unexpected error occurred")
		return false
	}
	return true
}

func allowsDuplicates(r *http.Request) bool {
	return strings.Contains(strings.ReplaceAll(strings.ToLower(r.Header.Get("Sforce-Duplicate-Rule-Header")), " ", ""), "allowsave=true")
}

func (s *Server) createRow(c *call, obj *object) {
	n, text, ok := c.document()
	if !ok {
		return
	}
	if n.kind != jsonObject {
		c.reject(parserError(text, n, obj.name))
		return
	}
	var w rowWrite
	if e := s.readRecord(text, obj, n, &w, false); e != nil {
		c.reject(e)
		return
	}
	b := &dml{obj: obj, op: opInsert, rows: []rowWrite{w}}
	row, ok := s.one(c, b)
	if !ok {
		return
	}
	if len(row.errs) > 0 {
		c.failRow(b, row)
		return
	}
	c.w.Header().Set("Location", "/services/data/v"+c.version+"/sobjects/"+obj.name+"/"+row.id)
	out := map[string]any{"id": row.id, "success": true, "errors": []any{}}
	if obj.event {
		out["errors"] = enqueued(row)
	}
	if len(c.path) > 2 {
		out["created"] = true
	}
	c.json(http.StatusCreated, out)
}

// enqueued is what the result of a published event says: success with an error
// in it.
func enqueued(w *rowWrite) []rowFault {
	return []rowFault{{"OPERATION_ENQUEUED", w.key, []string{}}}
}

func (s *Server) rowByID(c *call, obj *object, raw, method string) {
	switch method {
	case http.MethodGet, http.MethodHead:
		id, ok := canonicalID(raw)
		if !ok || id[:3] != obj.prefix {
			c.fail(http.StatusNotFound, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: "+raw)
			return
		}
		s.org.mu.RLock()
		r := obj.find(id)
		gone := r != nil && r.deleted
		s.org.mu.RUnlock()
		switch {
		case r == nil:
			c.notFound()
		case gone:
			c.fail(http.StatusNotFound, "ENTITY_IS_DELETED", "entity is deleted")
		default:
			s.showRow(c, obj, r)
		}
	case http.MethodPatch:
		n, text, ok := c.document()
		if !ok {
			return
		}
		w := rowWrite{id: raw}
		if recordID(n) != "" {
			c.fail(http.StatusBadRequest, "INVALID_FIELD", "The Id field should not be specified in the sobject data.")
			return
		}
		if e := s.readRecord(text, obj, n, &w, false); e != nil {
			c.reject(e)
			return
		}
		if s.modifiedSince(c, obj, raw) {
			return
		}
		s.finishWrite(c, &dml{obj: obj, op: opUpdate, rows: []rowWrite{w}})
	case http.MethodDelete:
		s.finishWrite(c, &dml{obj: obj, op: opDelete, rows: []rowWrite{{id: raw}}})
	default:
		c.methodNotAllowed("GET,HEAD,PATCH,DELETE")
	}
}

// modifiedSince honours If-Unmodified-Since; true when the answer is given.
func (s *Server) modifiedSince(c *call, obj *object, raw string) bool {
	since, err := http.ParseTime(c.r.Header.Get("If-Unmodified-Since"))
	if err != nil {
		return false
	}
	id, _ := canonicalID(raw)
	s.org.mu.RLock()
	r := obj.find(id)
	changed := r != nil && time.Unix(r.modified, 0).After(since)
	s.org.mu.RUnlock()
	if changed {
		c.w.WriteHeader(http.StatusPreconditionFailed)
	}
	return changed
}

func (s *Server) finishWrite(c *call, b *dml) {
	row, ok := s.one(c, b)
	if !ok {
		return
	}
	if len(row.errs) > 0 {
		c.failRow(b, row)
		return
	}
	c.w.WriteHeader(http.StatusNoContent)
}

// showRow answers with a record.
func (s *Server) showRow(c *call, obj *object, r *record) {
	fields := obj.fields
	if list := c.r.URL.Query().Get("fields"); list != "" {
		fields = nil
		for _, name := range strings.Split(list, ",") {
			f := obj.visible(trim(name))
			if f == nil {
				c.fail(http.StatusBadRequest, "INVALID_FIELD", "No such column '"+trim(name)+"' on entity '"+obj.name+"'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names.")
				return
			}
			fields = append(fields, f)
		}
	}
	s.org.mu.RLock()
	out := s.org.appendRow(nil, c.version, obj, r)
	for _, f := range fields {
		if f.hidden {
			continue
		}
		out = append(out, ',')
		out = s.org.appendMember(out, obj, r, f)
	}
	s.org.mu.RUnlock()
	c.raw(http.StatusOK, append(out, '}'))
}

// appendRow opens a record's JSON object with its attributes.
func (o *Org) appendRow(dst []byte, version string, obj *object, r *record) []byte {
	dst = append(dst, `{"attributes":{"type":"`...)
	dst = append(dst, obj.name...)
	dst = append(dst, `","url":"/services/data/v`...)
	dst = append(dst, version...)
	dst = append(dst, `/sobjects/`...)
	dst = append(dst, obj.name...)
	dst = append(dst, '/')
	dst = appendID(dst, obj.prefix, r.sequence())
	return append(dst, `"}`...)
}

func (o *Org) appendMember(dst []byte, obj *object, r *record, f *field) []byte {
	dst = append(dst, '"')
	dst = append(dst, f.name...)
	dst = append(dst, `":`...)
	return o.appendField(dst, obj, r, f)
}

// appendField renders a field's value as REST does.
func (o *Org) appendField(dst []byte, obj *object, r *record, f *field) []byte {
	if f.kind == kindCompound {
		return o.appendAddress(dst, obj, r, f)
	}
	v, ok := o.value(obj, r, f)
	if !ok {
		return append(dst, "null"...)
	}
	switch f.kind {
	case kindBool, kindInt:
		return append(dst, v...)
	case kindDouble:
		return append(dst, formatDouble(v)...)
	case kindDatetime:
		return appendJSONString(dst, formatDatetime(v))
	default:
		return appendJSONString(dst, v)
	}
}

func (o *Org) appendAddress(dst []byte, obj *object, r *record, f *field) []byte {
	parts := map[string]string{}
	found := false
	for _, p := range obj.fields {
		if p.compound != f.name {
			continue
		}
		for _, end := range [...]string{"Street", "City", "State", "PostalCode", "Country", "Latitude", "Longitude"} {
			if !strings.HasSuffix(p.name, end) {
				continue
			}
			if v, ok := r.get(p.idx); ok {
				found = true
				if p.kind == kindDouble {
					parts[end] = formatDouble(v)
				} else {
					parts[end] = string(appendJSONString(nil, v))
				}
			}
		}
	}
	if !found {
		return append(dst, "null"...)
	}
	dst = append(dst, '{')
	for i, end := range [...]string{"City", "Country", "GeocodeAccuracy", "Latitude", "Longitude", "PostalCode", "State", "Street"} {
		if i > 0 {
			dst = append(dst, ',')
		}
		v := parts[end]
		if v == "" {
			v = "null"
		}
		dst = append(dst, '"', end[0]|0x20)
		dst = append(dst, end[1:]...)
		dst = append(dst, `":`...)
		dst = append(dst, v...)
	}
	return append(dst, '}')
}

// rowByKey serves /sobjects/{Type}/{ExtField}/{value}.
func (s *Server) rowByKey(c *call, obj *object, keyName, value, method string) {
	key := obj.visible(keyName)
	if key == nil || !key.idLookup {
		c.fail(http.StatusNotFound, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: "+keyName)
		return
	}
	if key.from == fromID {
		s.rowByID(c, obj, value, method)
		return
	}
	val, p := key.parse(value)
	if p != nil {
		c.fail(http.StatusBadRequest, "INVALID_FIELD", "'"+value+"' is not a valid value for "+key.name)
		return
	}
	s.org.mu.RLock()
	var ids []string
	var hit *record
	obj.lookup(key, val, func(r *record) bool {
		hit = r
		ids = append(ids, makeID(obj.prefix, r.sequence()))
		return true
	})
	s.org.mu.RUnlock()
	if len(ids) > 1 {
		urls := make([]string, len(ids))
		for i, id := range ids {
			urls[i] = "/services/data/v" + c.version + "/sobjects/" + obj.name + "/" + id
		}
		c.json(http.StatusMultipleChoices, urls)
		return
	}
	if len(ids) == 0 && method != http.MethodPatch {
		c.notFound()
		return
	}
	if method == http.MethodGet || method == http.MethodHead {
		s.showRow(c, obj, hit)
		return
	}
	switch method {
	case http.MethodDelete:
		s.finishWrite(c, &dml{obj: obj, op: opDelete, rows: []rowWrite{{id: ids[0]}}})
	case http.MethodPatch:
		if len(ids) == 0 && c.r.URL.Query().Get("updateOnly") == "true" {
			c.notFound()
			return
		}
		s.upsertRow(c, obj, key, val)
	default:
		c.methodNotAllowed("GET,HEAD,PATCH,DELETE")
	}
}

// sinceUpsertBody is the first API version whose upsert answers an update with
// a body.
const sinceUpsertBody = 46

func (s *Server) upsertRow(c *call, obj *object, key *field, val string) {
	n, text, ok := c.document()
	if !ok {
		return
	}
	w := rowWrite{key: val}
	if e := s.readRecord(text, obj, n, &w, false); e != nil {
		c.reject(e)
		return
	}
	for i := range w.changes {
		if f := w.changes[i].f; f.from == fromID || f == key {
			c.fail(http.StatusBadRequest, "INVALID_FIELD", "The "+f.name+" field should not be specified in the sobject data.")
			return
		}
	}
	if val != "" {
		w.changes = append(w.changes, change{f: key, val: val})
	}
	b := &dml{obj: obj, op: opUpsert, keyField: key, rows: []rowWrite{w}}
	row, ok := s.one(c, b)
	if !ok {
		return
	}
	if len(row.errs) > 0 {
		c.failRow(b, row)
		return
	}
	status := http.StatusOK
	if row.created {
		status = http.StatusCreated
		c.w.Header().Set("Location", "/services/data/v"+c.version+"/sobjects/"+obj.name+"/"+row.id)
	}
	out := map[string]any{"id": row.id, "success": true, "errors": []any{}}
	if c.number >= sinceUpsertBody {
		out["created"] = row.created
	} else if !row.created {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	c.json(status, out)
}
