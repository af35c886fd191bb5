package snowflake

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"coho/models"
	"coho/sources"
	"coho/sources/snowflake/snowflaketest"
	"coho/sources/sourcetest"
)

// TestMain settles what the driver takes from the environment before the first
// test, whichever that is: one that signs in by the bare driver would have it ask
// the machine's cloud about itself, over connections that it does not close.
func TestMain(m *testing.M) {
	hush()
	sourcetest.ServeElsewhere(serveAccounts)
	goleak.VerifyTestMain(m)
}

// optionsOf are for a server that lets everybody in.
func optionsOf(server *snowflaketest.Server) Options {
	return Options{Account: "org-acc", Host: server.URL, User: "coho", Password: "secret-password", Role: "READER", Warehouse: "WH", Database: "DB", Schema: "PUBLIC"}
}

// open opens a source that the test closes.
func open(tb testing.TB, o Options) *Source {
	tb.Helper()
	s, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// TestConformance runs the suite over results in Arrow and in JSON.
// COHO_BENCH_ROWS sets how many rows the test of flat memory reads.
func TestConformance(t *testing.T) {
	for _, form := range []struct {
		name       string
		json, gzip bool
		polls      int
	}{
		{"arrow", false, false, 0},
		{"arrow gzipped, in progress at first", false, true, 2},
		{"json", true, true, 0},
	} {
		t.Run(form.name, func(t *testing.T) {
			a := &answers{types: values(), shape: func(r *snowflaketest.Result) { r.Polls = form.polls }}
			server := snowflaketest.Start(t, snowflaketest.Options{Answer: a.answer, JSON: form.json, Gzip: form.gzip})
			d := dialect
			if os.Getenv("COHO_BENCH_ROWS") != "" {
				d.Rows = benchRows(t)
			} else if form.json || form.gzip {
				d.Rows = 100_000 // a million are read as they are, without gzip's time
			}
			d.Decoded = form.json
			sourcetest.Run(t, sourcetest.Harness{
				Open: func(tb testing.TB) sources.Source {
					s, err := Open(optionsOf(server))
					if err != nil {
						tb.Fatal(err)
					}
					return s
				},
				Types:        sqlOf(t, a.types),
				Table:        "things",
				Slow:         "SELECT slow()",
				Failing:      "SELECT 1/0",
				FailingError: "Division by zero",
				FailsWhole:   true,
				Refused: map[string]string{
					"INSERT INTO things VALUES (3)": "unexpected 'INSERT INTO things",
					"SELECT 1) ; DROP TABLE things": "closes a parenthesis",
					"CALL procedure()":              "unexpected 'CALL",
				},
				Connections: func(testing.TB) int { return server.Sessions() },
				Dialect:     d,
			})
		})
	}
}

// TestMissingPermission checks that the error says what to do.
func TestMissingPermission(t *testing.T) {
	a := &answers{}
	server := snowflaketest.Start(t, snowflaketest.Options{Answer: a.answer})
	_, err := open(t, optionsOf(server)).Read(t.Context(), models.Model{Table: "secrets"})
	const want = "SQL access control error: Insufficient privileges to operate on table 'SECRETS'; grant the source's role what it lacks (Snowflake 003001, query 01b00000-0000-0000-0000-000000000002)"
	if err == nil || err.Error() != want {
		t.Errorf("error = %v\nwant    %s", err, want)
	}
}
