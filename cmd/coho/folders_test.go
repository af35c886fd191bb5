package main

import (
	"os"
	"path/filepath"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// TestOddFolders: a config works wherever it lies, includes and state with it.
func TestOddFolders(t *testing.T) {
	for _, name := range []string{"a[b", "x[1]y", "it's, all *here*", "two words"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.dir = filepath.Join(t.TempDir(), name)
			if err := os.MkdirAll(filepath.Join(w.dir, "more"), 0o700); err != nil {
				t.Fatal(err)
			}
			w.config("include = [\"more/*.toml\"]\n")
			if err := os.WriteFile(filepath.Join(w.dir, "more", "all.toml"), []byte(accounts("")), 0o600); err != nil {
				t.Fatal(err)
			}
			// Relative paths are relative to the file that names them.
			file := filepath.Join(w.dir, "warehouse.duckdb")
			w.sql(threeAccounts)
			if err := os.Rename(file, filepath.Join(w.dir, "more", "warehouse.duckdb")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				w.run(exitDone, "accounts")
			}
			w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
		})
	}
}
