package duckdb_test

import (
	"path/filepath"
	"testing"

	"coho/models"
	"coho/sources"
	"coho/sources/duckdb"
)

// TestEstimate: the number of rows is known beforehand of tables and Parquet files.
func TestEstimate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rows.parquet")
	path := build(t, "CREATE TABLE rows AS SELECT g FROM range(12345) AS s(g)", "COPY rows TO '"+file+"'")
	s := open(t, duckdb.Options{Path: path})
	for _, m := range []models.Model{{Table: "rows"}, {SQL: "SELECT * FROM read_parquet('" + file + "');"}} {
		rows, err := s.Read(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := rows.(sources.Estimator).Estimate(); !ok || n != 12345 {
			t.Errorf("%+v: %d, %t", m, n, ok)
		}
		read := 0
		for rows.Next() {
			read++
		}
		if err := rows.Err(); err != nil || read != 12345 {
			t.Errorf("%d rows, %v", read, err)
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}
