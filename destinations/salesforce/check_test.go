package salesforce

import (
	"context"
	"errors"
	"strings"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/models"
)

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	field := func(f models.Field) func(*models.Sync) {
		f.Pos = "coho.toml:9:1"
		return func(s *models.Sync) { s.Fields = append(s.Fields, f) }
	}
	lookup := func(object, by, column string) *models.Lookup {
		return &models.Lookup{Object: object, Field: by, Column: column}
	}
	tests := []struct {
		name   string
		change func(*models.Sync)
		want   string
	}{
		{"object", func(s *models.Sync) { s.Object = "Acount" }, "no object Acount that this user may see (did you mean Account?)"},
		{"field", field(models.Field{Name: "Websit", Column: "name"}), "coho.toml:9:1: Account has no field Websit that this user may see (did you mean Website?)"},
		{"column", field(models.Field{Name: "Website", Column: "nmae"}), "no column nmae (did you mean name?)"},
		{"compound", field(models.Field{Name: "BillingAddress", Column: "name"}), "map its parts instead"},
		{"system field", field(models.Field{Name: "CreatedDate", Column: "name"}), "cannot be written"},
		{"id", field(models.Field{Name: "Id", Column: "name"}), "use it in match"},
		{"type", field(models.Field{Name: "NumberOfEmployees", Column: "born"}), "column born (date) cannot fill field NumberOfEmployees of type int: it takes a whole number"},
		{"constant", field(models.Field{Name: "Tier__c", Constant: constant("Goldd")}), `did you mean "Gold"?`},
		{"twice", field(models.Field{Name: "PHONE", Column: "name"}), "mapped twice"},
		{"lookup into text", field(models.Field{Name: "Site", Lookup: lookup("Account", "Name", "parent")}), "is no reference"},
		{"lookup of another object", func(s *models.Sync) { s.Fields[fParent].Lookup.Object = "Contact" }, "refers to Account, not to Contact"},
		{"lookup field", func(s *models.Sync) { s.Fields[fParent].Lookup.Field = "Warehouse_Kee__c" }, "did you mean Warehouse_Key__c?"},
		{"lookup column", func(s *models.Sync) { s.Fields[fParent].Lookup.Column = "nope" }, "no column nope"},
		{"upsert on Id", func(s *models.Sync) { s.Match.Field = "Id" }, "cannot match on Id"},
		{"upsert on a plain field", func(s *models.Sync) { s.Match.Field = "Site" }, "must match on an external id, and field Site is none (Account has: Warehouse_Key__c"},
		{"no match", func(s *models.Sync) { s.Match = models.Match{} }, "needs match"},
		{"match field", func(s *models.Sync) { s.Match.Field = "Warehouse_Key" }, "did you mean Warehouse_Key__c?"},
		{"match filled twice", field(models.Field{Name: "Warehouse_Key__c", Column: "name"}), "is the match field"},
		{"update long text match", func(s *models.Sync) { s.Mode, s.Match.Field = models.ModeUpdate, "Description" }, "cannot be filtered on"},
		{"update create-only", func(s *models.Sync) {
			s.Mode = models.ModeUpdate
			field(models.Field{Name: "Origin_System__c", Column: "origin"})(s)
		}, "only be set when a record is created"},
		{"update on create", func(s *models.Sync) { s.Mode = models.ModeUpdate; s.Fields[fName].OnCreate = true }, `on = "create"`},
		{"insert without a key", func(s *models.Sync) {
			s.Mode, s.Match, s.Write.IngestionAPI = models.ModeInsert, models.Match{}, "rest"
		}, `so inserts need Bulk API 1.0, which ingestion_api = "rest" rules out`},
		{"insert without a key past duplicate rules", func(s *models.Sync) {
			s.Mode, s.Match, s.Write.AllowDuplicates = models.ModeInsert, models.Match{}, true
		}, "which allow_duplicates rules out"},
		{"read-only object", func(s *models.Sync) { s.Object = "Organization" }, "cannot be created"},
		{"bulk version", func(s *models.Sync) { s.Write.BulkAPIVersion = "3.0" }, "bulk_api_version"},
		{"skip_converted", func(s *models.Sync) { s.Write.SkipConverted = true }, "only leads are converted, not Account"},
		{"serial bulk", func(s *models.Sync) { s.Write.ConcurrencyMode, s.Write.IngestionAPI = "serial", "bulk" }, "no serial mode"},
		{"sort", func(s *models.Sync) { s.Write.SortBatchesBy = "ParentI" }, "did you mean ParentId?"},
		{"omit", func(s *models.Sync) { s.Write.InvalidRelationships = "omit" }, "invalid_relationships"},
		{"duplicates in bulk", func(s *models.Sync) { s.Write.AllowDuplicates, s.Write.IngestionAPI = true, "bulk" }, "allow_duplicates"},
		{"rule", func(s *models.Sync) { s.Write.AssignmentRule = "mine" }, "assignment_rule"},
		{"event upserted", func(s *models.Sync) { s.Object = "Order_Placed__e" }, `mode "upsert": platform event Order_Placed__e can only be published`},
		{"event by match", func(s *models.Sync) { s.Object, s.Mode = "Order_Placed__e", models.ModeInsert }, "no record that could be found; map Warehouse_Key__c under fields"},
		{"event by bulk", func(s *models.Sync) {
			s.Object, s.Mode, s.Write.IngestionAPI = "Order_Placed__e", models.ModeInsert, "bulk"
		}, "do not tell their EventUuid"},
		{"API", func(s *models.Sync) { s.Write.IngestionAPI = "soap" }, "ingestion_api"},
	}
	columns := append(accountColumns[:len(accountColumns):len(accountColumns)], models.Column{Name: "born", Type: "date", Kind: models.Date})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := accountSync(models.ModeUpsert, "automatic")
			test.change(s)
			_, err := w.dest.Open(context.Background(), s, columns)
			var problems destinations.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want problems", err)
			}
			contains(t, err.Error(), test.want)
			for _, p := range problems {
				if p.Pos == "" || strings.Contains(p.Message, "\n") {
					t.Errorf("problem %+v has no place or is no line", p)
				}
			}
		})
	}
}

func constant(s string) *models.Value {
	v := models.TextValue(s)
	return &v
}

func TestOpenFindsEverythingAtOnce(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := accountSync(models.ModeUpsert, "automatic")
	s.Match.Field = "Site"
	s.Fields[fName].Column = "nix"
	s.Fields[fPhone].Name = "Fone"
	s.Write.SkipConverted = true
	_, err := w.dest.Open(context.Background(), s, accountColumns)
	var problems destinations.Problems
	if !errors.As(err, &problems) || len(problems) != 4 {
		t.Fatalf("got %v", err)
	}
}

func TestOpen(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := accountSync(models.ModeUpsert, "automatic")
	s.OnRemoved = models.RemovedClearFields
	s.Fields[fPhone].Name = "phone" // names are found in any case
	target := w.open(s)
	fields := target.Fields()
	if fields[fPhone].Name != "Phone" || !fields[fParent].SelfReference || !fields[fName].KeepOnClear || fields[fPhone].KeepOnClear {
		t.Fatalf("fields are %+v", fields)
	}
	contains(t, strings.Join(target.Warnings(), "\n"), "leaves field Name as it is: it cannot be empty")
	if got := target.NormalizeMatch(" a "); got != "a" {
		t.Fatalf("match folds to %q", got)
	}
	cell, err := target.Convert(fParent, models.TextValue(" P1 "))
	if err != nil || cell.Text != "P1" {
		t.Fatalf("parent converts to %+v, %v", cell, err)
	}
	if cell, err = target.Convert(destinations.MatchField, models.IntValue(12)); err != nil || cell.Text != "12" {
		t.Fatalf("match converts to %+v, %v", cell, err)
	}
	if _, err = target.Convert(fRevenue, models.TextValue("x")); err == nil {
		t.Fatal("text went into a number")
	}
	org, err := w.dest.Org(context.Background())
	if err != nil || org != w.org.Org().ID() {
		t.Fatalf("org is %q, %v", org, err)
	}

	s = accountSync(models.ModeUpsert, "automatic")
	s.Fields = s.Fields[fPhone:]
	contains(t, strings.Join(w.open(s).Warnings(), "\n"), "new Account records need Name")
}
