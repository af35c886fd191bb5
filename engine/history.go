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
	"slices"
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

	// Fields and Estimate are a plan's: by field, how many operations send
	// it; and what applying the plan would cost.
	Fields   map[string]int64 `json:"fields,omitempty"`
	Estimate *EstimateCounts  `json:"estimate,omitempty"`
	Samples  []Sample         `json:"samples,omitempty"`

	Errors []ErrorCount `json:"errors"`

	// Error says why a run failed, halted or was canceled, in a line that
	// says what to do next.
	Error    string   `json:"error,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Choice says which of the org's APIs was chosen and why.
	Choice string `json:"choice,omitempty"`
	// Resumed is the run whose unfinished plan this run finished first.
	Resumed string `json:"resumed,omitempty"`
	Trigger string `json:"trigger,omitempty"`
	PID     int    `json:"pid,omitempty"`
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
}

// Total is the sum over the results.
func (o OutcomeCounts) Total() int64 {
	return o.Created + o.Updated + o.Deleted + o.Cleared + o.Skipped + o.Failed
}

func (o *OutcomeCounts) add(r destinations.Result) {
	switch r {
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
}

// History is the record of runs, a file each.
type History struct {
	dir  string
	keep int
}

// OpenHistory returns the history in a directory, which need not exist yet.
func OpenHistory(dir string, keep int) *History { return &History{dir: dir, keep: keep} }

func (h *History) path(id string) string       { return filepath.Join(h.dir, id+".json") }
func (h *History) errorsPath(id string) string { return filepath.Join(h.dir, id+".errors.jsonl") }

// ids returns the runs' ids, newest first. Ids sort by the time of their run.
func (h *History) ids() ([]string, error) {
	entries, err := os.ReadDir(h.dir)
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
	return now.UTC().Format("20060102T150405.000Z") + "-" + hex.EncodeToString(b[:]), nil
}

// save writes a run's record.
func (h *History) save(r *Run) error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return fmt.Errorf("make the run history: %w", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode run %s: %w", r.ID, err)
	}
	return writeFile(h.path(r.ID), append(b, '\n'))
}

// Get returns the run with an id, or the last run of the sync of that name.
func (h *History) Get(idOrSync string) (*Run, error) {
	if r, err := h.read(idOrSync); err == nil {
		return r, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
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
		return nil, fmt.Errorf("read run %s: %w", id, err)
	}
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
		r, err := h.read(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by retention since the listing
		}
		if err != nil {
			return nil, err
		}
		if sync != "" && r.Sync != sync {
			continue
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
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read the errors of run %s: %w", id, err)
		}
		if !yield(&e) {
			return nil
		}
	}
}

// sweep removes what a process that was killed left of records half written.
// The caller holds the state's lock, so nobody is writing one.
func (h *History) sweep() error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), ".json"+tempInfix) {
			if err := ignoreMissing(os.Remove(filepath.Join(h.dir, e.Name()))); err != nil {
				return fmt.Errorf("clear the run history: %w", err)
			}
		}
	}
	return nil
}

// prune drops the oldest runs past those kept.
func (h *History) prune() error {
	ids, err := h.ids()
	if err != nil {
		return err
	}
	if err := h.pruneCalls(ids[:min(len(ids), h.keep)], callRuns, allCallBytes); err != nil || len(ids) <= h.keep {
		return err
	}
	for _, id := range ids[h.keep:] {
		if err := errors.Join(ignoreMissing(os.Remove(h.path(id))), ignoreMissing(os.Remove(h.errorsPath(id)))); err != nil {
			return fmt.Errorf("drop run %s from the history: %w", id, err)
		}
	}
	return nil
}

// closeInterrupted marks runs whose process died as failed. The caller holds the
// state's lock, so nothing recorded as running is.
func (h *History) closeInterrupted(now time.Time) error {
	if err := errors.Join(h.sweep(), h.prune()); err != nil {
		return err
	}
	ids, err := h.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		b, err := os.ReadFile(h.path(id))
		if err != nil {
			return fmt.Errorf("read run %s: %w", id, err)
		}
		if !strings.Contains(string(b), `"status":"`+string(Running)+`"`) {
			continue
		}
		r, err := h.read(id)
		if err != nil {
			return err
		}
		if r.Status != Running {
			continue
		}
		r.Status = Failed
		r.Error = "the process ended before the run did; the next run of the sync finishes its plan"
		r.FinishedAt = &now
		if err := h.save(r); err != nil {
			return err
		}
	}
	return nil
}

// recorder gathers what happens in a run: counts, and row errors on disk.
type recorder struct {
	history *History

	mu     sync.Mutex // guards everything below
	run    *Run
	errors map[string]*ErrorCount
	file   *os.File
	buf    *bufio.Writer
}

func newRecorder(h *History, r *Run) *recorder {
	return &recorder{history: h, run: r, errors: map[string]*ErrorCount{}}
}

// rowError records one failed or rejected row.
func (r *recorder) rowError(e *RowError) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.errors[e.Code]
	if c == nil {
		c = &ErrorCount{Code: e.Code, Example: e.Message}
		r.errors[e.Code] = c
	}
	c.Count++
	if r.file == nil {
		if err := os.MkdirAll(r.history.dir, 0o700); err != nil {
			return fmt.Errorf("make the run history: %w", err)
		}
		f, err := os.OpenFile(r.history.errorsPath(r.run.ID), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("record a row's error: %w", err)
		}
		r.file, r.buf = f, bufio.NewWriterSize(f, 64<<10)
	}
	if e.Fields == nil {
		e.Fields = []string{}
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("record a row's error: %w", err)
	}
	if _, err := r.buf.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("record a row's error: %w", err)
	}
	return nil
}

// flush writes buffered row errors out.
func (r *recorder) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf == nil {
		return nil
	}
	if err := r.buf.Flush(); err != nil {
		return fmt.Errorf("record row errors: %w", err)
	}
	return nil
}

// close flushes, and puts the grouped errors into the run, most frequent
// first.
func (r *recorder) close() error {
	err := r.flush()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
		r.file, r.buf = nil, nil
	}
	r.run.Errors = make([]ErrorCount, 0, len(r.errors))
	for _, c := range r.errors {
		r.run.Errors = append(r.run.Errors, *c)
	}
	slices.SortFunc(r.run.Errors, func(a, b ErrorCount) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(a.Code, b.Code)
	})
	return err
}

// outcomes counts settled outcomes.
func (r *recorder) outcomes(os []destinations.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range os {
		r.run.Outcomes.add(o.Result)
	}
}
