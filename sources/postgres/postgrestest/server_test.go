//go:build unix

package postgrestest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"coho/sources/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	if os.Getenv("POSTGRESTEST_HOLD") != "" {
		os.Args = append(os.Args[:1], "-test.run=^TestHoldServer$", "-test.v")
	}
	os.Exit(postgrestest.Main(m))
}

func TestServerIsRealAndShared(t *testing.T) {
	s := postgrestest.Start(t)
	if again := postgrestest.Start(t); again != s {
		t.Error("Start started a second server")
	}
	dsn := s.CreateDatabase(t)
	if other := s.CreateDatabase(t); other == dsn {
		t.Error("CreateDatabase returned the same database twice")
	}
	s.Exec(t, dsn, "CREATE TABLE t (a int); INSERT INTO t VALUES (7), (NULL)")
	rows := s.Query(t, dsn, "SELECT a FROM t ORDER BY a")
	if len(rows) != 2 || string(rows[0][0]) != "7" || rows[1][0] != nil {
		t.Errorf("rows = %q", rows)
	}
}

func TestPasswordsAreChecked(t *testing.T) {
	s := postgrestest.Start(t)
	s.Exec(t, s.DSN("postgres"), "CREATE ROLE reader LOGIN PASSWORD 'right'")
	for password, ok := range map[string]bool{"right": true, "wrong": false} {
		conn, err := pgconn.Connect(context.Background(), s.DSNFor("reader", password, "postgres"))
		if (err == nil) != ok {
			t.Errorf("password %s: %v", password, err)
		}
		if err == nil {
			conn.Close(context.Background())
		}
	}
}

func TestRestartKeepsDataAndPort(t *testing.T) {
	s := postgrestest.New(t)
	dsn := s.CreateDatabase(t)
	s.Exec(t, dsn, "CREATE TABLE kept (); CHECKPOINT")
	s.Restart(t)
	s.Query(t, dsn, "SELECT * FROM kept")
	s.Kill(t)
	if conn, err := pgconn.Connect(context.Background(), dsn); err == nil {
		conn.Close(context.Background())
		t.Fatal("connected to a killed server")
	}
	s.Restart(t)
	s.Query(t, dsn, "SELECT * FROM kept")
}

// TestHoldServer is the body of the child of TestServerDiesWithItsTests: it
// starts a server, says where, and waits for the parent to kill it.
func TestHoldServer(t *testing.T) {
	if os.Getenv("POSTGRESTEST_HOLD") == "" {
		return
	}
	s := postgrestest.Start(t)
	os.Stdout.WriteString("\nSERVER " + s.SocketDir() + "\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestServerDiesWithItsTests(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "POSTGRESTEST_HOLD=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	buf := make([]byte, 4096)
	dir := ""
	for dir == "" {
		n, err := stdout.Read(buf)
		out.Write(buf[:n])
		if _, after, ok := strings.Cut(out.String(), "SERVER "); ok {
			dir, _, ok = strings.Cut(after, "\n")
			if !ok {
				dir = ""
			}
		}
		if err != nil && dir == "" {
			t.Fatalf("the child said %q: %v", out.String(), err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitServerGone(t, dir)

	// The next server sweeps what is left of it.
	postgrestest.New(t)
	if left, _ := filepath.Glob(dir); len(left) != 0 {
		t.Errorf("%s is still there", dir)
	}
}
