package salesforce

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"coho/models"
)

// The days a date or datetime field can hold: 1700-01-01 to 4000-12-31.
var (
	firstDay = time.Date(1700, 1, 1, 0, 0, 0, 0, time.UTC).Unix() / 86400
	lastDay  = time.Date(4000, 12, 31, 0, 0, 0, 0, time.UTC).Unix() / 86400
)

const microsPerDay = 86400 * 1e6

// moment converts for date, datetime and time fields. A date keeps a
// timestamp's day (in UTC where it has a zone); a datetime takes a date as its
// midnight and a timestamp without a zone as UTC. Fractions are cut to
// milliseconds, the finest that the API takes.
func (f *field) moment(v models.Value) (string, error) {
	if f.class == classTime {
		micros := v.Int()
		if k := v.Kind(); k == models.Text || k == models.JSON {
			var err error
			if micros, err = parseClock(trim(v.Str())); err != nil {
				return "", f.misfit(v)
			}
		}
		if micros < 0 || micros >= microsPerDay {
			return "", f.misfit(v)
		}
		return string(appendClock(nil, micros)), nil
	}
	var micros int64
	switch v.Kind() {
	case models.Date:
		if v.Int() < firstDay || v.Int() > lastDay {
			return "", f.outside(v)
		}
		micros = v.Int() * microsPerDay
	case models.Timestamp, models.TimestampTZ:
		micros = v.Int()
	default:
		t, err := parseTime(trim(v.Text()))
		if err != nil {
			return "", f.misfit(v)
		}
		micros = t.micros
	}
	day := floorDiv(micros, microsPerDay)
	if day < firstDay || day > lastDay {
		return "", f.outside(v)
	}
	if f.class == classDate {
		return string(models.AppendDate(nil, day)), nil
	}
	var buf [24]byte
	text := append(models.AppendDate(buf[:0], day), 'T')
	return string(appendClock(text, micros-day*microsPerDay)), nil
}

// appendClock appends microseconds since midnight as 15:04:05.000Z.
func appendClock(dst []byte, micros int64) []byte {
	milli := micros / 1000
	two := func(n int64, end byte) { dst = append(dst, '0'+byte(n/10), '0'+byte(n%10), end) }
	two(milli/3600_000, ':')
	two(milli/60_000%60, ':')
	two(milli/1000%60, '.')
	milli %= 1000
	return append(dst, '0'+byte(milli/100), '0'+byte(milli/10%10), '0'+byte(milli%10), 'Z')
}

func (f *field) outside(v models.Value) error {
	return fmt.Errorf("value %s is out of range: the field takes the years 1700 to 4000", show(v.Text()))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

var errTime = errors.New("not an ISO 8601 time")

// instant is microseconds since 1970-01-01T00:00Z.
type instant struct{ micros int64 }

func (t instant) days() int64 { return floorDiv(t.micros, microsPerDay) }

// parseTime reads an ISO 8601 date or date and time: 2006-01-02, then
// optionally T or a space, 15:04[:05[.999999]] and a zone Z, +07, +0700 or
// +07:00, with or without a space before it. Without a zone it is UTC. These
// are the forms that warehouses give as text and that the org answers with.
func parseTime(s string) (instant, error) {
	if len(s) < 10 {
		return instant{}, errTime
	}
	day, err := time.Parse("2006-01-02", s[:10])
	if err != nil {
		return instant{}, errTime
	}
	t := instant{day.Unix() * 1e6}
	if len(s) == 10 {
		return t, nil
	}
	if c := s[10]; c != 'T' && c != 't' && c != ' ' {
		return instant{}, errTime
	}
	clock, offset, err := cutZone(s[11:])
	if err != nil {
		return instant{}, err
	}
	micros, err := parseClock(strings.TrimSuffix(clock, " "))
	if err != nil {
		return instant{}, err
	}
	t.micros += micros - offset*1e6
	return t, nil
}

// cutZone splits the zone off a time of day and gives its offset in seconds
// east of UTC.
func cutZone(s string) (clock string, offset int64, err error) {
	for i := len(s) - 1; i >= 0; i-- {
		c := s[i]
		if c == 'Z' || c == 'z' {
			if i != len(s)-1 {
				return "", 0, errTime
			}
			return s[:i], 0, nil
		}
		if c != '+' && c != '-' {
			continue
		}
		zone := s[i+1:]
		var h, m int64
		var ok bool
		switch len(zone) {
		case 2:
			h, ok = twoDigits(zone)
		case 4, 5:
			if len(zone) == 5 && zone[2] != ':' {
				return "", 0, errTime
			}
			if h, ok = twoDigits(zone[:2]); ok {
				m, ok = twoDigits(zone[len(zone)-2:])
			}
		}
		if !ok || h > 18 || m > 59 {
			return "", 0, errTime
		}
		offset = h*3600 + m*60
		if c == '-' {
			offset = -offset
		}
		return s[:i], offset, nil
	}
	return s, 0, nil
}

func twoDigits(s string) (int64, bool) {
	if len(s) != 2 || s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9' {
		return 0, false
	}
	return int64(s[0]-'0')*10 + int64(s[1]-'0'), true
}

// parseClock reads 15:04[:05[.999999999]][Z] as microseconds since midnight.
func parseClock(s string) (int64, error) {
	if n := len(s); n > 0 && (s[n-1] == 'Z' || s[n-1] == 'z') {
		s = s[:n-1]
	}
	if len(s) < 5 || s[2] != ':' {
		return 0, errTime
	}
	h, ok1 := twoDigits(s[:2])
	m, ok2 := twoDigits(s[3:5])
	if !ok1 || !ok2 || h > 23 || m > 59 {
		return 0, errTime
	}
	micros := (h*60 + m) * 60 * 1e6
	if len(s) == 5 {
		return micros, nil
	}
	if len(s) < 8 || s[5] != ':' {
		return 0, errTime
	}
	sec, ok := twoDigits(s[6:8])
	if !ok || sec > 59 {
		return 0, errTime
	}
	micros += sec * 1e6
	if len(s) == 8 {
		return micros, nil
	}
	if s[8] != '.' || len(s) == 9 || len(s) > 18 {
		return 0, errTime
	}
	unit := int64(100_000)
	for i := 9; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, errTime
		}
		micros += int64(s[i]-'0') * unit
		unit /= 10
	}
	return micros, nil
}
