package snowflake

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coho/models"
	"coho/sources/snowflake/snowflaketest"
	"coho/sources/sourcetest"
)

// answers gives the suite's queries the results that Snowflake would.
type answers struct {
	types []value
	shape func(*snowflaketest.Result) // how results are sent
}

// value is one of Snowflake's types with a value.
type value struct {
	sourcetest.Type
	wire  string // Snowflake's name of the type
	scale int
	value any
}

var (
	wrapped  = regexp.MustCompile(`(?s)^SELECT \* FROM \(\n(.*)\n\)$`)
	replaced = regexp.MustCompile(`(?s)^SELECT \* REPLACE \((TO_CHAR\(.*?)\) FROM \(\n(.*)\n\)$`)
	printed  = regexp.MustCompile(`TO_CHAR\("([^"]*)", 'HH24:MI:SS\.FF9'\) AS "([^"]*)"`)
	series   = regexp.MustCompile(`^SELECT g AS "id", CONCAT\('row ', TO_CHAR\(g\)\) AS "label" FROM NUMBERS\((\d+)\)$`)
	shifted  = regexp.MustCompile(`^SELECT g \+ (\d+) AS v FROM NUMBERS\((\d+)\) ORDER BY g$`)
	even     = regexp.MustCompile(`CASE WHEN MOD\(g, 2\) = 0 THEN g \+ (\d+) END AS c(\d+)`)
	twoRows  = regexp.MustCompile(`(?s)^SELECT v AS "v" FROM \(SELECT 1 AS g, (.*) AS v UNION ALL SELECT 2, NULL\) AS s ORDER BY g$`)
)

const long = "SELECT repeat('ä', CASE WHEN MOD(g, 3) = 0 THEN 524288 WHEN MOD(g, 3) = 1 THEN 0 ELSE 5 END) AS v, g FROM NUMBERS(30) ORDER BY g"

// fixed is a column of whole numbers.
func fixed(name string, n func(row int) int64) snowflaketest.Column {
	return snowflaketest.Column{Name: name, Type: "fixed", Precision: 18, Int: n}
}

func text(name string, f func(dst []byte, row int) []byte) snowflaketest.Column {
	return snowflaketest.Column{Name: name, Type: "text", Text: f}
}

// numbered is a result of n rows, a number and a text.
func numbered(n int) *snowflaketest.Result {
	return &snowflaketest.Result{Rows: n, Columns: []snowflaketest.Column{
		fixed("id", func(row int) int64 { return int64(row + 1) }),
		text("label", func(dst []byte, row int) []byte { return strconv.AppendInt(append(dst, "row "...), int64(row+1), 10) }),
	}}
}

func (a *answers) answer(sql string) (*snowflaketest.Result, error) {
	var times [][]string
	if m := replaced.FindStringSubmatch(sql); m != nil {
		times, sql = printed.FindAllStringSubmatch(m[1], -1), m[2]
	}
	r, err := a.find(sql)
	if err != nil {
		return nil, err
	}
	for _, m := range times {
		i := slices.IndexFunc(r.Columns, func(c snowflaketest.Column) bool { return c.Name == m[1] })
		if i < 0 || m[1] != m[2] || r.Columns[i].Type != "time" {
			return nil, fmt.Errorf("no time of day: %s", m[0])
		}
		r.Columns[i] = printTime(r.Columns[i])
	}
	if a.shape != nil {
		a.shape(r)
	}
	return r, nil
}

// printTime does what TO_CHAR does.
func printTime(c snowflaketest.Column) snowflaketest.Column {
	times := c.Value
	return snowflaketest.Column{Name: c.Name, Type: "text", Value: func(row int) any {
		v, ok := times(row).(snowflaketest.Clock)
		if !ok {
			return nil
		}
		s := int64(v) / 1e9
		return fmt.Sprintf("%02d:%02d:%02d.%09d", s/3600, s/60%60, s%60, int64(v)%1e9)
	}}
}

func (a *answers) find(sql string) (*snowflaketest.Result, error) {
	switch sql {
	case `SELECT * FROM "THINGS"`:
		return &snowflaketest.Result{Rows: 2, Columns: []snowflaketest.Column{
			fixed("id", func(row int) int64 { return int64(row + 1) }),
			{Name: "label", Type: "text", Value: func(row int) any { return []any{"one", nil}[row] }},
		}}, nil
	case `SELECT * FROM "SECRETS"`:
		return nil, &snowflaketest.Failure{Code: "003001", SQLState: "42501", Message: "SQL access control error:\nInsufficient privileges to operate on table 'SECRETS'"}
	}
	m := wrapped.FindStringSubmatch(sql)
	if m == nil {
		if strings.HasPrefix(sql, "SELECT * FROM ") {
			return nil, &snowflaketest.Failure{Code: "002003", SQLState: "02000", Message: "SQL compilation error:\nObject '" + sql[14:] + "' does not exist or not authorized."}
		}
		return nil, errors.New("syntax error line 1 at position 0 unexpected '" + sql + "'.")
	}
	sql = strings.TrimSpace(m[1])
	if strings.Contains(sql, "SELECT 7 AS v") && !strings.Contains(sql, "'") {
		return &snowflaketest.Result{Rows: 1, Columns: []snowflaketest.Column{fixed("V", func(int) int64 { return 7 })}}, nil
	}
	switch sql {
	case "SELECT slow()":
		return &snowflaketest.Result{Slow: true, Rows: 1, Columns: []snowflaketest.Column{fixed("V", func(int) int64 { return 1 })}}, nil
	case "SELECT 1/0":
		return nil, &snowflaketest.Failure{Code: "100051", SQLState: "22012", Message: "Division by zero"}
	case "SELECT endless()":
		r := numbered(100_000_000)
		r.Inline, r.FileRows = 2000, 20_000
		return r, nil
	case "SELECT CAST(1 AS NUMBER(5)) AS \"id\", 'x' AS \"label\"":
		r := numbered(1)
		r.Columns[0].Precision = 5
		return r, nil
	case long:
		return &snowflaketest.Result{Rows: 30, Inline: 5, FileRows: 10, Columns: []snowflaketest.Column{
			text("v", func(dst []byte, row int) []byte {
				return append(dst, strings.Repeat("ä", []int{524288, 0, 5}[(row+1)%3])...)
			}),
			fixed("g", func(row int) int64 { return int64(row + 1) }),
		}}, nil
	}
	return a.match(sql)
}

func (a *answers) match(sql string) (*snowflaketest.Result, error) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // the pattern allows digits only
	if m := series.FindStringSubmatch(sql); m != nil {
		r := numbered(number(m[1]))
		r.Inline, r.FileRows = 500, 40_000
		return r, nil
	}
	if m := shifted.FindStringSubmatch(sql); m != nil {
		by := int64(number(m[1]))
		return &snowflaketest.Result{Rows: number(m[2]), Inline: 0, FileRows: 3000, Columns: []snowflaketest.Column{
			fixed("V", func(row int) int64 { return int64(row+1) + by }),
		}}, nil
	}
	if all := even.FindAllStringSubmatch(sql, -1); len(all) > 0 {
		r := &snowflaketest.Result{Rows: 100}
		for _, m := range all {
			by := int64(number(m[1]))
			r.Columns = append(r.Columns, snowflaketest.Column{Name: "C" + m[2], Type: "fixed", Precision: 18, Value: func(row int) any {
				if row%2 == 0 {
					return nil
				}
				return big.NewInt(int64(row+1) + by)
			}})
		}
		return r, nil
	}
	if m := twoRows.FindStringSubmatch(sql); m != nil {
		for _, v := range a.types {
			if v.SQL == m[1] {
				c := v.column("v")
				c.Value = func(row int) any { return []any{v.value, nil}[row] }
				return &snowflaketest.Result{Rows: 2, Columns: []snowflaketest.Column{c}}, nil
			}
		}
	}
	if rest, ok := strings.CutPrefix(sql, "SELECT "); ok {
		if columns := a.list(rest); columns != nil {
			return &snowflaketest.Result{Rows: 1, Columns: columns}, nil
		}
	}
	return nil, fmt.Errorf("syntax error line 1 at position 0 unexpected '%s'.", sql)
}

// list reads "x AS c0, y AS c1".
func (a *answers) list(rest string) (columns []snowflaketest.Column) {
	for i := 0; rest != ""; i++ {
		at := slices.IndexFunc(a.types, func(v value) bool {
			after, ok := strings.CutPrefix(rest, fmt.Sprintf("%s AS c%d", v.SQL, i))
			return ok && (after == "" || after[0] == ',')
		})
		if at < 0 {
			return nil
		}
		v := a.types[at]
		columns = append(columns, v.column(fmt.Sprintf("C%d", i)))
		rest = strings.TrimPrefix(rest, fmt.Sprintf("%s AS c%d", v.SQL, i))
		rest = strings.TrimPrefix(rest, ", ")
	}
	return columns
}

func (v value) column(name string) snowflaketest.Column {
	c := snowflaketest.Column{Name: name, Type: v.wire, Scale: v.scale, Precision: 38, Value: func(int) any { return v.value }}
	if v.Want.Kind() == models.Int {
		c.Precision = 18
	}
	return c
}

// dialect is Snowflake's, as far as answers understands it.
var dialect = sourcetest.Dialect{
	Numbers:     func(n int) string { return "NUMBERS(" + strconv.Itoa(n) + ")" },
	Text:        func(expr string) string { return "TO_CHAR(" + expr + ")" },
	Mod:         func(expr string, n int) string { return "MOD(" + expr + ", " + strconv.Itoa(n) + ")" },
	Endless:     "SELECT endless()",
	OtherNumber: "CAST(1 AS NUMBER(5))",
	BadQueries: map[string]string{
		"SELECT *\nFROM no_such_table_here": "no_such_table_here",
		"SELEC 1":                           "SELEC",
		"SELECT no_such_column FROM t":      "no_such_column",
		"SELECT ?":                          "SELECT ?",
	},
	SevenToo: []string{"SELECT 7 AS v // why;"},
}

// sqlOf lists the expressions of types, each of which must be another.
func sqlOf(tb testing.TB, values []value) []sourcetest.Type {
	tb.Helper()
	types := make([]sourcetest.Type, len(values))
	seen := map[string]bool{}
	for i, v := range values {
		if v.SQL == "" {
			tb.Fatalf("%s has no expression", v.Name)
		}
		if seen[v.SQL] {
			tb.Fatalf("two types are %s", v.SQL)
		}
		seen[v.SQL] = true
		types[i] = v.Type
	}
	return types
}
