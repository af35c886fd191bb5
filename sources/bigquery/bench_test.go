package bigquery

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"testing"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/api/iterator"

	"coho/sources/bigquery/bigquerytest"
)

// benchRows is the size of the benchmarks' result: COHO_BENCH_ROWS, or 200,000.
func benchRows(b *testing.B) int64 {
	b.Helper()
	text := os.Getenv("COHO_BENCH_ROWS")
	if text == "" {
		return 200_000
	}
	n, err := strconv.ParseInt(text, 10, 64)
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

// BenchmarkRead compares the source with the client's own loops that discard what
// they read: of Arrow messages, and of rows by REST.
func BenchmarkRead(b *testing.B) {
	n := benchRows(b)
	_, o := start(b, fixed(accounts(n)))
	report := func(b *testing.B, read int64) {
		b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "rows/s")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapSys)/1e6, "heap-MB")
	}
	source := func(large uint64) func(*testing.B) {
		return func(b *testing.B) {
			s := open(b, o)
			s.large = large
			read := int64(0)
			for b.Loop() {
				rows, err := s.Read(b.Context(), one)
				if err != nil {
					b.Fatal(err)
				}
				for rows.Next() {
					read++
				}
				if err := errors.Join(rows.Err(), rows.Close()); err != nil {
					b.Fatal(err)
				}
			}
			if read == 0 || read%n != 0 {
				b.Fatalf("%d rows", read)
			}
			report(b, read)
		}
	}
	driver := func(read func(b *testing.B, s *Source, job *bigquery.Job) int64) func(*testing.B) {
		return func(b *testing.B) {
			s := open(b, o)
			total := int64(0)
			for b.Loop() {
				client, err := s.jobs()
				if err != nil {
					b.Fatal(err)
				}
				job, err := client.Query(one.SQL).Run(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				total += read(b, s, job)
			}
			if total == 0 || total%n != 0 {
				b.Fatalf("%d rows", total)
			}
			report(b, total)
		}
	}
	b.Run("by=arrow/reader=coho", source(1))
	b.Run("by=arrow/reader=driver", driver(bareArrow))
	b.Run("by=rest/reader=coho", source(math.MaxUint64))
	b.Run("by=rest/reader=driver", driver(bareRows))
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
