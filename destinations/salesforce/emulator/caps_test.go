package emulator_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

func TestEveryDelimiterAndLineEnd(t *testing.T) {
	c := start(t, emulator.Options{})
	n := 0
	for name, d := range map[string]string{"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"} {
		for ending, end := range map[string]string{"LF": "\n", "CRLF": "\r\n"} {
			n++
			j := c.load(`{"object":"Account","operation":"insert","columnDelimiter":"`+name+`","lineEnding":"`+ending+`"}`, strings.Join([]string{"Name" + d + "Warehouse_Key__c", fmt.Sprintf(`"a%sb"%s%d`, d, d, n), ""}, end))
			rows := c.s.Org().Find("Account", "Warehouse_Key__c", fmt.Sprint(n))
			if j.State != "JobComplete" || len(rows) != 1 || rows[0]["Name"] != "a"+d+"b" {
				t.Errorf("%s %s: %+v %v", name, ending, j, rows)
			}
			if text := c.want(200, "GET", v66+"/jobs/ingest/"+j.ID+"/successfulResults/", "").body; !strings.HasPrefix(text, `"sf__Id"`+d+`"sf__Created"`+d+"Name"+d+"Warehouse_Key__c") {
				t.Errorf("%s %s: %q", name, ending, text)
			}
		}
	}
	c.refused(c.do("POST", v66+"/jobs/ingest", `{"object":"Account","operation":"insert","columnDelimiter":"DOT"}`), 400, "INVALIDJOB", "DOT")
}

func TestJobListInPages(t *testing.T) {
	c := start(t, emulator.Options{})
	for range 1001 {
		c.createJob(`{"object":"Account","operation":"insert"}`)
	}
	c.classic(`<jobInfo xmlns="x"><operation>insert</operation><object>Account</object><contentType>CSV</contentType></jobInfo>`, "application/xml")
	type list struct {
		Done           bool
		NextRecordsURL string `json:"nextRecordsUrl"`
		Records        []struct{ ID, JobType string }
	}
	seen := map[string]bool{}
	for path, pages := v66+"/jobs/ingest?jobType=V2Ingest", 0; path != ""; pages++ {
		var l list
		c.want(200, "GET", path, "").decode(t, &l)
		for _, r := range l.Records {
			if seen[r.ID] = true; r.JobType != "V2Ingest" {
				t.Fatalf("%+v", r)
			}
		}
		if path = l.NextRecordsURL; l.Done != (path == "") || pages > 1 {
			t.Fatalf("page %d: done %v, next %q", pages, l.Done, path)
		}
	}
	if len(seen) != 1001 {
		t.Fatalf("%d jobs", len(seen))
	}
	var classic list
	c.want(200, "GET", v66+"/jobs/ingest?jobType=Classic", "").decode(t, &classic)
	if len(classic.Records) != 1 {
		t.Fatalf("%+v", classic)
	}
}

func TestSizeCaps(t *testing.T) {
	c := start(t, emulator.Options{})
	create := `<jobInfo xmlns="x"><operation>insert</operation><object>Account</object><contentType>CSV</contentType></jobInfo>`
	id := c.classic(create, "application/xml")
	csv := []string{"Content-Type", "text/csv"}
	a := c.want(201, "POST", async+"/"+id+"/batch", "Name\n"+strings.Repeat("x\n", 10_001), csv...)
	contains(t, c.awaitBatch(id, between(a.body, "<id>", "</id>")), "<state>Failed</state>", "InvalidBatch : Records not processed")
	if a := c.do("POST", async+"/"+id+"/batch", strings.Repeat("x", 10_000_001), csv...); a.status != 400 {
		t.Fatalf("a batch beyond 10 MB: %d %s", a.status, a.body)
	}
	j := c.createJob(`{"object":"Account","operation":"insert"}`)
	c.refused(c.do("PUT", v66+"/jobs/ingest/"+j.ID+"/batches", strings.Repeat("x", 112_500_001), csv...), 400, "EXCEEDED_MAX_SIZE_REQUEST", "")
	if c.s.Org().Count("Account") != 0 {
		t.Fatal("something was written")
	}
	long := "SELECT Id FROM Account WHERE Name = '" + strings.Repeat("x", 4001) + "'"
	c.refused(c.do("GET", v66+"/query?q="+url.QueryEscape(long), ""), 400, "MALFORMED_QUERY", "")
	// Beyond what an address can carry, a query comes in a composite request.
	longer := "SELECT Id FROM Account WHERE " + strings.Repeat("Name = 'x' OR ", 8000) + "Name = 'y'"
	contains(t, c.want(200, "POST", v66+"/composite", `{"compositeRequest":[{"method":"GET","url":"`+v66+`/query?q=`+url.QueryEscape(longer)+`","referenceId":"q"}]}`).body, "MALFORMED_QUERY")
}

func TestReadOnlyFieldsAndOwners(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, `
[[records]]
object = "User"
values = { Username = "gone@x.example", LastName = "Gone", Email = "gone@x.example", Alias = "gone", IsActive = false }
`)})
	c.refused(c.do("POST", v66+"/sobjects/Case", `{"CaseNumber":"1","Subject":"s"}`), 400, "INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: CaseNumber")
	c.refused(c.do("POST", v66+"/sobjects/Opportunity", `{"Name":"o","StageName":"Prospecting","CloseDate":"2026-01-01","IsWon":true,"CreatedDate":"2026-01-01T00:00:00Z"}`), 400, "INVALID_FIELD_FOR_INSERT_UPDATE", "IsWon")
	first, second := c.insert("Case", `{"Subject":"a"}`), c.insert("Case", `{"Subject":"b"}`)
	number := func(id string) string { return c.s.Org().Find("Case", "Id", id)[0]["CaseNumber"].(string) }
	if number(first) != "00000001" || number(second) != "00000002" {
		t.Fatalf("%s, %s", number(first), number(second))
	}
	gone := c.s.Org().Find("User", "Username", "gone@x.example")[0]["Id"]
	c.refused(c.do("POST", v66+"/sobjects/Account", fmt.Sprintf(`{"Name":"x","OwnerId":"%s"}`, gone)), 400, "INACTIVE_OWNER_OR_USER", "inactive user")
	id := c.insert("Account", `{"Name":"x"}`)
	c.want(412, "PATCH", v66+"/sobjects/Account/"+id, `{"Name":"y"}`, "If-Unmodified-Since", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	c.want(204, "POST", v66+"/sobjects/Account/"+id+"?_HttpMethod=PATCH", `{"Name":"z"}`)
	if c.s.Org().Find("Account", "Id", id)[0]["Name"] != "z" {
		t.Fatal("not written")
	}
	c.refused(c.do("PATCH", v66+"/sobjects/Opportunity/"+id, `{"Name":"y"}`), 400, "MALFORMED_ID", "")
}

func TestBulk1AbortAndSerial(t *testing.T) {
	c := start(t, emulator.Options{})
	c.s.HoldBulk(true)
	id := c.classic(`<jobInfo xmlns="x"><operation>insert</operation><object>Account</object><concurrencyMode>Serial</concurrencyMode><contentType>CSV</contentType></jobInfo>`, "application/xml")
	var batches []string
	for range 3 {
		batches = append(batches, between(c.want(201, "POST", async+"/"+id+"/batch", "Name\nx\n", "Content-Type", "text/csv").body, "<id>", "</id>"))
	}
	// One batch runs, two wait for it; those are what an abort catches.
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(c.want(200, "GET", async+"/"+id, "").body, "<numberBatchesInProgress>1<"); {
		if time.Now().After(deadline) {
			t.Fatal("no batch is in progress")
		}
		time.Sleep(time.Millisecond) // an org has no call that waits for a batch
	}
	contains(t, c.want(200, "POST", async+"/"+id, `<jobInfo xmlns="x"><state>Aborted</state></jobInfo>`, "Content-Type", "application/xml").body, "<state>Aborted</state>", "<numberBatchesQueued>0<")
	c.s.HoldBulk(false)
	states := ""
	for _, b := range batches {
		states += between(c.awaitBatch(id, b), "<state>", "</state>") + " "
	}
	if strings.Count(states, "NotProcessed") != 2 || strings.Count(states, "Completed") != 1 || c.s.Org().Count("Account") != 1 {
		t.Fatal(states)
	}
	contains(t, c.want(200, "GET", async+"/"+id+"/batch", "").body, "<batchInfoList", "<state>NotProcessed</state>")
}

func TestCountersOfBytesAndConcurrency(t *testing.T) {
	c := start(t, emulator.Options{})
	arrived := make(chan string, 4)
	c.s.OnCall(func(kind string) { arrived <- kind })
	c.s.AddFault(emulator.Fault{Match: "limits", Delay: 200 * time.Millisecond, Times: -1})
	c.s.AddFault(emulator.Fault{Match: "describe.global", Over: 2, Status: 503, Times: -1})
	var open sync.WaitGroup
	for range 2 {
		open.Go(func() { _, _ = c.try("GET", v66+"/limits", "") })
		<-arrived
	}
	c.want(503, "GET", v66+"/sobjects", "")
	open.Wait()
	c.want(200, "GET", v66+"/sobjects", "")
	c.s.OnCall(nil)
	c.insert("Account", `{"Name":"`+strings.Repeat("x", 200)+`"}`)
	if n := c.s.Counters(); n.MaxConcurrent != 3 || n.BytesIn < 200 || n.BytesOut < 1000 || n.Calls["limits"] != 2 || n.APICalls != 5 {
		t.Fatalf("%+v", n)
	}
	c.s.ResetCounters()
	if n := c.s.Counters(); n.Requests != 0 || n.Writes != 0 {
		t.Fatalf("%+v", n)
	}
}
