package server

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
	"go.uber.org/goleak"

	"coho/destinations"
	"coho/destinations/salesforce"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/engine/config"
	"coho/engine/daemon"
	"coho/models"
	"coho/sources"
	"coho/sources/duckdb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const token = "a-token-of-the-tests"

// world is a daemon with its server, a warehouse and an org.
type world struct {
	t       *testing.T
	dir     string
	state   string
	org     *emulator.Server
	daemon  *daemon.Daemon
	server  *Server
	metrics *Metrics
	addr    string
	client  *Client // over the socket

	stop func() // ends the daemon and its server
}

// worldOptions says what is special about a world.
type worldOptions struct {
	config string // instead of the usual one
	state  string // instead of a folder in the test's own
	token  models.Secret
	ended  func(*engine.Run, *engine.History)
}

const usual = `
[state]
dir = "state"

[sources.warehouse]
type = "duckdb"
path = "warehouse.duckdb"

[destinations.crm]
type = "salesforce"
domain = "${ORG_URL}"
auth = "client_credentials"
client_id = "${ORG_ID}"
client_secret = "${ORG_SECRET}"

[models.accounts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM accounts"

[syncs.accounts]
model = "accounts"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
on_removed = "delete"
guards = { max_deletes = 2 }
schedule = "0 4 1 1 *"
[syncs.accounts.write]
ingestion_api = "rest"
rest_batch_size = 10
parallelism = 1
[syncs.accounts.fields]
Name = "name"
Phone = "phone"

[models.contacts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM contacts"

[syncs.contacts]
model = "contacts"
destination = "crm"
object = "Contact"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.contacts.fields]
LastName = "name"

[sequences.nightly]
steps = ["accounts", "contacts"]
schedule = "0 5 1 1 *"
`

func newWorld(t *testing.T, o worldOptions) *world {
	t.Helper()
	org, err := emulator.Start(context.Background(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir(), org: org}
	t.Cleanup(func() {
		if err := org.Close(); err != nil {
			t.Error(err)
		}
	})
	if o.config == "" {
		o.config = usual
	}
	w.config(o.config)
	w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::VARCHAR AS phone FROM range(30) t(i);
		CREATE TABLE contacts AS SELECT 'C' || i AS k, CASE WHEN i > 0 THEN 'n' || i END AS name FROM range(5) t(i)`)

	w.metrics = NewMetrics("v1.2.3")
	d := daemon.New(daemon.Options{Load: func() (*daemon.Wired, error) {
		cfg, e, err := w.load(o.state)
		if err != nil {
			return nil, err
		}
		w.state = cfg.StateDir
		e.RunEnded = func(r *engine.Run) {
			w.metrics.RunEnded(r)
			if o.ended != nil {
				o.ended(r, w.daemon.Engine().History())
			}
		}
		return &daemon.Wired{Engine: e, Fingerprint: "feed"}, nil
	}})
	w.daemon = d
	if err := d.Open(); err != nil {
		t.Fatal(err)
	}
	if o.token == "" {
		o.token = token
	}
	w.server, err = New(Options{Daemon: d, StateDir: w.state, Addr: "127.0.0.1:0", Token: o.token, Version: "v1.2.3", Config: func() string { return "feed" }, Metrics: w.metrics})
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr()
	work, stop := context.WithCancel(context.Background())
	answers, hangUp := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.server.Serve(answers, l); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := d.Run(work); err != nil {
			t.Error(err)
		}
	})
	w.stop = sync.OnceFunc(func() {
		w.server.Stop()
		stop()
		w.org.OnCall(nil)
		for w.daemon.Ready() == nil {
			time.Sleep(time.Millisecond)
		}
		hangUp()
		running.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	w.client, err = Dial(t.Context(), w.state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	for d.Ready() != nil {
		time.Sleep(time.Millisecond) // until restore has ended, which nothing tells of
	}
	return w
}

func (w *world) config(text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "coho.toml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sql(statements string) {
	w.t.Helper()
	db, err := sql.Open("duckdb", filepath.Join(w.dir, "warehouse.duckdb"))
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = db.Exec(statements)
	if err = errors.Join(err, db.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// load wires the config as the commands do.
func (w *world) load(state string) (*config.Config, engine.Options, error) {
	c := w.org.Credentials()
	env := map[string]string{"ORG_URL": c.URL, "ORG_ID": c.ClientID, "ORG_SECRET": c.ClientSecret}
	cfg, err := config.Load(filepath.Join(w.dir, "coho.toml"), func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	if err != nil {
		return nil, engine.Options{}, err
	}
	if state != "" {
		cfg.StateDir = state
	}
	return cfg, engine.Options{
		StateDir: cfg.StateDir, Syncs: cfg.Syncs, SyncOrder: cfg.SyncNames(), Sequences: cfg.Sequences,
		OpenSource: func(name string) (sources.Source, error) {
			s := cfg.Sources[name].DuckDB
			return duckdb.Open(duckdb.Options{Path: s.Path, Dir: s.Dir})
		},
		OpenDestination: func(name string) (destinations.Destination, error) {
			s := cfg.Destinations[name].Salesforce
			client, err := api.New(api.Config{
				Domain: s.Domain, Auth: s.Auth, ClientID: s.ClientID, ClientSecret: s.ClientSecret, APIVersion: s.APIVersion,
				Trace: func(ctx context.Context, call api.Call) {
					engine.RecordCall(ctx, engine.APICall{Time: call.Time, Method: call.Method, Path: call.Path, Status: call.Status, MS: float64(call.Duration.Microseconds()) / 1000, Rows: call.Rows, Login: call.Login, Request: call.Request, Answer: call.Answer})
				}, TraceBytes: engine.CallBytes,
			})
			if err != nil {
				return nil, err
			}
			return salesforce.New(client, salesforce.Options{}), nil
		},
	}, nil
}

// answer is what a request got.
type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends a request over TCP, with the token.
func (w *world) ask(method, path, body string, header ...string) answer {
	w.t.Helper()
	return w.askAs(token, method, path, body, header...)
}

// askAs sends a request over TCP with any token, "" for none. header are names and
// values in turn.
func (w *world) askAs(token, method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.addr+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, string(text)}
	if method != http.MethodHead {
		described.check(w.t, method, path, a)
	}
	return a
}

// want asks and checks the status.
func (w *world) want(code int, method, path, body string, header ...string) answer {
	w.t.Helper()
	a := w.ask(method, path, body, header...)
	if a.code != code {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.code, code, a.body)
	}
	return a
}

// problemIn decodes the problem of an answer.
func (a answer) problem(t *testing.T) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" || p.Status != a.code {
		t.Fatalf("no problem document: %d %s %s", a.code, a.header.Get("Content-Type"), a.body)
	}
	return p
}

// run starts runs over the socket and waits for their ends.
func (w *world) run(r StartRequest) []Ended {
	w.t.Helper()
	runs, err := w.client.Start(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.watch(runs)
}

// watch follows runs to their ends.
func (w *world) watch(runs []StartedRun) (out []Ended) {
	w.t.Helper()
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.Run)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := w.client.Watch(ctx, ids, func(Progress) {}, func(e Ended) { out = append(out, e) }); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// held makes the org's n-th write of records wait until release is called.
func (w *world) held(n int) (working <-chan struct{}, release func()) {
	at, going := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	seen := 0
	w.org.OnCall(func(kind string) {
		if !strings.HasPrefix(kind, "collections") {
			return
		}
		mu.Lock()
		seen++
		mine := seen == n
		mu.Unlock()
		if mine {
			close(at)
			<-going
		}
	})
	release = sync.OnceFunc(func() { close(going) })
	w.t.Cleanup(release)
	return at, release
}

func (e Ended) String() string {
	text := fmt.Sprintf("%s %s", e.Sync, e.Run)
	if e.Record != nil {
		text += " " + string(e.Record.Status)
	}
	if e.Problem != nil {
		text += " " + e.Problem.Code
	}
	return text
}
