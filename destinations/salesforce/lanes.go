package salesforce

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"coho/destinations"
	"coho/planner"
)

// Rows that write children of one record lock that record, and two requests
// that do so at the same time fight over it. Where coho decides what is in
// flight together (sObject Collections, Bulk API 1.0), a pass is therefore
// parted into lanes: all rows of one parent are in one lane, a lane's batches go
// one after the other, and the lanes go side by side. A parent that has half
// the rows has a lane to itself.

const (
	// lockGroups is how many groups the parents of a pass are dealt into.
	lockGroups = 64

	// laneRun is how many rows without a parent go to a group before the next
	// one's turn.
	laneRun = 250

	// laneRows is how many numbers of a lane are unpacked at once.
	laneRows = 20_000

	// laneWaiting is how many rows of a lane may wait for their next try while
	// others of it go.
	laneWaiting = 2000
)

// numbers is an ascending list of operations' numbers, packed as the gaps
// between them: about two bytes each.
type numbers struct {
	packed []byte
	last   int64
	n      int64
}

func (s *numbers) append(seq int64) {
	s.packed = binary.AppendUvarint(s.packed, uint64(seq-s.last))
	s.last = seq
	s.n++
}

// lanes is the operations of one call in a pass, by the parents they lock.
type lanes struct {
	c      call
	groups [2 * lockGroups]numbers // those without a parent in the upper half
	n      int64
	none   int64 // rows without a parent
	seed   maphash.Seed
}

func (r *run) newLanes(c call) *lanes { return &lanes{c: c, seed: maphash.MakeSeed()} }

func (l *lanes) add(t *Target, op *planner.Operation) {
	l.n++
	at := 0
	if parent := t.parentOf(op); parent != "" {
		at = int(maphash.String(l.seed, parent) % lockGroups)
	} else {
		at = lockGroups + int(l.none/laneRun%lockGroups)
		l.none++
	}
	l.groups[at].append(op.Seq)
}

// parentOf is the folded value of the field by which rows are kept apart, ""
// where the row has none.
func (t *Target) parentOf(op *planner.Operation) string {
	for i := range op.Assignments {
		if a := &op.Assignments[i]; a.Field == t.lockField && !a.Cell.Null {
			return t.columns[t.lockField].source().fold(a.Cell.Text)
		}
	}
	return ""
}

// split deals the groups to so many lanes, each to the one that has least: the
// largest groups first, those without a parent last, to fill up.
func (l *lanes) split(count int) [][]numbers {
	order := make([]int, 0, len(l.groups))
	for i := range l.groups {
		if l.groups[i].n > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if a/lockGroups != b/lockGroups {
			return a/lockGroups - b/lockGroups
		}
		return int(l.groups[b].n - l.groups[a].n)
	})
	out := make([][]numbers, count)
	load := make([]int64, count)
	for _, g := range order {
		least := 0
		for i := range load {
			if load[i] < load[least] {
				least = i
			}
		}
		out[least] = append(out[least], l.groups[g])
		load[least] += l.groups[g].n
	}
	return slices.DeleteFunc(out, func(lane []numbers) bool { return len(lane) == 0 })
}

// cursor goes through lists in one ascending order.
type cursor struct {
	lists []numbers
	at    []int64 // the next of each list
}

func newCursor(lists []numbers) *cursor {
	c := &cursor{lists: slices.Clone(lists), at: make([]int64, len(lists))}
	for i := range c.lists {
		c.step(i)
	}
	return c
}

// step unpacks a list's next number. It reports false at the list's end.
func (c *cursor) step(i int) bool {
	gap, size := binary.Uvarint(c.lists[i].packed)
	if size <= 0 {
		c.at[i] = -1
		return false
	}
	c.lists[i].packed = c.lists[i].packed[size:]
	c.at[i] += int64(gap)
	return true
}

// take gives up to n numbers that follow.
func (c *cursor) take(n int) planner.Seqs {
	var out planner.Seqs
	for n > 0 {
		least, next := -1, int64(math.MaxInt64) // next: the least of the other lists
		for i, at := range c.at {
			switch {
			case at < 0:
			case least < 0:
				least = i
			case at < c.at[least]:
				least, next = i, c.at[least]
			default:
				next = min(next, at)
			}
		}
		if least < 0 {
			break
		}
		for more := true; more && n > 0 && c.at[least] < next; n-- {
			out = out.Append(c.at[least])
			more = c.step(least)
		}
	}
	return out
}

// How many batches a lane gets at least.
const (
	laneCalls   = 4 // of Collections
	laneBatches = 2 // of Bulk API 1.0
)

// laneCount is in how many lanes n rows of a call go, side by side: at most so
// many, and each with at least so many batches of size rows. More lanes end
// sooner and leave more batches that are not full, which cost calls.
func laneCount(most int, n, size, batches int64) int {
	return int(min(int64(most), max(1, ceilDiv(n, size*batches))))
}

// apart reports whether rows of one parent are to be kept apart from others in
// flight, as where more than one request is.
func (r *run) apart() bool { return r.t.lockField >= 0 && cap(r.slots) > 1 }

// feedLanes sends a pass's operations of one call.
func (r *run) feedLanes(ctx context.Context, l *lanes) error {
	s := r.newStream(l.c)
	if s.from > 1 && l.n >= s.from {
		s.from = 1 // it is known now that there are so many
	} else if s.from > 1 {
		s.from = 0
	}
	if l.none == l.n || s.from == 1 && !r.t.bulk1() {
		// There is nothing to keep apart; or the org works on parts of a job
		// side by side as it likes.
		return r.feedLane(ctx, s, newCursor(l.groups[:]))
	}
	count := laneCount(cap(r.slots), l.n, int64(s.size), laneCalls)
	if s.from == 1 {
		count = laneCount(cap(r.jobs), l.n, s.maxRows, laneBatches)
	}
	for _, lane := range l.split(count) {
		slots := r.slots
		if s.from == 1 {
			slots = r.jobs
		}
		err := r.spawn(ctx, slots, nil, func() error {
			s := r.newStream(l.c)
			s.from = 0
			if slots == r.jobs {
				s.from = 1
			}
			q := &parcels{r: r, c: l.c}
			s.rest = func(ctx context.Context, rows []*row) error {
				q.add(parcel{rows: rows})
				_, err := q.send(ctx, laneWaiting)
				return err
			}
			s.job = func(ctx context.Context, j *job) error {
				_, err := r.runJob(ctx, j)
				return err
			}
			if err := r.feedLane(ctx, s, newCursor(lane)); err != nil {
				return err
			}
			_, err := q.send(ctx, 0)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// feedLane gives a lane's operations to its stream.
func (r *run) feedLane(ctx context.Context, s *stream, c *cursor) error {
	defer s.discard()
	for {
		seqs := c.take(laneRows)
		if len(seqs) == 0 {
			return s.finish(ctx)
		}
		ops, err := r.plan.Read(seqs)
		if err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		more, err := r.feedSome(ctx, s, ops)
		if closed := ops.Close(); err == nil && closed != nil {
			err = fmt.Errorf("read the plan: %w", closed)
		}
		if err != nil || !more {
			return err
		}
	}
}

// feedSome gives operations to a stream. more is false where the run stops.
func (r *run) feedSome(ctx context.Context, s *stream, ops destinations.Operations) (more bool, err error) {
	for ops.Next() {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if r.stopping() {
			r.left.Store(true)
			return false, nil
		}
		if err := s.add(ctx, ops.Operation()); err != nil {
			return false, err
		}
	}
	if err := ops.Err(); err != nil {
		return false, fmt.Errorf("read the plan: %w", err)
	}
	return true, nil
}
