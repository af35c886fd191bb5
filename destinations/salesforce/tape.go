package salesforce

import (
	"errors"
	"fmt"
	"os"
)

// tapeBytes is how much of a tape is in memory, and how much of it is read at
// once.
const tapeBytes = 128 << 10

// tape is records of one length that are appended and then read from the
// beginning, any number of times: in memory while they are few, in a temporary
// file from then on. It is used by one goroutine.
type tape struct {
	dir  string
	each int    // bytes a record
	open []byte // what is not in the file
	file *os.File
	size int64 // of the file's part that counts
	err  error // of the first write that failed; all later ones do nothing
}

// room appends a record for the caller to fill in before the next call.
func (t *tape) room() []byte {
	if len(t.open)+t.each > tapeBytes {
		t.spill()
	}
	n := len(t.open)
	t.open = append(t.open, make([]byte, t.each)...)
	return t.open[n:]
}

func (t *tape) spill() {
	if t.err == nil && t.file == nil {
		t.file, t.err = newSpool(t.dir, "coho-tape-*")
	}
	if t.err == nil {
		if _, err := t.file.WriteAt(t.open, t.size); err != nil {
			t.err = fmt.Errorf("write a temporary file: %w", err)
		}
		t.size += int64(len(t.open))
	}
	t.open = t.open[:0]
}

// len is how many records there are.
func (t *tape) len() int64 { return (t.size + int64(len(t.open))) / int64(t.each) }

// cut drops the records from number n on.
func (t *tape) cut(n int64) {
	at := n * int64(t.each)
	if at >= t.size {
		t.open = t.open[:at-t.size]
		return
	}
	t.size, t.open = at, t.open[:0]
}

// scan gives all records, in their order, until yield returns an error. A
// record is valid until yield returns.
func (t *tape) scan(yield func(record []byte) error) error {
	if t.err != nil {
		return t.err
	}
	give := func(b []byte) error {
		for ; len(b) >= t.each; b = b[t.each:] {
			if err := yield(b[:t.each]); err != nil {
				return err
			}
		}
		return nil
	}
	if t.size > 0 {
		buf := make([]byte, tapeBytes/t.each*t.each)
		for at := int64(0); at < t.size; at += int64(len(buf)) {
			part := buf[:min(int64(len(buf)), t.size-at)]
			if _, err := t.file.ReadAt(part, at); err != nil {
				return fmt.Errorf("read a temporary file: %w", err)
			}
			if err := give(part); err != nil {
				return err
			}
		}
	}
	return give(t.open)
}

// discard removes the file. It is safe twice.
func (t *tape) discard() error {
	if t == nil || t.file == nil {
		return nil
	}
	err := dropSpool(t.file)
	t.file, t.open, t.size = nil, nil, 0
	t.err = errors.Join(t.err, os.ErrClosed)
	return err
}
