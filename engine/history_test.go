package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// saved puts runs into a history, a second apart, and returns their ids.
func saved(t *testing.T, h *History, syncs ...string) []string {
	t.Helper()
	var ids []string
	for i, s := range syncs {
		at := start.Add(time.Duration(i) * time.Second)
		id, err := NewRunID(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.save(&Run{ID: id, Sync: s, Status: Succeeded, StartedAt: at, Outcomes: &OutcomeCounts{Created: int64(i)}, API: &APICounts{}, Errors: []ErrorCount{}}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestRunIDsSortByTime(t *testing.T) {
	var ids []string
	at := time.Date(2026, 12, 31, 23, 59, 59, 998e6, time.FixedZone("east", 3600))
	for range 50 {
		id, err := NewRunID(at)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		at = at.Add(time.Millisecond)
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("%q", ids)
	}
	if a, _ := NewRunID(at); a != filepath.Base(a) || strings.ContainsAny(a, " :/\\") {
		t.Errorf("%q is no file name", a)
	}
	if a, _ := NewRunID(at); func() bool { b, _ := NewRunID(at); return a == b }() {
		t.Errorf("two runs of one instant are both %q", a)
	}
}

func TestHistoryListAndGet(t *testing.T) {
	h := OpenHistory(filepath.Join(t.TempDir(), "runs"), Retention{Runs: 100, Age: -1})
	if runs, err := h.List("", 0); err != nil || len(runs) != 0 {
		t.Fatalf("a history that is not there yet: %v, %v", runs, err)
	}
	ids := saved(t, h, "accounts", "contacts", "accounts", "contacts")
	list := func(sync string, max int) (out []string) {
		t.Helper()
		runs, err := h.List(sync, max)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			out = append(out, r.ID)
		}
		return out
	}
	newest := slices.Clone(ids)
	slices.Reverse(newest)
	for _, c := range []struct {
		sync string
		max  int
		want []string
	}{
		{"", 0, newest}, {"", 2, newest[:2]}, {"accounts", 0, []string{ids[2], ids[0]}}, {"accounts", 1, ids[2:3]}, {"leads", 0, nil},
	} {
		if got := list(c.sync, c.max); !slices.Equal(got, c.want) {
			t.Errorf("List(%q, %d): %q, want %q", c.sync, c.max, got, c.want)
		}
	}
	for _, c := range []struct{ by, want string }{{ids[1], ids[1]}, {"accounts", ids[2]}, {"contacts", ids[3]}} {
		if r, err := h.Get(c.by); err != nil || r.ID != c.want {
			t.Errorf("Get(%q): %v, %v", c.by, r, err)
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(h.dir), "secret.json"), []byte(`{"run":"secret"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, by := range []string{"leads", "../secret", "..", filepath.Join(h.dir, ids[0])} {
		var usage *UsageError
		if r, err := h.Get(by); !errors.As(err, &usage) {
			t.Errorf("Get(%q): %v, %v", by, r, err)
		}
	}
	if r, err := h.Get(ids[1]); err != nil || r.Outcomes.Created != 1 || !r.StartedAt.Equal(start.Add(time.Second)) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestHistoryErrors(t *testing.T) {
	h := OpenHistory(filepath.Join(t.TempDir(), "runs"), Retention{Runs: 100, Age: -1})
	run := &Run{ID: "r"}
	rec := newRecorder(h, run)
	const n = 3000 // more than the buffer holds
	for i := range n {
		code := "RARE"
		if i%3 > 0 {
			code = "OFTEN"
		}
		if err := rec.rowError(&RowError{Key: map[string]string{"k": fmt.Sprint(i)}, Code: code, Message: fmt.Sprintf("row %d <&>", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := rec.close(); err != nil {
		t.Fatal(err)
	}
	want := []ErrorCount{{"OFTEN", n * 2 / 3, "row 1 <&>"}, {"RARE", n / 3, "row 0 <&>"}}
	if !slices.Equal(run.Errors, want) {
		t.Errorf("%+v", run.Errors)
	}
	read := func(max int) (keys []string) {
		t.Helper()
		if err := h.Errors("r", func(e *RowError) bool {
			if e.Fields == nil {
				t.Fatal("fields is null")
			}
			keys = append(keys, e.Key["k"])
			return max == 0 || len(keys) < max
		}); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if got := read(0); len(got) != n || got[0] != "0" || got[n-1] != fmt.Sprint(n-1) {
		t.Errorf("%d rows, %q", len(got), got[:3])
	}
	if got := read(2); len(got) != 2 {
		t.Errorf("%q", got)
	}
	// A crash tears the last line.
	b, err := os.ReadFile(h.errorsPath("r"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.errorsPath("r"), b[:len(b)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(0); len(got) != n-1 {
		t.Errorf("%d rows of a torn file", len(got))
	}
	// A line that a crash tore in the middle of the file costs itself only.
	if err := os.WriteFile(h.errorsPath("r"), append([]byte("{\n"), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(0); len(got) != n {
		t.Errorf("%d rows of a file with a torn line", len(got))
	}
	if err := h.Errors("no such run", func(*RowError) bool { t.Error("a row"); return true }); err != nil {
		t.Error(err)
	}
}

func TestHistoryKeepsSoMany(t *testing.T) {
	w := newWorld(t, "accounts", "contacts")
	o := w.options()
	o.Keep = Retention{Runs: 3}
	o.Syncs["accounts"].Fields[0].Column = "phone"
	w.fill("accounts", "a", plannerBad)
	w.warehouse.rows["accounts"][0][2] = plannerBad // a row error in each run
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var last []string
	for range 5 {
		run, err := e.Run(t.Context(), "accounts", RunOptions{})
		if err != nil || run.Status != CompletedWithErrors {
			t.Fatalf("%v, %+v", err, run)
		}
		last = append(last, run.ID)
	}
	entries, err := os.ReadDir(filepath.Join(w.dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	var names, want []string
	for _, f := range entries {
		names = append(names, f.Name())
	}
	for _, id := range last[2:] {
		want = append(want, id+".errors.jsonl", id+".json")
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("kept %q, want %q", names, want)
	}
}

func TestLockClosesRunsOfTheDead(t *testing.T) {
	w := newWorld(t, "accounts")
	h := OpenHistory(filepath.Join(w.dir, "runs"), Retention{Runs: 100, Age: -1})
	ids := saved(t, h, "accounts", "accounts")
	if err := h.save(&Run{ID: ids[0], Sync: "accounts", Status: Running, StartedAt: start}); err != nil {
		t.Fatal(err)
	}
	// A run whose text merely looks so.
	if err := h.save(&Run{ID: ids[1], Sync: "accounts", Status: Succeeded, Error: `"status":"running"`}); err != nil {
		t.Fatal(err)
	}
	// A write that a kill cut short.
	if err := os.WriteFile(h.path(ids[0])+".tmp123", []byte(`{"run"`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.with(func(e *Engine) {
		if r, err := e.History().Get(ids[0]); err != nil || r.Status != Running {
			t.Fatalf("before the lock: %+v, %v", r, err)
		}
		if err := e.Lock("coho run"); err != nil {
			t.Fatal(err)
		}
		r, err := e.History().Get(ids[0])
		if err != nil || r.Status != Failed || r.FinishedAt == nil || !strings.Contains(r.Error, "the process ended before the run did") {
			t.Errorf("%+v, %v", r, err)
		}
		if r, err := e.History().Get(ids[1]); err != nil || r.Status != Succeeded || r.FinishedAt != nil {
			t.Errorf("%+v, %v", r, err)
		}
		if runs, err := e.History().List("", 0); err != nil || len(runs) != 2 {
			t.Errorf("%v, %v", runs, err)
		}
	})
	if _, err := os.Stat(h.path(ids[0]) + ".tmp123"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the torn write is still there: %v", err)
	}
}
