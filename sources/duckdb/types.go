package duckdb

import (
	"fmt"
	"strings"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
)

// shape is how a type lies in memory and in a cell.
type shape uint8

const (
	shapeFixed  shape = iota // size bytes, copied
	shapeBlob                // a duckdb_string_t, its bytes
	shapeEnum                // an index, its label
	shapeList                // the elements' cells
	shapeArray               // the same, with a fixed length
	shapeStruct              // JSON
	shapeMap                 // JSON; a list of structs of key and value
	shapeUnion               // JSON; a struct of tag and members
	shapeNull                // nothing but NULL
)

// dataType is a column's type, or that of a part of it.
type dataType struct {
	name     string
	id       bindings.Type
	kind     models.Kind
	shape    shape
	size     int      // shapeFixed, shapeEnum: bytes in memory
	scale    int      // DECIMAL: digits after the point
	length   int      // shapeArray
	labels   [][]byte // shapeEnum
	names    []string // shapeStruct, shapeUnion: the children's
	children []*dataType
}

// scalars are the types without parameters.
var scalars = map[bindings.Type]dataType{
	bindings.TypeBoolean:     {name: "BOOLEAN", kind: models.Bool, size: 1},
	bindings.TypeTinyInt:     {name: "TINYINT", kind: models.Int, size: 1},
	bindings.TypeSmallInt:    {name: "SMALLINT", kind: models.Int, size: 2},
	bindings.TypeInteger:     {name: "INTEGER", kind: models.Int, size: 4},
	bindings.TypeBigInt:      {name: "BIGINT", kind: models.Int, size: 8},
	bindings.TypeUTinyInt:    {name: "UTINYINT", kind: models.Int, size: 1},
	bindings.TypeUSmallInt:   {name: "USMALLINT", kind: models.Int, size: 2},
	bindings.TypeUInteger:    {name: "UINTEGER", kind: models.Int, size: 4},
	bindings.TypeUBigInt:     {name: "UBIGINT", kind: models.Decimal, size: 8},
	bindings.TypeHugeInt:     {name: "HUGEINT", kind: models.Decimal, size: 16},
	bindings.TypeUHugeInt:    {name: "UHUGEINT", kind: models.Decimal, size: 16},
	bindings.TypeBigNum:      {name: "BIGNUM", kind: models.Decimal, shape: shapeBlob},
	bindings.TypeFloat:       {name: "FLOAT", kind: models.Float, size: 4},
	bindings.TypeDouble:      {name: "DOUBLE", kind: models.Float, size: 8},
	bindings.TypeVarchar:     {name: "VARCHAR", kind: models.Text, shape: shapeBlob},
	bindings.TypeBlob:        {name: "BLOB", kind: models.Bytes, shape: shapeBlob},
	bindings.TypeBit:         {name: "BIT", kind: models.Text, shape: shapeBlob},
	bindings.TypeUUID:        {name: "UUID", kind: models.Text, size: 16},
	bindings.TypeDate:        {name: "DATE", kind: models.Date, size: 4},
	bindings.TypeTime:        {name: "TIME", kind: models.Time, size: 8},
	bindings.TypeTimeNS:      {name: "TIME_NS", kind: models.Time, size: 8},
	bindings.TypeTimeTZ:      {name: "TIME WITH TIME ZONE", kind: models.Text, size: 8},
	bindings.TypeTimestamp:   {name: "TIMESTAMP", kind: models.Timestamp, size: 8},
	bindings.TypeTimestampS:  {name: "TIMESTAMP_S", kind: models.Timestamp, size: 8},
	bindings.TypeTimestampMS: {name: "TIMESTAMP_MS", kind: models.Timestamp, size: 8},
	bindings.TypeTimestampNS: {name: "TIMESTAMP_NS", kind: models.Timestamp, size: 8},
	bindings.TypeTimestampTZ: {name: "TIMESTAMP WITH TIME ZONE", kind: models.TimestampTZ, size: 8},
	bindings.TypeInterval:    {name: "INTERVAL", kind: models.Text, size: 16},
	bindings.TypeSQLNull:     {name: "NULL", kind: models.Text, shape: shapeNull},
}

// integerSizes are the widths in which decimals and enums are kept.
var integerSizes = map[bindings.Type]int{
	bindings.TypeSmallInt: 2, bindings.TypeInteger: 4, bindings.TypeBigInt: 8, bindings.TypeHugeInt: 16,
	bindings.TypeUTinyInt: 1, bindings.TypeUSmallInt: 2, bindings.TypeUInteger: 4,
}

// newType reads a logical type, which it destroys.
func newType(logical bindings.LogicalType) (*dataType, error) {
	defer bindings.DestroyLogicalType(&logical)
	id := bindings.GetTypeId(logical)
	if t, ok := scalars[id]; ok {
		t.id = id
		if id == bindings.TypeVarchar && bindings.LogicalTypeGetAlias(logical) == "JSON" {
			t.name, t.kind = "JSON", models.JSON
		}
		return &t, nil
	}
	t := &dataType{id: id, kind: models.JSON}
	switch id {
	case bindings.TypeDecimal:
		t.kind = models.Decimal
		t.size = integerSizes[bindings.DecimalInternalType(logical)]
		t.scale = int(bindings.DecimalScale(logical))
		t.name = fmt.Sprintf("DECIMAL(%d,%d)", bindings.DecimalWidth(logical), t.scale)
	case bindings.TypeEnum:
		t.name, t.kind, t.shape = "ENUM", models.Text, shapeEnum
		t.size = integerSizes[bindings.EnumInternalType(logical)]
		t.labels = make([][]byte, bindings.EnumDictionarySize(logical))
		for i := range t.labels {
			t.labels[i] = []byte(bindings.EnumDictionaryValue(logical, bindings.IdxT(i)))
		}
	case bindings.TypeList:
		t.kind, t.shape = models.List, shapeList
		if err := t.add("", bindings.ListTypeChildType(logical)); err != nil {
			return nil, err
		}
		t.name = t.children[0].name + "[]"
	case bindings.TypeArray:
		t.kind, t.shape = models.List, shapeArray
		t.length = int(bindings.ArrayTypeArraySize(logical))
		if err := t.add("", bindings.ArrayTypeChildType(logical)); err != nil {
			return nil, err
		}
		t.name = fmt.Sprintf("%s[%d]", t.children[0].name, t.length)
	case bindings.TypeStruct:
		t.shape = shapeStruct
		for i := range bindings.StructTypeChildCount(logical) {
			if err := t.add(bindings.StructTypeChildName(logical, i), bindings.StructTypeChildType(logical, i)); err != nil {
				return nil, err
			}
		}
		t.name = "STRUCT(" + t.members() + ")"
	case bindings.TypeMap:
		t.shape = shapeMap
		entry := &dataType{id: bindings.TypeStruct, kind: models.JSON, shape: shapeStruct}
		if err := entry.add("key", bindings.MapTypeKeyType(logical)); err != nil {
			return nil, err
		}
		if err := entry.add("value", bindings.MapTypeValueType(logical)); err != nil {
			return nil, err
		}
		t.children = []*dataType{entry}
		t.name = fmt.Sprintf("MAP(%s, %s)", entry.children[0].name, entry.children[1].name)
	case bindings.TypeUnion:
		t.shape = shapeUnion
		if err := t.add("", bindings.CreateLogicalType(bindings.TypeUTinyInt)); err != nil {
			return nil, err
		}
		for i := range bindings.UnionTypeMemberCount(logical) {
			if err := t.add(bindings.UnionTypeMemberName(logical, i), bindings.UnionTypeMemberType(logical, i)); err != nil {
				return nil, err
			}
		}
		t.name = "UNION(" + t.members() + ")"
	default:
		name := bindings.LogicalTypeGetAlias(logical)
		if name == "" {
			name = fmt.Sprintf("number %d", id)
		}
		return nil, fmt.Errorf("type %s cannot be read: cast it in the query, for example to VARCHAR", name)
	}
	return t, nil
}

func (t *dataType) add(name string, child bindings.LogicalType) error {
	c, err := newType(child)
	if err != nil {
		return err
	}
	t.names = append(t.names, name)
	t.children = append(t.children, c)
	return nil
}

func (t *dataType) members() string {
	list := make([]string, len(t.children))
	for i, c := range t.children {
		list[i] = strings.TrimSpace(t.names[i] + " " + c.name)
	}
	return strings.Join(list, ", ")
}
