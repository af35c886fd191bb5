package snowflake

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"coho/models"
	"coho/sources/columnar"
)

// appendValue appends a cell of a result in JSON, as the driver hands it out:
// it makes times of the texts that Snowflake prints, and leaves the others.
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
	case columnar.Clock:
		return columnar.AppendClockText(dst, s)
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
	case columnar.Instant:
		return appendMoment(dst, v)
	}
	return dst, fmt.Errorf("the driver gave a time, which is not of the type: %s", v)
}

var errHalf = errors.New("the driver does not tell moments in the last second of 1969 from those in the first of 1970: cast it to VARCHAR in the query")

// appendMoment undoes how the driver reads the text of a moment before 1970:
// of -1.25 it makes -1 and 0.25 seconds, counting forward what counts back.
func appendMoment(dst []byte, v time.Time) ([]byte, error) {
	seconds, nanos := v.Unix(), v.Nanosecond()
	switch {
	case nanos == 0:
	case seconds < 0:
		seconds, nanos = seconds-1, 1_000_000_000-nanos
	case seconds == 0: // -0.25 and 0.25 look the same
		return dst, errHalf
	}
	return columnar.AppendSecondsNanos(dst, seconds, uint32(nanos)), nil
}
