package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"coho/models"
)

// What a part of a sequence can be besides the statuses of its run.
const (
	// NotBegun: the sequence ended before the part's turn, or has not come to
	// it yet.
	NotBegun Status = "not_begun"
	// PassedOver: the part was left out on purpose, as a paused sync is.
	PassedOver Status = "passed_over"
)

// SequenceRun is the record of one run of a sequence. Its field names are a
// contract: `coho runs --json` prints them.
type SequenceRun struct {
	ID         string           `json:"sequence_run"`
	Sequence   string           `json:"sequence"`
	Status     Status           `json:"status"`
	StartedAt  time.Time        `json:"started_at"`
	FinishedAt *time.Time       `json:"finished_at"`
	Steps      [][]SequencePart `json:"steps"`
	Trigger    string           `json:"trigger,omitempty"`
	// Error says why the sequence failed, halted or was canceled, in a line.
	Error string `json:"error,omitempty"`
	// Resumed says that another process began the sequence and ended before it
	// did.
	Resumed bool `json:"resumed,omitempty"`
	PID     int  `json:"pid,omitempty"`
}

// SequencePart is one sync of a sequence's step.
type SequencePart struct {
	Sync   string `json:"sync"`
	Run    string `json:"run,omitempty"` // "" where it was not begun
	Status Status `json:"status"`
	// Rows is what the run read, Operations what it planned, RowErrors what of
	// both failed or was rejected.
	Rows       int64  `json:"rows"`
	Operations int64  `json:"operations"`
	RowErrors  int64  `json:"row_errors"`
	Error      string `json:"error,omitempty"` // why it is an error of the sequence
	Why        string `json:"why,omitempty"`   // why it was passed over, where that was asked for
}

// NotBegun lists the syncs whose turn did not come.
func (s *SequenceRun) NotBegun() (syncs []string) {
	for _, step := range s.Steps {
		for _, p := range step {
			if p.Status == NotBegun {
				syncs = append(syncs, p.Sync)
			}
		}
	}
	return syncs
}

// Sum adds up the parts' rows, operations and row errors.
func (s *SequenceRun) Sum() (rows, operations, rowErrors int64) {
	for _, step := range s.Steps {
		for _, p := range step {
			rows, operations, rowErrors = rows+p.Rows, operations+p.Operations, rowErrors+p.RowErrors
		}
	}
	return rows, operations, rowErrors
}

func (h *History) sequencePath(id string) string { return filepath.Join(h.sequences, id+".json") }

func (h *History) readSequence(id string) (*SequenceRun, error) {
	if id != filepath.Base(id) {
		return nil, fs.ErrNotExist
	}
	b, err := os.ReadFile(h.sequencePath(id))
	if err != nil {
		return nil, fmt.Errorf("read sequence run %s: %w", id, err)
	}
	var s SequenceRun
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, &damagedError{id, err}
	}
	return &s, nil
}

func (h *History) saveSequence(s *SequenceRun) error {
	if err := makeDir(h.sequences); err != nil {
		return fmt.Errorf("make the history of sequences: %w", err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode sequence run %s: %w", s.ID, err)
	}
	if s.Status == Running {
		if err := mark(h.sequences, s.ID); err != nil {
			return err
		}
	}
	if err := writeFile(h.sequencePath(s.ID), append(b, '\n')); err != nil {
		return err
	}
	if s.Status == Running {
		return nil
	}
	return unmark(h.sequences, s.ID)
}

// Sequence returns the run of a sequence with an id, or the last one of the
// sequence of that name.
func (h *History) Sequence(idOrName string) (*SequenceRun, error) {
	s, err := h.readSequence(idOrName)
	var damaged *damagedError
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, &damaged), !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	last, err := h.ListSequences(idOrName, 1)
	if err != nil {
		return nil, err
	}
	if len(last) == 0 {
		return nil, usagef("no run of a sequence and no sequence with runs is named %q; `coho runs` lists them", idOrName)
	}
	return last[0], nil
}

// ListSequences returns up to max runs (0: all), newest first, of one sequence
// or, where name is empty, of all.
func (h *History) ListSequences(name string, max int) ([]*SequenceRun, error) {
	runs, _, err := h.PageSequences(name, "", max)
	return runs, err
}

// closeInterruptedSequences marks sequences whose process died as failed, with
// what is known of their parts. The runs of the dead are marked already.
func (h *History) closeInterruptedSequences(now time.Time) error {
	ids, err := marked(h.sequences)
	if err != nil {
		return err
	}
	for _, id := range ids {
		s, err := h.readSequence(id)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && s.Status != Running:
			if err := unmark(h.sequences, id); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		for i := range s.Steps {
			for j := range s.Steps[i] {
				p := &s.Steps[i][j]
				if p.Status != Running {
					continue
				}
				if p.Status, p.Error = Failed, "the process ended before the run did"; p.Run == "" {
					p.Run = h.runOf(s, p.Sync)
				}
				if r, err := h.read(p.Run); err == nil {
					p.take(r)
				} else if p.Run == "" {
					p.Status = NotBegun
				}
			}
		}
		s.Status, s.FinishedAt = Failed, &now
		s.Error = "the process ended before the sequence did" + s.leftText()
		if err := h.saveSequence(s); err != nil {
			return err
		}
	}
	return nil
}

// runOf finds the run that a sync had within a run of a sequence.
func (h *History) runOf(s *SequenceRun, sync string) string {
	ids, err := h.ids()
	if err != nil {
		return ""
	}
	for _, id := range ids {
		if id < s.ID {
			break // older than the sequence
		}
		if h.syncOf(id) != sync {
			continue
		}
		if r, err := h.read(id); err == nil && r.SequenceRun == s.ID {
			return id
		}
	}
	return ""
}

func (p *SequencePart) take(r *Run) {
	p.Run, p.Status = r.ID, r.Status
	p.Rows, p.Operations, p.RowErrors = r.Rows.Read, r.Operations.Total(), rowErrors(r)
}

// rowErrors counts a run's rows that failed or were rejected.
func rowErrors(r *Run) int64 {
	n := r.Rows.Rejected
	if r.Outcomes != nil {
		n += r.Outcomes.Failed
	}
	return n
}

func (s *SequenceRun) leftText() string {
	if left := s.NotBegun(); len(left) > 0 {
		return "; not begun: " + strings.Join(left, ", ")
	}
	return ""
}

// sequenceRecord keeps the record of a sequence up to date on disk while it
// runs.
type sequenceRecord struct {
	history *History
	log     func(err error)

	mu  sync.Mutex // guards run
	run *SequenceRun
}

// beginSequence records that a sequence begins, or goes on: where the id is of
// a record whose process ended, that is continued with what its parts were.
func (e *Engine) beginSequence(seq models.Sequence, o RunOptions) (*sequenceRecord, error) {
	now := e.o.Now()
	r := &SequenceRun{ID: o.ID, Sequence: seq.Name, Status: Running, StartedAt: now, Trigger: o.Trigger, PID: os.Getpid()}
	was := map[string]SequencePart{}
	if r.ID == "" {
		var err error
		if r.ID, err = NewRunID(now); err != nil {
			return nil, err
		}
	} else if old, err := e.history.readSequence(r.ID); err == nil && old.Sequence == seq.Name {
		r.StartedAt, r.Resumed = old.StartedAt, true
		for _, step := range old.Steps {
			for _, p := range step {
				was[p.Sync] = p
			}
		}
	}
	for _, step := range seq.Steps {
		var parts []SequencePart
		for _, name := range step {
			p, ok := was[name]
			if !ok {
				p = SequencePart{Sync: name, Status: NotBegun}
			}
			parts = append(parts, p)
		}
		r.Steps = append(r.Steps, parts)
	}
	if err := e.history.saveSequence(r); err != nil {
		return nil, err
	}
	return &sequenceRecord{history: e.history, run: r, log: func(err error) {
		e.o.Logger.Warn("the record of a sequence could not be written", "sequence", seq.Name, "error", err)
	}}, nil
}

// change changes a part and saves the record. A nil record is that of no
// sequence.
func (s *sequenceRecord) change(step, at int, f func(p *SequencePart)) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.run.Steps[step][at])
	if err := s.history.saveSequence(s.run); err != nil {
		s.log(err)
	}
}

// end saves how the sequence ended: as its worst part did.
func (s *sequenceRecord) end(now time.Time, canceled bool, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.run
	worst := Succeeded
	var reasons []string
	for _, step := range r.Steps {
		for _, p := range step {
			status := p.Status
			switch {
			case p.Error != "" && status != Halted && status != Canceled:
				status = Failed
			case status == NotBegun && canceled:
				status = Canceled
			}
			if severity[status] > severity[worst] {
				worst = status
			}
			if p.Error != "" {
				reasons = append(reasons, fmt.Sprintf("sync %s: %s", p.Sync, p.Error))
			}
		}
	}
	if err != nil && worst == Succeeded {
		worst = Failed
	}
	r.Status, r.FinishedAt = worst, &now
	if err != nil {
		r.Error = strings.TrimPrefix(strings.Join(reasons, "; ")+r.leftText(), "; ")
	}
	return s.history.saveSequence(r)
}

// severity orders the statuses that a sequence's parts can end with.
var severity = map[Status]int{Succeeded: 0, PassedOver: 0, CompletedWithErrors: 1, Canceled: 2, Halted: 3, Failed: 4}

// firstLine is the first line of a text.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
