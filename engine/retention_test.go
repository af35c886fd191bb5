package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coho/models"
)

// kept lists the ids that a history has, oldest first.
func kept(t *testing.T, h *History) []string {
	t.Helper()
	ids, err := h.ids()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(ids)
	return ids
}

func TestRetentionByAgeAndCount(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name  string
		keep  Retention
		syncs []string // of runs a day apart, the last one today
		want  []int    // which of them stay
	}{
		{"so many of each sync", Retention{Runs: 2}, []string{"a", "a", "b", "a", "a", "b"}, []int{2, 3, 4, 5}},
		{"a sync that runs often takes no other's place", Retention{Runs: 2}, []string{"b", "a", "a", "a", "a"}, []int{0, 3, 4}},
		{"so many days", Retention{Runs: 9, Age: 2 * day}, []string{"a", "b", "a", "b", "a"}, []int{2, 3, 4}},
		{"the last run stays, however old", Retention{Runs: 9, Age: day}, []string{"a", "b", "c", "c", "c"}, []int{0, 1, 3, 4}},
		{"any age", Retention{Runs: 9, Age: -1}, []string{"a", "a", "a"}, []int{0, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := OpenHistory(filepath.Join(t.TempDir(), "runs"), c.keep)
			now := start.Add(time.Duration(len(c.syncs)-1) * day)
			var ids, want []string
			for i, s := range c.syncs {
				at := start.Add(time.Duration(i) * day)
				id, err := NewRunID(at)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
				if err := errors.Join(
					h.save(&Run{ID: id, Sync: s, Status: Succeeded, StartedAt: at}),
					h.saveSequence(&SequenceRun{ID: id, Sequence: s, Status: Succeeded, StartedAt: at}),
				); err != nil {
					t.Fatal(err)
				}
			}
			for _, i := range c.want {
				want = append(want, ids[i])
			}
			if err := h.prune(now); err != nil {
				t.Fatal(err)
			}
			if got := kept(t, h); !slices.Equal(got, want) {
				t.Errorf("kept runs %q, want %q", got, want)
			}
			sequences, err := recordIDs(h.sequences)
			slices.Reverse(sequences)
			if err != nil || !slices.Equal(sequences, want) {
				t.Errorf("kept sequences %q, want %q, %v", sequences, want, err)
			}
		})
	}
}

func TestRetentionKeepsRunsWhosePlanIsKept(t *testing.T) {
	w := shrunk(t)
	halted := halt(t, w)
	h := OpenHistory(filepath.Join(w.dir, "runs"), Retention{Runs: 1})
	for i := range 3 {
		at := start.Add(time.Hour * time.Duration(i+1))
		id, err := NewRunID(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.save(&Run{ID: id, Sync: "accounts", Status: Canceled, StartedAt: at}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.prune(start.Add(24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, h); len(got) != 2 || got[0] != halted.ID {
		t.Errorf("kept %q, want the run %s, whose plan waits, and the last one", got, halted.ID)
	}
	if _, err := w.run("accounts", RunOptions{Approve: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.prune(start.Add(24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, h); slices.Contains(got, halted.ID) {
		t.Errorf("kept %q: the plan of %s is applied", got, halted.ID)
	}
}

// TestHistoryOfTornFiles holds everything that reads the history against files
// as a machine that lost power may leave them.
func TestHistoryOfTornFiles(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"empty", ""}, {"torn", `{"run":"x","sync":"accounts","status":"running"`}, {"zeros", "\x00\x00\x00\x00"}, {"not an object", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "accounts")
			w.fill("accounts", "a", "Acme")
			good := w.must("accounts")
			h := OpenHistory(filepath.Join(w.dir, "runs"), Retention{})
			torn := start.Add(-time.Hour).Format(runIDTime) + "-00000000"
			if err := errors.Join(
				os.MkdirAll(h.sequences, 0o700),
				os.WriteFile(h.path(torn), []byte(c.text), 0o600), mark(h.dir, torn),
				os.WriteFile(h.sequencePath(torn), []byte(c.text), 0o600), mark(h.sequences, torn),
				os.WriteFile(filepath.Join(h.dir, indexFile), []byte("x accounts\n"+good.ID+" acc"), 0o600),
			); err != nil {
				t.Fatal(err)
			}
			runs, err := h.List("", 0)
			if err != nil || len(runs) != 1 || runs[0].ID != good.ID {
				t.Errorf("listed %v, %v", runs, err)
			}
			if sequences, err := h.ListSequences("", 0); err != nil || len(sequences) != 0 {
				t.Errorf("listed %v, %v", sequences, err)
			}
			if r, err := h.Get("accounts"); err != nil || r.ID != good.ID {
				t.Errorf("the sync's last run is %v, %v", r, err)
			}
			var damaged *damagedError
			if _, err := h.Get(torn); !errors.As(err, &damaged) {
				t.Errorf("the torn record itself: %v", err)
			}
			w.must("accounts") // the lock, another record, retention
		})
	}
}

// TestRetentionIndex: a new process knows by the index of which sync a run is,
// and what the index lacks or has too much changes nothing.
func TestRetentionIndex(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs")
	h := OpenHistory(dir, Retention{Runs: 40})
	var syncs []string
	for i := range 60 {
		syncs = append(syncs, fmt.Sprint("sync", i%2))
	}
	ids := saved(t, h, syncs...)
	if err := h.prune(start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	// By the index alone: the records are gone but for their names.
	for _, id := range ids {
		if err := os.WriteFile(h.path(id), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := OpenHistory(dir, Retention{Runs: 10})
	if got := again.syncOf(ids[1]); got != "sync1" {
		t.Fatalf("the index says %q", got)
	}
	if err := again.prune(start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, again); !slices.Equal(got, ids[40:]) {
		t.Errorf("%d kept, want the last 10 of each sync", len(got))
	}
}

func TestConfigHash(t *testing.T) {
	base := upsert("accounts")
	hash := ConfigHash(base)
	if len(hash) != 16 || ConfigHash(upsert("accounts")) != hash {
		t.Fatalf("%q is not stable", hash)
	}
	for _, c := range []struct {
		name   string
		change func(s *models.Sync)
		same   bool
	}{
		{"its place", func(s *models.Sync) { s.Pos, s.Fields[0].Pos = "coho.toml:9:1", "coho.toml:12:1" }, true},
		{"the query", func(s *models.Sync) { s.Model.SQL += " " }, false},
		{"a mapping", func(s *models.Sync) { s.Fields[1].Expr = "x" }, false},
		{"a guard", func(s *models.Sync) { s.Guards.MaxDeletes.Count = 2 }, false},
		{"the schedule", func(s *models.Sync) { s.Schedule = "@hourly" }, false},
		{"the batch size", func(s *models.Sync) { s.Write.RESTBatchSize = 7 }, false},
	} {
		s := upsert("accounts")
		c.change(s)
		if got := ConfigHash(s); (got == hash) != c.same {
			t.Errorf("%s: %s, the first is %s", c.name, got, hash)
		}
	}
}
