package emulator

import (
	"sort"
	"strconv"
	"strings"
)

// follow reads a field through its parents. It returns the field that the value
// belongs to, which for a polymorphic parent depends on the record.
func (o *Org) follow(obj *object, r *record, ref *pathRef) (string, *field, bool) {
	for _, hop := range ref.hops {
		if obj, r = o.parent(obj, r, hop); r == nil {
			return "", ref.leaf, false
		}
	}
	f := ref.leaf
	if f.obj != obj {
		if f = obj.visible(ref.name); f == nil {
			return "", ref.leaf, false
		}
	}
	v, ok := o.value(obj, r, f)
	return v, f, ok
}

// parent is the live record that a reference points at.
func (o *Org) parent(obj *object, r *record, hop *field) (*object, *record) {
	f := hop
	if f.obj != obj {
		if f = obj.relation(hop.relationship); f == nil {
			return nil, nil
		}
	}
	id, ok := o.value(obj, r, f)
	if !ok || len(id) < 3 {
		return nil, nil
	}
	target := o.byKey[id[:3]]
	if target == nil {
		return nil, nil
	}
	p := target.find(id)
	if p == nil || p.deleted {
		return nil, nil
	}
	return target, p
}

// match returns the records that a plan selects, sorted and cut. Callers hold
// Org.mu.
func (o *Org) match(p *plan) []*record {
	rows := o.filter(p)
	o.sortRows(p, rows)
	return cut(rows, p.q.offset, p.q.limit)
}

func cut[T any](rows []T, offset, limit int) []T {
	rows = rows[min(offset, len(rows)):]
	if limit >= 0 && limit < len(rows) {
		rows = rows[:limit]
	}
	return rows
}

func (o *Org) filter(p *plan) []*record {
	var rows []*record
	keep := func(r *record) {
		if r == nil || r.deleted && !p.all {
			return
		}
		if p.q.where == nil || o.holds(p.obj, r, p.q.where) {
			rows = append(rows, r)
		}
	}
	early := -1 // a query that is not sorted may stop as soon as it has enough
	if len(p.q.order) == 0 && p.q.limit >= 0 && !p.grouped && !p.counter {
		early = p.q.limit + p.q.offset
	}
	if candidates, ok := o.candidates(p, p.q.where); ok {
		for _, r := range candidates {
			keep(r)
		}
		return rows
	}
	for _, r := range p.obj.records {
		if early >= 0 && len(rows) >= early {
			break
		}
		keep(r)
	}
	return rows
}

// candidates narrows a query down by an index: by the Id or an indexed field
// that a condition which must hold compares with given values.
func (o *Org) candidates(p *plan, c *condition) ([]*record, bool) {
	if c == nil {
		return nil, false
	}
	if c.op == "AND" {
		for _, part := range c.parts {
			if rows, ok := o.candidates(p, part); ok {
				return rows, true
			}
		}
		return nil, false
	}
	if c.ref == nil || len(c.ref.hops) > 0 || c.op != "=" && c.op != "IN" {
		return nil, false
	}
	f := c.ref.leaf
	if f.from != fromID && f.index == nil {
		return nil, false
	}
	var values []string
	for _, v := range c.vals {
		if v.kind == tokEnd || v.text == "" {
			return nil, false // nulls are in no index
		}
		values = append(values, v.text)
	}
	for v := range c.subIDs {
		values = append(values, v)
	}
	seen := make(map[*record]bool, len(values))
	var rows []*record
	add := func(r *record) {
		if r != nil && !seen[r] {
			seen[r] = true
			rows = append(rows, r)
		}
	}
	for _, v := range values {
		if f.from == fromID {
			add(p.obj.find(v))
			continue
		}
		f.index.each(v, func(pos uint32) bool { add(p.obj.records[pos]); return true })
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].pos < rows[j].pos })
	return rows, true
}

// holds decides a condition for a record.
func (o *Org) holds(obj *object, r *record, c *condition) bool {
	switch c.op {
	case "AND":
		for _, part := range c.parts {
			if !o.holds(obj, r, part) {
				return false
			}
		}
		return true
	case "OR":
		for _, part := range c.parts {
			if o.holds(obj, r, part) {
				return true
			}
		}
		return false
	case "NOT":
		return !o.holds(obj, r, c.parts[0])
	}
	v, f, ok := o.follow(obj, r, c.ref)
	if f.kind == kindBool && !ok {
		v, ok = "false", true
	}
	return compare(c, f, v, ok)
}

// compare decides one comparison of a value, not ok being null.
func compare(c *condition, f *field, v string, ok bool) bool {
	switch c.op {
	case "=", "IN", "!=", "NOT IN":
		return isIn(c, f, v, ok) == (c.op == "=" || c.op == "IN")
	case "LIKE":
		return ok && like(strings.ToLower(v), strings.ToLower(c.vals[0].like))
	case "INCLUDES", "EXCLUDES":
		return ok && includes(c, v) == (c.op == "INCLUDES")
	}
	if !ok {
		return false
	}
	if len(c.rng) > 0 {
		from, to := c.rng[0].text(f, c.rng[0].from), c.rng[0].text(f, c.rng[0].to)
		switch c.op {
		case "<":
			return v < from
		case "<=":
			return v < to
		case ">":
			return v >= to
		default:
			return v >= from
		}
	}
	if c.vals[0].kind == tokEnd {
		return false
	}
	d := order(f, v, c.vals[0].text)
	switch c.op {
	case "<":
		return d < 0
	case "<=":
		return d <= 0
	case ">":
		return d > 0
	default:
		return d >= 0
	}
}

func isIn(c *condition, f *field, v string, ok bool) bool {
	if c.sub != nil {
		return ok && c.subIDs[v]
	}
	for _, r := range c.rng {
		if ok && v >= r.text(f, r.from) && v < r.text(f, r.to) {
			return true
		}
	}
	if len(c.rng) == len(c.vals) {
		return false
	}
	if !ok {
		return c.set[""]
	}
	return c.set[fold(f, v)]
}

func includes(c *condition, v string) bool {
	has := map[string]bool{}
	for _, part := range strings.Split(strings.ToLower(v), ";") {
		has[part] = true
	}
	for _, l := range c.vals {
		all := true
		for _, part := range strings.Split(strings.ToLower(l.text), ";") {
			all = all && has[trim(part)]
		}
		if all {
			return true
		}
	}
	return false
}

// like matches a pattern of % and _, where a backslash takes them literally.
func like(s, pattern string) bool {
	// The usual walk with one place to come back to, so that its time is bounded
	// by the product of the lengths.
	i, j, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '%':
			star, mark = j, i
			j++
		case j+1 < len(pattern) && pattern[j] == '\\' && pattern[j+1] == s[i]:
			i, j = i+1, j+2
		case j < len(pattern) && pattern[j] == '_':
			i += runeLen(s[i:])
			j++
		case j < len(pattern) && pattern[j] != '\\' && pattern[j] == s[i]:
			i, j = i+1, j+1
		case star >= 0:
			mark += runeLen(s[mark:])
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(pattern) && pattern[j] == '%' {
		j++
	}
	return j == len(pattern)
}

func runeLen(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i]&0xC0 != 0x80 {
			return i
		}
	}
	return len(s)
}

// order compares two stored values of a field.
func order(f *field, a, b string) int {
	switch f.kind {
	case kindInt, kindDouble:
		x, errX := strconv.ParseFloat(a, 64)
		y, errY := strconv.ParseFloat(b, 64)
		if errX != nil || errY != nil {
			return strings.Compare(a, b)
		}
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	case kindPicklist, kindText, kindEmail, kindMulti:
		return strings.Compare(strings.ToLower(a), strings.ToLower(b))
	default:
		return strings.Compare(a, b)
	}
}

func (o *Org) sortRows(p *plan, rows []*record) {
	if len(p.q.order) == 0 || p.grouped {
		return
	}
	type key struct {
		v  string
		ok bool
	}
	keys := make([][]key, len(rows))
	at := make([]int, len(rows))
	for i, r := range rows {
		at[i] = i
		keys[i] = make([]key, len(p.q.order))
		for k, item := range p.q.order {
			v, _, ok := o.follow(p.obj, r, item.ref)
			keys[i][k] = key{v, ok}
		}
	}
	sort.SliceStable(at, func(i, j int) bool {
		for k, item := range p.q.order {
			a, b := keys[at[i]][k], keys[at[j]][k]
			if a.ok != b.ok {
				return b.ok != item.nullsLast
			}
			d := order(item.ref.leaf, a.v, b.v)
			if item.desc {
				d = -d
			}
			if d != 0 {
				return d < 0
			}
		}
		return false
	})
	sorted := make([]*record, len(rows))
	for i, n := range at {
		sorted[i] = rows[n]
	}
	copy(rows, sorted)
}
