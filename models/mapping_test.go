package models_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"coho/models"
)

func constant(v models.Value) *models.Value { return &v }

func fullSync() *models.Sync {
	return &models.Sync{
		Name:  "accounts",
		Model: models.Model{PrimaryKey: []string{"id"}},
		Match: models.Match{Field: "Key__c", Column: "id"},
		Pos:   "coho.toml:1:1",
		Fields: []models.Field{
			{Name: "Name", Column: "name", Pos: "coho.toml:5:1"},
			{Name: "ParentId", Lookup: &models.Lookup{Object: "Account", Field: "Key__c", Column: "parent"}, Pos: "coho.toml:6:1"},
			{Name: "Phone", Expr: `phone == nil ? nil : trim(phone) + row["name"]`, Pos: "coho.toml:7:1"},
			{Name: "Source__c", Constant: constant(models.TextValue("warehouse")), OnCreate: true, Pos: "coho.toml:8:1"},
		},
	}
}

func TestMappingEval(t *testing.T) {
	schema := newTextSchema("id", "unused", "phone", "name", "parent")
	m, err := models.CompileMapping(fullSync(), schema.Columns())
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{2, 3, 4}; !slices.Equal(m.Columns(), want) {
		t.Errorf("columns %v, want %v", m.Columns(), want)
	}
	e := m.NewEvaluator(schema)
	out, errs := make([]models.Value, 4), make([]error, 4)
	for row, test := range []struct {
		cells []string
		want  []string
		errs  int // number of fields that fail
	}{
		{[]string{"ik", "tu", "t 1 ", "tAcme", "tP"}, []string{"text Acme", "text P", "text 1Acme", "text warehouse"}, 0},
		{[]string{"ik", "tu", "null", "null", "i7"}, []string{"null ", "int 7", "null ", "text warehouse"}, 0},
		{[]string{"ik", "tu", "t2", "?", "null"}, []string{"null ", "null ", "null ", "text warehouse"}, 2},
		{[]string{"ik", "tu", "t3", "tAcme", "tP"}, []string{"text Acme", "text P", "text 3Acme", "text warehouse"}, 0},
	} {
		cells := make([][]byte, len(test.cells))
		for i, c := range test.cells {
			if c != "null" {
				cells[i] = []byte(c)
			}
		}
		e.Eval(cells, out, errs)
		failed := 0
		for i := range out {
			if got := out[i].Kind().String() + " " + out[i].Text(); got != test.want[i] {
				t.Errorf("row %d field %d: got %q, want %q", row, i, got, test.want[i])
			}
			if errs[i] != nil {
				failed++
				if !strings.Contains(errs[i].Error(), `column "name"`) {
					t.Errorf("row %d field %d: the error does not name the column: %v", row, i, errs[i])
				}
			}
		}
		if failed != test.errs {
			t.Errorf("row %d: %d fields failed, want %d", row, failed, test.errs)
		}
	}
	// name was not null in three rows and is read by two fields.
	if want := []int{0, 0, 3, 3, 3}; !slices.Equal(schema.decode, want) {
		t.Errorf("columns were decoded %v times, want %v", schema.decode, want)
	}
}

// borrowed is a schema whose column names say whose cells are texts.
type borrowed struct{ *textSchema }

func (s borrowed) IsText(col int) bool { return strings.HasPrefix(s.cols[col].Name, "text") }

// TestBorrower changes a row's cells after it was evaluated: only the values of
// columns that are texts, and that no expression reads, may change with them.
func TestBorrower(t *testing.T) {
	schema := borrowed{newTextSchema("id", "text_alone", "text_read", "other", "text_bad")}
	sync := fullSync()
	sync.Fields = []models.Field{
		{Name: "Alone", Column: "text_alone", Pos: "coho.toml:5:1"},
		{Name: "Read", Column: "text_read", Pos: "coho.toml:6:1"},
		{Name: "Expr", Expr: "text_read", Pos: "coho.toml:7:1"},
		{Name: "Other", Column: "other", Pos: "coho.toml:8:1"},
		{Name: "Bad", Column: "text_bad", Pos: "coho.toml:9:1"},
	}
	for _, c := range []struct {
		name string
		eval func(*models.Mapping) *models.Evaluator
		want []string
	}{
		{"borrower", func(m *models.Mapping) *models.Evaluator { return m.NewBorrower(schema) }, []string{"-----", "read", "read", "other", "\xff"}},
		{"evaluator", func(m *models.Mapping) *models.Evaluator { return m.NewEvaluator(schema) }, []string{"alone", "read", "read", "other", "\xff"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := models.CompileMapping(sync, schema.Columns())
			if err != nil {
				t.Fatal(err)
			}
			cells := [][]byte{[]byte("tid"), []byte("alone"), []byte("tread"), []byte("tother"), []byte("t\xff")}
			if c.name == "evaluator" {
				cells[1] = []byte("talone")
			}
			out, errs := make([]models.Value, len(sync.Fields)), make([]error, len(sync.Fields))
			c.eval(m).Eval(cells, out, errs)
			for _, cell := range cells {
				for i := range cell {
					cell[i] = '-'
				}
			}
			for i, v := range out {
				if errs[i] != nil || v.Kind() != models.Text || v.Text() != c.want[i] {
					t.Errorf("field %d is %q, %v, want %q", i, v.Text(), errs[i], c.want[i])
				}
			}
		})
	}
}

func TestCompileMappingReportsEverything(t *testing.T) {
	s := fullSync()
	s.Model.PrimaryKey = []string{"idd"}
	s.Match.Column = "gone"
	s.Fields = []models.Field{
		{Name: "Name", Column: "nam", Pos: "coho.toml:5:1"},
		{Name: "A", Expr: "phnoe + row.zzzzzzz", Pos: "coho.toml:6:1"},
		{Name: "B", Expr: "now()", Pos: "coho.toml:7:1"},
		{Name: "C", Expr: "1 +", Pos: "coho.toml:8:1"},
		{Name: "D", Lookup: &models.Lookup{Object: "Account", Field: "K", Column: "PARENT"}, Pos: "coho.toml:9:1"},
		{Name: "E", Column: "twice", Pos: "coho.toml:10:1"},
		{Name: "F", Pos: "coho.toml:11:1"},
		{Name: "Fine", Column: "name"},
	}
	_, err := models.CompileMapping(s, newTextSchema("id", "phone", "name", "parent", "twice", "twice").Columns())
	var mistakes models.MappingErrors
	if !errors.As(err, &mistakes) {
		t.Fatalf("got %v, want MappingErrors", err)
	}
	want := []string{
		`coho.toml:1:1: primary key: the query has no column "idd" (nearest: "id")`,
		`coho.toml:1:1: match: the query has no column "gone"`,
		`coho.toml:5:1: Name: the query has no column "nam" (nearest: "name")`,
		`coho.toml:6:1: A: expression: the query has no column "phnoe" (nearest: "phone")`,
		`coho.toml:6:1: A: expression: the query has no column "zzzzzzz"`,
		`coho.toml:7:1: B: now() reads the clock`,
		`coho.toml:8:1: C: unexpected token EOF, at its character 3`,
		`coho.toml:9:1: D: the query has no column "PARENT" (nearest: "parent")`,
		`coho.toml:10:1: E: the query has several columns "twice"`,
		`coho.toml:11:1: F: nothing fills the field`,
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d mistakes, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("mistake %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}

func TestMappingHash(t *testing.T) {
	cols := newTextSchema("id", "phone", "name", "parent").Columns()
	hash := func(change func(*models.Sync)) string {
		s := fullSync()
		change(s)
		m, err := models.CompileMapping(s, cols)
		if err != nil {
			t.Fatal(err)
		}
		return m.Hash()
	}
	same := hash(func(*models.Sync) {})
	if again := hash(func(s *models.Sync) { s.Pos, s.Fields[0].Pos, s.Name = "", "", "other" }); again != same {
		t.Error("a position or the sync's name changes the hash")
	}
	seen := map[string]string{same: "nothing"}
	for name, change := range map[string]func(*models.Sync){
		"column":         func(s *models.Sync) { s.Fields[0].Column = "phone" },
		"field's name":   func(s *models.Sync) { s.Fields[0].Name = "Nam" },
		"on":             func(s *models.Sync) { s.Fields[0].OnCreate = true },
		"lookup object":  func(s *models.Sync) { s.Fields[1].Lookup.Object = "Contact" },
		"lookup field":   func(s *models.Sync) { s.Fields[1].Lookup.Field = "Other__c" },
		"lookup column":  func(s *models.Sync) { s.Fields[1].Lookup.Column = "name" },
		"expression":     func(s *models.Sync) { s.Fields[2].Expr = "phone" },
		"constant":       func(s *models.Sync) { s.Fields[3].Constant = constant(models.TextValue("7")) },
		"constant kind":  func(s *models.Sync) { s.Fields[3].Constant = constant(models.IntValue(7)) },
		"record type":    func(s *models.Sync) { s.Fields[3] = models.Field{Name: "D", RecordType: "7"} },
		"another type":   func(s *models.Sync) { s.Fields[3] = models.Field{Name: "D", RecordType: "8"} },
		"field dropped":  func(s *models.Sync) { s.Fields = s.Fields[:3] },
		"column to expr": func(s *models.Sync) { s.Fields[0] = models.Field{Name: "Name", Expr: "name"} },
	} {
		h := hash(change)
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s give the same hash", name, other)
		}
		seen[h] = name
	}
}

func TestNearest(t *testing.T) {
	known := []string{"account_key", "name", "phone", "Phone", "arr", "parent_key"}
	for name, want := range map[string]string{
		"phnoe": "phone", "PHONE": "phone", "Phone": "Phone", "acount_key": "account_key",
		"nmae": "name", "arr_": "arr", "parentkey": "parent_key", "created_at": "", "": "",
	} {
		if got := models.Nearest(name, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
	if got := models.Nearest("x", nil); got != "" {
		t.Errorf("Nearest of nothing = %q", got)
	}
}

func BenchmarkEval(b *testing.B) {
	schema := newTextSchema("id", "name", "phone", "arr", "city")
	m, err := models.CompileMapping(&models.Sync{Fields: []models.Field{
		{Name: "A", Expr: `phone == nil ? nil : trim(phone)`},
		{Name: "B", Expr: `arr > 1000 ? "large" : "small"`},
		{Name: "C", Expr: `upper(city)`},
		{Name: "D", Expr: `name + " (" + city + ")"`},
		{Name: "E", Expr: `arr * 2`},
	}}, schema.Columns())
	if err != nil {
		b.Fatal(err)
	}
	e := m.NewEvaluator(schema)
	cells := [][]byte{[]byte("i1"), []byte("tAcme"), []byte("t 555 "), []byte("i2000"), []byte("tUlm")}
	out, errs := make([]models.Value, 5), make([]error, 5)
	b.ReportAllocs()
	for b.Loop() {
		e.Eval(cells, out, errs)
	}
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}
