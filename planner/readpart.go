package planner

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/xxh3"
)

// orderPart is the order log of one part of the read: what is left of the last
// one, and what there is of the new one. It is used by one goroutine.
type orderPart struct {
	o    *order
	part int
	last bool

	// The new log is the last one as long as the read goes as that says: alike are
	// the rows so far. From the first row that does not, own, it is written.
	alike int64
	own   bool
	block []byte // of the new log

	file    *os.File // the last log; nil where there is none
	in      *os.File // the same; nil where there is no more to read of it
	torn    bool     // it ended too early
	at      int64    // of the next block
	buf     []byte
	ahead   []byte
	window  []byte // what is left of ahead
	misses  int64
	matched int64
	v       *verdict // nil until it is there

	// early are the buckets of rows that were passed over before the verdict, nil
	// where there are none or the verdict has been compared with them.
	early *[orderBuckets]bool

	lost  int64 // misses in a row
	found lead
	skim  []byte // a block that is looked through for a lead
}

// lead is a place further on in the log where the read may have gone on.
type lead struct {
	distance int64  // of its first row from the window's
	rows     []byte // from there on
	seen     int    // of those, rows that came since
}

const (
	seekEvery = orderWindow // misses before the log is looked through for the first time
	seekReach = 64          // how far that goes, in rows a miss
	seekSure  = 4           // rows in a row that make a lead a place
)

// row takes the next row of the read. same: it is where the last read had it and as
// the snapshot has it, so it need not be kept.
func (p *orderPart) row(key, print xxh3.Uint128) (same bool, err error) {
	at := 0
	if len(p.window) < orderRow || !isAt(p.window, key) {
		for p.in != nil && len(p.window) < orderWindow*orderRow {
			if err := p.fill(); err != nil {
				return false, err
			}
		}
		at = find(p.window[:min(len(p.window), orderWindow*orderRow)], key)
	}
	printed := at >= 0 && isAt(p.window[at*orderRow+16:], print)
	if !p.o.b.spec.OrderLogReadOnly {
		if err := p.log(key, print, at == 0 && printed); err != nil {
			return false, err
		}
	}
	if at < 0 {
		return false, p.miss(key)
	}
	if p.lost > 0 {
		p.lost, p.found.rows = 0, p.found.rows[:0]
	}
	if at > 0 {
		if err := p.skip(at); err != nil {
			return false, err
		}
	}
	if printed && p.trusts(key.Hi) {
		p.window = p.window[orderRow:]
		p.matched++
		return true, nil
	}
	return false, p.skip(1)
}

// log takes the row into the new log; next: the last one goes on with it.
func (p *orderPart) log(key, print xxh3.Uint128, next bool) error {
	if next && !p.own {
		p.alike++
		return nil
	}
	if err := p.depart(); err != nil {
		return err
	}
	return p.write(key, print)
}

// trusts says whether a row that is as the log has it need not be kept.
func (p *orderPart) trusts(hi uint64) bool {
	if p.v == nil {
		p.v = p.o.verdict.Load()
	}
	if p.v != nil || !p.o.b.spec.OrderEarly || p.o.decided() {
		return p.v.trusts(hi)
	}
	if p.early == nil {
		p.early = new([orderBuckets]bool)
	}
	p.early[hi>>(64-orderBits)] = true
	return true
}

// decided says whether there is a verdict, or will be none.
func (o *order) decided() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// checkEarly compares the verdict, once it is there, with what was done without it.
func (p *orderPart) checkEarly() error {
	if p.early == nil || !p.o.decided() {
		return nil
	}
	v := p.o.verdict.Load()
	for bucket, passed := range p.early {
		if passed && (v == nil || !v.trusted[bucket]) {
			return ErrReadAgain
		}
	}
	p.early = nil
	return nil
}

// wants says whose blocks are this part's: all of the log is some part's, also where
// the last read had more of them.
func (p *orderPart) wants(part int) bool { return part == p.part || p.last && part > p.part }

// isAt says whether a hash is what b begins with.
func isAt(b []byte, h xxh3.Uint128) bool {
	return binary.BigEndian.Uint64(b) == h.Hi && binary.BigEndian.Uint64(b[8:]) == h.Lo
}

// find returns the index of the row with a key, -1 where there is none.
func find(rows []byte, key xxh3.Uint128) int {
	for at := 0; len(rows) >= orderRow; at++ {
		if isAt(rows, key) {
			return at
		}
		rows = rows[orderRow:]
	}
	return -1
}

// miss is told of a row that is not in the window. Where rows were put into the
// model, the log waits for those that it knows. Where more were taken out than the
// window is wide, the read is ahead: so after some misses the row is looked for
// further on, the further the more there were, and if the rows after it come in
// the log's order too, the log goes on from there. One that merely moved from
// there leads nowhere.
func (p *orderPart) miss(key xxh3.Uint128) error {
	if p.misses++; p.misses > 1<<17 && p.misses > p.matched {
		return p.drain() // another order: looking costs more than it finds
	}
	if p.in == nil && len(p.window) == 0 {
		return nil
	}
	p.lost++
	l := &p.found
	if len(l.rows) > 0 {
		at := find(l.rows[:min(len(l.rows), orderWindow*orderRow)], key)
		if at < 0 {
			l.rows = l.rows[:0]
		} else {
			l.distance += int64(at) + 1
			l.rows = l.rows[(at+1)*orderRow:]
			if l.seen++; l.seen == seekSure {
				to := l.distance
				*l = lead{}
				p.lost = 0
				return p.advance(to)
			}
			return nil
		}
	}
	if p.lost%seekEvery == 0 && p.lost/seekEvery&(p.lost/seekEvery-1) == 0 {
		return p.seek(key, p.lost*seekReach)
	}
	return nil
}

// seek looks for a row among the next ones of the log, beyond the window.
func (p *orderPart) seek(key xxh3.Uint128, reach int64) error {
	rows, at, before := p.window, p.at, int64(0)
	for before < reach {
		if i := find(rows, key); i >= 0 {
			p.found = lead{distance: before + int64(i) + 1, rows: append([]byte(nil), rows[(i+1)*orderRow:min(len(rows), (i+1+4*orderWindow)*orderRow)]...)}
			return nil
		}
		before += int64(len(rows) / orderRow)
		if p.in == nil {
			return nil
		}
		var err error
		if rows, err = readOrderBlock(p.in, &at, p.wants, &p.skim); err != nil {
			return nil // which fill will say, should it come so far
		}
	}
	return nil
}

// advance notes the next n rows of the log as not found where they were.
func (p *orderPart) advance(n int64) error {
	for n > 0 {
		have := min(int64(len(p.window)/orderRow), n)
		if err := p.skip(int(have)); err != nil {
			return err
		}
		if n -= have; n == 0 || p.in == nil {
			return nil
		}
		if err := p.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads the next block, or ends the log.
func (p *orderPart) fill() error {
	rows, err := readOrderBlock(p.in, &p.at, p.wants, &p.buf)
	if err == nil {
		// What is left lies in ahead, behind where it goes.
		p.ahead = append(append(p.ahead[:0], p.window...), rows...)
		p.window = p.ahead
		return nil
	}
	p.in = nil
	if errors.Is(err, io.EOF) {
		return nil
	}
	p.torn = true
	// A log that is torn gets no verdict, so nothing rests on it.
	if <-p.o.done; p.o.verdict.Load() == nil {
		return nil
	}
	if p.o.kept { // it was whole when it was compared
		return errors.Join(ErrReadAgain, os.Remove(p.file.Name()))
	}
	return p.unreadable(err) // rows have been passed over since
}

// unreadable is the error of a log that was whole a moment ago.
func (p *orderPart) unreadable(err error) error {
	return errors.Join(fmt.Errorf("plan: read %s: %w; run again", p.file.Name(), err), os.Remove(p.file.Name()))
}

// skip notes the next n rows of the window as not found where they were.
func (p *orderPart) skip(n int) error {
	v := p.o.verdict.Load()
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	for ; n > 0; n-- {
		hi := binary.BigEndian.Uint64(p.window)
		if v == nil || v.trusts(hi) {
			chunk, err := p.o.expected.room(p.o.expected.partition(hi), 16)
			if err != nil {
				return err
			}
			*chunk = append(*chunk, p.window[:16]...)
		}
		p.window = p.window[orderRow:]
	}
	return nil
}

// drain notes all that is left of the log.
func (p *orderPart) drain() error {
	for {
		if err := p.skip(len(p.window) / orderRow); err != nil || p.in == nil {
			return err
		}
		if err := p.fill(); err != nil {
			return err
		}
	}
}

// finish ends the part.
func (p *orderPart) finish() error {
	for p.in != nil && len(p.window) == 0 {
		if err := p.fill(); err != nil {
			return err
		}
	}
	if (len(p.window) > 0 || p.torn) && !p.o.b.spec.OrderLogReadOnly {
		if err := p.depart(); err != nil {
			return err
		}
	}
	return p.drain()
}

// depart begins the new log, with what it has in common with the last one.
func (p *orderPart) depart() error {
	if p.own {
		return nil
	}
	p.own, p.block = true, make([]byte, orderHeader, 4096)
	for at := int64(0); p.alike > 0; {
		rows, err := readOrderBlock(p.file, &at, p.wants, &p.skim)
		if err != nil {
			return p.unreadable(err)
		}
		rows = rows[:min(int64(len(rows)), p.alike*orderRow)]
		p.alike -= int64(len(rows) / orderRow)
		for len(rows) > 0 {
			n := min(len(rows), p.o.rows*orderRow+orderHeader-len(p.block))
			p.block = append(p.block, rows[:n]...)
			rows = rows[n:]
			if err := p.full(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *orderPart) write(key, print xxh3.Uint128) error {
	b := binary.BigEndian.AppendUint64(p.block, key.Hi)
	b = binary.BigEndian.AppendUint64(b, key.Lo)
	b = binary.BigEndian.AppendUint64(b, print.Hi)
	p.block = binary.BigEndian.AppendUint64(b, print.Lo)
	return p.full()
}

// full writes the block if it is full.
func (p *orderPart) full() error {
	if len(p.block) < orderHeader+p.o.rows*orderRow {
		return nil
	}
	return p.flush()
}

// flush writes a block.
func (p *orderPart) flush() error {
	b := p.block
	binary.LittleEndian.PutUint32(b[4:], uint32((len(b)-orderHeader)/orderRow)|uint32(p.part)<<24)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[orderHeader:], castagnoli))
	p.block = b[:orderHeader]
	return p.o.append(b)
}

// append adds a block to the new log.
func (o *order) append(block []byte) error {
	path := filepath.Join(o.b.dir, orderFile)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.out == nil {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return diskError(path, err)
		}
		o.out = f
	}
	if _, err := o.out.Write(block); err != nil {
		return diskError(path, err)
	}
	return nil
}
