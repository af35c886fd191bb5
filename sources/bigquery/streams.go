package bigquery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"cloud.google.com/go/bigquery"
	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxStreams are read side by side; each holds a response or two, of 1 MB or
// so, in memory.
const maxStreams = 4

// sessionPatience bounds opening a session, tries again included.
const sessionPatience = 2 * time.Minute

// streams reads a result through the Storage Read API. next and close are
// called by one goroutine.
type streams struct {
	ctx    context.Context
	cancel context.CancelFunc
	out    chan arrow.RecordBatch // closed after the last
	wait   sync.WaitGroup

	mu  sync.Mutex // guards err
	err error      // why reading stopped
}

// openStreams begins to read the table that a query's result is in.
func (s *Source) openStreams(ctx context.Context, job *bigquery.Job) (*streams, error) {
	table, err := s.destination(ctx, job)
	if err != nil {
		return nil, fmt.Errorf("find the result of job %s: %w", job.ID(), err)
	}
	client, err := s.storageReader()
	if err != nil {
		return nil, err
	}
	opening, done := context.WithTimeout(ctx, sessionPatience)
	defer done()
	session, err := client.CreateReadSession(opening, &storagepb.CreateReadSessionRequest{
		Parent: "projects/" + s.options.Project,
		ReadSession: &storagepb.ReadSession{
			Table:      fmt.Sprintf("projects/%s/datasets/%s/tables/%s", table.ProjectID, table.DatasetID, table.TableID),
			DataFormat: storagepb.DataFormat_ARROW,
		},
		MaxStreamCount: s.side,
	})
	if err != nil {
		return nil, err
	}
	schema := session.GetArrowSchema().GetSerializedSchema()
	out := &streams{out: make(chan arrow.RecordBatch, maxStreams)}
	out.ctx, out.cancel = context.WithCancel(ctx)
	for _, stream := range session.GetStreams() {
		out.wait.Go(func() {
			if err := out.read(client, stream.GetName(), schema); err != nil {
				out.mu.Lock()
				if out.err == nil {
					out.err = err
				}
				out.mu.Unlock()
				out.cancel()
			}
		})
	}
	go func() { // ends with the last reader, for which close waits
		out.wait.Wait()
		close(out.out)
	}()
	return out, nil
}

// destination returns the table that BigQuery keeps a query's result in for a
// day. The answer to the insert need not name it; that to a look afterwards does.
func (s *Source) destination(ctx context.Context, job *bigquery.Job) (*bigquery.Table, error) {
	if table, err := destinationOf(job); table != nil || err != nil {
		return table, err
	}
	client, err := s.jobs()
	if err != nil {
		return nil, err
	}
	if job, err = client.JobFromProject(ctx, job.ProjectID(), job.ID(), job.Location()); err != nil {
		return nil, err
	}
	table, err := destinationOf(job)
	if table == nil && err == nil {
		err = errors.New("it names no table")
	}
	return table, err
}

func destinationOf(job *bigquery.Job) (*bigquery.Table, error) {
	config, err := job.Config()
	if err != nil {
		return nil, err
	}
	if query, ok := config.(*bigquery.QueryConfig); ok {
		return query.Dst, nil
	}
	return nil, nil
}

// next returns the next record batch, which the caller releases; io.EOF after
// the last.
func (s *streams) next() (arrow.RecordBatch, error) {
	record, ok := <-s.out
	if ok {
		return record, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

// read hands out the record batches of one stream.
func (s *streams) read(client *storage.BigQueryReadClient, name string, schema []byte) error {
	source := &messages{ctx: s.ctx, client: client, name: name, current: schema}
	defer source.Release()
	reader, err := ipc.NewReaderFromMessageReader(source)
	if err != nil {
		return fmt.Errorf("read the schema of the result: %w", err)
	}
	defer reader.Release()
	for reader.Next() {
		record := reader.RecordBatch()
		record.Retain()
		select {
		case s.out <- record:
		case <-s.ctx.Done():
			record.Release()
			return s.ctx.Err()
		}
	}
	if err := reader.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// close ends what is being read and waits for it.
func (s *streams) close() {
	s.cancel()
	for record := range s.out {
		record.Release()
	}
}

// messages is a stream's Arrow messages: the schema, then what each response
// holds. A stream that breaks is taken up again behind the last row received.
// Emulators repeat the schema in every response; it counts once.
type messages struct {
	ctx     context.Context
	client  *storage.BigQueryReadClient
	name    string
	current []byte                                // messages that have not been handed out
	schema  bool                                  // it has been handed out
	message *ipc.Message                          // the last one handed out
	calls   storagepb.BigQueryRead_ReadRowsClient // nil: none open
	rows    int64                                 // received
}

// maxResumes bounds how often a stream is taken up again without a response in
// between.
const maxResumes = 5

// Message implements ipc.MessageReader. It lasts until the next call.
func (m *messages) Message() (*ipc.Message, error) {
	for {
		m.Release()
		for len(m.current) == 0 {
			if err := m.next(); err != nil {
				return nil, err
			}
		}
		var err error
		if m.message, m.current, err = cutMessage(m.current); err != nil {
			return nil, err
		}
		switch {
		case m.message == nil:
		case m.message.Type() != ipc.MessageSchema:
			return m.message, nil
		case !m.schema:
			m.schema = true
			return m.message, nil
		}
	}
}

// cutMessage takes an encapsulated message off a stream of them (Arrow's columnar
// format, "Encapsulated message format"), nil at the mark of its end. Arrow's own
// reader would copy the body.
func cutMessage(stream []byte) (message *ipc.Message, rest []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // flatbuffers trusts its bytes
			message, rest, err = nil, nil, fmt.Errorf("read an Arrow message: %v", r)
		}
	}()
	size, head := binary.LittleEndian.Uint32(stream), stream[4:]
	if size == math.MaxUint32 { // the mark of a continuation, which old streams have not
		size, head = binary.LittleEndian.Uint32(head), head[4:]
	}
	if size == 0 {
		return nil, nil, nil
	}
	meta := memory.NewBufferBytes(head[:size:size])
	body := head[size:]
	n := ipc.NewMessage(meta, memory.NewBufferBytes(nil)).BodyLen()
	return ipc.NewMessage(meta, memory.NewBufferBytes(body[:n:n])), body[n:], nil
}

// Retain implements ipc.MessageReader. There is one holder.
func (m *messages) Retain() {}

// Release implements ipc.MessageReader.
func (m *messages) Release() {
	if m.message != nil {
		m.message.Release()
		m.message = nil
	}
}

// next waits for the next response; io.EOF after the last.
func (m *messages) next() error {
	for resumes := 0; ; resumes++ {
		err := m.receive()
		if err == nil || errors.Is(err, io.EOF) || !passing(err) || resumes == maxResumes || m.ctx.Err() != nil {
			return err
		}
		m.calls = nil
		select {
		case <-time.After(time.Duration(resumes+1) * 200 * time.Millisecond):
		case <-m.ctx.Done():
			return m.ctx.Err()
		}
	}
}

// passing reports whether a stream that ended so can be taken up again
// ("Storage Read API", "ReadRows": streams may end early and go on at an
// offset).
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.Aborted, codes.Unknown:
		return true
	}
	return false
}

func (m *messages) receive() error {
	if m.calls == nil {
		calls, err := m.client.ReadRows(m.ctx, &storagepb.ReadRowsRequest{ReadStream: m.name, Offset: m.rows})
		if err != nil {
			return err
		}
		m.calls = calls
	}
	response, err := m.calls.Recv()
	if err != nil {
		return err
	}
	m.rows += response.GetRowCount()
	m.current = response.GetArrowRecordBatch().GetSerializedRecordBatch()
	return nil
}
