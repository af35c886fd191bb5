package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coho/engine"
)

// listen reads a stream of events over TCP into a channel, which is closed when
// the stream ends.
func (w *world) listen(path string) (events <-chan any, hangUp func()) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+w.addr+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("%s: %s %s", path, resp.Status, resp.Header.Get("Content-Type"))
	}
	out := make(chan any, 1000)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		// The error is that of every stream: it ended.
		_ = readEvents(resp.Body, func(event string, data []byte) (bool, error) {
			var v any = &Progress{}
			if event == eventEnded {
				v = &Ended{}
			}
			if err := json.Unmarshal(data, v); err != nil {
				return false, err
			}
			out <- v
			return true, nil
		})
	}()
	w.t.Cleanup(cancel)
	return out, cancel
}

// TestEventsOfARun: a stream begins with how the run stands, tells of its progress,
// and ends with it.
func TestEventsOfARun(t *testing.T) {
	w := newWorld(t, worldOptions{})
	working, release := w.held(2)
	runs, err := w.client.Start(t.Context(), StartRequest{Syncs: []string{"accounts"}})
	if err != nil {
		t.Fatal(err)
	}
	<-working
	events, _ := w.listen("/api/v1/runs/" + runs[0].Run + "/events")
	first, ok := (<-events).(*Progress)
	if !ok || first.Run != runs[0].Run || first.Sync != "accounts" || first.Stage != "writing" || first.RowsRead != 30 || first.Total != 30 || first.Settled != 10 {
		t.Errorf("the first event: %+v", first)
	}
	release()
	var last *Ended
	for e := range events {
		if last != nil {
			t.Errorf("an event after the last: %+v", e)
		}
		last, _ = e.(*Ended)
	}
	if last == nil || last.Record == nil || last.Record.Status != engine.Succeeded || last.Record.Outcomes.Created != 30 || last.Problem != nil {
		t.Fatalf("the last event: %v", last)
	}
	// Of a run that has ended, the end.
	events, _ = w.listen("/api/v1/runs/accounts/events")
	if e, ok := (<-events).(*Ended); !ok || e.Record == nil || e.Record.ID != runs[0].Run {
		t.Errorf("the only event: %+v", e)
	}
	if _, more := <-events; more {
		t.Error("the stream goes on after the run's end")
	}
}

// TestEventsOfAllRuns: runs that begin later are followed too; the stream outlives
// them.
func TestEventsOfAllRuns(t *testing.T) {
	w := newWorld(t, worldOptions{})
	events, hangUp := w.listen("/api/v1/events")
	for range 2 {
		runs, err := w.client.Start(t.Context(), StartRequest{Sequence: "nightly"})
		if err != nil {
			t.Fatal(err)
		}
		ended := map[string]*Ended{}
		for len(ended) < 2 {
			if e, ok := (<-events).(*Ended); ok {
				if ended[e.Run] != nil {
					t.Errorf("run %s ended twice", e.Run)
				}
				ended[e.Run] = e
			}
		}
		for _, r := range runs {
			if e := ended[r.Run]; e == nil || e.Sync != r.Sync || e.Record == nil {
				t.Errorf("the end of %+v: %v", r, e)
			}
		}
	}
	hangUp()
	for range events {
	}
	w.gone()
}

// gone waits until no stream is open.
func (w *world) gone() {
	w.t.Helper()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		w.server.mu.Lock()
		n := w.server.streams
		w.server.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(until) {
			w.t.Fatalf("%d streams are open still", n)
		}
	}
}

// TestRunsDoNotWaitForSlowClients: a client that reads nothing of a stream holds up
// neither run nor stop, and is let go.
func TestRunsDoNotWaitForSlowClients(t *testing.T) {
	w := newWorld(t, worldOptions{})
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /api/v1/events HTTP/1.1\r\nHost: coho\r\nAuthorization: Bearer %s\r\n\r\n", token); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, e := range w.run(StartRequest{All: true, Full: true}) {
			if e.Record == nil {
				t.Errorf("ended: %s", e)
			}
		}
	}
	w.stop() // a stop does not wait for it either
	w.gone()
}

// TestStreamsDropWhoDoesNotRead: a write that nobody takes ends within patience.
func TestStreamsDropWhoDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe() // without a buffer, and with deadlines
		defer far.Close()
		s := &stream{w: &pipeAnswer{near, http.Header{}}}
		s.rc = http.NewResponseController(s.w)
		began := time.Now()
		if err := s.send(eventProgress, Progress{}); err != errGone {
			t.Errorf("sending to nobody: %v", err)
		}
		if took := time.Since(began); took != patience {
			t.Errorf("it took %s, want %s", took, patience)
		}
	})
}

// pipeAnswer is an answer that goes into a connection.
type pipeAnswer struct {
	net.Conn
	header http.Header
}

func (p *pipeAnswer) Header() http.Header { return p.header }
func (p *pipeAnswer) WriteHeader(int)     {}
func (p *pipeAnswer) Flush()              {}

// TestStreamsBeat: a comment every fifteen seconds without an event.
func TestStreamsBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		got := make(chan string, 100)
		go func() {
			buf := make([]byte, 1024)
			for {
				n, err := far.Read(buf)
				if err != nil {
					return
				}
				got <- string(buf[:n])
			}
		}()
		s := &stream{w: &pipeAnswer{near, http.Header{}}}
		s.rc = http.NewResponseController(s.w)
		if err := s.send(eventProgress, Progress{Sync: "a\nb"}); err != nil {
			t.Fatal(err)
		}
		if text := <-got; !strings.HasPrefix(text, "event: progress\ndata: {") || !strings.HasSuffix(text, "}\n\n") || strings.Count(text, "\n") != 3 {
			t.Errorf("an event: %q", text)
		}
		beats := 0
		for range 4 * 31 { // 31 seconds
			time.Sleep(sampleEvery)
			if err := s.beat(time.Now()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(got) > 0 {
				beats++
				if text := <-got; text != ":\n\n" {
					t.Errorf("a beat: %q", text)
				}
			}
		}
		if beats != 2 {
			t.Errorf("%d beats in 31 seconds, want 2", beats)
		}
	})
}

// TestMostStreams: past the limit a stream is refused, and let in when another has
// ended.
func TestMostStreams(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.server.mu.Lock()
	w.server.streams = mostStreams
	w.server.mu.Unlock()
	if p := w.want(503, "GET", "/api/v1/events", "").problem(t); p.Code != CodeTooMany {
		t.Errorf("%+v", p)
	}
	w.server.mu.Lock()
	w.server.streams = 0
	w.server.mu.Unlock()
	_, hangUp := w.listen("/api/v1/events")
	hangUp()
	w.gone()
}

// TestStopEndsPlansAndStreams: a stop ends a plan that waits for the org, refuses
// new work, and ends streams of all runs.
func TestStopEndsPlansAndStreams(t *testing.T) {
	w := newWorld(t, worldOptions{})
	events, _ := w.listen("/api/v1/events")
	asked := make(chan struct{})
	going := make(chan struct{})
	defer close(going)
	first := true
	w.org.OnCall(func(kind string) {
		if first {
			first = false
			close(asked)
			<-going
		}
	})
	planned := make(chan error, 1)
	go func() {
		_, err := w.client.Plan(context.Background(), "accounts", false, func(Progress) {})
		planned <- err
	}()
	<-asked
	w.server.Stop()
	err := <-planned
	var p *Problem
	if err == nil {
		t.Error("the plan was made")
	} else if ok := asProblem(err, &p); !ok || p.Code != CodeCanceled {
		t.Errorf("the plan: %v", err)
	}
	for range events {
	}
	for _, c := range [][2]string{{"GET", "/readyz"}, {"POST", "/api/v1/runs"}, {"POST", "/api/v1/syncs/accounts/plan"}, {"GET", "/api/v1/syncs/accounts/snapshot"}} {
		if p := w.want(503, c[0], c[1], "").problem(t); p.Code != CodeStopping {
			t.Errorf("%v: %+v", c, p)
		}
	}
	w.want(200, "GET", "/healthz", "")
	w.want(200, "GET", "/api/v1/syncs", "")
}

func asProblem(err error, into **Problem) bool {
	p, ok := err.(*Problem)
	*into = p
	return ok
}

// FuzzReadEvents: whatever a stream holds, it ends without a panic, and what a
// stream sends is read back as it was.
func FuzzReadEvents(f *testing.F) {
	f.Add("progress", "{}")
	f.Add("", "x\ny")
	f.Add("a: b", "\n\n")
	f.Fuzz(func(t *testing.T, event, data string) {
		_ = readEvents(strings.NewReader(event+"\n"+data), func(string, []byte) (bool, error) { return true, nil })
		if strings.ContainsAny(event, "\r\n") {
			return
		}
		var out strings.Builder
		text, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "event: %s\ndata: %s\n\n", event, text)
		n := 0
		_ = readEvents(strings.NewReader(out.String()), func(e string, d []byte) (bool, error) {
			n++
			if strings.TrimPrefix(e, " ") != strings.TrimPrefix(event, " ") || string(d) != string(text) {
				t.Errorf("%q %q were read as %q %q", event, text, e, d)
			}
			return true, nil
		})
		if n != 1 {
			t.Errorf("%d events", n)
		}
	})
}
