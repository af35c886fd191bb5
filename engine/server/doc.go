// Package server is how others speak to the daemon: an HTTP API under /api/v1
// with server-sent events, probes, Prometheus metrics and OpenTelemetry traces;
// and [Client], by which the commands beside a daemon ask it.
//
// It must never decide anything about syncs or data: it says what the daemon and
// the engine say. It must never let anybody in over TCP without the token, hold a
// run up for a client that is slow, or put a secret or a row's value into a
// metric, a trace or a log.
//
// # Who gets in
//
// The server listens in two places. The socket daemon.sock in the state directory,
// which only its owner may open, is for the commands; it asks for no token, since
// whoever can open it can read the state itself. The TCP address of [server] addr
// is for all else, and asks for the token of [server] token, always: without one
// in the config the API is closed there, and an address that other machines can
// reach is refused. A page in a browser cannot send the token, so neither a
// forged request nor a rebound name gets anywhere.
//
// /healthz, /readyz and the API's description are open. /metrics is open where
// the server listens on loopback only, to requests that name the machine by
// address or as localhost; on any other address it asks for the token, as
// Prometheus's authorization setting sends it.
//
// There is no TLS: beyond the machine, put a proxy in front.
//
// # Events
//
// A stream of events begins with how each run stands, and every event tells the
// whole of it, so there is nothing to replay: a client that lost its connection
// opens another. Each stream looks at the runs' progress at its own pace; a run
// never waits for one, and a client that takes nothing for ten seconds is dropped.
//
// # Metrics
//
// Labels are names from the config and values from fixed lists.
//
//	coho_build_info{version,go_version}                    1
//	coho_ready                                             1 while the daemon takes work
//	coho_runs_total{sync,status}                           runs that ended
//	coho_run_duration_seconds{sync}                        histogram
//	coho_run_stage_seconds_total{sync,stage}               time spent in each stage
//	coho_run_last_end_timestamp_seconds{sync}
//	coho_run_last_success_timestamp_seconds{sync}          alert on its age; outlives restarts
//	coho_run_active{sync}, coho_run_queued{sync}           0 or 1
//	coho_rows_total{sync,kind}                             read, unchanged, added, changed, removed, rejected
//	coho_operations_total{sync,operation}                  planned
//	coho_outcomes_total{sync,outcome}                      created, updated, deleted, cleared, skipped, failed, deactivated, held, unknown
//	coho_schedule_next_run_timestamp_seconds{kind,name}    kind: sync or sequence
//	coho_schedule_paused{kind,name}                        0 or 1
//	coho_config_last_reload_successful                     0 while a newer config is refused
//	coho_config_last_reload_success_timestamp_seconds
//	coho_api_calls_total{destination}
//	coho_api_calls_remaining{destination}                  of the org's day, as it last said
//	coho_api_requests_in_flight{destination}
//	coho_parallelism{destination}                          what the org is given at once at present
//	coho_lock_refusals_total{destination}                  rows refused for somebody else's lock
//	coho_rows_resent_total{destination}
//	coho_event_streams                                     streams being read
//	coho_http_requests_total{route,method,code}
//	coho_http_request_duration_seconds{route}              histogram
//	coho_go_..., coho_process_...                          the process's own
//
// # Traces
//
// Where an OTLP endpoint is given, each run that ends becomes a trace: the run,
// its stages, and the API calls of each stage (the first 1,000). See [Traces].
package server
