// Package snowflake reads models from Snowflake through its Go driver.
//
// Results come as Arrow batches, several of them fetched at once, and rows are
// framed without being decoded (see coho/sources/columnar). What the server
// answers as JSON instead, as it does for some statements, ends in the same
// bytes.
//
// It never writes: a model runs as a subquery, so that nothing but a query
// runs at all, and the role that it signs in with should be able to read only.
// It never logs what the driver would: the driver's messages name result files
// with their signatures.
//
// What the driver (1.19.1) does that is worked around here, each held by a
// test: it cannot make Arrow's times of day of what Snowflake sends, so a
// statement is compiled first and its TIME columns are read as text; it rounds
// 38 digits in JSON unless its higher precision is off; it reads moments before
// 1970 the wrong way round in JSON; it hands out what it has of a file that was
// cut off as if it were all, so a file is asked for again only by a new link;
// it does not renew a session when it asks for a result again; and it leaves
// goroutines behind when a result in JSON is cancelled, unless it streams.
//
// Snowflake answers a query when its whole result is there. A cancel before
// that aborts the statement (abort-request); after it, no more files are
// fetched.
//
// The tests run against snowflaketest, made after the driver's own code, and
// against an emulator (make test-warehouses). What only a real account can
// show: that SELECT * REPLACE and TO_CHAR give what is expected of them, which
// form Snowflake chooses for each type, that the links to files expire as they
// do here, and network policies. `coho validate --live-types SOURCE` shows the
// types.
//
// BenchmarkRead compares it with the driver's own loops into nothing, BenchmarkMemory
// measures the most memory that reading takes; the server is another process on the
// same machine. Measured on 2026-11-23 with 2 cores and 24 GiB, a million rows of ten
// columns in files of 20 thousand (medians of three):
//
//	reader                             gzipped files   plain files
//	coho                               339 ms          106 ms
//	the driver's batches in turn       757 ms          238 ms
//	the driver's batches, four at once 350 ms          139 ms
//
// The process's peak, files gzipped: 53 MB for 100 thousand rows, 60 MB for a
// million, 62 MB for 5 million. It grows with the size of the files that Snowflake
// makes, of which fetchAhead are held.
package snowflake
