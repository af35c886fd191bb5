package api

// ObjectInfo is one object of the global describe.
type ObjectInfo struct {
	Name, Label, KeyPrefix                               string
	Custom, Createable, Updateable, Deletable, Queryable bool
}

// Object is an object's describe, as the logged-in user sees it.
type Object struct {
	Name, Label, KeyPrefix                       string
	Createable, Updateable, Deletable, Queryable bool
	Fields                                       []Field
	RecordTypes                                  []RecordType

	byName map[string]int // lower-case name to index
}

// RecordType is one of an object's record types.
type RecordType struct {
	ID, Name, DeveloperName            string
	Active, Available, Default, Master bool
}

// Field is one field of an object.
type Field struct {
	Name, Label, Type, SOAPType string

	Length     int // characters
	ByteLength int
	Precision  int // digits in all, of double, currency and percent
	Scale      int // digits after the point
	Digits     int // digits of int

	Createable, Updateable, Nillable, DefaultedOnCreate bool
	Unique, CaseSensitive, ExternalID, IDLookup         bool
	Calculated, AutoNumber, RestrictedPicklist          bool
	NamePointing, Filterable, Custom, NameField         bool
	PolymorphicForeignKey, Encrypted, CascadeDelete     bool
	WriteRequiresMasterRead                             bool

	ReferenceTo       []string
	RelationshipName  string
	RelationshipOrder int // master-detail: 0 primary, 1 secondary; -1 where the field is none
	CompoundFieldName string
	ControllerName    string
	PicklistValues    []PicklistValue
}

// PicklistValue is one value of a picklist. Value is the API name, which is
// what is written.
type PicklistValue struct {
	Value, Label    string
	Active, Default bool
}
