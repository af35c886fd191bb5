package planner

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
)

const (
	// defaultMemory is little, so that a large model takes hardly more memory than
	// a small one. Four times as much was measured to make nothing faster.
	defaultMemory     = 8 << 20
	defaultPartitions = 256
	maxPartitions     = 1024

	minChunk = 4 << 10
	maxChunk = 32 << 10
)

// spill spreads records over partitions by the first bits of their hash. They
// stay in memory up to a limit; past it all of them go to disk, a file for each
// partition, and the memory is used again. What counts against the limit is the
// memory taken, filled or not: a chunk for each partition is a good part of it.
//
// A record is at least a hash, and says its own length; it never straddles two
// chunks.
type spill struct {
	dir   string // parent of the directory that is made when it is needed
	own   string // that directory, "" until then
	skip  uint   // leading bits of the hash that all records share
	bits  uint   // the bits after those that name the partition
	limit int64
	held  int64 // bytes of records in memory
	taken int64 // bytes of memory that hold them
	parts []spillPart
	free  [][]byte
}

type spillPart struct {
	chunks [][]byte
	file   *os.File
	size   int64 // bytes in the file
	held   int64
}

// newSpill spreads over at least n partitions. skip is the number of leading
// bits that tell nothing apart.
func newSpill(dir string, n int, skip uint, limit int64) *spill {
	n = min(max(n, 1), maxPartitions)
	b := uint(bits.Len(uint(n - 1)))
	return &spill{dir: dir, skip: skip, bits: b, limit: limit, parts: make([]spillPart, 1<<b)}
}

// partition names the partition of a hash by its first 64 bits.
func (s *spill) partition(hi uint64) int {
	return int(hi << s.skip >> (64 - s.bits))
}

// room returns where to append a record of n bytes of a partition; the caller
// appends exactly n bytes to *chunk.
func (s *spill) room(part, n int) (chunk *[]byte, err error) {
	if s.held+int64(n) > s.limit && s.held > 0 {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	p := &s.parts[part]
	last := len(p.chunks) - 1
	if last < 0 || cap(p.chunks[last])-len(p.chunks[last]) < n {
		c, err := s.chunk(n, last+1)
		if err != nil {
			return nil, err
		}
		p.chunks = append(p.chunks, c)
		last = len(p.chunks) - 1
	}
	s.held += int64(n)
	p.held += int64(n)
	return &p.chunks[last], nil
}

// chunk returns an empty chunk with room for n bytes: small at first, so that
// small models cost little, and all of one size once there is a free list.
func (s *spill) chunk(n, before int) ([]byte, error) {
	size := max(n, min(minChunk<<min(before, 6), maxChunk))
	if s.own != "" {
		size = max(n, maxChunk)
	}
	if f := len(s.free) - 1; f < 0 && s.held > 0 && s.taken+int64(size) > s.limit {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	if f := len(s.free) - 1; f >= 0 && size <= maxChunk {
		c := s.free[f]
		s.free = s.free[:f]
		return c[:0], nil
	}
	s.taken += int64(size)
	return make([]byte, 0, size), nil
}

// flush moves everything to disk.
func (s *spill) flush() error {
	if s.own == "" {
		own, err := os.MkdirTemp(s.dir, spillPattern)
		if err != nil {
			return diskError(s.dir, err)
		}
		s.own = own
	}
	for i := range s.parts {
		p := &s.parts[i]
		if len(p.chunks) > 0 && p.file == nil {
			f, err := os.OpenFile(filepath.Join(s.own, strconv.Itoa(i)), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
			if err != nil {
				return diskError(s.own, err)
			}
			p.file = f
		}
		for _, c := range p.chunks {
			if _, err := p.file.Write(c); err != nil {
				return diskError(p.file.Name(), err)
			}
			p.size += int64(len(c))
			if cap(c) == maxChunk {
				s.free = append(s.free, c)
			} else {
				s.taken -= int64(cap(c))
			}
		}
		clear(p.chunks)
		p.chunks, p.held = p.chunks[:0], 0
	}
	s.held = 0
	return nil
}

// seal ends the writing. Once one record has gone to disk all of them do, so
// that joining may use the memory.
func (s *spill) seal() error {
	if s.own == "" {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.free, s.taken = nil, 0
	return nil
}

// spilled reports whether the records are on disk.
func (s *spill) spilled() bool { return s.own != "" }

// bytes is the size of a partition.
func (s *spill) bytes(part int) int64 { return s.parts[part].size + s.parts[part].held }

// load returns a partition's records, in chunks, and gives up the partition. buf
// is memory to use, which the caller may pass again to the next load.
func (s *spill) load(part int, buf *[]byte) ([][]byte, error) {
	p := &s.parts[part]
	if p.file == nil {
		chunks := p.chunks
		p.chunks = nil
		return chunks, nil
	}
	if int64(cap(*buf)) < p.size {
		*buf = nil                                // so that it can go before the new one is there
		*buf = make([]byte, p.size+p.size/8+4096) // partitions differ by little
	}
	b := (*buf)[:p.size]
	if _, err := p.file.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", p.file.Name(), err)
	}
	return [][]byte{b}, s.drop(part)
}

// stream returns a partition's file from its beginning, for a partition too
// large to load. drop gives it up.
func (s *spill) stream(part int) io.Reader {
	p := &s.parts[part]
	return io.NewSectionReader(p.file, 0, p.size)
}

// drop gives up a partition that is on disk, and its space.
func (s *spill) drop(part int) error {
	p := &s.parts[part]
	if p.file == nil {
		return nil
	}
	name := p.file.Name()
	err := errors.Join(p.file.Close(), os.Remove(name))
	p.file, p.size = nil, 0
	return err
}

// remove gives up everything.
func (s *spill) remove() error {
	var errs []error
	for i := range s.parts {
		errs = append(errs, s.drop(i))
		s.parts[i].chunks, s.parts[i].held = nil, 0
	}
	s.held, s.taken = 0, 0
	if s.own != "" {
		errs = append(errs, os.RemoveAll(s.own))
		s.own = ""
	}
	s.free = nil
	return errors.Join(errs...)
}
