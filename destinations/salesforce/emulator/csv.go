package emulator

import (
	"errors"
	"strings"
)

// A CSV reader over text in memory that yields its cells without copying them
// (Bulk API 2.0 Developer Guide, "Bulk API 2.0 and Bulk API Older Documentation:
// Prepare CSV Files").

var (
	errQuote      = errors.New("found unescaped quote. A value with quote should be within a quote")
	errQuoteSpace = errors.New("whitespace between a quote and a delimiter")
	errOpenQuote  = errors.New("EOF reached before closing an opened quote")
)

type csvReader struct {
	s     string
	i     int
	delim byte
	cells []string
}

// next reads a row from the current place; ok is false at the end. The cells are
// good until the next call. errQuoteSpace concerns this row alone; after any
// other error there is no telling where the next row begins.
func (r *csvReader) next() (cells []string, start int, ok bool, err error) {
	for r.i < len(r.s) && (r.s[r.i] == '\n' || r.s[r.i] == '\r') {
		r.i++ // lines without anything are no rows
	}
	if r.i >= len(r.s) {
		return nil, r.i, false, nil
	}
	start = r.i
	r.cells = r.cells[:0]
	var soft error
	for {
		cell, cellErr := r.cell()
		if cellErr == errQuoteSpace {
			soft = cellErr
		} else if cellErr != nil {
			return nil, start, false, cellErr
		}
		r.cells = append(r.cells, cell)
		if r.i >= len(r.s) {
			return r.cells, start, true, soft
		}
		c := r.s[r.i]
		r.i++
		if c == '\n' {
			return r.cells, start, true, soft
		}
		if c == '\r' {
			if r.i < len(r.s) && r.s[r.i] == '\n' {
				r.i++
			}
			return r.cells, start, true, soft
		}
	}
}

// cell reads one cell and stops at the delimiter or line end behind it.
func (r *csvReader) cell() (string, error) {
	if r.i < len(r.s) && r.s[r.i] == '"' {
		return r.quoted()
	}
	start := r.i
	for r.i < len(r.s) {
		switch c := r.s[r.i]; c {
		case r.delim, '\n', '\r':
			return r.s[start:r.i], nil
		case '"':
			if strings.Trim(r.s[start:r.i], " \t") == "" {
				if _, err := r.quoted(); err != nil && err != errQuoteSpace {
					return "", err
				}
				return "", errQuoteSpace
			}
			return "", errQuote
		}
		r.i++
	}
	return r.s[start:r.i], nil
}

func (r *csvReader) quoted() (string, error) {
	r.i++
	start := r.i
	doubled := false
	for {
		n := strings.IndexByte(r.s[r.i:], '"')
		if n < 0 {
			r.i = len(r.s)
			return "", errOpenQuote
		}
		r.i += n + 1
		if r.i < len(r.s) && r.s[r.i] == '"' {
			doubled = true
			r.i++
			continue
		}
		break
	}
	text := r.s[start : r.i-1]
	if doubled {
		text = strings.ReplaceAll(text, `""`, `"`)
	}
	if r.i >= len(r.s) {
		return text, nil
	}
	switch r.s[r.i] {
	case r.delim, '\n', '\r':
		return text, nil
	case ' ', '\t':
		for r.i < len(r.s) && r.s[r.i] != r.delim && r.s[r.i] != '\n' && r.s[r.i] != '\r' {
			if r.s[r.i] == '"' {
				return "", errQuote
			}
			r.i++
		}
		return text, errQuoteSpace
	}
	return "", errQuote
}

var delimiters = map[string]byte{"BACKQUOTE": '`', "CARET": '^', "COMMA": ',', "PIPE": '|', "SEMICOLON": ';', "TAB": '\t'}

// badLineEnding says whether text has line ends other than the job's.
func badLineEnding(text, setting string) bool {
	if setting == "CRLF" {
		return lonelyLF(text)
	}
	return strings.Contains(text, "\r\n")
}

// lonelyLF finds a line feed outside quotes that no carriage return precedes.
func lonelyLF(text string) bool {
	quoted := false
	for i := range len(text) {
		switch text[i] {
		case '"':
			quoted = !quoted
		case '\n':
			if !quoted && (i == 0 || text[i-1] != '\r') {
				return true
			}
		}
	}
	return false
}

// appendCSV appends a quoted cell.
func appendCSV(dst []byte, text string) []byte {
	dst = append(dst, '"')
	if strings.IndexByte(text, '"') < 0 {
		dst = append(dst, text...)
	} else {
		dst = append(dst, strings.ReplaceAll(text, `"`, `""`)...)
	}
	return append(dst, '"')
}
