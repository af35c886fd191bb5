package emulator

import (
	"bytes"
	"fmt"
	"strings"
)

// Person accounts (Salesforce Help, "Person Accounts"; SOAP API Developer Guide,
// "Account"): an account whose record type is of the person kind is a person.
// Its name is that of FirstName and LastName, its contact fields are Person* and
// *__pc, and behind it is a contact of its own, PersonContactId.

// persons is what an org with person accounts knows of the two objects.
type persons struct {
	account, contact *object
	name, first, last, recordType,
	isPerson, contactRef *field // of Account
	accountRef, contactIsPerson *field // of Contact
	pairs                       []personPair
	only                        map[*field]bool // fields of Account that persons alone have
}

// personPair is a field of Account that shows one of the contact.
type personPair struct{ account, contact *field }

// sharedNames are the fields that have one name on both objects.
var sharedNames = []string{"FirstName", "LastName", "Salutation", "Phone", "Fax", "OwnerId", "Description"}

// notPersonal are the contact's fields that an account has no Person* field for.
var notPersonal = map[string]bool{
	"AccountId": true, "LastName": true, "FirstName": true, "Salutation": true, "Name": true, "RecordTypeId": true, "ReportsToId": true,
	"Phone": true, "Fax": true, "Description": true, "LastActivityDate": true, "OwnerId": true,
}

// personField is the name that a contact's field has on Account; "" for none.
func personField(name string) string {
	switch {
	case notPersonal[name]:
		return ""
	case strings.HasSuffix(name, "__c"):
		return strings.TrimSuffix(name, "__c") + "__pc"
	default:
		return "Person" + name
	}
}

// addPersonAccounts gives the file's Account and Contact the fields and record
// types that an org with person accounts has.
func (file *orgFile) addPersonAccounts() error {
	var account, contact *objectFile
	for i := range file.Objects {
		switch file.Objects[i].Name {
		case "Account":
			account = &file.Objects[i]
		case "Contact":
			contact = &file.Objects[i]
		}
	}
	if account == nil || contact == nil || !names(account.Fields, "RecordTypeId") || !names(contact.Fields, "LastName") {
		return fmt.Errorf("org file: person accounts need Account with RecordTypeId, and Contact")
	}
	add := func(of *objectFile, f fieldFile) {
		if !names(of.Fields, f.Name) {
			of.Fields = append(of.Fields, f)
		}
	}
	locks := false
	for i := range account.Fields {
		if account.Fields[i].Name == "Name" {
			account.Fields[i].Required = false
		}
	}
	for _, f := range contact.Fields {
		switch {
		case f.Name == "LastName" || f.Name == "FirstName" || f.Name == "Salutation":
			f.Required = false
		case personField(f.Name) == "":
			continue
		default:
			if f.Label == "" {
				f.Label = labelOf(f.Name)
			}
			f.Name = personField(f.Name)
			f.Required, f.ChildRelationship, f.Relationship = false, "", ""
			if f.Compound != "" {
				f.Compound = "Person" + f.Compound
			}
			if len(f.ReferenceTo) > 0 {
				f.Locks = &locks
			}
		}
		add(account, f)
	}
	add(account, fieldFile{Name: "IsPersonAccount", Label: "Is Person Account", Type: "boolean", ReadOnly: true})
	add(account, fieldFile{Name: "PersonContactId", Label: "Contact ID", Type: "reference", ReferenceTo: []string{"Contact"}, ReadOnly: true, Locks: &locks})
	add(contact, fieldFile{Name: "IsPersonAccount", Label: "Is Person Account", Type: "boolean", ReadOnly: true})
	person, business := false, false
	for _, rt := range account.RecordTypes {
		person, business = person || rt.Person, business || !rt.Person
	}
	if !person {
		account.RecordTypes = append(account.RecordTypes, recordTypeFile{DeveloperName: "PersonAccount", Name: "Person Account", Person: true})
	}
	if !business {
		account.RecordTypes = append(account.RecordTypes, recordTypeFile{DeveloperName: "Business_Account", Name: "Business Account", Default: true})
	}
	return nil
}

// linkPersons finds the fields that belong together.
func (o *Org) linkPersons() {
	p := &persons{account: o.object("Account"), contact: o.object("Contact"), only: map[*field]bool{}}
	p.name, p.first, p.last = p.account.field("Name"), p.account.field("FirstName"), p.account.field("LastName")
	p.recordType, p.isPerson, p.contactRef = p.account.field("RecordTypeId"), p.account.field("IsPersonAccount"), p.account.field("PersonContactId")
	p.accountRef, p.contactIsPerson = p.contact.field("AccountId"), p.contact.field("IsPersonAccount")
	for _, f := range p.contact.fields {
		if a := p.account.field(personField(f.name)); a != nil && personField(f.name) != "" && f.from == fromData {
			p.pairs, p.only[a] = append(p.pairs, personPair{a, f}), true
		}
	}
	for _, n := range sharedNames {
		if a, f := p.account.field(n), p.contact.field(n); a != nil && f != nil {
			p.pairs = append(p.pairs, personPair{a, f})
		}
	}
	for _, n := range [...]string{"FirstName", "LastName", "Salutation"} {
		p.only[p.account.field(n)] = true
	}
	p.account.persons, p.contact.persons = p, p
}

func (o *Org) hasPersonAccounts() bool {
	obj := o.object("Account")
	return obj != nil && obj.persons != nil
}

// personal says whether an account is a person, by the record type that it has
// once the changes are made.
func (p *persons) personal(changes []change, rec *record) bool {
	id, ok := after(p.recordType, changes, rec)
	for i := range p.account.types {
		if rt := &p.account.types[i]; ok && rt.id == id {
			return rt.person
		}
	}
	return false
}

// named gives a new account that names no record type one of the person kind, where
// it has a LastName and no Name (Apex Developer Guide, "Accessing sObject Fields").
func (p *persons) named(given, changes []change) []change {
	_, last := after(p.last, given, nil)
	if _, name := after(p.name, given, nil); !last || name || has(given, p.recordType) {
		return changes
	}
	for i := range p.account.types {
		rt := &p.account.types[i]
		if !rt.person || rt.unavailable {
			continue
		}
		for j := range changes {
			if changes[j].f == p.recordType {
				changes[j].val, changes[j].null = rt.id, false
				return changes
			}
		}
		changes = append(changes, change{f: p.recordType, val: rt.id})
		sortChanges(changes)
		break
	}
	return changes
}

// is says whether a stored account, or the contact behind one, is a person.
func (p *persons) is(obj *object, r *record) bool {
	f := p.isPerson
	if obj == p.contact {
		f = p.contactIsPerson
	}
	v, _ := r.get(f.idx)
	return v == "true"
}

const personOperation = "INVALID_PERSON_ACCOUNT_OPERATION"

// check refuses what cannot be written to an account of its kind, or to the
// contact behind a person.
func (p *persons) check(o *Org, b *dml, w *rowWrite, changes []change, rec *record) bool {
	if b.obj == p.contact {
		return p.checkContact(o, w, rec)
	}
	person := p.personal(changes, rec)
	if rec != nil && person != p.is(p.account, rec) {
		w.fail(personOperation, "An account cannot be turned into a person account, or back, by a change of its record type", "RecordTypeId")
		return false
	}
	var bad []string
	for i := range w.changes {
		f := w.changes[i].f
		if person && f == p.name || !person && p.only[f] && !w.changes[i].null {
			bad = append(bad, f.name)
		}
	}
	if bad != nil {
		w.fail("INVALID_FIELD_FOR_INSERT_UPDATE", "Account: bad field names on insert/update call: "+strings.Join(bad, ", "), bad...)
		return false
	}
	need := p.name
	if person {
		need = p.last
	}
	if _, ok := after(need, changes, rec); !ok {
		w.fail("REQUIRED_FIELD_MISSING", "Required fields are missing: ["+need.name+"]", need.name)
		return false
	}
	if !person {
		return true
	}
	var shadow *record
	if rec != nil {
		shadow = p.shadow(rec)
	}
	side := p.mirrored(changes, true)
	for _, f := range p.contact.uniq {
		o.checkUnique(&dml{obj: p.contact}, w, f, side, shadow)
	}
	return len(w.errs) == 0
}

func (p *persons) checkContact(o *Org, w *rowWrite, rec *record) bool {
	own := rec != nil && p.is(p.contact, rec)
	for i := range w.changes {
		c := &w.changes[i]
		if c.f != p.accountRef {
			continue
		}
		if own {
			if was, _ := rec.get(p.accountRef.idx); was == c.val {
				continue
			}
			w.fail(personOperation, "Cannot change the account of the contact of a person account", "AccountId")
			return false
		}
		if a := p.account.find(c.val); a != nil && p.is(p.account, a) {
			w.fail(personOperation, "Cannot relate a contact to a person account", "AccountId")
			return false
		}
	}
	return true
}

// shadow is the contact behind a person.
func (p *persons) shadow(account *record) *record {
	id, _ := account.get(p.contactRef.idx)
	return p.contact.find(id)
}

// mirrored are changes of one object as those of the other.
func (p *persons) mirrored(changes []change, toContact bool) []change {
	var out []change
	for i := range changes {
		for _, pair := range p.pairs {
			from, to := pair.account, pair.contact
			if !toContact {
				from, to = to, from
			}
			if changes[i].f == from {
				out = append(out, change{f: to, val: changes[i].val, null: changes[i].null})
			}
		}
	}
	sortChanges(out)
	return out
}

// fullName is the change of Name that follows from others.
func (p *persons) fullName(changes []change, rec *record) change {
	first, _ := after(p.first, changes, rec)
	last, _ := after(p.last, changes, rec)
	return change{f: p.name, val: trim(first + " " + last)}
}

// insert completes the changes of a new account and, if it is a person, makes
// its contact, whose Id it adds.
func (p *persons) insert(o *Org, b *dml, w *rowWrite, changes []change) []change {
	if !p.personal(changes, nil) {
		return changes
	}
	c := p.contact.newRecord(uint8(o.rng.Uint32() & 3))
	c.created = o.now()
	c.modified, c.modstamp, c.creator, c.modifier = c.created, c.created, b.who, b.who
	p.contact.live++
	w.shadow = &rowWrite{rec: c, created: true, touched: true, id: makeID(p.contact.prefix, c.sequence())}
	changes = append(changes, p.fullName(changes, nil), change{f: p.isPerson, val: "true"}, change{f: p.contactRef, val: w.shadow.id})
	sortChanges(changes)
	return changes
}

// inserted writes the contact of a person that was just saved.
func (p *persons) inserted(o *Org, b *dml, w *rowWrite, changes []change) {
	if w.shadow == nil {
		return
	}
	side := append(p.mirrored(changes, true), change{f: p.accountRef, val: w.id}, change{f: p.contactIsPerson, val: "true"})
	sortChanges(side)
	p.contact.store(w.shadow.rec, bytes.Clone(merge(nil, nil, side)))
	o.record(b, p.contact, w.shadow.rec)
}

// updated brings the other half of a person in step with the one that was
// changed.
func (p *persons) updated(o *Org, b *dml, w *rowWrite) {
	if !p.is(b.obj, w.rec) {
		return
	}
	other, rec := p.contact, (*record)(nil)
	toContact := b.obj == p.account
	if toContact {
		rec = p.shadow(w.rec)
	} else {
		other = p.account
		id, _ := w.rec.get(p.accountRef.idx)
		rec = p.account.find(id)
	}
	if rec == nil {
		return
	}
	side := p.mirrored(w.changes, toContact)
	if !toContact {
		side = append(side, p.fullName(side, rec))
		sortChanges(side)
	}
	w.shadow = &rowWrite{rec: rec, old: *rec, touched: true}
	other.store(rec, merge(nil, rec.data, side))
	rec.modified, rec.modstamp, rec.modifier = w.rec.modified, w.rec.modstamp, b.who
	o.record(b, other, rec)
}

// other is the object that a row's shadow is of.
func (p *persons) other(obj *object) *object {
	if obj == p.account {
		return p.contact
	}
	return p.account
}

// removed takes the contact of a deleted person along.
func (p *persons) removed(o *Org, b *dml, w *rowWrite) {
	if b.obj != p.account || !p.is(p.account, w.rec) {
		return
	}
	if c := p.shadow(w.rec); c != nil && !c.deleted {
		o.cascade(b, p.contact, makeID(p.contact.prefix, c.sequence()), 0)
		o.bin(b, p.contact, c)
	}
}
