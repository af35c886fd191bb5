package salesforce

import (
	"bufio"
	"fmt"
	"hash/maphash"
	"io"
	"os"

	"coho/destinations/salesforce/api"
	"coho/planner"
)

const (
	// maxJobBytes is how much CSV a job holds: a little less than what the
	// org takes.
	maxJobBytes = api.MaxUploadBytes - 1<<20

	// maxJobRows bounds a job's rows, and with them the memory that
	// correlating its results takes: about fifty bytes a row.
	maxJobRows = 500_000
)

// fit says what became of a row that a job was offered.
type fit uint8

const (
	fitted fit = iota // it is in
	full              // the job holds no more; the row belongs in the next
	unfit             // no job can carry it
)

// job is a Bulk API 2.0 ingest job or a Bulk API 1.0 batch: its CSV on disk, and
// in memory what it takes to tell which row a result belongs to.
type job struct {
	c        call
	rows     int64
	maxRows  int64
	seqs     planner.Seqs
	index    *index // nil in 1.0, whose results are in the order of the rows
	attempts int
	complete bool
	serial   bool // of a batch: its job works on one at a time
	maxBytes int64

	t    *Target
	file *os.File // open until discard
	w    *bufio.Writer
	size int64
	line []byte
}

// newJob begins a job's file.
func (r *run) newJob(c call) (*job, error) {
	f, err := newSpool(r.t.options.SpoolDir, "coho-job-*.csv")
	if err != nil {
		return nil, fmt.Errorf("build a job: %w", err)
	}
	j := &job{c: c, t: r.t, file: f, w: bufio.NewWriterSize(f, 1<<16), maxBytes: maxJobBytes}
	if r.t.bulk1() {
		j.maxBytes = api.MaxBatchBytes
	} else {
		j.index = newIndex(r.t.key(c))
	}
	j.line = r.t.appendHeader(j.line[:0], c)
	if err := j.put(); err != nil {
		j.discard()
		return nil, err
	}
	return j, nil
}

func (j *job) put() error {
	n, err := j.w.Write(j.line)
	j.size += int64(n)
	if err != nil {
		return fmt.Errorf("write a job's file: %w", err)
	}
	return nil
}

// add writes a row's line.
func (j *job) add(x *row) (fit, error) {
	if n := len(j.seqs); n > 0 && x.op.Seq < j.seqs[n-1].To {
		return full, nil
	}
	if j.rows >= j.maxRows {
		return full, nil
	}
	line, ok := j.t.appendRow(j.line[:0], j.c, x)
	j.line = line
	if !ok {
		return unfit, nil
	}
	if len(line) == 1 {
		return unfit, nil // a blank line is no row to the org
	}
	if j.size+int64(len(line)) > j.maxBytes && j.rows > 0 {
		return full, nil
	}
	// Two rows with one key could not be told apart in the results.
	if j.index != nil && !j.index.add(j.t.keyOf(j.c, x), uint32(j.rows)) {
		return unfit, nil
	}
	if err := j.put(); err != nil {
		return 0, err
	}
	j.rows++
	j.seqs = j.seqs.Append(x.op.Seq)
	return fitted, nil
}

// seal ends writing.
func (j *job) seal() error {
	err := j.w.Flush()
	j.w, j.line = nil, nil
	if err != nil {
		return fmt.Errorf("write a job's file: %w", err)
	}
	return nil
}

// open reads the file from its start, once for each try of the upload.
func (j *job) open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(j.file, 0, j.size)), nil
}

// discard removes the file. It is safe twice.
func (j *job) discard() {
	if j.file == nil {
		return
	}
	if err := dropSpool(j.file); err != nil {
		j.t.log.Warn("a job's file", "error", err)
	}
	j.file = nil
}

// index finds a row's position in a job by its key: by a hash of the key as
// its field compares values, so that a key which comes back reformatted is
// still found.
type index struct {
	by   *field
	seed maphash.Seed
	at   map[uint64]uint32
}

func newIndex(by *field) *index {
	return &index{by: by, seed: maphash.MakeSeed(), at: make(map[uint64]uint32)}
}

// add enters a key. It returns false for a key that is there already.
func (x *index) add(key string, position uint32) bool {
	h := maphash.String(x.seed, x.by.fold(key))
	if _, taken := x.at[h]; taken {
		return false
	}
	x.at[h] = position
	return true
}

func (x *index) find(key string) (uint32, bool) {
	position, ok := x.at[maphash.String(x.seed, x.by.fold(key))]
	return position, ok
}
