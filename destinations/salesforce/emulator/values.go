package emulator

import (
	"fmt"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A stored value is canonical text: "true" for a checkbox (absent is false),
// digits without exponent or trailing zeros for numbers, yyyy-MM-dd,
// yyyy-MM-ddTHH:mm:ss.000Z, HH:mm:ss.SSSZ, 18-character Ids, ";" between the
// values of a multi-select picklist. Text that a client sends in canonical form
// is stored without being copied twice.

// rowError is an error of one record, as the results of every API show it.
type rowError struct {
	code    string
	message string
	fields  []string
}

// problem says why a value cannot be stored: cast when the text is no value of
// the field's XSD type (an error of the row in CSV, of the whole request in
// JSON), err otherwise.
type problem struct {
	cast bool
	err  rowError
}

func (f *field) fault(code, format string, args ...any) *problem {
	return &problem{err: rowError{code, f.label + ": " + fmt.Sprintf(format, args...), []string{f.name}}}
}

var errCast = &problem{cast: true}

// trim drops what an org drops at both ends of text: whitespace and controls.
func trim(s string) string {
	i, j := 0, len(s)
	for i < j && s[i] <= ' ' {
		i++
	}
	for j > i && s[j-1] <= ' ' {
		j--
	}
	return s[i:j]
}

// parse turns text into the canonical value. An empty result is null.
func (f *field) parse(in string) (string, *problem) {
	s := trim(in)
	if s == "" {
		if f.kind != kindText && f.kind != kindEmail && f.kind != kindPicklist && f.kind != kindMulti && in != "" {
			return "", errCast
		}
		return "", nil
	}
	switch f.kind {
	case kindText:
		return f.parseText(s)
	case kindEmail:
		return f.parseEmail(s)
	case kindBool:
		return parseBool(s)
	case kindInt:
		return f.parseInt(s)
	case kindDouble:
		return f.parseDouble(s)
	case kindDate:
		return f.parseDate(s)
	case kindDatetime:
		return f.parseDatetime(s)
	case kindTime:
		return parseTime(s)
	case kindPicklist:
		return f.parsePicklist(s)
	case kindMulti:
		return f.parseMulti(s)
	case kindRef, kindID:
		return f.parseReference(s)
	case kindCompound:
	}
	return "", errCast
}

func (f *field) parseText(s string) (string, *problem) {
	if len(s) > f.length && f.length > 0 && utf8.RuneCountInString(s) > f.length {
		return "", f.fault("STRING_TOO_LONG", "data value too large: %s (max length=%d)", s, f.length)
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s, nil
}

func (f *field) parseEmail(s string) (string, *problem) {
	s, p := f.parseText(s)
	if p != nil {
		return "", p
	}
	at := strings.LastIndexByte(s, '@')
	host := s[at+1:]
	dot := strings.LastIndexByte(host, '.')
	if at < 1 || dot < 1 || dot == len(host)-1 || strings.ContainsAny(s, " \t\r\n,;:<>()[]\\\"") ||
		strings.Contains(s, "..") || strings.Count(s, "@") != 1 || s[0] == '.' || s[at-1] == '.' {
		return "", f.fault("INVALID_EMAIL_ADDRESS", "invalid email address: %s", s)
	}
	return strings.ToLower(s), nil
}

func parseBool(s string) (string, *problem) {
	switch {
	case s == "1" || strings.EqualFold(s, "true"):
		return "true", nil
	case s == "0" || strings.EqualFold(s, "false"):
		return "false", nil
	}
	return "", errCast
}

func (f *field) parseInt(s string) (string, *problem) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt32 || n < math.MinInt32 {
		return "", errCast
	}
	if abs := max(n, -n); f.digits > 0 && abs >= int64(math.Pow10(f.digits)) {
		return "", f.fault("NUMBER_OUTSIDE_VALID_RANGE", "value outside of valid range on numeric field: %s", s)
	}
	if s[0] == '+' || s[0] == '0' || s[0] == '-' {
		return strconv.FormatInt(n, 10), nil
	}
	return s, nil
}

// parseDouble keeps the decimal digits as they were given: no float stands
// between what is sent and what is stored, as in an org's database.
func (f *field) parseDouble(s string) (string, *problem) {
	digits, point, canonical := 0, -1, true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' && point < 0:
			point = i
		case c == '-' && i == 0:
		case c == '+' && i == 0:
			canonical = false
		case (c == 'e' || c == 'E') && digits > 0:
			return f.parseExponent(s)
		default:
			return "", errCast
		}
	}
	if digits == 0 {
		return "", errCast
	}
	body := strings.TrimLeft(s, "+-")
	whole := len(body)
	if point >= 0 {
		whole = strings.IndexByte(body, '.')
		frac := len(body) - whole - 1
		if frac == 0 || frac > f.scale || body[len(body)-1] == '0' || whole == 0 {
			canonical = false
		}
	}
	if body[0] == '0' && whole != 1 || body == "0" && s[0] == '-' {
		canonical = false
	}
	if !canonical {
		s = f.roundDecimal(s)
		body = strings.TrimLeft(s, "-")
		if whole = strings.IndexByte(body, '.'); whole < 0 {
			whole = len(body)
		}
	}
	if whole > f.precision-f.scale && body[0] != '0' {
		return "", f.fault("NUMBER_OUTSIDE_VALID_RANGE", "value outside of valid range on numeric field: %s", s)
	}
	return s, nil
}

func (f *field) parseExponent(s string) (string, *problem) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	e, err := strconv.Atoi(exponent)
	if err != nil || strings.HasPrefix(mantissa, ".") && len(mantissa) == 1 {
		return "", errCast
	}
	if e > 40 || e < -400 {
		if e < 0 {
			return "0", nil
		}
		return "", f.fault("NUMBER_OUTSIDE_VALID_RANGE", "value outside of valid range on numeric field: %s", s)
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return "", errCast
	}
	return f.parseDouble(r.FloatString(f.scale + 2))
}

// roundDecimal rounds half up to the field's scale and strips what is not
// significant.
func (f *field) roundDecimal(s string) string {
	neg := s[0] == '-'
	s = strings.TrimLeft(s, "+-")
	whole, frac, _ := strings.Cut(s, ".")
	up := len(frac) > f.scale && frac[f.scale] >= '5'
	if len(frac) > f.scale {
		frac = frac[:f.scale]
	}
	all := []byte("0" + whole + frac)
	for i := len(all) - 1; up && i >= 0; i-- {
		if all[i] == '9' {
			all[i] = '0'
			continue
		}
		all[i]++
		break
	}
	text := strings.TrimLeft(string(all[:len(all)-len(frac)]), "0")
	if text == "" {
		text = "0"
	}
	if tail := strings.TrimRight(string(all[len(all)-len(frac):]), "0"); tail != "" {
		text += "." + tail
	}
	if neg && text != "0" {
		text = "-" + text
	}
	return text
}

func twoDigits(s string) int {
	if s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9' {
		return -1
	}
	return int(s[0]-'0')*10 + int(s[1]-'0')
}

var monthDays = [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// validDate checks yyyy-MM-dd and the range that an org's calendar has.
func validDate(s string) (ok, inRange bool) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return false, false
	}
	c, y, m, d := twoDigits(s), twoDigits(s[2:]), twoDigits(s[5:]), twoDigits(s[8:])
	if c < 0 || y < 0 || m < 1 || m > 12 || d < 1 || d > monthDays[m] {
		return false, false
	}
	year := c*100 + y
	if m == 2 && d == 29 && (year%4 != 0 || year%100 == 0 && year%400 != 0) {
		return false, false
	}
	return true, year >= 1700 && year <= 4000
}

func (f *field) parseDate(s string) (string, *problem) {
	ok, inRange := validDate(s)
	if !ok {
		return "", errCast
	}
	if !inRange {
		return "", f.fault("FIELD_INTEGRITY_EXCEPTION", "invalid date: %s", s)
	}
	return s, nil
}

const datetimeLayout = "2006-01-02T15:04:05.000Z"

func (f *field) parseDatetime(s string) (string, *problem) {
	if len(s) < 16 || s[10] != 'T' {
		return "", errCast
	}
	ok, inRange := validDate(s[:10])
	if !ok {
		return "", errCast
	}
	if !inRange {
		return "", f.fault("FIELD_INTEGRITY_EXCEPTION", "invalid date: %s", s)
	}
	if len(s) == 24 && s[19:] == ".000Z" && validClock(s[11:19]) {
		return s, nil
	}
	t, ok := parseInstant(s)
	if !ok {
		return "", errCast
	}
	return t.UTC().Truncate(time.Second).Format(datetimeLayout), nil
}

func validClock(s string) bool {
	h, m, sec := twoDigits(s), twoDigits(s[3:]), twoDigits(s[6:])
	return s[2] == ':' && s[5] == ':' && h >= 0 && h < 24 && m >= 0 && m < 60 && sec >= 0 && sec < 60
}

var instantLayouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04Z0700",
}

// parseInstant accepts ISO 8601 with an offset; Go's parser takes fractions of
// a second without being asked.
func parseInstant(s string) (time.Time, bool) {
	for _, layout := range instantLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func parseTime(s string) (string, *problem) {
	for _, layout := range []string{"15:04:05Z", "15:04Z", "15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Format("15:04:05.000Z"), nil
		}
	}
	return "", errCast
}

func (f *field) parsePicklist(s string) (string, *problem) {
	if list := f.picklist.Load(); list.restricted {
		if _, ok := list.active[s]; !ok {
			return "", f.fault("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "bad value for restricted picklist field: %s", s)
		}
		return s, nil
	}
	return f.parseText(s)
}

func (f *field) parseMulti(s string) (string, *problem) {
	parts := strings.Split(s, ";")
	kept := parts[:0]
	seen := map[string]bool{}
	list := f.picklist.Load()
	for _, v := range parts {
		v = trim(v)
		if v == "" || seen[v] {
			continue
		}
		if _, ok := list.active[v]; !ok && list.restricted {
			return "", f.fault("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "bad value for restricted picklist field: %s", v)
		}
		seen[v] = true
		kept = append(kept, v)
	}
	sort.SliceStable(kept, func(i, j int) bool {
		a, oka := list.active[kept[i]]
		b, okb := list.active[kept[j]]
		if oka != okb {
			return oka
		}
		return oka && a < b
	})
	return f.parseText(strings.Join(kept, ";"))
}

// parseReference checks an Id's shape; whether the record exists is found when
// the row is saved.
func (f *field) parseReference(s string) (string, *problem) {
	id, ok := canonicalID(s)
	if !ok {
		return "", f.malformedID(s)
	}
	return id, nil
}

func (f *field) malformedID(s string) *problem {
	return f.fault("MALFORMED_ID", "id value of incorrect type: %s", s)
}

// formatDouble renders a stored number as Java's Double.toString does, which is
// what an org's JSON and result files show (Bulk API 2.0 Developer Guide, "Get
// Job Successful Record Results", whose sample has 9.12260031E8).
func formatDouble(stored string) string {
	d, err := strconv.ParseFloat(stored, 64)
	if err != nil {
		return stored
	}
	abs := math.Abs(d)
	if d == 0 {
		return "0.0"
	}
	if abs >= 1e-3 && abs < 1e7 {
		text := strconv.FormatFloat(d, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(d, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	e, err := strconv.Atoi(exponent)
	if err != nil {
		return stored
	}
	return mantissa + "E" + strconv.Itoa(e)
}

// formatDatetime renders a stored datetime as REST does: +0000 without a colon.
func formatDatetime(stored string) string { return strings.TrimSuffix(stored, "Z") + "+0000" }
