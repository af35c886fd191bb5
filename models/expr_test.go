package models_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coho/models"
)

// textSchema is a schema whose cells are a kind's letter and its text, so that
// a test can say any value: "i7", "d1.50", "thello", "b1", "D19000".
type textSchema struct {
	cols   []models.Column
	decode []int // how often each column was decoded
}

func newTextSchema(names ...string) *textSchema {
	s := &textSchema{decode: make([]int, len(names))}
	for _, n := range names {
		s.cols = append(s.cols, models.Column{Name: n, Type: "any"})
	}
	return s
}

func (s *textSchema) Columns() []models.Column { return s.cols }
func (s *textSchema) Version() string          { return "text" }

func (s *textSchema) Decode(col int, cell []byte) (models.Value, error) {
	s.decode[col]++
	if len(cell) == 0 {
		return models.TextValue(""), nil
	}
	text := string(cell[1:])
	n, _ := strconv.ParseInt(text, 10, 64)
	switch cell[0] {
	case 'b':
		return models.BoolValue(n != 0), nil
	case 'i':
		return models.IntValue(n), nil
	case 'd':
		return models.DecimalValue(text), nil
	case 'f':
		f, _ := strconv.ParseFloat(text, 64)
		return models.FloatValue(f), nil
	case 't':
		return models.TextValue(text), nil
	case 'B':
		return models.BytesValue([]byte(text)), nil
	case 'D':
		return models.DateValue(n), nil
	case 'T':
		return models.TimeValue(n), nil
	case 'S':
		return models.TimestampValue(n), nil
	case 'Z':
		return models.TimestampTZValue(n), nil
	case 'j':
		return models.JSONValue(text), nil
	case 'l':
		var list []models.Value
		for _, e := range strings.Split(text, ",") {
			list = append(list, models.TextValue(e))
		}
		return models.ListValue(list), nil
	}
	return models.Value{}, fmt.Errorf("column %q: not a cell", s.cols[col].Name)
}

func (s *textSchema) AppendKey(dst []byte, col int, cell []byte) ([]byte, error) {
	v, err := s.Decode(col, cell)
	return v.AppendText(dst), err
}

// evaluate runs one expression over columns given as name, cell pairs; a cell
// "null" is NULL.
func evaluate(t *testing.T, code string, row ...string) (models.Value, error) {
	t.Helper()
	var names []string
	var cells [][]byte
	for i := 0; i < len(row); i += 2 {
		names = append(names, row[i])
		if row[i+1] == "null" {
			cells = append(cells, nil)
		} else {
			cells = append(cells, []byte(row[i+1]))
		}
	}
	schema := newTextSchema(names...)
	m, err := models.CompileMapping(&models.Sync{Fields: []models.Field{{Name: "F", Expr: code}}}, schema.Columns())
	if err != nil {
		t.Fatalf("compile %s: %v", code, err)
	}
	out, errs := make([]models.Value, 1), make([]error, 1)
	m.NewEvaluator(schema).Eval(cells, out, errs)
	return out[0], errs[0]
}

func TestExpressions(t *testing.T) {
	nullPhone := []string{"phone", "null"}
	for _, test := range []struct {
		code string
		row  []string
		want string // kind and text
	}{
		{`phone == nil ? nil : trim(phone)`, nullPhone, "null "},
		{`phone == nil ? nil : trim(phone)`, []string{"phone", "t 12 "}, "text 12"},
		{`phone == nil`, nullPhone, "bool true"},
		{`n == nil`, []string{"n", "i7"}, "bool false"},
		{`phone ?? "none"`, nullPhone, "text none"},
		{`phone`, nullPhone, "null "},
		{`n + 1`, []string{"n", "i7"}, "int 8"},
		{`n`, []string{"n", "i9007199254740993"}, "int 9007199254740993"},
		{`n`, []string{"n", "d42.00"}, "int 42"},
		{`n * 2`, []string{"n", "d1.25"}, "float 2.5"},
		{`n`, []string{"n", "d123456789012345678901234567890"}, "float 123456789012345680000000000000"},
		{`f / 2`, []string{"f", "f3"}, "float 1.5"},
		{`!b`, []string{"b", "b1"}, "bool false"},
		{`upper(name) + "!"`, []string{"name", "tzoë"}, "text ZOË!"},
		{`d.Format("02.01.2006")`, []string{"d", "D1"}, "text 02.01.1970"},
		{`d`, []string{"d", "D1"}, "timestamptz 1970-01-02T00:00:00Z"},
		{`z`, []string{"z", "Z1500000"}, "timestamptz 1970-01-01T00:00:01.5Z"},
		{`s.Year()`, []string{"s", "S0"}, "int 1970"},
		{`tod`, []string{"tod", "T3600000000"}, "text 01:00:00"},
		{`raw`, []string{"raw", "Babc"}, "text YWJj"},
		{`fromJSON(doc).city`, []string{"doc", `j{"city":"Ulm"}`}, "text Ulm"},
		{`{"b": n, "a": [1]}`, []string{"n", "i1"}, `json {"a":[1],"b":1}`},
		{`tags | map(upper(#))`, []string{"tags", "lx,y"}, "list X;Y"},
		{`split(name, ",")`, []string{"name", "ta,b"}, "list a;b"},
		{`1..3`, nil, "list 1;2;3"},
		{`row["odd name"] + row.plain`, []string{"odd name", "ta", "plain", "tb"}, "text ab"},
		{`row["row"]`, []string{"row", "ta"}, "text a"},
		{`date(date).Year()`, []string{"date", "t2024-02-29"}, "int 2024"},
		{`type + string(count)`, []string{"type", "ta", "count", "i2"}, "text a2"},
		{`now`, []string{"now", "tthen"}, "text then"},
		{`let phone = 7; phone`, nil, "int 7"},
		{`let twice = n * 2; twice + n`, []string{"n", "i2"}, "int 6"},
		{`keys({"z": 1, "a": 2, "m": 3})`, nil, "list a;m;z"},
		{`values({"z": 1, "a": 2, "m": 3})`, nil, "list 2;3;1"},
		{`toPairs({"z": 1, "a": 2}) | map(#[0])`, nil, "list a;z"},
		{`if n > 1 { "many" } else { "one" }`, []string{"n", "i2"}, "text many"},
		{`a?.b`, []string{"a", "null"}, "null "},
	} {
		t.Run(test.code, func(t *testing.T) {
			v, err := evaluate(t, test.code, test.row...)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Kind().String() + " " + v.Text(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// An expression whose result were a map's own order would differ from run to
// run, and every such run would send the row again.
func TestMapOrderIsFixed(t *testing.T) {
	for range 50 {
		v, err := evaluate(t, `keys(fromJSON(doc))`, "doc", `j{"e":1,"d":1,"c":1,"b":1,"a":1}`)
		if err != nil || v.Text() != "a;b;c;d;e" {
			t.Fatalf("got %s, %v", v.Text(), err)
		}
	}
}

func TestExpressionFailures(t *testing.T) {
	for _, test := range []struct {
		code string
		row  []string
		want string
	}{
		{`trim(n)`, []string{"n", "i7"}, "expression: "},
		{`n + 1`, []string{"n", "null"}, "expression: "},
		{`duration("1h")`, nil, "a duration, which no field takes"},
		{`timezone("UTC")`, nil, "which no field takes"},
		{`groupBy([1], #)`, nil, "which no field takes"},
		{`fromBase64("/w==")`, nil, "not valid UTF-8"},
		{`n`, []string{"n", "?"}, `column "n": not a cell`},
		{`len(repeat("x", 100000000))`, nil, "expression: "},
		{`keys(n)`, []string{"n", "i1"}, "cannot use int with keys"},
	} {
		t.Run(test.code, func(t *testing.T) {
			v, err := evaluate(t, test.code, test.row...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, %v; want an error with %q", v.Text(), err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has several lines: %q", err)
			}
		})
	}
}

func TestCompileExpressionRefuses(t *testing.T) {
	for _, test := range []struct{ code, want string }{
		{`now()`, "now() reads the clock"},
		{`now().Year() - 1`, "now() reads the clock"},
		{`let f = 1; now()`, "now() reads the clock"},
		{`trimm(name)`, "unknown function trimm (nearest: trim), at its character 1"},
		{`zzzzqqqq(name)`, "unknown function zzzzqqqq, at"},
		{`name ==`, "at its character"},
		{"name +\n  ) 1", "at its line 2, character 3"},
		{``, "the expression is empty"},
		{"  \n", "the expression is empty"},
		{`row`, `row is used as row["column"]`},
		{`row[name]`, "row[...] takes a column's name in quotes"},
		{`$env["name"]`, "$env is not available"},
		{`"a" + 1`, "invalid operation"},
		{"\xff", "not valid UTF-8"},
		{strings.Repeat("(", 20000), "longer than 16384 bytes"},
		{strings.Repeat("1+", 4000) + "1", "maximum allowed nodes"},
	} {
		name := test.code[:min(len(test.code), 20)]
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			_, err := models.CompileExpression(test.code)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has several lines: %q", err)
			}
		})
	}
}

func TestExpressionNames(t *testing.T) {
	x, err := models.CompileExpression(`let a = b; a + row["c d"] + len(filter(e, #.f == g)) + b`)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"b", "c d", "e", "g"}; !slices.Equal(x.Names(), want) {
		t.Errorf("names %q, want %q", x.Names(), want)
	}
}

func FuzzExpression(f *testing.F) {
	for _, seed := range []string{
		`phone == nil ? nil : trim(phone)`, `row["odd name"]`, `let a = n; a + 1`, `tags | map(upper(#)) | join(";")`,
		`{"a": n}`, `n in 1..9`, `phone matches "^[0-9]+$"`, `reduce(tags, #acc + #, "")`, `n ?? row.phone`, `"a" + 1`, `groupBy(tags, #)`,
	} {
		f.Add(seed, "i7")
	}
	f.Fuzz(func(t *testing.T, code, cell string) {
		x, err := models.CompileExpression(code)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("the error has several lines: %q", err)
			}
			return
		}
		schema := newTextSchema(x.Names()...)
		m, err := models.CompileMapping(&models.Sync{Fields: []models.Field{{Name: "F", Expr: code}}}, schema.Columns())
		if err != nil {
			t.Fatalf("compiled alone, but not in a mapping: %v", err)
		}
		cells := make([][]byte, len(x.Names()))
		for i := range cells {
			if i%2 == 0 {
				cells[i] = []byte(cell)
			}
		}
		e := m.NewEvaluator(schema)
		var first, second [1]models.Value
		var firstErr, secondErr [1]error
		e.Eval(cells, first[:], firstErr[:])
		e.Eval(cells, second[:], secondErr[:])
		if (firstErr[0] == nil) != (secondErr[0] == nil) || first[0].Text() != second[0].Text() {
			t.Fatalf("not pure: %q, %v then %q, %v", first[0].Text(), firstErr[0], second[0].Text(), secondErr[0])
		}
	})
}
