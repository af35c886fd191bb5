package bigquery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"coho/models"
	"coho/sources"
)

// Options say which project to read.
type Options struct {
	Project  string // whose queries they are, and who pays
	Dataset  string // what a table's name without a dataset means; "" for none
	Location string // "EU", "us-central1"; "": BigQuery finds out

	// Credentials is the JSON of a service account's key or of a workload
	// identity's configuration; "" takes the environment's default (see
	// "Application Default Credentials" in Google's documentation).
	Credentials models.Secret

	// MaxBytesBilled fails a query that would bill more, before it runs.
	// 0: the project's own limit.
	MaxBytesBilled int64

	// Timeout ends queries that run longer. 0: BigQuery's own, 6 hours.
	Timeout time.Duration

	// Endpoint and StorageEndpoint are an emulator's, without credentials:
	// a http URL and host:port. "" for Google's own.
	Endpoint, StorageEndpoint string

	// Logger receives debug lines and warnings. nil logs nothing.
	Logger *slog.Logger
}

// Source reads through one project.
type Source struct {
	options Options
	large   uint64 // rows from where on a result is read through the Storage Read API
	side    int32  // streams of a result read side by side, at most

	patience time.Duration // how long BigQuery may be out of reach
	log      *slog.Logger

	life context.Context // ends with Close
	end  context.CancelCauseFunc

	mu     sync.Mutex // guards what follows
	closed bool
	client *bigquery.Client            // nil until the first query
	conns  *connections                // the client's
	reader *storage.BigQueryReadClient // nil until the first large result
	noRead bool                        // the Storage Read API may not be used, which has been said
}

var _ sources.Source = (*Source)(nil)

// errClosed is the cause with which Close ends what still runs.
var errClosed = errors.New("the source is closed")

// Open checks the options and returns a source. The first query signs in.
func Open(o Options) (*Source, error) {
	if o.Project == "" {
		return nil, errors.New("project is missing")
	}
	if o.MaxBytesBilled < 0 {
		return nil, fmt.Errorf("max_bytes_billed is %d, want 1 or more", o.MaxBytesBilled)
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// The source's own life, not a caller's: Close ends it.
	life, end := context.WithCancelCause(context.Background())
	s := &Source{options: o, large: largeRows, side: maxStreams, patience: outagePatience, log: log, life: life, end: end}
	if o.StorageEndpoint != "" {
		s.side = 1 // emulators refuse more
	}
	return s, nil
}

// bound returns a context that ends with ctx or with the source.
func (s *Source) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// access says how to sign in.
func (s *Source) access() ([]option.ClientOption, error) {
	if s.options.Credentials == "" {
		return nil, nil
	}
	kind, err := credentialsType(s.options.Credentials)
	if err != nil {
		return nil, err
	}
	return []option.ClientOption{option.WithAuthCredentialsJSON(kind, []byte(s.options.Credentials.Reveal()))}, nil
}

// jobs returns the client for queries, signed in when first asked for.
func (s *Source) jobs() (*bigquery.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.client != nil {
		return s.client, nil
	}
	options, err := s.access()
	if err != nil {
		return nil, err
	}
	endpoint := []option.ClientOption{}
	if s.options.Endpoint != "" {
		options = []option.ClientOption{option.WithoutAuthentication()}
		endpoint = append(endpoint, option.WithEndpoint(s.options.Endpoint))
	}
	// A transport of its own, since the client does not close what it opened.
	base := http.DefaultTransport.(*http.Transport).Clone()
	conns := newConnections(base.DialContext, s.patience)
	base.DialContext = conns.dialContext
	// It keeps the context for its token requests.
	passing := &passingErrors{base: base, outage: outage{patience: s.patience}}
	signed, err := htransport.NewTransport(s.life, passing, append(options, option.WithScopes(bigquery.Scope))...)
	if err != nil {
		return nil, signInError(err)
	}
	client, err := bigquery.NewClient(s.life, s.options.Project, append(endpoint, option.WithHTTPClient(&http.Client{Transport: signed}))...)
	if err != nil {
		return nil, signInError(err)
	}
	client.Location = s.options.Location
	s.client, s.conns = client, conns
	return client, nil
}

// streamWindow is how many bytes of a stream may be on their way: two responses
// or so.
const streamWindow = 2 << 20

// storageReader returns the client of the Storage Read API.
func (s *Source) storageReader() (*storage.BigQueryReadClient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.reader != nil {
		return s.reader, nil
	}
	options, err := s.access()
	if err != nil {
		return nil, err
	}
	if s.options.StorageEndpoint != "" {
		options = []option.ClientOption{
			option.WithEndpoint(s.options.StorageEndpoint), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		}
	}
	// By itself a connection's windows grow for as long as data comes fast, up to
	// 16 MB that wait to be read.
	options = append(options,
		option.WithGRPCDialOption(grpc.WithInitialWindowSize(streamWindow)),
		option.WithGRPCDialOption(grpc.WithInitialConnWindowSize(maxStreams*streamWindow)),
	)
	reader, err := storage.NewBigQueryReadClient(s.life, options...)
	if err != nil {
		return nil, signInError(err)
	}
	// Its own way would be to call again for a day.
	reader.CallOptions.ReadRows = nil
	s.reader = reader
	return reader, nil
}

// Ping implements sources.Source: it compiles a query of no table.
func (s *Source) Ping(ctx context.Context) error {
	_, err := s.compile(ctx, models.Model{SQL: "SELECT 1"})
	return err
}

// query is a model's statement with the source's settings.
func (s *Source) query(ctx context.Context, client *bigquery.Client, m models.Model) (*bigquery.Query, error) {
	statement, err := querySQL(m)
	if err != nil {
		return nil, err
	}
	q := client.Query(statement)
	q.DefaultProjectID, q.DefaultDatasetID = "", s.options.Dataset
	if s.options.Dataset != "" {
		q.DefaultProjectID = s.options.Project
	}
	q.MaxBytesBilled = s.options.MaxBytesBilled
	q.JobTimeout = s.options.Timeout
	q.Labels = labels(sources.PurposeOf(ctx))
	return q, nil
}

// labels name the sync and the run in the job's history and on the bill.
func labels(p sources.Purpose) map[string]string {
	all := map[string]string{"application": "coho"}
	if p.Sync != "" {
		all["coho_sync"] = label(p.Sync)
	}
	if p.Run != "" {
		all["coho_run"] = label(p.Run)
	}
	return all
}

// label makes a label's value of a text: at most 63 lower-case letters,
// digits, _ and - (Google's documentation, "Requirements for labels").
func label(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, text)
	return text[:min(len(text), 63)]
}

// compiled is what a dry run tells.
type compiled struct {
	schema bigquery.Schema
	bytes  int64 // that the query would process
}

// compile lets BigQuery check a query without running it, at no cost.
func (s *Source) compile(ctx context.Context, m models.Model) (*compiled, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	client, err := s.jobs()
	if err != nil {
		return nil, err
	}
	q, err := s.query(ctx, client, m)
	if err != nil {
		return nil, err
	}
	q.DryRun = true
	job, err := q.Run(ctx)
	if err != nil {
		return nil, describeError(ctx, err)
	}
	status := job.LastStatus()
	if err := status.Err(); err != nil {
		return nil, describeError(ctx, err)
	}
	details, ok := status.Statistics.Details.(*bigquery.QueryStatistics)
	if !ok {
		return nil, errors.New("BigQuery did not describe the query")
	}
	if details.StatementType != "SELECT" {
		return nil, fmt.Errorf("the query is a statement of the kind %s: a model must be one SELECT", details.StatementType)
	}
	c := &compiled{schema: details.Schema, bytes: details.TotalBytesProcessed}
	if len(c.schema) == 0 {
		// BigQuery itself always describes a SELECT; emulators may not.
		if c.schema, err = s.probe(ctx, client, m); err != nil {
			return nil, describeError(ctx, err)
		}
	}
	return c, nil
}

// probe learns the columns of a query by running it.
func (s *Source) probe(ctx context.Context, client *bigquery.Client, m models.Model) (bigquery.Schema, error) {
	q, err := s.query(ctx, client, m)
	if err != nil {
		return nil, err
	}
	rows, err := q.Read(ctx)
	if err != nil {
		return nil, err
	}
	var first []bigquery.Value
	if err := rows.Next(&first); err != nil && !errors.Is(err, iterator.Done) {
		return nil, err
	}
	return rows.Schema, nil
}

// Describe implements sources.Source.
func (s *Source) Describe(ctx context.Context, m models.Model) (models.Schema, error) {
	c, err := s.compile(ctx, m)
	if err != nil {
		return nil, err
	}
	return newSchema(c.schema)
}

// BytesBilled returns how many bytes a read of the model would bill, as far
// as BigQuery knows before: it bills at least 10 MB for each table read, and
// nothing for what it finds in its cache.
func (s *Source) BytesBilled(ctx context.Context, m models.Model) (int64, error) {
	c, err := s.compile(ctx, m)
	if err != nil {
		return 0, err
	}
	return c.bytes, nil
}

const (
	cancelPatience = 10 * time.Second       // bounds the requests that cancel a job
	lookupPause    = 250 * time.Millisecond // between looking for a job that was not answered
	lookups        = 4                      // times it is looked for again
)

// Read implements sources.Source.
func (s *Source) Read(ctx context.Context, m models.Model) (sources.Rows, error) {
	c, err := s.compile(ctx, m)
	if err != nil {
		return nil, err
	}
	schema, err := newSchema(c.schema)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	r, err := s.read(ctx, m)
	if err != nil {
		err = describeError(ctx, err)
		cancel()
		return nil, err
	}
	r.ctx, r.cancel, r.schema = ctx, cancel, schema
	if err := r.start(); err != nil {
		return nil, errors.Join(describeError(ctx, err), r.Close())
	}
	return r, nil
}

// read runs the query to its end.
func (s *Source) read(ctx context.Context, m models.Model) (*rows, error) {
	client, err := s.jobs()
	if err != nil {
		return nil, err
	}
	q, err := s.query(ctx, client, m)
	if err != nil {
		return nil, err
	}
	// An id of the source's own: the job can be named, and so canceled, before
	// BigQuery has answered that it runs.
	q.JobID = "coho_" + rand.Text()
	job, err := q.Run(ctx)
	if err == nil {
		var status *bigquery.JobStatus
		if status, err = job.Wait(ctx); err == nil {
			err = status.Err()
		}
	}
	if ctx.Err() != nil {
		// BigQuery goes on with a job that nobody waits for, and bills it.
		if err := cancelJob(context.WithoutCancel(ctx), client, q.JobID, job); err != nil {
			s.log.Warn("a query could not be canceled in BigQuery", "job", q.JobID, "error", err)
		}
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return &rows{source: s, job: job}, nil
}

// cancelJob cancels a job that may have been sent and not answered yet: job is
// then nil, and BigQuery may come to know of it in a moment.
func cancelJob(ctx context.Context, client *bigquery.Client, id string, job *bigquery.Job) error {
	ctx, done := context.WithTimeout(ctx, cancelPatience)
	defer done()
	for attempt := 0; job == nil; attempt++ {
		var err error
		job, err = client.JobFromID(ctx, id)
		var answer *googleapi.Error
		switch {
		case err == nil:
		case !errors.As(err, &answer) || answer.Code != http.StatusNotFound:
			return fmt.Errorf("find the job: %w", err)
		case attempt == lookups:
			return nil // it never began
		default:
			select {
			case <-time.After(lookupPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return job.Cancel(ctx)
}

// Close implements sources.Source: what still runs ends with an error.
func (s *Source) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	client, conns, reader := s.client, s.conns, s.reader
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.end(errClosed)
	var errs []error
	if client != nil {
		if err := client.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the client: %w", err))
		}
		conns.close()
	}
	if reader != nil {
		if err := reader.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the storage client: %w", err))
		}
	}
	return errors.Join(errs...)
}
