package emulator

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A JSON reader of its own, because an org's errors say where in the text
// something is wrong ("at [line:1, column:55]"), and the values of a record are
// judged with their kind.

type jsonKind uint8

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonString
	jsonArray
	jsonObject
)

// node is a JSON value; at is where it begins.
type node struct {
	kind  jsonKind
	text  string // of a string, number ("1.50") or boolean
	items []node
	keys  []string // of an object: the name of each item
	at    int
}

// get returns an object's member by its exact name, nil when there is none.
func (n *node) get(name string) *node {
	if n == nil || n.kind != jsonObject {
		return nil
	}
	for i, k := range n.keys {
		if k == name {
			return &n.items[i]
		}
	}
	return nil
}

// str is the text of a string member, or "".
func (n *node) str(name string) string {
	if m := n.get(name); m != nil && m.kind == jsonString {
		return m.text
	}
	return ""
}

func (n *node) isTrue(name string) bool {
	m := n.get(name)
	return m != nil && (m.kind == jsonBool || m.kind == jsonString) && m.text == "true"
}

// valueKind names a value as the org's parser does.
func (n *node) valueKind() string {
	switch n.kind {
	case jsonNull:
		return "VALUE_NULL"
	case jsonBool:
		return "VALUE_" + strings.ToUpper(n.text)
	case jsonNumber:
		if strings.ContainsAny(n.text, ".eE") {
			return "VALUE_NUMBER_FLOAT"
		}
		return "VALUE_NUMBER_INT"
	case jsonArray:
		return "START_ARRAY"
	case jsonObject:
		return "START_OBJECT"
	default:
		return "VALUE_STRING"
	}
}

// place renders an offset as the org does.
func place(text string, at int) string {
	line, column := 1, 1
	for i := 0; i < at && i < len(text); i++ {
		column++
		if text[i] == '\n' {
			line, column = line+1, 1
		}
	}
	return fmt.Sprintf("[line:%d, column:%d]", line, column)
}

// jsonError is text that is not JSON.
type jsonError struct {
	what string
	at   int
}

func (e *jsonError) Error() string { return e.what }

const maxJSONDepth = 100

// parseJSON reads one JSON value.
func parseJSON(text string) (*node, error) {
	p := &jsonParser{s: text}
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i < len(p.s) {
		return nil, p.fail("Unexpected character after the value")
	}
	return &n, nil
}

type jsonParser struct {
	s string
	i int
}

func (p *jsonParser) fail(what string) error { return &jsonError{what, p.i} }

func (p *jsonParser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\n' || p.s[p.i] == '\t' || p.s[p.i] == '\r') {
		p.i++
	}
}

func (p *jsonParser) value(depth int) (node, error) {
	p.space()
	if p.i >= len(p.s) {
		return node{}, p.fail("Unexpected end-of-input")
	}
	if depth > maxJSONDepth {
		return node{}, p.fail("The value is nested too deeply")
	}
	n := node{at: p.i}
	var err error
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object(n, depth)
	case c == '[':
		return p.array(n, depth)
	case c == '"':
		n.kind = jsonString
		n.text, err = p.str()
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		n.kind = jsonNumber
		n.text, err = p.number()
		return n, err
	}
	for word, kind := range map[string]jsonKind{"true": jsonBool, "false": jsonBool, "null": jsonNull} {
		if strings.HasPrefix(p.s[p.i:], word) {
			p.i += len(word)
			n.kind, n.text = kind, word
			return n, nil
		}
	}
	return node{}, p.fail(fmt.Sprintf("Unexpected character ('%c' (code %d))", p.s[p.i], p.s[p.i]))
}

func (p *jsonParser) object(n node, depth int) (node, error) {
	n.kind = jsonObject
	p.i++
	for first := true; ; first = false {
		p.space()
		if p.i < len(p.s) && p.s[p.i] == '}' && first {
			break
		}
		if !first {
			if p.i < len(p.s) && p.s[p.i] == '}' {
				break
			}
			if p.i >= len(p.s) || p.s[p.i] != ',' {
				return node{}, p.fail("was expecting comma to separate OBJECT entries")
			}
			p.i++
			p.space()
		}
		if p.i >= len(p.s) || p.s[p.i] != '"' {
			return node{}, p.fail("was expecting double-quote to start field name")
		}
		key, err := p.str()
		if err != nil {
			return node{}, err
		}
		p.space()
		if p.i >= len(p.s) || p.s[p.i] != ':' {
			return node{}, p.fail("was expecting a colon to separate field name and value")
		}
		p.i++
		item, err := p.value(depth + 1)
		if err != nil {
			return node{}, err
		}
		n.keys = append(n.keys, key)
		n.items = append(n.items, item)
	}
	p.i++
	return n, nil
}

func (p *jsonParser) array(n node, depth int) (node, error) {
	n.kind = jsonArray
	p.i++
	for first := true; ; first = false {
		p.space()
		if p.i < len(p.s) && p.s[p.i] == ']' {
			break
		}
		if !first {
			if p.i >= len(p.s) || p.s[p.i] != ',' {
				return node{}, p.fail("was expecting comma to separate ARRAY entries")
			}
			p.i++
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	p.i++
	return n, nil
}

func (p *jsonParser) number() (string, error) {
	start := p.i
	for p.i < len(p.s) && strings.IndexByte("+-.eE0123456789", p.s[p.i]) >= 0 {
		p.i++
	}
	text := p.s[start:p.i]
	if !json.Valid([]byte(text)) {
		return "", p.fail("Invalid numeric value")
	}
	return text, nil
}

func (p *jsonParser) str() (string, error) {
	p.i++
	start := p.i
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"':
			text := p.s[start:p.i]
			p.i++
			if !utf8.ValidString(text) {
				text = strings.ToValidUTF8(text, "\uFFFD")
			}
			return text, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.fail("Illegal unquoted character ((CTRL-CHAR, code " + strconv.Itoa(int(c)) + "))")
		}
		p.i++
	}
	return "", p.fail("Unexpected end-of-input in VALUE_STRING")
}

// escaped reads on to the end of a string with escapes and leaves those to the
// standard library.
func (p *jsonParser) escaped(start int) (string, error) {
	for p.i < len(p.s) && p.s[p.i] != '"' {
		if p.s[p.i] == '\\' {
			p.i++
		}
		p.i++
	}
	if p.i >= len(p.s) {
		return "", p.fail("Unexpected end-of-input in VALUE_STRING")
	}
	p.i++
	var out string
	if err := json.Unmarshal([]byte(p.s[start-1:p.i]), &out); err != nil {
		return "", p.fail("Unrecognized character escape")
	}
	return out, nil
}

// appendJSONString appends a quoted string.
func appendJSONString(dst []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
			plain = false
			break
		}
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return append(dst, `""`...)
	}
	return append(dst, strings.TrimSuffix(b.String(), "\n")...)
}
