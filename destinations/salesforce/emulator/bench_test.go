package emulator_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// tenFields is a file of subscriptions with ten fields, one of them the parent
// by its external id.
func tenFields(n, parents int) string {
	var b strings.Builder
	b.WriteString("Warehouse_Key__c,Name,Amount__c,Start_Date__c,Renewed_At__c,Seats__c,Discount__c,Active__c,Contact_Email__c,Account__r.Warehouse_Key__c\n")
	for i := range n {
		fmt.Fprintf(&b, "sub-%07d,Subscription %d,%d.50,2026-01-%02d,2026-02-%02dT10:11:12.000Z,%d,12.5,true,person%d@example.com,acc-%d\n", i, i, i%100000, i%28+1, i%28+1, i%500, i, i%parents)
	}
	return b.String()
}

// BenchmarkBulkUpsert is the whole of a Bulk 2.0 upsert job, upload over
// loopback included: creation of records, then the same file again as updates.
func BenchmarkBulkUpsert(b *testing.B) {
	for _, n := range []int{10_000, 200_000} {
		text := tenFields(n, 1000)
		for _, what := range []string{"create", "update"} {
			b.Run(fmt.Sprintf("%s/rows=%d", what, n), func(b *testing.B) {
				b.ReportAllocs()
				c, done := benchClient(b)
				defer done()
				if what == "update" {
					c.run(text)
				}
				b.ResetTimer()
				for b.Loop() {
					if what == "create" {
						b.StopTimer()
						done()
						c, done = benchClient(b)
						runtime.GC()
						b.StartTimer()
					}
					c.run(text)
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

type bench struct {
	*client
}

func benchClient(b *testing.B) (*bench, func()) {
	b.Helper()
	s, err := emulator.Start(b.Context(), emulator.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if _, err := s.Org().Insert("Account", map[string]any{"Name": fmt.Sprint("Account ", i), "Warehouse_Key__c": fmt.Sprint("acc-", i)}); err != nil {
			b.Fatal(err)
		}
	}
	return &bench{newClient(b, s)}, func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}
}

func (c *bench) run(text string) {
	j := c.load(`{"object":"Subscription__c","operation":"upsert","externalIdFieldName":"Warehouse_Key__c"}`, text)
	if j.State != "JobComplete" || j.Failed != 0 {
		c.t.Fatalf("%+v", j)
	}
}
