package api

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The SOAP APIs, as far as what they do cannot be had otherwise. The session
// travels in the envelope, which is made anew for each sending.

const (
	soapSpace     = "http://schemas.xmlsoap.org/soap/envelope/"
	schemaSpace   = "http://www.w3.org/2001/XMLSchema-instance"
	metadataSpace = "http://soap.sforce.com/2006/04/metadata"
)

// soapCall is a call of an operation in a SOAP API's namespace; body is the
// operation's element, without a session.
func soapCall(op, path, space string, body []byte) *call {
	return &call{
		op: op, method: http.MethodPost, path: path, soap: space, body: body,
		contentType: "text/xml; charset=UTF-8", accept: "text/xml", header: http.Header{"Soapaction": {`""`}},
	}
}

// envelope is a SOAP call's body as it travels.
func envelope(space, token, headers string, body []byte) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + soapSpace + `" xmlns:xsi="` + schemaSpace + `" xmlns="` + space + `"><soapenv:Header><SessionHeader><sessionId>`)
	escapeText(&b, token)
	b.WriteString(`</sessionId></SessionHeader>` + headers + `</soapenv:Header><soapenv:Body>`)
	b.Write(body)
	b.WriteString(`</soapenv:Body></soapenv:Envelope>`)
	return b.Bytes()
}

// soapDo makes a SOAP call and returns the element of its response.
func (c *Client) soapDo(ctx context.Context, r *call) (*node, error) {
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	root, err := parseNode(bytes.NewReader(a.body))
	if err != nil {
		return nil, garbled(r, a, err)
	}
	body := root.kid("Body")
	if root.name != "Envelope" || body == nil || len(body.kids) != 1 {
		return nil, garbled(r, a, errors.New("no SOAP envelope with an answer"))
	}
	return &body.kids[0], nil
}

// node is an XML element without its namespaces and without attributes other than
// those of XML Schema instances.
type node struct {
	name string
	typ  string // xsi:type, without its prefix
	null bool   // xsi:nil
	text string // where it has no elements in it
	kids []node
}

const maxNodeDepth = 64

var errNodeDepth = errors.New("the document is nested too deeply")

// parseNode reads a document into its root element.
func parseNode(r io.Reader) (*node, error) {
	d := xml.NewDecoder(r)
	for {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("read XML: %w", err)
		}
		if start, ok := t.(xml.StartElement); ok {
			n, err := readNode(d, start, 0)
			if err != nil {
				return nil, fmt.Errorf("read XML: %w", err)
			}
			return &n, nil
		}
	}
}

func readNode(d *xml.Decoder, start xml.StartElement, depth int) (node, error) {
	n := node{name: start.Name.Local}
	if depth > maxNodeDepth {
		return n, errNodeDepth
	}
	for _, a := range start.Attr {
		if a.Name.Space != schemaSpace {
			continue
		}
		switch a.Name.Local {
		case "type":
			n.typ = a.Value[strings.IndexByte(a.Value, ':')+1:]
		case "nil":
			n.null = a.Value == "true" || a.Value == "1"
		}
	}
	var text strings.Builder
	for {
		t, err := d.Token()
		if err != nil {
			return n, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			kid, err := readNode(d, t, depth+1)
			if err != nil {
				return n, err
			}
			n.kids = append(n.kids, kid)
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			if len(n.kids) == 0 {
				n.text = text.String()
			}
			return n, nil
		}
	}
}

// kid returns the first element of a name, nil where there is none or no n.
func (n *node) kid(name string) *node {
	if n == nil {
		return nil
	}
	for i := range n.kids {
		if n.kids[i].name == name {
			return &n.kids[i]
		}
	}
	return nil
}

// kidText is the trimmed text of the first element of a name.
func (n *node) kidText(name string) string {
	if k := n.kid(name); k != nil {
		return strings.TrimSpace(k.text)
	}
	return ""
}

// write renders an element.
func (n *node) write(b *bytes.Buffer) {
	b.WriteString("<" + n.name)
	if n.typ != "" {
		b.WriteString(` xsi:type="`)
		escapeText(b, n.typ)
		b.WriteByte('"')
	}
	if n.null {
		b.WriteString(` xsi:nil="true"`)
	}
	b.WriteByte('>')
	escapeText(b, n.text)
	for i := range n.kids {
		n.kids[i].write(b)
	}
	b.WriteString("</" + n.name + ">")
}

func escapeText(b *bytes.Buffer, text string) {
	_ = xml.EscapeText(b, []byte(text)) // a buffer takes all
}

func element(name, text string) node { return node{name: name, text: text} }
