package emulator

import (
	"fmt"
	"net/http"
	"strings"
)

// Limits of sObject Collections (REST API Developer Guide, "sObject Collections").
const (
	maxCollection = 200
	maxRetrieve   = 2000
	maxRuns       = 10 // of records of one type
)

// collections serves /composite/sobjects/...
func (s *Server) collections(c *call, rest []string) {
	switch {
	case len(rest) == 0 && c.r.Method == http.MethodPost:
		s.writeCollection(c, opInsert, nil, nil)
	case len(rest) == 0 && c.r.Method == http.MethodPatch:
		s.writeCollection(c, opUpdate, nil, nil)
	case len(rest) == 0 && c.r.Method == http.MethodDelete:
		s.deleteCollection(c)
	case len(rest) == 0:
		c.methodNotAllowed("POST,PATCH,DELETE")
	case len(rest) == 1 && (c.r.Method == http.MethodPost || c.r.Method == http.MethodGet):
		s.retrieveCollection(c, rest[0])
	case len(rest) == 2 && c.r.Method == http.MethodPatch:
		obj := s.org.object(rest[0])
		if obj == nil {
			c.notFound()
			return
		}
		key := obj.visible(rest[1])
		if key == nil || !key.idLookup {
			c.fail(http.StatusNotFound, "NOT_FOUND", "Provided external ID field does not exist or is not accessible: "+rest[1])
			return
		}
		s.writeCollection(c, opUpsert, obj, key)
	default:
		c.notFound()
	}
}

func exceeded(n, limit int) *apiError {
	return &apiError{http.StatusBadRequest, "EXCEEDED_ID_LIMIT", fmt.Sprintf("record limit reached. cannot submit more than %d records into this call: %d", limit, n), nil}
}

// writeCollection creates, updates or upserts. Records of one type in a row are
// one transaction; with allOrNone the whole call stands or falls together.
func (s *Server) writeCollection(c *call, op operation, only *object, key *field) {
	doc, text, ok := c.document()
	if !ok {
		return
	}
	records := doc.get("records")
	if records == nil || records.kind != jsonArray {
		c.fail(http.StatusBadRequest, "INVALID_INPUT", "The records field is required")
		return
	}
	if len(records.items) > maxCollection {
		c.reject(exceeded(len(records.items), maxCollection))
		return
	}
	runs, e := s.readCollection(text, records.items, op, only, key)
	if e != nil {
		c.reject(e)
		return
	}
	s.runCollection(c, runs, doc.isTrue("allOrNone"), len(records.items))
}

// readCollection sorts records into runs of one type.
func (s *Server) readCollection(text string, items []node, op operation, only *object, key *field) ([]*dml, *apiError) {
	var runs []*dml
	for i := range items {
		n := &items[i]
		obj, e := s.typeOf(n)
		if e != nil {
			return nil, e
		}
		if only != nil && obj != only {
			return nil, &apiError{http.StatusBadRequest, "INVALID_TYPE", fmt.Sprintf("Record of type %s in an upsert of %s", obj.name, only.name), nil}
		}
		if len(runs) == 0 || runs[len(runs)-1].obj != obj {
			if len(runs) == maxRuns {
				return nil, &apiError{http.StatusBadRequest, "INVALID_INPUT", fmt.Sprintf("Cannot have more than %d chunks in a single operation. Please rearrange the data to reduce chunking.", maxRuns), nil}
			}
			runs = append(runs, &dml{obj: obj, op: op, keyField: key})
		}
		b := runs[len(runs)-1]
		b.rows = append(b.rows, rowWrite{})
		w := &b.rows[len(b.rows)-1]
		byID := op == opUpdate || op == opUpsert && key.from == fromID
		if e := s.readRecord(text, obj, n, w, byID); e != nil {
			return nil, e
		}
		switch {
		case op == opUpdate:
			w.id = recordID(n)
			if n := n.get("Id"); n != nil && n.kind == jsonNull {
				w.id = ""
			}
		case byID:
			if w.key = recordID(n); w.key == "null" {
				w.key = ""
			}
		case op == opUpsert:
			for j := range w.changes {
				if w.changes[j].f == key {
					w.key = w.changes[j].val
				}
			}
			// A record's Id beside the key is an error of the row.
			if id := recordID(n); id != "" && id != "null" {
				w.fail("INVALID_FIELD", "The Id field should not be specified in the sobject data.", "Id")
			}
		}
	}
	return runs, nil
}

// runCollection runs the transactions and answers with a result a record.
func (s *Server) runCollection(c *call, runs []*dml, allOrNone bool, count int) {
	results := make([]rowResult, 0, count)
	err := s.runAll(c, runs, allOrNone, func(b *dml) {
		b.allowDups, b.assign = allowsDuplicates(c.r), autoAssigns(c.r)
		b.fault = s.faults.rows("collections " + b.op.String() + " " + b.obj.name)
	})
	if err != nil {
		c.fail(http.StatusInternalServerError, "UNKNOWN_EXCEPTION", "An unexpected error occurred")
		return
	}
	for _, b := range runs {
		for i := range b.rows {
			results = append(results, resultOf(b, &b.rows[i]))
		}
	}
	c.json(http.StatusOK, results)
}

func resultOf(b *dml, w *rowWrite) rowResult {
	r := rowResult{ID: w.id, Success: len(w.errs) == 0, Errors: faultsOf(w.errs)}
	if b.obj.event && r.Success {
		r.Errors = enqueued(w)
	}
	if !r.Success && (b.op == opInsert || b.op == opUpsert && w.rec == nil) {
		r.ID = ""
	}
	if b.op == opUpsert && r.Success {
		r.Created = &w.created
	}
	return r
}

// undoRuns takes back transactions that were committed before a later one of
// the same all-or-none request failed.
func (o *Org) undoRuns(runs []*dml) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := len(runs) - 1; i >= 0; i-- {
		b := runs[i]
		back := b.counts
		o.rollBack(b)
		o.count(WriteCounts{Inserted: -back.Inserted, Updated: -back.Updated, UpsertCreated: -back.UpsertCreated, UpsertUpdated: -back.UpsertUpdated, Deleted: -back.Deleted, RowsFailed: len(b.rows)})
		for j := range b.rows {
			obj := b.obj
			for w := &b.rows[j]; o.log != nil && w != nil && w.touched; w = w.shadow {
				if w.created {
					b.entries = o.log.appendPurge(b.entries, obj, w.rec)
				} else {
					b.entries = o.log.appendRecord(b.entries, obj, w.rec)
				}
				if w.shadow != nil {
					obj = obj.persons.other(obj)
				}
			}
		}
		_ = o.log.write(b.entries) // the sync that follows reports a journal that fails
	}
}

func (s *Server) deleteCollection(c *call) {
	q := c.r.URL.Query()
	var ids []string
	for _, id := range strings.Split(q.Get("ids"), ",") {
		if id = trim(id); id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		c.fail(http.StatusBadRequest, "MISSING_ARGUMENT", "ids not specified")
		return
	}
	if len(ids) > maxCollection {
		c.reject(exceeded(len(ids), maxCollection))
		return
	}
	var runs []*dml
	for _, id := range ids {
		w := rowWrite{id: id}
		full, ok := canonicalID(id)
		var obj *object
		if ok {
			obj = s.org.byKey[full[:3]]
		}
		if obj == nil {
			w.fail("MALFORMED_ID", "malformed id "+id)
			if obj = s.org.objects[0]; len(runs) > 0 {
				obj = runs[len(runs)-1].obj
			}
		}
		if len(runs) == 0 || runs[len(runs)-1].obj != obj {
			runs = append(runs, &dml{obj: obj, op: opDelete})
		}
		b := runs[len(runs)-1]
		b.rows = append(b.rows, w)
	}
	if len(runs) > maxRuns {
		c.fail(http.StatusBadRequest, "INVALID_INPUT", fmt.Sprintf("Cannot have more than %d chunks in a single operation. Please rearrange the data to reduce chunking.", maxRuns))
		return
	}
	s.runCollection(c, runs, strings.EqualFold(q.Get("allOrNone"), "true"), len(ids))
}

// retrieveCollection answers with the records in the order of the Ids, null
// where there is none.
func (s *Server) retrieveCollection(c *call, name string) {
	obj := s.org.object(name)
	if obj == nil {
		c.notFound()
		return
	}
	var ids, names []string
	if c.r.Method == http.MethodGet {
		q := c.r.URL.Query()
		ids, names = strings.Split(q.Get("ids"), ","), strings.Split(q.Get("fields"), ",")
	} else {
		doc, _, ok := c.document()
		if !ok {
			return
		}
		ids, names = doc.texts("ids"), doc.texts("fields")
	}
	if len(ids) > maxRetrieve {
		c.reject(exceeded(len(ids), maxRetrieve))
		return
	}
	var fields []*field
	for _, n := range names {
		f := obj.visible(trim(n))
		if f == nil {
			c.fail(http.StatusBadRequest, "INVALID_FIELD", "No such column '"+trim(n)+"' on entity '"+obj.name+"'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names.")
			return
		}
		fields = append(fields, f)
	}
	s.org.mu.RLock()
	out := []byte{'['}
	for i, raw := range ids {
		if i > 0 {
			out = append(out, ',')
		}
		id, ok := canonicalID(trim(raw))
		var r *record
		if ok {
			r = obj.find(id)
		}
		if r == nil || r.deleted {
			out = append(out, "null"...)
			continue
		}
		out = s.org.appendRow(out, c.version, obj, r)
		for _, f := range fields {
			out = append(out, ',')
			out = s.org.appendMember(out, obj, r, f)
		}
		out = append(out, '}')
	}
	s.org.mu.RUnlock()
	c.raw(http.StatusOK, append(out, ']'))
}

// texts are the strings of an array member.
func (n *node) texts(name string) []string {
	m := n.get(name)
	if m == nil {
		return nil
	}
	var out []string
	for i := range m.items {
		out = append(out, m.items[i].text)
	}
	return out
}
