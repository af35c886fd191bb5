package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// QueryResult is the result of a query, a record at a time. It is used by one
// goroutine.
type QueryResult struct {
	client *Client
	ctx    context.Context // bounds the pages still to be asked for
	op     string
	total  int64
	page   queryPage
	next   int
	record Record
	err    error
	closed bool
}

type queryPage struct {
	TotalSize int64             `json:"totalSize"`
	Done      bool              `json:"done"`
	Next      string            `json:"nextRecordsUrl"`
	Records   []json.RawMessage `json:"records"`
}

// Query runs a SOQL query and returns its records, a page of the org's at a
// time. ctx also bounds the pages that Next asks for.
func (c *Client) Query(ctx context.Context, soql string) (*QueryResult, error) {
	return c.query(ctx, "/query", soql)
}

// QueryAll is Query of all records, those in the recycle bin among them: deleted
// ones, and those that were merged into another.
func (c *Client) QueryAll(ctx context.Context, soql string) (*QueryResult, error) {
	return c.query(ctx, "/queryAll", soql)
}

func (c *Client) query(ctx context.Context, path, soql string) (*QueryResult, error) {
	q := &QueryResult{client: c, ctx: ctx, op: "query"}
	r := c.get(q.op, path, "q="+url.QueryEscape(soql))
	if err := q.load(r); err != nil {
		return nil, err
	}
	q.total = q.page.TotalSize
	return q, nil
}

func (q *QueryResult) load(r *call) error {
	a, err := q.client.do(q.ctx, r)
	if err != nil {
		return err
	}
	var page queryPage
	if err := json.Unmarshal(a.body, &page); err != nil {
		return garbled(r, a, err)
	}
	if page.Records == nil || (!page.Done && page.Next == "") {
		return garbled(r, a, nil)
	}
	q.page, q.next = page, 0
	return nil
}

// TotalSize is how many records the query found.
func (q *QueryResult) TotalSize() int64 { return q.total }

// Next moves to the next record.
func (q *QueryResult) Next() bool {
	for q.err == nil && !q.closed {
		if q.next < len(q.page.Records) {
			q.record.raw = q.page.Records[q.next]
			q.next++
			return true
		}
		if q.page.Done {
			return false
		}
		q.err = q.load(q.client.page(q.op, q.page.Next))
	}
	return false
}

// page is the call for a page that an earlier answer named. The name is a
// path on the same org: nothing else is followed.
func (c *Client) page(op, next string) *call {
	path, query, _ := strings.Cut(next, "?")
	if i := strings.Index(path, "/services/"); i > 0 {
		path = path[i:]
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return &call{op: op, method: http.MethodGet, path: path, query: query, accept: "application/json", repeat: true}
}

// Record is the current record, valid until the next call of Next.
func (q *QueryResult) Record() *Record { return &q.record }

// Err is the error that ended the records early.
func (q *QueryResult) Err() error { return q.err }

// Close ends the reading. It is safe twice.
func (q *QueryResult) Close() error {
	q.closed = true
	q.page = queryPage{}
	return nil
}

// Record is one record of a query.
type Record struct {
	raw json.RawMessage
}

// JSON is the whole record, valid as long as the record is.
func (r *Record) JSON() json.RawMessage { return r.raw }

// Raw gives the JSON of a field by its path ("Account.Name"), in any case; nil
// where the record has no such field or a parent on the way is null.
func (r *Record) Raw(path string) json.RawMessage {
	value := []byte(r.raw)
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, ".")
		if value = member(value, name); value == nil {
			return nil
		}
	}
	return value
}

// Get gives a field's text by its path: a string's characters, and of numbers
// and booleans the JSON. null is true of null, and of what is not there.
func (r *Record) Get(path string) (text string, null bool) {
	raw := r.Raw(path)
	switch {
	case raw == nil || string(raw) == "null":
		return "", true
	case raw[0] != '"':
		return string(raw), false
	}
	if plain := raw[1 : len(raw)-1]; !strings.Contains(string(plain), `\`) {
		return string(plain), false
	}
	if json.Unmarshal(raw, &text) != nil {
		return "", true
	}
	return text, false
}

// member finds a member of a JSON object by its name, in any case, without
// decoding the others. It relies on the text being valid JSON, and returns nil
// where it is not.
func member(object []byte, name string) []byte {
	i := skipSpace(object, 0)
	if i >= len(object) || object[i] != '{' {
		return nil
	}
	for i++; ; i++ {
		i = skipSpace(object, i)
		if i >= len(object) || object[i] != '"' {
			return nil
		}
		end := skipValue(object, i)
		if end < 0 {
			return nil
		}
		key := object[i+1 : end-1]
		i = skipSpace(object, end)
		if i >= len(object) || object[i] != ':' {
			return nil
		}
		i = skipSpace(object, i+1)
		end = skipValue(object, i)
		if end < 0 {
			return nil
		}
		if len(key) == len(name) && strings.EqualFold(string(key), name) {
			return object[i:end]
		}
		i = skipSpace(object, end)
		if i >= len(object) || object[i] != ',' {
			return nil
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipValue returns where the JSON value that begins at i ends, or -1.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i >= len(b) {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return -1
			}
		default:
			if depth > 0 {
				continue
			}
			start := i
			for i < len(b) && !strings.ContainsRune(",]} \n\r\t", rune(b[i])) {
				i++
			}
			if i == start {
				return -1
			}
			return i
		}
	}
	return -1
}
