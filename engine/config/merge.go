package config

import (
	"slices"
	"strings"

	"coho/models"
)

// merge reads which rows become one record. The columns themselves are the
// warehouse's to know.
func (t *table) merge(s *models.Sync) {
	in := t.sub("merge")
	if in == nil {
		return
	}
	g := models.Grouping{Group: in.str("group"), Child: in.str("child"), Master: in.str("master"), Match: s.Match.Column}
	switch pos := in.n.pos; {
	case in.failed:
	case in.has("master") && (in.has("group") || in.has("child")):
		in.fail(pos, "master excludes group and child")
	case !in.has("master") && !(in.has("group") && in.has("child")):
		in.fail(pos, "want group and child, the columns of what rows belong together and which of them are merged into the others' record; or master, the column of the match value that a row is merged into")
	case s.Mode != "" && s.Mode != models.ModeInsert && s.Mode != models.ModeUpsert:
		in.fail(pos, "mode %q does not merge records; insert and upsert do", s.Mode)
	case s.Mode != "" && s.Match.Column == "":
		in.fail(pos, "merging needs match = { field, column }, by which records are found")
	}
	in.done()
	if in.failed {
		return
	}
	s.Model.Groups = &g
	s.Fields = append(s.Fields, models.Field{Name: models.MergeField, Column: models.MergeColumn, Merge: true, Pos: in.n.pos.String()})
	slices.SortFunc(s.Fields, func(a, b models.Field) int { return strings.Compare(a.Name, b.Name) })
}
