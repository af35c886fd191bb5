package emulator_test

import (
	"net/url"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

const personOrg = `
[org]
person_accounts = true
[[objects]]
name = "Contact"
fields = [ { name = "Loyalty__c", length = 20 } ]
[[objects]]
name = "Account"
record_types = [ { developer_name = "PersonAccount", person = true }, { developer_name = "Business", default = true } ]
`

func (c *client) recordType(name string) string {
	c.t.Helper()
	p := c.query("SELECT Id FROM RecordType WHERE DeveloperName = '" + name + "'")
	if p.TotalSize != 1 {
		c.t.Fatalf("record type %s: %+v", name, p)
	}
	return p.Records[0]["Id"].(string)
}

func TestPersonAccounts(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, personOrg)})
	person := c.recordType("PersonAccount")
	a := c.want(200, "GET", v66+"/sobjects/Account/describe", "").body
	contains(t, a, `"name":"PersonEmail"`, `"name":"PersonMailingCity"`, `"name":"PersonMailingAddress"`, `"name":"Loyalty__pc"`, `"name":"PersonContactId"`, `"name":"IsPersonAccount"`)

	for body, want := range map[string]string{
		`{"RecordTypeId":"` + person + `","Name":"x","LastName":"y"}`:      "Account: bad field names on insert/update call: Name",
		`{"Name":"x","LastName":"y","PersonEmail":"a@b.cd"}`:               "Account: bad field names on insert/update call: LastName, PersonEmail",
		`{"Name":"x","PersonContactId":"003000000000001","LastName":null}`: "Unable to create/update fields: PersonContactId",
	} {
		c.refused(c.do("POST", v66+"/sobjects/Account", body), 400, "INVALID_FIELD_FOR_INSERT_UPDATE", want)
	}
	c.refused(c.do("POST", v66+"/sobjects/Account", `{"RecordTypeId":"`+person+`","FirstName":"x"}`), 400, "REQUIRED_FIELD_MISSING", "[LastName]")
	c.refused(c.do("POST", v66+"/sobjects/Account", `{"Phone":"1"}`), 400, "REQUIRED_FIELD_MISSING", "[Name]")

	if r := c.s.Org().Find("Account", "Id", c.insert("Account", `{"LastName":"Plain"}`))[0]; r["IsPersonAccount"] != true || r["RecordTypeId"] != person {
		t.Fatalf("a LastName alone made %v", r)
	}
	company := c.insert("Account", `{"Name":"Company"}`)
	ada := c.insert("Account", `{"RecordTypeId":"`+person+`","FirstName":"Ada","LastName":"Lovelace","PersonEmail":"Ada@B.cd","Loyalty__pc":"gold","PersonMailingCity":"London","Phone":"1"}`)
	get := func(id string) map[string]any { return c.s.Org().Find("Account", "Id", id)[0] }
	row := get(ada)
	if row["Name"] != "Ada Lovelace" || row["IsPersonAccount"] != true || get(company)["IsPersonAccount"] != false {
		t.Fatalf("%v", row)
	}
	contact := row["PersonContactId"].(string)
	shadow := func() map[string]any { return c.s.Org().Find("Contact", "Id", contact)[0] }
	if s := shadow(); s["AccountId"] != ada || s["LastName"] != "Lovelace" || s["Email"] != "ada@b.cd" || s["Loyalty__c"] != "gold" || s["MailingCity"] != "London" || s["Phone"] != "1" || s["IsPersonAccount"] != true {
		t.Fatalf("%v", s)
	}
	c.want(204, "PATCH", v66+"/sobjects/Account/"+ada, `{"LastName":"King","PersonEmail":null}`)
	if get(ada)["Name"] != "Ada King" || shadow()["LastName"] != "King" || shadow()["Email"] != nil {
		t.Fatalf("%v %v", get(ada), shadow())
	}
	c.want(204, "PATCH", v66+"/sobjects/Contact/"+contact, `{"FirstName":"A.","Title":"Countess"}`)
	if get(ada)["Name"] != "A. King" || get(ada)["PersonTitle"] != "Countess" {
		t.Fatalf("%v", get(ada))
	}
	c.refused(c.do("PATCH", v66+"/sobjects/Account/"+ada, `{"Name":"x"}`), 400, "INVALID_FIELD_FOR_INSERT_UPDATE", ": Name")
	const code = "INVALID_PERSON_ACCOUNT_OPERATION"
	c.refused(c.do("PATCH", v66+"/sobjects/Contact/"+contact, `{"AccountId":"`+company+`"}`), 400, code, "")
	c.refused(c.do("POST", v66+"/sobjects/Contact", `{"LastName":"x","AccountId":"`+ada+`"}`), 400, code, "")
	c.refused(c.do("DELETE", v66+"/sobjects/Contact/"+contact, ""), 400, code, "")
	c.refused(c.do("PATCH", v66+"/sobjects/Account/"+company, `{"RecordTypeId":"`+person+`"}`), 400, code, "")
	if p := c.query("SELECT Id FROM Account WHERE IsPersonAccount = true AND PersonContact.LastName = 'King'"); p.TotalSize != 1 {
		t.Fatalf("%+v", p)
	}
	for _, id := range []string{"Account/" + ada, "Account/" + company} {
		c.want(204, "DELETE", v66+"/sobjects/"+id, "")
	}
	if n := c.s.Org().Count("Contact"); n != 1 {
		t.Fatalf("%d contacts left", n)
	}
}

func TestPersonAccountsInOneTransaction(t *testing.T) {
	dir := t.TempDir()
	file := orgFile(t, personOrg)
	c := start(t, emulator.Options{OrgFile: file, Dir: dir})
	person := c.recordType("PersonAccount")
	records := func(last string) string {
		return `{"allOrNone":true,"records":[{"attributes":{"type":"Account"},"RecordTypeId":"` + person + `","LastName":"p"},{"attributes":{"type":"Account"},"RecordTypeId":"` + person + `"` + last + `}]}`
	}
	c.results(c.do("POST", v66+"/composite/sobjects", records("")))
	if c.s.Org().Count("Account") != 0 || c.s.Org().Count("Contact") != 0 {
		t.Fatal("half of a person stayed")
	}
	c.results(c.do("POST", v66+"/composite/sobjects", records(`,"LastName":"q"`)))
	// Bulk takes persons by RecordType.Name; the key of the contact is unique
	// beyond the accounts.
	c.insert("Contact", `{"LastName":"x","Warehouse_Key__c":"taken"}`)
	j := c.load(`{"object":"Account","operation":"upsert","externalIdFieldName":"Warehouse_Key__c"}`, "Warehouse_Key__c,LastName,RecordTypeId,Warehouse_Key__pc\n1,Bulk,"+person+",free\n2,Bulk,"+person+",taken\n")
	if j.Processed != 2 || j.Failed != 1 || !strings.HasPrefix(c.rows(j.ID, "failedResults")[0]["sf__Error"], "DUPLICATE_VALUE:duplicate value found: Warehouse_Key__c") {
		t.Fatalf("%+v", j)
	}
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	c = start(t, emulator.Options{OrgFile: file, Dir: dir})
	if c.s.Org().Count("Account") != 3 || c.s.Org().Count("Contact") != 4 || len(c.s.Org().Find("Contact", "Warehouse_Key__c", "free")) != 1 {
		t.Fatal("the persons are not what they were")
	}
}

func TestPersonsMerge(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, personOrg)})
	person := c.recordType("PersonAccount")
	add := func(name string) string {
		return c.insert("Account", `{"RecordTypeId":"`+person+`","LastName":"`+name+`"}`)
	}
	master, victim, company := add("m"), add("v"), c.insert("Account", `{"Name":"c"}`)
	contactOf := func(id string) string {
		return c.s.Org().Find("Account", "Id", id)[0]["PersonContactId"].(string)
	}
	kept, gone := contactOf(master), contactOf(victim)
	c.insert("Task", `{"Subject":"call","WhoId":"`+gone+`"}`)
	merge := func(id string) string {
		return c.jsforce(200, "u", partner, `<merge><request><masterRecord><type>Account</type><Id>`+master+`</Id></masterRecord><recordToMergeIds>`+id+`</recordToMergeIds></request></merge>`)
	}
	contains(t, merge(company), "<statusCode>INVALID_PERSON_ACCOUNT_OPERATION</statusCode>")
	contains(t, merge(victim), "<success>true</success>", "<updatedRelatedIds>00T")
	if contactOf(master) != kept || c.s.Org().Count("Contact") != 1 || len(c.s.Org().Find("Task", "WhoId", kept)) != 1 || c.s.Org().Find("Contact", "Id", kept)[0]["AccountId"] != master {
		t.Fatal("not merged")
	}
	var p page
	c.want(200, "GET", v66+"/queryAll?q="+url.QueryEscape("SELECT Id FROM Contact WHERE IsDeleted = true AND MasterRecordId = '"+kept+"'"), "").decode(t, &p)
	if p.TotalSize != 1 {
		t.Fatal(p)
	}
}

func TestIndividualsMerge(t *testing.T) {
	c := start(t, emulator.Options{})
	master, victim := c.insert("Individual", `{"LastName":"m"}`), c.insert("Individual", `{"LastName":"v","HasOptedOutSolicit":true}`)
	contact, lead := c.insert("Contact", `{"LastName":"c","IndividualId":"`+victim+`"}`), c.insert("Lead", `{"LastName":"c","Company":"x","IndividualId":"`+victim+`"}`)
	contains(t, c.jsforce(200, "u", partner, `<merge><request><masterRecord><type>Individual</type><Id>`+master+`</Id><HasOptedOutSolicit>true</HasOptedOutSolicit></masterRecord><recordToMergeIds>`+victim+`</recordToMergeIds></request></merge>`),
		"<success>true</success>", contact, lead)
	if got := c.s.Org().Records("Individual"); len(got) != 1 || got[0]["HasOptedOutSolicit"] != true || c.s.Org().Find("Contact", "Id", contact)[0]["IndividualId"] != master {
		t.Fatalf("%v", got)
	}
}

func TestRecordTypesOfTheUser(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, `
[[objects]]
name = "Account"
record_types = [ { developer_name = "Retail" }, { developer_name = "Old", inactive = true }, { developer_name = "Internal", unavailable = true } ]
[[objects]]
name = "Contact"
record_types = [ { developer_name = "Other" } ]
`)})
	c.insert("Account", `{"Name":"x","RecordTypeId":"`+c.recordType("Retail")+`"}`)
	for _, name := range []string{"Old", "Internal", "Other"} {
		id := c.recordType(name)
		c.refused(c.do("POST", v66+"/sobjects/Account", `{"Name":"x","RecordTypeId":"`+id+`"}`), 400, "INVALID_CROSS_REFERENCE_KEY", "Record Type ID: this ID value isn't valid for the user: "+id)
	}
	var d struct {
		RecordTypeInfos []struct {
			DeveloperName             string
			Active, Available, Master bool
		}
	}
	c.want(200, "GET", v66+"/sobjects/Account/describe", "").decode(t, &d)
	for _, rt := range d.RecordTypeInfos {
		if rt.Active != (rt.DeveloperName != "Old") || rt.Available != (rt.DeveloperName == "Retail" || rt.Master) {
			t.Fatalf("%+v", rt)
		}
	}
}
