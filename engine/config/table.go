package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"coho/models"
)

// table reads one table of the config key by key, and at the end reports the
// keys that nothing asked for.
type table struct {
	d      *decoder
	n      *node
	path   string // as the user writes it: syncs.accounts.write
	schema string // with the names left out: syncs.*.write
	known  []string
	failed bool // a mistake in this very table was reported
}

// newTable returns nil, having said so, if n is no table.
func (d *decoder) newTable(n *node, path, schema string) *table {
	if n.kind != tableKind {
		d.fail(n.pos, "%s: want a table, not %s", path, kindNames[n.kind])
		return nil
	}
	return &table{d: d, n: n, path: path, schema: schema}
}

func (t *table) fail(pos position, format string, args ...any) {
	t.failed = true
	t.d.fail(pos, "%s: %s", t.path, fmt.Sprintf(format, args...))
}

// has reports whether the key is there.
func (t *table) has(key string) bool { return t.n.get(key) != nil }

// value returns a key's value, or nil if it is not there.
func (t *table) value(key string) *node {
	if !slices.Contains(t.known, key) {
		t.known = append(t.known, key)
	}
	e := t.n.get(key)
	full := t.schema + "." + key
	t.d.keys[full] = t.d.keys[full] || e != nil
	if e == nil {
		return nil
	}
	return e.value
}

// pos is the place of a key's value, or of the table where it is missing.
func (t *table) pos(key string) position {
	if e := t.n.get(key); e != nil {
		return e.value.pos
	}
	return t.n.pos
}

// of returns a key's value if it has the kind; else it reports it.
func (t *table) of(key string, want kind) *node {
	v := t.value(key)
	switch {
	case v == nil:
		return nil
	case v.kind != want:
		hint := ""
		if want == stringKind && (v.kind == floatKind || v.kind == integerKind || v.kind == timeKind) {
			hint = fmt.Sprintf(" (write %q)", v.text)
		}
		t.fail(v.pos, "%s: want %s, not %s%s", key, kindNames[want], kindNames[v.kind], hint)
		return nil
	case v.broken:
		t.failed = true
		return nil
	}
	return v
}

// str returns an optional string; what is there must not be empty.
func (t *table) str(key string) string {
	v := t.of(key, stringKind)
	if v == nil {
		return ""
	}
	if strings.TrimSpace(v.text) == "" {
		t.fail(v.pos, "%s is empty", key)
		return ""
	}
	return v.text
}

// required returns a string that must be there.
func (t *table) required(key string) string {
	if !t.has(key) {
		t.value(key)
		t.fail(t.n.pos, "%s is missing", key)
		return ""
	}
	return t.str(key)
}

// choice returns a string that is one of a few; def where it is not there.
func (t *table) choice(key, def string, choices ...string) string {
	v := t.of(key, stringKind)
	if v == nil {
		return def
	}
	if !slices.Contains(choices, v.text) {
		t.fail(v.pos, "%s: %s is none of %s%s", key, v.shown(), strings.Join(choices, ", "), nearChoice(v.raw, choices))
		return def
	}
	return v.text
}

func (t *table) boolean(key string, def bool) bool {
	if v := t.of(key, boolKind); v != nil {
		return v.text == "true"
	}
	return def
}

func (t *table) integer(key string, def, low, high int64) int64 {
	v := t.of(key, integerKind)
	if v == nil {
		return def
	}
	n, err := strconv.ParseInt(v.text, 0, 64)
	if err != nil || n < low || n > high {
		if high == math.MaxInt64 {
			t.fail(v.pos, "%s: %s is less than %d", key, v.text, low)
		} else {
			t.fail(v.pos, "%s: %s is not within %d to %d", key, v.text, low, high)
		}
		return def
	}
	return n
}

// file returns an optional path, joined with the folder of the file it stands
// in.
func (t *table) file(key string) string {
	if p := t.str(key); p != "" {
		return relativeTo(t.pos(key).file, p)
	}
	return ""
}

// strings returns an array of strings, each once.
func (t *table) strings(key string) []*node {
	v := t.of(key, arrayKind)
	if v == nil {
		return nil
	}
	var out []*node
	seen := map[string]bool{}
	for _, item := range v.items {
		switch {
		case item.kind != stringKind:
			t.fail(item.pos, "%s: want strings, not %s", key, kindNames[item.kind])
		case item.broken:
			t.failed = true
		case strings.TrimSpace(item.text) == "":
			t.fail(item.pos, "%s: an empty name", key)
		case seen[item.text]:
			t.fail(item.pos, "%s: %s is named twice", key, item.shown())
		default:
			seen[item.text] = true
			out = append(out, item)
		}
	}
	return out
}

// sub returns a table inside, nil if it is not there.
func (t *table) sub(key string) *table {
	v := t.value(key)
	if v == nil {
		return nil
	}
	inner := t.d.newTable(v, t.path+"."+key, t.schema+"."+key)
	if inner == nil {
		t.failed = true
	}
	return inner
}

// done reports the keys that were not asked for.
func (t *table) done() {
	for _, e := range t.n.entries {
		if !slices.Contains(t.known, e.name) {
			t.d.fail(e.pos, "%s: unknown key %q%s", t.path, e.name, near(e.name, t.known))
		}
	}
}

// near is the ending of a message about an unknown name: the name that was
// probably meant, or else all that there are if they are few.
func near(name string, known []string) string {
	if n := nearChoice(name, known); n != "" {
		return n
	}
	if len(known) == 0 || len(known) > 8 {
		return ""
	}
	return " (known: " + strings.Join(known, ", ") + ")"
}

// nearChoice is near where the message lists what there is already.
func nearChoice(name string, choices []string) string {
	if n := models.Nearest(name, choices); n != "" {
		return fmt.Sprintf(" (nearest: %q)", n)
	}
	return ""
}
