package snowflake

import (
	"fmt"
	"math"
	"math/big"
	"time"

	"coho/models"
	"coho/sources/snowflake/snowflaketest"
	"coho/sources/sourcetest"
)

func digitsOf(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		panic("not a number: " + s)
	}
	return n
}

func date(year int, month time.Month, d int) int64 {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

// values are Snowflake's types.
func values() []value {
	decimal := models.DecimalValue
	all := []value{
		{sourcetest.Type{Name: "int8", SQL: "7::NUMBER(18,0)", Want: models.IntValue(7)}, "fixed", 0, big.NewInt(7)},
		{sourcetest.Type{Name: "int8 min", SQL: "-128::NUMBER(18,0)", Want: models.IntValue(-128)}, "fixed", 0, big.NewInt(-128)},
		{sourcetest.Type{Name: "int16", SQL: "-32768::NUMBER(18,0)", Want: models.IntValue(-32768)}, "fixed", 0, big.NewInt(-32768)},
		{sourcetest.Type{Name: "int32", SQL: "2147483647::NUMBER(18,0)", Want: models.IntValue(math.MaxInt32)}, "fixed", 0, big.NewInt(math.MaxInt32)},
		{sourcetest.Type{Name: "int64", SQL: "-999999999999999999::NUMBER(18,0)", Want: models.IntValue(-999999999999999999)}, "fixed", 0, big.NewInt(-999999999999999999)},
		{sourcetest.Type{Name: "19 digits in int64", SQL: "9223372036854775807::NUMBER(38,0)", Want: decimal("9223372036854775807")}, "fixed", 0, big.NewInt(math.MaxInt64)},
		{sourcetest.Type{Name: "19 digits in decimal128", SQL: "9223372036854775808::NUMBER(38,0)", Want: decimal("9223372036854775808")}, "fixed", 0, digitsOf("9223372036854775808")},
		{sourcetest.Type{Name: "38 digits", SQL: "99999999999999999999999999999999999999::NUMBER(38,0)", Want: decimal("99999999999999999999999999999999999999")}, "fixed", 0, digitsOf("99999999999999999999999999999999999999")},
		{sourcetest.Type{Name: "-38 digits", SQL: "-99999999999999999999999999999999999999::NUMBER(38,0)", Want: decimal("-99999999999999999999999999999999999999")}, "fixed", 0, digitsOf("-99999999999999999999999999999999999999")},
		{sourcetest.Type{Name: "38 digits with a point", SQL: "12345678901234567890123456789012345.678::NUMBER(38,3)", Want: decimal("12345678901234567890123456789012345.678")}, "fixed", 3, digitsOf("12345678901234567890123456789012345678")},
		{sourcetest.Type{Name: "all nines with a point", SQL: "-9.9999999999999999999999999999999999999::NUMBER(38,37)", Want: decimal("-9.9999999999999999999999999999999999999")}, "fixed", 37, digitsOf("-99999999999999999999999999999999999999")},
		{sourcetest.Type{Name: "cents in int8", SQL: "0.07::NUMBER(38,2)", Want: decimal("0.07")}, "fixed", 2, big.NewInt(7)},
		{sourcetest.Type{Name: "cents in int16", SQL: "-12.34::NUMBER(38,2)", Want: decimal("-12.34")}, "fixed", 2, big.NewInt(-1234)},
		{sourcetest.Type{Name: "cents in int32", SQL: "1234567.89::NUMBER(38,2)", Want: decimal("1234567.89")}, "fixed", 2, big.NewInt(123456789)},
		{sourcetest.Type{Name: "cents in int64", SQL: "90071992547409.93::NUMBER(38,2)", Want: decimal("90071992547409.93")}, "fixed", 2, big.NewInt(9007199254740993)},
		{sourcetest.Type{Name: "float", SQL: "0.1::FLOAT", Want: models.FloatValue(0.1)}, "real", 0, 0.1},
		{sourcetest.Type{Name: "NaN", SQL: "'NaN'::FLOAT", Want: models.FloatValue(math.NaN())}, "real", 0, math.NaN()},
		{sourcetest.Type{Name: "-inf", SQL: "'-inf'::FLOAT", Want: models.FloatValue(math.Inf(-1))}, "real", 0, math.Inf(-1)},
		{sourcetest.Type{Name: "decfloat", SQL: "'1.25'::DECFLOAT", Want: decimal("1.25")}, "decfloat", 0, snowflaketest.Decfloat{Digits: big.NewInt(125), Exponent: -2}},
		{sourcetest.Type{Name: "decfloat of 38 digits", SQL: "'-12345678901234567890123456789012345678e3'::DECFLOAT", Want: decimal("-12345678901234567890123456789012345678000")}, "decfloat", 0, snowflaketest.Decfloat{Digits: digitsOf("-12345678901234567890123456789012345678"), Exponent: 3}},
		{sourcetest.Type{Name: "text", SQL: "'héé'::TEXT", Want: models.TextValue("héé\n\"x\" 🎈")}, "text", 0, "héé\n\"x\" 🎈"},
		{sourcetest.Type{Name: "empty text", SQL: "''::TEXT", Want: models.TextValue("")}, "text", 0, ""},
		{sourcetest.Type{Name: "true", SQL: "TRUE", Want: models.BoolValue(true)}, "boolean", 0, true},
		{sourcetest.Type{Name: "false", SQL: "FALSE", Want: models.BoolValue(false)}, "boolean", 0, false},
		{sourcetest.Type{Name: "date", SQL: "'2024-02-29'::DATE", Want: models.DateValue(date(2024, 2, 29))}, "date", 0, snowflaketest.Days(date(2024, 2, 29))},
		{sourcetest.Type{Name: "date before 1970", SQL: "'1582-10-15'::DATE", Want: models.DateValue(date(1582, 10, 15))}, "date", 0, snowflaketest.Days(date(1582, 10, 15))},
		{sourcetest.Type{Name: "last date", SQL: "'9999-12-31'::DATE", Want: models.DateValue(date(9999, 12, 31))}, "date", 0, snowflaketest.Days(date(9999, 12, 31))},
		{sourcetest.Type{Name: "binary", SQL: "TO_BINARY('00FF61')", Want: models.BytesValue([]byte("\x00\xffa"))}, "binary", 0, []byte("\x00\xffa")},
		{sourcetest.Type{Name: "variant", SQL: "PARSE_JSON('1')", Want: models.JSONValue("1")}, "variant", 0, "1"},
		{sourcetest.Type{Name: "object", SQL: "OBJECT_CONSTRUCT('a', 1)", Want: models.JSONValue("{\n  \"a\": 1\n}")}, "object", 0, "{\n  \"a\": 1\n}"},
		{sourcetest.Type{Name: "array", SQL: "ARRAY_CONSTRUCT('a', '', 'b;c')", Want: models.ListValue([]models.Value{models.TextValue("a"), models.TextValue(""), models.TextValue("b;c")})}, "array", 0, "[\n  \"a\",\n  \"\",\n  \"b;c\"\n]"},
	}
	return append(all, times()...)
}

// times are the types of times at every scale, on both sides of 1970.
func times() (all []value) {
	const nanos = 123_456_789
	for scale := 0; scale <= 9; scale++ {
		unit := int64(1)
		for range 9 - scale {
			unit *= 10
		}
		kept := nanos / unit * unit
		clock := snowflaketest.Clock(86_399_000_000_000 + kept)
		all = append(all, value{sourcetest.Type{
			Name: fmt.Sprintf("time(%d)", scale), SQL: fmt.Sprintf("t%d::TIME(%d)", scale, scale), Want: models.TimeValue(int64(clock) / 1000),
		}, "time", scale, clock})
		for _, at := range []time.Time{time.Date(2024, 2, 29, 21, 59, 59, int(kept), time.UTC), time.Date(1900, 1, 1, 0, 0, 1, int(kept), time.UTC)} {
			for _, wire := range []string{"timestamp_ntz", "timestamp_ltz", "timestamp_tz"} {
				moment := snowflaketest.Moment{Seconds: at.Unix(), Nanos: int32(kept)}
				want := models.TimestampTZValue(at.UnixMicro())
				switch wire {
				case "timestamp_ntz":
					want = models.TimestampValue(at.UnixMicro())
				case "timestamp_tz":
					moment.East = -330
				}
				all = append(all, value{sourcetest.Type{
					Name: fmt.Sprintf("%s(%d) in %d", wire, scale, at.Year()), SQL: fmt.Sprintf("y%d::%s(%d)", at.Year(), wire, scale), Want: want,
				}, wire, scale, moment})
			}
		}
	}
	return all
}
