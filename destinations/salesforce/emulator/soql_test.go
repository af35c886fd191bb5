package emulator_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

const soqlOrg = `
[[records]]
object = "Account"
values = { Name = "Acme", Warehouse_Key__c = "A1", AnnualRevenue = 100, Industry = "Banking", Phone = "1" }
[[records]]
object = "Account"
values = { Name = "beta", Warehouse_Key__c = "a2", AnnualRevenue = 20, Industry = "Banking", ParentId = { Warehouse_Key__c = "A1" } }
[[records]]
object = "Account"
values = { Name = "Cäsar 100%", Warehouse_Key__c = "A3", NumberOfEmployees = 7 }
[[records]]
object = "Contact"
values = { LastName = "Doe", FirstName = "Jo", AccountId = { Warehouse_Key__c = "A1" }, Birthdate = "1990-05-06", Email = "jo@x.org" }
[[records]]
object = "Contact"
values = { LastName = "O'Neil", AccountId = { Warehouse_Key__c = "A1" }, DoNotCall = true }
[[records]]
object = "Subscription__c"
values = { Name = "s1", Account__c = { Warehouse_Key__c = "A1" }, Features__c = "API;SSO" }
[[records]]
object = "Subscription__c"
values = { Name = "s2", Account__c = { Warehouse_Key__c = "a2" }, Features__c = "Mobile" }
[[records]]
object = "Task"
values = { Subject = "call", WhoId = { LastName = "Doe" } }
`

func TestSOQL(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, soqlOrg)})
	jo := fmt.Sprint(c.s.Org().Find("Contact", "FirstName", "Jo")[0]["Id"])
	for _, tc := range []struct{ name, soql, want string }{
		{"equal without case", "SELECT Name FROM Account WHERE Name = 'ACME'", "Acme"},
		{"case-sensitive key", "SELECT Name FROM Account WHERE Warehouse_Key__c IN ('a1','a2')", "beta"},
		{"not equal takes nulls", "SELECT Name FROM Account WHERE Industry != 'Banking'", "Cäsar 100%"},
		{"null", "SELECT Name FROM Account WHERE Industry = null", "Cäsar 100%"},
		{"not null", "SELECT Name FROM Account WHERE AnnualRevenue != null ORDER BY AnnualRevenue", "beta Acme"},
		{"numbers", "SELECT Name FROM Account WHERE AnnualRevenue >= 20.0 AND AnnualRevenue < 1e2", "beta"},
		{"number equality", "SELECT Name FROM Account WHERE AnnualRevenue = 100.00", "Acme"},
		{"precedence", "SELECT Name FROM Account WHERE Name = 'Acme' OR Name = 'beta' AND Industry = 'x'", "Acme"},
		{"parentheses and NOT", "SELECT Name FROM Account WHERE NOT (Name = 'Acme' OR Name = 'beta')", "Cäsar 100%"},
		{"like", "SELECT Name FROM Account WHERE Name LIKE 'c_sar%'", "Cäsar 100%"},
		{"like with an escape", `SELECT Name FROM Account WHERE Name LIKE '%100\%'`, "Cäsar 100%"},
		{"like finds nothing", `SELECT Name FROM Account WHERE Name LIKE '%101\%'`, ""},
		{"quote", `SELECT LastName FROM Contact WHERE LastName = 'O\'Neil'`, "O'Neil"},
		{"boolean", "SELECT LastName FROM Contact WHERE DoNotCall = false", "Doe"},
		{"boolean null is false", "SELECT LastName FROM Contact WHERE DoNotCall = null", "Doe"},
		{"date", "SELECT LastName FROM Contact WHERE Birthdate > 1990-05-05 AND Birthdate <= 1990-05-06", "Doe"},
		{"date literal", "SELECT LastName FROM Contact WHERE CreatedDate = TODAY AND Birthdate < LAST_N_YEARS:2", "Doe"},
		{"datetime", "SELECT LastName FROM Contact WHERE CreatedDate > 2020-01-01T00:00:00+01:00 AND FirstName != null", "Doe"},
		{"parent", "SELECT Name FROM Account WHERE Parent.Name = 'acme'", "beta"},
		{"parent of a custom object", "SELECT Name FROM Subscription__c WHERE Account__r.Parent.Name = 'acme'", "s2"},
		{"semi join", "SELECT Name FROM Account WHERE Id IN (SELECT AccountId FROM Contact WHERE LastName = 'Doe')", "Acme"},
		{"anti join", "SELECT Name FROM Account WHERE Id NOT IN (SELECT Account__c FROM Subscription__c)", "Cäsar 100%"},
		{"includes", "SELECT Name FROM Subscription__c WHERE Features__c INCLUDES ('SSO;API','Support')", "s1"},
		{"excludes", "SELECT Name FROM Subscription__c WHERE Features__c EXCLUDES ('SSO')", "s2"},
		{"order", "SELECT Name FROM Account ORDER BY AnnualRevenue DESC NULLS LAST", "Acme beta Cäsar 100%"},
		{"nulls first", "SELECT Name FROM Account ORDER BY AnnualRevenue", "Cäsar 100% beta Acme"},
		{"limit and offset", "SELECT Name FROM Account ORDER BY Name ASC LIMIT 1 OFFSET 1", "beta"},
		{"15-character id", "SELECT LastName FROM Contact WHERE Id = '" + jo[:15] + "'", "Doe"},
		{"alias", "SELECT a.Name FROM Account a WHERE a.Name = 'Acme' FOR UPDATE", "Acme"},
		{"compound name", "SELECT LastName FROM Contact WHERE Name = 'Jo Doe'", "Doe"},
		{"polymorphic parent", "SELECT Subject FROM Task WHERE Who.Name = 'Jo Doe'", "call"},
		{"user", "SELECT Name FROM Account WHERE Owner.Username LIKE '%emulated%' LIMIT 1", "Acme"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inner := *c
			inner.t = t
			var got []string
			for _, r := range inner.query(tc.soql).Records {
				delete(r, "attributes")
				for _, v := range r {
					got = append(got, fmt.Sprint(v))
				}
			}
			if strings.Join(got, " ") != tc.want {
				t.Fatalf("%s\ngot  %v\nwant %s", tc.soql, got, tc.want)
			}
		})
	}
}

func TestSOQLShapes(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, soqlOrg)})
	for soql, want := range map[string]string{
		"SELECT COUNT() FROM Account": `{"totalSize":3,"done":true,"records":[]}`,
		"SELECT COUNT(Id), MAX(AnnualRevenue) top, Industry FROM Account GROUP BY Industry HAVING COUNT(Id) > 1": `{"totalSize":1,"done":true,"records":[{"attributes":{"type":"AggregateResult"},"expr0":2,"top":100.0,"Industry":"Banking"}]}`,
		"SELECT SUM(AnnualRevenue), AVG(AnnualRevenue), COUNT_DISTINCT(Industry) FROM Account":                   `{"totalSize":1,"done":true,"records":[{"attributes":{"type":"AggregateResult"},"expr0":120.0,"expr1":60.0,"expr2":1}]}`,
		"SELECT Account.Name n FROM Contact GROUP BY Account.Name ORDER BY COUNT(Id)":                            `{"totalSize":1,"done":true,"records":[{"attributes":{"type":"AggregateResult"},"n":"Acme"}]}`,
	} {
		if got := c.want(200, "GET", v66+"/query?q="+url.QueryEscape(soql), "").body; got != want {
			t.Errorf("%s\ngot  %s\nwant %s", soql, got, want)
		}
	}
	a := c.want(200, "GET", v66+"/query/?q="+url.QueryEscape("SELECT name, parent.NAME, Parent.Phone, (SELECT LastName FROM Contacts ORDER BY LastName) FROM account WHERE Name IN ('Acme','beta') ORDER BY Name"), "")
	for _, part := range []string{`"Name":"beta","Parent":{"attributes":{"type":"Account","url":"/services/data/v66.0/sobjects/Account/001`, `"Name":"Acme","Phone":"1"},"Contacts":null`,
		`"Parent":null,"Contacts":{"totalSize":2,"done":true,"records":[{"attributes":{"type":"Contact"`} {
		if !strings.Contains(a.body, part) {
			t.Errorf("no %s in %s", part, a.body)
		}
	}
	acc := fmt.Sprint(c.s.Org().Find("Account", "Name", "beta")[0]["Id"])
	c.want(204, "DELETE", v66+"/sobjects/Account/"+acc, "")
	if n := c.query("SELECT Id FROM Account WHERE Name = 'beta'").TotalSize; n != 0 {
		t.Error("query shows deleted records")
	}
	var p page
	c.want(200, "GET", v66+"/queryAll?q="+url.QueryEscape("SELECT Id, IsDeleted FROM Account WHERE IsDeleted = true"), "").decode(t, &p)
	if p.TotalSize != 1 || p.Records[0]["IsDeleted"] != true {
		t.Errorf("%+v", p)
	}
	if n := len(c.query("SELECT FIELDS(ALL) FROM Account LIMIT 1").Records[0]); n < 30 {
		t.Errorf("FIELDS(ALL) gives %d", n)
	}
}

func TestSOQLRefusals(t *testing.T) {
	c := start(t, emulator.Options{})
	for _, tc := range []struct{ soql, code, part string }{
		{"SELECT Foo FROM Account", "INVALID_FIELD", "\nSELECT Foo FROM Account\n       ^\nERROR at Row:1:Column:8\nNo such column 'Foo' on entity 'Account'."},
		{"SELECT Id FROM Foo", "INVALID_TYPE", "sObject type 'Foo' is not supported."},
		{"SELECT Foo.Name FROM Account", "INVALID_FIELD", "Didn't understand relationship 'Foo' in field path."},
		{"SELECT Id FROM Account WHERE", "MALFORMED_QUERY", "unexpected token: '<EOF>'"},
		{"SELECT FROM Account", "MALFORMED_QUERY", ""},
		{"SELECT Id, Id FROM Account", "MALFORMED_QUERY", "duplicate field selected: Id"},
		{"SELECT Id FROM Account WHERE Name = Acme", "INVALID_FIELD", "should be enclosed in quotes"},
		{"SELECT Id FROM Account WHERE AnnualRevenue = '5'", "INVALID_FIELD", "must be of type currency and should not be enclosed in quotes"},
		{"SELECT Id FROM Account WHERE Id = 'xyz'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: xyz"},
		{"SELECT Id FROM Account WHERE Description = 'x'", "INVALID_FIELD", "can not be filtered in a query call"},
		{"SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "2000"},
		{"SELECT FIELDS(ALL) FROM Account", "MALFORMED_QUERY", "200"},
		{"SELECT Id, COUNT(Name) FROM Account", "MALFORMED_QUERY", "Field must be grouped or aggregated: Id"},
		{`SELECT Id FROM Account WHERE Name = 'a\x'`, "MALFORMED_QUERY", "Illegal character sequence"},
		{"SELECT Id FROM Account WHERE Name = 'a", "MALFORMED_QUERY", ""},
		{"SELECT Id FROM Account WHERE " + strings.Repeat("(", 300), "QUERY_TOO_COMPLICATED", ""},
		{"SELECT Id, (SELECT Id FROM Nothing) FROM Account", "INVALID_TYPE", "Didn't understand relationship 'Nothing' in FROM part"},
	} {
		c.refused(c.do("GET", v66+"/query?q="+url.QueryEscape(tc.soql), ""), 400, tc.code, tc.part)
	}
	c.refused(c.do("GET", v66+"/query/01gD0000002HU6KIAW-2000", ""), 400, "INVALID_QUERY_LOCATOR", "")
}

func TestSOQLPaging(t *testing.T) {
	c := start(t, emulator.Options{})
	var text strings.Builder
	text.WriteString("Warehouse_Key__c,Name\n")
	for i := range 4500 {
		fmt.Fprintf(&text, "k%d,n%d\n", i, i)
	}
	c.load(upsertAccounts, text.String())
	p := c.query("SELECT Warehouse_Key__c FROM Account")
	seen := len(p.Records)
	if p.TotalSize != 4500 || seen != 2000 || p.Done {
		t.Fatal(p.TotalSize, seen, p.Done)
	}
	for !p.Done {
		next := p.Next
		p = page{}
		c.want(200, "GET", next, "").decode(t, &p)
		seen += len(p.Records)
	}
	if seen != 4500 {
		t.Fatal(seen)
	}
	c.want(200, "GET", v66+"/query?q="+url.QueryEscape("SELECT Id FROM Account"), "", "Sforce-Query-Options", "batchSize=250").decode(t, &p)
	if len(p.Records) != 250 {
		t.Fatal(len(p.Records))
	}
}

func TestBulkQuery(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, soqlOrg)})
	var j job
	c.want(200, "POST", v66+"/jobs/query", `{"operation":"query","query":"SELECT Name, Parent.Name, AnnualRevenue FROM Account ORDER BY Name"}`).decode(t, &j)
	path := v66 + "/jobs/query/" + j.ID
	for j.State != "JobComplete" {
		c.want(200, "GET", path, "").decode(t, &j)
	}
	a := c.want(200, "GET", path+"/results?maxRecords=2", "")
	if a.body != "\"Name\",\"Parent.Name\",\"AnnualRevenue\"\n\"Acme\",\"\",\"100.0\"\n\"beta\",\"Acme\",\"20.0\"\n" || a.header.Get("Sforce-NumberOfRecords") != "2" {
		t.Fatal(a.body, a.header)
	}
	a = c.want(200, "GET", path+"/results?locator="+a.header.Get("Sforce-Locator"), "")
	if a.header.Get("Sforce-Locator") != "null" || strings.Count(a.body, "\n") != 2 {
		t.Fatal(a.body, a.header)
	}
	c.want(409, "GET", strings.Replace(path, "v66", "v65", 1)+"/results", "")
	c.want(200, "GET", path+"/resultPages", "")
	c.refused(c.do("POST", v66+"/jobs/query", `{"operation":"query","query":"SELECT COUNT(Id) FROM Account"}`), 400, "MALFORMED_QUERY", "")
	c.want(204, "DELETE", path, "")
	c.want(404, "GET", path, "")
}
