package config

import (
	"slices"
	"strings"

	"coho/models"
)

const picklistType = "picklist"

// picklist reads a sync of picklist values. What it shares with a sync of records
// is what says when it runs, and what it must not do.
func (t *table) picklist(s *models.Sync) {
	s.Picklist = t.required("field")
	if t.has("object") {
		s.Object = t.str("object")
	} else {
		t.value("object")
		s.Object = "GlobalValueSet"
	}
	s.Mode = models.ModeAll
	if mode := t.of("mode", stringKind); mode != nil && mode.text != string(models.ModeAll) {
		t.fail(mode.pos, "mode: a picklist sync has one, %q: the model's rows are all of the active values", models.ModeAll)
	}
	s.OnRemoved = models.RemovedNothing
	if custom := strings.HasSuffix(strings.ToLower(s.Picklist), "__c"); s.Picklist != "" && !custom && !strings.EqualFold(s.Object, "GlobalValueSet") {
		t.fail(t.pos("field"), "field: %q is no custom field, which ends in __c; for a global value set leave object out", s.Picklist)
	}
	t.values(s)
	for _, key := range []string{"match", "on_removed", "write"} {
		if t.has(key) {
			t.value(key)
			t.fail(t.pos(key), "%s does not go with type %q", key, picklistType)
		}
	}
}

// values reads what fills a value's parts. value is the key: the org knows a value
// by nothing else.
func (t *table) values(s *models.Sync) {
	in := t.sub("fields")
	if in == nil {
		if !t.has("fields") {
			t.fail(t.n.pos, "fields is missing: value is the column with the values, label, default and order may be mapped too")
		}
		return
	}
	parts := []string{"value", "label", "default", "order"}
	found := false
	for _, e := range in.n.entries {
		if !slices.Contains(parts, e.name) {
			in.fail(e.pos, "unknown key %q%s", e.name, near(e.name, parts))
			continue
		}
		f, ok := in.field(e)
		found = found || e.name == "value"
		switch {
		case !ok:
		case f.Lookup != nil || f.RecordType != "" || f.OnCreate:
			in.fail(e.pos, "%s: a picklist's value is no record; want a column, expr or value", e.name)
		case e.name != "value":
			s.Fields = append(s.Fields, f)
		case f.Column == "":
			in.fail(e.pos, "value: want a column, by which a value is known; put an expression into the model's query")
		default:
			s.Match = models.Match{Field: "value", Column: f.Column}
			s.Model.PrimaryKey = []string{f.Column}
		}
	}
	if !found {
		in.fail(in.n.pos, "value is missing: the column with the values' API names")
	}
	slices.SortFunc(s.Fields, func(a, b models.Field) int { return strings.Compare(a.Name, b.Name) })
}
