package bigquery

import (
	"fmt"
	"math/big"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"

	"coho/models"
	"coho/sources/columnar"
)

// appendValue appends a cell of a result by REST, as the client decodes it.
func appendValue(dst []byte, t *columnar.Type, v bigquery.Value) ([]byte, error) {
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

func appendCell(dst []byte, t *columnar.Type, v bigquery.Value) ([]byte, error) {
	switch v := v.(type) {
	case string:
		if t.Form == columnar.Blob && t.Kind != models.Bytes && len(t.Fields) == 0 {
			return append(dst, v...), nil
		}
	case []byte:
		if t.Kind == models.Bytes {
			return append(dst, v...), nil
		}
	case bool:
		if t.Form == columnar.Boolean {
			return columnar.AppendBool(dst, v), nil
		}
	case int64:
		if t.Kind == models.Int {
			return t.AppendInt(dst, v), nil
		}
	case float64:
		if t.Form == columnar.Double {
			return columnar.AppendFloat(dst, v), nil
		}
	case *big.Rat:
		if t.Kind == models.Decimal {
			return t.AppendDecimal(dst, v.FloatString(t.Scale))
		}
	case civil.Date:
		if t.Form == columnar.Day {
			return columnar.AppendDay(dst, int32(v.DaysSince(epoch))), nil
		}
	case civil.Time:
		if t.Form == columnar.Clock {
			seconds := int64(v.Hour)*3600 + int64(v.Minute)*60 + int64(v.Second)
			return columnar.AppendClock(dst, seconds*1_000_000_000+int64(v.Nanosecond)), nil
		}
	case civil.DateTime:
		if t.Kind == models.Timestamp {
			return appendMoment(dst, v.In(time.UTC)), nil
		}
	case time.Time:
		if t.Kind == models.TimestampTZ {
			return appendMoment(dst, v), nil
		}
	case []bigquery.Value:
		switch {
		case t.Kind == models.List:
			return appendList(dst, t, v)
		case len(t.Fields) == len(v):
			return appendObject(dst, t, v)
		}
	}
	return dst, fmt.Errorf("the client gave a value that is not of the type: %T", v)
}

var epoch = civil.Date{Year: 1970, Month: time.January, Day: 1}

func appendMoment(dst []byte, t time.Time) []byte {
	return columnar.AppendSecondsNanos(dst, t.Unix(), uint32(t.Nanosecond()))
}

func appendList(dst []byte, t *columnar.Type, values []bigquery.Value) ([]byte, error) {
	var err error
	for _, v := range values {
		if dst, err = appendValue(dst, t.Elem, v); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendObject(dst []byte, t *columnar.Type, values []bigquery.Value) ([]byte, error) {
	dst = append(dst, '{')
	for i, f := range t.Fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(columnar.AppendQuoted(dst, f.Name), ':')
		if values[i] == nil {
			dst = append(dst, "null"...)
			continue
		}
		cell, err := appendCell(nil, f.Type, values[i])
		if err != nil {
			return dst, err
		}
		if dst, err = f.Type.AppendJSON(dst, cell); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
