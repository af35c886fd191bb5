package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"slices"
	"sync"
	"testing"

	"coho/models"
	"coho/sources"
	"coho/sources/postgres/postgrestest"
)

// partFixtures are tables of well over a thousand pages, but for the small one.
const partFixtures = `
CREATE TABLE large AS SELECT g AS id, repeat('x', 400) AS filler FROM generate_series(1, 30000) AS s(g);
CREATE TABLE small AS SELECT g AS id FROM generate_series(1, 1000) AS s(g);
CREATE VIEW seen AS SELECT * FROM large;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM large;
CREATE TABLE parent (LIKE large);
INSERT INTO parent SELECT * FROM large;
CREATE TABLE child () INHERITS (parent);
INSERT INTO child SELECT id + 30000, filler FROM large;
CREATE TABLE parted (LIKE large) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (20000);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (20000) TO (40000);
INSERT INTO parted SELECT * FROM large;
CREATE TABLE guarded (LIKE large);
INSERT INTO guarded SELECT * FROM large;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
`

// all reads rows to their end, closes them and returns copies.
func all(t *testing.T, rows sources.Rows) (frames [][]byte) {
	t.Helper()
	for rows.Next() {
		frames = append(frames, bytes.Clone(rows.Row()))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Error(err)
	}
	return frames
}

// TestReadParts: a table of some size comes in two parts that are its rows as of
// one moment, in the same order each time; what cannot be divided comes whole.
func TestReadParts(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, partFixtures)
	server.Exec(t, dsn, "VACUUM ANALYZE")
	for _, c := range []struct {
		name  string
		model models.Model
		parts int
		rows  int
	}{
		{"a table", models.Model{Table: "large"}, 2, 30_000},
		{"a partition", models.Model{Table: "public.parted_1"}, 2, 19_999},
		{"a small table", models.Model{Table: "small"}, 1, 1000},
		{"a query", models.Model{SQL: "SELECT * FROM large"}, 1, 30_000},
		{"a view", models.Model{Table: "seen"}, 1, 30_000},
		{"a materialized view", models.Model{Table: "kept"}, 1, 30_000},
		{"a table with children", models.Model{Table: "parent"}, 1, 60_000},
		{"a partitioned table", models.Model{Table: "parted"}, 1, 30_000},
		{"a table with row security", models.Model{Table: "guarded"}, 1, 30_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, dsn)
			whole, err := s.Read(t.Context(), c.model)
			if err != nil {
				t.Fatal(err)
			}
			want := all(t, whole)
			if len(want) != c.rows {
				t.Fatalf("%d rows, want %d", len(want), c.rows)
			}
			for range 2 {
				parts, err := s.ReadParts(t.Context(), c.model)
				if err != nil {
					t.Fatal(err)
				}
				if len(parts) != c.parts {
					t.Errorf("%d parts, want %d", len(parts), c.parts)
				}
				if v := parts[0].Schema().Version(); v != whole.Schema().Version() || v != parts[len(parts)-1].Schema().Version() {
					t.Error("the parts' schema is another one")
				}
				got := make([][][]byte, len(parts))
				var expected int64
				var wg sync.WaitGroup
				for i, p := range parts {
					n, ok := p.(sources.Estimator).Estimate()
					if !ok {
						t.Error("no estimate")
					}
					expected += n
					wg.Go(func() { got[i] = all(t, p) })
				}
				wg.Wait()
				if !slices.EqualFunc(slices.Concat(got...), want, bytes.Equal) {
					t.Error("the parts are not the table's rows in its order")
				}
				for i, g := range got {
					if len(parts) > 1 && len(g) < c.rows/3 {
						t.Errorf("part %d has %d of %d rows", i, len(g), c.rows)
					}
				}
				if expected < int64(c.rows)*8/10 || expected > int64(c.rows)*12/10 {
					t.Errorf("%d rows were expected, there are %d", expected, c.rows)
				}
			}
		})
	}
}

// TestReadPartsRefused: where the server refuses the second connection, the table
// is read over the first, which is kept: closed, it would count for a while yet.
func TestReadPartsRefused(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, partFixtures)
	server.Exec(t, dsn, "CREATE ROLE lone LOGIN PASSWORD 'lone' CONNECTION LIMIT 1; GRANT SELECT ON large TO lone")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("lone", "lone")
	s := open(t, u.String())
	parts, err := s.ReadParts(t.Context(), models.Model{Table: "large"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range parts {
		n += len(all(t, p))
	}
	if len(parts) != 1 || n != 30_000 {
		t.Errorf("%d rows in %d parts, want 30000 in 1", n, len(parts))
	}
}

// TestReadPartsAreOfOneMoment: what others write between the first row and the last
// is in neither part.
func TestReadPartsAreOfOneMoment(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, partFixtures)
	parts, err := open(t, dsn).ReadParts(t.Context(), models.Model{Table: "large"})
	if err != nil {
		t.Fatal(err)
	}
	server.Exec(t, dsn, "DELETE FROM large WHERE id % 2 = 0; INSERT INTO large SELECT g, 'new' FROM generate_series(1, 50000) AS s(g)")
	n := 0
	for _, p := range parts {
		n += len(all(t, p))
	}
	if len(parts) != 2 || n != 30_000 {
		t.Errorf("%d rows in %d parts, want 30000 in 2", n, len(parts))
	}
}

// TestReadPartsCanceled: parts end with their context, and nothing stays open.
func TestReadPartsCanceled(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, partFixtures)
	ctx, cancel := context.WithCancel(t.Context())
	s := open(t, dsn)
	parts, err := s.ReadParts(ctx, models.Model{Table: "large"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if !p.Next() {
			t.Fatal(p.Err())
		}
	}
	cancel()
	for i, p := range parts {
		for p.Next() {
		}
		if !errors.Is(p.Err(), context.Canceled) {
			t.Errorf("part %d ended with %v", i, p.Err())
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rows := server.Query(t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'coho' AND datname = current_database()")
	if string(rows[0][0]) != "0" {
		t.Errorf("%s connections are left", rows[0][0])
	}
}

// TestReadAllocates: the unchanged path rests on reading a row without allocating.
func TestReadAllocatesNothingARow(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, partFixtures)
	rows, err := open(t, dsn).Read(t.Context(), models.Model{Table: "large"})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if got := testing.AllocsPerRun(20_000, func() {
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
	}); got != 0 {
		t.Errorf("%v allocations a row", got)
	}
}
