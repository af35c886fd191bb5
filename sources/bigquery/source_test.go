package bigquery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"coho/models"
	"coho/sources"
	"coho/sources/bigquery/bigquerytest"
)

// fixed answers every query with one result.
func fixed(r *bigquerytest.Result) bigquerytest.Options {
	return bigquerytest.Options{Answer: func(*bigquerytest.Query) (*bigquerytest.Result, error) { return r, nil }}
}

var one = models.Model{Name: "m", SQL: "SELECT 1 AS id, 'x' AS label"}

// TestRequest: what the source's options and the run's purpose say arrives at
// BigQuery, with the dry run and with the query.
func TestRequest(t *testing.T) {
	server, o := start(t, fixed(series(3)))
	o.Location, o.MaxBytesBilled, o.Timeout = "EU", 5<<30, 90*time.Second
	ctx := sources.WithPurpose(t.Context(), sources.Purpose{Sync: "Accounts EU", Run: "r1"})
	rows, err := open(t, o).Read(ctx, one)
	if err != nil {
		t.Fatal(err)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	asked := server.Queries()
	if len(asked) != 2 || !asked[0].DryRun || asked[1].DryRun {
		t.Fatalf("asked %+v, want a dry run and then the query", asked)
	}
	for _, q := range asked {
		if q.SQL != one.SQL || q.Project != "test" || q.DefaultDataset != "test.shop" || q.Location != "EU" || q.MaxBytesBilled != 5<<30 ||
			q.Timeout != 90*time.Second || q.Labels["coho_sync"] != "accounts-eu" || q.Labels["coho_run"] != "r1" || q.Labels["application"] != "coho" {
			t.Errorf("asked %+v", q)
		}
	}
	if !strings.HasPrefix(asked[1].Job, "coho_") {
		t.Errorf("the job is named %q", asked[1].Job)
	}
}

func TestBytesBilled(t *testing.T) {
	r := series(3)
	r.Bytes = 123_456_789
	server, o := start(t, fixed(r))
	n, err := open(t, o).BytesBilled(t.Context(), one)
	if n != 123_456_789 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if asked := server.Queries(); len(asked) != 1 || !asked[0].DryRun {
		t.Errorf("asked %+v, want one dry run", asked)
	}
}

// TestOnlySelect: a statement that BigQuery itself calls something else than a
// SELECT does not run, whatever it begins with.
func TestOnlySelect(t *testing.T) {
	r := series(3)
	r.Statement = "INSERT"
	server, o := start(t, fixed(r))
	if _, err := open(t, o).Read(t.Context(), one); err == nil || !strings.Contains(err.Error(), "kind INSERT") {
		t.Errorf("Read = %v", err)
	}
	if asked := server.Queries(); len(asked) != 1 || !asked[0].DryRun {
		t.Errorf("asked %+v, want one dry run", asked)
	}
}

// ids reads the model and returns the ids of its rows, in order.
func ids(t *testing.T, s *Source) ([]int64, error) {
	t.Helper()
	rows, err := s.Read(t.Context(), one)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out []int64
	cells := make([][]byte, 2)
	for rows.Next() {
		if err := models.SplitFrame(rows.Row(), cells); err != nil {
			t.Fatal(err)
		}
		v, err := rows.Schema().Decode(0, cells[0])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v.Int())
	}
	slices.Sort(out)
	return out, rows.Err()
}

func checkIDs(t *testing.T, got []int64, want int) {
	t.Helper()
	if len(got) != want {
		t.Fatalf("%d rows, want %d", len(got), want)
	}
	for i, id := range got {
		if id != int64(i+1) {
			t.Fatalf("row %d is %d", i+1, id)
		}
	}
}

// TestWays: a small result comes by REST and never asks for a session, a large
// one through as many streams as there are, without a page by REST.
func TestWays(t *testing.T) {
	for _, c := range []struct {
		rows           int
		pages, streams int
	}{{0, 0, 0}, {1, 1, 0}, {10_001, 2, 0}, {largeRows - 1, 2, 0}, {largeRows, 0, 4}} {
		t.Run(fmt.Sprint(c.rows), func(t *testing.T) {
			r := series(int64(c.rows))
			r.Polls = 1
			server, o := start(t, fixed(r))
			s := open(t, o)
			s.side = maxStreams
			got, err := ids(t, s)
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, got, c.rows)
			if len(server.Reads()) != c.streams || server.Pages() != c.pages {
				t.Errorf("%d streams and %d pages, want %d and %d", len(server.Reads()), server.Pages(), c.streams, c.pages)
			}
		})
	}
}

// TestBrokenStreams: streams that break are taken up again behind the last row
// received; no row is lost or doubled.
func TestBrokenStreams(t *testing.T) {
	r := series(40_000)
	r.BatchRow, r.Break, r.Schemas = 1000, 3, true
	server, o := start(t, fixed(r))
	s := open(t, o)
	s.side = maxStreams
	got, err := ids(t, s)
	if err != nil {
		t.Fatal(err)
	}
	checkIDs(t, got, 40_000)
	again := 0
	for _, read := range server.Reads() {
		if read.Offset == 3000 {
			again++
		}
	}
	if again != 4 || len(server.Reads()) != 8 {
		t.Errorf("calls %+v, want each of four streams once more from its row 3000", server.Reads())
	}
}

// TestStreamGone: a stream that does not come back is an error, after some tries.
func TestStreamGone(t *testing.T) {
	r := series(40_000)
	r.BatchRow, r.Break, r.BreakAll, r.Streams = 1000, 3, true, 1
	server, o := start(t, fixed(r))
	got, err := ids(t, open(t, o))
	if err == nil || !strings.Contains(err.Error(), "the stream was moved") || len(got) != 3000 {
		t.Errorf("%d rows, %v", len(got), err)
	}
	if n := len(server.Reads()); n != 1+maxResumes {
		t.Errorf("%d calls, want %d", n, 1+maxResumes)
	}
}

// TestShort: a result that ends before its last row is an error, either way.
func TestShort(t *testing.T) {
	for _, large := range []uint64{1, math.MaxUint64} {
		r := series(25_000)
		r.Lost = 7
		_, o := start(t, fixed(r))
		s := open(t, o)
		s.large = large
		got, err := ids(t, s)
		if err == nil || !strings.Contains(err.Error(), "25000 rows and ended after 24993") || len(got) != 24_993 {
			t.Errorf("%d rows, %v", len(got), err)
		}
	}
}

// TestStorageDenied: without the permission large results come by REST, which is
// said once.
func TestStorageDenied(t *testing.T) {
	o := fixed(series(25_000))
	o.StorageDenied = true
	server, options := start(t, o)
	var log bytes.Buffer
	options.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, options)
	for range 2 {
		got, err := ids(t, s)
		if err != nil {
			t.Fatal(err)
		}
		checkIDs(t, got, 25_000)
	}
	if server.Pages() != 6 {
		t.Errorf("%d pages, want 6", server.Pages())
	}
	if n := strings.Count(log.String(), "BigQuery Read Session User"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, log.String())
	}
}

// TestCancel: the job is canceled in BigQuery when the run is, while it runs and
// while its insert has not been answered.
func TestCancel(t *testing.T) {
	for _, c := range []struct {
		name   string
		result bigquerytest.Result
	}{
		{"while it runs", bigquerytest.Result{Hang: true}},
		{"before the insert is answered", bigquerytest.Result{HoldInsert: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.result
			r.Columns = series(0).Columns
			server, o := start(t, fixed(&r))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			s := open(t, o)
			go func() {
				_, err := s.Read(ctx, one)
				done <- err
			}()
			select {
			case <-server.Running():
			case err := <-done:
				t.Fatalf("Read = %v before the query ran", err)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Read = %v, want context.Canceled", err)
			}
			asked := server.Queries()
			if got := server.Canceled(); !slices.Equal(got, []string{asked[len(asked)-1].Job}) {
				t.Errorf("canceled %v, want the job of %+v", got, asked)
			}
		})
	}
}

// TestErrors: what BigQuery refuses is told on one line, with what to do about it.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		failure bigquerytest.Failure
		want    []string
	}{
		{"not allowed", bigquerytest.Failure{Status: 403, Reason: "accessDenied", Message: "Access Denied: Table test:shop.t:\nUser does not have permission"}, []string{"Access Denied: Table test:shop.t: User", "Data Viewer", "(BigQuery accessDenied)"}},
		{"no such table", bigquerytest.Failure{Status: 404, Reason: "notFound", Message: "Not found: Dataset test:shop was not found in location US"}, []string{"location", "check the name"}},
		{"credentials", bigquerytest.Failure{Status: 401, Reason: "authError", Message: "Invalid Credentials"}, []string{"Invalid Credentials", "sign in again"}},
		{"quota", bigquerytest.Failure{Status: 403, Reason: "quotaExceeded", Message: "Quota exceeded"}, []string{"quota is used up"}},
		{"too expensive", bigquerytest.Failure{Reason: "bytesBilledLimitExceeded", Message: "Query exceeded limit for bytes billed: 1000000. 20971520 or higher required."}, []string{"20971520 or higher", "raise max_bytes_billed"}},
		{"too long", bigquerytest.Failure{Reason: "timeout", Message: "Job timed out"}, []string{"longer than timeout allows"}},
		{"stopped", bigquerytest.Failure{Reason: "stopped", Message: "Job execution was cancelled"}, []string{"somebody canceled the job"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, o := start(t, bigquerytest.Options{Answer: func(*bigquerytest.Query) (*bigquerytest.Result, error) { return series(1), &c.failure }})
			_, err := ids(t, open(t, o))
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q without %q", err, want)
				}
			}
		})
	}
}

// TestPageFails: an error in the middle of a result by REST is the rows' error.
func TestPageFails(t *testing.T) {
	r := series(15_000)
	r.PageFailure = &bigquerytest.Failure{Status: 404, Reason: "notFound", Message: "Not found: the result has expired"}
	_, o := start(t, fixed(r))
	got, err := ids(t, open(t, o))
	if err == nil || !strings.Contains(err.Error(), "has expired") || len(got) != 10_000 {
		t.Errorf("%d rows, %v", len(got), err)
	}
}

// TestServerGone: a server that goes away in the middle is an error, either way,
// and nothing is left open.
func TestServerGone(t *testing.T) {
	for _, large := range []uint64{1, math.MaxUint64} {
		server, o := start(t, fixed(series(2_000_000)))
		s := open(t, o)
		s.large, s.patience = large, time.Millisecond
		rows, err := s.Read(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		server.Stop()
		n := 1
		for rows.Next() {
			n++
		}
		if err := rows.Err(); err == nil || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "\n") || n == 2_000_000 {
			t.Errorf("after %d rows: %v", n, err)
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestUnavailable: while BigQuery says that it cannot just now it is asked again,
// after pauses, and when it has said so for too long that is the error.
func TestUnavailable(t *testing.T) {
	for name, limited := range map[string]bool{"503": false, "rateLimitExceeded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := fixed(series(3))
			o.Unavailable, o.RateLimited = 2, limited
			server, options := start(t, o)
			began := time.Now()
			got, err := ids(t, open(t, options))
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, got, 3)
			if server.Refused() != 2 || time.Since(began) < 10*time.Millisecond {
				t.Errorf("%d requests were refused, within %s", server.Refused(), time.Since(began))
			}

			o.Unavailable = math.MaxInt
			server, options = start(t, o)
			s := open(t, options)
			s.patience = time.Millisecond
			_, err = ids(t, s)
			if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "it has answered") {
				t.Errorf("got %v", err)
			}
			if n := server.Refused(); n < 2 || n > 3 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestOutage: failures that come one after another are an outage; those that an
// hour lies between, or a success, are not.
func TestOutage(t *testing.T) {
	o := outage{patience: 2 * time.Minute}
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		well  bool
		want  time.Duration
	}{
		{0, false, 0}, {32 * time.Second, false, 0}, {32 * time.Second, false, 0}, {32 * time.Second, false, 0}, {32 * time.Second, false, 128 * time.Second},
		{time.Hour, false, 0}, {time.Minute, false, 0}, {time.Minute, false, 0}, {time.Second, true, 0}, {time.Second, false, 0}, {time.Minute, false, 0}, {time.Minute, false, 0},
		{time.Second, false, 121 * time.Second},
	} {
		now = now.Add(c.after)
		if c.well {
			o.ended()
			continue
		}
		if got := o.failed(now); got != c.want {
			t.Errorf("after %s: %s, want %s", c.after, got, c.want)
		}
	}
}

// TestSignInFails: the answer to a token's request, which the client wraps and
// which has lines, is told on one.
func TestSignInFails(t *testing.T) {
	cause := errors.New("oauth2: \"invalid_grant\" \"Bad Request\"\nResponse: {\n}")
	err := describeError(t.Context(), &url.Error{Op: "Post", URL: "https://example.com", Err: cause})
	if !errors.Is(err, cause) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "talk to BigQuery") {
		t.Errorf("got %v", err)
	}
}

// TestSameBytes: a result that grows from REST into Arrow keeps its rows' bytes,
// of every type, so that it does not change them.
func TestSameBytes(t *testing.T) {
	for _, f := range forms() {
		var frames [2][]string
		for i, large := range []uint64{1, math.MaxUint64} {
			_, o := start(t, bigquerytest.Options{Answer: func(*bigquerytest.Query) (*bigquerytest.Result, error) {
				return &bigquerytest.Result{Rows: 2, Columns: []bigquerytest.Column{f.constant("v")}}, nil
			}})
			s := open(t, o)
			s.large = large
			rows, err := s.Read(t.Context(), one)
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				frames[i] = append(frames[i], string(rows.Row()))
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(frames[0], frames[1]) || len(frames[0]) != 2 {
			t.Errorf("%s: as Arrow %q, by REST %q", f.Name, frames[0], frames[1])
		}
	}
}
