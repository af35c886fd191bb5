//go:build warehouses

package snowflake

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"coho/models"
	"coho/sources/sourcetest"
)

// peer starts github.com/nnnkkk7/snowflake-emulator and signs in. It answers
// in JSON alone, and gives numbers and times under names and in forms that are
// not Snowflake's, and NULL as an empty text; what it has in common with Snowflake is asked of it here,
// and the rest of snowflaketest.
func peer(t *testing.T) *Source {
	t.Helper()
	port := sourcetest.FreePort(t)
	sourcetest.StartPeer(t, "snowflake-emulator", nil, "-port="+port).Await(t, "127.0.0.1:"+port)
	return open(t, Options{Account: "test", Host: "http://127.0.0.1:" + port, User: "coho", Password: "secret-password", Database: "TEST_DB", Schema: "PUBLIC"})
}

func TestPeer(t *testing.T) {
	s := peer(t)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatalf("Ping: %v", err)
	}
	for _, c := range []struct {
		sql  string
		want models.Value
	}{
		{"SELECT 'héé 🎈' AS v", models.TextValue("héé 🎈")},
		{"SELECT '' AS v", models.TextValue("")},
		{"SELECT TRUE AS v", models.BoolValue(true)},
		{"SELECT FALSE AS v -- end;", models.BoolValue(false)},
		{"WITH x AS (SELECT 'seven' AS v) SELECT * FROM x;", models.TextValue("seven")},
		{"SELECT repeat('ä', 524288) AS v", models.TextValue(strings.Repeat("ä", 524288))},
	} {
		described, err := s.Describe(t.Context(), models.Model{SQL: c.sql})
		if err != nil {
			t.Errorf("Describe %s: %v", c.sql, err)
			continue
		}
		schema, rows := sourcetest.ReadAll(t, s, models.Model{SQL: c.sql})
		if described.Version() != schema.Version() {
			t.Errorf("%s: Describe gives version %q, Read %q", c.sql, described.Version(), schema.Version())
		}
		if len(rows) != 1 || !sourcetest.Equal(rows[0][0], c.want) {
			t.Errorf("%s gave %v", c.sql, rows)
		}
	}
}

// TestPeerRows reads many rows, twice at once.
func TestPeerRows(t *testing.T) {
	s := peer(t)
	const n = 50_000
	m := models.Model{SQL: "SELECT CAST(g AS VARCHAR) AS id, CONCAT('row ', CAST(g AS VARCHAR)) AS label FROM generate_series(1, " + strconv.Itoa(n) + ") AS s(g) ORDER BY g"}
	first, err := s.Read(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, rows := sourcetest.ReadAll(t, s, m)
	if len(rows) != n || rows[n-1][1].Text() != "row "+strconv.Itoa(n) {
		t.Fatalf("%d rows", len(rows))
	}
	count := 0
	for first.Next() {
		count++
	}
	if first.Err() != nil || count != n {
		t.Errorf("%d rows, %v", count, first.Err())
	}
	if _, none := sourcetest.ReadAll(t, s, models.Model{SQL: "SELECT 'x' AS v WHERE FALSE"}); len(none) != 0 {
		t.Errorf("an empty result has %d rows", len(none))
	}
}

func TestPeerErrors(t *testing.T) {
	s := peer(t)
	for sql, want := range map[string]string{
		"SELECT * FROM no_such_table_here": "no_such_table_here",
		"SELEC 1":                          "syntax error",
		"SELECT no_such_column":            "no_such_column",
		"SELECT error('boom') AS v":        "boom",
		"DELETE FROM things":               "syntax error",
		"SELECT 1; DROP TABLE things":      "several statements",
	} {
		_, err := s.Read(t.Context(), models.Model{SQL: sql})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want one line with %q", sql, err, want)
		}
		var answer *Error
		if want != "several statements" && (!errors.As(err, &answer) || answer.Number == 0) {
			t.Errorf("%s: %v has no code", sql, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx, models.Model{SQL: "SELECT 'x' AS v"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Read = %v, want context.Canceled", err)
	}
}
