package postgrestest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

var errNoBinaries = errors.New("no PostgreSQL server binaries found (initdb and postgres, on the PATH or in the usual places): run `make test-deps`")

// usualPlaces are where packages put the server's binaries without putting
// them on the PATH. scripts/test-deps looks in the same places.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                        // PostgreSQL's own RPMs
	"/usr/libexec/postgresql*",                                // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                      // Homebrew on Apple silicon
	"/opt/homebrew/opt/postgresql/bin",                        //
	"/usr/local/opt/postgresql@*/bin",                         // Homebrew on Intel
	"/usr/local/opt/postgresql/bin",                           //
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",         // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/latest/bin", // Postgres.app
	"/Applications/Postgres.app/Contents/Versions/*/bin",      //
}

// findBinaries returns the directory that holds initdb and postgres. The
// binaries on the PATH win; of several versions in one place the newest.
func findBinaries() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		// A link such as /usr/local/bin/initdb points to the directory where
		// the other binaries are.
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		if dir := filepath.Dir(p); holdsServer(dir) {
			return dir, nil
		}
	}
	for _, pattern := range usualPlaces {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		sort.Slice(dirs, func(i, j int) bool { return version(dirs[i]) > version(dirs[j]) })
		for _, dir := range dirs {
			if holdsServer(dir) {
				return dir, nil
			}
		}
	}
	return "", errNoBinaries
}

func holdsServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.IsDir() || fi.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// version picks the first number out of a path such as
// /usr/lib/postgresql/15/bin.
func version(dir string) float64 {
	start := strings.IndexAny(dir, "0123456789")
	if start < 0 {
		return 0
	}
	end := start
	for end < len(dir) && (dir[end] == '.' || dir[end] >= '0' && dir[end] <= '9') {
		end++
	}
	v, err := strconv.ParseFloat(strings.Trim(dir[start:end], "."), 64)
	if err != nil {
		return 0
	}
	return v
}
