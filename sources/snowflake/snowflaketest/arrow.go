package snowflaketest

import (
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// recordRows is how many rows a record batch of a file has at most.
const recordRows = 50_000

// writeArrow writes rows as a stream of record batches.
func (r *Result) writeArrow(w io.Writer, from, to int) error {
	schema, err := r.schema(from, to)
	if err != nil {
		return err
	}
	out := ipc.NewWriter(w, ipc.WithSchema(schema))
	for at := from; at < to; at += recordRows {
		if err := r.writeRecord(out, schema, at, min(at+recordRows, to)); err != nil {
			return err
		}
	}
	return out.Close()
}

func (r *Result) writeRecord(out *ipc.Writer, schema *arrow.Schema, from, to int) error {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	var scratch []byte
	for i := range r.Columns {
		c := &r.Columns[i]
		field := b.Field(i)
		field.Reserve(to - from)
		for row := from; row < to; row++ {
			switch {
			case c.Int != nil:
				appendInt(field, c.Int(row))
			case c.Text != nil:
				scratch = c.Text(scratch[:0], row)
				field.(*array.StringBuilder).BinaryBuilder.Append(scratch)
			default:
				if err := c.appendValue(field, c.Value(row)); err != nil {
					return fmt.Errorf("column %q: %w", c.Name, err)
				}
			}
		}
	}
	record := b.NewRecordBatch()
	defer record.Release()
	return out.Write(record)
}

// schema returns the Arrow form of the rows. How wide a number is depends on
// them.
func (r *Result) schema(from, to int) (*arrow.Schema, error) {
	fields := make([]arrow.Field, len(r.Columns))
	for i := range r.Columns {
		c := &r.Columns[i]
		t, err := c.arrowType(from, to)
		if err != nil {
			return nil, err
		}
		fields[i] = arrow.Field{Name: c.Name, Type: t, Nullable: true, Metadata: arrow.NewMetadata(
			[]string{"logicalType", "precision", "scale"},
			[]string{c.Type, strconv.Itoa(c.Precision), strconv.Itoa(c.Scale)},
		)}
	}
	return arrow.NewSchema(fields, nil), nil
}

func (c *Column) arrowType(from, to int) (arrow.DataType, error) {
	member := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	epoch, fraction := member("epoch", arrow.PrimitiveTypes.Int64), member("fraction", arrow.PrimitiveTypes.Int32)
	switch c.Type {
	case "fixed":
		if c.Width != nil {
			return c.Width, nil
		}
		return c.narrowest(from, to), nil
	case "real":
		return arrow.PrimitiveTypes.Float64, nil
	case "decfloat":
		return arrow.StructOf(member("exponent", arrow.PrimitiveTypes.Int16), member("significand", arrow.BinaryTypes.Binary)), nil
	case "text", "variant", "object", "array":
		return arrow.BinaryTypes.String, nil
	case "boolean":
		return arrow.FixedWidthTypes.Boolean, nil
	case "date":
		return arrow.FixedWidthTypes.Date32, nil
	case "time":
		if c.Scale <= 4 {
			return arrow.PrimitiveTypes.Int32, nil
		}
		return arrow.PrimitiveTypes.Int64, nil
	case "timestamp_ntz", "timestamp_ltz":
		if c.Scale <= 7 {
			return arrow.PrimitiveTypes.Int64, nil
		}
		return arrow.StructOf(epoch, fraction), nil
	case "timestamp_tz":
		zone := member("timezone", arrow.PrimitiveTypes.Int32)
		if c.Scale <= 3 {
			return arrow.StructOf(epoch, zone), nil
		}
		return arrow.StructOf(epoch, fraction, zone), nil
	case "binary":
		return arrow.BinaryTypes.Binary, nil
	}
	return nil, fmt.Errorf("column %q: no Arrow form of %s", c.Name, c.Type)
}

func (c *Column) narrowest(from, to int) arrow.DataType {
	var most uint64
	for row := from; row < to; row++ {
		var n int64
		if c.Int != nil {
			n = c.Int(row)
		} else if v, ok := c.Value(row).(*big.Int); ok {
			if !v.IsInt64() {
				return &arrow.Decimal128Type{Precision: 38, Scale: int32(c.Scale)}
			}
			n = v.Int64()
		}
		if n < 0 {
			n = ^n
		}
		most = max(most, uint64(n))
	}
	switch {
	case most <= math.MaxInt8:
		return arrow.PrimitiveTypes.Int8
	case most <= math.MaxInt16:
		return arrow.PrimitiveTypes.Int16
	case most <= math.MaxInt32:
		return arrow.PrimitiveTypes.Int32
	}
	return arrow.PrimitiveTypes.Int64
}

func appendInt(b array.Builder, n int64) {
	switch b := b.(type) {
	case *array.Int8Builder:
		b.Append(int8(n))
	case *array.Int16Builder:
		b.Append(int16(n))
	case *array.Int32Builder:
		b.Append(int32(n))
	case *array.Int64Builder:
		b.Append(n)
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(n))
	}
}

func (c *Column) appendValue(b array.Builder, v any) error {
	switch v := v.(type) {
	case nil:
		b.AppendNull()
	case string:
		b.(*array.StringBuilder).Append(v)
	case float64:
		b.(*array.Float64Builder).Append(v)
	case bool:
		b.(*array.BooleanBuilder).Append(v)
	case []byte:
		b.(*array.BinaryBuilder).Append(v)
	case Days:
		b.(*array.Date32Builder).Append(arrow.Date32(v))
	case Clock:
		appendInt(b, int64(v)/power(9-c.Scale))
	case Moment:
		c.appendMoment(b, v)
	case *big.Int:
		if wide, ok := b.(*array.Decimal128Builder); ok {
			wide.Append(decimal128.FromBigInt(v))
			return nil
		}
		appendInt(b, v.Int64())
	case Decfloat:
		s := b.(*array.StructBuilder)
		s.Append(true)
		s.FieldBuilder(0).(*array.Int16Builder).Append(v.Exponent)
		s.FieldBuilder(1).(*array.BinaryBuilder).Append(twosComplement(v.Digits))
	default:
		return fmt.Errorf("no Arrow form of a %T", v)
	}
	return nil
}

func (c *Column) appendMoment(b array.Builder, v Moment) {
	units := v.Seconds*power(c.Scale) + int64(v.Nanos)/power(9-c.Scale)
	s, ok := b.(*array.StructBuilder)
	if !ok {
		appendInt(b, units)
		return
	}
	s.Append(true)
	t := s.Type().(*arrow.StructType)
	for i, f := range t.Fields() {
		switch f.Name {
		case "epoch":
			n := v.Seconds
			if _, ok := t.FieldIdx("fraction"); !ok {
				n = units
			}
			appendInt(s.FieldBuilder(i), n)
		case "fraction":
			appendInt(s.FieldBuilder(i), int64(v.Nanos))
		case "timezone":
			appendInt(s.FieldBuilder(i), int64(v.East)+1440)
		}
	}
}

// twosComplement returns a number in as few bytes as hold it, big-endian.
func twosComplement(n *big.Int) []byte {
	size := n.BitLen()/8 + 1
	m := n
	if n.Sign() < 0 {
		m = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	return m.FillBytes(make([]byte, size))
}
