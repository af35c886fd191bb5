// Package engine conducts a run: it reads a model from a source, has the
// planner compare it with the snapshot, checks the guards, has the destination
// apply the plan, and keeps the history of it all. It decides nothing about
// data itself and names no concrete source or destination: those are handed
// to it through [Options].
//
// # The life of a run
//
// A run holds the state directory's lock (see [Engine.Lock]), so runs of one
// sync never overlap, whoever starts them.
//
//  1. An unfinished plan of an earlier run (the process died, a signal
//     stopped it, the API budget ended) is finished first, from the plan log
//     alone: the warehouse is not asked. Batches that were in flight are
//     settled by asking the org what became of them. Where the mapping or the
//     query has changed since, only those are settled, and what was not sent
//     yet is planned anew; where the destination, object, match field or
//     primary key has, the run is refused.
//  2. The model is read and planned; the plan is on disk, complete and synced,
//     before anything is sent.
//  3. The guards read the whole plan. Past one, the run halts with its plan
//     kept: `run --approve` goes on with that very plan, any other run plans
//     anew.
//  4. The plan becomes the sync's active plan, durably; from here on a crash
//     is finished by step 1 of the next run.
//  5. The destination applies it. Each batch is journaled before it is sent,
//     and its outcomes enter the snapshot in one synced write.
//  6. The plan is finished: what costs no call is noted in the snapshot, the
//     plan log goes.
//
// # The state directory
//
//	VERSION              the format's version
//	lock                 held by the one process that may write here
//	runs/ID.json         one run's record (readable without the lock)
//	runs/ID.errors.jsonl its failed and rejected rows, a line each
//	runs/ID.running      empty; stands while the record says running
//	runs/index           of which sync each run is
//	sequences/ID.json    the record of one run of a sequence
//	alerts.json          what alerts have told of each sync
//	usage/DEST.json      API calls a destination was charged, by the hour
//	syncs/NAME/store/    the sync's snapshot and journal
//	syncs/NAME/plan-ID/  the plan of run ID while it is being made or applied
package engine
