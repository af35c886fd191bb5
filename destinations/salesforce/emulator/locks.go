package emulator

import (
	"context"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lockTable holds the rows that transactions have locked, by Id (Apex Developer
// Guide, "Locking Statements"; Salesforce's "Record Locking Cheat Sheet").
type lockTable struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the row is free again
}

func newLockTable() *lockTable { return &lockTable{held: map[string]chan struct{}{}} }

// take locks a row, waiting until the deadline's channel fires.
func (t *lockTable) take(ctx context.Context, id string, late <-chan struct{}) bool {
	for {
		t.mu.Lock()
		busy, ok := t.held[id]
		if !ok {
			t.held[id] = make(chan struct{})
			t.mu.Unlock()
			return true
		}
		t.mu.Unlock()
		select {
		case <-busy:
		case <-late:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (t *lockTable) free(ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		close(t.held[id])
		delete(t.held, id)
	}
}

// rowLocks are the Ids of the rows that one row of a transaction locks: itself,
// its masters and the targets of its locking lookups, those it has and those it
// gets. Callers hold Org.mu for reading.
func (o *Org) rowLocks(b *dml, w *rowWrite) []string {
	var ids []string
	add := func(id string) {
		if len(id) == 18 {
			ids = append(ids, id)
		}
	}
	rec := w.rec
	switch {
	case b.op == opUpsert && b.keyField.from != fromID && w.key != "":
		b.obj.lookup(b.keyField, w.key, func(r *record) bool { rec = r; return false })
	case b.op != opInsert:
		id := w.id
		if b.op == opUpsert {
			id = w.key
		}
		if id, ok := canonicalID(id); ok {
			rec = b.obj.find(id)
		}
	}
	if rec != nil {
		add(makeID(b.obj.prefix, rec.sequence()))
	}
	ids = append(ids, b.also...)
	for _, f := range b.obj.refs {
		if !f.locks {
			continue
		}
		if rec != nil && (f.cascadeDelete || b.op == opDelete || b.op == opHardDelete) {
			was, _ := rec.get(f.idx)
			add(was)
		}
		for i := range w.changes {
			if w.changes[i].f == f && !w.changes[i].null {
				add(w.changes[i].val)
			}
		}
		for i := range w.refs {
			if c := &w.refs[i]; c.f == f && !c.null {
				c.target.lookup(c.key, c.val, func(r *record) bool { add(makeID(c.target.prefix, r.sequence())); return false })
			}
		}
	}
	return ids
}

// transact runs a transaction with its rows and their parents locked while it is
// processed. Rows whose locks are not to be had in time fail alone. Parents come
// before children and Ids in order, so that two transactions cannot wait for
// each other.
func (s *Server) transact(ctx context.Context, b *dml) error {
	s.org.count(WriteCounts{RowAttempts: len(b.rows)})
	if !s.opts.Locks {
		if b.delay > 0 {
			pause(ctx, b.delay)
		}
		return s.org.apply(b)
	}
	wants := make([][]string, len(b.rows))
	users := map[string][]int{}
	s.org.mu.RLock()
	for i := range b.rows {
		if len(b.rows[i].errs) > 0 {
			continue
		}
		wants[i] = s.org.rowLocks(b, &b.rows[i])
		for _, id := range wants[i] {
			users[id] = append(users[id], i)
		}
	}
	s.org.mu.RUnlock()
	order := make([]string, 0, len(users))
	for id := range users {
		order = append(order, id)
	}
	sort.Slice(order, func(i, j int) bool {
		pi, pj := order[i][:3] == b.obj.prefix, order[j][:3] == b.obj.prefix
		if pi != pj {
			return pj
		}
		return order[i] < order[j]
	})
	wait, cancel := context.WithTimeout(ctx, s.opts.LockWait)
	defer cancel()
	var held []string
	failed := map[int][]string{}
	for _, id := range order {
		if s.locks.take(ctx, id, wait.Done()) {
			held = append(held, id)
			continue
		}
		for _, i := range users[id] {
			failed[i] = append(failed[i], id)
		}
	}
	defer func() { s.locks.free(held) }()
	b.unlocked = len(failed)
	for i, ids := range failed {
		b.rows[i].fail("UNABLE_TO_LOCK_ROW", lockMessage(ids))
	}
	if b.delay > 0 {
		pause(ctx, b.delay)
	}
	return s.org.apply(b)
}

// lockMessage names at most ten records.
func lockMessage(ids []string) string {
	text := "unable to obtain exclusive access to this record or " + strconv.Itoa(len(ids)) + " records: "
	if len(ids) <= 10 {
		return text + strings.Join(ids, ",")
	}
	return text + strings.Join(ids[:10], ",") + ", ... (" + strconv.Itoa(len(ids)-10) + " more)"
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
