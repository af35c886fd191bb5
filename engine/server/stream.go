package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The names of events.
const (
	eventProgress = "progress"
	eventEnded    = "ended"
)

// How event streams behave.
const (
	// beatEvery is how often a stream with nothing to say sends a comment, so
	// that proxies keep it open and a client that is gone is noticed.
	beatEvery = 15 * time.Second
	// sampleEvery is how often a stream looks at how far runs are.
	sampleEvery = 250 * time.Millisecond
	// patience is how long a client may take to accept what is sent before it
	// is dropped. Runs never wait for it: each stream reads their progress
	// itself, at its own pace.
	patience = 10 * time.Second
	// mostStreams bounds the streams at one time.
	mostStreams = 256
)

// stream sends server-sent events, as the HTML Living Standard has them.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	buf  bytes.Buffer
	sent time.Time // when something was last sent
}

// openStream begins the answer.
func openStream(w http.ResponseWriter) (*stream, error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that buffer would hold events back
	s := &stream{w: w, rc: http.NewResponseController(w)}
	s.buf.WriteString(": coho\n\n")
	return s, s.flush()
}

// send sends an event.
func (s *stream) send(event string, v any) error {
	fmt.Fprintf(&s.buf, "event: %s\ndata: ", event)
	enc := json.NewEncoder(&s.buf) // one line, and its end
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	s.buf.WriteByte('\n')
	return s.flush()
}

// beat shows that the stream is alive, where nothing else has lately.
func (s *stream) beat(now time.Time) error {
	if now.Sub(s.sent) < beatEvery {
		return nil
	}
	s.buf.WriteString(":\n\n")
	return s.flush()
}

func (s *stream) flush() error {
	s.sent = time.Now()
	err := s.rc.SetWriteDeadline(s.sent.Add(patience))
	if err == nil {
		_, err = s.w.Write(s.buf.Bytes())
	}
	if err == nil {
		err = s.rc.Flush()
	}
	s.buf.Reset()
	if err != nil {
		return errGone
	}
	return nil
}

// errGone says that nobody reads the answer any more.
var errGone = errors.New("the client is gone")

// maxEvent bounds a line of an event stream that a client reads.
const maxEvent = 16 << 20

// readEvents calls each with the events of a stream until it ends, or each
// returns false.
func readEvents(r io.Reader, each func(event string, data []byte) (more bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	event, data := "", []byte(nil)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if data != nil {
				if more, err := each(event, data); err != nil || !more {
					return err
				}
			}
			event, data = "", nil
			continue
		}
		name, value, _ := strings.Cut(line, ":") // a comment's name is empty
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			event = value
		case "data":
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, value...)
			if data == nil {
				data = []byte{}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
