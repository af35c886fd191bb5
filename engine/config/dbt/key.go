package dbt

import (
	"fmt"
	"slices"
	"strings"
)

// primaryKey works out what identifies a model's rows: a primary key
// constraint of the model, or of its columns; else the one column that is
// tested unique, one that is tested not null as well before one that is not;
// else the one combination of columns tested unique (dbt_utils'
// unique_combination_of_columns). Tests with a where look at some of the rows
// only and prove nothing.
func (m *Manifest) primaryKey(n *node) (key []string, problem string) {
	for _, c := range n.Constraints {
		if c.Type == "primary_key" && len(c.Columns) > 0 {
			return c.Columns, ""
		}
	}
	for _, column := range n.Columns {
		for _, c := range column.Constraints {
			if c.Type == "primary_key" {
				key = append(key, column.Name)
			}
		}
	}
	switch {
	case len(key) == 1:
		return key, ""
	case len(key) > 1: // their order in the table is not told
		slices.Sort(key)
		return key, ""
	}

	var unique, notNull []string
	var combinations [][]string
	for _, t := range m.tests {
		if !t.covers(n) {
			continue
		}
		switch t.TestMetadata.Name {
		case "unique":
			unique = add(unique, t.column())
		case "not_null":
			notNull = add(notNull, t.column())
		default:
			if c := t.combination(); c != nil {
				combinations = append(combinations, c)
			}
		}
	}
	var both []string
	for _, c := range unique {
		if slices.Contains(notNull, c) {
			both = append(both, c)
		}
	}
	slices.Sort(unique)
	slices.Sort(both)
	switch {
	case len(both) == 1:
		return both, ""
	case len(unique) == 1:
		return unique, ""
	case len(unique) > 1:
		return nil, fmt.Sprintf("several columns of the dbt model are tested unique (%s): say which one is meant", strings.Join(unique, ", "))
	case len(combinations) == 1:
		return combinations[0], ""
	case len(combinations) > 1:
		return nil, "several combinations of columns of the dbt model are tested unique: say which one is meant"
	}
	return nil, "the dbt model has neither a primary key constraint nor a unique test that would tell it"
}

// covers reports whether a test looks at all rows of the node.
func (t *node) covers(n *node) bool {
	if t.Config.Where != "" || t.Config.Enabled != nil && !*t.Config.Enabled {
		return false
	}
	if t.AttachedNode != "" {
		return t.AttachedNode == n.UniqueID
	}
	// Before dbt 1.4 a test did not say which node it is of; one of a single
	// model depends on just that.
	return len(t.DependsOn.Nodes) == 1 && t.DependsOn.Nodes[0] == n.UniqueID
}

func (t *node) column() string {
	if t.ColumnName != "" {
		return unquoted(t.ColumnName)
	}
	column, _ := t.TestMetadata.Kwargs["column_name"].(string)
	return unquoted(column)
}

func (t *node) combination() []string {
	list, _ := t.TestMetadata.Kwargs["combination_of_columns"].([]any)
	var columns []string
	for _, item := range list {
		column, ok := item.(string)
		if !ok {
			return nil
		}
		columns = append(columns, unquoted(column))
	}
	return columns
}

// unquoted takes off the quotes that a test may name its column with. An
// expression in its place is no column and never equals one.
func unquoted(column string) string {
	if len(column) > 1 && (column[0] == '"' || column[0] == '`') && column[len(column)-1] == column[0] {
		return column[1 : len(column)-1]
	}
	return column
}

func add(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
