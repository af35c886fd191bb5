package bigquerytest

import (
	"context"
	"fmt"
	"path"
	"strings"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reader is the Storage Read API over the server's results.
type reader struct {
	storagepb.UnimplementedBigQueryReadServer
	server *Server
}

// CreateReadSession implements storagepb.BigQueryReadServer.
func (r *reader) CreateReadSession(_ context.Context, q *storagepb.CreateReadSessionRequest) (*storagepb.ReadSession, error) {
	s := r.server
	if s.options.StorageDenied {
		return nil, status.Error(codes.PermissionDenied, "request failed: the user does not have 'bigquery.readsessions.create' permission for "+q.GetParent())
	}
	if q.GetReadSession().GetDataFormat() != storagepb.DataFormat_ARROW {
		return nil, status.Error(codes.InvalidArgument, "only Arrow is served")
	}
	name := path.Base(q.GetReadSession().GetTable())
	s.mu.Lock()
	j := s.jobs[name]
	s.mu.Unlock()
	if j == nil || j.result == nil || q.GetReadSession().GetTable() != fmt.Sprintf("projects/%s/datasets/_anonymous/tables/%s", j.query.Project, name) {
		return nil, status.Errorf(codes.NotFound, "not found: table %s", q.GetReadSession().GetTable())
	}
	schema, err := j.result.serializedSchema()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	session := &storagepb.ReadSession{
		Name: q.GetParent() + "/locations/eu/sessions/" + name, Table: q.GetReadSession().GetTable(), DataFormat: storagepb.DataFormat_ARROW,
		Schema: &storagepb.ReadSession_ArrowSchema{ArrowSchema: &storagepb.ArrowSchema{SerializedSchema: schema}},
	}
	for i := range j.result.streams(int(q.GetMaxStreamCount())) {
		session.Streams = append(session.Streams, &storagepb.ReadStream{Name: fmt.Sprintf("%s/streams/%d-%d", session.GetName(), i, j.result.streams(int(q.GetMaxStreamCount())))})
	}
	return session, nil
}

// streams is how many streams a session has; the client says the most.
func (r *Result) streams(most int) int {
	n := max(r.Streams, 1)
	if most > 0 {
		n = min(n, most)
	}
	return n
}

// ReadRows implements storagepb.BigQueryReadServer.
func (r *reader) ReadRows(q *storagepb.ReadRowsRequest, out storagepb.BigQueryRead_ReadRowsServer) error {
	s := r.server
	parts := strings.Split(q.GetReadStream(), "/")
	var at, of int64
	if _, err := fmt.Sscanf(parts[len(parts)-1], "%d-%d", &at, &of); err != nil || len(parts) < 4 {
		return status.Errorf(codes.NotFound, "not found: %s", q.GetReadStream())
	}
	s.mu.Lock()
	s.reads = append(s.reads, Read{Stream: q.GetReadStream(), Offset: q.GetOffset()})
	j := s.jobs[parts[len(parts)-3]]
	broken := s.broken[q.GetReadStream()]
	s.mu.Unlock()
	if j == nil {
		return status.Errorf(codes.NotFound, "not found: %s", q.GetReadStream())
	}
	res := j.result
	from, to := res.Rows*at/of, res.Rows*(at+1)/of
	if at == of-1 {
		to -= res.Lost
	}
	if from += q.GetOffset(); from > to {
		return status.Errorf(codes.OutOfRange, "offset %d is past the stream's end", q.GetOffset())
	}
	size := res.BatchRow
	if size == 0 {
		size = 1000
	}
	var batch []byte
	var held int64 // rows of batch
	for responses := 0; from < to; responses++ {
		if res.Break > 0 && responses == res.Break && !broken || broken && res.BreakAll {
			s.mu.Lock()
			s.broken[q.GetReadStream()] = true
			s.mu.Unlock()
			return status.Error(codes.Unavailable, "the stream was moved")
		}
		n := min(size, to-from)
		if !res.Repeat || held != n {
			var err error
			if batch, err = res.serializedBatch(from, from+n); err != nil {
				return status.Error(codes.Internal, err.Error())
			}
			if res.Schemas {
				schema, err := res.serializedSchema()
				if err != nil {
					return status.Error(codes.Internal, err.Error())
				}
				batch = append(schema, batch...)
			}
			held = n
		}
		err := out.Send(&storagepb.ReadRowsResponse{
			RowCount: n,
			Rows:     &storagepb.ReadRowsResponse_ArrowRecordBatch{ArrowRecordBatch: &storagepb.ArrowRecordBatch{SerializedRecordBatch: batch}},
		})
		if err != nil {
			return err
		}
		from += n
	}
	return nil
}
