package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"coho/models"
)

// parts lists a record's parts as "sync status".
func parts(s *SequenceRun) (out []string) {
	for _, step := range s.Steps {
		for _, p := range step {
			out = append(out, p.Sync+" "+string(p.Status))
		}
	}
	return out
}

// lastSequence is the record of the last run of nightly.
func (w *world) lastSequence() *SequenceRun {
	w.t.Helper()
	s, err := OpenHistory(w.dir+"/runs", Retention{}).Sequence("nightly")
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestSequenceHasOneRecordWithItsParts(t *testing.T) {
	for _, c := range []struct {
		name    string
		onError string
		change  func(w *world)
		status  Status
		parts   []string
		said    []string // in its error
	}{
		{"all well", "stop", func(*world) {}, Succeeded, []string{"a succeeded", "b succeeded", "c succeeded", "d succeeded"}, nil},
		{"a sync fails", "stop", func(w *world) { w.syncs["b"].Fields[0].Column = "nowhere" }, Failed,
			[]string{"a succeeded", "b failed", "c succeeded", "d not_begun"}, []string{"sync b: ", "not begun: d"}},
		{"a sync fails, the rest goes on", "continue", func(w *world) { w.syncs["b"].Fields[0].Column = "nowhere" }, Failed,
			[]string{"a succeeded", "b failed", "c succeeded", "d succeeded"}, []string{"sync b: "}},
		{"a row fails", "stop", func(w *world) { w.org.refuse["k-b"] = "STRING_TOO_LONG" }, CompletedWithErrors,
			[]string{"a succeeded", "b completed_with_errors", "c succeeded", "d succeeded"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := sequenced(t, "a", "b", "c", "d")
			c.change(w)
			ended, _ := w.sequence(t.Context(), c.onError, []string{"a"}, []string{"b", "c"}, []string{"d"})
			s := w.lastSequence()
			if s.Status != c.status || !slices.Equal(parts(s), c.parts) || s.FinishedAt == nil || s.Sequence != "nightly" || s.Trigger != "sequence" {
				t.Errorf("%+v", s)
			}
			for _, said := range c.said {
				if !strings.Contains(s.Error, said) {
					t.Errorf("the error is %q", s.Error)
				}
			}
			if (s.Error == "") != (c.said == nil) {
				t.Errorf("the error is %q", s.Error)
			}
			byRun := map[string]*Run{}
			for _, x := range ended {
				byRun[x.Run.ID] = x.Run
			}
			for _, p := range slices.Concat(s.Steps...) {
				if p.Status == NotBegun {
					continue
				}
				run := byRun[p.Run]
				if run == nil || run.Sync != p.Sync || run.Sequence != "nightly" || run.SequenceRun != s.ID || run.Rows.Read != p.Rows {
					t.Errorf("part %+v is of %+v", p, run)
				}
			}
		})
	}
}

func TestSequenceMaxRowErrors(t *testing.T) {
	for _, c := range []struct {
		limit models.Limit
		ok    bool
	}{
		{models.Limit{}, true},
		{models.Limit{Set: true, Count: 1}, true},
		{models.Limit{Set: true, Count: 0}, false},
		{models.Limit{Set: true, IsShare: true, Percent: 25}, true},
		{models.Limit{Set: true, IsShare: true, Percent: 24}, false},
	} {
		w := sequenced(t, "a", "b")
		w.fill("a", "k1", "One", "k2", "Two", "k3", "Three", "k4", "Four")
		w.org.refuse["k2"] = "STRING_TOO_LONG"
		w.sequences["nightly"] = models.Sequence{Name: "nightly", Steps: [][]string{{"a"}, {"b"}}, OnError: "stop", MaxRowErrors: c.limit}
		var ended []Ended
		var err error
		w.with(func(e *Engine) {
			err = e.RunSequence(t.Context(), "nightly", RunOptions{}, nil, func(x Ended) { ended = append(ended, x) })
		})
		s := w.lastSequence()
		if c.ok {
			if err != nil || len(ended) != 2 || s.Status != CompletedWithErrors {
				t.Errorf("%+v: %v, %+v", c.limit, err, s)
			}
			continue
		}
		var rows *RowErrorsError
		if !errors.As(err, &rows) || rows.Errors != 1 || rows.Rows != 4 || len(ended) != 1 || ended[0].Run.Status != CompletedWithErrors ||
			s.Status != Failed || !strings.Contains(s.Error, "sync a: 1 of 4 rows failed, more than the sequence's max_row_errors of "+map[bool]string{true: "24%", false: "0"}[c.limit.IsShare]) {
			t.Errorf("%+v: %v, %+v", c.limit, err, s)
		}
	}
}

func TestSequenceCanceledIsRecorded(t *testing.T) {
	w := sequenced(t, "a", "b")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.org.reach = func(point string) error {
		if point == "applied" {
			cancel()
		}
		return nil
	}
	if _, err := w.sequence(ctx, "continue", []string{"a"}, []string{"b"}); err == nil {
		t.Fatal("no error")
	}
	if s := w.lastSequence(); s.Status != Canceled || !slices.Equal(parts(s), []string{"a succeeded", "b not_begun"}) || !strings.Contains(s.Error, "not begun: b") {
		t.Errorf("%+v", s)
	}
}

// TestSequenceOfTheDead: what a killed process leaves is marked at the next
// start, and goes on under its own id.
func TestSequenceOfTheDead(t *testing.T) {
	w := sequenced(t, "a", "b", "c")
	w.sequences["nightly"] = models.Sequence{Name: "nightly", Steps: [][]string{{"a"}, {"b"}, {"c"}}}
	const id = "20260301T120000.000Z-00000001"
	var asItWas []byte
	w.with(func(e *Engine) {
		// The process dies while b runs: what is on disk then is all there is.
		w.org.reach = func(point string) error {
			if point != "begun" {
				return nil
			}
			b, err := os.ReadFile(e.history.sequencePath(id))
			if err != nil {
				t.Error(err)
			}
			if strings.Contains(string(b), `"sync":"a","run":"`) && strings.Contains(string(b), `"sync":"b","run":"`) {
				asItWas = b
			}
			return nil
		}
		if err := e.RunSequence(t.Context(), "nightly", RunOptions{ID: id}, nil, func(x Ended) {
			if x.Sync == "b" {
				w.org.reach = nil
			}
		}); err != nil {
			t.Fatal(err)
		}
		if asItWas == nil {
			t.Fatal("the record does not keep up")
		}
		if err := errors.Join(os.WriteFile(e.history.sequencePath(id), asItWas, 0o600), mark(e.history.sequences, id)); err != nil {
			t.Fatal(err)
		}
	})
	w.with(func(e *Engine) {
		if err := e.Lock("coho run"); err != nil {
			t.Fatal(err)
		}
		s := w.lastSequence()
		if s.Status != Failed || s.FinishedAt == nil || !strings.Contains(s.Error, "the process ended before the sequence did; not begun: c") || s.Steps[0][0].Status != Succeeded || s.Steps[2][0].Status != NotBegun {
			t.Fatalf("%+v", s)
		}
		first := s.Steps[0][0].Run
		done := 0
		o := RunOptions{ID: id, Do: func(ctx context.Context, sync string, o RunOptions) (*Run, error) {
			if o.SequenceRun != id || o.ID != "" {
				t.Errorf("%+v", o)
			}
			if sync == "a" {
				return nil, nil // over before
			}
			done++
			return e.Run(ctx, sync, o)
		}}
		if err := e.RunSequence(t.Context(), "nightly", o, nil, func(Ended) {}); err != nil {
			t.Fatal(err)
		}
		s = w.lastSequence()
		if done != 2 || !s.Resumed || s.Status != Succeeded || !slices.Equal(parts(s), []string{"a succeeded", "b succeeded", "c succeeded"}) {
			t.Errorf("%d done, %+v", done, s)
		}
		if s.Steps[0][0].Run != first || first == "" {
			t.Errorf("what was over before is of run %q, was %q", s.Steps[0][0].Run, first)
		}
		if all, err := e.History().ListSequences("", 0); err != nil || len(all) != 1 {
			t.Errorf("%d records, %v", len(all), err)
		}
	})
}

func TestKeptPlanIsListedPageByPage(t *testing.T) {
	w := shrunk(t)
	w.fill("accounts", "a", "Acme Inc")
	halted := halt(t, w)
	// The record shows what would go, with its values.
	var shown []string
	for _, s := range halted.Samples {
		if s.Operation == "archive" {
			if len(s.Fields) != 2 || s.Fields[0].Before == nil || s.Fields[0].After != nil || s.ID == "" {
				t.Errorf("%+v", s)
				continue
			}
			shown = append(shown, s.Key["k"]+" "+*s.Fields[0].Before)
		}
	}
	slices.Sort(shown)
	if want := []string{"b Bolt", "c Core", "d Dot"}; !slices.Equal(shown, want) {
		t.Errorf("shown %q, want %q", shown, want)
	}
	w.with(func(e *Engine) {
		list := func(of string, o KeptOptions) (out []string) {
			t.Helper()
			kept, err := e.KeptPlan(of, o, func(op *KeptOperation) bool {
				out = append(out, fmt.Sprint(op.Number, " ", op.Operation, " ", op.Key["k"]))
				return true
			})
			if err != nil || kept.Run != halted.ID || kept.Sync != "accounts" || kept.Operations != halted.Operations {
				t.Fatalf("%+v, %v", kept, err)
			}
			return out
		}
		all := list(halted.ID, KeptOptions{})
		if len(all) != 4 || !slices.Equal(list("accounts", KeptOptions{}), all) {
			t.Fatalf("%q", all)
		}
		if got := slices.Concat(list("accounts", KeptOptions{Max: 3}), list("accounts", KeptOptions{Offset: 3, Max: 3})); !slices.Equal(got, all) {
			t.Errorf("page by page: %q, at once %q", got, all)
		}
		if got := list("accounts", KeptOptions{Kinds: []string{"archive"}}); len(got) != 3 {
			t.Errorf("deletes: %q", got)
		}
		var usage *UsageError
		for _, of := range []string{"nobody", "../accounts", "20260301T120000.000Z-00000001"} {
			if _, err := e.KeptPlan(of, KeptOptions{}, nil); !errors.As(err, &usage) {
				t.Errorf("%q: %v", of, err)
			}
		}
		if _, err := e.KeptPlan("accounts", KeptOptions{Kinds: []string{"delete"}}, nil); !errors.As(err, &usage) {
			t.Errorf("%v", err)
		}
	})
	// Beside a process that holds the state it is listed all the same.
	holder := w.engine()
	defer holder.Close()
	if err := holder.Lock("coho serve"); err != nil {
		t.Fatal(err)
	}
	other := w.engine()
	defer other.Close()
	n := 0
	if _, err := other.KeptPlan("accounts", KeptOptions{}, func(*KeptOperation) bool { n++; return true }); err != nil || n != 4 {
		t.Errorf("%d operations, %v", n, err)
	}
}

func TestApproveTheRunThatWasSeenAndNoOther(t *testing.T) {
	w := shrunk(t)
	first := halt(t, w)
	second := halt(t, w) // plans anew; what the first one showed is gone
	var usage *UsageError
	if _, err := w.run("accounts", RunOptions{ApproveRun: first.ID}); !errors.As(err, &usage) || !strings.Contains(err.Error(), first.ID) {
		t.Fatalf("a plan that is gone was approved: %v", err)
	}
	if _, err := w.run("accounts", RunOptions{ApproveRun: "accounts"}); !errors.As(err, &usage) {
		t.Fatalf("approved by the sync's name: %v", err)
	}
	w.with(func(e *Engine) {
		if sync, err := e.Approval(second.ID); err != nil || sync != "accounts" {
			t.Errorf("%q, %v", sync, err)
		}
	})
	run, err := w.run("accounts", RunOptions{ApproveRun: second.ID})
	if err != nil || run.Resumed != second.ID || run.Operations != second.Operations || run.Outcomes.Deleted != 3 {
		t.Fatalf("%v, %+v", err, run)
	}
	if _, err := w.run("accounts", RunOptions{ApproveRun: second.ID}); !errors.As(err, &usage) {
		t.Errorf("approved twice: %v", err)
	}
}
