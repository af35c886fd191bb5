package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coho/destinations/salesforce/api"
	"coho/models"
)

// Person accounts (SOAP API Developer Guide, "Person Account Record Types"; Help,
// "Person Accounts"): an account whose record type is of the person kind is a
// person. Its Name is made of FirstName and LastName and cannot be written, and it
// has the fields of a contact, as Person* and *__pc; the org makes the contact
// itself, PersonContactId, by itself. A new account with neither record type nor
// Name is a person if it has a LastName (Apex Developer Guide, "Accessing sObject
// Fields"). Rows of one sync are of one kind unless the row itself says its record
// type.

const (
	objectAccount   = "Account"
	fieldRecordType = "RecordTypeId"

	noPersons = "this org has no person accounts (Account has no field IsPersonAccount)"
)

// kindOfAccount is what a sync's accounts are.
type kindOfAccount uint8

const (
	kindUnknown kindOfAccount = iota // the mapping does not say
	kindBusiness
	kindPerson
	kindMixed // each row says its own
)

// hasPersons reports whether the org has person accounts. The object is Account.
func (c *checker) hasPersons() bool {
	_, ok := c.object.Field("IsPersonAccount")
	return ok
}

// personField reports whether a field of Account is one that persons alone have.
// A custom field of the account itself ends in __c, one of the person in __pc.
func personField(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasSuffix(lower, "__pc") ||
		strings.HasPrefix(lower, "person") && !strings.HasSuffix(lower, "__c") ||
		oneOf(lower, "firstname", "middlename", "lastname", "suffix", "salutation")
}

// noField says that the object has no field of a name, and what may have been
// meant.
func (c *checker) noField(name string) string {
	if c.object.Name == objectAccount && personField(name) && !c.hasPersons() {
		return "Account has no field " + name + ": " + noPersons
	}
	return fmt.Sprintf("%s has no field %s that this user may see%s", c.object.Name, name, meant(name, c.names))
}

// neverEmpty reports whether a field can be emptied on no account that has it,
// though describe calls it nillable because accounts of the other kind do without.
func (c *checker) neverEmpty(f *field) bool {
	return c.object.Name == objectAccount && c.hasPersons() && oneOf(f.Name, "Name", "LastName", fieldRecordType)
}

// mapped reports whether a mapping is one of this object, and not of the other one
// of a two-object sync.
func (c *checker) mapped(f *models.Field) bool { return f.Object == "" || f.Object == c.object.Name }

// mappedField finds the mapping of a field.
func (c *checker) mappedField(name string) *models.Field {
	i := slices.IndexFunc(c.sync.Fields, func(f models.Field) bool { return c.mapped(&f) && strings.EqualFold(f.Name, name) })
	if i < 0 {
		return nil
	}
	return &c.sync.Fields[i]
}

// checkPersons checks a sync of an org that has person accounts: that it does not
// mix what one account cannot have, and that it fills what a new one must have.
func (c *checker) checkPersons(ctx context.Context, t *Target) error {
	if c.object.Name != objectAccount || !c.hasPersons() || c.sync.Mode == models.ModeArchive {
		return nil
	}
	kind, typed, err := c.kind(ctx, t)
	if err != nil {
		return err
	}
	var personal []*models.Field
	for i := range c.sync.Fields {
		if f := &c.sync.Fields[i]; c.mapped(f) && personField(f.Name) {
			personal = append(personal, f)
		}
	}
	name, last := c.mappedField("Name"), c.mappedField("LastName")
	creates := c.mode() == models.ModeInsert || c.mode() == models.ModeUpsert
	switch {
	case kind == kindBusiness && len(personal) > 0:
		for _, f := range personal {
			c.problem(f.Pos, f.Name, "record type %s is one of business accounts, and only person accounts have %s", typed, f.Name)
		}
	case kind == kindPerson && name != nil:
		c.problem(name.Pos, "Name", "a person account's Name is made of FirstName and LastName and cannot be written: map those instead")
	case name != nil && len(personal) > 0 && kind == kindMixed:
		c.warn("a row that fills Name and %s fails: only business accounts take the one, only person accounts the other", personal[0].Name)
	case name != nil && len(personal) > 0:
		other := personal[0]
		if last != nil {
			other = last
		}
		c.problem(name.Pos, "Name", "Name and %s exclude each other: a person account's Name is made of FirstName and LastName, and a business account has no %s; make a sync of each kind", other.Name, other.Name)
	}
	if creates && last == nil && (kind == kindPerson || len(personal) > 0 && kind != kindBusiness) {
		of := c.mappedField(fieldRecordType)
		if kind != kindPerson {
			of = personal[0]
		}
		c.problem(of.Pos, "LastName", "new person accounts need LastName, which no mapping fills")
	}
	if creates && name == nil && len(personal) == 0 && kind != kindPerson && (c.sync.Match.Field == "" || !strings.EqualFold(c.sync.Match.Field, "Name")) {
		c.warn("new business accounts need Name, which no mapping fills: rows whose record must be created fail")
	}
	for _, col := range t.columns {
		if col != nil {
			col.required = col.required || kind != kindMixed && col.field != nil && oneOf(col.Name, "Name", "LastName")
		}
	}
	return nil
}

// kind is that of the accounts which the sync writes, and the record type that
// says so.
func (c *checker) kind(ctx context.Context, t *Target) (k kindOfAccount, typed string, err error) {
	m := c.mappedField(fieldRecordType)
	if m == nil {
		return kindUnknown, "", nil
	}
	var id string
	switch {
	case m.RecordType != "":
		typed = m.RecordType
		for _, col := range t.columns {
			if col != nil && col.recordType != "" {
				id = col.recordType
			}
		}
	case m.Constant != nil:
		id, _ = canonicalID(trim(m.Constant.Text()))
		typed = id
	default:
		return kindMixed, "", nil
	}
	if id == "" {
		return kindUnknown, "", nil // a problem that is reported already
	}
	// Describe does not tell of which kind a record type is; the type's own record
	// does (Object Reference, "RecordType").
	result, err := c.client.Query(ctx, "SELECT Id, IsPersonType FROM RecordType WHERE SobjectType = 'Account'")
	var e *api.Error
	if errors.As(err, &e) && oneOf(e.Code, "INVALID_TYPE", "INVALID_FIELD") {
		return kindUnknown, typed, nil // this user may not see it
	}
	if err != nil {
		return kindUnknown, "", fmt.Errorf("ask for the record types of person accounts: %w", err)
	}
	defer func() { err = errors.Join(err, result.Close()) }()
	for result.Next() {
		of, _ := result.Record().Get("Id")
		person, _ := result.Record().Get("IsPersonType")
		if full, ok := canonicalID(of); ok && full == id {
			k = kindBusiness
			if person == "true" {
				k = kindPerson
			}
		}
	}
	if err := result.Err(); err != nil {
		return kindUnknown, "", fmt.Errorf("ask for the record types of person accounts: %w", err)
	}
	return k, typed, nil
}
