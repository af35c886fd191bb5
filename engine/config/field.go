package config

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"coho/models"
)

// fields reads the mappings. The match field belongs to the match: mapped to
// the same column it says nothing new and is dropped, mapped to anything else
// it contradicts.
func (t *table) fields(s *models.Sync) {
	in := t.sub("fields")
	if in == nil {
		if !t.has("fields") && (s.Mode == models.ModeInsert || s.Mode == models.ModeUpdate) {
			t.fail(t.n.pos, "fields is missing: mode %q writes the fields mapped there", s.Mode)
		}
		return
	}
	if len(in.n.entries) == 0 && (s.Mode == models.ModeInsert || s.Mode == models.ModeUpdate) {
		in.fail(in.n.pos, "no field is mapped")
	}
	s.Fields = in.mappings(s, "")
	slices.SortFunc(s.Fields, func(a, b models.Field) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Object, b.Object))
	})
}

// mappings reads the fields of a table; object is the only one of a two-object
// sync's that they are written to, "" where there is no such limit.
func (t *table) mappings(s *models.Sync, object string) []models.Field {
	var out []models.Field
	var narrow []models.Field // of one object
	seen := map[string]string{}
	for _, e := range t.n.entries {
		if one := objectNamed(s, e); one != "" && object == "" {
			if inner := t.d.newTable(e.value, t.path+"."+e.name, t.schema); inner != nil {
				narrow = append(narrow, inner.mappings(s, one)...)
			}
			continue
		}
		f, ok := t.field(e)
		f.Object = object
		lower := strings.ToLower(e.name)
		if other, twice := seen[lower]; twice {
			t.fail(e.pos, "%s and %s are one field: the org does not tell case apart", other, e.name)
			continue
		}
		seen[lower] = e.name
		if !ok {
			continue
		}
		if s.Mode != models.ModeInsert && s.Match.Field != "" && strings.EqualFold(f.Name, s.Match.Field) {
			if f.Column != s.Match.Column {
				t.fail(e.pos, "%s is the match field, which column %q fills", f.Name, s.Match.Column)
			}
			continue
		}
		out = append(out, f)
	}
	return append(narrowed(out, narrow, s.Objects()), narrow...)
}

var fillers = []string{"column", "expr", "value", "lookup", "record_type"}

// recordTypeField is the field of every object that says what type a record is of.
const recordTypeField = "RecordTypeId"

func (t *table) field(e *entry) (models.Field, bool) {
	f := models.Field{Name: e.name, Pos: e.pos.String()}
	if strings.TrimSpace(e.name) == "" {
		t.fail(e.pos, "a field without a name")
		return f, false
	}
	v := e.value
	if v.kind == stringKind {
		f.Column = v.text
		if !v.broken && strings.TrimSpace(v.text) == "" {
			t.fail(v.pos, "%s: the column's name is empty", e.name)
			return f, false
		}
		return f, !v.broken
	}
	if v.kind != tableKind {
		t.fail(v.pos, "%s: want a column's name or a table, not %s (a constant is { value = ... })", e.name, kindNames[v.kind])
		return f, false
	}
	in := &table{d: t.d, n: v, path: t.path + "." + e.name, schema: t.schema + ".*"}
	f.Column = in.str("column")
	f.Expr = in.expression("expr")
	f.Constant = in.constant("value")
	f.Lookup = in.lookup("lookup")
	f.RecordType = in.recordType("record_type", e.name)
	f.OnCreate = in.choice("on", "", "create") == "create"
	in.done()
	var given []string
	for _, key := range fillers {
		if in.has(key) {
			given = append(given, key)
		}
	}
	switch len(given) {
	case 0:
		in.fail(e.pos, "nothing fills the field: want one of %s", strings.Join(fillers, ", "))
	case 1:
	default:
		in.fail(e.pos, "%s exclude each other", strings.Join(given, " and "))
	}
	return f, !in.failed
}

func (t *table) expression(key string) string {
	code := t.str(key)
	if code == "" {
		return ""
	}
	if _, err := models.CompileExpression(code); err != nil {
		v := t.value(key)
		if v.raw != v.text {
			// The compiler may quote what came out of the environment.
			t.fail(v.pos, "%s: the expression does not compile once its ${...} are filled in", key)
		} else {
			t.fail(v.pos, "%s: %v", key, err)
		}
	}
	return code
}

func (t *table) lookup(key string) *models.Lookup {
	in := t.sub(key)
	if in == nil {
		return nil
	}
	l := &models.Lookup{Object: in.required("object"), Field: in.required("field"), Column: in.required("column")}
	in.done()
	t.failed = t.failed || in.failed
	return l
}

// recordType reads the developer name of a record type. Whether the org has it is
// for the org to say.
func (t *table) recordType(key, field string) string {
	name := t.str(key)
	if name != "" && !strings.EqualFold(field, recordTypeField) {
		t.fail(t.value(key).pos, "%s: it fills %s and no other field", key, recordTypeField)
	}
	return name
}

func (t *table) constant(key string) *models.Value {
	n := t.value(key)
	if n == nil {
		return nil
	}
	v, err := constantOf(n)
	if err != nil {
		t.fail(n.pos, "%s: %v", key, err)
		return nil
	}
	t.failed = t.failed || n.broken
	return &v
}

// constantOf turns a TOML value into a value that keeps all of its digits.
func constantOf(n *node) (models.Value, error) {
	digits := strings.ReplaceAll(n.text, "_", "")
	switch n.kind {
	case stringKind:
		return models.TextValue(n.text), nil
	case boolKind:
		return models.BoolValue(n.text == "true"), nil
	case integerKind:
		i, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil {
			// TOML's decimal numbers may begin with a sign and hold _ anywhere.
			i, err = strconv.ParseInt(digits, 10, 64)
		}
		return models.IntValue(i), err
	case floatKind:
		return decimal(digits)
	case timeKind:
		return moment(n)
	case arrayKind:
		list := make([]models.Value, len(n.items))
		for i, item := range n.items {
			e, err := constantOf(item)
			if err != nil {
				return models.Value{}, err
			}
			list[i] = e
		}
		return models.ListValue(list), nil
	}
	return models.Value{}, fmt.Errorf("want a constant, not %s", kindNames[n.kind])
}

// decimal returns a number's digits as written, an exponent written out.
func decimal(digits string) (models.Value, error) {
	mantissa, exponent, ok := strings.Cut(strings.ToLower(digits), "e")
	if strings.Contains(mantissa, "n") {
		return models.Value{}, errors.New("no field takes inf or nan")
	}
	if !ok {
		return models.DecimalValue(digits), nil
	}
	if e, err := strconv.Atoi(exponent); err != nil || e < -100 || e > 100 {
		return models.Value{}, errors.New("the exponent is not within -100 to 100")
	}
	r, ok := new(big.Rat).SetString(digits)
	if !ok {
		return models.Value{}, errors.New("not a number")
	}
	places, _ := r.FloatPrec()
	return models.DecimalValue(r.FloatString(places)), nil
}

func moment(n *node) (models.Value, error) {
	switch n.toml {
	case unstable.LocalDate:
		var d toml.LocalDate
		if err := d.UnmarshalText([]byte(n.text)); err != nil {
			return models.Value{}, err
		}
		return models.DateValue(d.AsTime(time.UTC).Unix() / 86400), nil
	case unstable.LocalTime:
		var c toml.LocalTime
		if err := c.UnmarshalText([]byte(n.text)); err != nil {
			return models.Value{}, err
		}
		seconds := int64(c.Hour*3600 + c.Minute*60 + c.Second)
		return models.TimeValue(seconds*1e6 + int64(c.Nanosecond/1000)), nil
	case unstable.LocalDateTime:
		var d toml.LocalDateTime
		if err := d.UnmarshalText([]byte(n.text)); err != nil {
			return models.Value{}, err
		}
		return models.TimestampValue(d.AsTime(time.UTC).UnixMicro()), nil
	}
	at, err := time.Parse(time.RFC3339Nano, strings.Replace(strings.ToUpper(n.text), " ", "T", 1))
	if err != nil {
		return models.Value{}, errors.New("not a date and time")
	}
	return models.TimestampTZValue(at.UnixMicro()), nil
}
