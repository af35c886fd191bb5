package postgres

import (
	"errors"
	"fmt"
	"strings"

	"coho/models"
	"coho/sources"
)

// querySQL returns the model's query, with what its grouping adds.
func querySQL(m models.Model) (string, error) {
	query, err := plainSQL(m)
	if err != nil {
		return "", err
	}
	return sources.Grouped(query, m.Groups, sources.Dialect{Quote: sources.DoubleQuote, Text: "TEXT"}), nil
}

// plainSQL returns the model's query; a table becomes a SELECT of all its
// columns.
func plainSQL(m models.Model) (string, error) {
	switch {
	case m.Table != "":
		name, err := quoteTable(m.Table)
		if err != nil {
			return "", fmt.Errorf("table %q: %w", m.Table, err)
		}
		return "SELECT * FROM " + name, nil
	case strings.TrimSpace(m.SQL) == "":
		return "", errors.New("the model has neither a query nor a table")
	case strings.IndexByte(m.SQL, 0) >= 0:
		return "", errors.New("the query contains a NUL character")
	}
	return m.SQL, nil
}

var errTableName = errors.New(`want name, schema.name or database.schema.name, parts quoted with "" where they need it`)

// quoteTable reads a table's name as SQL would, a part without quotes folded
// to lower case, and returns it with every part quoted.
func quoteTable(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", errTableName
	}
	var parts []string
	rest := strings.TrimSpace(name)
	for {
		var part string
		if strings.HasPrefix(rest, `"`) {
			var b strings.Builder
			rest = rest[1:]
			for {
				i := strings.IndexByte(rest, '"')
				if i < 0 {
					return "", errTableName
				}
				b.WriteString(rest[:i])
				rest = rest[i+1:]
				if !strings.HasPrefix(rest, `"`) {
					break
				}
				b.WriteByte('"')
				rest = rest[1:]
			}
			part = b.String()
		} else {
			i := strings.IndexAny(rest, `."`)
			if i < 0 {
				i = len(rest)
			}
			part = strings.ToLower(rest[:i])
			rest = rest[i:]
		}
		if part == "" || len(parts) == 3 {
			return "", errTableName
		}
		parts = append(parts, `"`+strings.ReplaceAll(part, `"`, `""`)+`"`)
		if rest == "" {
			return strings.Join(parts, "."), nil
		}
		if rest[0] != '.' {
			return "", errTableName
		}
		rest = rest[1:]
	}
}
