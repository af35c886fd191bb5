package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"coho/models"
)

func TestQuoteTable(t *testing.T) {
	for in, want := range map[string]string{
		"accounts":             `"accounts"`,
		"Accounts":             `"accounts"`,
		"crm.accounts":         `"crm"."accounts"`,
		"db.crm.accounts":      `"db"."crm"."accounts"`,
		`"Crm".accounts`:       `"Crm"."accounts"`,
		`"a.b"."c""d"`:         `"a.b"."c""d"`,
		" crm.accounts ":       `"crm"."accounts"`,
		"my-table":             `"my-table"`,
		"t; DROP TABLE x":      `"t; drop table x"`,
		`"x"`:                  `"x"`,
		"":                     "",
		".":                    "",
		"a.":                   "",
		".a":                   "",
		"a..b":                 "",
		"a.b.c.d":              "",
		`"open`:                "",
		`""`:                   "",
		`"a"b`:                 "",
		`a"b"`:                 "",
		"a\x00b":               "",
		`x"; DROP TABLE y; --`: "",
	} {
		got, err := quoteTable(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("quoteTable(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func FuzzQuoteTable(f *testing.F) {
	for _, s := range []string{"a", `"A".b`, `"a""b"`, "a.b.c", `x"y`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		quoted, err := quoteTable(name)
		if err != nil {
			return
		}
		// Nothing of the name stands outside quotes.
		inside := false
		for _, r := range quoted {
			if r == '"' {
				inside = !inside
			} else if !inside && r != '.' {
				t.Fatalf("%q became %s", name, quoted)
			}
		}
		if inside {
			t.Fatalf("%q became %s", name, quoted)
		}
		if again, err := quoteTable(quoted); err != nil || again != quoted {
			t.Fatalf("%s became %s, %v", quoted, again, err)
		}
	})
}

func TestPosition(t *testing.T) {
	for _, c := range []struct {
		query        string
		offset       int
		line, column int
	}{{"SELECT x", 8, 1, 8}, {"a\nbc", 3, 2, 1}, {"ü\nü x", 5, 2, 3}, {"a", 99, 1, 2}} {
		if l, col := position(c.query, c.offset); l != c.line || col != c.column {
			t.Errorf("position(%q, %d) = %d, %d", c.query, c.offset, l, col)
		}
	}
}

func unhex(tb testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestMalformedCells(t *testing.T) {
	for name, c := range map[string]struct {
		codec codec
		cell  string
	}{
		"bool of two bytes":            {boolCodec, "0101"},
		"int8 of four bytes":           {int8Codec, "00000001"},
		"uuid too short":               {uuidCodec, "00"},
		"time beyond a day":            {timeCodec, "ffffffffffffffff"},
		"text not UTF-8":               {textCodec, "ff"},
		"json not UTF-8":               {jsonCodec, "ff"},
		"jsonb without version":        {jsonbCodec, ""},
		"jsonb of version 2":           {jsonbCodec, "027b7d"},
		"numeric cut":                  {numericCodec, "0001 0000 0000"},
		"numeric without its digits":   {numericCodec, "0002 0000 0000 0000 0001"},
		"numeric with a digit too big": {numericCodec, "0001 0000 0000 0000 2710"},
		"numeric of unknown sign":      {numericCodec, "0001 0000 1000 0000 0001"},
		"array cut":                    {arrayCodec(int4Codec), "00000001 00000000 00000017"},
		"array longer than its bytes":  {arrayCodec(int4Codec), "00000001 00000000 00000017 7fffffff 00000001"},
		"array of seven dimensions":    {arrayCodec(int4Codec), "00000007 00000000 00000017"},
		"array with bytes left":        {arrayCodec(int4Codec), "00000001 00000000 00000017 00000001 00000001 ffffffff 00"},
		"text array open":              {arrayCodec(otherCodec), hex.EncodeToString([]byte(`{"a`))},
		"text array with no element":   {arrayCodec(otherCodec), hex.EncodeToString([]byte(`{a,}`))},
	} {
		t.Run(name, func(t *testing.T) {
			cell := unhex(t, c.cell)
			if v, err := c.codec.decode(cell); err == nil {
				t.Errorf("decoded to %s", v.Text())
			}
			if c.codec.appendKey != nil {
				if key, err := c.codec.appendKey([]byte("x"), cell); err == nil || string(key) != "x" {
					t.Errorf("appendKey = %q, %v", key, err)
				}
			}
		})
	}
}

// sameKey holds a codec to AppendKey's promise.
func sameKey(t *testing.T, c codec, cell []byte) (models.Value, bool) {
	t.Helper()
	v, err := c.decode(cell)
	if c.appendKey != nil {
		key, keyErr := c.appendKey([]byte("x"), cell)
		if (err == nil) != (keyErr == nil) {
			t.Fatalf("decode: %v, appendKey: %v", err, keyErr)
		}
		if err == nil && string(key) != "x"+v.Text() {
			t.Fatalf("appendKey = %q, decode gives %q", key, v.Text())
		}
	}
	return v, err == nil
}

func FuzzNumeric(f *testing.F) {
	for _, s := range []string{
		"0000 0000 0000 0000", "0001 0000 4000 0002 0007", "0002 0001 0000 0004 0001 270f",
		"0000 0000 c000 0000", "0001 fffe 4000 000c 04d2", "0000 0000 4000 0003", "0000 0000 d000 0020", "0003 0000 0000 0001 0001 0001 0001",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, cell []byte) {
		v, ok := sameKey(t, numericCodec, cell)
		if !ok || v.Kind() != models.Decimal {
			return
		}
		// The same number by another way: digits times powers of 10000, cut
		// after the scale.
		weight := int64(int16(binary.BigEndian.Uint16(cell[2:])))
		scale := int64(binary.BigEndian.Uint16(cell[6:]))
		if weight < -1000 || weight > 1000 || scale > 4000 {
			return
		}
		sum := new(big.Rat)
		for i := 8; i < len(cell); i += 2 {
			power := weight - int64(i-8)/2
			n := new(big.Int).Exp(big.NewInt(10000), big.NewInt(max(power, -power)), nil)
			r := new(big.Rat).SetInt(n)
			if power < 0 {
				r.Inv(r)
			}
			sum.Add(sum, r.Mul(r, new(big.Rat).SetInt64(int64(binary.BigEndian.Uint16(cell[i:])))))
		}
		unit := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(scale), nil))
		scaled := new(big.Rat).Mul(sum, unit)
		whole := new(big.Int).Quo(scaled.Num(), scaled.Denom())
		want := new(big.Rat).Quo(new(big.Rat).SetInt(whole), unit)
		if binary.BigEndian.Uint16(cell[4:]) == numericNegative {
			want.Neg(want)
		}
		got, ok := new(big.Rat).SetString(v.Str())
		if !ok || got.Cmp(want) != 0 {
			t.Fatalf("%x became %s, want %s", cell, v.Str(), want.FloatString(int(scale)))
		}
		if _, fraction, _ := strings.Cut(v.Str(), "."); len(fraction) != int(scale) {
			t.Fatalf("%x became %s, want %d digits after the point", cell, v.Str(), scale)
		}
	})
}

func FuzzArray(f *testing.F) {
	f.Add(unhex(f, "00000000 00000000 00000017"))
	f.Add(unhex(f, "00000001 00000001 00000019 00000002 00000001 00000001 61 ffffffff"))
	f.Add(unhex(f, "00000002 00000000 00000019 00000001 00000001 00000002 00000001 00000001 61 00000002 2262"))
	f.Fuzz(func(t *testing.T, cell []byte) {
		for _, elem := range []codec{textCodec, int4Codec, jsonbCodec, numericCodec} {
			v, ok := sameKey(t, arrayCodec(elem), cell)
			if !ok {
				continue
			}
			if v.Kind() != models.List && v.Kind() != models.Text {
				t.Fatalf("an array became %s", v.Kind())
			}
			if !utf8.ValidString(v.Text()) {
				t.Fatalf("not UTF-8: %q", v.Text())
			}
		}
	})
}

// FuzzTextArray writes a list as PostgreSQL does and reads it back.
func FuzzTextArray(f *testing.F) {
	f.Add("a", "", "NULL", true)
	f.Add(`b"c\`, "{x,y}", "null", false)
	f.Add(" d ", "\n", "ü", true)
	f.Fuzz(func(t *testing.T, a, b, c string, null bool) {
		for _, s := range []string{a, b, c} {
			sameKey(t, arrayCodec(otherCodec), []byte(s))
		}
		if !utf8.ValidString(a) || !utf8.ValidString(b) || !utf8.ValidString(c) {
			return
		}
		values := []models.Value{models.TextValue(a), models.TextValue(b), models.TextValue(c)}
		if null {
			values[1] = models.Value{}
		}
		var text strings.Builder
		writeArray(&text, []int{3}, values)
		got, err := decodeTextArray([]byte(text.String()), otherCodec)
		if err != nil {
			t.Fatalf("%s: %v", text.String(), err)
		}
		if got.Kind() != models.List {
			return // an element that begins with a brace needs no quotes in no array
		}
		for i, v := range got.List() {
			if v.Kind() != values[i].Kind() || v.Str() != values[i].Str() {
				t.Fatalf("%s became %s", text.String(), got.Text())
			}
		}
	})
}

func FuzzJSONB(f *testing.F) {
	f.Add([]byte("\x01{}"))
	f.Add([]byte("\x02{}"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, cell []byte) {
		if v, ok := sameKey(t, jsonbCodec, cell); ok && (v.Kind() != models.JSON || v.Str() != string(cell[1:])) {
			t.Fatalf("%q became %q", cell, v.Str())
		}
	})
}

// FuzzScalars feeds every type any bytes.
func FuzzScalars(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 8))
	f.Add([]byte("2024-01-01      "))
	f.Fuzz(func(t *testing.T, cell []byte) {
		for _, typ := range builtin {
			sameKey(t, typ.codec, cell)
		}
	})
}

// FuzzFrame makes a frame of cells and takes it apart.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("a"), []byte{}, true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, []byte("\x00"), false)
	f.Fuzz(func(t *testing.T, a, b []byte, null bool) {
		in := [][]byte{append([]byte{}, a...), nil, append([]byte{}, b...)}
		if !null {
			in[1] = []byte{}
		}
		var frame []byte
		for _, c := range in {
			frame = models.AppendCell(frame, c)
		}
		out := make([][]byte, 3)
		if err := models.SplitFrame(frame, out); err != nil {
			t.Fatal(err)
		}
		for i := range in {
			if !bytes.Equal(in[i], out[i]) || (in[i] == nil) != (out[i] == nil) {
				t.Fatalf("cell %d was %q, is %q", i, in[i], out[i])
			}
		}
		// As bytes from elsewhere: an error or a split, never a panic.
		if models.SplitFrame(a, out) == nil {
			n := 0
			for _, c := range out {
				n += 4 + len(c)
			}
			if n != len(a) {
				t.Fatalf("cells of %d bytes out of a frame of %d", n, len(a))
			}
		}
	})
}

// crmCells are the binary cells of a typical row.
func crmCells(tb testing.TB) (*schema, [][]byte) {
	fields := []pgconn.FieldDescription{
		{Name: "id", DataTypeOID: 20}, {Name: "external_id", DataTypeOID: 2950}, {Name: "name", DataTypeOID: 25},
		{Name: "active", DataTypeOID: 16}, {Name: "arr", DataTypeOID: 1700}, {Name: "since", DataTypeOID: 1082},
		{Name: "updated_at", DataTypeOID: 1184}, {Name: "tags", DataTypeOID: 1009},
	}
	return newSchema(fields, nil, serverSettings{}), [][]byte{
		unhex(tb, "0000000000bc614e"), unhex(tb, "a0eebc999c0b4ef8bb6d6bb9bd380a11"), []byte("Acme Corporation, Berlin"),
		{1}, unhex(tb, "0003 0001 0000 0002 007b 11d7 2260"), unhex(tb, "00002275"),
		unhex(tb, "0002b0b57f7a2c00"), unhex(tb, "00000001 00000000 00000019 00000002 00000001 00000001 61 00000001 62"),
	}
}

func TestAppendKeyDoesNotAllocate(t *testing.T) {
	s, cells := crmCells(t)
	dst := make([]byte, 0, 256)
	for i, c := range s.columns[:7] {
		if n := testing.AllocsPerRun(100, func() {
			var err error
			if dst, err = s.AppendKey(dst[:0], i, cells[i]); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.Type, n)
		}
	}
}

func BenchmarkAppendKey(b *testing.B) {
	s, cells := crmCells(b)
	dst := make([]byte, 0, 256)
	for i, c := range s.columns {
		b.Run("type="+strings.ReplaceAll(c.Type, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = s.AppendKey(dst[:0], i, cells[i]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	s, cells := crmCells(b)
	for i, c := range s.columns {
		b.Run("type="+strings.ReplaceAll(c.Type, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Decode(i, cells[i]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
