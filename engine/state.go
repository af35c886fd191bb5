package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// stateVersion is what the VERSION file of a state directory says. A directory
// with anything else was written by another version of coho.
const stateVersion = "coho-state-1"

// lockState takes the state directory for this process: it makes it where it
// does not exist, checks its version, and holds an flock on its lock file,
// which the system gives up when the process ends, however it ends.
func lockState(dir, purpose string) (unlock func() error, err error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		cerr := f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{Dir: dir, Holder: strings.TrimSpace(string(holder))}
		}
		return nil, errors.Join(fmt.Errorf("lock the state directory %s: %w", dir, err), cerr)
	}
	release := func() error {
		// Emptied while still locked, so the next holder's words are its own.
		terr := f.Truncate(0)
		return errors.Join(terr, f.Close())
	}
	if err := checkVersion(dir); err != nil {
		return nil, errors.Join(err, release())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("write the lock file: %w", err), f.Close())
	}
	if _, err := f.WriteAt([]byte(fmt.Sprintf("process %d (%s)\n", os.Getpid(), purpose)), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write the lock file: %w", err), f.Close())
	}
	return release, nil
}

func checkVersion(dir string) error {
	path := filepath.Join(dir, "VERSION")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeFile(path, []byte(stateVersion+"\n"))
	case err != nil:
		return fmt.Errorf("read the state directory's version: %w", err)
	}
	if v := strings.TrimSpace(string(b)); v != stateVersion {
		return &StateVersionError{Dir: dir, Version: v}
	}
	return nil
}

// SaveFile replaces a file of the state directory in one piece, for who
// conducts the engine; the engine holds the lock. After a crash the file holds
// the old bytes or the new ones.
func (e *Engine) SaveFile(name string, data []byte) error {
	return writeFile(filepath.Join(e.o.StateDir, name), data)
}

// LoadFile reads what SaveFile wrote; nil where there is none.
func (e *Engine) LoadFile(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(e.o.StateDir, name))
	if err := ignoreMissing(err); err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	return b, nil
}

// tempInfix stands in the names of files that writeFile has not finished.
const tempInfix = ".tmp"

// writeFile replaces a file in one piece: after a crash it holds the old
// bytes or the new ones.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+tempInfix+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), ignoreMissing(os.Remove(tmp.Name())))
	}
	return syncDir(filepath.Dir(path))
}

// makeDir makes a directory and those above it, each durable in the one above:
// what is written into it later is not lost with its name.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
