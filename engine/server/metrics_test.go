package server

import (
	"errors"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"coho/destinations"
	"coho/engine"
)

// observedAll is a daemon of which everything can be said.
func observedAll() Observed {
	at := time.Unix(1_700_000_000, 0)
	return Observed{
		Ready: true, Reloaded: at,
		Syncs:        []ObservedSync{{Name: "accounts", NextRun: at, Running: true}, {Name: "contacts", Paused: true, Queued: true}},
		Sequences:    []ObservedSequence{{Name: "nightly", NextRun: at}},
		Destinations: map[string]destinations.Reading{"crm": {Parallelism: 7, InFlight: 3, Calls: 42, Remaining: 9000, Locks: 2, Retries: 5}, "new": {Remaining: -1}},
	}
}

func endedRun(sync string, status engine.Status) *engine.Run {
	began := time.Unix(1_700_000_000, 0)
	finished := began.Add(90 * time.Second)
	return &engine.Run{
		ID: "r", Sync: sync, Status: status, StartedAt: began, FinishedAt: &finished,
		Rows: engine.RowCounts{Read: 10, Added: 4, Rejected: 1}, Operations: engine.OperationCounts{Upsert: 4, Archive: -2},
		Outcomes: &engine.OutcomeCounts{Created: 3, Failed: 1}, Durations: &engine.Durations{Checking: 10, Reading: 30, Applying: 50},
	}
}

// TestMetricsFollowTheConventions: names, units, help and types as promtool's
// linter wants them, and all of them coho's.
func TestMetricsFollowTheConventions(t *testing.T) {
	m := NewMetrics("v1.2.3")
	m.Observe(observedAll)
	m.RunEnded(endedRun("accounts", engine.Succeeded))
	m.request("/healthz", "GET", 200, time.Second)
	found, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		if strings.HasPrefix(p.Metric, "coho_go_") || strings.HasPrefix(p.Metric, "coho_process_") {
			continue // client_golang's own
		}
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coho_") {
			t.Errorf("%s is not coho's", f.GetName())
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
	}
}

// TestMetricsCount: what a run did, and how the daemon stands.
func TestMetricsCount(t *testing.T) {
	m := NewMetrics("v1.2.3")
	m.Observe(observedAll)
	m.RunEnded(endedRun("accounts", engine.Succeeded))
	m.RunEnded(endedRun("accounts", engine.CompletedWithErrors))
	m.Remember(endedRun("contacts", engine.Succeeded)) // of before this process
	text, err := gathered(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`coho_build_info{go_version="`,
		`coho_ready 1`,
		`coho_runs_total{status="succeeded",sync="accounts"} 1`,
		`coho_runs_total{status="completed_with_errors",sync="accounts"} 1`,
		`coho_runs_total{status="failed",sync="accounts"} 0`, // there from the beginning
		`coho_runs_total{status="succeeded",sync="contacts"} 0`,
		`coho_run_duration_seconds_count{sync="accounts"} 2`,
		`coho_run_duration_seconds_sum{sync="accounts"} 180`,
		`coho_run_stage_seconds_total{stage="applying",sync="accounts"} 100`,
		`coho_rows_total{kind="read",sync="accounts"} 20`,
		`coho_rows_total{kind="rejected",sync="accounts"} 2`,
		`coho_operations_total{operation="upsert",sync="accounts"} 8`,
		`coho_operations_total{operation="archive",sync="accounts"} 0`, // a counter never falls
		`coho_outcomes_total{outcome="failed",sync="accounts"} 2`,
		`coho_run_last_success_timestamp_seconds{sync="accounts"} 1.70000009e+09`,
		`coho_run_last_success_timestamp_seconds{sync="contacts"} 1.70000009e+09`,
		`coho_run_active{sync="accounts"} 1`,
		`coho_run_queued{sync="contacts"} 1`,
		`coho_schedule_next_run_timestamp_seconds{kind="sync",name="accounts"} 1.7e+09`,
		`coho_schedule_next_run_timestamp_seconds{kind="sequence",name="nightly"} 1.7e+09`,
		`coho_schedule_paused{kind="sync",name="contacts"} 1`,
		`coho_config_last_reload_successful 1`,
		`coho_api_calls_total{destination="crm"} 42`,
		`coho_api_calls_remaining{destination="crm"} 9000`,
		`coho_parallelism{destination="crm"} 7`,
		`coho_api_requests_in_flight{destination="crm"} 3`,
		`coho_lock_refusals_total{destination="crm"} 2`,
		`coho_rows_resent_total{destination="crm"} 5`,
		`coho_go_goroutines `,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is not there", line)
		}
	}
	for _, line := range []string{
		`coho_api_calls_remaining{destination="new"}`, // not known
		`coho_schedule_next_run_timestamp_seconds{kind="sync",name="contacts"}`,
	} {
		if strings.Contains(text, line) {
			t.Errorf("%s is there", line)
		}
	}
}

func gathered(m *Metrics) (string, error) {
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		return "", errors.New(rec.Body.String())
	}
	return rec.Body.String(), nil
}

// TestMetricsForgetWhatIsGone: what a reload took out of the config, so that their
// number is that of the config's names.
func TestMetricsForgetWhatIsGone(t *testing.T) {
	m := NewMetrics("v1.2.3")
	for i := range 100 {
		m.RunEnded(endedRun("old-"+strconv.Itoa(i), engine.Failed))
	}
	m.RunEnded(endedRun("accounts", engine.Failed))
	m.keep([]ObservedSync{{Name: "accounts"}, {Name: "fresh"}})
	text, err := gathered(m)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "old-") {
		t.Error("metrics of syncs that are gone are there")
	}
	for _, line := range []string{`coho_runs_total{status="failed",sync="accounts"} 1`, `coho_runs_total{status="failed",sync="fresh"} 0`} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is not there", line)
		}
	}
}

// TestMetricsOfADaemon: a scrape of a real one, with labels from nothing that a
// caller sends.
func TestMetricsOfADaemon(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.run(StartRequest{All: true})
	for i := range 20 {
		w.ask("GET", "/api/v1/syncs/none-"+strconv.Itoa(i), "")
		w.ask("GET", "/none-"+strconv.Itoa(i), "")
		w.ask("NONE"+strconv.Itoa(i), "/healthz", "")
	}
	text := w.want(200, "GET", "/metrics", "").body
	for _, line := range []string{
		`coho_ready 1`,
		`coho_runs_total{status="succeeded",sync="accounts"} 1`,
		`coho_runs_total{status="completed_with_errors",sync="contacts"} 1`,
		`coho_outcomes_total{outcome="created",sync="accounts"} 30`,
		`coho_run_active{sync="accounts"} 0`,
		`coho_parallelism{destination="crm"} `,
		`coho_schedule_next_run_timestamp_seconds{kind="sync",name="accounts"} `,
		`coho_http_requests_total{code="404",method="GET",route="/api/v1/syncs/{sync}"} 20`,
		`coho_http_requests_total{code="404",method="other",route="other"} 20`,
		`coho_http_requests_total{code="405",method="other",route="/healthz"} 20`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is not there", line)
		}
	}
	if i := strings.Index(text, "coho_api_calls_total{destination=\"crm\"} "); i < 0 || strings.HasPrefix(text[i:], "coho_api_calls_total{destination=\"crm\"} 0\n") {
		t.Error("no API calls are counted")
	}
	for _, secret := range []string{token, w.org.Credentials().ClientSecret, "none-7"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the metrics", secret)
		}
	}
}
