package salesforce

import (
	"strings"

	"coho/models"
)

// holds reports whether a field that reads as theirs, or as null, is as it would be
// after ours was written. The org does not keep values as they are sent (SOAP API
// Developer Guide, "Primitive Data Types" and "Field Types"): it trims text, has
// addresses in lower case, drops fractions of a second, rounds numbers to the
// field's scale. Where what is read does not settle it, the answer is no: to send a
// value once more is no harm, to hold one back is.
func (f *field) holds(ours models.Cell, theirs string, null bool) bool {
	if f.class == classBool {
		// A checkbox is never null; clearing one makes it false.
		return (!ours.Null && strings.EqualFold(ours.Text, "true")) == (!null && strings.EqualFold(theirs, "true"))
	}
	null = null || trim(theirs) == ""
	if ours.Null || trim(ours.Text) == "" {
		return null
	}
	if null || f.masked() {
		return false
	}
	switch f.class {
	case classText:
		return sameText(ours.Text, theirs)
	case classEmail:
		lower := strings.ToLower(trim(ours.Text)) // as it is stored, which folding is not
		return lower == strings.ToLower(trim(theirs))
	case classPicklist:
		return f.samePick(trim(ours.Text), trim(theirs))
	case classMultipicklist:
		return f.samePicks(ours.Text, theirs)
	case classInt, classNumber:
		return f.sameNumber(ours.Text, theirs)
	case classDate, classDatetime:
		a, err := parseTime(trim(ours.Text))
		b, bad := parseTime(trim(theirs))
		if err != nil || bad != nil {
			return false
		}
		if f.class == classDate {
			return a.days() == b.days()
		}
		return floorDiv(a.micros, 1e6) == floorDiv(b.micros, 1e6)
	case classTime:
		a, err := parseClock(trim(ours.Text))
		b, bad := parseClock(trim(theirs))
		return err == nil && bad == nil && a/1000 == b/1000
	case classReference:
		a, ok := canonicalID(trim(ours.Text))
		b, fine := canonicalID(trim(theirs))
		return ok && fine && a == b
	}
	return false
}

// masked reports a field of which the org shows but a mask: encrypted text.
func (f *field) masked() bool { return strings.EqualFold(f.Type, "encryptedstring") }

// sameText compares texts but for the white space at their ends and the form of
// their line breaks, which is the API's by which they came and not the text's.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	return evenLines(trim(a)) == evenLines(trim(b))
}

func evenLines(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// samePick compares values of a picklist. One that is not on the list, and differs
// from one that is only in case, is stored as that.
func (f *field) samePick(ours, theirs string) bool {
	if ours == theirs {
		return true
	}
	if !strings.EqualFold(ours, theirs) {
		return false
	}
	listed := false
	for _, v := range f.PicklistValues {
		if v.Value == ours {
			return false
		}
		listed = listed || v.Active && v.Value == theirs
	}
	return listed
}

// samePicks compares values of a multi-select picklist, whose order is the list's.
func (f *field) samePicks(ours, theirs string) bool {
	a, b := chosen(ours), chosen(theirs)
	if len(a) != len(b) {
		return false
	}
next:
	for _, x := range a {
		for i, y := range b {
			if f.samePick(x, y) {
				b = append(b[:i], b[i+1:]...)
				continue next
			}
		}
		return false
	}
	return true
}

// chosen is the values of a multi-select picklist, each once.
func chosen(s string) []string {
	var out []string
	seen := map[string]bool{}
	for p := range strings.SplitSeq(s, ";") {
		if p = trim(p); p != "" && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// doubleDigits is how many significant digits of a decimal survive as a double,
// which is what the org answers with.
const doubleDigits = 15

// sameNumber compares numbers as decimals: what the org has may be rounded to the
// field's scale, or, as fields have been seen to keep more, not.
func (f *field) sameNumber(ours, theirs string) bool {
	a, err := plainDecimal(trim(ours))
	b, bad := plainDecimal(trim(theirs))
	if err != nil || bad != nil {
		return false
	}
	if f.class == classInt {
		return a == b
	}
	rounded := roundDecimal(a, f.Scale)
	if a != b && rounded != b {
		return false
	}
	// Of two numbers with more digits the org may show the same.
	return significant(b) <= doubleDigits
}

// significant counts a plain decimal's digits but for zeros at its ends.
func significant(s string) int {
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	return len(strings.Trim(whole+fraction, "0"))
}

// roundDecimal rounds a plain decimal to so many decimals, halves away from zero
// (Salesforce Help, "Tips for Using Number Formula Fields": 12.345 becomes 12.35,
// -12.345 becomes -12.35).
func roundDecimal(s string, scale int) string {
	sign := ""
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		sign, s = "-", rest
	}
	whole, fraction, _ := strings.Cut(s, ".")
	if scale < 0 || len(fraction) <= scale {
		return sign + s
	}
	digits := []byte("0" + whole + fraction[:scale])
	if fraction[scale] >= '5' {
		i := len(digits) - 1
		for ; digits[i] == '9'; i-- {
			digits[i] = '0'
		}
		digits[i]++
	}
	text := string(digits[:len(digits)-scale])
	if scale > 0 {
		text += "." + string(digits[len(digits)-scale:])
	}
	return models.TrimDecimal(sign + text)
}

// holdsReference reports whether a column of references is as a row would have it:
// id is the record that it refers to, by is what that record has for the field by
// which the mapping names it, known whether that could be read.
func (c *column) holdsReference(ours models.Cell, found, id string, null bool, by string, known bool) bool {
	switch {
	case ours.Null:
		return null
	case null:
		return false
	case found != "" || c.parent == nil:
		if found == "" {
			found = ours.Text
		}
		return c.field.holds(models.Cell{Text: found}, id, false)
	}
	return known && !c.parent.masked() && c.parent.fold(ours.Text) == c.parent.fold(by)
}

// readable reports whether a record tells the value by which a reference is
// mapped: where a field may refer to several objects, a query does not say which
// field of which of them.
func (c *column) readable() bool {
	return c.parent != nil && !c.byQuery && c.RelationshipName != "" && len(c.ReferenceTo) == 1
}

// fieldSet is a set of columns.
type fieldSet []uint64

func (s fieldSet) has(i int) bool { return i>>6 < len(s) && s[i>>6]&(1<<(i&63)) != 0 }

func (s *fieldSet) add(i int) {
	for i>>6 >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[i>>6] |= 1 << (i & 63)
}
