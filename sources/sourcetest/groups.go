package sourcetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coho/models"
	"coho/sources"
)

// Groups has a warehouse bring the rows of groups together, by either form. It is
// for sources over a database that runs any query.
func Groups(t *testing.T, s sources.Source) {
	var parts []string
	row := func(k string, g any, child, into string) {
		parts = append(parts, fmt.Sprintf("SELECT '%s' AS %s, CAST(%v AS %s) AS %s, %s AS %s, %s AS %s",
			k, "k", g, "INTEGER", "g", child, "c", into, "m"))
	}
	row("A", 1, "FALSE", "'A'")    // master of B and C
	row("B", 1, "TRUE", "'A'")     //
	row("C", 1, "TRUE", "'A'")     //
	row("D", 2, "FALSE", "'Z'")    // by group, one of two masters; by master, the child of nobody
	row("E", 2, "FALSE", "'D'")    // and the child of a child
	row("F", 3, "TRUE", "'E'")     // by group, without a master
	row("G", "NULL", "TRUE", "''") // in no group
	sql := strings.Join(parts, " UNION ALL ") + " ; "
	for name, test := range map[string]struct {
		g    models.Grouping
		want string
	}{
		"group":  {models.Grouping{Group: "g", Child: "c", Match: "k"}, "A: B:+A C:+A D:-2:2 E:-2:2 F:-0:3 G:"},
		"master": {models.Grouping{Master: "m", Match: "k"}, "A: B:+A C:+A D:-0:Z E:-0:D F:-0:E G:-0:"},
	} {
		m := query(sql)
		m.Groups = &test.g
		schema, rows := ReadAll(t, s, m)
		if c := schema.Columns(); len(c) != 5 || c[0].Name != "k" || c[4].Name != models.MergeColumn {
			t.Fatalf("%s: columns %v", name, c)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r[0].Text()+":"+r[4].Text())
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != test.want {
			t.Errorf("%s: %s, want %s", name, text, test.want)
		}
	}
}
