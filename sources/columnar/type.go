package columnar

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"unicode/utf8"

	"coho/models"
)

// Form is how a type's cells are written. Numbers are little-endian.
type Form uint8

// The forms of a cell.
const (
	Blob      Form = iota // the bytes of a text, a JSON document (a List's too), a binary or a decimal's digits
	Boolean               // 1 byte, 0 or 1
	Number                // 16 bytes, two's complement, counting units of 10^-Scale
	BigNumber             // 32 bytes, likewise
	Double                // 8 bytes, IEEE 754
	Day                   // 4 bytes, days from 1970-01-01
	Clock                 // 8 bytes, nanoseconds from midnight
	Instant               // 12 bytes: seconds from 1970-01-01 00:00, then nanoseconds 0 to 999,999,999
	Items                 // for each element its length (4 bytes, big-endian, -1: null) and its cell
)

var sizes = [...]int{Boolean: 1, Number: 16, BigNumber: 32, Double: 8, Day: 4, Clock: 8, Instant: 12, Items: 0}

// Type is a column's type.
type Type struct {
	Name   string // the warehouse's own, for people
	Kind   models.Kind
	Form   Form
	Scale  int     // of Number and BigNumber: digits after the point
	Elem   *Type   // of Items
	Fields []Field // of a nested object, whose Kind is JSON
}

// Field is a column, or a member of a nested object.
type Field struct {
	Name string
	Type *Type
}

var (
	errUTF8  = errors.New("the text is not valid UTF-8")
	errCell  = errors.New("malformed value")
	errRange = errors.New("the time is too far from 1970 for 64-bit microseconds")
)

// decode reads a cell.
func (t *Type) decode(cell []byte) (models.Value, error) {
	if want := sizes[t.Form]; want != 0 && len(cell) != want {
		return models.Value{}, errCell
	}
	switch t.Kind {
	case models.Bool:
		return models.BoolValue(cell[0] != 0), nil
	case models.Int:
		return models.IntValue(int64(binary.LittleEndian.Uint64(cell))), nil
	case models.Decimal:
		if t.Form == Blob {
			return models.DecimalValue(string(cell)), nil
		}
		var buf [96]byte
		return models.DecimalValue(string(t.appendDigits(buf[:0], cell))), nil
	case models.Float:
		return models.FloatValue(math.Float64frombits(binary.LittleEndian.Uint64(cell))), nil
	case models.Bytes:
		return models.BytesValue(cell), nil
	case models.Date:
		return models.DateValue(int64(int32(binary.LittleEndian.Uint32(cell)))), nil
	case models.Time:
		return models.TimeValue(int64(binary.LittleEndian.Uint64(cell)) / 1000), nil
	case models.Timestamp, models.TimestampTZ:
		micros, err := instantMicros(cell)
		if err != nil {
			return models.Value{}, err
		}
		if t.Kind == models.TimestampTZ {
			return models.TimestampTZValue(micros), nil
		}
		return models.TimestampValue(micros), nil
	case models.List:
		if t.Form == Blob {
			return decodeArray(cell)
		}
		return t.decodeList(cell)
	}
	if !utf8.Valid(cell) {
		return models.Value{}, errUTF8
	}
	if t.Kind == models.JSON {
		return models.JSONValue(string(cell)), nil
	}
	return models.TextValue(string(cell)), nil
}

func instantMicros(cell []byte) (int64, error) {
	seconds := int64(binary.LittleEndian.Uint64(cell))
	if seconds > math.MaxInt64/1_000_000-1 || seconds < math.MinInt64/1_000_000 {
		return 0, errRange
	}
	// The nanoseconds always count forward, so this rounds towards the past.
	return seconds*1_000_000 + int64(binary.LittleEndian.Uint32(cell[8:]))/1000, nil
}

func (t *Type) decodeList(cell []byte) (models.Value, error) {
	var values []models.Value
	for len(cell) > 0 {
		if len(cell) < 4 {
			return models.Value{}, errCell
		}
		n := int(int32(binary.BigEndian.Uint32(cell)))
		cell = cell[4:]
		if n == -1 {
			values = append(values, models.Value{})
			continue
		}
		if n < 0 || n > len(cell) {
			return models.Value{}, errCell
		}
		v, err := t.Elem.decode(cell[:n:n])
		if err != nil {
			return models.Value{}, err
		}
		values = append(values, v)
		cell = cell[n:]
	}
	return models.ListValue(values), nil
}

// appendKey appends decode(cell).AppendText without making the value where
// that would allocate.
func (t *Type) appendKey(dst, cell []byte) ([]byte, error) {
	switch t.Kind {
	case models.Text, models.JSON:
		if !utf8.Valid(cell) {
			return dst, errUTF8
		}
		return append(dst, cell...), nil
	case models.Bytes:
		return base64.StdEncoding.AppendEncode(dst, cell), nil
	case models.Decimal:
		if t.Form == Blob {
			break
		}
		if len(cell) != sizes[t.Form] {
			return dst, errCell
		}
		dst = t.appendDigits(dst, cell)
		if t.Scale == 0 {
			return dst, nil
		}
		for dst[len(dst)-1] == '0' { // ends at the point at the latest
			dst = dst[:len(dst)-1]
		}
		if dst[len(dst)-1] == '.' {
			dst = dst[:len(dst)-1]
		}
		return dst, nil
	}
	v, err := t.decode(cell)
	if err != nil {
		return dst, err
	}
	return v.AppendText(dst), nil
}

// appendDigits appends a number with all digits of its scale.
func (t *Type) appendDigits(dst, cell []byte) []byte {
	start := len(dst)
	if t.Form == BigNumber {
		dst = appendBig(dst, cell)
	} else {
		dst = append128(dst, int64(binary.LittleEndian.Uint64(cell[8:])), binary.LittleEndian.Uint64(cell))
	}
	if t.Scale == 0 {
		return dst
	}
	first := start
	if dst[first] == '-' {
		first++
	}
	// At least one digit stands before the point.
	for missing := t.Scale + 1 - (len(dst) - first); missing > 0; missing-- {
		dst = append(dst, 0)
		copy(dst[first+1:], dst[first:])
		dst[first] = '0'
	}
	point := len(dst) - t.Scale
	dst = append(dst, 0)
	copy(dst[point+1:], dst[point:])
	dst[point] = '.'
	return dst
}

// tenTo19 is the largest power of ten in 64 bits.
const tenTo19 = 10_000_000_000_000_000_000

func append128(dst []byte, high int64, low uint64) []byte {
	h := uint64(high)
	if high < 0 {
		dst = append(dst, '-')
		var borrow uint64
		low, borrow = bits.Sub64(0, low, 0)
		h, _ = bits.Sub64(0, h, borrow)
	}
	if h == 0 {
		return strconv.AppendUint(dst, low, 10)
	}
	// Twice off come 19 digits; what is left is below 10^1.
	top, r := h/tenTo19, h%tenTo19
	mid, last := bits.Div64(r, low, tenTo19)
	if top == 0 && mid < tenTo19 {
		dst = strconv.AppendUint(dst, mid, 10)
		return append19(dst, last)
	}
	first, mid := bits.Div64(top, mid, tenTo19)
	dst = strconv.AppendUint(dst, first, 10)
	dst = append19(dst, mid)
	return append19(dst, last)
}

func append19(dst []byte, n uint64) []byte {
	var digits [19]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, digits[:]...)
}

func appendBig(dst, cell []byte) []byte {
	var reversed [32]byte
	for i, b := range cell {
		reversed[len(reversed)-1-i] = b
	}
	n := new(big.Int).SetBytes(reversed[:])
	if reversed[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), 256))
	}
	return n.Append(dst, 10)
}

// AppendInt appends the cell of a whole number of units.
func (t *Type) AppendInt(dst []byte, n int64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	for range sizes[t.Form]/8 - 1 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n>>63))
	}
	return dst
}

// AppendDecimal appends the cell of a decimal number as text, an exponent
// allowed. More digits after the point than the scale, or more than the form
// holds, are an error.
func (t *Type) AppendDecimal(dst []byte, text string) ([]byte, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && t.Scale == 0 {
		return t.AppendInt(dst, n), nil
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok || len(text) > 400 {
		return dst, fmt.Errorf("%.40q is not a number", text)
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale)), nil)))
	if !r.IsInt() {
		return dst, fmt.Errorf("%.40q has more than %d digits after the point", text, t.Scale)
	}
	n, size := r.Num(), sizes[t.Form]
	if n.BitLen() >= size*8 {
		return dst, fmt.Errorf("%.40q does not fit %d bytes", text, size)
	}
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(size*8)))
	}
	var buf [32]byte
	cell := n.FillBytes(buf[:size])
	for i := range cell {
		dst = append(dst, cell[len(cell)-1-i])
	}
	return dst, nil
}

// AppendBool appends the cell of a truth value.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendFloat appends the cell of a double.
func AppendFloat(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

// AppendDay appends the cell of a date, days from 1970-01-01.
func AppendDay(dst []byte, days int32) []byte {
	return binary.LittleEndian.AppendUint32(dst, uint32(days))
}

// AppendClock appends the cell of a time of day, nanoseconds from midnight.
func AppendClock(dst []byte, nanos int64) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(nanos))
}

// AppendClockText appends the cell of a time of day as text, "23:59:59" with
// up to nine digits after a point.
func AppendClockText(dst []byte, text string) ([]byte, error) {
	n, at := int64(0), 0
	for i, most := range [...]int64{23, 59, 59} {
		if i > 0 {
			if at >= len(text) || text[at] != ':' {
				return dst, fmt.Errorf("%.40q is not a time of day", text)
			}
			at++
		}
		part, ok := digits(text, at, at+2)
		if !ok || part > most {
			return dst, fmt.Errorf("%.40q is not a time of day", text)
		}
		n, at = n*60+part, at+2
	}
	n *= 1_000_000_000
	if at < len(text) {
		fraction, ok := digits(text, at+1, len(text))
		if !ok || text[at] != '.' || len(text)-at > 10 {
			return dst, fmt.Errorf("%.40q is not a time of day", text)
		}
		for range 10 - (len(text) - at) {
			fraction *= 10
		}
		n += fraction
	}
	return AppendClock(dst, n), nil
}

// digits reads a number from text[from:to].
func digits(text string, from, to int) (int64, bool) {
	if to > len(text) || from >= to {
		return 0, false
	}
	n := int64(0)
	for _, c := range []byte(text[from:to]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// AppendInstant appends the cell of a moment, given in units of a second
// divided by perSecond (1 to 10^9) from 1970-01-01 00:00.
func AppendInstant(dst []byte, n, perSecond int64) []byte {
	seconds, rest := n/perSecond, n%perSecond
	if rest < 0 {
		seconds, rest = seconds-1, rest+perSecond
	}
	return AppendSecondsNanos(dst, seconds, uint32(rest*(1_000_000_000/perSecond)))
}

// AppendSecondsNanos appends the cell of a moment: seconds from 1970-01-01
// 00:00, then nanoseconds, 0 to 999,999,999, forward from there.
func AppendSecondsNanos(dst []byte, seconds int64, nanos uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(dst, uint64(seconds)), nanos)
}

// null is a cell's length where it is NULL.
var null = []byte{0xff, 0xff, 0xff, 0xff}

// AppendNull appends a NULL, length and all, to a frame or a list.
func AppendNull(dst []byte) []byte { return append(dst, null...) }

// BeginCell appends room for the length of a cell that follows; EndCell, given
// the length of dst before BeginCell, fills it in.
func BeginCell(dst []byte) []byte { return append(dst, 0, 0, 0, 0) }

// EndCell ends what BeginCell began at start.
func EndCell(dst []byte, start int) ([]byte, error) {
	n := len(dst) - start - 4
	if n > math.MaxInt32 {
		return dst, errors.New("a value of 2 GiB or more cannot be read")
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(n))
	return dst, nil
}
