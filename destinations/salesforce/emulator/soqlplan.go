package emulator

import (
	"fmt"
	"strings"
	"time"
)

// pathRef is a field of the queried object or of a parent of it.
type pathRef struct {
	hops []*field // the references that lead to the parent
	leaf *field   // of the last object; where that is not known before, of one of its types
	name string   // of the leaf
}

// tree is what is selected of one record, in the order of the query.
type tree struct {
	refs []treeRef
	seen map[string]int
}

type treeRef struct {
	f    *field // a field, or the reference of a parent
	name string // of a parent's field whose object is known only at run time
	kid  *tree  // the parent's
	sub  *plan  // a child subquery
}

// aggregate is a function over a group of records.
type aggregate struct {
	fn    string
	ref   *pathRef // nil: COUNT()
	alias string
}

// plan is a query made ready for an org.
type plan struct {
	q       *soqlQuery
	obj     *object
	tree    *tree
	aggs    []aggregate
	groups  []*pathRef
	cells   []cellRef // of an aggregate query: what each selected item is
	counter bool      // SELECT COUNT()
	grouped bool
	childOf *field // of a subquery: the reference that makes a record a child
	relName string
	columns []*pathRef // for Bulk: the fields in order, subqueries and aggregates left out
	all     bool       // deleted records too
}

type cellRef struct {
	group, agg int // one of them, the other -1
	alias      string
}

const maxRelationHops = 5

// plan resolves a query's names. Callers hold Org.mu.
func (o *Org) plan(q *soqlQuery, all bool) (*plan, *soqlError) {
	obj := o.object(q.from)
	if obj == nil || !obj.queryable {
		return nil, &soqlError{"INVALID_TYPE", "sObject type '" + q.from + "' is not supported. If you are attempting to use a custom object, be sure to append the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names.", q.fromAt}
	}
	return o.planOn(q, obj, all)
}

func (o *Org) planOn(q *soqlQuery, obj *object, all bool) (*plan, *soqlError) {
	p := &plan{q: q, obj: obj, all: all, tree: &tree{}, grouped: len(q.group) > 0}
	for _, it := range q.items {
		p.grouped = p.grouped || aggregates[it.fn] && !(it.fn == "COUNT" && it.path == "")
		p.counter = p.counter || it.fn == "COUNT" && it.path == ""
	}
	if p.counter && len(q.items) == 1 && len(q.group) == 0 {
		p.grouped = false
	} else {
		p.counter = false
	}
	for _, g := range q.group {
		ref, err := o.path(q, obj, g)
		if err != nil {
			return nil, err
		}
		p.groups = append(p.groups, ref)
	}
	if !p.counter {
		for i := range q.items {
			if err := o.planItem(p, &q.items[i]); err != nil {
				return nil, err
			}
		}
	}
	if q.where != nil {
		if err := o.planCondition(p, q.where, false); err != nil {
			return nil, err
		}
	}
	if q.having != nil {
		if err := o.planCondition(p, q.having, true); err != nil {
			return nil, err
		}
	}
	for i := range q.order {
		if err := o.planOrder(p, &q.order[i]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (o *Org) planOrder(p *plan, item *orderItem) *soqlError {
	item.agg = -1
	if p.grouped {
		n, err := o.aggregateOf(p, &item.item)
		if err != nil {
			return err
		}
		if item.agg = n; n >= 0 {
			return nil
		}
	}
	ref, err := o.path(p.q, p.obj, item.item)
	if err != nil {
		return err
	}
	if ref.leaf.longText || ref.leaf.kind == kindMulti || ref.leaf.kind == kindCompound {
		return &soqlError{"MALFORMED_QUERY", fmt.Sprintf("field '%s' can not be sorted in a query call", ref.leaf.name), item.item.at}
	}
	item.ref = ref
	return nil
}

var aggregates = map[string]bool{"COUNT": true, "COUNT_DISTINCT": true, "SUM": true, "AVG": true, "MIN": true, "MAX": true}

// aggregateOf finds an aggregate by alias or as a function, adding it where it
// is not selected; -1 when the item is none.
func (o *Org) aggregateOf(p *plan, it *selectItem) (int, *soqlError) {
	if it.fn == "" {
		for i, a := range p.aggs {
			if strings.EqualFold(a.alias, it.path) {
				return i, nil
			}
		}
		return -1, nil
	}
	if !aggregates[it.fn] {
		return -1, malformed(it.at, "unknown function: %s", it.fn)
	}
	a := aggregate{fn: it.fn, alias: it.alias}
	if it.path == "" && it.fn != "COUNT" {
		return -1, malformed(it.at, "%s needs a field", it.fn)
	}
	if it.path != "" {
		ref, err := o.path(p.q, p.obj, selectItem{path: it.path, at: it.at})
		if err != nil {
			return -1, err
		}
		if numeric := ref.leaf.kind == kindInt || ref.leaf.kind == kindDouble; !numeric && (it.fn == "SUM" || it.fn == "AVG") {
			return -1, malformed(it.at, "field %s does not support aggregate operator %s", ref.leaf.name, it.fn)
		}
		a.ref = ref
	}
	for i, b := range p.aggs {
		if it.alias == "" && b.fn == a.fn && samePath(a.ref, b.ref) {
			return i, nil
		}
	}
	p.aggs = append(p.aggs, a)
	return len(p.aggs) - 1, nil
}

func samePath(a, b *pathRef) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.leaf != b.leaf || len(a.hops) != len(b.hops) {
		return false
	}
	for i := range a.hops {
		if a.hops[i] != b.hops[i] {
			return false
		}
	}
	return true
}

func (o *Org) planItem(p *plan, it *selectItem) *soqlError {
	q := p.q
	if it.sub != nil {
		if p.grouped {
			return malformed(it.at, "subqueries are not allowed in a grouped query")
		}
		return o.planSub(p, it)
	}
	if it.fn == "FIELDS" {
		return o.planFields(p, it)
	}
	if p.grouped {
		n, err := o.aggregateOf(p, it)
		if err != nil {
			return err
		}
		if n >= 0 {
			alias := it.alias
			if alias == "" {
				k := 0
				for _, c := range p.cells {
					if c.agg >= 0 && strings.HasPrefix(c.alias, "expr") {
						k++
					}
				}
				alias = fmt.Sprintf("expr%d", k)
			}
			p.cells = append(p.cells, cellRef{group: -1, agg: n, alias: alias})
			return nil
		}
		ref, err := o.path(q, p.obj, *it)
		if err != nil {
			return err
		}
		for i, g := range p.groups {
			if samePath(g, ref) {
				alias := it.alias
				if alias == "" {
					alias = ref.name
				}
				p.cells = append(p.cells, cellRef{group: i, agg: -1, alias: alias})
				return nil
			}
		}
		return malformed(it.at, "Field must be grouped or aggregated: %s", it.path)
	}
	if it.fn == "TOLABEL" || it.fn == "FORMAT" {
		it.fn = ""
	}
	if it.fn != "" {
		return malformed(it.at, "unknown function: %s", it.fn)
	}
	if it.alias != "" {
		return malformed(it.at, "only aggregate expressions use field aliasing")
	}
	ref, err := o.path(q, p.obj, *it)
	if err != nil {
		return err
	}
	return p.add(it, ref)
}

func (p *plan) add(it *selectItem, ref *pathRef) *soqlError {
	t := p.tree
	key := ""
	for _, hop := range ref.hops {
		key = strings.ToLower(hop.relationship)
		n, ok := t.seen["."+key]
		if !ok {
			n = t.append("."+key, treeRef{f: hop, kid: &tree{}})
		}
		t = t.refs[n].kid
	}
	leaf := strings.ToLower(ref.name)
	if _, ok := t.seen[leaf]; ok {
		return malformed(it.at, "duplicate field selected: %s", it.path)
	}
	t.append(leaf, treeRef{f: ref.leaf, name: ref.name})
	p.columns = append(p.columns, ref)
	return nil
}

func (t *tree) append(key string, r treeRef) int {
	if t.seen == nil {
		t.seen = map[string]int{}
	}
	t.seen[key] = len(t.refs)
	t.refs = append(t.refs, r)
	return len(t.refs) - 1
}

const maxFieldsLimit = 200

func (o *Org) planFields(p *plan, it *selectItem) *soqlError {
	which := strings.ToUpper(it.path)
	if which != "ALL" && which != "STANDARD" && which != "CUSTOM" {
		return malformed(it.at, "FIELDS wants ALL, STANDARD or CUSTOM")
	}
	if which != "STANDARD" && (p.q.limit < 0 || p.q.limit > maxFieldsLimit) {
		return malformed(it.at, "The SOQL FIELDS function must have a LIMIT of at most 200")
	}
	for _, f := range p.obj.fields {
		if f.hidden || which == "STANDARD" && f.custom || which == "CUSTOM" && !f.custom {
			continue
		}
		if _, ok := p.tree.seen[strings.ToLower(f.name)]; ok {
			return malformed(it.at, "duplicate field selected: %s", f.name)
		}
		if err := p.add(it, &pathRef{leaf: f, name: f.name}); err != nil {
			return err
		}
	}
	return nil
}

func (o *Org) planSub(p *plan, it *selectItem) *soqlError {
	for _, f := range p.obj.kids {
		if !strings.EqualFold(f.childRelation, it.sub.from) || f.hidden {
			continue
		}
		sub, err := o.planOn(it.sub, f.obj, p.all)
		if err != nil {
			return err
		}
		sub.childOf, sub.relName = f, f.childRelation
		if _, ok := p.tree.seen["("+strings.ToLower(sub.relName)]; ok {
			return malformed(it.at, "duplicate relationship selected: %s", sub.relName)
		}
		p.tree.append("("+strings.ToLower(sub.relName), treeRef{sub: sub})
		return nil
	}
	return &soqlError{"INVALID_TYPE", fmt.Sprintf("Didn't understand relationship '%s' in FROM part of query call. If you are attempting to use a custom relationship, be sure to append the '__r' after the custom relationship name. Please reference your WSDL or the describe call for the appropriate names.", it.sub.from), it.sub.fromAt}
}

func noColumn(name string, obj *object, at int) *soqlError {
	return &soqlError{"INVALID_FIELD", fmt.Sprintf("No such column '%s' on entity '%s'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names.", name, obj.name), at}
}

// path resolves a field name such as Account.Owner.Name.
func (o *Org) path(q *soqlQuery, obj *object, it selectItem) (*pathRef, *soqlError) {
	parts := strings.Split(it.path, ".")
	if len(parts) > 1 && (strings.EqualFold(parts[0], q.from) || q.alias != "" && strings.EqualFold(parts[0], q.alias)) && obj.relation(parts[0]) == nil {
		parts = parts[1:]
	}
	ref := &pathRef{}
	if len(parts)-1 > maxRelationHops {
		return nil, malformed(it.at, "more than %d levels of relationships", maxRelationHops)
	}
	targets := []*object{obj}
	for _, name := range parts[:len(parts)-1] {
		var hop *field
		for _, t := range targets {
			if hop = t.relation(name); hop != nil {
				break
			}
		}
		if hop == nil || hop.hidden {
			return nil, &soqlError{"INVALID_FIELD", fmt.Sprintf("Didn't understand relationship '%s' in field path. If you are attempting to use a custom relationship, be sure to append the '__r' after the custom relationship name. Please reference your WSDL or the describe call for the appropriate names.", name), it.at}
		}
		ref.hops = append(ref.hops, hop)
		targets = targets[:0:0]
		for _, t := range hop.referenceTo {
			targets = append(targets, o.object(t))
		}
	}
	last := parts[len(parts)-1]
	for _, t := range targets {
		if f := t.visible(last); f != nil {
			ref.leaf, ref.name = f, f.name
			return ref, nil
		}
	}
	if len(targets) == 0 {
		targets = []*object{obj}
	}
	return nil, noColumn(last, targets[0], it.at)
}

func (o *Org) planCondition(p *plan, c *condition, having bool) *soqlError {
	if c.parts != nil {
		for _, part := range c.parts {
			if err := o.planCondition(p, part, having); err != nil {
				return err
			}
		}
		return nil
	}
	if having {
		n, err := o.aggregateOf(p, &c.left)
		if err != nil {
			return err
		}
		if c.agg = n; n >= 0 {
			return nil
		}
	}
	if c.left.fn != "" {
		return malformed(c.at, "unknown function: %s", c.left.fn)
	}
	ref, err := o.path(p.q, p.obj, c.left)
	if err != nil {
		return err
	}
	c.ref = ref
	f := ref.leaf
	if f.longText || f.kind == kindCompound {
		return &soqlError{"INVALID_FIELD", fmt.Sprintf("field '%s' can not be filtered in a query call", f.name), c.at}
	}
	if (c.op == "INCLUDES" || c.op == "EXCLUDES") && f.kind != kindMulti {
		return &soqlError{"INVALID_QUERY_FILTER_OPERATOR", fmt.Sprintf("%s operator is not valid on field %s", strings.ToLower(c.op), f.name), c.at}
	}
	if c.op == "LIKE" && f.kind != kindText && f.kind != kindEmail && f.kind != kindPicklist {
		return &soqlError{"INVALID_QUERY_FILTER_OPERATOR", fmt.Sprintf("invalid operator on %s field", f.typ), c.at}
	}
	if c.sub != nil {
		return o.planSemiJoin(p, c)
	}
	for i := range c.vals {
		if err := o.planLiteral(c, &c.vals[i]); err != nil {
			return err
		}
	}
	if c.op == "IN" || c.op == "NOT IN" || c.op == "=" || c.op == "!=" {
		c.set = make(map[string]bool, len(c.vals))
		for _, v := range c.vals {
			c.set[fold(f, v.text)] = true
		}
	}
	return nil
}

// planSemiJoin runs the inner query and keeps its values.
func (o *Org) planSemiJoin(p *plan, c *condition) *soqlError {
	if len(c.sub.items) != 1 || c.sub.items[0].sub != nil || c.sub.items[0].fn != "" {
		return malformed(c.at, "a semi join sub-select can only query a single field")
	}
	sub, err := o.plan(c.sub, p.all)
	if err != nil {
		return err
	}
	f := sub.columns[0].leaf
	if f.kind != kindRef && f.kind != kindID || c.ref.leaf.kind != kindRef && c.ref.leaf.kind != kindID {
		return malformed(c.at, "The left operand and the selected field of a semi join have to be an Id or a reference")
	}
	rows := o.match(sub)
	c.subIDs = make(map[string]bool, len(rows))
	for _, r := range rows {
		if v, _, ok := o.follow(sub.obj, r, sub.columns[0]); ok {
			c.subIDs[v] = true
		}
	}
	return nil
}

// fold brings text to the form in which a field's values are compared.
func fold(f *field, text string) string {
	if f.kind == kindRef || f.kind == kindID || f.unique && f.caseSensitive && f.kind == kindText {
		return text
	}
	return strings.ToLower(text)
}

func isNull(v literal) bool { return v.kind == tokWord && strings.EqualFold(v.text, "null") }

// planLiteral checks a literal against its field and brings it to the form in
// which values are stored.
func (o *Org) planLiteral(c *condition, v *literal) *soqlError {
	f := c.ref.leaf
	if isNull(*v) {
		v.kind, v.text = tokEnd, ""
		if f.kind == kindBool {
			v.text = "false"
		}
		return nil
	}
	quoted := func(typ string) *soqlError {
		return &soqlError{"INVALID_FIELD", fmt.Sprintf("value of filter criterion for field '%s' must be of type %s and should be enclosed in quotes", f.name, typ), v.at}
	}
	plain := func(typ string) *soqlError {
		return &soqlError{"INVALID_FIELD", fmt.Sprintf("value of filter criterion for field '%s' must be of type %s and should not be enclosed in quotes", f.name, typ), v.at}
	}
	switch f.kind {
	case kindRef, kindID:
		if v.kind != tokString {
			return quoted("id")
		}
		id, ok := canonicalID(v.text)
		if v.text == "" {
			id, ok = "", true
		}
		if !ok {
			return &soqlError{"INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: " + v.text, v.at}
		}
		v.text = id
	case kindBool:
		if v.kind != tokWord || !strings.EqualFold(v.text, "true") && !strings.EqualFold(v.text, "false") {
			return plain("boolean")
		}
		v.text = strings.ToLower(v.text)
	case kindInt, kindDouble:
		if v.kind != tokNumber {
			return plain(f.typ)
		}
		wide := &field{kind: kindDouble, precision: 40, scale: 20}
		val, p := wide.parseDouble(v.text)
		if p != nil {
			return plain(f.typ)
		}
		v.text = val
	case kindDate, kindDatetime:
		return o.planDate(c, v, plain)
	case kindTime:
		val, p := parseTime(v.text)
		if p != nil || v.kind != tokNumber {
			return plain("time")
		}
		v.text = val
	default:
		if v.kind != tokString {
			return quoted("string")
		}
		if c.op != "LIKE" {
			v.text = trim(v.text)
		}
	}
	return nil
}

func (o *Org) planDate(c *condition, v *literal, plain func(string) *soqlError) *soqlError {
	f := c.ref.leaf
	typ := "date"
	if f.kind == kindDatetime {
		typ = "dateTime"
	}
	if v.kind == tokWord {
		rng, ok := dateLiteral(strings.ToUpper(v.text), v.n, time.Now().Add(o.offset).UTC())
		if !ok {
			return plain(typ)
		}
		c.rng = append(c.rng, rng)
		return nil
	}
	if v.kind != tokNumber {
		return plain(typ)
	}
	var val string
	var p *problem
	if f.kind == kindDate {
		val, p = f.parseDate(v.text)
	} else {
		val, p = f.parseDatetime(v.text)
	}
	if p != nil {
		return plain(typ)
	}
	v.text = val
	return nil
}
