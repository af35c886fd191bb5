package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"coho/planner/snapshot"
)

// SnapshotInfo says what a sync's state holds.
type SnapshotInfo struct {
	Sync       string   `json:"sync"`
	Org        string   `json:"org"`
	Object     string   `json:"object"`
	MatchField string   `json:"match_field"`
	PrimaryKey []string `json:"primary_key"`
	Rows       int64    `json:"rows"`
	Gone       int64    `json:"gone"`
	Refused    int64    `json:"refused"`
	Bytes      int64    `json:"bytes"`
	// Unfinished is the run whose plan is not finished, "" if none is.
	Unfinished string `json:"unfinished,omitempty"`
}

// held calls f while nothing else uses the sync's state.
func (e *Engine) held(name, purpose string, f func() error) error {
	if _, err := e.Sync(name); err != nil {
		return err
	}
	if err := e.Lock(purpose + " " + name); err != nil {
		return err
	}
	release, err := e.claim(name)
	if err != nil {
		return err
	}
	defer release()
	return f()
}

// open calls f with a sync's store. The caller holds the sync.
func (e *Engine) open(name string, f func(*snapshot.Store) error) (err error) {
	store, err := e.openStore(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.shared.stores.drop(store)) }()
	return f(store)
}

// withStore calls f with a sync's store while nothing else uses it.
func (e *Engine) withStore(name, purpose string, f func(*snapshot.Store) error) error {
	return e.held(name, purpose, func() error { return e.open(name, f) })
}

// SnapshotInfo returns what a sync's state holds.
func (e *Engine) SnapshotInfo(name string) (info SnapshotInfo, err error) {
	err = e.withStore(name, "coho snapshot show", func(s *snapshot.Store) error {
		id, _ := s.Identity()
		stats, err := s.Stats()
		if err != nil {
			return fmt.Errorf("read the snapshot of sync %s: %w", name, err)
		}
		info = SnapshotInfo{Sync: name, Org: id.Org, Object: id.Object, MatchField: id.MatchField, PrimaryKey: id.PrimaryKey, Rows: stats.Rows, Gone: stats.Gone, Refused: stats.Refused, Bytes: stats.Bytes}
		if ref, ok, err := s.ActivePlan(); err != nil {
			return err
		} else if ok {
			info.Unfinished = ref.RunID
		}
		return nil
	})
	return info, err
}

// Unfinished returns the run whose plan the sync's next run finishes, because
// its process died, or it was stopped or ran out of budget; "" where there is
// none, or only one that a guard halted. A sync without a plan on disk costs
// one look at its folder.
func (e *Engine) Unfinished(name string) (run string, err error) {
	left, err := filepath.Glob(filepath.Join(globEscape.Replace(e.syncDir(name)), planPrefix+"*"))
	if err != nil || len(left) == 0 {
		return "", err
	}
	err = e.withStore(name, "coho", func(s *snapshot.Store) error {
		ref, ok, err := s.ActivePlan()
		if err == nil && ok && ref.Halted != haltedByGuard {
			run = ref.RunID
		}
		return err
	})
	return run, err
}

// globEscape takes from a path what a pattern would make of it.
var globEscape = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// ResetSnapshot forgets all that is known of what a sync has written. The next
// run takes every row for new. An unfinished plan is forgotten with it.
func (e *Engine) ResetSnapshot(name string) error {
	return e.held(name, "coho snapshot reset", func() error {
		err := e.open(name, func(s *snapshot.Store) error {
			if err := s.Reset(); err != nil {
				return fmt.Errorf("reset the snapshot of sync %s: %w", name, err)
			}
			// Without the rows that it is about it would only be passed over.
			if err := ignoreMissing(os.Remove(filepath.Join(e.syncDir(name), orderFile))); err != nil {
				return fmt.Errorf("reset the snapshot of sync %s: %w", name, err)
			}
			return nil
		})
		var corrupt *snapshot.CorruptError
		if errors.As(err, &corrupt) {
			// What cannot be opened can still be forgotten.
			if err := os.RemoveAll(e.syncDir(name)); err != nil {
				return fmt.Errorf("remove the damaged snapshot of sync %s: %w", name, err)
			}
			return nil
		}
		return err
	})
}

// ExportSnapshot writes a sync's snapshot as JSON lines.
func (e *Engine) ExportSnapshot(name string, w io.Writer) error {
	return e.withStore(name, "coho snapshot export", func(s *snapshot.Store) error {
		if err := s.Export(w); err != nil {
			return fmt.Errorf("export the snapshot of sync %s: %w", name, err)
		}
		return nil
	})
}

// ImportSnapshot fills the empty state of a sync from what ExportSnapshot wrote,
// here or on another machine.
func (e *Engine) ImportSnapshot(name string, r io.Reader) error {
	return e.withStore(name, "coho snapshot import", func(s *snapshot.Store) error {
		if err := s.Import(r); err != nil {
			return fmt.Errorf("import the snapshot of sync %s: %w", name, err)
		}
		return nil
	})
}
