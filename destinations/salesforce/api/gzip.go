package api

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

const (
	// gzipAbove is the size from which a body is worth compressing.
	gzipAbove = 1 << 10
	// gzipLevel is the fastest: the rows are sent once.
	gzipLevel = gzip.BestSpeed
	// uploadChunk is how much of an upload is compressed at a time.
	uploadChunk = 64 << 10
)

var zippers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzipLevel)
	if err != nil {
		panic(err) // the level is a constant that gzip knows
	}
	return z
}}

// compress gives a body in gzip form, in memory of its own: the transport may
// read it after the request has returned.
func compress(body []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(body)/4 + 512)
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(&b)
	_, _ = z.Write(body) // a bytes.Buffer refuses nothing
	_ = z.Close()
	return b.Bytes()
}

// gunzip is a pooled gzip reader.
type gunzip struct {
	z *gzip.Reader
}

var unzippers sync.Pool

func newGunzip(r io.Reader) (*gunzip, error) {
	if z, ok := unzippers.Get().(*gzip.Reader); ok {
		if err := z.Reset(r); err != nil {
			unzippers.Put(z)
			return nil, err
		}
		return &gunzip{z: z}, nil
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return &gunzip{z: z}, nil
}

// Read implements io.Reader.
func (g *gunzip) Read(p []byte) (int, error) {
	if g.z == nil {
		return 0, io.ErrClosedPipe
	}
	return g.z.Read(p)
}

func (g *gunzip) release() {
	if g.z != nil {
		unzippers.Put(g.z)
		g.z = nil
	}
}

// upload compresses a source as the transport reads it: no goroutine, and no
// more than a chunk in memory.
type upload struct {
	onRead func(n int)

	mu     sync.Mutex // the transport may close while it reads
	source io.ReadCloser
	z      *gzip.Writer
	out    bytes.Buffer
	chunk  []byte
	ended  bool // the source is read to its end and the gzip trailer written
	closed bool
	err    error // the source's, not the transport's
}

func newUpload(source io.ReadCloser, onRead func(n int)) *upload {
	u := &upload{onRead: onRead, source: source, chunk: make([]byte, uploadChunk)}
	u.z = zippers.Get().(*gzip.Writer)
	u.z.Reset(&u.out)
	return u
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.out.Len() == 0 {
		switch {
		case u.closed:
			return 0, io.ErrClosedPipe
		case u.err != nil:
			return 0, u.err
		case u.ended:
			return 0, io.EOF
		}
		n, err := u.source.Read(u.chunk)
		_, _ = u.z.Write(u.chunk[:n]) // a bytes.Buffer refuses nothing
		switch {
		case errors.Is(err, io.EOF):
			_ = u.z.Close()
			u.ended = true
		case err != nil:
			u.err = err
		}
	}
	n, _ := u.out.Read(p)
	u.onRead(n)
	return n, nil
}

// Close implements io.Closer, safe twice. It waits for a Read under way.
func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	u.closed = true
	zippers.Put(u.z)
	return u.source.Close()
}

// complete reports whether the source was read to its end. A call without an
// upload is complete.
func (u *upload) complete() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ended
}

// failure is the error that ended the source early, if any.
func (u *upload) failure() error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}
