package emulator_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

const async = "/services/async/66.0/job"

func (c *client) classic(body, content string) string {
	c.t.Helper()
	a := c.want(201, "POST", async, body, "X-SFDC-Session", c.token, "Content-Type", content)
	if content == "application/json" {
		var j struct{ ID string }
		a.decode(c.t, &j)
		return j.ID
	}
	return between(a.body, "<id>", "</id>")
}

func between(s, from, to string) string {
	_, rest, _ := strings.Cut(s, from)
	out, _, _ := strings.Cut(rest, to)
	return out
}

func (c *client) awaitBatch(job, batch string) string {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		a := c.want(200, "GET", async+"/"+job+"/batch/"+batch, "", "X-SFDC-Session", c.token)
		for _, state := range []string{"Completed", "Failed", "NotProcessed"} {
			if strings.Contains(a.body, ">"+state+"<") || strings.Contains(a.body, `"`+state+`"`) {
				return a.body
			}
		}
		time.Sleep(time.Millisecond) // an org has no call that waits for a batch
	}
	c.t.Fatal("the batch does not end")
	return ""
}

func TestBulk1CSV(t *testing.T) {
	c := start(t, emulator.Options{})
	c.insert("Account", `{"Name":"old","Warehouse_Key__c":"1"}`)
	create := `<?xml version="1.0" encoding="UTF-8"?><jobInfo xmlns="http://www.force.com/2009/06/asyncapi/dataload"><operation>upsert</operation><object>Account</object><externalIdFieldName>Warehouse_Key__c</externalIdFieldName><concurrencyMode>Serial</concurrencyMode><contentType>CSV</contentType></jobInfo>`
	id := c.classic(create, "application/xml; charset=UTF-8")
	h := []string{"X-SFDC-Session", c.token, "Content-Type", "text/csv; charset=UTF-8"}
	a := c.want(201, "POST", async+"/"+id+"/batch", "Warehouse_Key__c,Name,AnnualRevenue\n1,new,5\n2,,\n3,three,x\n4,four,\n", h...)
	batch := between(a.body, "<id>", "</id>")
	if !strings.HasPrefix(batch, "751") || !strings.Contains(a.body, "<state>Queued</state>") {
		t.Fatal(a.body)
	}
	if info := c.awaitBatch(id, batch); !strings.Contains(info, "<numberRecordsFailed>2</numberRecordsFailed>") {
		t.Fatal(info)
	}
	lines := strings.Split(c.want(200, "GET", async+"/"+id+"/batch/"+batch+"/result", "", h...).body, "\n")
	if lines[0] != `"Id","Success","Created","Error"` || !strings.HasSuffix(lines[1], `","true","false",""`) || lines[2] != `"","false","false","REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --"` ||
		!strings.Contains(lines[3], "xsd:double:AnnualRevenue --") || !strings.HasSuffix(lines[4], `"true","true",""`) {
		t.Fatal(lines)
	}
	if got := c.want(200, "GET", async+"/"+id+"/batch/"+batch+"/request", "", h...).body; !strings.HasPrefix(got, "Warehouse_Key__c,Name") {
		t.Fatal(got)
	}
	closed := c.want(200, "POST", async+"/"+id, `<jobInfo xmlns="http://www.force.com/2009/06/asyncapi/dataload"><state>Closed</state></jobInfo>`, "X-SFDC-Session", c.token, "Content-Type", "application/xml").body
	if !strings.Contains(closed, "<state>Closed</state>") || !strings.Contains(closed, "<numberBatchesTotal>1</numberBatchesTotal>") {
		t.Fatal(closed)
	}
	if a := c.want(400, "POST", async+"/"+id+"/batch", "Name\nx\n", h...); !strings.Contains(a.body, "<exceptionCode>InvalidJobState</exceptionCode>") {
		t.Fatal(a.body)
	}
	if a := c.want(400, "GET", async+"/"+id, "", "X-SFDC-Session", "dead", "Authorization", "", "Content-Type", "application/xml"); !strings.Contains(a.body, "<exceptionCode>InvalidSessionId</exceptionCode><exceptionMessage>Invalid session id</exceptionMessage>") {
		t.Fatal(a.body)
	}
	if a := c.want(400, "POST", async, strings.Replace(create, "<operation>upsert</operation><object>Account</object>", "<object>Account</object><operation>upsert</operation>", 1), "Content-Type", "application/xml"); !strings.Contains(a.body, "InvalidXML") {
		t.Fatal(a.body)
	}
}

func TestBulk1JSONAndXML(t *testing.T) {
	c := start(t, emulator.Options{})
	id := c.classic(`{"operation":"insert","object":"Contact","contentType":"JSON"}`, "application/json")
	var b struct{ ID string }
	c.want(201, "POST", async+"/"+id+"/batch", `[{"LastName":"#N/A"},{"FirstName":"x"},{"LastName":"z","Foo":1}]`, "X-SFDC-Session", c.token).decode(t, &b)
	c.awaitBatch(id, b.ID)
	var rs []result
	c.want(200, "GET", async+"/"+id+"/batch/"+b.ID+"/result", "").decode(t, &rs)
	if len(rs) != 3 || !rs[0].Success || rs[1].Errors[0].StatusCode != "REQUIRED_FIELD_MISSING" || rs[2].Errors[0].StatusCode != "INVALID_FIELD" {
		t.Fatalf("%+v", rs)
	}
	id = c.classic(`<jobInfo xmlns="x"><operation>upsert</operation><object>Account</object><externalIdFieldName>Warehouse_Key__c</externalIdFieldName><contentType>XML</contentType></jobInfo>`, "application/xml")
	a := c.want(201, "POST", async+"/"+id+"/batch", `<sObjects xmlns="x" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><sObject><Warehouse_Key__c>1</Warehouse_Key__c><Name>n</Name><AnnualRevenue>5</AnnualRevenue><Phone xsi:nil="true"/></sObject></sObjects>`, "Content-Type", "application/xml")
	batch := between(a.body, "<id>", "</id>")
	c.awaitBatch(id, batch)
	if a := c.want(200, "GET", async+"/"+id+"/batch/"+batch+"/result", ""); !strings.Contains(a.body, "<success>true</success><created>true</created>") {
		t.Fatal(a.body)
	}
}

func envelope(token, body string) string {
	return `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Header><SessionHeader><sessionId>` + token + `</sessionId></SessionHeader></e:Header><e:Body>` + body + `</e:Body></e:Envelope>`
}

func TestSOAPLoginAndMerge(t *testing.T) {
	c := start(t, emulator.Options{})
	k := c.s.Credentials()
	login := func(password string) string {
		return envelope("", `<login xmlns="urn:partner.soap.sforce.com"><username>`+k.Username+`</username><password>`+password+`</password></login>`)
	}
	xml := []string{"Content-Type", "text/xml", "SOAPAction", "login"}
	if a := c.want(500, "POST", "/services/Soap/u/60.0", login("wrong"), xml...); !strings.Contains(a.body, "<faultcode>sf:INVALID_LOGIN</faultcode>") {
		t.Fatal(a.body)
	}
	c.want(500, "POST", "/services/Soap/u/66.0", login(k.Password), xml...)
	a := c.want(200, "POST", "/services/Soap/u/60.0", login(k.Password), xml...)
	token := between(a.body, "<sessionId>", "</sessionId>")
	if token == "" || !strings.Contains(a.body, "<passwordExpired>false</passwordExpired>") {
		t.Fatal(a.body)
	}
	master := c.insert("Account", `{"Name":"m"}`)
	v1, v2 := c.insert("Account", `{"Name":"v1","Phone":"1"}`), c.insert("Account", `{"Name":"v2"}`)
	con := c.insert("Contact", `{"LastName":"c","AccountId":"`+v1+`"}`)
	merge := envelope(token, `<merge xmlns="urn:partner.soap.sforce.com"><request><masterRecord><type>Account</type><Id>`+master+`</Id><Phone>1</Phone></masterRecord><recordToMergeIds>`+v1+`</recordToMergeIds><recordToMergeIds>`+v2+`</recordToMergeIds></request></merge>`)
	a = c.want(200, "POST", "/services/Soap/u/66.0", merge, xml...)
	if !strings.Contains(a.body, "<success>true</success>") || !strings.Contains(a.body, "<updatedRelatedIds>"+con) {
		t.Fatal(a.body)
	}
	if c.s.Org().Count("Account") != 1 || c.s.Org().Find("Contact", "Id", con)[0]["AccountId"] != master || c.s.Org().Find("Account", "Id", master)[0]["Phone"] != "1" {
		t.Fatal("not merged")
	}
	var p page
	c.want(200, "GET", v66+"/queryAll?q="+url.QueryEscape("SELECT Id FROM Account WHERE IsDeleted = true AND MasterRecordId = '"+master+"'"), "").decode(t, &p)
	if p.TotalSize != 2 {
		t.Fatal(p)
	}
	if a = c.want(200, "POST", "/services/Soap/u/66.0", merge, xml...); !strings.Contains(a.body, "<statusCode>ENTITY_IS_DELETED</statusCode>") {
		t.Fatal(a.body)
	}
	if a = c.want(500, "POST", "/services/Soap/u/66.0", strings.Replace(merge, token, "x", 1), xml...); !strings.Contains(a.body, "sf:INVALID_SESSION_ID") {
		t.Fatal(a.body)
	}
}

func TestPicklistValues(t *testing.T) {
	c := start(t, emulator.Options{})
	q := c.want(200, "GET", v66+"/tooling/query?q="+url.QueryEscape("SELECT Id, FullName, Metadata FROM CustomField WHERE TableEnumOrId = 'Account' AND DeveloperName = 'Tier'"), "")
	var found struct {
		Records []struct {
			ID       string `json:"Id"`
			FullName string
			Metadata map[string]any
		}
	}
	q.decode(t, &found)
	if len(found.Records) != 1 || found.Records[0].FullName != "Account.Tier__c" {
		t.Fatal(q.body)
	}
	path := v66 + "/tooling/sobjects/CustomField/" + found.Records[0].ID
	c.refused(c.do("PATCH", path, `{"Metadata":{"valueSet":{"valueSetDefinition":{"value":[]}}}}`), 400, "FIELD_INTEGRITY_EXCEPTION", "Required field is missing: label")
	meta := found.Records[0].Metadata
	meta["valueSet"].(map[string]any)["valueSetDefinition"].(map[string]any)["value"] = []map[string]any{{"valueName": "Gold", "label": "Gold"}, {"valueName": "Diamond", "label": "Diamond"}}
	body, err := json.Marshal(map[string]any{"FullName": "Account.Tier__c", "Metadata": meta})
	if err != nil {
		t.Fatal(err)
	}
	before := c.want(200, "GET", v66+"/sobjects/Account/describe", "")
	c.s.Org().AdvanceTime(time.Second)
	c.want(204, "PATCH", path, string(body))
	c.insert("Account", `{"Name":"x","Tier__c":"Diamond"}`)
	c.refused(c.do("POST", v66+"/sobjects/Account", `{"Name":"x","Tier__c":"Bronze"}`), 400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "")
	if after := c.want(200, "GET", v66+"/sobjects/Account/describe", ""); strings.Contains(after.body, `"Bronze"`) || !strings.Contains(after.body, "Diamond") || before.body == after.body {
		t.Fatal("describe does not show the change")
	}
	soap := envelope(c.token, `<updateMetadata xmlns="http://soap.sforce.com/2006/04/metadata" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><metadata xsi:type="CustomField"><fullName>Account.Tier__c</fullName><label>Tier</label><type>Picklist</type><valueSet><restricted>true</restricted><valueSetDefinition><sorted>false</sorted><value><fullName>Bronze</fullName><default>false</default><label>Bronze</label></value></valueSetDefinition></valueSet></metadata></updateMetadata>`)
	if a := c.want(200, "POST", "/services/Soap/m/66.0", soap, "Content-Type", "text/xml"); !strings.Contains(a.body, "<success>true</success>") {
		t.Fatal(a.body)
	}
	read := envelope(c.token, `<readMetadata xmlns="http://soap.sforce.com/2006/04/metadata"><type>CustomField</type><fullNames>Account.Tier__c</fullNames></readMetadata>`)
	if a := c.want(200, "POST", "/services/Soap/m/66.0", read, "Content-Type", "text/xml"); !strings.Contains(a.body, "<fullName>Diamond</fullName><default>false</default><isActive>false</isActive>") {
		t.Fatal(a.body)
	}
}

func TestComposite(t *testing.T) {
	c := start(t, emulator.Options{})
	body := `{"allOrNone":%v,"compositeRequest":[
		{"method":"POST","url":"` + v66 + `/sobjects/Account","referenceId":"a","body":{"Name":"x"}},
		{"method":"POST","url":"` + v66 + `/sobjects/Contact","referenceId":"b","body":{"LastName":"y","AccountId":"@{a.id}"}},
		{"method":"GET","url":"` + v66 + `/query?q=SELECT+Name+FROM+Account+WHERE+Id='@{a.id}'","referenceId":"q"},
		{"method":"PATCH","url":"` + v66 + `/sobjects/Contact/@{b.id}","referenceId":"c","body":{"%s":"z"}}]}`
	type answers struct {
		CompositeResponse []struct {
			Body           json.RawMessage
			HTTPStatusCode int `json:"httpStatusCode"`
			ReferenceID    string
		}
	}
	var out answers
	c.want(200, "POST", v66+"/composite", fmt.Sprintf(body, true, "FirstName")).decode(t, &out)
	for i, want := range []int{201, 201, 200, 204} {
		if out.CompositeResponse[i].HTTPStatusCode != want {
			t.Fatalf("%d: %s", i, out.CompositeResponse[i].Body)
		}
	}
	out = answers{}
	c.want(200, "POST", v66+"/composite", fmt.Sprintf(body, true, "Nope")).decode(t, &out)
	if r := out.CompositeResponse; r[3].HTTPStatusCode != 400 || !strings.Contains(string(r[0].Body), "PROCESSING_HALTED") || c.s.Org().Count("Account") != 1 || c.s.Org().Count("Contact") != 1 {
		t.Fatalf("%+v", out)
	}
	var batch struct {
		HasErrors bool
		Results   []struct{ StatusCode int }
	}
	c.want(200, "POST", v66+"/composite/batch", `{"batchRequests":[{"method":"GET","url":"v66.0/limits"},{"method":"GET","url":"v66.0/sobjects/Nope"}]}`).decode(t, &batch)
	if !batch.HasErrors || batch.Results[0].StatusCode != 200 || batch.Results[1].StatusCode != 404 {
		t.Fatalf("%+v", batch)
	}
	tree := `{"records":[{"attributes":{"type":"Account","referenceId":"r1"},"Name":"t","Contacts":{"records":[{"attributes":{"type":"Contact","referenceId":"r2"},"%s":"k"}]}}]}`
	c.want(201, "POST", v66+"/composite/tree/Account", fmt.Sprintf(tree, "LastName"))
	if a := c.want(400, "POST", v66+"/composite/tree/Account", fmt.Sprintf(tree, "FirstName")); !strings.Contains(a.body, `"hasErrors":true,"results":[{"referenceId":"r2","errors":[{"statusCode":"REQUIRED_FIELD_MISSING"`) || c.s.Org().Count("Account") != 2 {
		t.Fatal(a.body)
	}
}

func TestReplicationAndConversion(t *testing.T) {
	c := start(t, emulator.Options{})
	id := c.insert("Account", `{"Name":"x"}`)
	gone := c.insert("Account", `{"Name":"y"}`)
	c.want(204, "DELETE", v66+"/sobjects/Account/"+gone, "")
	c.s.Org().AdvanceTime(2 * time.Minute)
	now := c.s.Org().Clock().UTC()
	window := "?start=" + url.QueryEscape(now.Add(-time.Hour).Format(time.RFC3339)) + "&end=" + url.QueryEscape(now.Format(time.RFC3339))
	if a := c.want(200, "GET", v66+"/sobjects/Account/updated/"+window, ""); !strings.Contains(a.body, `"ids":["`+id+`"]`) {
		t.Fatal(a.body)
	}
	if a := c.want(200, "GET", v66+"/sobjects/Account/deleted/"+window, ""); !strings.Contains(a.body, `"id":"`+gone+`"`) {
		t.Fatal(a.body)
	}
	lead := c.insert("Lead", `{"LastName":"l","Company":"co","Warehouse_Key__c":"L"}`)
	c.want(200, "POST", "/emulator/convert-lead", `{"leadId":"`+lead+`"}`)
	c.refused(c.do("PATCH", v66+"/sobjects/Lead/Warehouse_Key__c/L", `{"Phone":"1"}`), 400, "CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
	if c.s.Org().Count("Opportunity") != 1 || c.s.Org().Count("Contact") != 1 {
		t.Fatal("nothing came of the lead")
	}
}

func TestRulesOfTheOrgFile(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, `
[[objects]]
name = "Contact"
fields = [ { name = "Secret__c", hidden = true }, { name = "Initial__c", formula = 'LastName[0:1]' } ]
record_types = [ { developer_name = "Partner", picklists = { Salutation = ["Dr."] } } ]
validation_rules = [ { name = "No_Smith", when = "LastName == 'Smith' && ISNEW", message = "No Smiths, please", field = "LastName" } ]
duplicate_rules = [ { name = "Same_Email", fields = ["Email"], action = "alert" } ]
`)})
	c.refused(c.do("POST", v66+"/sobjects/Contact", `{"LastName":"Smith"}`), 400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", "No Smiths, please")
	c.refused(c.do("POST", v66+"/sobjects/Contact", `{"LastName":"x","Secret__c":"s"}`), 400, "INVALID_FIELD", "No such column 'Secret__c'")
	id := c.insert("Contact", `{"LastName":"x","Email":"a@b.cd"}`)
	a := c.do("POST", v66+"/sobjects/Contact", `{"LastName":"y","Email":"A@b.cd"}`)
	c.refused(a, 400, "DUPLICATES_DETECTED", "")
	contains(t, a.body, `"duplicateResut":{"allowSave":true,"duplicateRule":"Same_Email"`, `"matchRecords":[{`, `"Id":"`+id+`"`)
	contains(t, c.jsforce(200, "u", partner, `<findDuplicates><sObjects><type>Contact</type><Email>A@b.cd</Email></sObjects><sObjects><type>Contact</type><Email>c@b.cd</Email></sObjects></findDuplicates>`),
		"<duplicateRule>Same_Email</duplicateRule>", "<record><type>Contact</type><Id>"+id+"</Id></record>", "</duplicateResults><success>true</success></result><result><success>true</success></result>")
	c.want(201, "POST", v66+"/sobjects/Contact", `{"LastName":"y","Email":"A@b.cd"}`, "Sforce-Duplicate-Rule-Header", "allowSave=true")
	if a := c.want(200, "GET", v66+"/sobjects/Contact/"+id+"?fields=Initial__c", ""); !strings.Contains(a.body, `"Initial__c":"x"`) {
		t.Fatal(a.body)
	}
	for name, text := range map[string]string{
		"unknown key":    "[[objects]]\nname = \"X__c\"\nlable = \"x\"",
		"unknown type":   "[[objects]]\nname = \"X__c\"\nfields = [ { name = \"A__c\", type = \"thing\" } ]",
		"unknown target": "[[objects]]\nname = \"X__c\"\nfields = [ { name = \"A__c\", type = \"reference\", reference_to = [\"Nope\"] } ]",
		"bad rule":       "[[objects]]\nname = \"X__c\"\nvalidation_rules = [ { name = \"r\", when = \"1 +\", message = \"m\" } ]",
		"bad record":     "[[records]]\nobject = \"Account\"\nvalues = { Phone = \"1\" }",
	} {
		if s, err := emulator.Start(t.Context(), emulator.Options{OrgFile: orgFile(t, text)}); err == nil {
			t.Errorf("%s: the org starts", name)
			_ = s.Close()
		}
	}
}

func TestBulk1Query(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, soqlOrg)})
	for content, want := range map[string]string{
		"CSV":  "\"Name\",\"Parent.Name\"\n\"Acme\",\"\"\n\"beta\",\"Acme\"\n",
		"XML":  `<records xsi:type="sObject"><type>Account</type><Name>beta</Name><Parent.Name>Acme</Parent.Name></records></queryResult>`,
		"JSON": `"Name":"beta","Parent":{"attributes":{`,
	} {
		kind := map[string]string{"CSV": "application/xml", "XML": "application/xml", "JSON": "application/json"}[content]
		create := `<jobInfo xmlns="x"><operation>query</operation><object>Account</object><contentType>` + content + `</contentType></jobInfo>`
		if content == "JSON" {
			create = `{"operation":"query","object":"Account","contentType":"JSON"}`
		}
		id := c.classic(create, kind)
		soql := func(text string) string {
			a := c.want(201, "POST", async+"/"+id+"/batch", text, "Content-Type", "text/csv", "Sforce-Enable-PKChunking", "chunkSize=100000")
			if content == "JSON" {
				var b struct{ ID string }
				a.decode(t, &b)
				return b.ID
			}
			return between(a.body, "<id>", "</id>")
		}
		batch := soql("SELECT Name, Parent.Name FROM Account WHERE Industry = 'Banking' ORDER BY Name")
		c.awaitBatch(id, batch)
		list := c.want(200, "GET", async+"/"+id+"/batch/"+batch+"/result", "").body
		result := list[strings.Index(list, "752"):][:18]
		if got := c.want(200, "GET", async+"/"+id+"/batch/"+batch+"/result/"+result, "").body; !strings.Contains(got, want) {
			t.Errorf("%s: got %s", content, got)
		}
		if info := c.awaitBatch(id, soql("SELECT Nope FROM Account")); !strings.Contains(info, "Failed to process query: INVALID_FIELD") {
			t.Errorf("%s: %s", content, info)
		}
	}
}
