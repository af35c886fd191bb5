package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Usage remembers how many API calls a destination was charged, by the hour,
// so that a share of the day's calls holds across runs and processes.
type Usage struct {
	path string
	now  func() time.Time

	mu      sync.Mutex // guards the rest
	hours   map[int64]int64
	unsaved int64
}

// saveEvery is how many calls may pass before the count is written out: what a
// killed process forgets at most.
const saveEvery = 20

// OpenUsage reads the count of a destination. A damaged file counts as empty:
// the org keeps the count that matters.
func OpenUsage(stateDir, destination string, now func() time.Time) (*Usage, error) {
	u := &Usage{path: filepath.Join(stateDir, "usage", destination+".json"), now: now, hours: map[int64]int64{}}
	b, err := os.ReadFile(u.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return u, nil
	case err != nil:
		return nil, fmt.Errorf("read the API usage of destination %s: %w", destination, err)
	}
	if json.Unmarshal(b, &u.hours) != nil {
		u.hours = map[int64]int64{}
	}
	return u, nil
}

// Used returns the calls of the last 24 hours.
func (u *Usage) Used() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	since := u.now().Add(-24*time.Hour).Unix() / 3600
	var n int64
	for h, c := range u.hours {
		if h > since {
			n += c
		}
	}
	return n
}

// Add counts one call.
func (u *Usage) Add() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hours[u.now().Unix()/3600]++
	u.unsaved++
	if u.unsaved < saveEvery {
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

func (u *Usage) save() error {
	since := u.now().Add(-25*time.Hour).Unix() / 3600
	for h := range u.hours {
		if h < since {
			delete(u.hours, h)
		}
	}
	b, err := json.Marshal(u.hours)
	if err != nil {
		return fmt.Errorf("encode the API usage: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(u.path), 0o700); err != nil {
		return fmt.Errorf("make the API usage's folder: %w", err)
	}
	if err := writeFile(u.path, b); err != nil {
		return err
	}
	u.unsaved = 0
	return nil
}
