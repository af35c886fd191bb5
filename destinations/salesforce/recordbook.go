package salesforce

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"os"
)

// recordBook keeps records of the org in temporary files, to be found by their keys:
// as many as there are, in no more memory than the buffers it is written by. A record
// is its values in one order, an empty one for null.
//
// It is filled by one goroutine, then sealed, and from then on only read, by any
// number of them.
type recordBook struct {
	dir     string
	seeds   [2]maphash.Seed
	records *os.File // each record as its length, then each value as its length and bytes
	keys    *os.File // while it is filled: the slots of all keys, one after the other
	index   *os.File // once it is sealed: a hash table of slots
	out     *bufio.Writer
	outKeys *bufio.Writer
	size    int64 // of records
	n       int64 // keys
	slots   uint64
	buf     []byte
}

const (
	// A slot is the 128-bit hash of a key and where its record is, plus one; or
	// manyHave, where more than one record has the key. Zero is a slot that is free.
	bookSlot = 16 + 8
	manyHave = ^uint64(0)

	// slotsAtOnce is how many slots are read together, since neighbours are
	// looked at where a slot is taken.
	slotsAtOnce = 8
)

func newRecordBook(dir string) (*recordBook, error) {
	b := &recordBook{dir: dir, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	var err error
	if b.records, err = newSpool(dir, "coho-records-*"); err != nil {
		return nil, err
	}
	if b.keys, err = newSpool(dir, "coho-keys-*"); err != nil {
		return nil, errors.Join(err, b.discard())
	}
	b.out, b.outKeys = bufio.NewWriterSize(b.records, 256<<10), bufio.NewWriterSize(b.keys, 64<<10)
	return b, nil
}

// hash is the 128-bit hash of a key. Two keys of one hash do not occur.
func (b *recordBook) hash(key string) (h [16]byte) {
	binary.LittleEndian.PutUint64(h[:8], maphash.String(b.seeds[0], key))
	binary.LittleEndian.PutUint64(h[8:], maphash.String(b.seeds[1], key))
	return h
}

// add keeps a record under its keys.
func (b *recordBook) add(keys []string, values []string) error {
	b.buf = b.buf[:0]
	for _, v := range values {
		b.buf = append(binary.AppendUvarint(b.buf, uint64(len(v))), v...)
	}
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(len(b.buf)))
	if _, err := b.out.Write(head[:n]); err != nil {
		return fmt.Errorf("keep a record that was read: %w", err)
	}
	if _, err := b.out.Write(b.buf); err != nil {
		return fmt.Errorf("keep a record that was read: %w", err)
	}
	for _, key := range keys {
		h := b.hash(key)
		var slot [bookSlot]byte
		copy(slot[:], h[:])
		binary.LittleEndian.PutUint64(slot[16:], uint64(b.size)+1)
		if _, err := b.outKeys.Write(slot[:]); err != nil {
			return fmt.Errorf("keep a record that was read: %w", err)
		}
		b.n++
	}
	b.size += int64(n + len(b.buf))
	return nil
}

// seal makes the records that are there ready to be found.
func (b *recordBook) seal() (err error) {
	if err := errors.Join(b.out.Flush(), b.outKeys.Flush()); err != nil {
		return fmt.Errorf("keep records that were read: %w", err)
	}
	b.out, b.outKeys, b.buf = nil, nil, nil
	b.slots = 1 << bits.Len64(uint64(2*b.n+slotsAtOnce)) // half of them free at least
	if b.index, err = newSpool(b.dir, "coho-index-*"); err != nil {
		return err
	}
	if err := b.index.Truncate(int64(b.slots) * bookSlot); err != nil {
		return fmt.Errorf("index records that were read: %w", err)
	}
	if _, err := b.keys.Seek(0, 0); err != nil {
		return fmt.Errorf("index records that were read: %w", err)
	}
	in := bufio.NewReaderSize(b.keys, 64<<10)
	for range b.n {
		var slot [bookSlot]byte
		for read := 0; read < bookSlot; {
			n, err := in.Read(slot[read:])
			if err != nil {
				return fmt.Errorf("index records that were read: %w", err)
			}
			read += n
		}
		at, taken, err := b.slot([16]byte(slot[:16]))
		if err != nil {
			return err
		}
		if taken != 0 {
			binary.LittleEndian.PutUint64(slot[16:], manyHave)
		}
		if _, err := b.index.WriteAt(slot[:], int64(at)*bookSlot); err != nil {
			return fmt.Errorf("index records that were read: %w", err)
		}
	}
	err = dropSpool(b.keys)
	b.keys = nil
	return err
}

// slot finds the slot of a key, or the free one that it would have.
func (b *recordBook) slot(h [16]byte) (at, record uint64, err error) {
	var room [slotsAtOnce * bookSlot]byte
	at = binary.LittleEndian.Uint64(h[:]) & (b.slots - 1)
	for {
		n := min(slotsAtOnce, b.slots-at)
		buf := room[:n*bookSlot]
		if _, err := b.index.ReadAt(buf, int64(at)*bookSlot); err != nil {
			return 0, 0, fmt.Errorf("find a record that was read: %w", err)
		}
		for ; len(buf) > 0; buf = buf[bookSlot:] {
			record = binary.LittleEndian.Uint64(buf[16:])
			if record == 0 || [16]byte(buf[:16]) == h {
				return at, record, nil
			}
			at++
		}
		at &= b.slots - 1
	}
}

// find reads the record of a key. n is how many have it: 0, 1, or 2 for more, of
// which none is read. values are valid as long as the caller likes.
func (b *recordBook) find(key string) (values []string, n int, err error) {
	_, at, err := b.slot(b.hash(key))
	switch {
	case err != nil || at == 0:
		return nil, 0, err
	case at == manyHave:
		return nil, 2, nil
	}
	fail := func(err error) ([]string, int, error) {
		return nil, 0, fmt.Errorf("read a record that was kept: %w", err)
	}
	buf := make([]byte, min(1024, b.size-int64(at-1)))
	if _, err := b.records.ReadAt(buf, int64(at-1)); err != nil {
		return fail(err)
	}
	size, head := binary.Uvarint(buf)
	if head <= 0 {
		return fail(errTorn)
	}
	if rest := int(size) + head - len(buf); rest > 0 {
		more := make([]byte, rest)
		if _, err := b.records.ReadAt(more, int64(at-1)+int64(len(buf))); err != nil {
			return fail(err)
		}
		buf = append(buf, more...)
	}
	text := string(buf[head : head+int(size)])
	for text != "" {
		var one [binary.MaxVarintLen64]byte
		length, head := binary.Uvarint(one[:copy(one[:], text)])
		if head <= 0 || uint64(len(text)-head) < length {
			return fail(errTorn)
		}
		values = append(values, text[head:head+int(length)])
		text = text[head+int(length):]
	}
	return values, 1, nil
}

var errTorn = errors.New("it is not as it was written")

// discard removes the files. It is safe twice, and on a nil book.
func (b *recordBook) discard() error {
	if b == nil {
		return nil
	}
	var errs []error
	for _, f := range []**os.File{&b.records, &b.keys, &b.index} {
		if *f != nil {
			errs = append(errs, dropSpool(*f))
			*f = nil
		}
	}
	return errors.Join(errs...)
}
