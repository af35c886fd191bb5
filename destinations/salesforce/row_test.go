package salesforce

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// accounts is a target with a field of every way to be written.
func accounts(mode models.Mode) *Target {
	key := fieldOf(api.Field{Name: "Key__c", Type: "string", ExternalID: true, Unique: true, CaseSensitive: true, Createable: true, Updateable: true, Filterable: true, Length: 64})
	writable := func(name, typ string) *column {
		f := fieldOf(api.Field{Name: name, Type: typ, Createable: true, Updateable: true, Nillable: true})
		return &column{field: f, header: name}
	}
	parent := &column{
		field:  fieldOf(api.Field{Name: "ParentId", Type: "reference", Createable: true, Updateable: true, ReferenceTo: []string{"Account"}, RelationshipName: "Parent"}),
		header: "Parent.Key__c", parent: key, parentObject: "Account", self: true,
	}
	who := &column{
		field:  fieldOf(api.Field{Name: "WhoId", Type: "reference", Createable: true, Updateable: true, ReferenceTo: []string{"Contact", "Lead"}, RelationshipName: "Who"}),
		header: "Lead:Who.Email", parent: fieldOf(api.Field{Name: "Email", Type: "email"}), parentObject: "Lead",
	}
	created := writable("Origin__c", "string")
	created.createOnly = true
	return &Target{
		sync: &models.Sync{Mode: mode}, object: &api.Object{Name: "Account"},
		idField: fieldOf(api.Field{Name: "Id", Type: "id"}), match: key, keyField: destinations.MatchField,
		columns: []*column{writable("Name", "string"), writable("Active__c", "boolean"), writable("Revenue__c", "currency"), parent, who, created},
	}
}

func set(field int, text string) planner.Assignment {
	return planner.Assignment{Field: field, Cell: models.Cell{Text: text}, Send: planner.Always}
}

func null(field int) planner.Assignment {
	return planner.Assignment{Field: field, Cell: models.NullCell, Send: planner.Always}
}

func TestRecords(t *testing.T) {
	onCreate := planner.Assignment{Field: 5, Cell: models.Cell{Text: "web"}, Send: planner.OnCreate}
	kept := planner.Assignment{Field: 0, Cell: models.Cell{Text: "Acme"}, Send: planner.Keep}
	tests := []struct {
		name string
		row  row
		json string
		csv  string
	}{
		{"values", row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Assignments: []planner.Assignment{set(0, `a "b"`), set(1, "true"), set(2, "12.50")}}},
			`{"Key__c":"A1","Name":"a \"b\"","Active__c":true,"Revenue__c":12.50}`, `A1,"a ""b""",true,12.50,,,`},
		{"nulls", row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Assignments: []planner.Assignment{null(0), null(1), null(2), null(3), null(4)}}},
			`{"Key__c":"A1","Name":null,"Active__c":false,"Revenue__c":null,"ParentId":null,"WhoId":null}`, `A1,#N/A,false,#N/A,#N/A,#N/A,`},
		{"references", row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Assignments: []planner.Assignment{set(3, "A0"), set(4, "x@y.zz")}}},
			`{"Key__c":"A1","Parent":{"Key__c":"A0"},"Who":{"attributes":{"type":"Lead"},"Email":"x@y.zz"}}`, `A1,,,,A0,x@y.zz,`},
		{"nothing but what changed", row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Known: true, Assignments: []planner.Assignment{kept, set(2, "1"), onCreate}}, exists: true},
			`{"Key__c":"A1","Revenue__c":1}`, `A1,,,1,,,`},
		{"complete", row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Known: true, Assignments: []planner.Assignment{kept, set(2, "1"), onCreate}}, complete: true},
			`{"Key__c":"A1","Name":"Acme","Revenue__c":1,"Origin__c":"web"}`, `A1,Acme,,1,,,web`},
		{"insert", row{op: &planner.Operation{Kind: planner.Insert, Match: "A1", Assignments: []planner.Assignment{set(0, "Acme"), onCreate}}},
			`{"Key__c":"A1","Name":"Acme","Origin__c":"web"}`, `A1,Acme,,,,,web`},
		{"update", row{op: &planner.Operation{Kind: planner.Update, Match: "A1", Assignments: []planner.Assignment{set(0, "Acme")}}, id: "001D000000INjVeIAL"},
			`{"Id":"001D000000INjVeIAL","Name":"Acme"}`, `001D000000INjVeIAL,Acme,,,,,`},
		{"reference by Id", row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Assignments: []planner.Assignment{set(3, "A0")}}, refs: map[int]string{3: "001D000000INjVeIAL"}},
			`{"Key__c":"A1","ParentId":"001D000000INjVeIAL"}`, `A1,,,,001D000000INjVeIAL,,`},
		{"delete", row{op: &planner.Operation{Kind: planner.Archive}, id: "001D000000INjVeIAL"}, "", `001D000000INjVeIAL`},
		{"unicode and lines", row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Assignments: []planner.Assignment{set(0, "日本\n\t\u2028\x01é")}}},
			`{"Key__c":"A1","Name":"日本\n\t` + "\u2028" + `\u0001é"}`, "A1,\"日本\n\t\u2028\x01é\",,,,,"},
	}
	target := accounts(models.ModeUpsert)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := callOf(test.row.op.Kind)
			test.row.kind = test.row.op.Kind
			if test.json != "" {
				got := string(target.appendJSON(nil, c, &test.row))
				want := `{"attributes":{"type":"Account"},` + test.json[1:]
				if got != want || !json.Valid([]byte(got)) {
					t.Errorf("JSON\n got %s\nwant %s", got, want)
				}
			}
			line, ok := target.appendRow(nil, c, &test.row)
			if got := strings.TrimSuffix(string(line), "\n"); !ok || got != test.csv {
				t.Errorf("CSV\n got %s\nwant %s", got, test.csv)
			}
			header := string(target.appendHeader(nil, c))
			if h, l := strings.Count(header, ","), strings.Count(test.csv, ","); h != l {
				t.Errorf("header %q has %d commas, the row %d", header, h, l)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	target := accounts(models.ModeUpsert)
	for c, want := range map[call]string{
		callUpsert: "Key__c,Name,Active__c,Revenue__c,Parent.Key__c,Lead:Who.Email,Origin__c\n",
		callUpdate: "Id,Name,Active__c,Revenue__c,Parent.Key__c,Lead:Who.Email,Origin__c\n",
		callDelete: "Id\n",
	} {
		if got := string(target.appendHeader(nil, c)); got != want {
			t.Errorf("%s: got %q, want %q", c, got, want)
		}
	}
}

func TestRowsThatCSVCannotCarry(t *testing.T) {
	target := accounts(models.ModeUpsert)
	for name, text := range map[string]string{
		"literal #N/A":    "#N/A",
		"carriage return": "a\r\nb",
		"long cell":       strings.Repeat("é", maxCellRunes+1),
	} {
		x := &row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Assignments: []planner.Assignment{set(0, text)}}}
		if line, ok := target.appendRow(nil, callUpsert, x); ok || len(line) != 0 {
			t.Errorf("%s: written as %.40q", name, line)
		}
		x = &row{op: &planner.Operation{Kind: planner.Upsert, Match: text}}
		if _, ok := target.appendRow(nil, callUpsert, x); ok {
			t.Errorf("%s as the key: written", name)
		}
	}
	for name, text := range map[string]string{"like #N/A": " #N/A", "longest cell": strings.Repeat("é", maxCellRunes)} {
		x := &row{op: &planner.Operation{Kind: planner.Upsert, Match: "A1", Assignments: []planner.Assignment{set(0, text)}}}
		if _, ok := target.appendRow(nil, callUpsert, x); !ok {
			t.Errorf("%s: refused", name)
		}
	}
}

// The encoder against the standard library's decoder.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "a", "a,b", `"`, "a\nb", " a ", "#N/A", "\u00a0", `""`, "é\"\n,"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\r") {
			return // never written as CSV, see sayable
		}
		line := appendCSV(nil, a)
		line = append(line, ',')
		line = appendCSV(line, b)
		line = append(line, ",end\n"...)
		got, err := csv.NewReader(strings.NewReader(string(line))).ReadAll()
		if err != nil || len(got) != 1 || len(got[0]) != 3 || got[0][0] != a || got[0][1] != b {
			t.Fatalf("%q, %q came back as %q (%v)", a, b, got, err)
		}
	})
}

func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\", "\x00\x1f\u2028é日", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(s) && got != s {
			t.Fatalf("%q came back as %q", s, got)
		}
	})
}

func TestEstimate(t *testing.T) {
	summary := func(n ...int64) planner.Summary {
		return planner.Summary{PassOperations: n, Passes: len(n), Bytes: 100 * n[0]}
	}
	tests := []struct {
		name   string
		write  models.Write
		plan   planner.Summary
		calls  int64
		jobs   int64
		choice string
	}{
		{"nothing", models.Write{}, summary(0), 0, 0, "nothing to send"},
		{"few", models.Write{}, summary(201), 2, 0, "sObject Collections: fewer calls (2 calls, about 1 s; 5 calls, about 8 s by Bulk API 2.0)"},
		{"as dear as a job", models.Write{}, summary(2400), 12, 0, "sObject Collections: it ends sooner"},
		{"many", models.Write{}, summary(2401), 5, 1, "Bulk API 2.0: fewer calls"},
		{"two passes", models.Write{}, summary(100_000, 10), 6, 1, "for the passes of 2401"},
		{"rest asked for", models.Write{IngestionAPI: "rest"}, summary(100_000), 500, 0, `ingestion_api = "rest"`},
		{"bulk asked for", models.Write{IngestionAPI: "bulk"}, summary(1), 5, 1, `ingestion_api = "bulk"`},
		{"duplicates", models.Write{AllowDuplicates: true}, summary(100_000), 500, 0, "allow_duplicates"},
		{"rule", models.Write{AssignmentRule: "false"}, summary(100_000), 500, 0, "assignment_rule"},
		{"smaller calls", models.Write{RESTBatchSize: 10}, summary(120), 12, 0, "Collections"},
		{"smaller jobs", models.Write{BulkBatchSize: 5000}, summary(12_000), 15, 3, "Bulk"},
		{"full jobs", models.Write{}, planner.Summary{PassOperations: []int64{400_000}, Bytes: 250_000_000}, 15, 3, "Bulk"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := estimate(routes(&test.write), &test.write, test.plan)
			if e.APICalls != test.calls || e.BulkJobs != test.jobs || !strings.Contains(e.Choice, test.choice) {
				t.Fatalf("got %+v, want %d calls, %d jobs, choice with %q", e, test.calls, test.jobs, test.choice)
			}
		})
	}
}
