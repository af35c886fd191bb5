package engine

import (
	"errors"
	"sync"

	"coho/planner/snapshot"
)

// stores are the snapshot stores that are open in this process: a store is held
// by one process and opened once, and a run may look up records in the store of
// a sync that runs beside it.
type stores struct {
	mu   sync.Mutex
	open map[string]*openStore // guarded by mu; by directory
}

type openStore struct {
	store *snapshot.Store
	users int
}

// use opens the store in dir, or shares it where it is open. Every use ends with
// a drop.
func (s *stores) use(dir string) (*snapshot.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.open[dir]; o != nil {
		o.users++
		return o.store, nil
	}
	store, err := snapshot.Open(dir)
	if err != nil {
		return nil, err
	}
	if s.open == nil {
		s.open = map[string]*openStore{}
	}
	s.open[dir] = &openStore{store: store, users: 1}
	return store, nil
}

// drop ends a use of a store, and closes it with the last one.
func (s *stores) drop(store *snapshot.Store) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir, o := range s.open {
		if o.store != store {
			continue
		}
		if o.users--; o.users > 0 {
			return nil
		}
		delete(s.open, dir)
		return store.Close()
	}
	return errors.New("close a snapshot: it is not open")
}
