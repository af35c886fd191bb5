package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// APICall is one request that a run made to its destination. Its field names
// are a contract: `coho runs calls --json` prints them.
type APICall struct {
	Time     time.Time `json:"time"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`   // without the query
	Status   int       `json:"status"` // 0 where no answer came
	MS       float64   `json:"ms"`     // how long it took
	Sent     int64     `json:"sent"`   // bytes of the bodies as they travelled
	Received int64     `json:"received"`
	Rows     int64     `json:"rows"` // records that it carried, either way; 0 where that is not known
	Login    bool      `json:"login,omitempty"`
	Error    string    `json:"error,omitempty"`

	// Request and Answer are the beginnings of the bodies, secrets taken out.
	Request string `json:"request,omitempty"`
	Answer  string `json:"answer,omitempty"`
}

// What the history keeps of calls.
const (
	// callRuns is for how many runs, the latest, calls are kept.
	callRuns = 50
	// callBytes bounds the calls of one run, and allCallBytes those of all.
	callBytes    = 8 << 20
	allCallBytes = 64 << 20
)

// CallBytes is how much of a call's bodies, each way, is worth recording.
const CallBytes = 4 << 10

// callLog writes a run's calls beside its record.
type callLog struct {
	path string
	most int64

	mu     sync.Mutex
	file   *os.File      // guarded by mu; nil until the first call
	buf    *bufio.Writer // guarded by mu
	size   int64         // guarded by mu
	missed int64         // guarded by mu: calls past most
	err    error         // guarded by mu: the first one
	closed bool          // guarded by mu
}

type callLogKey struct{}

// RecordCall records a call of the run that ctx belongs to. Calls under other
// contexts are not recorded. What goes wrong is said when the run ends: a log of
// calls is not worth a run.
func RecordCall(ctx context.Context, call APICall) {
	if l, ok := ctx.Value(callLogKey{}).(*callLog); ok {
		l.add(&call)
	}
}

func (h *History) callsPath(id string) string { return filepath.Join(h.dir, id+callsSuffix) }

const callsSuffix = ".calls.jsonl"

func (l *callLog) add(call *APICall) {
	text, err := json.Marshal(call)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.file == nil && !l.closed && l.err == nil {
		if l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err == nil {
			l.buf = bufio.NewWriter(l.file)
		}
	}
	switch {
	case l.closed || l.err != nil: // a call that outlived its run
	case err != nil:
		l.err = err
	case l.size+int64(len(text)) > l.most:
		l.missed++
	default:
		l.size += int64(len(text)) + 1
		if _, l.err = l.buf.Write(append(text, '\n')); l.err == nil && call.Status/100 != 2 {
			l.err = l.buf.Flush() // the calls before trouble are those that are asked for
		}
	}
}

// close writes out what is buffered. missed is how many calls found no room.
func (l *callLog) close() (missed int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	err = l.err
	if l.file != nil {
		err = errors.Join(err, l.buf.Flush(), l.file.Close())
		l.file, l.buf = nil, nil
	}
	if err != nil {
		return l.missed, fmt.Errorf("record the API calls: %w", err)
	}
	return l.missed, nil
}

// Calls calls yield for each recorded API call of a run, in the order in which
// they ended, until yield returns false. kept is false where the run's calls were
// not recorded or are no longer kept.
func (h *History) Calls(id string, yield func(*APICall) bool) (kept bool, err error) {
	f, err := os.Open(h.callsPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the API calls of run %s: %w", id, err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return true, nil // a line without its end was torn by a crash
		}
		if err != nil {
			return true, fmt.Errorf("read the API calls of run %s: %w", id, err)
		}
		var c APICall
		if err := json.Unmarshal(line, &c); err != nil {
			return true, fmt.Errorf("read the API calls of run %s: %w", id, err)
		}
		if !yield(&c) {
			return true, nil
		}
	}
}

// pruneCalls drops the calls of runs past the latest, and past the bytes that
// all of them may take. ids are newest first.
func (h *History) pruneCalls(ids []string, runs int, bytes int64) error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return ignoreMissing(err)
	}
	size := make(map[string]int64)
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), callsSuffix)
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			if err = ignoreMissing(err); err != nil {
				return fmt.Errorf("read the API calls of run %s: %w", id, err)
			}
			continue
		}
		size[id] = info.Size()
	}
	var sum int64
	for i, id := range ids {
		n, ok := size[id]
		if !ok {
			continue
		}
		if sum += n; i < runs && sum <= bytes {
			delete(size, id)
		}
	}
	for id := range size { // those past the limits, and of runs that are gone
		if err := ignoreMissing(os.Remove(h.callsPath(id))); err != nil {
			return fmt.Errorf("drop the API calls of run %s: %w", id, err)
		}
	}
	return nil
}
