package duckdb

import (
	"encoding/binary"
	"math/big"
	"testing"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
)

// allTypes are the scalars and one of each type with parameters.
func allTypes() []*dataType {
	var types []*dataType
	for id, t := range scalars {
		t.id = id
		types = append(types, &t)
	}
	for _, size := range []int{2, 4, 8, 16} {
		types = append(types, &dataType{name: "DECIMAL", id: bindings.TypeDecimal, kind: models.Decimal, size: size, scale: 3})
	}
	for _, elem := range types[:len(types):len(types)] {
		types = append(types, &dataType{name: elem.name + "[]", id: bindings.TypeList, kind: models.List, shape: shapeList, children: []*dataType{elem}})
	}
	return types
}

// FuzzDecode feeds every type any bytes and holds it to AppendKey's promise.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{0, 0, 0, 1, 'a', 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, cell []byte) {
		for _, typ := range allTypes() {
			v, err := typ.decode(cell)
			key, keyErr := typ.appendKey([]byte("x"), cell)
			if (err == nil) != (keyErr == nil) {
				t.Fatalf("%s: decode: %v, appendKey: %v", typ.name, err, keyErr)
			}
			if err == nil && string(key) != "x"+v.Text() {
				t.Fatalf("%s: appendKey = %q, decode gives %q", typ.name, key, v.Text())
			}
		}
	})
}

// FuzzUint128 compares with big.Int.
func FuzzUint128(f *testing.F) {
	f.Add(uint64(0), uint64(0))
	f.Add(uint64(1), uint64(0))
	f.Add(^uint64(0), ^uint64(0))
	f.Add(uint64(0x8AC7230489E7FFFF), uint64(1e19))
	f.Fuzz(func(t *testing.T, hi, lo uint64) {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], hi)
		binary.BigEndian.PutUint64(b[8:], lo)
		if got, want := string(appendUint128(nil, hi, lo)), new(big.Int).SetBytes(b[:]).String(); got != want {
			t.Fatalf("%x became %s, want %s", b, got, want)
		}
	})
}

func TestAppendKeyDoesNotAllocate(t *testing.T) {
	cell := make([]byte, 16)
	cell[0], cell[9] = 77, 1
	dst := make([]byte, 0, 256)
	for _, typ := range allTypes() {
		switch {
		case typ.shape == shapeList, typ.id == bindings.TypeFloat, typ.id == bindings.TypeBigNum, typ.id == bindings.TypeBit:
			continue
		}
		c := cell
		if typ.shape == shapeFixed {
			c = cell[:typ.size]
		}
		if n := testing.AllocsPerRun(100, func() {
			var err error
			if dst, err = typ.appendKey(dst[:0], c); err != nil {
				t.Fatalf("%s: %v", typ.name, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", typ.name, n)
		}
	}
}
