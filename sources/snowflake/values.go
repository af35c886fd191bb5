package snowflake

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"coho/models"
	"coho/sources/columnar"
)

// appendValue appends a cell of a result in JSON, as the driver hands it out:
// it reads numbers and times from the texts that Snowflake prints.
func appendValue(dst []byte, t *columnar.Type, v any) ([]byte, error) {
	if v == nil {
		return columnar.AppendNull(dst), nil
	}
	start := len(dst)
	dst, err := appendCell(columnar.BeginCell(dst), t, v)
	if err != nil {
		return dst, err
	}
	return columnar.EndCell(dst, start)
}

func appendCell(dst []byte, t *columnar.Type, v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return appendText(dst, t, v)
	case []byte:
		if t.Kind == models.Bytes {
			return append(dst, v...), nil
		}
		return appendText(dst, t, string(v))
	case bool:
		if t.Form == columnar.Boolean {
			return columnar.AppendBool(dst, v), nil
		}
	case int64:
		if t.Form == columnar.Number {
			return t.AppendDecimal(dst, strconv.FormatInt(v, 10))
		}
	case big.Int:
		if t.Form == columnar.Number {
			return t.AppendDecimal(dst, v.String())
		}
	case big.Float:
		if t.Form == columnar.Number {
			return t.AppendDecimal(dst, v.Text('f', t.Scale))
		}
	case float64:
		if t.Form == columnar.Double {
			return columnar.AppendFloat(dst, v), nil
		}
	case time.Time:
		return appendTime(dst, t, v)
	}
	return dst, fmt.Errorf("the driver gave a value that is not of the type: %T", v)
}

func appendText(dst []byte, t *columnar.Type, s string) ([]byte, error) {
	switch t.Form {
	case columnar.Number:
		return t.AppendDecimal(dst, s)
	case columnar.Double:
		f, err := strconv.ParseFloat(s, 64) // NaN, inf and -inf as well
		if err != nil {
			return dst, fmt.Errorf("%.40q is not a number", s)
		}
		return columnar.AppendFloat(dst, f), nil
	case columnar.Boolean:
		switch strings.ToLower(s) {
		case "1", "true":
			return columnar.AppendBool(dst, true), nil
		case "0", "false":
			return columnar.AppendBool(dst, false), nil
		}
		return dst, fmt.Errorf("%.40q is neither true nor false", s)
	case columnar.Blob:
		switch t.Kind {
		case models.Bytes:
			b, err := hex.DecodeString(s)
			if err != nil {
				return dst, fmt.Errorf("a binary is not in hexadecimal: %w", err)
			}
			return append(dst, b...), nil
		case models.Decimal:
			digits, err := columnar.PlainDecimal(s)
			return append(dst, digits...), err
		}
		return append(dst, s...), nil
	}
	return dst, fmt.Errorf("the driver gave a text, which is not of the type: %.40q", s)
}

func appendTime(dst []byte, t *columnar.Type, v time.Time) ([]byte, error) {
	switch t.Form {
	case columnar.Day:
		seconds := v.Unix()
		days := seconds / 86400
		if seconds%86400 < 0 {
			days--
		}
		return columnar.AppendDay(dst, int32(days)), nil
	case columnar.Clock:
		midnight := time.Date(v.Year(), v.Month(), v.Day(), 0, 0, 0, 0, v.Location())
		return columnar.AppendClock(dst, int64(v.Sub(midnight))), nil
	case columnar.Instant:
		return columnar.AppendSecondsNanos(dst, v.Unix(), uint32(v.Nanosecond())), nil
	}
	return dst, fmt.Errorf("the driver gave a time, which is not of the type: %s", v)
}
