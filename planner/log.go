package planner

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// A log is a file of blocks: a header of 20 bytes (CRC-32C of all that follows
// in the block, payload length, number of records, number of the first record)
// and the records. Blocks are numbered through an index that the plan's marker
// holds, so a reader goes straight to any record's block.

const (
	blockSize   = 64 << 10
	blockHeader = 20
	maxBlock    = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockAt is where a block is and which records it holds.
type blockAt struct {
	offset int64
	size   int64 // header included
	first  int64
	count  int64
}

// logWriter appends records to a log.
type logWriter struct {
	f      *os.File
	path   string
	buf    []byte
	first  int64 // of the block being filled
	next   int64 // number of the next record
	offset int64
	index  []blockAt
}

func createLog(path string) (*logWriter, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, diskError(path, err)
	}
	return &logWriter{f: f, path: path, buf: make([]byte, blockHeader, blockHeader+blockSize+4096)}, nil
}

// append adds the records of framed, count of them, each with its length before
// it.
func (w *logWriter) append(framed []byte, count int) error {
	for range count {
		n, k := binary.Uvarint(framed)
		if k <= 0 || n > uint64(len(framed)-k) {
			return errMalformed
		}
		size := k + int(n)
		w.buf = append(w.buf, framed[:size]...)
		framed = framed[size:]
		w.next++
		if len(w.buf) >= blockHeader+blockSize {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *logWriter) flush() error {
	if w.next == w.first {
		return nil
	}
	b := w.buf
	if len(b) > maxBlock {
		return fmt.Errorf("write %s: a record of %d bytes is too large", w.path, len(b))
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-blockHeader))
	binary.LittleEndian.PutUint32(b[8:], uint32(w.next-w.first))
	binary.LittleEndian.PutUint64(b[12:], uint64(w.first))
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	if _, err := w.f.Write(b); err != nil {
		return diskError(w.path, err)
	}
	w.index = append(w.index, blockAt{offset: w.offset, size: int64(len(b)), first: w.first, count: w.next - w.first})
	w.offset += int64(len(b))
	w.first = w.next
	w.buf = w.buf[:blockHeader]
	return nil
}

// finish writes what is left and makes the file durable. The writer may be
// appended to and finished again.
func (w *logWriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return diskError(w.path, err)
	}
	return nil
}

func (w *logWriter) close() error { return w.f.Close() }

// diskError words an error of writing the plan; a full disk says what to do.
func diskError(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("write %s: the disk is full; free some space and run again, nothing was sent: %w", path, err)
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// appendFramed appends a record of which body appends the bytes.
func appendFramed(dst []byte, scratch *[]byte, body func([]byte) []byte) []byte {
	*scratch = body((*scratch)[:0])
	dst = binary.AppendUvarint(dst, uint64(len(*scratch)))
	return append(dst, *scratch...)
}

// errDamaged says that a log's bytes are not those that were written.
var errDamaged = errors.New("the plan's log is damaged")

// readBlock reads a block and checks it. The returned string is its payload;
// it shares memory with nothing that is written again.
func readBlock(r io.ReaderAt, path string, at blockAt) (string, error) {
	if at.size < blockHeader || at.size > maxBlock {
		return "", fmt.Errorf("read %s: %w", path, errDamaged)
	}
	b := make([]byte, at.size)
	if _, err := r.ReadAt(b, at.offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = errDamaged
		}
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b) ||
		int64(binary.LittleEndian.Uint32(b[4:])) != at.size-blockHeader ||
		int64(binary.LittleEndian.Uint32(b[8:])) != at.count ||
		int64(binary.LittleEndian.Uint64(b[12:])) != at.first {
		return "", fmt.Errorf("read %s at %d: %w", path, at.offset, errDamaged)
	}
	payload := b[blockHeader:]
	return unsafe.String(unsafe.SliceData(payload), len(payload)), nil
}

// nextRecord cuts the first record's body off a payload.
func nextRecord(payload string) (body, rest string, err error) {
	n, k := uvarint(payload)
	if k == 0 || n > uint64(len(payload)-k) {
		return "", "", errDamaged
	}
	return payload[k : k+int(n)], payload[k+int(n):], nil
}

// logReader walks the records of a log.
type logReader struct {
	r       io.ReaderAt
	path    string
	index   []blockAt
	block   int // index of the next block to read
	payload string
	left    int64 // records left in payload
	seq     int64 // number of the current record
	body    string
	err     error
}

func (r *logReader) next() bool {
	for r.err == nil && r.left == 0 {
		if r.block >= len(r.index) {
			return false
		}
		r.load(r.block)
	}
	if r.err != nil {
		return false
	}
	r.body, r.payload, r.err = nextRecord(r.payload)
	r.left--
	r.seq++
	return r.err == nil
}

// load makes block i the current one.
func (r *logReader) load(i int) {
	at := r.index[i]
	r.payload, r.err = readBlock(r.r, r.path, at)
	r.left, r.seq, r.block = at.count, at.first-1, i+1
	if r.err != nil {
		r.left = 0
	}
}
