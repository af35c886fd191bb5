package planner

import (
	"bufio"
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
	chunkBytes  = 64 << 10 // what a worker hands over at once
	chunksAhead = 16       // chunks that a partition may be ahead of its turn
	sampleSize  = 5        // samples of a kind in a summary
	sampleKeep  = 4 * sampleSize

	// maxSplits is how often a partition that is too large for memory is
	// split again. One that is still too large then holds the same few keys
	// over and over, and only their number is kept.
	maxSplits = 4
)

// outChunk is a part of what joining a partition yields, in order.
type outChunk struct {
	ops      []byte // framed bodies
	opCount  int
	removals int64
	rejected []byte
	rejCount int
	notes    []byte
	noteN    int
	matches  []matchRef
	rows     RowCounts
	kinds    [KindCount]int64
	fields   []int64
	known    int64
	bytes    int64
	samples  []keptSample
}

// keptSample is a sample and its operation's number, within the chunk first and
// in the plan later.
type keptSample struct {
	Sample
	seq int64
}

func (c *outChunk) reset() {
	fields := c.fields
	clear(fields)
	*c = outChunk{ops: c.ops[:0], rejected: c.rejected[:0], notes: c.notes[:0], matches: c.matches[:0], fields: fields}
}

// join merges every partition with its range of the snapshot, several side by
// side, and writes what comes of it in the order of the key hashes.
func (b *builder) join(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	groups := b.groups()
	workers := b.spec.Workers
	if workers <= 0 {
		workers = 2
	}
	workers = min(workers, groups)

	outs := make([]chan *outChunk, groups)
	for i := range outs {
		outs[i] = make(chan *outChunk, chunksAhead)
	}
	pool := &sync.Pool{New: func() any { return &outChunk{fields: make([]int64, len(b.fields))} }}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			j := newJoiner(ctx, b, pool)
			defer b.countValues(j.distinct)
			for ctx.Err() == nil {
				g := int(taken.Add(1)) - 1
				if g >= groups {
					return
				}
				if err := j.group(g, groups, outs[g]); err != nil {
					cancel(err)
					return
				}
				close(outs[g])
			}
		})
	}
	err := b.collect(ctx, outs, pool)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	return err
}

// countValues adds what a worker counted of the fields' values.
func (b *builder) countValues(counted []*valueCount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for f, d := range counted {
		switch {
		case d == nil:
		case b.distinct[f] == nil:
			b.distinct[f] = d
		default:
			b.distinct[f].merge(d)
		}
	}
}

// collect writes the workers' chunks, partition by partition.
func (b *builder) collect(ctx context.Context, outs []chan *outChunk, pool *sync.Pool) error {
	for _, out := range outs {
		for {
			var c *outChunk
			var more bool
			select {
			case c, more = <-out:
			case <-ctx.Done():
				return fmt.Errorf("plan: %w", context.Cause(ctx))
			}
			if !more {
				break
			}
			if err := b.add(c); err != nil {
				return err
			}
			c.reset()
			pool.Put(c)
		}
	}
	return nil
}

// add writes one chunk.
func (b *builder) add(c *outChunk) error {
	base := b.operations.next
	err := b.operations.append(c.ops, c.opCount)
	if err == nil {
		err = b.rejected.append(c.rejected, c.rejCount)
	}
	if err == nil {
		err = b.notes.append(c.notes, c.noteN)
	}
	for i := 0; err == nil && i < len(c.matches); i++ {
		m := c.matches[i]
		if m.kind != matchHeld && m.kind != matchWanted {
			m.seq += base
		}
		err = b.addMatch(m)
	}
	if err != nil {
		return err
	}
	s := &b.meta.Summary
	s.Rows.Unchanged += c.rows.Unchanged
	s.Rows.Added += c.rows.Added
	s.Rows.Changed += c.rows.Changed
	s.Rows.Removed += c.rows.Removed
	s.Rows.Rejected += c.rows.Rejected
	for k, n := range c.kinds {
		s.Operations[k] += n
	}
	for f, n := range c.fields {
		b.fields[f] += n
	}
	s.Known += c.known
	s.Bytes += c.bytes
	b.removals += c.removals
	b.writes += int64(c.opCount) - c.removals
	for _, k := range c.samples {
		if have := &b.samples[k.Kind]; len(*have) < sampleKeep {
			k.seq += base
			*have = append(*have, k)
		}
	}
	b.progress.Planned.Add(int64(c.opCount))
	return nil
}

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

// group joins one range of the key hashes: several partitions that lie in
// memory, or one.
func (j *joiner) group(g, groups int, out chan<- *outChunk) error {
	j.out = out
	j.begin()
	rows := j.b.rows
	each := len(rows.parts) / groups
	j.expected = j.expected[:0]
	if o := j.b.order; o != nil && o.expected != nil {
		for part := g * each; part < (g+1)*each; part++ {
			chunks, err := o.expected.load(part, &j.load)
			if err != nil {
				return err
			}
			j.expected = sortExpected(j.expected, chunks)
		}
	}
	if each == 1 && rows.spilled() && rows.bytes(g) > rows.limit/2 {
		if err := j.split(rows, g, 1); err != nil {
			return err
		}
		return j.flush()
	}
	var chunks [][]byte
	for part := g * each; part < (g+1)*each; part++ {
		more, err := rows.load(part, &j.load)
		if err != nil {
			return err
		}
		chunks = append(chunks, more...)
	}
	width := uint(bits.Len(uint(groups - 1)))
	if err := j.merge(chunks, rangeStart(0, uint64(g), width), rangeStart(0, uint64(g)+1, width)); err != nil {
		return err
	}
	return j.flush()
}

// rangeStart is the first hash of the n-th of 1<<width ranges behind prefix; the
// zero Hash past the last.
func rangeStart(prefix, n uint64, width uint) (h Hash) {
	binary.BigEndian.PutUint64(h[:], prefix+n<<(64-width))
	return h
}

// split spreads a partition that is too large for memory over partitions of its
// own and joins those, one after another.
func (j *joiner) split(from *spill, part, depth int) (err error) {
	skip := from.skip + from.bits
	prefix := uint64(part) << (64 - skip)
	if from.skip > 0 {
		prefix |= j.prefix
	}
	outer := j.prefix
	j.prefix = prefix
	defer func() { j.prefix = outer }()

	if depth > maxSplits {
		chunks, counts, err := distinct(from.stream(part))
		if err != nil {
			return err
		}
		j.counts = counts
		err = j.merge(chunks, rangeStart(prefix, 0, skip), rangeStart(prefix, 1, skip))
		j.counts = nil
		return errors.Join(err, from.drop(part))
	}
	limit := j.b.rows.limit
	into := newSpill(j.b.spec.SpillDir, 16, skip, limit/4)
	defer func() { err = errors.Join(err, into.remove()) }()
	r := bufio.NewReaderSize(from.stream(part), 256<<10)
	for n := 0; ; n++ {
		if n%checkEvery == 0 && j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
		rec, err := readRow(r, &j.row1)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		chunk, err := into.room(into.partition(binary.BigEndian.Uint64(rec)), len(rec))
		if err != nil {
			return err
		}
		*chunk = append(*chunk, rec...)
	}
	if err := from.drop(part); err != nil {
		return err
	}
	if err := into.flush(); err != nil {
		return err
	}
	into.free = nil
	for sub := range into.parts {
		if into.bytes(sub) > limit/2 {
			if err := j.split(into, sub, depth+1); err != nil {
				return err
			}
			continue
		}
		var chunks [][]byte
		if into.bytes(sub) > 0 {
			if chunks, err = into.load(sub, &j.load); err != nil {
				return err
			}
		}
		first := prefix + uint64(sub)<<(64-skip-into.bits)
		if err := j.merge(chunks, rangeStart(first, 0, skip+into.bits), rangeStart(first, 1, skip+into.bits)); err != nil {
			return err
		}
	}
	return nil
}

// readRow reads one row of a partition's file into buf.
func readRow(r io.Reader, buf *[]byte) ([]byte, error) {
	var head [rowHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read a spilled row: %w", err)
	}
	n := int(binary.BigEndian.Uint32(head[32:]))
	*buf = append((*buf)[:0], head[:]...)
	*buf = slices.Grow(*buf, n)[:rowHeader+n]
	if _, err := io.ReadFull(r, (*buf)[rowHeader:]); err != nil {
		return nil, fmt.Errorf("read a spilled row: %w", io.ErrUnexpectedEOF)
	}
	return *buf, nil
}

// distinct reads a partition that no bits can split any further, keeping the
// first row of each key and how many there are.
func distinct(from io.Reader) ([][]byte, map[Hash]uint32, error) {
	r := bufio.NewReaderSize(from, 256<<10)
	counts := map[Hash]uint32{}
	var chunks [][]byte
	var buf []byte
	for {
		rec, err := readRow(r, &buf)
		if errors.Is(err, io.EOF) {
			return chunks, counts, nil
		}
		if err != nil {
			return nil, nil, err
		}
		h := Hash(rec[:16])
		if counts[h] == 0 {
			chunks = append(chunks, slices.Clone(rec))
		}
		counts[h]++
	}
}

// sorted lists the rows of chunks by key hash.
func (j *joiner) sorted(chunks [][]byte) ([]rowRef, error) {
	refs := j.refs[:0]
	for c, chunk := range chunks {
		for off := 0; off < len(chunk); {
			if len(chunk)-off < rowHeader {
				return nil, fmt.Errorf("read a spilled row: %w", io.ErrUnexpectedEOF)
			}
			r := rowRef{hi: binary.BigEndian.Uint64(chunk[off:]), lo: binary.BigEndian.Uint64(chunk[off+8:]), chunk: uint32(c), off: uint32(off), count: 1}
			if j.counts != nil {
				r.count = j.counts[Hash(chunk[off:off+16])]
			}
			refs = append(refs, r)
			off += rowHeader + int(binary.BigEndian.Uint32(chunk[off+32:]))
		}
	}
	j.refs = refs
	slices.SortFunc(refs, compareRefs)
	return refs, nil
}

// merge walks rows and snapshot entries of one range together.
func (j *joiner) merge(chunks [][]byte, first, limit Hash) (err error) {
	refs, err := j.sorted(chunks)
	if err != nil {
		return err
	}
	j.walked = sort.Search(len(j.expected), func(i int) bool { return compareHashes(j.expected[i], first) >= 0 })
	if len(refs) == 0 && j.b.order != nil && j.b.order.skips(first, limit) &&
		(j.walked == len(j.expected) || limit != Hash{} && compareHashes(j.expected[j.walked], limit) >= 0) {
		return nil
	}
	cur, err := j.b.snap.Scan(first, limit)
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	defer func() {
		if e := errors.Join(cur.Err(), cur.Close()); e != nil {
			err = errors.Join(err, fmt.Errorf("read the snapshot: %w", e))
		}
	}()
	j.cur = cur
	i, have := 0, cur.Next()
	for steps := 0; i < len(refs) || have; steps++ {
		if steps%checkEvery == 0 && j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
		order := -1 // the row comes before the entry
		if have {
			j.entry = cur.Entry()
			if i < len(refs) {
				order = compareRefs(refs[i], rowRef{hi: binary.BigEndian.Uint64(j.entry.KeyHash[:8]), lo: binary.BigEndian.Uint64(j.entry.KeyHash[8:])})
			} else {
				order = 1
			}
		}
		over := order >= 0 && j.passedOver()
		if order > 0 {
			if !over {
				if err := j.removed(); err != nil {
					return err
				}
			}
			have = cur.Next()
			continue
		}
		end, rows := i+1, refs[i].count
		for end < len(refs) && compareRefs(refs[i], refs[end]) == 0 {
			rows += refs[end].count
			end++
		}
		if over { // the row that was passed over has this key too
			rows++
			j.chunk.rows.Unchanged--
		}
		rec := chunks[refs[i].chunk][refs[i].off:]
		switch {
		case rows > 1:
			var e *Entry
			if order == 0 {
				e = &j.entry
			}
			if err = j.keep(rec, e); err == nil {
				err = j.duplicates(rec, rows)
			}
		case order == 0:
			err = j.matched(rec)
		default:
			err = j.unmatched(rec)
		}
		if err != nil {
			return err
		}
		i = end
		if order == 0 {
			have = cur.Next()
		}
	}
	return nil
}
