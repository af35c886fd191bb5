package columnar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
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
		dst = AppendQuoted(dst, c.children[i].name)
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
		return AppendQuoted(dst, text)
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
	return AppendQuoted(dst, v.Text())
}

// AppendQuoted appends a JSON string.
func AppendQuoted(dst []byte, s string) []byte {
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

// decodeArray reads a list that the warehouse printed as a JSON array. Nested
// arrays and objects stay JSON.
func decodeArray(cell []byte) (models.Value, error) {
	if !utf8.Valid(cell) {
		return models.Value{}, errUTF8
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(cell, &elements); err != nil {
		if json.Unmarshal(defined(cell), &elements) != nil {
			return models.Value{}, fmt.Errorf("the array is not valid JSON: %w", err)
		}
	}
	values := make([]models.Value, len(elements))
	for i, e := range elements {
		v, err := decodeElement(e)
		if err != nil {
			return models.Value{}, err
		}
		values[i] = v
	}
	return models.ListValue(values), nil
}

// defined replaces what Snowflake prints for an SQL NULL within an array (its
// ARRAY_CONSTRUCT's documentation shows it) by JSON's null.
func defined(cell []byte) []byte {
	out := make([]byte, 0, len(cell))
	for i, quoted := 0, false; i < len(cell); i++ {
		switch c := cell[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted && i+1 < len(cell):
			out = append(out, c)
			i++
		case !quoted && bytes.HasPrefix(cell[i:], undefined):
			out = append(out, "null"...)
			i += len(undefined) - 1
			continue
		}
		out = append(out, cell[i])
	}
	return out
}

var undefined = []byte("undefined")

func decodeElement(e json.RawMessage) (models.Value, error) {
	e = bytes.TrimSpace(e)
	switch e[0] { // valid JSON is not empty
	case 'n':
		return models.Value{}, nil
	case 't', 'f':
		return models.BoolValue(e[0] == 't'), nil
	case '"':
		var s string
		if err := json.Unmarshal(e, &s); err != nil {
			return models.Value{}, err
		}
		return models.TextValue(s), nil
	case '[', '{':
		return models.JSONValue(string(e)), nil
	}
	if n, err := strconv.ParseInt(string(e), 10, 64); err == nil {
		return models.IntValue(n), nil
	}
	digits, err := PlainDecimal(string(e))
	if err != nil {
		return models.Value{}, err
	}
	return models.DecimalValue(digits), nil
}

// maxExponent bounds what a number with an exponent is written out to.
const maxExponent = 20_000

// PlainDecimal writes a decimal number, an exponent allowed, without one,
// keeping every digit.
func PlainDecimal(text string) (string, error) {
	mantissa, exponent, found := strings.Cut(strings.ToLower(text), "e")
	e := 0
	if found {
		var err error
		if e, err = strconv.Atoi(exponent); err != nil || e > maxExponent || e < -maxExponent {
			return "", fmt.Errorf("%.40q is not a number of fewer than %d digits", text, maxExponent)
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return "", fmt.Errorf("%.40q is not a number", text)
	}
	digits, err := shift(n, e-len(fraction))
	if err == nil && n.Sign() == 0 {
		digits = strings.TrimPrefix(digits, "-")
	}
	return digits, err
}

// shift writes n times ten to the power of e.
func shift(n *big.Int, e int) (string, error) {
	if e > maxExponent || e < -maxExponent {
		return "", errors.New("the number has too many digits")
	}
	if e >= 0 {
		if n.Sign() == 0 {
			return "0", nil
		}
		return n.String() + strings.Repeat("0", e), nil
	}
	sign, digits := "", n.String()
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	if missing := -e + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return sign + digits[:len(digits)+e] + "." + digits[len(digits)+e:], nil
}
