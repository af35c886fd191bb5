package salesforce

import (
	"fmt"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// What the APIs cost in calls, whatever the number of rows.
const (
	// jobCalls is about what one Bulk API 2.0 job costs: create, upload,
	// close, some polls and three result files.
	jobCalls = 12

	// batchJobCalls is about what a Bulk API 1.0 job costs beside its batches:
	// create, close and some polls. batchCalls is what each batch adds: its
	// rows and its results.
	batchJobCalls = 10
	batchCalls    = 2
)

// route is which API carries a sync's operations.
type route struct {
	rest, bulk bool   // allowed
	bulk1      bool   // bulk is Bulk API 1.0
	cause      string // the option by which only one is, as in the config
	why        string // why only one is, where that is so
}

// name is the bulk API's.
func (r route) name() string {
	if r.bulk1 {
		return "Bulk API 1.0"
	}
	return "Bulk API 2.0"
}

// routes decides which APIs the sync's options allow.
func routes(w *models.Write) route {
	r := route{rest: true, bulk: true, bulk1: w.BulkAPIVersion == "1.0"}
	only := func(cause, why string) route {
		return route{rest: true, bulk1: r.bulk1, cause: cause, why: cause + why}
	}
	switch rule := strings.ToUpper(w.AssignmentRule); {
	case w.IngestionAPI == "rest":
		return only(`ingestion_api = "rest"`, "")
	case w.IngestionAPI == "bulk":
		return route{bulk: true, bulk1: r.bulk1, why: `ingestion_api = "bulk"`}
	case w.AllowDuplicates:
		return only("allow_duplicates", " is a header that the Bulk APIs do not have")
	case rule == "TRUE" || rule == "FALSE":
		return only("assignment_rule", " without a rule's Id is a header that the Bulk APIs do not have")
	case w.ConcurrencyMode == "serial" && !r.bulk1:
		return only(`concurrency_mode = "serial"`, " is nothing that Bulk API 2.0 has")
	}
	return r
}

// route is how the sync's operations go.
func (t *Target) route() route {
	if t.keyless {
		return route{bulk: true, bulk1: true, why: "no mapped field carries the primary key, and no other API says what became of an insert whose answer was lost"}
	}
	return routes(&t.sync.Write)
}

func (t *Target) bulk1() bool { return t.route().bulk1 }

func (t *Target) serial() bool { return t.sync.Write.ConcurrencyMode == "serial" }

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
func bulkFrom(r route, w *models.Write) int64 {
	calls := int64(jobCalls)
	if r.bulk1 {
		calls = batchJobCalls + batchCalls
	}
	return calls*restBatch(w) + 1
}

// bulkCost is how many calls and jobs n rows of bytes in all cost.
func bulkCost(r route, w *models.Write, n, bytes int64) (calls, jobs int64) {
	most, size := int64(maxJobRows), int64(maxJobBytes)
	if r.bulk1 {
		most, size = api.MaxBatchRows, api.MaxBatchBytes
	}
	if w.BulkBatchSize > 0 {
		most = min(most, int64(w.BulkBatchSize))
	}
	pieces := max(1, ceilDiv(bytes, size), ceilDiv(n, most))
	if r.bulk1 {
		return batchJobCalls + batchCalls*pieces, 1
	}
	return jobCalls * pieces, pieces
}

// estimate is what sending a plan would cost. It takes operations of one pass
// as one kind, as nearly all passes are, and leaves out what cannot be foreseen:
// retries, and queries for records and references that are not known yet.
func estimate(r route, w *models.Write, s planner.Summary) destinations.Estimate {
	var e destinations.Estimate
	var all, rest, bulk int64
	for _, n := range s.PassOperations {
		all += n
	}
	for _, n := range s.PassOperations {
		if n == 0 {
			continue
		}
		if r.bulk && (!r.rest || n >= bulkFrom(r, w)) {
			calls, jobs := bulkCost(r, w, n, int64(float64(s.Bytes)*float64(n)/float64(all)))
			e.BulkJobs += jobs
			e.APICalls += calls
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
		e.Choice = r.name() + ": " + r.why
	case bulk == 0:
		e.Choice = fmt.Sprintf("sObject Collections, %d records a call: no more calls than a bulk job costs for up to %d operations a pass", restBatch(w), bulkFrom(r, w)-1)
	case rest == 0:
		e.Choice = fmt.Sprintf("%s: %d operations cost fewer calls in jobs than %d by sObject Collections", r.name(), bulk, ceilDiv(bulk, restBatch(w)))
	default:
		e.Choice = fmt.Sprintf("%s for the passes of %d operations and more, sObject Collections for the others, by the calls that each costs", r.name(), bulkFrom(r, w))
	}
	return e
}
