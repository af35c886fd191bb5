package emulator

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault makes the org misbehave on demand. It acts on requests when Status,
// Delay, a cut or ExpireSession is set, on the rows of writes when RowCode is
// set, and on Bulk jobs when FailJob is set; one fault may do all three.
type Fault struct {
	// Match selects calls: a kind ("collections", "bulk", "bulk.upload",
	// "query", "token", ... see Counters.Calls), which covers the kinds below it
	// ("bulk" covers "bulk.upload"), or part of "METHOD /path". For rows and
	// jobs it is part of "KIND OPERATION OBJECT", such as "collections upsert
	// Account" or "bulk update Contact". Empty matches everything.
	Match string `json:"match"`
	// Times is how many requests (or jobs) it acts on: 0 is once, -1 for ever.
	// For rows it is how many rows fail in all, 0 and -1 being no limit.
	Times int `json:"times"`
	After int `json:"after"` // the first so many matching requests are spared
	// Over, when set, spares requests while no more than so many are in progress.
	Over int `json:"over"`

	Status        int           `json:"status"` // HTTP status of the answer; the request is not carried out
	Code          string        `json:"code"`   // its errorCode
	Message       string        `json:"message"`
	Delay         time.Duration `json:"delay"`          // before the request is carried out; in JSON a text such as "50ms"
	CutBefore     bool          `json:"cut_before"`     // drop the connection instead of carrying it out
	CutAfter      bool          `json:"cut_after"`      // carry it out, then drop the connection without an answer
	ExpireSession bool          `json:"expire_session"` // every session issued so far ends as the request arrives

	RowCode    string  `json:"row_code"` // rows fail with this code
	RowMessage string  `json:"row_message"`
	RowShare   float64 `json:"row_share"` // this share of the rows, by chance; 0 is every row
	RowTries   int     `json:"row_tries"` // each row fails at most so often; 0 is no limit
	RowHas     string  `json:"row_has"`   // only rows fail whose key, Id or one of whose values this is

	FailJob      string `json:"fail_job"`       // errorMessage of a job that ends as Failed
	FailJobAfter int    `json:"fail_job_after"` // so many rows are processed first, the rest stay unprocessed
	// AbortJob has a job aborted under way, as an administrator may in Setup. Of
	// a Bulk 2.0 job FailJobAfter rows are processed; of a Bulk 1.0 job no batch
	// that waits its turn is, this one among them unless FailJobAfter is set.
	AbortJob bool `json:"abort_job"`

	// LoseResults leaves this share of a Bulk 2.0 job's rows out of all three
	// result files, as an org does past the daily allocation of batches.
	LoseResults float64 `json:"lose_results"`
	// RepeatResults lists this share of a Bulk 2.0 job's rows twice.
	RepeatResults float64 `json:"repeat_results"`

	// Twice carries the request out two times, as something between client and
	// org may that repeats what it thinks lost; the second answer is given.
	Twice bool `json:"twice"`
}

// UnmarshalJSON accepts the delay as text.
func (f *Fault) UnmarshalJSON(text []byte) error {
	type plain Fault
	aux := struct {
		*plain
		Delay string `json:"delay"`
	}{plain: (*plain)(f)}
	if err := json.Unmarshal(text, &aux); err != nil {
		return err
	}
	if aux.Delay == "" {
		return nil
	}
	d, err := time.ParseDuration(aux.Delay)
	if err != nil {
		return fmt.Errorf("delay %q: %w", aux.Delay, err)
	}
	f.Delay = d
	return nil
}

func (f *Fault) onRequests() bool {
	return f.Status != 0 || f.Code != "" && f.RowCode == "" || f.Delay != 0 || f.CutBefore || f.CutAfter || f.ExpireSession || f.Twice
}

type activeFault struct {
	Fault
	seen, fired int
	rowsFailed  int
	tries       map[uint64]int
}

// fire says whether a fault acts on one more request.
func (a *activeFault) fire() bool {
	a.seen++
	if a.seen <= a.After || a.Times >= 0 && a.fired >= max(a.Times, 1) {
		return false
	}
	a.fired++
	return true
}

// faults are those in force.
type faults struct {
	mu   sync.Mutex
	list []*activeFault
	rng  *rand.Rand
	seed maphash.Seed
}

func newFaults(seed int64) *faults {
	return &faults{rng: rand.New(rand.NewPCG(uint64(seed), 0xfa17)), seed: maphash.MakeSeed()}
}

// AddFault puts a fault in force.
func (s *Server) AddFault(f Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &activeFault{Fault: f, tries: map[uint64]int{}})
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
}

func matchesCall(match, kind, line string) bool {
	return match == "" || kind == match || strings.HasPrefix(kind, match+".") || strings.Contains(line, match)
}

// request returns the fault, if any, that a request runs into.
func (fs *faults) request(kind, line string, open int) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, a := range fs.list {
		if a.onRequests() && matchesCall(a.Match, kind, line) && (a.Over == 0 || open > a.Over) && a.fire() {
			return a.Fault, true
		}
	}
	return Fault{}, false
}

// job returns the fault, if any, that a Bulk job runs into.
func (fs *faults) job(text string) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, a := range fs.list {
		if (a.FailJob != "" || a.AbortJob) && strings.Contains(text, a.Match) && a.fire() {
			return a.Fault, true
		}
	}
	return Fault{}, false
}

// results returns which share of a job's results is lost, and which is there
// twice.
func (fs *faults) results(text string) (lost, twice float64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, a := range fs.list {
		if (a.LoseResults > 0 || a.RepeatResults > 0) && strings.Contains(text, a.Match) && a.fire() {
			return a.LoseResults, a.RepeatResults
		}
	}
	return 0, 0
}

// rows returns the function that decides which rows of a transaction fail; nil
// when none does.
func (fs *faults) rows(text string) func(*rowWrite) *rowError {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var hit []*activeFault
	for _, a := range fs.list {
		if a.RowCode != "" && strings.Contains(text, a.Match) {
			hit = append(hit, a)
		}
	}
	if hit == nil {
		return nil
	}
	return func(w *rowWrite) *rowError {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		for _, a := range hit {
			if fs.strikes(a, w) {
				return &rowError{a.RowCode, a.RowMessage, nil}
			}
		}
		return nil
	}
}

func (fs *faults) strikes(a *activeFault, w *rowWrite) bool {
	if a.Times > 0 && a.rowsFailed >= a.Times {
		return false
	}
	if a.RowHas != "" && w.key != a.RowHas && w.id != a.RowHas && !slices.ContainsFunc(w.changes, func(c change) bool { return c.val == a.RowHas }) {
		return false
	}
	if a.RowShare > 0 && fs.rng.Float64() >= a.RowShare {
		return false
	}
	if a.RowTries > 0 {
		var h maphash.Hash
		h.SetSeed(fs.seed)
		switch {
		case w.key != "":
			_, _ = h.WriteString(w.key) // never fails
		case w.id != "":
			_, _ = h.WriteString(w.id)
		default:
			for _, c := range w.changes {
				_, _ = h.WriteString(c.val)
				_ = h.WriteByte(0)
			}
		}
		id := h.Sum64()
		if a.tries[id] >= a.RowTries {
			return false
		}
		a.tries[id]++
	}
	a.rowsFailed++
	return true
}
