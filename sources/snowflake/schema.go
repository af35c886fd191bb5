package snowflake

import (
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/snowflakedb/gosnowflake"

	"coho/models"
	"coho/sources/columnar"
)

// maxInt64Digits is how many digits an int64 holds whatever they are.
const maxInt64Digits = 18

// newSchema reads the columns of a result. those at printed are times of day as
// text; see printTimes.
func newSchema(rows driver.Rows, printed map[int]bool) (*columnar.Schema, error) {
	described, ok := rows.(interface {
		driver.RowsColumnTypeDatabaseTypeName
		driver.RowsColumnTypePrecisionScale
	})
	if !ok {
		return nil, fmt.Errorf("the driver does not describe its columns: %T", rows)
	}
	names := rows.Columns()
	fields := make([]columnar.Field, len(names))
	for i, name := range names {
		precision, scale, ok := described.ColumnTypePrecisionScale(i)
		if !ok {
			precision, scale = 0, 0
		}
		typeName := described.ColumnTypeDatabaseTypeName(i)
		if printed[i] && typeName == "TEXT" {
			typeName = "TIME"
		}
		t, err := newType(typeName, precision, scale)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", name, err)
		}
		fields[i] = columnar.Field{Name: name, Type: t}
	}
	return columnar.NewSchema(fields, "snowflake driver="+gosnowflake.SnowflakeGoDriverVersion+" TIMEZONE=UTC"), nil
}

// newType returns the type of a column. The driver tells the digits of NUMBER
// only; how fine a time is, its batch says.
func newType(name string, precision, scale int64) (*columnar.Type, error) {
	t := &columnar.Type{Name: name, Scale: 9}
	switch name {
	case "FIXED":
		if precision == 0 {
			precision = 38
		}
		t.Name = fmt.Sprintf("NUMBER(%d,%d)", precision, scale)
		t.Form, t.Kind, t.Scale = columnar.Number, models.Decimal, int(scale)
		if scale == 0 && precision <= maxInt64Digits {
			t.Kind = models.Int
		}
	case "REAL":
		t.Name, t.Form, t.Kind = "FLOAT", columnar.Double, models.Float
	case "DECFLOAT":
		t.Kind = models.Decimal
	case "TEXT":
		t.Kind = models.Text
	case "BOOLEAN":
		t.Form, t.Kind = columnar.Boolean, models.Bool
	case "DATE":
		t.Form, t.Kind = columnar.Day, models.Date
	case "TIME":
		t.Form, t.Kind = columnar.Clock, models.Time
	case "TIMESTAMP_NTZ":
		t.Form, t.Kind = columnar.Instant, models.Timestamp
	case "TIMESTAMP_LTZ", "TIMESTAMP_TZ":
		t.Form, t.Kind = columnar.Instant, models.TimestampTZ
	case "BINARY":
		t.Kind = models.Bytes
	case "ARRAY":
		t.Kind = models.List // printed as a JSON array
	case "VARIANT", "OBJECT", "MAP", "VECTOR", "GEOGRAPHY", "GEOMETRY":
		t.Kind = models.JSON
	default:
		return nil, fmt.Errorf("the type %s cannot be read: cast it to VARCHAR in the query", strings.ToUpper(name))
	}
	return t, nil
}
