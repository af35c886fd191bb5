package salesforce

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"coho/destinations/salesforce/api"
)

const (
	// findParallel is how many queries of one lookup run side by side.
	findParallel = 4

	// maxReferences bounds the references remembered for each lookup.
	maxReferences = 100_000
)

// find returns the Ids of an object's records by the folded value of a field,
// asking for each distinct value once. Values that no record has are absent.
//
// SOQL compares text without regard to case, which an upsert does not: what it
// returns is therefore compared again, by the field's own rule.
func (t *Target) find(ctx context.Context, object string, by *field, values []string) (map[string][]string, error) {
	wanted := make(map[string]bool, len(values))
	var literals []string
	for _, v := range values {
		folded := by.fold(v)
		if v == "" || wanted[folded] {
			continue
		}
		wanted[folded] = true
		literals = append(literals, by.literal(v, api.QuoteSOQL))
	}
	found := make(map[string][]string)
	var mu sync.Mutex // guards found
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(findParallel)
	columns := "Id, " + by.Name
	if by.isID() {
		columns = "Id"
	}
	for _, soql := range api.InLiterals("SELECT "+columns+" FROM "+object+" WHERE "+by.Name+" IN (", ")", literals, 0) {
		g.Go(func() error {
			result, err := t.client.Query(ctx, soql)
			if err != nil {
				return fmt.Errorf("find %s records by %s: %w", object, by.Name, err)
			}
			defer result.Close()
			for result.Next() {
				value, null := result.Record().Get(by.Name)
				id, _ := result.Record().Get("Id")
				if null {
					continue
				}
				if full, ok := canonicalID(id); ok {
					id = full
				}
				folded := by.fold(value)
				mu.Lock()
				if wanted[folded] {
					found[folded] = append(found[folded], id)
				}
				mu.Unlock()
			}
			if err := result.Err(); err != nil {
				return fmt.Errorf("find %s records by %s: %w", object, by.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return found, nil
}

// references remembers the records that lookups found, by column and folded
// value. What was not found is asked again: an earlier pass may create it.
type references struct {
	mu    sync.Mutex
	known []map[string]string // guarded by mu; index is the column
}

func newReferences(columns int) *references {
	return &references{known: make([]map[string]string, columns)}
}

func (r *references) get(column int, folded string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.known[column][folded]
	return id, ok
}

func (r *references) put(column int, folded, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[column] == nil || len(r.known[column]) >= maxReferences {
		r.known[column] = make(map[string]string)
	}
	r.known[column][folded] = id
}
