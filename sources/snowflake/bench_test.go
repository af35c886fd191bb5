package snowflake

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/snowflakedb/gosnowflake"
	"golang.org/x/sync/errgroup"

	"coho/models"
	"coho/sources/snowflake/snowflaketest"
	"coho/sources/sourcetest"
)

// benchRows is the size of the benchmark's result: COHO_BENCH_ROWS, or 200,000.
func benchRows(b testing.TB) int {
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

// accounts is a result of ten columns as a CRM has them.
func accounts(n int) *snowflaketest.Result {
	name := []byte("Account number ")
	timestamp := func(name string) snowflaketest.Column {
		return snowflaketest.Column{Name: name, Type: "timestamp_ntz", Scale: 3, Int: func(row int) int64 { return 1_700_000_000_000 + int64(row)*1000 }}
	}
	return &snowflaketest.Result{Rows: n, Inline: 1000, FileRows: 20_000, Columns: []snowflaketest.Column{
		fixed("ID", func(row int) int64 { return int64(row) }),
		text("ACCOUNT_KEY", func(dst []byte, row int) []byte { return strconv.AppendInt(append(dst, "ACC-"...), int64(row), 10) }),
		text("NAME", func(dst []byte, row int) []byte { return strconv.AppendInt(append(dst, name...), int64(row), 10) }),
		text("PHONE", func(dst []byte, row int) []byte {
			return strconv.AppendInt(append(dst, "+49 30 "...), int64(row)*7919%10000000, 10)
		}),
		text("WEBSITE", func(dst []byte, row int) []byte {
			return append(strconv.AppendInt(append(dst, "https://www.example"...), int64(row)%5000, 10), ".com/about"...)
		}),
		{Name: "ARR", Type: "fixed", Precision: 12, Scale: 2, Int: func(row int) int64 { return int64(row) * 104729 % 100000000 }},
		fixed("EMPLOYEES", func(row int) int64 { return int64(row) * 31 % 5000 }),
		text("COUNTRY", func(dst []byte, row int) []byte { return append(dst, []string{"DE", "FR", "US"}[row%3]...) }),
		timestamp("CREATED_AT"), timestamp("CHANGED_AT"),
	}}
}

// serveAccounts is for processes of their own: a server of accounts, as many as
// the name of the table says, in files that are gzipped and in files that are not.
func serveAccounts(tb testing.TB) []string {
	var addresses []string
	for _, gzip := range []bool{true, false} {
		addresses = append(addresses, snowflaketest.Start(tb, snowflaketest.Options{Keep: true, Gzip: gzip, Answer: func(sql string) (*snowflaketest.Result, error) {
			var n int
			if _, err := fmt.Sscanf(sql, `SELECT * FROM "ACCOUNTS_%d"`, &n); err != nil {
				return nil, err
			}
			return accounts(n), nil
		}}).URL)
	}
	return addresses
}

// read reads accounts to their end.
func read(b *testing.B, s *Source, n int) {
	b.Helper()
	rows, err := s.Read(b.Context(), models.Model{Table: "accounts_" + strconv.Itoa(n)})
	if err != nil {
		b.Fatal(err)
	}
	count := 0
	for rows.Next() {
		count++
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || count != n {
		b.Fatalf("%d rows, %v", count, err)
	}
}

// BenchmarkRead compares the source with the driver's own loops: over Arrow
// batches, whose buffers are given whole to a reader that discards them, no row
// or value looked at, one batch after the other and as many at once as the source
// fetches; and over rows, whose values the driver decodes. The files come, made
// before, from another process on the same machine.
func BenchmarkRead(b *testing.B) {
	n := benchRows(b)
	addresses := sourcetest.Elsewhere(b)
	for i, files := range []string{"gzip", "plain"} {
		s := open(b, Options{Account: "org-acc", Host: addresses[i], User: "coho", Password: "secret-password"})
		read(b, s, n) // makes the files and signs in
		for _, loop := range []struct {
			reader string
			read   func(*testing.B, *Source, int)
		}{
			{"coho", read},
			{"driver's batches", func(b *testing.B, s *Source, n int) { batchLoop(b, s, n, 1) }},
			{"driver's batches at once", func(b *testing.B, s *Source, n int) { batchLoop(b, s, n, fetchAhead) }},
			{"driver's rows", rowLoop},
		} {
			b.Run("files="+files+"/reader="+loop.reader, func(b *testing.B) {
				for b.Loop() {
					loop.read(b, s, n)
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

// BenchmarkMemory shows that a result takes no more memory for being longer.
func BenchmarkMemory(b *testing.B) {
	s := open(b, Options{Account: "org-acc", Host: sourcetest.Elsewhere(b)[0], User: "coho", Password: "secret-password"})
	sourcetest.Flat(b, func(b *testing.B, rows int) { read(b, s, rows) })
}

// run runs the statement that read does, by the driver alone.
func run(b *testing.B, ctx context.Context, s *Source, n int) (driver.Rows, func()) {
	b.Helper()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		b.Fatal(err)
	}
	rows, err := query(gosnowflake.WithHigherPrecision(ctx), conn, `SELECT * FROM "ACCOUNTS_`+strconv.Itoa(n)+`"`)
	if err != nil {
		b.Fatal(err)
	}
	return rows, func() {
		if err := errors.Join(rows.Close(), conn.Close()); err != nil {
			b.Error(err)
		}
	}
}

// batchLoop is what the driver's documentation shows of Arrow batches, with so
// many fetched at once.
func batchLoop(b *testing.B, s *Source, n, atOnce int) {
	rows, end := run(b, gosnowflake.WithArrowBatches(b.Context()), s, n)
	defer end()
	batches, err := rows.(gosnowflake.SnowflakeRows).GetArrowBatches()
	if err != nil {
		b.Fatal(err)
	}
	var count atomic.Int64
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, batch := range batches {
		group.Go(func() error {
			records, err := batch.Fetch()
			if err != nil {
				return err
			}
			for _, record := range *records {
				for _, column := range record.Columns() {
					for _, buffer := range column.Data().Buffers() {
						if buffer != nil {
							if _, err := io.Discard.Write(buffer.Bytes()); err != nil {
								return err
							}
						}
					}
				}
				count.Add(record.NumRows())
				record.Release()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil || count.Load() != int64(n) {
		b.Fatalf("%d rows, %v", count.Load(), err)
	}
}

// rowLoop reads the values that the driver decodes.
func rowLoop(b *testing.B, s *Source, n int) {
	rows, end := run(b, b.Context(), s, n)
	defer end()
	values := make([]driver.Value, len(rows.Columns()))
	for count := 0; ; count++ {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			if count != n {
				b.Fatalf("%d rows", count)
			}
			return
		case err != nil:
			b.Fatal(err)
		}
	}
}
