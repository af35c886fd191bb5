// Package bigquery reads models from BigQuery through Google's client.
//
// Small results come by REST, with the answer to the query itself. Large ones
// come as Arrow through the Storage Read API, several streams at once, and are
// framed without being decoded (see coho/sources/columnar). Both ways end in
// the same bytes, so that a result that grows does not change its rows.
//
// It never writes: every statement is compiled first, which costs nothing, and
// what is not a single SELECT does not run. It never runs a query past
// max_bytes_billed, which BigQuery itself enforces.
package bigquery
