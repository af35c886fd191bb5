package columnar

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"coho/models"
)

// appendObject appends a nested object as JSON, its members in their order.
func (c *column) appendObject(dst []byte, row int) ([]byte, error) {
	dst = append(dst, '{')
	var err error
	for i := range c.children {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendQuoted(dst, c.children[i].name)
		dst = append(dst, ':')
		member := &c.children[i]
		if member.array.IsNull(row) {
			dst = append(dst, "null"...)
			continue
		}
		var cell []byte
		if cell, err = member.read(member, nil, row); err != nil {
			return dst, err
		}
		if dst, err = member.typ.AppendJSON(dst, cell); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// AppendJSON appends a cell that is not null as JSON, for members of nested
// objects.
func (t *Type) AppendJSON(dst, cell []byte) ([]byte, error) {
	v, err := t.decode(cell)
	if err != nil {
		return dst, err
	}
	return appendValue(dst, v), nil
}

func appendValue(dst []byte, v models.Value) []byte {
	switch v.Kind() {
	case models.Null:
		return append(dst, "null"...)
	case models.Bool, models.Int, models.Decimal:
		return v.AppendText(dst)
	case models.Float:
		text := v.Text()
		if last := text[len(text)-1]; last >= '0' && last <= '9' { // neither NaN nor infinite
			return append(dst, text...)
		}
		return appendQuoted(dst, text)
	case models.JSON:
		if json.Valid([]byte(v.Str())) {
			return append(dst, v.Str()...)
		}
	case models.List:
		dst = append(dst, '[')
		for i, e := range v.List() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, e)
		}
		return append(dst, ']')
	}
	return appendQuoted(dst, v.Text())
}

// appendQuoted appends a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = append(dst, `\u00`...)
			if r < 0x10 {
				dst = append(dst, '0')
			}
			dst = strconv.AppendInt(dst, int64(r), 16)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
