package snowflake

import (
	"database/sql/driver"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/snowflakedb/gosnowflake"

	"coho/models"
	"coho/sources/snowflake/snowflaketest"
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

// accounts is a result of typical CRM columns.
func accounts(n int) *snowflaketest.Result {
	name := []byte("Account number ")
	return &snowflaketest.Result{Rows: n, Inline: 1000, FileRows: 50_000, Columns: []snowflaketest.Column{
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
	}}
}

// BenchmarkRead compares the source with the driver's own loops: over Arrow
// batches, whose buffers are copied whole to a reader that discards them, no
// row or value looked at; and over rows, whose values the driver decodes. The
// files come from a server in the same process, made once.
func BenchmarkRead(b *testing.B) {
	n := benchRows(b)
	server := snowflaketest.Start(b, snowflaketest.Options{Keep: true, Answer: func(string) (*snowflaketest.Result, error) { return accounts(n), nil }})
	s := open(b, optionsOf(server))
	report := func(b *testing.B, read int) {
		b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "rows/s")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
	}
	b.Run("source/rows="+strconv.Itoa(n), func(b *testing.B) {
		read := 0
		for b.Loop() {
			rows, err := s.Read(b.Context(), models.Model{Table: "accounts"})
			if err != nil {
				b.Fatal(err)
			}
			for rows.Next() {
				read++
			}
			if rows.Err() != nil {
				b.Fatal(rows.Err())
			}
			if err := rows.Close(); err != nil {
				b.Fatal(err)
			}
		}
		report(b, read)
	})
	for _, bare := range []struct {
		name string
		loop func(*testing.B, *Source) int
	}{{"driver's batches", bareLoop}, {"driver's rows", rowLoop}} {
		b.Run(bare.name+"/rows="+strconv.Itoa(n), func(b *testing.B) {
			read := 0
			for b.Loop() {
				read += bare.loop(b, s)
			}
			report(b, read)
		})
	}
}

// bareLoop is what the driver's documentation shows of Arrow batches.
func bareLoop(b *testing.B, s *Source) (read int) {
	conn, err := s.db.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	rows, err := query(gosnowflake.WithArrowBatches(gosnowflake.WithHigherPrecision(b.Context())), conn, `SELECT * FROM "ACCOUNTS"`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	batches, err := rows.(gosnowflake.SnowflakeRows).GetArrowBatches()
	if err != nil {
		b.Fatal(err)
	}
	for _, batch := range batches {
		records, err := batch.Fetch()
		if err != nil {
			b.Fatal(err)
		}
		for _, record := range *records {
			for _, column := range record.Columns() {
				for _, buffer := range column.Data().Buffers() {
					if buffer != nil {
						if _, err := io.Discard.Write(buffer.Bytes()); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			read += int(record.NumRows())
			record.Release()
		}
	}
	return read
}

// rowLoop reads the values that the driver decodes.
func rowLoop(b *testing.B, s *Source) (read int) {
	conn, err := s.db.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	rows, err := query(gosnowflake.WithHigherPrecision(b.Context()), conn, `SELECT * FROM "ACCOUNTS"`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			return read
		case err != nil:
			b.Fatal(err)
		}
		read++
	}
}
