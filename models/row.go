package models

import (
	"encoding/binary"
	"errors"
)

// Column describes one column of a model query's result.
type Column struct {
	Name string
	Type string // the warehouse's own name of the type, for messages
	Kind Kind   // the kind its non-null values decode to
}

// Schema describes a query's result and decodes its cells. It stays usable
// after the rows are closed, and is safe for use by several goroutines.
//
// A row travels as a frame: for each column in order a big-endian int32
// length followed by that many bytes, or length -1 for NULL (the layout of a
// PostgreSQL DataRow's body, so that source need not touch its bytes). What
// the bytes of a cell mean is the source's own affair.
type Schema interface {
	Columns() []Column

	// Version names all that decides a row's bytes besides the row itself:
	// the source's kind, column types, the encoding and the server settings
	// that change output. When it differs from the snapshot's, fingerprints
	// prove nothing and every row is compared field by field.
	Version() string

	// Decode decodes a non-null cell. An error (an infinite timestamp,
	// invalid UTF-8) is that row's fault, not the run's, and names the column.
	Decode(col int, cell []byte) (Value, error)

	// AppendKey appends what Decode(col, cell).AppendText would, without
	// allocating for the usual key types.
	AppendKey(dst []byte, col int, cell []byte) ([]byte, error)
}

// TextSchema is an optional ability of a Schema: to say whose values need no
// decoding.
type TextSchema interface {
	// IsText says whether a column's values are texts and its cells, where they are
	// valid UTF-8, these texts.
	IsText(col int) bool
}

// ErrFrame is returned for a frame whose lengths do not add up: a defect of
// the source or a torn spill file.
var ErrFrame = errors.New("malformed row frame")

// SplitFrame sets cells[i] to the i-th cell of frame, nil for NULL and
// non-nil for an empty value, without copying. len(cells) is the number of
// columns.
func SplitFrame(frame []byte, cells [][]byte) error {
	rest, err := SplitFirst(frame, cells)
	if err == nil && len(rest) != 0 {
		err = ErrFrame
	}
	return err
}

// SplitFirst does so with the first cells of a frame, and returns what is behind
// them.
func SplitFirst(frame []byte, cells [][]byte) (rest []byte, err error) {
	for i := range cells {
		if len(frame) < 4 {
			return nil, ErrFrame
		}
		n := int32(binary.BigEndian.Uint32(frame))
		frame = frame[4:]
		if n < 0 {
			cells[i] = nil
			continue
		}
		if int(n) > len(frame) {
			return nil, ErrFrame
		}
		cells[i] = frame[:n:n]
		frame = frame[n:]
	}
	return frame, nil
}

// AppendCell appends one cell to a frame; a nil cell is NULL.
func AppendCell(frame, cell []byte) []byte {
	if cell == nil {
		return binary.BigEndian.AppendUint32(frame, 0xffffffff)
	}
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(cell)))
	return append(frame, cell...)
}

// Cell is a value on its way to a destination's field, in the destination's
// canonical text (see the destination's converter), or null: clear the field.
// A cell that is absent leaves the field alone; the three never blur.
type Cell struct {
	Null bool
	Text string
}

// NullCell clears a field.
var NullCell = Cell{Null: true}
