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
// key.
//
// Then every partition is sorted by key hash and merged with the snapshot's
// entries of that range, two partitions side by side. A row whose fingerprint is
// the entry's is done: nothing of it was decoded and nothing allocated. Any other
// row is mapped, converted and compared field by field with the acknowledged
// record. An entry without a row is a row that left the model.
//
// What needs to see the whole plan comes last: match values that two rows
// share (the row that has the record keeps it, others are rejected), removed records that belong to another row by now, and the order of
// records that refer to each other. It works on 24 bytes an operation, spilled
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
// The whole of coho, planning and sending upserts of five fields from Parquet
// through Bulk API 2.0, took 108 MB at most for 100,000 rows, 141 MB for a million
// and 145 MB for three million (two cores, 23 November 2026): what grows is these
// bounds being filled. DuckDB's reader of CSV files adds buffers of 30 MB as a file
// has them, up to about four: planning took 160 MB for a file of 7 MB, 216 MB for
// 79 MB and 275 MB for 245 MB.
//
// It must never send anything, write the snapshot, read the clock or decide by
// chance: the same rows and snapshot give the same plan.
package planner
