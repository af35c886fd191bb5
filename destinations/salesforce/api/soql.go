package api

import (
	"fmt"
	"strings"
)

const (
	// maxQueryBytes keeps an encoded query well below the limit on a URI.
	maxQueryBytes = 12_000
	// maxInValues is how many values one query asks for.
	maxInValues = 800
)

// QuoteSOQL writes a text as a SOQL literal, quotes included (SOQL and SOSL
// Reference, "Quoted String Escape Sequences"). It is not for LIKE patterns,
// in which % and _ have meanings of their own.
func QuoteSOQL(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('\'')
	for _, r := range s {
		switch r {
		case '\'', '"', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		default:
			if r < ' ' || r == 0x7f {
				fmt.Fprintf(&b, `\u%04X`, r)
				continue
			}
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// InChunks builds queries of the form prefix 'a','b' suffix that together name
// each value once, in order, quoted: prefix ends in "IN (" and suffix begins
// with ")". No query holds more than 800 values, nor, encoded for a URL, more
// than maxBytes (0: 12,000), save where a single value is longer by itself.
func InChunks(prefix, suffix string, values []string, maxBytes int) []string {
	literals := make([]string, len(values))
	for i, v := range values {
		literals[i] = QuoteSOQL(v)
	}
	return InLiterals(prefix, suffix, literals, maxBytes)
}

// InLiterals is InChunks for values that are SOQL literals already, such as
// numbers.
func InLiterals(prefix, suffix string, literals []string, maxBytes int) []string {
	if maxBytes <= 0 {
		maxBytes = maxQueryBytes
	}
	const comma = 3 // "%2C"
	frame := encodedLen(prefix) + encodedLen(suffix)
	var queries []string
	for start := 0; start < len(literals); {
		size, end := frame+encodedLen(literals[start]), start+1
		for end < len(literals) && end-start < maxInValues {
			size += comma + encodedLen(literals[end])
			if size > maxBytes {
				break
			}
			end++
		}
		queries = append(queries, prefix+strings.Join(literals[start:end], ",")+suffix)
		start = end
	}
	return queries
}

// encodedLen is the length of url.QueryEscape(s).
func encodedLen(s string) int {
	n := len(s)
	for i := range len(s) {
		switch ch := s[i]; {
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9',
			ch == '-', ch == '_', ch == '.', ch == '~', ch == ' ':
		default:
			n += 2
		}
	}
	return n
}
