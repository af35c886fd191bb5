package emulator_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coho/destinations/salesforce/emulator"
)

// The foreign client does not close the bodies of answers, which keeps its own
// connections open; the server's goroutines are what is looked for.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(serveUntilKilled(dir))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// client is the plainest of clients: what is asserted is what is on the wire.
type client struct {
	t     testing.TB
	s     *emulator.Server
	http  *http.Client
	token string
}

const v66 = "/services/data/v66.0"

func start(t *testing.T, o emulator.Options) *client {
	t.Helper()
	s, err := emulator.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func newClient(t testing.TB, s *emulator.Server) *client {
	return &client{t: t, s: s, http: &http.Client{Transport: &http.Transport{}}, token: s.Credentials().AccessToken}
}

// orgFile writes an org file for a test.
func orgFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (c *client) try(method, path, body string, header ...string) (answer, error) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.s.URL()+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

func (c *client) do(method, path, body string, header ...string) answer {
	c.t.Helper()
	a, err := c.try(method, path, body, header...)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// want makes a request whose status must be the given one.
func (c *client) want(status int, method, path, body string, header ...string) answer {
	c.t.Helper()
	a := c.do(method, path, body, header...)
	if a.status != status {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

func (a answer) decode(t testing.TB, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatalf("decode %q: %v", a.body, err)
	}
}

// refused checks that an answer is one error in Salesforce's shape.
func (c *client) refused(a answer, status int, code, part string) {
	c.t.Helper()
	var errs []struct {
		Message   string `json:"message"`
		ErrorCode string `json:"errorCode"`
	}
	if a.status != status {
		c.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	a.decode(c.t, &errs)
	if len(errs) == 0 || errs[0].ErrorCode != code || !strings.Contains(errs[0].Message, part) {
		c.t.Fatalf("got %s, want %s with %q", a.body, code, part)
	}
}

type result struct {
	ID      string `json:"id"`
	Success bool   `json:"success"`
	Created bool   `json:"created"`
	Errors  []struct {
		StatusCode string   `json:"statusCode"`
		Message    string   `json:"message"`
		Fields     []string `json:"fields"`
	} `json:"errors"`
}

func (c *client) results(a answer) []result {
	c.t.Helper()
	if a.status != http.StatusOK {
		c.t.Fatalf("status %d: %s", a.status, a.body)
	}
	var out []result
	a.decode(c.t, &out)
	return out
}

type page struct {
	TotalSize int              `json:"totalSize"`
	Done      bool             `json:"done"`
	Next      string           `json:"nextRecordsUrl"`
	Records   []map[string]any `json:"records"`
}

func (c *client) query(soql string) page {
	c.t.Helper()
	var p page
	c.want(200, "GET", v66+"/query?q="+url.QueryEscape(soql), "").decode(c.t, &p)
	return p
}

func (c *client) insert(object, body string) string {
	c.t.Helper()
	var r result
	c.want(201, "POST", v66+"/sobjects/"+object, body).decode(c.t, &r)
	return r.ID
}

type job struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Message   string `json:"errorMessage"`
	Processed int    `json:"numberRecordsProcessed"`
	Failed    int    `json:"numberRecordsFailed"`
}

func (c *client) createJob(body string) job {
	c.t.Helper()
	var j job
	c.want(200, "POST", v66+"/jobs/ingest", body).decode(c.t, &j)
	return j
}

func (c *client) upload(id, text string) {
	c.t.Helper()
	c.want(201, "PUT", v66+"/jobs/ingest/"+id+"/batches", text, "Content-Type", "text/csv")
}

func (c *client) job(id string) job {
	c.t.Helper()
	var j job
	c.want(200, "GET", v66+"/jobs/ingest/"+id, "").decode(c.t, &j)
	return j
}

func (c *client) await(id string) job {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		j := c.job(id)
		switch j.State {
		case "JobComplete", "Failed", "Aborted":
			return j
		}
		time.Sleep(time.Millisecond) // an org has no call that waits for a job
	}
	c.t.Fatalf("job %s does not end", id)
	return job{}
}

// load runs a job from creation to its end.
func (c *client) load(create, text string) job {
	c.t.Helper()
	j := c.createJob(create)
	c.upload(j.ID, text)
	c.want(200, "PATCH", v66+"/jobs/ingest/"+j.ID, `{"state":"UploadComplete"}`)
	return c.await(j.ID)
}

// rows reads one of a job's result files as maps by header.
func (c *client) rows(id, file string) []map[string]string {
	c.t.Helper()
	a := c.want(200, "GET", v66+"/jobs/ingest/"+id+"/"+file+"/", "", "Accept", "text/csv")
	all, err := csv.NewReader(bytes.NewReader([]byte(a.body))).ReadAll()
	if err != nil {
		c.t.Fatal(err)
	}
	var out []map[string]string
	for n, cells := range all {
		if n == 0 {
			continue
		}
		m := map[string]string{}
		for i, h := range all[0] {
			m[h] = cells[i]
		}
		out = append(out, m)
	}
	return out
}
