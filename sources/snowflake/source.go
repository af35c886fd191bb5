package snowflake

import (
	"context"
	"crypto/rsa"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snowflakedb/gosnowflake"

	"coho/models"
	"coho/sources"
	"coho/sources/columnar"
	_ "coho/sources/snowflake/quiet" // before the driver begins
)

// Options say which account to read, as whom. Exactly one of Password,
// PrivateKey, OAuthToken and AccessToken is set.
type Options struct {
	Account   string // "myorg-account123"
	Host      string // a host with an optional port, or a URL, instead of the account's own: for private links
	User      string
	Role      string
	Warehouse string
	Database  string
	Schema    string

	Password    models.Secret
	PrivateKey  *rsa.PrivateKey // key pair authentication; see ParsePrivateKey
	OAuthToken  models.Secret
	AccessToken models.Secret // a programmatic access token

	// StatementTimeout ends statements that run longer. 0: the server's own.
	StatementTimeout time.Duration

	// Logger receives debug lines. nil logs nothing.
	Logger *slog.Logger
}

// fetchAhead is how many batches are fetched side by side, and so held in
// memory. A batch is some megabytes; see chunkMegabytes.
const fetchAhead = 4

// chunkMegabytes asks for the smallest batches there are (Snowflake's
// documentation, "CLIENT_RESULT_CHUNK_SIZE": 16 to 160).
const chunkMegabytes = "16"

// idleSessions are kept for the next query, each for idleTime: Snowflake ends
// one that is idle for four hours, which the driver would find out by a query
// that fails.
const (
	idleSessions = 2
	idleTime     = 30 * time.Minute
)

// Source reads through one account.
type Source struct {
	db      *sql.DB
	log     *slog.Logger
	secrets *strings.Replacer // takes them out of messages

	life context.Context // ends with Close
	end  context.CancelCauseFunc

	closing sync.Once
}

var _ sources.Source = (*Source)(nil)

// errClosed is the cause with which Close ends what still runs.
var errClosed = errors.New("the source is closed")

// shortSecret is a length below which a secret's text stands in messages by
// chance; Snowflake has none as short.
const shortSecret = 8

// hush keeps the driver from writing to standard error, once a process.
var hush = sync.OnceFunc(func() { gosnowflake.GetLogger().SetOutput(io.Discard) })

// Open checks the options and returns a source. The first query signs in.
func Open(o Options) (*Source, error) {
	hush()
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	return o.open(config), nil
}

func (o Options) open(config *gosnowflake.Config) *Source {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var secrets []string
	for _, secret := range []models.Secret{o.Password, o.OAuthToken, o.AccessToken} {
		if len(secret) >= shortSecret {
			secrets = append(secrets, secret.Reveal(), "...")
		}
	}
	db := sql.OpenDB(gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, *config))
	db.SetMaxIdleConns(idleSessions)
	db.SetConnMaxIdleTime(idleTime)
	life, end := context.WithCancelCause(context.Background())
	return &Source{db: db, log: log, secrets: strings.NewReplacer(secrets...), life: life, end: end}
}

func (o Options) config() (*gosnowflake.Config, error) {
	if o.Account == "" {
		return nil, errors.New("account is missing")
	}
	params := map[string]*string{}
	set := func(name, value string) { params[name] = &value }
	// What decides how values are printed is settled here, so that neither
	// the user's nor the account's settings change a row's bytes.
	set("TIMEZONE", "UTC")
	set("BINARY_OUTPUT_FORMAT", "HEX")
	set("GO_QUERY_RESULT_FORMAT", "ARROW")
	set("CLIENT_RESULT_CHUNK_SIZE", chunkMegabytes)
	set("ABORT_DETACHED_QUERY", "true")
	// A result may be read for longer than a session lasts by itself.
	set("client_session_keep_alive", "true")
	if o.StatementTimeout > 0 {
		seconds := max(1, int64(o.StatementTimeout/time.Second))
		set("STATEMENT_TIMEOUT_IN_SECONDS", strconv.FormatInt(seconds, 10))
	}
	c := &gosnowflake.Config{
		Account: o.Account, User: o.User, Role: o.Role, Warehouse: o.Warehouse, Database: o.Database, Schema: o.Schema,
		Params: params, Application: "coho", DisableConsoleLogin: gosnowflake.ConfigBoolTrue,
		// Fails at sign-in, by name, instead of at each query.
		ValidateDefaultParameters: gosnowflake.ConfigBoolTrue,
		MaxRetryCount:             5,
	}
	//lint:ignore SA1019 version 1 of the driver has no other way to set these
	c.LoginTimeout, c.DisableTelemetry, c.ClientRequestMfaToken, c.ClientStoreTemporaryCredential = time.Minute, true, gosnowflake.ConfigBoolFalse, gosnowflake.ConfigBoolFalse
	if err := o.address(c); err != nil {
		return nil, err
	}
	return c, o.authenticate(c)
}

// address takes a host apart; the driver makes one from the account itself
// where none is given.
func (o Options) address(c *gosnowflake.Config) error {
	host := o.Host
	if host == "" {
		return nil
	}
	c.Protocol = "https"
	if scheme, rest, ok := strings.Cut(host, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return fmt.Errorf("host %q is neither a host nor a http or https URL", o.Host)
		}
		c.Protocol, host = scheme, strings.TrimSuffix(rest, "/")
	}
	c.Port = 443
	if c.Protocol == "http" {
		c.Port = 80
	}
	if name, port, err := net.SplitHostPort(host); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return fmt.Errorf("host %q has no valid port", o.Host)
		}
		host, c.Port = name, int(n)
	}
	if host == "" || strings.ContainsAny(host, "/?#@ ") {
		return fmt.Errorf("host %q is neither a host nor a http or https URL", o.Host)
	}
	c.Host = host
	return nil
}

func (o Options) authenticate(c *gosnowflake.Config) error {
	given := 0
	for _, is := range []bool{o.Password != "", o.PrivateKey != nil, o.OAuthToken != "", o.AccessToken != ""} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return errors.New("one of password, private key, OAuth token and access token is needed to sign in")
	case given > 1:
		return errors.New("password, private key, OAuth token and access token exclude each other")
	case o.User == "" && o.OAuthToken == "":
		return errors.New("user is missing")
	}
	switch {
	case o.Password != "":
		c.Authenticator, c.Password = gosnowflake.AuthTypeSnowflake, o.Password.Reveal()
	case o.PrivateKey != nil:
		c.Authenticator, c.PrivateKey = gosnowflake.AuthTypeJwt, o.PrivateKey
	case o.OAuthToken != "":
		c.Authenticator, c.Token = gosnowflake.AuthTypeOAuth, o.OAuthToken.Reveal()
	default:
		c.Authenticator, c.Token = gosnowflake.AuthTypePat, o.AccessToken.Reveal()
	}
	return nil
}

// bound returns a context that ends with ctx or with the source.
func (s *Source) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// Ping implements sources.Source: it signs in and runs a statement that needs
// no warehouse.
func (s *Source) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.fail(ctx, err)
	}
	err = conn.PingContext(ctx)
	if err != nil {
		err = s.fail(ctx, err)
	}
	return errors.Join(err, release(conn))
}

// release gives a session back.
func release(conn *sql.Conn) error {
	if err := conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return fmt.Errorf("give back the session: %w", err)
	}
	return nil
}

// query runs a statement on a session. The rows are the driver's own, which
// hand out Arrow; they live as long as the session is held.
func query(ctx context.Context, conn *sql.Conn, statement string) (rows driver.Rows, err error) {
	err = conn.Raw(func(c any) error {
		q, ok := c.(driver.QueryerContext)
		if !ok {
			return errors.New("the driver cannot run queries")
		}
		rows, err = q.QueryContext(ctx, statement, nil)
		return err
	})
	return rows, err
}

// resultContext carries what the driver is asked for with a query. It looks
// some of that up when it reads the result: in Arrow, numbers stay whole only
// with its higher precision, and in JSON, where it would round those of 38
// digits, only without.
type resultContext struct {
	context.Context                 // with higher precision
	lower           context.Context // without
	plain           atomic.Bool     // the result is in JSON
}

// Value implements context.Context.
func (c *resultContext) Value(key any) any {
	if c.plain.Load() {
		return c.lower.Value(key)
	}
	return c.Context.Value(key)
}

// settings are what the driver is asked for with every query.
func settings(ctx context.Context) *resultContext {
	ctx = gosnowflake.WithArrowBatches(ctx)
	// Of a result in JSON: one file after the other and row by row, instead of
	// ten files at a time by goroutines that may never end.
	ctx = gosnowflake.WithStreamDownloader(ctx)
	ctx = gosnowflake.WithArrowBatchesTimestampOption(ctx, gosnowflake.UseOriginalTimestamp)
	ctx = gosnowflake.WithQueryTag(ctx, queryTag(sources.PurposeOf(ctx)))
	return &resultContext{Context: gosnowflake.WithHigherPrecision(ctx), lower: ctx}
}

// queryTag names the sync and the run in Snowflake's query history.
func queryTag(p sources.Purpose) string {
	tag := "coho"
	if p.Sync != "" {
		tag += " sync=" + p.Sync
	}
	if p.Run != "" {
		tag += " run=" + p.Run
	}
	return tag
}

// Describe implements sources.Source. The statement is compiled, not run, and
// needs no warehouse.
func (s *Source) Describe(ctx context.Context, m models.Model) (models.Schema, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	statement, err := querySQL(m)
	if err != nil {
		return nil, err
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	schema, err := s.compile(ctx, conn, statement)
	if err = errors.Join(err, release(conn)); err != nil {
		return nil, err
	}
	return schema, nil
}

// compile returns the columns of a statement.
func (s *Source) compile(ctx context.Context, conn *sql.Conn, statement string) (*columnar.Schema, error) {
	rows, err := query(gosnowflake.WithDescribeOnly(settings(ctx)), conn, statement)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	schema, err := newSchema(rows, nil)
	return schema, errors.Join(err, discard(rows), rows.Close())
}

// discard reads what an emulator answers besides the columns, which Snowflake
// does not: rows in JSON that nobody takes would hold a goroutine of the driver.
func discard(rows driver.Rows) error {
	if r, ok := rows.(gosnowflake.SnowflakeRows); ok {
		if _, err := r.GetArrowBatches(); err == nil {
			return nil // fetched by who asks for it only
		}
	}
	values := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the description of a query: %w", err)
		}
	}
}

// Read implements sources.Source.
func (s *Source) Read(ctx context.Context, m models.Model) (sources.Rows, error) {
	statement, err := querySQL(m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	conn, err := s.db.Conn(ctx)
	if err != nil {
		defer cancel()
		return nil, s.fail(ctx, err)
	}
	r, err := s.run(ctx, conn, statement)
	if err != nil {
		defer cancel()
		return nil, errors.Join(err, release(conn))
	}
	r.cancel = cancel
	if err := r.start(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// run compiles a statement and runs it.
func (s *Source) run(ctx context.Context, conn *sql.Conn, statement string) (*rows, error) {
	schema, err := s.compile(ctx, conn, statement)
	if err != nil {
		return nil, err
	}
	r := &rows{source: s, ctx: ctx, conn: conn, settings: settings(ctx)}
	statement, r.printed = printTimes(statement, schema)
	if r.result, err = query(r.settings, conn, statement); err != nil {
		return nil, s.fail(ctx, err)
	}
	return r, nil
}

// Close implements sources.Source: what still runs ends with an error.
func (s *Source) Close() error {
	var err error
	s.closing.Do(func() {
		s.end(errClosed)
		if cerr := s.db.Close(); cerr != nil {
			err = fmt.Errorf("sign out: %w", cerr)
		}
	})
	return err
}
