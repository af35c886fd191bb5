package emulator

import (
	"maps"
	"sync"
	"time"
)

// Counters are what clients have done since the org started or the counters
// were reset.
type Counters struct {
	Requests      int            `json:"requests"`    // of every kind
	APICalls      int            `json:"api_calls"`   // those that count against the daily limit
	Calls         map[string]int `json:"calls"`       // by kind, such as "bulk.upload"
	WriteCalls    int            `json:"write_calls"` // requests that ask for records to be written
	Records       WriteCounts    `json:"records"`
	Writes        int            `json:"writes"` // records written in all
	Polls         int            `json:"polls"`  // looks at the state of a Bulk job or batch
	BytesIn       int64          `json:"bytes_in"`
	BytesOut      int64          `json:"bytes_out"`
	MaxConcurrent int            `json:"max_concurrent"` // requests in progress at once
	JobsCreated   int            `json:"jobs_created"`

	// What the documentation asks of clients and some forget. They are of the
	// jobs there are now.
	JobsNeverClosed        int `json:"jobs_never_closed"`
	FailedResultsNeverRead int `json:"failed_results_never_read"`
	UnprocessedNeverRead   int `json:"unprocessed_never_read"`
}

type counting struct {
	mu   sync.Mutex
	c    Counters
	open map[*call]bool // whether it counts against the day's calls
}

// begin counts a request. It returns how many are in progress and how many API
// calls have been for as long as a long request takes.
func (n *counting) begin(c *call, counts bool, length time.Duration) (open, long int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kind := c.kind
	for other, api := range n.open {
		if api && c.at.Sub(other.at) >= length {
			long++
		}
	}
	n.c.Requests++
	if counts {
		n.c.APICalls++
	}
	if n.c.Calls == nil {
		n.c.Calls = map[string]int{}
	}
	n.c.Calls[kind]++
	switch kind {
	case "bulk.status", "bulk1.status", "bulk_query.status":
		n.c.Polls++
	case "bulk.create", "bulk1.create":
		n.c.JobsCreated++
		n.c.WriteCalls++
	case "rows.create", "rows.update", "rows.upsert", "rows.delete", "collections.create", "collections.update",
		"collections.upsert", "collections.delete", "composite", "composite.batch", "composite.tree", "composite.graph":
		n.c.WriteCalls++
	}
	if n.open == nil {
		n.open = map[*call]bool{}
	}
	n.open[c] = counts
	n.c.MaxConcurrent = max(n.c.MaxConcurrent, len(n.open))
	return len(n.open), long
}

// soap counts what a SOAP request turns out to call.
func (n *counting) soap(call string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.c.Calls == nil { // reset meanwhile
		n.c.Calls = map[string]int{}
	}
	n.c.Calls["soap."+call]++
	switch call {
	case "merge", "create", "update", "upsert", "delete", "convertLead":
		n.c.WriteCalls++
	}
}

func (n *counting) end(c *call, in, out int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
	n.c.BytesIn += in
	n.c.BytesOut += out
}

// Counters returns what clients have done so far.
func (s *Server) Counters() Counters {
	s.counting.mu.Lock()
	c := s.counting.c
	c.Calls = maps.Clone(c.Calls)
	s.counting.mu.Unlock()
	s.org.countMu.Lock()
	c.Records = s.org.writes
	s.org.countMu.Unlock()
	c.Writes = c.Records.total()
	s.jobs.audit(&c)
	return c
}

// ResetCounters sets the counters to nothing. Calls that were made still count
// against the daily limit.
func (s *Server) ResetCounters() {
	s.counting.mu.Lock()
	s.counting.c = Counters{}
	s.counting.mu.Unlock()
	s.org.countMu.Lock()
	s.org.writes = WriteCounts{}
	s.org.countMu.Unlock()
}
