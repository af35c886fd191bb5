package salesforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
)

// column is one mapped field: where its cells go and how.
type column struct {
	*field
	header     string // the CSV header: the field's name, or a reference's path
	createOnly bool   // left out where the record exists
	merge      bool   // no field of the org: says which record the row's is merged into
	foreign    bool   // two-object sync: a field of the other object
	keep       bool   // clear_fields leaves it
	required   bool   // a record must have it, whatever describe says

	recordType     string // the Id of the record type that every row gets
	recordTypeName string

	// A lookup's cells hold the value of parent, a field of parentObject. They
	// are sent as a reference where the org resolves them itself, and
	// otherwise exchanged for the record's Id before they are sent.
	parent       *field
	parentObject string
	byQuery      bool
	queue        bool     // of the groups, only queues
	syncs        []string // whose snapshots are asked before the org
	self         bool
}

// virtual reports a column that stands for no field of the target's object.
func (c *column) virtual() bool { return c.merge || c.foreign }

// source is the field whose values the column's cells are.
func (c *column) source() *field {
	if c.parent != nil {
		return c.parent
	}
	return c.field
}

// checker gathers all that is wrong with a sync.
type checker struct {
	client   *api.Client
	sync     *models.Sync
	columns  []models.Column
	object   *api.Object
	names    []string // the object's field names
	problems destinations.Problems
	warnings []string

	// paired: the object is one of a two-object sync's, and only where creates is
	// set does a row that neither has become a record of it.
	paired, creates bool
}

// mode is the sync's, or what that comes to for one of two objects.
func (c *checker) mode() models.Mode {
	if c.paired && !c.creates && c.sync.Mode == models.ModeUpsert {
		return models.ModeUpdate
	}
	return c.sync.Mode
}

func (c *checker) problem(pos, field, format string, args ...any) {
	if pos == "" {
		pos = c.sync.Pos
	}
	c.problems = append(c.problems, destinations.Problem{Pos: pos, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// describe reads an object. An object that is not there is found to be nil.
func describe(ctx context.Context, client *api.Client, name string) (*api.Object, error) {
	o, err := client.Describe(ctx, name)
	var e *api.Error
	if errors.As(err, &e) && (e.Status == 404 || e.Code == "NOT_FOUND" || e.Code == "INVALID_TYPE") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", name, err)
	}
	return o, nil
}

// missingObject says that an object is not there, and what may have been
// meant.
func (c *checker) missingObject(ctx context.Context, pos, field, name string) error {
	all, err := c.client.Objects(ctx)
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	c.problem(pos, field, "the org has no object %s that this user may see%s", name, meant(name, names))
	return nil
}

func meant(name string, names []string) string {
	if n := nearest(name, names); n != "" {
		return " (did you mean " + n + "?)"
	}
	return ""
}

// run checks the sync and builds its target. The error is about the org not
// answering; what is wrong with the sync is in c.problems.
func (c *checker) run(ctx context.Context) (*Target, error) {
	if !c.paired {
		c.checkWrite()
	}
	object, err := describe(ctx, c.client, c.sync.Object)
	if err != nil {
		return nil, err
	}
	if object == nil {
		return nil, c.missingObject(ctx, "", "", c.sync.Object)
	}
	c.object = object
	for i := range object.Fields {
		c.names = append(c.names, object.Fields[i].Name)
	}
	c.checkObject()
	t := &Target{client: c.client, sync: c.sync, object: object, idField: c.idField(), event: isEvent(object.Name), mergeColumn: -1, paired: c.paired}
	if t.event {
		c.checkEvent()
	} else {
		t.match = c.checkMatch()
	}
	seen := make(map[string]bool)
	for i := range c.sync.Fields {
		col, err := c.checkField(ctx, &c.sync.Fields[i], t.match)
		if err != nil {
			return nil, err
		}
		if col != nil && !col.foreign && seen[col.Name] {
			c.problem(c.sync.Fields[i].Pos, col.Name, "field %s is mapped twice", col.Name)
		}
		if col != nil && !col.foreign {
			seen[col.Name] = true
			if col.merge {
				t.mergeColumn = i
			}
		}
		t.columns = append(t.columns, col)
	}
	c.checkSort()
	switch {
	case c.paired:
		t.keyField = destinations.MatchField
	case c.sync.Mode == models.ModeInsert && !t.event:
		t.keyField = c.insertKey(t)
	}
	c.checkRequired(seen, t.match)
	c.warnDifferent(t)
	if err := c.checkPersons(ctx, t); err != nil {
		return nil, err
	}
	return t, nil
}

// checkWrite refuses write options that this writer does not carry out, since
// ignoring one would do something else than what was asked for.
func (c *checker) checkWrite() {
	w := &c.sync.Write
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			c.problem("", "", format, args...)
		}
	}
	refuse(!oneOf(w.IngestionAPI, "", "automatic", "rest", "bulk"), "write.ingestion_api %q: must be automatic, rest or bulk", w.IngestionAPI)
	refuse(!oneOf(w.BulkAPIVersion, "", "1.0", "2.0"), "write.bulk_api_version %q: must be \"1.0\" or \"2.0\"", w.BulkAPIVersion)
	refuse(w.SkipConverted && c.sync.Object != objectLead, "write.skip_converted: only leads are converted, not %s", c.sync.Object)
	refuse(!oneOf(w.ConcurrencyMode, "", "parallel", "serial"), "write.concurrency_mode %q: must be parallel or serial", w.ConcurrencyMode)
	refuse(w.ConcurrencyMode == "serial" && w.IngestionAPI == "bulk" && w.BulkAPIVersion != "1.0", "write.concurrency_mode \"serial\": Bulk API 2.0 has no serial mode; use bulk_api_version = \"1.0\" or ingestion_api = \"rest\"")
	refuse(!oneOf(w.InvalidRelationships, "", "error", omitValues, omitRecords), "write.invalid_relationships %q: must be error, omit_values or omit_records", w.InvalidRelationships)
	refuse(w.AllowDuplicates && w.IngestionAPI == "bulk", "write.allow_duplicates: the Bulk APIs cannot say it; use ingestion_api = \"rest\" or \"automatic\"")
	switch rule := strings.ToUpper(w.AssignmentRule); rule {
	case "":
	case "TRUE", "FALSE":
		refuse(w.IngestionAPI == "bulk", "write.assignment_rule %q: the Bulk APIs take the Id of a rule only; give one, or use ingestion_api = \"rest\" or \"automatic\"", w.AssignmentRule)
	default:
		_, ok := canonicalID(w.AssignmentRule)
		refuse(!ok, "write.assignment_rule %q: must be TRUE, FALSE or the Id of an assignment rule", w.AssignmentRule)
	}
}

func oneOf(s string, options ...string) bool { return slices.Contains(options, s) }

// checkObject checks what the mode does to records against what this user may
// do to them.
func (c *checker) checkObject() {
	s, o := c.sync, c.object
	need := func(ok bool, what, why string) {
		if !ok {
			c.problem("", "", "%s records cannot be %s by this user, which %s needs", o.Name, what, why)
		}
	}
	mode := fmt.Sprintf("mode = %q", s.Mode)
	switch c.mode() {
	case models.ModeInsert:
		need(o.Createable, "created", mode)
	case models.ModeUpdate:
		need(o.Updateable, "updated", mode)
	case models.ModeUpsert:
		need(o.Createable, "created", mode)
		need(o.Updateable, "updated", mode)
	case models.ModeArchive:
		need(o.Deletable, "deleted", mode)
	default:
		c.problem("", "", "mode %q: must be insert, update, upsert or archive", s.Mode)
	}
	switch s.OnRemoved {
	case models.RemovedDelete:
		need(o.Deletable, "deleted", `on_removed = "delete"`)
	case models.RemovedClearFields:
		need(o.Updateable, "updated", `on_removed = "clear_fields"`)
	}
}

// idField describes the record's own Id, which every object has.
func (c *checker) idField() *field {
	if f, ok := c.object.Field("Id"); ok {
		return newField(f)
	}
	return newField(&api.Field{Name: "Id", Type: "id", Length: 18, Filterable: true, IDLookup: true})
}

// column finds a column of the model's result.
func (c *checker) column(pos, field, name string) (models.Column, bool) {
	names := make([]string, len(c.columns))
	for i, col := range c.columns {
		if col.Name == name {
			return col, true
		}
		names[i] = col.Name
	}
	c.problem(pos, field, "the query has no column %s%s", name, meant(name, names))
	return models.Column{}, false
}

// checkMatch checks the match rule and returns its field.
func (c *checker) checkMatch() *field {
	m, mode := c.sync.Match, c.mode()
	upserts := mode == models.ModeUpsert && !c.paired // by the org's own upsert
	if m.Field == "" {
		if mode != models.ModeInsert {
			c.problem("", "", "mode = %q needs match = { field, column }", mode)
		}
		return nil
	}
	af, ok := c.object.Field(m.Field)
	if !ok {
		c.problem("", m.Field, "%s", c.noField(m.Field))
		return nil
	}
	f := newField(af)
	if col, ok := c.column("", f.Name, m.Column); ok && !fits(f.class, col.Kind) {
		c.problem("", f.Name, "column %s (%s) cannot match field %s: it takes %s", col.Name, typeName(col), f.Name, takes[f.class])
	}
	switch {
	case c.paired && f.isID():
		c.problem("", f.Name, "%s cannot match on Id, which is of one object; match on a field that both have", c.sync.Name)
	case upserts && f.isID():
		c.problem("", f.Name, "mode = \"upsert\" cannot match on Id: match on an external id, or use mode = \"update\"")
	case upserts && !f.indexed():
		c.problem("", f.Name, "mode = \"upsert\" must match on an external id, and field %s is none%s", f.Name, c.externalIDs())
	case mode == models.ModeInsert && f.isID():
		c.problem("", f.Name, "mode = \"insert\" cannot match on Id, which the org gives out")
	case (mode == models.ModeInsert || c.paired && c.creates) && !f.Createable:
		c.problem("", f.Name, "field %s cannot be set when a record is created%s", f.Name, c.why(f))
	case !f.isID() && !f.Filterable && !f.indexed():
		c.problem("", f.Name, "field %s cannot be filtered on, so records cannot be found by it", f.Name)
	case f.class == classBool || f.class == classNone || f.class == classMultipicklist:
		c.problem("", f.Name, "records cannot be matched on field %s of type %s", f.Name, f.Type)
	case upserts && !f.Unique && f.Custom:
		c.warn("field %s is not declared unique: a row whose value several records share fails", f.Name)
	}
	return f
}

// externalIDs lists what an upsert could match on.
func (c *checker) externalIDs() string {
	var names []string
	for i := range c.object.Fields {
		if f := &c.object.Fields[i]; (f.ExternalID || f.IDLookup) && !strings.EqualFold(f.Type, "id") {
			names = append(names, f.Name)
		}
	}
	if len(names) == 0 {
		return "; " + c.object.Name + " has none"
	}
	return " (" + c.object.Name + " has: " + strings.Join(names, ", ") + ")"
}

// typeName is a column's type as its warehouse calls it.
func typeName(c models.Column) string {
	if c.Type != "" {
		return c.Type
	}
	return c.Kind.String()
}

// why says in a few words why a field is read-only.
func (c *checker) why(f *field) string {
	var parts []string
	for i := range c.object.Fields {
		if p := &c.object.Fields[i]; p.CompoundFieldName == f.Name && p.Name != f.Name {
			parts = append(parts, p.Name)
		}
	}
	switch {
	case f.Name == "IsPersonAccount":
		return ": the record type says it; map RecordTypeId = { record_type = ... }"
	case f.Name == "PersonContactId":
		return ": the org makes the contact of a person account by itself; map its fields as Person... and ...__pc"
	case f.Calculated:
		return ": it is a formula or roll-up"
	case f.AutoNumber:
		return ": the org numbers it by itself"
	case len(parts) > 0:
		return ": it is compound; map its parts instead (" + strings.Join(parts, ", ") + ")"
	case f.isID():
		return ": the org gives it out; use it in match"
	case f.Custom:
		return ": this user's field-level security makes it read-only"
	}
	return ": it is read-only (a system field, or by this user's field-level security)"
}

// checkField checks one mapping. It returns nil where the field is unusable.
func (c *checker) checkField(ctx context.Context, m *models.Field, match *field) (*column, error) {
	if m.Merge {
		return c.checkMerge(m, match), nil
	}
	if m.Object != "" && m.Object != c.object.Name {
		return &column{field: newField(&api.Field{}), foreign: true, keep: true}, nil
	}
	af, ok := c.object.Field(m.Name)
	if !ok {
		c.problem(m.Pos, m.Name, "%s", c.noField(m.Name))
		return nil, nil
	}
	col := &column{field: newField(af)}
	col.header = col.Name
	if !c.checkWriteable(m, col) {
		return nil, nil
	}
	if m.Lookup != nil {
		if ok, err := c.checkLookup(ctx, m, col, match); !ok || err != nil {
			return nil, err
		}
	} else if !c.checkSource(m, col) {
		return nil, nil
	}
	if match != nil && match.Name == col.Name && c.sync.Mode != models.ModeUpdate && m.Column != c.sync.Match.Column {
		c.problem(m.Pos, col.Name, "field %s is the match field, which column %s fills; it cannot be filled otherwise too", col.Name, c.sync.Match.Column)
	}
	isMatch := match != nil && match.Name == col.Name
	col.keep = isMatch || !col.Updateable || (!col.Nillable && col.class != classBool) || c.neverEmpty(col.field)
	if c.sync.OnRemoved == models.RemovedClearFields && col.keep && !isMatch {
		reason := "it cannot be empty"
		if !col.Updateable {
			reason = "it cannot be updated"
		}
		c.warn("on_removed = \"clear_fields\" leaves field %s as it is: %s", col.Name, reason)
	}
	return col, nil
}

// checkWriteable checks that the mode may write the field.
func (c *checker) checkWriteable(m *models.Field, col *column) bool {
	f := col.field
	if f.class == classNone && (f.Createable || f.Updateable) {
		c.problem(m.Pos, f.Name, "field %s is of type %s, which cannot be written", f.Name, f.Type)
		return false
	}
	if f.isID() || (!f.Createable && !f.Updateable) {
		c.problem(m.Pos, f.Name, "field %s cannot be written%s", f.Name, c.why(f))
		return false
	}
	switch c.mode() {
	case models.ModeInsert:
		if !f.Createable {
			c.problem(m.Pos, f.Name, "field %s cannot be set when a record is created%s", f.Name, c.why(f))
			return false
		}
	case models.ModeUpdate:
		if c.paired && c.sync.Mode == models.ModeUpsert {
			col.createOnly = m.OnCreate || !f.Updateable
			if !f.Updateable && !m.OnCreate {
				c.problem(m.Pos, f.Name, "%s field %s can only be set when a record is created, and this sync creates no %s records", c.object.Name, f.Name, c.object.Name)
				return false
			}
			return true
		}
		if !f.Updateable {
			c.problem(m.Pos, f.Name, "field %s can only be set when a record is created, which mode = \"update\" never does", f.Name)
			return false
		}
		if m.OnCreate {
			c.problem(m.Pos, f.Name, "field %s is mapped with on = \"create\", and mode = \"update\" never creates a record", f.Name)
			return false
		}
	case models.ModeUpsert:
		if !f.Createable {
			c.warn("field %s can only be updated: a row whose record must be created fails while it is mapped", f.Name)
		}
		col.createOnly = m.OnCreate || !f.Updateable
		if m.OnCreate && !f.Createable {
			c.problem(m.Pos, f.Name, "field %s is mapped with on = \"create\" but cannot be set when a record is created", f.Name)
			return false
		}
	case models.ModeArchive:
		c.warn("mode = \"archive\" deletes records and does not write field %s", f.Name)
	}
	return true
}

// checkSource checks that what fills the field can fit it.
func (c *checker) checkSource(m *models.Field, col *column) bool {
	switch {
	case m.RecordType != "":
		return c.checkRecordType(m, col)
	case m.Constant != nil:
		if _, err := col.convert(*m.Constant); err != nil {
			c.problem(m.Pos, col.Name, "field %s (%s): %v", col.Name, col.Type, err)
			return false
		}
	case m.Column != "":
		source, ok := c.column(m.Pos, col.Name, m.Column)
		if !ok {
			return false
		}
		if !fits(col.class, source.Kind) {
			c.problem(m.Pos, col.Name, "column %s (%s) cannot fill field %s of type %s: it takes %s", source.Name, typeName(source), col.Name, col.Type, takes[col.class])
			return false
		}
	}
	return true
}

// checkLookup checks a lookup and decides how its references are sent.
func (c *checker) checkLookup(ctx context.Context, m *models.Field, col *column, match *field) (bool, error) {
	l := *m.Lookup
	if strings.EqualFold(l.Object, "Queue") {
		// A queue is a Group of that type; only queues can own records.
		l.Object, col.queue = "Group", true
	}
	if col.class != classReference {
		c.problem(m.Pos, col.Name, "field %s of type %s is no reference, so a lookup cannot fill it", col.Name, col.Type)
		return false, nil
	}
	i := slices.IndexFunc(col.ReferenceTo, func(o string) bool { return strings.EqualFold(o, l.Object) })
	if i < 0 {
		c.problem(m.Pos, col.Name, "field %s refers to %s, not to %s", col.Name, strings.Join(col.ReferenceTo, ", "), m.Lookup.Object)
		return false, nil
	}
	col.queue = col.queue || l.Object == "Group" && col.Name == "OwnerId"
	col.parentObject = col.ReferenceTo[i]
	parent, err := describe(ctx, c.client, col.parentObject)
	if err != nil {
		return false, err
	}
	if parent == nil {
		return false, c.missingObject(ctx, m.Pos, col.Name, l.Object)
	}
	af, ok := parent.Field(l.Field)
	if !ok {
		names := make([]string, len(parent.Fields))
		for i := range parent.Fields {
			names[i] = parent.Fields[i].Name
		}
		c.problem(m.Pos, col.Name, "lookup of field %s: %s has no field %s that this user may see%s", col.Name, parent.Name, l.Field, meant(l.Field, names))
		return false, nil
	}
	f := newField(af)
	source, ok := c.column(m.Pos, col.Name, l.Column)
	if !ok {
		return false, nil
	}
	if !fits(f.class, source.Kind) || f.class == classBool || f.class == classMultipicklist {
		c.problem(m.Pos, col.Name, "column %s (%s) cannot find %s records by field %s of type %s", source.Name, typeName(source), parent.Name, f.Name, f.Type)
		return false, nil
	}
	if f.isID() {
		return true, nil // an Id is the reference itself
	}
	col.parent = f
	switch {
	case f.indexed() && col.RelationshipName != "" && !col.queue:
		col.header = col.RelationshipName + "." + f.Name
		if len(col.ReferenceTo) > 1 {
			col.header = col.parentObject + ":" + col.header
		}
	case f.Filterable:
		col.byQuery = true
	default:
		c.problem(m.Pos, col.Name, "lookup of field %s: %s cannot be found by field %s, which cannot be filtered on", col.Name, parent.Name, f.Name)
		return false, nil
	}
	if parent.Name == c.object.Name {
		if match != nil && match.Name == f.Name {
			col.self = true
		} else {
			c.warn("field %s refers to %s by %s, which is not the match field: a parent that is new in the same run may not be found", col.Name, parent.Name, f.Name)
		}
	}
	return true, nil
}

// insertKey finds the field by which a record that was inserted can be found
// again: the match field, or one that carries the primary key as it is. Without
// one, only Bulk API 1.0 can say what became of an insert whose answer was lost:
// a job's batches are listed and read back, and their results are in the order
// of the rows.
func (c *checker) insertKey(t *Target) int {
	if t.match != nil {
		return destinations.MatchField
	}
	if c.sync.Match.Field == "" && len(c.sync.Model.PrimaryKey) == 1 {
		for i := range c.sync.Fields {
			col := t.columns[i]
			if col == nil || c.sync.Fields[i].Column != c.sync.Model.PrimaryKey[0] || !col.Filterable {
				continue
			}
			if col.class == classText || col.class == classInt || col.class == classNumber {
				return i
			}
		}
	}
	if c.sync.Match.Field != "" {
		return destinations.MatchField // the problem is the match field's own
	}
	t.keyless = true
	why := "no filterable field carries the primary key (" + strings.Join(c.sync.Model.PrimaryKey, ", ") + "), by which to find a record again whose answer was lost"
	const remedy = "map the key column to a text or number field, or give match = { field, column }"
	if forced := routes(&c.sync.Write); !forced.bulk {
		c.problem("", "", "mode = \"insert\": %s, so inserts need Bulk API 1.0, which %s rules out; %s", why, forced.cause, remedy)
	} else {
		c.warn("inserts go through Bulk API 1.0, the only one that says what became of them: %s", why)
	}
	return destinations.MatchField
}

// checkSort checks that the field by which rows are kept apart is mapped: only
// then do they say what they hold of it.
func (c *checker) checkSort() {
	by := c.sync.Write.SortBatchesBy
	if by == "" || by == "auto" || by == "none" {
		return
	}
	names := make([]string, len(c.sync.Fields))
	for i := range c.sync.Fields {
		if names[i] = c.sync.Fields[i].Name; strings.EqualFold(names[i], by) {
			return
		}
	}
	c.problem("", "", "write.sort_batches_by %q: must be auto, none or a field that the sync maps%s", by, meant(by, names))
}

// checkRequired remarks on fields that a new record must have and the mapping
// does not fill.
func (c *checker) checkRequired(mapped map[string]bool, match *field) {
	if mode := c.mode(); mode != models.ModeInsert && mode != models.ModeUpsert {
		return
	}
	var missing []string
	for i := range c.object.Fields {
		f := &c.object.Fields[i]
		if f.Createable && !f.Nillable && !f.DefaultedOnCreate && !mapped[f.Name] && (match == nil || match.Name != f.Name) {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) > 0 {
		c.warn("new %s records need %s, which no mapping fills: rows whose record must be created fail", c.object.Name, strings.Join(missing, ", "))
	}
}
