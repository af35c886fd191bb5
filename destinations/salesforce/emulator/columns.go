package emulator

import "net/http"

// What a query's columns are, asked for with columns=true instead of its
// records. Salesforce's own command line asks for it to lay out a table; the
// shape is the one that it reads.

type columnMetadata struct {
	Aggregate      bool             `json:"aggregate"`
	ApexType       string           `json:"apexType"`
	BooleanType    bool             `json:"booleanType"`
	ColumnName     string           `json:"columnName"`
	Custom         bool             `json:"custom"`
	DisplayName    string           `json:"displayName"`
	ForeignKeyName *string          `json:"foreignKeyName"`
	Insertable     bool             `json:"insertable"`
	JoinColumns    []columnMetadata `json:"joinColumns"`
	NumberType     bool             `json:"numberType"`
	TextType       bool             `json:"textType"`
	Updatable      bool             `json:"updatable"`
}

func plainColumn(name string) columnMetadata {
	return columnMetadata{ColumnName: name, DisplayName: name, JoinColumns: []columnMetadata{}, TextType: true, ApexType: "String"}
}

func columnOf(f *field, name string) columnMetadata {
	c := plainColumn(name)
	c.Custom, c.Insertable, c.Updatable = f.custom, f.createable, f.updateable
	c.BooleanType, c.NumberType = f.kind == kindBool, f.kind == kindInt || f.kind == kindDouble
	c.TextType = !c.BooleanType && !c.NumberType
	switch {
	case c.BooleanType:
		c.ApexType = "Boolean"
	case c.NumberType:
		c.ApexType = "Double"
	case f.kind == kindID || f.kind == kindRef:
		c.ApexType = "Id"
	}
	return c
}

func treeColumns(t *tree) []columnMetadata {
	out := []columnMetadata{}
	for i := range t.refs {
		ref := &t.refs[i]
		switch {
		case ref.kid != nil:
			c := plainColumn(ref.f.relationship)
			key := ref.f.name
			c.ForeignKeyName, c.JoinColumns = &key, treeColumns(ref.kid)
			out = append(out, c)
		case ref.sub != nil:
			c := plainColumn(ref.sub.relName)
			c.Aggregate, c.JoinColumns = true, treeColumns(ref.sub.tree)
			out = append(out, c)
		case ref.f != nil:
			out = append(out, columnOf(ref.f, ref.f.name))
		default:
			out = append(out, plainColumn(ref.name))
		}
	}
	return out
}

// columnsOf are the columns of a query's answer.
func columnsOf(p *plan) []columnMetadata {
	if !p.grouped {
		return treeColumns(p.tree)
	}
	out := []columnMetadata{}
	for _, cell := range p.cells {
		if cell.group >= 0 {
			out = append(out, columnOf(p.groups[cell.group].leaf, cell.alias))
			continue
		}
		c := plainColumn(cell.alias)
		c.Aggregate, c.DisplayName = true, p.aggs[cell.agg].fn
		out = append(out, c)
	}
	return out
}

func (s *Server) queryColumns(c *call, q *soqlQuery, text string, all bool) {
	s.org.mu.RLock()
	p, err := s.org.plan(q, all)
	s.org.mu.RUnlock()
	if err != nil {
		c.fail(http.StatusBadRequest, err.code, err.render(text))
		return
	}
	columns := columnsOf(p)
	id := false
	for _, column := range columns {
		id = id || column.ColumnName == "Id"
	}
	c.json(http.StatusOK, map[string]any{"columnMetadata": columns, "entityName": p.obj.name, "groupBy": p.grouped, "idSelected": id, "keyPrefix": p.obj.prefix})
}
