package snowflake

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"coho/models"
	"coho/sources"
	"coho/sources/snowflake/snowflaketest"
	"coho/sources/sourcetest"
)

// inFiles starts a server whose results come in files of 1000 rows each, the
// first 10 rows with the answer.
func inFiles(t *testing.T, json, gzip bool) *snowflaketest.Server {
	a := &answers{shape: func(r *snowflaketest.Result) { r.Inline, r.FileRows = 10, 1000 }}
	return snowflaketest.Start(t, snowflaketest.Options{Answer: a.answer, JSON: json, Gzip: gzip})
}

// readCounting reads rows to their end, calling at when it is at row 2000, and
// checks that every number came once and in order.
func readCounting(t *testing.T, rows sources.Rows, at func()) (n int) {
	t.Helper()
	cells := make([][]byte, 2)
	for rows.Next() {
		if err := models.SplitFrame(rows.Row(), cells); err != nil {
			t.Fatal(err)
		}
		n++
		if v, err := rows.Schema().Decode(0, cells[0]); err != nil || v.Int() != int64(n) {
			t.Fatalf("row %d is %v, %v", n, v, err)
		}
		if n == 2000 {
			at()
		}
	}
	return n
}

func rowsOf(t *testing.T, s *Source, n int) sources.Rows {
	t.Helper()
	rows, err := s.Read(t.Context(), models.Model{SQL: strings.Replace(count.SQL, "5000", strconv.Itoa(n), 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	})
	return rows
}

// TestFilesAgain checks that a result is read to its end, each row once,
// whatever happens to its files' links.
func TestFilesAgain(t *testing.T) {
	for _, c := range []struct {
		name     string
		gzip     bool
		happen   func(*snowflaketest.Server)
		renewals int
	}{
		{"links expire", false, (*snowflaketest.Server).ExpireLinks, 0},
		{"links and the session expire", true, func(s *snowflaketest.Server) { s.ExpireSession(); s.ExpireLinks() }, 1},
		{"a file is cut off", false, func(s *snowflaketest.Server) { s.CutFiles(1) }, 0},
		{"a gzipped file is cut off", true, func(s *snowflaketest.Server) { s.CutFiles(1) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := inFiles(t, false, c.gzip)
			s := open(t, optionsOf(server))
			rows := rowsOf(t, s, 20_000)
			if n := readCounting(t, rows, func() { c.happen(server) }); n != 20_000 || rows.Err() != nil {
				t.Fatalf("%d rows, %v", n, rows.Err())
			}
			if got := server.Counts(); got.Again != 1 || got.Renewals != c.renewals {
				t.Errorf("counts = %+v", got)
			}
		})
	}
}

// TestSessionExpires checks that a session is renewed by the query that finds
// it expired.
func TestSessionExpires(t *testing.T) {
	server := inFiles(t, false, false)
	s := open(t, optionsOf(server))
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.ExpireSession()
	if _, rows := sourcetest.ReadAll(t, s, count); len(rows) != 5000 {
		t.Errorf("%d rows", len(rows))
	}
	if got := server.Counts().Renewals; got != 1 || len(server.Logins()) != 1 {
		t.Errorf("%d renewals, %d sign-ins", got, len(server.Logins()))
	}
}

// TestServerGone checks that rows which cannot come end in an error that tells
// no link, and not as if they were all.
func TestServerGone(t *testing.T) {
	for _, json := range []bool{false, true} {
		t.Run("json="+strconv.FormatBool(json), func(t *testing.T) {
			server := inFiles(t, json, false)
			o := optionsOf(server)
			config, err := o.config()
			if err != nil {
				t.Fatal(err)
			}
			config.MaxRetryCount = 1
			s := o.open(config)
			defer s.Close()
			rows := rowsOf(t, s, 100_000)
			n := readCounting(t, rows, server.Stop)
			err = rows.Err()
			if n < 2000 || n >= 100_000 || err == nil {
				t.Fatalf("%d rows, %v", n, err)
			}
			if text := err.Error(); strings.Contains(text, "ignature") || strings.Contains(text, "requestId") || strings.Contains(text, "\n") || !strings.HasPrefix(text, "talk to Snowflake: ") {
				t.Errorf("error = %s", text)
			}
			var wrapped interface{ Unwrap() error }
			if errors.As(err, &wrapped) {
				t.Errorf("the error wraps %v", wrapped.Unwrap())
			}
		})
	}
}

// TestLinksNeverWork checks that a reader gives up.
func TestLinksNeverWork(t *testing.T) {
	server := inFiles(t, false, false)
	s := open(t, optionsOf(server))
	rows := rowsOf(t, s, 100_000)
	server.CutFiles(math.MaxInt)
	n := 0
	for rows.Next() {
		n++
	}
	err := rows.Err()
	if n >= 100_000 || err == nil || strings.Contains(err.Error(), "ignature") {
		t.Errorf("%d rows, %v", n, err)
	}
	if got := server.Counts(); got.Again > maxRenewals {
		t.Errorf("the result was asked for %d times", got.Again)
	}
}

// TestCancelFetchesNoMore checks that files are fetched no further than
// fetchAhead and none once the context has ended.
func TestCancelFetchesNoMore(t *testing.T) {
	server := inFiles(t, false, true)
	s := open(t, optionsOf(server))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rows, err := s.Read(ctx, models.Model{SQL: strings.Replace(count.SQL, "5000", "1000000", 1)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2500 {
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
	}
	cancel()
	for rows.Next() {
	}
	if err := rows.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("Err = %v", err)
	}
	if err := rows.Close(); err != nil {
		t.Error(err)
	}
	// Rows 10 to 3010 are of three files; the one being read counts too.
	if got := server.Counts().Fetched; got > 3+fetchAhead {
		t.Errorf("%d files were fetched", got)
	}
}

// TestWidths checks that a number's bytes are the same however wide the file
// sends it, or a row would look changed when its neighbours are.
func TestWidths(t *testing.T) {
	var frames []string
	for _, width := range []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, &arrow.Decimal128Type{Precision: 38},
	} {
		server := snowflaketest.Start(t, snowflaketest.Options{Answer: func(string) (*snowflaketest.Result, error) {
			c := fixed("V", func(row int) int64 { return -int64(row) })
			c.Width = width
			return &snowflaketest.Result{Columns: []snowflaketest.Column{c}, Rows: 100}, nil
		}})
		rows, err := open(t, optionsOf(server)).Read(t.Context(), models.Model{Table: "t"})
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for rows.Next() {
			all.Write(rows.Row())
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatalf("%s: %v", width, err)
		}
		frames = append(frames, all.String())
	}
	for i := range frames {
		if frames[i] != frames[0] || len(frames[i]) != 100*20 {
			t.Errorf("width %d gives other bytes", i)
		}
	}
}

// TestWidthsInOneResult reads a result whose first file has narrower numbers
// than the next.
func TestWidthsInOneResult(t *testing.T) {
	server := snowflaketest.Start(t, snowflaketest.Options{Answer: func(string) (*snowflaketest.Result, error) {
		return &snowflaketest.Result{Rows: 60, Inline: 10, FileRows: 10, Columns: []snowflaketest.Column{fixed("V", func(row int) int64 { return int64(math.Pow10(row / 10 * 3)) })}}, nil
	}})
	_, rows := sourcetest.ReadAll(t, open(t, optionsOf(server)), models.Model{Table: "t"})
	for i, row := range rows {
		if row[0].Int() != int64(math.Pow10(i/10*3)) {
			t.Errorf("row %d is %s", i, row[0].Text())
		}
	}
	if len(rows) != 60 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestHalfSeconds: what the driver cannot tell apart is an error, not a guess.
func TestHalfSeconds(t *testing.T) {
	for _, at := range []snowflaketest.Moment{{Nanos: 5e8}, {Seconds: -1, Nanos: 5e8}} {
		server := snowflaketest.Start(t, snowflaketest.Options{JSON: true, Answer: func(string) (*snowflaketest.Result, error) {
			return &snowflaketest.Result{Rows: 1, Columns: []snowflaketest.Column{{Name: "V", Type: "timestamp_ntz", Scale: 9, Value: func(int) any { return at }}}}, nil
		}})
		rows, err := open(t, optionsOf(server)).Read(t.Context(), models.Model{Table: "t"})
		if err != nil {
			t.Fatal(err)
		}
		if rows.Next() || rows.Err() == nil || !strings.Contains(rows.Err().Error(), "1969") {
			t.Errorf("%+v gave a row, %v", at, rows.Err())
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}
