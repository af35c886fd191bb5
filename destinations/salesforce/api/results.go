package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// SuccessfulResults reads what an ingest job wrote: sf__Id, sf__Created and the
// columns that were uploaded. The rows are in no order, and the org may have
// rendered their values anew (Bulk API 2.0 Developer Guide, "Get Job
// Successful Record Results").
func (c *Client) SuccessfulResults(ctx context.Context, id string) (*CSVResults, error) {
	return c.results(ctx, "read the successful results of job "+id, c.jobPath(ingestPath, id)+"/successfulResults/")
}

// FailedResults reads the rows that an ingest job refused: sf__Id, sf__Error
// (see ParseResultError) and the columns that were uploaded.
func (c *Client) FailedResults(ctx context.Context, id string) (*CSVResults, error) {
	return c.results(ctx, "read the failed results of job "+id, c.jobPath(ingestPath, id)+"/failedResults/")
}

// UnprocessedRecords reads the rows that an ingest job did not come to, which
// happens in jobs that failed or were aborted: the uploaded columns alone.
func (c *Client) UnprocessedRecords(ctx context.Context, id string) (*CSVResults, error) {
	return c.results(ctx, "read the unprocessed records of job "+id, c.jobPath(ingestPath, id)+"/unprocessedrecords/")
}

// QueryResults reads what a query job found, at most so many rows a call (0: as many
// as the org likes). A null is an empty cell.
func (c *Client) QueryResults(ctx context.Context, id string, rows int) (*CSVResults, error) {
	r := &CSVResults{client: c, ctx: ctx, op: "read the results of query job " + id, path: c.jobPath(queryPath, id) + "/results", most: rows}
	if err := r.open(""); err != nil {
		return nil, err
	}
	return r, nil
}

// CSVResults is a result file, a row at a time as it arrives. It is used by one
// goroutine, and must be closed.
type CSVResults struct {
	client  *Client
	ctx     context.Context // bounds the pages still to be asked for
	op      string
	path    string
	classic bool // of Bulk API 1.0
	most    int  // rows a page, 0: the org decides

	header  []string
	page    io.ReadCloser
	csv     *csvReader
	locator string // of the page that follows, "" at the end
	promise int64  // rows that the page's headers announce, -1 unknown
	rows    int64  // rows read of the page
	row     []string
	err     error
}

func (c *Client) results(ctx context.Context, op, path string) (*CSVResults, error) {
	r := &CSVResults{client: c, ctx: ctx, op: op, path: path}
	if err := r.open(""); err != nil {
		return nil, err
	}
	return r, nil
}

// open asks for a page and reads its header row.
func (r *CSVResults) open(locator string) error {
	request := &call{op: r.op, method: http.MethodGet, path: r.path, accept: "text/csv", repeat: true, stream: true, classic: r.classic}
	query := url.Values{}
	if locator != "" {
		query.Set("locator", locator)
	}
	if r.most > 0 {
		query.Set("maxRecords", strconv.Itoa(r.most))
	}
	request.query = query.Encode()
	a, err := r.client.do(r.ctx, request)
	if err != nil {
		return err
	}
	next := a.header.Get("Sforce-Locator")
	if strings.EqualFold(next, "null") {
		next = ""
	}
	r.page, r.csv, r.locator, r.rows, r.promise = a.stream, newCSVReader(a.stream), next, 0, -1
	if n, err := strconv.ParseInt(a.header.Get("Sforce-NumberOfRecords"), 10, 64); err == nil && n >= 0 {
		r.promise = n
	}
	if next != "" && next == locator {
		return r.fail(errors.New("the page names itself as the next"))
	}
	header, err := r.csv.read()
	switch {
	case err == io.EOF:
		return nil // a file without rows may lack its header too
	case err != nil:
		return r.fail(err)
	case len(header) > 0 && strings.HasPrefix(header[0], "<"):
		return r.fail(errors.New("a page of HTML came instead of CSV"))
	case r.header == nil:
		r.header = slices.Clone(header)
	case !slices.Equal(header, r.header):
		return r.fail(errors.New("a later page has other columns than the first"))
	}
	return nil
}

// fail ends the reading with an error.
func (r *CSVResults) fail(err error) error {
	if x, ok := r.page.(*exchange); ok && x.readErr == nil {
		x.readErr = err
	}
	e := &Error{Op: r.op, Class: Wait, Message: "the results could not be read to their end", Err: err}
	if cause := context.Cause(r.ctx); cause != nil {
		e.Err = cause
	}
	r.err = e
	_ = r.Close()
	return e
}

// Header is the names of the columns; nil where the file was empty.
func (r *CSVResults) Header() []string { return r.header }

// Next moves to the next row. It reports false at the end of the last page, and
// when a page ended early: see Err.
func (r *CSVResults) Next() bool {
	for r.err == nil && r.page != nil {
		row, err := r.csv.read()
		switch {
		case err == nil && len(row) != len(r.header):
			_ = r.fail(fmt.Errorf("row %d has %d cells under %d columns", r.rows+1, len(row), len(r.header)))
			return false
		case err == nil:
			r.row = row
			r.rows++
			return true
		case err != io.EOF:
			_ = r.fail(err)
			return false
		case r.promise >= 0 && r.promise != r.rows:
			_ = r.fail(fmt.Errorf("the page held %d rows of the %d it announced: %w", r.rows, r.promise, io.ErrUnexpectedEOF))
			return false
		}
		_ = r.Close()
		if r.locator == "" {
			return false
		}
		if err := r.open(r.locator); err != nil {
			r.err = err
		}
	}
	return false
}

// Row is the current row, valid until the next call of Next.
func (r *CSVResults) Row() []string { return r.row }

// Err is the error that ended the rows early. The rows before it stand; the
// results can be read again from the beginning.
func (r *CSVResults) Err() error { return r.err }

// Close ends the reading. It is safe twice.
func (r *CSVResults) Close() error {
	if r.page == nil {
		return nil
	}
	if x, ok := r.page.(*exchange); ok {
		x.rows.Store(r.rows)
	}
	err := r.page.Close()
	r.page = nil
	return err
}

// ParseResultError reads an sf__Error cell, "CODE:message:Field1,Field2 --",
// whose message may hold colons and line breaks itself.
func ParseResultError(cell string) RowError {
	text := strings.TrimSpace(cell)
	code, rest, found := strings.Cut(text, ":")
	if !found || !isCode(code) {
		return RowError{Message: text}
	}
	rest, marked := strings.CutSuffix(rest, "--")
	if !marked {
		return RowError{Code: code, Message: strings.TrimSpace(rest)}
	}
	e := RowError{Code: code, Message: strings.TrimSpace(rest)}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		e.Message = strings.TrimSpace(rest[:i])
		for name := range strings.SplitSeq(rest[i+1:], ",") {
			if name = strings.TrimSpace(name); name != "" {
				e.Fields = append(e.Fields, name)
			}
		}
	}
	return e
}

// isCode reports a text of the form that error codes have.
func isCode(text string) bool {
	if text == "" {
		return false
	}
	for i := range len(text) {
		if ch := text[i]; ch != '_' && (ch < 'A' || ch > 'Z') && (ch < '0' || ch > '9') {
			return false
		}
	}
	return true
}
