package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"coho/models"
	"coho/sources/postgres"
	"coho/sources/postgres/postgrestest"
	"coho/sources/sourcetest"
)

// benchRows is the size of the benchmarks' table: COHO_BENCH_ROWS, or 200,000.
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

// benchAccounts is a server with a table of ten columns as a CRM has them.
func benchAccounts(b *testing.B, rows int) (dsn string, s *postgres.Source) {
	b.Helper()
	server := postgrestest.Start(b)
	dsn = server.CreateDatabase(b)
	server.Exec(b, dsn, `CREATE TABLE accounts AS SELECT
		g::bigint AS id, 'ACC-' || lpad(g::text, 10, '0') AS account_key, 'Account number ' || g AS name,
		'+49 30 ' || (g * 7919 % 10000000) AS phone, 'https://www.example' || g % 5000 || '.com/about' AS website,
		(g * 104729 % 100000000)::numeric(12,2) / 100 AS arr, (g * 31 % 5000)::int AS employees, g % 3 = 0 AS active,
		DATE '2015-01-01' + (g % 3650)::int AS customer_since, TIMESTAMPTZ '2024-01-01' + g * INTERVAL '1 second' AS updated_at
		FROM generate_series(1::bigint, `+strconv.Itoa(rows)+`) AS g`)
	server.Exec(b, dsn, "VACUUM ANALYZE accounts")
	s, err := postgres.Open(postgres.Options{DSN: models.Secret(dsn)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return dsn, s
}

// readAll reads a model to its end.
func readAll(b *testing.B, s *postgres.Source, m models.Model, want int) {
	b.Helper()
	rows, err := s.Read(b.Context(), m)
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

const benchQuery = "SELECT * FROM accounts"

// BenchmarkRead compares the source with the driver's own loops over the same
// query, in turn and on one connection each: pgx's rows, whose values are given
// as they came to a reader that discards them, and the same with each value
// decoded.
func BenchmarkRead(b *testing.B) {
	n := benchRows(b)
	dsn, s := benchAccounts(b, n)
	conn, err := pgx.Connect(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.Context()))
	loop := func(b *testing.B, row func(pgx.Rows) error) {
		rows, err := conn.Query(b.Context(), benchQuery)
		if err != nil {
			b.Fatal(err)
		}
		defer rows.Close()
		count := 0
		for rows.Next() {
			count++
			if err := row(rows); err != nil {
				b.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil || count != n {
			b.Fatalf("%d rows, %v", count, err)
		}
	}
	for _, reader := range []struct {
		name string
		read func(*testing.B)
	}{
		{"coho", func(b *testing.B) { readAll(b, s, models.Model{SQL: benchQuery}, n) }},
		{"driver's rows", func(b *testing.B) {
			loop(b, func(rows pgx.Rows) error {
				for _, v := range rows.RawValues() {
					if _, err := io.Discard.Write(v); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{"driver's values", func(b *testing.B) { loop(b, func(rows pgx.Rows) error { _, err := rows.Values(); return err }) }},
	} {
		b.Run("reader="+reader.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				reader.read(b)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkMemory shows that a result takes no more memory for being longer.
func BenchmarkMemory(b *testing.B) {
	_, s := benchAccounts(b, 5_000_000)
	sourcetest.Flat(b, func(b *testing.B, rows int) {
		readAll(b, s, models.Model{SQL: fmt.Sprintf("%s WHERE id <= %d", benchQuery, rows)}, rows)
	})
}
