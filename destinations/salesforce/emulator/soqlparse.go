package emulator

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A parser of SOQL (SOQL and SOSL Reference, "SOQL SELECT Syntax").

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokWord
	tokString
	tokNumber // and dates: what begins with a digit or sign
	tokSign
)

type token struct {
	kind tokenKind
	text string // of a string: its value
	like string // of a string: with the escapes of LIKE kept
	at   int
}

// soqlError is a query that is refused.
type soqlError struct {
	code, message string
	at            int // where in the query; -1: the message stands alone
}

func (e *soqlError) Error() string { return e.message }

// render adds the place in the way that an org does.
func (e *soqlError) render(query string) string {
	if e.at < 0 || e.at > len(query) {
		return e.message
	}
	line := strings.ReplaceAll(query, "\n", " ")
	from, to := max(0, e.at-30), min(len(line), e.at+50)
	for from > 0 && !utf8.RuneStart(line[from]) {
		from--
	}
	for to < len(line) && !utf8.RuneStart(line[to]) {
		to++
	}
	row, column := 1+strings.Count(query[:e.at], "\n"), e.at-strings.LastIndexByte(query[:e.at], '\n')
	return fmt.Sprintf("\n%s\n%s^\nERROR at Row:%d:Column:%d\n%s", line[from:to], strings.Repeat(" ", e.at-from), row, column, e.message)
}

func malformed(at int, format string, args ...any) *soqlError {
	return &soqlError{"MALFORMED_QUERY", fmt.Sprintf(format, args...), at}
}

func lex(q string) ([]token, *soqlError) {
	var out []token
	for i := 0; i < len(q); {
		c := q[i]
		switch {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			i++
		case c == '\'':
			t, n, err := lexString(q, i)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
			i = n
		case isLetter(c):
			j := i
			for j < len(q) && (isLetter(q[j]) || isDigit(q[j]) || q[j] == '.') {
				j++
			}
			out = append(out, token{kind: tokWord, text: q[i:j], at: i})
			i = j
		case isDigit(c) || (c == '-' || c == '+' || c == '.') && i+1 < len(q) && isDigit(q[i+1]):
			j := i + 1
			for j < len(q) && (isDigit(q[j]) || isLetter(q[j]) || strings.IndexByte(".:+-", q[j]) >= 0) {
				j++
			}
			out = append(out, token{kind: tokNumber, text: q[i:j], at: i})
			i = j
		case strings.IndexByte("()=<>!,:", c) >= 0:
			n := 1
			if i+1 < len(q) && (q[i+1] == '=' && c != '(' && c != ')' && c != ',' && c != ':' || c == '<' && q[i+1] == '>') {
				n = 2
			}
			out = append(out, token{kind: tokSign, text: q[i : i+n], at: i})
			i += n
		default:
			return nil, malformed(i, "unexpected char: '%c'", c)
		}
	}
	return append(out, token{kind: tokEnd, text: "<EOF>", at: len(q)}), nil
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

var soqlEscapes = map[byte]string{'n': "\n", 'r': "\r", 't': "\t", 'b': "\b", 'f': "\f", '"': `"`, '\'': "'", '\\': `\`, 'N': "\n", 'R': "\r", 'T': "\t", 'B': "\b", 'F': "\f"}

// lexString reads a literal. For LIKE its "%" and "_" that were escaped stay so,
// as "\%" and "\_".
func lexString(q string, i int) (token, int, *soqlError) {
	start := i
	var plain, like strings.Builder
	for i++; i < len(q); i++ {
		switch c := q[i]; c {
		case '\'':
			return token{kind: tokString, text: plain.String(), like: like.String(), at: start}, i + 1, nil
		case '\\':
			if i++; i >= len(q) {
				return token{}, 0, malformed(start, "unterminated string literal")
			}
			switch e := q[i]; {
			case e == '_' || e == '%':
				plain.WriteByte(e)
				like.WriteString(`\` + string(e))
			case soqlEscapes[e] != "":
				plain.WriteString(soqlEscapes[e])
				if e == '\\' {
					like.WriteString(`\\`)
				} else {
					like.WriteString(soqlEscapes[e])
				}
			case e == 'u' && i+4 < len(q):
				n, err := strconv.ParseUint(q[i+1:i+5], 16, 16)
				if err != nil {
					return token{}, 0, malformed(i, `Illegal character sequence '\u%s' in string literal`, q[i+1:i+5])
				}
				plain.WriteRune(rune(n))
				like.WriteRune(rune(n))
				i += 4
			default:
				return token{}, 0, malformed(i, `Illegal character sequence '\%c' in string literal`, e)
			}
		default:
			plain.WriteByte(c)
			like.WriteByte(c)
		}
	}
	return token{}, 0, malformed(start, "unterminated string literal")
}

// The tree.

type selectItem struct {
	path  string // a field, perhaps through parents
	fn    string // an aggregate function in upper case, or FIELDS
	alias string
	sub   *soqlQuery
	at    int
}

type condition struct {
	op    string // AND, OR, NOT; or a comparison: = != < > <= >= LIKE IN NOT IN INCLUDES EXCLUDES
	parts []*condition
	left  selectItem
	vals  []literal
	sub   *soqlQuery
	at    int

	// Filled when the query is planned.
	ref    *pathRef
	agg    int // HAVING: which aggregate
	set    map[string]bool
	rng    []dateRange
	subIDs map[string]bool
}

type literal struct {
	kind tokenKind
	text string
	like string
	n    int // of LAST_N_DAYS:n
	at   int
}

type orderItem struct {
	item      selectItem
	desc      bool
	nullsLast bool
	ref       *pathRef
	agg       int
}

type soqlQuery struct {
	text      string
	items     []selectItem
	from      string
	fromAt    int
	alias     string
	where     *condition
	group     []selectItem
	having    *condition
	order     []orderItem
	limit     int // -1: none
	offset    int
	forUpdate bool
}

// Bounds of a query (SOQL and SOSL Reference, "SOQL and SOSL Limits").
const (
	maxQuery    = 100_000
	maxLiteral  = 4_000
	maxOffset   = 2_000
	maxNesting  = 50
	maxSubDepth = 5
)

type soqlParser struct {
	q     string
	toks  []token
	i     int
	depth int
	subs  int
}

func parseSOQL(q string) (*soqlQuery, *soqlError) {
	if utf8.RuneCountInString(q) > maxQuery {
		return nil, malformed(-1, "SOQL statement is longer than %d characters", maxQuery)
	}
	toks, err := lex(q)
	if err != nil {
		return nil, err
	}
	p := &soqlParser{q: q, toks: toks}
	out, err := p.query()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEnd {
		return nil, p.unexpected(t)
	}
	return out, nil
}

func (p *soqlParser) peek() token { return p.toks[p.i] }

func (p *soqlParser) take() token {
	t := p.toks[p.i]
	if t.kind != tokEnd {
		p.i++
	}
	return t
}

func (p *soqlParser) unexpected(t token) *soqlError {
	return malformed(t.at, "unexpected token: '%s'", t.text)
}

// word takes the next token if it is this keyword.
func (p *soqlParser) word(w string) bool {
	if t := p.peek(); t.kind == tokWord && strings.EqualFold(t.text, w) {
		p.i++
		return true
	}
	return false
}

func (p *soqlParser) sign(s string) bool {
	if t := p.peek(); t.kind == tokSign && t.text == s {
		p.i++
		return true
	}
	return false
}

func (p *soqlParser) expect(s string) *soqlError {
	if p.sign(s) {
		return nil
	}
	t := p.peek()
	return malformed(t.at, "expecting '%s', found '%s'", s, t.text)
}

func (p *soqlParser) name() (token, *soqlError) {
	t := p.take()
	if t.kind != tokWord {
		return t, p.unexpected(t)
	}
	return t, nil
}

func (p *soqlParser) query() (*soqlQuery, *soqlError) {
	if p.subs++; p.subs > maxSubDepth*20 {
		return nil, malformed(p.peek().at, "too many subqueries")
	}
	out := &soqlQuery{limit: -1, text: p.q}
	if !p.word("SELECT") {
		t := p.peek()
		return nil, malformed(t.at, "unexpected token: '%s'", t.text)
	}
	for {
		item, err := p.item(true)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, item)
		if !p.sign(",") {
			break
		}
	}
	if !p.word("FROM") {
		t := p.peek()
		return nil, malformed(t.at, "expecting 'FROM', found '%s'", t.text)
	}
	from, err := p.name()
	if err != nil {
		return nil, err
	}
	out.from, out.fromAt = from.text, from.at
	if t := p.peek(); t.kind == tokWord && !soqlKeywords[strings.ToUpper(t.text)] {
		out.alias = p.take().text
	}
	return out, p.clauses(out)
}

var soqlKeywords = map[string]bool{"WHERE": true, "GROUP": true, "HAVING": true, "ORDER": true, "LIMIT": true, "OFFSET": true, "FOR": true, "USING": true, "WITH": true, "ALL": true, "UPDATE": true}

func (p *soqlParser) clauses(out *soqlQuery) (err *soqlError) {
	if p.word("USING") {
		if !p.word("SCOPE") {
			return p.unexpected(p.peek())
		}
		if _, err = p.name(); err != nil {
			return err
		}
	}
	if p.word("WHERE") {
		if out.where, err = p.or(false); err != nil {
			return err
		}
	}
	if p.word("GROUP") {
		if !p.word("BY") {
			return p.unexpected(p.peek())
		}
		for {
			item, err := p.item(false)
			if err != nil {
				return err
			}
			out.group = append(out.group, item)
			if !p.sign(",") {
				break
			}
		}
		if p.word("HAVING") {
			if out.having, err = p.or(true); err != nil {
				return err
			}
		}
	}
	if p.word("ORDER") {
		if err = p.orderBy(out); err != nil {
			return err
		}
	}
	if p.word("LIMIT") {
		if out.limit, err = p.number(); err != nil {
			return err
		}
	}
	if p.word("OFFSET") {
		at := p.peek().at
		if out.offset, err = p.number(); err != nil {
			return err
		}
		if out.offset > maxOffset {
			return &soqlError{"NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000", at}
		}
	}
	for p.word("FOR") {
		switch {
		case p.word("UPDATE"):
			if len(out.order) > 0 {
				return malformed(p.peek().at, "ORDER BY is not allowed with FOR UPDATE")
			}
			out.forUpdate = true
		case p.word("VIEW"), p.word("REFERENCE"):
		default:
			return p.unexpected(p.peek())
		}
	}
	if p.word("ALL") && !p.word("ROWS") {
		return p.unexpected(p.peek())
	}
	return nil
}

func (p *soqlParser) number() (int, *soqlError) {
	t := p.take()
	n, err := strconv.Atoi(t.text)
	if t.kind != tokNumber || err != nil || n < 0 {
		return 0, malformed(t.at, "unexpected token: '%s'", t.text)
	}
	return n, nil
}

func (p *soqlParser) orderBy(out *soqlQuery) *soqlError {
	if !p.word("BY") {
		return p.unexpected(p.peek())
	}
	for {
		item, err := p.item(false)
		if err != nil {
			return err
		}
		o := orderItem{item: item}
		if p.word("DESC") {
			o.desc = true
		} else {
			p.word("ASC")
		}
		if p.word("NULLS") {
			switch {
			case p.word("LAST"):
				o.nullsLast = true
			case p.word("FIRST"):
			default:
				return p.unexpected(p.peek())
			}
		}
		out.order = append(out.order, o)
		if !p.sign(",") {
			return nil
		}
	}
}

// item reads a field, a function of one, or in a select list a subquery.
func (p *soqlParser) item(selecting bool) (selectItem, *soqlError) {
	if selecting && p.peek().text == "(" && p.peek().kind == tokSign {
		at := p.take().at
		sub, err := p.query()
		if err != nil {
			return selectItem{}, err
		}
		return selectItem{sub: sub, at: at}, p.expect(")")
	}
	t, err := p.name()
	if err != nil {
		return selectItem{}, err
	}
	item := selectItem{path: t.text, at: t.at}
	if p.sign("(") {
		item.fn, item.path = strings.ToUpper(t.text), ""
		if p.peek().kind == tokWord {
			arg := p.take()
			item.path = arg.text
			if p.sign("(") { // toLabel(x) and the like do not nest here
				return item, p.unexpected(p.toks[p.i-1])
			}
		}
		if err := p.expect(")"); err != nil {
			return item, err
		}
	}
	if n := p.peek(); selecting && n.kind == tokWord && !strings.EqualFold(n.text, "FROM") {
		item.alias = p.take().text
	}
	return item, nil
}

func (p *soqlParser) or(having bool) (*condition, *soqlError) {
	return p.chain("OR", func() (*condition, *soqlError) {
		return p.chain("AND", func() (*condition, *soqlError) { return p.unary(having) })
	})
}

func (p *soqlParser) chain(op string, next func() (*condition, *soqlError)) (*condition, *soqlError) {
	if p.depth++; p.depth > 2*maxNesting {
		return nil, &soqlError{"QUERY_TOO_COMPLICATED", "the query is nested too deeply", p.peek().at}
	}
	defer func() { p.depth-- }()
	first, err := next()
	if err != nil {
		return nil, err
	}
	parts := []*condition{first}
	for p.word(op) {
		c, err := next()
		if err != nil {
			return nil, err
		}
		parts = append(parts, c)
	}
	if len(parts) == 1 {
		return first, nil
	}
	return &condition{op: op, parts: parts}, nil
}

func (p *soqlParser) unary(having bool) (*condition, *soqlError) {
	if p.word("NOT") {
		if p.depth++; p.depth > 2*maxNesting {
			return nil, &soqlError{"QUERY_TOO_COMPLICATED", "the query is nested too deeply", p.peek().at}
		}
		defer func() { p.depth-- }()
		c, err := p.unary(having)
		return &condition{op: "NOT", parts: []*condition{c}}, err
	}
	if p.sign("(") {
		c, err := p.or(having)
		if err != nil {
			return nil, err
		}
		return c, p.expect(")")
	}
	return p.comparison()
}

func (p *soqlParser) comparison() (*condition, *soqlError) {
	left, err := p.item(false)
	if err != nil {
		return nil, err
	}
	c := &condition{left: left, at: left.at, agg: -1}
	t := p.take()
	switch {
	case t.kind == tokSign && (t.text == "=" || t.text == "<" || t.text == ">" || t.text == "<=" || t.text == ">=" || t.text == "!="):
		c.op = t.text
	case t.kind == tokSign && t.text == "<>":
		c.op = "!="
	case t.kind == tokWord && strings.EqualFold(t.text, "LIKE"):
		c.op = "LIKE"
	case t.kind == tokWord && strings.EqualFold(t.text, "NOT"):
		if !p.word("IN") {
			return nil, p.unexpected(p.peek())
		}
		return c, p.list(c, "NOT IN", true)
	case t.kind == tokWord && strings.EqualFold(t.text, "IN"):
		return c, p.list(c, "IN", true)
	case t.kind == tokWord && (strings.EqualFold(t.text, "INCLUDES") || strings.EqualFold(t.text, "EXCLUDES")):
		return c, p.list(c, strings.ToUpper(t.text), false)
	default:
		return nil, p.unexpected(t)
	}
	v, err := p.literal()
	c.vals = []literal{v}
	return c, err
}

func (p *soqlParser) list(c *condition, op string, sub bool) (err *soqlError) {
	c.op = op
	if err = p.expect("("); err != nil {
		return err
	}
	if t := p.peek(); sub && t.kind == tokWord && strings.EqualFold(t.text, "SELECT") {
		if c.sub, err = p.query(); err != nil {
			return err
		}
		return p.expect(")")
	}
	for {
		v, err := p.literal()
		if err != nil {
			return err
		}
		c.vals = append(c.vals, v)
		if !p.sign(",") {
			return p.expect(")")
		}
	}
}

func (p *soqlParser) literal() (literal, *soqlError) {
	t := p.take()
	l := literal{kind: t.kind, text: t.text, like: t.like, at: t.at}
	switch t.kind {
	case tokString:
		if utf8.RuneCountInString(t.text) > maxLiteral {
			return l, malformed(t.at, "string literal is longer than %d characters", maxLiteral)
		}
		return l, nil
	case tokNumber:
		return l, nil
	case tokWord:
		if p.sign(":") {
			n, err := p.number()
			l.n = n
			return l, err
		}
		return l, nil
	}
	return l, p.unexpected(t)
}
