package config

import (
	"slices"
	"strings"

	"coho/models"
)

// objectNamed is the object of a two-object sync whose own mappings an entry of
// fields holds, "" for any other entry.
func objectNamed(s *models.Sync, e *entry) string {
	objects := s.Objects()
	if len(objects) < 2 || e.value.kind != tableKind {
		return ""
	}
	if i := slices.IndexFunc(objects, func(o string) bool { return strings.EqualFold(o, e.name) }); i >= 0 {
		return objects[i]
	}
	return ""
}

// narrowed leaves to each mapping of both objects those of which narrow, the
// mappings of one, has none of the same field.
func narrowed(both, narrow []models.Field, objects []string) []models.Field {
	var out []models.Field
	for _, f := range both {
		left := slices.DeleteFunc(slices.Clone(objects), func(o string) bool {
			return slices.ContainsFunc(narrow, func(n models.Field) bool {
				return n.Object == o && strings.EqualFold(n.Name, f.Name)
			})
		})
		switch {
		case len(left) == len(objects):
			out = append(out, f)
		case len(left) > 0:
			f.Object = left[0]
			out = append(out, f)
		}
	}
	return out
}

// twoObjects checks what a sync of two objects may say: there is no such thing as
// inserting or deleting what may be of either.
func (t *table) twoObjects(s *models.Sync) {
	if len(s.Objects()) < 2 {
		if s.Write.CreateRecordsAs != "" {
			t.fail(t.n.pos, "write.create_records_as goes with a two-object sync (object = \"LeadOrContact\" or \"LeadOrAccount\"), not with %s", s.Object)
		}
		return
	}
	choices := append(slices.Clone(s.Objects()), "ContactIfAccountId")
	if !slices.Contains(choices, "Contact") {
		choices = choices[:2]
	}
	as := s.Write.CreateRecordsAs
	switch {
	case s.Mode != "" && s.Mode != models.ModeUpsert && s.Mode != models.ModeUpdate:
		t.fail(t.pos("mode"), "mode: %q does not go with %s: a row's record is looked for among both objects, which update and upsert do", s.Mode, s.Object)
	case s.Mode == models.ModeUpsert && as == "":
		t.fail(t.n.pos, "write.create_records_as is missing: what a row becomes that neither object has: %s", strings.Join(choices, ", "))
	case s.Mode == models.ModeUpdate && as != "":
		t.fail(t.n.pos, "write.create_records_as: mode \"update\" creates no records")
	case as != "" && !slices.Contains(choices, as):
		t.fail(t.n.pos, "write.create_records_as: %q does not go with %s, which allows %s", as, s.Object, strings.Join(choices, ", "))
	}
	if s.Write.SkipConverted {
		t.fail(t.n.pos, "write.skip_converted does not go with %s: a converted lead is followed to what it became", s.Object)
	}
	if t.has("merge") {
		t.fail(t.n.pos, "merge does not go with %s: records of two objects cannot become one", s.Object)
	}
}
