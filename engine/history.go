package engine

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"coho/destinations"
	"coho/planner"
)

// Status is how a run stands or ended.
type Status string

// The statuses of a run.
const (
	Running             Status = "running"
	Planned             Status = "planned"
	Succeeded           Status = "succeeded"
	CompletedWithErrors Status = "completed_with_errors"
	Failed              Status = "failed"
	Halted              Status = "halted"
	Canceled            Status = "canceled"
)

// Run is the record of one run: the document that `coho run --json` prints.
// Its field names are a contract.
type Run struct {
	ID         string          `json:"run"`
	Sync       string          `json:"sync"`
	Status     Status          `json:"status"`
	StartedAt  time.Time       `json:"started_at"`
	FinishedAt *time.Time      `json:"finished_at"`
	Rows       RowCounts       `json:"rows"`
	Operations OperationCounts `json:"operations"`
	Outcomes   *OutcomeCounts  `json:"outcomes,omitempty"`
	API        *APICounts      `json:"api,omitempty"`

	// Key names the one row that the run was for; nil where it was for all.
	Key map[string]string `json:"key,omitempty"`

	// Fields and Estimate are a plan's: by field, how many operations send
	// it; and what applying the plan would cost.
	Fields   map[string]int64 `json:"fields,omitempty"`
	Estimate *EstimateCounts  `json:"estimate,omitempty"`
	Samples  []Sample         `json:"samples,omitempty"`
	// Lookups are a plan's: how references will be found.
	Lookups []LookupNote `json:"lookups,omitempty"`

	Errors []ErrorCount `json:"errors"`

	// Error says why a run failed, halted or was canceled, in a line that
	// says what to do next.
	Error    string   `json:"error,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Choice says which of the org's APIs was chosen and why.
	Choice string `json:"choice,omitempty"`
	// Resumed is the run whose unfinished plan this run finished first.
	Resumed string `json:"resumed,omitempty"`

	// Trigger says who or what started the run. A run of a sequence also
	// names that, and the record of it.
	Trigger     string `json:"trigger,omitempty"`
	Sequence    string `json:"sequence,omitempty"`
	SequenceRun string `json:"sequence_run,omitempty"`

	// ConfigHash is the fingerprint of the sync's config as the run had it;
	// see ConfigHash.
	ConfigHash string     `json:"config,omitempty"`
	Durations  *Durations `json:"durations,omitempty"`
	PID        int        `json:"pid,omitempty"`
}

// Durations is how long a run was at what, in seconds. Together they are the
// time from when it was accepted to its end.
type Durations struct {
	Waiting    float64 `json:"waiting"`    // for its turn, before it began
	Checking   float64 `json:"checking"`   // the sync against warehouse and org, and what was left
	Reading    float64 `json:"reading"`    // the model, and planning what it gave
	Applying   float64 `json:"applying"`   // the plan
	Committing float64 `json:"committing"` // what costs no call
}

// RowCounts counts a model's rows.
type RowCounts struct {
	Read      int64 `json:"read"`
	Unchanged int64 `json:"unchanged"`
	Added     int64 `json:"added"`
	Changed   int64 `json:"changed"`
	Removed   int64 `json:"removed"`
	Rejected  int64 `json:"rejected"`
}

// OperationCounts counts a plan's operations by kind.
type OperationCounts struct {
	Insert      int64 `json:"insert"`
	Update      int64 `json:"update"`
	Upsert      int64 `json:"upsert"`
	Archive     int64 `json:"archive"`
	ClearFields int64 `json:"clear_fields"`
}

// Total is the sum over the kinds.
func (o OperationCounts) Total() int64 {
	return o.Insert + o.Update + o.Upsert + o.Archive + o.ClearFields
}

func (o *OperationCounts) add(k planner.Kind, n int64) {
	switch k {
	case planner.Insert:
		o.Insert += n
	case planner.Update:
		o.Update += n
	case planner.Upsert:
		o.Upsert += n
	case planner.Archive:
		o.Archive += n
	case planner.ClearFields:
		o.ClearFields += n
	}
}

func (o *OperationCounts) plus(x OperationCounts) {
	*o = OperationCounts{o.Insert + x.Insert, o.Update + x.Update, o.Upsert + x.Upsert, o.Archive + x.Archive, o.ClearFields + x.ClearFields}
}

func (o *OperationCounts) minus(x OperationCounts) {
	*o = OperationCounts{o.Insert - x.Insert, o.Update - x.Update, o.Upsert - x.Upsert, o.Archive - x.Archive, o.ClearFields - x.ClearFields}
}

// OutcomeCounts counts what became of operations.
type OutcomeCounts struct {
	Created int64 `json:"created"`
	Updated int64 `json:"updated"`
	Deleted int64 `json:"deleted"`
	Cleared int64 `json:"cleared"`
	Skipped int64 `json:"skipped"`
	Failed  int64 `json:"failed"`

	// Equal counts those of Skipped whose records held all of the row already
	// (only_sync_different): they count as carried out.
	Equal int64 `json:"equal,omitempty"`

	// Deactivated counts picklist values that can be picked no more.
	Deactivated int64 `json:"deactivated,omitempty"`

	// Held counts platform events that wait for a person (on_unknown = "hold"),
	// and Unknown all whose answer was lost: they are held, were sent again, or
	// counted as published, and are among the others too.
	Held    int64 `json:"held,omitempty"`
	Unknown int64 `json:"unknown,omitempty"`
}

// Total is the sum over the results.
func (o OutcomeCounts) Total() int64 {
	return o.Created + o.Updated + o.Deleted + o.Cleared + o.Skipped + o.Failed + o.Deactivated + o.Held
}

func (o *OutcomeCounts) add(x destinations.Outcome) {
	if x.Unknown {
		o.Unknown++
	}
	if x.Same {
		o.Equal++
	}
	switch x.Result {
	case destinations.Created:
		o.Created++
	case destinations.Updated:
		o.Updated++
	case destinations.Deleted:
		o.Deleted++
	case destinations.Cleared:
		o.Cleared++
	case destinations.Skipped:
		o.Skipped++
	case destinations.Failed:
		o.Failed++
	case destinations.Deactivated:
		o.Deactivated++
	case destinations.Held:
		o.Held++
	}
}

// APICounts is what a run cost. Remaining is the org's remaining calls of the
// day as last heard, -1 where the org has not said.
type APICounts struct {
	Calls     int64 `json:"calls"`
	BulkJobs  int64 `json:"bulk_jobs"`
	Remaining int64 `json:"remaining"`
}

// EstimateCounts is what a plan would cost.
type EstimateCounts struct {
	APICalls int64 `json:"api_calls"`
	BulkJobs int64 `json:"bulk_jobs"`

	// AtMost says why less may be sent, and cost, than this; "" where it will be.
	AtMost string `json:"at_most,omitempty"`

	// BytesBilled is what reading the model bills, where the source bills by
	// what a query reads.
	BytesBilled int64 `json:"bytes_billed,omitempty"`
}

// ErrorCount groups a run's failed and rejected rows by code.
type ErrorCount struct {
	Code    string `json:"code"`
	Count   int64  `json:"count"`
	Example string `json:"example"`
}

// Sample shows one planned operation.
type Sample struct {
	Operation string            `json:"operation"`
	Key       map[string]string `json:"key"`
	ID        string            `json:"id,omitempty"`
	Fields    []SampleField     `json:"fields,omitempty"`
}

// SampleField is a field that a sampled operation sends; null is a field
// cleared, a missing before one that coho has not written yet.
type SampleField struct {
	Field  string  `json:"field"`
	Before *string `json:"before,omitempty"`
	After  *string `json:"after"`
}

// RowError is one row that failed or was rejected: a line of
// `coho runs errors --json`. Its field names are a contract.
type RowError struct {
	Key       map[string]string `json:"key"`
	Operation string            `json:"operation"`
	Code      string            `json:"code"`
	Message   string            `json:"message"`
	Fields    []string          `json:"fields"`
	Attempts  int               `json:"attempts"`
	ID        string            `json:"id"`

	// Before is what coho last wrote into the record's mapped fields, as the
	// org acknowledged it, and After what was to be written; null is an empty
	// field. Long texts are cut, and rows past a run's first 8 MB of values go
	// without.
	Before map[string]*string `json:"before,omitempty"`
	After  map[string]*string `json:"after,omitempty"`
}

// History is the record of runs and of sequences, a file each. It is safe for
// use by several goroutines. A record that cannot be read, as a disk that lost
// power may leave it, is passed over.
type History struct {
	dir       string // of runs
	sequences string // the folder beside it
	syncsDir  string // where the syncs' kept plans are
	keep      Retention

	mu      sync.Mutex        // guards the rest
	syncs   map[string]string // by run id: its sync
	indexed int               // how many of them the index file holds, -1 before it was read
	saves   int               // runs that ended since the history was last pruned
}

// OpenHistory returns the history in a state directory's folder of runs, which
// need not exist yet.
func OpenHistory(dir string, keep Retention) *History {
	state := filepath.Dir(dir)
	return &History{
		dir: dir, sequences: filepath.Join(state, "sequences"), syncsDir: filepath.Join(state, "syncs"), keep: keep.orDefault(),
		syncs: map[string]string{}, indexed: -1,
	}
}

func (h *History) path(id string) string       { return filepath.Join(h.dir, id+".json") }
func (h *History) errorsPath(id string) string { return filepath.Join(h.dir, id+".errors.jsonl") }

// ids returns the runs' ids, newest first. Ids sort by the time of their run.
func (h *History) ids() ([]string, error) { return recordIDs(h.dir) }

func recordIDs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the run history: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			ids = append(ids, id)
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(ids)))
	return ids, nil
}

// NewRunID returns an id that sorts by time and that no other run has.
func NewRunID(now time.Time) (string, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a run id: %w", err)
	}
	return now.UTC().Format(runIDTime) + "-" + hex.EncodeToString(b[:]), nil
}

// runIDTime is the form of the time that an id begins with.
const runIDTime = "20060102T150405.000Z"

// save writes a run's record.
func (h *History) save(r *Run) error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return fmt.Errorf("make the run history: %w", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode run %s: %w", r.ID, err)
	}
	// The mark is there whenever the record says running, also where a kill
	// comes in between.
	if r.Status == Running {
		if err := mark(h.dir, r.ID); err != nil {
			return err
		}
	}
	if err := writeFile(h.path(r.ID), append(b, '\n')); err != nil {
		return err
	}
	if r.Status != Running {
		if err := unmark(h.dir, r.ID); err != nil {
			return err
		}
	}
	h.know(r.ID, r.Sync)
	return nil
}

// runningSuffix ends the name of the empty file that stands beside a record for
// as long as that says running, so that those whose process died are found
// without reading all.
const runningSuffix = ".running"

func mark(dir, id string) error {
	if err := os.WriteFile(filepath.Join(dir, id+runningSuffix), nil, 0o600); err != nil {
		return fmt.Errorf("mark run %s as running: %w", id, err)
	}
	return nil
}

func unmark(dir, id string) error {
	if err := ignoreMissing(os.Remove(filepath.Join(dir, id+runningSuffix))); err != nil {
		return fmt.Errorf("mark run %s as ended: %w", id, err)
	}
	return nil
}

// marked lists the records that say running, and removes what a kill left of
// records half written. The caller holds the state's lock, so nobody is writing
// one.
func marked(dir string) (ids []string, err error) {
	entries, err := os.ReadDir(dir)
	if err = ignoreMissing(err); err != nil {
		return nil, fmt.Errorf("read the run history: %w", err)
	}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), runningSuffix); ok {
			ids = append(ids, id)
		} else if strings.Contains(e.Name(), ".json"+tempInfix) {
			if err := ignoreMissing(os.Remove(filepath.Join(dir, e.Name()))); err != nil {
				return nil, fmt.Errorf("clear the run history: %w", err)
			}
		}
	}
	return ids, nil
}

func (h *History) know(id, sync string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.syncs[id] = sync
}

// syncOf returns the sync of a run, "" where its record cannot be read.
func (h *History) syncOf(id string) string {
	h.mu.Lock()
	if h.indexed < 0 {
		h.loadIndex()
	}
	sync, ok := h.syncs[id]
	h.mu.Unlock()
	if ok {
		return sync
	}
	r, err := h.read(id)
	if err != nil {
		return ""
	}
	return r.Sync
}

// damagedError says that a record holds something else than what was written.
// To those who list records there is none.
type damagedError struct {
	id  string
	err error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("the record %s is damaged: %v", e.id, e.err)
}

func (e *damagedError) Unwrap() []error { return []error{e.err, fs.ErrNotExist} }

// Get returns the run with an id, or the last run of the sync of that name.
func (h *History) Get(idOrSync string) (*Run, error) {
	r, err := h.read(idOrSync)
	var damaged *damagedError
	switch {
	case err == nil:
		return r, nil
	case errors.As(err, &damaged), !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	last, err := h.List(idOrSync, 1)
	if err != nil {
		return nil, err
	}
	if len(last) == 0 {
		return nil, usagef("no run and no sync with runs is named %q; `coho runs` lists them", idOrSync)
	}
	return last[0], nil
}

func (h *History) read(id string) (*Run, error) {
	if id != filepath.Base(id) {
		return nil, fs.ErrNotExist
	}
	b, err := os.ReadFile(h.path(id))
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", id, err)
	}
	var r Run
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, &damagedError{id, err}
	}
	h.know(id, r.Sync)
	return &r, nil
}

// List returns up to max runs (0: all), newest first, of one sync or, where
// sync is empty, of all.
func (h *History) List(sync string, max int) ([]*Run, error) {
	ids, err := h.ids()
	if err != nil {
		return nil, err
	}
	var out []*Run
	for _, id := range ids {
		if sync != "" && h.syncOf(id) != sync {
			continue
		}
		r, err := h.read(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by retention since the listing
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
		if max > 0 && len(out) == max {
			break
		}
	}
	return out, nil
}

// Errors calls yield for each failed and rejected row of a run, in the order
// in which they failed, until yield returns false.
func (h *History) Errors(id string, yield func(*RowError) bool) error {
	f, err := os.Open(h.errorsPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the errors of run %s: %w", id, err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a line without its end was torn by a crash
		}
		if err != nil {
			return fmt.Errorf("read the errors of run %s: %w", id, err)
		}
		var e RowError
		if json.Unmarshal(line, &e) != nil {
			continue // torn by a crash, before what a later flush wrote
		}
		if !yield(&e) {
			return nil
		}
	}
}
