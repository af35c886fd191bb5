package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/models"
	"coho/sources"
	"coho/sources/postgres"
	"coho/sources/postgres/postgrestest"
)

const password = "hush-hush/p@ss word"

// oneLine fails unless err is one line with all of want and without the
// password, however it is printed.
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
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if s := fmt.Sprintf(format, e); strings.Contains(s, "hush-hush") {
				t.Errorf("the error shows the password: %s", s)
			}
		}
	}
}

func source(tb testing.TB, o postgres.Options) *postgres.Source {
	tb.Helper()
	s, err := postgres.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func sqlModel(sql string) models.Model { return models.Model{Name: "m", SQL: sql} }

// drain reads a model to its end.
func drain(t *testing.T, s sources.Source, m models.Model) (n int, err error) {
	t.Helper()
	rows, err := s.Read(t.Context(), m)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

func TestOpenRefusesWhatIsNoDSN(t *testing.T) {
	for name, dsn := range map[string]string{
		"bad port":        "postgres://coho:hush-hush@localhost:port/db",
		"stray slash":     "postgres://coho:hush-hush/x@localhost:5432/db",
		"bad escape":      "postgres://coho:hush-hush%zz@localhost/db",
		"no key":          "hush-hush",
		"open quote":      "host=localhost password='hush-hush",
		"bad sslmode":     "host=localhost password=hush-hush sslmode=perhaps",
		"missing CA file": "host=localhost password=hush-hush sslmode=verify-full sslrootcert=/no/such/file",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgres.Open(postgres.Options{DSN: models.Secret(dsn)})
			oneLine(t, err, "dsn")
		})
	}
	if _, err := postgres.Open(postgres.Options{DSN: "host=localhost", StatementTimeout: -1}); err == nil {
		t.Error("a negative timeout was taken")
	}
}

func TestConnectionErrors(t *testing.T) {
	server := postgrestest.Start(t)
	server.Exec(t, server.DSN("postgres"), "CREATE ROLE reader_e LOGIN PASSWORD '"+password+"'")
	idle, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := idle.Addr().String()
	idle.Close()

	for _, c := range []struct {
		name, dsn string
		want      []string
	}{
		{"refused", "postgres://reader_e:hush-hush@" + free + "/db?sslmode=disable", []string{free, "connection refused"}},
		{"unknown host", "postgres://reader_e:hush-hush@no-such-host.invalid/db", []string{"no-such-host.invalid"}},
		{"no socket", "host=/no/such/dir user=reader_e password=hush-hush dbname=db", []string{"/no/such/dir", "no such file"}},
		{"wrong password", server.DSNFor("reader_e", "hush-hush-wrong", "postgres"), []string{`password authentication failed for user "reader_e"`, "28P01"}},
		{"no password", server.DSNFor("reader_e", "", "postgres"), []string{"reader_e"}},
		{"unknown role", server.DSNFor("nobody_here", "hush-hush", "postgres"), []string{"nobody_here"}},
		{"unknown database", server.DSNFor("reader_e", password, "no_such_db"), []string{`database "no_such_db" does not exist`}},
		{"TLS where there is none", strings.Replace(server.DSNFor("reader_e", password, "postgres"), "sslmode=disable", "sslmode=require", 1), []string{"TLS"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := source(t, postgres.Options{DSN: models.Secret(c.dsn)})
			oneLine(t, s.Ping(t.Context()), append(c.want, "connect to")...)
			_, err := s.Describe(t.Context(), sqlModel("SELECT 1"))
			oneLine(t, err, c.want...)
			_, err = s.Read(t.Context(), sqlModel("SELECT 1"))
			oneLine(t, err, c.want...)
		})
	}
	s := source(t, postgres.Options{DSN: models.Secret(server.DSNFor("reader_e", password, "postgres"))})
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("the right password: %v", err)
	}
}

// TestServerThatDoesNotAnswer meets a server that takes the connection and
// says nothing.
func TestServerThatDoesNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := source(t, postgres.Options{DSN: models.Secret("postgres://a:hush-hush@" + l.Addr().String() + "/db?sslmode=disable&connect_timeout=1")})
	oneLine(t, s.Ping(t.Context()), "no answer within 1s")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping = %v", err)
	}
}

func TestQueryErrors(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, "CREATE ROLE reader_q LOGIN PASSWORD '"+password+"'; CREATE TABLE secret (a int); CREATE VIEW v AS SELECT 1 / (a - 1) AS q FROM generate_series(1, 3) AS g(a)")
	reader := strings.Replace(dsn, "postgres@", "reader_q:hush-hush%2Fp%40ss%20word@", 1)
	s := source(t, postgres.Options{DSN: models.Secret(reader), StatementTimeout: 200 * time.Millisecond})

	_, err := drain(t, s, sqlModel("SELECT 1,\n  'ü', nope\nFROM secret"))
	oneLine(t, err, `column "nope" does not exist at line 2, column 8`, "42703")
	var answer *postgres.Error
	if !errors.As(err, &answer) || answer.Code != "42703" || answer.Line != 2 {
		t.Errorf("error is %#v", err)
	}
	_, err = s.Describe(t.Context(), models.Model{Table: "secret"})
	if err != nil {
		t.Errorf("describe without permission to read: %v", err)
	}
	_, err = drain(t, s, models.Model{Table: "secret"})
	oneLine(t, err, "permission denied for table secret", "42501")
	_, err = drain(t, s, models.Model{Table: "no_such"})
	oneLine(t, err, `relation "no_such" does not exist`)
	_, err = drain(t, s, sqlModel("SELECT pg_sleep(30)"))
	oneLine(t, err, "canceling statement due to statement timeout", "57014")
	// Long enough for the server to plan and compile the join.
	s = source(t, postgres.Options{DSN: models.Secret(reader), StatementTimeout: 2 * time.Second})
	n, err := drain(t, s, sqlModel("SELECT a.g FROM generate_series(1, 10000) AS a(g), generate_series(1, 10000) AS b(g)"))
	oneLine(t, err, "statement timeout")
	if n == 0 {
		t.Error("the timeout came before the first row")
	}
}

func TestServerGoesAwayInMidStream(t *testing.T) {
	server := postgrestest.New(t)
	dsn := server.CreateDatabase(t)
	for name, end := range map[string]func(testing.TB){"stop": server.Stop, "kill": server.Kill} {
		s := source(t, postgres.Options{DSN: models.Secret(dsn)})
		rows, err := s.Read(t.Context(), sqlModel("SELECT a.g, 'some text' FROM generate_series(1, 10000) AS a(g), generate_series(1, 10000) AS b(g)"))
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if !rows.Next() {
				t.Fatal(rows.Err())
			}
		}
		end(t)
		n := 1000
		for rows.Next() {
			n++
		}
		if n == 100_000_000 {
			t.Fatal("all rows came")
		}
		err = rows.Err()
		if err == nil {
			t.Fatalf("%s: the rows ended without an error", name)
		}
		oneLine(t, err)
		if !strings.Contains(err.Error(), "closed the connection") && !strings.Contains(err.Error(), "terminating connection") {
			t.Errorf("%s: %v", name, err)
		}
		rows.Close()
		oneLine(t, s.Ping(t.Context()), "connection refused")
		server.Restart(t)
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("the source does not come back: %v", err)
		}
	}
}

// TestCancelReachesTheServer looks from the server's side: the statement and
// its connection are gone soon after the context ended.
func TestCancelReachesTheServer(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	s := source(t, postgres.Options{DSN: models.Secret(dsn), ApplicationName: "cancel-me"})
	ctx, cancel := context.WithCancelCause(t.Context())
	rows, err := s.Read(ctx, sqlModel("SELECT pg_sleep(600)"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	reason := errors.New("the run was stopped")
	cancel(reason)
	if rows.Next() || !errors.Is(rows.Err(), reason) {
		t.Errorf("Err = %v, want the cause", rows.Err())
	}
	deadline := time.After(20 * time.Second)
	for {
		left := server.Query(t, server.DSN("postgres"), "SELECT query FROM pg_stat_activity WHERE application_name = 'cancel-me'")
		if len(left) == 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("the server still runs %s", left[0][0])
		default:
		}
	}
}

// TestCancelBeforeTheQuery: a cancel request that arrives before the query has
// reached the server ends nothing, so it has to be sent again.
func TestCancelBeforeTheQuery(t *testing.T) {
	server := postgrestest.Start(t)
	server.CreateDatabase(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	canceled := make(chan struct{}) // closed when a cancel request has been delivered
	var accepted, relays sync.WaitGroup
	accepted.Go(func() {
		var once sync.Once
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			relays.Go(func() {
				defer client.Close()
				upstream, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server.Port()))
				if err != nil {
					t.Error(err)
					return
				}
				defer upstream.Close()
				relays.Go(func() { _, _ = io.Copy(client, upstream); client.Close() })
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					isCancel := n == 16 && binary.BigEndian.Uint32(buf[4:]) == 80877102
					if n > 0 && buf[0] == 'B' { // Bind, the query's beginning
						<-canceled
					}
					if _, werr := upstream.Write(buf[:n]); err != nil || werr != nil {
						return
					}
					if isCancel {
						_, _ = io.Copy(io.Discard, upstream) // the server hangs up when it has acted
						once.Do(func() { close(canceled) })
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		accepted.Wait()
		relays.Wait()
	})
	dsn := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", listener.Addr().(*net.TCPAddr).Port)
	s := source(t, postgres.Options{DSN: models.Secret(dsn), ApplicationName: "cancel-early"})
	ctx, cancel := context.WithCancel(t.Context())
	rows, err := s.Read(ctx, sqlModel("SELECT pg_sleep(600)"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := rows.Close(); err != nil {
		t.Error(err)
	}
	if left := server.Query(t, server.DSN("postgres"), "SELECT query FROM pg_stat_activity WHERE application_name = 'cancel-early' AND state = 'active'"); len(left) != 0 {
		t.Errorf("the server still runs %s", left[0][0])
	}
}

// TestSettingsOfTheRoleDoNotShow gives the role other output settings than
// the source's.
func TestSettingsOfTheRoleDoNotShow(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.CreateDatabase(t)
	q := sqlModel("SELECT '2024-07-01 12:00+00'::timestamptz::text AS a, '1 day 2 hours'::interval AS b, 0.1::float8::text AS c, '\\x01ff'::bytea::text AS d, '2024-07-01'::date::text AS e")
	read := func() (version string, cells []string) {
		s := source(t, postgres.Options{DSN: models.Secret(dsn)})
		rows, err := s.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		raw := make([][]byte, 5)
		if err := models.SplitFrame(rows.Row(), raw); err != nil {
			t.Fatal(err)
		}
		for _, c := range raw {
			cells = append(cells, string(c))
		}
		return rows.Schema().Version(), cells
	}
	version, cells := read()
	name := dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn, "?")]
	server.Exec(t, dsn, strings.ReplaceAll(`ALTER DATABASE x SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE x SET IntervalStyle = 'iso_8601';
		ALTER DATABASE x SET extra_float_digits = -5; ALTER DATABASE x SET bytea_output = 'escape'; ALTER DATABASE x SET DateStyle = 'German'`, "DATABASE x", "DATABASE "+name))
	if v, c := read(); v != version || strings.Join(c, "|") != strings.Join(cells, "|") {
		t.Errorf("settings changed the output: %q %q, before %q %q", v, c, version, cells)
	}
	if want := "2024-07-01 12:00:00+00|1 day 02:00:00|0.1|\\x01ff|2024-07-01"; strings.Join(cells, "|") != want {
		t.Errorf("cells = %q", cells)
	}
}
