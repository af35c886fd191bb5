package planner

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// The files of a plan. The marker is written last and renamed into place, so a
// directory that has it holds a whole plan.
const (
	operationsFile = "operations"
	rejectedFile   = "rejected"
	notesFile      = "notes"
	levelsFile     = "levels"
	markerFile     = "plan"
	markerTemp     = "plan.tmp"
	spillPattern   = "spill-*"
)

var markerMagic = [9]byte{'C', 'O', 'H', 'O', 'P', 'L', 'A', 'N', 1}

// ErrIncomplete says that a directory holds no complete plan: the process that
// made it died before the end. Nothing of it was sent.
var ErrIncomplete = errors.New("the plan is not complete")

// Plan is a plan on disk. It is safe for use by several goroutines.
type Plan struct {
	dir        string
	meta       planMeta
	operations *os.File
	rejected   *os.File
	notes      *os.File
	levels     *os.File // nil where all operations but removals are in pass 0
	logs       [3][]blockAt
	dropped    SettledSet
}

// planMeta is the part of the marker that is JSON.
type planMeta struct {
	Summary    Summary
	Fields     []string
	Operations int64 // records of the log, those dropped later included
	Levels     bool
	LevelsCRC  uint32
}

// Summary returns what the plan says about itself. The caller must not change
// its map or slices.
func (p *Plan) Summary() Summary { return p.meta.Summary }

// Passes returns how many passes the plan has.
func (p *Plan) Passes() int { return p.meta.Summary.Passes }

// Fields returns the names of Spec.Fields, which assignments refer to by index.
func (p *Plan) Fields() []string { return p.meta.Fields }

// Dir returns the plan's directory.
func (p *Plan) Dir() string { return p.dir }

// Close releases the plan's files and leaves them on disk.
func (p *Plan) Close() error {
	var errs []error
	for _, f := range []**os.File{&p.operations, &p.rejected, &p.notes, &p.levels} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(errs...)
}

// Remove closes the plan and deletes its files.
func (p *Plan) Remove() error { return errors.Join(p.Close(), RemovePlan(p.dir)) }

// RemovePlan deletes whatever a plan, whole or torn, has left in dir, and dir
// itself if nothing else is in it. The marker goes first, so that what a crash
// leaves is incomplete.
func RemovePlan(dir string) error {
	var errs []error
	for _, name := range []string{markerFile, markerTemp, operationsFile, rejectedFile, notesFile, levelsFile, orderFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, removeSpills(dir))
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		errs = append(errs, os.Remove(dir))
	}
	return errors.Join(errs...)
}

func removeSpills(dir string) error {
	// Not by a pattern: the directory's own name may hold what is special in one.
	left, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range left {
		if strings.HasPrefix(e.Name(), strings.TrimSuffix(spillPattern, "*")) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// writeMarker makes the plan complete: everything else is durable already.
func writeMarker(dir string, meta *planMeta, logs [3][]blockAt, dropped Seqs) error {
	text, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("write the plan's marker: %w", err)
	}
	b := append([]byte(nil), markerMagic[:]...)
	b = binary.AppendUvarint(b, uint64(len(text)))
	b = append(b, text...)
	for _, index := range logs {
		b = binary.AppendUvarint(b, uint64(len(index)))
		for _, at := range index {
			b = binary.AppendUvarint(b, uint64(at.size))
			b = binary.AppendUvarint(b, uint64(at.count))
		}
	}
	b = dropped.AppendBinary(b)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))

	temp := filepath.Join(dir, markerTemp)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return diskError(temp, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = syncDir(dir) // the logs' names, before the marker can be seen
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(dir, markerFile))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return diskError(temp, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// decodeMarker reads what writeMarker wrote.
func decodeMarker(b []byte) (meta planMeta, logs [3][]blockAt, dropped Seqs, err error) {
	n := len(b) - 4
	if n < len(markerMagic) || string(b[:len(markerMagic)-1]) != string(markerMagic[:len(markerMagic)-1]) {
		return meta, logs, nil, errDamaged
	}
	if v := b[len(markerMagic)-1]; v > markerMagic[len(markerMagic)-1] {
		return meta, logs, nil, fmt.Errorf("the plan has format %d, written by a newer coho", v)
	}
	if crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return meta, logs, nil, errDamaged
	}
	d := decoder{s: string(b[len(markerMagic):n])}
	if err := json.Unmarshal([]byte(d.text()), &meta); err != nil {
		return meta, logs, nil, errDamaged
	}
	for i := range logs {
		var offset, first int64
		for range d.count() {
			size, count := d.uvarint(), d.uvarint()
			if size < blockHeader || size > maxBlock || count > size {
				return meta, logs, nil, errDamaged
			}
			logs[i] = append(logs[i], blockAt{offset: offset, size: int64(size), first: first, count: int64(count)})
			offset += int64(size)
			first += int64(count)
		}
	}
	dropped, rest, err := DecodeSeqs([]byte(d.s))
	if d.bad || err != nil || len(rest) != 0 || meta.Operations != records(logs[0]) ||
		len(meta.Summary.PassOperations) != meta.Summary.Passes ||
		(len(dropped) > 0 && dropped[len(dropped)-1].To > meta.Operations) {
		return meta, logs, nil, errDamaged
	}
	return meta, logs, dropped, nil
}

// records is how many records a log holds.
func records(index []blockAt) int64 {
	if len(index) == 0 {
		return 0
	}
	last := index[len(index)-1]
	return last.first + last.count
}

// OpenPlan opens a plan that Build completed, as after a crash, and reads it
// through once to check every block. ErrIncomplete where there is none.
func OpenPlan(dir string) (*Plan, error) {
	p, err := openPlan(dir)
	if err != nil {
		return nil, err
	}
	if err := p.verify(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func openPlan(dir string) (*Plan, error) {
	b, err := os.ReadFile(filepath.Join(dir, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open plan %s: %w", dir, ErrIncomplete)
	}
	if err != nil {
		return nil, fmt.Errorf("open plan: %w", err)
	}
	p := &Plan{dir: dir}
	var dropped Seqs
	p.meta, p.logs, dropped, err = decodeMarker(b)
	if err != nil {
		return nil, fmt.Errorf("open plan %s: %w", dir, err)
	}
	p.dropped.Add(dropped)
	for _, o := range []struct {
		f    **os.File
		name string
		want bool
	}{{&p.operations, operationsFile, true}, {&p.rejected, rejectedFile, true}, {&p.notes, notesFile, true}, {&p.levels, levelsFile, p.meta.Levels}} {
		if !o.want {
			continue
		}
		if *o.f, err = os.Open(filepath.Join(dir, o.name)); err != nil {
			return nil, errors.Join(fmt.Errorf("open plan: %w", err), p.Close())
		}
	}
	return p, nil
}

func (p *Plan) verify() error {
	for i, f := range []*os.File{p.operations, p.rejected, p.notes} {
		for _, at := range p.logs[i] {
			if _, err := readBlock(f, f.Name(), at); err != nil {
				return fmt.Errorf("open plan: %w", err)
			}
		}
	}
	if p.levels == nil {
		return nil
	}
	sum := crc32.New(castagnoli)
	n, err := io.Copy(sum, io.NewSectionReader(p.levels, 0, 1<<62))
	if err != nil {
		return fmt.Errorf("open plan: read %s: %w", p.levels.Name(), err)
	}
	if n != 2*p.meta.Operations || sum.Sum32() != p.meta.LevelsCRC {
		return fmt.Errorf("open plan: read %s: %w", p.levels.Name(), errDamaged)
	}
	return nil
}

// blockOf returns the index of the block that holds record seq.
func blockOf(index []blockAt, seq int64) int {
	return sort.Search(len(index), func(i int) bool { return index[i].first+index[i].count > seq })
}
