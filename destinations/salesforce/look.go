package salesforce

import (
	"context"
	"fmt"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
)

var _ destinations.Comparer = (*Target)(nil)

// Holds implements destinations.Comparer. What a reference is mapped by Look does
// not read.
func (t *Target) Holds(field int, cell models.Cell, record destinations.Found) bool {
	col := t.columns[field]
	theirs, ok := record.Fields[col.Name]
	if !ok || !t.compares(callUpdate) || t.sync.Mode == models.ModeInsert || col.virtual() {
		return false
	}
	if col.class == classReference {
		return col.holdsReference(cell, "", theirs.Text, theirs.Null, "", false)
	}
	return col.holds(cell, theirs.Text, theirs.Null)
}

// Look reads the mapped fields of the records with an Id, or with a match value.
// A field of references holds the Id of the record that it refers to.
func (t *Target) Look(ctx context.Context, id, match string) ([]destinations.Found, error) {
	if t.event {
		return nil, nil // an event is no record
	}
	by, value := t.idField, id
	if id == "" {
		by, value = t.match, match
	}
	if by == nil || value == "" {
		return nil, nil
	}
	names := []string{"Id"}
	if !by.isID() {
		names = append(names, by.Name)
	}
	seen := map[string]bool{"id": true, strings.ToLower(by.Name): true}
	for _, c := range t.columns {
		if lower := strings.ToLower(c.Name); !seen[lower] && !c.virtual() {
			seen[lower] = true
			names = append(names, c.Name)
		}
	}
	result, err := t.client.Query(ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+t.object.Name+" WHERE "+by.Name+" = "+by.literal(value, api.QuoteSOQL))
	if err != nil {
		return nil, fmt.Errorf("read the %s record: %w", t.object.Name, err)
	}
	defer result.Close()
	var out []destinations.Found
	for result.Next() {
		r := result.Record()
		// SOQL compares without regard to case, which an upsert may not.
		if got, _ := r.Get(by.Name); !by.isID() && by.fold(got) != by.fold(value) {
			continue
		}
		one := destinations.Found{Fields: map[string]models.Cell{}}
		one.ID, _ = r.Get("Id")
		for _, c := range t.columns {
			if c.virtual() {
				continue
			}
			text, null := r.Get(c.Name)
			one.Fields[c.Name] = models.Cell{Text: text, Null: null}
		}
		out = append(out, one)
	}
	if err := result.Err(); err != nil {
		return nil, fmt.Errorf("read the %s record: %w", t.object.Name, err)
	}
	return out, nil
}
