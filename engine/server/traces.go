package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"coho/engine"
)

// Traces sends a trace of each run to an OpenTelemetry collector: the run, its
// stages below it, and below those the API calls. They are made of the run's
// record when it has ended, so a run pays nothing for them while it goes on, and
// what they hold is what the history holds: no row values, no bodies, no secrets.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	log      *slog.Logger
}

// TracesOptions says where traces go.
type TracesOptions struct {
	// Endpoint is the collector's base URL, as in OTEL_EXPORTER_OTLP_ENDPOINT;
	// /v1/traces is added. "" leaves it to the environment, where the exporter
	// looks for headers, certificates and timeouts too.
	Endpoint string
	Version  string // of coho
	Logger   *slog.Logger
}

// Limits on what is traced.
const (
	// mostCalls is how many API calls of a run become spans, the first ones.
	mostCalls = 1000
	// spanQueue is how many spans wait for the collector at most; past that
	// they are dropped rather than held.
	spanQueue = 8192
)

// NewTraces returns traces that go to a collector, which need not run yet.
func NewTraces(ctx context.Context, o TracesOptions) (*Traces, error) {
	var options []otlptracehttp.Option
	if o.Endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(strings.TrimSuffix(o.Endpoint, "/")+"/v1/traces"))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces to the OpenTelemetry endpoint: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	log := o.Logger
	// What the exporter cannot send it says to this handler, the only one there is.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces could not be sent", "error", err) }))
	// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before what coho says.
	own := resource.NewSchemaless(attribute.String("service.name", "coho"), attribute.String("service.version", o.Version))
	of, err := resource.Merge(own, resource.Environment())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("say in traces whose they are: %w", err), exporter.Shutdown(ctx))
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(spanQueue)), sdktrace.WithResource(of))
	return &Traces{provider: provider, tracer: provider.Tracer("coho"), log: o.Logger}, nil
}

// Close sends what is left, for as long as ctx lasts.
func (t *Traces) Close(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// RunEnded traces a run that ended. It does not wait for the collector.
func (t *Traces) RunEnded(r *engine.Run, h *engine.History) {
	if r.FinishedAt == nil {
		return
	}
	ctx, run := t.tracer.Start(context.Background(), "run "+r.Sync, trace.WithNewRoot(), trace.WithTimestamp(r.StartedAt), trace.WithAttributes(
		attribute.String("coho.run", r.ID),
		attribute.String("coho.sync", r.Sync),
		attribute.String("coho.trigger", r.Trigger),
		attribute.String("coho.sequence_run", r.SequenceRun),
		attribute.String("coho.config", r.ConfigHash),
		attribute.String("coho.status", string(r.Status)),
		attribute.Int64("coho.rows.read", r.Rows.Read),
		attribute.Int64("coho.rows.rejected", r.Rows.Rejected),
		attribute.Int64("coho.operations", r.Operations.Total()),
	))
	if r.Outcomes != nil {
		run.SetAttributes(attribute.Int64("coho.outcomes.failed", r.Outcomes.Failed))
	}
	if r.API != nil {
		run.SetAttributes(attribute.Int64("coho.api_calls", r.API.Calls))
	}
	stages := t.stages(ctx, r)
	left, err := t.calls(ctx, r, h, stages)
	if err != nil {
		t.log.Warn("the API calls of a run are not in its trace", "run", r.ID, "error", err)
	}
	if left > 0 {
		run.SetAttributes(attribute.Int64("coho.api_calls.not_traced", left))
	}
	switch r.Status {
	case engine.Failed, engine.Halted, engine.Canceled:
		// The error itself may quote what a row or the org said; the history
		// has it.
		run.SetStatus(codes.Error, string(r.Status))
	}
	for i := range stages {
		stages[i].span.End(trace.WithTimestamp(stages[i].end))
	}
	run.End(trace.WithTimestamp(*r.FinishedAt))
}

// stageSpan is a stage of a run.
type stageSpan struct {
	begin, end time.Time
	ctx        context.Context
	span       trace.Span
}

// stages begins spans of the run's stages. The record says how long each took; they
// follow one another, but for a run that finishes an earlier one's plan and then
// checks once more, of which the sums are shown.
func (t *Traces) stages(ctx context.Context, r *engine.Run) []stageSpan {
	var out []stageSpan
	at := r.StartedAt
	for _, s := range stagesOf(r) {
		if s.name == "waiting" {
			continue // before the run began
		}
		one := stageSpan{begin: at, end: at.Add(s.took)}
		one.ctx, one.span = t.tracer.Start(ctx, s.name, trace.WithTimestamp(one.begin))
		at = one.end
		out = append(out, one)
	}
	return out
}

// stage is how long a run was at something.
type stage struct {
	name string
	took time.Duration
}

// stagesOf lists the stages of a run in their order.
func stagesOf(r *engine.Run) []stage {
	d := r.Durations
	if d == nil {
		return nil
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return []stage{
		{"waiting", seconds(d.Waiting)}, {"checking", seconds(d.Checking)}, {"reading", seconds(d.Reading)},
		{"applying", seconds(d.Applying)}, {"committing", seconds(d.Committing)},
	}
}

// calls makes spans of the run's API calls, each below the stage that it began
// in. left is how many there was no room for.
func (t *Traces) calls(ctx context.Context, r *engine.Run, h *engine.History, stages []stageSpan) (left int64, err error) {
	n := 0
	_, err = h.Calls(r.ID, func(call *engine.APICall) bool {
		if n++; n > mostCalls {
			left++
			return true
		}
		parent := ctx
		for _, s := range stages {
			if !call.Time.Before(s.begin) && call.Time.Before(s.end) {
				parent = s.ctx
			}
		}
		_, span := t.tracer.Start(parent, call.Method+" "+pattern(call.Path), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(call.Time), trace.WithAttributes(
			attribute.String("http.request.method", call.Method),
			attribute.String("url.path", call.Path),
			attribute.Int("http.response.status_code", call.Status),
			attribute.Int64("http.request.body.size", call.Sent),
			attribute.Int64("http.response.body.size", call.Received),
			attribute.Int64("coho.rows", call.Rows),
		))
		if call.Status == 0 || call.Status >= 400 {
			span.SetStatus(codes.Error, "")
		}
		span.End(trace.WithTimestamp(call.Time.Add(time.Duration(call.MS * float64(time.Millisecond)))))
		return true
	})
	return left, err
}

// pattern is a path with the ids of jobs and records taken out: a span's name must
// say what kind of thing was done.
func pattern(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if len(p) >= 15 && strings.ContainsAny(p, "0123456789") {
			parts[i] = "{id}"
		}
	}
	return strings.Join(parts, "/")
}
