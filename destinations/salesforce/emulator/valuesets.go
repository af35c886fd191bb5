package emulator

import (
	"fmt"
	"net/http"
	"strings"
)

// Global value sets: lists of values that several picklists share (Metadata API
// Developer Guide, "GlobalValueSet"; Tooling API, "GlobalValueSet").

// valueSet is a global value set. Its list is that of the fields that use it.
type valueSet struct {
	n      int // place in Org.sets
	name   string
	label  string
	list   []picklistValue // guarded by Org.mu
	fields []*field
}

func (o *Org) valueSet(name string) *valueSet {
	for _, v := range o.sets {
		if strings.EqualFold(v.name, name) {
			return v
		}
	}
	return nil
}

// addValueSets makes the file's global value sets and gives the fields that name
// one its values.
func (o *Org) addValueSets(file *orgFile) error {
	for i, vf := range file.ValueSets {
		if vf.Name == "" || o.valueSet(vf.Name) != nil {
			return fmt.Errorf("org file: global value set %q: the name is missing or there twice", vf.Name)
		}
		v := &valueSet{n: i, name: vf.Name, label: vf.Label}
		if v.label == "" {
			v.label = labelOf(vf.Name)
		}
		for _, text := range vf.Values {
			v.list = append(v.list, picklistValue{value: text, label: text, active: true, dflt: text == vf.Default})
		}
		for _, text := range vf.Inactive {
			v.list = append(v.list, picklistValue{value: text, label: text})
		}
		o.sets = append(o.sets, v)
	}
	for _, obj := range o.objects {
		for _, f := range obj.fields {
			if f.valueSet == "" {
				continue
			}
			v := o.valueSet(f.valueSet)
			if v == nil || f.kind != kindPicklist && f.kind != kindMulti {
				return fmt.Errorf("org file: field %s.%s: no picklist, or no global value set %s", obj.name, f.name, f.valueSet)
			}
			f.valueSet = v.name
			v.fields = append(v.fields, f)
			f.picklist.Store(newPicklist(v.list, f.picklist.Load().restricted))
		}
	}
	return nil
}

// values are a set's values as they are now.
func (o *Org) values(v *valueSet) []picklistValue {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return v.list
}

// replaceSet sets a global value set's values, those that are missing become
// inactive, for every picklist that uses it.
func (o *Org) replaceSet(v *valueSet, values []picklistValue) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	list, err := replaced(v.list, values)
	if err != nil {
		return err
	}
	v.fill(list)
	o.schemaChanged()
	return o.keepList(setPrefix+v.name, list, false)
}

// fill gives a set and the picklists that use it their values.
func (v *valueSet) fill(list []picklistValue) {
	v.list = list
	for _, f := range v.fields {
		f.picklist.Store(newPicklist(list, f.picklist.Load().restricted))
	}
}

// valueSetXML renders a global value set as readMetadata does.
func (s *Server) valueSetXML(v *valueSet) string {
	var out strings.Builder
	out.WriteString(`<records xsi:type="GlobalValueSet">` + elements([]pair{{"fullName", v.name}}))
	for _, x := range s.org.values(v) {
		out.WriteString("<customValue>" + customValueXML(x) + "</customValue>")
	}
	out.WriteString(elements([]pair{{"masterLabel", v.label}, {"sorted", false}}) + "</records>")
	return out.String()
}

func customValueXML(v picklistValue) string {
	return elements([]pair{{"fullName", v.value}, {"default", v.dflt}, {"isActive", v.active}, {"label", v.label}})
}

// customValues reads the CustomValue elements of a name.
func customValues(of *element, name string) []picklistValue {
	var values []picklistValue
	for i := range of.kids {
		v := &of.kids[i]
		if v.name != name {
			continue
		}
		pv := picklistValue{value: v.childText("fullName"), label: v.childText("label"), active: v.childText("isActive") != "false", dflt: v.childText("default") == "true"}
		if pv.label == "" {
			pv.label = pv.value
		}
		values = append(values, pv)
	}
	return values
}

// updateValueSet replaces a global value set by Metadata SOAP.
func (s *Server) updateValueSet(p *element) *rowError {
	name := p.childText("fullName")
	v := s.org.valueSet(name)
	switch {
	case v == nil:
		return &rowError{"INVALID_CROSS_REFERENCE_KEY", "In field: fullName - no GlobalValueSet named " + name + " found", nil}
	case p.childText("masterLabel") == "":
		return &rowError{"REQUIRED_FIELD_MISSING", "Required field is missing: masterLabel", []string{"masterLabel"}}
	case p.child("sorted") == nil:
		return &rowError{"REQUIRED_FIELD_MISSING", "Required field is missing: sorted", []string{"sorted"}}
	}
	if err := s.org.replaceSet(v, customValues(p, "customValue")); err != nil {
		return &rowError{"FIELD_INTEGRITY_EXCEPTION", err.Error(), nil}
	}
	return nil
}

// The same by Tooling.

func valueSetID(v *valueSet) string { return makeID("0Nt", firstSequence+uint64(v.n)) }

func (s *Server) toolingSet(raw string) *valueSet {
	id, _ := canonicalID(raw)
	for _, v := range s.org.sets {
		if valueSetID(v) == id {
			return v
		}
	}
	return nil
}

func jsonValues(list []picklistValue) []map[string]any {
	values := []map[string]any{}
	for _, v := range list {
		values = append(values, map[string]any{"valueName": v.value, "label": v.label, "default": v.dflt, "isActive": v.active})
	}
	return values
}

// picklistValues reads what jsonValues renders.
func picklistValues(list *node) []picklistValue {
	var values []picklistValue
	for i := range list.items {
		v := &list.items[i]
		pv := picklistValue{value: v.str("valueName"), label: v.str("label"), active: v.get("isActive") == nil || v.get("isActive").text != "false", dflt: v.isTrue("default")}
		if pv.label == "" {
			pv.label = pv.value
		}
		values = append(values, pv)
	}
	return values
}

func (s *Server) toolingSetRecord(c *call, v *valueSet, whole bool) map[string]any {
	id := valueSetID(v)
	m := map[string]any{
		"attributes": map[string]string{"type": "GlobalValueSet", "url": "/services/data/v" + c.version + "/tooling/sobjects/GlobalValueSet/" + id},
		"Id":         id, "DeveloperName": v.name, "MasterLabel": v.label,
	}
	if whole {
		m["FullName"], m["Metadata"] = v.name, map[string]any{"customValue": jsonValues(s.org.values(v)), "masterLabel": v.label, "sorted": false, "description": nil}
	}
	return m
}

func (s *Server) toolingSetPatch(c *call, v *valueSet) {
	doc, _, ok := c.document()
	if !ok {
		return
	}
	meta := doc.get("Metadata")
	for _, need := range []string{"masterLabel", "sorted", "customValue"} {
		if meta.get(need) == nil {
			c.fail(http.StatusBadRequest, "FIELD_INTEGRITY_EXCEPTION", "Required field is missing: "+need)
			return
		}
	}
	if err := s.org.replaceSet(v, picklistValues(meta.get("customValue"))); err != nil {
		c.fail(http.StatusBadRequest, "FIELD_INTEGRITY_EXCEPTION", err.Error())
		return
	}
	c.w.WriteHeader(http.StatusNoContent)
}
