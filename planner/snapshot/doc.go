// Package snapshot keeps, for one sync, what the destination has acknowledged:
// a Pebble store in a directory of its own, held by one process at a time.
//
// It must never claim what was not acknowledged, never advance without being
// durable, and never end the process or print: what goes wrong comes back as an
// error.
//
// # Layout, format 3
//
// A key is a letter and what it is about; H is the 16-byte hash of a primary key.
//
//	e H     the entry: flags, fingerprint, what was refused (planner.AppendEntry)
//	f H     the record: Id, primary key, match value, fields
//	t Id    H of the row that last acknowledged the record with this Id
//	u H     another row has acknowledged this row's record since; no value
//	v N     an open batch, N its number
//	w N     acknowledged rows that are not at their place yet, as a block or as tables
//	x N     a set of settled operations of the active plan
//	y name  one of: identity, revision, rows, fields, plan, batches, notes, importing
//	mformat the format's number
//
// Format 1 had other letters for all but entries, and no blocks; it is brought to
// this one when it is opened, which takes as long as writing all records. Format 2
// had 16 bytes of each fingerprint and a number before each field; both are read as
// they are.
//
// Entries and records are apart because every run reads all entries and only the
// records of rows that changed: 30 bytes a row instead of all its fields. Both are
// in the order of the hash, as the planner's partitions are, so that a run reads
// the store front to back.
//
// A record names its fields by number, or leaves the numbers out where they are the
// first ones in order, as they nearly always are; "y fields" is the list of names,
// which only grows. The match value is not stored where it is the key's first text.
//
// "y rows" counts the entries that are acknowledged and not gone. It changes in
// the same Pebble batch as the entries, by what the operations say of the entries
// they replace, so counting costs no read and stays exact.
//
// "y revision" is another number after each change of the entries, so that a plan
// sees at once that nothing has changed.
//
// # How rows get to their place
//
// A Settle of many rows, from 512 KiB on, writes them as two tables, of entries and of
// records, beside what other callers do; once those are durable the batch commits
// with a note of their names, and then Pebble takes them in as they are. So every row
// is compressed once and written once. Rows that change the index of owners go the
// other way.
//
// A Settle of less writes the rows as one block, compressed by S2, which makes them
// durable at the price of one key. The same rows gather in memory, and once there
// are 3 MiB of them they are sorted and written as such tables; the block goes then.
// Two of these are compressed side by side. Whatever its way, all is taken in in the
// order in which it was settled.
//
// A plan comes in the order of the hash, so the tables of a first load lie side by side
// on the last level at once and no compaction writes them again. What a crash leaves
// as blocks and tables is brought to its place when the store is opened, and whoever
// reads a row that is not there yet, or finishes the plan, has it brought there first.
//
// The last level is compressed by zstd in blocks of 64 KiB, but for entries, which
// are hashes. Ten million rows of ten typical CRM columns (161 bytes as text) are
// 959 MB, 96 bytes a row, 30 of them the entry and 17 the record's key; the goal is 1.0
// GB. After a hundred runs in each of which another one row in a hundred changed they
// were 1,109 MB, and 1,140 MB at most meanwhile; the goal is 1.3 GB. Rows that have
// changed are there twice until a compaction, which comes once a tenth of all, or
// 16 MiB, lies above the last level (planner, -bench Churn).
//
// Rows that lie in memory are committed at 1,000,000 a second, by four callers of
// Settle on two cores: 1.26 times (1.14 to 1.32) what psql's COPY of the table takes;
// the goal is 1.3. A row takes 1.2 us of processor, of which by the profile a quarter
// is zstd, a quarter system calls, and a fifth the making of entries and records. As
// blocks in the log first, and as tables one after the other then, it was 1.72 times
// and 2.0 us, 0.3 of them S2.
// (23 November 2026, two cores, COHO_BENCH_ROWS=10000000 make bench PKG=./cmd/coho
// BENCH=Yardstick/commit)
//
// Tried and left: zstd's third level (1 byte a row less); a key of the memtable for
// each entry and record (5 times slower, each byte compacted about twice more); blocks
// of 16 KiB (14 bytes a row more); blocks of rows in the log that are not compressed
// (slower by a third); batches and meta data under letters on both sides of the rows
// (each flush of them then lay across all tables of rows, which were compacted with it).
//
// # What is one piece
//
// Settle writes rows, owners, who was displaced, the settled set, the count and the
// end of the batch as one synced Pebble batch: after a crash an operation is settled
// with all of that, or not at all. FinishPlan applies the notes in pieces, each with the
// number of notes applied so far, and then ends the plan in one synced batch, so
// that it can be repeated after a crash at any point. An import that was cut short
// is thrown away when the store is opened.
//
// # Errors of the disk
//
// Pebble wants its logger to end the process where it cannot go on. This one
// remembers the error instead: the call in progress and every later one return it,
// and what was not durable is not claimed.
package snapshot
