package emulator

import (
	"fmt"
	"slices"
	"strings"
)

// valid checks a row against everything but its values' own types, which were
// checked when they were read: rights, required fields, references, unique
// fields, the admin's rules. rec is nil for a new record. The order is that of
// the Apex Developer Guide, "Triggers and Order of Execution".
func (o *Org) valid(b *dml, w *rowWrite, changes []change, rec *record) bool {
	if !b.anyField && !o.writable(b, w, rec) {
		return false
	}
	if rec != nil {
		if f := b.obj.byName["isconverted"]; f != nil && b.obj.name == "Lead" {
			if v, _ := rec.get(f.idx); v == "true" && !b.anyField {
				w.fail("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
				return false
			}
		}
	}
	if b.obj.persons != nil && !b.obj.persons.check(o, b, w, changes, rec) {
		return false
	}
	o.checkRequired(b, w, changes, rec)
	for i := range changes {
		c := &changes[i]
		if c.null {
			if c.f.kind == kindBool {
				w.fail("INVALID_TYPE_ON_FIELD_IN_RECORD", c.f.label+": value not of required type: ", c.f.name)
			}
			continue
		}
		if c.f.kind == kindRef {
			o.checkReference(b, w, c, rec)
		}
	}
	if len(w.errs) > 0 {
		return false
	}
	if len(b.obj.types) > 0 {
		o.checkRecordType(b, w, changes, rec)
	}
	for _, f := range b.obj.uniq {
		o.checkUnique(b, w, f, changes, rec)
	}
	if len(b.obj.rules) > 0 && len(w.errs) == 0 {
		o.checkRules(b, w, changes, rec)
	}
	if len(b.obj.dups) > 0 && len(w.errs) == 0 {
		o.checkDuplicates(b, w, changes, rec)
	}
	return len(w.errs) == 0
}

// writable fails a row that names fields which the operation may not write,
// listing them all.
func (o *Org) writable(b *dml, w *rowWrite, rec *record) bool {
	var bad []string
	for i := range w.changes {
		f := w.changes[i].f
		allowed := f.createable
		if rec != nil {
			allowed = f.updateable
		}
		if allowed && f.from == fromData || f.from == fromID && b.op != opInsert {
			continue
		}
		if f == b.keyField && rec != nil {
			continue
		}
		if rec != nil && f.cascadeDelete && !f.reparentable {
			if v, _ := rec.get(f.idx); v == w.changes[i].val {
				continue
			}
		}
		bad = append(bad, f.name)
	}
	if bad == nil {
		return true
	}
	w.fail("INVALID_FIELD_FOR_INSERT_UPDATE", "Unable to create/update fields: "+strings.Join(bad, ", ")+
		". Please check the security settings of this field and verify that it is read/write for your profile or permission set.", bad...)
	return false
}

func (o *Org) checkRequired(b *dml, w *rowWrite, changes []change, rec *record) {
	var missing []string
	if rec == nil {
		n := 0
		for _, f := range b.obj.req {
			for n < len(changes) && changes[n].f.idx < f.idx {
				n++
			}
			if n == len(changes) || changes[n].f != f || changes[n].null {
				missing = append(missing, f.name)
			}
		}
	} else {
		for i := range changes {
			if f := changes[i].f; changes[i].null && !f.nillable && f.kind != kindBool && f.from == fromData {
				missing = append(missing, f.name)
			}
		}
	}
	if missing != nil {
		w.fail("REQUIRED_FIELD_MISSING", "Required fields are missing: ["+strings.Join(missing, ", ")+"]", missing...)
	}
}

func (o *Org) checkReference(b *dml, w *rowWrite, c *change, rec *record) {
	if rec != nil {
		if was, _ := rec.get(c.f.idx); was == c.val {
			return
		}
	}
	target := o.byKey[c.val[:3]]
	if target == nil || !c.f.refersTo(target.name) {
		w.errs = append(w.errs, c.f.malformedID(c.val).err)
		return
	}
	parent := target.find(c.val)
	switch {
	case parent == nil:
		w.fail("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", c.f.name)
	case parent.deleted:
		w.fail("ENTITY_IS_DELETED", "entity is deleted", c.f.name)
	case rec != nil && parent == rec && target == b.obj:
		w.fail("CIRCULAR_DEPENDENCY", "attempt to violate hierarchy constraints", c.f.name)
	case c.f.name == "OwnerId" && target.name == "User":
		if f := target.field("IsActive"); f != nil {
			if v, _ := parent.get(f.idx); v != "true" {
				w.fail("INACTIVE_OWNER_OR_USER", "operation performed with inactive user ["+c.val+"] as owner of "+strings.ToLower(b.obj.label), c.f.name)
			}
		}
	}
}

func (o *Org) checkUnique(b *dml, w *rowWrite, f *field, changes []change, rec *record) {
	for i := range changes {
		c := &changes[i]
		if c.f != f || c.null {
			continue
		}
		var other *record
		b.obj.lookup(f, c.val, func(r *record) bool {
			if r != rec {
				other = r
			}
			return other == nil
		})
		if other != nil {
			w.fail("DUPLICATE_VALUE", fmt.Sprintf("duplicate value found: %s duplicates value on record with id: %s", f.name, makeID(b.obj.prefix, other.sequence())), f.name)
		}
	}
}

// after is the value that a field will have once the changes are made.
func after(f *field, changes []change, rec *record) (string, bool) {
	for i := range changes {
		if changes[i].f == f {
			return changes[i].val, !changes[i].null
		}
	}
	if rec == nil {
		return "", false
	}
	return rec.get(f.idx)
}

// checkRecordType refuses a record type that is none of the object's that the
// user may give, and enforces the type's own subset of picklist values, which
// describe does not show.
func (o *Org) checkRecordType(b *dml, w *rowWrite, changes []change, rec *record) {
	f := b.obj.field("RecordTypeId")
	if f == nil {
		return
	}
	id, ok := after(f, changes, rec)
	if !ok {
		return
	}
	i := slices.IndexFunc(b.obj.types, func(rt recordType) bool { return rt.id == id })
	if has(changes, f) && !b.anyField && (i < 0 || b.obj.types[i].unavailable) {
		w.fail("INVALID_CROSS_REFERENCE_KEY", "Record Type ID: this ID value isn't valid for the user: "+id, f.name)
		return
	}
	if i >= 0 {
		rt := &b.obj.types[i]
		for j := range changes {
			c := &changes[j]
			allowed := rt.picklists[c.f.name]
			if allowed != nil && !c.null && !allowed[c.val] && c.f.picklist.Load().restricted {
				w.errs = append(w.errs, c.f.fault("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "bad value for restricted picklist field: %s", c.val).err)
			}
		}
	}
}
