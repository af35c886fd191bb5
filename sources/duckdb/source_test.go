package duckdb_test

import (
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"coho/models"
	"coho/sources"
	"coho/sources/duckdb"
	"coho/sources/sourcetest"
)

func query(sql string) models.Model { return models.Model{Name: "m", SQL: sql} }

func oneLine(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has several lines", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := duckdb.Open(duckdb.Options{Threads: -1}); err == nil {
		t.Error("a negative number of threads is taken")
	}
}

// TestOddDirectories: files are found beside a config wherever it lies.
func TestOddDirectories(t *testing.T) {
	for _, name := range []string{"a,b", "it's", "two words", "ü"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x.csv"), []byte("k,v\n1,a\n2,b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := duckdb.Open(duckdb.Options{Dir: dir})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, rows := sourcetest.ReadAll(t, s, models.Model{Name: "m", SQL: "SELECT * FROM read_csv('x.csv')", PrimaryKey: []string{"k"}}); len(rows) != 2 {
			t.Errorf("%s: %d rows", name, len(rows))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDatabaseErrors(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.duckdb")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(build(t, "CREATE TABLE t AS SELECT range AS a, 'x' || range AS b FROM range(100000)"))
	if err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(dir, "torn.duckdb")
	for i := 16 << 10; i < len(good); i += 997 {
		good[i] ^= 0x55
	}
	if err := os.WriteFile(torn, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options duckdb.Options
		want    string
	}{
		"missing":          {duckdb.Options{Path: filepath.Join(dir, "none.duckdb")}, "none.duckdb: no such file"},
		"directory":        {duckdb.Options{Path: dir}, "is a directory"},
		"no database":      {duckdb.Options{Path: garbage}, "not a valid DuckDB database file"},
		"corrupt":          {duckdb.Options{Path: torn}, "torn.duckdb"},
		"bad memory limit": {duckdb.Options{MemoryLimit: "lots"}, "lots"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, c.options)
			rows, err := s.Read(t.Context(), models.Model{Table: "t"})
			if err == nil {
				for rows.Next() {
				}
				err = rows.Err()
				rows.Close()
			}
			oneLine(t, err, c.want)
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "none.duckdb")); !errors.Is(err, os.ErrNotExist) {
		t.Error("reading made the database")
	}
}

// TestHoldDatabase is the body of the child of TestDatabaseOfAnotherProcess:
// it holds a database open for writing until its input ends.
func TestHoldDatabase(t *testing.T) {
	path := os.Getenv("DUCKDB_HOLD")
	if path == "" {
		return
	}
	db, err := sql.Open("duckdb", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("HELD\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	if _, err := db.Exec("INSERT INTO t VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseOfAnotherProcess(t *testing.T) {
	path := build(t, "CREATE TABLE t AS SELECT 1 AS a")
	s := open(t, duckdb.Options{Path: path})
	if _, rows := sourcetest.ReadAll(t, s, models.Model{Table: "t"}); len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}

	// The source is open but runs nothing: another process may write.
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldDatabase$")
	cmd.Env = append(os.Environ(), "DUCKDB_HOLD="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 64)
	if n, err := stdout.Read(held); err != nil || !strings.Contains(string(held[:n]), "HELD") {
		t.Fatalf("the child said %q: %v", held[:n], err)
	}
	oneLine(t, s.Ping(t.Context()), "warehouse.duckdb", "lock")
	stdin.Close()
	if _, err := stdout.Read(held); err != nil { // PASS
		t.Log(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, rows := sourcetest.ReadAll(t, s, models.Model{Table: "t"}); len(rows) != 2 {
		t.Errorf("%d rows after the other process wrote", len(rows))
	}
}

func TestReadersShareADatabase(t *testing.T) {
	path := build(t, "CREATE TABLE t AS SELECT range AS a FROM range(50000)")
	var open2 []sources.Rows
	for range 2 {
		s := open(t, duckdb.Options{Path: path, Threads: 1, MemoryLimit: "256MB"})
		rows, err := s.Read(t.Context(), models.Model{Table: "t"})
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		open2 = append(open2, rows)
	}
	for _, rows := range open2 {
		n := 0
		for rows.Next() {
			n++
		}
		if n != 50000 || rows.Err() != nil {
			t.Errorf("%d rows, %v", n, rows.Err())
		}
	}
}

// TestFiles reads Parquet, CSV and JSON by names relative to Dir.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, `COPY (SELECT 1 AS id, 'ä' AS name, DATE '2024-01-02' AS day UNION ALL SELECT 2, NULL, NULL ORDER BY id) TO '`+filepath.Join(dir, "in", "a.parquet")+`'`)
	for name, text := range map[string]string{
		"in/a.csv":    "id,name,day\n1,ä,2024-01-02\n2,,\n",
		"in/a.json":   `[{"id":1,"name":"ä","day":"2024-01-02"},{"id":2,"name":null,"day":null}]`,
		"in/a.ndjson": "{\"id\":1,\"name\":\"ä\",\"day\":\"2024-01-02\"}\n{\"id\":2}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A file of the same name in the working directory is not read.
	t.Chdir(t.TempDir())
	if err := os.Mkdir("in", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("in/a.csv", []byte("id,name,day\n3,wrong,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, duckdb.Options{Dir: dir})
	for _, from := range []string{
		"read_parquet('in/a.parquet')", "read_parquet('in/*.parquet')", "'in/a.parquet'", "read_csv('in/a.csv')",
		"read_json('in/a.json')", "read_json('in/a.ndjson')", "read_parquet('" + filepath.Join(dir, "in", "a.parquet") + "')",
	} {
		_, rows := sourcetest.ReadAll(t, s, query("SELECT id, name, day FROM "+from+" ORDER BY id"))
		if len(rows) != 2 || rows[0][0].Int() != 1 || rows[0][1].Text() != "ä" || rows[0][2].Text() != "2024-01-02" || !rows[1][1].IsNull() || !rows[1][2].IsNull() {
			t.Errorf("%s gave %v", from, rows)
		}
	}
	for sql, want := range map[string]string{
		"SELECT * FROM read_parquet('in/none.parquet')": "in/none.parquet",
		"SELECT * FROM read_csv('none.csv')":            "none.csv",
		"SELECT * FROM read_parquet('in/a.csv')":        "a.csv",
		"SELECT * FROM no_such_table":                   "no_such_table does not exist",
		"SELECT nope FROM read_csv('in/a.csv')":         `"nope" not found`,
		"COPY (SELECT 1) TO 'out.csv'":                  "not a query",
		"CREATE TABLE t (a int)":                        "not a query",
		"SELECT ?":                                      "parameter",
		"SELECT unnest($a)":                             "parameter",
	} {
		_, err := s.Describe(t.Context(), query(sql))
		oneLine(t, err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "out*")); len(left) != 0 {
		t.Errorf("a refused statement wrote %v", left)
	}
}

// TestMemoryOfALargeResult reads five million wide rows within a limit that
// the result as a whole would pass many times over.
func TestMemoryOfALargeResult(t *testing.T) {
	s := open(t, duckdb.Options{MemoryLimit: "64MB", Threads: 2})
	rows, err := s.Read(t.Context(), query("SELECT range AS id, repeat('x', 100) || range AS a, repeat('y', 100) || range AS b FROM range(5000000)"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	if n != 5_000_000 || rows.Err() != nil {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}

func TestTableNames(t *testing.T) {
	path := build(t, `CREATE SCHEMA s`, `CREATE TABLE s."Odd ""name"" a.b" AS SELECT 7 AS v`, `CREATE TABLE plain AS SELECT 7 AS v`)
	s := open(t, duckdb.Options{Path: path})
	for _, name := range []string{`s."Odd ""name"" a.b"`, `S."odd ""name"" a.b"`, "plain", "PLAIN", "main.plain", "warehouse.main.plain", `"plain"`} {
		if _, rows := sourcetest.ReadAll(t, s, models.Model{Table: name}); len(rows) != 1 || rows[0][0].Int() != 7 {
			t.Errorf("%s gave %v", name, rows)
		}
	}
}
