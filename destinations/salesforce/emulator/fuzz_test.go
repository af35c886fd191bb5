package emulator

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

func fuzzOrg(f *testing.F) *Org {
	f.Helper()
	file, err := loadOrgFile("")
	if err != nil {
		f.Fatal(err)
	}
	o, err := openOrg(file, Options{})
	if err != nil {
		f.Fatal(err)
	}
	for _, values := range []map[string]any{{"Name": "Acme", "Warehouse_Key__c": "A", "AnnualRevenue": 5}, {"Name": "b%_\\"}} {
		if _, err := o.Insert("Account", values); err != nil {
			f.Fatal(err)
		}
	}
	return o
}

// FuzzSOQL: whatever is asked, there is an answer or an error with a code.
func FuzzSOQL(f *testing.F) {
	o := fuzzOrg(f)
	for _, q := range []string{
		"SELECT Id, Name, Owner.Name, (SELECT Id FROM Contacts) FROM Account WHERE Name LIKE 'A%' ORDER BY Name DESC NULLS LAST LIMIT 5 OFFSET 1",
		"SELECT COUNT(Id) c, Industry FROM Account GROUP BY Industry HAVING COUNT(Id) > 0 ORDER BY COUNT(Id)",
		`SELECT Id FROM Account WHERE NOT (Name = 'a\'\u0041' OR CreatedDate = LAST_N_DAYS:3) AND Id NOT IN (SELECT AccountId FROM Contact)`,
		"SELECT FIELDS(STANDARD) FROM Account FOR UPDATE", "SELECT COUNT() FROM Lead", "select id from account where annualrevenue>-5e3",
	} {
		f.Add(q)
	}
	s := &Server{org: o}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseSOQL(text)
		if err == nil {
			var p *plan
			o.mu.RLock()
			defer o.mu.RUnlock()
			if p, err = o.plan(q, false); err == nil {
				if p.grouped {
					for _, g := range o.groupRows(p) {
						validJSON(t, o.appendGroup(nil, p, g))
					}
					return
				}
				for _, r := range o.match(p) {
					validJSON(t, s.appendTree(nil, "66.0", p, p.obj, r, p.tree))
				}
				return
			}
		}
		if err.code == "" || err.render(text) == "" {
			t.Fatalf("%q is refused without a reason", text)
		}
	})
}

func validJSON(t *testing.T, text []byte) {
	t.Helper()
	if !json.Valid(text) {
		t.Fatalf("not JSON: %s", text)
	}
}

// FuzzCSV: a file is read to its end or refused as a whole, and its rows can be
// given back.
func FuzzCSV(f *testing.F) {
	o := fuzzOrg(f)
	for _, text := range []string{"Name,Warehouse_Key__c\na,b\n", "\"Name\"\n\"a\"\"b\nc\"\r\n", "\ufeff\"Name\"\nx", "Name\n \"a\" ,b\n\"", "Owner.Username,Foo:Bar.Baz\n,\n", "Name\n#N/A\n"} {
		f.Add(text)
	}
	obj := o.object("Account")
	f.Fuzz(func(t *testing.T, text string) {
		l := &load{text: text, delim: ','}
		if err := l.prepare(o, obj, opUpsert); err != nil {
			if err.Error() == "" {
				t.Fatal("refused without a reason")
			}
			return
		}
		x := transactions{obj: obj, op: opUpsert, key: obj.field("Warehouse_Key__c")}
		read := x.csvRows(l)
		order := make([]uint32, len(l.starts))
		for i := range l.starts {
			read(i, &rowWrite{})
			order[i] = uint32(i)
		}
		for _, which := range []string{"successfulResults", "failedResults", "unprocessedrecords"} {
			l.writeResults(bufio.NewWriter(io.Discard), order, obj, which)
		}
	})
}

// FuzzJSON: the reader takes what the standard library takes, and nothing else.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{`{"a":[1,-2.5e3,"x\u00e9\n",true,null,{}]}`, `[1,]`, `{"a"}`, `"\ud83d\ude00"`, ` [ ] x`, "\"\x01\"", `01`, `[[[[`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseJSON(text)
		if valid := json.Valid([]byte(text)); valid != (err == nil) && !(valid && strings.Contains(err.Error(), "nested too deeply")) {
			t.Fatalf("%q: %v, the standard library says %v", text, err, valid)
		}
		if err == nil {
			validJSON(t, appendNode(nil, n))
		}
	})
}

// FuzzXML: any body is an element or an error.
func FuzzXML(f *testing.F) {
	f.Add(`<?xml version="1.0"?><a xmlns:x="y"><x:b x:nil="true">t</x:b></a>`)
	f.Add(`<a><b></a>`)
	f.Add(strings.Repeat("<a>", 100))
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseXML(text)
		if (e == nil) != (err != nil) {
			t.Fatal("neither a document nor an error, or both")
		}
	})
}

// FuzzValues: storing what is stored changes nothing.
func FuzzValues(f *testing.F) {
	o := fuzzOrg(f)
	for _, text := range []string{"1.005", "-0", "+07.50", "9.12E8", "1e-400", "2024-02-29", "2024-01-31T23:59:59.999-0830", "17:30:45.125Z", " a ", "A;b;A", "X@Y.ZZ", "001D000000INjVe", "TRUE", "."} {
		f.Add(text)
	}
	obj, sub := o.object("Account"), o.object("Subscription__c")
	fields := []*field{obj.field("Name"), obj.field("NumberOfEmployees"), obj.field("AnnualRevenue"), obj.field("ParentId"), sub.field("Quantity__c"), sub.field("Start_Date__c"), sub.field("Renewed_At__c"), sub.field("Daily_Time__c"), sub.field("Active__c"), sub.field("Features__c"), sub.field("Contact_Email__c"), sub.field("Discount__c")}
	f.Fuzz(func(t *testing.T, text string) {
		for _, f := range fields {
			v, p := f.parse(text)
			if p != nil {
				if !p.cast && p.err.code == "" {
					t.Fatalf("%s: %q is refused without a code", f.name, text)
				}
				continue
			}
			again, p := f.parse(v)
			if p != nil || again != v {
				t.Fatalf("%s: %q is stored as %q, and that as %q", f.name, text, v, again)
			}
		}
	})
}

func TestFormatDouble(t *testing.T) {
	for in, want := range map[string]string{
		"42": "42.0", "912260031": "9.12260031E8", "9999999": "9999999.0", "10000000": "1.0E7", "0.001": "0.001", "0.0001": "1.0E-4", "-5.25": "-5.25", "0": "0.0", "123456789012345678": "1.2345678901234568E17",
	} {
		if got := formatDouble(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestIDs(t *testing.T) {
	if id, ok := canonicalID("001D000000INjVe"); !ok || id != "001D000000INjVeIAL" {
		t.Fatal(id)
	}
	for _, bad := range []string{"001D000000INjVeIAM", "001D000000INjV", "001D000000INjV!", ""} {
		if id, ok := canonicalID(bad); ok {
			t.Errorf("%q is taken for %s", bad, id)
		}
	}
}

func TestDateLiterals(t *testing.T) {
	now := time.Date(2024, 2, 29, 15, 0, 0, 0, time.UTC) // a Thursday
	for _, tc := range []struct {
		name     string
		n        int
		from, to string
	}{
		{"TODAY", 0, "2024-02-29", "2024-03-01"}, {"YESTERDAY", 0, "2024-02-28", "2024-02-29"}, {"THIS_WEEK", 0, "2024-02-25", "2024-03-03"}, {"LAST_WEEK", 0, "2024-02-18", "2024-02-25"},
		{"LAST_MONTH", 0, "2024-01-01", "2024-02-01"}, {"THIS_QUARTER", 0, "2024-01-01", "2024-04-01"}, {"LAST_N_DAYS", 7, "2024-02-22", "2024-03-01"}, {"NEXT_N_MONTHS", 2, "2024-03-01", "2024-05-01"},
		{"LAST_N_YEARS", 2, "2022-01-01", "2024-01-01"}, {"N_MONTHS_AGO", 1, "2024-01-01", "2024-02-01"}, {"THIS_FISCAL_YEAR", 0, "2024-01-01", "2025-01-01"}, {"N_DAYS_AGO", 1, "2024-02-28", "2024-02-29"},
	} {
		if r, ok := dateLiteral(tc.name, tc.n, now); !ok || r.from != tc.from || r.to != tc.to {
			t.Errorf("%s:%d is %v", tc.name, tc.n, r)
		}
	}
	if _, ok := dateLiteral("SOMEDAY", 0, now); ok {
		t.Error("SOMEDAY is a date")
	}
}
