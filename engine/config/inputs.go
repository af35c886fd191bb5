package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Inputs are the files that a config was made of: config files, queries, keys,
// mounted secrets, and the patterns by which files are included.
type Inputs struct {
	files    []string
	patterns []string
}

func (i *Inputs) add(path string) {
	if !slices.Contains(i.files, path) {
		i.files = append(i.files, path)
	}
}

func (i *Inputs) addPattern(pattern string) {
	if !slices.Contains(i.patterns, pattern) {
		i.patterns = append(i.patterns, pattern)
	}
}

// Fingerprint says what the files look like now: two that differ are of files
// that were changed, replaced, added or removed. It reads no file's content.
func (i Inputs) Fingerprint() string {
	h := sha256.New()
	for _, path := range i.files {
		look(h, path)
	}
	for _, pattern := range i.patterns {
		found, err := filepath.Glob(pattern)
		fmt.Fprintf(h, "%q %v\n", pattern, err)
		for _, path := range found {
			look(h, path)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// look adds what a file looks like. A mounted secret is a link that is made to
// point elsewhere, so links are followed.
func look(h hash.Hash, path string) {
	info, err := os.Stat(path)
	if err != nil {
		fmt.Fprintf(h, "%q is not there\n", path)
		return
	}
	inode := uint64(0)
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = s.Ino
	}
	fmt.Fprintf(h, "%q %d %d %d\n", path, info.Size(), info.ModTime().UnixNano(), inode)
}
