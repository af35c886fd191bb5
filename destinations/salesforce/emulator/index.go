package emulator

import (
	"strings"

	"github.com/zeebo/xxh3"
)

// index finds record positions by value. Values are hashed in lower case,
// because SOQL compares text without case whatever the field says, so a hit is
// only a candidate: the caller compares the value by its own rule.
//
// A reference index is lazy: entries are added and never taken out, because
// taking one of a hundred thousand children out of a parent's list would cost a
// walk of that list. Its reader drops what no longer holds, and repeats.
type index struct {
	lazy  bool
	first map[uint64]uint32
	more  map[uint64][]uint32
}

func newIndex(lazy bool) *index {
	return &index{lazy: lazy, first: map[uint64]uint32{}, more: map[uint64][]uint32{}}
}

func (ix *index) hash(value string) uint64 {
	if !ix.lazy {
		for i := range len(value) {
			if c := value[i]; c >= 'A' && c <= 'Z' || c >= 0x80 {
				return xxh3.HashString(strings.ToLower(value))
			}
		}
	}
	return xxh3.HashString(value)
}

func (ix *index) add(value string, pos uint32) {
	h := ix.hash(value)
	if _, ok := ix.first[h]; !ok {
		ix.first[h] = pos
		return
	}
	ix.more[h] = append(ix.more[h], pos)
}

func (ix *index) remove(value string, pos uint32) {
	if ix.lazy {
		return
	}
	h := ix.hash(value)
	rest := ix.more[h]
	if p, ok := ix.first[h]; ok && p == pos {
		if len(rest) == 0 {
			delete(ix.first, h)
			return
		}
		ix.first[h], rest = rest[len(rest)-1], rest[:len(rest)-1]
	} else {
		for i, p := range rest {
			if p == pos {
				rest[i] = rest[len(rest)-1]
				rest = rest[:len(rest)-1]
				break
			}
		}
	}
	if len(rest) == 0 {
		delete(ix.more, h)
	} else {
		ix.more[h] = rest
	}
}

// each calls yield with the candidates for a value until it returns false.
func (ix *index) each(value string, yield func(pos uint32) bool) {
	h := ix.hash(value)
	p, ok := ix.first[h]
	if !ok || !yield(p) {
		return
	}
	for _, p := range ix.more[h] {
		if !yield(p) {
			return
		}
	}
}
