// Package bigquery reads models from BigQuery through Google's client.
//
// Small results come by REST. Large ones come as Arrow through the Storage Read
// API, several streams at once, and are framed without being decoded (see
// coho/sources/columnar). Both ways end in the same bytes, so that a result that
// grows does not change its rows.
//
// It never writes: every statement is compiled first, which costs nothing, and
// what is not a single SELECT does not run. It never runs a query past
// max_bytes_billed, which BigQuery itself enforces.
//
// BenchmarkRead compares it with the client's own loops into nothing, BenchmarkMemory
// measures the most memory that reading takes; the server is another process on the
// same machine. Measured on 2026-11-23 with 2 cores and 24 GiB, results of ten
// columns: a million rows as Arrow in 180 ms, by a loop that leaves the messages as
// they are in 202 ms, or in 167 ms where the client may let as much be on its way as
// it likes (medians of five; ratios 0.9 and 1.1). By REST the client's own decoding is
// all the time there is. The process's peak:
//
//	rows          as Arrow      by REST
//	100 thousand  62 to 63 MB   80 MB
//	1 million     63 to 64 MB   80 MB
//	5 million     69 MB         83 MB
package bigquery
