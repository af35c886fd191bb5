package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Usage remembers how many API calls a destination was charged, by the hour,
// so that a share of the day's calls holds across runs and processes. What this
// process counts is added to the file, so that two processes (a run and a look
// into the org) do not overwrite each other's count.
type Usage struct {
	path string
	now  func() time.Time

	mu      sync.Mutex      // guards the rest
	hours   map[int64]int64 // calls by the hour since 1970, as last read
	pending map[int64]int64 // calls that are not in the file yet
	unsaved int64           // their sum
	own     map[int64]int64 // calls counted by Add, in the file or not
}

// saveEvery is how many calls may pass before the count is written out: what a
// killed process forgets at most.
const saveEvery = 20

// OpenUsage reads the count of a destination. A damaged file counts as empty:
// the org keeps the count that matters.
func OpenUsage(stateDir, destination string, now func() time.Time) (*Usage, error) {
	u := &Usage{path: filepath.Join(stateDir, "usage", destination+".json"), now: now, pending: map[int64]int64{}, own: map[int64]int64{}}
	if err := u.read(); err != nil {
		return nil, fmt.Errorf("read the API usage of destination %s: %w", destination, err)
	}
	return u, nil
}

func (u *Usage) read() error {
	u.hours = map[int64]int64{}
	b, err := os.ReadFile(u.path)
	if err != nil {
		return ignoreMissing(err)
	}
	if json.Unmarshal(b, &u.hours) != nil || u.hours == nil {
		u.hours = map[int64]int64{}
	}
	return nil
}

// Used returns the calls of the hour that it is and the 23 before it.
func (u *Usage) Used() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	since := u.now().Add(-24*time.Hour).Unix() / 3600
	var n int64
	for _, counts := range []map[int64]int64{u.hours, u.pending} {
		for h, c := range counts {
			if h > since {
				n += c
			}
		}
	}
	return n
}

// Others returns Used without what was counted here: what a client that counts
// its own calls must add to them.
func (u *Usage) Others() int64 {
	n := u.Used()
	u.mu.Lock()
	defer u.mu.Unlock()
	since := u.now().Add(-24*time.Hour).Unix() / 3600
	for h, c := range u.own {
		if h > since {
			n -= c
		}
	}
	return n
}

// Add counts one call.
func (u *Usage) Add() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	hour := u.now().Unix() / 3600
	u.pending[hour]++
	u.own[hour]++
	u.unsaved++
	if u.unsaved%saveEvery != 0 {
		return nil
	}
	return u.save()
}

// Close writes the count out.
func (u *Usage) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.unsaved == 0 {
		return nil
	}
	return u.save()
}

// save adds what is pending to the file.
func (u *Usage) save() error {
	if err := u.read(); err != nil {
		return fmt.Errorf("read the API usage: %w", err)
	}
	sum := maps.Clone(u.hours)
	for h, n := range u.pending {
		sum[h] += n
	}
	since := u.now().Add(-25*time.Hour).Unix() / 3600
	old := func(h, _ int64) bool { return h < since }
	maps.DeleteFunc(sum, old)
	maps.DeleteFunc(u.own, old)
	b, err := json.Marshal(sum)
	if err != nil {
		return fmt.Errorf("encode the API usage: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(u.path), 0o700); err != nil {
		return fmt.Errorf("make the API usage's folder: %w", err)
	}
	if err := writeFile(u.path, b); err != nil {
		return err
	}
	u.hours, u.unsaved = sum, 0
	clear(u.pending)
	return nil
}
