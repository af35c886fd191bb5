//go:build unix

package postgrestest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	dirPrefix    = "coho-postgres-"
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	execTimeout  = 5 * time.Minute // a benchmark's table takes its time
)

// shared is the test binary's one server, started by the first call of Start.
var shared struct {
	sync.Mutex
	running bool // inside Main
	server  *Server
	err     error
}

// Main runs the tests, stops the server if one was started, and returns the
// exit code.
func Main(m *testing.M) (code int) {
	shared.Lock()
	shared.running = true
	shared.Unlock()
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		shared.running = false
		if shared.server == nil {
			return
		}
		if err := shared.server.remove(); err != nil {
			fmt.Fprintln(os.Stderr, "postgrestest:", err)
			code = max(code, 1)
		}
		shared.server = nil
	}()
	return m.Run()
}

// Start returns the test binary's server, and starts it if this is the first
// call. Tests that stop or kill the server use [New] instead.
func Start(tb testing.TB) *Server {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.running {
		tb.Fatal("postgrestest.Start: the package's TestMain must call postgrestest.Main, which stops the server")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = create()
	}
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.server
}

// New returns a server of the test's own, which ends with the test.
func New(tb testing.TB) *Server {
	tb.Helper()
	s, err := create()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.remove(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// Server is a PostgreSQL server on the loopback interface. Its superuser is
// postgres, who needs no password; every other role logs in by password
// (SCRAM).
type Server struct {
	bin, dir  string
	port      int
	owner     owner
	databases atomic.Int64

	mu      sync.Mutex // guards process
	process *process
}

// process is one life of the server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone and its log is read
	log    logTail
}

func create() (_ *Server, err error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	own, err := serverOwner()
	if err != nil {
		return nil, err
	}
	base := baseDir()
	sweep(base)
	dir, err := os.MkdirTemp(base, dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, fmt.Errorf("create a directory for PostgreSQL: %w", err)
	}
	s := &Server{bin: bin, dir: dir, owner: own}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	if err := own.adopt(dir); err != nil {
		return nil, fmt.Errorf("hand %s to the server's user: %w", dir, err)
	}
	if err := s.initdb(); err != nil {
		return nil, err
	}
	// Another process may take the port between finding and using it.
	for range 5 {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// baseDir is short, since a socket's path must fit 107 bytes, and open to the
// server's user, which a TMPDIR of root's may not be.
func baseDir() string {
	if fi, err := os.Stat("/tmp"); err == nil && fi.IsDir() {
		return "/tmp"
	}
	return os.TempDir()
}

// sweep removes what killed test binaries left behind.
func sweep(base string) {
	dirs, err := filepath.Glob(filepath.Join(base, dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && !alive(pid) {
			// Another user's directory stays; it is theirs to sweep.
			_ = os.RemoveAll(dir)
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command prepares one of the server's binaries with an environment that no
// setting of the caller's reaches.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + s.bin + ":/usr/bin:/bin", "LC_ALL=C", "LANG=C", "HOME=" + s.dir, "TZ=UTC"}
	cmd.SysProcAttr = s.owner.attributes()
	return cmd
}

func (s *Server) initdb() error {
	out, err := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	hba := "local all all trust\n" +
		"host all postgres 127.0.0.1/32 trust\n" +
		"host all all 127.0.0.1/32 scram-sha-256\n"
	path := filepath.Join(s.data(), "pg_hba.conf")
	if err := os.WriteFile(path, []byte(hba), 0o600); err != nil {
		return fmt.Errorf("write pg_hba.conf: %w", err)
	}
	return s.owner.adopt(path)
}

// start runs the server and returns when it accepts connections.
func (s *Server) start() error {
	cmd := s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir,
		"-c", "listen_addresses=127.0.0.1",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off",
		"-c", "shared_buffers=64MB", "-c", "max_connections=50", "-c", "max_wal_size=4GB",
		"-c", "logging_collector=off", "-c", "log_destination=stderr", "-c", "lc_messages=C",
		"-c", "password_encryption=scram-sha-256")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	ready := make(chan struct{})
	go p.follow(stderr, ready)

	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-ready:
	case <-p.exited:
		return fmt.Errorf("postgres ended before it was ready: %s", p.log.String())
	case <-timeout.C:
		return errors.Join(fmt.Errorf("postgres was not ready after %s: %s", startTimeout, p.log.String()), p.end(syscall.SIGQUIT))
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return nil
}

// follow reads the server's log until the process is gone.
func (p *process) follow(stderr io.Reader, ready chan<- struct{}) {
	defer close(p.exited)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.log.add(lines.Text())
		if ready != nil && strings.Contains(lines.Text(), "database system is ready to accept connections") {
			close(ready)
			ready = nil
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // a line beyond the scanner's limit
	_ = p.cmd.Wait()
}

// end signals the server and waits until it is gone.
func (p *process) end(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal postgres: %w", err)
	}
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timeout.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	return fmt.Errorf("postgres did not stop within %s of %s: %s", stopTimeout, sig, p.log.String())
}

func (s *Server) end(sig syscall.Signal) error {
	s.mu.Lock()
	p := s.process
	s.process = nil
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.end(sig)
}

func (s *Server) remove() error {
	err := s.end(syscall.SIGQUIT)
	if rm := os.RemoveAll(s.dir); rm != nil {
		err = errors.Join(err, fmt.Errorf("remove the server's directory: %w", rm))
	}
	return err
}

// Stop ends the server in order: open transactions are rolled back and their
// clients told.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	if err := s.end(syscall.SIGINT); err != nil {
		tb.Fatal(err)
	}
}

// Kill ends the server at once, as a crash would.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := s.end(syscall.SIGQUIT); err != nil {
		tb.Fatal(err)
	}
}

// Restart stops the server if it runs and starts it again on the same port.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Stop(tb)
	if err := s.start(); err != nil {
		tb.Fatal(err)
	}
}

// Tool returns the path of one of PostgreSQL's programs, such as psql.
func (s *Server) Tool(name string) string { return filepath.Join(s.bin, name) }

// Port returns the TCP port on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// SocketDir returns the directory of the server's Unix socket.
func (s *Server) SocketDir() string { return s.dir }

// DSN returns a connection string for the superuser to a database.
func (s *Server) DSN(database string) string { return s.DSNFor("postgres", "", database) }

// DSNFor returns a connection string for a role to a database.
func (s *Server) DSNFor(role, password, database string) string {
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database, RawQuery: "sslmode=disable"}
	u.User = url.User(role)
	if password != "" {
		u.User = url.UserPassword(role, password)
	}
	return u.String()
}

// CreateDatabase creates an empty database and returns its connection string.
// It goes with the server.
func (s *Server) CreateDatabase(tb testing.TB) (dsn string) {
	tb.Helper()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	s.Exec(tb, s.DSN("postgres"), "CREATE DATABASE "+name+" TEMPLATE template0")
	return s.DSN(name)
}

// Exec runs statements, separated by semicolons, over a connection of its own.
func (s *Server) Exec(tb testing.TB, dsn, sql string) {
	tb.Helper()
	s.Query(tb, dsn, sql)
}

// Query runs statements as Exec does and returns the last one's rows as text,
// nil for NULL.
func (s *Server) Query(tb testing.TB, dsn, sql string) [][][]byte {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), execTimeout)
	defer cancel()
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		tb.Fatalf("connect to the test server: %v", err)
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		tb.Fatalf("run %.200s: %v", sql, err)
	}
	if len(results) == 0 {
		return nil
	}
	return results[len(results)-1].Rows
}

// logTail keeps the last lines of the server's log.
type logTail struct {
	mu    sync.Mutex
	lines []string
}

func (t *logTail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 50 {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, line)
}

func (t *logTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
