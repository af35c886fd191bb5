package salesforce

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"coho/destinations/salesforce/api"
	"coho/models"
)

func fieldOf(f api.Field) *field { return newField(&f) }

func micros(t time.Time) int64 { return t.UnixMicro() }

var picks = []api.PicklistValue{{Value: "Gold", Active: true}, {Value: "Silver", Active: true}, {Value: "Tin", Active: false}}

func TestConvert(t *testing.T) {
	at := time.Date(2024, 2, 29, 13, 14, 15, 678901000, time.UTC)
	day := at.Unix() / 86400
	fields := map[string]*field{
		"string":     fieldOf(api.Field{Type: "string", Length: 5}),
		"textarea":   fieldOf(api.Field{Type: "textarea", Length: 32000}),
		"email":      fieldOf(api.Field{Type: "email", Length: 80}),
		"picklist":   fieldOf(api.Field{Type: "picklist", Length: 40}),
		"restricted": fieldOf(api.Field{Type: "picklist", RestrictedPicklist: true, PicklistValues: picks}),
		"multi":      fieldOf(api.Field{Type: "multipicklist", RestrictedPicklist: true, PicklistValues: picks}),
		"boolean":    fieldOf(api.Field{Type: "boolean"}),
		"int":        fieldOf(api.Field{Type: "int", Digits: 8}),
		"double":     fieldOf(api.Field{Type: "double", Precision: 18, Scale: 2}),
		"int32":      fieldOf(api.Field{Type: "int"}),
		"long":       fieldOf(api.Field{Type: "long"}),
		"currency":   fieldOf(api.Field{Type: "currency", Precision: 18, Scale: 0}),
		"date":       fieldOf(api.Field{Type: "date"}),
		"datetime":   fieldOf(api.Field{Type: "datetime"}),
		"time":       fieldOf(api.Field{Type: "time"}),
		"reference":  fieldOf(api.Field{Type: "reference"}),
		"base64":     fieldOf(api.Field{Type: "base64"}),
	}
	text := models.TextValue
	tests := []struct {
		name  string
		field string
		value models.Value
		want  string // "null" for the null cell
		err   string // part of the error
	}{
		{"null", "string", models.Value{}, "null", ""},
		{"empty text is null", "string", text(""), "null", ""},
		{"white space is null", "string", text(" \t\n"), "null", ""},
		{"text as is", "string", text(" a b"), " a b", ""},
		{"length in characters", "string", text("äöüßé"), "äöüßé", ""},
		{"too long", "string", text("äöüßéx"), "", `"äöüßéx" is too long: 6 characters, the field takes 5`},
		{"invalid UTF-8", "string", text("a\xff"), "", "not valid UTF-8"},
		{"NUL", "string", text("a\x00b"), "", "NUL"},
		{"number into text", "string", models.DecimalValue("007.50"), "7.5", ""},
		{"bool into text", "string", models.BoolValue(true), "true", ""},
		{"bytes into text", "string", models.BytesValue([]byte{1, 2}), "AQI=", ""},
		{"json into text", "textarea", models.JSONValue(`{"a": 1}`), `{"a": 1}`, ""},
		{"json null", "textarea", models.JSONValue(` null `), "null", ""},
		{"json text stays json", "textarea", models.JSONValue(`"a"`), `"a"`, ""},
		{"json that is not valid UTF-8", "restricted", models.JSONValue("\"Gold\xff\""), "", "not valid UTF-8"},
		{"list into text", "textarea", models.ListValue([]models.Value{text("a"), text("b")}), "a;b", ""},
		{"list with NUL into text", "textarea", models.ListValue([]models.Value{text("a\x00")}), "", "NUL"},
		{"list that is not valid UTF-8", "textarea", models.ListValue([]models.Value{text("a\xff")}), "", "not valid UTF-8"},
		{"lines", "textarea", text("a\r\nb\n"), "a\r\nb\n", ""},

		{"email", "email", text(" A.b@example.com "), "A.b@example.com", ""},
		{"email without at", "email", text("nobody"), "", "takes an email address"},
		{"email with a space", "email", text("a b@example.com"), "", "takes an email address"},
		{"email from a number", "email", models.IntValue(7), "", "takes an email address"},

		{"picklist", "picklist", text("Anything"), "Anything", ""},
		{"restricted", "restricted", text("Gold"), "Gold", ""},
		{"restricted unknown", "restricted", text("Goold"), "", `did you mean "Gold"?`},
		{"restricted inactive", "restricted", text("Tin"), "", "restricted picklist"},
		{"picklist of json text", "restricted", models.JSONValue(`"Gold"`), "Gold", ""},
		{"picklist of json null", "restricted", models.JSONValue(`null`), "null", ""},
		{"picklist of json escapes", "picklist", models.JSONValue(`"a\u0000"`), "", "NUL"},
		{"picklist of a json object", "picklist", models.JSONValue(`{"a": 1}`), "", "takes a picklist value"},
		{"picklist of a json array", "picklist", models.JSONValue(`["a"]`), "", "takes a picklist value"},
		{"picklist list", "picklist", models.ListValue([]models.Value{text("a")}), "", "takes a picklist value"},
		{"multi list", "multi", models.ListValue([]models.Value{text("Silver"), {}, text("Gold"), text("Silver")}), "Silver;Gold", ""},
		{"multi text", "multi", text("Gold; Silver;"), "Gold;Silver", ""},
		{"multi unknown", "multi", text("Gold;Lead"), "", `"Lead" is not in`},
		{"multi json array", "multi", models.JSONValue(`["Silver", null, "Gold"]`), "Silver;Gold", ""},
		{"multi json empty array", "multi", models.JSONValue(`[]`), "null", ""},
		{"multi json text", "multi", models.JSONValue(`"Gold;Silver"`), "Gold;Silver", ""},
		{"multi json object", "multi", models.JSONValue(`{"Gold": true}`), "", "takes picklist values"},
		{"multi json of arrays", "multi", models.JSONValue(`[["Gold"]]`), "", "takes picklist values"},
		{"multi list of objects", "multi", models.ListValue([]models.Value{models.JSONValue(`{"Gold": true}`)}), "", "takes picklist values"},
		{"multi unknown in a json array", "multi", models.JSONValue(`["Lead"]`), "", `"Lead" is not in`},
		{"multi empty list", "multi", models.ListValue(nil), "null", ""},
		{"multi with separator", "multi", models.ListValue([]models.Value{text("Gold;Silver")}), "", "cannot hold a ;"},

		{"bool", "boolean", models.BoolValue(false), "false", ""},
		{"bool null", "boolean", models.Value{}, "null", ""},
		{"bool yes", "boolean", text("YES"), "true", ""},
		{"bool 0", "boolean", models.IntValue(0), "false", ""},
		{"bool 1.0", "boolean", models.DecimalValue("1.0"), "true", ""},
		{"bool 2", "boolean", models.IntValue(2), "", "takes true or false"},
		{"bool json", "boolean", models.JSONValue("true"), "true", ""},
		{"bool json text", "boolean", models.JSONValue(`"no"`), "false", ""},
		{"bool json array", "boolean", models.JSONValue(`[true]`), "", "takes true or false"},
		{"bool from a date", "boolean", models.DateValue(1), "", "takes true or false"},

		{"int", "int", models.IntValue(-42), "-42", ""},
		{"int 3.00", "int", models.DecimalValue("3.00"), "3", ""},
		{"int float", "int", models.FloatValue(3), "3", ""},
		{"int exponent", "int", text("1.2e3"), "1200", ""},
		{"int 3.5", "int", models.DecimalValue("3.5"), "", "takes a whole number"},
		{"int digits", "int", models.IntValue(123456789), "", "up to 8 digits"},
		{"int of 32 bits", "int32", models.IntValue(math.MaxInt32), "2147483647", ""},
		{"int beyond 32 bits", "int32", models.IntValue(math.MinInt32 - 1), "", "whole numbers from -2147483648 to 2147483647"},
		{"long", "long", models.IntValue(math.MinInt64), "-9223372036854775808", ""},
		{"beyond a long", "long", models.DecimalValue("9223372036854775808"), "", "whole numbers of 64 bits"},
		{"int json", "int", models.JSONValue("7"), "7", ""},
		{"int json text", "int", models.JSONValue(`"7"`), "7", ""},
		{"int word", "int", text("seven"), "", "takes a whole number"},
		{"int bool", "int", models.BoolValue(true), "", "takes a whole number"},

		{"digits kept", "double", models.DecimalValue("1234567890123456.12345678901234567890"), "1234567890123456.1234567890123456789", ""},
		{"zeros dropped", "double", text("+0010.500"), "10.5", ""},
		{"negative zero", "double", models.DecimalValue("-0.00"), "0", ""},
		{"tiny", "double", text("1e-7"), "0.0000001", ""},
		{"point only", "double", text("."), "", "takes a number"},
		{"leading point", "double", text(".5"), "0.5", ""},
		{"too many digits", "double", models.DecimalValue("12345678901234567"), "", "16 digits before the point"},
		{"NaN", "double", models.FloatValue(math.NaN()), "", "takes a number"},
		{"infinite", "double", models.FloatValue(math.Inf(-1)), "", "takes a number"},
		{"huge exponent", "double", text("1e999999999"), "", "takes a number"},
		{"thousands", "currency", text("1,000"), "", "takes a number"},
		{"hexadecimal", "currency", text("0x10"), "", "takes a number"},

		{"date", "date", models.DateValue(day), "2024-02-29", ""},
		{"date of timestamp", "date", models.TimestampValue(micros(at)), "2024-02-29", ""},
		{"date of instant before 1970", "date", models.TimestampTZValue(-1), "1969-12-31", ""},
		{"date text", "date", text("2024-02-29"), "2024-02-29", ""},
		{"date of text in UTC", "date", text("2024-02-29T23:30:00-02:00"), "2024-03-01", ""},
		{"date no leap year", "date", text("2023-02-29"), "", "takes a date"},
		{"date American", "date", text("6/15/19"), "", "takes a date"},
		{"date early", "date", text("1699-12-31"), "", "years 1700 to 4000"},
		{"date late", "date", models.DateValue(lastDay + 1), "", "years 1700 to 4000"},
		{"date of a number", "date", models.IntValue(20240229), "", "takes a date"},

		{"datetime", "datetime", models.TimestampTZValue(micros(at)), "2024-02-29T13:14:15.678Z", ""},
		{"datetime without zone is UTC", "datetime", models.TimestampValue(micros(at)), "2024-02-29T13:14:15.678Z", ""},
		{"datetime of date", "datetime", models.DateValue(day), "2024-02-29T00:00:00.000Z", ""},
		{"datetime offset", "datetime", text("2024-02-29T13:14:15+05:30"), "2024-02-29T07:44:15.000Z", ""},
		{"datetime Postgres text", "datetime", text("2024-02-29 13:14:15.5+00"), "2024-02-29T13:14:15.500Z", ""},
		{"datetime as the org gives it", "datetime", text("2024-02-29T13:14:15.000+0000"), "2024-02-29T13:14:15.000Z", ""},
		{"datetime before 1970", "datetime", models.TimestampTZValue(-1), "1969-12-31T23:59:59.999Z", ""},
		{"datetime Snowflake text", "datetime", text("2024-02-29 13:14:15.123 -0800"), "2024-02-29T21:14:15.123Z", ""},
		{"datetime with Z apart", "datetime", text("2024-02-29 13:14:15 Z"), "2024-02-29T13:14:15.000Z", ""},
		{"datetime two spaces", "datetime", text("2024-02-29 13:14:15  +01"), "", "takes a time stamp"},
		{"datetime json text", "datetime", models.JSONValue(`"2024-02-29T13:14:15Z"`), "2024-02-29T13:14:15.000Z", ""},
		{"datetime leap second", "datetime", text("2016-12-31T23:59:60Z"), "", "takes a time stamp"},
		{"datetime word", "datetime", text("yesterday"), "", "takes a time stamp"},

		{"time", "time", models.TimeValue(45_296_123_456), "12:34:56.123Z", ""},
		{"time text", "time", text("09:05"), "09:05:00.000Z", ""},
		{"time end of day", "time", models.TimeValue(86_400_000_000), "", "takes a time of day"},
		{"time 25h", "time", text("25:00:00"), "", "takes a time of day"},

		{"id 15", "reference", text("001D000000INjVe"), "001D000000INjVeIAL", ""},
		{"id 18", "reference", text("001D000000INjVeIAL"), "001D000000INjVeIAL", ""},
		{"id wrong checksum", "reference", text("001D000000INjVeIAM"), "", "record Id"},
		{"id short", "reference", text("001"), "", "record Id"},
		{"id number", "reference", models.IntValue(1), "", "record Id"},
		{"base64", "base64", text("abc"), "", "no value that can be written"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cell, err := fields[test.field].convert(test.value)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %+v, error %v; want an error with %q", cell, err, test.err)
				}
				if strings.ContainsAny(err.Error(), "\n\r") || utf8.RuneCountInString(err.Error()) > 300 {
					t.Fatalf("error is no short line: %q", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := cell.Text
			if cell.Null {
				got = "null"
			}
			if got != test.want {
				t.Fatalf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestErrorsShortenValues(t *testing.T) {
	f := fieldOf(api.Field{Type: "int"})
	_, err := f.convert(models.TextValue(strings.Repeat("ä\n", 500)))
	if err == nil || strings.Contains(err.Error(), "\n") || utf8.RuneCountInString(err.Error()) > 250 {
		t.Fatalf("got %v", err)
	}
}

// What a field gives out must be what it takes: a second conversion of the
// canonical text changes nothing, and it folds like itself.
func FuzzConvertIsStable(f *testing.F) {
	kinds := []string{"string", "email", "boolean", "int", "double", "date", "datetime", "time", "reference", "multipicklist"}
	for _, s := range []string{"", "1e3", "-0", "2024-02-29 10:00+00", "true", "a;b;a", "001D000000INjVe", "x@y", " 12 ", "23:59:59.9999", "1700-01-01T00:00:00+01:00", "0.1e-300"} {
		for i := range kinds {
			f.Add(i, s)
		}
	}
	f.Fuzz(func(t *testing.T, kind int, s string) {
		f := fieldOf(api.Field{Type: kinds[uint(kind)%uint(len(kinds))], Length: 100, Precision: 18, Scale: 4})
		first, err := f.convert(models.TextValue(s))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") || !utf8.ValidString(err.Error()) {
				t.Fatalf("error is no line: %q", err)
			}
			return
		}
		if first.Null {
			return
		}
		again, err := f.convert(models.TextValue(first.Text))
		if err != nil || again != first {
			t.Fatalf("%q became %+v, then %+v (%v)", s, first, again, err)
		}
		if f.class == classNumber || f.class == classInt {
			if strings.ContainsAny(first.Text, "eE+ ") {
				t.Fatalf("number %q is not plain", first.Text)
			}
		}
	})
}

func TestFold(t *testing.T) {
	text := api.Field{Type: "string", Unique: true, CaseSensitive: true}
	anyCase := api.Field{Type: "string", Unique: true}
	loose := api.Field{Type: "string"}
	number := api.Field{Type: "double"}
	tests := []struct {
		name  string
		field api.Field
		a, b  string
		same  bool
	}{
		{"trimmed", text, " A-1\t", "A-1", true},
		{"case matters", text, "A-1", "a-1", false},
		{"case ignored", anyCase, "A-1", "a-1", true},
		{"case matters where not unique", loose, "A-1", "a-1", false},
		{"digits of text", text, "42", "42.0", false},
		{"number", number, "42", "42.0", true},
		{"Java's double", number, "912260031", "9.12260031E8", true},
		{"long number", number, "123456789012345678", "1.2345678901234568E17", true},
		{"other number", number, "42", "43", false},
		{"email", api.Field{Type: "email"}, "A@Example.com", "a@example.com", true},
		{"datetime", api.Field{Type: "datetime"}, "2024-01-31T21:33:43.123Z", "2024-01-31T21:33:43.000+0000", true},
		{"id", api.Field{Type: "id"}, "001D000000INjVe", "001D000000INjVeIAL", true},
		{"id case", api.Field{Type: "id"}, "001D000000INjVe", "001D000000INjVE", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fieldOf(test.field)
			if got := f.fold(test.a) == f.fold(test.b); got != test.same {
				t.Fatalf("%q and %q: same is %v", test.a, test.b, got)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"Name", "Phone", "AnnualRevenue", "Warehouse_Key__c"}
	for given, want := range map[string]string{"Phnoe": "Phone", "annualrevenu": "AnnualRevenue", "Warehouse_Key": "Warehouse_Key__c", "Zzzzzz": ""} {
		if got := nearest(given, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", given, got, want)
		}
	}
}
