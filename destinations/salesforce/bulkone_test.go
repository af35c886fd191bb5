package salesforce

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// flight tells how many of a ledger's batches were with the org at once, and how
// many rows the largest one had.
type flight struct {
	mu         sync.Mutex
	most, rows int
}

func (l *ledger) flight() *flight {
	f := &flight{}
	l.onUpdate = func(b destinations.Batch) error {
		l.mu.Lock()
		open := 0
		for _, o := range l.open {
			if _, id, _, _, err := parseHandle(o.Handle); err == nil && id != "" || o.Number == b.Number {
				open++
			}
		}
		l.mu.Unlock()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.most, f.rows = max(f.most, open), max(f.rows, int(b.Seqs.Len()))
		return nil
	}
	return f
}

// concurrency asks the org for the mode of the job that a ledger's last batch is
// in.
func (w *world) concurrency(l *ledger) string {
	w.Helper()
	job, _, _, _, err := parseHandle(l.begun[len(l.begun)-1].Handle)
	if err != nil {
		w.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, w.org.URL()+"/services/async/62.0/job/"+job, nil)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("X-SFDC-Session", w.org.Credentials().AccessToken)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "<concurrencyMode>")
	mode, _, _ := strings.Cut(rest, "<")
	return mode
}

// Every operation goes through Bulk API 1.0, parallel and serial, in batches of
// as many rows as configured, of which as many are with the org at once.
func TestBulkOne(t *testing.T) {
	const n = 600
	for mode, kind := range kinds {
		for _, how := range []struct {
			concurrency       string
			batch, parallel   int
			batches, inFlight int
		}{
			{"parallel", 50, 4, 12, 4},
			{"parallel", 100, 1, 6, 1},
			{"parallel", 0, 50, 1, 1},
			{"serial", 150, 3, 4, 3},
		} {
			t.Run(fmt.Sprintf("%s/%s, %d rows a batch, parallelism %d", mode, how.concurrency, how.batch, how.parallel), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, emulator.Options{ProcessingDelay: 20 * time.Millisecond})
				left := w.seed(mode, n)
				s := accountSync(mode, "bulk 1.0")
				s.Write.SortBatchesBy = "none"
				s.Write.ConcurrencyMode, s.Write.BulkBatchSize, s.Write.Parallelism = how.concurrency, how.batch, how.parallel
				l := w.ledger(many(kind, n))
				f := l.flight()
				target := w.open(s)
				before := w.org.Counters().Calls["bulk1.batch"]
				w.mustApply(target, l)
				w.once(left)
				if got := w.org.Counters().Calls["bulk1.batch"] - before; got != how.batches {
					t.Errorf("%d batches, want %d", got, how.batches)
				}
				if f.most > how.inFlight || how.batches > 10 && f.most < 2 {
					t.Errorf("%d batches were with the org at once, want up to %d", f.most, how.inFlight)
				}
				if c := w.org.Counters().Calls; c["bulk.create"]+c["collections.create"]+c["collections.update"]+c["collections.upsert"]+c["collections.delete"] != 0 {
					t.Errorf("calls of other APIs were made: %v", c)
				}
				if want := strings.ToUpper(how.concurrency[:1]) + how.concurrency[1:]; w.concurrency(l) != want {
					t.Errorf("the job's mode is %q, want %q", w.concurrency(l), want)
				}
				l.want(destinations.Failed, 0)
			})
		}
	}
}

// A batch ends at ten thousand rows, and before it is larger than the org takes.
func TestBulkOneBatchesAreCut(t *testing.T) {
	tests := []struct {
		name          string
		rows, each    int
		batches, most int
	}{
		{"at ten thousand rows", 10_001, 1, 2, 10_000},
		{"at ten megabytes", 350, 31_000, 2, 322},
		{"of letters of several bytes", 350, 10_300, 2, 323},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			letter := "x"
			if i == 2 {
				letter = "€"
			}
			w := newWorld(t, emulator.Options{})
			s := accountSync(models.ModeInsert, "bulk 1.0")
			s.Write.SortBatchesBy = "none"
			about := strings.Repeat(letter, test.each)
			ops := many(planner.Insert, test.rows)
			for _, o := range ops {
				o.Assignments = append([]planner.Assignment{set(fAbout, about)}, o.Assignments...)
			}
			l := w.ledger(ops)
			f := l.flight()
			w.mustApply(w.open(s), l)
			l.want(destinations.Created, test.rows)
			if got := w.org.Counters().Calls["bulk1.batch"]; got != test.batches || f.rows > test.most || f.rows < test.most-5 {
				t.Errorf("%d batches of up to %d rows, want %d of about %d", got, f.rows, test.batches, test.most)
			}
		})
	}
}

// Rows that failed for a passing reason go again alone, in ever smaller batches,
// and their tries are counted; split_retries = false keeps them together, and
// max_attempts ends it.
func TestSplitRetries(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		for _, split := range []bool{true, false} {
			const n, stuck = 400, 60
			w := newWorld(t, emulator.Options{})
			s := accountSync(models.ModeUpsert, ingestion)
			s.Write.SplitRetries, s.Write.MaxAttempts, s.Write.SortBatchesBy = split, 4, "none"
			// Two rows stay locked, the others of the first sixty for a while.
			w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", RowTries: 2, Times: stuck})
			l := w.ledger(many(planner.Upsert, n))
			w.mustApply(w.open(s), l)
			l.want(destinations.Created, n)
			tries := map[int]int{}
			for _, o := range l.outcomes {
				tries[o.Attempts]++
			}
			if tries[1] != n-stuck/2 && tries[1] != n-stuck || tries[2]+tries[3]+tries[4] == 0 {
				t.Fatalf("split %v: rows by tries: %v", split, tries)
			}
			again := int64(0)
			seen := map[int64]int{}
			sizes := map[int]int64{} // the largest batch that a row's try was in
			for _, b := range l.begun {
				for _, r := range b.Seqs {
					for q := r.From; q < r.To; q++ {
						if seen[q]++; seen[q] > 1 {
							again++
							if l.outcomes[q].Attempts < seen[q] {
								t.Errorf("split %v: row %d was sent %d times and counts %d tries", split, q, seen[q], l.outcomes[q].Attempts)
							}
						}
						sizes[seen[q]] = max(sizes[seen[q]], b.Seqs.Len())
					}
				}
			}
			if again == 0 || again > 3*stuck {
				t.Errorf("split %v: %d rows were sent again", split, again)
			}
			for try := 2; sizes[try] > 0; try++ {
				// A row's tries in a job do not make its first call smaller.
				if split && sizes[try] > 50 && (ingestion == "rest" || try > 2) || split && try > 2 && sizes[try] > sizes[try-1] && sizes[try] > 12 {
					t.Errorf("%d rows went together at try %d: %v", sizes[try], try, sizes)
				}
			}
			if !split && sizes[2] < 30 {
				t.Errorf("rows were split although split_retries is off: %v", sizes)
			}
		}
	})
}

// With split_retries = false the rows that are sent again go together, as they would
// not with it.
func TestRetriesThatAreNotSplit(t *testing.T) {
	for _, test := range []struct {
		api  string // "" inserts without a key
		try  int    // the first that is split
		most int64  // how many rows go together then
	}{
		{"rest", 2, 50},
		{"bulk", 3, 50},
		{"bulk 1.0", 3, 50},
		{"", 2, 500},
	} {
		for _, split := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", cmp.Or(test.api, "without a key"), split), func(t *testing.T) {
				t.Parallel()
				const n = 2000
				w := newWorld(t, emulator.Options{})
				s, ops := accountSync(models.ModeUpsert, test.api), many(planner.Upsert, n)
				if test.api == "" {
					s, ops = keyless(), alike(n)
					for i, o := range ops {
						o.Assignments[0].Cell.Text = fmt.Sprint("Name ", i) // the org's refusals go by what a row holds
					}
				}
				s.Write.SplitRetries, s.Write.SortBatchesBy = split, "none"
				w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", RowTries: 2, Times: 2 * n})
				l := w.ledger(ops)
				w.mustApply(w.open(s), l)
				l.want(destinations.Created, n)
				tries, largest := map[int64]int{}, int64(0)
				for _, b := range l.begun {
					for _, r := range b.Seqs {
						for q := r.From; q < r.To; q++ {
							if tries[q]++; tries[q] == test.try {
								largest = max(largest, b.Seqs.Len())
							}
						}
					}
				}
				if largest == 0 || split != (largest <= test.most) {
					t.Errorf("split_retries = %v: %d rows went together at try %d", split, largest, test.try)
				}
			})
		}
	}
}

// Rows that a job could not place begin with whole Collections calls, however
// often they were tried in jobs: their number, not their past, decides what they
// cost. What has one try left goes in small ones.
func TestRetriesOfAJobTakeFewCalls(t *testing.T) {
	tests := map[string]struct {
		rows, tries, most int // the org's refusals of each row, and Collections calls that may come of it
		whole             bool
	}{
		"after one job":                           {1_800, 1, 10, false},
		"after one job and a call":                {1_800, 2, 10 + 40, false},
		"after three jobs of many":                {2_400, 3, 14, false},
		"at the last of five tries":               {2_400, 4, 14 + 2_400, false},
		"at the last of five tries, not split up": {2_400, 4, 0, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			s := accountSync(models.ModeUpsert, "bulk")
			s.Write.SplitRetries = !test.whole
			w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", RowTries: test.tries, Times: test.rows * test.tries})
			l := w.ledger(many(planner.Upsert, test.rows))
			w.mustApply(w.open(s), l)
			l.want(destinations.Created, test.rows)
			calls := 0
			for _, b := range l.begun {
				if b.API == apiREST {
					calls++
				}
			}
			for q, o := range l.outcomes {
				if o.Attempts != test.tries+1 {
					t.Fatalf("row %d, which was refused %d times, counts %d tries", q, test.tries, o.Attempts)
				}
			}
			if calls > test.most {
				t.Errorf("%d rows that were refused %d times took %d Collections calls, want %d at most", test.rows, test.tries, calls, test.most)
			}
		})
	}
}

// Rows that stay locked go one by one in the end, and count max_attempts tries.
func TestLastTriesGoOneByOne(t *testing.T) {
	both(t, func(t *testing.T, ingestion string) {
		const n = 40
		w := newWorld(t, emulator.Options{})
		s := accountSync(models.ModeUpsert, ingestion)
		s.Write.MaxAttempts = 4
		w.org.AddFault(emulator.Fault{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked"})
		l := w.ledger(many(planner.Upsert, n))
		w.mustApply(w.open(s), l)
		l.want(destinations.Failed, n)
		tries := map[int64]int{}
		for _, b := range l.begun {
			for _, r := range b.Seqs {
				for q := r.From; q < r.To; q++ {
					if tries[q]++; tries[q] == 4 && b.Seqs.Len() != 1 {
						t.Fatalf("row %d had its last try among %d", q, b.Seqs.Len())
					}
				}
			}
		}
		for q, o := range l.outcomes {
			if o.Attempts != 4 || tries[q] != 4 {
				t.Fatalf("row %d: %d tries, %d counted", q, tries[q], o.Attempts)
			}
		}
	})
}

// What an org that is crowded says halves how much it is given at once, by every
// API; clean answers raise that again.
func TestParallelismAdapts(t *testing.T) {
	faults := map[string]map[string]emulator.Fault{
		"rest": {
			"locks":                {RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", Times: 1},
			"long-running Apex":    {RowCode: "TOO_MANY_APEX_REQUESTS", RowMessage: "too many", Times: 1},
			"concurrency":          {Match: "collections", Status: 403, Code: "REQUEST_LIMIT_EXCEEDED", Message: "ConcurrentRequests (Concurrent API Requests) Limit exceeded."},
			"no server":            {Match: "collections", Status: 503, Code: "SERVER_UNAVAILABLE"},
			"a row's own fault no": {RowCode: "STRING_TOO_LONG", RowMessage: "too long", Times: 1},
		},
		"bulk": {
			"locks":     {RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", Times: 1},
			"no server": {Match: "bulk.create", Status: 503, Code: "SERVER_UNAVAILABLE"},
			"job":       {FailJob: "TooManyLockFailure : Too many lock failure 200 Trying again later."},
		},
		"bulk 1.0": {
			"locks":     {RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "locked", Times: 1},
			"no server": {Match: "bulk1.create", Status: 503, Code: "ServerUnavailable"},
		},
	}
	for ingestion, list := range faults {
		for name, f := range list {
			t.Run(ingestion+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, emulator.Options{})
				s := accountSync(models.ModeUpsert, ingestion)
				s.Write.Parallelism, s.Write.SortBatchesBy = 8, "none"
				w.org.AddFault(f)
				target := w.open(s)
				least := 100
				l := w.ledger(many(planner.Upsert, 100))
				l.onBegin = func(destinations.Batch) { least = min(least, w.dest.Reading().Parallelism) }
				w.mustApply(target, l)
				after := w.dest.Reading().Parallelism
				if strings.HasSuffix(name, " no") {
					if after != 8 {
						t.Fatalf("%d at once after a row's own fault", after)
					}
					return
				}
				if min(least, after) > 4 {
					t.Fatalf("%d at once after a crowd, %d at least", after, least)
				}
				w.org.ClearFaults()
				s.Write.RESTBatchSize, s.Write.BulkBatchSize = 2, 2
				w.mustApply(w.open(s), w.ledger(many(planner.Upsert, 100)))
				if up := w.dest.Reading().Parallelism; up != 8 {
					t.Fatalf("%d at once after clean answers, want 8", up)
				}
			})
		}
	}
}
