package sources

import (
	"fmt"
	"strings"

	"coho/models"
)

// Dialect is what differs between warehouses in the query of Grouped.
type Dialect struct {
	Quote func(name string) string // a column's name as it is, quoted
	Text  string                   // the type of text
}

// DoubleQuote quotes a name as standard SQL does.
func DoubleQuote(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Grouped is a model's query with models.MergeColumn: the warehouse itself brings
// the rows of a group together, so that each row says what becomes of it. query is
// one statement; a semicolon at its end is taken off. Without g it is as it was.
func Grouped(query string, g *models.Grouping, d Dialect) string {
	if g == nil {
		return query
	}
	match := d.Quote(g.Match)
	group, child := "", ""
	if g.Master != "" {
		master := d.Quote(g.Master)
		// A row that names no other is a group's master, by its own match value.
		group = fmt.Sprintf("COALESCE(%s, %s)", master, match)
		child = fmt.Sprintf("(%s IS NOT NULL AND %s <> %s)", master, master, match)
	} else {
		group = d.Quote(g.Group)
		child = fmt.Sprintf("COALESCE(%s, FALSE)", d.Quote(g.Child))
	}
	masters := fmt.Sprintf("COUNT(CASE WHEN %s THEN NULL ELSE 1 END) OVER (PARTITION BY %s)", child, group)
	text := func(expr string) string { return "CAST(" + expr + " AS " + d.Text + ")" }
	return fmt.Sprintf(`SELECT coho_rows.*, CASE
WHEN %[1]s IS NULL THEN NULL
WHEN %[2]s <> 1 THEN '%[7]c' || %[3]s || ':' || %[4]s
WHEN %[5]s THEN '%[8]c' || MAX(CASE WHEN %[5]s THEN NULL ELSE %[6]s END) OVER (PARTITION BY %[1]s)
END AS %[9]s FROM (
%[10]s
) coho_rows`,
		group, masters, text(masters), text(group), child, text(match), models.MergeBad, models.MergeInto, d.Quote(models.MergeColumn),
		strings.TrimRight(query, "; \t\r\n"))
}
