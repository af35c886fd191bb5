package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"coho/models"
)

// encodingVersion changes when a cell's bytes come to mean something else.
const encodingVersion = "1"

// formatBinary is the protocol's code for a column in binary form; text is 0.
const formatBinary = 1

// schema implements models.Schema.
type schema struct {
	columns []models.Column
	codecs  []codec
	formats []int16
	version string
}

func newSchema(fields []pgconn.FieldDescription, found map[uint32]pgType, set serverSettings) *schema {
	s := &schema{
		columns: make([]models.Column, len(fields)),
		codecs:  make([]codec, len(fields)),
		formats: make([]int16, len(fields)),
	}
	types := make([]string, len(fields))
	var money, names bool
	for i, f := range fields {
		t, ok := builtin[f.DataTypeOID]
		if !ok {
			t = found[f.DataTypeOID]
		}
		s.columns[i] = models.Column{Name: f.Name, Type: t.name, Kind: t.codec.kind}
		s.codecs[i] = t.codec
		format := "text"
		if t.codec.binary {
			s.formats[i] = formatBinary
			format = "binary"
		}
		types[i] = fmt.Sprintf("%q %s %s", f.Name, t.name, format)
		money = money || strings.Contains(t.name, "money")
		names = names || !ok && !t.codec.binary || strings.HasPrefix(t.name, "reg")
	}
	// The order of the columns decides nothing about a cell's bytes.
	slices.Sort(types)
	var b strings.Builder
	b.WriteString("postgres encoding=" + encodingVersion + " server=" + set.version)
	for _, p := range pinned {
		b.WriteString(" " + p.name + "=" + strconv.Quote(p.value))
	}
	if money {
		b.WriteString(" lc_monetary=" + strconv.Quote(set.monetary))
	}
	if names { // regclass and its like print a schema where the path lacks it
		b.WriteString(" search_path=" + strconv.Quote(set.searchPath))
	}
	b.WriteString(" columns=" + strings.Join(types, ","))
	s.version = b.String()
	return s
}

// Columns implements models.Schema.
func (s *schema) Columns() []models.Column { return slices.Clone(s.columns) }

// Version implements models.Schema.
func (s *schema) Version() string { return s.version }

// Decode implements models.Schema.
func (s *schema) Decode(col int, cell []byte) (models.Value, error) {
	v, err := s.codecs[col].decode(cell)
	if err != nil {
		return models.Value{}, s.cellError(col, err)
	}
	return v, nil
}

// IsText implements models.TextSchema.
func (s *schema) IsText(col int) bool { return s.codecs[col].isText }

// AppendKey implements models.Schema. It allocates for arrays and reals only.
func (s *schema) AppendKey(dst []byte, col int, cell []byte) ([]byte, error) {
	c := &s.codecs[col]
	if c.appendKey != nil {
		out, err := c.appendKey(dst, cell)
		if err != nil {
			return dst, s.cellError(col, err)
		}
		return out, nil
	}
	v, err := c.decode(cell)
	if err != nil {
		return dst, s.cellError(col, err)
	}
	return v.AppendText(dst), nil
}

func (s *schema) cellError(col int, err error) error {
	return fmt.Errorf("column %q (%s): %w", s.columns[col].Name, s.columns[col].Type, err)
}

// pgType is a type of the database and how its values are read.
type pgType struct {
	name  string
	codec codec
}

// unknownTypes returns the types of the columns that only the catalog knows.
func unknownTypes(fields []pgconn.FieldDescription) []uint32 {
	var oids []uint32
	for _, f := range fields {
		if _, ok := builtin[f.DataTypeOID]; !ok && !slices.Contains(oids, f.DataTypeOID) {
			oids = append(oids, f.DataTypeOID)
		}
	}
	return oids
}

// typesSQL resolves types of this database alone. An array's element is
// followed through domains to its base type.
const typesSQL = `
WITH RECURSIVE element AS (
	SELECT t.oid AS root, e.oid, e.typname, e.typtype, e.typbasetype, e.typdelim
	FROM pg_catalog.pg_type t JOIN pg_catalog.pg_type e ON e.oid = t.typelem
	WHERE t.typcategory = 'A' AND t.oid = ANY ($1)
	UNION ALL
	SELECT d.root, b.oid, b.typname, b.typtype, b.typbasetype, d.typdelim
	FROM element d JOIN pg_catalog.pg_type b ON b.oid = d.typbasetype
	WHERE d.typtype = 'd'
)
SELECT t.oid, pg_catalog.format_type(t.oid, NULL), t.typname, t.typtype, e.oid, e.typname, e.typtype, e.typdelim
FROM pg_catalog.pg_type t LEFT JOIN element e ON e.root = t.oid AND e.typtype <> 'd'
WHERE t.oid = ANY ($1)`

const oidArrayOID = 1028

func (s *Source) lookUpTypes(ctx context.Context, c *conn, oids []uint32) (map[uint32]pgType, error) {
	list := make([]string, len(oids))
	for i, oid := range oids {
		list[i] = strconv.FormatUint(uint64(oid), 10)
	}
	param := []byte("{" + strings.Join(list, ",") + "}")
	result := c.pg.ExecParams(ctx, typesSQL, [][]byte{param}, []uint32{oidArrayOID}, nil, nil).Read()
	if result.Err != nil {
		return nil, fmt.Errorf("look up column types: %w", s.queryError(ctx, result.Err, ""))
	}
	found := make(map[uint32]pgType, len(oids))
	for _, row := range result.Rows {
		oid, err := parseOID(row[0])
		if err != nil {
			return nil, err
		}
		t := pgType{name: string(row[1]), codec: userCodec(string(row[2]), string(row[3]))}
		if row[4] != nil && string(row[7]) == "," {
			elem, err := parseOID(row[4])
			if err != nil {
				return nil, err
			}
			if b, ok := builtin[elem]; ok {
				t.codec = arrayCodec(b.codec)
			} else {
				t.codec = arrayCodec(userCodec(string(row[5]), string(row[6])))
			}
		}
		found[oid] = t
	}
	for _, oid := range oids {
		if _, ok := found[oid]; !ok {
			// Dropped since the statement was prepared.
			found[oid] = pgType{name: "type " + strconv.FormatUint(uint64(oid), 10), codec: otherCodec}
		}
	}
	return found, nil
}

func parseOID(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("look up column types: the server sent oid %q", b)
	}
	return uint32(n), nil
}

// userCodec is the codec of a type that is not built in.
func userCodec(typname, typtype string) codec {
	if typtype == "e" || typname == "citext" {
		return textCodec // its binary form is its text
	}
	return otherCodec
}
