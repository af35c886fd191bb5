package emulator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Org is the database behind the server: its objects, their records and its
// clock. Its exported methods act as a person in the user interface would, and
// may be called at any time.
type Org struct {
	mu      sync.RWMutex
	id      string
	name    string
	objects []*object
	byName  map[string]*object
	byKey   map[string]*object // key prefix -> object
	sets    []*valueSet
	changed map[string]keptList // picklists whose values were changed
	people  []string            // Ids of users, by the number records keep
	rng     *rand.Rand          // guarded by mu
	offset  time.Duration       // of the org's clock; guarded by mu
	events  map[string][]map[string]any

	published    map[int64]int // events by the minute they were published in; guarded by mu
	hourlyEvents int
	log          *journal  // nil without a directory
	schema       time.Time // when the schema last changed; guarded by mu

	countMu sync.Mutex
	writes  WriteCounts
}

// WriteCounts are records written, by what happened to them. Records of a
// transaction that was rolled back are not in it.
type WriteCounts struct {
	Inserted       int `json:"insert"`
	Updated        int `json:"update"`
	UpsertCreated  int `json:"upsert_created"`
	UpsertUpdated  int `json:"upsert_updated"`
	Deleted        int `json:"delete"`
	RowsFailed     int `json:"rows_failed"`
	EventsAccepted int `json:"events"`
	// RowAttempts is how often a row was taken up for writing, whatever came
	// of it: a row that failed for a lock and was sent again counts twice.
	RowAttempts int `json:"row_attempts"`
}

func (w WriteCounts) total() int {
	return w.Inserted + w.Updated + w.UpsertCreated + w.UpsertUpdated + w.Deleted + w.EventsAccepted
}

// Who writes: the integration user of the API, or a person in the browser.
const (
	integrationUser = uint16(0)
	browserUser     = uint16(1)
)

func (o *Org) person(n uint16) string {
	if int(n) < len(o.people) {
		return o.people[n]
	}
	return ""
}

func (o *Org) object(name string) *object { return o.byName[strings.ToLower(name)] }

// now is the org's clock in Unix seconds. Callers hold mu.
func (o *Org) now() int64 { return time.Now().Add(o.offset).Unix() }

// Clock is the org's time: the machine's, moved by what AdvanceTime was given.
func (o *Org) Clock() time.Time {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return time.Now().Add(o.offset)
}

// AdvanceTime moves the org's clock forward.
func (o *Org) AdvanceTime(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.offset += d
}

func (o *Org) schemaTime() time.Time {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.schema
}

// ID is the org's 18-character Id.
func (o *Org) ID() string { return o.id }

// Objects are the API names of the org's objects.
func (o *Org) Objects() []string {
	names := make([]string, len(o.objects))
	for i, obj := range o.objects {
		names[i] = obj.name
	}
	return names
}

// native renders a stored value as a Go value: bool, json.Number or string,
// datetimes as REST shows them.
func native(f *field, v string) any {
	switch f.kind {
	case kindBool:
		return v == "true"
	case kindInt, kindDouble:
		return json.Number(v)
	case kindDatetime:
		return formatDatetime(v)
	default:
		return v
	}
}

func (o *Org) export(obj *object, r *record) map[string]any {
	m := make(map[string]any, len(obj.fields))
	for _, f := range obj.fields {
		if v, ok := o.value(obj, r, f); ok {
			m[f.name] = native(f, v)
		}
	}
	return m
}

// Records returns the live records of an object by canonical field name, in the
// order of their creation; a null field is absent. Numbers are json.Number with
// the digits that are stored. An unknown object has no records.
func (o *Org) Records(objectName string) []map[string]any {
	o.mu.RLock()
	defer o.mu.RUnlock()
	obj := o.object(objectName)
	if obj == nil {
		return nil
	}
	out := make([]map[string]any, 0, obj.live)
	for _, r := range obj.records {
		if r != nil && !r.deleted {
			out = append(out, o.export(obj, r))
		}
	}
	return out
}

// Count is the number of live records of an object.
func (o *Org) Count(objectName string) int {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if obj := o.object(objectName); obj != nil {
		return obj.live
	}
	return 0
}

// Find returns the live records whose field has exactly this value, given as it
// is stored (numbers without trailing zeros, checkboxes "true" or "false").
func (o *Org) Find(objectName, fieldName, value string) []map[string]any {
	o.mu.RLock()
	defer o.mu.RUnlock()
	obj := o.object(objectName)
	if obj == nil {
		return nil
	}
	f := obj.field(fieldName)
	if f == nil {
		return nil
	}
	var out []map[string]any
	match := func(r *record) bool {
		if v, ok := o.value(obj, r, f); ok && v == value {
			out = append(out, o.export(obj, r))
		}
		return true
	}
	switch {
	case f.from == fromID:
		if id, ok := canonicalID(value); ok {
			if r := obj.find(id); r != nil && !r.deleted {
				out = append(out, o.export(obj, r))
			}
		}
	case f.index != nil && f.index.lazy:
		obj.children(f, value, match)
	case f.index != nil:
		obj.lookup(f, value, match)
	default:
		for _, r := range obj.records {
			if r != nil && !r.deleted {
				match(r)
			}
		}
	}
	return out
}

// Published returns the platform events accepted so far, oldest first.
func (o *Org) Published(event string) []map[string]any {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return append([]map[string]any(nil), o.events[strings.ToLower(event)]...)
}

// goChanges turns Go values into changes, as a form in the browser would.
func (o *Org) goChanges(obj *object, fields map[string]any) ([]change, error) {
	changes := make([]change, 0, len(fields))
	for name, v := range fields {
		f := obj.field(name)
		if f == nil || f.from != fromData {
			return nil, fmt.Errorf("write %s.%s: no such field that can be written", obj.name, name)
		}
		if v == nil {
			changes = append(changes, change{f: f, null: true})
			continue
		}
		text, p := f.parse(fmt.Sprint(v))
		if p != nil {
			if p.cast {
				return nil, fmt.Errorf("write %s.%s: %v is no value of type %s", obj.name, name, v, f.typ)
			}
			return nil, fmt.Errorf("write %s.%s: %s", obj.name, name, p.err.message)
		}
		changes = append(changes, change{f: f, val: text, null: text == ""})
	}
	return changes, nil
}

func (o *Org) personal(objectName string, op operation, w rowWrite, fields map[string]any) (string, error) {
	obj := o.object(objectName)
	if obj == nil {
		return "", fmt.Errorf("%s %s: no such object", op, objectName)
	}
	changes, err := o.goChanges(obj, fields)
	if err != nil {
		return "", err
	}
	w.changes = changes
	b := &dml{obj: obj, op: op, rows: []rowWrite{w}, who: browserUser, anyField: true}
	if err := o.apply(b); err != nil {
		return "", err
	}
	if err := o.log.sync(); err != nil {
		return "", err
	}
	if errs := b.rows[0].errs; len(errs) > 0 {
		return "", fmt.Errorf("%s %s: %s: %s", op, objectName, errs[0].code, errs[0].message)
	}
	return b.rows[0].id, nil
}

// Insert creates a record as a person would in the browser and returns its Id.
// Create-only and read-only rules of the API do not apply; types, required
// fields and uniqueness do.
func (o *Org) Insert(objectName string, fields map[string]any) (string, error) {
	return o.personal(objectName, opInsert, rowWrite{}, fields)
}

// Update edits a record as a person would in the browser; a nil value clears.
func (o *Org) Update(objectName, id string, fields map[string]any) error {
	_, err := o.personal(objectName, opUpdate, rowWrite{id: id}, fields)
	return err
}

// Delete moves a record to the recycle bin.
func (o *Org) Delete(objectName, id string) error {
	_, err := o.personal(objectName, opDelete, rowWrite{id: id}, nil)
	return err
}

func (o *Org) count(w WriteCounts) {
	o.countMu.Lock()
	defer o.countMu.Unlock()
	o.writes.Inserted += w.Inserted
	o.writes.Updated += w.Updated
	o.writes.UpsertCreated += w.UpsertCreated
	o.writes.UpsertUpdated += w.UpsertUpdated
	o.writes.Deleted += w.Deleted
	o.writes.RowsFailed += w.RowsFailed
	o.writes.EventsAccepted += w.EventsAccepted
	o.writes.RowAttempts += w.RowAttempts
}
