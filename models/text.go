package models

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"
)

// AppendText appends the value's canonical text: the form in which primary
// keys are hashed and shown, and which a text field receives. It depends on
// the value alone, not on the column's type in the warehouse: an integer 7, a
// numeric 7.00 and a text "7" give the same text, so that a key survives a
// change of its column's type. Null appends nothing.
//
// Dates are 2006-01-02, times 15:04:05[.999999], timestamps RFC 3339 in UTC
// with a fraction only where there is one and Z only where there is a zone,
// bytes standard base64, lists their elements joined by ";".
func (v Value) AppendText(dst []byte) []byte {
	switch v.kind {
	case Bool:
		return strconv.AppendBool(dst, v.n != 0)
	case Int:
		return strconv.AppendInt(dst, v.n, 10)
	case Decimal:
		return append(dst, TrimDecimal(v.s)...)
	case Float:
		return appendFloat(dst, v.Float())
	case Text, JSON:
		return append(dst, v.s...)
	case Bytes:
		return base64.StdEncoding.AppendEncode(dst, []byte(v.s))
	case Date:
		return AppendDate(dst, v.n)
	case Time:
		return AppendTimeOfDay(dst, v.n)
	case Timestamp:
		return AppendTimestamp(dst, v.n, false)
	case TimestampTZ:
		return AppendTimestamp(dst, v.n, true)
	case List:
		for i, e := range v.list {
			if i > 0 {
				dst = append(dst, ';')
			}
			dst = e.AppendText(dst)
		}
	}
	return dst
}

// Text returns AppendText as a string.
func (v Value) Text() string {
	switch v.kind {
	case Text, JSON:
		return v.s
	case Bool:
		return strconv.FormatBool(v.n != 0)
	case Int:
		return strconv.FormatInt(v.n, 10)
	case Decimal:
		return TrimDecimal(v.s)
	}
	var buf [64]byte
	return string(v.AppendText(buf[:0]))
}

// TrimDecimal drops a plain decimal number's leading plus, leading zeros and
// trailing zeros of the fraction: "+007.50" is "7.5", "-0.0" is "0".
func TrimDecimal(s string) string {
	signed, neg := s, false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		s = s[1:]
	}
	if strings.IndexByte(s, '.') >= 0 {
		for s[len(s)-1] == '0' {
			s = s[:len(s)-1]
		}
		s = strings.TrimSuffix(s, ".")
	}
	whole := s
	for len(s) > 1 && s[0] == '0' && s[1] != '.' {
		s = s[1:]
	}
	switch {
	case s == "", s == "0":
		return "0"
	case s[0] == '.':
		s = "0" + s
	case neg && len(s) == len(whole): // all is there but what was dropped at the end
		return signed[:1+len(s)]
	}
	if neg {
		return "-" + s
	}
	return s
}

func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case f == 0:
		return append(dst, '0')
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// AppendDate appends days since 1970-01-01 as 2006-01-02. Years before 1 or
// after 9999 keep their digits and sign.
func AppendDate(dst []byte, days int64) []byte {
	if days < firstCivil || days > lastCivil {
		return time.Unix(days*86400, 0).UTC().AppendFormat(dst, "2006-01-02")
	}
	year, month, day := civil(uint32(days - firstCivil))
	dst = appendTwo(appendTwo(dst, int64(year/100)), int64(year%100))
	dst = appendTwo(append(dst, '-'), int64(month))
	return appendTwo(append(dst, '-'), int64(day))
}

// The days of 0000-03-01 and 9999-12-31.
const (
	firstCivil = -719468
	lastCivil  = 2932896
)

// civil gives the date of so many days after 0000-03-01 in the Gregorian calendar.
// Years are taken to begin with March, so that the leap day is a year's last and the
// days before a month are a straight line: 0, 31, 61, 92 and so on, (153 month + 2) / 5.
func civil(days uint32) (year, month, day uint32) {
	const (
		era     = 146097 // days of 400 years
		century = 36524  // days of a century that does not end with a leap year
		four    = 1461   // days of four years
	)
	of := days % era
	y := (of - of/(four-1) + of/century - of/(era-1)) / 365 // of the era
	of -= 365*y + y/4 - y/100
	m := (5*of + 2) / 153 // from March
	day = of - (153*m+2)/5 + 1
	year = days/era*400 + y
	if m < 10 {
		return year, m + 3, day
	}
	return year + 1, m - 9, day
}

// AppendTimeOfDay appends microseconds since midnight as 15:04:05, with a
// fraction only where there is one. Midnight at the end of a day is 24:00:00.
func AppendTimeOfDay(dst []byte, micros int64) []byte {
	sec, frac := micros/1e6, micros%1e6
	dst = appendTwo(dst, sec/3600)
	dst = append(dst, ':')
	dst = appendTwo(dst, sec/60%60)
	dst = append(dst, ':')
	dst = appendTwo(dst, sec%60)
	return appendFraction(dst, frac)
}

// AppendTimestamp appends microseconds since 1970-01-01 as
// 2006-01-02T15:04:05[.999999], followed by Z where zoned.
func AppendTimestamp(dst []byte, micros int64, zoned bool) []byte {
	const day = 86400 * 1e6
	days := micros / day
	if micros%day < 0 {
		days--
	}
	dst = append(AppendDate(dst, days), 'T')
	dst = AppendTimeOfDay(dst, micros-days*day)
	if zoned {
		dst = append(dst, 'Z')
	}
	return dst
}

func appendTwo(dst []byte, n int64) []byte {
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

func appendFraction(dst []byte, micros int64) []byte {
	if micros == 0 {
		return dst
	}
	var d [6]byte
	for i := 5; i >= 0; i-- {
		d[i] = byte('0' + micros%10)
		micros /= 10
	}
	n := 6
	for n > 0 && d[n-1] == '0' {
		n--
	}
	dst = append(dst, '.')
	return append(dst, d[:n]...)
}
