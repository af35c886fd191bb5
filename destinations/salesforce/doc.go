// Package salesforce is the destination: it checks a sync against an org's
// describe, says how values are written there, and applies a plan by sObject
// Collections, Bulk API 2.0 and Bulk API 1.0.
//
// It must never decide what should change, nor say that the org took what it
// did not acknowledge, nor send an insert again whose outcome is not known.
//
// # Batches
//
// A pass's operations go, in the plan's order, to one stream for each wire
// call (insert, update by Id, upsert, delete). A stream makes Collections
// batches of up to 200 records while it has few operations and Bulk jobs once
// a job costs fewer API calls. Memory holds the batches in flight, one job being
// built and, of each job, four bytes a row: never the plan. What tells the results
// of a job's rows apart lies in temporary files.
//
// Every batch is recorded in the journal before anything of it is sent, and
// closed when each of its operations has an outcome or is known not to have
// been carried out. An operation that is to be sent again goes into a new
// batch.
//
// # Locks
//
// Writing a record locks the records that it refers to. Where the mapping has
// such a field (sort_batches_by), a pass is read twice: first to deal its
// operations, by the parent they refer to, into lanes, two bytes an operation.
// All rows of a parent are in one lane; a lane's batches go one after the other
// and the lanes side by side, so no two Collections calls or Bulk API 1.0
// batches in flight want the same parent, and a parent with half the rows has a
// lane to itself. A Bulk API 2.0 job is worked on by the org as it likes; its
// file holds the rows of one parent together, so that few of its parts meet.
// A row's own record is no parent in this: one that is written while its
// children are may still meet them.
//
// # What it costs
//
// Estimate counts the calls that Apply makes where nothing goes wrong: those of
// the API that is chosen, and the queries for records that no run wrote before.
// So that polls can be foreseen, the first comes when a job's rows could be done
// at the earliest (10 microseconds a row, and not before Options.Poll.Start) and
// the next ones at the pace that the job shows; one is counted. An org that is
// slower than that costs more polls. Queries for references are counted by how
// many different values the plan has of them. Where a snapshot is asked first,
// UnknownReferences reads the plan and counts those for what it does not know.
//
// Where ingestion_api is automatic, a pass goes by the API of fewer calls, or by
// the sooner one where that takes a few calls more (choose); where the org has
// under a thousand calls left of the day, none is given for an earlier end.
//
// A million upserts of five fields into an emulator in a process of its own, on
// two cores of an AMD EPYC on 23 November 2026 (COHO_BENCH_ROWS=1000000 go test
// -bench Upsert -benchtime 1x), the org's processor time taken out:
//
//	                 records/s  processor  peak memory  API calls
//	Bulk API 2.0       189,000      2.7 s        52 MB         11
//	Bulk API 1.0       429,000      2.3 s        45 MB        213
//	Collections        272,000      3.7 s        39 MB      5,001
//
// Of the time of Bulk API 2.0 half is the pause before a job's first poll.
//
// A process that does nothing but write has 25 MB for 100,000 rows by any of them,
// and for a million 36 MB by Bulk API 2.0, 33 MB by 1.0 and 31 MB by Collections
// (COHO_BENCH_ROWS=1000000 go test -run MemoryDoesNotGrow -v): larger jobs, and two
// of them in flight. It is settled by one job at a time.
//
// Twenty thousand rows, half of them of one parent, into an org that locks
// parents (COHO_BENCH_ROWS=20000 go test -run AutoAgainstNone -v):
//
//	              sort_batches_by     time  API calls  rows sent again
//	Collections   auto               2.7 s        202                0
//	              none              16.3 s        813            6,936
//	Bulk API 1.0  auto               0.9 s         77                0
//	              none              12.7 s        723            8,765
//
// # How much at once
//
// A run has parallelism Collections calls or bulk batches in flight at most, and
// three Bulk API 2.0 jobs, on parts of which the org works side by side. Beside
// that, all runs on a destination share one bound, which rises by one for every
// round of clean answers, is halved where the org shows that it is crowded (row
// locks, too many long-running Apex requests or requests side by side, 503), and
// is remembered from run to run of a process. Calls and bulk batches wait in
// lines of their own under it, so that a small run does not queue behind a large
// job. Destination.Reading tells the bound, which progress shows.
//
// # Collections
//
//	begin -> POST/PATCH/DELETE -> settle, close
//
// Results are positional. Rows that failed for a passing reason are sent again
// after a jittered pause, in smaller batches, at last one by one. A request that
// is refused as a whole is halved until the row at fault stands alone. After a
// lost answer an upsert, update or delete is sent again, as doing so twice
// changes nothing; an insert is looked for by the field that carries the
// row's key, and sent again only where the org does not have it.
//
// # Bulk API 2.0
//
//	begin -> create -> record the handle -> upload -> close -> wait -> results -> settle, close
//
// A job is a batch, of at most 100 MB and 500,000 rows. Its CSV lies in a
// temporary file from building to upload, gone with the process.
// An empty cell leaves a field alone and #N/A clears it, so rows with different
// fields share a job; what CSV cannot say (the text #N/A, a carriage return, a
// cell or row past the size limits, a second row with the same key) goes
// through Collections. Results come in no order and reformatted: a row is found
// by its key (external id, Id, or an insert's key field), folded as its field
// compares values. A result that fits no row, or a second one for a row, ends
// the run with an error. Rows in no result file are unknown: an insert is
// looked for by its key, all else is sent again.
//
// A job whose upload or close lost its answer is aborted before its rows go
// into another: an open job never begins by itself.
//
// # Bulk API 1.0
//
//	create a job; begin with its handle -> add -> record the batch's handle -> wait -> results -> settle, close
//
// A pass has one job for each call, which is closed at the pass's end. A batch
// of the journal is a batch of the job: at most 10,000 rows and 10 MB, a file of
// its own until it is uploaded, results in the order of its rows. Batches are
// added one at a time, and worked on as many side by side as parallelism says,
// or one at a time where concurrency_mode is serial. One call tells the state of
// all of a job's batches.
//
// A batch is begun under its number in the job and a digest of its rows. Where
// the answer to adding it is lost, the job is closed: no batch can then arrive
// any more, so the number of its batches says whether this one did, and which
// it is its rows do, read back. It goes into a new job otherwise. That is how
// inserts go whose mapping has no field that carries the primary key: not one
// of them is ever looked for or sent again on a guess. What CSV cannot say fails
// in such a sync, and rows that stay locked are tried in ever smaller batches
// and at last in a serial job, since Collections could lose an answer.
//
// # Two objects
//
//	route a section -> send to the first object -> send to the leads -> the next section
//
// A two-object sync (Pair) has a Target for each of its objects, with their own runs,
// batches and jobs; the journal names a batch's API with its object. Before a section
// of 100,000 operations is sent, they are routed, 1,000 at a time: known records are
// asked for by Id, others by match value, contacts or accounts first, leads with what
// they were converted to. An upsert thereby comes to an insert or an update by Id, and
// an insert whose answer was lost is looked for as any other. Nothing of the routing is
// kept: what a run that died has sent is found in the org by the next.
//
// # Only what differs
//
// With only_sync_different, updates and upserts are compared before they are made
// into batches: what the org holds of the fields that they would write is read by
// Id, by match value or, where they are very many, by one query job, and fields that
// hold the value as the org stores it (field.holds) are left out. A row of which
// nothing is left is settled as Same without being sent. Where a comparison cannot
// tell, the field is sent. Nothing of it is on record: after a crash, and before a
// row is sent again whose answer was lost, the org is asked anew. It costs one call
// more when a sync is opened, for how many records the object has.
//
// # Platform events
//
// Events go by Collections, at most as many an hour as /limits says. Their answers
// hold the EventUuid, which takes the place of a record's Id: the Id is not always
// unique. Nothing can be asked about an event, so one whose answer was lost, in
// this run or by an earlier one's death, is Unknown: planned again (Resent), Held,
// or taken as Created, as on_unknown says.
//
// # Picklist values
//
// A picklist sync has a target of its own: the list is read when the sync is opened,
// rows are compared with it (destinations.Mirror), and the whole of it goes back in
// one Metadata API call. Doing that twice changes nothing more, so a plan that was
// cut short is dropped and made anew of what the org then holds.
//
// # After a crash
//
// Apply begins with the batches that the journal still holds open. A job with
// a handle is asked for: open, it is aborted; at work, it is waited for; over,
// it is settled from its results. A job without a handle never had data. A batch
// of Bulk API 1.0 is looked for as after a lost answer, waited for and settled. A
// Collections batch is closed and sent again, save for inserts, which are
// looked for by their key.
//
// The org forgets a job after seven days. Inserts that nothing tells apart are
// then unknown for good: their batch stays open in step "unknown", all else is
// sent, and the run ends with an error until on_unknown says what a person who
// has looked in the org decided.
//
// # Records that went missing
//
// An upsert of a record that coho wrote before carries only what changed. Where
// the org answers that it created the record, somebody deleted it: the record
// is sent once more, complete. The batch stays open, in step "complete", until
// that is done, so that a crash cannot leave half a record behind.
package salesforce
