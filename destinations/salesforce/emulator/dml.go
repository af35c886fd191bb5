package emulator

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// operation is what is done to a row.
type operation uint8

const (
	opInsert operation = iota
	opUpdate
	opUpsert
	opDelete
	opHardDelete
)

func (p operation) String() string {
	return [...]string{"insert", "update", "upsert", "delete", "hardDelete"}[p]
}

// rowChange is a change, or a reference by external id still to be resolved
// (key not nil: val is the parent's key).
type rowChange struct {
	change
	target *object
	key    *field
}

// rowWrite is one row of a transaction and, afterwards, its result.
type rowWrite struct {
	id      string // given for update and delete; canonical once the row is saved
	key     string // upsert: the parsed key, empty when blank
	changes []change
	refs    []rowChange
	errs    []rowError // the row has failed; filled by the reader of the row too
	rec     *record
	created bool
	old     record // before the write, to undo it
	touched bool
	shadow  *rowWrite // the other half of a person account
	found   *duplicates
}

// dml is one transaction of at most 200 rows of one object (a "chunk").
type dml struct {
	obj       *object
	op        operation
	keyField  *field // upsert
	rows      []rowWrite
	allOrNone bool
	allErrors bool // collect every error of a row, not the first only
	anyField  bool // the API's create and update rights do not apply
	who       uint16
	selfLimit int // rows of this object from here on came with the same file
	delay     time.Duration
	fault     func(row *rowWrite) *rowError
	allowDups bool     // Sforce-Duplicate-Rule-Header: allowSave=true
	assign    bool     // the object's assignment rule gives new records their owner
	unlocked  int      // rows whose locks were not to be had
	hold      bool     // what deletes entail waits for finishHeld
	also      []string // Ids of further rows that it locks

	entries []byte // for the journal
	counts  WriteCounts
	seen    map[string]int
	scratch []byte
	merged  []change
}

func (w *rowWrite) fail(code, message string, fields ...string) {
	w.errs = append(w.errs, rowError{code, message, fields})
}

// apply runs one transaction. Its error is a failure of the emulator itself (the
// journal could not be written); the rows carry their own.
func (o *Org) apply(b *dml) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	b.entries, b.counts = b.entries[:0], WriteCounts{}
	if b.seen == nil {
		b.seen = make(map[string]int, len(b.rows))
	}
	clear(b.seen)
	if b.selfLimit == 0 {
		b.selfLimit = len(b.obj.records)
	}
	for i := range b.rows {
		o.resolveRefs(b, &b.rows[i])
	}
	o.findRepeats(b)
	failed := 0
	for i := range b.rows {
		w := &b.rows[i]
		if len(w.errs) == 0 && b.fault != nil {
			if e := b.fault(w); e != nil {
				w.errs = append(w.errs, *e)
			}
		}
		if len(w.errs) == 0 {
			o.applyRow(b, w)
		}
		if len(w.errs) > 0 {
			failed++
			if !b.allErrors {
				w.errs = w.errs[:1]
			}
		}
	}
	if b.allOrNone && failed > 0 {
		o.rollBack(b)
		failed = len(b.rows)
	}
	if (b.op == opDelete || b.op == opHardDelete) && !b.hold {
		o.finishDeletes(b)
	}
	b.counts.RowsFailed = failed
	if b.who != browserUser {
		o.count(b.counts)
	}
	if err := o.log.write(b.entries); err != nil {
		return fmt.Errorf("record a transaction on %s: %w", b.obj.name, err)
	}
	return nil
}

const rolledBack = "Record rolled back because not all records were valid and the request was using AllOrNone header"

func (o *Org) rollBack(b *dml) {
	for i := len(b.rows) - 1; i >= 0; i-- {
		w := &b.rows[i]
		if len(w.errs) > 0 {
			continue
		}
		if w.touched {
			o.undo(b.obj, w)
		}
		w.fail("ALL_OR_NONE_OPERATION_ROLLED_BACK", rolledBack)
		if w.created {
			w.id = ""
		}
	}
	b.entries, b.counts = b.entries[:0], WriteCounts{}
}

func (o *Org) undo(obj *object, w *rowWrite) {
	if w.shadow != nil {
		o.undo(obj.persons.other(obj), w.shadow)
	}
	if w.created {
		obj.store(w.rec, nil)
		obj.live--
		obj.records[w.rec.pos] = nil
		return
	}
	obj.store(w.rec, w.old.data)
	if w.rec.deleted && !w.old.deleted {
		obj.live++
	}
	*w.rec = w.old
}

// resolveRefs finds the parents that are named by an external id (SOAP API
// Developer Guide, "upsert(): Upsert with references"). All of a transaction's
// are found before its first row is saved, and a row of the same file is no
// parent yet: two rows of one request cannot refer to each other.
func (o *Org) resolveRefs(b *dml, w *rowWrite) {
	for _, c := range w.refs {
		if c.null {
			w.changes = append(w.changes, c.change)
			continue
		}
		if c.key.from == fromID {
			w.changes = append(w.changes, c.change)
			continue
		}
		var hits []*record
		c.target.lookup(c.key, c.val, func(r *record) bool {
			if c.target != b.obj || int(r.pos) < b.selfLimit {
				hits = append(hits, r)
			}
			return len(hits) < 2
		})
		switch len(hits) {
		case 1:
			w.changes = append(w.changes, change{f: c.f, val: makeID(c.target.prefix, hits[0].sequence())})
		case 0:
			w.fail("INVALID_FIELD", fmt.Sprintf("Foreign key external ID: %s not found for field %s in entity %s", c.val, c.key.name, c.target.name))
		default:
			w.fail("DUPLICATE_EXTERNAL_ID", fmt.Sprintf("Foreign key external ID: %s matches more than one record for field %s in entity %s", c.val, c.key.name, c.target.name))
		}
	}
	w.refs = w.refs[:0]
}

// maxSameID is how often one Id may occur in one call (SOAP API Developer
// Guide, "update()").
const maxSameID = 12

// findRepeats fails every row that shares its external id with another of the
// same transaction, and the thirteenth update of one record.
func (o *Org) findRepeats(b *dml) {
	byKey := b.op == opUpsert && b.keyField.from != fromID
	if b.op == opInsert || b.op == opDelete || b.op == opHardDelete {
		return
	}
	name := func(w *rowWrite) string {
		if !byKey {
			if b.op == opUpsert {
				return w.key
			}
			return w.id
		}
		if f := b.keyField; f.unique && !f.caseSensitive {
			return strings.ToLower(w.key)
		}
		return w.key
	}
	for i := range b.rows {
		w := &b.rows[i]
		n := name(w)
		if n == "" {
			continue
		}
		b.seen[n]++
		if !byKey && b.seen[n] > maxSameID {
			w.fail("DUPLICATE_VALUE", fmt.Sprintf("Maximum number of duplicate updates in one batch (%d allowed). Attempt to update Id more than once in this Api call: %s", maxSameID, n))
		}
	}
	if !byKey || len(b.seen) == len(b.rows) {
		return
	}
	for i := range b.rows {
		w := &b.rows[i]
		if n := name(w); n != "" && b.seen[n] > 1 {
			w.errs = append(w.errs[:0], rowError{"DUPLICATE_VALUE", "Duplicate external id specified: " + w.key, []string{b.keyField.name}})
		}
	}
}

func (o *Org) applyRow(b *dml, w *rowWrite) {
	if b.obj.event {
		o.publish(b, w)
		return
	}
	switch b.op {
	case opInsert:
		o.insert(b, w)
	case opUpdate:
		if o.locate(b, w) {
			o.update(b, w)
		}
	case opUpsert:
		o.upsert(b, w)
	case opDelete, opHardDelete:
		if o.locate(b, w) {
			o.remove(b, w)
		}
	}
}

// locate finds the record that a row names by Id.
func (o *Org) locate(b *dml, w *rowWrite) bool {
	if w.id == "" {
		w.fail("MISSING_ARGUMENT", "Id not specified in an "+b.op.String()+" call")
		return false
	}
	id, ok := canonicalID(trim(w.id))
	if !ok || (id[:3] != b.obj.prefix) {
		w.fail("MALFORMED_ID", fmt.Sprintf("%s ID: id value of incorrect type: %s", b.obj.label, w.id), "Id")
		return false
	}
	w.id = id
	w.rec = b.obj.find(id)
	if w.rec == nil {
		w.fail("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
		return false
	}
	if w.rec.deleted && b.op != opHardDelete {
		w.fail("ENTITY_IS_DELETED", "entity is deleted")
		return false
	}
	return true
}

func (o *Org) upsert(b *dml, w *rowWrite) {
	if b.keyField.from == fromID {
		if w.key == "" {
			o.insert(b, w)
			return
		}
		w.id = w.key
		if o.locate(b, w) {
			o.update(b, w)
		}
		return
	}
	if w.key == "" {
		w.fail("MISSING_ARGUMENT", b.keyField.name+" not specified")
		return
	}
	var hits []*record
	var one [2]*record
	hits = one[:0]
	b.obj.lookup(b.keyField, w.key, func(r *record) bool {
		hits = append(hits, r)
		return len(hits) < 10
	})
	switch len(hits) {
	case 0:
		o.insert(b, w)
	case 1:
		w.rec = hits[0]
		w.id = makeID(b.obj.prefix, w.rec.sequence())
		o.update(b, w)
	default:
		ids := make([]string, len(hits))
		for i, r := range hits {
			ids[i] = makeID(b.obj.prefix, r.sequence())
		}
		w.fail("DUPLICATE_EXTERNAL_ID", fmt.Sprintf("%s: more than one record found for external id field: [%s]", b.keyField.name, strings.Join(ids, ", ")), b.keyField.name)
	}
}

func (o *Org) insert(b *dml, w *rowWrite) {
	sortChanges(w.changes)
	changes := o.withDefaults(b, w)
	if p := b.obj.persons; p != nil && b.obj == p.account {
		changes = p.named(w.changes, changes)
	}
	if b.assign && b.obj.assignment != nil {
		changes = o.assign(b.obj, changes)
	}
	if !o.valid(b, w, changes, nil) {
		return
	}
	if b.obj.persons != nil && b.obj.persons.account == b.obj {
		changes = b.obj.persons.insert(o, b, w, changes)
	}
	now := o.now()
	r := b.obj.newRecord(uint8(o.rng.Uint32() & 3))
	r.created, r.modified, r.modstamp = now, now, now
	r.creator, r.modifier = b.who, b.who
	b.scratch = merge(b.scratch[:0], nil, changes)
	b.obj.store(r, bytes.Clone(b.scratch))
	b.obj.live++
	w.rec, w.created, w.touched = r, true, true
	w.id = makeID(b.obj.prefix, r.sequence())
	if b.op == opUpsert {
		b.counts.UpsertCreated++
	} else {
		b.counts.Inserted++
	}
	o.record(b, b.obj, r)
	if w.shadow != nil {
		b.obj.persons.inserted(o, b, w, changes)
	}
}

// withDefaults adds defaults, auto-numbers and the owner to a new row's
// changes. A null that is sent stays null.
func (o *Org) withDefaults(b *dml, w *rowWrite) []change {
	out := append(b.merged[:0], w.changes...)
	sorted := true
	add := func(c change) {
		sorted = sorted && (len(out) == 0 || out[len(out)-1].f.idx < c.f.idx)
		out = append(out, c)
	}
	for _, f := range b.obj.dflt {
		if has(w.changes, f) {
			continue
		}
		switch {
		case f.autoNumber:
			b.obj.autoSeq[f]++
			add(change{f: f, val: autoNumber(f.autoFormat, b.obj.autoSeq[f])})
		case f.defaultValue == "$User.Id":
			add(change{f: f, val: o.person(b.who)})
		default:
			add(change{f: f, val: f.defaultValue})
		}
	}
	if !sorted {
		sortChanges(out)
	}
	b.merged = out
	return out
}

func has(changes []change, f *field) bool {
	for i := range changes {
		if changes[i].f == f {
			return true
		}
	}
	return false
}

// autoNumber fills a display format such as CASE-{00000000}.
func autoNumber(format string, n uint64) string {
	open, end := strings.IndexByte(format, '{'), strings.IndexByte(format, '}')
	if open < 0 || end < open {
		return fmt.Sprint(n)
	}
	return format[:open] + fmt.Sprintf("%0*d", end-open-1, n) + format[end+1:]
}

func (o *Org) update(b *dml, w *rowWrite) {
	sortChanges(w.changes)
	if !o.valid(b, w, w.changes, w.rec) {
		return
	}
	w.old, w.touched = *w.rec, true
	changes := w.changes
	if p := b.obj.persons; p != nil && b.obj == p.account && p.is(p.account, w.rec) {
		changes = append(changes[:len(changes):len(changes)], p.fullName(changes, w.rec))
		sortChanges(changes)
	}
	b.scratch = merge(b.scratch[:0], w.rec.data, changes)
	b.obj.store(w.rec, bytes.Clone(b.scratch))
	now := o.now()
	w.rec.modified, w.rec.modstamp, w.rec.modifier = now, now, b.who
	if b.op == opUpsert {
		b.counts.UpsertUpdated++
	} else {
		b.counts.Updated++
	}
	o.record(b, b.obj, w.rec)
	if b.obj.persons != nil {
		b.obj.persons.updated(o, b, w)
	}
}

// record adds a record's image to the transaction's journal entries.
func (o *Org) record(b *dml, obj *object, r *record) {
	if o.log != nil {
		b.entries = o.log.appendRecord(b.entries, obj, r)
	}
}

// remove moves a record to the recycle bin (or past it), with its detail
// records, and clears the lookups to it; or refuses where a lookup forbids it.
func (o *Org) remove(b *dml, w *rowWrite) {
	if p := b.obj.persons; p != nil && b.obj == p.contact && p.is(p.contact, w.rec) {
		w.fail(personOperation, "Cannot delete the contact of a person account")
		return
	}
	for _, f := range b.obj.kids {
		if !f.restrictedDelete {
			continue
		}
		blocked := false
		f.obj.children(f, w.id, func(*record) bool { blocked = true; return false })
		if blocked {
			w.fail("DELETE_FAILED", fmt.Sprintf("Your attempt to delete %s could not be completed because it is associated with the following %s records", b.obj.label, f.obj.labelPlural))
			return
		}
	}
	w.old, w.touched = *w.rec, true
	o.bin(b, b.obj, w.rec)
	b.counts.Deleted++
}

// finishDeletes does what a transaction's deletes entail once it is sure that
// they stand.
func (o *Org) finishDeletes(b *dml) {
	for i := range b.rows {
		w := &b.rows[i]
		if len(w.errs) > 0 || !w.touched {
			continue
		}
		if b.obj.persons != nil {
			b.obj.persons.removed(o, b, w)
		}
		o.cascade(b, b.obj, w.id, 0)
		if b.op == opHardDelete {
			b.obj.store(w.rec, nil)
			b.obj.records[w.rec.pos] = nil
			if o.log != nil {
				b.entries = o.log.appendPurge(b.entries, b.obj, w.rec)
			}
		}
	}
}

// finishHeld does what the deletes of several transactions entail, once the
// request that they belong to is sure to stand.
func (o *Org) finishHeld(runs []*dml) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range runs {
		if !b.hold || b.op != opDelete {
			continue
		}
		b.entries = b.entries[:0]
		o.finishDeletes(b)
		if err := o.log.write(b.entries); err != nil {
			return fmt.Errorf("record the deletes on %s: %w", b.obj.name, err)
		}
	}
	return nil
}

// bin marks a record deleted.
func (o *Org) bin(b *dml, obj *object, r *record) {
	if !r.deleted {
		r.deleted = true
		obj.live--
		r.modstamp = o.now()
		r.modified = r.modstamp
	}
	if o.log != nil {
		b.entries = o.log.appendRecord(b.entries, obj, r)
	}
}

// maxCascade bounds how deep details of details are followed.
const maxCascade = 10

func (o *Org) cascade(b *dml, parent *object, id string, depth int) {
	if depth > maxCascade {
		return
	}
	for _, f := range parent.kids {
		var hits []*record
		f.obj.children(f, id, func(r *record) bool { hits = append(hits, r); return true })
		for _, r := range hits {
			if f.cascadeDelete {
				o.cascade(b, f.obj, makeID(f.obj.prefix, r.sequence()), depth+1)
				o.bin(b, f.obj, r)
				continue
			}
			f.obj.store(r, merge(nil, r.data, []change{{f: f, null: true}}))
			r.modstamp = o.now()
			o.record(b, f.obj, r)
		}
	}
}
