package columnar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"

	"coho/models"
)

// Batch writes the rows of Arrow record batches as frames. It is used by one
// goroutine.
type Batch struct {
	columns []column
	rows    int
	least   int // bytes of a frame with nothing null and nothing in what varies in length
	window  window
}

// column is one array of the current record batch.
type column struct {
	typ      *Type
	name     string
	array    arrow.Array
	read     func(c *column, dst []byte, row int) ([]byte, error)
	children []column

	// What the readers take from the array, bound once a batch.
	scale    int    // digits after the point that the batch itself tells, else the type's
	bytes    []byte // a bitmap or values of fixed size
	offsets  []int32
	wide     []int64 // offsets of the large types
	firstBit int
	valid    []byte // a bitmap; nil where nothing is null
	way      way

	scratch []byte // cells of a window, of a column that goes by cell
	bounds  []int  // where each ends
}

// NewBatch returns a writer of frames with these columns.
func NewBatch(fields []Field) *Batch {
	b := &Batch{columns: make([]column, len(fields))}
	for i, f := range fields {
		b.columns[i] = column{typ: f.Type, name: f.Name}
	}
	return b
}

// Reset takes the rows of a record batch, which the caller keeps alive until
// the next Reset. A batch whose arrays are not what the columns' types allow is
// an error.
func (b *Batch) Reset(record arrow.RecordBatch) error {
	if int(record.NumCols()) != len(b.columns) {
		return fmt.Errorf("a record batch has %d columns instead of %d", record.NumCols(), len(b.columns))
	}
	for i := range b.columns {
		b.columns[i].scale = scaleOf(record.Schema().Field(i), b.columns[i].typ.Scale)
		if err := b.columns[i].bind(record.Column(i)); err != nil {
			return fmt.Errorf("column %q (%s): %w", b.columns[i].name, b.columns[i].typ.Name, err)
		}
	}
	b.rows = int(record.NumRows())
	b.least = 4 * len(b.columns)
	for i := range b.columns {
		c := &b.columns[i]
		if c.settle(); c.way != byCell {
			b.least += sizes[c.typ.Form]
		}
	}
	w := &b.window
	w.first, w.next, w.ends, w.rows, w.err = 0, 0, w.ends[:0], windowRows, nil
	return nil
}

// scaleOf returns the digits after the point that a field's metadata tells, as
// Snowflake's does.
func scaleOf(f arrow.Field, fallback int) int {
	if text, ok := f.Metadata.GetValue("scale"); ok {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 38 {
			return n
		}
	}
	return fallback
}

// appendCell appends a cell and its length.
func (c *column) appendCell(dst []byte, row int) ([]byte, error) {
	if c.array.IsNull(row) {
		return AppendNull(dst), nil
	}
	start := len(dst)
	dst, err := c.read(c, BeginCell(dst), row)
	if err != nil {
		return dst, err
	}
	return EndCell(dst, start)
}

func (c *column) child(i int, typ *Type, name string, a arrow.Array) error {
	for len(c.children) <= i {
		c.children = append(c.children, column{})
	}
	c.children[i].typ, c.children[i].name, c.children[i].scale = typ, name, typ.Scale
	return c.children[i].bind(a)
}

// bind points the column at an array.
func (c *column) bind(a arrow.Array) error {
	c.array, c.valid, c.way = a, nil, byCell
	data := a.Data()
	if bits := a.NullBitmapBytes(); len(bits) > 0 && bitutil.CountSetBits(bits, data.Offset(), data.Len()) < data.Len() {
		c.valid = bits
	}
	c.firstBit = data.Offset()
	switch buffers := data.Buffers(); {
	case len(buffers) > 1 && buffers[1] != nil:
		c.bytes = buffers[1].Bytes()
	default:
		c.bytes = nil
	}
	switch c.typ.Form {
	case Blob:
		if c.typ.Kind == models.JSON && len(c.typ.Fields) > 0 {
			return c.bindObject()
		}
		return c.bindBlob()
	case Items:
		return c.bindList()
	case Boolean:
		if _, ok := a.(*array.Boolean); ok {
			c.read, c.way = readBool, byRead
			return nil
		}
	case Double:
		switch a.(type) {
		case *array.Float64:
			c.read, c.way = readDouble, byCopying
			return nil
		case *array.Float32:
			c.read, c.way = readFloat, byRead
			return nil
		}
	case Number, BigNumber:
		if c.bindNumber() {
			return nil
		}
	case Day:
		if _, ok := a.(*array.Date32); ok {
			c.read, c.way = readDay, byCopying
			return nil
		}
	case Clock:
		if c.bindClock() {
			return nil
		}
	case Instant:
		if c.bindInstant() {
			return nil
		}
	}
	return c.unexpected()
}

func (c *column) unexpected() error {
	return fmt.Errorf("the warehouse sent it as Arrow's %s, which is not a form of %s", c.array.DataType(), c.typ.Kind)
}

// fixed returns a value of n bytes.
func (c *column) fixed(row, n int) []byte {
	at := (c.firstBit + row) * n
	return c.bytes[at : at+n]
}

func (c *column) bindBlob() error {
	switch a := c.array.(type) {
	case *array.String:
		c.offsets = a.ValueOffsets()
		c.bytes = a.ValueBytes()
		c.read, c.way = readBlob, byOffsets
	case *array.Binary:
		c.offsets = a.ValueOffsets()
		c.bytes = a.ValueBytes()
		c.read, c.way = readBlob, byOffsets
	case *array.LargeString:
		c.wide = a.ValueOffsets()
		c.bytes = a.ValueBytes()
		c.read, c.way = readLargeBlob, byWideOffsets
	case *array.LargeBinary:
		c.wide = a.ValueOffsets()
		c.bytes = a.ValueBytes()
		c.read, c.way = readLargeBlob, byWideOffsets
	case *array.Struct:
		if c.typ.Kind == models.Decimal && c.bindDecfloat(a) {
			return nil
		}
		return c.unexpected()
	case *array.FixedSizeBinary:
		c.read = func(_ *column, dst []byte, row int) ([]byte, error) {
			return append(dst, a.Value(row)...), nil
		}
	default:
		return c.unexpected()
	}
	return nil
}

// The bytes of a text array begin at its first value.
func readBlob(c *column, dst []byte, row int) ([]byte, error) {
	base := c.offsets[0]
	return append(dst, c.bytes[c.offsets[row]-base:c.offsets[row+1]-base]...), nil
}

func readLargeBlob(c *column, dst []byte, row int) ([]byte, error) {
	base := c.wide[0]
	return append(dst, c.bytes[c.wide[row]-base:c.wide[row+1]-base]...), nil
}

func readBool(c *column, dst []byte, row int) ([]byte, error) {
	bit := c.firstBit + row
	return append(dst, c.bytes[bit/8]>>(bit%8)&1), nil
}

func readDouble(c *column, dst []byte, row int) ([]byte, error) {
	return append(dst, c.fixed(row, 8)...), nil
}

func readFloat(c *column, dst []byte, row int) ([]byte, error) {
	return AppendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(c.fixed(row, 4))))), nil
}

func readDay(c *column, dst []byte, row int) ([]byte, error) {
	return append(dst, c.fixed(row, 4)...), nil
}

// extending are the ways of arrays that integer reads.
var extending = map[arrow.Type]way{
	arrow.INT8: byExtending8, arrow.INT16: byExtending16, arrow.INT32: byExtending32,
	arrow.INT64: byExtending64,
}

// integer returns the reader of an array of whole numbers, nil for another
// array.
func integer(a arrow.Array) func(c *column, row int) int64 {
	switch a.DataType().ID() {
	case arrow.INT8:
		return func(c *column, row int) int64 { return int64(int8(c.fixed(row, 1)[0])) }
	case arrow.INT16:
		return func(c *column, row int) int64 { return int64(int16(binary.LittleEndian.Uint16(c.fixed(row, 2)))) }
	case arrow.INT32, arrow.TIME32:
		return func(c *column, row int) int64 { return int64(int32(binary.LittleEndian.Uint32(c.fixed(row, 4)))) }
	case arrow.INT64, arrow.TIME64, arrow.TIMESTAMP:
		return func(c *column, row int) int64 { return int64(binary.LittleEndian.Uint64(c.fixed(row, 8))) }
	}
	return nil
}

// bindNumber accepts any width, and decimals of fewer digits after the point
// than the type's.
func (c *column) bindNumber() bool {
	if c.scale != c.typ.Scale {
		return false
	}
	if get := integer(c.array); get != nil {
		c.way = extending[c.array.DataType().ID()]
		c.read = func(c *column, dst []byte, row int) ([]byte, error) {
			return c.typ.AppendInt(dst, get(c, row)), nil
		}
		return true
	}
	t, ok := c.array.DataType().(arrow.DecimalType)
	if !ok || int(t.GetScale()) > c.typ.Scale || t.GetScale() < 0 {
		return false
	}
	size, want := t.BitWidth()/8, sizes[c.typ.Form]
	if int(t.GetScale()) < c.typ.Scale {
		sent := &Type{Form: Number, Scale: int(t.GetScale())}
		switch size {
		case 32:
			sent.Form = BigNumber
		case 16:
		default:
			return false
		}
		c.read = func(c *column, dst []byte, row int) ([]byte, error) {
			return c.typ.AppendDecimal(dst, string(sent.appendDigits(nil, c.fixed(row, size))))
		}
		return true
	}
	switch {
	case size == want:
		c.way = byCopying
	case size < want:
		c.way = byRead
	}
	c.read = func(c *column, dst []byte, row int) ([]byte, error) {
		cell := c.fixed(row, size)
		var sign byte
		if cell[size-1]&0x80 != 0 {
			sign = 0xff
		}
		if size <= want {
			dst = append(dst, cell...)
			for range want - size {
				dst = append(dst, sign)
			}
			return dst, nil
		}
		for _, b := range cell[want:] {
			if b != sign || (cell[want-1]^sign)&0x80 != 0 {
				return dst, errors.New("the number has more digits than its type allows")
			}
		}
		return append(dst, cell[:want]...), nil
	}
	return true
}

// perSecond returns 10^scale.
func perSecond(scale int) int64 {
	n := int64(1)
	for range scale {
		n *= 10
	}
	return n
}

// unitOf returns how many of an array's units make a second: of an Arrow time
// by its own unit, of plain integers by the type's scale.
func (c *column) unitOf() int64 {
	switch t := c.array.DataType().(type) {
	case *arrow.TimestampType:
		return perSecond(int(t.Unit) * 3)
	case *arrow.Time32Type:
		return perSecond(int(t.Unit) * 3)
	case *arrow.Time64Type:
		return perSecond(int(t.Unit) * 3)
	}
	return perSecond(c.scale)
}

// bindClock accepts texts as well; see AppendClockText.
func (c *column) bindClock() bool {
	if a, ok := c.array.(*array.String); ok {
		c.read = func(_ *column, dst []byte, row int) ([]byte, error) { return AppendClockText(dst, a.Value(row)) }
		return true
	}
	get := integer(c.array)
	if get == nil {
		return false
	}
	c.way = byRead
	nanos := 1_000_000_000 / c.unitOf()
	c.read = func(c *column, dst []byte, row int) ([]byte, error) {
		return AppendClock(dst, get(c, row)*nanos), nil
	}
	return true
}

// bindInstant accepts Arrow's timestamps, integers counting 10^-Scale seconds,
// and seconds with nanoseconds as two members of a struct named epoch and
// fraction (Snowflake's own form; a member timezone says how people would write
// the same moment and is left out).
func (c *column) bindInstant() bool {
	if get := integer(c.array); get != nil {
		c.way = byRead
		unit := c.unitOf()
		c.read = func(_ *column, dst []byte, row int) ([]byte, error) {
			return AppendInstant(dst, get(c, row), unit), nil
		}
		return true
	}
	a, ok := c.array.(*array.Struct)
	if !ok {
		return false
	}
	t := a.DataType().(*arrow.StructType)
	epoch, ok := t.FieldIdx("epoch")
	if !ok {
		return false
	}
	seconds, ok := a.Field(epoch).(*array.Int64)
	if !ok {
		return false
	}
	fraction, ok := t.FieldIdx("fraction")
	if !ok {
		c.way = byRead
		unit := perSecond(c.scale)
		c.read = func(_ *column, dst []byte, row int) ([]byte, error) {
			return AppendInstant(dst, seconds.Value(row), unit), nil
		}
		return true
	}
	nanos, ok := a.Field(fraction).(*array.Int32)
	if !ok {
		return false
	}
	c.read = func(_ *column, dst []byte, row int) ([]byte, error) {
		n := nanos.Value(row)
		if n < 0 || n > 999_999_999 {
			return dst, fmt.Errorf("a moment has %d nanoseconds", n)
		}
		return AppendSecondsNanos(dst, seconds.Value(row), uint32(n)), nil
	}
	return true
}

func (c *column) bindList() error {
	a, ok := c.array.(array.ListLike)
	if !ok {
		return c.unexpected()
	}
	if err := c.child(0, c.typ.Elem, c.name, a.ListValues()); err != nil {
		return err
	}
	c.read = func(c *column, dst []byte, row int) ([]byte, error) {
		from, to := a.ValueOffsets(row)
		var err error
		for i := from; i < to; i++ {
			if dst, err = c.children[0].appendCell(dst, int(i)); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
	return nil
}

func (c *column) bindObject() error {
	a, ok := c.array.(*array.Struct)
	if !ok {
		return c.bindBlob() // printed by the warehouse already
	}
	if a.NumField() != len(c.typ.Fields) {
		return fmt.Errorf("the warehouse sent %d members instead of %d", a.NumField(), len(c.typ.Fields))
	}
	for i, f := range c.typ.Fields {
		if err := c.child(i, f.Type, f.Name, a.Field(i)); err != nil {
			return err
		}
	}
	c.read = (*column).appendObject
	return nil
}

// bindDecfloat accepts Snowflake's decimal floating point: an exponent of ten
// and a significand, big-endian two's complement without leading bytes.
func (c *column) bindDecfloat(a *array.Struct) bool {
	t := a.DataType().(*arrow.StructType)
	at, ok := t.FieldIdx("exponent")
	if !ok {
		return false
	}
	exponents, ok := a.Field(at).(*array.Int16)
	if !ok {
		return false
	}
	if at, ok = t.FieldIdx("significand"); !ok {
		return false
	}
	significands, ok := a.Field(at).(*array.Binary)
	if !ok {
		return false
	}
	c.read = func(_ *column, dst []byte, row int) ([]byte, error) {
		bytes := significands.Value(row)
		n := new(big.Int).SetBytes(bytes)
		if len(bytes) > 0 && bytes[0]&0x80 != 0 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(bytes))))
		}
		digits, err := shift(n, int(exponents.Value(row)))
		return append(dst, digits...), err
	}
	return true
}
