package bigquery

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
	return sources.Grouped(query, m.Groups, sources.Dialect{Quote: quoteColumn, Text: "STRING"}), nil
}

// quoteColumn quotes a column's name, in which a backquote or backslash is escaped
// (BigQuery's documentation, "Quoted identifiers").
func quoteColumn(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
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
	return oneQuery(m.SQL)
}

var (
	errSeveral = errors.New("the query holds several statements: a model must be one query")
	errOpen    = errors.New("the query ends within a comment or a quoted text")
)

// oneQuery takes off a semicolon at the end, and refuses what is not a single
// query. BigQuery's own word on that, which compile asks for, comes after the
// statement was sent.
func oneQuery(sql string) (string, error) {
	end, first := -1, ""
	for i := 0; i < len(sql); {
		n, blank, err := token(sql[i:])
		if err != nil {
			return "", err
		}
		switch {
		case blank:
		case sql[i] == ';':
			if end < 0 {
				end = i
			}
		case end >= 0:
			return "", errSeveral
		case first == "" && sql[i] != '(':
			first = strings.ToUpper(sql[i : i+n])
		}
		i += n
	}
	switch first {
	case "SELECT", "WITH", "FROM":
	case "":
		return "", errors.New("the query is empty")
	default:
		return "", fmt.Errorf("the query begins with %.40q: a model must be one SELECT", first)
	}
	if end >= 0 {
		sql = sql[:end]
	}
	return sql, nil
}

// token returns the length of what s begins with: a quoted text, a comment, a
// word or one byte. blank says that it means nothing to the server. (BigQuery's
// documentation, "Lexical structure and syntax".)
func token(s string) (n int, blank bool, err error) {
	switch {
	case strings.HasPrefix(s, "--"), s[0] == '#':
		if at := strings.IndexByte(s, '\n'); at >= 0 {
			return at + 1, true, nil
		}
		return len(s), true, nil
	case strings.HasPrefix(s, "/*"):
		at := strings.Index(s[2:], "*/")
		if at < 0 {
			return 0, false, errOpen
		}
		return at + 4, true, nil
	case s[0] == '"' || s[0] == '\'' || s[0] == '`':
		quote := s[:1]
		if triple := strings.Repeat(quote, 3); quote != "`" && strings.HasPrefix(s, triple) {
			quote = triple
		}
		// A backslash takes the next byte with it, in raw texts too.
		for i := len(quote); i < len(s); i++ {
			switch {
			case s[i] == '\\':
				i++
			case strings.HasPrefix(s[i:], quote):
				return i + len(quote), false, nil
			}
		}
		return 0, false, errOpen
	case letter(s[0]):
		for n = 1; n < len(s) && (letter(s[n]) || s[n] >= '0' && s[n] <= '9'); n++ {
		}
		return n, false, nil
	}
	return 1, strings.IndexByte(" \t\r\n\f\v", s[0]) >= 0, nil
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

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
