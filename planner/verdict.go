package planner

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"

	"coho/models"
)

// A verdict is kept beside the order log for as long as neither the log nor the
// snapshot changes, so that runs in which nothing changed read neither of them a
// second time. It names both: the snapshot by its revision, the log by its length,
// its time and its first and last bytes.
//
// The file is that name, a bit a bucket, and the CRC-32C of both.
const (
	verdictSuffix = ".verdict"
	verdictEnds   = 64 // bytes of either end of the log
	verdictName   = 1 + 16 + 8 + 8 + 2*verdictEnds
	verdictSize   = verdictName + orderBuckets/8 + 4
)

// nameVerdict says what a verdict is about; ok is false where that cannot be said.
func (o *order) nameVerdict() (name []byte, ok bool) {
	revision := o.b.snap.Revision()
	if revision == (Hash{}) {
		return nil, false
	}
	f, err := os.Open(o.b.spec.OrderLog)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() < verdictEnds {
		return nil, false
	}
	name = append(make([]byte, 0, verdictSize), 0) // the mode: in archive mode rows that are gone count
	if o.b.spec.Mode == models.ModeArchive {
		name[0] = 1
	}
	name = append(name, revision[:]...)
	name = binary.LittleEndian.AppendUint64(name, uint64(st.Size()))
	name = binary.LittleEndian.AppendUint64(name, uint64(st.ModTime().UnixNano()))
	for _, at := range []int64{0, st.Size() - verdictEnds} {
		var end [verdictEnds]byte
		if _, err := f.ReadAt(end[:], at); err != nil && err != io.EOF {
			return nil, false
		}
		name = append(name, end[:]...)
	}
	return name, true
}

// keptVerdict is the verdict of an earlier plan, nil where there is none of this log
// and this snapshot.
func (o *order) keptVerdict() *verdict {
	name, ok := o.nameVerdict()
	if !ok {
		return nil
	}
	b, err := os.ReadFile(o.b.spec.OrderLog + verdictSuffix)
	if err != nil || len(b) != verdictSize || string(b[:verdictName]) != string(name) ||
		crc32.Checksum(b[:verdictSize-4], castagnoli) != binary.LittleEndian.Uint32(b[verdictSize-4:]) {
		return nil
	}
	v := new(verdict)
	for i := range v.trusted {
		v.trusted[i] = b[verdictName+i/8]>>(i%8)&1 != 0
	}
	return v
}

// keepVerdict keeps what compare found. It is worth no error: without it the next
// plan compares again.
func (o *order) keepVerdict(v *verdict) {
	b, ok := o.nameVerdict()
	if !ok {
		return
	}
	b = b[:verdictSize-4]
	for i, trusted := range v.trusted {
		if trusted {
			b[verdictName+i/8] |= 1 << (i % 8)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	path := o.b.spec.OrderLog + verdictSuffix
	if err := os.WriteFile(path+".tmp", b, 0o600); err == nil {
		_ = os.Rename(path+".tmp", path)
	}
}
