// Package duckdb reads model queries with DuckDB, embedded in the process:
// from a database file, or from Parquet, CSV and JSON files through
// read_parquet, read_csv and read_json in the query.
//
// It uses DuckDB's C API rather than database/sql, whose driver holds a whole
// result in memory. The result streams in chunks of 2,048 rows; a row's frame
// is built straight from the column vectors, without a value in between and
// without allocation. A cell holds a fixed-size value as it lies in memory
// (little endian on every platform that DuckDB's Go library supports), text
// and blobs as their bytes, an enum as its label, a list as its elements' cells.
//
//   - signed and unsigned integers up to 64 bits signed, 32 bits unsigned: Int
//   - UBIGINT, HUGEINT, UHUGEINT, BIGNUM, DECIMAL: Decimal with all digits
//   - FLOAT, DOUBLE: Float; a FLOAT becomes the double nearest to its shortest
//     decimal form, so 0.1 stays 0.1
//   - BOOLEAN: Bool; VARCHAR, ENUM, UUID: Text; BLOB: Bytes; JSON: JSON
//   - DATE: Date; TIME, TIME_NS: Time; TIMESTAMP, _S, _MS, _NS: Timestamp;
//     TIMESTAMPTZ: TimestampTZ; nanoseconds are cut to microseconds; infinity,
//     and a time beyond what int64 microseconds since 1970 hold, is the row's
//     error
//   - TIMETZ, INTERVAL, BIT: Text as DuckDB prints it
//   - lists and arrays: List
//   - STRUCT, MAP, UNION: JSON
//
// A plan of an unchanged Parquet model of 10,000,000 rows took 0.94 times (0.93 to
// 1.04, five pairs; 1.97 s against 2.08 s) as long as DuckDB's own Arrow scan of the
// file into nothing, whole processes, with a peak of 189 MiB, and the first plan after
// a run that changed something, which also compares the order log with the snapshot,
// 1.17 times (1.15 to 1.24; 2.54 s against 2.12 s) and 195 MiB; five pairs with an
// earlier commit of the day gave 1.04 (0.98 to 1.17). The goal is 1.25. Of 4,000,000
// rows it took 1.22 (0.92 to 1.44, seven pairs) and 0.98 (0.89 to 1.28, nine), of
// 2,000,000 rows 1.18 (1.06 to 1.25, five), each with one such first plan among them,
// and up to 228 MiB. 2026-11-23, two cores, 24 GiB (-bench Yardstick/parquet in
// cmd/coho). Before the planner's changes of that day it was 1.32.
//
// A plan takes 3.1 s of processor, a first one 4.2 s. By perf, at 4,000,000 rows, 42%
// is DuckDB (13% to uncompress, 13% to copy texts), 19% the kernel and the C library,
// 12% makes the frames, 7% hashes them and the keys, 6% is the planner's, and 5% Go's
// runtime, most of it copying.
//
// Reading alone, three million rows of the same file took 680 ms, DuckDB's own Arrow
// scan of them 773 ms, and the driver's rows with their values 2,155 ms (-bench Read).
//
// Tried: a cell written by its type rather than by a general append was slower in
// four runs of five. One DuckDB thread instead of two made plans of this file about
// 6% faster (four pairs, one of them slower), and would slow down every query that
// computes something. Fetching alone was slower with streaming buffers of 64 kB and
// 4 MB than with DuckDB's own of about 1 MB; with 64 MB it was faster on a file of
// three million rows, at 240 to 280 MB of memory, and was not tried in a plan.
//
// A database file is opened read-only when a query starts and let go when the
// last one ends, so that other processes may write to it in between.
//
// The package must never write: a statement that is not a query is refused,
// whatever the access mode.
package duckdb
