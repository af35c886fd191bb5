package emulator_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

const upsertAccounts = `{"object":"Account","operation":"upsert","externalIdFieldName":"Warehouse_Key__c"}`

func TestBulkUpsertAndResults(t *testing.T) {
	c := start(t, emulator.Options{Seed: 7})
	old := c.insert("Account", `{"Name":"old","Warehouse_Key__c":"1","Phone":"555","Site":"here"}`)
	j := c.createJob(upsertAccounts)
	a := c.do("GET", v66+"/jobs/ingest/"+j.ID, "")
	if j.State != "Open" || !strings.Contains(a.body, `"contentUrl":"services/data/v66.0/jobs/ingest/`+j.ID+`/batches"`) || !strings.Contains(a.body, `"apiVersion":66`) {
		t.Fatal(a.body)
	}
	text := "Warehouse_Key__c,Name,Phone,AnnualRevenue,site,NumberOfEmployees\n" +
		"1,\"new, \"\"quoted\"\"\nname\",,912260031,#N/A,5\n" +
		"2,two,\"\",42,,3.0\n" +
		"3,three,1,1.5,,1\n" +
		",none,1,,,\n"
	c.upload(j.ID, text)
	c.refused(c.do("PUT", v66+"/jobs/ingest/"+j.ID+"/batches", text, "Content-Type", "text/csv"), 400, "INVALIDBATCH", "Found multiple contents for job")
	c.refused(c.do("PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"JobComplete"}`), 400, "INVALIDJOBSTATE", "")
	c.refused(c.do("DELETE", v66+"/jobs/ingest/"+j.ID, ""), 400, "INVALIDJOBSTATE", "")
	c.want(200, "PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"UploadComplete"}`)
	j = c.await(j.ID)
	if j.State != "JobComplete" || j.Processed != 4 || j.Failed != 2 {
		t.Fatalf("%+v", j)
	}
	c.refused(c.do("PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"Aborted"}`), 400, "INVALIDJOBSTATE", "")
	good := map[string]map[string]string{}
	for _, r := range c.rows(j.ID, "successfulResults") {
		good[r["Warehouse_Key__c"]] = r
	}
	if r := good["1"]; r["sf__Id"] != old || r["sf__Created"] != "false" || r["AnnualRevenue"] != "9.12260031E8" || r["Name"] != "new, \"quoted\"\nname" || r["NumberOfEmployees"] != "5" {
		t.Fatalf("%v", good)
	}
	if _, there := good["1"]["site"]; there {
		t.Fatal("a column whose case is not the field's own is in the results")
	}
	if good["3"]["sf__Created"] != "true" || good["3"]["AnnualRevenue"] != "1.5" {
		t.Fatalf("%v", good)
	}
	bad := map[string]string{}
	for _, r := range c.rows(j.ID, "failedResults") {
		bad[r["Name"]] = r["sf__Error"]
	}
	if bad["two"] != "INVALID_FIELD:Failed to deserialize field at col 5. Due to, '3.0' is not a valid value for the type xsd:int:NumberOfEmployees --" || bad["none"] != "MISSING_ARGUMENT:Warehouse_Key__c not specified:--" {
		t.Fatalf("%v", bad)
	}
	head := c.do("GET", v66+"/jobs/ingest/"+j.ID+"/failedResults", "").body
	if !strings.HasPrefix(head, "\"sf__Id\",\"sf__Error\",Warehouse_Key__c,Name,Phone,AnnualRevenue,NumberOfEmployees\n\"\",\"") {
		t.Fatal(head)
	}
	if rest := c.rows(j.ID, "unprocessedrecords"); len(rest) != 0 {
		t.Fatal(rest)
	}
	row := c.s.Org().Find("Account", "Warehouse_Key__c", "1")[0]
	if row["Phone"] != "555" || row["Site"] != nil {
		t.Fatalf("an empty cell leaves alone, #N/A clears: %v", row)
	}
	c.want(204, "DELETE", v66+"/jobs/ingest/"+j.ID, "")
	c.refused(c.do("GET", v66+"/jobs/ingest/"+j.ID, ""), 404, "NOT_FOUND", "")
}

func TestBulkStructuralFailures(t *testing.T) {
	c := start(t, emulator.Options{})
	for _, tc := range []struct {
		name, create, text, message string
		unprocessed                 int
	}{
		{"unknown column", upsertAccounts, "Warehouse_Key__c,Foo,Bar\na,b,c\n", "InvalidBatch : Field name not found : Foo", 1},
		{"byte order mark", upsertAccounts, "\ufeff\"Warehouse_Key__c\",Name\na,b\n", "InvalidBatch : Failed to parse CSV. Found unescaped quote", 0},
		{"unescaped quote", upsertAccounts, "Warehouse_Key__c,Name\na,b\"c\n", "InvalidBatch : Failed to parse CSV. Found unescaped quote", 0},
		{"line ends", upsertAccounts, "Warehouse_Key__c,Name\r\na,b\r\n", "ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is LF", 0},
		{"type not needed", `{"object":"Contact","operation":"insert"}`, "LastName,Account:Account.Warehouse_Key__c\na,b\n", "InvalidBatch : type is not needed for non polymorphic foreign key references: Account", 1},
		{"no relationship", `{"object":"Contact","operation":"insert"}`, "LastName,Account:Parent.Warehouse_Key__c\na,b\n", "InvalidBatch : Unable to find relationship: Parent", 1},
		{"colons only", `{"object":"Contact","operation":"insert"}`, "LastName,Account:Parent:Warehouse_Key__c\na,b\n", "InvalidBatch : Field name not found : Account:Parent:Warehouse_Key__c", 1},
		{"type needed", `{"object":"Task","operation":"insert"}`, "Subject,Who.Email\na,b\n", "InvalidBatch : type is needed for polymorphic foreign key references: Who", 1},
		{"empty", upsertAccounts, "", "InvalidBatch : Records not processed", 0},
		{"more than the Id to delete", `{"object":"Account","operation":"delete"}`, "Id,Name\n1,a\n", "InvalidBatch : Field name not found : Name", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inner := *c
			inner.t = t
			j := inner.load(tc.create, tc.text)
			if j.State != "Failed" || !strings.HasPrefix(j.Message, tc.message) || j.Processed != 0 || j.Failed != 0 {
				t.Fatalf("%+v", j)
			}
			if n := len(inner.rows(j.ID, "failedResults?")); n != 0 {
				t.Fatal(n, "failed rows")
			}
			if rest := inner.rows(j.ID, "unprocessedrecords"); len(rest) != tc.unprocessed {
				t.Fatalf("unprocessed: %v", rest)
			}
		})
	}
	for body, code := range map[string]string{
		`{"object":"Account","operation":"upsert"}`:                               "INVALIDJOB",
		`{"object":"Account","operation":"upsert","externalIdFieldName":"Phone"}`: "INVALIDJOB",
		`{"object":"Account","operation":"Insert"}`:                               "INVALIDJOB",
		`{"object":"Nope","operation":"insert"}`:                                  "INVALIDENTITY",
		`{"object":"Account","operation":"insert","contentType":"ZIP_CSV"}`:       "UNSUPPORTEDCONTENTTYPE",
		`{"object":"Account","operation":"insert","columnDelimiter":"COLON"}`:     "INVALIDJOB",
		`{"object":"Account","operation":"insert","concurrencyMode":"Serial"}`:    "JSON_PARSER_ERROR",
		`{"object":"Account","operation":"insert","externalIdFieldName":"Phone"}`: "INVALIDJOB",
		`{"object":"Account","operation":"insert","lineEnding":"CR"}`:             "INVALIDJOB",
	} {
		c.refused(c.do("POST", v66+"/jobs/ingest", body), 400, code, "")
	}
	if n := c.s.Counters().Writes; n != 0 {
		t.Fatalf("%d writes", n)
	}
}

func TestBulkOperations(t *testing.T) {
	c := start(t, emulator.Options{})
	c.load(upsertAccounts, "Warehouse_Key__c,Name\nA,a\nB,b\n")
	j := c.load(`{"object":"Contact","operation":"insert","columnDelimiter":"TAB","lineEnding":"CRLF"}`, "LastName\tAccount.Warehouse_Key__c\tBirthdate\tOwner.Username\r\nx\tA\t2000-02-29\tadmin@emulated.example\r\ny\tZ\t\t\r\nz\t\t6/15/19\t\r\nw\t\t\t\r\n")
	if j.State != "JobComplete" || j.Failed != 2 {
		t.Fatalf("%+v", j)
	}
	// Result files have the job's own delimiter; read them with that in mind.
	text := c.do("GET", v66+"/jobs/ingest/"+j.ID+"/failedResults/", "").body
	if !strings.Contains(text, "INVALID_FIELD:Foreign key external ID: Z not found for field Warehouse_Key__c in entity Account:--") || !strings.Contains(text, "'6/15/19' is not a valid value for the type xsd:date:Birthdate --") {
		t.Fatal(text)
	}
	con := c.s.Org().Find("Contact", "LastName", "x")[0]
	acc := c.s.Org().Find("Account", "Warehouse_Key__c", "A")[0]
	if con["AccountId"] != acc["Id"] {
		t.Fatalf("%v", con)
	}
	j = c.load(`{"object":"Contact","operation":"update"}`, fmt.Sprintf("Id,Email\n%s,Chloe.Myers@Example.com\n003000000000000,a@b.cd\n,a@b.cd\n", fmt.Sprint(con["Id"])[:15]))
	if j.Failed != 2 || c.s.Org().Find("Contact", "LastName", "x")[0]["Email"] != "chloe.myers@example.com" {
		t.Fatalf("%+v", j)
	}
	j = c.load(`{"object":"Contact","operation":"upsert","externalIdFieldName":"Id"}`, fmt.Sprintf("Id,LastName\n%s,x2\n,new\n", con["Id"]))
	if j.Failed != 0 || c.s.Org().Count("Contact") != 3 {
		t.Fatalf("%+v", j)
	}
	j = c.load(`{"object":"Contact","operation":"delete"}`, fmt.Sprintf("Id\n%s\n", con["Id"]))
	if j.Failed != 0 || c.s.Org().Count("Contact") != 2 {
		t.Fatalf("%+v", j)
	}
	j = c.load(`{"object":"Contact","operation":"hardDelete"}`, fmt.Sprintf("Id\n%s\n", con["Id"]))
	if j.Failed != 0 {
		t.Fatalf("%+v", j)
	}
	if p := c.query("SELECT Id FROM Contact WHERE Id = '" + fmt.Sprint(con["Id"]) + "'"); p.TotalSize != 0 {
		t.Fatal(p)
	}
	// The same key twice in one chunk fails all its rows.
	j = c.load(upsertAccounts, "Warehouse_Key__c,Name\nD,1\nD,2\nE,3\n")
	if j.Failed != 2 || c.rows(j.ID, "failedResults")[0]["sf__Error"] != "DUPLICATE_VALUE:Duplicate external id specified: D:Warehouse_Key__c --" {
		t.Fatalf("%+v", j)
	}
	// A row of the wrong width fails alone.
	j = c.load(upsertAccounts, "Warehouse_Key__c,Name\nF,1,2\nG,3\n\"H\" ,4\n")
	if j.Failed != 2 || j.State != "JobComplete" {
		t.Fatalf("%+v", j)
	}
	var list struct{ Records []job }
	c.want(200, "GET", v66+"/jobs/ingest?jobType=V2Ingest", "").decode(t, &list)
	if len(list.Records) != 8 {
		t.Fatalf("%d jobs", len(list.Records))
	}
}

func TestBulkMultipart(t *testing.T) {
	c := start(t, emulator.Options{})
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, part := range map[string][2]string{"job": {"application/json", upsertAccounts}, "content": {"text/csv", "Warehouse_Key__c,Name\nA,a\n"}} {
		p, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {part[0]}, "Content-Disposition": {`form-data; name="` + name + `"`}})
		if err == nil {
			_, err = p.Write([]byte(part[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var j job
	c.want(200, "POST", v66+"/jobs/ingest", b.String(), "Content-Type", w.FormDataContentType()).decode(t, &j)
	if j.State != "UploadComplete" {
		t.Fatalf("%+v", j)
	}
	if j = c.await(j.ID); j.State != "JobComplete" || c.s.Org().Count("Account") != 1 {
		t.Fatalf("%+v", j)
	}
}

func TestBulkHeldAbortedAndFailed(t *testing.T) {
	c := start(t, emulator.Options{})
	c.s.HoldBulk(true)
	j := c.createJob(upsertAccounts)
	c.upload(j.ID, "Warehouse_Key__c,Name\nA,a\nB,b\n")
	c.want(200, "PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"UploadComplete"}`)
	for c.job(j.ID).State != "InProgress" {
	}
	c.want(200, "PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"Aborted"}`)
	c.s.HoldBulk(false)
	if j = c.await(j.ID); j.State != "Aborted" || len(c.rows(j.ID, "unprocessedrecords")) != 2 || c.s.Org().Count("Account") != 0 {
		t.Fatalf("%+v", j)
	}
	var text strings.Builder
	text.WriteString("Warehouse_Key__c,Name\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "k%d,n\n", i)
	}
	c.s.AddFault(emulator.Fault{FailJob: "InternalServerError : retried more than ten times", FailJobAfter: 400})
	j = c.load(upsertAccounts, text.String())
	if j.State != "Failed" || j.Processed != 400 || len(c.rows(j.ID, "successfulResults")) != 400 || len(c.rows(j.ID, "unprocessedrecords")) != 600 {
		t.Fatalf("%+v", j)
	}
	j = c.load(upsertAccounts, text.String())
	if j.State != "JobComplete" || c.s.Org().Count("Account") != 1000 {
		t.Fatalf("%+v", j)
	}
	// Results come in another order than the rows went in.
	got := c.rows(j.ID, "successfulResults")
	sorted := true
	for i, r := range got {
		sorted = sorted && r["Warehouse_Key__c"] == fmt.Sprint("k", i)
	}
	if sorted {
		t.Fatal("results are in the order of the upload")
	}
	n := c.s.Counters()
	if n.Records.UpsertCreated != 1000 || n.Records.UpsertUpdated != 400 || n.JobsNeverClosed != 0 || n.Polls == 0 {
		t.Fatalf("%+v", n)
	}
}

// TestBulkCellAndHeaderCaps: a cell of more than 131,072 characters is its row's
// error, a header line of more than 32,000 the job's.
func TestBulkCellAndHeaderCaps(t *testing.T) {
	c := start(t, emulator.Options{})
	job := `{"object":"Account","operation":"insert"}`
	j := c.load(job, "Name,Description\nfits,"+strings.Repeat("d", 32_000)+"\nlarge,"+strings.Repeat("d", 131_073)+"\n")
	if j.State != "JobComplete" || j.Processed != 2 || j.Failed != 1 {
		t.Errorf("a large cell: %+v", j)
	}
	if failed := c.rows(j.ID, "failedResults"); len(failed) != 1 || !strings.HasPrefix(failed[0]["sf__Error"], "STRING_TOO_LONG:") {
		t.Errorf("a large cell: %.200v", failed)
	}
	j = c.load(job, "Name,"+strings.Repeat("x", 32_000)+"\na,b\n")
	if j.State != "Failed" || j.Processed != 0 || !strings.HasPrefix(j.Message, "InvalidBatch : Header") {
		t.Errorf("a long header: %+v", j)
	}
}
