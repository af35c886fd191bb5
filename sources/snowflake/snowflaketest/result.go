package snowflaketest

import (
	"fmt"
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
)

// Result is what a statement gives.
type Result struct {
	Columns []Column
	Rows    int

	// JSON answers in JSON even where Arrow is asked for, as Snowflake does
	// for some statements.
	JSON bool

	// Slow keeps the statement running until it is aborted.
	Slow bool

	// Polls is how often the driver is told that the statement is in
	// progress before it is given the result.
	Polls int

	// Inline is how many rows come with the answer, FileRows how many are in
	// each file after them. 0: all rows come with the answer.
	Inline, FileRows int
}

// Column is a column of a result. One of Value, Int and Text is set.
type Column struct {
	Name             string
	Type             string // Snowflake's name of it on the wire: fixed, real, text and so on
	Precision, Scale int

	// Value returns a row's value: nil, *big.Int (a fixed's digits, without
	// the point), float64, string, bool, []byte, Days, Clock, Moment or
	// Decfloat.
	Value func(row int) any

	// Int and Text are for many rows: fixed numbers and texts, never NULL.
	Int  func(row int) int64
	Text func(dst []byte, row int) []byte

	// Width is the Arrow type that a fixed is sent as. nil: the narrowest
	// that holds the values of the file, as Snowflake does.
	Width arrow.DataType
}

// Days is a date, days from 1970-01-01.
type Days int32

// Clock is a time of day, nanoseconds from midnight.
type Clock int64

// Moment is a timestamp: seconds from 1970-01-01 00:00, nanoseconds forward
// from there, and, of a TIMESTAMP_TZ, minutes east of UTC.
type Moment struct {
	Seconds int64
	Nanos   int32
	East    int32
}

// Decfloat is Digits * 10^Exponent.
type Decfloat struct {
	Digits   *big.Int
	Exponent int16
}

// Failure is a statement's or a sign-in's error.
type Failure struct {
	Code     string // such as "002003"
	SQLState string
	Message  string
}

// Error implements error.
func (f *Failure) Error() string { return f.Code + " (" + f.SQLState + "): " + f.Message }

// files returns the rows of each file of the result, those with the answer
// first.
func (r *Result) files() [][2]int {
	if r.FileRows == 0 {
		return [][2]int{{0, r.Rows}}
	}
	first := min(r.Inline, r.Rows)
	all := [][2]int{{0, first}}
	for from := first; from < r.Rows; from += r.FileRows {
		all = append(all, [2]int{from, min(from+r.FileRows, r.Rows)})
	}
	return all
}

// json returns a cell as Snowflake prints it; nil for NULL.
func (c *Column) json(row int) (*string, error) {
	var s string
	switch {
	case c.Int != nil:
		s = decimal(big.NewInt(c.Int(row)), c.Scale)
	case c.Text != nil:
		s = string(c.Text(nil, row))
	default:
		v := c.Value(row)
		if v == nil {
			return nil, nil
		}
		var err error
		if s, err = c.print(v); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

func (c *Column) print(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case *big.Int:
		return decimal(v, c.Scale), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		if v {
			return "1", nil
		}
		return "0", nil
	case []byte:
		return fmt.Sprintf("%X", v), nil
	case Days:
		return strconv.Itoa(int(v)), nil
	case Clock:
		return seconds(int64(v)/1e9, int32(int64(v)%1e9), c.Scale), nil
	case Moment:
		s := seconds(v.Seconds, v.Nanos, c.Scale)
		if c.Type == "timestamp_tz" {
			s += " " + strconv.Itoa(int(v.East)+1440)
		}
		return s, nil
	case Decfloat:
		return v.Digits.String() + "e" + strconv.Itoa(int(v.Exponent)), nil
	}
	return "", fmt.Errorf("column %q: a value of %T", c.Name, v)
}

// decimal prints digits with a point.
func decimal(n *big.Int, scale int) string {
	if scale == 0 {
		return n.String()
	}
	return new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)).FloatString(scale)
}

// seconds prints a number of seconds with scale digits after the point.
func seconds(whole int64, nanos int32, scale int) string {
	n := new(big.Int).Mul(big.NewInt(whole), big.NewInt(1e9))
	n.Add(n, big.NewInt(int64(nanos)))
	n.Quo(n, big.NewInt(power(9-scale)))
	return decimal(n, scale)
}

func power(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}
