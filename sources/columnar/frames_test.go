package columnar_test

import (
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"coho/models"
	"coho/sources/columnar"
	"coho/sources/sourcetest"
)

// mix is a column of every way in which frames are written, and what its rows are.
type mix struct {
	typ    *columnar.Type
	arrow  arrow.DataType
	append func(b array.Builder, row int)
	want   func(row int) models.Value
}

func textOf(row int) string {
	switch {
	case row%700 == 699:
		return strings.Repeat("long ", 60_000) // more than a window
	case row%5 == 0:
		return ""
	}
	return strings.Repeat("x", row%40)
}

func mixes() []mix {
	whole := func(append func(b array.Builder, n int64), t arrow.DataType) mix {
		return mix{integer, t, func(b array.Builder, row int) { append(b, int64(row%200-100)) }, func(row int) models.Value { return models.IntValue(int64(row%200 - 100)) }}
	}
	texts2 := func(row int) []string { return []string{textOf(row % 600), "b"}[:row%3%2+1] }
	return []mix{
		whole(func(b array.Builder, n int64) { b.(*array.Int8Builder).Append(int8(n)) }, arrow.PrimitiveTypes.Int8),
		whole(func(b array.Builder, n int64) { b.(*array.Int16Builder).Append(int16(n)) }, arrow.PrimitiveTypes.Int16),
		whole(func(b array.Builder, n int64) { b.(*array.Int32Builder).Append(int32(n)) }, arrow.PrimitiveTypes.Int32),
		whole(func(b array.Builder, n int64) { b.(*array.Int64Builder).Append(n) }, arrow.PrimitiveTypes.Int64),
		{number, &arrow.Decimal128Type{Precision: 38, Scale: 2}, func(b array.Builder, row int) {
			b.(*array.Decimal128Builder).Append(decimal128.FromI64(int64(row) - 7))
		}, func(row int) models.Value {
			return models.DecimalValue(new(big.Rat).SetFrac64(int64(row)-7, 100).FloatString(2))
		}},
		{text, arrow.BinaryTypes.String, func(b array.Builder, row int) { b.(*array.StringBuilder).Append(textOf(row)) }, func(row int) models.Value { return models.TextValue(textOf(row)) }},
		{binary, arrow.BinaryTypes.LargeBinary, func(b array.Builder, row int) { b.(*array.BinaryBuilder).Append([]byte(textOf(row + 1))) }, func(row int) models.Value { return models.BytesValue([]byte(textOf(row + 1))) }},
		{boolean, arrow.FixedWidthTypes.Boolean, func(b array.Builder, row int) { b.(*array.BooleanBuilder).Append(row%3 == 1) }, func(row int) models.Value { return models.BoolValue(row%3 == 1) }},
		{date, arrow.FixedWidthTypes.Date32, func(b array.Builder, row int) { b.(*array.Date32Builder).Append(arrow.Date32(row - 50)) }, func(row int) models.Value { return models.DateValue(int64(row - 50)) }},
		{wall, &arrow.TimestampType{Unit: arrow.Microsecond}, func(b array.Builder, row int) {
			b.(*array.TimestampBuilder).Append(arrow.Timestamp(row - 50))
		}, func(row int) models.Value { return models.TimestampValue(int64(row - 50)) }},
		{texts, arrow.ListOf(arrow.BinaryTypes.String), func(b array.Builder, row int) {
			l := b.(*array.ListBuilder)
			l.Append(true)
			for _, s := range texts2(row) {
				l.ValueBuilder().(*array.StringBuilder).Append(s)
			}
		}, func(row int) models.Value {
			var all []models.Value
			for _, s := range texts2(row) {
				all = append(all, models.TextValue(s))
			}
			return models.ListValue(all)
		}},
	}
}

// TestFrames reads many rows of all ways at once, of a slice of a larger batch,
// among them rows longer than a window, with nothing null, with every third
// value of a column null, and with all of them null.
func TestFrames(t *testing.T) {
	const rows, from = 3000, 13
	columns := mixes()
	for name, null := range map[string]func(column, row int) bool{
		"nothing null":    func(int, int) bool { return false },
		"some null":       func(column, row int) bool { return (row+column)%3 == 0 },
		"one column null": func(column, _ int) bool { return column%4 == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			var fields []columnar.Field
			var schema []arrow.Field
			for _, c := range columns {
				fields = append(fields, columnar.Field{Name: c.typ.Name, Type: c.typ})
				schema = append(schema, arrow.Field{Name: c.typ.Name, Type: c.arrow, Nullable: true})
			}
			b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(schema, nil))
			fill := func() {
				for i, c := range columns {
					for row := range rows {
						if null(i, row) {
							b.Field(i).AppendNull()
						} else {
							c.append(b.Field(i), row)
						}
					}
				}
			}
			batch, described := columnar.NewBatch(fields), columnar.NewSchema(fields, "test")
			cells := make([][]byte, len(columns))
			for range 2 { // a batch begins anew
				fill()
				if err := batch.Reset(b.NewRecordBatch().NewSlice(from, rows)); err != nil {
					t.Fatal(err)
				}
				for row := from; row < rows; row++ {
					frame, err := batch.Next()
					if err != nil {
						t.Fatalf("row %d: %v", row, err)
					}
					if err := models.SplitFrame(frame, cells); err != nil {
						t.Fatalf("row %d: %v", row, err)
					}
					for i, c := range columns {
						if (cells[i] == nil) != null(i, row) {
							t.Fatalf("row %d: column %d is null: %t", row, i, cells[i] == nil)
						}
						if cells[i] == nil {
							continue
						}
						if v, err := described.Decode(i, cells[i]); err != nil || !sourcetest.Equal(v, c.want(row)) {
							t.Fatalf("row %d: column %d is %.200s, %v; want %.200s", row, i, sourcetest.Show(v), err, sourcetest.Show(c.want(row)))
						}
					}
				}
				if frame, err := batch.Next(); !errors.Is(err, io.EOF) || frame != nil {
					t.Fatalf("behind the last row: %x, %v", frame, err)
				}
			}
		})
	}
}

// TestFrameFails: the rows before one that cannot be read are handed out, and
// none behind it, wherever it is.
func TestFrameFails(t *testing.T) {
	for _, at := range []int{0, 1, 511, 512, 1500} {
		var rows strings.Builder
		for row := range 2000 {
			nanos := "5"
			if row >= at && row%2 == at%2 {
				nanos = "1000000000"
			}
			if row > 0 {
				rows.WriteByte(',')
			}
			rows.WriteString(`{"epoch": 1, "fraction": ` + nanos + `, "timezone": 0}`)
		}
		batch := columnar.NewBatch([]columnar.Field{{Name: "v", Type: wall}})
		if err := batch.Reset(recordOf(t, epochAndFraction, "["+rows.String()+"]")); err != nil {
			t.Fatal(err)
		}
		n := 0
		_, err := batch.Next()
		for ; err == nil; _, err = batch.Next() {
			n++
		}
		_, again := batch.Next()
		if n != at || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), `column "v"`) || !errors.Is(again, err) {
			t.Errorf("%d rows, then %v and %v; want %d rows", n, err, again, at)
		}
	}
}

// TestFrameFailsBehindLong: an error of a row that a window does not reach, since
// those before it are long, waits for its turn.
func TestFrameFailsBehindLong(t *testing.T) {
	const rows, bad = 20, 15
	var texts, moments strings.Builder
	for row := range rows {
		if row > 0 {
			texts.WriteByte(',')
			moments.WriteByte(',')
		}
		texts.WriteString(`"` + strings.Repeat("x", 60_000) + `"`)
		nanos := "5"
		if row == bad {
			nanos = "1000000000"
		}
		moments.WriteString(`{"epoch": 1, "fraction": ` + nanos + `, "timezone": 0}`)
	}
	columns := []arrow.Array{recordOf(t, arrow.BinaryTypes.String, "["+texts.String()+"]").Column(0), recordOf(t, epochAndFraction, "["+moments.String()+"]").Column(0)}
	schema := arrow.NewSchema([]arrow.Field{{Name: "t", Type: arrow.BinaryTypes.String}, {Name: "v", Type: epochAndFraction}}, nil)
	batch := columnar.NewBatch([]columnar.Field{{Name: "t", Type: text}, {Name: "v", Type: wall}})
	if err := batch.Reset(array.NewRecordBatch(schema, columns, rows)); err != nil {
		t.Fatal(err)
	}
	n := 0
	_, err := batch.Next()
	for ; err == nil; _, err = batch.Next() {
		n++
	}
	if n != bad || !strings.Contains(err.Error(), "nanoseconds") {
		t.Errorf("%d rows, then %v; want %d", n, err, bad)
	}
}

// TestNullWithBytes: what lies under a null is not part of its row.
func TestNullWithBytes(t *testing.T) {
	offsets := memory.NewBufferBytes(arrow.GetBytes([]int32{0, 3, 6}))
	data := array.NewData(arrow.BinaryTypes.String, 2, []*memory.Buffer{memory.NewBufferBytes([]byte{2}), offsets, memory.NewBufferBytes([]byte("abcdef"))}, nil, 1, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	batch := columnar.NewBatch([]columnar.Field{{Name: "v", Type: text}})
	if err := batch.Reset(array.NewRecordBatch(schema, []arrow.Array{array.NewStringData(data)}, 2)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x03def"} {
		if frame, err := batch.Next(); string(frame) != want || err != nil {
			t.Errorf("got %q, %v; want %q", frame, err, want)
		}
	}
}

// TestNoBuffer: a column of nulls only need not have buffers.
func TestNoBuffer(t *testing.T) {
	for _, c := range []struct {
		typ  *columnar.Type
		from arrow.DataType
	}{
		{integer, arrow.PrimitiveTypes.Int64}, {integer, &arrow.Decimal128Type{Precision: 38}}, {date, arrow.FixedWidthTypes.Date32}, {boolean, arrow.FixedWidthTypes.Boolean},
		{wall, &arrow.TimestampType{Unit: arrow.Microsecond}}, {double, arrow.PrimitiveTypes.Float32},
	} {
		valid := memory.NewBufferBytes([]byte{0})
		data := array.NewData(c.from, 3, []*memory.Buffer{valid, nil}, nil, 3, 0)
		schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: c.from, Nullable: true}}, nil)
		batch := columnar.NewBatch([]columnar.Field{{Name: "v", Type: c.typ}})
		if err := batch.Reset(array.NewRecordBatch(schema, []arrow.Array{array.MakeFromData(data)}, 3)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if frame, err := batch.Next(); string(frame) != "\xff\xff\xff\xff" || err != nil {
				t.Errorf("%s: %x, %v", c.from, frame, err)
			}
		}
	}
}

// TestOffsetsBackwards: what would be read of another row's text is an error.
func TestOffsetsBackwards(t *testing.T) {
	offsets := memory.NewBufferBytes(arrow.GetBytes([]int32{0, 4, 2, 6}))
	data := array.NewData(arrow.BinaryTypes.String, 3, []*memory.Buffer{nil, offsets, memory.NewBufferBytes([]byte("abcdef"))}, nil, 0, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}}, nil)
	batch := columnar.NewBatch([]columnar.Field{{Name: "v", Type: text}})
	if err := batch.Reset(array.NewRecordBatch(schema, []arrow.Array{array.NewStringData(data)}, 3)); err != nil {
		t.Fatal(err)
	}
	if frame, err := batch.Next(); string(frame) != "\x00\x00\x00\x04abcd" || err != nil {
		t.Errorf("the first row: %q, %v", frame, err)
	}
	if frame, err := batch.Next(); err == nil || !strings.Contains(err.Error(), "backwards") {
		t.Errorf("the second row: %q, %v", frame, err)
	}
}
