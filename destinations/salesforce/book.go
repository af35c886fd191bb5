package salesforce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"sync"
)

// reference is what a lookup found for a value.
type reference struct {
	id    [15]byte // of the record, where there is one
	count uint32   // how many records have the value
	pass  uint32   // of the plan, during which it was looked up
	fresh bool     // it was looked up again after the org refused what was known
}

// ID is the record's, in 18 characters.
func (f *reference) ID() string {
	id, _ := canonicalID(string(f.id[:]))
	return id
}

const (
	// bookPage is how many references are in memory before they go to a file.
	bookPage = 100_000

	// bookEntry is a reference in a file: the hash of its value, then itself.
	bookEntry = 16 + 15 + 4 + 4 + 1

	// bookStride is how many entries of a file lie between two whose hashes
	// are in memory.
	bookStride = 128
)

// book remembers the references that a column's lookups found, by the value, for
// the length of a run: as many as there are, in memory up to a page and in
// sorted temporary files from then on. It is safe for use by several goroutines.
type book struct {
	dir   string
	page  int
	seeds [2]maphash.Seed

	mu    sync.Mutex // guards the rest
	open  map[bookKey]reference
	files []*bookFile // the newest last
}

type bookKey [16]byte

// bookFile is a page on disk, in the order of the hashes.
type bookFile struct {
	file *os.File
	n    int
	at   []bookKey // of every bookStride-th entry
}

func newBook(dir string) *book {
	return &book{dir: dir, page: bookPage, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, open: map[bookKey]reference{}}
}

// key is the key of a folded value. Two values with one key do not occur: it has
// 128 bits.
func (b *book) key(folded string) (k bookKey) {
	binary.BigEndian.PutUint64(k[:8], maphash.String(b.seeds[0], folded))
	binary.BigEndian.PutUint64(k[8:], maphash.String(b.seeds[1], folded))
	return k
}

// put remembers a reference in place of an older one.
func (b *book) put(k bookKey, f reference) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[k] = f
	if len(b.open) < b.page {
		return nil
	}
	file, err := writePage(b.dir, b.open)
	if err != nil {
		return fmt.Errorf("keep looked up references: %w", err)
	}
	b.files = append(b.files, file)
	clear(b.open)
	return nil
}

func writePage(dir string, page map[bookKey]reference) (*bookFile, error) {
	keys := make([]bookKey, 0, len(page))
	for k := range page {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b bookKey) int { return bytes.Compare(a[:], b[:]) })
	file, err := newSpool(dir, "coho-lookups-*")
	if err != nil {
		return nil, err
	}
	out := &bookFile{file: file, n: len(keys)}
	buf := make([]byte, 0, len(keys)*bookEntry)
	for i, k := range keys {
		if i%bookStride == 0 {
			out.at = append(out.at, k)
		}
		f := page[k]
		buf = append(append(buf, k[:]...), f.id[:]...)
		buf = binary.BigEndian.AppendUint32(buf, f.count)
		buf = binary.BigEndian.AppendUint32(buf, f.pass)
		fresh := byte(0)
		if f.fresh {
			fresh = 1
		}
		buf = append(buf, fresh)
	}
	if _, err := file.WriteAt(buf, 0); err != nil {
		return nil, errors.Join(err, dropSpool(file))
	}
	return out, nil
}

// get returns what is remembered.
func (b *book) get(k bookKey) (f reference, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, ok = b.open[k]; ok {
		return f, true, nil
	}
	for _, file := range slices.Backward(b.files) {
		if f, ok, err = file.find(k); err != nil {
			return f, false, fmt.Errorf("read looked up references: %w", err)
		} else if ok {
			return f, true, nil
		}
	}
	return f, false, nil
}

func (p *bookFile) find(k bookKey) (f reference, ok bool, err error) {
	at, exact := slices.BinarySearchFunc(p.at, k, func(a, b bookKey) int { return bytes.Compare(a[:], b[:]) })
	if !exact {
		if at--; at < 0 {
			return f, false, nil
		}
	}
	from := at * bookStride
	var room [bookStride * bookEntry]byte
	buf := room[:min(bookStride, p.n-from)*bookEntry]
	if _, err := p.file.ReadAt(buf, int64(from)*bookEntry); err != nil {
		return f, false, err
	}
	for ; len(buf) > 0; buf = buf[bookEntry:] {
		if bytes.Equal(buf[:16], k[:]) {
			copy(f.id[:], buf[16:31])
			f.count, f.pass, f.fresh = binary.BigEndian.Uint32(buf[31:]), binary.BigEndian.Uint32(buf[35:]), buf[39] == 1
			return f, true, nil
		}
	}
	return f, false, nil
}

// discard removes the files. It is safe twice, and on a nil book.
func (b *book) discard() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, p := range b.files {
		errs = append(errs, dropSpool(p.file))
	}
	b.files = nil
	clear(b.open)
	return errors.Join(errs...)
}
