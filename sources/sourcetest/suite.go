package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coho/models"
	"coho/sources"
)

// Harness is how the suite reaches one kind of warehouse.
type Harness struct {
	// Open returns a new source over the harness's warehouse. The suite
	// closes it.
	Open func(tb testing.TB) sources.Source

	// Types are the warehouse's types, each value compared.
	Types []Type

	// Table is a table of the warehouse, as a model names it, with the rows
	// (1, 'one') and (2, NULL) in columns id and label.
	Table string

	// Slow is a query that gives no row within a minute.
	Slow string

	// Failing is a query that gives rows and then fails, and FailingError a
	// part of the warehouse's message.
	Failing, FailingError string

	// FailsWhole says that the warehouse has a result whole before it gives
	// its first row, so that none comes before the failure.
	FailsWhole bool

	// Refused are statements that must not run, and a part of each one's
	// error.
	Refused map[string]string

	// Connections counts what sources hold open in the warehouse; nil where
	// nothing outside the process is held.
	Connections func(tb testing.TB) int

	// Dialect is how the warehouse's SQL differs from PostgreSQL's.
	Dialect Dialect

	// Only names the tests that run, where other runs of the suite over the same
	// warehouse show the rest; nil: all.
	Only []string
}

// Dialect is how a warehouse's SQL differs from PostgreSQL's. What is left out
// is as there.
type Dialect struct {
	// Numbers is an item of FROM that gives the rows 1 to n in a column g.
	Numbers func(n int) string

	// Name quotes a column's name.
	Name func(name string) string

	// Text makes a text of a number, Mod the rest of a division.
	Text func(expr string) string
	Mod  func(expr string, n int) string

	// Endless is a query, with columns id and label, of more rows than any
	// test reads to the end, that streams from the start.
	Endless string

	// OtherNumber is an expression of another type than the numbers of rows.
	OtherNumber string

	// BadQueries are queries that fail, each with a part of its error.
	BadQueries map[string]string

	// SevenToo are queries of one row, 7, besides those that all warehouses
	// take.
	SevenToo []string

	// Rows is how many rows the test of many reads; a million where it is 0,
	// and fewer only where a test's own peer cannot hold as many.
	Rows int

	// Decoded says that the driver decodes rows before the source sees them,
	// so that allocations a row cannot be avoided.
	Decoded bool
}

// filled returns the dialect with PostgreSQL's ways for what is left out.
func (d Dialect) filled() Dialect {
	if d.Numbers == nil {
		d.Numbers = func(n int) string { return "generate_series(1, " + strconv.Itoa(n) + ") AS s(g)" }
	}
	if d.Name == nil {
		d.Name = func(name string) string { return `"` + name + `"` }
	}
	if d.Text == nil {
		d.Text = func(expr string) string { return "CAST(" + expr + " AS text)" }
	}
	if d.Mod == nil {
		d.Mod = func(expr string, n int) string { return fmt.Sprintf("%s %% %d", expr, n) }
	}
	if d.Endless == "" {
		// As a single series PostgreSQL would build it whole first.
		d.Endless = "SELECT a.g AS id, 'row ' || b.g AS label FROM generate_series(1, 10000) AS a(g), generate_series(1, 10000) AS b(g)"
	}
	if d.OtherNumber == "" {
		d.OtherNumber = "CAST(1 AS smallint)"
	}
	if d.BadQueries == nil {
		d.BadQueries = map[string]string{
			"SELECT *\nFROM no_such_table_here": "no_such_table_here",
			"SELEC 1":                           "SELEC",
			"SELECT no_such_column FROM generate_series(1, 1) AS s(g)": "no_such_column",
			"SELECT $1": "parameter",
		}
	}
	if d.SevenToo == nil {
		d.SevenToo = []string{"VALUES (7)"}
	}
	if d.Rows == 0 {
		d.Rows = millionRows
	}
	return d
}

// series is a query of n rows, a number and a text.
func (d Dialect) series(n int) models.Model {
	return query("SELECT g AS " + d.Name("id") + ", " + "CONCAT('row ', " + d.Text("g") + ") AS " + d.Name("label") + " FROM " + d.Numbers(n))
}

const (
	patience    = 20 * time.Second // for what should happen at once
	millionRows = 1_000_000
	flatHeap    = 8 << 20   // bytes the heap may grow over a million rows
	flatMemory  = 128 << 20 // bytes the process may grow over them
)

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	h.Dialect = h.Dialect.filled()
	ran := 0
	defer func() {
		if h.Only != nil && ran != len(h.Only) {
			t.Errorf("%d tests have the names %q", ran, h.Only)
		}
	}()
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness, sources.Source)
	}{
		{"types", testTypes},
		{"all types in one row", testTypesTogether},
		{"ping and describe", testDescribe},
		{"empty result", testEmpty},
		{"500 columns", testWide},
		{"text of a megabyte", testLong},
		{"a million rows in flat memory", testMillion},
		{"cancel between rows", testCancelStream},
		{"cancel while the warehouse works", testCancelWait},
		{"context that has ended", testCanceledBefore},
		{"bad query", testBadQuery},
		{"failure after some rows", testFailing},
		{"refused statements", testRefused},
		{"comments and semicolons", testComments},
		{"table", testTable},
		{"two reads at once", testTwoReads},
		{"close", testClose},
		{"close of the source ends its rows", testCloseSource},
	} {
		if h.Only != nil && !slices.Contains(h.Only, c.name) {
			continue
		}
		ran++
		t.Run(c.name, func(t *testing.T) {
			ignore := goleak.IgnoreCurrent()
			s := h.Open(t)
			c.test(t, h, s)
			for range 2 {
				if err := s.Close(); err != nil {
					t.Errorf("Source.Close: %v", err)
				}
			}
			goleak.VerifyNone(t, ignore)
			if h.Connections != nil {
				await(t, "connections to go", func() bool { return h.Connections(t) == 0 })
			}
		})
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

func query(sql string) models.Model { return models.Model{Name: "m", SQL: sql} }

// testTypes reads each value and then a NULL of the same type.
func testTypes(t *testing.T, h Harness, s sources.Source) {
	for _, typ := range h.Types {
		t.Run(typ.Name, func(t *testing.T) {
			m := query("SELECT v AS " + h.Dialect.Name("v") + " FROM (SELECT 1 AS g, " + typ.SQL + " AS v UNION ALL SELECT 2, NULL) AS s ORDER BY g")
			if typ.Err != "" {
				testTypeError(t, s, m, typ)
				return
			}
			schema, rows := ReadAll(t, s, m)
			if len(rows) != 2 {
				t.Fatalf("%d rows", len(rows))
			}
			if got := rows[0][0]; !Equal(got, typ.Want) {
				t.Errorf("got %s, want %s", Show(got), Show(typ.Want))
			}
			if !Equal(rows[1][0], typ.NullIs) {
				t.Errorf("NULL became %s", Show(rows[1][0]))
			}
			want := typ.Kind
			if want == models.Null {
				want = typ.Want.Kind()
			}
			c := schema.Columns()[0]
			if c.Kind != want || c.Name != "v" || c.Type == "" {
				t.Errorf("column is %+v (%s), want kind %s", c, c.Kind, want)
			}
		})
	}
}

func testTypeError(t *testing.T, s sources.Source, m models.Model, typ Type) {
	rows, err := s.Read(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer closeRows(t, rows)
	cells := make([][]byte, 1)
	if !rows.Next() {
		t.Fatalf("no row: %v", rows.Err())
	}
	if err := models.SplitFrame(rows.Row(), cells); err != nil {
		t.Fatal(err)
	}
	v, err := rows.Schema().Decode(0, cells[0])
	if err == nil || !strings.Contains(err.Error(), typ.Err) || !strings.Contains(err.Error(), `"v"`) {
		t.Errorf("Decode = %s, %v; want an error with %q and the column", Show(v), err, typ.Err)
	}
	if key, err := rows.Schema().AppendKey([]byte("x"), 0, cells[0]); err == nil || string(key) != "x" {
		t.Errorf("AppendKey = %q, %v; want an error and nothing appended", key, err)
	}
	if !rows.Next() || rows.Next() || rows.Err() != nil {
		t.Errorf("one row's error ended the rows: %v", rows.Err())
	}
}

// testTypesTogether reads one row of all types, so that a cell that disturbs
// its neighbours shows.
func testTypesTogether(t *testing.T, h Harness, s sources.Source) {
	var list []string
	var types []Type
	for _, typ := range h.Types {
		if typ.Err == "" {
			list = append(list, fmt.Sprintf("%s AS c%d", typ.SQL, len(types)))
			types = append(types, typ)
		}
	}
	_, rows := ReadAll(t, s, query("SELECT "+strings.Join(list, ", ")))
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, typ := range types {
		if !Equal(rows[0][i], typ.Want) {
			t.Errorf("%s: got %s, want %s", typ.Name, Show(rows[0][i]), Show(typ.Want))
		}
	}
}

func testDescribe(t *testing.T, h Harness, s sources.Source) {
	if err := s.Ping(t.Context()); err != nil {
		t.Fatalf("Ping: %v", err)
	}
	m := h.Dialect.series(3)
	described, err := s.Describe(t.Context(), m)
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	read, rows := ReadAll(t, s, m)
	if len(rows) != 3 || rows[2][0].Text() != "3" || rows[2][1].Text() != "row 3" {
		t.Errorf("rows = %v", rows)
	}
	if !slices.Equal(described.Columns(), read.Columns()) || len(read.Columns()) != 2 || read.Columns()[1].Name != "label" {
		t.Errorf("Describe gives columns %v, Read %v", described.Columns(), read.Columns())
	}
	if described.Version() == "" || described.Version() != read.Version() {
		t.Errorf("Describe gives version %q, Read %q", described.Version(), read.Version())
	}
	other, err := s.Describe(t.Context(), query("SELECT "+h.Dialect.OtherNumber+" AS "+h.Dialect.Name("id")+", 'x' AS "+h.Dialect.Name("label")))
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	if other.Version() == described.Version() {
		t.Errorf("another column type has the same version %q", other.Version())
	}
}

func testEmpty(t *testing.T, h Harness, s sources.Source) {
	schema, rows := ReadAll(t, s, h.Dialect.series(0))
	if len(rows) != 0 || len(schema.Columns()) != 2 {
		t.Errorf("%d rows of %d columns", len(rows), len(schema.Columns()))
	}
}

func testWide(t *testing.T, h Harness, s sources.Source) {
	list := make([]string, 500)
	for i := range list {
		list[i] = fmt.Sprintf("CASE WHEN %s = 0 THEN g + %d END AS c%d", h.Dialect.Mod("g", 2), i, i)
	}
	_, rows := ReadAll(t, s, query("SELECT "+strings.Join(list, ", ")+" FROM "+h.Dialect.Numbers(100)+" ORDER BY g"))
	if len(rows) != 100 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, row := range rows {
		for c, v := range row {
			if odd := i%2 == 0; odd != v.IsNull() || !odd && v.Int() != int64(i+1+c) {
				t.Fatalf("row %d column %d is %s", i+1, c, Show(v))
			}
		}
	}
}

// testLong mixes texts of a megabyte with short ones and empty ones.
func testLong(t *testing.T, h Harness, s sources.Source) {
	third := h.Dialect.Mod("g", 3)
	m := query("SELECT repeat('ä', CASE WHEN " + third + " = 0 THEN 524288 WHEN " + third + " = 1 THEN 0 ELSE 5 END) AS v, g FROM " + h.Dialect.Numbers(30) + " ORDER BY g")
	_, rows := ReadAll(t, s, m)
	if len(rows) != 30 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, row := range rows {
		want := strings.Repeat("ä", []int{524288, 0, 5}[(i+1)%3])
		if row[0].Str() != want || row[0].IsNull() || row[1].Int() != int64(i+1) {
			t.Errorf("row %d has %d bytes, want %d", i+1, len(row[0].Str()), len(want))
		}
	}
}

// testMillion reads a million rows. From the first tenth on nothing may be
// allocated by the row, and neither the heap nor the process may grow.
func testMillion(t *testing.T, h Harness, s sources.Source) {
	many := h.Dialect.Rows
	rows, err := s.Read(t.Context(), h.Dialect.series(many))
	if err != nil {
		t.Fatal(err)
	}
	defer closeRows(t, rows)
	var before, after runtime.MemStats
	var residentBefore int
	cells := make([][]byte, 2)
	key := make([]byte, 0, 64)
	sum, n := 0, 0
	for rows.Next() {
		if err := models.SplitFrame(rows.Row(), cells); err != nil {
			t.Fatal(err)
		}
		if key, err = rows.Schema().AppendKey(key[:0], 0, cells[0]); err != nil {
			t.Fatal(err)
		}
		id := 0
		for _, c := range key {
			id = 10*id + int(c-'0')
		}
		sum += id
		if n++; n == many/10 {
			runtime.GC()
			runtime.ReadMemStats(&before)
			residentBefore = resident(t)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	allocs := float64(after.Mallocs-before.Mallocs) / (0.9 * float64(many))
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n != many || sum != many*(many+1)/2 {
		t.Errorf("%d rows with sum %d", n, sum)
	}
	if allocs > 0.05 && !h.Dialect.Decoded {
		t.Errorf("%.3f allocations a row", allocs)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > flatHeap {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if grown := resident(t) - residentBefore; grown > flatMemory {
		t.Errorf("the process grew by %d bytes", grown)
	}
}

// resident is the process's resident memory in bytes; 0 where the system does
// not say.
func resident(tb testing.TB) int {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		tb.Fatal(err)
	}
	fields := strings.Fields(string(b))
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func testCancelStream(t *testing.T, h Harness, s sources.Source) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rows, err := s.Read(ctx, query(h.Dialect.Endless))
	if err != nil {
		t.Fatal(err)
	}
	defer closeRows(t, rows)
	for i := range 10_000 {
		if !rows.Next() {
			t.Fatalf("row %d: %v", i, rows.Err())
		}
	}
	cancel()
	expectCanceled(t, rows)
}

// expectCanceled reads until the rows end, which must be soon.
func expectCanceled(t *testing.T, rows sources.Rows) {
	t.Helper()
	start := time.Now()
	for rows.Next() {
		if time.Since(start) > patience {
			t.Fatal("rows go on after their context ended")
		}
	}
	if took := time.Since(start); took > patience {
		t.Errorf("the rows took %s to end", took)
	}
	if err := rows.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("Err = %v, want context.Canceled", err)
	}
	if rows.Next() {
		t.Error("Next after the end gave a row")
	}
}

func testCancelWait(t *testing.T, h Harness, s sources.Source) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	timer := time.AfterFunc(200*time.Millisecond, cancel)
	defer timer.Stop()
	start := time.Now()
	rows, err := s.Read(ctx, query(h.Slow))
	if err == nil {
		defer closeRows(t, rows)
		expectCanceled(t, rows)
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("Read = %v, want context.Canceled", err)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("the end took %s", took)
	}
}

func testCanceledBefore(t *testing.T, h Harness, s sources.Source) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ping = %v", err)
	}
	if _, err := s.Describe(ctx, h.Dialect.series(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Describe = %v", err)
	}
	if _, err := s.Read(ctx, h.Dialect.series(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Read = %v", err)
	}
}

// runError returns the error of reading m to its end.
func runError(t *testing.T, s sources.Source, m models.Model) (n int, _ error) {
	t.Helper()
	rows, err := s.Read(t.Context(), m)
	if err != nil {
		return 0, err
	}
	defer closeRows(t, rows)
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

func checkMessage(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error = %v; want one line with %q", err, want)
	}
}

func testBadQuery(t *testing.T, h Harness, s sources.Source) {
	bad := map[string]string{"": "neither a query nor a table", "  \n": "neither a query nor a table", "-- empty": ""}
	maps.Copy(bad, h.Dialect.BadQueries)
	for sql, want := range bad {
		_, err := s.Describe(t.Context(), query(sql))
		checkMessage(t, err, want)
		n, err := runError(t, s, query(sql))
		checkMessage(t, err, want)
		if n != 0 {
			t.Errorf("%q gave %d rows", sql, n)
		}
	}
}

func testFailing(t *testing.T, h Harness, s sources.Source) {
	n, err := runError(t, s, query(h.Failing))
	checkMessage(t, err, h.FailingError)
	if h.FailsWhole != (n == 0) {
		t.Errorf("the query gave %d rows before it failed", n)
	}
}

func testRefused(t *testing.T, h Harness, s sources.Source) {
	for sql, want := range h.Refused {
		_, err := runError(t, s, query(sql))
		checkMessage(t, err, want)
	}
	if _, err := runError(t, s, query("SELECT 1; SELECT 2")); err == nil || !strings.Contains(err.Error(), "several statements") {
		t.Errorf("two statements: %v", err)
	}
	_, rows := ReadAll(t, s, models.Model{Table: h.Table})
	if len(rows) != 2 {
		t.Errorf("the table has %d rows after the refused statements", len(rows))
	}
}

func testComments(t *testing.T, h Harness, s sources.Source) {
	for _, sql := range append([]string{
		"SELECT 7 AS v;", "SELECT 7 AS v ; \n", "-- why\nSELECT 7 AS v -- end", "/* a; b */ SELECT 7 AS v; -- done",
		"WITH x AS (SELECT 7 AS v) SELECT * FROM x", "(SELECT 7 AS v)",
	}, h.Dialect.SevenToo...) {
		_, rows := ReadAll(t, s, query(sql))
		if len(rows) != 1 || rows[0][0].Int() != 7 {
			t.Errorf("%q gave %v", sql, rows)
		}
	}
}

func testTable(t *testing.T, h Harness, s sources.Source) {
	schema, rows := ReadAll(t, s, models.Model{Table: h.Table})
	if c := schema.Columns(); len(c) != 2 || c[0].Name != "id" || c[1].Name != "label" {
		t.Errorf("columns = %v", c)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	slices.SortFunc(rows, func(a, b []models.Value) int { return int(a[0].Int() - b[0].Int()) })
	if rows[0][1].Text() != "one" || rows[1][0].Int() != 2 || !rows[1][1].IsNull() {
		t.Errorf("rows = %v", rows)
	}
	for _, bad := range []string{`no_such_table`, `x"; DROP TABLE y`, `a.b.c.d`, `"open`, `a..b`, `.`, `"a"b`, `t; SELECT 1`} {
		if _, err := runError(t, s, models.Model{Table: bad}); err == nil {
			t.Errorf("table %s was read", bad)
		}
	}
}

func testTwoReads(t *testing.T, h Harness, s sources.Source) {
	const n = 20_000
	var open [2]sources.Rows
	for i := range open {
		rows, err := s.Read(t.Context(), query("SELECT g + "+strconv.Itoa(i)+" AS v FROM "+h.Dialect.Numbers(n)+" ORDER BY g"))
		if err != nil {
			t.Fatal(err)
		}
		defer closeRows(t, rows)
		open[i] = rows
	}
	for i := range n {
		for j, rows := range open {
			cells := make([][]byte, 1)
			if !rows.Next() {
				t.Fatalf("row %d of %d: %v", i, j, rows.Err())
			}
			if err := models.SplitFrame(rows.Row(), cells); err != nil {
				t.Fatal(err)
			}
			if v, err := rows.Schema().Decode(0, cells[0]); err != nil || v.Int() != int64(i+1+j) {
				t.Fatalf("row %d of %d = %v, %v", i, j, v, err)
			}
		}
	}
	for j, rows := range open {
		if rows.Next() || rows.Err() != nil {
			t.Errorf("result %d goes on: %v", j, rows.Err())
		}
	}
}

func testClose(t *testing.T, h Harness, s sources.Source) {
	// At once, in the middle, at the end; twice each.
	for _, n := range []int{0, 1, 5000, 10_000} {
		rows, err := s.Read(t.Context(), h.Dialect.series(10_000))
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			if !rows.Next() {
				t.Fatalf("the rows ended: %v", rows.Err())
			}
		}
		if n == 10_000 && rows.Next() {
			t.Fatal("a row too many")
		}
		for range 2 {
			closeRows(t, rows)
			if rows.Next() || rows.Row() != nil {
				t.Error("a closed result gave a row")
			}
			if complete := n == 10_000; complete != (rows.Err() == nil) {
				t.Errorf("after %d of 10000 rows and Close, Err = %v", n, rows.Err())
			}
		}
		if len(rows.Schema().Columns()) != 2 {
			t.Error("the schema went with the rows")
		}
	}
}

func testCloseSource(t *testing.T, h Harness, s sources.Source) {
	rows, err := s.Read(t.Context(), query(h.Dialect.Endless))
	if err != nil {
		t.Fatal(err)
	}
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for rows.Next() {
		if time.Since(start) > patience {
			t.Fatal("the rows go on after their source was closed")
		}
	}
	checkMessage(t, rows.Err(), "closed")
	closeRows(t, rows)
	for _, err := range []error{
		s.Ping(t.Context()),
		func() error { _, err := s.Describe(t.Context(), h.Dialect.series(1)); return err }(),
		func() error { _, err := s.Read(t.Context(), h.Dialect.series(1)); return err }(),
	} {
		checkMessage(t, err, "closed")
	}
}
