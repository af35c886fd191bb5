package duckdb

import (
	"fmt"
	"slices"
	"strings"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
)

// encodingVersion changes when a cell's bytes come to mean something else.
const encodingVersion = "1"

// schema implements models.Schema.
type schema struct {
	columns []models.Column
	types   []*dataType
	version string
}

// preparedSchema reads the columns of a bound statement.
func preparedSchema(stmt bindings.PreparedStatement) (*schema, error) {
	n := int(bindings.PreparedStatementColumnCount(stmt))
	s := &schema{columns: make([]models.Column, n), types: make([]*dataType, n)}
	described := make([]string, n)
	for i := range n {
		name := bindings.PreparedStatementColumnName(stmt, bindings.IdxT(i))
		t, err := newType(bindings.PreparedStatementColumnLogicalType(stmt, bindings.IdxT(i)))
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", name, err)
		}
		s.columns[i] = models.Column{Name: name, Type: t.name, Kind: t.kind}
		s.types[i] = t
		described[i] = fmt.Sprintf("%q %s", name, t.name)
	}
	// The order of the columns decides nothing about a cell's bytes.
	slices.Sort(described)
	s.version = "duckdb encoding=" + encodingVersion + " library=" + bindings.LibraryVersion() +
		" TimeZone=UTC columns=" + strings.Join(described, ",")
	return s, nil
}

// Columns implements models.Schema.
func (s *schema) Columns() []models.Column { return slices.Clone(s.columns) }

// Version implements models.Schema.
func (s *schema) Version() string { return s.version }

// Decode implements models.Schema.
func (s *schema) Decode(col int, cell []byte) (models.Value, error) {
	v, err := s.types[col].decode(cell)
	if err != nil {
		return models.Value{}, s.cellError(col, err)
	}
	return v, nil
}

// AppendKey implements models.Schema. It allocates for lists, FLOAT, BIGNUM
// and types that are Text by way of printing only.
func (s *schema) AppendKey(dst []byte, col int, cell []byte) ([]byte, error) {
	out, err := s.types[col].appendKey(dst, cell)
	if err != nil {
		return dst, s.cellError(col, err)
	}
	return out, nil
}

func (s *schema) cellError(col int, err error) error {
	return fmt.Errorf("column %q (%s): %w", s.columns[col].Name, s.columns[col].Type, err)
}
