// Package postgres reads model queries from PostgreSQL.
//
// Rows are passed on as the server sent them: the body of a DataRow message,
// after its column count, already is a row frame (see models.Schema). pgconn
// opens the connection, authenticates and prepares the statement; from there
// on the package reads the socket itself, through one large buffer, because
// pgconn's reader slices every row into its cells before a caller sees it.
// Nothing is decoded, copied or allocated per row.
//
// A model that is a table, not a query, is read over two connections where that
// is sure to give the same rows: a plain heap table of a thousand pages or more on
// PostgreSQL 14 or later that is no hot standby, with no children and no row
// security. The first connection exports its snapshot, the second begins under it,
// each reads a half of the pages by ctid, and the plan must say that it does that
// by a TID range scan. Whatever fails on the way leaves it at one connection.
// Sequential scans begin at the table's beginning whatever other sessions read, so
// an unchanged table comes in the order of the last read.
//
// Columns travel in PostgreSQL's binary format where the package decodes it,
// as text otherwise:
//
//   - smallint, integer, bigint, oid: Int
//   - numeric: Decimal with the server's digits; NaN and the infinities Float
//   - real, double precision: Float; a real becomes the double nearest to its
//     shortest decimal form, so 0.1 stays 0.1
//   - boolean: Bool
//   - text, varchar, name, citext, enums: Text
//   - char(n): Text without its trailing blanks, which PostgreSQL holds to be
//     insignificant and drops itself when it casts to text
//   - uuid: Text
//   - date: Date; time: Time; timestamp: Timestamp; timestamptz: TimestampTZ;
//     infinity, and a time beyond what int64 microseconds since 1970 hold, is
//     the row's error
//   - json, jsonb: JSON
//   - bytea: Bytes
//   - arrays of these: List; an array of more than one dimension, or whose
//     subscripts do not start at 1, is Text in PostgreSQL's own notation
//   - a domain is its base type
//   - everything else (timetz, interval, money, inet, ranges, composites,
//     bit strings, geometry, extension types) is Text as psql shows it
//
// The settings that change text output (TimeZone, DateStyle, IntervalStyle,
// extra_float_digits, bytea_output) are fixed inside the transaction; what is
// left (lc_monetary, search_path, the server's version) is part of
// Schema.Version.
//
// # What reading costs
//
// A million rows of ten columns over one connection, beside the driver's own loops
// on the same machine (-bench Read; 23 November 2026, two cores, PostgreSQL 15):
//
//	coho                                  605 ms
//	pgx, each row's bytes thrown away     523 ms
//	pgx, each value decoded             1,280 ms
//
// A process that reads has 18 MB for 100,000 rows and 16 MB for five million (-bench
// Memory).
//
// What a whole plan of ten million rows takes beside psql's COPY is in package
// planner.
//
// The package must never write to the warehouse (every statement runs in a
// READ ONLY, REPEATABLE READ transaction), never keep a connection longer than
// the call or the rows that use it, and never show the connection string.
package postgres
