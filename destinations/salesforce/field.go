package salesforce

import (
	"strconv"
	"strings"

	"coho/destinations/salesforce/api"
	"coho/models"
)

// class groups field types by the form of their values.
type class uint8

const (
	classNone class = iota // types that no API write can fill
	classText
	classEmail
	classPicklist
	classMultipicklist
	classBool
	classInt
	classNumber
	classDate
	classDatetime
	classTime
	classReference
)

var classes = map[string]class{
	"string":          classText,
	"textarea":        classText,
	"phone":           classText,
	"url":             classText,
	"combobox":        classText,
	"encryptedstring": classText,
	"email":           classEmail,
	"picklist":        classPicklist,
	"multipicklist":   classMultipicklist,
	"boolean":         classBool,
	"int":             classInt,
	"long":            classInt,
	"double":          classNumber,
	"currency":        classNumber,
	"percent":         classNumber,
	"date":            classDate,
	"datetime":        classDatetime,
	"time":            classTime,
	"reference":       classReference,
	"id":              classReference,
}

// takes is what each class of field takes, in the words of error messages.
var takes = [...]string{
	classNone:          "no value that can be written",
	classText:          "text",
	classEmail:         "an email address",
	classPicklist:      "a picklist value",
	classMultipicklist: "picklist values, as a list or as text joined by ;",
	classBool:          "true or false",
	classInt:           "a whole number",
	classNumber:        "a number",
	classDate:          "a date (2006-01-02)",
	classDatetime:      "a time stamp (2006-01-02T15:04:05Z)",
	classTime:          "a time of day (15:04:05)",
	classReference:     "a record Id of 15 or 18 characters",
}

// fits says which kinds of column can ever fill a class of field. What fits
// here may still hold values that do not (a text "soon" in a date); those fail
// row by row.
//
//	text            every kind; bytes as base64, lists joined by ;
//	email, Id       text
//	picklist        every kind but bytes and list
//	multipicklist   every kind but bytes
//	boolean         bool, int, decimal, float (0 and 1), text
//	int, number     int, decimal, float, text
//	date, datetime  date, timestamp with or without zone, text
//	time            time, text
//
// JSON goes wherever text goes (see field.convert for what becomes of it), and a
// column of nulls fits everything.
func fits(c class, k models.Kind) bool {
	switch k {
	case models.Null:
		return c != classNone
	case models.Text, models.JSON:
		return c != classNone
	}
	switch c {
	case classText:
		return true
	case classPicklist:
		return k != models.Bytes && k != models.List
	case classMultipicklist:
		return k != models.Bytes
	case classBool:
		return k == models.Bool || k == models.Int || k == models.Decimal || k == models.Float
	case classInt, classNumber:
		return k == models.Int || k == models.Decimal || k == models.Float
	case classDate, classDatetime:
		return k == models.Date || k == models.Timestamp || k == models.TimestampTZ
	case classTime:
		return k == models.Time
	}
	return false
}

// field is a field of an object: what its values look like and how the org
// compares them. It is read-only once made.
type field struct {
	*api.Field
	class  class
	values map[string]bool // the active values of a restricted picklist, else nil
}

func newField(f *api.Field) *field {
	out := &field{Field: f, class: classes[strings.ToLower(f.Type)]}
	if f.RestrictedPicklist && (out.class == classPicklist || out.class == classMultipicklist) {
		out.values = make(map[string]bool)
		for _, v := range f.PicklistValues {
			if v.Active {
				out.values[v.Value] = true
			}
		}
	}
	return out
}

// indexed reports whether the org finds records by the field: whether it can
// be an upsert's key and a reference's target.
func (f *field) indexed() bool { return f.ExternalID || f.IDLookup }

// isID reports whether the field is the record's own Id.
func (f *field) isID() bool { return strings.EqualFold(f.Type, "id") }

// ignoresCase reports whether the org takes values that differ only in case
// for one. An external id is compared with regard to case unless it is unique
// and declared case insensitive; addresses are stored in lower case.
func (f *field) ignoresCase() bool {
	switch f.class {
	case classEmail:
		return true
	case classText:
		return f.Unique && !f.CaseSensitive
	}
	return false
}

// looselyCompared reports whether SOQL compares the field without regard to case
// ("Comparison Operators"): texts, save those declared case sensitive.
func (f *field) looselyCompared() bool {
	return (f.class == classText || f.class == classPicklist) && !f.CaseSensitive
}

// fold gives the form in which two values of the field are compared: equal
// folds are one value to the org. It also evens out what survives no round
// trip, so that a value handed back reformatted (9.12E8 for 912000000) still
// folds like the value that was sent.
func (f *field) fold(s string) string {
	s = trim(s)
	switch f.class {
	case classInt, classNumber:
		// The org answers with a double's shortest text. Comparing doubles
		// is right here, as that is what it was asked to compare.
		if n, err := strconv.ParseFloat(s, 64); err == nil {
			return strconv.FormatFloat(n, 'g', -1, 64)
		}
	case classDatetime:
		if t, err := parseTime(s); err == nil {
			// The org keeps whole seconds.
			return strconv.FormatInt(t.micros/1e6, 10)
		}
	case classDate:
		if t, err := parseTime(s); err == nil {
			return string(models.AppendDate(nil, t.days()))
		}
	case classReference:
		if id, ok := canonicalID(s); ok {
			return id
		}
	case classBool:
		return strings.ToLower(s)
	}
	if f.ignoresCase() {
		return strings.ToLower(s)
	}
	return s
}

// trim drops the white space that the org drops at both ends of a text: the
// space and the control characters below it.
func trim(s string) string {
	for s != "" && s[0] <= ' ' {
		s = s[1:]
	}
	for s != "" && s[len(s)-1] <= ' ' {
		s = s[:len(s)-1]
	}
	return s
}

// canonicalID gives an Id's 18-character form. ok is false where s is not an
// Id: not of 15 or 18 letters and digits, or with a checksum that does not fit.
func canonicalID(s string) (id string, ok bool) {
	if len(s) != 15 && len(s) != 18 {
		return "", false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", false
		}
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
	var sum [3]byte
	for group := range sum {
		n := 0
		for i := range 5 {
			if c := s[group*5+i]; c >= 'A' && c <= 'Z' {
				n |= 1 << i
			}
		}
		sum[group] = digits[n]
	}
	full := s[:15] + string(sum[:])
	if len(s) == 18 && !strings.EqualFold(s[15:], full[15:]) {
		return "", false
	}
	return full, true
}

// nearest returns the candidate closest to name in edit distance, "" where
// none is close enough to be what was meant.
func nearest(name string, candidates []string) string {
	name = strings.ToLower(name)
	best, least := "", 1+max(2, len(name)/3)
	for _, c := range candidates {
		if d := distance(name, strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two texts, by bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			above := row[j]
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above+1, row[j-1]+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}
