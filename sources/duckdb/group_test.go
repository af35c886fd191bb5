package duckdb_test

import (
	"testing"

	"coho/sources/duckdb"
	"coho/sources/sourcetest"
)

func TestGroups(t *testing.T) {
	s := open(t, duckdb.Options{})
	defer s.Close()
	sourcetest.Groups(t, s)
}
