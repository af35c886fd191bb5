package emulator_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

func basic(id, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(id + ":" + secret))
}

func TestDiscoveryAndLimits(t *testing.T) {
	c := start(t, emulator.Options{DailyAPICalls: 12})
	a := c.want(200, "GET", "/services/data/", "", "Authorization", "")
	if !strings.Contains(a.body, `"label":"Summer '26","url":"/services/data/v67.0"`) || a.header.Get("Sforce-Limit-Info") != "" {
		t.Fatal(a.body)
	}
	a = c.want(200, "GET", v66+"/", "")
	if a.header.Get("Sforce-Limit-Info") != "api-usage=1/12" || !strings.Contains(a.body, `"sobjects":"/services/data/v66.0/sobjects"`) {
		t.Fatal(a.header, a.body)
	}
	c.refused(c.do("GET", "/services/data/v99.0/limits", ""), 404, "NOT_FOUND", "")
	c.want(410, "GET", "/services/data/v29.0/limits", "")
	c.refused(c.do("GET", v66+"/sobjects/Nope/describe", ""), 404, "NOT_FOUND", "")
	c.refused(c.do("PUT", v66+"/sobjects/Account/001000000000000", ""), 405, "METHOD_NOT_ALLOWED", "")
	c.want(414, "GET", v66+"/query?q="+strings.Repeat("a", 17000), "")
	c.want(431, "GET", v66+"/query?q="+strings.Repeat("a", 16000), "", "X-Long", strings.Repeat("b", 1000))
	var lim map[string]struct{ Max, Remaining int }
	c.want(200, "GET", v66+"/limits/", "").decode(t, &lim)
	if lim["DailyApiRequests"].Max != 12 || lim["DailyApiRequests"].Remaining >= 12 {
		t.Fatalf("%+v", lim["DailyApiRequests"])
	}
	for range 12 {
		c.do("GET", v66+"/limits", "")
	}
	c.refused(c.do("GET", v66+"/limits", ""), 403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
}

func TestDescribe(t *testing.T) {
	c := start(t, emulator.Options{})
	var d struct {
		Name, KeyPrefix    string
		Fields             []map[string]any
		ChildRelationships []map[string]any
		RecordTypeInfos    []map[string]any
	}
	a := c.want(200, "GET", v66+"/sobjects/Account/describe", "")
	a.decode(t, &d)
	fields := map[string]map[string]any{}
	for _, f := range d.Fields {
		fields[fmt.Sprint(f["name"])] = f
	}
	for _, tc := range []struct {
		field, key string
		want       any
	}{
		{"Name", "nillable", false}, {"Name", "length", "255"}, {"Name", "extraTypeInfo", "switchablepersonname"},
		{"Warehouse_Key__c", "externalId", true}, {"Warehouse_Key__c", "unique", true}, {"Warehouse_Key__c", "caseSensitive", true}, {"Warehouse_Key__c", "idLookup", true},
		{"Origin_System__c", "createable", true}, {"Origin_System__c", "updateable", false}, {"Tier__c", "restrictedPicklist", true},
		{"BillingStreet", "compoundFieldName", "BillingAddress"}, {"BillingAddress", "createable", false}, {"Id", "type", "id"}, {"OwnerId", "defaultedOnCreate", true},
		{"AnnualRevenue", "precision", "18"}, {"SystemModstamp", "updateable", false}, {"ParentId", "relationshipName", "Parent"}, {"Phone", "length", "40"},
	} {
		if got := fields[tc.field][tc.key]; fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s.%s = %v, want %v", tc.field, tc.key, got, tc.want)
		}
	}
	if n := len(fields["Tier__c"]["picklistValues"].([]any)); n != 3 {
		t.Errorf("Tier__c has %d values", n)
	}
	if len(d.ChildRelationships) == 0 || len(d.RecordTypeInfos) != 1 || d.RecordTypeInfos[0]["recordTypeId"] != "012000000000000AAA" {
		t.Errorf("%v %v", d.ChildRelationships, d.RecordTypeInfos)
	}
	c.want(304, "GET", v66+"/sobjects/Account/describe", "", "If-Modified-Since", a.header.Get("Last-Modified"))
	c.want(304, "GET", v66+"/sobjects", "", "If-Modified-Since", a.header.Get("Last-Modified"))
	c.want(200, "GET", v66+"/sobjects/Account/describe", "", "If-Modified-Since", "Tue, 23 Mar 2021 00:00:00 GMT")
}

func TestRows(t *testing.T) {
	c := start(t, emulator.Options{})
	a := c.want(201, "POST", v66+"/sobjects/Account/", `{"Name":"  Acme  ","AnnualRevenue":912260031,"NumberOfEmployees":150,"Warehouse_Key__c":"A","Description":"","BillingCity":"Oslo"}`)
	var r result
	a.decode(t, &r)
	path := v66 + "/sobjects/Account/" + r.ID
	if a.header.Get("Location") != path || len(r.ID) != 18 || r.ID[:3] != "001" {
		t.Fatal(a.header, r)
	}
	var row map[string]any
	a = c.want(200, "GET", path, "")
	a.decode(t, &row)
	for k, want := range map[string]string{"Name": "Acme", "AnnualRevenue": "9.12260031E8", "NumberOfEmployees": "150", "Description": "<nil>", "IsDeleted": "false", "BillingState": "<nil>"} {
		if fmt.Sprint(row[k]) != want {
			t.Errorf("%s = %v, want %s", k, row[k], want)
		}
	}
	if !strings.Contains(a.body, `"BillingAddress":{"city":"Oslo","country":null,`) || !strings.HasSuffix(fmt.Sprint(row["CreatedDate"]), ".000+0000") {
		t.Error(a.body)
	}
	c.want(200, "GET", v66+"/sobjects/Account/"+r.ID[:15]+"?fields=Name", "")
	c.want(204, "PATCH", path, `{"Phone":"1","AnnualRevenue":5000000}`)
	if a := c.want(200, "GET", path+"?fields=AnnualRevenue", ""); !strings.Contains(a.body, `"AnnualRevenue":5000000.0}`) {
		t.Error(a.body)
	}
	key := v66 + "/sobjects/Account/Warehouse_Key__c/"
	if a := c.want(200, "PATCH", key+"A", `{"Phone":"2"}`); !strings.Contains(a.body, `"created":false`) {
		t.Error(a.body)
	}
	c.want(201, "PATCH", key+"a%2Fb", `{"Name":"slash"}`)
	c.want(204, "PATCH", strings.Replace(key, "v66.0", "v45.0", 1)+"A", `{"Phone":"3"}`)
	c.want(404, "PATCH", key+"nobody?updateOnly=true", `{"Phone":"3"}`)
	c.refused(c.do("PATCH", key+"A", `{"Warehouse_Key__c":"A"}`), 400, "INVALID_FIELD", "")
	c.refused(c.do("PATCH", v66+"/sobjects/Account/Phone/1", `{}`), 404, "NOT_FOUND", "")
	c.want(200, "GET", key+"A", "")
	c.want(204, "DELETE", path, "")
	c.refused(c.do("DELETE", path, ""), 404, "ENTITY_IS_DELETED", "entity is deleted")
	c.refused(c.do("GET", path, ""), 404, "ENTITY_IS_DELETED", "")
	c.refused(c.do("PATCH", path, `{"Phone":"4"}`), 404, "ENTITY_IS_DELETED", "")
	c.refused(c.do("DELETE", v66+"/sobjects/Account/0015f0000000zzzAAA", ""), 404, "INVALID_CROSS_REFERENCE_KEY", "")
	c.refused(c.do("DELETE", v66+"/sobjects/Account/0015f0000000zzzAAB", ""), 400, "MALFORMED_ID", "")
	// The key of a deleted record is free.
	c.want(201, "PATCH", key+"A", `{"Name":"again"}`)
}

func TestRowRefusals(t *testing.T) {
	c := start(t, emulator.Options{})
	c.insert("Account", `{"Name":"first","Warehouse_Key__c":"A"}`)
	id := c.insert("Contact", `{"LastName":"x"}`)
	for _, tc := range []struct {
		name, object, body string
		code, message      string
	}{
		{"required", "Contact", `{"FirstName":"x"}`, "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]"},
		{"too long", "Contact", `{"LastName":"x","FirstName":"` + strings.Repeat("y", 41) + `"}`, "STRING_TOO_LONG", "First Name: data value too large: " + strings.Repeat("y", 41) + " (max length=40)"},
		{"unknown field", "Account", `{"Foo__c":"x"}`, "INVALID_FIELD", "No such column 'Foo__c' on sobject of type Account"},
		{"read-only", "Account", `{"Name":"x","IsDeleted":true,"CreatedDate":"2020-01-01T00:00:00Z"}`, "INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: IsDeleted, CreatedDate. Please check"},
		{"picklist", "Account", `{"Name":"x","Tier__c":"Tin"}`, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Tier: bad value for restricted picklist field: Tin"},
		{"inactive value", "Account", `{"Name":"x","Tier__c":"Platinum"}`, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "Platinum"},
		{"email", "Contact", `{"LastName":"x","Email":"foo"}`, "INVALID_EMAIL_ADDRESS", "Email: invalid email address: foo"},
		{"duplicate", "Account", `{"Name":"x","Warehouse_Key__c":"A"}`, "DUPLICATE_VALUE", "duplicate value found: Warehouse_Key__c duplicates value on record with id: 001"},
		{"id of another type", "Contact", `{"LastName":"x","AccountId":"` + id + `"}`, "MALFORMED_ID", "Account ID: id value of incorrect type: " + id},
		{"malformed id", "Contact", `{"LastName":"x","AccountId":"1"}`, "MALFORMED_ID", ""},
		{"no such parent", "Contact", `{"LastName":"x","AccountId":"0015f0000000zzz"}`, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"},
		{"no such key", "Contact", `{"LastName":"x","Account":{"Warehouse_Key__c":"Z"}}`, "INVALID_FIELD", "Foreign key external ID: Z not found for field Warehouse_Key__c in entity Account"},
		{"bad date", "Contact", `{"LastName":"x","Birthdate":"6/15/19"}`, "JSON_PARSER_ERROR", "Cannot deserialize instance of date from VALUE_STRING value 6/15/19 or request may be missing a required field at [line:1, column:29]"},
		{"text for a number", "Account", `{"Name":"x","NumberOfEmployees":"many"}`, "JSON_PARSER_ERROR", "instance of int from VALUE_STRING value many"},
		{"number for a text", "Account", `{"Name":5}`, "JSON_PARSER_ERROR", "instance of string from VALUE_NUMBER_INT value 5"},
		{"null checkbox", "Contact", `{"LastName":"x","DoNotCall":null}`, "INVALID_TYPE_ON_FIELD_IN_RECORD", ""},
		{"too large", "Account", `{"Name":"x","AnnualRevenue":1e18}`, "NUMBER_OUTSIDE_VALID_RANGE", ""},
		{"not JSON", "Account", `{"Name":`, "JSON_PARSER_ERROR", "at [line:1, column:9]"},
		{"no polymorphic type", "Task", `{"Who":{"Email":"a@b.cd"}}`, "INVALID_FIELD", "Who"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inner := *c
			inner.t = t
			inner.refused(inner.do("POST", v66+"/sobjects/"+tc.object, tc.body), 400, tc.code, tc.message)
		})
	}
	if n := c.s.Org().Count("Account"); n != 1 {
		t.Fatalf("%d accounts", n)
	}
	all := c.do("POST", v66+"/sobjects/Contact", `{"Email":"x","FirstName":"`+strings.Repeat("y", 41)+`"}`)
	if strings.Count(all.body, "errorCode") < 2 {
		t.Errorf("all errors at once: %s", all.body)
	}
}

func TestCollections(t *testing.T) {
	c := start(t, emulator.Options{})
	path := v66 + "/composite/sobjects"
	rs := c.results(c.do("POST", path, `{"records":[{"attributes":{"type":"Account"},"Name":"a","Warehouse_Key__c":"1"},{"attributes":{"type":"Contact"},"FirstName":"x"},{"attributes":{"type":"Account"},"Name":"b"}]}`))
	if len(rs) != 3 || !rs[0].Success || rs[1].Success || rs[1].ID != "" || rs[1].Errors[0].StatusCode != "REQUIRED_FIELD_MISSING" || !rs[2].Success {
		t.Fatalf("%+v", rs)
	}
	rs = c.results(c.do("POST", path, `{"allOrNone":true,"records":[{"attributes":{"type":"Account"},"Name":"c"},{"attributes":{"type":"Contact"},"FirstName":"x"}]}`))
	if rs[0].Success || rs[0].Errors[0].StatusCode != "ALL_OR_NONE_OPERATION_ROLLED_BACK" || rs[1].Errors[0].StatusCode != "REQUIRED_FIELD_MISSING" {
		t.Fatalf("%+v", rs)
	}
	rs = c.results(c.do("PATCH", path+"/Account/Warehouse_Key__c", `{"records":[{"attributes":{"type":"Account"},"Name":"a2","Warehouse_Key__c":"1"},{"attributes":{"type":"Account"},"Name":"n","Warehouse_Key__c":"2"},{"attributes":{"type":"Account"},"Name":"p","Warehouse_Key__c":"3"},{"attributes":{"type":"Account"},"Name":"q","Warehouse_Key__c":"3"},{"attributes":{"type":"Account"},"Name":"blank","Warehouse_Key__c":" "}]}`))
	if rs[0].Created || !rs[1].Created || rs[2].Errors[0].Message != "Duplicate external id specified: 3" || rs[3].Success || rs[4].Errors[0].StatusCode != "MISSING_ARGUMENT" {
		t.Fatalf("%+v", rs)
	}
	c.refused(c.do("POST", path, `{"records":[{"attributes":{"type":"Account"},"Name":"z"},{"attributes":{"type":"Account"},"Nome":"b"}]}`), 400, "INVALID_FIELD", "No such column 'Nome'")
	c.refused(c.do("POST", path, `{"records":[`+strings.TrimSuffix(strings.Repeat(`{"attributes":{"type":"Account"},"Name":"z"},`, 201), ",")+`]}`), 400, "EXCEEDED_ID_LIMIT", "")
	c.refused(c.do("POST", path, `{"records":[`+strings.TrimSuffix(strings.Repeat(`{"attributes":{"type":"Account"},"Name":"z"},{"attributes":{"type":"Contact"},"LastName":"z"},`, 6), ",")+`]}`), 400, "INVALID_INPUT", "chunks")
	ids := c.query("SELECT Id, Name FROM Account ORDER BY Name").Records
	if len(ids) != 3 || ids[0]["Name"] != "a2" {
		t.Fatalf("%v", ids)
	}
	id := fmt.Sprint(ids[0]["Id"])
	a := c.want(200, "POST", path+"/Account", `{"ids":["`+id+`","0015f0000000zzzAAA"],"fields":["Name"]}`)
	if !strings.HasSuffix(a.body, `"Name":"a2"},null]`) {
		t.Fatal(a.body)
	}
	twelve := strings.TrimSuffix(strings.Repeat(`{"attributes":{"type":"Account"},"Id":"`+id+`","Phone":"1"},`, 13), ",")
	rs = c.results(c.do("PATCH", path, `{"records":[`+twelve+`]}`))
	if !rs[11].Success || rs[12].Success || rs[12].ID != id {
		t.Fatalf("%+v", rs[11:])
	}
	rs = c.results(c.do("DELETE", path+"?ids="+id+","+id+",xyz&allOrNone=false", `{"allOrNone":true}`))
	if !rs[0].Success || rs[1].Errors[0].StatusCode != "ENTITY_IS_DELETED" || rs[2].Errors[0].StatusCode != "MALFORMED_ID" {
		t.Fatalf("%+v", rs)
	}
}

func TestReferencesAndCascade(t *testing.T) {
	c := start(t, emulator.Options{})
	acc := c.insert("Account", `{"Name":"a","Warehouse_Key__c":"A"}`)
	c.insert("Subscription__c", `{"Warehouse_Key__c":"S","Account__r":{"Warehouse_Key__c":"A"},"Amount__c":1.005,"Features__c":"SSO;API","Renewed_At__c":"2026-01-31T23:00:00.789-02:00","Daily_Time__c":"17:30:45.125Z"}`)
	con := c.insert("Contact", `{"LastName":"c","AccountId":"`+acc[:15]+`"}`)
	c.insert("Task", `{"Subject":"t","Who":{"attributes":{"type":"Contact"},"Id":"`+con+`"}}`)
	sub := c.s.Org().Find("Subscription__c", "Warehouse_Key__c", "S")[0]
	for k, want := range map[string]string{"Amount__c": "1.01", "Features__c": "API;SSO", "Renewed_At__c": "2026-02-01T01:00:00.000+0000", "Daily_Time__c": "17:30:45.125Z", "Active__c": "false", "Account__c": acc} {
		if fmt.Sprint(sub[k]) != want {
			t.Errorf("%s = %v, want %s", k, sub[k], want)
		}
	}
	// A record and its new parent cannot come in one request.
	rs := c.results(c.do("PATCH", v66+"/composite/sobjects/Account/Warehouse_Key__c", `{"records":[{"attributes":{"type":"Account"},"Name":"p","Warehouse_Key__c":"P"},{"attributes":{"type":"Account"},"Name":"k","Warehouse_Key__c":"K","Parent":{"Warehouse_Key__c":"P"}}]}`))
	if !rs[0].Success || rs[1].Success || rs[1].Errors[0].StatusCode != "INVALID_FIELD" {
		t.Fatalf("%+v", rs)
	}
	c.want(204, "DELETE", v66+"/sobjects/Account/"+acc, "")
	if c.s.Org().Count("Subscription__c") != 0 || c.s.Org().Find("Contact", "Id", con)[0]["AccountId"] != nil {
		t.Fatal("details outlive their master, or lookups point at nothing")
	}
}

func TestDeletesAllOrNone(t *testing.T) {
	c := start(t, emulator.Options{})
	acc := c.insert("Account", `{"Name":"a","Warehouse_Key__c":"A"}`)
	con := c.insert("Contact", `{"LastName":"c","AccountId":"`+acc+`"}`)
	c.insert("Subscription__c", `{"Account__c":"`+acc+`"}`)
	path := v66 + "/composite/sobjects?allOrNone=true&ids=" + acc + ","
	rs := c.results(c.do("DELETE", path+"0035f0000000zzzAAA", ""))
	if rs[0].Errors[0].StatusCode != "ALL_OR_NONE_OPERATION_ROLLED_BACK" || c.s.Org().Count("Account") != 1 || c.s.Org().Count("Subscription__c") != 1 || c.s.Org().Find("Contact", "Id", con)[0]["AccountId"] != acc {
		t.Fatalf("%+v", rs)
	}
	if n := c.s.Counters().Records.Deleted; n != 0 {
		t.Fatalf("%d deletes are counted", n)
	}
	rs = c.results(c.do("DELETE", path+con, ""))
	if !rs[0].Success || !rs[1].Success || c.s.Org().Count("Account")+c.s.Org().Count("Contact")+c.s.Org().Count("Subscription__c") != 0 {
		t.Fatalf("%+v", rs)
	}
}

func TestPlatformEvents(t *testing.T) {
	c := start(t, emulator.Options{})
	a := c.want(201, "POST", v66+"/sobjects/Order_Placed__e", `{"Order_Number__c":"1","Amount__c":2.5}`)
	var r result
	a.decode(t, &r)
	if !r.Success || len(r.Errors) != 1 || r.Errors[0].StatusCode != "OPERATION_ENQUEUED" {
		t.Fatal(a.body)
	}
	c.refused(c.do("POST", v66+"/sobjects/Order_Placed__e", `{"Amount__c":2.5}`), 400, "REQUIRED_FIELD_MISSING", "")
	if e := c.s.Org().Published("Order_Placed__e"); len(e) != 1 || fmt.Sprint(e[0]["Amount__c"]) != "2.5" || e[0]["EventUuid"] != r.Errors[0].Message {
		t.Fatal(e)
	}
	c.refused(c.do("GET", v66+"/query?q=SELECT+Id+FROM+Order_Placed__e", ""), 400, "INVALID_TYPE", "")
}

func TestHourlyEventLimit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(file, []byte("[limits]\nhourly_platform_events = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, emulator.Options{OrgFile: file})
	left := func(n int) {
		t.Helper()
		if got := c.want(200, "GET", v66+"/limits", ""); !strings.Contains(got.body, fmt.Sprintf(`"HourlyPublishedPlatformEvents":{"Max":2,"Remaining":%d}`, n)) {
			t.Errorf("want %d left: %s", n, got.body)
		}
	}
	for n := range 2 {
		left(2 - n)
		c.insert("Order_Placed__e", `{"Order_Number__c":"1"}`)
	}
	left(0)
	c.refused(c.do("POST", v66+"/sobjects/Order_Placed__e", `{"Order_Number__c":"1"}`), 400, "LIMIT_EXCEEDED", "")
	c.s.Org().AdvanceTime(time.Hour)
	left(2)
	c.insert("Order_Placed__e", `{"Order_Number__c":"1"}`)
}
