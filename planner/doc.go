// Package planner turns a model's rows and a sync's snapshot into a plan: the
// operations that make the destination equal to the model, and nothing more.
//
// # How a plan is made
//
// Build reads the rows once, in whatever order the warehouse gives them. Of
// each row it hashes the primary key's canonical text (the key hash: the row's
// identity) and the bytes of the mapped columns as the warehouse sent them (the
// fingerprint), and puts the row's frame into one of P partitions by the first
// bits of its key hash. Partitions live in memory until MemoryLimit, then on
// disk, each a file that is only appended to.
//
// A row that is where the order log has it, the log of the last read beside the
// snapshot, is not kept at all (see order). There is none where rows that nothing
// is sent of are needed later: in a full plan, and where the match value is not the
// key. A read that goes as the last one leaves the log as it is.
//
// Then every partition is sorted by key hash, cut into pieces, and those are merged
// with the snapshot's entries of their range, two side by side, while the next
// partition is loaded. What a piece yields waits for those before it, so pieces are
// small. A partition of more than twice MemoryLimit is spread over files of its
// own first. A row whose fingerprint is
// the entry's is done: nothing of it was decoded and nothing allocated. Any other
// row is mapped, converted and compared field by field with the acknowledged
// record. An entry without a row is a row that left the model.
//
// What needs to see the whole plan comes last: match values that two rows
// share (the row that has the record keeps it, others are rejected), removed records
// that belong to another row by now, and the order of records that refer to each
// other. It works on 24 bytes an operation, spilled
// and joined in the same way.
//
// The plan's order is that of the key hashes, so it depends neither on the order
// of the rows nor on the number of partitions.
//
// # What the planner promises
//
// Time is linear in rows, disk access sequential, memory bounded by MemoryLimit
// and a few bits an operation. Rows that cannot be sent are listed with their
// reason and leave the snapshot as it is. Files are on disk, marker last, before
// Build returns; a plan without its marker is no plan (ErrIncomplete).
//
// # What it costs
//
// Whole `coho plan` processes of 10,000,000 rows of ten columns (161 bytes a row as
// text), in turn with psql's COPY of the same table to /dev/null, which is 1: five
// pairs, three with changes, two for a first load; two cores, 24 GiB, PostgreSQL 15 on the same machine,
// 23 November 2026 (COHO_BENCH_ROWS=10000000 make bench PKG=./cmd/coho
// BENCH=Yardstick). COPY against itself gave 1.12 (0.95 to 1.17).
//
//	                                         ratio                 goal  memory
//	unchanged, a query                       0.77 (0.67 to 0.83)   0.90   80 MiB
//	unchanged, a table, two connections      0.64 (0.61 to 0.66)   0.75   78 MiB
//	1% changed, 0.5% added, 0.5% removed     1.22 (1.22 to 1.30)   1.05  104 MiB
//	a first load, the plan complete on disk  2.78 (2.65 to 2.92)   2.2   152 MiB
//	commit of that load to the snapshot      1.72 (1.49 to 1.78)   1.3
//	unchanged, Parquet, to DuckDB's scan     0.94 (0.93 to 1.04)   1.25  189 MiB
//	the same, the first after changes        1.17 (1.15 to 1.24)   1.25  195 MiB
//
// A tenth of the rows took 76 MiB in the first two. Nothing is allocated by a row of
// them: 175,000 allocations in all.
//
// The first load above is of an earlier build, which took 3.2 s of processor a million
// rows. A first load of one million rows, five pairs, was 3.45 (3.35 to 3.96) with that
// build, as one worker joined groups too small to be cut, and is 1.98 (1.86 to 2.04)
// now; ten million were not measured again. It takes 2.1 s of processor in place of 2.9,
// and 165 MiB in place of 113, as the workers are further ahead of the writer. Of 1.7 s,
// 0.6 s are reading, at the server's pace, 0.85 s mapping on both cores, and 0.13 s
// making the plan durable. By the profile a quarter of the processor's time is system
// calls, most of them for the rows that are spilled, and 0.85 s a million rows decode,
// evaluate and convert fields, ten allocations a row.
//
// With changes everywhere no range of the snapshot can be passed over: all entries
// are read, 34 bytes a row, and 150,000 rows are mapped. That is 4.0 s of processor
// more than the 3.7 s of a plan without changes, at 9.8 s in all; COPY took 7.7 s in
// those pairs and 11.3 s in five others of the day, to which such a plan was 1.13.
//
// The planner alone, a million unchanged rows in memory to operations, took 0.051 s
// and a few buffers, 0.18 of the time (0.07 to 0.19 of 5 pairs) that DuckDB's full
// outer join of the same data took on two threads, 0.29 s and 302 MiB; the goal is 0.5
// and a tenth of the memory. After a plan with changes, when snapshot and order log
// must be compared first, it took 0.084 s and 0.29 of the time; with no order log,
// where every row is spilled and joined, 0.70 s and 2.32, and 19 MiB (-bench Alone).
// Before, every run wrote the log anew, so that the next one compared it again and
// spilled the rows that came before the verdict: 0.50 s. A row costs 45 ns now, by the
// profile 20 to hash its frame and its key, 10 to find it in the log, 9 to make the key's
// text, and 6 to go to the next one.
//
// After 100 runs with 1% changes each the store of a million rows was 1.46
// times as large as at first, where 1.3 is the goal (-bench Churn).
//
// The whole of coho, planning and sending upserts of five fields from Parquet
// through Bulk API 2.0, took 127 MiB at most for 100,000 rows and 148 MiB for a
// million (cmd/coho, -bench Memory): what grows is these bounds, and those of
// DuckDB's threads, being filled. DuckDB's reader of CSV files adds buffers of 30 MB as a file
// has them, up to about four: planning took 160 MB for a file of 7 MB, 216 MB for
// 79 MB and 275 MB for 245 MB.
//
// It must never send anything, write the snapshot, read the clock or decide by
// chance: the same rows and snapshot give the same plan.
package planner
