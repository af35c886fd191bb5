package salesforce

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
)

// index tells which row of a job a result belongs to, by the row's key: by a
// hash of the key as its field compares values, so that a key which comes back
// reformatted is still found.
//
// The hashes lie on a tape, in the order of the rows, and are joined with those
// of the results a share at a time (see answers.join). In memory there is only a
// filter of four bytes a row, which tells keys that cannot be there. So a job of
// half a million rows takes two megabytes where a map would take twenty.
type index struct {
	by     *field
	seed   maphash.Seed
	keys   tape
	filter []filter
	doubts int // how often the tape was searched for what the filter took for known
}

// maxDoubts is how often a job's tape is searched at most. The filter errs once
// in a hundred thousand keys; more than that are true repetitions, and from then
// on it is believed.
const maxDoubts = 1000

func newIndex(by *field, dir string) *index {
	return &index{by: by, seed: maphash.MakeSeed(), keys: tape{dir: dir, each: 8}}
}

// add enters the key of the next row. It returns false for a key that is there
// already; very rarely also for one that is not.
func (x *index) add(key string) bool {
	h := x.hash(key)
	if x.mayHold(h) && (x.doubts >= maxDoubts || x.holds(h)) {
		return false
	}
	binary.LittleEndian.PutUint64(x.keys.room(), h)
	if n := len(x.filter); n == 0 || x.filter[n-1].full() {
		x.filter = append(x.filter, newFilter(filterRows<<min(n, 6)))
	}
	x.filter[len(x.filter)-1].add(h)
	return true
}

func (x *index) hash(key string) uint64 { return maphash.String(x.seed, x.by.fold(key)) }

// mayHold is false only for keys that were not added.
func (x *index) mayHold(h uint64) bool {
	for i := range x.filter {
		if x.filter[i].mayHold(h) {
			return true
		}
	}
	return false
}

var errFound = errors.New("found")

// holds searches the tape. Where that cannot be read the key counts as known;
// whoever reads the tape next hears of it.
func (x *index) holds(h uint64) bool {
	x.doubts++
	return x.keys.scan(func(record []byte) error {
		if binary.LittleEndian.Uint64(record) == h {
			return errFound
		}
		return nil
	}) != nil
}

// filterRows is for how many keys an index's first filter is. Each further one
// is for twice as many.
const filterRows = 8 << 10

// filter is a blocked Bloom filter: each key sets one bit in each of the eight
// words of a block, which is one cache line.
type filter struct {
	blocks [][8]uint64
	left   int
}

func newFilter(rows int) filter { return filter{blocks: make([][8]uint64, rows/16), left: rows} }

func (f *filter) full() bool { return f.left == 0 }

func (f *filter) block(h uint64) *[8]uint64 {
	return &f.blocks[(h>>48)*uint64(len(f.blocks))>>16]
}

func (f *filter) add(h uint64) {
	b := f.block(h)
	for i := range b {
		b[i] |= 1 << (h >> (6 * i) & 63)
	}
	f.left--
}

func (f *filter) mayHold(h uint64) bool {
	b := f.block(h)
	for i := range b {
		if b[i]&(1<<(h>>(6*i)&63)) == 0 {
			return false
		}
	}
	return true
}
