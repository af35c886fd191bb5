package columnar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
)

// Frames are written for a window of rows at once, one column after the other:
// first how long each row's frame is, then the cells. So what a column is gets
// looked at once a window instead of once a cell. A window's frames and the
// values that they come from should fit a core's own cache.
const (
	windowRows  = 512
	windowBytes = 256 << 10 // a single row may be longer
)

// way is how a column's cells are written.
type way uint8

const (
	// byCell: into scratch, cell by cell, for values whose length is not known
	// or that may be refused.
	byCell       way = iota
	byRead           // by read, which appends as many bytes as the form has and never fails
	byCopying        // of values that are as wide as a cell
	byExtending8     // whole numbers of so many bits
	byExtending16
	byExtending32
	byExtending64
	byOffsets
	byWideOffsets
)

// window is what of the record batch is written as frames.
type window struct {
	first  int // row
	next   int // of the frames that follow, the one to hand out
	ends   []int
	frames []byte
	rows   int   // to try next
	err    error // of the row behind the last
}

// Next returns the next row's frame, which is valid until the next call of
// Next or Reset; io.EOF after the last row.
func (b *Batch) Next() ([]byte, error) {
	w := &b.window
	if w.next == len(w.ends) {
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
	start := 0
	if w.next > 0 {
		start = w.ends[w.next-1]
	}
	frame := w.frames[start:w.ends[w.next]]
	w.next++
	return frame, nil
}

// fill writes the frames of the next rows, at least one.
func (b *Batch) fill() error {
	w := &b.window
	if w.err != nil {
		return w.err
	}
	w.first += len(w.ends)
	w.ends, w.next = w.ends[:0], 0
	n := min(w.rows, b.rows-w.first)
	if n == 0 {
		return io.EOF
	}
	at := w.lengths(n, b.least)
	for i := range b.columns {
		c := &b.columns[i]
		good, err := c.measure(at, w.first)
		if err != nil {
			w.err = fmt.Errorf("column %q (%s): %w", c.name, c.typ.Name, err)
			at = at[:good]
		}
	}
	// Lengths become the places where the frames begin.
	total := 0
	for i, length := range at {
		if i > 0 && total+length > windowBytes {
			at = at[:i]
			w.err = nil // of a row that is not reached
			break
		}
		at[i] = total
		total += length
	}
	if len(at) == 0 {
		return w.err
	}
	if w.rows = windowRows; len(at) < n {
		w.rows = min(windowRows, 2*len(at)) // the next are likely as long
	}
	if cap(w.frames) < total {
		w.frames = make([]byte, max(total, windowBytes))
	}
	w.frames = w.frames[:total]
	for i := range b.columns {
		b.columns[i].write(w.frames, at, w.first)
	}
	w.ends = at // each place has moved to its frame's end
	return nil
}

// lengths returns n times the length that every frame has at least.
func (w *window) lengths(n, least int) []int {
	if cap(w.ends) < n {
		w.ends = make([]int, 0, windowRows)
	}
	at := w.ends[:n]
	for i := range at {
		at[i] = least
	}
	return at
}

// null reports whether a row is null by the bitmap, whose first bit may belong
// to a row before the array's first.
func (c *column) null(row int) bool {
	if c.valid == nil {
		return false
	}
	bit := uint(c.firstBit + row)
	return c.valid[bit/8]>>(bit%8)&1 == 0
}

// settle lets a column go by cell whose buffers are shorter than its rows: where
// all of them are null, they may be.
func (c *column) settle() {
	n, have := c.array.Len(), math.MaxInt
	switch end := c.firstBit + n; c.way {
	case byCopying:
		n, have = end*sizes[c.typ.Form], len(c.bytes)
	case byExtending8, byExtending16, byExtending32, byExtending64:
		n, have = end*c.array.DataType().(arrow.FixedWidthDataType).Bytes(), len(c.bytes)
	case byOffsets:
		n, have = n+1, len(c.offsets)
	case byWideOffsets:
		n, have = n+1, len(c.wide)
	}
	if have < n {
		c.way = byCell
	}
}

var (
	errOffsets = errors.New("the offsets of its values run backwards")
	errSize    = errors.New("a value of 2 GiB or more cannot be read")
)

// measure adds the lengths of the cells from row first on, beyond what all rows
// have at least. With an error it returns how many rows come before the one at
// fault.
func (c *column) measure(lengths []int, first int) (int, error) {
	switch c.way {
	case byCell:
		return c.measureCells(lengths, first)
	case byOffsets:
		return measure(c, lengths, first, c.offsets)
	case byWideOffsets:
		return measure(c, lengths, first, c.wide)
	}
	if c.valid != nil {
		size := sizes[c.typ.Form]
		for i := range lengths {
			if c.null(first + i) {
				lengths[i] -= size
			}
		}
	}
	return len(lengths), nil
}

func measure[T int32 | int64](c *column, lengths []int, first int, offsets []T) (int, error) {
	offsets = offsets[first : first+len(lengths)+1]
	last := offsets[0]
	for i, end := range offsets[1:] {
		n := int(end) - int(last)
		last = end
		switch {
		case n < 0:
			return i, errOffsets
		case n > math.MaxInt32:
			return i, errSize
		case c.valid == nil || !c.null(first+i):
			lengths[i] += n
		}
	}
	return len(lengths), nil
}

// measureCells writes the cells, which write then puts where they belong.
func (c *column) measureCells(lengths []int, first int) (int, error) {
	c.scratch, c.bounds = c.scratch[:0], c.bounds[:0]
	for i := range lengths {
		start := len(c.scratch)
		var err error
		if c.scratch, err = c.appendCell(c.scratch, first+i); err != nil {
			return i, err
		}
		c.bounds = append(c.bounds, len(c.scratch))
		lengths[i] += len(c.scratch) - start - 4
	}
	return len(lengths), nil
}

// write puts the cells from row first on at their places, and moves those
// behind them.
func (c *column) write(frames []byte, at []int, first int) {
	switch c.way {
	case byCell:
		start := 0
		for i, p := range at {
			at[i] += copy(frames[p:], c.scratch[start:c.bounds[i]])
			start = c.bounds[i]
		}
	case byRead:
		size := sizes[c.typ.Form]
		for i, p := range at {
			cell := frames[p : p+4]
			if c.null(first + i) {
				copy(cell, null)
				at[i] = p + 4
				continue
			}
			binary.BigEndian.PutUint32(cell, uint32(size))
			_, _ = c.read(c, frames[p+4:p+4:p+4+size], first+i) // never fails, or the column goes by cell
			at[i] = p + 4 + size
		}
	case byCopying:
		copyCells(c, frames, at, first)
	case byExtending8:
		extendCells(c, frames, at, first, arrow.GetData[int8](c.bytes))
	case byExtending16:
		extendCells(c, frames, at, first, arrow.GetData[int16](c.bytes))
	case byExtending32:
		extendCells(c, frames, at, first, arrow.GetData[int32](c.bytes))
	case byExtending64:
		extendCells(c, frames, at, first, arrow.GetData[int64](c.bytes))
	case byOffsets:
		copyTexts(c, frames, at, first, c.offsets)
	case byWideOffsets:
		copyTexts(c, frames, at, first, c.wide)
	}
}

// copyCells writes values whose bytes are in the batch as they are in a cell.
func copyCells(c *column, frames []byte, at []int, first int) {
	size := sizes[c.typ.Form]
	values := c.bytes[(c.firstBit+first)*size:][:len(at)*size]
	for i, p := range at {
		if c.null(first + i) {
			at[i] = p + copy(frames[p:p+4], null)
			continue
		}
		cell := frames[p : p+4+size]
		binary.BigEndian.PutUint32(cell, uint32(size))
		value := values[i*size : (i+1)*size]
		if size == 4 {
			binary.LittleEndian.PutUint32(cell[4:], binary.LittleEndian.Uint32(value))
		}
		for rest := cell[4:]; len(rest) >= 8 && len(value) >= 8; rest, value = rest[8:], value[8:] {
			binary.LittleEndian.PutUint64(rest, binary.LittleEndian.Uint64(value))
		}
		at[i] = p + 4 + size
	}
}

// extendCells writes whole numbers of whatever width in that of the form.
func extendCells[T int8 | int16 | int32 | int64](c *column, frames []byte, at []int, first int, values []T) {
	size := sizes[c.typ.Form]
	values = values[c.firstBit+first:][:len(at)]
	for i, p := range at {
		if c.null(first + i) {
			at[i] = p + copy(frames[p:p+4], null)
			continue
		}
		cell := frames[p : p+4+size]
		binary.BigEndian.PutUint32(cell, uint32(size))
		n := int64(values[i])
		binary.LittleEndian.PutUint64(cell[4:], uint64(n))
		for rest := cell[12:]; len(rest) >= 8; rest = rest[8:] {
			binary.LittleEndian.PutUint64(rest, uint64(n>>63))
		}
		at[i] = p + 4 + size
	}
}

// copyTexts writes values of any length. The first offset need not be zero; the
// bytes begin with the value at it.
func copyTexts[T int32 | int64](c *column, frames []byte, at []int, first int, offsets []T) {
	base := offsets[0]
	offsets = offsets[first : first+len(at)+1]
	last := int(offsets[0] - base)
	for i, p := range at {
		end := int(offsets[i+1] - base)
		if c.null(first + i) {
			at[i] = p + copy(frames[p:p+4], null)
		} else {
			binary.BigEndian.PutUint32(frames[p:p+4], uint32(end-last))
			at[i] = p + 4 + copy(frames[p+4:], c.bytes[last:end])
		}
		last = end
	}
}
