package engine

import (
	"slices"
	"strings"
)

// RowKey reads the primary key of one row as a person gives it: each part
// column=value, or, where the key is one column, the value alone. A value is
// taken as it is, so one that itself begins with the column's name and = needs
// the column before it. It returns the values in the order of the key's columns.
func (e *Engine) RowKey(sync string, parts []string) ([]string, error) {
	s, err := e.Sync(sync)
	if err != nil {
		return nil, err
	}
	columns := s.Model.PrimaryKey
	key := make([]string, len(columns))
	given := make([]bool, len(columns))
	for _, part := range parts {
		name, value, named := strings.Cut(part, "=")
		at := -1
		if named {
			at = slices.Index(columns, name)
		}
		if at < 0 && len(columns) == 1 {
			at, value = 0, part
		}
		if at < 0 {
			return nil, usagef("--key %q: sync %s has the key columns %s; give each as --key COLUMN=VALUE", part, sync, strings.Join(columns, ", "))
		}
		if given[at] {
			return nil, usagef("--key names column %s twice", columns[at])
		}
		key[at], given[at] = value, true
	}
	if at := slices.Index(given, false); at >= 0 {
		return nil, usagef("--key: no value for the key column %s of sync %s", columns[at], sync)
	}
	return key, nil
}
