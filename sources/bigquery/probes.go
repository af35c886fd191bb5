package bigquery

import "coho/sources"

var _ sources.TypeProber = (*Source)(nil)

// TypeProbes implements sources.TypeProber.
func (s *Source) TypeProbes() []sources.TypeProbe {
	return []sources.TypeProbe{
		{Type: "INT64", Expr: "-9223372036854775808", Text: "-9223372036854775808"},
		{Type: "FLOAT64", Expr: "CAST(0.1 AS FLOAT64)", Text: "0.1"},
		{Type: "NUMERIC", Expr: "NUMERIC '99999999999999999999999999999.999999999'", Text: "99999999999999999999999999999.999999999"},
		{Type: "BIGNUMERIC", Expr: "BIGNUMERIC '1.25'", Text: "1.25"},
		{Type: "BOOL", Expr: "TRUE", Text: "true"},
		{Type: "STRING", Expr: "'héé\\n\"x\" 🎈'", Text: "héé\n\"x\" 🎈"},
		{Type: "STRING", Expr: "CAST(NULL AS STRING)", Null: true},
		{Type: "BYTES", Expr: "b'\\x00\\xffa'", Text: "AP9h"},
		{Type: "DATE", Expr: "DATE '0001-01-01'", Text: "0001-01-01"},
		{Type: "DATETIME", Expr: "DATETIME '1900-01-01 00:00:00.000001'", Text: "1900-01-01T00:00:00.000001"},
		{Type: "TIME", Expr: "TIME '23:59:59.999999'", Text: "23:59:59.999999"},
		{Type: "TIMESTAMP", Expr: "TIMESTAMP '2024-02-29 23:59:59.123456+02'", Text: "2024-02-29T21:59:59.123456Z"},
		{Type: "JSON", Expr: "JSON '{\"a\":[1,null]}'", Text: `{"a":[1,null]}`},
		{Type: "ARRAY<STRING>", Expr: "['a', '', 'b;c']", Text: "a;;b;c"},
		{Type: "STRUCT<x INT64, y STRING>", Expr: "STRUCT(1 AS x, 'y' AS y)", Text: `{"x":1,"y":"y"}`},
	}
}
