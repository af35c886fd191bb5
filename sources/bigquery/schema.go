package bigquery

import (
	"fmt"

	"cloud.google.com/go/bigquery"

	"coho/models"
	"coho/sources/columnar"
)

// newSchema reads the columns of a result.
func newSchema(described bigquery.Schema) (*columnar.Schema, error) {
	fields, err := newFields(described)
	if err != nil {
		return nil, err
	}
	return columnar.NewSchema(fields, "bigquery"), nil
}

func newFields(described bigquery.Schema) ([]columnar.Field, error) {
	fields := make([]columnar.Field, len(described))
	for i, f := range described {
		t, err := newType(f)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		fields[i] = columnar.Field{Name: f.Name, Type: t}
	}
	return fields, nil
}

// newType returns the type of a column. Digits: NUMERIC has 9 after the point
// and BIGNUMERIC 38, whatever a column narrows them to.
func newType(f *bigquery.FieldSchema) (*columnar.Type, error) {
	if f.Repeated {
		element := *f
		element.Repeated = false
		elem, err := newType(&element)
		if err != nil {
			return nil, err
		}
		return &columnar.Type{Name: "ARRAY<" + elem.Name + ">", Kind: models.List, Form: columnar.Items, Elem: elem}, nil
	}
	t := &columnar.Type{Name: string(f.Type), Scale: 6}
	switch f.Type {
	case bigquery.IntegerFieldType:
		t.Name, t.Form, t.Kind, t.Scale = "INT64", columnar.Number, models.Int, 0
	case bigquery.FloatFieldType:
		t.Name, t.Form, t.Kind = "FLOAT64", columnar.Double, models.Float
	case bigquery.NumericFieldType:
		t.Form, t.Kind, t.Scale = columnar.Number, models.Decimal, 9
	case bigquery.BigNumericFieldType:
		t.Form, t.Kind, t.Scale = columnar.BigNumber, models.Decimal, 38
	case bigquery.BooleanFieldType:
		t.Name, t.Form, t.Kind = "BOOL", columnar.Boolean, models.Bool
	case bigquery.StringFieldType, bigquery.GeographyFieldType:
		t.Kind = models.Text
	case bigquery.BytesFieldType:
		t.Kind = models.Bytes
	case bigquery.DateFieldType:
		t.Form, t.Kind = columnar.Day, models.Date
	case bigquery.DateTimeFieldType:
		t.Form, t.Kind = columnar.Instant, models.Timestamp
	case bigquery.TimeFieldType:
		t.Form, t.Kind = columnar.Clock, models.Time
	case bigquery.TimestampFieldType:
		t.Form, t.Kind = columnar.Instant, models.TimestampTZ
	case bigquery.JSONFieldType:
		t.Kind = models.JSON
	case bigquery.RecordFieldType:
		members, err := newFields(f.Schema)
		if err != nil {
			return nil, err
		}
		t.Kind, t.Fields = models.JSON, members
		t.Name = "STRUCT<"
		for i, m := range members {
			if i > 0 {
				t.Name += ", "
			}
			t.Name += m.Name + " " + m.Type.Name
		}
		t.Name += ">"
	default:
		return nil, fmt.Errorf("the type %s cannot be read: cast it to STRING in the query", f.Type)
	}
	return t, nil
}
