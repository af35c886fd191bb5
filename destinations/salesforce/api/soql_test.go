package api

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestQuoteSOQL(t *testing.T) {
	for in, want := range map[string]string{
		"":               `''`,
		"plain":          `'plain'`,
		"O'Brien":        `'O\'Brien'`,
		`back\slash`:     `'back\\slash'`,
		"say \"x\"":      `'say \"x\"'`,
		"a\nb\rc\td":     `'a\nb\rc\td'`,
		"\b\f":           `'\b\f'`,
		"nul\x00":        `'nul\u0000'`,
		"50% of a_b":     `'50% of a_b'`,
		"日本 é":           `'日本 é'`,
		"' OR Name != '": `'\' OR Name != \''`,
	} {
		if got := QuoteSOQL(in); got != want {
			t.Errorf("QuoteSOQL(%q) = %s, want %s", in, got, want)
		}
	}
}

// unquote reads a literal as SOQL does; ok is false of what is not exactly one.
func unquote(literal string) (text string, ok bool) {
	if len(literal) < 2 || literal[0] != '\'' || literal[len(literal)-1] != '\'' {
		return "", false
	}
	var b strings.Builder
	for s := literal[1 : len(literal)-1]; s != ""; s = s[1:] {
		switch {
		case s[0] == '\'' || s[0] < ' ':
			return "", false
		case s[0] != '\\':
			b.WriteByte(s[0])
			continue
		case len(s) < 2:
			return "", false
		}
		s = s[1:]
		switch s[0] {
		case '\'', '"', '\\':
			b.WriteByte(s[0])
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			var r rune
			if len(s) < 5 {
				return "", false
			}
			if _, err := fmt.Sscanf(s[1:5], "%04X", &r); err != nil {
				return "", false
			}
			b.WriteRune(r)
			s = s[4:]
		default:
			return "", false
		}
	}
	return b.String(), true
}

func FuzzQuoteSOQL(f *testing.F) {
	f.Add(`O'Brien \ "x"`)
	f.Add("\x00\x7f\n")
	f.Add(`\'`)
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := unquote(QuoteSOQL(s))
		if !ok {
			t.Fatalf("%q became %s, which is no literal", s, QuoteSOQL(s))
		}
		if utf8.ValidString(s) && got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}

func TestInChunks(t *testing.T) {
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf("K%04d", i))
	}
	const prefix, suffix = "SELECT Id FROM Account WHERE Ext__c IN (", ")"
	for name, test := range map[string]struct {
		values   []string
		maxBytes int
		chunks   int
	}{
		"none":           {nil, 0, 0},
		"one":            {many[:1], 0, 1},
		"by count":       {many[:801], 1 << 20, 2},
		"by size":        {many, 0, 3}, // 14 encoded bytes a value
		"one too long":   {[]string{strings.Repeat("x", 20_000), "y"}, 0, 2},
		"a tiny maximum": {many[:3], 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if got := InChunks(prefix, suffix, test.values, test.maxBytes); len(got) != test.chunks {
				t.Errorf("%d queries, want %d", len(got), test.chunks)
			}
		})
	}
	if got := InLiterals("x IN (", ")", []string{"1", "2.5"}, 0); len(got) != 1 || got[0] != "x IN (1,2.5)" {
		t.Errorf("literals %q", got)
	}
}

func FuzzInChunks(f *testing.F) {
	f.Add("a\x1fb'c\x1f日本", 60, uint8(1))
	f.Add("", 0, uint8(200))
	f.Fuzz(func(t *testing.T, joined string, maxBytes int, repeat uint8) {
		var values []string
		for range int(repeat)%50 + 1 {
			values = append(values, strings.Split(joined, "\x1f")...)
		}
		bound := maxBytes
		if bound <= 0 {
			bound = maxQueryBytes
		}
		const prefix, suffix = "SELECT Id FROM A WHERE B IN (", ") ORDER BY Id"
		var literals []string
		for _, q := range InChunks(prefix, suffix, values, maxBytes) {
			inner, ok1 := strings.CutPrefix(q, prefix)
			inner, ok2 := strings.CutSuffix(inner, suffix)
			if !ok1 || !ok2 {
				t.Fatalf("query %q", q)
			}
			before := len(literals)
			for start, i := 0, 0; i < len(inner); i++ {
				// A literal ends at a quote that is not escaped.
				if inner[i] == '\\' {
					i++
				} else if inner[i] == '\'' && i > start {
					literals = append(literals, inner[start:i+1])
					i++ // the comma
					start = i + 1
				}
			}
			n := len(literals) - before
			if n == 0 || n > maxInValues {
				t.Errorf("a query of %d values", n)
			}
			if size := len(url.QueryEscape(q)); n > 1 && size > bound {
				t.Errorf("a query of %d values has %d bytes, more than %d", n, size, bound)
			}
			if size := len(url.QueryEscape(q)); size != encodedLen(q) {
				t.Errorf("encodedLen %d, want %d", encodedLen(q), size)
			}
		}
		if len(literals) != len(values) {
			t.Fatalf("%d literals of %d values", len(literals), len(values))
		}
		for i, v := range values {
			if literals[i] != QuoteSOQL(v) {
				t.Errorf("value %d is %s, want %s", i, literals[i], QuoteSOQL(v))
			}
		}
	})
}
