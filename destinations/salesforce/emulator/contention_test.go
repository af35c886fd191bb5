package emulator_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

// More than so many long requests at once are refused; short ones are not
// counted.
func TestConcurrentLongRequests(t *testing.T) {
	c := start(t, emulator.Options{OrgFile: orgFile(t, "[limits]\nconcurrent_long_requests = 2\nlong_request_seconds = 0.05\n")})
	arrived := make(chan string, 8)
	c.s.OnCall(func(kind string) { arrived <- kind })
	c.s.AddFault(emulator.Fault{Match: "rows.create", Delay: time.Second, Times: -1})
	var slow sync.WaitGroup
	for range 2 {
		slow.Go(func() { _, _ = c.try("POST", v66+"/sobjects/Account", `{"Name":"x"}`) })
		<-arrived
	}
	c.want(200, "GET", v66+"/limits", "") // they are not long yet
	<-arrived
	time.Sleep(60 * time.Millisecond) // what is awaited is that time passes
	c.refused(c.do("GET", v66+"/limits", ""), 403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded.")
	c.want(200, "GET", "/services/data/", "")
	slow.Wait()
	c.want(200, "GET", v66+"/limits", "")
}

// contended is an org with an account P that contacts fight for: a write holds
// it for as long as its processing takes.
func contended(t *testing.T, processing, lockWait time.Duration) *client {
	t.Helper()
	c := start(t, emulator.Options{Locks: true, ProcessingDelay: processing, LockWait: lockWait})
	if _, err := c.s.Org().Insert("Account", map[string]any{"Name": "parent", "Warehouse_Key__c": "P"}); err != nil {
		t.Fatal(err)
	}
	return c
}

const lockedRows = "LastName,Account.Warehouse_Key__c\n"

// A batch whose rows meet too many locks goes back to the queue and, when that
// does not help, fails with what is left of it unprocessed.
func TestTooManyLockFailures(t *testing.T) {
	c := contended(t, 2*time.Second, 5*time.Millisecond)
	holder := make(chan error, 1)
	arrived := make(chan string, 1)
	c.s.OnCall(func(kind string) { arrived <- kind })
	go func() {
		_, err := c.try("POST", v66+"/sobjects/Contact", `{"LastName":"holds","Account":{"Warehouse_Key__c":"P"}}`)
		holder <- err
	}()
	<-arrived
	c.s.OnCall(nil)
	time.Sleep(50 * time.Millisecond) // the holder's locks are taken, for two seconds
	j := c.load(`{"object":"Contact","operation":"insert"}`, lockedRows+strings.Repeat("x,P\n", 10_000))
	if j.State != "Failed" || !strings.HasPrefix(j.Message, "TooManyLockFailure : Too many lock failure 200") || j.Failed != 11*200 || j.Processed != j.Failed {
		t.Fatalf("%+v", j)
	}
	if n := len(c.rows(j.ID, "unprocessedrecords")); n != 10_000-11*200 {
		t.Fatalf("%d unprocessed", n)
	}
	if a := c.want(200, "GET", v66+"/jobs/ingest/"+j.ID, "").body; !strings.Contains(a, `"retries":10`) {
		t.Fatal(a)
	}
	if err := <-holder; err != nil {
		t.Fatal(err)
	}
}

func TestLockedBatchIsRequeued(t *testing.T) {
	c := contended(t, time.Second, 400*time.Millisecond)
	c.s.HoldBulk(true)
	add := func(object string, rows int) (job, batch string) {
		id := c.classic(`<jobInfo xmlns="x"><operation>insert</operation><object>`+object+`</object><contentType>CSV</contentType></jobInfo>`, "application/xml")
		a := c.want(201, "POST", async+"/"+id+"/batch", lockedRows+strings.Repeat("x,P\n", rows), "Content-Type", "text/csv")
		return id, between(a.body, "<id>", "</id>")
	}
	first, firstBatch := add("Contact", 200) // one transaction that holds P for a second
	second, secondBatch := add("Contact", 400)
	c.s.HoldBulk(false)
	infos := c.awaitBatch(first, firstBatch) + c.awaitBatch(second, secondBatch)
	jobs := c.want(200, "GET", async+"/"+first, "").body + c.want(200, "GET", async+"/"+second, "").body
	// Whichever came second lost its first 200 rows to the other, waited, and if
	// it had rows left did those.
	if !strings.Contains(infos, "<numberRecordsFailed>200</numberRecordsFailed>") || strings.Contains(infos, "<state>Failed</state>") || c.s.Org().Count("Contact") != 400 {
		t.Fatal(infos)
	}
	if retried := strings.Contains(jobs, "<numberRetries>1</numberRetries>"); retried != strings.Contains(c.awaitBatch(second, secondBatch), "<numberRecordsFailed>200<") {
		t.Fatal(jobs)
	}
}
