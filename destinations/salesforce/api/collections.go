package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// SaveResult is what became of one record of a Collections call. Success with
// non-empty Errors is a success (platform events answer so).
type SaveResult struct {
	ID      string // "" where the org gave none, as for a failed create
	Success bool
	Created bool // upsert: the record is new
	Errors  []RowError
}

// RowError is one reason why a record was refused.
type RowError struct {
	Code, Message string
	Fields        []string
	// Found is what a duplicate rule found, where the org says so: Ids.
	Found []string
}

// CollectionOptions are the headers of a Collections write.
type CollectionOptions struct {
	// AllowDuplicates lets records past duplicate rules whose action is
	// Allow or Alert; Block still blocks.
	AllowDuplicates bool
	// AssignmentRule is "" to leave the header out (the org then applies its
	// active rule), "FALSE", "TRUE" or the Id of a rule.
	AssignmentRule string
}

// MaxCollection is how many records a Collections call takes (REST API
// Developer Guide, "sObject Collections").
const MaxCollection = 200

// CreateRecords inserts records: each is one JSON object with its attributes.
// The results are as many as the records and in their order. Nothing is
// repeated after a lost answer: see Error.Unknown.
func (c *Client) CreateRecords(ctx context.Context, records [][]byte, o CollectionOptions) ([]SaveResult, error) {
	return c.save(ctx, &call{op: "create records", method: http.MethodPost, path: c.prefix + "/composite/sobjects"}, records, o)
}

// UpdateRecords updates records, each of which names its id. See CreateRecords.
func (c *Client) UpdateRecords(ctx context.Context, records [][]byte, o CollectionOptions) ([]SaveResult, error) {
	return c.save(ctx, &call{op: "update records", method: http.MethodPatch, path: c.prefix + "/composite/sobjects"}, records, o)
}

// UpsertRecords upserts records of one object by an external id, which each
// record holds. The same key twice fails both records. See CreateRecords.
func (c *Client) UpsertRecords(ctx context.Context, object, externalIDField string, records [][]byte, o CollectionOptions) ([]SaveResult, error) {
	path := c.prefix + "/composite/sobjects/" + url.PathEscape(object) + "/" + url.PathEscape(externalIDField)
	return c.save(ctx, &call{op: "upsert " + object + " records", method: http.MethodPatch, path: path}, records, o)
}

// DeleteRecords deletes records by id. See CreateRecords for the results.
func (c *Client) DeleteRecords(ctx context.Context, ids []string) ([]SaveResult, error) {
	const op = "delete records"
	if len(ids) == 0 {
		return nil, nil
	}
	if err := checkCount(op, len(ids), MaxCollection); err != nil {
		return nil, err
	}
	r := &call{
		op: op, method: http.MethodDelete, path: c.prefix + "/composite/sobjects", accept: "application/json",
		query: "ids=" + url.QueryEscape(strings.Join(ids, ",")) + "&allOrNone=false",
	}
	return c.saved(ctx, r, len(ids))
}

// MaxRetrieve is how many records one call reads by their Ids (REST API Developer
// Guide, "Get Multiple Records with Fewer Round-Trips").
const MaxRetrieve = 2000

// RetrieveRecords reads fields of records of an object by their Ids. The records
// are as many as the Ids and in their order; one that is not there, or that this
// user may not see, has no Id.
func (c *Client) RetrieveRecords(ctx context.Context, object string, ids, fields []string) ([]Record, error) {
	op := "retrieve " + object + " records"
	if len(ids) == 0 {
		return nil, nil
	}
	if err := checkCount(op, len(ids), MaxRetrieve); err != nil {
		return nil, err
	}
	body, err := json.Marshal(struct {
		IDs    []string `json:"ids"`
		Fields []string `json:"fields"`
	}{ids, fields})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	r := &call{
		op: op, method: http.MethodPost, path: c.prefix + "/composite/sobjects/" + url.PathEscape(object), body: body,
		contentType: "application/json; charset=UTF-8", accept: "application/json", rows: int64(len(ids)), repeat: true,
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	raw := make([]json.RawMessage, 0, len(ids))
	if err := json.Unmarshal(a.body, &raw); err != nil {
		return nil, garbled(r, a, err)
	}
	if len(raw) != len(ids) {
		return nil, garbled(r, a, fmt.Errorf("%d records for %d Ids", len(raw), len(ids)))
	}
	records := make([]Record, len(raw))
	for i := range raw {
		records[i].raw = raw[i]
	}
	return records, nil
}

func checkCount(op string, n, most int) error {
	if n > most {
		return &Error{Op: op, Code: "EXCEEDED_ID_LIMIT", Class: StopRun,
			Message: fmt.Sprintf("%d records in one call, of at most %d", n, most)}
	}
	return nil
}

func (c *Client) save(ctx context.Context, r *call, records [][]byte, o CollectionOptions) ([]SaveResult, error) {
	if len(records) == 0 {
		return nil, nil
	}
	if err := checkCount(r.op, len(records), MaxCollection); err != nil {
		return nil, err
	}
	const head, tail = `{"allOrNone":false,"records":[`, `]}`
	size := len(head) + len(tail) + len(records)
	for _, record := range records {
		size += len(record)
	}
	body := append(make([]byte, 0, size), head...)
	for i, record := range records {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, record...)
	}
	r.body = append(body, tail...)
	r.contentType, r.accept = "application/json; charset=UTF-8", "application/json"
	r.header = http.Header{}
	if o.AllowDuplicates {
		r.header.Set("Sforce-Duplicate-Rule-Header", "allowSave=true; includeRecordDetails=false; runAsCurrentUser=true")
	}
	if o.AssignmentRule != "" {
		r.header.Set("Sforce-Auto-Assign", o.AssignmentRule)
	}
	return c.saved(ctx, r, len(records))
}

// saved sends a Collections write of n records and reads its results.
func (c *Client) saved(ctx context.Context, r *call, n int) ([]SaveResult, error) {
	r.rows = int64(n)
	a, err := c.do(ctx, r)
	if err != nil {
		// The org refuses a call whole for one record that it cannot read.
		if e, ok := err.(*Error); ok && e.Status == http.StatusBadRequest && e.Class == RowFault && n > 1 {
			e.Class = SplitBatch
		}
		return nil, err
	}
	results, err := decodeSaveResults(a.body, n)
	if err != nil {
		return nil, garbled(r, a, err)
	}
	return results, nil
}

// wireSave is a save result as it travels.
type wireSave struct {
	ID      string      `json:"id"`
	Success bool        `json:"success"`
	Created bool        `json:"created"`
	Errors  []wireError `json:"errors"`
}

// decodeSaveResults reads the results of n records.
func decodeSaveResults(body []byte, n int) ([]SaveResult, error) {
	wire := make([]wireSave, 0, n)
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, err
	}
	if len(wire) != n {
		return nil, fmt.Errorf("%d results for %d records", len(wire), n)
	}
	results := make([]SaveResult, n)
	for i := range wire {
		w := &wire[i]
		results[i] = SaveResult{ID: w.ID, Success: w.Success, Created: w.Created}
		if len(w.Errors) == 0 {
			continue
		}
		rows := make([]RowError, len(w.Errors))
		for j := range w.Errors {
			rows[j] = RowError{Code: w.Errors[j].code(), Message: w.Errors[j].message(), Fields: w.Errors[j].Fields, Found: w.Errors[j].found()}
		}
		results[i].Errors = rows
	}
	return results, nil
}
