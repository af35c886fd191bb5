package api

import "time"

// The operations of an ingest job.
const (
	OpInsert     = "insert"
	OpUpdate     = "update"
	OpUpsert     = "upsert"
	OpDelete     = "delete"
	OpHardDelete = "hardDelete"
)

// The states of a job.
const (
	StateOpen           = "Open"
	StateUploadComplete = "UploadComplete"
	StateInProgress     = "InProgress"
	StateJobComplete    = "JobComplete"
	StateFailed         = "Failed"
	StateAborted        = "Aborted"
)

// MaxUploadBytes is the size of the CSV that one ingest job takes: 150 MB once
// base64-encoded by the org, so 100 MB of data (Bulk API 2.0 Developer Guide,
// "Upload Job Data").
const MaxUploadBytes = 100_000_000

// IngestJob is a Bulk API 2.0 ingest job to create. Its data is CSV, delimited
// by commas, with LF line endings.
type IngestJob struct {
	Object           string
	Operation        string // OpInsert, OpUpdate, OpUpsert, OpDelete or OpHardDelete
	ExternalIDField  string // upsert only
	AssignmentRuleID string
}

// JobInfo is a job as the org reports it, ingest and query alike.
type JobInfo struct {
	ID, Object, Operation, State string
	ExternalIDField              string
	ErrorMessage                 string
	// RecordsProcessed counts failed records too; in a Failed or Aborted job
	// it may count unprocessed ones.
	RecordsProcessed, RecordsFailed int64
	Retries                         int64
	TotalProcessingTime             time.Duration
	CreatedDate                     string
	APIVersion                      string
}

// Terminal reports whether the job has ended, well or not.
func (j JobInfo) Terminal() bool {
	return j.State == StateJobComplete || j.State == StateFailed || j.State == StateAborted
}

// Poll says how to wait for a job. The zero value starts at 250 ms and backs
// off to 30 s.
type Poll struct {
	Start time.Duration // the first pause
	Cap   time.Duration // the longest pause
	// OnPoll, where set, sees each state that was read.
	OnPoll func(JobInfo)
}
