package salesforce

import (
	"fmt"

	"coho/destinations"
	"coho/models"
)

// DescribeField says what a mapped field takes. Of a lookup that is what the field
// takes by which the record is found.
func (t *Target) DescribeField(i int) destinations.FieldNote {
	if i == destinations.MatchField {
		if t.match == nil {
			return destinations.FieldNote{}
		}
		return t.match.note(t.sync.Mode)
	}
	col := t.columns[i]
	note := col.note(t.sync.Mode)
	note.Required = note.Required || col.required
	if col.parent != nil {
		of := col.parent.note(t.sync.Mode)
		note.Type += fmt.Sprintf(" to %s by %s", col.parentObject, of.Name)
		note.Length = of.Length
	}
	return note
}

// note describes a field in describe's words ("Field Types" of the Object
// Reference). A field that is not nillable and has no default must be given a value
// when a record is created, and can be emptied by no update; a checkbox is false
// where nothing is said.
func (f *field) note(mode models.Mode) destinations.FieldNote {
	n := destinations.FieldNote{Name: f.Name, Type: f.Type}
	switch f.class {
	case classText, classEmail:
		n.Length = f.Length
		if f.Length > 0 {
			n.Type += fmt.Sprintf("(%d)", f.Length)
		}
	case classPicklist, classMultipicklist:
		if f.values != nil {
			n.Type += fmt.Sprintf(", restricted to %d", len(f.values))
		} else if f.class == classPicklist {
			n.Length = f.Length
		}
	case classNumber:
		if f.Precision > 0 {
			n.Type += fmt.Sprintf("(%d,%d)", f.Precision, f.Scale)
		}
	}
	creates := mode == models.ModeInsert || mode == models.ModeUpsert
	n.Required = f.class != classBool && !f.isID() && !f.Nillable && (creates && !f.DefaultedOnCreate || mode == models.ModeUpdate)
	return n
}
