package planner

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

const (
	chunkBytes  = 64 << 10 // what a worker hands over at once
	chunksAhead = 16       // chunks that a piece may be ahead of its turn
	piecesAhead = 8        // pieces that may be begun and not written
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

// join merges every partition with its range of the snapshot, cut into pieces that
// are joined side by side, and writes what comes of them in the order of the key
// hashes. What a piece yields waits in memory for those before it, so a piece is
// small: whole partitions would have to wait for each other.
func (b *builder) join(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLoader(ctx, b)
	defer func() { err = errors.Join(err, l.close()) }()
	workers := b.spec.Workers
	if workers <= 0 {
		workers = 2
	}

	outs := make([]chan *outChunk, l.groups*pieces)
	for i := range outs {
		outs[i] = make(chan *outChunk, chunksAhead)
	}
	// Whether a piece turned out to be empty, told before its channel is closed.
	empty := make([]bool, len(outs))
	pool := &sync.Pool{New: func() any { return &outChunk{fields: make([]int64, len(b.fields))} }}
	begun := make(chan struct{}, piecesAhead)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			j := newJoiner(ctx, b, pool)
			defer b.countValues(j.distinct)
			for {
				select {
				case begun <- struct{}{}:
				case <-ctx.Done():
					return
				}
				n := int(taken.Add(1)) - 1
				if n >= len(outs) {
					return
				}
				var err error
				if empty[n], err = j.piece(l, n/pieces, n%pieces, outs[n]); err != nil {
					cancel(err)
					return
				}
				// What nothing waits for counts no longer: else the pieces of a group
				// that is not cut would keep the others from the next group.
				if empty[n] {
					<-begun
				}
				close(outs[n])
			}
		})
	}
	err = b.collect(ctx, outs, empty, begun, pool)
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

// collect writes the workers' chunks, piece by piece.
func (b *builder) collect(ctx context.Context, outs []chan *outChunk, empty []bool, begun <-chan struct{}, pool *sync.Pool) error {
	for i, out := range outs {
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
		if !empty[i] {
			<-begun
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

// piece joins the n-th piece of a group. It is empty where the first one is all of
// the group.
func (j *joiner) piece(l *loader, group, n int, out chan<- *outChunk) (empty bool, err error) {
	p, err := l.get(group, n)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, l.done(group, p)) }()
	if n > 0 && !p.cut && p.spread == nil {
		return true, nil
	}
	j.out, j.expected = out, p.expected
	j.begin()
	switch {
	case p.spread != nil:
		err = j.part(p.spread, n, j.b.rows.prefixOf(0, group), 1)
	case p.cut:
		at := uint64(group*pieces + n)
		err = j.merge(p.chunks, p.refs, rangeStart(0, at, l.width+pieceBits), rangeStart(0, at+1, l.width+pieceBits))
	default:
		err = j.merge(p.chunks, p.refs, rangeStart(0, uint64(group), l.width), rangeStart(0, uint64(group)+1, l.width))
	}
	if err != nil {
		return false, err
	}
	return false, j.flush()
}

// rangeStart is the first hash of the n-th of 1<<width ranges behind prefix; the
// zero Hash past the last.
func rangeStart(prefix, n uint64, width uint) (h Hash) {
	binary.BigEndian.PutUint64(h[:], prefix+n<<(64-width))
	return h
}

// large says whether a partition is too large for memory.
func (s *spill) large(part int) bool { return s.spilled() && s.bytes(part) > 2*s.limit }

// prefixOf is what the hashes of a partition's records begin with; prefix is that
// of all records.
func (s *spill) prefixOf(prefix uint64, part int) uint64 {
	return prefix | uint64(part)<<(64-s.skip-s.bits)
}

// spread spreads a partition that is too large for memory over partitions of its
// own, by the bits that follow.
func (b *builder) spread(ctx context.Context, from *spill, part int) (into *spill, err error) {
	into = newSpill(b.spec.SpillDir, pieces, from.skip+from.bits, b.rows.limit/4)
	defer func() {
		if err != nil {
			err = errors.Join(err, into.remove())
		}
	}()
	r := bufio.NewReaderSize(from.stream(part), 256<<10)
	var buf []byte
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return into, context.Cause(ctx)
		}
		rec, err := readRow(r, &buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return into, err
		}
		chunk, err := into.room(into.partition(binary.BigEndian.Uint64(rec)), len(rec))
		if err != nil {
			return into, err
		}
		*chunk = append(*chunk, rec...)
	}
	if err := from.drop(part); err != nil {
		return into, err
	}
	if err := into.flush(); err != nil {
		return into, err
	}
	into.free = nil
	return into, nil
}

// part joins a part of a partition that was spread; prefix is what all hashes of
// the partition begin with.
func (j *joiner) part(from *spill, part int, prefix uint64, depth int) (err error) {
	own := from.prefixOf(prefix, part)
	bits := from.skip + from.bits
	switch {
	case !from.large(part):
		var chunks [][]byte
		if from.bytes(part) > 0 {
			if chunks, err = from.load(part, &j.load); err != nil {
				return err
			}
		}
		if j.refs, err = j.sorter.rows(j.refs, chunks, nil); err != nil {
			return err
		}
		return j.merge(chunks, j.refs, rangeStart(own, 0, bits), rangeStart(own, 1, bits))
	case depth >= maxSplits:
		chunks, counts, err := distinct(from.stream(part))
		if err == nil {
			j.refs, err = j.sorter.rows(j.refs, chunks, counts)
		}
		if err == nil {
			err = j.merge(chunks, j.refs, rangeStart(own, 0, bits), rangeStart(own, 1, bits))
		}
		return errors.Join(err, from.drop(part))
	}
	into, err := j.b.spread(j.ctx, from, part)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, into.remove()) }()
	for sub := range into.parts {
		if err := j.part(into, sub, own, depth+1); err != nil {
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

// merge walks rows and snapshot entries of one range together. refs may hold rows
// of other ranges too.
func (j *joiner) merge(chunks [][]byte, refs []rowRef, first, limit Hash) (err error) {
	refs = within(refs, first, limit)
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
	w := j.walk(refs, first, limit)
	i, have := 0, w.next(0)
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
			have = w.next(i)
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
			have = w.next(i)
		}
	}
	return nil
}
