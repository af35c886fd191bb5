package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"coho/engine"
)

// receiver is a collector: it takes OTLP over HTTP.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex // guards the rest
	spans []*tracev1.Span
	raw   []byte
	paths []string
	from  map[string]string // the attributes of who sent the last
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := io.Reader(req.Body)
		if req.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
			return
		}
		var got collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(text, &got); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw = append(r.raw, text...)
		r.paths = append(r.paths, req.Method+" "+req.URL.Path)
		for _, rs := range got.ResourceSpans {
			r.from = map[string]string{}
			for _, a := range rs.GetResource().GetAttributes() {
				r.from[a.Key] = a.Value.GetStringValue()
			}
			for _, s := range rs.ScopeSpans {
				r.spans = append(r.spans, s.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// TestTracesOfRuns: a trace a run, its stages below it, API calls below those,
// nothing secret in any, and all of it sent when the daemon ends.
func TestTracesOfRuns(t *testing.T) {
	r := newReceiver(t)
	traces, err := NewTraces(t.Context(), TracesOptions{Endpoint: r.URL + "/", Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, worldOptions{ended: traces.RunEnded})
	ended := w.run(StartRequest{Sequence: "nightly"})
	w.stop()
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.CloseClientConnections()
	if len(r.paths) == 0 || r.paths[0] != "POST /v1/traces" {
		t.Errorf("sent to %v", r.paths)
	}
	byID := map[string]*tracev1.Span{}
	for _, s := range r.spans {
		byID[string(s.SpanId)] = s
		if s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s ends before it begins", s.Name)
		}
	}
	for _, e := range ended {
		var run *tracev1.Span
		var below []string
		calls := 0
		for _, s := range r.spans {
			if s.Name == "run "+e.Sync {
				run = s
			}
		}
		if run == nil {
			t.Fatalf("there is no trace of %s", e.Sync)
		}
		attributes := map[string]string{}
		for _, a := range run.Attributes {
			attributes[a.Key] = a.Value.GetStringValue()
		}
		if len(run.ParentSpanId) != 0 || attributes["coho.run"] != e.Run || attributes["coho.status"] != string(e.Record.Status) || attributes["coho.sequence_run"] == "" {
			t.Errorf("the run: %v", run)
		}
		if run.StartTimeUnixNano != uint64(e.Record.StartedAt.UnixNano()) || run.EndTimeUnixNano != uint64(e.Record.FinishedAt.UnixNano()) {
			t.Errorf("the run lasts from %d to %d, and its record from %s to %s", run.StartTimeUnixNano, run.EndTimeUnixNano, e.Record.StartedAt, e.Record.FinishedAt)
		}
		for _, s := range r.spans {
			if !bytes.Equal(s.TraceId, run.TraceId) || s == run {
				continue
			}
			if bytes.Equal(s.ParentSpanId, run.SpanId) && s.Kind == tracev1.Span_SPAN_KIND_INTERNAL {
				below = append(below, s.Name)
			}
			if s.Kind != tracev1.Span_SPAN_KIND_CLIENT {
				continue
			}
			calls++
			if parent := byID[string(s.ParentSpanId)]; strings.Contains(s.Name, "/composite/sobjects") && (parent == nil || parent.Name != "applying") {
				t.Errorf("%s is below %v, want applying", s.Name, parent)
			}
		}
		slices.Sort(below)
		if strings.Join(below, " ") != "applying checking committing reading" || int64(calls) < e.Record.API.Calls || calls == 0 {
			t.Errorf("%s: stages %v, %d calls of %d", e.Sync, below, calls, e.Record.API.Calls)
		}
	}
	creds := w.org.Credentials()
	for _, secret := range []string{creds.ClientSecret, creds.AccessToken, "n17"} {
		if secret != "" && bytes.Contains(r.raw, []byte(secret)) {
			t.Errorf("%q is in the traces", secret)
		}
	}
}

// TestTracesSayWhoseTheyAre: by OpenTelemetry's own variables, where they are set.
func TestTracesSayWhoseTheyAre(t *testing.T) {
	for _, c := range []struct {
		name, service, attributes string
		want                      map[string]string
	}{
		{"by itself", "", "", map[string]string{"service.name": "coho", "service.version": "v1.2.3"}},
		{"by the environment", "coho-eu", "deployment.environment=prod,service.version=7", map[string]string{"service.name": "coho-eu", "service.version": "7", "deployment.environment": "prod"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("OTEL_SERVICE_NAME", c.service)
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", c.attributes)
			r := newReceiver(t)
			traces, err := NewTraces(t.Context(), TracesOptions{Endpoint: r.URL, Version: "v1.2.3"})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			traces.RunEnded(&engine.Run{ID: "r", Sync: "accounts", StartedAt: now, FinishedAt: &now}, engine.OpenHistory(t.TempDir(), engine.Retention{}))
			if err := traces.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.CloseClientConnections()
			r.mu.Lock()
			defer r.mu.Unlock()
			if !maps.Equal(r.from, c.want) {
				t.Errorf("%v, want %v", r.from, c.want)
			}
		})
	}
}

// TestTracesOfFailedRuns: the status is an error, without its text, which may quote
// a row.
func TestTracesOfFailedRuns(t *testing.T) {
	r := newReceiver(t)
	traces, err := NewTraces(t.Context(), TracesOptions{Endpoint: r.URL})
	if err != nil {
		t.Fatal(err)
	}
	run := endedRun("accounts", engine.Failed)
	run.Error = "the value sesame is too long"
	traces.RunEnded(run, engine.OpenHistory(t.TempDir(), engine.Retention{}))
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, s := range r.spans {
		if s.Name == "run accounts" {
			found = s.Status.Code == tracev1.Status_STATUS_CODE_ERROR && s.Status.Message == "failed"
		}
	}
	if !found || bytes.Contains(r.raw, []byte("sesame")) {
		t.Errorf("spans: %v", r.spans)
	}
}

// TestTracesWithoutACollector: a run does not wait for one, and the end only as
// long as it may.
func TestTracesWithoutACollector(t *testing.T) {
	going := make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-going }))
	defer stuck.Close()
	defer close(going)
	var log bytes.Buffer
	traces, err := NewTraces(t.Context(), TracesOptions{Endpoint: stuck.URL, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	history := engine.OpenHistory(t.TempDir(), engine.Retention{})
	began := time.Now()
	for range 100 {
		traces.RunEnded(endedRun("accounts", engine.Succeeded), history)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("runs waited %s for the collector", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began = time.Now()
	if err := traces.Close(ctx); err == nil {
		t.Error("what was not sent is not said")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end waited %s for the collector", took)
	}
}

func TestPattern(t *testing.T) {
	for path, want := range map[string]string{
		"/services/data/v62.0/jobs/ingest/7505f000001AbCdEAK/batches": "/services/data/v62.0/jobs/ingest/{id}/batches",
		"/services/data/v62.0/composite/sobjects":                     "/services/data/v62.0/composite/sobjects",
		"": "",
	} {
		if got := pattern(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
