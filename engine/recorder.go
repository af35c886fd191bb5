package engine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"coho/destinations"
	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
)

// recorder gathers what happens in a run: counts, and row errors on disk.
type recorder struct {
	history *History

	mu     sync.Mutex // guards everything below
	run    *Run
	errors map[string]*ErrorCount
	file   *os.File
	buf    *bufio.Writer
	values int // bytes that before and after may still take
}

// Bounds of the values that row errors are recorded with.
const (
	// valueRunes is how much of a text is recorded.
	valueRunes = 200
	// valueBytes is what the values of a run's row errors may take; rows past
	// that are recorded without.
	valueBytes = 8 << 20
)

func newRecorder(h *History, r *Run) *recorder {
	return &recorder{history: h, run: r, errors: map[string]*ErrorCount{}, values: valueBytes}
}

// wantsValues reports whether there is room for more values.
func (r *recorder) wantsValues() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.values > 0
}

// describe adds to a row's error what the destination acknowledged of the
// record last, and what of the operation (nil: there is none) was to be written.
func (r *recorder) describe(e *RowError, store *snapshot.Store, row planner.Hash, op *planner.Operation, fields []string) error {
	if !r.wantsValues() {
		return nil
	}
	before, err := acknowledged(store, row)
	if err != nil {
		return err
	}
	for _, f := range before {
		if e.Before == nil {
			e.Before = make(map[string]*string, len(before))
		}
		e.Before[f.Name] = clipped(f.Cell)
	}
	if op == nil {
		return nil
	}
	for _, a := range op.Assignments {
		if a.Send == planner.Keep || a.Field >= len(fields) {
			continue
		}
		if e.After == nil {
			e.After = make(map[string]*string, len(op.Assignments))
		}
		e.After[fields[a.Field]] = clipped(a.Cell)
	}
	return nil
}

// acknowledged reads the fields of one row's record, none where nothing was
// acknowledged for it.
func acknowledged(store *snapshot.Store, row planner.Hash) (_ []planner.RecordField, err error) {
	if row == (planner.Hash{}) {
		return nil, nil
	}
	limit := row
	for i := len(limit) - 1; i >= 0; i-- {
		if limit[i]++; limit[i] != 0 {
			break
		}
	}
	rows, err := store.Scan(row, limit) // a limit of zero has none, and the first row is what is looked at
	if err != nil {
		return nil, fmt.Errorf("read a record of the snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() || rows.Entry().KeyHash != row || !rows.Entry().Acked {
		return nil, rows.Err()
	}
	record, err := rows.Record()
	if err != nil {
		return nil, fmt.Errorf("read a record of the snapshot: %w", err)
	}
	return record.Fields, nil
}

// clipped is a value as the history keeps it: its beginning.
func clipped(c models.Cell) *string {
	if c.Null {
		return nil
	}
	text := c.Text
	if len(text) > valueRunes {
		if runes := []rune(text); len(runes) > valueRunes {
			text = string(runes[:valueRunes]) + "..."
		}
	}
	return &text
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
	if len(e.Before)+len(e.After) > 0 {
		r.values -= len(b)
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
		r.run.Outcomes.add(o)
	}
}
