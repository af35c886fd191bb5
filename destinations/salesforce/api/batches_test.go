package api_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
)

func text(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

// ended waits for a job's batches.
func ended(t *testing.T, c *api.Client, job string) []api.BatchInfo {
	t.Helper()
	for {
		list, err := c.Batches(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		open := 0
		for _, b := range list {
			if !b.Ended() {
				open++
			}
		}
		if open == 0 {
			return list
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
	}
}

func TestBatchJob(t *testing.T) {
	_, c := org(t, emulator.Options{})
	ctx := t.Context()
	job, err := c.CreateBatchJob(ctx, api.BatchJob{Object: "Account", Operation: api.OpUpsert, ExternalIDField: "Warehouse_Key__c", Serial: true})
	if err != nil || job.State != api.StateOpen {
		t.Fatalf("got %+v, %v", job, err)
	}
	const first, second = "Warehouse_Key__c,Name\nA,\"a, \"\"b\"\"\nc\"\nB,\n", "Warehouse_Key__c,Name\nC,c\n"
	a, err := c.AddBatch(ctx, job.ID, text(first))
	if err != nil || a.JobID != job.ID {
		t.Fatalf("got %+v, %v", a, err)
	}
	b, err := c.AddBatch(ctx, job.ID, text(second))
	if err != nil {
		t.Fatal(err)
	}
	if job, err = c.CloseBatchJob(ctx, job.ID); err != nil || job.State != api.StateClosed {
		t.Fatalf("got %+v, %v", job, err)
	}
	list := ended(t, c, job.ID)
	if len(list) != 2 || list[0].State != api.BatchCompleted || list[0].RecordsProcessed != 2 || list[0].RecordsFailed != 1 {
		t.Fatalf("batches are %+v", list)
	}
	for id, sent := range map[string]string{a.ID: first, b.ID: second} {
		want, err := api.DigestCSV(strings.NewReader(strings.ReplaceAll(sent, "C,c\n", "\"C\",\"c\"\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.BatchDigest(ctx, job.ID, id); err != nil || got != want {
			t.Fatalf("batch %s reads back as %s, %v; want %s", id, got, err, want)
		}
	}
	results, err := c.BatchResults(ctx, job.ID, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for results.Next() {
		row := results.Row()
		got = append(got, row[1]+" "+row[2]+" "+api.ParseResultError(row[3]).Code)
	}
	if err := errors.Join(results.Err(), results.Close()); err != nil || strings.Join(got, "; ") != "true true ; false false REQUIRED_FIELD_MISSING" {
		t.Fatalf("results are %q, %v", got, err)
	}

	// A job that was closed takes no more, and closing it again is no error.
	_, err = c.AddBatch(ctx, job.ID, text(second))
	var e *api.Error
	if !errors.As(err, &e) || e.Code != "InvalidJobState" || e.Unknown || e.Status != http.StatusBadRequest {
		t.Fatalf("got %v", err)
	}
	if job, err = c.CloseBatchJob(ctx, job.ID); err != nil || job.State != api.StateClosed {
		t.Fatalf("got %+v, %v", job, err)
	}
	if _, err = c.BatchJob(ctx, "7505fEXAMPLE4C2AAM"); !errors.As(err, &e) || e.Code != "InvalidJob" {
		t.Fatalf("got %v", err)
	}
}

// Bulk API 1.0 says with HTTP 400 that a session has ended. It is renewed at
// every call, and a batch is still there once.
func TestBatchJobWhoseSessionEnds(t *testing.T) {
	server, c := org(t, emulator.Options{})
	expire := func() { server.AddFault(emulator.Fault{Match: "bulk1", ExpireSession: true}) }
	ctx := t.Context()
	expire()
	job, err := c.CreateBatchJob(ctx, api.BatchJob{Object: "Account", Operation: api.OpInsert})
	if err != nil {
		t.Fatal(err)
	}
	expire()
	b, err := c.AddBatch(ctx, job.ID, text("Name\na\n"))
	if err != nil {
		t.Fatal(err)
	}
	expire()
	list := ended(t, c, job.ID)
	expire()
	if _, err := c.BatchDigest(ctx, job.ID, b.ID); err != nil {
		t.Fatal(err)
	}
	expire()
	results, err := c.BatchResults(ctx, job.ID, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := results.Close(); err != nil {
		t.Fatal(err)
	}
	expire()
	if job, err = c.CloseBatchJob(ctx, job.ID); err != nil || job.State != api.StateClosed {
		t.Fatalf("got %+v, %v", job, err)
	}
	if len(list) != 1 || server.Org().Count("Account") != 1 {
		t.Fatalf("%d batches, %d records", len(list), server.Org().Count("Account"))
	}
}

// A write whose answer is lost is reported as unknown, not sent again.
func TestBatchWhoseAnswerIsLost(t *testing.T) {
	server, c := org(t, emulator.Options{})
	job, err := c.CreateBatchJob(t.Context(), api.BatchJob{Object: "Account", Operation: api.OpInsert})
	if err != nil {
		t.Fatal(err)
	}
	server.AddFault(emulator.Fault{Match: "bulk1.batch", CutAfter: true})
	_, err = c.AddBatch(t.Context(), job.ID, text("Name\na\n"))
	var e *api.Error
	if !errors.As(err, &e) || !e.Unknown {
		t.Fatalf("got %v", err)
	}
	server.AddFault(emulator.Fault{Match: "bulk1.close", CutAfter: true})
	if job, err = c.CloseBatchJob(t.Context(), job.ID); err != nil || job.State != api.StateClosed {
		t.Fatalf("got %+v, %v", job, err)
	}
	if list := ended(t, c, job.ID); len(list) != 1 {
		t.Fatalf("%d batches", len(list))
	}
}

// Quotes and line ends are not part of a digest; cells and their order are.
func TestDigestCSV(t *testing.T) {
	digest := func(s string) string {
		t.Helper()
		d, err := api.DigestCSV(strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := digest("A,B\n1,2\n3,4\n")
	if digest("\"A\",\"B\"\r\n\"1\",2\r\n3,\"4\"") != want {
		t.Error("the same cells have another digest")
	}
	for _, other := range []string{"A,B\n1,2\n", "A,B\n3,4\n1,2\n", "A,B\n12,\n3,4\n", "A\nB\n1\n2\n3\n4\n", "A,B\n1,2\n3,4\n5,6\n", "A,B\n1,2\n3, 4\n"} {
		if digest(other) == want {
			t.Errorf("%q has the same digest", other)
		}
	}
	if _, err := api.DigestCSV(strings.NewReader("A\n\"b")); err == nil {
		t.Error("a text that ends in a quote has a digest")
	}
}
