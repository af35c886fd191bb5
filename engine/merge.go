package engine

import (
	"context"
	"fmt"
	"slices"

	"coho/destinations"
	"coho/models"
	"coho/sources"
)

// checkGroups checks the columns of a sync's [merge] section by the model's own
// result, before the query that brings groups together names them.
func checkGroups(ctx context.Context, src sources.Source, s *models.Sync) error {
	g := s.Model.Groups
	if g == nil {
		return nil
	}
	plain := s.Model
	plain.Groups = nil
	schema, err := src.Describe(ctx, plain)
	if err != nil {
		return fmt.Errorf("model %s: %w", s.Model.Name, err)
	}
	pos := s.Pos
	if i := slices.IndexFunc(s.Fields, func(f models.Field) bool { return f.Merge }); i >= 0 {
		pos = s.Fields[i].Pos
	}
	var names []string
	kinds := map[string]models.Kind{}
	for _, c := range schema.Columns() {
		names = append(names, c.Name)
		kinds[c.Name] = c.Kind
	}
	var problems destinations.Problems
	problem := func(format string, args ...any) {
		problems = append(problems, destinations.Problem{Pos: pos, Message: fmt.Sprintf("sync %s, merge: ", s.Name) + fmt.Sprintf(format, args...)})
	}
	for _, at := range []struct{ key, column string }{{"group", g.Group}, {"child", g.Child}, {"master", g.Master}, {"match", g.Match}} {
		kind, ok := kinds[at.column]
		near := models.Nearest(at.column, names)
		switch {
		case at.column == "" || ok && at.key == "group":
		case !ok && near != "":
			problem("%s: the query has no column %q (nearest: %q)", at.key, at.column, near)
		case !ok:
			problem("%s: the query has no column %q", at.key, at.column)
		case at.key == "child" && kind != models.Bool:
			problem("child: column %s must be true or false, and is %s", at.column, kind)
		case at.key == "match" && kind != models.Text && kind != models.Int && kind != models.Decimal:
			problem("rows are merged by match values of text or whole numbers, and column %s is %s", at.column, kind)
		case at.key == "master" && kinds[g.Match] != 0 && kind != kinds[g.Match]:
			problem("master: column %s is %s, and must be as the match column %s, whose values it holds: %s", at.column, kind, g.Match, kinds[g.Match])
		}
	}
	if len(problems) > 0 {
		return &InvalidSyncError{Sync: s.Name, Problems: problems}
	}
	return nil
}
