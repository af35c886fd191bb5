package bigquery

import (
	"errors"
	"fmt"
	"strings"

	"coho/models"
)

// querySQL returns the model's query; a table becomes a SELECT of all its
// columns.
func querySQL(m models.Model) (string, error) {
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

var errTableName = errors.New("want table, dataset.table or project.dataset.table, in `` where they need it")

// quoteTable reads a table's name, as a whole or each part in backquotes, and
// returns it with every part quoted. Names hold letters of any script, digits,
// spaces, - and _ (BigQuery's documentation, "Table naming"); an old project's
// begins with a domain and a colon.
func quoteTable(name string) (string, error) {
	bare := strings.ReplaceAll(strings.TrimSpace(name), "`", "")
	domain, rest, found := strings.Cut(bare, ":")
	if !found {
		domain, rest = "", bare
	}
	parts := strings.Split(rest, ".")
	if len(parts) > 3 || found && len(parts) != 3 {
		return "", errTableName
	}
	for _, part := range parts {
		if strings.TrimSpace(part) == "" || strings.ContainsAny(part, "\x00\n\r\\\"':;,()[]{}/!@#%^&=+|~?<>") {
			return "", errTableName
		}
	}
	if found {
		parts[0] = domain + ":" + parts[0]
	}
	return "`" + strings.Join(parts, "`.`") + "`", nil
}
