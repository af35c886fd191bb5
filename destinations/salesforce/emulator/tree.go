package emulator

import (
	"encoding/json"
	"net/http"
	"strings"
)

// treeNode is a record of a tree with its place in it.
type treeNode struct {
	n      *node
	obj    *object
	parent *treeNode
	via    *field // the reference that leads to the parent
	id     string
	ref    string
	errs   []rowError
}

// treeRequest inserts trees of records, all or none (REST API Developer Guide,
// "sObject Tree").
func (s *Server) treeRequest(c *call, name string) {
	root := s.org.object(name)
	if root == nil {
		c.notFound()
		return
	}
	doc, text, ok := c.document()
	if !ok {
		return
	}
	records := doc.get("records")
	if records == nil || records.kind != jsonArray || len(records.items) == 0 {
		c.fail(http.StatusBadRequest, "INVALID_INPUT", "The records field is required")
		return
	}
	var all []*treeNode
	types := map[*object]bool{}
	e := s.flatten(records, root, nil, nil, 1, &all, types)
	if e == nil && (len(all) > maxTree || len(types) > maxTreeTypes) {
		e = bulkError("INVALID_INPUT", "A tree request has at most 200 records of 5 types in 5 levels")
	}
	if e != nil {
		c.reject(e)
		return
	}
	var done []*dml
	failed := false
	for _, t := range all {
		if t.parent != nil && t.parent.id == "" {
			continue // its parent has failed
		}
		w := rowWrite{}
		if e := s.readRecord(text, t.obj, t.n, &w, false); e != nil {
			t.errs, failed = []rowError{{e.code, e.message, e.fields}}, true
			continue
		}
		if t.parent != nil {
			w.changes = append(w.changes, change{f: t.via, val: t.parent.id})
		}
		b := &dml{obj: t.obj, op: opInsert, rows: []rowWrite{w}, allErrors: true, fault: s.faults.rows("tree insert " + t.obj.name)}
		if err := s.transact(c.r.Context(), b); err != nil {
			c.fail(http.StatusInternalServerError, "UNKNOWN_EXCEPTION", "An unexpected error occurred")
			return
		}
		done = append(done, b)
		c.wrote(b)
		t.id, t.errs = b.rows[0].id, b.rows[0].errs
		failed = failed || len(t.errs) > 0
	}
	type result struct {
		ReferenceID string     `json:"referenceId"`
		ID          string     `json:"id,omitempty"`
		Errors      []rowFault `json:"errors,omitempty"`
	}
	results := []result{}
	if failed {
		s.org.undoRuns(done)
	}
	for _, t := range all {
		switch {
		case !failed:
			results = append(results, result{ReferenceID: t.ref, ID: t.id})
		case len(t.errs) > 0:
			results = append(results, result{ReferenceID: t.ref, Errors: faultsOf(t.errs)})
		}
	}
	if err := s.org.log.sync(); err != nil {
		c.fail(http.StatusInternalServerError, "UNKNOWN_EXCEPTION", "An unexpected error occurred")
		return
	}
	out, err := json.Marshal(map[string]any{"hasErrors": failed, "results": results})
	if err != nil {
		c.fail(http.StatusInternalServerError, "UNKNOWN_EXCEPTION", "An unexpected error occurred")
		return
	}
	status := http.StatusCreated
	if failed {
		status = http.StatusBadRequest
	}
	c.raw(status, out)
}

// flatten lists a tree's records, parents before children, and takes the child
// lists out of them.
func (s *Server) flatten(records *node, obj *object, parent *treeNode, via *field, depth int, all *[]*treeNode, types map[*object]bool) *apiError {
	if depth > maxTreeDepth {
		return bulkError("INVALID_INPUT", "A tree request has at most 200 records of 5 types in 5 levels")
	}
	for i := range records.items {
		n := &records.items[i]
		got, e := s.typeOf(n)
		if e != nil {
			return e
		}
		if got != obj {
			return bulkError("INVALID_INPUT", "Unexpected type "+got.name+" in a tree of "+obj.name)
		}
		types[obj] = true
		t := &treeNode{n: &node{kind: jsonObject, at: n.at}, obj: obj, parent: parent, via: via, ref: n.get("attributes").str("referenceId")}
		if t.ref == "" {
			return bulkError("INVALID_INPUT", "Each record of a tree needs a referenceId")
		}
		*all = append(*all, t)
		var lists []*node
		var kids []*field
		for k, key := range n.keys {
			item := &n.items[k]
			if list := item.get("records"); list != nil {
				for _, f := range obj.kids {
					if strings.EqualFold(f.childRelation, key) {
						lists, kids = append(lists, list), append(kids, f)
						item = nil
						break
					}
				}
			}
			if item != nil {
				t.n.keys, t.n.items = append(t.n.keys, key), append(t.n.items, *item)
			}
		}
		for k, list := range lists {
			if e := s.flatten(list, kids[k].obj, t, kids[k], depth+1, all, types); e != nil {
				return e
			}
		}
	}
	return nil
}
