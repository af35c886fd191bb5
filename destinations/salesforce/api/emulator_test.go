package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
)

// org starts an emulated org and a client of it.
func org(t *testing.T, o emulator.Options, change ...func(*api.Config)) (*emulator.Server, *api.Client) {
	t.Helper()
	server, err := emulator.Start(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	who := server.Credentials()
	cfg := api.Config{Domain: who.URL, Auth: api.AuthClientCredentials, ClientID: who.ClientID, ClientSecret: models.Secret(who.ClientSecret)}
	for _, f := range change {
		f(&cfg)
	}
	client, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return server, client
}

func record(format string, args ...any) []byte {
	return fmt.Appendf(nil, `{"attributes":{"type":"Account"},`+format+`}`, args...)
}

func TestEmulatorLogin(t *testing.T) {
	server, _ := org(t, emulator.Options{})
	key, err := server.JWTKey()
	if err != nil {
		t.Fatal(err)
	}
	who := server.Credentials()
	for name, test := range map[string]struct {
		change func(*api.Config)
		says   string // of the error, "" where there is none
	}{
		"client credentials": {func(*api.Config) {}, ""},
		"refresh token":      {func(c *api.Config) { c.Auth, c.RefreshToken = api.AuthRefreshToken, models.Secret(who.RefreshToken) }, ""},
		"JWT": {func(c *api.Config) {
			c.Auth, c.Username, c.PrivateKeyPEM = api.AuthJWTBearer, who.Username, models.Secret(key)
		}, ""},
		"wrong secret":    {func(c *api.Config) { c.ClientSecret = "guessed" }, "client_secret"},
		"wrong id":        {func(c *api.Config) { c.ClientID = "guessed" }, "client_id"},
		"revoked refresh": {func(c *api.Config) { c.Auth, c.RefreshToken = api.AuthRefreshToken, "revoked" }, "authorise again"},
		"JWT of a stranger": {func(c *api.Config) {
			c.Auth, c.Username, c.PrivateKeyPEM = api.AuthJWTBearer, "stranger@acme.test", models.Secret(key)
		}, "pre-authorise stranger@acme.test"},
		"JWT for a sandbox": {func(c *api.Config) {
			c.Auth, c.Username, c.PrivateKeyPEM, c.Audience = api.AuthJWTBearer, who.Username, models.Secret(key), "https://test.salesforce.com"
		}, "set audience"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := api.Config{Domain: who.URL, Auth: api.AuthClientCredentials, ClientID: who.ClientID, ClientSecret: models.Secret(who.ClientSecret)}
			test.change(&cfg)
			client, err := api.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			got, err := client.Identity(t.Context())
			if test.says == "" {
				if err != nil || got.OrgID != server.Org().ID() || got.Username != who.Username || len(got.UserID) != 18 {
					t.Errorf("identity %+v, %v", got, err)
				}
				return
			}
			if e, ok := errors.AsType[*api.Error](err); !ok || e.Class != api.StopRun || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestEmulatorDescribe(t *testing.T) {
	server, c := org(t, emulator.Options{})
	ctx := t.Context()
	account, err := c.Describe(ctx, "account")
	if err != nil {
		t.Fatal(err)
	}
	key, ok := account.Field("warehouse_key__c")
	if !ok || !key.ExternalID || !key.IDLookup || !key.Unique || !key.CaseSensitive || !key.Createable || !key.Updateable || key.Length != 64 || !key.Custom {
		t.Errorf("key field %+v", key)
	}
	parent, _ := account.Field("ParentId")
	if parent == nil || len(parent.ReferenceTo) != 1 || parent.ReferenceTo[0] != "Account" || parent.RelationshipName != "Parent" {
		t.Errorf("parent field %+v", parent)
	}
	tier, _ := account.Field("Tier__c")
	if tier == nil || !tier.RestrictedPicklist || len(tier.PicklistValues) != 3 || tier.PicklistValues[0].Value != "Bronze" || !tier.PicklistValues[0].Active {
		t.Errorf("picklist field %+v", tier)
	}
	if account.Name != "Account" || account.KeyPrefix != "001" || !account.Createable || !account.Deletable || !account.Queryable {
		t.Errorf("object %+v", account)
	}
	_, err = c.Describe(ctx, "Nope__c")
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Status != http.StatusNotFound || !strings.Contains(err.Error(), "Nope__c") {
		t.Errorf("error %v", err)
	}
	objects, err := c.Objects(ctx)
	names := map[string]bool{}
	for _, o := range objects {
		names[o.Name] = true
	}
	if err != nil || !names["Account"] || !names["Contact"] {
		t.Errorf("objects %v, %v", names, err)
	}
	limits, err := c.Limits(ctx)
	if err != nil || limits["DailyApiRequests"].Max != 100_000 {
		t.Errorf("limits %v, %v", limits["DailyApiRequests"], err)
	}
	if u := c.Usage(); u.Limit != 100_000 || u.Remaining <= 0 || u.Remaining > 100_000 {
		t.Errorf("usage %+v", u)
	}
	if got, want := c.Usage().Calls, int64(server.Counters().APICalls); got < want {
		t.Errorf("the client counted %d calls, the org %d", got, want)
	}
}

func TestEmulatorUnservedVersion(t *testing.T) {
	_, c := org(t, emulator.Options{}, func(c *api.Config) { c.APIVersion = "99.0" })
	_, err := c.Describe(t.Context(), "Account")
	if err == nil || !strings.Contains(err.Error(), "does not serve API version 99.0; its newest is ") {
		t.Errorf("error %v", err)
	}
}

func TestEmulatorCollections(t *testing.T) {
	server, c := org(t, emulator.Options{})
	ctx := t.Context()
	none := api.CollectionOptions{}

	created, err := c.CreateRecords(ctx, [][]byte{record(`"Name":"One","Warehouse_Key__c":"K1"`), record(`"Phone":"1"`), record(`"Name":"Three","Tier__c":"Wood"`)}, none)
	if err != nil || len(created) != 3 || !created[0].Success || len(created[0].ID) != 18 {
		t.Fatalf("created %+v, %v", created, err)
	}
	if e := created[1].Errors; created[1].Success || len(e) != 1 || e[0].Code != "REQUIRED_FIELD_MISSING" || len(e[0].Fields) != 1 || e[0].Fields[0] != "Name" {
		t.Errorf("without a name: %+v", created[1])
	}
	if e := created[2].Errors; created[2].Success || len(e) != 1 || e[0].Code != "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST" {
		t.Errorf("with a bad value: %+v", created[2])
	}

	upserted, err := c.UpsertRecords(ctx, "Account", "Warehouse_Key__c", [][]byte{
		record(`"Name":"One again","Warehouse_Key__c":"K1"`), record(`"Name":"Two","Warehouse_Key__c":"K2"`), record(`"Name":"Blank","Warehouse_Key__c":""`)}, none)
	if err != nil || !upserted[0].Success || upserted[0].Created || upserted[0].ID != created[0].ID || !upserted[1].Created || upserted[2].Success {
		t.Errorf("upserted %+v, %v", upserted, err)
	}

	updated, err := c.UpdateRecords(ctx, [][]byte{record(`"id":%q,"Phone":"555"`, created[0].ID), record(`"id":"001000000000000AAA","Phone":"5"`)}, none)
	if err != nil || !updated[0].Success || updated[1].Success || len(updated[1].Errors) == 0 {
		t.Errorf("updated %+v, %v", updated, err)
	}

	_, err = c.UpdateRecords(ctx, [][]byte{record(`"id":%q,"Nope__c":"5"`, created[0].ID), record(`"id":%q,"Phone":"6"`, upserted[1].ID)}, none)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != "INVALID_FIELD" || e.Class != api.SplitBatch || e.Unknown {
		t.Errorf("unknown field: %v", err)
	}
	_, err = c.UpsertRecords(ctx, "Account", "Nope__c", [][]byte{record(`"Name":"x"`)}, none)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Unknown {
		t.Errorf("unknown key field: %v", err)
	}

	deleted, err := c.DeleteRecords(ctx, []string{upserted[1].ID, upserted[1].ID[:15]})
	if err != nil || !deleted[0].Success || deleted[1].Success || deleted[1].Errors[0].Code != "ENTITY_IS_DELETED" {
		t.Errorf("deleted %+v, %v", deleted, err)
	}
	if n := server.Org().Count("Account"); n != 1 {
		t.Errorf("%d accounts are left", n)
	}
}

// A lost answer is unknown, a refused connection is not, and neither is sent
// again.
func TestEmulatorLostAnswers(t *testing.T) {
	server, c := org(t, emulator.Options{})
	ctx := t.Context()
	for i, test := range []struct {
		name    string
		fault   emulator.Fault
		fails   bool
		unknown bool
		landed  int
		calls   int
	}{
		{"carried out, then cut", emulator.Fault{CutAfter: true}, true, true, 1, 1},
		{"cut before", emulator.Fault{CutBefore: true}, true, true, 0, 1},
		{"bad gateway", emulator.Fault{Status: 502}, true, true, 0, 1},
		{"limit", emulator.Fault{Status: 403, Code: "REQUEST_LIMIT_EXCEEDED", Message: "ConcurrentRequests (Concurrent API Requests) Limit exceeded."}, true, false, 0, 1},
		{"session", emulator.Fault{ExpireSession: true}, false, false, 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.fault.Match = "collections.create"
			server.AddFault(test.fault)
			defer server.ClearFaults()
			before := server.Counters().Calls["collections.create"]
			name := fmt.Sprintf("Lost %d", i)
			_, err := c.CreateRecords(ctx, [][]byte{record(`"Name":%q`, name)}, api.CollectionOptions{})
			e, failed := errors.AsType[*api.Error](err)
			if failed != test.fails || failed && e.Unknown != test.unknown {
				t.Errorf("error %v", err)
			}
			if got := len(server.Org().Find("Account", "Name", name)); got != test.landed {
				t.Errorf("%d records landed, want %d (error %v)", got, test.landed, err)
			}
			if got := server.Counters().Calls["collections.create"] - before; got != test.calls {
				t.Errorf("%d calls, want %d", got, test.calls)
			}
		})
	}
}

func TestEmulatorQuery(t *testing.T) {
	_, c := org(t, emulator.Options{})
	ctx := t.Context()
	var keys []string
	for batch := range 15 {
		var records [][]byte
		for i := range api.MaxCollection {
			key := fmt.Sprintf(`K%d-%d's "\ é`, batch, i)
			keys = append(keys, key)
			records = append(records, record(`"Name":"x","Warehouse_Key__c":%q`, key))
		}
		if _, err := c.UpsertRecords(ctx, "Account", "Warehouse_Key__c", records, api.CollectionOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]bool{}
	queries := api.InChunks("SELECT Id, Warehouse_Key__c, Parent.Name FROM Account WHERE Warehouse_Key__c IN (", ")", keys, 0)
	for _, soql := range queries {
		q, err := c.Query(ctx, soql)
		if err != nil {
			t.Fatal(err)
		}
		for q.Next() {
			key, _ := q.Record().Get("warehouse_key__c")
			if _, null := q.Record().Get("Parent.Name"); !null {
				t.Error("a parent where there is none")
			}
			found[key] = true
		}
		if err := q.Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range keys {
		if !found[key] {
			t.Fatalf("%q was not found (%d of %d were, by %d queries)", key, len(found), len(keys), len(queries))
		}
	}

	q, err := c.Query(ctx, "SELECT Id FROM Account ORDER BY Id")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for q.Next() {
		n++
	}
	if q.Err() != nil || n != len(keys) || q.TotalSize() != int64(n) {
		t.Errorf("%d records of %d, %v", n, q.TotalSize(), q.Err())
	}
	if _, err := c.Query(ctx, "SELECT Nope FROM Account"); err == nil {
		t.Error("a field that is not there was selected")
	}

	job, err := c.CreateQueryJob(ctx, "SELECT Id, Warehouse_Key__c FROM Account")
	if err != nil {
		t.Fatal(err)
	}
	if job, err = c.WaitQueryJob(ctx, job.ID, api.Poll{Start: 5 * time.Millisecond}); err != nil || job.State != api.StateJobComplete {
		t.Fatalf("job %+v, %v", job, err)
	}
	rows := read(t, func(ctx context.Context, id string) (*api.CSVResults, error) { return c.QueryResults(ctx, id, 1000) }, job.ID)
	if len(rows) != len(keys) {
		t.Errorf("%d rows of %d", len(rows), len(keys))
	}
	for _, row := range rows {
		if !found[row["Warehouse_Key__c"]] {
			t.Errorf("row %v", row)
		}
	}
	if err := c.DeleteQueryJob(ctx, job.ID); err != nil {
		t.Error(err)
	}
}

// read reads a result file by the names of its columns.
func read(t *testing.T, open func(context.Context, string) (*api.CSVResults, error), id string) []map[string]string {
	t.Helper()
	r, err := open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var rows []map[string]string
	for r.Next() {
		row := map[string]string{}
		for i, name := range r.Header() {
			row[name] = strings.Clone(r.Row()[i])
		}
		rows = append(rows, row)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func upload(text string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// load runs an ingest job to its end.
func load(t *testing.T, c *api.Client, job api.IngestJob, data string) api.JobInfo {
	t.Helper()
	ctx := t.Context()
	info, err := c.CreateJob(ctx, job)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.UploadJob(ctx, info.ID, upload(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CloseJob(ctx, info.ID); err != nil {
		t.Fatal(err)
	}
	info, err = c.WaitJob(ctx, info.ID, api.Poll{Start: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestEmulatorIngest(t *testing.T) {
	server, c := org(t, emulator.Options{})
	ctx := t.Context()
	// Every call but the login meets a session that has just ended.
	for _, kind := range []string{"bulk.create", "bulk.upload", "bulk.close", "bulk.status", "bulk.results"} {
		server.AddFault(emulator.Fault{Match: kind, ExpireSession: true})
	}
	var data strings.Builder
	data.WriteString("Warehouse_Key__c,Name,Description,AnnualRevenue\n")
	for i := range 12_000 {
		switch i {
		case 77:
			fmt.Fprintf(&data, "K%d,,,\n", i)
		case 78:
			fmt.Fprintf(&data, "K%d,x,,much\n", i)
		default:
			fmt.Fprintf(&data, "K%d,\"Name, %d\",\"two\nlines \"\"%d\"\"\",912260031\n", i, i, i)
		}
	}
	job := load(t, c, api.IngestJob{Object: "Account", Operation: api.OpUpsert, ExternalIDField: "Warehouse_Key__c"}, data.String())
	if job.State != api.StateJobComplete || job.RecordsProcessed != 12_000 || job.RecordsFailed != 2 {
		t.Fatalf("job %+v", job)
	}
	good := read(t, c.SuccessfulResults, job.ID)
	if len(good) != 11_998 {
		t.Errorf("%d rows were written", len(good))
	}
	seen := map[string]bool{}
	for _, row := range good {
		if len(row["sf__Id"]) != 18 || row["sf__Created"] != "true" || seen[row["Warehouse_Key__c"]] {
			t.Fatalf("row %v", row)
		}
		seen[row["Warehouse_Key__c"]] = true
		if n := row["Warehouse_Key__c"][1:]; row["Description"] != "two\nlines \""+n+"\"" {
			t.Fatalf("row %v", row)
		}
	}
	codes := map[string]string{}
	for _, row := range read(t, c.FailedResults, job.ID) {
		codes[row["Warehouse_Key__c"]] = api.ParseResultError(row["sf__Error"]).Code
	}
	if len(codes) != 2 || codes["K77"] != "REQUIRED_FIELD_MISSING" || codes["K78"] != "INVALID_FIELD" {
		t.Errorf("failed rows %v", codes)
	}
	if rest := read(t, c.UnprocessedRecords, job.ID); len(rest) != 0 {
		t.Errorf("%d rows were not processed", len(rest))
	}
	if err := c.DeleteJob(ctx, job.ID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteJob(ctx, job.ID); err != nil {
		t.Errorf("deleted again: %v", err)
	}
	if n := server.Org().Count("Account"); n != 11_998 {
		t.Errorf("%d accounts", n)
	}
}

func TestEmulatorIngestThatFails(t *testing.T) {
	server, c := org(t, emulator.Options{})
	ctx := t.Context()

	job := load(t, c, api.IngestJob{Object: "Account", Operation: api.OpInsert}, "Name,Nope__c\na,b\nc,d\n")
	code, message := job.Failure()
	if job.State != api.StateFailed || code != "InvalidBatch" || !strings.Contains(message, "Nope__c") || api.Classify(code, message) != api.StopRun {
		t.Errorf("job %+v: %q, %q", job, code, message)
	}
	if rows := read(t, c.UnprocessedRecords, job.ID); len(rows) != 2 || rows[0]["Name"] == "" {
		t.Errorf("not processed: %v", rows)
	}
	if rows := read(t, c.FailedResults, job.ID); len(rows) != 0 {
		t.Errorf("failed: %v", rows)
	}

	_, err := c.CreateJob(ctx, api.IngestJob{Object: "Nope__c", Operation: api.OpInsert})
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Unknown || e.Class != api.StopRun {
		t.Errorf("job for no object: %v", err)
	}

	open, err := c.CreateJob(ctx, api.IngestJob{Object: "Account", Operation: api.OpInsert})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.UploadJob(ctx, open.ID, upload("Name\na\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.UploadJob(ctx, open.ID, upload("Name\nb\n")); err == nil {
		t.Error("a second upload was accepted")
	}
	// The answer to the abort is lost, and the abort that follows is refused.
	server.AddFault(emulator.Fault{Match: "bulk.close", CutAfter: true})
	if job, err := c.AbortJob(ctx, open.ID); err != nil || job.State != api.StateAborted {
		t.Errorf("abort: %+v, %v", job, err)
	}
	if _, err := c.CloseJob(ctx, open.ID); err == nil {
		t.Error("an aborted job was closed")
	}
	if _, err := c.Job(ctx, "750000000000000AAA"); err == nil {
		t.Error("a job that is not there was read")
	}
	if n := server.Org().Count("Account"); n != 0 {
		t.Errorf("%d accounts", n)
	}
}

func TestEmulatorDailyLimit(t *testing.T) {
	server, c := org(t, emulator.Options{DailyAPICalls: 5}, func(c *api.Config) { c.EnforceLimits = true })
	var err error
	for range 10 {
		if _, err = c.Limits(t.Context()); err != nil {
			break
		}
	}
	if b, ok := errors.AsType[*api.BudgetError](err); !ok || b.Limit != 5 || b.Used != 5 {
		t.Errorf("error %v", err)
	}
	if server.Counters().APICalls != 5 || c.Usage().Calls != 5 {
		t.Errorf("%d calls arrived, %d were counted", server.Counters().APICalls, c.Usage().Calls)
	}
}

// Many callers at once, sessions that end among them, and reads that fail in
// passing: every call comes through, and is counted.
func TestEmulatorUnderStress(t *testing.T) {
	var counted atomic.Int64
	server, c := org(t, emulator.Options{}, func(c *api.Config) {
		c.OnCall = func(call api.Call) {
			if !call.Login {
				counted.Add(1)
			}
		}
	})
	server.AddFault(emulator.Fault{Match: "query", Status: 503, Times: 10, After: 5})
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for round := range 10 {
				if worker == 0 && round%3 == 0 {
					server.ExpireSessions()
				}
				name := fmt.Sprintf("Worker %d round %d", worker, round)
				if _, err := c.CreateRecords(t.Context(), [][]byte{record(`"Name":%q`, name)}, api.CollectionOptions{}); err != nil {
					t.Error(err)
				}
				q, err := c.Query(t.Context(), "SELECT Id FROM Account WHERE Name = "+api.QuoteSOQL(name))
				if err != nil {
					t.Error(err)
					continue
				}
				if q.TotalSize() != 1 {
					t.Errorf("%s is there %d times", name, q.TotalSize())
				}
				_ = q.Close()
			}
		})
	}
	wg.Wait()
	if got := server.Org().Count("Account"); got != 160 {
		t.Errorf("%d accounts, want 160", got)
	}
	if c.Usage().Calls != counted.Load() {
		t.Errorf("%d calls, %d reported", c.Usage().Calls, counted.Load())
	}
}
