package alerts

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// received is a request or a mail that arrived.
type received struct {
	host, path, query, contentType, body string
}

// receiver is an HTTP server that keeps what it is sent.
type receiver struct {
	*httptest.Server
	got chan received

	mu     sync.Mutex
	status int           // of its answers; 0: 200
	answer string        // their body
	hang   chan struct{} // answers come when it is closed
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{got: make(chan received, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		host := q.Header.Get("X-Meant-For")
		if host == "" {
			host = q.Host
		}
		// Its answer is settled before anyone hears of it: a test that changes
		// the answers then means the next request.
		r.mu.Lock()
		status, answer, hang := r.status, r.answer, r.hang
		r.mu.Unlock()
		r.got <- received{host, q.URL.Path, q.URL.RawQuery, q.Header.Get("Content-Type"), string(body)}
		if hang != nil {
			<-hang
		}
		if status != 0 {
			w.WriteHeader(status)
		}
		if _, err := io.WriteString(w, answer); err != nil {
			t.Logf("answer: %v", err)
		}
	}))
	t.Cleanup(func() {
		r.Close()
		http.DefaultTransport.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	})
	return r
}

func (r *receiver) answers(status int, answer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.answer = status, answer
}

// next returns what arrived next.
func (r *receiver) next(t *testing.T) received {
	t.Helper()
	select {
	case got := <-r.got:
		return got
	case <-time.After(20 * time.Second):
		t.Fatal("nothing arrived")
		return received{}
	}
}

// none checks that nothing more arrived. What would send has ended.
func (r *receiver) none(t *testing.T) {
	t.Helper()
	select {
	case got := <-r.got:
		t.Errorf("arrived too: %+v", got)
	default:
	}
}

// redirected has every request of the library arrive at a receiver, whatever
// host and scheme it is for: the addresses of Slack, Teams and PagerDuty are
// fixed.
func (r *receiver) redirected(t *testing.T) {
	t.Helper()
	was := http.DefaultTransport
	http.DefaultTransport = &redirect{to: r.URL, by: was.(*http.Transport)}
	t.Cleanup(func() { http.DefaultTransport = was })
}

type redirect struct {
	to string
	by *http.Transport
}

func (d *redirect) RoundTrip(q *http.Request) (*http.Response, error) {
	to, err := url.Parse(d.to)
	if err != nil {
		return nil, err
	}
	q = q.Clone(q.Context())
	q.Header.Set("X-Meant-For", q.URL.Host)
	q.URL.Scheme, q.URL.Host = to.Scheme, to.Host
	return d.by.RoundTrip(q)
}

func (d *redirect) CloseIdleConnections() { d.by.CloseIdleConnections() }

// mailbox is an SMTP server that takes every mail.
type mailbox struct {
	addr string
	got  chan string
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mailbox{addr: l.Addr().String(), got: make(chan string, 10)}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() { m.serve(c) })
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		done.Wait()
	})
	return m
}

func (m *mailbox) serve(c net.Conn) {
	defer c.Close()
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	say("220 mailbox ready")
	var mail strings.Builder
	in := false
	for lines := bufio.NewScanner(c); lines.Scan(); {
		line := lines.Text()
		switch verb, _, _ := strings.Cut(strings.ToUpper(line), " "); {
		case in && line == ".":
			in = false
			m.got <- mail.String()
			say("250 taken")
		case in:
			mail.WriteString(line + "\n")
		case verb == "DATA":
			in = true
			say("354 go on")
		case verb == "QUIT":
			say("221 bye")
			return
		case verb == "EHLO":
			say("250-mailbox")
			say("250 8BITMIME")
		default: // HELO, MAIL, RCPT
			mail.WriteString(line + "\n")
			say("250 ok")
		}
	}
}
