package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"coho/destinations"
	"coho/models"
	"coho/planner"
)

// What the snapshots of a sync's org hold is given to others: also while the sync
// itself runs, and not where it belongs to another org.
func TestParents(t *testing.T) {
	w := newWorld(t, "accounts", "people", "never")
	w.syncs["people"].Object = "Contact"
	w.syncs["never"].Object = "Contact"
	w.fill("accounts", "a1", "One", "a2", "Two")
	w.fill("people", "p1", "Ann")
	w.must("accounts")
	w.must("people")
	object := w.syncs["accounts"].Object
	read := func(e *Engine, object, field string) string {
		t.Helper()
		var got []string
		p := parents{e: e, destination: w.syncs["accounts"].Destination, org: w.org.Org}
		if err := p.Records(t.Context(), object, field, func(value, id string) {
			if id == "" {
				t.Error("a record without an Id")
			}
			got = append(got, value)
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		return fmt.Sprint(p.Syncs(object, field), got)
	}
	w.with(func(e *Engine) {
		for _, c := range []struct{ object, field, want string }{
			{object, "Key__c", "[accounts] [a1 a2]"},
			{object, "NAME", "[accounts] [One Two]"},
			{"contact", "Name", "[people never] [Ann]"},
			{object, "Nothing__c", "[] []"},
			{"Nobody", "Name", "[] []"},
		} {
			if got := read(e, c.object, c.field); got != c.want {
				t.Errorf("%s.%s: %s, want %s", c.object, c.field, got, c.want)
			}
		}
		if len(e.shared.stores.open) != 0 {
			t.Errorf("%d stores are left open", len(e.shared.stores.open))
		}
		// The sync runs: its store is shared.
		if err := e.held("accounts", "test", func() error {
			store, err := e.openStore("accounts")
			if err != nil {
				return err
			}
			got := read(e, object, "Name")
			if got != "[accounts] [One Two]" {
				t.Errorf("beside the sync: %s", got)
			}
			return e.shared.stores.drop(store)
		}); err != nil {
			t.Fatal(err)
		}
		p := parents{e: e, destination: w.syncs["accounts"].Destination, org: func(context.Context) (string, error) { return "00Dother", nil }}
		if err := p.Records(t.Context(), object, "Name", func(value, _ string) { t.Errorf("%s is of another org", value) }); err != nil {
			t.Error(err)
		}
	})
	w.syncs["accounts"].Mode = models.ModeArchive
	w.with(func(e *Engine) {
		if got := read(e, object, "Name"); got != "[] []" {
			t.Errorf("of a sync that deletes: %s", got)
		}
	})
}

// A row that was passed over, or carried out in part, is planned again and told
// of among the run's rows, and is no failure.
func TestPassedOverRows(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a1", "One", "a2", "Two", "a3", "Three")
	o := w.options()
	o.OpenDestination = func(string) (destinations.Destination, error) { return partial{w.org}, nil }
	for round := range 2 {
		e, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		run, err := e.Run(t.Context(), "accounts", RunOptions{})
		if err = errors.Join(err, e.Close()); err != nil {
			t.Fatal(err)
		}
		if run.Status != Succeeded || run.Outcomes.Skipped != 1 || len(run.Errors) != 1 || run.Errors[0].Count != 2 {
			t.Errorf("round %d: %s %+v %+v", round, run.Status, run.Outcomes, run.Errors)
		}
		if want := int64(3 - round); run.Operations.Total() != want {
			t.Errorf("round %d: %d operations, want %d", round, run.Operations.Total(), want)
		}
	}
}

// partial passes a1 over and carries a2 out without its phone.
type partial struct{ *org }

func (p partial) Open(ctx context.Context, s *models.Sync, cols []models.Column) (destinations.Target, error) {
	t, err := p.org.Open(ctx, s, cols)
	if err != nil {
		return nil, err
	}
	return partialTarget{t.(*target)}, nil
}

type partialTarget struct{ *target }

func (p partialTarget) Apply(ctx context.Context, a destinations.Application) error {
	for pass := range a.Plan.Passes() {
		ops, err := a.Plan.Operations(pass)
		if err != nil {
			return err
		}
		for ops.Next() {
			op := ops.Operation().Clone()
			n, err := a.Journal.Begin(ctx, destinations.Batch{API: "rest", Step: "upsert", Seqs: nil})
			if err != nil {
				return err
			}
			o := destinations.Outcome{Result: destinations.Created, ID: "id" + op.Key[0]}
			switch op.Key[0] {
			case "a1":
				o = destinations.Outcome{Result: destinations.Skipped, Code: "REFERENCE_NOT_FOUND", Message: "passed over"}
			case "a2":
				o.Code, o.Message, o.Omitted = "REFERENCE_NOT_FOUND", "sent without Phone", []int{1}
			}
			if err := a.Journal.Settle(ctx, n, []*planner.Operation{op}, []destinations.Outcome{o}, true); err != nil {
				return err
			}
		}
		if err := errors.Join(ops.Err(), ops.Close()); err != nil {
			return err
		}
	}
	return nil
}
