package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Bulk 2.0 ingest jobs in the org's directory: for each a file that describes it
// and one with its data, so that a job that a client knows of answers after a
// restart.

// jobFile describes a job.
type jobFile struct {
	ID, Object, Operation, Key, Delimiter, LineEnd, Rule, Version string
	State, Message                                                string
	Created, Changed                                              time.Time
	Number                                                        float64
	Uploaded                                                      bool
	Took                                                          time.Duration
	Retries                                                       int
	Outcomes                                                      []byte // of the rows, once known
	Records                                                       []uint64
	Errors                                                        map[int]string // of rows, as the result files show them
}

const stoppedMessage = "InternalServerError : the org was stopped while the job was processed"

func (s *Server) jobPath(id, ext string) string {
	return filepath.Join(s.opts.Dir, "jobs", id+ext)
}

// writeWhole replaces a file, so that it is there whole or not at all.
func writeWhole(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// keepJob writes what is known of a job to the org's directory, if it has one.
// Callers hold j.mu, but for a job that nobody else knows yet.
func (s *Server) keepJob(j *ingestJob, withData bool) error {
	if s.opts.Dir == "" {
		return nil
	}
	l := &j.load
	f := jobFile{ID: j.id, Object: j.objectName, Operation: j.operationName, Key: j.keyName, Delimiter: j.delimName, LineEnd: j.lineEnd, Rule: j.rule,
		Version: j.version, State: j.state, Message: j.message, Created: j.created, Changed: j.changed, Number: j.number, Uploaded: j.uploaded, Took: j.took, Retries: j.retries}
	if j.order != nil {
		l.mu.Lock()
		f.Outcomes, f.Records, f.Errors = l.state, l.ids, map[int]string{}
		for i, e := range l.errs {
			f.Errors[i] = e.text
		}
		l.mu.Unlock()
	}
	text, err := json.Marshal(f)
	if err == nil && withData {
		err = writeWhole(s.jobPath(j.id, ".csv"), []byte(l.text))
	}
	if err == nil {
		err = writeWhole(s.jobPath(j.id, ".json"), text)
	}
	if err != nil {
		return fmt.Errorf("keep job %s: %w", j.id, err)
	}
	return nil
}

// dropJob removes a job's files.
func (s *Server) dropJob(id string) {
	if s.opts.Dir == "" {
		return
	}
	for _, ext := range [...]string{".json", ".csv"} {
		if err := os.Remove(s.jobPath(id, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("a job's file stays", "error", err)
		}
	}
}

// loadJobs reads the jobs that the directory has.
func (s *Server) loadJobs() error {
	if s.opts.Dir == "" {
		return nil
	}
	dir := filepath.Join(s.opts.Dir, "jobs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("open the org's jobs: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("open the org's jobs: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		if err := s.loadJob(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("read the org's job %s: %w", e.Name(), err)
		}
	}
	return nil
}

func (s *Server) loadJob(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var f jobFile
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	j := &ingestJob{id: f.ID, objectName: f.Object, operationName: f.Operation, keyName: f.Key, delimName: f.Delimiter, lineEnd: f.LineEnd, rule: f.Rule, version: f.Version,
		number: f.Number, state: f.State, message: f.Message, created: f.Created, changed: f.Changed, uploaded: f.Uploaded, took: f.Took, retries: f.Retries}
	if n, ok := idSequence(j.id); ok && n >= firstSequence {
		s.jobs.next = max(s.jobs.next, (n-firstSequence)/3)
	}
	var e *apiError
	if j.obj, j.op, j.key, e = s.jobTarget(j.objectName, j.operationName, j.keyName); e != nil {
		return nil // the org file has changed, the job is none of this org
	}
	l := &j.load
	l.delim = delimiters[j.delimName]
	if j.uploaded {
		data, err := os.ReadFile(s.jobPath(j.id, ".csv"))
		if err != nil {
			return err
		}
		l.text = string(data)
	}
	if j.state != stateOpen {
		j.restore(s, &f)
	}
	s.jobs.ingest[j.id] = j
	return nil
}

// restore gives a job that is closed its rows and what became of them. What
// became of those of a job that was in progress when the process died is not
// known: they are in none of its result files.
func (j *ingestJob) restore(s *Server, f *jobFile) {
	l := &j.load
	if !j.terminal() {
		j.state, j.message = stateFailed, stoppedMessage
	}
	if err := l.prepare(s.org, j.obj, j.op); err != nil {
		l.header, l.starts, _ = scan(l.text, l.delim) // no rows when they cannot be told apart
		l.state, l.ids, l.errs = make([]uint8, len(l.starts)), make([]uint64, len(l.starts)), map[int]rowFailure{}
	}
	known := len(f.Outcomes) == len(l.starts) && len(f.Records) == len(l.starts)
	if known {
		l.state, l.ids = f.Outcomes, f.Records
	}
	for i := range l.state {
		switch {
		case !known && f.State != stateAborted:
			l.state[i] |= rowLost
		case l.state[i]&^rowLost == rowFailed:
			l.failed++
			fallthrough
		case l.state[i]&^rowLost != rowUnprocessed:
			l.done++
		}
	}
	for i, text := range f.Errors {
		l.errs[i] = rowFailure{text: text}
	}
	j.order = shuffled(len(l.starts), s.opts.Seed)
}
