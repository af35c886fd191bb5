package emulator

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// journal keeps an org's records, events and picklist changes in a directory: one file of frames, each a
// length, a checksum and one or more entries, appended in the order in which
// the transactions were made and forced to disk before a client hears of them.
// The last frame may be torn by a crash: what follows the last whole frame is
// cut off when the file is opened.
//
// Entries name fields by number; an entry of kind entrySchema says which names
// the numbers stand for from there on, so that the org file may change between
// runs. Opening a journal that is mostly superseded entries rewrites it.
type journal struct {
	mu    sync.Mutex
	file  *os.File
	dirty bool
	frame []byte
	codes map[*object]uint64
}

const (
	journalName    = "org.journal"
	journalVersion = "emulator-journal-1\n"

	entrySchema = 0 // JSON: object -> fields
	entryRecord = 1
	entryPurge  = 2
	entryEvent  = 3 // a platform event
	entryList   = 4 // a picklist's values

	flagDeleted = 1
)

// schemaEntry gives the meaning of the numbers that follow it.
type schemaEntry struct {
	Object string   `json:"object"`
	Fields []string `json:"fields"`
}

// openJournal loads the directory's records into an empty org.
func openJournal(dir string, o *Org) (j *journal, fresh bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, false, fmt.Errorf("open the org's directory: %w", err)
	}
	path := filepath.Join(dir, journalName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, false, fmt.Errorf("open the org's journal: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	entries, end, err := replay(file, o)
	if err != nil {
		return nil, false, fmt.Errorf("read the org's journal %s: %w", path, err)
	}
	if err := file.Truncate(end); err != nil {
		return nil, false, fmt.Errorf("cut the torn end of the org's journal: %w", err)
	}
	if _, err := file.Seek(end, io.SeekStart); err != nil {
		return nil, false, fmt.Errorf("open the org's journal: %w", err)
	}
	j = &journal{file: file, codes: map[*object]uint64{}}
	for i, obj := range o.objects {
		j.codes[obj] = uint64(i)
	}
	kept := 0
	for _, obj := range o.objects {
		kept += len(obj.records)
	}
	if entries > 10_000 && entries > 2*kept {
		if err := j.rewrite(path, o); err != nil {
			return nil, false, err
		}
		return j, false, nil
	}
	if end == 0 {
		if _, err := file.WriteString(journalVersion); err != nil {
			return nil, false, fmt.Errorf("begin the org's journal: %w", err)
		}
	}
	if err := j.write(schemaOf(o)); err != nil {
		return nil, false, err
	}
	return j, end == 0, j.sync()
}

func schemaOf(o *Org) []byte {
	var all []schemaEntry
	for _, obj := range o.objects {
		e := schemaEntry{Object: obj.name}
		for _, f := range obj.fields {
			e.Fields = append(e.Fields, f.name)
		}
		all = append(all, e)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	out := []byte{entrySchema}
	out = binary.AppendUvarint(out, uint64(len(text)))
	return append(out, text...)
}

// rewrite replaces the file by one with the live image of each record.
func (j *journal) rewrite(path string, o *Org) error {
	next, err := os.CreateTemp(filepath.Dir(path), journalName+".*")
	if err != nil {
		return fmt.Errorf("rewrite the org's journal: %w", err)
	}
	old := j.file
	j.file = next
	err = func() error {
		if _, err := next.WriteString(journalVersion); err != nil {
			return err
		}
		if err := j.write(schemaOf(o)); err != nil {
			return err
		}
		buf := o.appendNotes(nil)
		for _, obj := range o.objects {
			for _, r := range obj.records {
				if r == nil {
					continue
				}
				if buf = j.appendRecord(buf, obj, r); len(buf) > 1<<20 {
					if err := j.write(buf); err != nil {
						return err
					}
					buf = buf[:0]
				}
			}
		}
		if err := j.write(buf); err != nil {
			return err
		}
		if err := next.Sync(); err != nil {
			return err
		}
		return os.Rename(next.Name(), path)
	}()
	if err != nil {
		j.file = old
		return fmt.Errorf("rewrite the org's journal: %w", errors.Join(err, next.Close(), os.Remove(next.Name())))
	}
	return old.Close()
}

func (j *journal) appendRecord(dst []byte, obj *object, r *record) []byte {
	dst = append(dst, entryRecord)
	dst = binary.AppendUvarint(dst, j.codes[obj])
	dst = binary.AppendUvarint(dst, uint64(r.pos))
	flags := byte(0)
	if r.deleted {
		flags = flagDeleted
	}
	dst = append(dst, r.gap, flags)
	dst = binary.AppendUvarint(dst, uint64(r.creator))
	dst = binary.AppendUvarint(dst, uint64(r.modifier))
	dst = binary.AppendVarint(dst, r.created)
	dst = binary.AppendVarint(dst, r.modified)
	dst = binary.AppendVarint(dst, r.modstamp)
	dst = binary.AppendUvarint(dst, uint64(len(r.data)))
	return append(dst, r.data...)
}

func (j *journal) appendPurge(dst []byte, obj *object, r *record) []byte {
	dst = append(dst, entryPurge)
	dst = binary.AppendUvarint(dst, j.codes[obj])
	return binary.AppendUvarint(dst, uint64(r.pos))
}

// write appends the entries of one transaction as a frame.
func (j *journal) write(entries []byte) error {
	if j == nil || len(entries) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.frame = binary.BigEndian.AppendUint32(j.frame[:0], uint32(len(entries)))
	j.frame = binary.BigEndian.AppendUint32(j.frame, crc32.ChecksumIEEE(entries))
	j.frame = append(j.frame, entries...)
	j.dirty = true
	if _, err := j.file.Write(j.frame); err != nil {
		return fmt.Errorf("write the org's journal: %w", err)
	}
	return nil
}

// sync forces what was written to disk.
func (j *journal) sync() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.dirty {
		return nil
	}
	j.dirty = false
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync the org's journal: %w", err)
	}
	return nil
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.sync(), j.file.Close())
}

// replay reads every whole frame and returns how many entries there were and
// where the last whole frame ends.
func replay(file *os.File, o *Org) (entries int, end int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, 0, err
	}
	in := bufio.NewReaderSize(file, 1<<20)
	head := make([]byte, len(journalVersion))
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, 0, nil // empty, or killed before its first line was whole
	}
	if string(head) != journalVersion {
		return 0, 0, errors.New("not a journal of this version")
	}
	end = int64(len(head))
	p := &player{org: o}
	var frame []byte
	for {
		var h [8]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			break
		}
		n := int(binary.BigEndian.Uint32(h[:]))
		if int64(n) > info.Size()-end {
			break
		}
		if n > cap(frame) {
			frame = make([]byte, n)
		}
		frame = frame[:n]
		if _, err := io.ReadFull(in, frame); err != nil || crc32.ChecksumIEEE(frame) != binary.BigEndian.Uint32(h[4:]) {
			break
		}
		n, err := p.play(frame)
		if err != nil {
			return 0, 0, err
		}
		entries += n
		end += int64(len(h) + len(frame))
	}
	p.finish()
	return entries, end, nil
}

// player applies entries to an org.
type player struct {
	org     *Org
	objects []*object  // by the file's number; nil where the org has it no more
	fields  [][]*field // likewise
	same    []bool     // the numbers are the org's own
}

var errEntry = errors.New("malformed entry")

// reader takes apart an entry; bad is set when it ends too early.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	b := r.bytes(1)
	if r.bad {
		return 0
	}
	return b[0]
}

func (p *player) play(frame []byte) (int, error) {
	r := &reader{b: frame}
	n := 0
	for len(r.b) > 0 {
		n++
		switch kind := r.byte(); kind {
		case entrySchema:
			if err := p.schema(r.bytes(r.uvarint())); err != nil {
				return 0, err
			}
		case entryRecord:
			p.record(r)
		case entryPurge:
			if code, pos := r.uvarint(), r.uvarint(); code < uint64(len(p.objects)) && p.objects[code] != nil && pos < uint64(len(p.objects[code].records)) {
				p.objects[code].records[pos] = nil
			}
		case entryEvent, entryList:
			if err := p.note(kind, r); err != nil {
				return 0, err
			}
		default:
			return 0, errEntry
		}
		if r.bad {
			return 0, errEntry
		}
	}
	return n, nil
}

func (p *player) schema(text []byte) error {
	var all []schemaEntry
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("schema entry: %w", err)
	}
	p.objects, p.fields, p.same = make([]*object, len(all)), make([][]*field, len(all)), make([]bool, len(all))
	for i, e := range all {
		obj := p.org.object(e.Object)
		p.objects[i] = obj
		if obj == nil {
			continue
		}
		p.same[i] = len(e.Fields) == len(obj.fields)
		for k, name := range e.Fields {
			f := obj.field(name)
			p.fields[i] = append(p.fields[i], f)
			p.same[i] = p.same[i] && f != nil && f.idx == k
		}
	}
	return nil
}

func (p *player) record(r *reader) {
	code, pos := r.uvarint(), r.uvarint()
	rec := record{pos: uint32(pos), gap: r.byte(), deleted: r.byte()&flagDeleted != 0}
	rec.creator, rec.modifier = uint16(r.uvarint()), uint16(r.uvarint())
	rec.created, rec.modified, rec.modstamp = r.varint(), r.varint(), r.varint()
	data := r.bytes(r.uvarint())
	if r.bad || code >= uint64(len(p.objects)) || pos > 1<<31 {
		r.bad = true
		return
	}
	obj := p.objects[code]
	if obj == nil {
		return
	}
	for uint64(len(obj.records)) <= pos {
		obj.records = append(obj.records, nil)
	}
	if p.same[code] {
		rec.data = append([]byte(nil), data...)
	} else {
		rec.data = p.translate(int(code), data)
	}
	obj.records[pos] = &rec
}

// translate renumbers a record's fields for an org file that has changed.
func (p *player) translate(code int, data []byte) []byte {
	var changes []change
	r := &reader{b: data}
	for len(r.b) > 0 {
		i := r.uvarint()
		v := r.bytes(r.uvarint())
		if r.bad {
			break
		}
		if i < uint64(len(p.fields[code])) {
			if f := p.fields[code][i]; f != nil && f.from == fromData {
				changes = append(changes, change{f: f, val: strings.Clone(string(v))})
			}
		}
	}
	sortChanges(changes)
	return merge(nil, nil, changes)
}

// finish builds the indexes and counters of what was loaded.
func (p *player) finish() {
	for _, obj := range p.org.objects {
		for _, r := range obj.records {
			if r == nil {
				continue
			}
			data := r.data
			r.data = nil
			obj.store(r, data)
			if !r.deleted {
				obj.live++
			}
		}
		for _, f := range obj.dflt {
			if f.autoNumber {
				obj.autoSeq[f] = uint64(len(obj.records))
			}
		}
	}
}
