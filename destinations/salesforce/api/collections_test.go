package api

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestCollectionCalls(t *testing.T) {
	org := newOrg(t)
	type sent struct{ method, uri, duplicates, assign, body string }
	var got sent
	record := func(w http.ResponseWriter, r *http.Request) {
		got = sent{r.Method, r.RequestURI, r.Header.Get("Sforce-Duplicate-Rule-Header"), r.Header.Get("Sforce-Auto-Assign"), body(t, r)}
		reply(w, 200, `[{"id":"0015500001QdQWaAAN","success":true,"errors":[],"created":true},
			{"success":false,"errors":[{"statusCode":"REQUIRED_FIELD_MISSING","message":"Required fields are missing: [LastName]","fields":["LastName"]}]}]`)
	}
	org.on("/services/data/v62.0/composite/", record)
	c := org.client(t)
	ctx := t.Context()
	records := [][]byte{[]byte(`{"attributes":{"type":"Account"},"Name":"a"}`), []byte(`{"attributes":{"type":"Account"}}`)}
	const payload = `{"allOrNone":false,"records":[{"attributes":{"type":"Account"},"Name":"a"},{"attributes":{"type":"Account"}}]}`
	want := []SaveResult{
		{ID: "0015500001QdQWaAAN", Success: true, Created: true},
		{Errors: []RowError{{Code: "REQUIRED_FIELD_MISSING", Message: "Required fields are missing: [LastName]", Fields: []string{"LastName"}}}},
	}
	for name, test := range map[string]struct {
		do   func() ([]SaveResult, error)
		want sent
	}{
		"create": {func() ([]SaveResult, error) { return c.CreateRecords(ctx, records, CollectionOptions{}) },
			sent{"POST", "/services/data/v62.0/composite/sobjects", "", "", payload}},
		"create with options": {func() ([]SaveResult, error) {
			return c.CreateRecords(ctx, records, CollectionOptions{AllowDuplicates: true, AssignmentRule: "FALSE"})
		}, sent{"POST", "/services/data/v62.0/composite/sobjects", "allowSave=true; includeRecordDetails=false; runAsCurrentUser=true", "FALSE", payload}},
		"update": {func() ([]SaveResult, error) {
			return c.UpdateRecords(ctx, records, CollectionOptions{AssignmentRule: "01Q000000000001AAA"})
		}, sent{"PATCH", "/services/data/v62.0/composite/sobjects", "", "01Q000000000001AAA", payload}},
		"upsert": {func() ([]SaveResult, error) {
			return c.UpsertRecords(ctx, "Account", "Ext__c", records, CollectionOptions{})
		}, sent{"PATCH", "/services/data/v62.0/composite/sobjects/Account/Ext__c", "", "", payload}},
		"delete": {func() ([]SaveResult, error) {
			return c.DeleteRecords(ctx, []string{"001000000000001AAA", "001000000000002AAA"})
		}, sent{"DELETE", "/services/data/v62.0/composite/sobjects?ids=001000000000001AAA%2C001000000000002AAA&allOrNone=false", "", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			results, err := test.do()
			if err != nil || !reflect.DeepEqual(results, want) {
				t.Errorf("results %+v, %v", results, err)
			}
			if got != test.want {
				t.Errorf("sent %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestCollectionSizes(t *testing.T) {
	org := newOrg(t)
	c := org.client(t)
	if results, err := c.CreateRecords(t.Context(), nil, CollectionOptions{}); results != nil || err != nil {
		t.Errorf("no records: %v, %v", results, err)
	}
	if results, err := c.DeleteRecords(t.Context(), nil); results != nil || err != nil {
		t.Errorf("no ids: %v, %v", results, err)
	}
	_, err := c.UpsertRecords(t.Context(), "Account", "Ext__c", make([][]byte, 201), CollectionOptions{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Unknown || !strings.HasPrefix(err.Error(), "upsert Account records: EXCEEDED_ID_LIMIT: 201 records") {
		t.Errorf("error %v", err)
	}
	if _, err := c.DeleteRecords(t.Context(), make([]string, 201)); err == nil {
		t.Error("201 ids were accepted")
	}
	if c.Usage().Calls != 0 {
		t.Errorf("%d calls", c.Usage().Calls)
	}
}

// One record that the org cannot read spoils the call for all of them.
func TestSpoiltCallIsToBeSplit(t *testing.T) {
	org := newOrg(t)
	org.on("/services/data/v62.0/composite/", answering(400, `[{"message":"No such column 'Foo__c' on sobject of type Account","errorCode":"INVALID_FIELD"}]`))
	c := org.client(t)
	for n, want := range map[int]Class{1: RowFault, 2: SplitBatch} {
		_, err := c.UpdateRecords(t.Context(), slicesOf(n), CollectionOptions{})
		if e, ok := errors.AsType[*Error](err); !ok || e.Class != want || e.Unknown {
			t.Errorf("%d records: %v, want %s", n, err, want)
		}
	}
}

func slicesOf(n int) [][]byte {
	records := make([][]byte, n)
	for i := range records {
		records[i] = fmt.Appendf(nil, `{"attributes":{"type":"Account"},"id":"001%015d"}`, i)
	}
	return records
}

func TestSaveResultShapes(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want []SaveResult
	}{
		"null id":        {`[{"id":null,"success":false,"errors":[{"statusCode":"X","message":"m","fields":[]}]}]`, []SaveResult{{Errors: []RowError{{Code: "X", Message: "m"}}}}},
		"event accepted": {`[{"id":"e01xx0000000001AAA","success":true,"errors":[{"statusCode":"OPERATION_ENQUEUED","message":"85d962fb","fields":[]}]}]`, []SaveResult{{ID: "e01xx0000000001AAA", Success: true, Errors: []RowError{{Code: "OPERATION_ENQUEUED", Message: "85d962fb"}}}}},
		"errorCode":      {`[{"success":false,"errors":[{"errorCode":"X","message":"m"}]}]`, []SaveResult{{Errors: []RowError{{Code: "X", Message: "m"}}}}},
		"odd fields":     {`[{"success":false,"errors":[{"statusCode":"X","message":"m","fields":"Name"}]}]`, []SaveResult{{Errors: []RowError{{Code: "X", Message: "m", Fields: []string{"Name"}}}}}},
		"spaced":         {"[ {\"success\" : true ,\n \"id\" : \"001\" } ]", []SaveResult{{ID: "001", Success: true}}},
		"truncated":      {`[{"success":true,"id":"001"}`, nil},
		"an object":      {`{"success":true}`, nil},
		"null":           {`null`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeSaveResults([]byte(test.body), 1)
			if (err == nil) != (test.want != nil) || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func FuzzSaveResults(f *testing.F) {
	f.Add([]byte(`[{"id":"0015500001QdQWaAAN","success":true,"errors":[],"created":true}]`), 1)
	f.Add([]byte(`[{"success":false,"errors":[{"statusCode":"A","message":"b","fields":["c"]}]},null]`), 2)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		n = ((n % 300) + 300) % 300
		results, err := decodeSaveResults(body, n)
		if err == nil && len(results) != n {
			t.Errorf("%d results for %d records", len(results), n)
		}
	})
}

func FuzzErrorBody(f *testing.F) {
	for _, body := range []string{
		`[{"message":"m","errorCode":"C","fields":["F"]}]`, `{"error":"invalid_grant","error_description":"d"}`,
		`{"exceptionCode":"InvalidJob","exceptionMessage":"m"}`, `<html></html>`, ``, `[]`, `[null]`,
		`<error xmlns="http://www.force.com/2009/06/asyncapi/dataload"><exceptionCode>InvalidSessionId</exceptionCode><exceptionMessage>Invalid session id</exceptionMessage></error>`,
		`<Errors><Error><errorCode>A</errorCode><message>b</message></Error></Errors>`,
	} {
		f.Add([]byte(body), 400)
	}
	c, err := New(Config{Domain: "acme.my.salesforce.com", Auth: AuthClientCredentials, ClientID: "id", ClientSecret: "s3cr3t"})
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		status = 300 + ((status%300)+300)%300
		e := c.httpError(&call{op: "op"}, &http.Response{StatusCode: status, Header: http.Header{}}, body)
		text := e.Error()
		if strings.ContainsAny(text, "\n\r") || strings.Contains(text, "s3cr3t") {
			t.Errorf("error %q", text)
		}
		if status >= 400 && status < 500 && status != 408 && e.Unknown {
			t.Errorf("status %d counts as unknown", status)
		}
	})
}

func BenchmarkSaveResults(b *testing.B) {
	body := "[" + strings.TrimSuffix(strings.Repeat(`{"id":"0015500001QdQWaAAN","success":true,"errors":[],"created":true},`, MaxCollection), ",") + "]"
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := decodeSaveResults([]byte(body), MaxCollection); err != nil {
			b.Fatal(err)
		}
	}
}
