package salesforce

import (
	"fmt"
	"slices"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
)

// A record type that the config names by its developer name is found in the
// object's describe (recordTypeInfos), once a run. The name is what the mapping's
// hash, and so every row's fingerprint, covers; the Id is what a plan holds, what
// goes over the wire and what the snapshot says was acknowledged. An org that is a
// copy of another (a sandbox) may know the type by another Id: its state is its
// own, so nothing is compared across the two. Where one org itself comes to know
// the type by another Id, because it was deleted and made again, rows that change
// from then on are sent with the new Id, and all rows with --full: rows whose
// columns did not change are not looked at, as after any other change that people
// make in an org.

// checkRecordType finds the record type that a mapping names.
func (c *checker) checkRecordType(m *models.Field, col *column) bool {
	if col.class != classReference || !slices.ContainsFunc(col.ReferenceTo, func(o string) bool { return strings.EqualFold(o, "RecordType") }) {
		c.problem(m.Pos, col.Name, "field %s of type %s refers to no record type", col.Name, col.Type)
		return false
	}
	var named, usable []*api.RecordType
	for i := range c.object.RecordTypes {
		rt := &c.object.RecordTypes[i]
		if rt.Master || !strings.EqualFold(rt.DeveloperName, m.RecordType) {
			continue
		}
		named = append(named, rt)
		if rt.Active && rt.Available {
			usable = append(usable, rt)
		}
	}
	switch {
	case len(named) == 0:
		c.problem(m.Pos, col.Name, "%s has no record type %s%s", c.object.Name, m.RecordType, c.meantType(m.RecordType))
		return false
	case len(usable) > 1:
		// A developer name is unique among those of one package.
		c.problem(m.Pos, col.Name, "%d record types of %s are called %s (%s and %s): say which by its Id, { value = \"%s\" }", len(usable), c.object.Name, m.RecordType, usable[0].ID, usable[1].ID, usable[0].ID)
		return false
	case len(usable) == 0 && !named[0].Active:
		c.problem(m.Pos, col.Name, "record type %s of %s is inactive: activate it, or map another", m.RecordType, c.object.Name)
		return false
	case len(usable) == 0:
		c.problem(m.Pos, col.Name, "record type %s of %s is not available to this user: assign it in the user's profile or a permission set, or map another", m.RecordType, c.object.Name)
		return false
	}
	id, ok := canonicalID(usable[0].ID)
	if !ok {
		c.problem(m.Pos, col.Name, "record type %s of %s: the org describes it with the Id %q, which is none", m.RecordType, c.object.Name, usable[0].ID)
		return false
	}
	col.recordType, col.recordTypeName = id, usable[0].DeveloperName
	return true
}

// meantType says which record type may have been meant, or which there are.
func (c *checker) meantType(name string) string {
	var names []string
	for i := range c.object.RecordTypes {
		rt := &c.object.RecordTypes[i]
		if rt.Master {
			continue
		}
		if strings.EqualFold(rt.Name, name) {
			return fmt.Sprintf(" (%s is the label of %s)", name, rt.DeveloperName)
		}
		names = append(names, rt.DeveloperName)
	}
	switch {
	case strings.EqualFold(name, "Master"):
		return ": Master stands for records that have none; leave the field unmapped for those"
	case strings.EqualFold(name, "PersonAccount") && c.object.Name == objectAccount && !c.hasPersons():
		return ": " + noPersons
	case len(names) == 0:
		return "; it has none at all"
	case nearest(name, names) != "":
		return meant(name, names)
	}
	return " (it has: " + strings.Join(names, ", ") + ")"
}

// recordTypeNote says which record type a name stands for in this org.
func (col *column) recordTypeNote() destinations.Lookup {
	return destinations.Lookup{Field: col.Name, Object: "RecordType", By: "DeveloperName", How: "describe", Setup: true, Value: col.recordTypeName, ID: col.recordType}
}
