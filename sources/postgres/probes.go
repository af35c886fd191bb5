package postgres

import "coho/sources"

var _ sources.TypeProber = (*Source)(nil)

// TypeProbes implements sources.TypeProber.
func (s *Source) TypeProbes() []sources.TypeProbe {
	return []sources.TypeProbe{
		{Type: "bigint", Expr: "'-9223372036854775808'::bigint", Text: "-9223372036854775808"},
		{Type: "double precision", Expr: "0.1::float8", Text: "0.1"},
		{Type: "numeric", Expr: "'-1234567890123456789012345678.0123456789'::numeric", Text: "-1234567890123456789012345678.0123456789"},
		{Type: "boolean", Expr: "true", Text: "true"},
		{Type: "text", Expr: "'Grüße 🌍'::text", Text: "Grüße 🌍"},
		{Type: "text", Expr: "NULL::text", Null: true},
		{Type: "bytea", Expr: `'\x00ff61'::bytea`, Text: "AP9h"},
		{Type: "uuid", Expr: "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", Text: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{Type: "date", Expr: "'0001-01-01'::date", Text: "0001-01-01"},
		{Type: "time", Expr: "'23:59:59.999999'::time", Text: "23:59:59.999999"},
		{Type: "timestamp", Expr: "'1900-01-01 00:00:00.000001'::timestamp", Text: "1900-01-01T00:00:00.000001"},
		{Type: "timestamptz", Expr: "'2024-02-29 23:59:59.123456+02'::timestamptz", Text: "2024-02-29T21:59:59.123456Z"},
		{Type: "jsonb", Expr: `'{"a":[1,null]}'::jsonb`, Text: `{"a": [1, null]}`},
		{Type: "text[]", Expr: "ARRAY['a', '', 'b;c']", Text: "a;;b;c"},
	}
}
