package emulator

import (
	"fmt"
	"net/http"
	"strings"
)

// Reading records out of JSON (REST API Developer Guide, "Create a Record",
// "Using External IDs in relationships").

func parserError(text string, n *node, typ string) *apiError {
	value := ""
	if n.kind != jsonObject && n.kind != jsonArray {
		value = " value " + n.text
	}
	return &apiError{http.StatusBadRequest, "JSON_PARSER_ERROR",
		"Cannot deserialize instance of " + typ + " from " + n.valueKind() + value + " or request may be missing a required field at " + place(text, n.at), nil}
}

// deserializers are the types as the parser's errors name them.
func (f *field) deserializer() string {
	switch f.kind {
	case kindDouble:
		return f.typ
	case kindRef, kindID:
		return "reference"
	default:
		return f.typ
	}
}

// readRecord fills a row from a JSON object. A field that does not exist, or a
// value that is none of its type, fails the request as a whole; a value that is
// one but cannot be stored fails the row.
func (s *Server) readRecord(text string, obj *object, n *node, w *rowWrite, skipID bool) *apiError {
	for i, name := range n.keys {
		v := &n.items[i]
		if name == "attributes" {
			continue
		}
		f := obj.visible(name)
		if f == nil {
			if rel := obj.relation(name); rel != nil && !rel.hidden {
				if e := s.readReference(text, obj, rel, name, v, w); e != nil {
					return e
				}
				continue
			}
			return &apiError{http.StatusBadRequest, "INVALID_FIELD", fmt.Sprintf("No such column '%s' on sobject of type %s", name, obj.name), nil}
		}
		if f.from == fromID && skipID {
			continue
		}
		c := change{f: f}
		if v.kind == jsonNull {
			c.null = true
			w.changes = append(w.changes, c)
			continue
		}
		if !accepts(f, v) {
			return parserError(text, v, f.deserializer())
		}
		val, p := f.parse(v.text)
		if p != nil && p.cast {
			return parserError(text, v, f.deserializer())
		}
		if p != nil {
			w.errs = append(w.errs, p.err)
			continue
		}
		if val == "" && f.kind != kindText && f.kind != kindEmail && f.kind != kindPicklist && f.kind != kindMulti && f.kind != kindRef {
			return parserError(text, v, f.deserializer())
		}
		c.val, c.null = val, val == ""
		w.changes = append(w.changes, c)
	}
	dedupe(w)
	return nil
}

// dedupe keeps the last of several values for one field.
func dedupe(w *rowWrite) {
	sortChanges(w.changes)
	kept := w.changes[:0]
	for i, c := range w.changes {
		if i+1 < len(w.changes) && w.changes[i+1].f == c.f {
			continue
		}
		kept = append(kept, c)
	}
	w.changes = kept
}

// accepts says which JSON values a field's type takes.
func accepts(f *field, v *node) bool {
	switch f.kind {
	case kindBool:
		return v.kind == jsonBool
	case kindInt:
		return v.kind == jsonNumber
	case kindDouble:
		return v.kind == jsonNumber || v.kind == jsonString
	default:
		return v.kind == jsonString
	}
}

// readReference reads {"Account":{"Ext__c":"A-1"}}.
func (s *Server) readReference(text string, obj *object, f *field, name string, v *node, w *rowWrite) *apiError {
	if v.kind != jsonObject {
		return parserError(text, v, f.referenceTo[0])
	}
	target := s.org.object(f.referenceTo[0])
	if attr := v.get("attributes"); attr != nil {
		if t := s.org.object(attr.str("type")); t != nil && f.refersTo(t.name) {
			target = t
		} else {
			return &apiError{http.StatusBadRequest, "INVALID_TYPE", fmt.Sprintf("sObject type '%s' is not valid for relationship %s", attr.str("type"), name), nil}
		}
	} else if f.polymorphic() {
		return &apiError{http.StatusBadRequest, "INVALID_FIELD", fmt.Sprintf("The external foreign key reference does not reference a valid entity: %s", name), nil}
	}
	found := false
	for i, keyName := range v.keys {
		if keyName == "attributes" {
			continue
		}
		key := target.visible(keyName)
		if key == nil || !key.idLookup {
			return &apiError{http.StatusBadRequest, "INVALID_FIELD", fmt.Sprintf("No such column '%s' on sobject of type %s", keyName, target.name), nil}
		}
		val := &v.items[i]
		if val.kind == jsonNull || val.text == "" || found {
			return &apiError{http.StatusBadRequest, "INVALID_FIELD", fmt.Sprintf("%s not specified", keyName), nil}
		}
		if !accepts(key, val) {
			return parserError(text, val, key.deserializer())
		}
		found = true
		w.addReference(f, target, key, val.text)
	}
	if !found {
		return &apiError{http.StatusBadRequest, "INVALID_FIELD", fmt.Sprintf("The external foreign key reference does not have any value: %s", name), nil}
	}
	for i := range w.changes {
		if w.changes[i].f == f {
			return &apiError{http.StatusBadRequest, "INVALID_FIELD", fmt.Sprintf("Cannot specify both an external ID reference %s and a salesforce id, %s", name, f.name), nil}
		}
	}
	return nil
}

// addReference adds a reference by a field of the parent.
func (w *rowWrite) addReference(f *field, target *object, key *field, text string) {
	val, p := key.parse(text)
	switch {
	case p != nil && p.cast:
		w.fail("INVALID_FIELD", fmt.Sprintf("'%s' is not a valid value for the type %s", text, key.xsd))
	case p != nil:
		w.errs = append(w.errs, p.err)
	default:
		w.refs = append(w.refs, rowChange{change: change{f: f, val: val}, target: target, key: key})
	}
}

// typeOf reads attributes.type of a record.
func (s *Server) typeOf(n *node) (*object, *apiError) {
	attr := n.get("attributes")
	if n.kind != jsonObject || attr == nil || attr.str("type") == "" {
		return nil, &apiError{http.StatusBadRequest, "INVALID_INPUT", "Include an 'attributes' value for each sObject with its 'type'", nil}
	}
	obj := s.org.object(attr.str("type"))
	if obj == nil {
		return nil, unsupportedType(attr.str("type"))
	}
	return obj, nil
}

func unsupportedType(name string) *apiError {
	return &apiError{http.StatusBadRequest, "INVALID_TYPE", fmt.Sprintf("sObject type '%s' is not supported. If you are attempting to use a custom object, be sure to append the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names.", name), nil}
}

// recordID reads a record's Id, which JSON may spell in either case.
func recordID(n *node) string {
	for i, k := range n.keys {
		if strings.EqualFold(k, "id") {
			return n.items[i].text
		}
	}
	return ""
}
