package emulator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// restart closes an org and starts it again over the same directory.
func (c *client) restart(t *testing.T, o emulator.Options) *client {
	t.Helper()
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	return start(t, o)
}

func TestJobsEventsAndPicklistsSurviveARestart(t *testing.T) {
	o := emulator.Options{Dir: t.TempDir(), OrgFile: orgFile(t, valueSetOrg)}
	c := start(t, o)
	const upsert = `{"object":"Account","operation":"upsert","externalIdFieldName":"Warehouse_Key__c"}`
	done := c.load(upsert, "Warehouse_Key__c,Name,AnnualRevenue\na,A,5\nb,,6\nc,C,7\n")
	open := c.createJob(upsert)
	c.upload(open.ID, "Warehouse_Key__c,Name\nd,D\n")
	gone := c.load(upsert, "Warehouse_Key__c,Name\ne,E\n")
	c.want(204, "DELETE", v66+"/jobs/ingest/"+gone.ID, "")
	c.insert("Order_Placed__e", `{"Order_Number__c":"1","Amount__c":1.5}`)
	contains(t, c.jsforce(200, "m", metadata, `<updateMetadata><metadata xsi:type="GlobalValueSet"><fullName>Segments</fullName><customValue><fullName>Huge</fullName><default>false</default><label>Huge</label></customValue><masterLabel>Segments</masterLabel><sorted>false</sorted></metadata><metadata xsi:type="CustomField"><fullName>Account.Tier__c</fullName><label>Tier</label><type>Picklist</type><valueSet><restricted>true</restricted><valueSetDefinition><sorted>false</sorted><value><fullName>Plat</fullName><default>false</default><label>P</label></value></valueSetDefinition></valueSet></metadata></updateMetadata>`), "<success>true</success>")
	successes := c.rows(done.ID, "successfulResults")

	for range 2 { // what was read is written again
		c = c.restart(t, o)
		if j := c.job(done.ID); j.State != "JobComplete" || j.Processed != 3 || j.Failed != 1 {
			t.Fatalf("%+v", j)
		}
		again := c.rows(done.ID, "successfulResults")
		if len(again) != 2 || again[0]["sf__Id"] != successes[0]["sf__Id"] || again[1]["Name"] != successes[1]["Name"] {
			t.Fatalf("%v, was %v", again, successes)
		}
		if f := c.rows(done.ID, "failedResults"); len(f) != 1 || !strings.HasPrefix(f[0]["sf__Error"], "REQUIRED_FIELD_MISSING:") {
			t.Fatalf("%v", f)
		}
		c.want(404, "GET", v66+"/jobs/ingest/"+gone.ID, "")
		if e := c.s.Org().Published("Order_Placed__e"); len(e) != 1 || e[0]["Order_Number__c"] != "1" {
			t.Fatalf("%v", e)
		}
	}
	c.insert("Account", `{"Name":"x","Segment__c":"Huge","Tier__c":"Plat"}`)
	c.refused(c.do("POST", v66+"/sobjects/Account", `{"Name":"x","Tier__c":"Gold"}`), 400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "")
	c.want(200, "PATCH", v66+"/jobs/ingest/"+open.ID, `{"state":"UploadComplete"}`)
	if j := c.await(open.ID); j.State != "JobComplete" || j.Processed != 1 {
		t.Fatalf("%+v", j)
	}
	if next := c.createJob(upsert); next.ID == done.ID || next.ID == open.ID {
		t.Fatal("a job's Id is given twice")
	}
}

// A job that was being processed when the process died ends as Failed, with its
// rows in none of the result files: nobody knows what became of them.
func TestJobInProgressAtTheEnd(t *testing.T) {
	o := emulator.Options{Dir: t.TempDir()}
	c := start(t, o)
	c.s.HoldBulk(true)
	j := c.createJob(`{"object":"Account","operation":"insert"}`)
	c.upload(j.ID, "Name\nx\ny\n")
	c.want(200, "PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"UploadComplete"}`)
	name := filepath.Join(o.Dir, "jobs", j.ID+".json")
	dying, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	// As it was before the orderly end wrote more.
	if err := os.WriteFile(name, dying, 0o600); err != nil {
		t.Fatal(err)
	}
	c = start(t, o)
	if got := c.job(j.ID); got.State != "Failed" || !strings.HasPrefix(got.Message, "InternalServerError : ") {
		t.Fatalf("%+v", got)
	}
	for _, file := range []string{"successfulResults", "failedResults", "unprocessedrecords"} {
		if rows := c.rows(j.ID, file); len(rows) != 0 {
			t.Fatalf("%s: %v", file, rows)
		}
	}
}
