package emulator_test

import (
	"net/url"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// Requests as clients in other languages put them on the wire.

// jsforce is the envelope that jsforce 3 sends: default namespaces, an empty
// SOAPAction.
func (c *client) jsforce(status int, api, space, body string) string {
	c.t.Helper()
	return c.want(status, "POST", "/services/Soap/"+api+"/50.0", `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Header xmlns="`+space+`"><SessionHeader><sessionId>`+c.token+`</sessionId></SessionHeader></soapenv:Header><soapenv:Body xmlns="`+space+`">`+body+`</soapenv:Body></soapenv:Envelope>`,
		"Content-Type", "text/xml", "SOAPAction", `""`, "Authorization", "").body
}

const (
	partner  = "urn:partner.soap.sforce.com"
	metadata = "http://soap.sforce.com/2006/04/metadata"
)

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Fatalf("want %s in %s", p, text)
		}
	}
}

func TestJSForceSOAP(t *testing.T) {
	c := start(t, emulator.Options{})
	a, b := c.insert("Account", `{"Name":"a"}`), c.insert("Account", `{"Name":"b"}`)
	contains(t, c.jsforce(200, "u", partner, `<merge><mergeRequests><masterRecord><type>Account</type><Id>`+a+`</Id></masterRecord><recordToMergeIds>`+b+`</recordToMergeIds></mergeRequests></merge>`),
		"<mergeResponse>", "<mergedRecordIds>"+b+"</mergedRecordIds><success>true</success>")
	contains(t, c.jsforce(500, "u", partner, `<merge><mergeRequests><masterRecord><type>Opportunity</type></masterRecord></mergeRequests></merge>`), "INVALID_TYPE_FOR_OPERATION: entity type does not support merge")
	contains(t, c.jsforce(500, "u", partner, `<merge><mergeRequests><masterRecord><Id>`+a+`</Id></masterRecord></mergeRequests></merge>`), "Missing entity type information")
	contains(t, c.jsforce(200, "u", partner, `<create xmlns="urn:partner.soap.sforce.com" xmlns:ns1="sobject.partner.soap.sforce.com"><ns1:sObjects><type>Account</type><Name>v</Name><Warehouse_Key__c>k</Warehouse_Key__c></ns1:sObjects><ns1:sObjects><type>Account</type></ns1:sObjects><ns1:sObjects><type>Order_Placed__e</type><Order_Number__c>1</Order_Number__c></ns1:sObjects></create>`),
		"<success>true</success>", "<statusCode>REQUIRED_FIELD_MISSING</statusCode>", "<statusCode>OPERATION_ENQUEUED</statusCode>")
	if len(c.s.Org().Published("Order_Placed__e")) != 1 {
		t.Fatal("the event was not published")
	}
	contains(t, c.jsforce(200, "u", partner, `<upsert><externalIDFieldName>Warehouse_Key__c</externalIDFieldName><sObjects><type>Account</type><fieldsToNull>Phone</fieldsToNull><Name>w</Name><Warehouse_Key__c>k</Warehouse_Key__c></sObjects></upsert>`), "<created>false</created>", "<success>true</success>")
	contains(t, c.jsforce(200, "u", partner, `<update><sObjects><type>Account</type><Id>`+a+`</Id><Name>u</Name></sObjects></update>`), "<id>"+a+"</id><success>true</success>")
	if c.s.Org().Find("Account", "Id", a)[0]["Name"] != "u" || c.s.Org().Find("Account", "Warehouse_Key__c", "k")[0]["Name"] != "w" {
		t.Fatal("not written")
	}
	contains(t, c.jsforce(200, "u", partner, `<delete><ids>`+a+`</ids><ids>`+a+`</ids></delete>`), "<success>true</success>", "<statusCode>ENTITY_IS_DELETED</statusCode>")
	lead := c.insert("Lead", `{"LastName":"l","Company":"co"}`)
	contains(t, c.jsforce(200, "u", partner, `<convertLead><leadConverts><leadId>`+lead+`</leadId><convertedStatus>Closed - Converted</convertedStatus><doNotCreateOpportunity>true</doNotCreateOpportunity></leadConverts></convertLead>`),
		"<accountId>001", "<contactId>003", `<opportunityId xsi:nil="true"/>`, "<success>true</success>")
	contains(t, c.jsforce(200, "u", partner, `<convertLead><leadConverts><leadId>`+lead+`</leadId><convertedStatus>Closed - Converted</convertedStatus></leadConverts></convertLead>`), "CANNOT_UPDATE_CONVERTED_LEAD")
	contains(t, c.jsforce(200, "u", partner, `<getServerTimestamp></getServerTimestamp>`), "<getServerTimestampResponse><result><timestamp>20")
	contains(t, c.jsforce(200, "u", partner, `<getUserInfo/>`), "<orgHasPersonAccounts>false</orgHasPersonAccounts>")
	if n := c.s.Counters(); n.Calls["soap.merge"] != 3 || n.Calls["soap.delete"] != 1 {
		t.Fatalf("%v", n.Calls)
	}
	c.jsforce(200, "u", partner, `<logout></logout>`)
	contains(t, c.jsforce(500, "u", partner, `<getUserInfo/>`), "sf:INVALID_SESSION_ID")
}

func TestJSForceMetadata(t *testing.T) {
	c := start(t, emulator.Options{})
	contains(t, c.jsforce(200, "m", metadata, `<listMetadata><queries><type>CustomField</type></queries><asOfVersion>60.0</asOfVersion></listMetadata>`), "<fullName>Account.Tier__c</fullName><id>00N")
	contains(t, c.jsforce(200, "m", metadata, `<upsertMetadata><metadata xsi:type="CustomField"><fullName>Account.Tier__c</fullName><label>Tier</label><type>Picklist</type><valueSet><restricted>true</restricted><valueSetDefinition><sorted>false</sorted><value><fullName>Plat</fullName><default>false</default><label>P</label></value></valueSetDefinition></valueSet></metadata></upsertMetadata>`),
		"<created>false</created><fullName>Account.Tier__c</fullName><success>true</success>")
	c.insert("Account", `{"Name":"x","Tier__c":"Plat"}`)
}

// The Salesforce CLI asks for a query's columns beside its records, and calls
// with Bearer tokens and gzip.
func TestCommandLineAsksForColumns(t *testing.T) {
	c := start(t, emulator.Options{})
	get := func(soql string) string {
		return c.want(200, "GET", v66+"/query?q="+url.QueryEscape(soql)+"&columns=true", "").body
	}
	contains(t, get("SELECT Id, name, Owner.Name, (SELECT LastName FROM Contacts) FROM Account"),
		`"entityName":"Account"`, `"columnName":"Name"`, `"columnName":"Owner"`, `"foreignKeyName":"OwnerId"`, `"columnName":"Contacts"`, `"columnName":"LastName"`, `"idSelected":true`, `"keyPrefix":"001"`)
	contains(t, get("SELECT COUNT(Id) n, MAX(Name), Industry FROM Account GROUP BY Industry"), `"aggregate":true`, `"columnName":"n"`, `"columnName":"expr0"`, `"groupBy":true`)
	contains(t, c.want(200, "GET", v66+"/tooling/query?q="+url.QueryEscape("SELECT DeveloperName FROM CustomField")+"&columns=true", "").body, `"columnName":"DeveloperName"`)
	c.refused(c.do("GET", v66+"/query?q="+url.QueryEscape("SELECT Nope FROM Account")+"&columns=true", ""), 400, "INVALID_FIELD", "No such column 'Nope'")
	if got := c.want(200, "GET", v66+"/recent", "").body; got != "[]" {
		t.Fatal(got)
	}
}

func TestSOAPLoginFaults(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, "[org]\nsecurity_token = 'TOK'\n")})
	login := func(status int, version, password string) string {
		return c.want(status, "POST", "/services/Soap/u/"+version, envelope("", `<login xmlns="urn:partner.soap.sforce.com"><username>`+c.s.Credentials().Username+`</username><password>`+password+`</password></login>`), "Content-Type", "text/xml", "SOAPAction", "login").body
	}
	contains(t, login(500, "60.0", "wrong"), `<sf:LoginFault xsi:type="sf:LoginFault"><sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode>`)
	contains(t, login(500, "60.0", "emulated-password"), "sf:LOGIN_MUST_USE_SECURITY_TOKEN")
	contains(t, login(500, "66.0", "emulated-passwordTOK"), "sf:INVALID_OPERATION")
	contains(t, login(200, "60.0", "emulated-passwordTOK"), "<sessionId>")
	c.s.AddFault(emulator.Fault{Match: "soap", Status: 500, Code: "SERVER_UNAVAILABLE", Message: "later"})
	contains(t, login(500, "60.0", "emulated-passwordTOK"), "<faultcode>sf:SERVER_UNAVAILABLE</faultcode>")
	c.s.SetAPICallsUsed(100000)
	contains(t, login(403, "60.0", "emulated-passwordTOK"), "sf:REQUEST_LIMIT_EXCEEDED")
	contains(t, c.want(403, "POST", async, "<jobInfo/>", "Content-Type", "application/xml").body, "<exceptionCode>ExceededQuota</exceptionCode><exceptionMessage>TotalRequests Limit exceeded.")
}
