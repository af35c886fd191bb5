package config

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a value in the file is.
type kind int

const (
	tableKind kind = iota
	arrayKind
	stringKind
	boolKind
	integerKind
	floatKind
	timeKind // any of the dates and times; raw tells which
)

var kindNames = map[kind]string{
	tableKind: "a table", arrayKind: "an array", stringKind: "a string", boolKind: "a boolean",
	integerKind: "a whole number", floatKind: "a number", timeKind: "a date or time",
}

// node is a value of the file with its place.
type node struct {
	kind    kind
	pos     position
	text    string // string: interpolated; others: as written
	raw     string // string: before interpolation
	toml    unstable.Kind
	broken  bool // an error about the value was reported already
	entries []*entry
	items   []*node
}

// entry is a key of a table, in the order of the file.
type entry struct {
	name  string
	pos   position
	value *node
}

func (n *node) get(name string) *entry {
	for _, e := range n.entries {
		if e.name == name {
			return e
		}
	}
	return nil
}

// shown is how an error quotes a value: as the file has it, so that nothing
// that came out of the environment or a secret file is ever repeated.
func (n *node) shown() string {
	if n.kind == stringKind {
		return fmt.Sprintf("%q", n.raw)
	}
	return n.text
}

// parser builds the tree of one file.
type parser struct {
	l      *loader
	file   string
	data   []byte
	toml   unstable.Parser
	offset int // how far line and lineStart have been counted
	line   int
	start  int
}

// parse returns the file's tree, or nil after reporting a syntax error: past
// one nothing in the file can be trusted to be what it seems.
func (l *loader) parse(file string, data []byte) *node {
	var whole map[string]any
	if err := toml.Unmarshal(data, &whole); err != nil {
		p := Problem{File: file, Message: "syntax: " + err.Error()}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			p.Line, p.Column = at.Position()
			p.Message = "syntax: " + at.Error()[len("toml: "):]
		}
		l.problems = append(l.problems, p)
		return nil
	}
	p := &parser{l: l, file: file, data: data, line: 1}
	root := &node{kind: tableKind, pos: position{file, 1, 1}}
	current := root
	p.toml.Reset(data)
	for p.toml.NextExpression() {
		e := p.toml.Expression()
		switch e.Kind {
		case unstable.Table:
			current = p.table(root, e.Key())
		case unstable.ArrayTable:
			current = p.arrayTable(root, e.Key())
		case unstable.KeyValue:
			p.keyValue(current, e)
		}
	}
	if err := p.toml.Error(); err != nil {
		l.problems = append(l.problems, Problem{File: file, Message: "syntax: " + err.Error()})
		return nil
	}
	return root
}

// at returns the place of a byte offset. Offsets mostly ascend, so counting
// goes on from the last one.
func (p *parser) at(offset int) position {
	if offset < p.offset {
		p.offset, p.line, p.start = 0, 1, 0
	}
	for {
		i := bytes.IndexByte(p.data[p.offset:offset], '\n')
		if i < 0 {
			break
		}
		p.offset += i + 1
		p.start = p.offset
		p.line++
	}
	p.offset = offset
	return position{p.file, p.line, utf8.RuneCount(p.data[p.start:offset]) + 1}
}

// table walks a header's dotted key down from t.
func (p *parser) table(t *node, key unstable.Iterator) *node {
	for key.Next() {
		t = p.child(t, key.Node())
	}
	return t
}

func (p *parser) child(t *node, key *unstable.Node) *node {
	name := string(key.Data)
	if e := t.get(name); e != nil {
		n := e.value
		if n.kind == arrayKind && len(n.items) > 0 {
			return n.items[len(n.items)-1]
		}
		return n
	}
	n := &node{kind: tableKind, pos: p.at(int(key.Raw.Offset))}
	t.entries = append(t.entries, &entry{name: name, pos: n.pos, value: n})
	return n
}

func (p *parser) arrayTable(t *node, key unstable.Iterator) *node {
	for key.Next() {
		k := key.Node()
		if !key.IsLast() {
			t = p.child(t, k)
			continue
		}
		e := t.get(string(k.Data))
		if e == nil {
			pos := p.at(int(k.Raw.Offset))
			e = &entry{name: string(k.Data), pos: pos, value: &node{kind: arrayKind, pos: pos}}
			t.entries = append(t.entries, e)
		}
		item := &node{kind: tableKind, pos: p.at(int(k.Raw.Offset))}
		e.value.items = append(e.value.items, item)
		t = item
	}
	return t
}

func (p *parser) keyValue(t *node, e *unstable.Node) {
	for key := e.Key(); key.Next(); {
		k := key.Node()
		if !key.IsLast() {
			t = p.child(t, k)
			continue
		}
		pos := p.at(int(k.Raw.Offset))
		t.entries = append(t.entries, &entry{name: string(k.Data), pos: pos, value: p.value(e.Value(), pos)})
	}
}

// value builds a value; pos is its key's place, for the kinds of value whose
// own the parser does not keep.
func (p *parser) value(v *unstable.Node, pos position) *node {
	if v.Raw.Length > 0 {
		pos = p.at(int(v.Raw.Offset))
	}
	n := &node{pos: pos, toml: v.Kind, text: string(v.Data)}
	switch v.Kind {
	case unstable.InlineTable:
		n.kind = tableKind
		for it := v.Children(); it.Next(); {
			p.keyValue(n, it.Node())
		}
	case unstable.Array:
		n.kind = arrayKind
		for it := v.Children(); it.Next(); {
			n.items = append(n.items, p.value(it.Node(), pos))
		}
	case unstable.String:
		n.kind = stringKind
		n.raw = n.text
		n.text, n.broken = p.l.interpolate(n.raw, pos)
	case unstable.Bool:
		n.kind = boolKind
	case unstable.Integer:
		n.kind = integerKind
	case unstable.Float:
		n.kind = floatKind
	default:
		n.kind = timeKind
	}
	return n
}
