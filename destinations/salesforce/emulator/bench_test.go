package emulator_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
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
	sizes := []int{10_000, 200_000}
	if s := os.Getenv("COHO_BENCH_ROWS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		sizes = []int{n}
	}
	for _, n := range sizes {
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
				b.StopTimer()
				b.ReportMetric(float64(heap())/float64(n), "heap-B/row")
			})
		}
	}
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMemoryIsInProportion: what a record takes does not grow with their
// number, and is a few hundred bytes, its upload included.
func TestMemoryIsInProportion(t *testing.T) {
	perRow := func(n int) uint64 {
		text := tenFields(n, 1000)
		before := heap()
		s, err := emulator.Start(t.Context(), emulator.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if _, err := s.Org().Insert("Account", map[string]any{"Name": fmt.Sprint("Account ", i), "Warehouse_Key__c": fmt.Sprint("acc-", i)}); err != nil {
				t.Fatal(err)
			}
		}
		(&bench{newClient(t, s)}).run(text)
		used := heap() - before
		runtime.KeepAlive(text)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return used / uint64(n)
	}
	small, large := perRow(20_000), perRow(80_000)
	if large > 1000 || large > small+small/4 {
		t.Errorf("%d bytes a record in 20,000 and %d in 80,000", small, large)
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

// run upserts a file, in two jobs where one may not hold it.
func (c *bench) run(text string) {
	if len(text) > 90<<20 {
		head := text[:strings.IndexByte(text, '\n')+1]
		half := len(text)/2 + strings.IndexByte(text[len(text)/2:], '\n') + 1
		c.run(text[:half])
		c.run(head + text[half:])
		return
	}
	j := c.load(`{"object":"Subscription__c","operation":"upsert","externalIdFieldName":"Warehouse_Key__c"}`, text)
	if j.State != "JobComplete" || j.Failed != 0 {
		c.t.Fatalf("%+v", j)
	}
}
