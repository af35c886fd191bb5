package emulator

import (
	"encoding/binary"
	"sort"
	"strings"
	"time"
	"unsafe"
)

// record is one stored row. Its values are one block of bytes: for each field
// that is not null its number, its length and its canonical text, in the order
// of the fields, so that a record costs little more than its text.
type record struct {
	data     []byte
	created  int64 // Unix seconds, like every instant an org stores
	modified int64
	modstamp int64
	pos      uint32 // place in object.records
	creator  uint16 // place in Org.people
	modifier uint16
	gap      uint8 // what was added to the position in the Id, so that Ids have gaps
	deleted  bool
}

// sequence is the number within the record's Id.
func (r *record) sequence() uint64 { return firstSequence + uint64(r.pos)<<2 + uint64(r.gap) }

// firstSequence leaves room below for the Ids of fixed records.
const firstSequence = 1 << 20

// get returns the stored text of a field, and whether there is any. The text
// lives as long as the block it is in, which is never written again.
func (r *record) get(idx int) (string, bool) {
	d := r.data
	for len(d) > 0 {
		i, n := binary.Uvarint(d)
		d = d[n:]
		l, n := binary.Uvarint(d)
		d = d[n:]
		if int(i) >= idx {
			if int(i) > idx || l == 0 {
				return "", false
			}
			return unsafe.String(&d[0], int(l)), true
		}
		d = d[l:]
	}
	return "", false
}

// value is a field's canonical text, with the system fields and the computed
// ones; false for null.
func (o *Org) value(obj *object, r *record, f *field) (string, bool) {
	switch f.from {
	case fromData:
		v, ok := r.get(f.idx)
		if !ok && f.kind == kindBool {
			return "false", true
		}
		if !ok && f.nameField && obj.custom {
			return makeID(obj.prefix, r.sequence()), true // a custom object's record without a name is called by its Id
		}
		return v, ok
	case fromID:
		return makeID(obj.prefix, r.sequence()), true
	case fromDeleted:
		if r.deleted {
			return "true", true
		}
		return "false", true
	case fromCreated:
		return formatInstant(r.created), true
	case fromModified:
		return formatInstant(r.modified), true
	case fromModstamp:
		return formatInstant(r.modstamp), true
	case fromCreator:
		return o.person(r.creator), true
	case fromModifier:
		return o.person(r.modifier), true
	case fromPersonName:
		return o.personName(obj, r)
	case fromAddress:
		return "", false
	case fromFormula:
		return f.formula.eval(o, obj, r)
	}
	return "", false
}

func (o *Org) personName(obj *object, r *record) (string, bool) {
	var parts []string
	for _, name := range [...]string{"FirstName", "LastName"} {
		if f := obj.field(name); f != nil {
			if v, ok := r.get(f.idx); ok {
				parts = append(parts, v)
			}
		}
	}
	return strings.Join(parts, " "), len(parts) > 0
}

func formatInstant(unix int64) string { return time.Unix(unix, 0).UTC().Format(datetimeLayout) }

// change is one field of a row to be written; a null clears it.
type change struct {
	f    *field
	val  string
	null bool
}

// appendValue appends one entry of a record's block.
func appendValue(dst []byte, idx int, val string) []byte {
	dst = binary.AppendUvarint(dst, uint64(idx))
	dst = binary.AppendUvarint(dst, uint64(len(val)))
	return append(dst, val...)
}

// merge builds a record's block from the old one and changes that are sorted by
// field number.
func merge(dst, old []byte, changes []change) []byte {
	for len(old) > 0 {
		i, n := binary.Uvarint(old)
		l, m := binary.Uvarint(old[n:])
		entry := old[:n+m+int(l)]
		old = old[len(entry):]
		for len(changes) > 0 && changes[0].f.idx < int(i) {
			if !changes[0].null {
				dst = appendValue(dst, changes[0].f.idx, changes[0].val)
			}
			changes = changes[1:]
		}
		if len(changes) > 0 && changes[0].f.idx == int(i) {
			continue // replaced by the next turn, or by the tail below
		}
		dst = append(dst, entry...)
	}
	for _, c := range changes {
		if !c.null {
			dst = appendValue(dst, c.f.idx, c.val)
		}
	}
	return dst
}

func sortChanges(c []change) {
	if !sort.SliceIsSorted(c, func(i, j int) bool { return c[i].f.idx < c[j].f.idx }) {
		sort.SliceStable(c, func(i, j int) bool { return c[i].f.idx < c[j].f.idx })
	}
}

// find looks a record up by its canonical Id, deleted ones included.
func (obj *object) find(id string) *record {
	if len(id) != 18 || id[:3] != obj.prefix {
		return nil
	}
	n, ok := idSequence(id)
	if !ok || n < firstSequence {
		return nil
	}
	n -= firstSequence
	pos := n >> 2
	if pos >= uint64(len(obj.records)) {
		return nil
	}
	r := obj.records[pos]
	if r == nil || uint64(r.gap) != n&3 {
		return nil
	}
	return r
}

// newRecord takes the next place of an object's records.
func (obj *object) newRecord(gap uint8) *record {
	if len(obj.slab) == 0 {
		obj.slab = make([]record, min(1024, max(8, len(obj.records)/4)))
	}
	r := &obj.slab[0]
	obj.slab = obj.slab[1:]
	r.pos, r.gap = uint32(len(obj.records)), gap
	obj.records = append(obj.records, r)
	return r
}

// lookup yields the live records whose indexed field has a value, by the
// field's own case rule: text is compared with its case unless the field is
// unique and says otherwise (Apex Developer Guide, "Upserting Records").
func (obj *object) lookup(f *field, value string, yield func(*record) bool) {
	fold := f.kind == kindText && f.unique && !f.caseSensitive || f.kind == kindEmail
	f.index.each(value, func(pos uint32) bool {
		r := obj.records[pos]
		if r == nil || r.deleted {
			return true
		}
		v, ok := r.get(f.idx)
		if !ok || v != value && (!fold || !strings.EqualFold(v, value)) {
			return true
		}
		return yield(r)
	})
}

// children yields the live records whose reference field points at an Id, each
// once.
func (obj *object) children(f *field, id string, yield func(*record) bool) {
	if f.index == nil {
		for _, r := range obj.records {
			if r == nil || r.deleted {
				continue
			}
			if v, _ := r.get(f.idx); v == id && !yield(r) {
				return
			}
		}
		return
	}
	var seen map[uint32]bool
	n := 0
	f.index.each(id, func(pos uint32) bool {
		r := obj.records[pos]
		if r == nil || r.deleted || seen[pos] {
			return true
		}
		if v, _ := r.get(f.idx); v != id {
			return true
		}
		if n++; n == 1 {
			seen = map[uint32]bool{}
		}
		seen[pos] = true
		return yield(r)
	})
}

// store replaces a record's values and keeps the indexes in step.
func (obj *object) store(r *record, data []byte) {
	old := record{data: r.data}
	r.data = data
	for _, f := range obj.idx {
		was, had := old.get(f.idx)
		is, has := r.get(f.idx)
		if was == is {
			continue
		}
		if had {
			f.index.remove(was, r.pos)
		}
		if has {
			f.index.add(is, r.pos)
		}
	}
}
