package planner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

const (
	pieceBits = 4
	pieces    = 1 << pieceBits // that a group is cut into
)

// cutRows is from how many rows on a group is cut. Tests make it small.
var cutRows = 4096

// rowRef is where a row lies in a partition's chunks.
type rowRef struct {
	hi, lo uint64 // the key hash
	chunk  uint32
	off    uint32
	count  uint32 // rows that share the key, where only the first is held; else 1
}

func compareRefs(a, b rowRef) int {
	switch {
	case a.hi < b.hi:
		return -1
	case a.hi > b.hi:
		return 1
	case a.lo < b.lo:
		return -1
	case a.lo > b.lo:
		return 1
	}
	return 0
}

// sorter sorts rows in memory that it uses again.
type sorter struct {
	spare []rowRef
	ends  []uint32 // by bucket
}

// rows lists the rows of chunks by key hash, in dst's memory or its own. counts says
// of how many rows each is the only one that was kept; nil where all were.
func (s *sorter) rows(dst []rowRef, chunks [][]byte, counts map[Hash]uint32) ([]rowRef, error) {
	refs := dst[:0]
	for c, chunk := range chunks {
		for off := 0; off < len(chunk); {
			if len(chunk)-off < rowHeader {
				return nil, fmt.Errorf("read a spilled row: %w", io.ErrUnexpectedEOF)
			}
			r := rowRef{hi: binary.BigEndian.Uint64(chunk[off:]), lo: binary.BigEndian.Uint64(chunk[off+8:]), chunk: uint32(c), off: uint32(off), count: 1}
			if counts != nil {
				r.count = counts[Hash(chunk[off:off+16])]
			}
			refs = append(refs, r)
			off += rowHeader + int(binary.BigEndian.Uint32(chunk[off+32:]))
		}
	}
	return s.sort(refs), nil
}

// fewRows is up to how many rows are compared at once, and rowsABucket how many
// of more fall into one bucket on average.
const (
	fewRows     = 32
	rowsABucket = 4
)

// sort puts rows in order: into buckets by where their hashes lie between the first
// and the last, which hashes do evenly, and then each bucket by comparing. What
// rows held before belongs to the sorter afterwards.
func (s *sorter) sort(rows []rowRef) []rowRef {
	if len(rows) <= fewRows {
		slices.SortFunc(rows, compareRefs)
		return rows
	}
	first, last := rows[0].hi, rows[0].hi
	for i := range rows {
		first, last = min(first, rows[i].hi), max(last, rows[i].hi)
	}
	width := bits.Len(uint(len(rows) / rowsABucket))
	shift := max(bits.Len64(last-first)-width, 0)
	buckets := int((last-first)>>shift) + 1
	s.ends = slices.Grow(s.ends[:0], buckets)[:buckets]
	clear(s.ends)
	for i := range rows {
		s.ends[(rows[i].hi-first)>>shift]++
	}
	var at uint32
	for b, n := range s.ends {
		s.ends[b] = at // where the bucket begins, until its rows are there
		at += n
	}
	out := slices.Grow(s.spare[:0], len(rows))[:len(rows)]
	for i := range rows {
		end := &s.ends[(rows[i].hi-first)>>shift]
		out[*end] = rows[i]
		*end++
	}
	at = 0
	for _, end := range s.ends {
		if end-at > 1 {
			slices.SortFunc(out[at:end], compareRefs)
		}
		at = end
	}
	s.spare = rows
	return out
}

// within is the part of sorted rows that lies in a range; the zero limit is none.
func within(refs []rowRef, first, limit Hash) []rowRef {
	before := func(h Hash) int {
		at := rowRef{hi: binary.BigEndian.Uint64(h[:8]), lo: binary.BigEndian.Uint64(h[8:])}
		return sort.Search(len(refs), func(i int) bool { return compareRefs(refs[i], at) >= 0 })
	}
	if limit != (Hash{}) {
		refs = refs[:before(limit)]
	}
	return refs[before(first):]
}

// group is one range of the key hashes in memory: several partitions that lie
// there, or one that was spilled.
type group struct {
	once     sync.Once
	err      error
	chunks   [][]byte
	refs     []rowRef // in order
	sorter   sorter
	expected []Hash // see joiner
	cut      bool   // into pieces; else the first piece is all of it
	spread   *spill // the pieces of a partition that is too large for memory; else nil
	left     atomic.Int32
	buf      []byte
}

// loader brings groups to memory for the workers that join them: the one at hand
// and, beside that, the next.
type loader struct {
	ctx    context.Context // bounds the join, which owns the loader
	b      *builder
	groups int
	width  uint // bits that tell groups apart
	ahead  sync.WaitGroup

	mu   sync.Mutex
	at   map[int]*group
	free []*group // whose memory can be used again
}

func newLoader(ctx context.Context, b *builder) *loader {
	n := b.groups()
	return &loader{ctx: ctx, b: b, groups: n, width: uint(bits.Len(uint(n - 1))), at: map[int]*group{}}
}

// get returns a group for the sake of its n-th piece. Each piece calls it once,
// and done after it.
func (l *loader) get(number, n int) (*group, error) {
	if n == pieces/2 && number+1 < l.groups {
		l.ahead.Go(func() { l.use(number + 1) })
	}
	g := l.use(number)
	return g, g.err
}

func (l *loader) use(number int) *group {
	l.mu.Lock()
	g := l.at[number]
	if g == nil {
		g = &group{}
		if last := len(l.free) - 1; last >= 0 {
			old := l.free[last]
			l.free = l.free[:last]
			g.chunks, g.refs, g.sorter, g.expected, g.buf = old.chunks[:0], old.refs[:0], old.sorter, old.expected[:0], old.buf
		}
		g.left.Store(pieces)
		l.at[number] = g
	}
	l.mu.Unlock()
	g.once.Do(func() { g.err = l.load(number, g) })
	return g
}

// done gives a group's memory back after its last piece.
func (l *loader) done(number int, g *group) error {
	if g.left.Add(-1) > 0 {
		return nil
	}
	l.mu.Lock()
	delete(l.at, number)
	clear(g.chunks)
	l.free = append(l.free, g)
	l.mu.Unlock()
	return g.remove()
}

// remove removes what lies on disk of the group.
func (g *group) remove() error {
	if g.spread == nil {
		return nil
	}
	spread := g.spread
	g.spread = nil
	return spread.remove()
}

// close waits for what is being loaded, once nobody joins any more, and removes
// what was loaded for nothing.
func (l *loader) close() error {
	l.ahead.Wait()
	var errs []error
	for _, g := range l.at {
		errs = append(errs, g.remove())
	}
	return errors.Join(errs...)
}

func (l *loader) load(number int, g *group) error {
	rows := l.b.rows
	each := len(rows.parts) / l.groups
	if o := l.b.order; o != nil && o.expected != nil {
		for part := number * each; part < (number+1)*each; part++ {
			chunks, err := o.expected.load(part, &g.buf)
			if err != nil {
				return err
			}
			g.expected = sortExpected(g.expected, chunks)
		}
	}
	if each == 1 && rows.large(number) {
		var err error
		g.spread, err = l.b.spread(l.ctx, rows, number)
		return err
	}
	for part := number * each; part < (number+1)*each; part++ {
		more, err := rows.load(part, &g.buf)
		if err != nil {
			return err
		}
		g.chunks = append(g.chunks, more...)
	}
	var err error
	g.refs, err = g.sorter.rows(g.refs, g.chunks, nil)
	// What is not cut is joined by one worker, while the others wait for it.
	g.cut = max(len(g.refs), int(l.b.snap.Rows())/l.groups) >= cutRows
	return err
}
