package salesforce

import (
	"fmt"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// What the APIs cost in calls.
const (
	// jobCalls is what one Bulk API 2.0 job costs, whatever its rows: create,
	// upload, close, a poll and the file of accepted rows. A row that is
	// refused costs the file of those too, and an org that is slower than it
	// could be, further polls.
	jobCalls = 5

	// batchJobCalls is what a Bulk API 1.0 job costs beside its batches: create
	// and close. batchCalls is what each batch adds: its rows and its results.
	// As many batches as are in flight together share a poll.
	batchJobCalls = 2
	batchCalls    = 2

	// spareCalls is what a job may cost more than it should: polls where it
	// has to wait its turn. Collections, which answer at once, are preferred
	// up to that.
	spareCalls = 7
)

// route is which API carries a sync's operations.
type route struct {
	rest, bulk bool   // allowed
	bulk1      bool   // bulk is Bulk API 1.0
	cause      string // the option by which only one is, as in the config
	why        string // why only one is, where that is so
	lanes      bool   // rows of one parent are kept apart
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
	calls := int64(jobCalls + spareCalls)
	if r.bulk1 {
		calls = batchJobCalls + batchCalls + 1 + spareCalls
	}
	return calls*restBatch(w) + 1
}

func parallelism(w *models.Write) int {
	if w.Parallelism > 0 {
		return w.Parallelism
	}
	return defaultParallelism
}

// batchesFor is how many batches of up to so many rows n rows go in. Each lane
// but one leaves half a batch unfilled, as things go.
func batchesFor(r route, w *models.Write, n, most, each int64) int64 {
	spare := int64(0)
	if r.lanes {
		spare = (int64(laneCount(parallelism(w), n, most, each)) - 1) * most / 2
	}
	return ceilDiv(n+spare, most)
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
		pieces = max(pieces, batchesFor(r, w, n, most, laneBatches))
		return batchJobCalls + batchCalls*pieces + ceilDiv(pieces, int64(parallelism(w))), 1
	}
	return jobCalls * pieces, pieces
}

// lookUps is how many queries find the records of n rows of a pass by literals
// of so many bytes, where at once are looked up together.
func lookUps(n, at, bytes int64) int64 {
	each := min(800, max(1, 12_000/(bytes+9))) // api.InLiterals: a quote and a comma take three bytes
	return n/at*ceilDiv(at, each) + ceilDiv(n%at, each)
}

// lookUpCalls is what finding records costs that no earlier run wrote: those to
// update or delete by a match that is not their Id, and, where fields are sent
// only to new records, those to upsert. Queries for the references of a mapping
// are left out: how many distinct ones there are is not known.
func (t *Target) lookUpCalls(r route, s planner.Summary) int64 {
	var all, finds int64
	for k, n := range s.Operations {
		all += n
		switch callOf(planner.Kind(k)) {
		case callUpdate, callDelete:
			if t.match != nil && !t.match.isID() {
				finds += n
			}
		case callUpsert:
			if t.hasCreateOnly {
				finds += n
			}
		}
	}
	unknown := min(finds, max(0, all-s.Known))
	if unknown == 0 || len(s.Samples) == 0 {
		return 0
	}
	var bytes int64
	for _, sample := range s.Samples {
		bytes += int64(len(strings.Join(sample.Key, "")))
	}
	var calls int64
	for _, n := range s.PassOperations {
		at := restBatch(&t.sync.Write)
		if r.bulk && (!r.rest || n >= bulkFrom(r, &t.sync.Write)) {
			at = prepareRows
		}
		calls += lookUps(int64(float64(unknown)*float64(n)/float64(all)), at, bytes/int64(len(s.Samples))+6)
	}
	return calls
}

// estimate is what sending a plan would cost. It takes operations of one pass
// as one kind, as nearly all passes are, and leaves out what cannot be foreseen,
// such as retries.
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
		e.APICalls += batchesFor(r, w, n, restBatch(w), laneCalls)
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
