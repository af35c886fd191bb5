package snowflake

import "coho/sources"

var _ sources.TypeProber = (*Source)(nil)

// TypeProbes implements sources.TypeProber.
func (s *Source) TypeProbes() []sources.TypeProbe {
	return []sources.TypeProbe{
		{Type: "NUMBER(38,0)", Expr: "'99999999999999999999999999999999999999'::NUMBER(38,0)", Text: "99999999999999999999999999999999999999"},
		{Type: "NUMBER(38,10)", Expr: "'-1234567890123456789012345678.0123456789'::NUMBER(38,10)", Text: "-1234567890123456789012345678.0123456789"},
		{Type: "FLOAT", Expr: "0.1::FLOAT", Text: "0.1"},
		{Type: "DECFLOAT", Expr: "'1.5'::DECFLOAT", Text: "1.5"},
		{Type: "TEXT", Expr: "'Grüße 🌍'", Text: "Grüße 🌍"},
		{Type: "TEXT", Expr: "NULL::TEXT", Null: true},
		{Type: "BOOLEAN", Expr: "TRUE", Text: "true"},
		{Type: "DATE", Expr: "'0001-01-01'::DATE", Text: "0001-01-01"},
		{Type: "TIME", Expr: "'23:59:59.999999'::TIME", Text: "23:59:59.999999"},
		{Type: "TIMESTAMP_NTZ", Expr: "'1900-01-01 00:00:00.000001'::TIMESTAMP_NTZ", Text: "1900-01-01T00:00:00.000001"},
		{Type: "TIMESTAMP_LTZ", Expr: "'2024-02-29 23:59:59.123456 +0200'::TIMESTAMP_LTZ", Text: "2024-02-29T21:59:59.123456Z"},
		{Type: "TIMESTAMP_TZ", Expr: "'2024-02-29 23:59:59.123456 +0200'::TIMESTAMP_TZ", Text: "2024-02-29T21:59:59.123456Z"},
		{Type: "BINARY", Expr: "TO_BINARY('00FF61')", Text: "AP9h"},
		{Type: "VARIANT", Expr: "PARSE_JSON('{\"a\":[1,null]}')", Text: `{"a":[1,null]}`},
		{Type: "OBJECT", Expr: "OBJECT_CONSTRUCT('x', 1)", Text: `{"x":1}`},
		{Type: "ARRAY", Expr: "ARRAY_CONSTRUCT('a', '', 'b;c')", Text: "a;;b;c"},
	}
}
