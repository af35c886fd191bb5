package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
)

var errNot = errors.New("not built yet")

type Client struct{ cfg Config }

type Identity struct{ OrgID, UserID, Username string }
type Usage struct{ Calls, Limit, Remaining int64 }
type Limit struct{ Max, Remaining int64 }

func New(cfg Config) (*Client, error)                                          { return &Client{cfg: cfg}, nil }
func (c *Client) Close() error                                                 { return nil }
func (c *Client) Identity(ctx context.Context) (Identity, error)               { return Identity{}, errNot }
func (c *Client) Usage() Usage                                                 { return Usage{} }
func (c *Client) Limits(ctx context.Context) (map[string]Limit, error)         { return nil, errNot }
func (c *Client) Objects(ctx context.Context) ([]ObjectInfo, error)            { return nil, errNot }
func (c *Client) Describe(ctx context.Context, object string) (*Object, error) { return nil, errNot }
func (o *Object) Field(name string) (*Field, bool)                             { return nil, false }
func (c *Client) Query(ctx context.Context, soql string) (*QueryResult, error) { return nil, errNot }

type QueryResult struct{}

func (q *QueryResult) Next() bool       { return false }
func (q *QueryResult) Record() *Record  { return nil }
func (q *QueryResult) TotalSize() int64 { return 0 }
func (q *QueryResult) Err() error       { return errNot }
func (q *QueryResult) Close() error     { return nil }

type Record struct{}

// Get gives a field's text by its path ("Account.Name", any case); null for a null or absent field.
func (r *Record) Get(path string) (text string, null bool) { return "", true }

// Raw gives a field's JSON, nil where absent. JSON is the whole record.
func (r *Record) Raw(path string) json.RawMessage { return nil }
func (r *Record) JSON() json.RawMessage           { return nil }

func (c *Client) CreateRecords(ctx context.Context, records [][]byte, o CollectionOptions) ([]SaveResult, error) {
	return nil, errNot
}
func (c *Client) UpdateRecords(ctx context.Context, records [][]byte, o CollectionOptions) ([]SaveResult, error) {
	return nil, errNot
}
func (c *Client) UpsertRecords(ctx context.Context, object, externalIDField string, records [][]byte, o CollectionOptions) ([]SaveResult, error) {
	return nil, errNot
}
func (c *Client) DeleteRecords(ctx context.Context, ids []string) ([]SaveResult, error) {
	return nil, errNot
}

func (c *Client) CreateJob(ctx context.Context, job IngestJob) (JobInfo, error) {
	return JobInfo{}, errNot
}
func (c *Client) UploadJob(ctx context.Context, id string, body func() (io.ReadCloser, error)) error {
	return errNot
}
func (c *Client) CloseJob(ctx context.Context, id string) (JobInfo, error) { return JobInfo{}, errNot }
func (c *Client) AbortJob(ctx context.Context, id string) (JobInfo, error) { return JobInfo{}, errNot }
func (c *Client) Job(ctx context.Context, id string) (JobInfo, error)      { return JobInfo{}, errNot }
func (c *Client) DeleteJob(ctx context.Context, id string) error           { return errNot }
func (c *Client) WaitJob(ctx context.Context, id string, poll Poll) (JobInfo, error) {
	return JobInfo{}, errNot
}

type CSVResults struct{}

func (r *CSVResults) Header() []string { return nil }
func (r *CSVResults) Next() bool       { return false }
func (r *CSVResults) Row() []string    { return nil }
func (r *CSVResults) Err() error       { return errNot }
func (r *CSVResults) Close() error     { return nil }

func (c *Client) SuccessfulResults(ctx context.Context, id string) (*CSVResults, error) {
	return nil, errNot
}
func (c *Client) FailedResults(ctx context.Context, id string) (*CSVResults, error) {
	return nil, errNot
}
func (c *Client) UnprocessedRecords(ctx context.Context, id string) (*CSVResults, error) {
	return nil, errNot
}

func (c *Client) CreateQueryJob(ctx context.Context, soql string) (JobInfo, error) {
	return JobInfo{}, errNot
}
func (c *Client) QueryJob(ctx context.Context, id string) (JobInfo, error) { return JobInfo{}, errNot }
func (c *Client) WaitQueryJob(ctx context.Context, id string, poll Poll) (JobInfo, error) {
	return JobInfo{}, errNot
}
func (c *Client) QueryResults(ctx context.Context, id string) (*CSVResults, error) {
	return nil, errNot
}
func (c *Client) AbortQueryJob(ctx context.Context, id string) (JobInfo, error) {
	return JobInfo{}, errNot
}
func (c *Client) DeleteQueryJob(ctx context.Context, id string) error { return errNot }

func Classify(code, message string) Class { return RowFault }
func Explain(code string) string          { return "" }
func (e *Error) Error() string            { return e.Op }
func (e *Error) Unwrap() error            { return e.Err }

func QuoteSOQL(s string) string                                              { return s }
func InChunks(prefix, suffix string, values []string, maxBytes int) []string { return nil }

// ParseResultError reads a failedResults sf__Error cell.
func ParseResultError(cell string) RowError { return RowError{Message: cell} }
