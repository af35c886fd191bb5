package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// StateClosed is a state of Bulk API 1.0 jobs, beside StateOpen, StateAborted and
// StateFailed: no further batches are taken.
const StateClosed = "Closed"

// The states of a batch of a Bulk API 1.0 job (Bulk API Developer Guide, "Batch
// States").
const (
	BatchQueued       = "Queued"
	BatchInProgress   = "InProgress"
	BatchCompleted    = "Completed"
	BatchFailed       = "Failed"
	BatchNotProcessed = "NotProcessed"
)

// What one batch of a Bulk API 1.0 job takes (Developer Limits Quick Reference,
// "Bulk API Limits"); its 10,000,000 characters are never passed by as many
// bytes.
const (
	MaxBatchRows  = 10_000
	MaxBatchBytes = 10_000_000
)

// BatchJob is a Bulk API 1.0 job to create. Its batches are CSV, delimited by
// commas.
type BatchJob struct {
	Object           string
	Operation        string // OpInsert, OpUpdate, OpUpsert, OpDelete or OpHardDelete
	ExternalIDField  string // upsert only
	AssignmentRuleID string
	Serial           bool // the org works on one batch at a time of all its serial jobs
}

// BatchJobInfo is a Bulk API 1.0 job as the org reports it.
type BatchJobInfo struct {
	ID    string `xml:"id"`
	State string `xml:"state"` // StateOpen, StateClosed, StateAborted or StateFailed
}

// BatchInfo is a batch as the org reports it.
type BatchInfo struct {
	ID      string `xml:"id"`
	JobID   string `xml:"jobId"`
	State   string `xml:"state"`
	Message string `xml:"stateMessage"`
	// CreatedDate sorts as text.
	CreatedDate      string `xml:"createdDate"`
	RecordsProcessed int64  `xml:"numberRecordsProcessed"` // failed ones too
	RecordsFailed    int64  `xml:"numberRecordsFailed"`
}

// Ended reports whether the org has done with the batch, well or not.
func (b BatchInfo) Ended() bool {
	return b.State == BatchCompleted || b.State == BatchFailed || b.State == BatchNotProcessed
}

// wireBatchJob is a job as it is sent; the schema gives the order of its
// elements.
type wireBatchJob struct {
	XMLName          xml.Name `xml:"http://www.force.com/2009/06/asyncapi/dataload jobInfo"`
	Operation        string   `xml:"operation,omitempty"`
	Object           string   `xml:"object,omitempty"`
	State            string   `xml:"state,omitempty"`
	ExternalIDField  string   `xml:"externalIdFieldName,omitempty"`
	ConcurrencyMode  string   `xml:"concurrencyMode,omitempty"`
	ContentType      string   `xml:"contentType,omitempty"`
	AssignmentRuleID string   `xml:"assignmentRuleId,omitempty"`
}

// classic is a call of Bulk API 1.0, which answers in XML about CSV jobs.
func (c *Client) classic(op, method, tail string) *call {
	return &call{op: op, method: method, path: "/services/async/" + c.cfg.APIVersion + "/job" + tail, accept: "application/xml", classic: true}
}

func batchPath(job, batch string) string {
	return "/" + url.PathEscape(job) + "/batch/" + url.PathEscape(batch)
}

// control makes a call of a job document.
func (c *Client) control(r *call, doc *wireBatchJob) error {
	body, err := xml.Marshal(doc)
	if err != nil {
		return &Error{Op: r.op, Class: StopRun, Message: "the job could not be written as XML", Err: err}
	}
	r.contentType, r.body = "application/xml; charset=UTF-8", append([]byte(xml.Header), body...)
	return nil
}

// CreateBatchJob creates a Bulk API 1.0 job, which stays open for batches until
// CloseBatchJob, for a day at most. It is not repeated after a lost answer: the
// job that may then exist holds nothing.
func (c *Client) CreateBatchJob(ctx context.Context, job BatchJob) (BatchJobInfo, error) {
	r := c.classic("create a job to "+job.Operation+" "+job.Object, http.MethodPost, "")
	mode := "Parallel"
	if job.Serial {
		mode = "Serial"
	}
	err := c.control(r, &wireBatchJob{Operation: job.Operation, Object: job.Object, ExternalIDField: job.ExternalIDField,
		ConcurrencyMode: mode, ContentType: "CSV", AssignmentRuleID: job.AssignmentRuleID})
	if err != nil {
		return BatchJobInfo{}, err
	}
	return c.batchJob(ctx, r)
}

// BatchJob reads a Bulk API 1.0 job.
func (c *Client) BatchJob(ctx context.Context, id string) (BatchJobInfo, error) {
	r := c.classic("read job "+id, http.MethodGet, "/"+url.PathEscape(id))
	r.repeat = true
	return c.batchJob(ctx, r)
}

// CloseBatchJob makes a job take no further batches: afterwards the list of
// its batches is final. Those it has are worked on. A job that is past being
// open is returned as it is.
func (c *Client) CloseBatchJob(ctx context.Context, id string) (BatchJobInfo, error) {
	r := c.classic("close job "+id, http.MethodPost, "/"+url.PathEscape(id))
	r.repeat = true
	if err := c.control(r, &wireBatchJob{State: StateClosed}); err != nil {
		return BatchJobInfo{}, err
	}
	job, err := c.batchJob(ctx, r)
	// A request whose answer was lost has perhaps done its work, and is then
	// refused when it is sent again: the job itself says.
	if e, ok := err.(*Error); ok && (e.Status == http.StatusBadRequest || e.Unknown) {
		if now, readErr := c.BatchJob(ctx, id); readErr == nil && now.State != StateOpen {
			return now, nil
		}
	}
	return job, err
}

// AddBatch adds a batch of CSV, compressed, to an open job; the org begins it
// at once. It is not repeated: whether a batch whose answer was lost arrived is
// seen from Batches. body is opened again only where the session had expired.
func (c *Client) AddBatch(ctx context.Context, job string, body func() (io.ReadCloser, error)) (BatchInfo, error) {
	r := c.classic("add a batch to job "+job, http.MethodPost, "/"+url.PathEscape(job)+"/batch")
	r.contentType, r.open = "text/csv; charset=UTF-8", body
	a, err := c.do(ctx, r)
	if err != nil {
		return BatchInfo{}, err
	}
	var b BatchInfo
	if err := xml.Unmarshal(a.body, &b); err != nil || b.ID == "" {
		return BatchInfo{}, garbled(r, a, err)
	}
	return b.clean(), nil
}

// Batches lists a job's batches.
func (c *Client) Batches(ctx context.Context, job string) ([]BatchInfo, error) {
	r := c.classic("list the batches of job "+job, http.MethodGet, "/"+url.PathEscape(job)+"/batch")
	r.repeat = true
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var list struct {
		XMLName xml.Name    `xml:"batchInfoList"`
		Batches []BatchInfo `xml:"batchInfo"`
	}
	if err := xml.Unmarshal(a.body, &list); err != nil {
		return nil, garbled(r, a, err)
	}
	for i := range list.Batches {
		if list.Batches[i].ID == "" {
			return nil, garbled(r, a, nil)
		}
		list.Batches[i] = list.Batches[i].clean()
	}
	return list.Batches, nil
}

// clean takes out of a state the spaces that some of the guide's pages write.
func (b BatchInfo) clean() BatchInfo {
	b.State = strings.ReplaceAll(b.State, " ", "")
	b.Message = oneLine(b.Message)
	return b
}

// BatchResults reads what became of a batch that has ended: Id, Success,
// Created and Error, a row for each row of the batch and in its order (Bulk API
// Developer Guide, "Get Batch Results").
func (c *Client) BatchResults(ctx context.Context, job, batch string) (*CSVResults, error) {
	r := c.classic("read the results of batch "+batch, http.MethodGet, batchPath(job, batch)+"/result")
	return c.classicResults(ctx, r)
}

// BatchDigest reads a batch's rows back as they were sent, and returns their
// DigestCSV.
func (c *Client) BatchDigest(ctx context.Context, job, batch string) (string, error) {
	r := c.classic("read the rows of batch "+batch, http.MethodGet, batchPath(job, batch)+"/request")
	r.repeat, r.stream, r.accept = true, true, "text/csv"
	a, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	digest, err := DigestCSV(a.stream)
	if x, ok := a.stream.(*exchange); ok && err != nil && x.readErr == nil {
		x.readErr = err
	}
	_ = a.stream.Close()
	if err != nil {
		return "", &Error{Op: r.op, Class: Wait, Message: "the rows could not be read to their end", Err: err}
	}
	return digest, nil
}

func (c *Client) classicResults(ctx context.Context, request *call) (*CSVResults, error) {
	r := &CSVResults{client: c, ctx: ctx, op: request.op, path: request.path, classic: true}
	if err := r.open(""); err != nil {
		return nil, err
	}
	return r, nil
}

// DigestCSV is a hash of a CSV text's cells, in hexadecimal. How the cells are
// quoted and the lines end does not matter to it, since the org may write a text
// in another way than it came.
func DigestCSV(r io.Reader) (string, error) {
	rows := newCSVReader(r)
	sum := sha256.New()
	var buf bytes.Buffer
	var size [binary.MaxVarintLen64]byte
	for {
		row, err := rows.read()
		if err == io.EOF {
			return hex.EncodeToString(sum.Sum(nil)[:12]), nil
		}
		if err != nil {
			return "", fmt.Errorf("read CSV: %w", err)
		}
		buf.Reset()
		buf.Write(binary.AppendUvarint(size[:0], uint64(len(row))))
		for _, cell := range row {
			buf.Write(binary.AppendUvarint(size[:0], uint64(len(cell))))
			buf.WriteString(cell)
		}
		sum.Write(buf.Bytes())
	}
}

func (c *Client) batchJob(ctx context.Context, r *call) (BatchJobInfo, error) {
	a, err := c.do(ctx, r)
	if err != nil {
		return BatchJobInfo{}, err
	}
	var job BatchJobInfo
	if err := xml.Unmarshal(a.body, &job); err != nil || job.ID == "" || job.State == "" {
		return BatchJobInfo{}, garbled(r, a, err)
	}
	return job, nil
}
