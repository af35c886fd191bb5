package salesforce

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"coho/models"
)

// shownRunes is how much of a value an error message shows.
const shownRunes = 80

// maxMultipicklist is how many characters the values of a multi-select
// picklist take together.
const maxMultipicklist = 4099

// convert turns a value into the field's canonical text: numbers as plain
// decimal digits, never through a float; dates 2006-01-02; instants in UTC with
// milliseconds, 2006-01-02T15:04:05.000Z; times 15:04:05.000Z; booleans true or
// false; Ids in 18 characters; texts as they are.
//
// A text that is empty or nothing but white space is null: the org stores
// both as null, and two forms of one state would make every run send it again.
// So is JSON's null. Another JSON document goes into a text as it is written;
// for every other field a document that is one value is that value, and one
// that is an array is the list of its values.
func (f *field) convert(v models.Value) (models.Cell, error) {
	if v.Kind() == models.JSON {
		if err := storable(v.Str()); err != nil {
			return models.Cell{}, err
		}
		v = f.opened(v)
	}
	switch k := v.Kind(); {
	case k == models.Null:
		return models.NullCell, nil
	case k == models.Text || k == models.JSON:
		s := v.Str()
		if err := storable(s); err != nil {
			return models.Cell{}, err
		}
		if trim(s) == "" {
			return models.NullCell, nil
		}
	case !fits(f.class, k):
		return models.Cell{}, f.misfit(v)
	}
	text, err := f.text(v)
	if err != nil {
		return models.Cell{}, err
	}
	if text == "" {
		return models.NullCell, nil
	}
	return models.Cell{Text: text}, nil
}

// storable says why the org cannot store a text, if it cannot.
func storable(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("value %s is not valid UTF-8", show(s))
	}
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("value %s holds a NUL character, which the org cannot store", show(s))
	}
	return nil
}

// opened is what a JSON document means to the field. What is no valid document
// stays as it is.
func (f *field) opened(v models.Value) models.Value {
	s := trim(v.Str())
	if s == "null" {
		return models.Value{}
	}
	if f.class == classText || s == "" {
		return v
	}
	switch s[0] {
	case '"':
		var text string
		if json.Unmarshal([]byte(s), &text) == nil {
			return models.TextValue(text)
		}
	case '[':
		var elements []json.RawMessage
		if json.Unmarshal([]byte(s), &elements) == nil {
			list := make([]models.Value, len(elements))
			for i, e := range elements {
				list[i] = f.opened(models.JSONValue(string(e)))
			}
			return models.ListValue(list)
		}
	}
	return v
}

// text converts a value that is not null and whose kind fits.
func (f *field) text(v models.Value) (string, error) {
	switch f.class {
	case classText:
		text := v.Text()
		if v.Kind() == models.List { // of elements that nobody has looked at
			if err := storable(text); err != nil {
				return "", err
			}
		}
		return f.plain(text)
	case classEmail:
		return f.email(v)
	case classPicklist:
		if v.Kind() == models.JSON && nested(v.Str()) {
			return "", f.misfit(v)
		}
		return f.picklist(v.Text())
	case classMultipicklist:
		return f.multipicklist(v)
	case classBool:
		return f.boolean(v)
	case classInt, classNumber:
		return f.number(v)
	case classDate, classDatetime, classTime:
		return f.moment(v)
	case classReference:
		if id, ok := canonicalID(trim(v.Text())); ok {
			return id, nil
		}
	}
	return "", f.misfit(v)
}

func (f *field) misfit(v models.Value) error {
	return fmt.Errorf("value %s does not fit: the field takes %s", show(v.Text()), takes[f.class])
}

// plain checks a text's length, which the org counts in characters.
func (f *field) plain(s string) (string, error) {
	if f.Length > 0 && len(s) > f.Length {
		if n := utf8.RuneCountInString(s); n > f.Length {
			return "", fmt.Errorf("value %s is too long: %d characters, the field takes %d", show(s), n, f.Length)
		}
	}
	return s, nil
}

// email checks no more than every address must have, since the org's own rule
// is not published.
func (f *field) email(v models.Value) (string, error) {
	s := trim(v.Text())
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at == len(s)-1 || strings.ContainsAny(s, " \t\r\n") {
		return "", f.misfit(v)
	}
	return f.plain(s)
}

func (f *field) picklist(s string) (string, error) {
	s = trim(s)
	if f.values != nil && !f.values[s] {
		return "", f.notListed(s)
	}
	if f.values == nil {
		return f.plain(s)
	}
	return s, nil
}

func (f *field) notListed(s string) error {
	var active []string
	for _, v := range f.PicklistValues {
		if v.Active {
			active = append(active, v.Value)
		}
	}
	if near := nearest(s, active); near != "" {
		return fmt.Errorf("value %s is not in the field's restricted picklist (did you mean %s?)", show(s), show(near))
	}
	if len(active) > 10 {
		active = append(active[:10], "...")
	}
	return fmt.Errorf("value %s is not in the field's restricted picklist (%s)", show(s), strings.Join(active, ", "))
}

// multipicklist keeps the values in the order given, each once. A value that is
// itself a list or an object is none.
func (f *field) multipicklist(v models.Value) (string, error) {
	var parts []string
	if v.Kind() == models.List {
		for _, e := range v.List() {
			if e.IsNull() {
				continue
			}
			s := e.Text()
			if k := e.Kind(); k == models.List || k == models.Bytes || k == models.JSON && nested(s) {
				return "", f.misfit(v)
			}
			if strings.Contains(s, ";") {
				return "", fmt.Errorf("value %s does not fit: a picklist value cannot hold a ;", show(s))
			}
			parts = append(parts, s)
		}
	} else if text := v.Text(); v.Kind() == models.JSON && nested(text) {
		return "", f.misfit(v)
	} else {
		parts = strings.Split(text, ";")
	}
	kept := parts[:0:0]
	seen := make(map[string]bool, len(parts))
	for _, p := range parts {
		p = trim(p)
		if p == "" || seen[p] {
			continue
		}
		if f.values != nil && !f.values[p] {
			return "", f.notListed(p)
		}
		if strings.IndexByte(p, 0) >= 0 || !utf8.ValidString(p) {
			return "", f.misfit(v)
		}
		seen[p] = true
		kept = append(kept, p)
	}
	joined := strings.Join(kept, ";")
	if n := utf8.RuneCountInString(joined); n > maxMultipicklist {
		return "", fmt.Errorf("value %s is too long: %d characters, the field takes %d", show(joined), n, maxMultipicklist)
	}
	return joined, nil
}

// nested reports whether a JSON document is an object or an array.
func nested(document string) bool {
	s := trim(document)
	return s != "" && (s[0] == '{' || s[0] == '[')
}

func (f *field) boolean(v models.Value) (string, error) {
	if v.Kind() == models.Bool {
		return v.Text(), nil
	}
	switch strings.ToLower(trim(v.Text())) {
	case "true", "t", "yes", "y", "1":
		return "true", nil
	case "false", "f", "no", "n", "0":
		return "false", nil
	}
	return "", f.misfit(v)
}

// number gives plain digits without leading or trailing zeros. More decimals
// than the field's scale are kept: the org rounds them, and digits that do not
// depend on the org's setting keep comparisons between runs stable.
func (f *field) number(v models.Value) (string, error) {
	if v.Kind() == models.Float && (math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0)) {
		return "", f.misfit(v)
	}
	digits := v.Text()
	if k := v.Kind(); k != models.Int { // whose digits are plain
		var err error
		if digits, err = plainDecimal(trim(digits)); err != nil {
			return "", f.misfit(v)
		}
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(digits, "-"), ".")
	if f.class == classInt {
		if fraction != "" {
			return "", f.misfit(v)
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		outside := err != nil || (!strings.EqualFold(f.Type, "long") && (n > math.MaxInt32 || n < math.MinInt32))
		if outside || (f.Digits > 0 && len(whole) > f.Digits) {
			return "", fmt.Errorf("value %s is out of range: the field takes whole numbers %s", show(digits), f.wholeRange())
		}
		return digits, nil
	}
	if room := f.Precision - f.Scale; f.Precision > 0 && len(whole) > room && whole != "0" {
		return "", fmt.Errorf("value %s is out of range: the field takes %d digits before the point", show(digits), room)
	}
	return digits, nil
}

// wholeRange says which whole numbers the field takes.
func (f *field) wholeRange() string {
	switch {
	case f.Digits > 0:
		return fmt.Sprintf("of up to %d digits", f.Digits)
	case strings.EqualFold(f.Type, "long"):
		return "of 64 bits"
	}
	return fmt.Sprintf("from %d to %d", math.MinInt32, math.MaxInt32)
}

var errNumber = errors.New("not a number")

// maxExponent bounds the digits that an exponent can make.
const maxExponent = 400

// plainDecimal reads a decimal number, with or without an exponent, and
// writes it without one and without needless zeros, touching no float.
func plainDecimal(s string) (string, error) {
	if isPlain(s) {
		return models.TrimDecimal(s), nil
	}
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		n, err := strconv.Atoi(s[i+1:])
		if err != nil || n > maxExponent || n < -maxExponent {
			return "", errNumber
		}
		mantissa, exponent = s[:i], n
	}
	sign := ""
	if mantissa != "" && (mantissa[0] == '-' || mantissa[0] == '+') {
		if mantissa[0] == '-' {
			sign = "-"
		}
		mantissa = mantissa[1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole == "" && fraction == "" {
		return "", errNumber
	}
	for _, part := range [2]string{whole, fraction} {
		for i := 0; i < len(part); i++ {
			if part[i] < '0' || part[i] > '9' {
				return "", errNumber
			}
		}
	}
	if exponent != 0 {
		digits, point := whole+fraction, len(whole)+exponent
		switch {
		case point <= 0:
			whole, fraction = "0", strings.Repeat("0", -point)+digits
		case point >= len(digits):
			whole, fraction = digits+strings.Repeat("0", point-len(digits)), ""
		default:
			whole, fraction = digits[:point], digits[point:]
		}
	}
	if exponent == 0 {
		return models.TrimDecimal(s), nil // which drops a plus
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return models.TrimDecimal(sign + whole), nil
}

// isPlain says whether a text is digits with at most one point among them, after a
// minus or not.
func isPlain(s string) bool {
	digits, points := 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.':
			points++
		case c != '-' || i > 0:
			return false
		}
	}
	return digits > 0 && points < 2
}

// show is a value as messages show it: quoted, on one line and cut.
func show(s string) string {
	if utf8.RuneCountInString(s) > shownRunes {
		r := []rune(s)
		return strconv.Quote(string(r[:shownRunes])) + "..."
	}
	return strconv.Quote(s)
}
