package emulator

import (
	"fmt"
	"strings"
)

// buildObject turns an object of the org file into what the emulator runs on,
// adding the system fields that every object has.
func buildObject(file *objectFile) (*object, error) {
	custom := strings.HasSuffix(file.Name, "__c")
	event := strings.HasSuffix(file.Name, "__e")
	obj := &object{
		name: file.Name, label: file.Label, labelPlural: file.LabelPlural, prefix: file.Prefix,
		custom: custom || event, mergeable: file.Mergeable, event: event,
		queryable: !event, bulk: !file.NoBulk,
		createable: !file.ReadOnly, updateable: !file.ReadOnly && !event, deletable: !file.ReadOnly && !event,
	}
	if obj.name == "" {
		return nil, fmt.Errorf("has no name")
	}
	if obj.label == "" {
		obj.label = labelOf(obj.name)
	}
	if obj.labelPlural == "" {
		obj.labelPlural = obj.label + "s"
	}
	if len(obj.prefix) != 3 {
		return nil, fmt.Errorf("key prefix %q: want three characters", obj.prefix)
	}
	obj.fields = append(obj.fields, systemField("Id", "id", fromID, "Record ID"))
	if event {
		obj.fields = append(obj.fields, readOnly("ReplayId", "string", 1000), readOnly("EventUuid", "string", 36),
			systemField("CreatedDate", "datetime", fromCreated, "Created Date"), systemRef("CreatedById", fromCreator, "Created By ID", "CreatedBy"))
	} else {
		obj.fields = append(obj.fields, systemField("IsDeleted", "boolean", fromDeleted, "Deleted"))
		if obj.mergeable {
			f := readOnly("MasterRecordId", "reference", 18)
			f.label, f.relationship, f.referenceTo = "Master Record ID", "MasterRecord", []string{obj.name}
			obj.fields = append(obj.fields, f)
		}
	}
	if custom && !file.NoName && !names(file.Fields, "Name") {
		f := &field{name: "Name", label: obj.label + " Name", typ: "string", length: 80, nillable: true, createable: true, updateable: true, nameField: true, idLookup: true}
		obj.fields = append(obj.fields, f)
	}
	if len(file.Owners) > 0 {
		obj.fields = append(obj.fields, &field{
			name: "OwnerId", label: "Owner ID", typ: "reference", createable: true, updateable: true, defaulted: true,
			defaultValue: "$User.Id", referenceTo: append([]string(nil), file.Owners...), relationship: "Owner",
		})
	}
	for i := range file.Fields {
		f, err := buildField(&file.Fields[i], custom)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", file.Fields[i].Name, err)
		}
		obj.fields = append(obj.fields, f)
	}
	if !event {
		obj.fields = append(obj.fields,
			systemField("CreatedDate", "datetime", fromCreated, "Created Date"), systemRef("CreatedById", fromCreator, "Created By ID", "CreatedBy"),
			systemField("LastModifiedDate", "datetime", fromModified, "Last Modified Date"), systemRef("LastModifiedById", fromModifier, "Last Modified By ID", "LastModifiedBy"),
			systemField("SystemModstamp", "datetime", fromModstamp, "System Modstamp"))
	}
	seen := map[string]bool{}
	for _, f := range obj.fields {
		if seen[strings.ToLower(f.name)] {
			return nil, fmt.Errorf("field %s is there twice", f.name)
		}
		seen[strings.ToLower(f.name)] = true
		complete(f)
	}
	obj.finish()
	for _, rt := range file.RecordTypes {
		obj.types = append(obj.types, buildRecordType(rt))
	}
	if err := buildAssignment(obj, file); err != nil {
		return nil, err
	}
	return obj, buildRules(obj, file)
}

func buildRecordType(rt recordTypeFile) recordType {
	out := recordType{developerName: rt.DeveloperName, name: rt.Name, active: !rt.Inactive, dflt: rt.Default, person: rt.Person, unavailable: rt.Unavailable || rt.Inactive}
	if out.name == "" {
		out.name = strings.ReplaceAll(rt.DeveloperName, "_", " ")
	}
	for f, values := range rt.Picklists {
		if out.picklists == nil {
			out.picklists = map[string]map[string]bool{}
		}
		out.picklists[f] = map[string]bool{}
		for _, v := range values {
			out.picklists[f][v] = true
		}
	}
	return out
}

func buildRules(obj *object, file *objectFile) error {
	for _, r := range file.ValidationRules {
		program, err := compile(r.When)
		if err != nil {
			return fmt.Errorf("validation rule %s: %w", r.Name, err)
		}
		obj.rules = append(obj.rules, &validationRule{name: r.Name, message: r.Message, field: r.Field, program: program})
	}
	for _, d := range file.DuplicateRules {
		rule := &duplicateRule{name: d.Name, block: d.Action != "alert"}
		for _, n := range d.Fields {
			f := obj.field(n)
			if f == nil || f.from != fromData {
				return fmt.Errorf("duplicate rule %s: no stored field %s", d.Name, n)
			}
			rule.fields = append(rule.fields, f)
		}
		if len(rule.fields) == 0 {
			return fmt.Errorf("duplicate rule %s: names no field", d.Name)
		}
		obj.dups = append(obj.dups, rule)
	}
	return nil
}

func names(fields []fieldFile, name string) bool {
	for _, f := range fields {
		if f.Name == name {
			return true
		}
	}
	return false
}

func systemField(name, typ string, from source, label string) *field {
	return &field{name: name, label: label, typ: typ, from: from, defaulted: true, idLookup: from == fromID}
}

func systemRef(name string, from source, label, relationship string) *field {
	f := systemField(name, "reference", from, label)
	f.referenceTo, f.relationship = []string{"User"}, relationship
	return f
}

func readOnly(name, typ string, length int) *field {
	return &field{name: name, typ: typ, length: length, nillable: true}
}

// labelOf makes a label of an API name: Warehouse_Key__c -> Warehouse Key,
// AnnualRevenue -> Annual Revenue.
func labelOf(name string) string {
	for _, suffix := range []string{"__c", "__e", "__pc"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if strings.Contains(name, "_") {
		return strings.ReplaceAll(name, "_", " ")
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if i > 0 && c >= 'A' && c <= 'Z' && (name[i-1] < 'A' || name[i-1] > 'Z') {
			b.WriteByte(' ')
		}
		b.WriteByte(c)
	}
	return strings.TrimSuffix(b.String(), " Id") + map[bool]string{true: " ID"}[strings.HasSuffix(b.String(), " Id")]
}

func buildField(file *fieldFile, customObject bool) (*field, error) {
	f := &field{
		name: file.Name, label: file.Label, typ: file.Type, length: file.Length, precision: file.Precision, scale: file.Scale,
		custom: strings.HasSuffix(file.Name, "__c") || strings.HasSuffix(file.Name, "__pc"), externalID: file.ExternalID, unique: file.Unique, caseSensitive: file.CaseSensitive,
		idLookup: file.ExternalID || file.IDLookup, nameField: file.NameField, hidden: file.Hidden,
		nillable: !file.Required && !file.MasterDetail, createable: !file.NotCreateable && !file.ReadOnly,
		updateable:   !file.NotUpdateable && !file.ReadOnly && (!file.MasterDetail || file.Reparentable),
		defaultValue: file.Default, defaulted: file.Default != "",
		referenceTo: append([]string(nil), file.ReferenceTo...), relationship: file.Relationship, childRelation: file.ChildRelationship,
		cascadeDelete: file.MasterDetail, reparentable: file.Reparentable, restrictedDelete: file.RestrictDelete,
		locks:    len(file.ReferenceTo) > 0 && (file.Locks == nil || *file.Locks),
		valueSet: file.ValueSet, compound: file.Compound, extraType: file.ExtraTypeInfo, autoFormat: file.AutoNumber, autoNumber: file.AutoNumber != "",
	}
	if f.name == "" {
		return nil, fmt.Errorf("has no name")
	}
	if f.typ == "" {
		f.typ = "string"
	}
	if f.typ == "name" { // FirstName and LastName in one
		f.typ, f.from, f.nameField, f.extraType = "string", fromPersonName, true, "personname"
		f.createable, f.updateable, f.nillable, f.defaulted = false, false, false, true
	}
	if f.autoNumber {
		f.createable, f.updateable, f.nillable, f.defaulted, f.defaultValue = false, false, false, true, ""
		set(&f.length, 30)
	}
	if file.Formula != "" {
		program, err := compile(file.Formula)
		if err != nil {
			return nil, fmt.Errorf("formula: %w", err)
		}
		f.formula, f.from, f.createable, f.updateable, f.nillable = &formula{program: program}, fromFormula, false, false, true
	}
	var values []picklistValue
	for _, v := range file.Values {
		values = append(values, picklistValue{value: v, label: v, active: true, dflt: v == file.Default})
	}
	for _, v := range file.Inactive {
		values = append(values, picklistValue{value: v, label: v})
	}
	f.picklist.Store(newPicklist(values, file.Restricted))
	if (f.typ == "reference") != (len(f.referenceTo) > 0) {
		return nil, fmt.Errorf("a reference needs reference_to, and nothing else has it")
	}
	if f.typ == "reference" && f.relationship == "" {
		switch {
		case f.custom:
			f.relationship = strings.TrimSuffix(f.name, "c") + "r"
		default:
			f.relationship = strings.TrimSuffix(f.name, "Id")
		}
	}
	if _, ok := kinds[f.typ]; !ok {
		return nil, fmt.Errorf("unknown type %q", f.typ)
	}
	if f.nameField && customObject {
		f.idLookup = true
	}
	return f, nil
}

var defaultLength = map[string]int{
	"string": 255, "textarea": 255, "phone": 40, "url": 255, "email": 80, "picklist": 255, "multipicklist": 4099,
	"combobox": 255, "encryptedstring": 175, "reference": 18, "id": 18,
}

var xsdTypes = map[kind]string{
	kindBool: "xsd:boolean", kindInt: "xsd:int", kindDouble: "xsd:double", kindDate: "xsd:date", kindDatetime: "xsd:dateTime",
	kindTime: "xsd:time", kindRef: "tns:ID", kindID: "tns:ID", kindCompound: "urn:address",
}

// complete fills what follows from a field's type.
func complete(f *field) {
	f.kind = kinds[f.typ]
	if f.picklist.Load() == nil {
		f.picklist.Store(newPicklist(nil, false))
	}
	if f.label == "" {
		f.label = labelOf(f.name)
	}
	if f.length == 0 {
		f.length = defaultLength[f.typ]
	}
	f.xsd = "xsd:string"
	if x := xsdTypes[f.kind]; x != "" {
		f.xsd = x
	}
	f.longText = f.typ == "textarea" && f.length > 255
	switch f.kind {
	case kindBool:
		f.nillable, f.defaulted = false, true
		if f.defaultValue == "false" {
			f.defaultValue = ""
		}
	case kindInt:
		set(&f.digits, f.precision)
		if f.digits == 0 {
			f.digits = 9
		}
		f.precision = 0
	case kindDouble:
		if f.precision == 0 {
			f.precision = 18
		}
	case kindCompound:
		f.from, f.createable, f.updateable, f.nillable = fromAddress, false, false, true
	}
}
