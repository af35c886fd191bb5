package columnar

import (
	"fmt"
	"slices"
	"strings"

	"coho/models"
)

// encodingVersion changes when a cell's bytes come to mean something else.
const encodingVersion = "1"

// Schema implements models.Schema over canonical cells.
type Schema struct {
	fields  []Field
	columns []models.Column
	version string
}

// NewSchema returns the schema of a result. settings says what else decides a
// cell's bytes: the source's name, its driver's version, session settings.
func NewSchema(fields []Field, settings string) *Schema {
	s := &Schema{fields: fields, columns: make([]models.Column, len(fields))}
	described := make([]string, len(fields))
	for i, f := range fields {
		s.columns[i] = models.Column{Name: f.Name, Type: f.Type.Name, Kind: f.Type.Kind}
		described[i] = fmt.Sprintf("%q %s", f.Name, f.Type.Name)
	}
	// The order of the columns decides nothing about a cell's bytes.
	slices.Sort(described)
	s.version = settings + " encoding=" + encodingVersion + " columns=" + strings.Join(described, ",")
	return s
}

// Fields returns the columns with their types. The caller must not change
// them.
func (s *Schema) Fields() []Field { return s.fields }

// Columns implements models.Schema.
func (s *Schema) Columns() []models.Column { return slices.Clone(s.columns) }

// Version implements models.Schema.
func (s *Schema) Version() string { return s.version }

// Decode implements models.Schema.
func (s *Schema) Decode(col int, cell []byte) (models.Value, error) {
	v, err := s.fields[col].Type.decode(cell)
	if err != nil {
		return models.Value{}, s.cellError(col, err)
	}
	return v, nil
}

// IsText implements models.TextSchema.
func (s *Schema) IsText(col int) bool {
	t := s.fields[col].Type
	return t.Kind == models.Text && t.Form == Blob
}

// AppendKey implements models.Schema. It allocates for lists and BigNumber
// only.
func (s *Schema) AppendKey(dst []byte, col int, cell []byte) ([]byte, error) {
	out, err := s.fields[col].Type.appendKey(dst, cell)
	if err != nil {
		return dst, s.cellError(col, err)
	}
	return out, nil
}

func (s *Schema) cellError(col int, err error) error {
	return fmt.Errorf("column %q (%s): %w", s.columns[col].Name, s.columns[col].Type, err)
}
