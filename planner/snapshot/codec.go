package snapshot

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"coho/models"
	"coho/planner"
)

// Entries and records come first and lie in tables of their own; all else is behind
// them, so that no table of that lies across theirs.
const (
	prefixEntry     = 'e'
	prefixRecord    = 'f'
	prefixOwner     = 't'
	prefixDisplaced = 'u'
	prefixBatch     = 'v'
	prefixPending   = 'w'
	prefixSettled   = 'x'
	prefixMeta      = 'y'
)

var (
	keyFormat    = []byte("mformat") // where every version looks for it
	keyIdentity  = []byte("yidentity")
	keyRevision  = []byte("yrevision")
	keyRows      = []byte("yrows")
	keyFields    = []byte("yfields")
	keyPlan      = []byte("yplan")
	keyBatches   = []byte("ybatches")
	keyNotes     = []byte("ynotes")
	keyImporting = []byte("yimporting")
)

type move struct{ from, to byte }

// moved1 is where the letters of format 1 went.
var moved1 = []move{
	{'b', prefixBatch}, {'d', prefixDisplaced}, {'m', prefixMeta}, {'o', prefixOwner}, {'r', prefixRecord}, {'s', prefixSettled},
}

var errDamaged = errors.New("malformed value")

func hashKey(dst []byte, prefix byte, h planner.Hash) []byte {
	return append(append(dst, prefix), h[:]...)
}

func ownerKey(dst []byte, id string) []byte { return append(append(dst, prefixOwner), id...) }

func numberKey(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

func count(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// Flags of a record.
const (
	recordID = 1 << iota
	recordMatch
	recordMatchIsKey
	recordDense // the fields are the first ones, in order, and their numbers are left out
)

// recordHead is what a record holds before its fields.
func appendRecordHead(dst []byte, id string, key []string, match string) []byte {
	var flags byte
	if id != "" {
		flags |= recordID
	}
	if match != "" {
		if len(key) > 0 && key[0] == match {
			flags |= recordMatchIsKey
		} else {
			flags |= recordMatch
		}
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	for _, k := range key {
		dst = appendText(dst, k)
	}
	if flags&recordID != 0 {
		dst = appendText(dst, id)
	}
	if flags&recordMatch != 0 {
		dst = appendText(dst, match)
	}
	return dst
}

// appendField appends a field's number and its cell. Fields run to the end of the
// value.
func appendField(dst []byte, number int, cell models.Cell) []byte {
	return appendCell(binary.AppendUvarint(dst, uint64(number)), cell)
}

// appendCell appends 0 for null, else the text's length + 1 and the text.
func appendCell(dst []byte, cell models.Cell) []byte {
	if cell.Null {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(cell.Text))+1)
	return append(dst, cell.Text...)
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// reader cuts a value into its parts; after the first mistake it is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	n, k := binary.Uvarint(r.b)
	if k <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[k:]
	return n
}

func (r *reader) take(n uint64) string {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) text() string { return r.take(r.uvarint()) }

// decodeRecord reads a record; names are the fields' names by number.
func decodeRecord(b []byte, names []string) (planner.Record, error) {
	var rec planner.Record
	if len(b) == 0 {
		return rec, errDamaged
	}
	flags := b[0]
	r := reader{b: b[1:]}
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		return rec, errDamaged
	}
	rec.Key = make([]string, n)
	for i := range rec.Key {
		rec.Key[i] = r.text()
	}
	if flags&recordID != 0 {
		rec.ID = r.text()
	}
	switch {
	case flags&recordMatch != 0:
		rec.Match = r.text()
	case flags&recordMatchIsKey != 0:
		if n == 0 {
			return rec, errDamaged
		}
		rec.Match = rec.Key[0]
	}
	for next := uint64(0); len(r.b) > 0; next++ {
		number := next
		if flags&recordDense == 0 {
			number = r.uvarint()
		}
		size := r.uvarint()
		if r.bad || number >= uint64(len(names)) {
			return rec, errDamaged
		}
		f := planner.RecordField{Name: names[number], Cell: models.NullCell}
		if size > 0 {
			f.Cell = models.Cell{Text: r.take(size - 1)}
		}
		rec.Fields = append(rec.Fields, f)
	}
	if r.bad {
		return rec, errDamaged
	}
	byName := func(a, b planner.RecordField) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(rec.Fields, byName) {
		slices.SortFunc(rec.Fields, byName)
	}
	return rec, nil
}

// A batch's value is its three texts and its set.
func appendBatch(dst []byte, b *Batch) []byte {
	dst = appendText(dst, b.API)
	dst = appendText(dst, b.Step)
	dst = appendText(dst, b.Handle)
	return b.Seqs.AppendBinary(dst)
}

func decodeBatch(v []byte) (Batch, error) {
	r := reader{b: v}
	b := Batch{API: r.text(), Step: r.text(), Handle: r.text()}
	if r.bad {
		return b, errDamaged
	}
	seqs, rest, err := planner.DecodeSeqs(r.b)
	if err != nil || len(rest) != 0 {
		return b, errDamaged
	}
	b.Seqs = seqs
	return b, nil
}
