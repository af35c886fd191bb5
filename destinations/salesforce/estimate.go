package salesforce

import (
	"fmt"
	"math"
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
	tight      bool   // the org has few calls left today
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
	if t.event {
		return route{rest: true, cause: "platform events", why: "platform events, whose EventUuid no bulk job tells"}
	}
	if t.keyless {
		return route{bulk: true, bulk1: true, why: "no mapped field carries the primary key, and no other API says what became of an insert whose answer was lost"}
	}
	r := routes(&t.sync.Write)
	left := t.client.Usage().Remaining
	r.tight = left >= 0 && left < tightCalls
	return r
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

// cost is what sending a pass by one of the APIs would take.
type cost struct {
	api     string
	calls   int64
	jobs    int64
	seconds float64 // for comparison: orgs differ much in how long a row takes
}

// How long an org takes, in seconds, by which the APIs are compared: figures of
// a middling org, whose automation takes a millisecond a row.
const (
	secondsACall = 0.3   // a Collections call, whatever its rows
	secondsARow  = 0.005 // a row of a Collections call; a call's rows go one by one
	secondsAJob  = 8     // until a job's first rows are worked on, and its results are there
	secondsABulk = 0.001 // a row of a job, whose batches go side by side
)

// restCost is what n rows cost by sObject Collections.
func restCost(r route, w *models.Write, n int64) cost {
	calls := batchesFor(r, w, n, restBatch(w), laneCalls)
	side := int64(1)
	if w.ConcurrencyMode != "serial" {
		side = min(int64(parallelism(w)), max(1, calls))
	}
	each := secondsACall + secondsARow*float64(min(n, restBatch(w)))
	return cost{api: "sObject Collections", calls: calls, seconds: float64(ceilDiv(calls, side)) * each}
}

// bulkCost is what n rows of bytes in all cost by the sync's Bulk API.
func bulkCost(r route, w *models.Write, n, bytes int64) cost {
	c := cost{api: r.name(), seconds: secondsAJob + secondsABulk*float64(n)}
	if w.ConcurrencyMode == "serial" {
		c.seconds = secondsAJob + secondsARow*float64(n)
	}
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
		c.calls, c.jobs = batchJobCalls+batchCalls*pieces+ceilDiv(pieces, int64(parallelism(w))), 1
		return c
	}
	c.calls, c.jobs = jobCalls*pieces, pieces
	return c
}

// choose is the better of two costs: the one of fewer calls, or the sooner one
// where it takes no more than spare calls beyond that.
func choose(a, b cost, spare int64) cost {
	if a.calls > b.calls || a.calls == b.calls && a.seconds > b.seconds {
		a, b = b, a
	}
	if b.seconds < a.seconds && b.calls-a.calls <= spare {
		return b
	}
	return a
}

// tightCalls is how few remaining calls of the day make an org one whose every
// call counts.
const tightCalls = 1000

// spare is how many calls are given for an earlier end.
func (r route) spare() int64 {
	if r.tight {
		return 0
	}
	return spareCalls
}

// passCost is what a pass of n rows costs by the API that it goes by.
func passCost(r route, w *models.Write, n, bytes int64) cost {
	switch {
	case !r.bulk:
		return restCost(r, w, n)
	case !r.rest:
		return bulkCost(r, w, n, bytes)
	case n >= bulkFrom(r, w):
		return bulkCost(r, w, n, bytes)
	}
	return restCost(r, w, n)
}

// bulkFrom is the least number of operations of one kind in a pass that is sent
// in a bulk job where both APIs are allowed. A pass is sent while it is read, so
// the choice is made by one number: from so many rows on, choose takes the job.
func bulkFrom(r route, w *models.Write) int64 {
	r.lanes = false
	from := int64(1)
	for step := int64(1) << 20; step > 0; step /= 2 {
		if rest := restCost(r, w, from+step-1); choose(rest, bulkCost(r, w, from+step-1, 0), r.spare()).api == rest.api {
			from += step
		}
	}
	return from
}

func parallelism(w *models.Write) int {
	if w.Parallelism > 0 {
		return w.Parallelism
	}
	return defaultParallelism
}

// uneven is by how much of a lane's rows lanes differ, for each lane there is:
// parents are dealt to them in groups of one in lockGroups, the largest first.
const uneven = 0.5 / lockGroups

// batchesFor is how many batches of up to so many rows n rows go in. Lanes are much
// alike; where that leaves open how many batches they fill, half of them fill one
// more.
func batchesFor(r route, w *models.Write, n, most, each int64) int64 {
	count := int64(1)
	if r.lanes {
		count = int64(laneCount(parallelism(w), n, most, each))
	}
	if count == 1 {
		return ceilDiv(n, most)
	}
	lane, spread := float64(n)/float64(count*most), uneven*float64(count)
	fewest, largest := math.Ceil(lane*(1-spread)), math.Ceil(lane*(1+spread))
	return int64(math.Ceil(float64(count) * (fewest + largest) / 2))
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
// are referenceCalls' part.
func (t *Target) lookUpCalls(r route, s planner.Summary) int64 {
	var all, finds int64
	for k, n := range s.Operations {
		all += n
		if t.compares(callOf(planner.Kind(k))) {
			continue // the comparison finds them
		}
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
	var all int64
	for _, n := range s.PassOperations {
		all += n
	}
	if all == 0 {
		e.Choice = "nothing to send"
		return e
	}
	share := func(n int64) int64 { return int64(float64(s.Bytes) * float64(n) / float64(all)) }
	var taken, other cost // of all passes: as they go, and by the API that each does not go by
	mixed := false
	for _, n := range s.PassOperations {
		if n == 0 {
			continue
		}
		c := passCost(r, w, n, share(n))
		mixed = mixed || taken.api != "" && taken.api != c.api
		taken = cost{c.api, taken.calls + c.calls, taken.jobs + c.jobs, taken.seconds + c.seconds}
		o := restCost(r, w, n)
		if c.api == o.api {
			o = bulkCost(r, w, n, share(n))
		}
		other = cost{o.api, other.calls + o.calls, other.jobs + o.jobs, other.seconds + o.seconds}
	}
	e.APICalls, e.BulkJobs = taken.calls, taken.jobs
	switch {
	case r.why != "" && r.rest:
		e.Choice = fmt.Sprintf("sObject Collections, %d records a call: %s", restBatch(w), r.why)
	case r.why != "":
		e.Choice = r.name() + ": " + r.why
	case mixed:
		e.Choice = fmt.Sprintf("%s for the passes of %d operations and more, sObject Collections for the others, by the calls that each costs", r.name(), bulkFrom(r, w))
	default:
		why := "fewer calls"
		if taken.calls >= other.calls {
			why = "it ends sooner, for hardly more calls"
		}
		if r.tight {
			why += ", of which the org has few left today"
		}
		e.Choice = fmt.Sprintf("%s: %s (%s; %s by %s)", taken.api, why, taken, other, other.api)
	}
	return e
}

// String is a cost as people read it.
func (c cost) String() string {
	calls := "calls"
	if c.calls == 1 {
		calls = "call"
	}
	return fmt.Sprintf("%d %s, about %.0f s", c.calls, calls, max(1, c.seconds))
}
