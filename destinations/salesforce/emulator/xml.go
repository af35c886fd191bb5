package emulator

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// element is an XML element without its namespaces.
type element struct {
	name string
	text string
	null bool   // xsi:nil
	typ  string // xsi:type, without its prefix
	kids []element
}

var errXML = errors.New("the document has no root element or is nested too deeply")

const maxXMLDepth = 64

// parseXML reads a document into its root element.
func parseXML(text string) (*element, error) {
	d := xml.NewDecoder(strings.NewReader(text))
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	for {
		t, err := d.Token()
		if err != nil {
			if err == io.EOF {
				return nil, errXML
			}
			return nil, err
		}
		if s, ok := t.(xml.StartElement); ok {
			return readElement(d, s, 0)
		}
	}
}

func readElement(d *xml.Decoder, start xml.StartElement, depth int) (*element, error) {
	if depth > maxXMLDepth {
		return nil, errXML
	}
	e := &element{name: start.Name.Local}
	for _, a := range start.Attr {
		switch a.Name.Local {
		case "nil":
			e.null = a.Value == "true" || a.Value == "1"
		case "type":
			e.typ = a.Value[strings.IndexByte(a.Value, ':')+1:]
		}
	}
	var text strings.Builder
	for {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			kid, err := readElement(d, t, depth+1)
			if err != nil {
				return nil, err
			}
			e.kids = append(e.kids, *kid)
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			e.text = text.String()
			return e, nil
		}
	}
}

// child returns the first child of a name, nil when there is none.
func (e *element) child(name string) *element {
	if e == nil {
		return nil
	}
	for i := range e.kids {
		if e.kids[i].name == name {
			return &e.kids[i]
		}
	}
	return nil
}

func (e *element) childText(name string) string {
	if k := e.child(name); k != nil {
		return trim(k.text)
	}
	return ""
}

// xmlRecord turns an sObject element into the node that its JSON would be.
func (s *Server) xmlRecord(obj *object, e *element) node {
	n := node{kind: jsonObject}
	for i := range e.kids {
		kid := &e.kids[i]
		if kid.name == "type" {
			continue
		}
		item := node{kind: jsonString, text: kid.text}
		switch {
		case kid.null:
			item = node{kind: jsonNull, text: "null"}
		case len(kid.kids) > 0: // <Account><sObject><Ext__c>..</Ext__c></sObject></Account>
			inner := kid
			if so := kid.child("sObject"); so != nil {
				inner = so
			}
			item = s.xmlRecord(obj, inner)
			if t := inner.childText("type"); t != "" {
				item.keys = append(item.keys, "attributes")
				item.items = append(item.items, node{kind: jsonObject, keys: []string{"type"}, items: []node{{kind: jsonString, text: t}}})
			}
		default:
			if f := obj.field(kid.name); f != nil {
				switch f.kind {
				case kindBool:
					item.kind = jsonBool
				case kindInt, kindDouble:
					item.kind = jsonNumber
				}
			}
		}
		n.keys = append(n.keys, kid.name)
		n.items = append(n.items, item)
	}
	return n
}
