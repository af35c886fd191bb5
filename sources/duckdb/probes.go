package duckdb

import "coho/sources"

var _ sources.TypeProber = (*Source)(nil)

// TypeProbes implements sources.TypeProber.
func (s *Source) TypeProbes() []sources.TypeProbe {
	return []sources.TypeProbe{
		{Type: "BIGINT", Expr: "'-9223372036854775808'::BIGINT", Text: "-9223372036854775808"},
		{Type: "HUGEINT", Expr: "'170141183460469231731687303715884105727'::HUGEINT", Text: "170141183460469231731687303715884105727"},
		{Type: "DOUBLE", Expr: "0.1::DOUBLE", Text: "0.1"},
		{Type: "DECIMAL(38,10)", Expr: "'-1234567890123456789012345678.0123456789'::DECIMAL(38,10)", Text: "-1234567890123456789012345678.0123456789"},
		{Type: "BOOLEAN", Expr: "true", Text: "true"},
		{Type: "VARCHAR", Expr: "'Grüße 🌍'", Text: "Grüße 🌍"},
		{Type: "VARCHAR", Expr: "NULL::VARCHAR", Null: true},
		{Type: "BLOB", Expr: `'\x00\xFFa'::BLOB`, Text: "AP9h"},
		{Type: "UUID", Expr: "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::UUID", Text: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{Type: "DATE", Expr: "'0001-01-01'::DATE", Text: "0001-01-01"},
		{Type: "TIME", Expr: "'23:59:59.999999'::TIME", Text: "23:59:59.999999"},
		{Type: "TIMESTAMP", Expr: "'1900-01-01 00:00:00.000001'::TIMESTAMP", Text: "1900-01-01T00:00:00.000001"},
		{Type: "TIMESTAMPTZ", Expr: "'2024-02-29 23:59:59.123456+02'::TIMESTAMPTZ", Text: "2024-02-29T21:59:59.123456Z"},
		{Type: "JSON", Expr: `'{"a":[1,null]}'::JSON`, Text: `{"a":[1,null]}`},
		{Type: "VARCHAR[]", Expr: "['a', '', 'b;c']", Text: "a;;b;c"},
		{Type: "STRUCT(x INTEGER, y VARCHAR)", Expr: "{'x': 1, 'y': 'y'}", Text: `{"x":1,"y":"y"}`},
	}
}
