package emulator_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

const valueSetOrg = `
[[global_value_sets]]
name = "Segments"
values = ["Small", "Large"]
default = "Small"
[[objects]]
name = "Account"
fields = [ { name = "Segment__c", type = "picklist", value_set = "Segments", restricted = true }, { name = "Served__c", type = "multipicklist", value_set = "Segments", restricted = true } ]
`

func TestGlobalValueSetsBySOAP(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, valueSetOrg)})
	read := func(typ, name string) string {
		return c.jsforce(200, "m", metadata, `<readMetadata><type>`+typ+`</type><fullNames>`+name+`</fullNames></readMetadata>`)
	}
	contains(t, read("CustomField", "Account.Segment__c"), "<valueSet><restricted>true</restricted><valueSetName>Segments</valueSetName></valueSet>")
	contains(t, read("GlobalValueSet", "Segments"), `<records xsi:type="GlobalValueSet"><fullName>Segments</fullName><customValue><fullName>Small</fullName><default>true</default>`, "<masterLabel>Segments</masterLabel><sorted>false</sorted>")
	contains(t, read("GlobalValueSet", "Nope"), `<records xsi:nil="true"/>`)
	contains(t, c.jsforce(200, "m", metadata, `<listMetadata><queries><type>GlobalValueSet</type></queries></listMetadata>`), "<fullName>Segments</fullName><id>0Nt")
	update := func(inner string) string {
		return c.jsforce(200, "m", metadata, `<updateMetadata><metadata xsi:type="GlobalValueSet"><fullName>Segments</fullName>`+inner+`</metadata></updateMetadata>`)
	}
	contains(t, update(""), "Required field is missing: masterLabel")
	c.refused(c.do("POST", v66+"/sobjects/Account", `{"Name":"x","Segment__c":"Huge"}`), 400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Huge")
	contains(t, update(`<customValue><fullName>Large</fullName><default>false</default><label>Big</label></customValue><customValue><fullName>Huge</fullName><default>false</default><label>Huge</label></customValue><masterLabel>Segments</masterLabel><sorted>false</sorted>`), "<success>true</success>")
	c.insert("Account", `{"Name":"x","Segment__c":"Huge","Served__c":"Huge;Large"}`)
	c.refused(c.do("POST", v66+"/sobjects/Account", `{"Name":"x","Segment__c":"Small"}`), 400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Small")
	contains(t, read("GlobalValueSet", "Segments"), "<fullName>Small</fullName><default>false</default><isActive>false</isActive>", "<label>Big</label>")
	field := c.jsforce(200, "m", metadata, `<updateMetadata><metadata xsi:type="CustomField"><fullName>Account.Segment__c</fullName><label>S</label><type>Picklist</type><valueSet><valueSetDefinition><sorted>false</sorted></valueSetDefinition></valueSet></metadata></updateMetadata>`)
	contains(t, field, "<statusCode>FIELD_INTEGRITY_EXCEPTION</statusCode>")
}

func TestGlobalValueSetsByTooling(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, valueSetOrg)})
	var found struct {
		Records []struct {
			ID       string `json:"Id"`
			FullName string
			Metadata map[string]any
		}
	}
	c.want(200, "GET", v66+"/tooling/query?q="+url.QueryEscape("SELECT Id, FullName, Metadata FROM GlobalValueSet WHERE DeveloperName = 'Segments'"), "").decode(t, &found)
	if len(found.Records) != 1 || found.Records[0].FullName != "Segments" || !strings.HasPrefix(found.Records[0].ID, "0Nt") {
		t.Fatalf("%+v", found)
	}
	path := v66 + "/tooling/sobjects/GlobalValueSet/" + found.Records[0].ID
	c.refused(c.do("PATCH", path, `{"Metadata":{"customValue":[]}}`), 400, "FIELD_INTEGRITY_EXCEPTION", "masterLabel")
	meta := found.Records[0].Metadata
	meta["customValue"] = append(meta["customValue"].([]any), map[string]any{"valueName": "Huge", "label": "Huge"})
	body, err := json.Marshal(map[string]any{"FullName": "Segments", "Metadata": meta})
	if err != nil {
		t.Fatal(err)
	}
	c.want(204, "PATCH", path, string(body))
	contains(t, c.want(200, "GET", path, "").body, `"valueName":"Huge"`)
	contains(t, c.want(200, "GET", v66+"/sobjects/Account/describe", "").body, `"value":"Huge"`)
	c.insert("Account", `{"Name":"x","Segment__c":"Huge"}`)
	contains(t, c.want(200, "GET", v66+"/tooling/query?q="+url.QueryEscape("SELECT Id, Metadata FROM CustomField WHERE TableEnumOrId = 'Account' AND DeveloperName = 'Segment'"), "").body, `"valueSetName":"Segments"`)
}

func TestRecordTypesNarrowPicklists(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, `
[[objects]]
name = "Account"
record_types = [ { developer_name = "Partner", picklists = { Tier__c = ["Gold"] } }, { developer_name = "Standard", default = true } ]
`)})
	partner := c.recordType("Partner")
	contains(t, c.want(200, "GET", v66+"/sobjects/Account/describe", "").body, `"developerName":"Partner"`, `"defaultRecordTypeMapping":true,"developerName":"Standard"`, `"value":"Silver"`)
	c.refused(c.do("POST", v66+"/sobjects/Account", `{"Name":"x","Tier__c":"Silver","RecordTypeId":"`+partner+`"}`), 400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Tier: bad value for restricted picklist field: Silver")
	id := c.insert("Account", `{"Name":"x","Tier__c":"Gold","RecordTypeId":"`+partner+`"}`)
	c.refused(c.do("PATCH", v66+"/sobjects/Account/"+id, `{"Tier__c":"Silver"}`), 400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Silver")
	free := c.insert("Account", `{"Name":"y","Tier__c":"Silver"}`)
	if c.s.Org().Find("Account", "Id", free)[0]["RecordTypeId"] != c.recordType("Standard") {
		t.Fatal("the default record type was not given")
	}
	j := c.load(`{"object":"Account","operation":"insert"}`, "Name,Tier__c,RecordType.Name\na,Silver,Partner\nb,Gold,Partner\n")
	if j.Failed != 1 || j.Processed != 2 {
		t.Fatalf("%+v", j)
	}
}

func TestAssignmentRules(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, `
[[objects]]
name = "Lead"
assignment_rules = [ { name = "Banks", when = "Industry == 'Banking'", owner = "Bank_Queue" }, { name = "Others", owner = "browser.admin@emulated.example" } ]
[[records]]
object = "Group"
values = { Name = "Banks", DeveloperName = "Bank_Queue", Type = "Queue" }
`)})
	me := c.query("SELECT Id FROM User WHERE Username = '" + c.s.Credentials().Username + "'").Records[0]["Id"].(string)
	owner := func(id string) string { return c.s.Org().Find("Lead", "Id", id)[0]["OwnerId"].(string) }
	bank := `{"LastName":"x","Company":"y","Industry":"Banking","OwnerId":"` + me + `"}`
	if got := owner(c.insert("Lead", bank)); got[:3] != "00G" {
		t.Fatalf("owner %s, want the queue", got)
	}
	if got := owner(c.insert("Lead", `{"LastName":"x","Company":"y"}`)); got == me {
		t.Fatal("the second rule did not apply")
	}
	var r result
	c.want(201, "POST", v66+"/sobjects/Lead", bank, "Sforce-Auto-Assign", "FALSE").decode(t, &r)
	if owner(r.ID) != me {
		t.Fatal("the owner was changed although the client asked not to")
	}
	var rs []result
	c.want(200, "POST", v66+"/composite/sobjects", `{"records":[{"attributes":{"type":"Lead"},`+bank[1:]+`]}`, "Sforce-Auto-Assign", "false").decode(t, &rs)
	if owner(rs[0].ID) != me {
		t.Fatal("Collections do not heed Sforce-Auto-Assign")
	}
	rows := "LastName,Company,Industry,Warehouse_Key__c\nx,y,Banking,"
	c.load(`{"object":"Lead","operation":"insert"}`, rows+"b1\n")
	c.load(`{"object":"Lead","operation":"insert","assignmentRuleId":"01Q000000000001"}`, rows+"b2\n")
	if c.s.Org().Find("Lead", "Warehouse_Key__c", "b1")[0]["OwnerId"] != me || c.s.Org().Find("Lead", "Warehouse_Key__c", "b2")[0]["OwnerId"] == me {
		t.Fatal("Bulk assigns where assignmentRuleId is given, and only there")
	}
}
