package duckdb

import (
	"path/filepath"
	"strings"
)

// fileFunctions are the table functions whose first argument is a file, or a
// list of files, besides those that begin with read_.
var fileFunctions = map[string]bool{
	"parquet_scan": true, "parquet_metadata": true, "parquet_schema": true, "parquet_file_metadata": true,
	"parquet_kv_metadata": true, "sniff_csv": true, "glob": true,
}

// fromFunctions take FROM between their arguments: extract(year FROM '...').
var fromFunctions = map[string]bool{"extract": true, "trim": true, "substring": true, "overlay": true}

// resolveFiles makes the relative file names in a query absolute: after FROM
// and JOIN, and in the first argument of a function that reads files.
//
// DuckDB's file_search_path alone would not do: it is looked at only where the
// working directory has no file of that name, so what a model reads would
// depend on where coho was started.
func resolveFiles(sql, dir string) string {
	if dir == "" {
		return sql
	}
	var out strings.Builder
	const (
		nothing  = iota
		function // after the name of a function that reads files
		file     // a literal here is a file
		list     // inside a list of files
	)
	state := nothing
	before := ""      // the word before this token, "" if it was no word
	var nested []bool // for each open parenthesis: FROM in it names no table
	for i := 0; i < len(sql); {
		n, kind := token(sql[i:])
		text := sql[i : i+n]
		i += n
		next := nothing
		switch kind {
		case blank:
			next = state
		case word:
			switch w := strings.ToLower(text); {
			case w == "from" && (before == "distinct" || len(nested) > 0 && nested[len(nested)-1]):
			case w == "from" || w == "join":
				next = file
			case strings.HasPrefix(w, "read_") || fileFunctions[w]:
				next = function
			}
		case literal:
			if state == file || state == list {
				text = absolute(text, dir)
			}
			if state == list {
				next = list
			}
		case symbol:
			switch {
			case text == "(":
				nested = append(nested, fromFunctions[before])
				if state == function {
					next = file
				}
			case text == ")" && len(nested) > 0:
				nested = nested[:len(nested)-1]
			case text == "[" && state == file, text == "," && state == list:
				next = list
			}
		}
		state = next
		if kind == word {
			before = strings.ToLower(text)
		} else if kind != blank {
			before = ""
		}
		out.WriteString(text)
	}
	return out.String()
}

// absolute returns a quoted file name that does not depend on the working
// directory.
func absolute(quoted, dir string) string {
	name := strings.ReplaceAll(quoted[1:len(quoted)-1], "''", "'")
	if name == "" || filepath.IsAbs(name) || strings.Contains(name, "://") || strings.HasPrefix(name, "~") {
		return quoted
	}
	return "'" + strings.ReplaceAll(filepath.Join(dir, name), "'", "''") + "'"
}

type tokenKind uint8

const (
	symbol  tokenKind = iota // one byte of anything else
	blank                    // white space and comments
	word                     // a keyword or a name
	literal                  // a text in single quotes
)

// token returns the length and the kind of the first token of s, which is not
// empty. What is not closed ends with s; DuckDB will say what is wrong.
func token(s string) (int, tokenKind) {
	until := func(from int, end string) int {
		if i := strings.Index(s[from:], end); i >= 0 {
			return from + i + len(end)
		}
		return len(s)
	}
	switch c := s[0]; {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		return 1, blank
	case strings.HasPrefix(s, "--"):
		return until(2, "\n"), blank
	case strings.HasPrefix(s, "/*"):
		return until(2, "*/"), blank
	case c == '\'':
		for i := 1; i < len(s); i++ {
			if s[i] != '\'' {
				continue
			}
			if i+1 < len(s) && s[i+1] == '\'' {
				i++
				continue
			}
			return i + 1, literal
		}
		return len(s), symbol
	case c == '"':
		return until(1, `"`), symbol
	case c == '$':
		n := 1
		for n < len(s) && wordByte(s[n]) {
			n++
		}
		if n < len(s) && s[n] == '$' {
			return until(n+1, s[:n+1]), symbol
		}
		return n, symbol
	case wordByte(c):
		n := 1
		for n < len(s) && wordByte(s[n]) {
			n++
		}
		return n, word
	}
	return 1, symbol
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
