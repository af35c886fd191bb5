package postgres_test

import (
	"os"
	"strconv"
	"testing"

	"coho/models"
	"coho/sources/postgres"
	"coho/sources/postgres/postgrestest"
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

// BenchmarkRead reads a table of ten typical CRM columns.
func BenchmarkRead(b *testing.B) {
	n := benchRows(b)
	server := postgrestest.Start(b)
	dsn := server.CreateDatabase(b)
	server.Exec(b, dsn, `CREATE TABLE accounts AS SELECT
		g::bigint AS id, 'ACC-' || lpad(g::text, 10, '0') AS account_key, 'Account number ' || g AS name,
		'+49 30 ' || (g * 7919 % 10000000) AS phone, 'https://www.example' || g % 5000 || '.com/about' AS website,
		(g * 104729 % 100000000)::numeric(12,2) / 100 AS arr, (g * 31 % 5000)::int AS employees, g % 3 = 0 AS active,
		DATE '2015-01-01' + (g % 3650)::int AS customer_since, TIMESTAMPTZ '2024-01-01' + g * INTERVAL '1 second' AS updated_at
		FROM generate_series(1::bigint, `+strconv.Itoa(n)+`) AS g`)
	server.Exec(b, dsn, "VACUUM accounts")
	s, err := postgres.Open(postgres.Options{DSN: models.Secret(dsn)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.Run("rows="+strconv.Itoa(n), func(b *testing.B) {
		b.ReportAllocs()
		read, size := 0, 0
		for b.Loop() {
			rows, err := s.Read(b.Context(), models.Model{Table: "accounts"})
			if err != nil {
				b.Fatal(err)
			}
			for rows.Next() {
				read++
				size += len(rows.Row())
			}
			if err := rows.Err(); err != nil {
				b.Fatal(err)
			}
			rows.Close()
		}
		b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "rows/s")
		b.ReportMetric(float64(size)/b.Elapsed().Seconds()/1e6, "MB/s")
	})
}
