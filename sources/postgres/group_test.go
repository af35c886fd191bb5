package postgres_test

import (
	"testing"

	"coho/sources/postgres/postgrestest"
	"coho/sources/sourcetest"
)

func TestGroups(t *testing.T) {
	server := postgrestest.Start(t)
	s := open(t, server.CreateDatabase(t))
	defer s.Close()
	sourcetest.Groups(t, s)
}
