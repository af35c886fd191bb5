package bigquery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"testing"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/api/iterator"

	"coho/models"
	"coho/sources/bigquery/bigquerytest"
	"coho/sources/sourcetest"
)

// benchRows is the size of the benchmarks' result: COHO_BENCH_ROWS, or 200,000.
func benchRows(b *testing.B) int {
	b.Helper()
	text := os.Getenv("COHO_BENCH_ROWS")
	if text == "" {
		return 200_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("COHO_BENCH_ROWS is %q, want a number of rows", text)
	}
	return n
}

// accounts is a result of ten columns as a CRM has them. Every response is the
// same, so that the server costs next to nothing.
func accounts(n int64) *bigquerytest.Result {
	r := &bigquerytest.Result{Rows: n, Streams: 1, BatchRow: 10_000, Repeat: true}
	for _, name := range []string{"account_key", "name", "phone", "website", "city", "owner"} {
		r.Columns = append(r.Columns, words(name, func(dst []byte, row int64) []byte {
			return strconv.AppendInt(append(append(dst, name...), " number "...), row%10_000, 10)
		}))
	}
	for _, name := range []string{"id", "employees", "score", "visits"} {
		r.Columns = append(r.Columns, numbers(name, func(row int64) (int64, bool) { return row % 10_000, row%7 != 0 }))
	}
	return r
}

// serveAccounts is for processes of their own: a server of accounts, as many as
// the query says.
func serveAccounts(tb testing.TB) []string {
	server := bigquerytest.Start(tb, bigquerytest.Options{Answer: func(q *bigquerytest.Query) (*bigquerytest.Result, error) {
		var n int64
		if _, err := fmt.Sscanf(q.SQL, "SELECT * FROM `accounts_%d`", &n); err != nil {
			return nil, err
		}
		return accounts(n), nil
	}})
	return []string{server.URL, server.Storage}
}

// benchSource opens a source of accounts, which reads results of as many rows as
// large by the Storage Read API.
func benchSource(b *testing.B, addresses []string, large uint64) *Source {
	b.Helper()
	s := open(b, Options{Project: "test", Endpoint: addresses[0], StorageEndpoint: addresses[1]})
	s.large = large
	return s
}

// read reads accounts to their end.
func read(b *testing.B, s *Source, n int) {
	b.Helper()
	rows, err := s.Read(b.Context(), models.Model{Table: "accounts_" + strconv.Itoa(n)})
	if err != nil {
		b.Fatal(err)
	}
	count := 0
	for rows.Next() {
		count++
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || count != n {
		b.Fatalf("%d rows, %v", count, err)
	}
}

// BenchmarkRead compares the source with the client's own loops that discard what
// they read: of Arrow messages, and of rows by REST. The server is another process
// on the same machine.
func BenchmarkRead(b *testing.B) {
	n := benchRows(b)
	addresses := sourcetest.Elsewhere(b)
	for _, way := range []struct {
		by     string
		large  uint64
		driver func(b *testing.B, s *Source, job *bigquery.Job) int64
	}{{"arrow", 1, bareArrow}, {"rest", math.MaxUint64, bareRows}} {
		s := benchSource(b, addresses, way.large)
		run := func(reader string, read func(b *testing.B)) {
			b.Run("by="+way.by+"/reader="+reader, func(b *testing.B) {
				for b.Loop() {
					read(b)
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "rows/s")
			})
		}
		run("coho", func(b *testing.B) { read(b, s, n) })
		run("driver", func(b *testing.B) {
			client, err := s.jobs()
			if err != nil {
				b.Fatal(err)
			}
			job, err := client.Query("SELECT * FROM `accounts_" + strconv.Itoa(n) + "`").Run(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if got := way.driver(b, s, job); got != int64(n) {
				b.Fatalf("%d rows", got)
			}
		})
	}
}

// BenchmarkMemory shows that a result takes no more memory for being longer.
func BenchmarkMemory(b *testing.B) {
	addresses := sourcetest.Elsewhere(b)
	for _, way := range []struct {
		by    string
		large uint64
	}{{"arrow", 1}, {"rest", math.MaxUint64}} {
		b.Run("by="+way.by, func(b *testing.B) {
			s := benchSource(b, addresses, way.large)
			sourcetest.Flat(b, func(b *testing.B, rows int) { read(b, s, rows) })
		})
	}
}

// bareArrow reads a stream into Arrow's reader of messages.
func bareArrow(b *testing.B, s *Source, job *bigquery.Job) (read int64) {
	b.Helper()
	if _, err := job.Wait(b.Context()); err != nil {
		b.Fatal(err)
	}
	table, err := s.destination(b.Context(), job)
	if err != nil {
		b.Fatal(err)
	}
	client, err := s.storageReader()
	if err != nil {
		b.Fatal(err)
	}
	session, err := client.CreateReadSession(b.Context(), &storagepb.CreateReadSessionRequest{
		Parent: "projects/test", MaxStreamCount: 1,
		ReadSession: &storagepb.ReadSession{
			Table: "projects/test/datasets/" + table.DatasetID + "/tables/" + table.TableID, DataFormat: storagepb.DataFormat_ARROW,
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	schema := session.GetArrowSchema().GetSerializedSchema()
	stream, err := client.ReadRows(b.Context(), &storagepb.ReadRowsRequest{ReadStream: session.GetStreams()[0].GetName()})
	if err != nil {
		b.Fatal(err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return read
		}
		if err != nil {
			b.Fatal(err)
		}
		reader, err := ipc.NewReader(io.MultiReader(bytes.NewReader(schema), bytes.NewReader(response.GetArrowRecordBatch().GetSerializedRecordBatch())))
		if err != nil {
			b.Fatal(err)
		}
		for reader.Next() {
			read += reader.RecordBatch().NumRows()
		}
		reader.Release()
	}
}

// bareRows reads the client's rows.
func bareRows(b *testing.B, _ *Source, job *bigquery.Job) (read int64) {
	b.Helper()
	rows, err := job.Read(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var values []bigquery.Value
	for {
		err := rows.Next(&values)
		if errors.Is(err, iterator.Done) {
			return read
		}
		if err != nil {
			b.Fatal(err)
		}
		read++
	}
}
