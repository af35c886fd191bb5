package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// TestTracesWhereAnEndpointIsSet: by OpenTelemetry's own variables, and only there.
func TestTracesWhereAnEndpointIsSet(t *testing.T) {
	const at, own = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	for _, c := range []struct {
		name string
		env  map[string]string
		sent bool
		said string
	}{
		{"nothing", nil, false, ""},
		{"an empty endpoint", map[string]string{at: " "}, false, ""},
		{"an endpoint", map[string]string{at: "http://127.0.0.1:4318"}, true, ""},
		{"one for traces", map[string]string{own: "http://127.0.0.1:4318/v1/traces"}, true, ""},
		{"turned off", map[string]string{at: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "True"}, false, ""},
		{"no traces", map[string]string{at: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		{"the protocol that is spoken", map[string]string{at: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, true, ""},
		{"one that is not", map[string]string{at: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, "asked=grpc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			k := newCLI(io.Discard, io.Discard, func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }, nil)
			traces, err := k.traces(t.Context(), slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil || (traces != nil) != c.sent {
				t.Fatalf("traces %v, %v", traces, err)
			}
			if traces != nil {
				if err := traces.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if !strings.Contains(log.String(), c.said) || c.said == "" && log.Len() > 0 {
				t.Errorf("said %q, want %q", log.String(), c.said)
			}
		})
	}
}
