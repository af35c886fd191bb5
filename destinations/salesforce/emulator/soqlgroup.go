package emulator

import (
	"sort"
	"strconv"
	"strings"
)

// group is the records that agree in what a query groups by.
type group struct {
	keys   []string
	has    []bool
	first  *record
	totals []total
}

type total struct {
	n    int
	sum  float64
	best string
	has  bool
	seen map[string]bool
}

// groupRows evaluates a grouped query and returns its groups in order.
func (o *Org) groupRows(p *plan) []*group {
	byKey := map[string]*group{}
	var groups []*group
	for _, r := range o.filter(p) {
		var id strings.Builder
		g := &group{first: r}
		for _, ref := range p.groups {
			v, f, ok := o.follow(p.obj, r, ref)
			g.keys, g.has = append(g.keys, v), append(g.has, ok)
			id.WriteString(strconv.FormatBool(ok))
			id.WriteString(fold(f, v))
			id.WriteByte(0)
		}
		if known := byKey[id.String()]; known != nil {
			g = known
		} else {
			g.totals = make([]total, len(p.aggs))
			byKey[id.String()] = g
			groups = append(groups, g)
		}
		for i := range p.aggs {
			o.tally(p, &p.aggs[i], &g.totals[i], r)
		}
	}
	if len(p.groups) == 0 && len(groups) == 0 {
		groups = []*group{{totals: make([]total, len(p.aggs))}}
	}
	if p.q.having != nil {
		kept := groups[:0]
		for _, g := range groups {
			if o.groupHolds(p, g, p.q.having) {
				kept = append(kept, g)
			}
		}
		groups = kept
	}
	o.sortGroups(p, groups)
	return cut(groups, p.q.offset, p.q.limit)
}

func (o *Org) tally(p *plan, a *aggregate, t *total, r *record) {
	if a.ref == nil {
		t.n++
		return
	}
	v, f, ok := o.follow(p.obj, r, a.ref)
	if !ok {
		return
	}
	t.n++
	switch a.fn {
	case "SUM", "AVG":
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			t.sum += n
		}
	case "COUNT_DISTINCT":
		if t.seen == nil {
			t.seen = map[string]bool{}
		}
		t.seen[fold(f, v)] = true
	case "MIN", "MAX":
		d := 0
		if t.has {
			d = order(f, v, t.best)
		}
		if !t.has || d < 0 && a.fn == "MIN" || d > 0 && a.fn == "MAX" {
			t.best, t.has = v, true
		}
	}
}

// result is an aggregate's value as stored text, with the field whose type it
// has; nil for a count.
func (a *aggregate) result(t *total) (string, *field, bool) {
	switch a.fn {
	case "COUNT":
		return strconv.Itoa(t.n), nil, true
	case "COUNT_DISTINCT":
		return strconv.Itoa(len(t.seen)), nil, true
	case "SUM":
		return strconv.FormatFloat(t.sum, 'f', -1, 64), a.ref.leaf, t.n > 0
	case "AVG":
		if t.n == 0 {
			return "", a.ref.leaf, false
		}
		return strconv.FormatFloat(t.sum/float64(t.n), 'f', -1, 64), a.ref.leaf, true
	default:
		return t.best, a.ref.leaf, t.has
	}
}

func (o *Org) groupHolds(p *plan, g *group, c *condition) bool {
	switch c.op {
	case "AND":
		for _, part := range c.parts {
			if !o.groupHolds(p, g, part) {
				return false
			}
		}
		return true
	case "OR":
		for _, part := range c.parts {
			if o.groupHolds(p, g, part) {
				return true
			}
		}
		return false
	case "NOT":
		return !o.groupHolds(p, g, c.parts[0])
	}
	if c.agg < 0 {
		v, f, ok := o.follow(p.obj, g.first, c.ref)
		return compare(c, f, v, ok)
	}
	v, f, ok := p.aggs[c.agg].result(&g.totals[c.agg])
	if f == nil || f.kind == kindInt || f.kind == kindDouble {
		f = &field{kind: kindDouble}
	}
	if c.set == nil {
		c.set = map[string]bool{}
		for _, l := range c.vals {
			c.set[strings.ToLower(l.text)] = true
		}
	}
	return compare(c, f, v, ok)
}

func (o *Org) sortGroups(p *plan, groups []*group) {
	if len(p.q.order) == 0 {
		return
	}
	key := func(g *group, item *orderItem) (string, *field, bool) {
		if item.agg >= 0 {
			v, f, ok := p.aggs[item.agg].result(&g.totals[item.agg])
			if f == nil {
				f = &field{kind: kindInt}
			}
			return v, f, ok
		}
		return o.follow(p.obj, g.first, item.ref)
	}
	sort.SliceStable(groups, func(i, j int) bool {
		for k := range p.q.order {
			item := &p.q.order[k]
			a, f, okA := key(groups[i], item)
			b, _, okB := key(groups[j], item)
			if okA != okB {
				return okB != item.nullsLast
			}
			d := order(f, a, b)
			if item.desc {
				d = -d
			}
			if d != 0 {
				return d < 0
			}
		}
		return false
	})
}

// appendGroup renders a group as a record of type AggregateResult.
func (o *Org) appendGroup(dst []byte, p *plan, g *group) []byte {
	dst = append(dst, `{"attributes":{"type":"AggregateResult"}`...)
	for _, c := range p.cells {
		dst = append(dst, ',')
		dst = appendJSONString(dst, c.alias)
		dst = append(dst, ':')
		if c.agg >= 0 {
			v, f, ok := p.aggs[c.agg].result(&g.totals[c.agg])
			dst = appendStored(dst, f, v, ok)
			continue
		}
		if g.first == nil {
			dst = append(dst, "null"...)
			continue
		}
		v, f, ok := o.follow(p.obj, g.first, p.groups[c.group])
		dst = appendStored(dst, f, v, ok)
	}
	return append(dst, '}')
}

func appendStored(dst []byte, f *field, v string, ok bool) []byte {
	switch {
	case !ok:
		return append(dst, "null"...)
	case f == nil || f.kind == kindBool || f.kind == kindInt:
		return append(dst, v...)
	case f.kind == kindDouble:
		return append(dst, formatDouble(v)...)
	case f.kind == kindDatetime:
		return appendJSONString(dst, formatDatetime(v))
	default:
		return appendJSONString(dst, v)
	}
}
