package engine

import (
	"slices"
	"strings"
	"testing"

	"coho/destinations"
	"coho/models"
)

func lookupOf(object string) models.Field {
	return models.Field{Name: "ParentId", Lookup: &models.Lookup{Object: object, Field: "Key__c", Column: "phone"}}
}

func TestAllSyncs(t *testing.T) {
	for _, c := range []struct {
		name   string
		looks  map[string][]string // by sync: the syncs whose objects it looks up
		change func(w *world)
		want   []string
	}{
		{"no lookups", nil, nil, []string{"a", "b", "c", "d"}},
		{"a chain, last first", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"d"}}, nil, []string{"d", "c", "b", "a"}},
		{"two parents", map[string][]string{"a": {"d", "c"}}, nil, []string{"c", "d", "a", "b"}},
		{"a circle", map[string][]string{"a": {"b"}, "b": {"a"}}, nil, []string{"a", "b", "c", "d"}},
		{"a circle's parent and child", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"b", "d"}}, nil, []string{"d", "b", "c", "a"}},
		{"a circle of three", map[string][]string{"b": {"c"}, "c": {"d"}, "d": {"b"}}, nil, []string{"a", "b", "c", "d"}},
		{"itself", map[string][]string{"c": {"c"}}, nil, []string{"a", "b", "c", "d"}},
		{"an object of another org", map[string][]string{"a": {"b"}}, func(w *world) { w.syncs["b"].Destination = "other" }, []string{"a", "b", "c", "d"}},
		{"a sync that deletes", map[string][]string{"a": {"b"}}, func(w *world) { w.syncs["b"].Mode = models.ModeArchive }, []string{"a", "b", "c", "d"}},
		{"two syncs of the parent's object", map[string][]string{"a": {"c"}}, func(w *world) { w.syncs["d"].Object = "C" }, []string{"c", "d", "a", "b"}},
		{"its own object, of another sync", map[string][]string{"a": {"b"}}, func(w *world) { w.syncs["a"].Object = "b" }, []string{"b", "a", "c", "d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := sequenced(t, "a", "b", "c", "d")
			for child, parents := range c.looks {
				for _, p := range parents {
					w.syncs[child].Fields = append(w.syncs[child].Fields, lookupOf(p))
				}
			}
			if c.change != nil {
				c.change(w)
			}
			if got := w.engine().AllSyncs(); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// What is warned of: a parent that is synced later than its child, beside it, or
// never.
func TestLookupWarnings(t *testing.T) {
	for _, c := range []struct {
		name  string
		looks map[string][]string
		steps [][]string
		want  string // part of child's only warning, "" for none
	}{
		{"parents first", map[string][]string{"a": {"b"}}, [][]string{{"b"}, {"a"}}, ""},
		{"later", map[string][]string{"a": {"b"}}, [][]string{{"a"}, {"c"}, {"b"}}, "sequence nightly: a looks up b records, which b writes in a later step: put b in an earlier one"},
		{"at the same time", map[string][]string{"a": {"b"}}, [][]string{{"a", "b"}}, "sequence nightly: a looks up b records, which b writes in the same step"},
		{"never in it", map[string][]string{"a": {"b"}}, [][]string{{"c"}, {"a"}}, "which b writes and is not in the sequence"},
		{"both in a circle", map[string][]string{"a": {"b"}, "b": {"a"}}, [][]string{{"b"}, {"a"}}, "syncs a, b look up each other's records, so none can be first"},
		{"not of the sequence", map[string][]string{"a": {"b"}}, [][]string{{"b"}}, ""},
		{"itself", map[string][]string{"a": {"a"}}, [][]string{{"a"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := sequenced(t, "a", "b", "c")
			for child, parents := range c.looks {
				for _, p := range parents {
					w.syncs[child].Fields = append(w.syncs[child].Fields, lookupOf(p))
				}
			}
			w.sequences["nightly"] = models.Sequence{Name: "nightly", Steps: c.steps}
			got := w.engine().LookupWarnings("a")
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	w := sequenced(t, "a", "b")
	got := w.engine().neverWarnings(w.syncs["a"], []destinations.Lookup{
		{Field: "One__c", Object: "b"}, {Field: "Two__c", Object: "Nobody"}, {Field: "OwnerId", Object: "User", Setup: true},
	})
	if len(got) != 1 || !strings.Contains(got[0], "field Two__c looks up Nobody records, which no sync of this config writes") {
		t.Errorf("%q", got)
	}
}
