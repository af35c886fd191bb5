package snowflake

import (
	"errors"
	"fmt"
	"strings"

	"coho/models"
	"coho/sources"
	"coho/sources/columnar"
)

// querySQL returns the statement that reads a model. A query becomes a
// subquery: only what can be one runs, so neither a statement that changes
// something nor a second one after a semicolon.
func querySQL(m models.Model) (string, error) {
	query, err := plainSQL(m)
	if err != nil {
		return "", err
	}
	return sources.Grouped(query, m.Groups, sources.Dialect{Quote: sources.DoubleQuote, Text: "VARCHAR"}), nil
}

// plainSQL is querySQL without what a model's grouping adds.
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
	statement, err := oneStatement(m.SQL)
	if err != nil {
		return "", err
	}
	return "SELECT * FROM (\n" + statement + "\n)", nil
}

// printTimes returns the statement with its times of day as text, and which
// columns they are. The driver makes Arrow's nanoseconds of the numbers that
// Snowflake sends without counting by the column's own fraction of a second,
// and cannot make them of the narrow ones at all.
func printTimes(statement string, schema *columnar.Schema) (string, map[int]bool) {
	printed := map[int]bool{}
	var list []string
	for i, f := range schema.Fields() {
		if f.Type.Form == columnar.Clock {
			name := `"` + strings.ReplaceAll(f.Name, `"`, `""`) + `"`
			list = append(list, "TO_CHAR("+name+", 'HH24:MI:SS.FF9') AS "+name)
			printed[i] = true
		}
	}
	if list == nil {
		return statement, nil
	}
	return "SELECT * REPLACE (" + strings.Join(list, ", ") + ") FROM (\n" + statement + "\n)", printed
}

var (
	errSeveral = errors.New("the query holds several statements: a model must be one query")
	errOpen    = errors.New("the query ends within a comment or a quoted text")
	errParen   = errors.New("the query closes a parenthesis that it did not open")
)

// oneStatement takes off a semicolon at the end, and refuses another before
// it as well as what would end the subquery early.
func oneStatement(sql string) (string, error) {
	end, depth, last := -1, 0, 0 // end: where a semicolon was; last: after the last byte that is neither space nor comment
	for i := 0; i < len(sql); {
		n, blank, err := token(sql[i:])
		if err != nil {
			return "", err
		}
		if !blank {
			switch {
			case end >= 0 && sql[i] != ';':
				return "", errSeveral
			case sql[i] == ';' && end < 0:
				end = i
			case sql[i] == '(' && n == 1:
				depth++
			case sql[i] == ')':
				if depth--; depth < 0 {
					return "", errParen
				}
			}
			if sql[i] != ';' {
				last = i + n
			}
		}
		i += n
	}
	if end >= 0 {
		sql = sql[:end]
	}
	if last == 0 {
		return "", errors.New("the query is empty")
	}
	return sql, nil
}

// token returns the length of what s begins with: a quoted text, a comment, or
// one byte. blank says that it means nothing to the server.
func token(s string) (n int, blank bool, err error) {
	until := func(from int, end string) (int, error) {
		at := strings.Index(s[from:], end)
		if at < 0 {
			return 0, errOpen
		}
		return from + at + len(end), nil
	}
	switch {
	case strings.HasPrefix(s, "--"), strings.HasPrefix(s, "//"):
		if at := strings.IndexByte(s, '\n'); at >= 0 {
			return at + 1, true, nil
		}
		return len(s), true, nil
	case strings.HasPrefix(s, "/*"):
		n, err = until(2, "*/")
		return n, true, err
	case strings.HasPrefix(s, "$$"):
		n, err = until(2, "$$")
		return n, false, err
	case s[0] == '"':
		n, err = until(1, `"`) // a doubled quote is two texts side by side
		return n, false, err
	case s[0] == '\'':
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\': // escapes, in Snowflake's texts
				i++
			case '\'':
				return i + 1, false, nil
			}
		}
		return 0, false, errOpen
	}
	return 1, strings.IndexByte(" \t\r\n\f\v", s[0]) >= 0, nil
}

var errTableName = errors.New(`want name, schema.name or database.schema.name, parts quoted with "" where they need it`)

// quoteTable reads a table's name as SQL would, a part without quotes folded
// to upper case, and returns it with every part quoted.
func quoteTable(name string) (string, error) {
	var parts []string
	for rest := strings.TrimSpace(name); ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			i := 1
			for {
				at := strings.IndexByte(rest[i:], '"')
				if at < 0 {
					return "", errTableName
				}
				if i += at + 1; !strings.HasPrefix(rest[i:], `"`) {
					break
				}
				i++
			}
			part, rest = rest[1:i-1], rest[i:]
		} else {
			i := strings.IndexAny(rest, `."`)
			if i < 0 {
				i = len(rest)
			}
			part, rest = strings.ReplaceAll(strings.ToUpper(rest[:i]), `"`, `""`), rest[i:]
		}
		if part == "" || len(parts) == 3 || strings.IndexByte(part, 0) >= 0 {
			return "", errTableName
		}
		parts = append(parts, `"`+part+`"`)
		if rest == "" {
			return strings.Join(parts, "."), nil
		}
		if rest[0] != '.' {
			return "", errTableName
		}
		rest = rest[1:]
	}
}
