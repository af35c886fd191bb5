package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coho/models"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// environment is an env for Load from pairs of name and value.
func environment(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// write puts files, given as name, content pairs, into a new folder.
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func loadText(t *testing.T, text string, env ...string) (*Config, error) {
	t.Helper()
	return Load(filepath.Join(write(t, "coho.toml", text), "coho.toml"), environment(env...))
}

func mustLoad(t *testing.T, text string, env ...string) *Config {
	t.Helper()
	c, err := loadText(t, text, env...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// keyPEM is a key file for jwt_bearer.
func keyPEM(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// base is a valid config that tests add to.
const base = `
[sources.w]
type = "duckdb"
[destinations.crm]
type = "salesforce"
domain = "acme.my.salesforce.com"
auth = "client_credentials"
client_id = "id"
client_secret = "s3cret"
[models.m]
source = "w"
primary_key = ["k"]
table = "t"
`

const baseSync = base + `
[syncs.s]
model = "m"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Key__c", column = "k" }
`

// TestMistakes loads each testdata/*.toml and compares all that is wrong with
// it with the .golden file beside it.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	env := environment("EMPTY", "", "SECRET_WORD", "hunter2", "BAD_CRON", "hunter2 hunter2", "BAD_EXPR", "hunter2 hunter2")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(filepath.ToSlash(file), env)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want Problems", err)
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("a secret is in the error:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".toml") + ".golden"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestStarter(t *testing.T) {
	c := mustLoad(t, string(Starter()))
	if s := c.Syncs["accounts"]; s == nil || len(s.Fields) != 2 || s.Model.SQL == "" {
		t.Errorf("the starter's sync: %+v", s)
	}
}

// commentedKey is a line of the example that is a key commented out: a # with
// no space after it.
var commentedKey = regexp.MustCompile(`(?m)^#([^ \n])`)

func TestExample(t *testing.T) {
	example, err := os.ReadFile("../../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{
		"WAREHOUSE_DSN", "postgres://u:p@h/db", "SF_CLIENT_ID", "id", "SF_CLIENT_SECRET", "s", "SF_REFRESH_TOKEN", "r",
		"COHO_TOKEN", "t", "ALERT_URL", "https://example.com/hook",
		"SNOWFLAKE_PASSPHRASE", "p", "SNOWFLAKE_PASSWORD", "p", "SNOWFLAKE_TOKEN", "p", "SNOWFLAKE_PAT", "p",
	}
	c := mustLoad(t, string(example), env...)
	if got := c.SyncNames(); !slices.Equal(got, []string{"accounts", "contacts", "people", "opportunities"}) {
		t.Errorf("syncs %v", got)
	}
	if got, want := c.Syncs["accounts"].Write, mustLoad(t, baseSync).Syncs["s"].Write; got != want {
		t.Errorf("the example says that its [write] holds the defaults:\n got %+v\nwant %+v", got, want)
	}

	// All keys at once: the keys that exclude each other are then the mistakes.
	everything := commentedKey.ReplaceAllString(string(example), "$1")
	dir := write(t, "coho.toml", everything, "salesforce.pem", keyPEM(t), "opportunities.sql", "SELECT 1", "target/manifest.json", productsManifest, "snowflake.p8", keyPEM(t), "bigquery.json", "{}")
	l := &loader{env: environment(env...), seen: map[string]bool{}}
	l.load(filepath.Join(dir, "coho.toml"))
	d := &decoder{loader: l, config: &Config{
		Sources: map[string]Source{}, Destinations: map[string]Destination{}, Models: map[string]models.Model{},
		Syncs: map[string]*models.Sync{}, Sequences: map[string]models.Sequence{}, Alerts: map[string]Alert{},
	}}
	d.decode(l.merged())
	l.problems = l.problems.sorted()
	if len(l.problems) != 3 || !strings.Contains(l.problems[0].Message, "access_token exclude each other") ||
		!strings.Contains(l.problems[1].Message, "sql, sql_file, table and dbt_model exclude each other") ||
		!strings.Contains(l.problems[2].Message, "master excludes group and child") {
		t.Errorf("the example with its commented keys:\n%v", l.problems)
	}
	if len(d.keys) < 60 {
		t.Errorf("only %d keys are known", len(d.keys))
	}
	for key, there := range d.keys {
		if !there {
			t.Errorf("config.example.toml does not show %s", key)
		}
	}
}

func TestValues(t *testing.T) {
	dir := write(t, "conf/coho.toml", `
include = ["more/*.toml"]
[state]
dir = "state"
[sources.pg]
type = "postgres"
dsn = "host=/tmp password=$$${PASSWORD}"
statement_timeout = "30s"
[sources.duck]
type = "duckdb"
path = "../w.duckdb"
[destinations.crm]
type = "salesforce"
domain = "http://127.0.0.1:8088/"
auth = "jwt_bearer"
client_id = "id"
username = "u@x"
private_key_file = "key.pem"
daily_api_calls = 50_000
enforce_api_limits = false
[server]
addr = ":9000"
token = "${file:token}"
[history]
keep_runs = 7
keep_days = 0
[alerts.oncall]
url = "https://example.com/x"
on = ["failed"]
syncs = ["early"]
[sequences.nightly]
steps = ["later", ["early", "later"]]
schedule = "@every 10m"
on_error = "continue"
max_row_errors = "1%"
[models.early]
source = "pg"
primary_key = ["a", "b"]
sql_file = "q.sql"
[syncs.early]
model = "early"
destination = "crm"
object = "Contact"
mode = "update"
match = { field = "Email", column = "email" }
on_removed = "clear_fields"
`, "conf/more/later.toml", `
[models.later]
source = "duck"
primary_key = ["k"]
table = "t"
[syncs.later]
model = "later"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Key__c", column = "k" }
on_removed = "delete"
[syncs.later.guards]
max_changes = 25
`, "conf/key.pem", keyPEM(t), "conf/token", "tok\r\n", "conf/q.sql", "SELECT 1")
	path := filepath.Join(dir, "conf", "coho.toml")
	_, err := Load(path, environment("PASSWORD", "pw"))
	if err == nil || !strings.Contains(err.Error(), "fields is missing") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v, want the one problem of an update without fields", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, "fields = { Title = \"title\" }\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, environment("PASSWORD", "pw"))
	if err != nil {
		t.Fatal(err)
	}
	crm := c.Destinations["crm"].Salesforce
	if !strings.HasPrefix(crm.PrivateKey.Reveal(), "-----BEGIN") {
		t.Error("the private key was not read")
	}
	crm.PrivateKey = ""
	conf := filepath.Join(dir, "conf")
	for _, test := range []struct {
		name      string
		got, want any
	}{
		{"state", c.StateDir, filepath.Join(conf, "state")},
		{"files", c.Files, []string{path, filepath.Join(conf, "more", "later.toml")}},
		{"postgres", *c.Sources["pg"].Postgres, Postgres{DSN: "host=/tmp password=$pw", StatementTimeout: 30 * time.Second}},
		{"duckdb", *c.Sources["duck"].DuckDB, DuckDB{Path: filepath.Join(dir, "w.duckdb"), Dir: conf}},
		{"salesforce", *crm, Salesforce{
			Domain: "http://127.0.0.1:8088", Auth: "jwt_bearer", ClientID: "id", Username: "u@x",
			APIVersion: "62.0", DailyAPICalls: 50000,
		}},
		{"server", c.Server, Server{Addr: ":9000", Token: "tok", MaxRuns: 4, ShutdownTimeout: 30 * time.Second}},
		{"alert", c.Alerts["oncall"], Alert{Name: "oncall", URL: "https://example.com/x", On: []string{"failed"}, Syncs: []string{"early"}, Pos: c.Alerts["oncall"].Pos}},
		{"where an alert's address is", filepath.Base(c.Alerts["oncall"].Pos), "coho.toml:28:7"},
		{"history", c.History, History{KeepRuns: 7}},
		{"model", c.Models["early"], models.Model{Name: "early", Source: "pg", SQL: "SELECT 1", PrimaryKey: []string{"a", "b"}}},
		{"sync's model", c.Syncs["later"].Model.Table, "t"},
		{"order", c.SyncNames(), []string{"early", "later"}},
		{"sequence", c.Sequences["nightly"], models.Sequence{
			Name: "nightly", Steps: [][]string{{"later"}, {"early", "later"}}, Schedule: "@every 10m", Timezone: "UTC", OnError: "continue", MaxRowErrors: models.Limit{Set: true, IsShare: true, Percent: 1},
			Timing: models.Timing{CatchUp: "skip", Overlap: "skip"},
		}},
		{"guards", c.Syncs["later"].Guards, models.Guards{MaxChanges: models.Limit{Set: true, Count: 25}}},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, test.got, test.want)
		}
	}
}

func TestWriteDefaults(t *testing.T) {
	got := mustLoad(t, baseSync).Syncs["s"]
	want := models.Write{
		IngestionAPI: "automatic", BulkAPIVersion: "2.0", RESTBatchSize: 200, Parallelism: 10, ConcurrencyMode: "parallel",
		SortBatchesBy: "auto", SplitRetries: true, MaxAttempts: 5, RetryRejected: "always", OnUnknown: "hold", Send: "changed",
		Nulls: "on_change", InvalidRelationships: "error",
	}
	if got.Write != want {
		t.Errorf("got %+v\nwant %+v", got.Write, want)
	}
	if got.OnRemoved != models.RemovedNothing || got.Timezone != "UTC" || got.Guards != (models.Guards{}) {
		t.Errorf("got %+v", got)
	}
	one := mustLoad(t, baseSync+"[syncs.s.write]\nbulk_api_version = \"1.0\"\n").Syncs["s"]
	if one.Write.BulkBatchSize != 10000 {
		t.Errorf("Bulk 1.0 holds %d records a batch, want 10000", one.Write.BulkBatchSize)
	}
}

func TestFields(t *testing.T) {
	c := mustLoad(t, baseSync+`
[syncs.s.fields]
Zip = "zip"
Key__c = "k"
"Name" = { column = "name", on = "create" }
Upper = { expr = 'upper(row["odd name"])' }
Parent = { lookup = { object = "Account", field = "Key__c", column = "p" } }
C01 = { value = "text ${WORD}" }
C02 = { value = 1_000 }
C03 = { value = 0x1f }
C04 = { value = 1_234.500 }
C05 = { value = 1.5e3 }
C06 = { value = -2e-3 }
C07 = { value = true }
C08 = { value = 2024-02-29 }
C09 = { value = 07:32:00.5 }
C10 = { value = 2024-02-29T07:32:00 }
C11 = { value = 2024-02-29 07:32:00+01:00 }
C12 = { value = ["a", "b"] }
C13 = { value = +99 }
C14 = { value = 0.10000000000000000000000000001 }
C15 = { value = "" }
RecordTypeId = { record_type = "Person", on = "create" }
`, "WORD", "w")
	var got []string
	for _, f := range c.Syncs["s"].Fields {
		line := f.Name + " " + f.Column + f.Expr
		if f.Lookup != nil {
			line += fmt.Sprint(*f.Lookup)
		}
		if f.Constant != nil {
			line += f.Constant.Kind().String() + " " + f.Constant.Text()
		}
		if f.RecordType != "" {
			line += "record type " + f.RecordType
		}
		if f.OnCreate {
			line += " on create"
		}
		got = append(got, line)
	}
	want := []string{
		"C01 text text w", "C02 int 1000", "C03 int 31", "C04 decimal 1234.5", "C05 decimal 1500", "C06 decimal -0.002",
		"C07 bool true", "C08 date 2024-02-29", "C09 time 07:32:00.5", "C10 timestamp 2024-02-29T07:32:00",
		"C11 timestamptz 2024-02-29T06:32:00Z", "C12 list a;b", "C13 int 99", "C14 decimal 0.10000000000000000000000000001",
		"C15 text ", "Name name on create", "Parent {Account Key__c p}", "RecordTypeId record type Person on create", `Upper upper(row["odd name"])`, "Zip zip",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if pos := c.Syncs["s"].Fields[19].Pos; !strings.HasSuffix(pos, "coho.toml:23:1") {
		t.Errorf("Zip is at %s", pos)
	}
}

func TestInsertKeepsTheMatchField(t *testing.T) {
	c := mustLoad(t, base+`
[syncs.s]
model = "m"
destination = "crm"
object = "Account"
mode = "insert"
match = { field = "Key__c", column = "k" }
fields = { Key__c = "k" }
`)
	if len(c.Syncs["s"].Fields) != 1 {
		t.Error("an insert does not write its match field unless it is mapped, and the mapping was dropped")
	}
}

func TestInterpolation(t *testing.T) {
	env := []string{"A", "alpha", "EMPTY", "", "DOLLAR", "${A}"}
	for _, test := range []struct{ in, want, problem string }{
		{"plain", "plain", ""},
		{"${A}", "alpha", ""},
		{"x${A}y${A}z", "xalphayalphaz", ""},
		{"$${A}", "${A}", ""},
		{"$$$${A}", "$${A}", ""},
		{"$$${A}", "$alpha", ""},
		{"cost $5 and $", "cost $5 and $", ""},
		{"^a$", "^a$", ""},
		{"${NONE:-fallback}", "fallback", ""},
		{"${EMPTY:-fallback}", "fallback", ""},
		{"${A:-fallback}", "alpha", ""},
		{"${NONE:-}", "", ""},
		{"${EMPTY}", "", ""},
		{"${DOLLAR}", "${A}", ""}, // what is read is not read again
		{"${file:secret}", "from file", ""},
		{"${NONE}", "", "the environment variable NONE is not set"},
		{"${A} ${NONE} ${NONE2}", "", "NONE is not set\nNONE2 is not set"},
		{"${file:none}", "", "${file:none}: no such file"},
		{"${file:.}", "", "${file:.}: "},
		{"${A", "", "closing brace"},
		{"${}", "", "is not ${VARIABLE}"},
		{"${A-x}", "", "is not ${VARIABLE}"},
	} {
		t.Run(test.in, func(t *testing.T) {
			dir := write(t, "secret", "from file\n")
			l := &loader{env: environment(env...)}
			got, broken := l.interpolate(test.in, position{filepath.Join(dir, "coho.toml"), 3, 7})
			if test.problem == "" {
				if broken || len(l.problems) != 0 || got != test.want {
					t.Errorf("got %q, %v; want %q", got, l.problems, test.want)
				}
				return
			}
			wanted := strings.Split(test.problem, "\n")
			if !broken || len(l.problems) != len(wanted) {
				t.Fatalf("got %q, %v; want %q", got, l.problems, test.problem)
			}
			for i, w := range wanted {
				if p := l.problems[i]; !strings.Contains(p.Message, w) || p.Line != 3 || p.Column != 7 {
					t.Errorf("got %v, want %q", p, w)
				}
			}
		})
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "coho.toml"), environment())
	if err == nil || !strings.Contains(err.Error(), "no such config file; `coho init` writes one") {
		t.Errorf("a missing file: %v", err)
	}
	_, err = Load(dir, environment())
	if err == nil || !strings.Contains(err.Error(), "cannot read the config: is a directory") {
		t.Errorf("a directory: %v", err)
	}
	// Permissions do not stop root, so the reason is tested apart.
	if got := reason(&os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}); got != "permission denied" {
		t.Errorf("permission: %s", got)
	}
}

// A file that cannot be read may define what seems undefined.
func TestBrokenIncludeHidesNoOtherMistake(t *testing.T) {
	dir := write(t, "coho.toml", "include = [\"more.toml\", \"none.toml\"]\n"+strings.Replace(baseSync, `"m"`, `"elsewhere"`, 1)+"bad = 1\n", "more.toml", "[models.elsewhere\n")
	_, err := Load(filepath.Join(dir, "coho.toml"), environment())
	want := []string{`coho.toml:1:25: include: no file "none.toml"`, `coho.toml:22:1: syncs.s: unknown key "bad"`, "more.toml:1:"}
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != len(want) {
		t.Fatalf("got %v", err)
	}
	for i, w := range want {
		if !strings.Contains(problems[i].Error(), w) {
			t.Errorf("got %v, want %s", problems[i], w)
		}
	}
}

func TestIncludeCycleAndDuplicates(t *testing.T) {
	dir := write(t, "coho.toml", "include = [\"more/*.toml\"]\n"+base,
		"more/a.toml", "include = [\"../coho.toml\", \"*.toml\"]\n[models.m]\nsource = \"w\"\n[state]\ndir = \"x\"\n",
		"more/b.toml", "[state]\ndir = \"y\"\n[models.n]\nsource = \"w\"\nprimary_key = [\"k\"]\ntable = \"t\"\n")
	_, err := Load(filepath.Join(dir, "coho.toml"), environment())
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(problems[0].Error(), "a.toml:2:9: models.m is already defined at ") ||
		!strings.Contains(problems[1].Error(), "b.toml:1:2: state is already defined at ") {
		t.Errorf("got %v", err)
	}
}

func TestPrivateKeys(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	good := keyPEM(t)
	block, _ := pem.Decode([]byte(good))
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, key, want string }{
		{"pkcs1", good, ""},
		{"pkcs8", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der8})), ""},
		{"elliptic", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: ecDER})), "not an RSA key"},
		{"text", "hunter2", "not a PEM file"},
		{"garbage", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hunter2")})), "not a private key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(base, `"client_credentials"`, `"jwt_bearer"`, 1)
			text = strings.Replace(text, `client_secret = "s3cret"`, "username = \"u\"\nprivate_key_file = \"k.pem\"", 1)
			dir := write(t, "coho.toml", text, "k.pem", test.key)
			c, err := Load(filepath.Join(dir, "coho.toml"), environment())
			if test.want == "" {
				if err != nil || c.Destinations["crm"].Salesforce.PrivateKey.Reveal() != test.key {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), `private_key_file: "k.pem": `+test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Nothing that a file holds may make Load panic, and each mistake is a line
// with a place.
func FuzzLoad(f *testing.F) {
	f.Add(baseSync)
	f.Add(string(Starter()))
	f.Add("[syncs]\nx = 1\n[[models]]\n[models.a]\n")
	f.Add("a.b.c = { d = [1, 2.5, 2024-01-01] }\n")
	f.Add("[state]\ndir = \"${A:-$$}\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") || strings.Contains(text, "file") {
			return // would read files of the machine at random
		}
		path := filepath.Join(t.TempDir(), "coho.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, environment("A", "a"))
		if err == nil {
			for _, name := range c.SyncNames() {
				if c.Syncs[name] == nil {
					t.Fatalf("no sync %q", name)
				}
			}
			return
		}
		var problems Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("got %v, want Problems", err)
		}
		lines := strings.Count(text, "\n") + 1
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Message == "" || strings.ContainsAny(p.Message, "\n\r") {
				t.Fatalf("a problem without a place, or of several lines: %#v", p)
			}
		}
	})
}
