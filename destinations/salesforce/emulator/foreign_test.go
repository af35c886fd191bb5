package emulator_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k-capehart/go-salesforce/v3"

	"coho/destinations/salesforce/emulator"
)

// foreign logs a client that others wrote in to the org.
func foreign(t *testing.T, c *client, creds salesforce.Creds) *salesforce.Salesforce {
	t.Helper()
	creds.Domain = c.s.URL()
	sf, err := salesforce.Init(creds, salesforce.WithRoundTripper(c.http.Transport), salesforce.WithAPIVersion("v66.0"))
	if err != nil {
		t.Fatal(err)
	}
	return sf
}

func TestForeignClientLogins(t *testing.T) {
	c := start(t, emulator.Options{})
	k := c.s.Credentials()
	key, err := c.s.JWTKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, creds := range map[string]salesforce.Creds{
		"client credentials": {ConsumerKey: k.ClientID, ConsumerSecret: k.ClientSecret},
		"password":           {ConsumerKey: k.ClientID, ConsumerSecret: k.ClientSecret, Username: k.Username, Password: k.Password},
		"jwt bearer":         {ConsumerKey: k.ClientID, Username: k.Username, ConsumerRSAPem: key},
		"access token":       {AccessToken: k.AccessToken},
	} {
		t.Run(name, func(t *testing.T) {
			sf := foreign(t, c, creds)
			var rows []struct{ Name string }
			if err := sf.Query("SELECT Name FROM User", &rows); err != nil || len(rows) == 0 {
				t.Fatalf("query: %v, %v", rows, err)
			}
		})
	}
}

type account struct {
	ID                string `salesforce:"Id" json:"Id,omitempty"`
	Name              string
	Warehouse_Key__c  string
	NumberOfEmployees int
}

func TestForeignClientRowsAndCollections(t *testing.T) {
	c := start(t, emulator.Options{})
	k := c.s.Credentials()
	sf := foreign(t, c, salesforce.Creds{ConsumerKey: k.ClientID, ConsumerSecret: k.ClientSecret})
	one, err := sf.InsertOne("Account", map[string]any{"Name": "Acme", "Warehouse_Key__c": "A"})
	if err != nil || !one.Success {
		t.Fatalf("insert: %+v %v", one, err)
	}
	if err := sf.UpdateOne("Account", map[string]any{"Id": one.Id, "Phone": "555"}); err != nil {
		t.Fatal(err)
	}
	if _, err := sf.UpsertOne("Account", "Warehouse_Key__c", map[string]any{"Warehouse_Key__c": "A", "NumberOfEmployees": 12}); err != nil {
		t.Fatal(err)
	}
	many := make([]map[string]any, 450)
	for i := range many {
		many[i] = map[string]any{"Name": fmt.Sprint("Account ", i), "Warehouse_Key__c": fmt.Sprint("k", i)}
	}
	res, err := sf.UpsertCollection("Account", "Warehouse_Key__c", many, 200)
	if err != nil || res.HasSalesforceErrors || len(res.Results) != len(many) {
		t.Fatalf("upsert: %v %+v", err, res.HasSalesforceErrors)
	}
	comp, err := sf.InsertComposite("Contact", []map[string]any{{"LastName": "A"}, {"FirstName": "no last name"}}, 200, false)
	if err != nil || !comp.HasSalesforceErrors || !comp.Results[0].Success || comp.Results[1].Success {
		t.Fatalf("composite: %v %+v", err, comp)
	}
	var rows []account
	if err := sf.Query("SELECT Id, Name, Warehouse_Key__c, NumberOfEmployees FROM Account WHERE Warehouse_Key__c = 'A'", &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 || rows[0].NumberOfEmployees != 12 || rows[0].ID != one.Id {
		t.Fatalf("read back: %+v", rows)
	}
	if err := sf.DeleteOne("Account", map[string]any{"Id": one.Id}); err != nil {
		t.Fatal(err)
	}
	if n := c.s.Org().Count("Account"); n != 450 {
		t.Fatalf("%d accounts", n)
	}
}

func TestForeignClientBulk(t *testing.T) {
	c := start(t, emulator.Options{})
	k := c.s.Credentials()
	sf := foreign(t, c, salesforce.Creds{ConsumerKey: k.ClientID, ConsumerSecret: k.ClientSecret})
	rows := []map[string]any{{"Name": "One", "Warehouse_Key__c": "1"}, {"Name": "Two", "Warehouse_Key__c": "2"}, {"Name": "", "Warehouse_Key__c": "3"}}
	ids, err := sf.UpsertBulk("Account", "Warehouse_Key__c", rows, 1000, true)
	if err != nil || len(ids) != 1 {
		t.Fatalf("bulk: %v %v", ids, err)
	}
	res, err := sf.GetJobResults(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(res.SuccessfulRecords) != 2 || len(res.FailedRecords) != 1 || !strings.HasPrefix(fmt.Sprint(res.FailedRecords[0]["sf__Error"]), "REQUIRED_FIELD_MISSING:") {
		t.Fatalf("results: %+v", res)
	}
	file := filepath.Join(t.TempDir(), "out.csv")
	if err := sf.QueryBulkExport("SELECT Name, Warehouse_Key__c FROM Account ORDER BY Name", file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "One,1") || strings.Count(string(text), "\n") != 3 {
		t.Fatalf("export: %q %v", text, err)
	}
}
