package api

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Lists of picklist values by the Metadata API, which the caller may use with the
// permission Modify Metadata Through Metadata API Functions.

// The components that have a list of values.
const (
	CustomField    = "CustomField"    // its full name is Object.Field__c
	GlobalValueSet = "GlobalValueSet" // several picklists share it
)

// ValueSet is a picklist field's or a global value set's list, inactive values
// included. It is not to be changed.
type ValueSet struct {
	Component, FullName string
	Sorted              bool   // the org shows the values by their labels' order
	Shared              string // of a field: the global value set whose values it has
	Values              []ListValue

	record node // all of the component, as it was read
}

// ListValue is one value. Its Name, the API name, is what records hold.
type ListValue struct {
	Name, Label     string
	Active, Default bool

	record node // with its colour, description and what else there is
}

// ReadValueSet reads a component. A component that is not there, or that this user
// may not see, is nil.
func (c *Client) ReadValueSet(ctx context.Context, component, fullName string) (*ValueSet, error) {
	var b bytes.Buffer
	request := node{name: "readMetadata", kids: []node{element("type", component), element("fullNames", fullName)}}
	request.write(&b)
	r := c.metadata("read the values of "+fullName, b.Bytes())
	answer, err := c.soapDo(ctx, r)
	if err != nil {
		return nil, err
	}
	record := answer.kid("result").kid("records")
	if record == nil || record.null || len(record.kids) == 0 {
		return nil, nil
	}
	return decodeValueSet(component, record), nil
}

func decodeValueSet(component string, record *node) *ValueSet {
	v := &ValueSet{Component: component, FullName: record.kidText("fullName"), record: *record}
	if component == CustomField {
		v.Shared = record.kid("valueSet").kidText("valueSetName")
	}
	list := v.list(&v.record)
	if list == nil {
		return v
	}
	v.Sorted = list.kidText("sorted") == "true"
	for i := range list.kids {
		k := &list.kids[i]
		if k.name != v.valueName() {
			continue
		}
		one := ListValue{Name: k.kidText("fullName"), Label: k.kidText("label"), Active: k.kidText("isActive") != "false", Default: k.kidText("default") == "true", record: *k}
		if one.Label == "" {
			one.Label = one.Name
		}
		v.Values = append(v.Values, one)
	}
	return v
}

// Listed reports whether the component has a list of its own.
func (v *ValueSet) Listed() bool { return v.list(&v.record) != nil }

// list is the element that has the values in it, nil where there is none.
func (v *ValueSet) list(record *node) *node {
	if v.Component == CustomField {
		return record.kid("valueSet").kid("valueSetDefinition")
	}
	return record
}

func (v *ValueSet) valueName() string {
	if v.Component == CustomField {
		return "value"
	}
	return "customValue"
}

// ReplaceValues gives a component that was read just before its values anew, in
// this order, all else of it as it was. Values that are left out become inactive.
// Doing so twice changes nothing more, so it is repeated where an answer is lost.
func (c *Client) ReplaceValues(ctx context.Context, v *ValueSet, values []ListValue, sorted bool) error {
	record := v.replaced(values, sorted)
	request := node{name: "updateMetadata", kids: []node{record}}
	var b bytes.Buffer
	request.write(&b)
	r := c.metadata("replace the values of "+v.FullName, b.Bytes())
	answer, err := c.soapDo(ctx, r)
	c.describes.forget() // they hold the values that fields take
	if err != nil {
		return err
	}
	result := answer.kid("result")
	switch result.kidText("success") {
	case "true":
		return nil
	case "":
		return &Error{Op: r.op, Class: Wait, Unknown: true, Message: "the answer is not what the API documents"}
	}
	e := &Error{Op: r.op, Status: 200, Code: "UNKNOWN_EXCEPTION", Class: RowFault, Err: errors.New("the org refused the values")}
	for i := range result.kids {
		k := &result.kids[i]
		if k.name != "errors" {
			continue
		}
		if e.Message == "" {
			e.Code = k.kidText("statusCode")
		} else {
			e.Message += "; "
		}
		e.Message += c.scrub(oneLine(k.kidText("message")))
	}
	if known(e.Code) {
		e.Class = Classify(e.Code, e.Message)
	}
	return e
}

// replaced is the component with other values.
func (v *ValueSet) replaced(values []ListValue, sorted bool) node {
	record := v.record
	record.name, record.typ = "metadata", v.Component
	if v.Component != CustomField {
		record.kids = v.listed(record.kids, values, sorted)
		return record
	}
	record.kids = slices.Clone(record.kids)
	for i := range record.kids {
		set := &record.kids[i]
		if set.name != "valueSet" {
			continue
		}
		set.kids = slices.Clone(set.kids)
		for j := range set.kids {
			if definition := &set.kids[j]; definition.name == "valueSetDefinition" {
				definition.kids = v.listed(definition.kids, values, sorted)
			}
		}
	}
	return record
}

// listed puts the values where the first of them was among the elements of a list,
// or where the schema has them: a global value set's before all but its name, a
// field's last.
func (v *ValueSet) listed(kids []node, values []ListValue, sorted bool) []node {
	var list []node
	for i := range values {
		list = append(list, values[i].element(v.valueName()))
	}
	out := make([]node, 0, len(kids)+len(list))
	placed := false
	for _, k := range kids {
		switch k.name {
		case v.valueName():
			if !placed {
				out, placed = append(out, list...), true
			}
			continue
		case "sorted":
			k = element("sorted", strconv.FormatBool(sorted))
		}
		out = append(out, k)
		if k.name == "fullName" && v.Component != CustomField && !slices.ContainsFunc(kids, func(n node) bool { return n.name == v.valueName() }) {
			out, placed = append(out, list...), true
		}
	}
	if !placed {
		out = append(out, list...)
	}
	return out
}

// element renders a value in the order of the schema.
func (l *ListValue) element(name string) node {
	out := node{name: name}
	keep := func(names ...string) {
		for _, k := range l.record.kids {
			if slices.Contains(names, k.name) {
				out.kids = append(out.kids, k)
			}
		}
	}
	out.kids = append(out.kids, element("fullName", l.Name))
	keep("color")
	out.kids = append(out.kids, element("default", strconv.FormatBool(l.Default)))
	keep("description")
	out.kids = append(out.kids, element("isActive", strconv.FormatBool(l.Active)), element("label", l.Label))
	return out
}

// GlobalValueSets lists the names of the org's global value sets.
func (c *Client) GlobalValueSets(ctx context.Context) ([]string, error) {
	var b bytes.Buffer
	request := node{name: "listMetadata", kids: []node{{name: "queries", kids: []node{element("type", GlobalValueSet)}}, element("asOfVersion", c.cfg.APIVersion)}}
	request.write(&b)
	answer, err := c.soapDo(ctx, c.metadata("list the global value sets", b.Bytes()))
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range answer.kids {
		if n := answer.kids[i].kidText("fullName"); n != "" {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, strings.Compare)
	return names, nil
}

// metadata is a call of the Metadata API that may be repeated.
func (c *Client) metadata(op string, body []byte) *call {
	r := soapCall(op, "/services/Soap/m/"+c.cfg.APIVersion, metadataSpace, body)
	r.repeat = true
	return r
}
