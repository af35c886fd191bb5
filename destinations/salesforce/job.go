package salesforce

import (
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

	// maxJobRows bounds a job's rows, and with them the memory that it takes
	// to tell their results apart: four bytes a row. Work on a job's results
	// goes on beside the org's work on the next one.
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
	relooked bool // its references were looked up again
	// part are rows of which less than all may have been sent, since their
	// records were there when they were compared; nil where that is not known, as
	// of a job of an earlier run.
	part     *planner.SettledSet
	serial   bool // of a batch: its job works on one at a time
	maxBytes int64
	place    place // that it held of the org's limit while it was worked on
	crowded  bool  // its rows met with crowding

	t    *Target
	file *os.File // open until discard
	size int64
	line []byte

	// The rows of one parent stand together in the file that is uploaded: the
	// org works on ten thousand rows that follow each other at a time. While
	// it is built they are in groups, which lie in the file in pieces.
	groups []group
	end    int64 // where the next piece goes
	seed   maphash.Seed
}

// newJob begins a job's file.
func (r *run) newJob(c call) (*job, error) {
	f, err := newSpool(r.t.options.SpoolDir, "coho-job-*.csv")
	if err != nil {
		return nil, fmt.Errorf("build a job: %w", err)
	}
	j := &job{c: c, t: r.t, file: f, maxBytes: maxJobBytes, groups: make([]group, 1), seed: maphash.MakeSeed(), part: new(planner.SettledSet)}
	if r.t.bulk1() {
		j.maxBytes = api.MaxBatchBytes
	} else {
		j.index = newIndex(r.t.key(c), r.t.options.SpoolDir)
		if r.t.lockField >= 0 {
			j.groups = make([]group, 1+jobGroups)
		}
	}
	j.line = r.t.appendHeader(j.line[:0], c)
	if err := j.put(0); err != nil {
		j.discard()
		return nil, err
	}
	return j, nil
}

const (
	jobGroups = 32
	pieceSize = 64 << 10
)

// group is rows of some parents. The first holds the header.
type group struct {
	open   []byte // not in the file yet
	pieces []piece
}

type piece struct{ at, size int64 }

func (j *job) put(group int) error {
	g := &j.groups[group]
	g.open = append(g.open, j.line...)
	j.size += int64(len(j.line))
	if len(g.open) < pieceSize {
		return nil
	}
	return j.write(g)
}

// write puts a group's open rows into the file.
func (j *job) write(g *group) error {
	n, err := j.file.WriteAt(g.open, j.end)
	if err != nil {
		return fmt.Errorf("write a job's file: %w", err)
	}
	g.pieces = append(g.pieces, piece{j.end, int64(n)})
	j.end += int64(n)
	g.open = g.open[:0]
	return nil
}

// groupOf is the group of a row's parent.
func (j *job) groupOf(x *row) int {
	if len(j.groups) == 1 {
		return 0
	}
	return 1 + int(maphash.String(j.seed, j.t.parentOf(x.op))%jobGroups)
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
	if j.index != nil && !j.index.add(j.t.keyOf(j.c, x)) {
		return unfit, nil
	}
	if err := j.put(j.groupOf(x)); err != nil {
		return 0, err
	}
	j.rows++
	j.seqs = j.seqs.Append(x.op.Seq)
	if x.part {
		j.part.Add(planner.Seqs{{From: x.op.Seq, To: x.op.Seq + 1}})
	}
	return fitted, nil
}

// seal ends writing.
func (j *job) seal() error {
	for i := range j.groups {
		if g := &j.groups[i]; len(g.open) > 0 {
			if err := j.write(g); err != nil {
				return err
			}
		}
		j.groups[i].open = nil
	}
	j.line = nil
	if j.index != nil {
		return j.index.keys.err
	}
	return nil
}

// open reads the rows, group by group, once for each try of the upload.
func (j *job) open() (io.ReadCloser, error) {
	var parts []io.Reader
	for i := range j.groups {
		for _, p := range j.groups[i].pieces {
			parts = append(parts, io.NewSectionReader(j.file, p.at, p.size))
		}
	}
	return jobReader{io.MultiReader(parts...), j.rows}, nil
}

// jobReader reads a job's file. The file stays open until discard.
type jobReader struct {
	io.Reader
	rows int64
}

// Rows is how many rows the file holds, for the log of calls.
func (r jobReader) Rows() int64 { return r.rows }

// Close implements io.Closer.
func (r jobReader) Close() error { return nil }

// discard removes the files. It is safe twice.
func (j *job) discard() {
	j.discardIndex()
	if j.file == nil {
		return
	}
	if err := dropSpool(j.file); err != nil {
		j.t.log.Warn("a job's file", "error", err)
	}
	j.file = nil
}

func (j *job) discardIndex() {
	if j.index == nil {
		return
	}
	if err := j.index.keys.discard(); err != nil {
		j.t.log.Warn("a job's file of keys", "error", err)
	}
	j.index = nil
}
