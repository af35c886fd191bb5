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
// BenchmarkRead compares it with the client's own loops into nothing. A million
// rows of ten columns from a server on the same two cores: as Arrow 330 ms against
// 215 ms of a loop that leaves the messages as they are. By REST, of 200 thousand
// rows, 6.6 s against 8.5 s on a busy machine: the client's own decoding is all
// the time there is.
package bigquery
