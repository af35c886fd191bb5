package emulator

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Pages of query results (REST API Developer Guide, "Query").
const (
	minPage    = 200
	maxPage    = 2000
	longPage   = 200 // with two or more long text fields
	cursorLife = 48 * time.Hour
	maxCursors = 100
)

// cursor is a query whose records are fetched page by page: those that it
// selected when it ran, with the values they have when they are fetched.
type cursor struct {
	p    *plan
	rows []*record
	page int
	born time.Time
}

type cursors struct {
	mu   sync.Mutex
	next uint64
	byID map[string]*cursor
	ids  []string // oldest first
}

func newCursors() *cursors { return &cursors{byID: map[string]*cursor{}} }

func (cs *cursors) keep(c *cursor) string {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.next++
	id := makeID("01g", firstSequence+cs.next*7)
	cs.byID[id] = c
	cs.ids = append(cs.ids, id)
	if len(cs.ids) > maxCursors {
		delete(cs.byID, cs.ids[0])
		cs.ids = cs.ids[1:]
	}
	return id
}

func (cs *cursors) find(id string, now time.Time) *cursor {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.byID[id]
	if c == nil || now.Sub(c.born) > cursorLife {
		return nil
	}
	return c
}

// query serves /query, /queryAll and the pages that follow.
func (s *Server) query(c *call, rest []string) {
	if len(rest) > 0 && rest[0] != "" {
		s.queryMore(c, rest[0])
		return
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.methodNotAllowed("GET,HEAD")
		return
	}
	text := c.r.URL.Query().Get("q")
	if text == "" {
		c.fail(http.StatusBadRequest, "MALFORMED_QUERY", "A query string has to be specified")
		return
	}
	s.runQuery(c, text, c.path[0] == "queryAll")
}

func (s *Server) runQuery(c *call, text string, all bool) {
	q, err := parseSOQL(text)
	if err != nil {
		c.fail(http.StatusBadRequest, err.code, err.render(text))
		return
	}
	if c.r.URL.Query().Get("columns") == "true" {
		s.queryColumns(c, q, text, all)
		return
	}
	out, err := s.answer(c, q, all)
	if err != nil {
		c.fail(http.StatusBadRequest, err.code, err.render(text))
		return
	}
	c.raw(http.StatusOK, out)
}

// answer evaluates a query and renders its first page.
func (s *Server) answer(c *call, q *soqlQuery, all bool) ([]byte, *soqlError) {
	s.org.mu.RLock()
	defer s.org.mu.RUnlock()
	p, err := s.org.plan(q, all)
	if err != nil {
		return nil, err
	}
	if p.counter {
		n := len(cut(s.org.filter(p), q.offset, q.limit))
		return []byte(`{"totalSize":` + strconv.Itoa(n) + `,"done":true,"records":[]}`), nil
	}
	if p.grouped {
		groups := s.org.groupRows(p)
		out := []byte(`{"totalSize":` + strconv.Itoa(len(groups)) + `,"done":true,"records":[`)
		for i, g := range groups {
			if i > 0 {
				out = append(out, ',')
			}
			out = s.org.appendGroup(out, p, g)
		}
		return append(out, ']', '}'), nil
	}
	cur := &cursor{p: p, rows: s.org.match(p), page: pageSize(c.r, p), born: time.Now().Add(s.org.offset)}
	return s.page(c, cur, "", 0), nil
}

// pageSize heeds the client's wish, which is a hint.
func pageSize(r *http.Request, p *plan) int {
	size := maxPage
	for _, part := range strings.Split(r.Header.Get("Sforce-Query-Options"), ",") {
		if k, v, ok := strings.Cut(trim(part), "="); ok && strings.EqualFold(trim(k), "batchSize") {
			if n, err := strconv.Atoi(trim(v)); err == nil {
				size = min(max(n, minPage), maxPage)
			}
		}
	}
	long := 0
	for _, ref := range p.columns {
		if ref.leaf.longText && ref.leaf.custom {
			long++
		}
	}
	if long >= 2 {
		size = min(size, longPage)
	}
	return size
}

func (s *Server) queryMore(c *call, locator string) {
	id, offset, ok := strings.Cut(locator, "-")
	n, err := strconv.Atoi(offset)
	full, valid := canonicalID(id)
	cur := s.cursors.find(full, s.org.Clock())
	if !ok || err != nil || !valid || cur == nil || n < 0 || n > len(cur.rows) {
		c.fail(http.StatusBadRequest, "INVALID_QUERY_LOCATOR", "invalid query locator")
		return
	}
	s.org.mu.RLock()
	out := s.page(c, cur, full, n)
	s.org.mu.RUnlock()
	c.raw(http.StatusOK, out)
}

// page renders the records from a place on; callers hold Org.mu.
func (s *Server) page(c *call, cur *cursor, id string, from int) []byte {
	to := min(from+cur.page, len(cur.rows))
	done := to == len(cur.rows)
	out := []byte(`{"totalSize":` + strconv.Itoa(len(cur.rows)) + `,"done":` + strconv.FormatBool(done))
	if !done {
		if id == "" {
			id = s.cursors.keep(cur)
		}
		out = append(out, `,"nextRecordsUrl":"/services/data/v`+c.version+`/query/`+id+`-`+strconv.Itoa(to)+`"`...)
	}
	out = append(out, `,"records":[`...)
	for i, r := range cur.rows[from:to] {
		if i > 0 {
			out = append(out, ',')
		}
		out = s.appendTree(out, c.version, cur.p, cur.p.obj, r, cur.p.tree)
	}
	return append(out, ']', '}')
}

// appendTree renders a record with what was selected of it and its parents.
func (s *Server) appendTree(dst []byte, version string, p *plan, obj *object, r *record, t *tree) []byte {
	o := s.org
	dst = o.appendRow(dst, version, obj, r)
	for i := range t.refs {
		ref := &t.refs[i]
		dst = append(dst, ',', '"')
		switch {
		case ref.kid != nil:
			dst = append(dst, ref.f.relationship...)
			dst = append(dst, '"', ':')
			if target, parent := o.parent(obj, r, ref.f); parent != nil {
				dst = s.appendTree(dst, version, p, target, parent, ref.kid)
			} else {
				dst = append(dst, "null"...)
			}
		case ref.sub != nil:
			dst = append(dst, ref.sub.relName...)
			dst = append(dst, '"', ':')
			dst = s.appendChildren(dst, version, ref.sub, obj, r)
		default:
			dst = append(dst, ref.name...)
			dst = append(dst, '"', ':')
			f := ref.f
			if f.obj != obj {
				f = obj.visible(ref.name)
			}
			if f == nil {
				dst = append(dst, "null"...)
			} else {
				dst = o.appendField(dst, obj, r, f)
			}
		}
	}
	return append(dst, '}')
}

// appendChildren renders a child subquery's records, null when there are none.
func (s *Server) appendChildren(dst []byte, version string, sub *plan, obj *object, r *record) []byte {
	o := s.org
	var rows []*record
	sub.obj.children(sub.childOf, makeID(obj.prefix, r.sequence()), func(kid *record) bool {
		if sub.q.where == nil || o.holds(sub.obj, kid, sub.q.where) {
			rows = append(rows, kid)
		}
		return true
	})
	o.sortRows(sub, rows)
	if rows = cut(rows, sub.q.offset, sub.q.limit); len(rows) == 0 {
		return append(dst, "null"...)
	}
	dst = append(dst, `{"totalSize":`+strconv.Itoa(len(rows))+`,"done":true,"records":[`...)
	for i, kid := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = s.appendTree(dst, version, sub, sub.obj, kid, sub.tree)
	}
	return append(dst, ']', '}')
}
