// Package snapshot keeps, for one sync, what the destination has acknowledged:
// a Pebble store in a directory of its own, held by one process at a time.
//
// It must never claim what was not acknowledged, never advance without being
// durable, and never end the process or print: what goes wrong comes back as an
// error.
//
// # Layout, format 1
//
// A key is a letter and what it is about; H is the 16-byte hash of a primary key.
//
//	e H     the entry: flags, fingerprint, what was refused (planner.AppendEntry)
//	r H     the record: Id, primary key, match value, fields
//	o Id    H of the row that last acknowledged the record with this Id
//	d H     another row has acknowledged this row's record since; no value
//	b N     an open batch, N its number
//	s N     a set of settled operations of the active plan
//	m name  one of: format, identity, rows, fields, plan, batches, notes, importing
//
// Entries and records are apart because every run reads all entries and only the
// records of rows that changed: 34 bytes a row instead of all its fields. Both are
// in the order of the hash, as the planner's partitions are, so that a run reads
// the store front to back.
//
// A record names its fields by number; "m fields" is the list of names, which
// only grows. The match value is not stored where it is the key's first text.
//
// "m rows" counts the entries that are acknowledged and not gone. It changes in
// the same Pebble batch as the entries, by what the operations say of the entries
// they replace, so counting costs no read and stays exact.
//
// # What is one piece
//
// Settle writes entries, records, owners, who was displaced, the settled set, the count and the end of
// the batch as one synced Pebble batch: after a crash an operation is settled with
// all of that, or not at all. FinishPlan applies the notes in pieces, each with the
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
