package duckdb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"coho/sources/duckdb"
	"coho/sources/sourcetest"
)

// benchRows is the size of the benchmark's file: COHO_BENCH_ROWS, or 200,000.
func benchRows(b *testing.B) int {
	b.Helper()
	text := os.Getenv("COHO_BENCH_ROWS")
	if text == "" {
		return 200_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("COHO_BENCH_ROWS is %q, want a number of rows", text)
	}
	return n
}

// accounts writes a Parquet file of ten columns as a CRM has them; group is how many
// rows lie together, which one thread reads.
func accounts(b *testing.B, rows, group int) (file string) {
	b.Helper()
	file = filepath.Join(b.TempDir(), "accounts.parquet")
	build(b, `COPY (SELECT g AS id, 'ACC-' || lpad(g::varchar, 10, '0') AS account_key, 'Account number ' || g AS name,
		'+49 30 ' || (g * 7919 % 10000000) AS phone, 'https://www.example' || g % 5000 || '.com/about' AS website,
		((g * 104729 % 100000000) / 100)::DECIMAL(12,2) AS arr, (g * 31 % 5000)::INT AS employees, g % 3 = 0 AS active,
		DATE '2015-01-01' + (g % 3650)::INT AS customer_since, TIMESTAMP '2024-01-01' + to_seconds(g) AS updated_at
		FROM range(`+strconv.Itoa(rows)+`) AS s(g)) TO '`+file+`' (ROW_GROUP_SIZE `+strconv.Itoa(group)+`)`)
	return file
}

// readFile reads some of a file's rows.
func readFile(b *testing.B, s *duckdb.Source, sql string, want int) {
	b.Helper()
	rows, err := s.Read(b.Context(), query(sql))
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || n != want {
		b.Fatalf("%d rows, want %d: %v", n, want, err)
	}
}

// BenchmarkRead compares the source with the driver's own loops over the same
// file: DuckDB's Arrow batches, thrown away whole, by a program of its own
// (testdata/scan), of which only the scan is timed; and the driver's rows, whose
// values it decodes.
func BenchmarkRead(b *testing.B) {
	n := benchRows(b)
	file := accounts(b, n, 122_880) // DuckDB's default
	scan := filepath.Join(b.TempDir(), "scan")
	if out, err := exec.Command("go", "build", "-tags", "duckdb_arrow", "-o", scan, "./testdata/scan").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	s := open(b, duckdb.Options{})
	db, err := sql.Open("duckdb", "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	text := "SELECT * FROM read_parquet('" + file + "')"
	for _, reader := range []struct {
		name string
		read func(*testing.B) time.Duration
	}{
		{"coho", func(b *testing.B) time.Duration {
			began := time.Now()
			readFile(b, s, text, n)
			return time.Since(began)
		}},
		{"DuckDB's Arrow", func(b *testing.B) time.Duration { return arrowScan(b, scan, file, n) }},
		{"driver's rows", func(b *testing.B) time.Duration {
			began := time.Now()
			rowLoop(b, db, text, n)
			return time.Since(began)
		}},
	} {
		b.Run("reader="+reader.name, func(b *testing.B) {
			var took time.Duration
			for b.Loop() {
				took += reader.read(b)
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
			b.ReportMetric(float64(b.N*n)/took.Seconds(), "rows/s")
		})
	}
}

// arrowScan runs testdata/scan, which says how long it took.
func arrowScan(b *testing.B, program, file string, want int) time.Duration {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), program, file).Output()
	var rows int
	var ns int64
	if err == nil {
		_, err = fmt.Sscan(string(out), &rows, &ns)
	}
	if err != nil || rows != want {
		b.Fatalf("scan: %d rows, want %d: %v", rows, want, err)
	}
	return time.Duration(ns)
}

func rowLoop(b *testing.B, db *sql.DB, text string, want int) {
	b.Helper()
	rows, err := db.QueryContext(context.WithoutCancel(b.Context()), text)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		b.Fatal(err)
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(any)
	}
	n := 0
	for ; rows.Next(); n++ {
		if err := rows.Scan(values...); err != nil {
			b.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil || n != want {
		b.Fatalf("%d rows, want %d: %v", n, want, err)
	}
}

// BenchmarkMemory shows that a result takes no more memory for being longer. The
// rows lie in small groups, so that the shortest result is read by as many threads,
// each with buffers of its own, as the longest.
func BenchmarkMemory(b *testing.B) {
	file := accounts(b, 5_000_000, 10_240)
	s := open(b, duckdb.Options{})
	sourcetest.Flat(b, func(b *testing.B, rows int) {
		readFile(b, s, fmt.Sprintf("SELECT * FROM read_parquet('%s') WHERE id < %d", file, rows), rows)
	})
}
