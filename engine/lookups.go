package engine

import (
	"fmt"
	"slices"
	"strings"

	"coho/destinations"
	"coho/models"
)

// AllSyncs returns every sync, those that others look up before those others,
// and else in the config's order. Syncs that look up each other, directly or
// through others, keep the config's order among themselves.
func (e *Engine) AllSyncs() []string {
	after := e.lookedUp()
	reach := reachable(after)
	var out []string
	placed := map[string]bool{}
	var place func(name string)
	place = func(name string) {
		if placed[name] {
			return
		}
		placed[name] = true
		for _, other := range e.o.SyncOrder {
			// What the syncs of a circle look up outside of it comes before all
			// of them.
			if reach[name][other] && !reach[other][name] {
				place(other)
			}
		}
		out = append(out, name)
	}
	for _, name := range e.o.SyncOrder {
		place(name)
	}
	return out
}

// circles returns the syncs that look up each other, directly or through others,
// so that none of them can be the first.
func (e *Engine) circles() [][]string {
	reach := reachable(e.lookedUp())
	var out [][]string
	seen := map[string]bool{}
	for _, name := range e.o.SyncOrder {
		if seen[name] || !reach[name][name] {
			continue
		}
		var circle []string
		for _, other := range e.o.SyncOrder {
			if reach[name][other] && reach[other][name] {
				circle, seen[other] = append(circle, other), true
			}
		}
		out = append(out, circle)
	}
	return out
}

// lookedUp is, by sync, the other syncs whose records it looks up or whose picklist
// values its records may have.
func (e *Engine) lookedUp() map[string][]string {
	out := map[string][]string{}
	for _, name := range e.o.SyncOrder {
		for _, other := range e.o.SyncOrder {
			if other != name && (looksUp(e.o.Syncs[name], e.o.Syncs[other]) || picksFrom(e.o.Syncs[name], e.o.Syncs[other])) {
				out[name] = append(out[name], other)
			}
		}
	}
	return out
}

// reachable is what can be reached from each sync in one step or more.
func reachable(steps map[string][]string) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for from := range steps {
		seen := map[string]bool{}
		left := slices.Clone(steps[from])
		for len(left) > 0 {
			next := left[0]
			left = left[1:]
			if !seen[next] {
				seen[next] = true
				left = append(left, steps[next]...)
			}
		}
		out[from] = seen
	}
	return out
}

// looksUp reports whether a sync refers to records that another one writes.
func looksUp(child, parent *models.Sync) bool {
	if child.Destination != parent.Destination {
		return false
	}
	return slices.ContainsFunc(child.Fields, func(f models.Field) bool {
		return f.Lookup != nil && writes(parent, f.Lookup.Object)
	})
}

// LookupWarnings says which of a sync's lookups may find nothing because of the
// order in which syncs run: their parents are written later in a sequence, or at
// the same time, or not in it at all.
func (e *Engine) LookupWarnings(name string) []string {
	s, ok := e.o.Syncs[name]
	if !ok {
		return nil
	}
	var out []string
	for _, sequence := range e.sequenceNames() {
		steps := e.o.Sequences[sequence].Steps
		mine := stepOf(steps, name)
		if mine < 0 {
			continue
		}
		for _, object := range lookupObjects(s) {
			if w := e.sequenceWarning(sequence, steps, mine, s, object); w != "" {
				out = append(out, w)
			}
		}
	}
	for _, circle := range e.circles() {
		if slices.Contains(circle, name) {
			out = append(out, circleWarning(circle))
		}
	}
	return out
}

// CircleWarnings says which syncs look up each other, so that no order is right
// for all of them.
func (e *Engine) CircleWarnings() []string {
	var out []string
	for _, circle := range e.circles() {
		out = append(out, circleWarning(circle))
	}
	return out
}

func circleWarning(circle []string) string {
	return fmt.Sprintf("syncs %s look up each other's records, so none can be first: `coho run --all` runs them in the config's order, and a reference to a record that is not there yet is found by the run after", strings.Join(circle, ", "))
}

// sequenceWarning is about one object that a sync of a sequence looks up.
func (e *Engine) sequenceWarning(sequence string, steps [][]string, mine int, s *models.Sync, object string) string {
	var parents []string
	earliest, first := len(steps), ""
	for _, other := range e.o.SyncOrder {
		p := e.o.Syncs[other]
		if other == s.Name || p.Destination != s.Destination || !writes(p, object) {
			continue
		}
		parents = append(parents, other)
		if at := stepOf(steps, other); at >= 0 && at < earliest {
			earliest, first = at, other
		}
	}
	about := fmt.Sprintf("sequence %s: %s looks up %s records", sequence, s.Name, object)
	switch {
	case len(parents) == 0 || earliest < mine:
		return ""
	case first == "":
		return fmt.Sprintf("%s, which %s writes and is not in the sequence: only those that are in the org already are found", about, strings.Join(parents, " or "))
	case earliest == mine:
		return fmt.Sprintf("%s, which %s writes in the same step, at the same time: put %s in an earlier step", about, first, first)
	}
	return fmt.Sprintf("%s, which %s writes in a later step: put %s in an earlier one", about, first, first)
}

// sequenceNames are the sequences' names in their order.
func (e *Engine) sequenceNames() []string {
	var names []string
	for n := range e.o.Sequences {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// stepOf is the first step that has a sync, -1 where none has.
func stepOf(steps [][]string, name string) int {
	return slices.IndexFunc(steps, func(step []string) bool { return slices.Contains(step, name) })
}

// lookupObjects are the objects that a sync looks up, other than its own.
func lookupObjects(s *models.Sync) []string {
	var out []string
	for i := range s.Fields {
		l := s.Fields[i].Lookup
		if l == nil || of(s, l.Object) {
			continue
		}
		if !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, l.Object) }) {
			out = append(out, l.Object)
		}
	}
	return out
}

// neverWarnings says which lookups are of records that no sync writes: there is
// nothing wrong with that where they come into the org by other ways, as users do.
func (e *Engine) neverWarnings(s *models.Sync, lookups []destinations.Lookup) []string {
	var out []string
	for _, l := range lookups {
		written := l.Setup || slices.ContainsFunc(e.o.SyncOrder, func(other string) bool {
			p := e.o.Syncs[other]
			return p.Destination == s.Destination && writes(p, l.Object)
		})
		if !written {
			out = append(out, fmt.Sprintf("field %s looks up %s records, which no sync of this config writes: only those that are in the org already are found", l.Field, l.Object))
		}
	}
	return out
}

// lookupsOf is how a target finds its references; nil where it has no say in it.
func lookupsOf(t destinations.Target) []destinations.Lookup {
	if r, ok := t.(destinations.Referrer); ok {
		return r.Lookups()
	}
	return nil
}

// lookupNotes is lookupsOf as a plan's record has it.
func lookupNotes(t destinations.Target) []LookupNote {
	var out []LookupNote
	for _, l := range lookupsOf(t) {
		out = append(out, LookupNote{Field: l.Field, Object: l.Object, By: l.By, How: l.How, Syncs: l.Syncs, Value: l.Value, ID: l.ID})
	}
	return out
}

// LookupNote says how a plan's references will be found.
type LookupNote struct {
	Field  string   `json:"field"`
	Object string   `json:"object"`
	By     string   `json:"by"`
	How    string   `json:"how"` // external_id, snapshot (then query), query, describe
	Syncs  []string `json:"syncs,omitempty"`
	Value  string   `json:"value,omitempty"` // describe: what the config names
	ID     string   `json:"id,omitempty"`    // and the Id that this is in the org
}

// String is the note as one line.
func (n LookupNote) String() string {
	switch n.How {
	case "external_id":
		return fmt.Sprintf("%s by %s of %s, which the org finds by itself", n.Field, n.By, n.Object)
	case "describe":
		return fmt.Sprintf("%s by %s of %s: %s is %s", n.Field, n.By, n.Object, n.Value, n.ID)
	case "snapshot":
		return fmt.Sprintf("%s by %s of %s, in the snapshot of sync %s, else by query", n.Field, n.By, n.Object, strings.Join(n.Syncs, ", "))
	}
	return fmt.Sprintf("%s by %s of %s, by query", n.Field, n.By, n.Object)
}
