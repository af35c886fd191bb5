package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Retention says how much of the history is kept. The zero value is the default.
type Retention struct {
	// Runs is how many runs of each sync, and of each sequence, are kept; 0: 200.
	Runs int
	// Age is how long they are kept; 0: 90 days, less than 0: for good.
	Age time.Duration
}

const (
	defaultKeepRuns = 200
	defaultKeepAge  = 90 * 24 * time.Hour
)

func (r Retention) orDefault() Retention {
	if r.Runs <= 0 {
		r.Runs = defaultKeepRuns
	}
	if r.Age == 0 {
		r.Age = defaultKeepAge
	}
	return r
}

// ran drops what is past retention, now and then: looking at all records costs
// more the more there are, so it is done when a twentieth as many are new.
func (h *History) ran(now time.Time) error {
	h.mu.Lock()
	h.saves++
	due := h.saves*20 >= len(h.syncs)
	h.mu.Unlock()
	if !due {
		return nil
	}
	return h.prune(now)
}

// prune drops runs and sequences past what is kept. The last one of each sync
// and sequence stays, and so do runs whose plan is kept.
func (h *History) prune(now time.Time) error {
	h.mu.Lock()
	h.saves = 0
	h.mu.Unlock()
	ids, err := h.ids()
	if err != nil {
		return err
	}
	planned, err := h.planned()
	if err != nil {
		return err
	}
	kept, dropped := h.keep.apply(ids, now, h.syncOf, planned)
	if err := h.pruneCalls(kept, callRuns, allCallBytes); err != nil {
		return err
	}
	for _, id := range dropped {
		if err := errors.Join(ignoreMissing(os.Remove(h.path(id))), ignoreMissing(os.Remove(h.errorsPath(id)))); err != nil {
			return fmt.Errorf("drop run %s from the history: %w", id, err)
		}
		h.mu.Lock()
		delete(h.syncs, id)
		h.mu.Unlock()
	}
	if err := h.saveIndex(kept); err != nil {
		return err
	}
	ids, err = recordIDs(h.sequences)
	if err != nil {
		return err
	}
	name := func(id string) string {
		if s, err := h.readSequence(id); err == nil {
			return s.Sequence
		}
		return ""
	}
	_, dropped = h.keep.apply(ids, now, name, nil)
	for _, id := range dropped {
		if err := ignoreMissing(os.Remove(h.sequencePath(id))); err != nil {
			return fmt.Errorf("drop sequence run %s from the history: %w", id, err)
		}
	}
	return nil
}

// apply parts records, newest first, into those kept and those dropped.
func (r Retention) apply(ids []string, now time.Time, name func(id string) string, pinned map[string]bool) (kept, dropped []string) {
	seen := map[string]int{}
	for _, id := range ids {
		of := name(id)
		seen[of]++
		stays := seen[of] <= r.Runs
		if at, ok := timeOf(id); ok && r.Age > 0 && now.Sub(at) > r.Age {
			stays = false
		}
		if stays || pinned[id] || seen[of] == 1 && of != "" {
			kept = append(kept, id)
		} else {
			dropped = append(dropped, id)
		}
	}
	return kept, dropped
}

// timeOf returns the time that an id begins with.
func timeOf(id string) (time.Time, bool) {
	text, _, _ := strings.Cut(id, "-")
	at, err := time.Parse(runIDTime, text)
	return at, err == nil
}

// planned returns the runs whose plan is on disk, halted or unfinished.
func (h *History) planned() (map[string]bool, error) {
	syncs, err := os.ReadDir(h.syncsDir)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	out := map[string]bool{}
	for _, s := range syncs {
		if !s.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(h.syncsDir, s.Name()))
		if err = ignoreMissing(err); err != nil {
			return nil, fmt.Errorf("list kept plans: %w", err)
		}
		for _, f := range files {
			if id, ok := strings.CutPrefix(f.Name(), planPrefix); ok {
				out[id] = true
			}
		}
	}
	return out, nil
}

// indexFile says of which sync each run is, a line a run: reading it is cheaper
// than all records. What it lacks is read from the records, what it has too much
// does no harm.
const indexFile = "index"

// loadIndex takes the index into h.syncs. h.mu is held.
func (h *History) loadIndex() {
	h.indexed = 0
	b, err := os.ReadFile(filepath.Join(h.dir, indexFile))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		id, sync, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, known := h.syncs[id]; ok && !known && strings.HasSuffix(line, "\n") {
			h.syncs[id] = sync
			h.indexed++
		}
	}
}

// saveIndex writes the index anew where it lacks much.
func (h *History) saveIndex(ids []string) error {
	h.mu.Lock()
	if len(h.syncs)-h.indexed < 20+h.indexed/20 {
		h.mu.Unlock()
		return nil
	}
	var text strings.Builder
	for _, id := range ids {
		if sync, ok := h.syncs[id]; ok {
			text.WriteString(id + " " + sync + "\n")
		}
	}
	h.indexed = len(h.syncs)
	h.mu.Unlock()
	return writeFile(filepath.Join(h.dir, indexFile), []byte(text.String()))
}

// closeInterrupted marks runs whose process died as failed, then sequences, and
// returns those runs. The caller holds the state's lock, so nothing recorded as
// running is.
func (h *History) closeInterrupted(now time.Time) (runs []*Run, err error) {
	ids, err := marked(h.dir)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		r, err := h.read(id)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && r.Status != Running:
			if err := unmark(h.dir, id); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		}
		r.Status = Failed
		r.Error = "the process ended before the run did; the next run of the sync finishes its plan"
		r.FinishedAt = &now
		if err := h.save(r); err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, h.closeInterruptedSequences(now)
}
