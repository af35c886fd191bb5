package planner

import (
	"encoding/binary"
	"errors"

	"coho/models"
)

// A record of a log is its length as a uvarint and then its body; the bodies
// are described at their append functions. Texts are a uvarint length and the
// bytes.

var errMalformed = errors.New("malformed record")

// Flags of an operation's second byte.
const (
	opKnown = 1 << iota
	opCounted
	opFingerprint
	opID
	opMatch
	opMatchIsKey // the match value is the key's first text, not stored again
	opHeld
)

// appendOperation appends an operation's body: kind, flags, key hash, the
// fingerprint where it is not zero, key texts, Id, match, and the assignments,
// each as field<<2|send and then 0 for null or length+1 and the text. The sequence
// number is the record's place in the log.
func appendOperation(dst []byte, o *Operation) []byte {
	var flags byte
	if o.Known {
		flags |= opKnown
	}
	if o.Counted {
		flags |= opCounted
	}
	if o.held {
		flags |= opHeld
	}
	if o.Fingerprint != (Hash{}) {
		flags |= opFingerprint
	}
	if o.ID != "" {
		flags |= opID
	}
	if o.Match != "" {
		if len(o.Key) > 0 && o.Key[0] == o.Match {
			flags |= opMatchIsKey
		} else {
			flags |= opMatch
		}
	}
	dst = append(dst, byte(o.Kind), flags)
	dst = append(dst, o.KeyHash[:]...)
	if flags&opFingerprint != 0 {
		dst = append(dst, o.Fingerprint[:]...)
	}
	dst = appendTexts(dst, o.Key)
	if flags&opID != 0 {
		dst = appendText(dst, o.ID)
	}
	if flags&opMatch != 0 {
		dst = appendText(dst, o.Match)
	}
	dst = binary.AppendUvarint(dst, uint64(len(o.Assignments)))
	for i := range o.Assignments {
		a := &o.Assignments[i]
		dst = binary.AppendUvarint(dst, uint64(a.Field)<<2|uint64(a.Send))
		if a.Cell.Null {
			dst = append(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(a.Cell.Text))+1)
		dst = append(dst, a.Cell.Text...)
	}
	return dst
}

// decodeOperation reads a body into o, whose slices it uses again and whose
// texts are parts of body. fields is the number of Spec.Fields.
func decodeOperation(body string, o *Operation, fields int) error {
	d := decoder{s: body}
	kind, flags := d.byte(), d.byte()
	if int(kind) >= KindCount {
		return errMalformed
	}
	o.Kind = Kind(kind)
	o.Known, o.Counted, o.held = flags&opKnown != 0, flags&opCounted != 0, flags&opHeld != 0
	o.KeyHash = d.hash()
	o.Fingerprint = Hash{}
	if flags&opFingerprint != 0 {
		o.Fingerprint = d.hash()
	}
	o.Key = d.texts(o.Key[:0])
	o.ID, o.Match = "", ""
	if flags&opID != 0 {
		o.ID = d.text()
	}
	switch {
	case flags&opMatch != 0:
		o.Match = d.text()
	case flags&opMatchIsKey != 0:
		if len(o.Key) == 0 {
			return errMalformed
		}
		o.Match = o.Key[0]
	}
	n := d.count()
	o.Assignments = o.Assignments[:0]
	for range n {
		v := d.uvarint()
		a := Assignment{Field: int(v >> 2), Send: Send(v & 3)}
		if v>>2 >= uint64(fields) || a.Send > OnCreate {
			return errMalformed
		}
		a.Cell = d.cell()
		o.Assignments = append(o.Assignments, a)
	}
	return d.end()
}

// isRemoval reads from an operation's body whether it is about a row that left
// the model.
func isRemoval(body string) bool { return len(body) > 1 && body[1]&opFingerprint == 0 }

// appendRejected appends a rejected row's body: kind, key hash, key texts, code,
// message, field names.
func appendRejected(dst []byte, r *Rejected) []byte {
	dst = append(dst, byte(r.Kind))
	dst = append(dst, r.KeyHash[:]...)
	dst = appendTexts(dst, r.Key)
	dst = appendText(dst, r.Code)
	dst = appendText(dst, r.Message)
	return appendTexts(dst, r.Fields)
}

func decodeRejected(body string, r *Rejected) error {
	d := decoder{s: body}
	kind := d.byte()
	if int(kind) >= KindCount {
		return errMalformed
	}
	r.Kind = Kind(kind)
	r.KeyHash = d.hash()
	r.Key = d.texts(r.Key[:0])
	r.Code = d.text()
	r.Message = d.text()
	r.Fields = d.texts(r.Fields[:0])
	return d.end()
}

// appendNote appends a note's body: kind, counted, key hash, and the entry's
// value as AppendEntry writes it.
func appendNote(dst []byte, n *Note) []byte {
	var counted byte
	if n.Counted {
		counted = 1
	}
	dst = append(dst, byte(n.Kind), counted)
	dst = append(dst, n.Entry.KeyHash[:]...)
	return AppendEntry(dst, &n.Entry)
}

func decodeNote(body string, n *Note) error {
	d := decoder{s: body}
	kind, counted := d.byte(), d.byte()
	if NoteKind(kind) >= noteKinds || counted > 1 {
		return errMalformed
	}
	n.Kind, n.Counted = NoteKind(kind), counted == 1
	hash := d.hash()
	if d.bad {
		return errMalformed
	}
	n.Entry = Entry{KeyHash: hash}
	return d.entry(&n.Entry)
}

// Flags of an entry.
const (
	entryGone = 1 << iota
	entryRefused
	entryAcked
	entryShort // fingerprints are printSize bytes, and not whole hashes
)

// AppendEntry appends an entry's durable form but for its key hash: a byte of
// flags, the fingerprint, and for a refused row the fingerprint that was refused,
// how often, how often passed over since, and the code. The usual entry is 13
// bytes.
func AppendEntry(dst []byte, e *Entry) []byte {
	flags := byte(entryShort)
	if e.Gone {
		flags |= entryGone
	}
	if e.Refused {
		flags |= entryRefused
	}
	if e.Acked {
		flags |= entryAcked
	}
	dst = append(dst, flags)
	dst = append(dst, e.Fingerprint[:printSize]...)
	if e.Refused {
		dst = append(dst, e.RefusedPrint[:printSize]...)
		dst = binary.AppendUvarint(dst, uint64(e.RefusedTimes))
		dst = binary.AppendUvarint(dst, uint64(e.RefusedSkips))
		dst = appendText(dst, e.RefusedCode)
	}
	return dst
}

// DecodeEntry reads what AppendEntry wrote into e, leaving e.KeyHash alone. It
// allocates only for refused entries.
func DecodeEntry(b []byte, e *Entry) error {
	if len(b) == 1+printSize && b[0]&^(entryGone|entryAcked) == entryShort {
		*e = Entry{KeyHash: e.KeyHash, Gone: b[0]&entryGone != 0, Acked: b[0]&entryAcked != 0}
		copy(e.Fingerprint[:], b[1:])
		return nil
	}
	d := decoder{s: string(b)}
	return d.entry(e)
}

func (d *decoder) entry(e *Entry) error {
	flags := d.byte()
	if flags&^(entryGone|entryRefused|entryAcked|entryShort) != 0 {
		return errMalformed
	}
	print := func() (h Hash) {
		copy(h[:printSize], d.take(printSize))
		if flags&entryShort == 0 {
			d.take(uint64(len(h) - printSize)) // of a whole hash, as it was kept once
		}
		return h
	}
	*e = Entry{KeyHash: e.KeyHash, Gone: flags&entryGone != 0, Refused: flags&entryRefused != 0, Acked: flags&entryAcked != 0}
	e.Fingerprint = print()
	if e.Refused {
		e.RefusedPrint = print()
		times, skips := d.uvarint(), d.uvarint()
		if times > 1<<31 || skips > 1<<31 {
			return errMalformed
		}
		e.RefusedTimes, e.RefusedSkips = uint32(times), uint32(skips)
		e.RefusedCode = d.text()
	}
	return d.end()
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendTexts(dst []byte, ss []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ss)))
	for _, s := range ss {
		dst = appendText(dst, s)
	}
	return dst
}

// decoder reads a record. After the first mistake it is bad and returns zero
// values, so that a record is checked once, at its end.
type decoder struct {
	s   string
	bad bool
}

func (d *decoder) end() error {
	if d.bad || d.s != "" {
		return errMalformed
	}
	return nil
}

func (d *decoder) fail() { d.bad, d.s = true, "" }

func (d *decoder) byte() byte {
	if d.s == "" {
		d.fail()
		return 0
	}
	b := d.s[0]
	d.s = d.s[1:]
	return b
}

func (d *decoder) hash() (h Hash) {
	if len(d.s) < len(h) {
		d.fail()
		return h
	}
	copy(h[:], d.s)
	d.s = d.s[len(h):]
	return h
}

func (d *decoder) uvarint() uint64 {
	v, n := uvarint(d.s)
	if n == 0 {
		d.fail()
		return 0
	}
	d.s = d.s[n:]
	return v
}

// uvarint is binary.Uvarint of a string; n is 0 where there is none.
func uvarint(s string) (v uint64, n int) {
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		b := s[i]
		if b < 0x80 {
			if i == binary.MaxVarintLen64-1 && b > 1 {
				return 0, 0
			}
			return v | uint64(b)<<(7*i), i + 1
		}
		v |= uint64(b&0x7f) << (7 * i)
	}
	return 0, 0
}

// count reads the count of things that take at least a byte each.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.s)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) take(n uint64) string {
	if n > uint64(len(d.s)) {
		d.fail()
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

func (d *decoder) text() string { return d.take(d.uvarint()) }

func (d *decoder) texts(dst []string) []string {
	for range d.count() {
		dst = append(dst, d.text())
	}
	return dst
}

func (d *decoder) cell() models.Cell {
	n := d.uvarint()
	if n == 0 {
		return models.NullCell
	}
	return models.Cell{Text: d.take(n - 1)}
}
