package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const limitsPath = "GET /services/data/v62.0/limits"

// oneRecord is a record with what a create needs.
var oneRecord = [][]byte{[]byte(`{"attributes":{"type":"Account"},"Name":"x"}`)}

func create(t *testing.T, c *Client) error {
	t.Helper()
	_, err := c.CreateRecords(t.Context(), oneRecord, CollectionOptions{})
	return err
}

// Every way in which a write can go wrong, and whether it may have been
// carried out. None of them sends the write twice.
func TestWritesSayWhetherTheyMayHaveBeenCarriedOut(t *testing.T) {
	const page = "<!DOCTYPE html><html><body>Down for maintenance</body></html>"
	cut := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", "500")
		_, _ = io.WriteString(w, `[{"id":"001`)
	}
	for name, test := range map[string]struct {
		h       http.HandlerFunc
		unknown bool
		class   Class
		says    string
	}{
		"hung up":               {hangUp, true, Wait, "was lost before the answer came"},
		"cut off":               {cut, true, Wait, "broke off"},
		"502 page":              {answering(502, page), true, Wait, "HTML page"},
		"503 page":              {answering(503, page), true, Wait, "HTML page"},
		"503 in words":          {answering(503, `[{"message":"server temporarily unavailable","errorCode":"SERVER_UNAVAILABLE"}]`), false, Wait, "SERVER_UNAVAILABLE"},
		"504 empty":             {answering(504, ""), true, Wait, "Gateway Timeout"},
		"500 unknown":           {answering(500, `[{"message":"An unexpected error occurred. 123456789-12345 (-1234567890)","errorCode":"UNKNOWN_EXCEPTION"}]`), true, RetryRow, "123456789-12345"},
		"500 too long":          {answering(500, `[{"message":"Your request was running for too long","errorCode":"REQUEST_RUNNING_TOO_LONG"}]`), true, SplitBatch, "too long"},
		"200 page":              {answering(200, page), true, Wait, "HTML page"},
		"200 empty":             {answering(200, ""), true, Wait, ""},
		"200 other JSON":        {answering(200, `{"ok":true}`), true, Wait, "not what the API documents"},
		"302":                   {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, true, StopRun, "Found"},
		"408":                   {answering(408, ""), true, Wait, "Request Timeout"},
		"420":                   {answering(420, page), false, Wait, "no such org"},
		"429":                   {answering(429, ""), false, Wait, "Too Many Requests"},
		"too few results":       {answering(200, `[]`), true, Wait, "0 results for 1 records"},
		"too many results":      {answering(200, `[{"success":true},{"success":true}]`), true, Wait, "2 results for 1 records"},
		"403 daily limit":       {answering(403, `[{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]`), false, StopRun, "TotalRequests"},
		"403 concurrent":        {answering(403, `[{"message":"ConcurrentRequests (Concurrent API Requests) Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]`), false, Wait, "Concurrent"},
		"403 disabled":          {answering(403, `[{"message":"API is not enabled for this Organization or Partner","errorCode":"API_DISABLED_FOR_ORG"}]`), false, StopRun, "not enabled"},
		"400 column":            {answering(400, `[{"message":"No such column 'Foo__c' on sobject of type Account","errorCode":"INVALID_FIELD"}]`), false, RowFault, "Foo__c"},
		"400 parser":            {answering(400, `[{"message":"Cannot deserialize instance of date from VALUE_STRING value 2017-05-30T-06:00:00X or request may be missing a required field at [line:11, column:55]","errorCode":"JSON_PARSER_ERROR"}]`), false, SplitBatch, "line:11"},
		"400 two":               {answering(400, `[{"message":"one","errorCode":"FIELD_CUSTOM_VALIDATION_EXCEPTION","fields":["A"]},{"message":"two","errorCode":"FIELD_CUSTOM_VALIDATION_EXCEPTION","fields":["B"]}]`), false, RowFault, "one; two"},
		"400 XML":               {answering(400, `<?xml version="1.0" encoding="UTF-8"?><Errors><Error><errorCode>MALFORMED_ID</errorCode><message>bad id</message></Error></Errors>`), false, RowFault, "bad id"},
		"300":                   {answering(300, `["/services/data/v62.0/sobjects/Account/001000000000001AAA","/services/data/v62.0/sobjects/Account/001000000000002AAA"]`), false, RowFault, "several records match"},
		"404":                   {answering(404, `[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]`), false, StopRun, "does not exist"},
		"413":                   {answering(413, page), false, SplitBatch, "HTML page"},
		"431":                   {answering(431, ""), false, SplitBatch, ""},
		"400 lock, whole call":  {answering(400, `[{"message":"unable to obtain exclusive access to this record","errorCode":"UNABLE_TO_LOCK_ROW"}]`), false, RetryRow, "exclusive"},
		"403 code nobody knows": {answering(403, `[{"message":"no","errorCode":"NEW_POLICY"}]`), false, StopRun, "NEW_POLICY"},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			var calls atomic.Int64
			org.on("POST /services/data/v62.0/composite/sobjects", func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				test.h(w, r)
			})
			org.mux.HandleFunc("GET /services/data/{$}", answering(200, `[{"label":"Winter '25","url":"/services/data/v62.0","version":"62.0"}]`))
			err := create(t, org.client(t))
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			if e.Unknown != test.unknown || e.Class != test.class {
				t.Errorf("unknown %v, class %s: want %v, %s (%v)", e.Unknown, e.Class, test.unknown, test.class, err)
			}
			if text := err.Error(); !strings.Contains(text, test.says) || !strings.HasPrefix(text, "create records: ") || strings.Contains(text, "\n") {
				t.Errorf("error %q, want %q in one line", text, test.says)
			}
			if calls.Load() != 1 {
				t.Errorf("the write was sent %d times", calls.Load())
			}
		})
	}
}

func TestUnreachableOrgIsNamedAndNothingWasSent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	_ = listener.Close()
	// A server whose certificate nobody vouches for.
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)

	for name, test := range map[string]struct {
		domain string
		class  Class
		says   string
	}{
		"refused": {"http://" + closed, Wait, "no connection to " + closed},
		"TLS":     {secure.URL, StopRun, "no secure connection to "},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			c := org.client(t, func(c *Config) { c.Domain = test.domain })
			err := create(t, c)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Unknown || e.Class != test.class || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v (%#v)", err, e)
			}
			if c.Usage().Calls != 0 {
				t.Errorf("%d calls were counted", c.Usage().Calls)
			}
		})
	}
}

func TestUnknownHostIsNamed(t *testing.T) {
	for want, dns := range map[string]*net.DNSError{
		"op: there is no host acme.my.salesforce.com: check domain: lookup acme.my.salesforce.com: no such host":        {Err: "no such host", Name: "acme.my.salesforce.com", IsNotFound: true},
		"op: the name acme.my.salesforce.com could not be looked up: lookup acme.my.salesforce.com: server misbehaving": {Err: "server misbehaving", Name: "acme.my.salesforce.com", IsTemporary: true},
	} {
		err := &net.OpError{Op: "dial", Net: "tcp", Err: dns}
		e := transportError(t.Context(), &call{op: "op"}, "acme.my.salesforce.com", err, !isDial(err))
		if e.Error() != want || e.Unknown || e.Class != Wait {
			t.Errorf("error %v (%#v)", e, e)
		}
	}
}

func TestWriteToAnOrgThatHasGoneWasNotSent(t *testing.T) {
	org := newOrg(t)
	c := org.client(t)
	if _, err := c.session(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.own.CloseIdleConnections()
	org.Server.Close()
	e, ok := errors.AsType[*Error](create(t, c))
	if !ok || e.Unknown || e.Class != Wait {
		t.Errorf("error %#v", e)
	}
	if c.Usage().Calls != 0 {
		t.Errorf("%d calls were counted", c.Usage().Calls)
	}
}

func TestStoppedWrite(t *testing.T) {
	org := newOrg(t)
	entered := make(chan struct{})
	org.on("POST /services/data/v62.0/composite/sobjects", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(entered)
		<-r.Context().Done()
	})
	c := org.client(t)
	why := errors.New("the operator stopped it")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-entered; cancel(why) }()
	_, err := c.CreateRecords(ctx, oneRecord, CollectionOptions{})
	if e, ok := errors.AsType[*Error](err); !ok || !e.Unknown || !errors.Is(err, why) {
		t.Errorf("stopped while sent: %v", err)
	}
	_, err = c.CreateRecords(ctx, oneRecord, CollectionOptions{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Unknown || !errors.Is(err, why) {
		t.Errorf("stopped before it was sent: %v", err)
	}
}

func TestSilentOrgIsGivenUp(t *testing.T) {
	org := newOrg(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	silent := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	org.on("POST /services/data/v62.0/composite/sobjects", silent)
	c := org.client(t)
	if _, err := c.session(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.patience.write = 20 * time.Millisecond
	err := create(t, c)
	if e, ok := errors.AsType[*Error](err); !ok || !e.Unknown || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("error %v", err)
	}
}

func TestReadsOutlastPassingErrors(t *testing.T) {
	org := newOrg(t)
	org.on(limitsPath, sequence(
		answering(503, "<html></html>"), answering(420, ""), answering(429, ""), hangUp,
		answering(500, `[{"errorCode":"UNKNOWN_EXCEPTION","message":"x"}]`), answering(200, `{"DailyApiRequests":{"Max":15000,"Remaining":14998,"Ant Migration Tool":{"Max":0,"Remaining":0}}}`)))
	limits, err := org.client(t).Limits(t.Context())
	if err != nil || limits["DailyApiRequests"] != (Limit{15000, 14998}) {
		t.Errorf("limits %v, %v", limits, err)
	}
}

func TestReadsGiveUpInTheEnd(t *testing.T) {
	org := newOrg(t)
	var calls atomic.Int64
	org.on(limitsPath, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); reply(w, 503, "") })
	if _, err := org.client(t).Limits(t.Context()); err == nil || calls.Load() != 6 {
		t.Errorf("%d calls, error %v", calls.Load(), err)
	}
	// What will not pass is not asked again.
	org.on("GET /services/data/v62.0/sobjects", func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		reply(w, 500, `[{"errorCode":"REQUEST_RUNNING_TOO_LONG","message":"x"}]`)
	})
	calls.Store(0)
	if _, err := org.client(t).Objects(t.Context()); err == nil || calls.Load() != 1 {
		t.Errorf("%d calls, error %v", calls.Load(), err)
	}
}

func TestUnservedVersionNamesTheNewest(t *testing.T) {
	org := newOrg(t)
	org.mux.HandleFunc("GET /services/data/{$}", answering(200, `[{"label":"Winter '24","url":"/services/data/v59.0","version":"59.0"},{"label":"Spring '26","url":"/services/data/v66.0","version":"66.0"}]`))
	org.on("/services/data/v99.0/", answering(404, `[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]`))
	c := org.client(t, func(c *Config) { c.APIVersion = "99.0" })
	for range 2 {
		_, err := c.Describe(t.Context(), "Account")
		if err == nil || !strings.Contains(err.Error(), "does not serve API version 99.0; its newest is 66.0") {
			t.Errorf("error %v", err)
		}
	}
	if err := c.DeleteJob(t.Context(), "750000000000001AAA"); err == nil {
		t.Error("a job counts as deleted by a version that is not served")
	}
}

func TestBodiesAreCompressedBothWays(t *testing.T) {
	org := newOrg(t)
	long := strings.Repeat("a long description, ", 200)
	var got string
	var sent int64
	org.on("POST /services/data/v62.0/composite/sobjects", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("headers %v", r.Header)
		}
		sent = r.ContentLength
		got = body(t, r)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(compress([]byte(`[{"id":"001000000000001AAA","success":true,"errors":[]}]`)))
	})
	record, err := json.Marshal(map[string]any{"attributes": map[string]string{"type": "Account"}, "Description": long})
	if err != nil {
		t.Fatal(err)
	}
	var calls []Call
	c := org.client(t, func(c *Config) { c.OnCall = func(call Call) { calls = append(calls, call) } })
	results, err := c.CreateRecords(t.Context(), [][]byte{record}, CollectionOptions{})
	if err != nil || len(results) != 1 || results[0].ID != "001000000000001AAA" {
		t.Fatalf("results %v, %v", results, err)
	}
	if want := `{"allOrNone":false,"records":[` + string(record) + `]}`; got != want {
		t.Errorf("sent %.80q..., want %.80q...", got, want)
	}
	if len(calls) != 2 || !calls[0].Login || calls[1].Sent != sent || calls[1].Received == 0 || calls[1].Status != 200 || calls[1].Path != "/services/data/v62.0/composite/sobjects" {
		t.Errorf("calls %+v", calls)
	}
	if sent > int64(len(record)/5) {
		t.Errorf("%d bytes were sent for %d", sent, len(record))
	}
}

func TestTruncatedGzipIsAnError(t *testing.T) {
	whole := compress([]byte(`{"DailyApiRequests":{"Max":15000,"Remaining":14998}}`))
	for n := range whole {
		org := newOrg(t)
		org.on(limitsPath, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(whole[:n])
		})
		c := org.client(t)
		c.retry.attempts = 1
		if limits, err := c.Limits(t.Context()); err == nil {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), limits)
		}
		_ = c.Close()
		org.Close()
	}
}

func TestBudget(t *testing.T) {
	org := newOrg(t)
	used := int64(99)
	org.on(limitsPath, func(w http.ResponseWriter, r *http.Request) {
		used++
		w.Header().Set("Sforce-Limit-Info", fmt.Sprintf("api-usage=%d/101; per-app-api-usage=17/250(appName=sample-app)", used))
		reply(w, 200, `{}`)
	})
	limited := func(want BudgetError, change func(*Config)) {
		t.Helper()
		used = 99
		c := org.client(t, func(c *Config) { c.EnforceLimits = true }, change)
		for range 2 {
			if _, err := c.Limits(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.Limits(t.Context())
		if b, ok := errors.AsType[*BudgetError](err); !ok || *b != want {
			t.Errorf("error %v, want %v", err, &want)
		}
		if u := c.Usage(); u != (Usage{Calls: 2, Limit: 101, Remaining: 0}) {
			t.Errorf("usage %+v", u)
		}
	}
	limited(BudgetError{Used: 10, Limit: 10}, func(c *Config) { c.DailyCalls, c.UsedToday = 10, func() int64 { return 8 } })
	limited(BudgetError{Used: 2, Limit: 2}, func(c *Config) { c.DailyCalls = 2 })
	limited(BudgetError{Used: 101, Limit: 101}, func(c *Config) {})

	// Not enforced, the budget only counts.
	c := org.client(t, func(c *Config) { c.DailyCalls = 1 })
	for range 3 {
		if _, err := c.Limits(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if u := org.client(t).Usage(); u != (Usage{Calls: 0, Limit: -1, Remaining: -1}) {
		t.Errorf("usage of a new client %+v", u)
	}
}

func TestBudgetComesBackWithTheDay(t *testing.T) {
	var m meter
	m.init(3, true, nil)
	day := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	for i := range 3 {
		if err := m.reserve(day.Add(time.Duration(i) * time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if m.reserve(day.Add(23*time.Hour)) == nil {
		t.Error("a fourth call within the day was allowed")
	}
	if err := m.reserve(day.Add(24 * time.Hour)); err != nil {
		t.Errorf("the first hour's call still counts a day later: %v", err)
	}
	if m.reserve(day.Add(24*time.Hour)) == nil {
		t.Error("more calls came back than were a day old")
	}

	var org meter
	org.init(0, true, nil)
	org.note("api-usage=5/5", day)
	if org.reserve(day.Add(time.Minute)) == nil {
		t.Error("a call was allowed past the org's limit")
	}
	if err := org.reserve(day.Add(staleLimit)); err != nil {
		t.Errorf("the org is never asked again: %v", err)
	}
}

func TestLongAddressIsRefusedHere(t *testing.T) {
	org := newOrg(t)
	c := org.client(t)
	_, err := c.Query(t.Context(), "SELECT Id FROM Account WHERE Name = '"+strings.Repeat("'", 5000)+"'")
	if e, ok := errors.AsType[*Error](err); !ok || e.Unknown || c.Usage().Calls != 0 {
		t.Errorf("error %v", err)
	}
}

func TestAnswerLargerThanMemoryAllows(t *testing.T) {
	if _, err := readAll(io.LimitReader(zeros{}, maxBody+1), -1); err == nil {
		t.Error("an answer over 64 MB was taken in")
	}
	if b, err := readAll(bytes.NewReader([]byte("ok")), 2); err != nil || string(b) != "ok" {
		t.Errorf("%q, %v", b, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
