package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"coho/models"
	"coho/sources"
)

const (
	defaultConnectTimeout = 30 * time.Second
	closeTimeout          = 5 * time.Second
)

// errClosed is the cause with which Close ends what still runs.
var errClosed = errors.New("the source is closed")

// Options say how to reach a database. Only DSN is required.
type Options struct {
	// DSN is a connection string as libpq takes it, a postgres:// URL or
	// key=value pairs. What it leaves out comes from the PG* environment
	// variables, the service file and the password file. Without
	// connect_timeout a connection attempt ends after 30 seconds.
	DSN models.Secret

	// StatementTimeout ends a statement that runs longer, the time in which
	// its rows are taken included. 0 leaves the server's own setting.
	StatementTimeout time.Duration

	// ApplicationName is shown in pg_stat_activity. "" is "coho".
	ApplicationName string

	// Logger receives debug lines. nil logs nothing.
	Logger *slog.Logger
}

// Source reads from one PostgreSQL database. It opens a connection for each
// call and for each Rows, and keeps none between them.
type Source struct {
	config *pgconn.Config
	setup  string // statements that follow the transaction's BEGIN
	log    *slog.Logger

	life    context.Context // ends with Close
	end     context.CancelCauseFunc
	mu      sync.Mutex // guards closed and orders cleanup.Add before Close's Wait
	closed  bool
	cleanup sync.WaitGroup // open connections and their clean-up
}

var (
	_ sources.Source = (*Source)(nil)
	_ sources.Parted = (*Source)(nil)
)

// Open checks the options and returns a source. It does not connect.
func Open(o Options) (*Source, error) {
	config, err := pgconn.ParseConfig(o.DSN.Reveal())
	if err != nil {
		return nil, parseError(err)
	}
	if o.StatementTimeout < 0 {
		return nil, fmt.Errorf("statement timeout %s is negative", o.StatementTimeout)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = defaultConnectTimeout
	}
	if o.ApplicationName == "" {
		o.ApplicationName = "coho"
	}
	if _, ok := config.RuntimeParams["application_name"]; !ok {
		config.RuntimeParams["application_name"] = o.ApplicationName
	}
	config.RuntimeParams["client_encoding"] = "UTF8"
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// The source's own life, not a caller's: Close ends it.
	life, end := context.WithCancelCause(context.Background())
	return &Source{config: config, setup: setupSQL(o.StatementTimeout), log: o.Logger, life: life, end: end}, nil
}

// beginSQL opens the transaction.
const beginSQL = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"

// setupSQL fixes what changes output, and the order of rows: where another
// session reads the same table, the server would begin in the middle. SET LOCAL
// rather than startup parameters: a connection pooler refuses the latter, and
// with a pooled connection the former ends with the transaction.
func setupSQL(timeout time.Duration) string {
	var b strings.Builder
	for _, s := range pinned {
		b.WriteString("SET LOCAL " + s.name + " = '" + s.value + "';")
	}
	if timeout > 0 {
		ms := max(timeout.Milliseconds(), 1)
		b.WriteString("SET LOCAL statement_timeout = " + strconv.FormatInt(ms, 10) + ";")
	}
	b.WriteString("SELECT set_config(name, 'off', true) FROM pg_catalog.pg_settings WHERE name = 'synchronize_seqscans';")
	b.WriteString("SELECT current_setting('server_version_num'), current_setting('lc_monetary'), current_setting('search_path')")
	return b.String()
}

// pinned are the settings that change how values are written as text.
var pinned = []struct{ name, value string }{
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"xmlbinary", "base64"},
}

// conn is a connection inside a prepared, read-only transaction.
type conn struct {
	pg       *pgconn.PgConn
	settings serverSettings
}

// serverSettings are what the server decides about output.
type serverSettings struct {
	version, monetary, searchPath string
}

// begin connects and opens the transaction. The caller ends it with finish.
func (s *Source) begin(ctx context.Context) (*conn, error) { return s.beginAt(ctx, "") }

// beginAt is begin for a transaction that sees what the one with this exported
// snapshot sees.
func (s *Source) beginAt(ctx context.Context, snapshot string) (*conn, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	s.cleanup.Add(1)
	s.mu.Unlock()

	dial, cancel := context.WithTimeout(ctx, s.config.ConnectTimeout)
	defer cancel()
	pg, err := pgconn.ConnectConfig(dial, s.config)
	if err != nil {
		s.cleanup.Done()
		if ctx.Err() != nil {
			return nil, canceledError(ctx)
		}
		return nil, s.connectError(err)
	}
	c := &conn{pg: pg}
	begin := beginSQL
	if snapshot != "" { // a name that the server gave
		begin += "SET TRANSACTION SNAPSHOT '" + strings.ReplaceAll(snapshot, "'", "''") + "';"
	}
	results, err := pg.Exec(ctx, begin+s.setup).ReadAll()
	if err != nil {
		s.finish(c)
		return nil, fmt.Errorf("open a read-only transaction: %w", s.queryError(ctx, err, ""))
	}
	if last := results[len(results)-1]; len(last.Rows) == 1 && len(last.Rows[0]) == 3 {
		row := last.Rows[0]
		c.settings = serverSettings{string(row[0]), string(row[1]), string(row[2])}
	}
	return c, nil
}

// finish closes a connection that pgconn reads, in order where it is idle.
// Where a call was cut short, pgconn cancels the statement and closes in the
// background, and Close of the source waits for that.
func (s *Source) finish(c *conn) {
	if c.pg.IsClosed() {
		go func() { // owned by the source: Close waits for cleanup
			defer s.cleanup.Done()
			<-c.pg.CleanupDone()
		}()
		return
	}
	defer s.cleanup.Done()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := c.pg.Close(ctx); err != nil {
		s.log.DebugContext(ctx, "close connection", "error", err)
	}
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
	c, err := s.begin(ctx)
	if err != nil {
		return err
	}
	s.finish(c)
	return nil
}

// Describe implements sources.Source. The statement is prepared, which checks
// its names and types; it does not run.
func (s *Source) Describe(ctx context.Context, m models.Model) (models.Schema, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	query, err := querySQL(m)
	if err != nil {
		return nil, err
	}
	c, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.finish(c)
	schema, err := s.prepare(ctx, c, query)
	if err != nil {
		return nil, err
	}
	return schema, nil
}

// Read implements sources.Source.
func (s *Source) Read(ctx context.Context, m models.Model) (sources.Rows, error) {
	query, err := querySQL(m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	c, err := s.begin(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return s.readOn(ctx, cancel, c, query, "")
}

// readOn runs a query on a connection, which the rows own from here on, as they do
// cancel. Where scan is given, the server must mean to read in that way.
func (s *Source) readOn(ctx context.Context, cancel context.CancelFunc, c *conn, query, scan string) (*rows, error) {
	schema, estimate, err := s.prepareToRead(ctx, c, query, scan)
	if err != nil {
		s.finish(c)
		cancel()
		return nil, err
	}
	r, err := s.stream(ctx, cancel, c, schema, query)
	if err != nil {
		return nil, err
	}
	r.estimate = estimate
	return r, nil
}

// prepareToRead checks a query and asks the server how many rows it expects, -1
// where it does not say.
func (s *Source) prepareToRead(ctx context.Context, c *conn, query, scan string) (*schema, int64, error) {
	schema, err := s.prepare(ctx, c, query)
	if err != nil {
		return nil, -1, err
	}
	plan := s.explain(ctx, c, query)
	if scan != "" && !strings.Contains(plan, scan) {
		return nil, -1, errors.New("the server would not read the table in parts")
	}
	if err := c.pg.SyncConn(ctx); err != nil { // from here on the socket is ours
		return nil, -1, s.queryError(ctx, err, query)
	}
	return schema, expectedRows(plan), nil
}

// prepare parses the query, which checks it, and resolves its columns' types.
func (s *Source) prepare(ctx context.Context, c *conn, query string) (*schema, error) {
	d, err := c.pg.Prepare(ctx, "", query, nil)
	if err != nil {
		return nil, s.queryError(ctx, err, query)
	}
	if len(d.ParamOIDs) > 0 {
		return nil, errors.New("the query has parameters ($1): a model's query must be complete")
	}
	if len(d.Fields) == 0 {
		return nil, errors.New("the statement returns no columns: a model must be a query, such as a SELECT")
	}
	unknown := unknownTypes(d.Fields)
	if len(unknown) == 0 {
		return newSchema(d.Fields, nil, c.settings), nil
	}
	found, err := s.lookUpTypes(ctx, c, unknown)
	if err != nil {
		return nil, err
	}
	return newSchema(d.Fields, found, c.settings), nil
}

// Close implements sources.Source: it ends the rows that are still open and
// waits until their connections are gone.
func (s *Source) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(errClosed)
	s.cleanup.Wait()
	return nil
}
