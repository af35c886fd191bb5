package planner

import (
	"encoding/binary"
	"errors"
)

// Seqs is a set of operation sequence numbers kept as ascending, disjoint,
// non-adjacent half-open ranges: what a batch covers.
type Seqs []SeqRange

// SeqRange is the numbers from From up to but not including To.
type SeqRange struct{ From, To int64 }

// Append returns the set with seq added. seq must be greater than every number
// in the set.
func (s Seqs) Append(seq int64) Seqs {
	if n := len(s); n > 0 && s[n-1].To == seq {
		s[n-1].To++
		return s
	}
	return append(s, SeqRange{seq, seq + 1})
}

// Len returns how many numbers the set holds.
func (s Seqs) Len() int64 {
	var n int64
	for _, r := range s {
		n += r.To - r.From
	}
	return n
}

// AppendBinary appends the set's durable form: the count of ranges, then for
// each the gap from the one before and its length, all as uvarints.
func (s Seqs) AppendBinary(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	var at int64
	for _, r := range s {
		dst = binary.AppendUvarint(dst, uint64(r.From-at))
		dst = binary.AppendUvarint(dst, uint64(r.To-r.From))
		at = r.To
	}
	return dst
}

var errSeqs = errors.New("malformed sequence set")

// DecodeSeqs reads a set written by AppendBinary and returns what follows it.
func DecodeSeqs(b []byte) (s Seqs, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, nil, errSeqs
	}
	b = b[k:]
	s = make(Seqs, 0, n)
	var at int64
	for range n {
		gap, k := binary.Uvarint(b)
		if k <= 0 || gap > 1<<62 {
			return nil, nil, errSeqs
		}
		b = b[k:]
		size, k := binary.Uvarint(b)
		if k <= 0 || size == 0 || size > 1<<62 {
			return nil, nil, errSeqs
		}
		b = b[k:]
		from := at + int64(gap)
		if from < at || from+int64(size) < from || (len(s) > 0 && gap == 0) {
			return nil, nil, errSeqs
		}
		at = from + int64(size)
		s = append(s, SeqRange{from, at})
	}
	return s, b, nil
}
