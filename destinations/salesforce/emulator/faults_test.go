package emulator_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

func TestFaults(t *testing.T) {
	c := start(t, emulator.Options{Seed: 3})
	coll := v66 + "/composite/sobjects"
	one := `{"records":[{"attributes":{"type":"Account"},"Name":"x"}]}`
	c.want(204, "POST", "/emulator/faults", `{"match":"collections","times":2,"after":1,"status":503,"code":"SERVER_UNAVAILABLE","message":"later"}`)
	c.want(200, "POST", coll, one)
	c.refused(c.do("POST", coll, one), 503, "SERVER_UNAVAILABLE", "later")
	c.want(503, "POST", coll, one)
	c.want(200, "GET", v66+"/limits", "")
	c.want(200, "POST", coll, one)
	c.want(204, "DELETE", "/emulator/faults", "")

	c.s.AddFault(emulator.Fault{Match: "collections.create", CutBefore: true})
	c.s.AddFault(emulator.Fault{Match: "POST " + v66 + "/sobjects/Account", CutAfter: true})
	if _, err := c.try("POST", coll, one); err == nil {
		t.Fatal("the connection was not cut")
	}
	if _, err := c.try("POST", v66+"/sobjects/Account", `{"Name":"kept"}`); err == nil {
		t.Fatal("the connection was not cut")
	}
	if n := c.s.Org().Count("Account"); n != 3 {
		t.Fatalf("%d accounts: cut before does nothing, cut after does the work", n)
	}
	c.s.AddFault(emulator.Fault{Match: "query", Over: 1, Status: 403, Times: -1})
	c.query("SELECT Id FROM Account")
	c.s.ClearFaults()
	c.want(204, "POST", "/emulator/api-calls", `{"used":100000}`)
	c.refused(c.do("GET", v66+"/limits", ""), 403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
	c.s.SetAPICallsUsed(0)
	c.s.AddFault(emulator.Fault{Match: "query", ExpireSession: true})
	c.want(401, "GET", v66+"/query?q=SELECT+Id+FROM+Account", "")
	c.want(401, "GET", v66+"/query?q=SELECT+Id+FROM+Account", "")
}

func TestRowFaults(t *testing.T) {
	c := start(t, emulator.Options{Seed: 3})
	c.s.AddFault(emulator.Fault{Match: "bulk upsert Account", RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "unable to obtain exclusive access to this record", RowShare: 0.3, RowTries: 1})
	var all strings.Builder
	all.WriteString("Warehouse_Key__c,Name\n")
	for i := range 500 {
		fmt.Fprintf(&all, "k%d,n\n", i)
	}
	j := c.load(upsertAccounts, all.String())
	if j.Failed < 100 || j.Failed > 200 {
		t.Fatalf("%+v", j)
	}
	rows := c.rows(j.ID, "failedResults")
	if len(rows) != j.Failed || rows[0]["sf__Error"] != "UNABLE_TO_LOCK_ROW:unable to obtain exclusive access to this record:--" {
		t.Fatal(rows[0])
	}
	again := "Warehouse_Key__c,Name\n"
	for _, r := range rows {
		again += r["Warehouse_Key__c"] + ",n\n"
	}
	if j = c.load(upsertAccounts, again); j.Failed != 0 || c.s.Org().Count("Account") != 500 {
		t.Fatalf("rows fail once each: %+v", j)
	}
}

func TestLostResults(t *testing.T) {
	c := start(t, emulator.Options{})
	c.s.AddFault(emulator.Fault{LoseResults: 0.25})
	j := c.load(upsertAccounts, "Warehouse_Key__c,Name\na,1\nb,2\nc,\nd,4\n")
	rows := len(c.rows(j.ID, "successfulResults")) + len(c.rows(j.ID, "failedResults")) + len(c.rows(j.ID, "unprocessedrecords"))
	if j.State != "JobComplete" || j.Processed != 4 || j.Failed != 1 || rows != 3 {
		t.Fatalf("%+v, %d rows in the results", j, rows)
	}
}

func TestCountersAndHook(t *testing.T) {
	c := start(t, emulator.Options{})
	var mu sync.Mutex
	var kinds []string
	c.s.OnCall(func(kind string) {
		mu.Lock()
		defer mu.Unlock()
		kinds = append(kinds, kind)
	})
	c.createJob(upsertAccounts)
	c.want(200, "GET", v66+"/sobjects/Account/describe", "")
	c.query("SELECT Id FROM Account")
	c.s.OnCall(nil)
	n := c.s.Counters()
	if strings.Join(kinds, " ") != "bulk.create describe query" || n.Writes != 0 || n.WriteCalls != 1 || n.JobsNeverClosed != 1 || n.Calls["query"] != 1 || n.APICalls != 3 || n.BytesOut == 0 {
		t.Fatalf("%v %+v", kinds, n)
	}
	var wire emulator.Counters
	c.want(200, "GET", "/emulator/counters", "").decode(t, &wire)
	if wire.Requests != n.Requests {
		t.Fatal("the control API counts itself")
	}
	c.want(204, "POST", "/emulator/advance-time", `{"by":"25h"}`)
	var list struct{ Records []job }
	c.want(200, "GET", v66+"/limits", "")
	c.want(200, "GET", v66+"/jobs/ingest", "").decode(t, &list)
	c.refused(c.do("GET", v66+"/jobs/ingest/"+list.Records[0].ID, ""), 404, "NOT_FOUND", "")
}

func TestGzipBothWays(t *testing.T) {
	c := start(t, emulator.Options{})
	c.http.Transport.(*http.Transport).DisableCompression = true
	a := c.want(200, "GET", v66+"/sobjects", "", "Accept-Encoding", "gzip")
	if a.header.Get("Content-Encoding") != "gzip" {
		t.Fatal("the answer is not compressed")
	}
	c.refused(c.do("POST", v66+"/sobjects/Account", "not gzip", "Content-Encoding", "gzip"), 400, "INVALID_CONTENT", "")
	if a := c.want(201, "PUT", v66+"/jobs/ingest/"+c.createJob(upsertAccounts).ID+"/batches", "a\n", "Content-Type", "text/csv", "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "" || a.body != "" {
		t.Fatal("an empty answer is compressed")
	}
}

func TestRecordsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	file := orgFile(t, `
[[objects]]
name = "Thing__c"
fields = [ { name = "A__c" }, { name = "B__c", external_id = true, unique = true } ]
`)
	c := start(t, emulator.Options{Dir: dir, OrgFile: file})
	c.load(`{"object":"Thing__c","operation":"upsert","externalIdFieldName":"B__c"}`, "B__c,A__c\n1,one\n2,two\n3,three\n")
	keep := fmt.Sprint(c.s.Org().Find("Thing__c", "B__c", "1")[0]["Id"])
	gone := fmt.Sprint(c.s.Org().Find("Thing__c", "B__c", "2")[0]["Id"])
	c.want(204, "DELETE", v66+"/sobjects/Thing__c/"+gone, "")
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	// A torn end, and an org file that has changed meanwhile.
	name := filepath.Join(dir, "org.journal")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(text, 0, 0, 1, 0, 'x', 'y'), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		c = start(t, emulator.Options{Dir: dir, OrgFile: orgFile(t, `
[[objects]]
name = "Thing__c"
fields = [ { name = "New__c" }, { name = "B__c", external_id = true, unique = true }, { name = "A__c" } ]
`)})
		row := c.s.Org().Find("Thing__c", "B__c", "1")
		if len(row) != 1 || row[0]["Id"] != keep || row[0]["A__c"] != "one" || i == 0 && row[0]["New__c"] != nil || c.s.Org().Count("Thing__c") != 2+i {
			t.Fatalf("%v", row)
		}
		if c.s.Org().Count("User") != 2 {
			t.Fatal("users are added again")
		}
		j := c.load(`{"object":"Thing__c","operation":"upsert","externalIdFieldName":"B__c"}`, "B__c,New__c\n1,x\n4,y\n")
		if j.Failed != 0 || c.s.Org().Count("Thing__c") != 3 {
			t.Fatalf("%+v", j)
		}
		if err := c.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParentsAreLocked(t *testing.T) {
	c := start(t, emulator.Options{Locks: true, ProcessingDelay: 300 * time.Millisecond, LockWait: 20 * time.Millisecond})
	acc, err := c.s.Org().Insert("Account", map[string]any{"Name": "parent", "Warehouse_Key__c": "P"})
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"records":[{"attributes":{"type":"Contact"},"LastName":"x","AccountId":"%s"},{"attributes":{"type":"Contact"},"LastName":"free"}]}`, acc)
	var wg sync.WaitGroup
	answers := make([][]result, 2)
	for i := range answers {
		wg.Go(func() {
			a, err := c.try("POST", v66+"/composite/sobjects", body)
			if err == nil {
				a.decode(t, &answers[i])
			}
		})
	}
	wg.Wait()
	if len(answers[0]) != 2 || len(answers[1]) != 2 || !answers[0][1].Success || !answers[1][1].Success {
		t.Fatalf("%+v", answers)
	}
	lost := answers[0][0]
	if lost.Success {
		lost = answers[1][0]
	}
	if answers[0][0].Success == answers[1][0].Success || lost.Errors[0].StatusCode != "UNABLE_TO_LOCK_ROW" || !strings.Contains(lost.Errors[0].Message, acc) {
		t.Fatalf("%+v", answers)
	}
}

func TestBulkJobsFightForTheirParents(t *testing.T) {
	c := start(t, emulator.Options{Locks: true, ProcessingDelay: 400 * time.Millisecond, LockWait: 10 * time.Millisecond})
	if _, err := c.s.Org().Insert("Account", map[string]any{"Name": "parent", "Warehouse_Key__c": "P"}); err != nil {
		t.Fatal(err)
	}
	c.s.HoldBulk(true)
	var ids []string
	for range 2 {
		j := c.createJob(`{"object":"Contact","operation":"insert"}`)
		c.upload(j.ID, "LastName,Account.Warehouse_Key__c\n"+strings.Repeat("x,P\n", 200))
		c.want(200, "PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"UploadComplete"}`)
		ids = append(ids, j.ID)
	}
	c.s.HoldBulk(false)
	failed := 0
	for _, id := range ids {
		j := c.await(id)
		failed += j.Failed
		for _, r := range c.rows(id, "failedResults") {
			if !strings.HasPrefix(r["sf__Error"], "UNABLE_TO_LOCK_ROW:unable to obtain exclusive access to this record or 1 records: 001") {
				t.Fatal(r)
			}
		}
	}
	if failed != 200 || c.s.Org().Count("Contact") != 200 {
		t.Fatalf("%d rows failed", failed)
	}
}
