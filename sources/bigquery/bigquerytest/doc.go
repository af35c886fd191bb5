// Package bigquerytest is a BigQuery for tests: the REST API of jobs and the
// Storage Read API, on the loopback interface, after Google's documentation
// ("REST Reference: Job", "Package google.cloud.bigquery.storage.v1", "Arrow
// schema details"). It parses no SQL: a test says what each query gives, and how
// BigQuery behaves on the way: errors, jobs that take long, streams that break.
//
// It shares no code with the source that is tested against it, so that one can
// catch the other's mistake. It is for tests alone and must never be imported by
// anything else.
package bigquerytest
