package server

import (
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"coho/destinations"
	"coho/engine"
)

// Metrics counts what the daemon does, for Prometheus. Labels take their values
// from the config (names of syncs, sequences and destinations) and from fixed
// lists, never from data; what a reload removed from the config disappears.
type Metrics struct {
	registry *prometheus.Registry

	runs        *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	stages      *prometheus.CounterVec
	rows        *prometheus.CounterVec
	operations  *prometheus.CounterVec
	outcomes    *prometheus.CounterVec
	lastSuccess *prometheus.GaugeVec
	lastEnd     *prometheus.GaugeVec
	requests    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	streams     prometheus.Gauge

	mu      sync.Mutex      // guards the rest
	syncs   map[string]bool // those that have series
	observe func() Observed // nil before Observe
}

// Observed is how the daemon stands at the moment of a scrape.
type Observed struct {
	Syncs        []ObservedSync
	Sequences    []ObservedSequence
	Destinations map[string]destinations.Reading
	Ready        bool
	// Reloaded is when the config was last taken; ReloadFailed says that a
	// newer one has been refused since.
	Reloaded     time.Time
	ReloadFailed bool
}

// ObservedSync is how a sync stands.
type ObservedSync struct {
	Name            string
	NextRun         time.Time // zero: none is scheduled
	Paused          bool
	Running, Queued bool
}

// ObservedSequence is how a sequence stands.
type ObservedSequence struct {
	Name            string
	NextRun         time.Time
	Paused, Running bool
}

// The label values that are known beforehand, so that each series begins at 0
// and a rate over the first event is right.
var (
	statuses       = []engine.Status{engine.Succeeded, engine.CompletedWithErrors, engine.Failed, engine.Halted, engine.Canceled}
	rowKinds       = []string{"read", "unchanged", "added", "changed", "removed", "rejected"}
	operationKinds = []string{"insert", "update", "upsert", "archive", "clear_fields"}
	outcomeKinds   = []string{"created", "updated", "deleted", "cleared", "skipped", "failed", "deactivated", "held", "unknown"}
)

// NewMetrics returns metrics that have counted nothing yet.
func NewMetrics(version string) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		syncs:    map[string]bool{},
		runs:     counter("coho_runs_total", "Runs that ended, by the status they ended with.", "sync", "status"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "coho_run_duration_seconds", Help: "How long runs took from start to end.",
			Buckets: []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400},
		}, []string{"sync"}),
		stages:      counter("coho_run_stage_seconds_total", "Time that runs spent in each of their stages.", "sync", "stage"),
		rows:        counter("coho_rows_total", "Rows of the model, by what the run found them to be.", "sync", "kind"),
		operations:  counter("coho_operations_total", "Operations that runs planned.", "sync", "operation"),
		outcomes:    counter("coho_outcomes_total", "Operations settled, by what the destination said of them.", "sync", "outcome"),
		lastSuccess: gauge("coho_run_last_success_timestamp_seconds", "When the sync's last run that succeeded ended, in seconds since 1970.", "sync"),
		lastEnd:     gauge("coho_run_last_end_timestamp_seconds", "When the sync's last run ended, however it did, in seconds since 1970.", "sync"),
		requests:    counter("coho_http_requests_total", "Requests that the daemon answered, by route.", "route", "method", "code"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "coho_http_request_duration_seconds", Help: "How long requests took to answer, by route; event streams last as long as they are read.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300},
		}, []string{"route"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "coho_event_streams", Help: "Event streams that are being read."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coho_build_info", Help: "Always 1; the labels say which coho this is.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.runs, m.duration, m.stages, m.rows, m.operations, m.outcomes, m.lastSuccess, m.lastEnd, m.requests, m.latency, m.streams, build, &scrape{m})
	// The process's own, under coho's prefix as all the rest.
	prometheus.WrapRegistererWithPrefix("coho_", m.registry).MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe makes f what a scrape asks. Before it, a scrape shows what was counted.
func (m *Metrics) Observe(f func() Observed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observe = f
}

// RunEnded counts a run that ended.
func (m *Metrics) RunEnded(r *engine.Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(r.Sync)
	m.runs.WithLabelValues(r.Sync, string(r.Status)).Inc()
	m.ended(r)
	if r.FinishedAt != nil {
		m.duration.WithLabelValues(r.Sync).Observe(r.FinishedAt.Sub(r.StartedAt).Seconds())
	}
	for _, s := range stagesOf(r) {
		m.stages.WithLabelValues(r.Sync, s.name).Add(s.took.Seconds())
	}
	for i, n := range []int64{r.Rows.Read, r.Rows.Unchanged, r.Rows.Added, r.Rows.Changed, r.Rows.Removed, r.Rows.Rejected} {
		m.rows.WithLabelValues(r.Sync, rowKinds[i]).Add(float64(n))
	}
	// A run that gives operations up to plan them anew may count less than none.
	for i, n := range []int64{r.Operations.Insert, r.Operations.Update, r.Operations.Upsert, r.Operations.Archive, r.Operations.ClearFields} {
		m.operations.WithLabelValues(r.Sync, operationKinds[i]).Add(float64(max(n, 0)))
	}
	if o := r.Outcomes; o != nil {
		for i, n := range []int64{o.Created, o.Updated, o.Deleted, o.Cleared, o.Skipped, o.Failed, o.Deactivated, o.Held, o.Unknown} {
			m.outcomes.WithLabelValues(r.Sync, outcomeKinds[i]).Add(float64(n))
		}
	}
}

// Remember sets what outlives the process from a run of the history, so that an
// alert on the age of the last success holds over restarts.
func (m *Metrics) Remember(r *engine.Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(r.Sync)
	m.ended(r)
}

// ended notes when a run ended. The caller holds m.mu.
func (m *Metrics) ended(r *engine.Run) {
	if r.FinishedAt == nil {
		return
	}
	at := float64(r.FinishedAt.UnixMilli()) / 1000
	m.lastEnd.WithLabelValues(r.Sync).Set(at)
	if r.Status == engine.Succeeded {
		m.lastSuccess.WithLabelValues(r.Sync).Set(at)
	}
}

// begin makes a sync's counters begin at 0. The caller holds m.mu.
func (m *Metrics) begin(sync string) {
	if m.syncs[sync] {
		return
	}
	m.syncs[sync] = true
	for _, s := range statuses {
		m.runs.WithLabelValues(sync, string(s))
	}
	for _, k := range rowKinds {
		m.rows.WithLabelValues(sync, k)
	}
	for _, k := range operationKinds {
		m.operations.WithLabelValues(sync, k)
	}
	for _, k := range outcomeKinds {
		m.outcomes.WithLabelValues(sync, k)
	}
}

// keep begins the syncs of the config and forgets all others.
func (m *Metrics) keep(syncs []ObservedSync) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := make(map[string]bool, len(syncs))
	for _, s := range syncs {
		now[s.Name] = true
		m.begin(s.Name)
	}
	for name := range m.syncs {
		if now[name] {
			continue
		}
		delete(m.syncs, name)
		gone := prometheus.Labels{"sync": name}
		for _, v := range []interface {
			DeletePartialMatch(prometheus.Labels) int
		}{m.runs, m.duration, m.stages, m.rows, m.operations, m.outcomes, m.lastSuccess, m.lastEnd} {
			v.DeletePartialMatch(gone)
		}
	}
}

// request counts a request that was answered. route is a pattern, never a path.
func (m *Metrics) request(route, method string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.latency.WithLabelValues(route).Observe(took.Seconds())
}

// scrape collects what is asked at the moment of a scrape.
type scrape struct{ m *Metrics }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descReady       = desc("coho_ready", "1 where the daemon takes work, 0 while it stops.")
	descRunning     = desc("coho_run_active", "1 while a run of the sync goes on.", "sync")
	descQueued      = desc("coho_run_queued", "1 while a run of the sync waits for its turn.", "sync")
	descNext        = desc("coho_schedule_next_run_timestamp_seconds", "When the schedule starts the sync or sequence next, in seconds since 1970.", "kind", "name")
	descPaused      = desc("coho_schedule_paused", "1 where the schedule of the sync or sequence is paused.", "kind", "name")
	descReloaded    = desc("coho_config_last_reload_success_timestamp_seconds", "When the config was last taken, in seconds since 1970.")
	descReloadOK    = desc("coho_config_last_reload_successful", "0 where the last config found was refused and an older one is in use.")
	descCalls       = desc("coho_api_calls_total", "API calls made to the destination.", "destination")
	descRemaining   = desc("coho_api_calls_remaining", "API calls that the org has left for the day, as it last said.", "destination")
	descParallelism = desc("coho_parallelism", "Requests and bulk batches that the destination is given at once at present.", "destination")
	descInFlight    = desc("coho_api_requests_in_flight", "Requests and bulk batches that wait for the destination.", "destination")
	descLocks       = desc("coho_lock_refusals_total", "Rows that the destination refused because somebody else held a lock.", "destination")
	descRetries     = desc("coho_rows_resent_total", "Rows that were sent again.", "destination")
)

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReady, descRunning, descQueued, descNext, descPaused, descReloaded, descReloadOK, descCalls, descRemaining, descParallelism, descInFlight, descLocks, descRetries} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	s.m.mu.Lock()
	observe := s.m.observe
	s.m.mu.Unlock()
	if observe == nil {
		return
	}
	o := observe()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	next := func(at time.Time, kind, name string) {
		if !at.IsZero() {
			gauge(descNext, float64(at.UnixMilli())/1000, kind, name)
		}
	}
	gauge(descReady, truth(o.Ready))
	if !o.Reloaded.IsZero() {
		gauge(descReloaded, float64(o.Reloaded.UnixMilli())/1000)
		gauge(descReloadOK, truth(!o.ReloadFailed))
	}
	for _, y := range o.Syncs {
		gauge(descRunning, truth(y.Running), y.Name)
		gauge(descQueued, truth(y.Queued), y.Name)
		gauge(descPaused, truth(y.Paused), "sync", y.Name)
		next(y.NextRun, "sync", y.Name)
	}
	for _, q := range o.Sequences {
		gauge(descPaused, truth(q.Paused), "sequence", q.Name)
		next(q.NextRun, "sequence", q.Name)
	}
	for name, r := range o.Destinations {
		counter(descCalls, r.Calls, name)
		counter(descLocks, r.Locks, name)
		counter(descRetries, r.Retries, name)
		gauge(descInFlight, float64(r.InFlight), name)
		gauge(descParallelism, float64(r.Parallelism), name)
		if r.Remaining >= 0 {
			gauge(descRemaining, float64(r.Remaining), name)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
