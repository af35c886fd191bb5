package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"
)

const accountDescribe = `{"name":"Account","label":"Account","keyPrefix":"001","createable":true,"updateable":true,"deletable":true,"queryable":true,
"fields":[
 {"name":"Id","label":"Account ID","type":"id","soapType":"tns:ID","length":18,"idLookup":true,"filterable":true,"defaultedOnCreate":true},
 {"name":"ParentId","label":"Parent Account ID","type":"reference","soapType":"tns:ID","length":18,"createable":true,"updateable":true,"nillable":true,"referenceTo":["Account"],"relationshipName":"Parent","relationshipOrder":null},
 {"name":"Tier__c","label":"Tier","type":"picklist","length":255,"custom":true,"restrictedPicklist":true,"picklistValues":[{"active":true,"defaultValue":false,"label":"Gold","validFor":null,"value":"gold"}]},
 {"name":"Ext__c","label":"Ext","type":"string","length":40,"byteLength":120,"custom":true,"externalId":true,"unique":true,"caseSensitive":true,"idLookup":true,"compoundFieldName":null}],
"recordTypeInfos":[{"active":true,"available":true,"defaultRecordTypeMapping":true,"developerName":"Master","master":true,"name":"Master","recordTypeId":"012000000000000AAA","urls":{}}]}`

func TestDescribe(t *testing.T) {
	org := newOrg(t)
	const stamp = "Tue, 23 Mar 2025 00:00:00 GMT"
	var full, unchanged atomic.Int64
	org.on("GET /services/data/v62.0/sobjects/{name}/describe", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", stamp)
		switch {
		case r.PathValue("name") != "Account":
			reply(w, 404, `[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]`)
		case r.Header.Get("If-Modified-Since") == stamp:
			unchanged.Add(1)
			w.WriteHeader(304)
		default:
			full.Add(1)
			reply(w, 200, accountDescribe)
		}
	})
	org.mux.HandleFunc("GET /services/data/{$}", answering(200, `[{"version":"62.0"}]`))
	c := org.client(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Describe(t.Context(), "Account"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	o, err := c.Describe(t.Context(), "Account")
	if err != nil || full.Load() != 1 {
		t.Fatalf("%d describes, error %v", full.Load(), err)
	}
	ext, ok := o.Field("EXT__C")
	if !ok || ext.Name != "Ext__c" || !ext.ExternalID || !ext.Unique || !ext.CaseSensitive || ext.Length != 40 || ext.ByteLength != 120 {
		t.Errorf("field %+v", ext)
	}
	parent, _ := o.Field("ParentId")
	if parent == nil || !reflect.DeepEqual(parent.ReferenceTo, []string{"Account"}) || parent.RelationshipName != "Parent" || parent.RelationshipOrder != nil {
		t.Errorf("field %+v", parent)
	}
	tier, _ := o.Field("Tier__c")
	if tier == nil || !tier.RestrictedPicklist || !reflect.DeepEqual(tier.PicklistValues, []PicklistValue{{Value: "gold", Label: "Gold", Active: true}}) {
		t.Errorf("field %+v", tier)
	}
	if _, ok := o.Field("Nope"); ok {
		t.Error("a field that is not there was found")
	}
	if len(o.RecordTypes) != 1 || !o.RecordTypes[0].Master || o.RecordTypes[0].ID != "012000000000000AAA" || o.KeyPrefix != "001" || !o.Createable {
		t.Errorf("object %+v", o)
	}

	c.describes.entry("account").checked = time.Now().Add(-describeFresh)
	again, err := c.Describe(t.Context(), "Account")
	if err != nil || again != o || full.Load() != 1 || unchanged.Load() != 1 {
		t.Errorf("after five minutes: %d full, %d unchanged, error %v", full.Load(), unchanged.Load(), err)
	}

	_, err = c.Describe(t.Context(), "Nope__c")
	if err == nil || !strings.Contains(err.Error(), "no object Nope__c") {
		t.Errorf("error %v", err)
	}
}

func TestObjects(t *testing.T) {
	org := newOrg(t)
	org.on("GET /services/data/v62.0/sobjects", answering(200, `{"encoding":"UTF-8","maxBatchSize":200,"sobjects":[{"name":"Account","label":"Account","keyPrefix":"001","createable":true,"custom":false,"urls":{"sobject":"/x"}},{"name":"Foo__c","keyPrefix":"a00","custom":true}]}`))
	objects, err := org.client(t).Objects(t.Context())
	want := []ObjectInfo{{Name: "Account", Label: "Account", KeyPrefix: "001", Createable: true}, {Name: "Foo__c", KeyPrefix: "a00", Custom: true}}
	if err != nil || !reflect.DeepEqual(objects, want) {
		t.Errorf("objects %+v, %v", objects, err)
	}
}

func TestQueryPages(t *testing.T) {
	org := newOrg(t)
	const soql = "SELECT Id, Name, Account.Ext__c FROM Contact WHERE Name != 'a+b & c' ORDER BY Id"
	org.on("GET /services/data/v62.0/query", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("q"); got != soql {
			t.Errorf("query %q", got)
		}
		reply(w, 200, `{"totalSize":3,"done":false,"nextRecordsUrl":"/services/data/v62.0/query/01gD0000002HU6KIAW-2","records":[
			{"attributes":{"type":"Contact","url":"/services/data/v62.0/sobjects/Contact/003"},"Id":"003A","Name":"caf\u00e9 \"x\"","Account":{"attributes":{"type":"Account"},"Ext__c":"A-1"}},
			{"attributes":{"type":"Contact"},"Id":"003B","Name":null,"Account":null,"Amount":42.0,"Active":true}]}`)
	})
	org.on("GET /services/data/v62.0/query/01gD0000002HU6KIAW-2", sequence(answering(503, ""), answering(200, `{"totalSize":3,"done":true,"records":[{"Id":"003C"}]}`)))
	q, err := org.client(t).Query(t.Context(), soql)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	type row struct{ id, name, ext, amount, active string }
	var got []row
	text := func(path string) string {
		s, null := q.Record().Get(path)
		if null {
			return "<null>"
		}
		return s
	}
	for q.Next() {
		got = append(got, row{text("id"), text("Name"), text("account.ext__C"), text("Amount"), text("Active")})
	}
	want := []row{{"003A", `café "x"`, "A-1", "<null>", "<null>"}, {"003B", "<null>", "<null>", "42.0", "true"}, {"003C", "<null>", "<null>", "<null>", "<null>"}}
	if q.Err() != nil || q.TotalSize() != 3 || !reflect.DeepEqual(got, want) {
		t.Errorf("rows %v, total %d, error %v", got, q.TotalSize(), q.Err())
	}
	if q.Next() {
		t.Error("a record after the last")
	}
}

func TestQueryErrors(t *testing.T) {
	org := newOrg(t)
	org.on("GET /services/data/v62.0/query", answering(400, `[{"message":"\nSELECT Foo FROM Account\n       ^\nERROR at Row:1:Column:8\nNo such column 'Foo' on entity 'Account'.","errorCode":"INVALID_FIELD"}]`))
	_, err := org.client(t).Query(t.Context(), "SELECT Foo FROM Account")
	if want := "query: INVALID_FIELD: SELECT Foo FROM Account ^ ERROR at Row:1:Column:8 No such column 'Foo' on entity 'Account'. (HTTP 400)"; err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}

	for name, page := range map[string]string{"no records": `{"totalSize":1,"done":true}`, "no next": `{"totalSize":1,"done":false,"records":[]}`, "HTML": "<html>", "cut": `{"totalSize":1,"done":true,"records":[{"Id":"1"}`} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.on("GET /services/data/v62.0/query", answering(200, page))
			if _, err := org.client(t).Query(t.Context(), "SELECT Id FROM Account"); err == nil {
				t.Error("no error")
			}
		})
	}

	t.Run("second page lost", func(t *testing.T) {
		org := newOrg(t)
		org.on("GET /services/data/v62.0/query", answering(200, `{"totalSize":2,"done":false,"nextRecordsUrl":"/services/data/v62.0/query/x","records":[{"Id":"1"}]}`))
		org.on("GET /services/data/v62.0/query/x", answering(400, `[{"message":"invalid query locator","errorCode":"INVALID_QUERY_LOCATOR"}]`))
		q, err := org.client(t).Query(t.Context(), "SELECT Id FROM Account")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for q.Next() {
			n++
		}
		if n != 1 || q.Err() == nil {
			t.Errorf("%d records, error %v", n, q.Err())
		}
	})
}

// The token goes to the org alone, whatever address an answer names.
func TestNextPageStaysWithTheOrg(t *testing.T) {
	c := &Client{}
	for next, want := range map[string]string{
		"/services/data/v62.0/query/x":                   "/services/data/v62.0/query/x",
		"https://evil.example/services/data/v62.0/query": "/services/data/v62.0/query",
		"services/data/v62.0/query/x?a=b":                "/services/data/v62.0/query/x",
		"//evil.example":                                 "//evil.example",
	} {
		r := c.page("query", next)
		x := &exchange{client: c, call: r}
		req, _, err := x.request(t.Context(), &session{base: mustDomain(t, "acme.my.salesforce.com"), token: "t"})
		if err != nil {
			t.Fatal(err)
		}
		if r.path != want || req.URL.Host != "acme.my.salesforce.com" {
			t.Errorf("%s: path %s, host %s", next, r.path, req.URL.Host)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(`{"a":{"b":"x\"y"},"c":[1,{"d":2}]}`, "a.b")
	f.Add(`{"a":null}`, "a.b")
	f.Add(`{"a":"\u00e9"}`, "A")
	f.Fuzz(func(t *testing.T, text, path string) {
		r := &Record{raw: json.RawMessage(text)}
		got, null := r.Get(path) // must not panic, valid JSON or not
		var decoded map[string]any
		if strings.Contains(path, ".") || json.Unmarshal([]byte(text), &decoded) != nil {
			return
		}
		// The scanner agrees with encoding/json on names that neither escapes.
		if want, ok := decoded[path].(string); ok && utf8.ValidString(text) && !strings.Contains(text, `\`) && len(decoded) == 1 && path != "" {
			if null || got != want {
				t.Errorf("Get(%q) of %s = %q, %v; want %q", path, text, got, null, want)
			}
		}
	})
}

func FuzzLimitInfo(f *testing.F) {
	for _, h := range []string{"api-usage=18/5000", "api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)", "per-app-api-usage=1/2(appName=a);api-usage=3/4", "", "api-usage=", "api-usage=-1/2", "api-usage=9999999999999999999/1"} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, h string) {
		used, limit, ok := parseLimitInfo(h)
		if used < 0 || limit < 0 || (!ok && (used != 0 || limit != 0)) {
			t.Errorf("%q: %d of %d, %v", h, used, limit, ok)
		}
		if ok && !strings.Contains(h, "api-usage=") {
			t.Errorf("%q was understood", h)
		}
	})
}

func TestLimitInfo(t *testing.T) {
	for header, want := range map[string]string{
		"api-usage=18/5000": "18 5000 true",
		"api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)": "25 5000 true",
		"per-app-api-usage=17/250(appName=x); api-usage=25/5000":          "25 5000 true",
		"": "0 0 false", "api-usage=a/b": "0 0 false", "api-usage=5": "0 0 false", "per-app-api-usage=17/250": "0 0 false",
	} {
		used, limit, ok := parseLimitInfo(header)
		if got := fmt.Sprint(used, limit, ok); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}
