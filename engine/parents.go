package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coho/destinations"
	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
)

// parents gives a sync's target what the snapshots of the syncs of its org hold,
// its own among them.
type parents struct {
	e           *Engine
	destination string
	org         func(ctx context.Context) (string, error)
}

var _ destinations.Parents = parents{}

// openTarget opens a sync's target, and tells it where references are looked up.
func (e *Engine) openTarget(ctx context.Context, dest destinations.Destination, s *models.Sync, cols []models.Column) (destinations.Target, error) {
	target, err := dest.Open(ctx, s, cols)
	if err != nil {
		return nil, err
	}
	if r, ok := target.(destinations.Referrer); ok {
		r.UseParents(parents{e: e, destination: s.Destination, org: dest.Org})
	}
	return target, nil
}

// Syncs implements destinations.Parents.
func (p parents) Syncs(object, field string) []string {
	var out []string
	for _, name := range p.e.o.SyncOrder {
		if s := p.e.o.Syncs[name]; s.Destination == p.destination && knows(s, object, field) {
			out = append(out, name)
		}
	}
	return out
}

// knows reports whether a sync's snapshot holds a field of an object's records.
func knows(s *models.Sync, object, field string) bool {
	if !writes(s, object) || len(s.Objects()) > 1 {
		return false // its records are of two objects, and only their Ids tell which
	}
	if strings.EqualFold(s.Match.Field, field) {
		return true
	}
	for i := range s.Fields {
		// A reference's cells are values of the record that it refers to, and
		// what is only sent on creation is not recorded.
		if f := &s.Fields[i]; strings.EqualFold(f.Name, field) && f.Lookup == nil && !f.OnCreate {
			return true
		}
	}
	return false
}

// writes reports whether a sync leaves records of an object in the org.
func writes(s *models.Sync, object string) bool {
	return s.Picklist == "" && s.Mode != models.ModeArchive && of(s, object)
}

// of reports whether a sync's records may be of an object.
func of(s *models.Sync, object string) bool {
	return slices.ContainsFunc(s.Objects(), func(o string) bool { return strings.EqualFold(o, object) })
}

// Records implements destinations.Parents.
func (p parents) Records(ctx context.Context, object, field string, each func(value, id string)) error {
	names := p.Syncs(object, field)
	if len(names) == 0 {
		return nil
	}
	org, err := p.org(ctx)
	if err != nil {
		return fmt.Errorf("destination %s: %w", p.destination, err)
	}
	for _, name := range names {
		if err := p.read(ctx, name, org, object, field, each); err != nil {
			return fmt.Errorf("look up %s records in the snapshot of sync %s: %w", object, name, err)
		}
	}
	return nil
}

func (p parents) read(ctx context.Context, name, org, object, field string, each func(value, id string)) (err error) {
	dir := filepath.Join(p.e.syncDir(name), storeDir)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil // it never ran
	} else if err != nil {
		return err
	}
	store, err := p.e.shared.stores.use(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.e.shared.stores.drop(store)) }()
	id, ok := store.Identity()
	if !ok || id.Org != org || !strings.EqualFold(id.Object, object) {
		return nil
	}
	return scan(ctx, store, strings.EqualFold(id.MatchField, field), field, each)
}

// scan gives a field's value and the Id of each record that a snapshot holds.
func scan(ctx context.Context, store *snapshot.Store, byMatch bool, field string, each func(value, id string)) (err error) {
	cur, err := store.Scan(planner.Hash{}, planner.Hash{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cur.Close()) }()
	for n := 0; cur.Next(); n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := cur.Entry()
		if !e.Acked || e.Displaced {
			continue
		}
		rec, err := cur.Record()
		if err != nil {
			return err
		}
		if rec.ID == "" {
			continue
		}
		if byMatch {
			each(rec.Match, rec.ID)
			continue
		}
		for i := range rec.Fields {
			if f := &rec.Fields[i]; !f.Cell.Null && strings.EqualFold(f.Name, field) {
				each(f.Cell.Text, rec.ID)
			}
		}
	}
	return cur.Err()
}
