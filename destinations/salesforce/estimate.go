package salesforce

import (
	"fmt"
	"strings"

	"coho/destinations"
	"coho/models"
	"coho/planner"
)

// jobCalls is about what one Bulk API 2.0 job costs in API calls, whatever its
// rows: create, upload, close, some polls and three result files.
const jobCalls = 12

// route is which API carries a sync's operations.
type route struct {
	rest, bulk bool   // allowed
	why        string // why only one is, where that is so
}

// routes decides which APIs the sync's options allow.
func routes(w *models.Write) route {
	switch rule := strings.ToUpper(w.AssignmentRule); {
	case w.IngestionAPI == "rest":
		return route{rest: true, why: `ingestion_api = "rest"`}
	case w.IngestionAPI == "bulk":
		return route{bulk: true, why: `ingestion_api = "bulk"`}
	case w.AllowDuplicates:
		return route{rest: true, why: "allow_duplicates is a header that Bulk API 2.0 does not have"}
	case rule == "TRUE" || rule == "FALSE":
		return route{rest: true, why: "assignment_rule without a rule's Id is a header that Bulk API 2.0 does not have"}
	case w.ConcurrencyMode == "serial":
		return route{rest: true, why: `Bulk API 2.0 has no concurrency_mode = "serial"`}
	}
	return route{rest: true, bulk: true}
}

// restBatch is how many records a Collections call carries.
func restBatch(w *models.Write) int64 {
	if w.RESTBatchSize > 0 && w.RESTBatchSize <= 200 {
		return int64(w.RESTBatchSize)
	}
	return 200
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// bulkFrom is the least number of operations of one kind in a pass that is
// sent in a bulk job where both APIs are allowed: where Collections would cost
// more calls than a job.
func bulkFrom(w *models.Write) int64 { return jobCalls*restBatch(w) + 1 }

// jobsFor is how many jobs carry n rows of bytes in all.
func jobsFor(w *models.Write, n, bytes int64) int64 {
	jobs := max(1, ceilDiv(bytes, maxJobBytes), ceilDiv(n, maxJobRows))
	if w.BulkBatchSize > 0 {
		jobs = max(jobs, ceilDiv(n, int64(w.BulkBatchSize)))
	}
	return jobs
}

// estimate is what sending a plan would cost. It takes operations of one pass
// as one kind, as nearly all passes are, and leaves out what cannot be foreseen:
// retries, and queries for records and references that are not known yet.
func estimate(w *models.Write, s planner.Summary) destinations.Estimate {
	r := routes(w)
	var e destinations.Estimate
	var all, rest, bulk int64
	for _, n := range s.PassOperations {
		all += n
	}
	for _, n := range s.PassOperations {
		if n == 0 {
			continue
		}
		if r.bulk && (!r.rest || n >= bulkFrom(w)) {
			jobs := jobsFor(w, n, int64(float64(s.Bytes)*float64(n)/float64(all)))
			e.BulkJobs += jobs
			e.APICalls += jobs * jobCalls
			bulk += n
			continue
		}
		e.APICalls += ceilDiv(n, restBatch(w))
		rest += n
	}
	switch {
	case all == 0:
		e.Choice = "nothing to send"
	case r.why != "" && r.rest:
		e.Choice = fmt.Sprintf("sObject Collections, %d records a call: %s", restBatch(w), r.why)
	case r.why != "":
		e.Choice = "Bulk API 2.0: " + r.why
	case bulk == 0:
		e.Choice = fmt.Sprintf("sObject Collections, %d records a call: no more calls than a bulk job costs for up to %d operations a pass", restBatch(w), bulkFrom(w)-1)
	case rest == 0:
		e.Choice = fmt.Sprintf("Bulk API 2.0: %d operations cost fewer calls in jobs than %d by sObject Collections", bulk, ceilDiv(bulk, restBatch(w)))
	default:
		e.Choice = fmt.Sprintf("Bulk API 2.0 for the passes of %d operations and more, sObject Collections for the others, by the calls that each costs", bulkFrom(w))
	}
	return e
}
