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
// The file is blocks, each a header of 8 bytes (CRC-32C of the payload, number of
// rows) and 32 bytes a row.
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

	out   *os.File // nil until a block is full
	block []byte

	in      *os.File // nil where there is no log, or no more to read of it
	buf     []byte
	ahead   []byte
	window  []byte // what is left of ahead
	misses  int64
	lost    int // misses in a row
	matched int64

	verdict atomic.Pointer[verdict]
	done    chan struct{} // closed once the verdict is there
	stop    context.CancelFunc

	expected *spill // key hashes that the log has and no row was found for, in trusted buckets
}

// verdict says of which buckets the log and the snapshot say the same.
type verdict struct{ trusted [orderBuckets]bool }

func (v *verdict) trusts(hi uint64) bool { return v != nil && v.trusted[hi>>(64-orderBits)] }

// newOrder returns nil where the spec has no order log or cannot use one.
func newOrder(ctx context.Context, b *builder, limit int64) (*order, error) {
	s := b.spec
	if s.OrderLog == "" || s.Full || s.holdsMatches() {
		return nil, nil
	}
	o := &order{b: b, rows: int(min(max(limit>>10, 1), orderBlock)), done: make(chan struct{})}
	in, err := os.Open(s.OrderLog)
	if errors.Is(err, fs.ErrNotExist) {
		close(o.done)
		return o, nil
	}
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	o.in = in
	o.expected = newSpill(s.SpillDir, len(b.rows.parts), 0, limit/8)
	ctx, o.stop = context.WithCancel(ctx)
	go func() {
		defer close(o.done)
		if v := o.compare(ctx); v != nil {
			o.verdict.Store(v)
		}
	}()
	// Comparing half a million rows takes less than a tenth of a second, and
	// then no row need be kept only because the verdict is still to come.
	if st, err := in.Stat(); err == nil && st.Size() < orderSoon {
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
	for ctx.Err() == nil {
		rows, err := readOrderBlock(f, &buf)
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

// readOrderBlock reads the rows of the next block; io.EOF at the end.
func readOrderBlock(f io.Reader, buf *[]byte) ([]byte, error) {
	var head [orderHeader]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, errOrderLog
	}
	n := int(binary.LittleEndian.Uint32(head[4:]))
	if n == 0 || n > orderBlock {
		return nil, errOrderLog
	}
	*buf = slices.Grow((*buf)[:0], n*orderRow)[:n*orderRow]
	if _, err := io.ReadFull(f, *buf); err != nil || crc32.Checksum(*buf, castagnoli) != binary.LittleEndian.Uint32(head[:]) {
		return nil, errOrderLog
	}
	return *buf, nil
}

// row takes the next row of the read. same: it is where the last read had it and as
// the snapshot has it, so it need not be kept.
func (o *order) row(key, print xxh3.Uint128) (same bool, err error) {
	if err := o.write(key, print); err != nil {
		return false, err
	}
	for o.in != nil && len(o.window) < orderWindow*orderRow {
		if err := o.fill(); err != nil {
			return false, err
		}
	}
	n := min(len(o.window)/orderRow, orderWindow)
	at := 0
	for at < n && (binary.BigEndian.Uint64(o.window[at*orderRow:]) != key.Hi || binary.BigEndian.Uint64(o.window[at*orderRow+8:]) != key.Lo) {
		at++
	}
	if at == n {
		return false, o.miss(n)
	}
	o.lost = 0
	if err := o.skip(at); err != nil {
		return false, err
	}
	w := o.window
	if o.verdict.Load().trusts(key.Hi) && binary.BigEndian.Uint64(w[16:]) == print.Hi && binary.BigEndian.Uint64(w[24:]) == print.Lo {
		o.window = w[orderRow:]
		o.matched++
		return true, nil
	}
	return false, o.skip(1)
}

// miss is told of a row that is not in the window of n rows. After as many of them
// the window is given up: rows were taken out of the model here, more than it is
// wide. Where rows were put in instead, the log is ahead for a while.
func (o *order) miss(n int) error {
	if o.misses++; o.misses > 1<<17 && o.misses > o.matched {
		return o.drain() // another order: looking costs more than it finds
	}
	if o.lost++; o.lost < orderWindow {
		return nil
	}
	o.lost = 0
	return o.skip(n)
}

// fill reads the next block, or ends the log.
func (o *order) fill() error {
	rows, err := readOrderBlock(o.in, &o.buf)
	if err == nil {
		// What is left lies in ahead, behind where it goes.
		o.ahead = append(append(o.ahead[:0], o.window...), rows...)
		o.window = o.ahead
		return nil
	}
	file := o.in
	o.in = nil
	closed := file.Close()
	if errors.Is(err, io.EOF) {
		return closed
	}
	// A log that is torn gets no verdict, so nothing rests on it.
	if <-o.done; o.verdict.Load() == nil {
		return closed
	}
	// It was whole a moment ago, and rows have been passed over since.
	return errors.Join(fmt.Errorf("plan: read %s: %w; run again", file.Name(), err), os.Remove(file.Name()))
}

// skip notes the next n rows of the log as not found where they were.
func (o *order) skip(n int) error {
	v := o.verdict.Load()
	for ; n > 0; n-- {
		hi := binary.BigEndian.Uint64(o.window)
		if v == nil || v.trusts(hi) {
			chunk, err := o.expected.room(o.expected.partition(hi), 16)
			if err != nil {
				return err
			}
			*chunk = append(*chunk, o.window[:16]...)
		}
		o.window = o.window[orderRow:]
	}
	return nil
}

// drain notes all that is left of the log.
func (o *order) drain() error {
	for {
		if err := o.skip(len(o.window) / orderRow); err != nil || o.in == nil {
			return err
		}
		if err := o.fill(); err != nil {
			return err
		}
	}
}

// finish ends the reading: from here on the verdict stands.
func (o *order) finish() error {
	if err := o.drain(); err != nil {
		return err
	}
	<-o.done
	o.b.meta.Summary.Rows.Unchanged += o.matched
	if o.out != nil && len(o.block) > orderHeader {
		if err := o.flush(); err != nil {
			return err
		}
	}
	if o.expected != nil {
		return o.expected.seal()
	}
	return nil
}

func (o *order) write(key, print xxh3.Uint128) error {
	if o.block == nil {
		o.block = make([]byte, orderHeader, 4096)
	}
	b := binary.BigEndian.AppendUint64(o.block, key.Hi)
	b = binary.BigEndian.AppendUint64(b, key.Lo)
	b = binary.BigEndian.AppendUint64(b, print.Hi)
	o.block = binary.BigEndian.AppendUint64(b, print.Lo)
	if len(o.block) < orderHeader+o.rows*orderRow {
		return nil
	}
	return o.flush()
}

// flush writes a block. A model of less than a block has no log: it needs none.
func (o *order) flush() error {
	path := filepath.Join(o.b.dir, orderFile)
	if o.out == nil {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return diskError(path, err)
		}
		o.out = f
	}
	binary.LittleEndian.PutUint32(o.block[4:], uint32((len(o.block)-orderHeader)/orderRow))
	binary.LittleEndian.PutUint32(o.block, crc32.Checksum(o.block[orderHeader:], castagnoli))
	if _, err := o.out.Write(o.block); err != nil {
		return diskError(path, err)
	}
	o.block = o.block[:orderHeader]
	return nil
}

// keep puts the new log in the old one's place, or takes that away where there is
// no new one. It need not be durable: what a crash leaves of it is worth what it is
// worth.
func (o *order) keep() error {
	if o.b.spec.OrderLogReadOnly {
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

// close releases everything.
func (o *order) close() error {
	var errs []error
	if o.stop != nil {
		o.stop()
	}
	<-o.done
	if o.in != nil {
		errs = append(errs, o.in.Close())
		o.in = nil
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
