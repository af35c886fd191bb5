package snowflake

import (
	"flag"
	"os"
	"regexp"
	"testing"
	"time"

	"coho/sources/columnar"
	"coho/sources/sourcetest"
)

var rewrite = flag.Bool("rewrite", false, "write the documentation's tables of types anew")

// examples are values as the driver hands them out of a result in JSON (a
// TIME as the text that it is read as), by the
// driver's name of the type.
var examples = []struct {
	name             string
	precision, scale int64
	shown            string
	value            any
}{
	{"BOOLEAN", 0, 0, "TRUE", "1"},
	{"FIXED", 18, 0, "999999999999999999", "999999999999999999"},
	{"FIXED", 38, 0, "99999999999999999999999999999999999999", "99999999999999999999999999999999999999"},
	{"FIXED", 38, 10, "-1234567890123456789012345678.0123456789", "-1234567890123456789012345678.0123456789"},
	{"DECFLOAT", 0, 0, "1.5E-20::DECFLOAT", "1.5e-20"},
	{"REAL", 0, 0, "0.1::FLOAT", "0.1"},
	{"REAL", 0, 0, "'NaN'::FLOAT", "NaN"},
	{"REAL", 0, 0, "'-inf'::FLOAT", "-inf"},
	{"TEXT", 0, 0, "'Grüße 🌍'", "Grüße 🌍"},
	{"BINARY", 0, 0, "TO_BINARY('00FF10')", "00FF10"},
	{"DATE", 0, 0, "'2024-02-29'::DATE", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
	{"TIME", 0, 0, "'23:59:59.999999999'::TIME", "23:59:59.999999999"},
	{"TIMESTAMP_NTZ", 0, 0, "'2024-02-29 12:34:56.789012345'::TIMESTAMP_NTZ", time.Date(2024, 2, 29, 12, 34, 56, 789012345, time.UTC)},
	{"TIMESTAMP_LTZ", 0, 0, "'2024-03-31 02:30:00.5 +0530'::TIMESTAMP_LTZ", time.Date(2024, 3, 31, 2, 30, 0, 5e8, time.FixedZone("", 19800))},
	{"TIMESTAMP_TZ", 0, 0, "'2024-03-31 02:30:00.5 +0530'::TIMESTAMP_TZ", time.Date(2024, 3, 31, 2, 30, 0, 5e8, time.FixedZone("", 19800))},
	{"VARIANT", 0, 0, "PARSE_JSON('\"x\"')", "\"x\""},
	{"VARIANT", 0, 0, "PARSE_JSON('null')", "null"},
	{"OBJECT", 0, 0, "OBJECT_CONSTRUCT('i', 1)", "{\n  \"i\": 1\n}"},
	{"MAP", 0, 0, "{'k': 1}::MAP(VARCHAR, INT)", "{\n  \"k\": 1\n}"},
	{"VECTOR", 0, 0, "[1, 2]::VECTOR(INT, 2)", "[1,2]"},
	{"GEOGRAPHY", 0, 0, "TO_GEOGRAPHY('POINT(1 2)')", `{"coordinates":[1,2],"type":"Point"}`},
	{"GEOMETRY", 0, 0, "TO_GEOMETRY('POINT(1 2)')", `{"coordinates":[1,2],"type":"Point"}`},
	{"ARRAY", 0, 0, "ARRAY_CONSTRUCT('a', NULL, 2.50, 'b;c')", "[\n  \"a\",\n  undefined,\n  2.50,\n  \"b;c\"\n]"},
	{"ARRAY", 0, 0, "ARRAY_CONSTRUCT()", "[]"},
}

// TestDocumentedTypes: the documentation's table of Snowflake's types is what this
// package makes of the driver's values, and leaves no type out that it knows.
// That a server's values come to the same, the suite shows.
func TestDocumentedTypes(t *testing.T) {
	var found []sourcetest.Example
	seen := map[string]bool{}
	for _, e := range examples {
		seen[e.name] = true
		typ, err := newType(e.name, e.precision, e.scale)
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		cell, err := appendCell(nil, typ, e.value)
		if err != nil {
			t.Errorf("%s %v: %v", e.name, e.value, err)
			continue
		}
		x := sourcetest.Example{Type: typ.Name, Shown: e.shown, Kind: typ.Kind}
		x.Value, x.Err = columnar.NewSchema([]columnar.Field{{Name: "v", Type: typ}}, "").Decode(0, cell)
		found = append(found, x)
	}
	source, err := os.ReadFile("schema.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`(?m)^\tcase "[^:]*:$`).FindAllString(string(source), -1) {
		for _, name := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(line, -1) {
			if !seen[name[1]] {
				t.Errorf("the type %s has no example", name[1])
			}
			delete(seen, name[1])
		}
	}
	if len(seen) > 0 {
		t.Errorf("schema.go has no case for %v", seen)
	}
	if _, err := newType("INTERVAL_DAY_TIME", 0, 0); err == nil {
		t.Error("a type that is not known is read")
	}
	sourcetest.Document(t, "../../docs/types.md", "Snowflake", found, *rewrite)
}
