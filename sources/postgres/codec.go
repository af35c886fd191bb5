package postgres

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"coho/models"
)

// codec reads one type's cells.
type codec struct {
	kind   models.Kind
	binary bool // the format asked for on the wire
	decode func(cell []byte) (models.Value, error)

	// appendKey appends decode(cell).AppendText without making the value;
	// nil where making the value costs nothing.
	appendKey func(dst, cell []byte) ([]byte, error)

	isText bool // a cell that is valid UTF-8 is the text
}

// The codecs of the scalar types.
var (
	boolCodec        = codec{models.Bool, true, decodeBool, nil, false}
	int2Codec        = codec{models.Int, true, decodeInt2, nil, false}
	int4Codec        = codec{models.Int, true, decodeInt4, nil, false}
	int8Codec        = codec{models.Int, true, decodeInt8, nil, false}
	oidCodec         = codec{models.Int, true, decodeOID, nil, false}
	float4Codec      = codec{models.Float, true, decodeFloat4, nil, false}
	float8Codec      = codec{models.Float, true, decodeFloat8, nil, false}
	numericCodec     = codec{models.Decimal, true, decodeNumeric, appendNumericKey, false}
	textCodec        = codec{models.Text, true, decodeText, appendText, true}
	bpcharCodec      = codec{models.Text, true, decodeBpchar, appendBpchar, false}
	uuidCodec        = codec{models.Text, true, decodeUUID, appendUUID, false}
	dateCodec        = codec{models.Date, true, decodeDate, nil, false}
	timeCodec        = codec{models.Time, true, decodeTime, nil, false}
	timestampCodec   = codec{models.Timestamp, true, decodeTimestamp, nil, false}
	timestamptzCodec = codec{models.TimestampTZ, true, decodeTimestampTZ, nil, false}
	jsonCodec        = codec{models.JSON, true, decodeJSON, appendText, false}
	jsonbCodec       = codec{models.JSON, true, decodeJSONB, appendJSONB, false}
	byteaCodec       = codec{models.Bytes, true, decodeBytea, appendBytea, false}

	// otherCodec takes a value as the server writes it.
	otherCodec = codec{models.Text, false, decodeText, appendText, true}
)

// builtin are the types whose OIDs are the same in every database
// (PostgreSQL's src/include/catalog/pg_type.dat). A type that is not here is
// looked up in the catalog.
var builtin = builtinTypes()

func builtinTypes() map[uint32]pgType {
	types := map[uint32]pgType{}
	for _, t := range []struct {
		oid, array uint32
		name       string
		codec      codec
	}{
		{16, 1000, "boolean", boolCodec},
		{17, 1001, "bytea", byteaCodec},
		{19, 1003, "name", textCodec},
		{20, 1016, "bigint", int8Codec},
		{21, 1005, "smallint", int2Codec},
		{23, 1007, "integer", int4Codec},
		{25, 1009, "text", textCodec},
		{26, 1028, "oid", oidCodec},
		{114, 199, "json", jsonCodec},
		{700, 1021, "real", float4Codec},
		{701, 1022, "double precision", float8Codec},
		{1042, 1014, "character", bpcharCodec},
		{1043, 1015, "character varying", textCodec},
		{1082, 1182, "date", dateCodec},
		{1083, 1183, "time without time zone", timeCodec},
		{1114, 1115, "timestamp without time zone", timestampCodec},
		{1184, 1185, "timestamp with time zone", timestamptzCodec},
		{1700, 1231, "numeric", numericCodec},
		{2950, 2951, "uuid", uuidCodec},
		{3802, 3807, "jsonb", jsonbCodec},

		{18, 1002, `"char"`, otherCodec},
		{142, 143, "xml", otherCodec},
		{650, 651, "cidr", otherCodec},
		{774, 775, "macaddr8", otherCodec},
		{790, 791, "money", otherCodec},
		{829, 1040, "macaddr", otherCodec},
		{869, 1041, "inet", otherCodec},
		{1186, 1187, "interval", otherCodec},
		{1266, 1270, "time with time zone", otherCodec},
		{1560, 1561, "bit", otherCodec},
		{1562, 1563, "bit varying", otherCodec},
	} {
		types[t.oid] = pgType{t.name, t.codec}
		types[t.array] = pgType{t.name + "[]", arrayCodec(t.codec)}
	}
	return types
}

var errUTF8 = errors.New("the text is not valid UTF-8")

func size(cell []byte, want int) error {
	if len(cell) != want {
		return fmt.Errorf("the value has %d bytes instead of %d", len(cell), want)
	}
	return nil
}

func decodeBool(cell []byte) (models.Value, error) {
	if err := size(cell, 1); err != nil {
		return models.Value{}, err
	}
	return models.BoolValue(cell[0] != 0), nil
}

func decodeInt2(cell []byte) (models.Value, error) {
	if err := size(cell, 2); err != nil {
		return models.Value{}, err
	}
	return models.IntValue(int64(int16(binary.BigEndian.Uint16(cell)))), nil
}

func decodeInt4(cell []byte) (models.Value, error) {
	if err := size(cell, 4); err != nil {
		return models.Value{}, err
	}
	return models.IntValue(int64(int32(binary.BigEndian.Uint32(cell)))), nil
}

func decodeInt8(cell []byte) (models.Value, error) {
	if err := size(cell, 8); err != nil {
		return models.Value{}, err
	}
	return models.IntValue(int64(binary.BigEndian.Uint64(cell))), nil
}

func decodeOID(cell []byte) (models.Value, error) {
	if err := size(cell, 4); err != nil {
		return models.Value{}, err
	}
	return models.IntValue(int64(binary.BigEndian.Uint32(cell))), nil
}

func decodeFloat4(cell []byte) (models.Value, error) {
	if err := size(cell, 4); err != nil {
		return models.Value{}, err
	}
	f := math.Float32frombits(binary.BigEndian.Uint32(cell))
	exact := float64(f)
	if exact == math.Trunc(exact) && math.Abs(exact) < 1<<24 || exact != exact {
		return models.FloatValue(exact), nil
	}
	// Through the decimal form: what people see as 0.1 shall not become
	// 0.10000000149011612. No value is lost, each maps back to its real.
	nearest, err := strconv.ParseFloat(strconv.FormatFloat(exact, 'g', -1, 32), 64)
	if err != nil {
		return models.Value{}, fmt.Errorf("read real: %w", err)
	}
	return models.FloatValue(nearest), nil
}

func decodeFloat8(cell []byte) (models.Value, error) {
	if err := size(cell, 8); err != nil {
		return models.Value{}, err
	}
	return models.FloatValue(math.Float64frombits(binary.BigEndian.Uint64(cell))), nil
}

func decodeText(cell []byte) (models.Value, error) {
	if !utf8.Valid(cell) {
		return models.Value{}, errUTF8
	}
	return models.TextValue(string(cell)), nil
}

func appendText(dst, cell []byte) ([]byte, error) {
	if !utf8.Valid(cell) {
		return dst, errUTF8
	}
	return append(dst, cell...), nil
}

func trimBlanks(cell []byte) []byte {
	for len(cell) > 0 && cell[len(cell)-1] == ' ' {
		cell = cell[:len(cell)-1]
	}
	return cell
}

func decodeBpchar(cell []byte) (models.Value, error) { return decodeText(trimBlanks(cell)) }

func appendBpchar(dst, cell []byte) ([]byte, error) { return appendText(dst, trimBlanks(cell)) }

func decodeUUID(cell []byte) (models.Value, error) {
	var buf [36]byte
	b, err := appendUUID(buf[:0], cell)
	if err != nil {
		return models.Value{}, err
	}
	return models.TextValue(string(b)), nil
}

func appendUUID(dst, cell []byte) ([]byte, error) {
	if err := size(cell, 16); err != nil {
		return dst, err
	}
	dst = hex.AppendEncode(dst, cell[:4])
	for _, group := range [][2]int{{4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, cell[group[0]:group[1]])
	}
	return dst, nil
}

func decodeJSON(cell []byte) (models.Value, error) {
	if !utf8.Valid(cell) {
		return models.Value{}, errUTF8
	}
	return models.JSONValue(string(cell)), nil
}

// jsonbText strips the version that precedes a jsonb document.
func jsonbText(cell []byte) ([]byte, error) {
	if len(cell) == 0 || cell[0] != 1 {
		return nil, errors.New("unknown version of jsonb's binary format")
	}
	return cell[1:], nil
}

func decodeJSONB(cell []byte) (models.Value, error) {
	text, err := jsonbText(cell)
	if err != nil {
		return models.Value{}, err
	}
	return decodeJSON(text)
}

func appendJSONB(dst, cell []byte) ([]byte, error) {
	text, err := jsonbText(cell)
	if err != nil {
		return dst, err
	}
	return appendText(dst, text)
}

func decodeBytea(cell []byte) (models.Value, error) { return models.BytesValue(cell), nil }

func appendBytea(dst, cell []byte) ([]byte, error) {
	return base64.StdEncoding.AppendEncode(dst, cell), nil
}

// PostgreSQL counts from 2000-01-01.
const (
	epochDays   = 10957
	epochMicros = epochDays * 86400 * 1e6
)

var (
	errInfinite = errors.New("the value is infinite")
	errRange    = errors.New("the time is too far from 1970 for 64-bit microseconds")
)

func decodeDate(cell []byte) (models.Value, error) {
	if err := size(cell, 4); err != nil {
		return models.Value{}, err
	}
	days := int32(binary.BigEndian.Uint32(cell))
	if days == math.MaxInt32 || days == math.MinInt32 {
		return models.Value{}, errInfinite
	}
	return models.DateValue(int64(days) + epochDays), nil
}

func decodeTime(cell []byte) (models.Value, error) {
	if err := size(cell, 8); err != nil {
		return models.Value{}, err
	}
	micros := int64(binary.BigEndian.Uint64(cell))
	if micros < 0 || micros > 86400e6 {
		return models.Value{}, fmt.Errorf("%d microseconds are no time of day", micros)
	}
	return models.TimeValue(micros), nil
}

func micros(cell []byte) (int64, error) {
	if err := size(cell, 8); err != nil {
		return 0, err
	}
	n := int64(binary.BigEndian.Uint64(cell))
	switch {
	case n == math.MaxInt64 || n == math.MinInt64:
		return 0, errInfinite
	case n > math.MaxInt64-epochMicros:
		return 0, errRange
	}
	return n + epochMicros, nil
}

func decodeTimestamp(cell []byte) (models.Value, error) {
	n, err := micros(cell)
	if err != nil {
		return models.Value{}, err
	}
	return models.TimestampValue(n), nil
}

func decodeTimestampTZ(cell []byte) (models.Value, error) {
	n, err := micros(cell)
	if err != nil {
		return models.Value{}, err
	}
	return models.TimestampTZValue(n), nil
}

// Numeric's binary form (PostgreSQL's numeric_send): the count of base 10000
// digits, the first one's weight, sign, digits after the point, the digits.
const (
	numericPositive = 0x0000
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInf      = 0xD000
	numericNegInf   = 0xF000
	numericMaxScale = 0x3FFF
)

var errNumeric = errors.New("malformed numeric")

// special returns the value of a numeric that is not a number of digits.
func special(cell []byte) (float64, bool) {
	if len(cell) < 8 {
		return 0, false
	}
	switch binary.BigEndian.Uint16(cell[4:]) {
	case numericNaN:
		return math.NaN(), true
	case numericInf:
		return math.Inf(1), true
	case numericNegInf:
		return math.Inf(-1), true
	}
	return 0, false
}

func decodeNumeric(cell []byte) (models.Value, error) {
	if f, ok := special(cell); ok {
		return models.FloatValue(f), nil
	}
	var buf [64]byte
	digits, err := appendNumeric(buf[:0], cell)
	if err != nil {
		return models.Value{}, err
	}
	return models.DecimalValue(string(digits)), nil
}

// appendNumericKey appends the digits without the fraction's trailing zeros.
func appendNumericKey(dst, cell []byte) ([]byte, error) {
	if f, ok := special(cell); ok {
		return models.FloatValue(f).AppendText(dst), nil
	}
	start := len(dst)
	out, err := appendNumeric(dst, cell)
	if err != nil {
		return dst, err
	}
	if binary.BigEndian.Uint16(cell[6:]) > 0 { // there is a fraction
		for len(out) > start && out[len(out)-1] == '0' {
			out = out[:len(out)-1]
		}
		if out[len(out)-1] == '.' {
			out = out[:len(out)-1]
		}
	}
	return out, nil
}

// appendNumeric appends all digits that the server would print.
func appendNumeric(dst, cell []byte) ([]byte, error) {
	if len(cell) < 8 {
		return dst, errNumeric
	}
	count := int(binary.BigEndian.Uint16(cell))
	weight := int(int16(binary.BigEndian.Uint16(cell[2:])))
	sign := binary.BigEndian.Uint16(cell[4:])
	scale := int(binary.BigEndian.Uint16(cell[6:]))
	digits := cell[8:]
	if len(digits) != 2*count || scale > numericMaxScale || sign != numericPositive && sign != numericNegative {
		return dst, errNumeric
	}
	for i := 0; i < len(digits); i += 2 {
		if binary.BigEndian.Uint16(digits[i:]) >= 10000 {
			return dst, errNumeric
		}
	}
	// digit returns the base 10000 digit of weight w.
	digit := func(w int) int {
		if i := weight - w; i >= 0 && i < count {
			return int(binary.BigEndian.Uint16(digits[2*i:]))
		}
		return 0
	}
	start := len(dst)
	out := dst
	if sign == numericNegative {
		out = append(out, '-')
	}
	zero := true
	head := len(out)
	for w := weight; w >= 0; w-- {
		d := digit(w)
		if len(out) == head && d == 0 && w > 0 {
			continue // leading zeros
		}
		zero = zero && d == 0
		if len(out) == head {
			out = strconv.AppendInt(out, int64(d), 10)
		} else {
			out = append(out, byte('0'+d/1000), byte('0'+d/100%10), byte('0'+d/10%10), byte('0'+d%10))
		}
	}
	if len(out) == head {
		out = append(out, '0')
	}
	if scale > 0 {
		out = append(out, '.')
		for w, left := -1, scale; left > 0; w, left = w-1, left-4 {
			d := digit(w)
			group := [4]byte{byte('0' + d/1000), byte('0' + d/100%10), byte('0' + d/10%10), byte('0' + d%10)}
			for _, c := range group[:min(4, left)] {
				zero = zero && c == '0'
				out = append(out, c)
			}
		}
	}
	if zero && sign == numericNegative {
		out = append(out[:start], strings.TrimPrefix(string(out[start:]), "-")...)
	}
	return out, nil
}
