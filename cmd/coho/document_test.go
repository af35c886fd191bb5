package main

import (
	"fmt"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/sources/postgres/postgrestest"
	"coho/sources/sourcetest"
)

// typesPage is the page of the documentation that the tests below hold true.
const typesPage = "../../docs/types.md"

// fieldTypes are Salesforce's field types, as describe names them, in the groups
// whose values look alike.
var fieldTypes = []struct{ name, field string }{
	{"string", `type = "string", length = 255`},
	{"textarea", `type = "textarea", length = 32768`},
	{"phone", `type = "phone"`},
	{"url", `type = "url"`},
	{"combobox", `type = "combobox"`},
	{"encryptedstring", `type = "encryptedstring"`},
	{"email", `type = "email"`},
	{"picklist", `type = "picklist", values = ["Gold", "Silver"]`},
	{"multipicklist", `type = "multipicklist", values = ["Gold", "Silver"]`},
	{"boolean", `type = "boolean"`},
	{"int", `type = "int"`},
	{"double", `type = "double", precision = 18, scale = 2`},
	{"currency", `type = "currency", precision = 18, scale = 2`},
	{"percent", `type = "percent", precision = 18, scale = 2`},
	{"double of a location (`Place__Latitude__s`)", `type = "double", precision = 18, scale = 14`},
	{"date", `type = "date"`},
	{"datetime", `type = "datetime"`},
	{"time", `type = "time"`},
	{"reference", `type = "reference", reference_to = ["Account"], relationship = "@__r", child_relationship = "@__r"`},
}

// kindValues are values of each kind, as DuckDB has them: the first is for fields
// that the others do not name.
var kindValues = []struct {
	kind, column string
	values       map[string]string
}{
	{"bool", "BOOLEAN", map[string]string{"": "true"}},
	{"int", "BIGINT", map[string]string{"": "42", "boolean": "1"}},
	{"decimal", "DECIMAL(18,4)", map[string]string{"": "-1234.5600", "boolean": "1", "int": "1234", "double of a location (`Place__Latitude__s`)": "-48.8584"}},
	{"float", "DOUBLE", map[string]string{"": "0.1", "boolean": "1", "int": "3"}},
	{"text", "VARCHAR", map[string]string{
		"": "'Grüße 🌍'", "email": "'Ann@example.com'", "picklist": "'Gold'", "multipicklist": "'Gold; Silver'", "boolean": "'yes'", "int": "'42'",
		"double": "'1.2e3'", "currency": "'1234.50'", "percent": "'75'", "double of a location (`Place__Latitude__s`)": "'48.8584'",
		"date": "'2024-02-29'", "datetime": "'2024-02-29 13:14:15.678 +0200'", "time": "'13:14:15'", "reference": "'" + account + "'"}},
	{"bytes", "BLOB", map[string]string{"": `'\x00\xFF\x10'`}},
	{"date", "DATE", map[string]string{"": "'2024-02-29'"}},
	{"time", "TIME", map[string]string{"": "'13:14:15.678901'"}},
	{"timestamp", "TIMESTAMP", map[string]string{"": "'2024-02-29 13:14:15.678901'"}},
	{"timestamptz", "TIMESTAMPTZ", map[string]string{"": "'2024-02-29 23:14:15.678901-02'"}},
	{"json", "JSON", map[string]string{
		"": `'{"a": [1, null]}'`, "email": `'"ann@example.com"'`, "picklist": `'"Gold"'`, "multipicklist": `'["Gold", "Silver"]'`, "boolean": "'true'", "int": "'42'",
		"double": "'1234.50'", "currency": "'1234.50'", "percent": "'75'", "double of a location (`Place__Latitude__s`)": "'48.8584'",
		"date": `'"2024-02-29"'`, "datetime": `'"2024-02-29T13:14:15Z"'`, "time": `'"13:14:15"'`, "reference": "'\"" + account + "\"'"}},
	{"list", "VARCHAR[]", map[string]string{"": "['Gold', 'Silver']"}},
}

// TestDocumentedKinds: the documentation's table of kinds and field types is what
// coho sends, as read from the wire; the org takes it, by both APIs the same.
func TestDocumentedKinds(t *testing.T) {
	t.Parallel()
	var all []written
	for _, k := range kindValues {
		for _, f := range fieldTypes {
			value, ok := k.values[f.name]
			if !ok {
				value = k.values[""]
			}
			all = append(all, written{k.column, value, f.field})
		}
	}
	// What no mapping can fill, whatever the column.
	never := []struct{ name, field string }{
		{"base64", `type = "base64"`},
		{"address", "type = \"address\" },\n  { name = \"@_Street__c\", type = \"textarea\", compound = \"@__c\""},
		{"an auto-number", `type = "string", length = 30, auto_number = "{0000}"`},
		{"a formula", `type = "boolean", formula = "true"`},
	}
	for _, f := range never {
		all = append(all, written{"VARCHAR", "'x'", f.field})
	}
	got := matrix(t, duckDB, all)

	var b strings.Builder
	for i, k := range kindValues {
		fmt.Fprintf(&b, "#### %s\n\n| field | value | JSON | Bulk CSV |\n| --- | --- | --- | --- |\n", k.kind)
		last, names := "", []string{}
		line := func() {
			if len(names) > 0 {
				fmt.Fprintf(&b, "| %s | %s\n", strings.Join(names, ", "), last)
			}
			names = nil
		}
		for j, f := range fieldTypes {
			at := i*len(fieldTypes) + j
			a := got[at]
			row := fmt.Sprintf("%s | %s | %s |", sourcetest.Code(all[at].value), sourcetest.Code(a.json), sourcetest.Code(a.bulk))
			switch {
			case a.refused != "":
				row = fmt.Sprintf("any | refused: %s | |", sourcetest.Plain(a.refused))
			case a.err != "":
				row = fmt.Sprintf("%s | %s | |", sourcetest.Code(all[at].value), sourcetest.Plain(a.err))
			case a.json == "" || a.byRest:
				t.Errorf("%s into %s: %+v", all[at].value, f.name, a)
			}
			if row != last {
				line()
			}
			last = row
			names = append(names, f.name)
		}
		line()
		b.WriteString("\n")
	}
	b.WriteString("#### Fields that nothing fills\n\n| field | refused |\n| --- | --- |\n")
	for i, f := range never {
		a := got[len(kindValues)*len(fieldTypes)+i]
		if a.refused == "" {
			t.Errorf("%s is written: %+v", f.name, a)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", f.name, sourcetest.Plain(a.refused))
	}
	sourcetest.Section(t, typesPage, "kinds", b.String(), *rewrite)
}

// edge is a value at the edge of what a field takes.
type edge struct {
	what string
	written
}

const (
	text255  = `type = "string", length = 255`
	text5    = `type = "string", length = 5`
	number   = `type = "double", precision = 18, scale = 2`
	whole    = `type = "int"`
	checkbox = `type = "boolean"`
	day      = `type = "date"`
	instant  = `type = "datetime"`
	clock    = `type = "time"`
	list     = `type = "multipicklist", values = ["Gold", "Silver"]`
	strict   = `type = "multipicklist", values = ["Gold", "Silver"], restricted = true`
	pick     = `type = "picklist", values = ["Gold", "Silver"], restricted = true`
	email    = `type = "email"`
	parent   = `type = "reference", reference_to = ["Account"], relationship = "@__r", child_relationship = "@__r"`
)

// edges are read from DuckDB.
var edges = []struct {
	title string
	edges []edge
}{
	{"Numbers", []edge{
		{"38 digits into text", written{"HUGEINT", "99999999999999999999999999999999999999", text255}},
		{"38 digits with decimals into text", written{"DECIMAL(38,10)", "'-1234567890123456789012345678.0123456789'", text255}},
		{"more digits than the field has", written{"HUGEINT", "99999999999999999999999999999999999999", number}},
		{"more digits than a double holds", written{"DECIMAL(18,2)", "'1234567890123456.78'", number}},
		{"more decimals than the field has", written{"DECIMAL(18,5)", "10.00567", number}},
		{"decimals that round up to a digit too many", written{"DECIMAL(20,3)", "'9999999999999999.995'", number}},
		{"a double beyond the field", written{"DOUBLE", "1e22", number}},
		{"a double into text", written{"DOUBLE", "1e22", text255}},
		{"a small double", written{"DOUBLE", "1e-7", `type = "double", precision = 18, scale = 10`}},
		{"a float of 32 bits, by its shortest digits", written{"FLOAT", "0.1", `type = "double", precision = 18, scale = 10`}},
		{"negative zero", written{"DOUBLE", "'-0.0'", number}},
		{"NaN", written{"DOUBLE", "'NaN'", number}},
		{"infinity", written{"DOUBLE", "'-Infinity'", number}},
		{"NaN into text", written{"DOUBLE", "'NaN'", text255}},
		{"int overflow", written{"BIGINT", "2147483648", whole}},
		{"the largest int of 9 digits", written{"BIGINT", "999999999", whole}},
		{"10 digits", written{"BIGINT", "1000000000", whole}},
		{"a fraction into int", written{"DECIMAL(9,2)", "3.50", whole}},
		{"no fraction after all", written{"DOUBLE", "3.0", whole}},
		{"text with an exponent", written{"VARCHAR", "' 1.5e3 '", whole}},
		{"text with thousands", written{"VARCHAR", "'1,000'", number}},
		{"text that is no number", written{"VARCHAR", "'12 apples'", number}},
		{"text with an exponent, beyond the field", written{"VARCHAR", "'1e17'", number}},
	}},
	{"Dates and times", []edge{
		{"before 1900", written{"DATE", "'1899-12-31'", day}},
		{"the first day", written{"DATE", "'1700-01-01'", day}},
		{"the day before it", written{"DATE", "'1699-12-31'", day}},
		{"the last day", written{"DATE", "'4000-12-31'", day}},
		{"the day after it", written{"DATE", "'4001-01-01'", day}},
		{"infinity", written{"DATE", "'infinity'", day}},
		{"infinity into text", written{"TIMESTAMP", "'-infinity'", text255}},
		{"the last hours, elsewhere", written{"TIMESTAMPTZ", "'4000-12-31 23:00:00-02'", instant}},
		{"before 1900, with a time", written{"TIMESTAMP", "'1850-06-01 12:00:00'", instant}},
		{"microseconds", written{"TIMESTAMP", "'2024-02-29 13:14:15.678999'", instant}},
		{"microseconds before 1970", written{"TIMESTAMP", "'1969-12-31 23:59:59.999999'", instant}},
		{"a zone", written{"TIMESTAMPTZ", "'2024-03-31 02:30:00+05:30'", instant}},
		{"no zone", written{"TIMESTAMP", "'2024-03-31 02:30:00'", instant}},
		{"a zone into a date: the day in UTC", written{"TIMESTAMPTZ", "'2024-02-29 23:30:00-02'", day}},
		{"a time cut off", written{"TIMESTAMP", "'2024-02-29 23:30:00'", day}},
		{"a date's midnight", written{"DATE", "'2024-02-29'", instant}},
		{"text with a zone", written{"VARCHAR", "'2024-07-01 12:00:00.5-0830'", instant}},
		{"text with a zone's name", written{"VARCHAR", "'2024-07-01 12:00:00 Europe/Berlin'", instant}},
		{"text with a leap second", written{"VARCHAR", "'2016-12-31T23:59:60Z'", instant}},
		{"text with no such day", written{"VARCHAR", "'2023-02-29'", day}},
		{"text as Americans write it", written{"VARCHAR", "'6/15/2024'", day}},
		{"time of day to the microsecond", written{"TIME", "'23:59:59.999999'", clock}},
		{"time of day with a zone", written{"TIMETZ", "'04:05:06-08'", clock}},
		{"24 o'clock", written{"VARCHAR", "'24:00:00'", clock}},
		{"text of hours and minutes", written{"VARCHAR", "'09:05'", clock}},
		{"an interval, which comes as text", written{"INTERVAL", "INTERVAL '90 minutes'", clock}},
	}},
	{"Empty, null, true and false", []edge{
		{"null", written{"VARCHAR", "NULL", text255}},
		{"an empty text", written{"VARCHAR", "''", text255}},
		{"white space", written{"VARCHAR", `e' \t '`, text255}},
		{"an empty text into a number", written{"VARCHAR", "''", number}},
		{"an empty text into a date", written{"VARCHAR", "''", day}},
		{"no elements", written{"VARCHAR[]", "[]", list}},
		{"null into a checkbox", written{"BOOLEAN", "NULL", checkbox}},
		{"an empty text into a checkbox", written{"VARCHAR", "''", checkbox}},
		{"text into a checkbox", written{"VARCHAR", "'Yes'", checkbox}},
		{"0 into a checkbox", written{"INTEGER", "0", checkbox}},
		{"1.0 into a checkbox", written{"DOUBLE", "1.0", checkbox}},
		{"2 into a checkbox", written{"INTEGER", "2", checkbox}},
		{"a word into a checkbox", written{"VARCHAR", "'maybe'", checkbox}},
		{"a boolean into a number", written{"BOOLEAN", "true", number}},
		{"a boolean into text", written{"BOOLEAN", "false", text255}},
	}},
	{"Text", []edge{
		{"as long as the field", written{"VARCHAR", "'äöüßé'", text5}},
		{"longer than the field", written{"VARCHAR", "'äöüßéx'", text5}},
		{"longer than a long field", written{"VARCHAR", "repeat('ä', 32769)", `type = "textarea", length = 32768`}},
		{"emoji up to the limit", written{"VARCHAR", "'🌍🌍🌍🌍🌍'", text5}},
		{"emoji across the limit", written{"VARCHAR", "'abcd🌍🌍'", text5}},
		{"one emoji of five characters", written{"VARCHAR", "'👨\u200d👩\u200d👧'", text5}},
		{"a NUL character", written{"VARCHAR", "'a' || chr(0) || 'b'", text255}},
		{"another control character", written{"VARCHAR", "'a' || chr(1) || 'b'", text255}},
		{"quotes, commas and lines", written{"VARCHAR", `e'say "a, b"\nand \\'`, text255}},
		{"carriage returns", written{"VARCHAR", `e'a\r\nb'`, text255}},
		{"white space at the ends", written{"VARCHAR", "' a '", text255}},
		{"what Bulk CSV means null by", written{"VARCHAR", "'#N/A'", text255}},
		{"that into a date", written{"VARCHAR", "'#N/A'", day}},
		{"the word null", written{"VARCHAR", "'null'", text255}},
		{"a formula of a spreadsheet", written{"VARCHAR", "'=1+1'", text255}},
		{"an address in capitals", written{"VARCHAR", "'Ann@EXAMPLE.com'", email}},
		{"no address", written{"VARCHAR", "'nobody'", email}},
		{"a value that is not in a restricted picklist", written{"VARCHAR", "'Goold'", pick}},
		{"another case of one that is", written{"VARCHAR", "'gold'", pick}},
		{"an Id of 15 characters", written{"VARCHAR", "'" + account[:15] + "'", parent}},
		{"an Id with a wrong checksum", written{"VARCHAR", "'" + account[:15] + "AAA'", parent}},
		{"a key instead of an Id", written{"VARCHAR", "'A1'", parent}},
		{"bytes", written{"BLOB", `'\x00\xFF'`, text255}},
		{"bytes longer than the field", written{"BLOB", `'\x00\x01\x02\x03'`, text5}},
	}},
	{"Arrays and JSON", []edge{
		{"an array into text", written{"VARCHAR[]", "['a', NULL, 'b;c']", text255}},
		{"an array longer than the field", written{"VARCHAR[]", "['abc', 'def']", text5}},
		{"a NUL within an array", written{"VARCHAR[]", "['a' || chr(0)]", text255}},
		{"an array of numbers into text", written{"DECIMAL(9,2)[]", "[1.50, 2.00]", text255}},
		{"an array into a multi-select: each value once, nulls left out", written{"VARCHAR[]", "['Silver', NULL, 'Gold', 'Silver']", list}},
		{"an array of numbers into a multi-select", written{"INTEGER[]", "[1, 2]", list}},
		{"a value with the separator in it", written{"VARCHAR[]", "['Gold;Silver']", list}},
		{"a value that is not in a restricted multi-select", written{"VARCHAR[]", "['Gold', 'Lead']", strict}},
		{"an array of arrays into a multi-select", written{"INTEGER[][]", "[[1], [2]]", list}},
		{"an array into a picklist", written{"VARCHAR[]", "['Gold']", pick}},
		{"text into a multi-select", written{"VARCHAR", "'Silver; Gold;'", strict}},
		{"a struct into text", written{"STRUCT(i INTEGER, s VARCHAR)", "{'i': 1, 's': 'x'}", text255}},
		{"a struct into a multi-select", written{"STRUCT(i INTEGER)", "{'i': 1}", list}},
		{"a JSON array into text", written{"JSON", `'[1, "x"]'`, text255}},
		{"a JSON array into a multi-select", written{"JSON", `'["Silver", null, "Gold"]'`, strict}},
		{"a JSON array of objects into a multi-select", written{"JSON", `'[{"a": 1}]'`, list}},
		{"a JSON text into text", written{"JSON", `'"Gold"'`, text255}},
		{"a JSON text into a picklist", written{"JSON", `'"Gold"'`, pick}},
		{"a JSON object into a picklist", written{"JSON", `'{"a": 1}'`, `type = "picklist", values = ["Gold"]`}},
		{"a JSON null into text", written{"JSON", "'null'", text255}},
		{"a JSON number into a number", written{"JSON", "'1e2'", number}},
		{"a JSON true into a checkbox", written{"JSON", "'true'", checkbox}},
	}},
}

// postgresEdges are values that DuckDB does not have.
var postgresEdges = []edge{
	{"NaN", written{"numeric", "'NaN'", number}},
	{"NaN into text", written{"numeric", "'NaN'", text255}},
	{"200 digits", written{"numeric", "repeat('9', 200)::numeric", number}},
	{"200 digits after the point", written{"numeric", "('0.' || repeat('3', 200))::numeric", number}},
	{"money", written{"money", "'1234.5'", number}},
	{"a leap second", written{"timestamptz", "'2016-12-31 23:59:60Z'", instant}},
	{"before Christ", written{"date", "'0044-03-15 BC'", day}},
	{"after the year 9999", written{"timestamp", "'10000-01-01'", instant}},
	{"24 o'clock", written{"time", "'24:00'", clock}},
	{"a range", written{"int4range", "'[1,5)'", text255}},
	{"jsonb", written{"jsonb", `'{"b":1,"a":null}'`, text255}},
	{"an array of two dimensions", written{"int[]", "'{{1,2},{3,4}}'", text255}},
	{"that into a multi-select: one value, PostgreSQL's text of it", written{"int[]", "'{{1,2},{3,4}}'", list}},
	{"that into a restricted one", written{"int[]", "'{{1,2},{3,4}}'", strict}},
}

// TestDocumentedEdges: the documentation's table of values at the edge of what a
// field takes is what becomes of them, on the wire and in the org, by both APIs.
func TestDocumentedEdges(t *testing.T) {
	t.Parallel()
	var all []written
	for _, group := range edges {
		for _, e := range group.edges {
			all = append(all, e.written)
		}
	}
	got := matrix(t, duckDB, all)
	var b strings.Builder
	table := func(title string, edges []edge, got []arrived) {
		fmt.Fprintf(&b, "#### %s\n\n| | value | field | JSON | Bulk CSV | in the org |\n| --- | --- | --- | --- | --- | --- |\n", title)
		for i, e := range edges {
			a := got[i]
			fmt.Fprintf(&b, "| %s | %s %s | %s | ", e.what, sourcetest.Code(e.value), e.column, fieldText(e.field))
			switch {
			case a.refused != "":
				fmt.Fprintf(&b, "refused: %s | | |\n", sourcetest.Plain(a.refused))
			case a.err != "" && a.json == "":
				fmt.Fprintf(&b, "%s | | |\n", sourcetest.Plain(a.err))
			case a.json == "":
				fmt.Fprintf(&b, "nothing | nothing | %s |\n", sourcetest.Code(a.held))
			default:
				bulk, held := sourcetest.Code(a.bulk), sourcetest.Code(a.held)
				if a.byRest {
					bulk = "as JSON, through Collections"
				}
				if a.err != "" {
					held = sourcetest.Plain(a.err)
				}
				fmt.Fprintf(&b, "%s | %s | %s |\n", sourcetest.Code(a.json), bulk, held)
			}
		}
		b.WriteString("\n")
	}
	for _, group := range edges {
		table(group.title, group.edges, got[:len(group.edges)])
		got = got[len(group.edges):]
	}

	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	all = nil
	for _, e := range postgresEdges {
		all = append(all, e.written)
	}
	table("PostgreSQL's own", postgresEdges, matrix(t, warehouse{
		source: "type = \"postgres\"\ndsn = \"${DSN}\"",
		env:    map[string]string{"DSN": dsn},
		exec:   func(w *world, statements string) { server.Exec(w.t, dsn, statements) },
	}, all))
	sourcetest.Section(t, typesPage, "edges", strings.TrimSuffix(b.String(), "\n"), *rewrite)
}

// TestInvalidUTF8: a database that holds text of no encoding refuses to hand it
// out, which fails the run and writes nothing.
func TestInvalidUTF8(t *testing.T) {
	server := postgrestest.Start(t)
	admin := server.CreateDatabase(t)
	server.Exec(t, admin, "CREATE DATABASE unencoded ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() { server.Exec(t, admin, "DROP DATABASE unencoded WITH (FORCE)") })
	w := newWorld(t, emulator.Options{})
	w.env["DSN"] = server.DSN("unencoded")
	w.config(strings.Replace(strings.Replace(accounts(""), duckDB.source, "type = \"postgres\"\ndsn = \"${DSN}\"", 1),
		"SELECT * FROM accounts", `SELECT 'A1' AS k, E'a\\xff' AS name, '1' AS phone`, 1))
	if r := w.coho("run", "accounts"); r.code != exitFailed || !strings.Contains(r.stderr, "invalid byte sequence for encoding") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	w.want(map[string]string{})
}

// fieldText is a field of an org file in few words.
func fieldText(field string) string {
	var name string
	var length, precision, scale int
	for _, part := range strings.Split(field, ", ") {
		key, value, _ := strings.Cut(part, " = ")
		switch key {
		case "type":
			name = strings.Trim(value, `"`)
		case "length":
			_, _ = fmt.Sscan(value, &length)
		case "precision":
			_, _ = fmt.Sscan(value, &precision)
		case "scale":
			_, _ = fmt.Sscan(value, &scale)
		case "restricted":
			name = "restricted " + name
		}
	}
	switch {
	case length > 0:
		return fmt.Sprintf("%s(%d)", name, length)
	case precision > 0:
		return fmt.Sprintf("%s(%d, %d)", name, precision-scale, scale)
	}
	return name
}
