package salesforce

import (
	"errors"
	"fmt"
	"os"
)

// newSpool creates a temporary file and takes it out of its directory at once,
// where the system lets an open file go: the rows in it are then gone with the
// process, however that ends.
func newSpool(dir, pattern string) (*os.File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, fmt.Errorf("create a temporary file: %w", err)
	}
	// Where this fails, dropSpool removes the file.
	_ = os.Remove(f.Name())
	return f, nil
}

// dropSpool closes a temporary file and removes it where it is still there.
func dropSpool(f *os.File) error {
	err := f.Close()
	if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return fmt.Errorf("remove a temporary file: %w", err)
	}
	return nil
}
