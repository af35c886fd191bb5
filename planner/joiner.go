package planner

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/zeebo/xxh3"

	"coho/models"
)

// joiner joins pieces of partitions, one after another. Each worker has its own.
type joiner struct {
	ctx    context.Context // bounds the join, which owns the joiner
	b      *builder
	spec   *Spec
	pool   *sync.Pool
	eval   Evaluator
	out    chan<- *outChunk
	chunk  *outChunk
	load   []byte
	refs   []rowRef
	sorter sorter
	// expected are the keys of the partition that the order log has and whose
	// rows were not where it has them; walked of them lie before the entry.
	expected []Hash
	walked   int
	pairs    bool           // match values are compared
	absorbed int            // Spec.absorbed
	holds    bool           // so are those of rows of which nothing is sent
	taken    [KindCount]int // samples of this piece

	cur   Cursor
	entry Entry // the current one, where merge says that there is one

	kept     [][]byte // the cells of builder.columns
	cells    [][]byte // the same, by column
	values   []models.Value
	errs     []error
	result   []models.Cell
	distinct []*valueCount // by field, of those whose values are counted
	op       Operation
	keyBuf   []byte
	body     []byte
}

func newJoiner(ctx context.Context, b *builder, pool *sync.Pool) *joiner {
	n := len(b.spec.Fields)
	s := b.spec
	counted := make([]*valueCount, n)
	for i := range s.Fields {
		if s.Fields[i].CountValues {
			counted[i] = newValueCount()
		}
	}
	return &joiner{
		ctx: ctx, b: b, spec: s, pool: pool,
		pairs: s.comparesMatches(), holds: s.holdsMatches(), absorbed: s.absorbed(),
		kept:   make([][]byte, len(b.columns)),
		cells:  make([][]byte, len(b.schema.Columns())),
		values: make([]models.Value, n), errs: make([]error, n), result: make([]models.Cell, n),
		distinct: counted,
	}
}

func (j *joiner) begin() {
	j.chunk = j.pool.Get().(*outChunk)
	j.taken = [KindCount]int{}
}

// flush hands the chunk over.
func (j *joiner) flush() error {
	select {
	case j.out <- j.chunk:
		j.chunk = nil
		return nil
	case <-j.ctx.Done():
		return context.Cause(j.ctx)
	}
}

// grown hands the chunk over when there is enough in it.
func (j *joiner) grown() error {
	c := j.chunk
	if len(c.ops)+len(c.rejected)+len(c.notes)+matchBytes*len(c.matches) < chunkBytes {
		return nil
	}
	if err := j.flush(); err != nil {
		return err
	}
	j.chunk = j.pool.Get().(*outChunk)
	return nil
}

// row spreads a record's cells over j.cells.
func (j *joiner) row(rec []byte) error {
	n := binary.BigEndian.Uint32(rec[32:])
	if err := models.SplitFrame(rec[rowHeader:rowHeader+n], j.kept); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	for i, c := range j.b.columns {
		j.cells[c] = j.kept[i]
	}
	return nil
}

// key is the primary key's canonical text, a string a column.
func (j *joiner) key() ([]string, error) {
	key := make([]string, len(j.spec.KeyColumns))
	for i, c := range j.spec.KeyColumns {
		var err error
		if j.keyBuf, err = j.b.schema.AppendKey(j.keyBuf[:0], c, j.cells[c]); err != nil {
			return nil, fmt.Errorf("plan: primary key column %s: %w", j.b.keyNames[i], err)
		}
		key[i] = string(j.keyBuf)
	}
	return key, nil
}

func (j *joiner) note(n Note) error {
	c := j.chunk
	c.notes = appendFramed(c.notes, &j.body, func(dst []byte) []byte { return appendNote(dst, &n) })
	c.noteN++
	return j.grown()
}

func (j *joiner) reject(rec []byte, key []string, code, message string, fields ...string) error {
	c := j.chunk
	r := Rejected{KeyHash: Hash(rec[:16]), Key: key, Kind: j.spec.kind(), Code: code, Message: message, Fields: fields}
	c.rejected = appendFramed(c.rejected, &j.body, func(dst []byte) []byte { return appendRejected(dst, &r) })
	c.rejCount++
	c.rows.Rejected++
	return j.grown()
}

// keyText words a key for messages: column=text, ...
func keyText(names, key []string) string {
	var b strings.Builder
	for i, k := range key {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(names[i])
		b.WriteByte('=')
		b.WriteString(k)
	}
	return b.String()
}

// duplicates rejects all rows that share a key.
func (j *joiner) duplicates(rec []byte, n uint32) error {
	if err := j.row(rec); err != nil {
		return err
	}
	key, err := j.key()
	if err != nil {
		return err
	}
	message := fmt.Sprintf("%d rows share the primary key %s", n, keyText(j.b.keyNames, key))
	for range n {
		if err := j.reject(rec, key, CodeDuplicateKey, message); err != nil {
			return err
		}
	}
	return nil
}

// unmatched plans a row whose key the snapshot does not have.
func (j *joiner) unmatched(rec []byte) error {
	return j.plan(rec, nil)
}

// matched decides what to do with a row whose key the snapshot has. The usual
// row, unchanged, costs a comparison of 16 bytes.
func (j *joiner) matched(rec []byte) error {
	e := &j.entry
	if err := j.checkDisplaced(); err != nil {
		return err
	}
	if e.Held() {
		return j.unknown(rec)
	}
	same := e.Fingerprint == Hash(rec[16:32]) && !e.Displaced
	if e.Acked && !j.spec.Full {
		if same && !e.Gone && !e.Refused {
			j.chunk.rows.Unchanged++
			if j.holds {
				return j.hold(rec, matchHeld)
			}
			return nil
		}
		if same || j.spec.Mode == models.ModeInsert && j.absorbed < 0 || j.spec.Mode == models.ModeArchive {
			return j.settledAlready(rec, same)
		}
	}
	if e.Acked && j.spec.Mode == models.ModeInsert && j.absorbed < 0 {
		return j.settledAlready(rec, same)
	}
	if e.Refused && !j.spec.Full && e.RefusedPrint == Hash(rec[16:32]) {
		if wait, err := j.wait(rec); wait || err != nil {
			return err
		}
	}
	return j.plan(rec, e)
}

// settledAlready counts a row of which nothing is to be sent, and brings its
// entry up to date where it is not.
func (j *joiner) settledAlready(rec []byte, same bool) error {
	e := &j.entry
	j.chunk.rows.Unchanged++
	if err := j.hold(rec, matchHeld); err != nil {
		return err
	}
	if same && !e.Gone && !e.Refused {
		return nil
	}
	kind := NoteRefresh
	if e.Gone {
		kind = NoteReturned
	}
	return j.note(Note{Kind: kind, Counted: !e.Gone, Entry: Entry{KeyHash: e.KeyHash, Fingerprint: Hash(rec[16:32]), Acked: true}})
}

// maxWait is the most runs that backoff passes a row over.
const maxWait = 63

// wait says whether a row that was refused as it is now is to be passed over,
// and then rejects it.
func (j *joiner) wait(rec []byte) (bool, error) {
	e := &j.entry
	var left uint32
	switch j.spec.RetryRejected {
	case "on_change":
	case "backoff":
		runs := uint32(maxWait)
		if e.RefusedTimes <= 6 {
			runs = 1<<max(e.RefusedTimes, 1)>>1 - 1
		}
		if e.RefusedSkips >= runs {
			return false, nil
		}
		left = runs - e.RefusedSkips
	default:
		return false, nil
	}
	if err := j.row(rec); err != nil {
		return true, err
	}
	key, err := j.key()
	if err != nil {
		return true, err
	}
	if err := j.keep(rec, e); err != nil {
		return true, err
	}
	message := fmt.Sprintf("refused %d times in a row with %s; sent again when the row or the mapping changes", e.RefusedTimes, e.RefusedCode)
	if left > 0 {
		message += fmt.Sprintf(", or after %d more runs", left)
		after := *e
		after.RefusedSkips++
		if err := j.note(Note{Kind: NoteWait, Counted: e.Acked && !e.Gone, Entry: after}); err != nil {
			return true, err
		}
	}
	return true, j.reject(rec, key, CodeRetryLater, message)
}

// emit adds j.op to the plan.
func (j *joiner) emit(before *Record, match string) error {
	o, c := &j.op, j.chunk
	seq := int64(c.opCount)
	c.ops = appendFramed(c.ops, &j.body, func(dst []byte) []byte { return appendOperation(dst, o) })
	c.opCount++
	c.kinds[o.Kind]++
	if o.Counted {
		c.known++
	}
	c.bytes += int64(len(o.Match))
	for i := range o.Assignments {
		if a := &o.Assignments[i]; a.Send != Keep {
			c.fields[a.Field]++
			c.bytes += int64(len(a.Cell.Text))
			if d := j.distinct[a.Field]; d != nil && !a.Cell.Null {
				d.add(a.Cell.Text)
			}
		}
	}
	removal := o.Fingerprint == Hash{}
	if removal {
		c.removals++
	}
	if match != "" && j.pairs {
		kind := matchKnown
		switch {
		case removal:
			kind = matchRemoved
		case !o.Known:
			kind = matchNew
		}
		c.matches = append(c.matches, newMatchRef(match, kind, seq))
	}
	if !removal && (o.Kind == Insert || o.Kind == Upsert) {
		for i := range o.Assignments {
			a := &o.Assignments[i]
			if a.Send != Keep && j.spec.Fields[a.Field].SelfReference && !a.Cell.Null {
				c.matches = append(c.matches, newMatchRef(j.spec.normalize(a.Cell.Text), matchReference, seq))
			}
		}
	}
	if removal && o.Kind == Archive && j.pairs {
		for i := range j.spec.Fields {
			if f := &j.spec.Fields[i]; f.SelfReference {
				if cell, ok := recorded(before, f.Name); ok && !cell.Null {
					c.matches = append(c.matches, newMatchRef(j.spec.normalize(cell.Text), matchLeaves, seq))
				}
			}
		}
	}
	if j.taken[o.Kind] < sampleKeep {
		j.taken[o.Kind]++
		c.samples = append(c.samples, keptSample{seq: seq, Sample: j.sample(before)})
	}
	return j.grown()
}

// sample shows j.op with what the fields were before.
func (j *joiner) sample(before *Record) Sample {
	o := &j.op
	s := Sample{Kind: o.Kind, Key: o.Key, ID: o.ID}
	for i := range o.Assignments {
		a := &o.Assignments[i]
		if a.Send == Keep {
			continue
		}
		f := SampleField{Name: j.spec.Fields[a.Field].Name, After: a.Cell}
		if cell, ok := recorded(before, f.Name); ok {
			f.Before = &cell
		}
		s.Fields = append(s.Fields, f)
	}
	return s
}

// newMatchRef hashes a folded match value.
func newMatchRef(match string, kind matchKind, seq int64) matchRef {
	h := xxh3.HashString128(match)
	return matchRef{hi: h.Hi, lo: h.Lo, seq: seq, kind: kind}
}
