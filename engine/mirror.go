package engine

import (
	"context"
	"fmt"
	"strings"

	"coho/destinations"
	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
)

// compared is what a sync's rows are compared with: its snapshot, or what the org
// holds where the target shows that.
func (e *Engine) compared(ctx context.Context, snap planner.Snapshot, p *prepared) (planner.Snapshot, error) {
	m, ok := p.target.(destinations.Mirror)
	if !ok {
		return snap, nil
	}
	spec := e.spec(p, p.schema, false)
	held, err := m.Mirror(ctx, spec.KeyHash)
	if err != nil {
		return nil, fmt.Errorf("read what the org holds: %w", err)
	}
	return held, nil
}

// checkPlan asks a target that has an opinion whether a plan may be applied at all.
func checkPlan(target destinations.Target, plan *planner.Plan, sum *planner.Summary) error {
	m, ok := target.(destinations.Mirror)
	if !ok {
		return nil
	}
	return m.CheckPlan(unsettled{plan}, sum.Rows.Rejected)
}

// forget drops an unfinished plan whose rows are compared with the org itself:
// what became of it shows in the org.
func (r *running) forget(store *snapshot.Store, dir string) error {
	open, err := store.OpenBatches()
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	for _, b := range open {
		if err := store.Settle(b.Number, nil, true); err != nil {
			return fmt.Errorf("close batch %d: %w", b.Number, err)
		}
	}
	return r.drop(store, dir)
}

// togetherError refuses to deal with one value of a picklist sync by itself.
func togetherError(s *models.Sync) error {
	return usagef("sync %s is of picklist values, which are planned and sent together: `coho plan %s` shows them", s.Name, s.Name)
}

// picksFrom reports whether a sync's records may have the values of a picklist
// sync: values come before the records that need them.
func picksFrom(s, list *models.Sync) bool {
	if list.Picklist == "" || s.Picklist != "" || s.Destination != list.Destination {
		return false
	}
	for i := range s.Fields {
		if of(s, list.Object) && strings.EqualFold(s.Fields[i].Name, list.Picklist) {
			return true
		}
	}
	return strings.EqualFold(list.Object, "GlobalValueSet") // which fields have it, only the org knows
}
