package alerts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"coho/engine"
)

// syncState is what alerts know of a sync.
type syncState struct {
	Latest facts           `json:"latest"`
	Told   map[string]told `json:"told,omitempty"` // by alert: the trouble it told of and has not taken back
}

// told is what an alert has said last of a sync; an empty status is nothing, or
// that all is well.
type told struct {
	Status engine.Status `json:"status,omitempty"`
	Run    string        `json:"run,omitempty"`
	At     time.Time     `json:"at"`
	// Sending is when somebody began to tell more, so that nobody else does.
	Sending *time.Time `json:"sending,omitempty"`
}

// stateFile keeps what was told across processes. Each change reads the file and
// writes it anew under a lock of its own, because an engine and its successor use
// it at the same time.
type stateFile struct{ path string }

// read returns the state by sync. A file that is torn counts as empty: at worst
// something is told twice.
func (f *stateFile) read() (map[string]*syncState, error) {
	b, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what alerts have told: %w", err)
	}
	states := map[string]*syncState{}
	if json.Unmarshal(b, &states) != nil {
		return map[string]*syncState{}, nil
	}
	for name, s := range states {
		if s == nil {
			delete(states, name)
		}
	}
	return states, nil
}

// update changes the state where change says so, and returns it as it is then.
func (f *stateFile) update(change func(states map[string]*syncState) bool) (_ map[string]*syncState, err error) {
	lock, err := os.OpenFile(f.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock what alerts have told: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock what alerts have told: %w", err)
	}
	states, err := f.read()
	if err != nil {
		return nil, err
	}
	if !change(states) {
		return states, nil
	}
	b, err := json.Marshal(states)
	if err != nil {
		return states, fmt.Errorf("encode what alerts have told: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+".new")
	err = os.WriteFile(tmp, append(b, '\n'), 0o600)
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		return states, fmt.Errorf("write what alerts have told: %w", err)
	}
	return states, nil
}
