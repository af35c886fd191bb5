package planner

import (
	"encoding/binary"
	"math/bits"
	"sort"
)

// sparse is from how many entries for each that is of interest on those between are
// sought past. Tests change it.
var sparse = 16

// walk goes through the entries of one range. In buckets that the order log's
// verdict trusts only those are of interest whose row was not where the log has it:
// of the others the plain ones are done, and any else is gone, as its row is.
type walk struct {
	j     *joiner
	refs  []rowRef
	limit Hash
	v     *verdict // nil where all entries are read
	wary  uint64   // the first bucket, from the current one on, that is not trusted
	begun bool     // else the cursor is before the first entry
	at    uint64   // the bucket that the cursor is in
}

// walk begins at the start of a range; refs are its rows, and j.walked is at its first
// expected key.
func (j *joiner) walk(refs []rowRef, first, limit Hash) walk {
	w := walk{j: j, refs: refs, limit: limit, at: bucketOf(first)}
	if j.b.order == nil {
		return w
	}
	left := j.expected[j.walked:]
	left = left[:sort.Search(len(left), func(i int) bool { return !w.holds(left[i]) })]
	// How many entries there are is known of the whole, and hashes lie evenly.
	entries := uint64(j.b.snap.Rows())
	if size := binary.BigEndian.Uint64(limit[:]) - binary.BigEndian.Uint64(first[:]); size > 0 { // 0 is all
		entries, _ = bits.Mul64(entries, size)
	}
	if uint64(len(refs)+len(left))*uint64(sparse) < entries {
		w.v, w.wary = j.b.order.verdict.Load(), w.at
	}
	return w
}

func bucketOf(h Hash) uint64 { return binary.BigEndian.Uint64(h[:]) >> (64 - orderBits) }

// holds says whether a hash that is not before the range is in it.
func (w *walk) holds(h Hash) bool { return w.limit == Hash{} || compareHashes(h, w.limit) < 0 }

// next moves the cursor on to the next entry, if not one that is of interest then one
// before that; i is the next row. have says whether there is one.
func (w *walk) next(i int) (have bool) {
	j := w.j
	if w.v == nil {
		return j.cur.Next()
	}
	if w.begun {
		w.at = bucketOf(j.entry.KeyHash)
		for j.walked < len(j.expected) && compareHashes(j.expected[j.walked], j.entry.KeyHash) <= 0 {
			j.walked++
		}
	}
	w.begun = true
	w.wary = max(w.wary, w.at)
	for w.wary < orderBuckets && w.v.trusted[w.wary] {
		w.wary++
	}
	if w.wary == w.at {
		return j.cur.Next()
	}
	to, found := Hash{}, false
	if w.wary < orderBuckets {
		binary.BigEndian.PutUint64(to[:], w.wary<<(64-orderBits))
		found = true
	}
	if i < len(w.refs) {
		var h Hash
		binary.BigEndian.PutUint64(h[:8], w.refs[i].hi)
		binary.BigEndian.PutUint64(h[8:], w.refs[i].lo)
		if !found || compareHashes(h, to) < 0 {
			to, found = h, true
		}
	}
	if j.walked < len(j.expected) {
		if h := j.expected[j.walked]; !found || compareHashes(h, to) < 0 {
			to, found = h, true
		}
	}
	return found && w.holds(to) && j.cur.Seek(to)
}
