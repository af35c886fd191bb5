package planner

// SettledSet is a set of sequence numbers as a bitmap: one bit for
// each operation of the plan. The zero value is empty. It is not safe for
// concurrent writing.
type SettledSet struct {
	words []uint64
	n     int64
}

// maxSeq bounds what a damaged range can make a set allocate: 64 billion
// operations.
const maxSeq = 1 << 36

// Add puts every number of the ranges into the set. Numbers past any plan's
// size are ignored.
func (s *SettledSet) Add(seqs Seqs) {
	for _, r := range seqs {
		for seq := max(r.From, 0); seq < min(r.To, maxSeq); {
			w := int(seq >> 6)
			if w >= len(s.words) {
				need := int((min(r.To, maxSeq)-1)>>6) + 1
				s.words = append(s.words, make([]uint64, need-len(s.words))...)
			}
			if seq&63 == 0 && seq+64 <= r.To && s.words[w] == 0 {
				s.words[w] = ^uint64(0)
				s.n += 64
				seq += 64
				continue
			}
			if bit := uint64(1) << (seq & 63); s.words[w]&bit == 0 {
				s.words[w] |= bit
				s.n++
			}
			seq++
		}
	}
}

// Has reports whether seq is in the set. A nil set is empty.
func (s *SettledSet) Has(seq int64) bool {
	if s == nil || seq < 0 {
		return false
	}
	w := seq >> 6
	return w < int64(len(s.words)) && s.words[w]&(1<<(seq&63)) != 0
}

// HasAny reports whether any number of a range is in the set.
func (s *SettledSet) HasAny(r SeqRange) bool {
	for seq := r.From; seq < r.To; seq++ {
		if s.Has(seq) {
			return true
		}
	}
	return false
}

// Len returns how many numbers the set holds.
func (s *SettledSet) Len() int64 {
	if s == nil {
		return 0
	}
	return s.n
}

// Clone returns an independent copy.
func (s *SettledSet) Clone() *SettledSet {
	return &SettledSet{words: append([]uint64(nil), s.words...), n: s.n}
}

// seqs returns the set as ranges.
func (s *SettledSet) seqs() Seqs {
	var out Seqs
	for w, word := range s.words {
		for bit := int64(0); word != 0; bit++ {
			if word&1 != 0 {
				out = out.Append(int64(w)<<6 + bit)
			}
			word >>= 1
		}
	}
	return out
}
