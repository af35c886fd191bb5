package duckdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
	"coho/sources"
)

// errClosed is the cause with which Close ends what still runs.
var errClosed = errors.New("the source is closed")

// Options say which database to read.
type Options struct {
	// Path is a database file, which must exist. "" is an empty database in
	// memory, for queries that name their files themselves.
	Path string

	// Dir is what relative file names in queries are relative to. "" is the
	// working directory. A comma or quote in it is refused: DuckDB takes a
	// list of directories there.
	Dir string

	// Threads bounds the threads that a query uses. 0: one a core.
	Threads int

	// MemoryLimit bounds DuckDB's memory, as "512MB" or "75%". "" is DuckDB's
	// own limit of 80% of the machine's.
	MemoryLimit string

	// Logger receives debug lines. nil logs nothing.
	Logger *slog.Logger
}

// Source reads through one embedded DuckDB.
type Source struct {
	options Options
	log     *slog.Logger

	life context.Context // ends with Close
	end  context.CancelCauseFunc

	mu     sync.Mutex // guards what follows
	closed bool
	db     bindings.Database
	users  int // sessions that hold db open
}

var _ sources.Source = (*Source)(nil)

// spills numbers the directories in which databases keep what does not fit
// memory.
var spills atomic.Int64

// Open checks the options and returns a source. The database is opened by the
// first query.
func Open(o Options) (*Source, error) {
	if o.Threads < 0 {
		return nil, fmt.Errorf("threads is %d, want 1 or more", o.Threads)
	}
	if o.Dir != "" {
		dir, err := filepath.Abs(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("directory %s: %w", o.Dir, err)
		}
		o.Dir = dir
	}
	if o.Path == ":memory:" {
		o.Path = ""
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// The source's own life, not a caller's: Close ends it.
	life, end := context.WithCancelCause(context.Background())
	return &Source{options: o, log: log, life: life, end: end}, nil
}

// session is a connection to the database.
type session struct {
	source *Source
	conn   bindings.Connection
}

// acquire opens the database if nobody holds it, and connects.
func (s *Source) acquire(ctx context.Context) (*session, error) {
	if ctx.Err() != nil {
		return nil, canceledError(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.users == 0 {
		if err := s.openLocked(); err != nil {
			return nil, err
		}
	}
	s.users++
	c := &session{source: s}
	if bindings.Connect(s.db, &c.conn) == bindings.StateError {
		s.dropLocked()
		return nil, errors.New("connect to DuckDB: the connection was refused")
	}
	return c, nil
}

// release disconnects, and closes the database after its last user.
func (c *session) release() {
	bindings.Disconnect(&c.conn)
	c.source.mu.Lock()
	defer c.source.mu.Unlock()
	c.source.dropLocked()
}

func (s *Source) dropLocked() {
	s.users--
	if s.users == 0 {
		bindings.Close(&s.db)
		s.db = bindings.Database{}
	}
}

// openLocked opens the database with mu held.
func (s *Source) openLocked() error {
	path := s.options.Path
	if path != "" {
		// DuckDB's message for a missing file speaks of access modes.
		switch fi, err := os.Stat(path); {
		case err != nil:
			return fmt.Errorf("open database: %w", err)
		case fi.IsDir():
			return fmt.Errorf("open database %s: it is a directory", path)
		}
	}
	var config bindings.Config
	if bindings.CreateConfig(&config) == bindings.StateError {
		return errors.New("open DuckDB: no configuration")
	}
	defer bindings.DestroyConfig(&config)
	for _, set := range s.settings() {
		if bindings.SetConfig(config, set.name, set.value) == bindings.StateError {
			return fmt.Errorf("open DuckDB: setting %s cannot be %q", set.name, set.value)
		}
	}
	var db bindings.Database
	var message string
	if bindings.OpenExt(path, &db, config, &message) == bindings.StateError {
		bindings.Close(&db)
		if path == "" {
			return fmt.Errorf("open DuckDB: %s", oneLine(message))
		}
		return fmt.Errorf("open database %s: %s", path, oneLine(message))
	}
	s.db = db
	s.log.Debug("database opened", "path", path)
	return nil
}

type setting struct{ name, value string }

func (s *Source) settings() []setting {
	spill := fmt.Sprintf("coho-duckdb-%d-%d", os.Getpid(), spills.Add(1))
	set := []setting{
		{"temp_directory", filepath.Join(os.TempDir(), spill)}, // made when needed, removed by DuckDB
		{"duckdb_api", "coho"},
	}
	if s.options.Path != "" {
		set = append(set, setting{"access_mode", "READ_ONLY"})
	}
	// DuckDB's list of directories has no way to write a comma. What a search
	// would find is named by its whole path in any case: see resolveFiles.
	if s.options.Dir != "" && !strings.ContainsAny(s.options.Dir, ",'") {
		set = append(set, setting{"file_search_path", s.options.Dir})
	}
	if s.options.Threads > 0 {
		set = append(set, setting{"threads", strconv.Itoa(s.options.Threads)})
	}
	if s.options.MemoryLimit != "" {
		set = append(set, setting{"max_memory", s.options.MemoryLimit})
	}
	return set
}

// bound returns a context that ends with ctx or with the source.
func (s *Source) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// Ping implements sources.Source.
func (s *Source) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	c.release()
	return nil
}

// Describe implements sources.Source. The statement is bound, which checks
// its names and types and reads the files' headers; it does not run.
func (s *Source) Describe(ctx context.Context, m models.Model) (models.Schema, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	c, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer c.release()
	w := watch(ctx, c.conn)
	defer w.stop()
	stmt, err := c.prepare(ctx, m)
	if err != nil {
		return nil, err
	}
	defer bindings.DestroyPrepare(&stmt)
	return preparedSchema(stmt)
}

// Read implements sources.Source.
func (s *Source) Read(ctx context.Context, m models.Model) (sources.Rows, error) {
	ctx, cancel := s.bound(ctx)
	c, err := s.acquire(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	r := &rows{session: c, ctx: ctx, cancel: cancel, watch: watch(ctx, c.conn)}
	if err := r.start(m); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close implements sources.Source: what still runs ends with an error. The
// database of rows that are open goes when they are closed, since only their
// own goroutine can let go of it.
func (s *Source) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(errClosed)
	return nil
}
