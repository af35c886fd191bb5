package duckdb

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"unicode/utf8"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
)

var (
	errInfinite = errors.New("the value is infinite")
	errRange    = errors.New("the time is too far from 1970 for 64-bit microseconds")
	errUTF8     = errors.New("the text is not valid UTF-8")
	errCell     = errors.New("malformed value")
)

// decode reads a cell that vector.append wrote.
func (t *dataType) decode(cell []byte) (models.Value, error) {
	if t.shape == shapeFixed && len(cell) != t.size {
		return models.Value{}, fmt.Errorf("the value has %d bytes instead of %d", len(cell), t.size)
	}
	switch t.kind {
	case models.Bool:
		return models.BoolValue(cell[0] != 0), nil
	case models.Int:
		return models.IntValue(t.integer(cell)), nil
	case models.Decimal:
		var buf [64]byte
		digits, err := t.appendDigits(buf[:0], cell)
		if err != nil {
			return models.Value{}, err
		}
		return models.DecimalValue(string(digits)), nil
	case models.Float:
		return t.float(cell)
	case models.Bytes:
		return models.BytesValue(cell), nil
	case models.Date:
		days := int32(binary.LittleEndian.Uint32(cell))
		if days == math.MaxInt32 || days == -math.MaxInt32 {
			return models.Value{}, errInfinite
		}
		return models.DateValue(int64(days)), nil
	case models.Time:
		n := int64(binary.LittleEndian.Uint64(cell))
		if t.id == bindings.TypeTimeNS {
			n /= 1000
		}
		return models.TimeValue(n), nil
	case models.Timestamp, models.TimestampTZ:
		n, err := t.micros(cell)
		if err != nil {
			return models.Value{}, err
		}
		if t.kind == models.TimestampTZ {
			return models.TimestampTZValue(n), nil
		}
		return models.TimestampValue(n), nil
	case models.List:
		return t.list(cell)
	}
	var buf [64]byte
	text, err := t.appendText(buf[:0], cell)
	if err != nil {
		return models.Value{}, err
	}
	if t.kind == models.JSON {
		return models.JSONValue(string(text)), nil
	}
	return models.TextValue(string(text)), nil
}

// appendKey appends decode(cell).AppendText without making the value where
// that would allocate.
func (t *dataType) appendKey(dst, cell []byte) ([]byte, error) {
	switch {
	case t.kind == models.Text || t.kind == models.JSON:
		if t.shape == shapeFixed && len(cell) != t.size {
			return dst, errCell
		}
		return t.appendText(dst, cell)
	case t.kind == models.Bytes:
		return base64.StdEncoding.AppendEncode(dst, cell), nil
	case t.kind == models.Decimal:
		if t.shape == shapeFixed && len(cell) != t.size {
			return dst, errCell
		}
		out, err := t.appendDigits(dst, cell)
		if err != nil || t.scale == 0 {
			return out, err
		}
		for out[len(out)-1] == '0' { // ends at the point at the latest
			out = out[:len(out)-1]
		}
		if out[len(out)-1] == '.' {
			out = out[:len(out)-1]
		}
		return out, nil
	}
	v, err := t.decode(cell)
	if err != nil {
		return dst, err
	}
	return v.AppendText(dst), nil
}

func (t *dataType) integer(cell []byte) int64 {
	switch t.id {
	case bindings.TypeTinyInt:
		return int64(int8(cell[0]))
	case bindings.TypeUTinyInt:
		return int64(cell[0])
	case bindings.TypeSmallInt:
		return int64(int16(binary.LittleEndian.Uint16(cell)))
	case bindings.TypeUSmallInt:
		return int64(binary.LittleEndian.Uint16(cell))
	case bindings.TypeInteger:
		return int64(int32(binary.LittleEndian.Uint32(cell)))
	case bindings.TypeUInteger:
		return int64(binary.LittleEndian.Uint32(cell))
	}
	return int64(binary.LittleEndian.Uint64(cell))
}

func (t *dataType) float(cell []byte) (models.Value, error) {
	if t.id == bindings.TypeDouble {
		return models.FloatValue(math.Float64frombits(binary.LittleEndian.Uint64(cell))), nil
	}
	exact := float64(math.Float32frombits(binary.LittleEndian.Uint32(cell)))
	if exact == math.Trunc(exact) && math.Abs(exact) < 1<<24 || exact != exact {
		return models.FloatValue(exact), nil
	}
	// Through the decimal form: what people see as 0.1 shall not become
	// 0.10000000149011612. No value is lost, each maps back to its FLOAT.
	nearest, err := strconv.ParseFloat(strconv.FormatFloat(exact, 'g', -1, 32), 64)
	if err != nil {
		return models.Value{}, fmt.Errorf("read FLOAT: %w", err)
	}
	return models.FloatValue(nearest), nil
}

// micros reads a timestamp of any resolution.
func (t *dataType) micros(cell []byte) (int64, error) {
	n := int64(binary.LittleEndian.Uint64(cell))
	if n == math.MaxInt64 || n == -math.MaxInt64 {
		return 0, errInfinite
	}
	unit := int64(1)
	switch t.id {
	case bindings.TypeTimestampNS:
		micros := n / 1000
		if n%1000 < 0 {
			micros-- // towards the past, as for times after 1970
		}
		return micros, nil
	case bindings.TypeTimestampMS:
		unit = 1e3
	case bindings.TypeTimestampS:
		unit = 1e6
	}
	if n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, errRange
	}
	return n * unit, nil
}

func (t *dataType) list(cell []byte) (models.Value, error) {
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
		v, err := t.children[0].decode(cell[:n:n])
		if err != nil {
			return models.Value{}, err
		}
		values = append(values, v)
		cell = cell[n:]
	}
	return models.ListValue(values), nil
}

// appendDigits appends a whole or decimal number with all its digits.
func (t *dataType) appendDigits(dst, cell []byte) ([]byte, error) {
	var hi, lo uint64
	neg := false
	switch {
	case t.id == bindings.TypeBigNum:
		return appendBigNum(dst, cell)
	case t.size == 16:
		lo, hi = binary.LittleEndian.Uint64(cell), binary.LittleEndian.Uint64(cell[8:])
		neg = t.id != bindings.TypeUHugeInt && int64(hi) < 0
		if neg {
			var borrow uint64
			lo, borrow = bits.Sub64(0, lo, 0)
			hi, _ = bits.Sub64(0, hi, borrow)
		}
	case t.id == bindings.TypeUBigInt:
		lo = binary.LittleEndian.Uint64(cell)
	default: // DECIMAL of up to 18 digits
		var n int64
		switch t.size {
		case 2:
			n = int64(int16(binary.LittleEndian.Uint16(cell)))
		case 4:
			n = int64(int32(binary.LittleEndian.Uint32(cell)))
		case 8:
			n = int64(binary.LittleEndian.Uint64(cell))
		default:
			return dst, errCell
		}
		neg = n < 0
		lo = uint64(n)
		if neg {
			lo = -lo
		}
	}
	var buf [40]byte
	digits := appendUint128(buf[:0], hi, lo)
	if neg {
		dst = append(dst, '-')
	}
	if t.scale == 0 {
		return append(dst, digits...), nil
	}
	whole := len(digits) - t.scale
	if whole <= 0 {
		dst = append(dst, '0', '.')
		for ; whole < 0; whole++ {
			dst = append(dst, '0')
		}
		return append(dst, digits...), nil
	}
	dst = append(dst, digits[:whole]...)
	dst = append(dst, '.')
	return append(dst, digits[whole:]...), nil
}

// appendUint128 appends hi<<64 + lo in decimal.
func appendUint128(dst []byte, hi, lo uint64) []byte {
	const chunk = 1e19 // the largest power of ten in 64 bits
	if hi == 0 {
		return strconv.AppendUint(dst, lo, 10)
	}
	quotient, rest := bits.Div64(hi%chunk, lo, chunk)
	dst = appendUint128(dst, hi/chunk, quotient)
	start := len(dst)
	dst = append(dst, "0000000000000000000"...)
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] = byte('0' + rest%10)
		rest /= 10
	}
	return dst
}

// appendBigNum reads DuckDB's BIGNUM: three bytes of header, whose first bit
// is set for positive numbers, and the magnitude, big endian; all of it
// complemented for negative numbers.
func appendBigNum(dst, cell []byte) ([]byte, error) {
	if len(cell) < 4 {
		return dst, errCell
	}
	magnitude := cell[3:]
	n := new(big.Int)
	if cell[0]&0x80 != 0 {
		n.SetBytes(magnitude)
	} else {
		inverted := make([]byte, len(magnitude))
		for i, b := range magnitude {
			inverted[i] = ^b
		}
		n.Neg(n.SetBytes(inverted))
	}
	return n.Append(dst, 10), nil
}

// appendText appends the text of a type that is Text or JSON.
func (t *dataType) appendText(dst, cell []byte) ([]byte, error) {
	switch t.id {
	case bindings.TypeUUID:
		return appendUUID(dst, cell), nil
	case bindings.TypeInterval:
		return appendInterval(dst, cell), nil
	case bindings.TypeTimeTZ:
		return appendTimeTZ(dst, cell), nil
	case bindings.TypeBit:
		return appendBit(dst, cell)
	}
	if !utf8.Valid(cell) {
		return dst, errUTF8
	}
	return append(dst, cell...), nil
}

// appendUUID reads a 128-bit number whose first bit is flipped, so that UUIDs
// sort as signed numbers.
func appendUUID(dst, cell []byte) []byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], binary.LittleEndian.Uint64(cell[8:])^1<<63)
	binary.BigEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(cell))
	dst = hex.AppendEncode(dst, b[:4])
	for _, group := range [][2]int{{4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, b[group[0]:group[1]])
	}
	return dst
}

// appendInterval prints months, days and microseconds as DuckDB does: 1 year
// 2 months 3 days 04:05:06.7.
func appendInterval(dst, cell []byte) []byte {
	months := int64(int32(binary.LittleEndian.Uint32(cell)))
	days := int64(int32(binary.LittleEndian.Uint32(cell[4:])))
	micros := int64(binary.LittleEndian.Uint64(cell[8:]))
	start := len(dst)
	for _, part := range []struct {
		n    int64
		unit string
	}{{months / 12, "year"}, {months % 12, "month"}, {days, "day"}} {
		if part.n == 0 {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = strconv.AppendInt(dst, part.n, 10)
		dst = append(dst, ' ')
		dst = append(dst, part.unit...)
		if part.n != 1 && part.n != -1 {
			dst = append(dst, 's')
		}
	}
	if micros == 0 && len(dst) > start {
		return dst
	}
	if len(dst) > start {
		dst = append(dst, ' ')
	}
	rest := uint64(micros)
	if micros < 0 {
		dst = append(dst, '-')
		rest = -rest
	}
	hours := rest / 3600e6
	if hours >= 100 { // beyond what a time of day prints
		dst = strconv.AppendUint(dst, hours/100, 10)
	}
	return models.AppendTimeOfDay(dst, int64(rest-hours/100*100*3600e6))
}

// appendTimeTZ reads microseconds in the upper 40 bits and, in the lower 24,
// by how many seconds the offset is below its maximum.
func appendTimeTZ(dst, cell []byte) []byte {
	const maxOffset = 16*3600 - 1
	n := binary.LittleEndian.Uint64(cell)
	dst = models.AppendTimeOfDay(dst, int64(n>>24))
	offset := maxOffset - int(n&(1<<24-1))
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = append(dst, sign, byte('0'+offset/36000), byte('0'+offset/3600%10))
	if offset%3600 != 0 {
		dst = append(dst, ':', byte('0'+offset/600%6), byte('0'+offset/60%10))
	}
	if offset%60 != 0 {
		dst = append(dst, ':', byte('0'+offset%60/10), byte('0'+offset%10))
	}
	return dst
}

// appendBit reads a bit string: the number of unused bits in the second
// byte, then the bits.
func appendBit(dst, cell []byte) ([]byte, error) {
	if len(cell) == 0 || cell[0] > 7 || cell[0] > 0 && len(cell) == 1 {
		return dst, errCell
	}
	for i := int(cell[0]); i < 8*(len(cell)-1); i++ {
		dst = append(dst, '0'+cell[1+i/8]>>(7-uint(i)%8)&1)
	}
	return dst, nil
}
