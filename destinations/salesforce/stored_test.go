package salesforce

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/quick"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

const nothing = "<null>"

// A value that a record has already is recognised in the form in which the org
// stores it, and no other is.
func TestHolds(t *testing.T) {
	text := api.Field{Type: "string", Length: 80}
	area := api.Field{Type: "textarea", Length: 32000}
	money := api.Field{Type: "currency", Precision: 18, Scale: 2}
	percent := api.Field{Type: "percent", Precision: 5, Scale: 0}
	open := api.Field{Type: "picklist", PicklistValues: picks}
	restricted := api.Field{Type: "picklist", RestrictedPicklist: true, PicklistValues: picks}
	multi := api.Field{Type: "multipicklist", PicklistValues: picks}
	tests := []struct {
		name         string
		field        api.Field
		ours, theirs string
		same         bool
	}{
		{"null and null", text, nothing, nothing, true},
		{"null and a value", text, nothing, "a", false},
		{"a value and null", text, "a", nothing, false},
		{"white space is null", text, " \t", nothing, true},
		{"text", text, "Acme", "Acme", true},
		{"other text", text, "Acme", "Acme Inc", false},
		{"text in another case", text, "ACME", "Acme", false},
		{"white space at the ends", text, "  Acme\n", "Acme", true},
		{"white space inside", text, "A  cme", "A cme", false},
		{"a number as text", text, "42", "42.0", false},
		{"unique text in another case", api.Field{Type: "string", Unique: true}, "A-1", "a-1", false},
		{"phone", api.Field{Type: "phone"}, " 030 123", "030 123", true},
		{"phone in another form", api.Field{Type: "phone"}, "030 123", "(030) 123", false},
		{"url", api.Field{Type: "url"}, "http://a.example", "http://a.example", true},
		{"url without its scheme", api.Field{Type: "url"}, "a.example", "http://a.example", false},
		{"combobox", api.Field{Type: "combobox"}, "Call ", "Call", true},
		{"line breaks", area, "a\nb\n", "a\r\nb", true},
		{"line breaks of old", area, "a\rb", "a\nb", true},
		{"one line more", area, "a\nb", "a\n\nb", false},
		{"email in another case", api.Field{Type: "email"}, "Chloe.Myers@Example.com", "chloe.myers@example.com", true},
		{"other email", api.Field{Type: "email"}, "a@example.com", "b@example.com", false},
		{"encrypted text", api.Field{Type: "encryptedstring"}, "1234", "1234", false},
		{"encrypted text, masked alike", api.Field{Type: "encryptedstring"}, "****", "****", false},
		{"no encrypted text", api.Field{Type: "encryptedstring"}, nothing, nothing, true},
		{"picklist", open, "Gold", "Gold", true},
		{"picklist in the list's case", open, "gold", "Gold", true},
		{"picklist of an inactive value's case", open, "tin", "Tin", false},
		{"picklist, both off the list", open, "lead", "Lead", false},
		{"picklist in a case of its own", open, "Gold", "gold", false},
		{"other value", restricted, "Gold", "Silver", false},
		{"restricted", restricted, "Gold", "Gold", true},
		{"multi-select", multi, "Silver;Gold", "Gold;Silver", true},
		{"multi-select, twice the same", multi, "Gold;Gold", "Gold", true},
		{"multi-select, one less", multi, "Gold", "Gold;Silver", false},
		{"multi-select, one more", multi, "Gold;Silver", "Gold", false},
		{"multi-select, others", multi, "Gold;Silver", "Gold;Tin", false},
		{"multi-select, two in one case", multi, "gold;GOLD", "Gold;Silver", false},
		{"checkbox", api.Field{Type: "boolean"}, "true", "true", true},
		{"other checkbox", api.Field{Type: "boolean"}, "true", "false", false},
		{"no checkbox is false", api.Field{Type: "boolean"}, nothing, "false", true},
		{"no checkbox is not true", api.Field{Type: "boolean"}, nothing, "true", false},
		{"whole number", api.Field{Type: "int"}, "150", "150", true},
		{"other whole number", api.Field{Type: "int"}, "150", "151", false},
		{"zero is not null", api.Field{Type: "int"}, "0", nothing, false},
		{"64 bits", api.Field{Type: "long"}, "9007199254740993", "9007199254740993", true},
		{"64 bits, one off", api.Field{Type: "long"}, "9007199254740993", "9007199254740992", false},
		{"currency", money, "5000000", "5000000.0", true},
		{"currency as Java's double", money, "912260031", "9.12260031E8", true},
		{"rounded up", money, "1.005", "1.01", true},
		{"rounded down", money, "1.0049", "1.0", true},
		{"negative, rounded", money, "-1.005", "-1.01", true},
		{"carried", money, "9.995", "10.0", true},
		{"carried past all digits", money, "99999.999", "100000.0", true},
		{"rounded to nothing", money, "-0.001", "0.0", true},
		{"kept unrounded", money, "1.0049", "1.0049", true},
		{"off by the last digit", money, "1.01", "1.02", false},
		{"rounded otherwise", money, "1.006", "1.0", false},
		{"percent", percent, "74.5", "75.0", true},
		{"other percent", percent, "74.4", "75.0", false},
		{"fifteen digits", money, "1234567890123.45", "1.23456789012345E12", true},
		{"more digits than a double tells apart", money, "1234567890123456.78", "1.2345678901234568E15", false},
		{"date", api.Field{Type: "date"}, "2024-02-29", "2024-02-29", true},
		{"other date", api.Field{Type: "date"}, "2024-02-29", "2024-03-01", false},
		{"instant", api.Field{Type: "datetime"}, "2024-01-31T21:33:43.999Z", "2024-01-31T21:33:43.000+0000", true},
		{"instant in another zone", api.Field{Type: "datetime"}, "2024-01-31T21:33:43.000Z", "2024-01-31T23:33:43.000+0200", true},
		{"instant before 1970", api.Field{Type: "datetime"}, "1969-12-31T23:59:59.500Z", "1969-12-31T23:59:59.000+0000", true},
		{"a second later", api.Field{Type: "datetime"}, "2024-01-31T21:33:44.000Z", "2024-01-31T21:33:43.000+0000", false},
		{"time", api.Field{Type: "time"}, "17:30:45.125Z", "17:30:45.125Z", true},
		{"a millisecond later", api.Field{Type: "time"}, "17:30:45.126Z", "17:30:45.125Z", false},
		{"Id of 15 characters", api.Field{Type: "reference"}, "001D000000INjVe", "001D000000INjVeIAL", true},
		{"Id in another case", api.Field{Type: "reference"}, "001D000000INjVE", "001D000000INjVeIAL", false},
		{"what cannot be read", api.Field{Type: "date"}, "2024-02-29", "yesterday", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fieldOf(test.field)
			ours := models.Cell{Text: test.ours}
			if test.ours == nothing {
				ours = models.NullCell
			}
			theirs := test.theirs
			if theirs == nothing {
				theirs = ""
			}
			if got := f.holds(ours, theirs, test.theirs == nothing); got != test.same {
				t.Fatalf("%q, and the org has %q: same is %v", test.ours, test.theirs, got)
			}
		})
	}
}

// things is an object with a field of each type that can be written.
const things = `
[[objects]]
name = "Thing__c"
prefix = "a0T"
fields = [
  { name = "Key__c", type = "string", length = 40, external_id = true, unique = true, case_sensitive = true },
  { name = "Text__c", type = "string", length = 40 },
  { name = "Area__c", type = "textarea", length = 2000 },
  { name = "Phone__c", type = "phone" },
  { name = "Url__c", type = "url" },
  { name = "Combo__c", type = "combobox", values = ["Call"] },
  { name = "Email__c", type = "email" },
  { name = "Bool__c", type = "boolean" },
  { name = "Int__c", type = "int", precision = 8 },
  { name = "Number__c", type = "double", precision = 16, scale = 3 },
  { name = "Money__c", type = "currency", precision = 18, scale = 2 },
  { name = "Percent__c", type = "percent", precision = 14, scale = 1 },
  { name = "Date__c", type = "date" },
  { name = "Instant__c", type = "datetime" },
  { name = "Clock__c", type = "time" },
  { name = "Pick__c", type = "picklist", values = ["Gold", "Silver"] },
  { name = "Firm__c", type = "picklist", values = ["Gold", "Silver"], restricted = true },
  { name = "Multi__c", type = "multipicklist", values = ["a", "b", "c", "d"] },
  { name = "Ref__c", type = "reference", reference_to = ["Account"] },
]
`

// value makes up a value for a field, of few enough that many meet again.
func value(r *rand.Rand, name string, accounts []string) models.Value {
	pick := func(texts ...string) models.Value { return models.TextValue(texts[r.IntN(len(texts))]) }
	digits := func() string { return fmt.Sprintf("%d.%0*d", r.IntN(3)-1, 1+r.IntN(5), r.IntN(30)) }
	if r.IntN(6) == 0 {
		return models.Value{}
	}
	switch name {
	case "Area__c":
		return pick("a\nb", " a\nb", "a\n\nb", "é", "a\tb ", "  ")
	case "Email__c":
		return pick("a@example.com", "A@Example.com", " a@example.com ", "b@example.com")
	case "Bool__c":
		return pick("true", "false")
	case "Int__c":
		return pick("0", "1", "-1", "0001", "12345678")
	case "Number__c", "Money__c", "Percent__c":
		if r.IntN(5) == 0 {
			return pick("0", "-0.0004", "12345678.125", "999.9995", "1e2", "+7", "12345678901.25")
		}
		return models.TextValue(digits())
	case "Date__c":
		return pick("2024-02-29", "2024-03-01", "1969-12-31")
	case "Instant__c":
		return pick("2024-02-29T10:00:00Z", "2024-02-29T10:00:00.999Z", "2024-02-29T12:00:00+02:00", "1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z")
	case "Clock__c":
		return pick("10:00", "10:00:00.001", "10:00:00", "23:59:59.999")
	case "Firm__c":
		return pick("Gold", "Silver")
	case "Multi__c":
		return pick("a;b", "b;a", "d", "d;a;d", "x;b", "b;x", "B")
	case "Ref__c":
		id := accounts[r.IntN(len(accounts))]
		return pick(id, id[:15])
	}
	return pick("a", "A", " a", "b ", "a  b", "1", "1.0", "\"'\\", "ß")
}

// What was written is recognised when it is read back, whatever the type, so that
// a second run is silent; and of a value that is taken for what another record
// holds, writing it makes that record the same.
func TestWhatWasWrittenIsRecognised(t *testing.T) {
	file := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(file, []byte(things), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, emulator.Options{OrgFile: file})
	accounts := []string{w.insert(map[string]any{"Name": "a"}), w.insert(map[string]any{"Name": "b"})}
	s := different(models.ModeUpsert, "rest")
	s.Object, s.Match, s.Fields = "Thing__c", models.Match{Field: "Key__c", Column: "key"}, nil
	for line := range strings.SplitSeq(things, "\n") {
		if _, rest, ok := strings.Cut(line, `name = "`); ok && strings.Contains(line, "type") && !strings.Contains(line, "Key__c") {
			name, _, _ := strings.Cut(rest, `"`)
			s.Fields = append(s.Fields, models.Field{Name: name, Column: "about"})
		}
	}
	if len(s.Fields) != 18 {
		t.Fatalf("%d fields", len(s.Fields))
	}
	target := w.open(s)
	const rows = 600
	round := func(seed uint64) []*planner.Operation {
		r := rand.New(rand.NewPCG(seed, 1))
		ops := make([]*planner.Operation, rows)
		for i := range ops {
			var as []planner.Assignment
			for f := range s.Fields {
				cell, err := target.Convert(f, value(r, s.Fields[f].Name, accounts))
				if err != nil {
					t.Fatal(err)
				}
				as = append(as, planner.Assignment{Field: f, Cell: cell, Send: planner.Always})
			}
			ops[i] = op(planner.Upsert, fmt.Sprintf("K%05d", i), as...)
		}
		return ops
	}
	records := func() map[string]map[string]any {
		out := map[string]map[string]any{}
		for _, r := range w.org.Org().Records("Thing__c") {
			out[r["Key__c"].(string)] = r
		}
		return out
	}
	for seed := range uint64(3) {
		w.mustApply(target, w.ledger(round(seed)))
		after := records()
		writes := w.org.Counters().Writes

		again := w.ledger(round(seed))
		w.mustApply(target, again)
		again.want(destinations.Skipped, rows)
		if n := w.org.Counters().Writes; n != writes {
			t.Fatalf("%d records were written again", n-writes)
		}

		// The same, written without looking, changes nothing that was left out.
		plain := *s
		plain.Write.OnlySyncDifferent = false
		w.mustApply(w.open(&plain), w.ledger(round(seed)))
		for key, r := range records() {
			for _, f := range s.Fields {
				if got, had := fmt.Sprint(r[f.Name]), fmt.Sprint(after[key][f.Name]); got != had {
					t.Fatalf("%s of %s is %q when it is compared and %q when it is not", f.Name, key, had, got)
				}
			}
		}
	}
}

// Rounding is that of decimal numbers, whatever their length.
func TestRoundDecimal(t *testing.T) {
	for _, test := range []struct {
		in    string
		scale int
		want  string
	}{{"1.005", 2, "1.01"}, {"-1.005", 2, "-1.01"}, {"0.5", 0, "1"}, {"0.49", 0, "0"}, {"-0.4", 0, "0"}, {"9.99", 1, "10"}, {"99.5", 0, "100"}, {"1", 3, "1"}, {"123456789012345678.5", 0, "123456789012345679"}} {
		if got := roundDecimal(test.in, test.scale); got != test.want {
			t.Errorf("%s to %d decimals is %s, want %s", test.in, test.scale, got, test.want)
		}
	}
	near := func(whole, fraction uint16, scale uint8) bool {
		s, places := fmt.Sprintf("%d.%05d", whole, fraction), int(scale%6)
		var a, b float64
		fmt.Sscan(models.TrimDecimal(s), &a)
		fmt.Sscan(roundDecimal(models.TrimDecimal(s), places), &b)
		unit := 1.0
		for range places {
			unit /= 10
		}
		return b-a <= unit/2+1e-9 && a-b <= unit/2+1e-9
	}
	if err := quick.Check(near, nil); err != nil {
		t.Error(err)
	}
}
