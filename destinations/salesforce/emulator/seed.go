package emulator

import (
	"fmt"
	"strings"
)

// seed adds the rows that every org has (its users, its record types) and, to a
// new org, those of its file.
func (o *Org) seed(file *orgFile, fresh bool) error {
	user := o.object("User")
	if user == nil {
		return fmt.Errorf("org file: there is no User object")
	}
	for _, u := range []map[string]any{
		{"Username": file.Org.Username, "FirstName": "Integration", "LastName": "User", "Email": "integration@emulated.example", "Alias": "integ", "IsActive": true},
		{"Username": "browser." + file.Org.Username, "FirstName": "Ada", "LastName": "Admin", "Email": "admin@emulated.example", "Alias": "admin", "IsActive": true},
	} {
		id := ""
		for _, r := range o.Find("User", "Username", fmt.Sprint(u["Username"])) {
			id, _ = r["Id"].(string)
		}
		if id == "" {
			var err error
			if id, err = o.Insert("User", u); err != nil {
				return fmt.Errorf("add the org's users: %w", err)
			}
		}
		o.people = append(o.people, id)
	}
	if org := o.object("Organization"); org != nil && org.live == 0 {
		if _, err := o.Insert("Organization", map[string]any{"Name": o.name, "OrganizationType": "Developer Edition", "InstanceName": "EMU1"}); err != nil {
			return fmt.Errorf("add the org's own record: %w", err)
		}
	}
	for _, obj := range o.objects {
		for i := range obj.types {
			if err := o.seedRecordType(obj, &obj.types[i]); err != nil {
				return err
			}
			obj.defaultType(&obj.types[i])
		}
	}
	if !fresh {
		return nil
	}
	for i, r := range file.Records {
		values, err := o.seedValues(r)
		if err == nil {
			_, err = o.Insert(r.Object, values)
		}
		if err != nil {
			return fmt.Errorf("org file: record %d of %s: %w", i+1, r.Object, err)
		}
	}
	return nil
}

func (o *Org) seedRecordType(obj *object, rt *recordType) error {
	for _, r := range o.Find("RecordType", "DeveloperName", rt.developerName) {
		if r["SobjectType"] == obj.name {
			rt.id, _ = r["Id"].(string)
			return nil
		}
	}
	id, err := o.Insert("RecordType", map[string]any{"Name": rt.name, "DeveloperName": rt.developerName, "SobjectType": obj.name, "IsActive": rt.active, "IsPersonType": rt.person})
	if err != nil {
		return fmt.Errorf("add record type %s of %s: %w", rt.developerName, obj.name, err)
	}
	rt.id = id
	return nil
}

// defaultType makes a record type the one of records that name none, as the
// default record type of a user's profile is.
func (obj *object) defaultType(rt *recordType) {
	f := obj.field("RecordTypeId")
	if !rt.dflt || f == nil {
		return
	}
	if f.defaultValue == "" {
		obj.dflt = append(obj.dflt, f)
	}
	f.defaultValue = rt.id
}

// seedValues finds the parents that a seed row names by another field.
func (o *Org) seedValues(r recordFile) (map[string]any, error) {
	obj := o.object(r.Object)
	if obj == nil {
		return nil, fmt.Errorf("there is no object %s", r.Object)
	}
	out := map[string]any{}
	for name, v := range r.Values {
		out[name] = v
		by, ok := v.(map[string]any)
		if !ok {
			continue
		}
		f := obj.field(name)
		if f == nil || len(f.referenceTo) == 0 {
			return nil, fmt.Errorf("%s is no reference", name)
		}
		for key, want := range by {
			for _, target := range f.referenceTo {
				for _, hit := range o.Find(target, key, strings.TrimSpace(fmt.Sprint(want))) {
					out[name] = hit["Id"]
				}
			}
		}
		if _, still := out[name].(map[string]any); still {
			return nil, fmt.Errorf("%s: no parent has %v", name, by)
		}
	}
	return out, nil
}
