package models_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"coho/models"
)

// everyValue holds a value of each kind, with its canonical text.
var everyValue = []struct {
	name  string
	value models.Value
	kind  string
	text  string
}{
	{"null", models.Value{}, "null", ""},
	{"true", models.BoolValue(true), "bool", "true"},
	{"false", models.BoolValue(false), "bool", "false"},
	{"int", models.IntValue(-7), "int", "-7"},
	{"smallest int", models.IntValue(math.MinInt64), "int", "-9223372036854775808"},
	{"decimal", models.DecimalValue("+007.50"), "decimal", "7.5"},
	{"decimal as int", models.DecimalValue("7.00"), "decimal", "7"},
	{"negative zero", models.DecimalValue("-0.0"), "decimal", "0"},
	{"small decimal", models.DecimalValue("-.0500"), "decimal", "-0.05"},
	{"round decimal", models.DecimalValue("1200"), "decimal", "1200"},
	{"long decimal", models.DecimalValue("123456789012345678901234567890.123456789"), "decimal", "123456789012345678901234567890.123456789"},
	{"float", models.FloatValue(0.1), "float", "0.1"},
	{"float as int", models.FloatValue(1e21), "float", "1000000000000000000000"},
	{"float negative zero", models.FloatValue(math.Copysign(0, -1)), "float", "0"},
	{"nan", models.FloatValue(math.NaN()), "float", "NaN"},
	{"infinity", models.FloatValue(math.Inf(1)), "float", "Infinity"},
	{"negative infinity", models.FloatValue(math.Inf(-1)), "float", "-Infinity"},
	{"text", models.TextValue("zoë"), "text", "zoë"},
	{"empty text", models.TextValue(""), "text", ""},
	{"bytes", models.BytesValue([]byte{0, 0xff}), "bytes", "AP8="},
	{"date", models.DateValue(19782), "date", "2024-02-29"},
	{"date before 1970", models.DateValue(-1), "date", "1969-12-31"},
	{"time", models.TimeValue(27_120_500_000), "time", "07:32:00.5"},
	{"end of day", models.TimeValue(86_400_000_000), "time", "24:00:00"},
	{"microsecond", models.TimeValue(1), "time", "00:00:00.000001"},
	{"timestamp", models.TimestampValue(1_500_000), "timestamp", "1970-01-01T00:00:01.5"},
	{"timestamp before 1970", models.TimestampValue(-1), "timestamp", "1969-12-31T23:59:59.999999"},
	{"timestamptz", models.TimestampTZValue(0), "timestamptz", "1970-01-01T00:00:00Z"},
	{"json", models.JSONValue(`{"a": 1}`), "json", `{"a": 1}`},
	{"list", models.ListValue([]models.Value{models.TextValue("a"), {}, models.IntValue(2)}), "list", "a;;2"},
	{"empty list", models.ListValue(nil), "list", ""},
}

func TestValueText(t *testing.T) {
	for _, test := range everyValue {
		t.Run(test.name, func(t *testing.T) {
			if got := test.value.Kind().String(); got != test.kind {
				t.Errorf("kind %s, want %s", got, test.kind)
			}
			if got := test.value.Text(); got != test.text {
				t.Errorf("text %q, want %q", got, test.text)
			}
			if got := string(test.value.AppendText([]byte("> "))); got != "> "+test.text {
				t.Errorf("AppendText %q", got)
			}
			if test.value.IsNull() != (test.kind == "null") {
				t.Errorf("IsNull %v", test.value.IsNull())
			}
		})
	}
}

// A primary key must survive a change of its column's type.
func TestKeyTextDependsOnTheValueAlone(t *testing.T) {
	for _, same := range [][]models.Value{
		{models.IntValue(7), models.DecimalValue("7.00"), models.FloatValue(7), models.TextValue("7")},
		{models.IntValue(0), models.DecimalValue("-0.000"), models.FloatValue(math.Copysign(0, -1)), models.TextValue("0")},
		{models.DateValue(19782), models.TextValue("2024-02-29")},
	} {
		for _, v := range same[1:] {
			if v.Text() != same[0].Text() {
				t.Errorf("%v %q differs from %v %q", v.Kind(), v.Text(), same[0].Kind(), same[0].Text())
			}
		}
	}
}

func TestValueAccessors(t *testing.T) {
	leap := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name      string
		got, want any
	}{
		{"bool", models.BoolValue(true).Bool(), true},
		{"int", models.IntValue(7).Int(), int64(7)},
		{"float", models.FloatValue(-0.5).Float(), -0.5},
		{"text", models.TextValue("a").Str(), "a"},
		{"digits", models.DecimalValue("7.00").Str(), "7.00"},
		{"list", len(models.ListValue(make([]models.Value, 3)).List()), 3},
		{"date", models.DateValue(19782).GoTime(), leap},
		{"timestamptz", models.TimestampTZValue(leap.UnixMicro()).GoTime(), leap},
		{"kind out of range", models.Kind(200).String(), "kind(200)"},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, test.got, test.want)
		}
	}
	b := []byte("abc")
	v := models.BytesValue(b)
	b[0] = 'x'
	if v.Str() != "abc" {
		t.Error("a Bytes shares its caller's memory")
	}
}

func TestValueJSONRoundTrip(t *testing.T) {
	for _, test := range everyValue {
		t.Run(test.name, func(t *testing.T) {
			b, err := json.Marshal(test.value)
			if err != nil {
				t.Fatal(err)
			}
			var back models.Value
			if err := json.Unmarshal(b, &back); err != nil {
				t.Fatal(err)
			}
			if back.Kind() != test.value.Kind() || back.Text() != test.text || back.Int() != test.value.Int() || back.Str() != test.value.Str() {
				t.Errorf("%s came back as %v %q", b, back.Kind(), back.Text())
			}
		})
	}
	for _, bad := range []string{`{"kind":99}`, `[]`, `{"kind":"int"}`} {
		var v models.Value
		if err := json.Unmarshal([]byte(bad), &v); err == nil {
			t.Errorf("%s was taken for a value", bad)
		}
	}
}

func TestAppendDateIsThatOfTime(t *testing.T) {
	day := func(year int) int64 { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Unix() / 86400 }
	for _, years := range [][2]int{{-2, 9}, {1595, 2405}, {9898, 10002}} {
		for d := day(years[0]); d < day(years[1]); d++ {
			want := time.Unix(d*86400, 0).UTC().Format(time.DateOnly)
			if got := string(models.AppendDate(nil, d)); got != want {
				t.Fatalf("day %d is %s, want %s", d, got, want)
			}
		}
	}
}

func FuzzTrimDecimal(f *testing.F) {
	for _, seed := range []string{"0", "-0.0", "+007.50", ".5", "1.", "-", "", "100", "0.00100"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := models.TrimDecimal(s)
		// Only a number is promised to keep its value and to be settled.
		if strings.Trim(strings.TrimLeft(s, "+-"), "0123456789") != "" && strings.Count(s, ".") != 1 ||
			strings.Trim(s, "+-.0123456789") != "" || strings.ContainsAny(strings.TrimLeft(s, "+-"), "+-") ||
			len(s)-len(strings.TrimLeft(s, "+-")) > 1 {
			return
		}
		if twice := models.TrimDecimal(once); twice != once {
			t.Fatalf("%q trims to %q, and that to %q", s, once, twice)
		}
		if strings.HasPrefix(once, "+") || once == "-0" || strings.Contains(once, ".") && strings.HasSuffix(once, "0") {
			t.Fatalf("%q trims to %q", s, once)
		}
	})
}

func TestFrames(t *testing.T) {
	for _, test := range []struct {
		name  string
		cells [][]byte
	}{
		{"no column", nil},
		{"null", [][]byte{nil}},
		{"empty", [][]byte{{}}},
		{"mixed", [][]byte{[]byte("a"), nil, {}, []byte("bc"), nil}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var frame []byte
			for _, c := range test.cells {
				frame = models.AppendCell(frame, c)
			}
			got := make([][]byte, len(test.cells))
			if err := models.SplitFrame(frame, got); err != nil {
				t.Fatal(err)
			}
			for i, c := range test.cells {
				if !bytes.Equal(got[i], c) || (got[i] == nil) != (c == nil) {
					t.Errorf("cell %d: got %q (nil: %v), want %q (nil: %v)", i, got[i], got[i] == nil, c, c == nil)
				}
			}
			if err := models.SplitFrame(frame, make([][]byte, len(test.cells)+1)); !errors.Is(err, models.ErrFrame) {
				t.Errorf("a column too many: %v", err)
			}
			if err := models.SplitFrame(append(frame, 0), got); !errors.Is(err, models.ErrFrame) {
				t.Errorf("a byte too many: %v", err)
			}
		})
	}
	if err := models.SplitFrame([]byte{0, 0, 0, 5, 'a'}, make([][]byte, 1)); !errors.Is(err, models.ErrFrame) {
		t.Errorf("a cell cut short: %v", err)
	}
	if err := models.SplitFrame([]byte{0x7f, 0xff, 0xff, 0xff}, make([][]byte, 1)); !errors.Is(err, models.ErrFrame) {
		t.Errorf("a huge length: %v", err)
	}
}

func TestSplitFrameDoesNotAllocateOrOverrun(t *testing.T) {
	frame := models.AppendCell(models.AppendCell(nil, []byte("a")), []byte("b"))
	cells := make([][]byte, 2)
	if n := testing.AllocsPerRun(100, func() {
		if err := models.SplitFrame(frame, cells); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a row", n)
	}
	// Appending to a cell must not write into the next one.
	_ = append(cells[0], "xxxxxxxx"...)
	if string(cells[1]) != "b" {
		t.Error("appending to a cell overwrote the frame")
	}
}

func FuzzSplitFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'a', 0xff, 0xff, 0xff, 0xff}, 2)
	f.Add([]byte{}, 0)
	f.Add([]byte{0x80, 0, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, frame []byte, columns int) {
		if columns < 0 || columns > 1000 {
			return
		}
		cells := make([][]byte, columns)
		if err := models.SplitFrame(frame, cells); err != nil {
			if !errors.Is(err, models.ErrFrame) {
				t.Fatal(err)
			}
			return
		}
		var again []byte
		for _, c := range cells {
			again = models.AppendCell(again, c)
		}
		back := make([][]byte, columns)
		if err := models.SplitFrame(again, back); err != nil {
			t.Fatal(err)
		}
		for i := range cells {
			if !bytes.Equal(back[i], cells[i]) || (back[i] == nil) != (cells[i] == nil) {
				t.Fatalf("cell %d does not survive", i)
			}
		}
	})
}

func TestLimit(t *testing.T) {
	share := models.Limit{Set: true, IsShare: true, Percent: 10}
	for _, test := range []struct {
		name     string
		limit    models.Limit
		n, total int64
		want     bool
	}{
		{"unset", models.Limit{}, 1000, 1, true},
		{"share, at it", share, 10, 100, true},
		{"share, past it", share, 11, 100, false},
		{"share of nothing, nothing", share, 0, 0, true},
		{"share of nothing", share, 1, 0, false},
		{"count, at it", models.Limit{Set: true, Count: 5}, 5, 5, true},
		{"count, past it", models.Limit{Set: true, Count: 5}, 6, 1000, false},
		{"count of none", models.Limit{Set: true}, 1, 1000, false},
	} {
		if got := test.limit.Allows(test.n, test.total); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestSyncColumns(t *testing.T) {
	s := &models.Sync{
		Model: models.Model{PrimaryKey: []string{"k", "region"}},
		Match: models.Match{Field: "Key__c", Column: "k"},
		Fields: []models.Field{
			{Name: "A", Column: "a"}, {Name: "B", Expr: "b"}, {Name: "C", Column: "a"},
			{Name: "D", Lookup: &models.Lookup{Object: "Account", Field: "K", Column: "parent"}},
		},
	}
	if got, want := s.Columns(), []string{"k", "region", "a", "parent"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestTrimDecimal compares with what strings' functions make of it.
func TestTrimDecimal(t *testing.T) {
	want := func(s string) string {
		neg := strings.HasPrefix(s, "-")
		s = strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
		if strings.Contains(s, ".") {
			s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
		}
		if s = strings.TrimLeft(s, "0"); s == "" || s[0] == '.' {
			s = "0" + s
		}
		if neg && s != "0" {
			return "-" + s
		}
		return s
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[+-]?[0-9]{0,4}(0{0,3}[1-9]?0{0,3})(\.[0-9]{0,3}0{0,3})?`).Draw(t, "number")
		if got := models.TrimDecimal(s); got != want(s) {
			t.Fatalf("%q becomes %q, want %q", s, got, want(s))
		}
	})
}
