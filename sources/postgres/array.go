package postgres

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

	"coho/models"
)

// arrayCodec is the codec of an array whose elements elem reads. Elements
// without a binary decoder are taken from the array's text form.
func arrayCodec(elem codec) codec {
	c := codec{kind: models.List, binary: elem.binary}
	if elem.binary {
		c.decode = func(cell []byte) (models.Value, error) { return decodeArray(cell, elem) }
	} else {
		c.decode = func(cell []byte) (models.Value, error) { return decodeTextArray(cell, elem) }
	}
	return c
}

var errArray = errors.New("malformed array")

// maxDimensions is PostgreSQL's MAXDIM.
const maxDimensions = 6

// decodeArray reads an array's binary form (PostgreSQL's array_send): the
// number of dimensions, a flag, the element's type, each dimension's length
// and lower bound, then the elements as in a frame.
func decodeArray(cell []byte, elem codec) (models.Value, error) {
	if len(cell) < 12 {
		return models.Value{}, errArray
	}
	dims := int(binary.BigEndian.Uint32(cell))
	rest := cell[12:]
	if dims == 0 && len(rest) == 0 {
		return models.ListValue(nil), nil
	}
	if dims < 1 || dims > maxDimensions || len(rest) < 8*dims {
		return models.Value{}, errArray
	}
	lengths := make([]int, dims)
	plain := dims == 1
	total := 1
	for i := range lengths {
		n := int(int32(binary.BigEndian.Uint32(rest)))
		lower := int32(binary.BigEndian.Uint32(rest[4:]))
		rest = rest[8:]
		// An element takes four bytes at least.
		if n < 1 || n > len(cell)/4 || total > len(cell)/4/n {
			return models.Value{}, errArray
		}
		total *= n
		lengths[i] = n
		plain = plain && lower == 1
	}
	values := make([]models.Value, total)
	for i := range values {
		if len(rest) < 4 {
			return models.Value{}, errArray
		}
		n := int(int32(binary.BigEndian.Uint32(rest)))
		rest = rest[4:]
		if n == -1 {
			continue
		}
		if n < 0 || n > len(rest) {
			return models.Value{}, errArray
		}
		v, err := elem.decode(rest[:n:n])
		if err != nil {
			return models.Value{}, err
		}
		values[i] = v
		rest = rest[n:]
	}
	if len(rest) != 0 {
		return models.Value{}, errArray
	}
	if plain {
		return models.ListValue(values), nil
	}
	var b strings.Builder
	writeArray(&b, lengths, values)
	return models.TextValue(b.String()), nil
}

// writeArray writes nested braces as PostgreSQL does, elements in their
// canonical text. Lower bounds are left out.
func writeArray(b *strings.Builder, lengths []int, values []models.Value) {
	b.WriteByte('{')
	stride := len(values) / lengths[0]
	for i := range lengths[0] {
		if i > 0 {
			b.WriteByte(',')
		}
		part := values[i*stride : (i+1)*stride]
		switch {
		case len(lengths) > 1:
			writeArray(b, lengths[1:], part)
		case part[0].IsNull():
			b.WriteString("NULL")
		default:
			writeElement(b, part[0].Text())
		}
	}
	b.WriteByte('}')
}

func writeElement(b *strings.Builder, s string) {
	if s != "" && !strings.EqualFold(s, "null") && !strings.ContainsAny(s, "{},\"\\ \t\n\r\v\f") {
		b.WriteString(s)
		return
	}
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
}

// decodeTextArray reads an array's text form, {a,"b c",NULL}. Anything but
// one dimension that starts at 1 stays text.
func decodeTextArray(cell []byte, elem codec) (models.Value, error) {
	if !utf8.Valid(cell) {
		return models.Value{}, errUTF8
	}
	s := string(cell)
	if strings.HasPrefix(s, "[") || strings.HasPrefix(s, "{{") {
		return models.TextValue(s), nil
	}
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return models.Value{}, errArray
	}
	s = s[1 : len(s)-1]
	if s == "" {
		return models.ListValue(nil), nil
	}
	var values []models.Value
	for {
		var item []byte
		quoted := strings.HasPrefix(s, `"`)
		i := 0
		if quoted {
			i = 1
		}
		for ; i < len(s); i++ {
			if quoted && s[i] == '"' || !quoted && s[i] == ',' {
				break
			}
			if s[i] == '\\' {
				i++
				if i == len(s) {
					return models.Value{}, errArray
				}
			}
			item = append(item, s[i])
		}
		if quoted {
			if i == len(s) {
				return models.Value{}, errArray
			}
			i++
		}
		if !quoted && len(item) == 0 {
			return models.Value{}, errArray
		}
		if !quoted && string(item) == "NULL" {
			values = append(values, models.Value{})
		} else {
			v, err := elem.decode(item)
			if err != nil {
				return models.Value{}, err
			}
			values = append(values, v)
		}
		if i == len(s) {
			return models.ListValue(values), nil
		}
		if s[i] != ',' {
			return models.Value{}, errArray
		}
		s = s[i+1:]
	}
}
