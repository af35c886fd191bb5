package duckdb

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
	"unsafe"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
)

// vector is a column of the current chunk. Its memory is DuckDB's and lasts
// as long as the chunk.
type vector struct {
	typ      *dataType
	data     unsafe.Pointer
	validity unsafe.Pointer // a bit a row, nil where no row is null
	children []vector
}

func newVector(t *dataType) vector {
	v := vector{typ: t, children: make([]vector, len(t.children))}
	for i, c := range t.children {
		v.children[i] = newVector(c)
	}
	return v
}

// bind points the vector at a chunk's memory.
func (v *vector) bind(vec bindings.Vector) {
	v.data = bindings.VectorGetData(vec)
	v.validity = bindings.VectorGetValidity(vec)
	switch v.typ.shape {
	case shapeList, shapeMap:
		v.children[0].bind(bindings.ListVectorGetChild(vec))
	case shapeArray:
		v.children[0].bind(bindings.ArrayVectorGetChild(vec))
	case shapeStruct, shapeUnion:
		for i := range v.children {
			v.children[i].bind(bindings.StructVectorGetChild(vec, bindings.IdxT(i)))
		}
	}
}

func (v *vector) null(row int) bool {
	if v.validity == nil {
		return false
	}
	word := *(*uint64)(unsafe.Add(v.validity, row/64*8))
	return word&(1<<(uint(row)%64)) == 0
}

// fixed returns the value's memory.
func (v *vector) fixed(row int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(v.data, row*v.typ.size)), v.typ.size)
}

// Layout of duckdb_string_t (duckdb.h): the length, then up to 12 bytes in
// place, else a prefix of 4 bytes and a pointer.
const (
	stringSize    = 16
	stringInlined = 12
)

// blob returns the bytes of a string in place.
func (v *vector) blob(row int) []byte {
	p := unsafe.Add(v.data, row*stringSize)
	n := int(*(*uint32)(p))
	if n <= stringInlined {
		return unsafe.Slice((*byte)(unsafe.Add(p, 4)), n)
	}
	return unsafe.Slice(*(**byte)(unsafe.Add(p, 8)), n)
}

// span returns where a list's elements are in its child.
func (v *vector) span(row int) (from, n int) {
	if v.typ.shape == shapeArray {
		return row * v.typ.length, v.typ.length
	}
	entry := unsafe.Add(v.data, row*16)
	return int(*(*uint64)(entry)), int(*(*uint64)(unsafe.Add(entry, 8)))
}

// label returns an enum's text.
func (v *vector) label(row int) []byte {
	p := unsafe.Add(v.data, row*v.typ.size)
	switch v.typ.size {
	case 1:
		return v.typ.labels[*(*uint8)(p)]
	case 2:
		return v.typ.labels[*(*uint16)(p)]
	}
	return v.typ.labels[*(*uint32)(p)]
}

// append appends the cell of a row that is not null.
func (v *vector) append(dst []byte, row int) []byte {
	switch v.typ.shape {
	case shapeFixed:
		return append(dst, v.fixed(row)...)
	case shapeBlob:
		return append(dst, v.blob(row)...)
	case shapeEnum:
		return append(dst, v.label(row)...)
	case shapeList, shapeArray:
		from, n := v.span(row)
		elem := &v.children[0]
		for i := from; i < from+n; i++ {
			if elem.null(i) {
				dst = append(dst, 0xff, 0xff, 0xff, 0xff)
				continue
			}
			start := len(dst)
			dst = elem.append(append(dst, 0, 0, 0, 0), i)
			binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
		}
		return dst
	case shapeNull:
		return dst
	}
	return v.appendJSON(dst, row)
}

// appendJSON appends a value as JSON, null included.
func (v *vector) appendJSON(dst []byte, row int) []byte {
	if v.null(row) {
		return append(dst, "null"...)
	}
	switch v.typ.shape {
	case shapeList, shapeArray:
		from, n := v.span(row)
		dst = append(dst, '[')
		for i := range n {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = v.children[0].appendJSON(dst, from+i)
		}
		return append(dst, ']')
	case shapeMap:
		from, n := v.span(row)
		entry := &v.children[0]
		dst = append(dst, '{')
		for i := range n {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendQuoted(dst, entry.children[0].text(from+i))
			dst = append(dst, ':')
			dst = entry.children[1].appendJSON(dst, from+i)
		}
		return append(dst, '}')
	case shapeStruct:
		return v.appendStruct(dst, row)
	case shapeUnion: // the tag, then the members, of which one counts
		tag := int(*(*uint8)(unsafe.Add(v.children[0].data, row)))
		dst = append(dst, '{')
		dst = appendQuoted(dst, v.typ.names[tag+1])
		dst = append(dst, ':')
		dst = v.children[tag+1].appendJSON(dst, row)
		return append(dst, '}')
	}
	text := v.text(row)
	switch v.typ.kind {
	case models.JSON, models.Bool, models.Int, models.Decimal:
		return append(dst, text...)
	case models.Float:
		if last := text[len(text)-1]; last >= '0' && last <= '9' { // neither NaN nor infinite
			return append(dst, text...)
		}
	}
	return appendQuoted(dst, text)
}

// appendStruct writes an object, or an array where the fields have no names.
func (v *vector) appendStruct(dst []byte, row int) []byte {
	named := v.typ.names[0] != ""
	brackets := "[]"
	if named {
		brackets = "{}"
	}
	dst = append(dst, brackets[0])
	for i := range v.children {
		if i > 0 {
			dst = append(dst, ',')
		}
		if named {
			dst = appendQuoted(dst, v.typ.names[i])
			dst = append(dst, ':')
		}
		dst = v.children[i].appendJSON(dst, row)
	}
	return append(dst, brackets[1])
}

// text returns a value's canonical text; an infinite time, which has none,
// as what DuckDB prints.
func (v *vector) text(row int) string {
	if v.null(row) {
		return "null"
	}
	cell := v.append(nil, row)
	value, err := v.typ.decode(cell)
	if err != nil {
		if cell[len(cell)-1]&0x80 != 0 {
			return "-infinity"
		}
		return "infinity"
	}
	return value.Text()
}

// appendQuoted appends a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r < 0x20:
			dst = append(dst, `\u00`...)
			if r < 0x10 {
				dst = append(dst, '0')
			}
			dst = strconv.AppendInt(dst, int64(r), 16)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
