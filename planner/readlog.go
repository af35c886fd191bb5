package planner

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"coho/models"
)

// The order log holds the key hash and the fingerprint of every row of the last
// read, in the order of that read. A warehouse gives an unchanged table in the same
// order again, so a row that is where the log has it needs neither be kept nor
// joined, provided that the log says what the snapshot says.
//
// That is found out before a row is passed over: a sum of hashes for each of
// orderBuckets ranges of the key hashes, over the log and over the snapshot. Where
// the two differ, or where the snapshot has more to say of a row than that it is
// acknowledged, every row of the range is kept and joined as ever. So a log that is
// torn, old or of another sync makes a plan slower and never another.
//
// A read in several parts has a log of each, in one file, and every part is
// compared with its own.
//
// The file is blocks, each a header of 8 bytes (CRC-32C of the payload, number of
// rows in three bytes, number of the part) and 32 bytes a row. Blocks of a part
// are in its order.
const (
	orderBits    = 14
	orderBuckets = 1 << orderBits
	orderRow     = 32
	orderHeader  = 8
	orderBlock   = 32 << 10 // rows of a block
	orderWindow  = 48       // how far ahead a row is looked for
	orderSoon    = 16 << 20 // a log that is compared before the first row
	orderFile    = "order"  // in the plan's directory, while it is written
)

// order passes rows over that are where the last read had them, and writes the log
// of this read.
type order struct {
	b    *builder
	rows int // of a block

	verdict atomic.Pointer[verdict]
	kept    bool          // the verdict is that of an earlier plan
	done    chan struct{} // closed once the verdict is there
	stop    context.CancelFunc

	parts []*orderPart
	alike bool // the new log is the last one; known once the parts are read

	mu       sync.Mutex // guards out and expected while the parts are read
	out      *os.File   // nil until a block is full
	expected *spill     // key hashes that the log has and no row was found for, in trusted buckets
}

// verdict says of which buckets the log and the snapshot say the same.
type verdict struct{ trusted [orderBuckets]bool }

func (v *verdict) trusts(hi uint64) bool { return v != nil && v.trusted[hi>>(64-orderBits)] }

// newOrder returns nil where the spec has no order log or cannot use one.
func newOrder(ctx context.Context, b *builder, parts int, limit int64) (*order, error) {
	s := b.spec
	if s.OrderLog == "" || s.Full || s.holdsMatches() {
		return nil, nil
	}
	o := &order{b: b, rows: int(min(max(limit>>10, 1), orderBlock)), done: make(chan struct{})}
	for part := range parts {
		o.parts = append(o.parts, &orderPart{o: o, part: part, last: part == parts-1})
	}
	size := int64(0)
	for _, p := range o.parts {
		in, err := os.Open(s.OrderLog)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err == nil {
			p.in, p.file = in, in
			var st fs.FileInfo
			if st, err = in.Stat(); err == nil {
				size = st.Size()
			}
		}
		if err != nil {
			close(o.done)
			return o, fmt.Errorf("plan: %w", err)
		}
	}
	if size == 0 {
		close(o.done)
		return o, nil
	}
	o.expected = newSpill(s.SpillDir, len(b.rows.parts), 0, limit/8)
	if v := o.keptVerdict(); v != nil {
		o.kept = true
		o.verdict.Store(v)
		close(o.done)
		return o, nil
	}
	ctx, o.stop = context.WithCancel(ctx)
	go func() {
		defer close(o.done)
		if v := o.compare(ctx); v != nil {
			o.verdict.Store(v)
			o.keepVerdict(v)
		}
	}()
	// Comparing half a million rows takes less than a tenth of a second, and
	// then no row need be kept only because the verdict is still to come.
	if size < orderSoon && !s.OrderEarly {
		<-o.done
	}
	return o, nil
}

// compare sums up log and snapshot; nil where one of them cannot be read: then the
// rows are joined as ever, and the join meets the same error where it matters.
func (o *order) compare(ctx context.Context) *verdict {
	var sums [orderBuckets][2]uint64
	v := new(verdict)
	for i := range v.trusted {
		v.trusted[i] = true
	}
	add := func(row []byte, sign uint64) {
		h := xxh3.Hash128(row[:orderRow])
		s := &sums[binary.BigEndian.Uint64(row)>>(64-orderBits)]
		s[0] += sign * h.Hi
		s[1] += sign * h.Lo
	}
	f, err := os.Open(o.b.spec.OrderLog)
	if err != nil {
		return nil
	}
	defer f.Close()
	var buf []byte
	var at int64
	for ctx.Err() == nil {
		rows, err := readOrderBlock(f, &at, func(int) bool { return true }, &buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil
		}
		for ; len(rows) > 0; rows = rows[orderRow:] {
			add(rows, 1)
		}
	}
	cur, err := o.b.snap.Scan(Hash{}, Hash{})
	if err != nil {
		return nil
	}
	defer cur.Close()
	var row [orderRow]byte
	for n := 0; cur.Next(); n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return nil
		}
		e := cur.Entry()
		switch {
		case plain(&e):
			copy(row[:], e.KeyHash[:])
			copy(row[16:], e.Fingerprint[:])
			add(row[:], ^uint64(0))
		case e.Acked && e.Gone && !e.Refused && !e.Displaced && o.b.spec.Mode != models.ModeArchive:
			// Nothing is to be done of it while its row is not in the model.
		default:
			v.trusted[binary.BigEndian.Uint64(e.KeyHash[:])>>(64-orderBits)] = false
		}
	}
	if cur.Err() != nil || ctx.Err() != nil {
		return nil
	}
	for i := range sums {
		if sums[i] != [2]uint64{} {
			v.trusted[i] = false
		}
	}
	return v
}

// plain says of an entry that its row was acknowledged, is in the model, and that
// there is no more to it.
func plain(e *Entry) bool { return e.Acked && !e.Gone && !e.Refused && !e.Displaced }

var errOrderLog = errors.New("the order log is damaged")

// readOrderBlock reads the rows of the next block, from *at on, of a part that is
// wanted, and moves *at behind it; io.EOF at the end.
func readOrderBlock(f io.ReaderAt, at *int64, wanted func(part int) bool, buf *[]byte) (rows []byte, err error) {
	for {
		head := slices.Grow((*buf)[:0], orderHeader)[:orderHeader]
		*buf = head
		if n, err := f.ReadAt(head, *at); n < len(head) {
			if n == 0 && errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, errOrderLog
		}
		sum := binary.LittleEndian.Uint32(head)
		n, part := int(binary.LittleEndian.Uint32(head[4:])&(1<<24-1)), int(head[7])
		if n == 0 || n > orderBlock {
			return nil, errOrderLog
		}
		from := *at + orderHeader
		*at = from + int64(n*orderRow)
		if !wanted(part) {
			continue
		}
		rows = slices.Grow((*buf)[:0], n*orderRow)[:n*orderRow]
		*buf = rows
		if got, _ := f.ReadAt(rows, from); got < len(rows) || crc32.Checksum(rows, castagnoli) != sum {
			return nil, errOrderLog
		}
		return rows, nil
	}
}

// keep puts the new log in the old one's place, or takes that away where there is
// no new one. Where the two are the same the old one stays as it is, and its verdict
// with it. It need not be durable: what a crash leaves of it is worth what it is
// worth.
func (o *order) keep() error {
	if o.b.spec.OrderLogReadOnly || o.alike {
		return nil
	}
	var err error
	if o.out == nil {
		if err = os.Remove(o.b.spec.OrderLog); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = os.Rename(o.out.Name(), o.b.spec.OrderLog)
	}
	if err != nil {
		return fmt.Errorf("plan: keep the order log: %w", err)
	}
	return nil
}

// finish ends the reading: from here on the verdict stands.
func (o *order) finish() error {
	for _, p := range o.parts {
		if err := p.finish(); err != nil {
			return err
		}
	}
	<-o.done
	for _, p := range o.parts {
		if err := p.checkEarly(); err != nil {
			return err
		}
	}
	o.alike = !slices.ContainsFunc(o.parts, func(p *orderPart) bool { return p.own })
	for _, p := range o.parts {
		if !o.alike && !o.b.spec.OrderLogReadOnly {
			if err := p.depart(); err != nil {
				return err
			}
		}
	}
	// A model of less than a block has no log: it needs none.
	for _, p := range o.parts {
		o.b.meta.Summary.Rows.Unchanged += p.matched
		o.b.progress.PassedOver.Add(p.matched)
		if o.out != nil && len(p.block) > orderHeader {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	if o.expected != nil {
		return o.expected.seal()
	}
	return nil
}

// close releases everything.
func (o *order) close() error {
	var errs []error
	if o.stop != nil {
		o.stop()
	}
	<-o.done
	for _, p := range o.parts {
		if p.file != nil {
			errs = append(errs, p.file.Close())
			p.file, p.in = nil, nil
		}
	}
	if o.out != nil {
		errs = append(errs, o.out.Close())
		if err := os.Remove(filepath.Join(o.b.dir, orderFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		o.out = nil
	}
	if o.expected != nil {
		errs = append(errs, o.expected.remove())
	}
	return errors.Join(errs...)
}

// skips says whether the entries of a range need not be read: every row was where
// the log had it.
func (o *order) skips(first, limit Hash) bool {
	v := o.verdict.Load()
	if v == nil {
		return false
	}
	from := binary.BigEndian.Uint64(first[:]) >> (64 - orderBits)
	to := uint64(orderBuckets)
	if limit != (Hash{}) {
		to = (binary.BigEndian.Uint64(limit[:])-1)>>(64-orderBits) + 1
	}
	for ; from < to; from++ {
		if !v.trusted[from] {
			return false
		}
	}
	return true
}

// sortExpected lists what load gave, in order.
func sortExpected(dst []Hash, chunks [][]byte) []Hash {
	for _, c := range chunks {
		for ; len(c) >= 16; c = c[16:] {
			dst = append(dst, Hash(c[:16]))
		}
	}
	slices.SortFunc(dst, compareHashes)
	return dst
}

func compareHashes(a, b Hash) int {
	x, y := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8])
	if x == y {
		x, y = binary.BigEndian.Uint64(a[8:]), binary.BigEndian.Uint64(b[8:])
	}
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// passedOver says whether the current entry's row was where the log had it. Entries
// come in order, so expected is walked along.
func (j *joiner) passedOver() bool {
	o := j.b.order
	if o == nil {
		return false
	}
	e := &j.entry
	if !o.verdict.Load().trusts(binary.BigEndian.Uint64(e.KeyHash[:])) || !plain(e) {
		return false
	}
	for j.walked < len(j.expected) {
		switch c := compareHashes(j.expected[j.walked], e.KeyHash); {
		case c == 0:
			return false
		case c > 0:
			return true
		}
		j.walked++
	}
	return true
}
