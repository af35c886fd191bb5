package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// ObjectInfo is one object of the global describe.
type ObjectInfo struct {
	Name       string `json:"name"`
	Label      string `json:"label"`
	KeyPrefix  string `json:"keyPrefix"`
	Custom     bool   `json:"custom"`
	Createable bool   `json:"createable"`
	Updateable bool   `json:"updateable"`
	Deletable  bool   `json:"deletable"`
	Queryable  bool   `json:"queryable"`
}

// Object is an object's describe, as the logged-in user sees it. It is shared:
// callers must not change it.
type Object struct {
	Name        string       `json:"name"`
	Label       string       `json:"label"`
	KeyPrefix   string       `json:"keyPrefix"`
	Createable  bool         `json:"createable"`
	Updateable  bool         `json:"updateable"`
	Deletable   bool         `json:"deletable"`
	Queryable   bool         `json:"queryable"`
	Fields      []Field      `json:"fields"`
	RecordTypes []RecordType `json:"recordTypeInfos"`

	byName map[string]int // lower-case name to index
}

// Field finds a field by its API name, in any case.
func (o *Object) Field(name string) (*Field, bool) {
	i, ok := o.byName[strings.ToLower(name)]
	if !ok {
		return nil, false
	}
	return &o.Fields[i], true
}

// RecordType is one of an object's record types.
type RecordType struct {
	ID            string `json:"recordTypeId"`
	Name          string `json:"name"`
	DeveloperName string `json:"developerName"`
	Active        bool   `json:"active"`
	Available     bool   `json:"available"` // to the logged-in user
	Default       bool   `json:"defaultRecordTypeMapping"`
	Master        bool   `json:"master"`
}

// Field is one field of an object.
type Field struct {
	Name     string `json:"name"`
	Label    string `json:"label"`
	Type     string `json:"type"`
	SOAPType string `json:"soapType"`

	Length     int `json:"length"` // characters
	ByteLength int `json:"byteLength"`
	Precision  int `json:"precision"` // digits in all, of double, currency and percent
	Scale      int `json:"scale"`     // digits after the point
	Digits     int `json:"digits"`    // digits of int

	Createable              bool `json:"createable"`
	Updateable              bool `json:"updateable"`
	Nillable                bool `json:"nillable"`
	DefaultedOnCreate       bool `json:"defaultedOnCreate"`
	Unique                  bool `json:"unique"`
	CaseSensitive           bool `json:"caseSensitive"`
	ExternalID              bool `json:"externalId"`
	IDLookup                bool `json:"idLookup"`
	Calculated              bool `json:"calculated"`
	AutoNumber              bool `json:"autoNumber"`
	RestrictedPicklist      bool `json:"restrictedPicklist"`
	NamePointing            bool `json:"namePointing"`
	PolymorphicForeignKey   bool `json:"polymorphicForeignKey"`
	Filterable              bool `json:"filterable"`
	Custom                  bool `json:"custom"`
	NameField               bool `json:"nameField"`
	Encrypted               bool `json:"encrypted"`
	CascadeDelete           bool `json:"cascadeDelete"` // master-detail, as a rule
	WriteRequiresMasterRead bool `json:"writeRequiresMasterRead"`

	ReferenceTo       []string        `json:"referenceTo"`
	RelationshipName  string          `json:"relationshipName"`
	RelationshipOrder *int            `json:"relationshipOrder"` // master-detail: 0 primary, 1 secondary; nil otherwise
	CompoundFieldName string          `json:"compoundFieldName"`
	ControllerName    string          `json:"controllerName"`
	PicklistValues    []PicklistValue `json:"picklistValues"`
}

// PicklistValue is one value of a picklist. Value is the API name, which is
// what is written.
type PicklistValue struct {
	Value   string `json:"value"`
	Label   string `json:"label"`
	Active  bool   `json:"active"`
	Default bool   `json:"defaultValue"`
}

// describeFresh is how long a describe is used before the org is asked whether
// it has changed.
const describeFresh = 5 * time.Minute

// describes is the cache of describes, by lower-case object name.
type describes struct {
	mu      sync.Mutex
	entries map[string]*describeEntry
}

// describeEntry is one cached describe. turn admits one caller at a time to
// the rest of it.
type describeEntry struct {
	turn     chan struct{}
	object   *Object
	modified string // Last-Modified of the answer
	checked  time.Time
}

// Describe returns an object's fields as the logged-in user sees them. It is
// cached; after five minutes the org is asked whether it has changed.
func (c *Client) Describe(ctx context.Context, object string) (*Object, error) {
	e := c.describes.entry(strings.ToLower(object))
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, &Error{Op: "describe " + object, Class: Wait, Message: "stopped", Err: context.Cause(ctx)}
	}
	if e.object != nil && time.Since(e.checked) < describeFresh {
		return e.object, nil
	}
	r := c.get("describe "+object, "/sobjects/"+url.PathEscape(object)+"/describe", "")
	if e.object != nil && e.modified != "" {
		r.header = http.Header{"If-Modified-Since": {e.modified}}
	}
	a, err := c.do(ctx, r)
	if err != nil {
		if x, ok := err.(*Error); ok && x.Status == http.StatusNotFound && x.Code == "NOT_FOUND" && strings.HasPrefix(x.Message, "The requested resource") {
			x.Message = "the org has no object " + object + ", or the user may not see it"
		}
		return nil, err
	}
	if a.status != http.StatusNotModified {
		o := &Object{}
		if err := json.Unmarshal(a.body, o); err != nil || o.Name == "" {
			return nil, garbled(r, a, err)
		}
		o.byName = make(map[string]int, len(o.Fields))
		for i := range o.Fields {
			o.byName[strings.ToLower(o.Fields[i].Name)] = i
		}
		e.object, e.modified = o, a.header.Get("Last-Modified")
	}
	e.checked = time.Now()
	return e.object, nil
}

// forget has every object described anew. One that is being described is too.
func (d *describes) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.entries)
}

func (d *describes) entry(name string) *describeEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[name]
	if e == nil {
		e = &describeEntry{turn: make(chan struct{}, 1)}
		d.entries[name] = e
	}
	return e
}

// Objects lists the objects that the logged-in user sees.
func (c *Client) Objects(ctx context.Context) ([]ObjectInfo, error) {
	r := c.get("list the org's objects", "/sobjects", "")
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var global struct {
		Objects []ObjectInfo `json:"sobjects"`
	}
	if err := json.Unmarshal(a.body, &global); err != nil {
		return nil, garbled(r, a, err)
	}
	return global.Objects, nil
}
