package models

import (
	"math"
	"strconv"
	"time"
)

// Kind is the type of a [Value], the common denominator of the warehouses'
// types. No kind loses anything of the warehouse's value: numbers that a
// float64 cannot hold exactly are Decimal.
type Kind uint8

// The kinds of value. The zero Kind is Null, so the zero Value is null.
const (
	Null        Kind = iota
	Bool             // true or false
	Int              // a whole number that fits int64
	Decimal          // an exact number, kept as its decimal digits
	Float            // an IEEE 754 double, NaN and infinities included
	Text             // valid UTF-8
	Bytes            // arbitrary bytes
	Date             // a calendar day, no zone
	Time             // a time of day, no zone, microseconds
	Timestamp        // a wall clock time without a zone, microseconds
	TimestampTZ      // an instant, microseconds
	JSON             // a JSON document as text
	List             // a list of values
)

var kindNames = [...]string{"null", "bool", "int", "decimal", "float", "text", "bytes", "date", "time", "timestamp", "timestamptz", "json", "list"}

// String names the kind as it is shown to users.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Value is one decoded cell of a source row. The zero Value is null. Values
// are immutable and safe to share.
type Value struct {
	kind Kind
	n    int64 // Bool, Int, Float (its bits), Date (days), Time, Timestamp, TimestampTZ (microseconds)
	s    string
	list []Value
}

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: Bool, n: 1}
	}
	return Value{kind: Bool}
}

// IntValue returns an Int.
func IntValue(n int64) Value { return Value{kind: Int, n: n} }

// DecimalValue returns a Decimal. digits is a plain decimal number (optional
// sign, digits, optional fraction), never with an exponent; the caller vouches
// for its form.
func DecimalValue(digits string) Value { return Value{kind: Decimal, s: digits} }

// FloatValue returns a Float.
func FloatValue(f float64) Value { return Value{kind: Float, n: int64(math.Float64bits(f))} }

// TextValue returns a Text.
func TextValue(s string) Value { return Value{kind: Text, s: s} }

// BytesValue returns a Bytes holding a copy of b.
func BytesValue(b []byte) Value { return Value{kind: Bytes, s: string(b)} }

// DateValue returns a Date, days counted from 1970-01-01 (negative before).
func DateValue(days int64) Value { return Value{kind: Date, n: days} }

// TimeValue returns a Time, microseconds since midnight, 0 to 86,400,000,000.
func TimeValue(micros int64) Value { return Value{kind: Time, n: micros} }

// TimestampValue returns a Timestamp, microseconds from 1970-01-01 00:00 on
// the same wall clock.
func TimestampValue(micros int64) Value { return Value{kind: Timestamp, n: micros} }

// TimestampTZValue returns a TimestampTZ, microseconds from
// 1970-01-01T00:00:00Z.
func TimestampTZValue(micros int64) Value { return Value{kind: TimestampTZ, n: micros} }

// JSONValue returns a JSON document.
func JSONValue(s string) Value { return Value{kind: JSON, s: s} }

// ListValue returns a List that owns vs.
func ListValue(vs []Value) Value { return Value{kind: List, list: vs} }

// Kind returns the value's kind.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether the value is SQL NULL.
func (v Value) IsNull() bool { return v.kind == Null }

// Bool returns a Bool's value.
func (v Value) Bool() bool { return v.n != 0 }

// Int returns the integer behind an Int, a Date (days), a Time, a Timestamp or
// a TimestampTZ (microseconds).
func (v Value) Int() int64 { return v.n }

// Float returns a Float's value.
func (v Value) Float() float64 { return math.Float64frombits(uint64(v.n)) }

// Str returns the text behind a Text, a JSON, a Bytes or a Decimal (its
// digits).
func (v Value) Str() string { return v.s }

// List returns a List's elements. The caller must not change them.
func (v Value) List() []Value { return v.list }

// GoTime returns a Date, Timestamp or TimestampTZ as a UTC time.
func (v Value) GoTime() time.Time {
	if v.kind == Date {
		return time.Unix(v.n*86400, 0).UTC()
	}
	return time.UnixMicro(v.n).UTC()
}
