package salesforce

import (
	"context"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

func (w *world) openPicklist() *picklist {
	w.Helper()
	s := &models.Sync{
		Name: "tiers", Object: "Account", Picklist: "Tier__c", Mode: models.ModeAll, Pos: "coho.toml:1:1",
		Model: models.Model{PrimaryKey: []string{"key"}}, Match: models.Match{Field: "value", Column: "key"},
		Fields: []models.Field{{Name: "label", Column: "name"}},
	}
	target, err := w.dest.Open(context.Background(), s, accountColumns)
	if err != nil {
		w.Fatal(err)
	}
	return target.(*picklist)
}

// TestPicklistOutcomes: what cannot be sent and what the org refuses fails every
// value of the list, and a batch that an earlier run left open is closed.
func TestPicklistOutcomes(t *testing.T) {
	labelled := func(value, label string) *planner.Operation {
		return op(planner.Upsert, value, planner.Assignment{Cell: models.Cell{Text: label}, Send: planner.Always})
	}
	for name, c := range map[string]struct {
		ops   []*planner.Operation
		code  string
		wrote int
	}{
		"refused by the org": {[]*planner.Operation{labelled("New", "New"), labelled("", "nothing")}, "FIELD_INTEGRITY_EXCEPTION", 1},
		"refused here":       {[]*planner.Operation{labelled("New", "Same"), labelled("Newer", "Same")}, codeListRefused, 0},
		"as it is":           {[]*planner.Operation{labelled("Gold", "Gold")}, "", 0},
		"taken":              {[]*planner.Operation{labelled("New", "New"), op(planner.Archive, "Gold")}, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			p := w.openPicklist()
			before, err := p.client.ReadValueSet(t.Context(), api.CustomField, p.name)
			if err != nil {
				t.Fatal(err)
			}
			l := w.ledger(c.ops)
			if _, err := l.Begin(t.Context(), destinations.Batch{API: "metadata", Step: "replace", Seqs: planner.Seqs{{From: 0, To: 1}}}); err != nil {
				t.Fatal(err)
			}
			if err := p.Apply(t.Context(), destinations.Application{Plan: l, Journal: l}); err != nil {
				t.Fatal(err)
			}
			if len(l.outcomes) != len(c.ops) || len(l.open) != 0 {
				t.Errorf("%d outcomes, %d batches open", len(l.outcomes), len(l.open))
			}
			for seq, o := range l.outcomes {
				if o.Code != c.code || (o.Result == destinations.Failed) != (c.code != "") {
					t.Errorf("operation %d: %+v", seq, o)
				}
			}
			if n := w.org.Counters().Calls["soap.updateMetadata"]; n != c.wrote {
				t.Errorf("%d calls that write, want %d", n, c.wrote)
			}
			after, err := p.client.ReadValueSet(t.Context(), api.CustomField, p.name)
			if err != nil {
				t.Fatal(err)
			}
			if name == "taken" {
				if len(after.Values) != len(before.Values)+1 || after.Values[0].Active && after.Values[0].Name == "Gold" {
					t.Errorf("%+v", after.Values)
				}
			} else if len(after.Values) != len(before.Values) {
				t.Errorf("the list has changed: %+v", after.Values)
			}
		})
	}
}

// TestPicklistBusy: another change of the setup under way is waited for.
func TestPicklistBusy(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	p := w.openPicklist()
	l := w.ledger([]*planner.Operation{op(planner.Upsert, "New")})
	w.org.AddFault(emulator.Fault{Match: "soap", Status: 500, Code: "UNABLE_TO_LOCK_ROW", Message: "another deployment in progress", Times: 2})
	if err := p.Apply(t.Context(), destinations.Application{Plan: l, Journal: l}); err != nil {
		t.Fatal(err)
	}
	l.want(destinations.Created, 1)
	stop := make(chan struct{})
	close(stop)
	l = w.ledger([]*planner.Operation{op(planner.Upsert, "Newer")})
	if err := p.Apply(t.Context(), destinations.Application{Plan: l, Journal: l, Stop: stop}); err != destinations.ErrStopped {
		t.Errorf("%v", err)
	}
}
