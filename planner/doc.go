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
// pairs; two cores, 24 GiB, PostgreSQL 15 on the same machine, 23 November 2026
// (COHO_BENCH_ROWS=10000000 make bench PKG=./cmd/coho BENCH=Yardstick). COPY took 7.0
// to 8.2 s, and against itself gave 1.06 (0.94 to 1.19).
//
//	                                         ratio                 goal  memory
//	unchanged, a query                       0.78 (0.66 to 0.80)   0.90   89 MiB
//	unchanged, a table, two connections      0.68 (0.62 to 0.69)   0.75   89 MiB
//	1% changed, 0.5% added, 0.5% removed     1.10 (0.99 to 1.15)   1.05   98 MiB
//	a first load, the plan complete on disk  2.05 (1.83 to 2.23)   2.2   131 MiB
//	commit of that load to the snapshot      1.26 (1.14 to 1.32)   1.3
//	unchanged, Parquet, to DuckDB's scan     0.94 (0.93 to 1.04)   1.25  189 MiB
//	the same, the first after changes        1.17 (1.15 to 1.24)   1.25  195 MiB
//
// The last two were measured by themselves; behind all others, on a machine that still
// wrote their data, they gave 1.27 (0.95 to 1.46) and 1.40 (1.22 to 1.56). Another four
// pairs of the others gave 0.82, 0.71, 1.12 and, of the commit, 1.27; a tenth of the rows
// took 80 and 82 MiB in the first two then, and all of them 92 and 90. Nothing is
// allocated by a row of them: 240,000 allocations in all, most of them the store's as it
// is opened.
//
// A plan with changes everywhere misses its goal: two million rows gave 1.02 (0.92 to
// 1.02 of three) and three million 1.04. It takes 7.0 s of processor where the plan
// without changes takes 3.4. The snapshot's entries are sought past where the order log
// vouches for them; but one record in a hundred lies in every block of records, so that
// all blocks are read and uncompressed, 65 us each, after the read: by the profile a third
// of the processor's time. Smaller blocks would be uncompressed all the same until they
// held fewer than a hundred rows, and cost 14 bytes a row then.
//
// A first load takes 2.1 s of processor a million rows: a million take 1.7 s, of which
// 0.6 are reading, at the server's pace, 0.85 mapping on both cores, and 0.13 making the
// plan durable. By the profile 22% of the processor's time is system calls, most of
// them for the rows that are spilled, 39% decodes, evaluates and converts fields, and ten
// allocations a row are left.
//
// The planner alone, a million unchanged rows in memory to operations, took 0.19 of the
// time that DuckDB's full outer join of the same data took on two threads, and a few
// buffers where that takes 302 MiB; the goal is 0.5 and a tenth of the memory. After a
// plan with changes, when snapshot and order log must be compared first, it took 0.090 s
// and 0.37 of the time; with no order log, where every row is spilled and joined, 0.51 s,
// 2.05 of the time and 58 MiB (-bench Alone). A row costs 45 ns, by the profile 20 to hash
// its frame and its key, 10 to find it in the log, 9 to make the key's text, and 6 to go
// to the next one.
//
// How the snapshot grows by runs with changes is in its own documentation.
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
