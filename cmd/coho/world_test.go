package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	_ "github.com/duckdb/duckdb-go/v2"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/sources/postgres/postgrestest"
)

// childVar makes the test binary be coho itself, so that tests can kill a real
// process.
const childVar = "COHO_TEST_CHILD"

// fileLimitVar makes that process unable to write past so many bytes of any
// file: a write then fails as it does on a full disk.
const fileLimitVar = "COHO_TEST_FILE_LIMIT"

func TestMain(m *testing.M) {
	if os.Getenv(childVar) == "1" {
		if s := os.Getenv(fileLimitVar); s != "" {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				panic(err)
			}
			signal.Ignore(syscall.SIGXFSZ)
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
				panic(err)
			}
		}
		os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
	}
	// The race detector has each process wait a second before it exits, and the
	// tests start hundreds: https://go.dev/doc/articles/race_detector#Options
	if err := os.Setenv("GORACE", "atexit_sleep_ms=20 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	os.Exit(postgrestest.Main(m))
}

// world is a folder with a warehouse and a config, and an org to write to.
type world struct {
	t   *testing.T
	dir string
	org *emulator.Server
	env map[string]string
}

func newWorld(t *testing.T, o emulator.Options) *world {
	t.Helper()
	org, err := emulator.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := org.Close(); err != nil {
			t.Error(err)
		}
	})
	c := org.Credentials()
	return &world{t: t, dir: t.TempDir(), org: org, env: map[string]string{
		"ORG_URL": c.URL, "ORG_ID": c.ClientID, "ORG_SECRET": c.ClientSecret,
	}}
}

// head is the part of the config that every test shares.
const head = `
[sources.warehouse]
type = "duckdb"
path = "warehouse.duckdb"

[destinations.crm]
type = "salesforce"
domain = "${ORG_URL}"
auth = "client_credentials"
client_id = "${ORG_ID}"
client_secret = "${ORG_SECRET}"
`

// accounts is the config of a plain upsert sync; more goes into its section.
func accounts(more string) string {
	return head + `
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
` + more + `

[syncs.accounts.fields]
Name = "name"
Phone = "phone"
`
}

func (w *world) config(text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "coho.toml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// sql runs statements in the warehouse.
func (w *world) sql(statements string, args ...any) {
	w.t.Helper()
	db, err := sql.Open("duckdb", filepath.Join(w.dir, "warehouse.duckdb"))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := db.Exec(statements, args...); err != nil {
		w.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
}

// coho runs a command in this process.
func (w *world) coho(args ...string) result {
	w.t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"--config", filepath.Join(w.dir, "coho.toml")}, args...)
	code := Execute(args, &out, &errs, func(k string) (string, bool) { v, ok := w.env[k]; return v, ok }, nil)
	return result{code, out.String(), errs.String()}
}

// child prepares a command as a process of its own.
func (w *world) child(args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"--config", filepath.Join(w.dir, "coho.toml")}, args...)...)
	cmd.Env = append(os.Environ(), childVar+"=1")
	for k, v := range w.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

// run runs a sync and returns its record; the exit code must be the one
// wanted.
func (w *world) run(code int, args ...string) *engine.Run {
	w.t.Helper()
	r := w.coho(append([]string{"run", "--json"}, args...)...)
	if r.code != code {
		w.t.Fatalf("coho run %v: exit code %d, want %d\n%s%s", args, r.code, code, r.stdout, r.stderr)
	}
	return decodeRun(w.t, r.stdout)
}

func decodeRun(t *testing.T, out string) *engine.Run {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 1 {
		t.Fatalf("want one JSON document, got %d lines:\n%s", len(lines), out)
	}
	var run engine.Run
	if err := json.Unmarshal([]byte(lines[0]), &run); err != nil {
		t.Fatalf("%v in %s", err, lines[0])
	}
	return &run
}

// errorsOf returns the row errors of a sync's last run.
func (w *world) errorsOf(sync string) []engine.RowError {
	w.t.Helper()
	r := w.coho("runs", "errors", sync, "--json")
	if r.code != 0 {
		w.t.Fatalf("runs errors: exit code %d: %s", r.code, r.stderr)
	}
	var out []engine.RowError
	for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
		if line == "" {
			continue
		}
		var e engine.RowError
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// records returns the org's records of an object by warehouse key; two with
// one key are an error.
func (w *world) records(object string) map[string]map[string]any {
	w.t.Helper()
	out := map[string]map[string]any{}
	for _, r := range w.org.Org().Records(object) {
		k, _ := r["Warehouse_Key__c"].(string)
		if k == "" {
			continue
		}
		if _, ok := out[k]; ok {
			w.t.Errorf("the org has two %s records with key %s", object, k)
		}
		out[k] = r
	}
	return out
}

// field is a record's field as text, "" for null.
func field(r map[string]any, name string) string {
	if v := r[name]; v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// want checks that the org's accounts are exactly the ones given, key by key,
// as "name|phone".
func (w *world) want(accounts map[string]string) {
	w.t.Helper()
	got := w.records("Account")
	for k, v := range accounts {
		r, ok := got[k]
		if !ok {
			w.t.Errorf("account %s is not in the org", k)
			continue
		}
		if have := field(r, "Name") + "|" + field(r, "Phone"); have != v {
			w.t.Errorf("account %s is %q in the org, want %q", k, have, v)
		}
	}
	for k := range got {
		if _, ok := accounts[k]; !ok {
			w.t.Errorf("account %s is in the org and should not be", k)
		}
	}
}
