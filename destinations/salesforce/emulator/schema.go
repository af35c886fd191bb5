package emulator

import (
	"strings"
	"sync/atomic"
)

// kind groups the describe types by how their values are parsed and kept.
type kind uint8

const (
	kindText kind = iota // string, textarea, phone, url, combobox, encryptedstring
	kindEmail
	kindBool
	kindInt
	kindDouble // double, currency, percent
	kindDate
	kindDatetime
	kindTime
	kindPicklist
	kindMulti
	kindRef
	kindID
	kindCompound // address, location: read only, made of their components
)

var kinds = map[string]kind{
	"string": kindText, "textarea": kindText, "phone": kindText, "url": kindText, "combobox": kindText,
	"encryptedstring": kindText, "base64": kindText, "email": kindEmail, "boolean": kindBool, "int": kindInt,
	"double": kindDouble, "currency": kindDouble, "percent": kindDouble, "date": kindDate, "datetime": kindDatetime,
	"time": kindTime, "picklist": kindPicklist, "multipicklist": kindMulti, "reference": kindRef, "id": kindID,
	"address": kindCompound,
}

// source says where a field's value comes from.
type source uint8

const (
	fromData source = iota
	fromID
	fromDeleted
	fromCreated
	fromModified
	fromModstamp
	fromCreator
	fromModifier
	fromPersonName // FirstName and LastName
	fromAddress    // the components that name this field as their compound
	fromFormula
)

type picklistValue struct {
	value, label string
	active, dflt bool
}

// field is one field of an object. It is read-only once the org has started,
// but for its picklist.
type field struct {
	idx   int
	obj   *object
	name  string
	label string
	typ   string // as describe names it
	kind  kind
	from  source

	length, precision, scale, digits int

	nillable, createable, updateable, defaulted bool
	custom, externalID, unique, caseSensitive   bool
	idLookup, autoNumber, nameField             bool
	hidden                                      bool // by field-level security
	longText                                    bool

	defaultValue string
	autoFormat   string
	formula      *formula
	picklist     atomic.Pointer[picklist]
	valueSet     string // the global value set that its values are

	referenceTo      []string
	relationship     string // name used in queries and nested references
	childRelation    string
	cascadeDelete    bool // master-detail
	restrictedDelete bool
	reparentable     bool
	locks            bool // a write of the child locks the parent's row
	compound         string
	extraType        string
	xsd              string

	index *index // of external ids, lookups and references
}

func (f *field) polymorphic() bool { return len(f.referenceTo) > 1 }

func (f *field) refersTo(object string) bool {
	for _, t := range f.referenceTo {
		if strings.EqualFold(t, object) {
			return true
		}
	}
	return false
}

// required is "createable && !nillable && !defaultedOnCreate", the rule of the
// SOAP API Developer Guide, "Required Fields".
func (f *field) required() bool { return f.createable && !f.nillable && !f.defaulted }

// picklist is a field's list of values. It is replaced as a whole, since rows
// are read while an admin changes it.
type picklist struct {
	values     []picklistValue
	active     map[string]int // active values and their place in the list
	restricted bool
}

func newPicklist(values []picklistValue, restricted bool) *picklist {
	p := &picklist{values: values, active: make(map[string]int, len(values)), restricted: restricted}
	for i, v := range values {
		if v.active {
			p.active[v.value] = i
		}
	}
	return p
}

// object is one sObject type with its records.
type object struct {
	name, label, labelPlural, prefix string

	custom, mergeable, event, queryable, bulk bool
	createable, updateable, deletable         bool

	fields  []*field
	byName  map[string]*field // lower-cased API names
	byRel   map[string]*field // lower-cased relationship names
	req     []*field          // required on create
	dflt    []*field          // with a default value, or an auto-number
	uniq    []*field          // unique fields, to be checked
	idx     []*field          // fields with an index
	refs    []*field          // reference fields
	kids    []*field          // reference fields of other objects that point here
	rules   []*validationRule
	dups    []*duplicateRule
	types   []recordType
	persons *persons // Account and Contact of an org with person accounts

	assignment []assignmentRule
	nameFld    *field

	records []*record // by position; nil where purged. Guarded by Org.mu.
	live    int
	slab    []record
	autoSeq map[*field]uint64
}

type recordType struct {
	id, developerName, name string
	active, dflt, person    bool
	unavailable             bool                       // to the users of the API
	picklists               map[string]map[string]bool // field -> allowed values
}

func (o *object) field(name string) *field { return o.byName[strings.ToLower(name)] }

// visible is field without those that field-level security hides.
func (o *object) visible(name string) *field {
	f := o.byName[strings.ToLower(name)]
	if f == nil || f.hidden {
		return nil
	}
	return f
}

func (o *object) relation(name string) *field { return o.byRel[strings.ToLower(name)] }

// finish derives what the rest of the package looks up by field.
func (o *object) finish() {
	o.byName = make(map[string]*field, len(o.fields))
	o.byRel = map[string]*field{}
	o.autoSeq = map[*field]uint64{}
	o.req, o.dflt, o.uniq, o.idx, o.refs = nil, nil, nil, nil, nil
	for i, f := range o.fields {
		f.idx, f.obj = i, o
		o.byName[strings.ToLower(f.name)] = f
		if f.relationship != "" {
			o.byRel[strings.ToLower(f.relationship)] = f
		}
		if f.required() {
			o.req = append(o.req, f)
		}
		if f.from == fromData && (f.defaultValue != "" || f.autoNumber) {
			o.dflt = append(o.dflt, f)
		}
		if f.unique {
			o.uniq = append(o.uniq, f)
		}
		if f.nameField {
			o.nameFld = f
		}
		if f.kind == kindRef && f.from == fromData {
			o.refs = append(o.refs, f)
		}
		if f.from != fromData {
			continue
		}
		lookup := f.externalID || f.unique || f.idLookup
		reference := f.kind == kindRef && f.name != "OwnerId"
		if lookup || reference {
			f.index = newIndex(reference)
			o.idx = append(o.idx, f)
		}
	}
}
