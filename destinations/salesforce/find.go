package salesforce

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"coho/destinations/salesforce/api"
)

// findParallel is how many queries of one lookup run side by side.
const findParallel = 4

// search is records that are looked for.
type search struct {
	object string
	by     *field
	also   string // more of a SELECT list, "" or beginning with a comma
	filter string // more of a WHERE clause, "" or beginning with AND
	// loose: where no record has a value as it is, those that differ from it
	// only in case count, as in SOQL.
	loose bool
}

// queries are what finds records by values: each distinct value, folded, is in one
// of them.
func (s search) queries(values []string) (wanted map[string]bool, soql []string) {
	wanted = make(map[string]bool, len(values))
	var literals []string
	for _, v := range values {
		folded := s.by.fold(v)
		if v == "" || wanted[folded] {
			continue
		}
		wanted[folded] = true
		literals = append(literals, s.by.literal(v, api.QuoteSOQL))
	}
	columns := "Id, " + s.by.Name
	if s.by.isID() {
		columns = "Id"
	}
	return wanted, api.InLiterals("SELECT "+columns+s.also+" FROM "+s.object+" WHERE "+s.by.Name+" IN (", ")"+s.filter, literals, 0)
}

// find returns the Ids of an object's records by the folded value of a field,
// asking for each distinct value once. Values that no record has are absent.
//
// SOQL compares text without regard to case, which an upsert does not: what it
// returns is therefore compared again, by the field's own rule.
func (t *Target) find(ctx context.Context, object string, by *field, values []string) (map[string][]string, error) {
	return t.search(ctx, search{object: object, by: by}, values)
}

// search is find, for records that are not the rows' own.
func (t *Target) search(ctx context.Context, s search, values []string) (map[string][]string, error) {
	object, by := s.object, s.by
	wanted, queries := s.queries(values)
	found := make(map[string][]string)
	loose := make(map[string]bool) // wanted without regard to case
	if s.loose && by.looselyCompared() {
		for folded := range wanted {
			loose[strings.ToLower(folded)] = true
		}
	}
	alike := make(map[string][]string)
	var mu sync.Mutex // guards found, alike
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(findParallel)
	for _, soql := range queries {
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
				if lower := strings.ToLower(folded); loose[lower] {
					alike[lower] = append(alike[lower], id)
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
	if len(loose) > 0 {
		for folded := range wanted {
			if ids := alike[strings.ToLower(folded)]; len(found[folded]) == 0 && len(ids) > 0 {
				// Two values that differ in case may be in two queries, each
				// of which returns the records of both.
				slices.Sort(ids)
				found[folded] = slices.Compact(ids)
			}
		}
	}
	return found, nil
}
