package planner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// matchKind says what an operation, or a row of which nothing is sent, has to do
// with a match value.
type matchKind uint8

const (
	matchHeld      matchKind = iota // has the record, and nothing is sent of it
	matchKnown                      // writes the record, known before
	matchNew                        // writes the record, which coho does not know yet as this row's
	matchRemoved                    // clears or deletes the record of a row that left the model
	matchReference                  // refers to the record
	matchWanted                     // is rejected and would have the record otherwise
	matchLeaves                     // deletes a record that refers to the record
)

// matchRef connects an operation with the hash of a folded match value. In a
// partition it is 24 bytes: the hash, and the sequence number with the kind in
// its lowest three bits. matchHeld and matchWanted have no operation: their number
// is the first 61 bits of the row's key hash.
type matchRef struct {
	hi, lo uint64
	seq    int64
	kind   matchKind
}

const (
	matchBytes = 24
	kindBits   = 3
)

func (b *builder) addMatch(m matchRef) error {
	chunk, err := b.matches.room(b.matches.partition(m.hi), matchBytes)
	if err != nil {
		return err
	}
	c := binary.BigEndian.AppendUint64(*chunk, m.hi)
	c = binary.BigEndian.AppendUint64(c, m.lo)
	*chunk = binary.BigEndian.AppendUint64(c, uint64(m.seq)<<kindBits|uint64(m.kind))
	return nil
}

// edge says that a child's operation needs its parent's in an earlier pass.
type edge struct{ parent, child uint32 }

// finish looks at the plan as a whole, takes back what must not be sent, puts
// what is left in passes, and completes the files.
func (b *builder) finish(ctx context.Context) error {
	if err := b.rows.remove(); err != nil {
		return fmt.Errorf("plan: remove spilled rows: %w", err)
	}
	edges, err := b.compareMatches(ctx)
	if err != nil {
		return err
	}
	if err := b.operations.finish(); err != nil {
		return err
	}
	if err := b.drop(ctx); err != nil {
		return err
	}
	for _, w := range []*logWriter{b.rejected, b.notes} {
		if err := w.finish(); err != nil {
			return err
		}
	}
	b.meta.Operations = b.operations.next
	levels, passes, err := b.assignLevels(edges)
	if err != nil {
		return err
	}
	b.summarize(levels, passes)
	if levels, err = b.assignRemovals(levels); err != nil {
		return err
	}
	if levels != nil {
		if err := b.writeLevels(levels); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("plan: %w", context.Cause(ctx))
	}
	if err := b.matches.remove(); err != nil {
		return fmt.Errorf("plan: remove spilled match values: %w", err)
	}
	return writeMarker(b.dir, &b.meta, [3][]blockAt{b.operations.index, b.rejected.index, b.notes.index}, b.dropped.seqs())
}

// compareMatches brings equal match values together, drops the operations that
// must not be sent, and returns who refers to whom.
func (b *builder) compareMatches(ctx context.Context) (edges []edge, err error) {
	if err := b.matches.seal(); err != nil {
		return nil, err
	}
	var buf []byte
	var refs []matchRef
	for part := range b.matches.parts {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("plan: %w", context.Cause(ctx))
		}
		chunks, err := b.matches.load(part, &buf)
		if err != nil {
			return nil, err
		}
		refs = refs[:0]
		for _, c := range chunks {
			for ; len(c) >= matchBytes; c = c[matchBytes:] {
				v := binary.BigEndian.Uint64(c[16:])
				refs = append(refs, matchRef{hi: binary.BigEndian.Uint64(c), lo: binary.BigEndian.Uint64(c[8:]), seq: int64(v >> kindBits), kind: matchKind(v & (1<<kindBits - 1))})
			}
		}
		slices.SortFunc(refs, func(x, y matchRef) int {
			if c := compareRefs(rowRef{hi: x.hi, lo: x.lo}, rowRef{hi: y.hi, lo: y.lo}); c != 0 {
				return c
			}
			if x.kind != y.kind {
				return int(x.kind) - int(y.kind)
			}
			return int(min(max(x.seq-y.seq, -1), 1))
		})
		for i := 0; i < len(refs); {
			end := i + 1
			for end < len(refs) && refs[end].hi == refs[i].hi && refs[end].lo == refs[i].lo {
				end++
			}
			if edges, err = b.oneMatch(refs[i:end], edges); err != nil {
				return nil, err
			}
			i = end
		}
	}
	return edges, nil
}

// oneMatch looks at all that have to do with one match value; refs is sorted by
// kind.
func (b *builder) oneMatch(refs []matchRef, edges []edge) ([]edge, error) {
	owners, claims, wanted := 0, 0, 0
	for _, r := range refs {
		if r.kind <= matchKnown {
			owners++
		}
		if r.kind <= matchNew {
			claims++
		}
		if r.kind == matchWanted {
			wanted++
		}
	}
	if claims+wanted == 0 {
		return edges, b.orderRemovals(refs)
	}
	// A row that has the record keeps it, and whoever comes new to it is
	// rejected. Without such a row all of them are.
	keeps := -1
	if owners == 1 {
		keeps = 0
	}
	for i, r := range refs {
		switch {
		case i == keeps || r.kind == matchHeld:
		case r.kind <= matchNew && claims > 1:
			b.dropped.Add(Seqs{{r.seq, r.seq + 1}})
			if len(b.named) < maxNamed {
				other := refs[0]
				if i == 0 {
					other = refs[1]
				}
				b.named[r.seq] = other
			}
		case r.kind == matchRemoved:
			b.dropped.Add(Seqs{{r.seq, r.seq + 1}})
		case r.kind == matchReference && claims == 1 && refs[0].kind == matchNew:
			if r.seq > math.MaxUint32 || refs[0].seq > math.MaxUint32 {
				return nil, errors.New("plan: records that refer to each other, in more than four billion operations")
			}
			edges = append(edges, edge{parent: uint32(refs[0].seq), child: uint32(r.seq)})
		}
	}
	return edges, nil
}

// orderRemovals has records deleted before the one that they refer to. refs is
// what has to do with that one.
func (b *builder) orderRemovals(refs []matchRef) error {
	for _, r := range refs {
		if r.kind != matchRemoved {
			continue
		}
		for _, c := range refs {
			if c.kind != matchLeaves || c.seq == r.seq {
				continue
			}
			if c.seq > math.MaxUint32 || r.seq > math.MaxUint32 {
				return errors.New("plan: records that refer to each other, in more than four billion operations")
			}
			b.leaving = append(b.leaving, edge{parent: uint32(c.seq), child: uint32(r.seq)})
		}
	}
	return nil
}

// assignRemovals puts the deletion of a record behind those of the records that
// refer to it, in passes of their own after all others. levels is completed, and
// made where there was none: of a removal it holds its pass plus one, or 0 for the
// last pass.
func (b *builder) assignRemovals(levels []uint16) ([]uint16, error) {
	if b.removals == 0 {
		return levels, nil
	}
	s := &b.meta.Summary
	order, passes, err := b.assignLevels(b.leaving)
	if err != nil {
		return nil, err
	}
	first := len(s.PassOperations)
	if first+passes > math.MaxUint16-1 {
		return levels, nil // a chain of that length goes as it comes
	}
	for range passes - 1 {
		s.PassOperations = append(s.PassOperations, 0)
	}
	s.PassOperations = append(s.PassOperations, b.removals)
	s.Passes = len(s.PassOperations)
	if order == nil {
		return levels, nil
	}
	if levels == nil {
		levels = make([]uint16, len(order))
	}
	last := s.Passes - 1
	for _, e := range b.leaving {
		for _, seq := range [...]uint32{e.parent, e.child} {
			if levels[seq] != 0 || b.dropped.Has(int64(seq)) {
				continue
			}
			pass := first + int(order[seq])
			levels[seq] = uint16(pass) + 1
			s.PassOperations[last]--
			s.PassOperations[pass]++
		}
	}
	return levels, nil
}

// drop turns the dropped operations into rejected rows or notes and takes them
// out of the summary.
func (b *builder) drop(ctx context.Context) error {
	if b.dropped.Len() == 0 {
		return nil
	}
	f, err := os.Open(b.operations.path)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	defer f.Close()
	whole := &Plan{operations: f, meta: planMeta{Fields: b.meta.Fields}, logs: [3][]blockAt{b.operations.index}}
	r, err := whole.Read(b.dropped.seqs())
	if err != nil {
		return err
	}
	for n := 0; r.Next(); n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return fmt.Errorf("plan: %w", context.Cause(ctx))
		}
		if err := b.dropOne(whole, r.Operation()); err != nil {
			return err
		}
	}
	return r.Err()
}

func (b *builder) dropOne(whole *Plan, o *Operation) error {
	s := &b.meta.Summary
	s.Operations[o.Kind]--
	if o.Counted {
		s.Known--
	}
	s.Bytes -= int64(len(o.Match))
	for i := range o.Assignments {
		if a := &o.Assignments[i]; a.Send != Keep {
			b.fields[a.Field]--
			s.Bytes -= int64(len(a.Cell.Text))
		}
	}
	if (o.Fingerprint == Hash{}) {
		b.removals--
		n := Note{Kind: NoteForget, Counted: true, Entry: Entry{KeyHash: o.KeyHash}}
		b.framed = appendFramed(b.framed[:0], &b.scratch, func(dst []byte) []byte { return appendNote(dst, &n) })
		return b.notes.append(b.framed, 1)
	}
	b.writes--
	if o.held {
		s.Rows.Changed--
	} else {
		s.Rows.Added--
	}
	var fields []string
	if b.spec.MatchField != "" {
		fields = []string{b.spec.MatchField}
	}
	other := "another row"
	if ref, ok := b.named[o.Seq]; ok {
		key, err := b.keyOf(whole, ref)
		if err != nil {
			return err
		}
		if key != nil {
			other = "row " + keyText(b.keyNames, key)
		}
	}
	return b.reject(&Rejected{
		KeyHash: o.KeyHash, Key: o.Key, Kind: o.Kind, Code: CodeDuplicateMatch, Fields: fields,
		Message: fmt.Sprintf("%s has the match value %q too, so they would be one record", other, o.Match),
	})
}

// maxNamed is how many rejected rows are told which row has their match value,
// so that memory does not grow with their number.
const maxNamed = 10_000

// keyOf finds the primary key of the row behind a matchRef: in the plan, or in the
// snapshot where nothing is sent of it. nil where there is none.
func (b *builder) keyOf(whole *Plan, ref matchRef) (key []string, err error) {
	if ref.kind != matchHeld {
		r, err := whole.Read(Seqs{{ref.seq, ref.seq + 1}})
		if err != nil {
			return nil, err
		}
		if r.Next() {
			key = slices.Clone(r.Operation().Key)
		}
		return key, r.Err()
	}
	var first, limit Hash
	binary.BigEndian.PutUint64(first[:], uint64(ref.seq)<<kindBits)
	binary.BigEndian.PutUint64(limit[:], uint64(ref.seq+1)<<kindBits)
	cur, err := b.snap.Scan(first, limit)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot: %w", err)
	}
	defer func() {
		if e := errors.Join(cur.Err(), cur.Close()); e != nil {
			err = errors.Join(err, fmt.Errorf("read the snapshot: %w", e))
		}
	}()
	if !cur.Next() || !cur.Entry().Acked {
		return nil, nil
	}
	rec, err := cur.Record()
	return rec.Key, err
}

// assignLevels puts every operation behind those that it refers to: its level is
// one more than the highest of theirs. What refers to itself in a circle goes last
// of all, with all that hangs on it. levels is nil where everything is on level
// 0; passes is the number of levels.
func (b *builder) assignLevels(edges []edge) (levels []uint16, passes int, err error) {
	edges = slices.DeleteFunc(edges, func(e edge) bool {
		return b.dropped.Has(int64(e.parent)) || b.dropped.Has(int64(e.child))
	})
	if len(edges) == 0 {
		return nil, 1, nil
	}
	slices.SortFunc(edges, func(x, y edge) int { return int(min(max(int64(x.parent)-int64(y.parent), -1), 1)) })
	n := b.operations.next
	levels = make([]uint16, n)
	waits := make([]uint32, n) // by operation, for how many parents it waits
	for _, e := range edges {
		waits[e.child]++
	}
	// Roots are the parents that wait for nobody; whoever refers to nobody
	// and is referred to by nobody stays at 0.
	var ready []uint32
	for i := range edges {
		if p := edges[i].parent; waits[p] == 0 && (i == 0 || edges[i-1].parent != p) {
			ready = append(ready, p)
		}
	}
	highest := uint16(0)
	for len(ready) > 0 {
		var next []uint32
		for _, p := range ready {
			i, _ := slices.BinarySearchFunc(edges, p, func(e edge, p uint32) int { return int(min(max(int64(e.parent)-int64(p), -1), 1)) })
			for ; i < len(edges) && edges[i].parent == p; i++ {
				c := edges[i].child
				if levels[p] < math.MaxUint16-1 {
					levels[c] = max(levels[c], levels[p]+1)
				} else {
					levels[c] = levels[p]
				}
				highest = max(highest, levels[c])
				if waits[c]--; waits[c] == 0 {
					next = append(next, c)
				}
			}
		}
		ready = next
	}
	// highest may be the level of an operation that still waits, in a circle
	// or behind one: a level that is then the last.
	for seq, w := range waits {
		if w > 0 {
			levels[seq] = max(highest, 1)
			highest = levels[seq]
		}
	}
	return levels, int(highest) + 1, nil
}

func (b *builder) writeLevels(levels []uint16) error {
	path := filepath.Join(b.dir, levelsFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return diskError(path, err)
	}
	sum := crc32.New(castagnoli)
	buf := make([]byte, 0, blockSize)
	for start := 0; err == nil && start < len(levels); start += blockSize / 2 {
		buf = buf[:0]
		for _, l := range levels[start:min(start+blockSize/2, len(levels))] {
			buf = binary.LittleEndian.AppendUint16(buf, l)
		}
		sum.Write(buf)
		_, err = f.Write(buf)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return diskError(path, err)
	}
	b.meta.Levels, b.meta.LevelsCRC = true, sum.Sum32()
	return nil
}

// summarize completes the summary.
func (b *builder) summarize(levels []uint16, passes int) {
	s := &b.meta.Summary
	if b.writes > 0 {
		s.PassOperations = make([]int64, passes)
		s.PassOperations[0] = b.writes
	}
	for seq, l := range levels {
		if l > 0 && !b.dropped.Has(int64(seq)) {
			s.PassOperations[0]--
			s.PassOperations[l]++
		}
	}
	s.Passes = len(s.PassOperations)
	s.Fields = make(map[string]int64)
	for i, n := range b.fields {
		if n > 0 {
			s.Fields[b.spec.Fields[i].Name] = n
		}
	}
	for i, d := range b.distinct {
		if d == nil || d.sends == 0 {
			continue
		}
		if s.Values == nil {
			s.Values = make(map[string]Values)
		}
		s.Values[b.spec.Fields[i].Name] = d.values()
	}
	for _, kept := range b.samples {
		n := 0
		for _, k := range kept {
			if n < sampleSize && !b.dropped.Has(k.seq) {
				s.Samples = append(s.Samples, k.Sample)
				n++
			}
		}
	}
}
