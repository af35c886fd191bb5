package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/engine/server"
)

// besideConfig has syncs that end in every way there is; the models are files, so
// that a test may change them under a daemon.
const besideConfig = `
[server]
addr = "127.0.0.1:0"

[sources.warehouse]
type = "duckdb"

[destinations.crm]
type = "salesforce"
domain = "${ORG_URL}"
auth = "client_credentials"
client_id = "${ORG_ID}"
client_secret = "${ORG_SECRET}"

[models.accounts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM read_csv('accounts.csv', all_varchar = true)"

[models.contacts]
source = "warehouse"
primary_key = ["c"]
sql = "SELECT * FROM read_csv('contacts.csv', all_varchar = true)"

[syncs.accounts]
model = "accounts"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
on_removed = "delete"
guards = { max_deletes = 1 }
[syncs.accounts.write]
ingestion_api = "rest"
rest_batch_size = 2
parallelism = 1
[syncs.accounts.fields]
Name = "name"

[syncs.contacts]
model = "contacts"
destination = "crm"
object = "Contact"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "c" }
[syncs.contacts.write]
ingestion_api = "rest"
[syncs.contacts.fields]
LastName = "name"

[syncs.wrong]
model = "accounts"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.wrong.fields]
Nmae = "name"

[sequences.nightly]
steps = ["accounts", "contacts"]
[sequences.strict]
steps = ["contacts", "accounts"]
max_row_errors = 0
[sequences.broken]
steps = ["wrong", "accounts"]
`

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// newBeside is a world with besideConfig.
func newBeside(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, emulator.Options{Seed: 7})
	w.config(besideConfig)
	w.write("accounts.csv", "k,name\nA1,Acme\nA2,Bolt\nA3,Core\n")
	w.write("contacts.csv", "c,name\nC1,Ann\nC2,\n")
	return w
}

// What differs from one run to the next, whoever runs it.
var (
	runID     = regexp.MustCompile(`\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}`)
	recordID  = regexp.MustCompile(`\b00[0-9A-Za-z]{16}\b|\b00[0-9A-Za-z]{13}\b`)
	moment    = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?|\d\d:\d\d:\d\d\.\d{3}`)
	lasted    = regexp.MustCompile(`\b\d+(\.\d+)?(ms|s)\b`)
	apiCounts = regexp.MustCompile(`(?m)^ +time .*$|"api":\{[^}]*\}|"durations":\{[^}]*\}|[\d,]+ calls?(, [\d,]+ left today)?|"estimate":\{[^}]*\}|"pid":\d+|"config":"[0-9a-f]*"|"bytes":\d+|[\d.]+ [KMG]iB on disk`)
	listed    = regexp.MustCompile(`(?m)^(RUN \w+ \w+ TOOK( [\d,]+){4}) [\d,]+$`) // a daemon needs fewer calls: it keeps its session
	spaces    = regexp.MustCompile(` +`)
)

func sameText(w *world, text string) string {
	text = strings.ReplaceAll(text, w.dir, "DIR")
	text = runID.ReplaceAllString(text, "RUN")
	text = recordID.ReplaceAllString(text, "ID")
	text = moment.ReplaceAllString(text, "TIME")
	text = lasted.ReplaceAllString(text, "TOOK")
	text = apiCounts.ReplaceAllString(text, "N")
	return listed.ReplaceAllString(spaces.ReplaceAllString(text, " "), "$1 N")
}

// said is what a command says besides its log.
func said(r result) string {
	var out []string
	for _, line := range strings.Split(r.stderr, "\n") {
		if strings.HasPrefix(line, "coho:") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// besideScript is commands, and what happens in between.
var besideScript = []struct {
	name string
	do   func(w *world)
	args string
	code int
}{
	{args: "plan accounts contacts", code: exitDone},
	{args: "plan accounts --detailed-exitcode --json", code: exitChanges},
	{args: "run accounts", code: exitDone},
	{args: "run accounts --json", code: exitDone},
	{args: "plan contacts --key C1", code: exitDone},
	{args: "plan contacts --key c=C1 --detailed-exitcode --json", code: exitChanges},
	{args: "plan contacts --key no=1 --key c=2", code: exitUsage},
	{args: "run contacts --key C1", code: exitDone},
	{args: "run contacts --key C1 --json", code: exitDone},
	{args: "run contacts --key C2", code: exitRows},
	{args: "run contacts --key nobody", code: exitUsage},
	{args: "run contacts --key c=C1 --key c=C2", code: exitUsage},
	{args: "run contacts", code: exitRows},
	{args: "run --sequence nightly --json", code: exitRows},
	{args: "run --sequence strict", code: exitFailed}, // more rows fail than it takes for granted
	{args: "run --all", code: exitUsage},              // one of them is wrong
	{args: "run accounts --dry-run", code: exitDone},
	{args: "runs errors contacts", code: exitDone},
	{args: "runs errors contacts --json", code: exitDone},
	{args: "runs show accounts", code: exitDone},
	{args: "runs show accounts --json", code: exitDone},
	{args: "runs calls nobody", code: exitUsage},
	{args: "run wrong", code: exitUsage},
	{args: "plan wrong", code: exitUsage},
	{args: "run --sequence broken", code: exitUsage},
	{args: "run acounts", code: exitUsage},
	{args: "run accounts acounts", code: exitUsage},
	{args: "plan acounts", code: exitUsage},
	{args: "plan accounts acounts", code: exitUsage},
	{args: "run --sequence nihgtly", code: exitUsage},
	{args: "snapshot show acounts", code: exitUsage},
	{name: "two accounts leave", do: func(w *world) { w.write("accounts.csv", "k,name\nA1,Acme & Son\n") }, args: "run accounts", code: exitHalted},
	{name: "a row beside the halted plan", args: "run accounts --key A1", code: exitUsage},
	{args: "runs plan accounts --operation archive", code: exitDone},
	{args: "runs plan accounts --max 1 --offset 1 --json", code: exitDone},
	{args: "runs plan accounts --max 0 --json", code: exitDone},
	{args: "runs plan accounts --operation delete", code: exitUsage},
	{args: "plan accounts", code: exitDone},
	{args: "run accounts", code: exitHalted},
	{args: "run accounts --approve --json", code: exitDone},
	{args: "runs plan accounts", code: exitUsage},
	{args: "runs --sequence nightly", code: exitDone},
	{args: "runs show nightly", code: exitDone},
	{args: "status --json", code: exitDone},
	{args: "runs show strict --json", code: exitDone},
	{args: "runs show nobody", code: exitUsage},
	{args: "run accounts --full", code: exitDone},
	{args: "snapshot show accounts", code: exitDone},
	{args: "snapshot show accounts --json", code: exitDone},
	{name: "an export", do: func(w *world) {
		r := w.coho("snapshot", "export", "accounts")
		if r.code != exitDone || !strings.Contains(r.stdout, "Acme & Son") {
			w.t.Errorf("snapshot export: %d %s %s", r.code, r.stdout, r.stderr)
		}
		w.write("export.jsonl", r.stdout)
	}, args: "snapshot reset accounts", code: exitDone},
	{args: "plan accounts --detailed-exitcode", code: exitChanges},
	{args: "snapshot import accounts DIR/export.jsonl", code: exitDone},
	{args: "snapshot import accounts DIR/export.jsonl", code: exitFailed}, // it is not empty any more
	{args: "run accounts --json", code: exitDone},
	{name: "no file", do: func(w *world) {
		if err := os.Remove(filepath.Join(w.dir, "accounts.csv")); err != nil {
			w.t.Error(err)
		}
	}, args: "run accounts", code: exitFailed},
	{args: "plan accounts", code: exitFailed},
	{args: "runs --sync contacts", code: exitDone},
	{args: "runs --json --max 2", code: exitDone},
	{args: "cancel accounts", code: exitUsage},
	{args: "cancel nobody", code: exitUsage},
}

// TestCommandsBesideADaemon: the same output and the same exit codes with a daemon
// on the state directory and without.
func TestCommandsBesideADaemon(t *testing.T) {
	alone, beside := newBeside(t), newBeside(t)
	s := beside.serve()
	for _, step := range besideScript {
		var got [2]result
		for i, w := range []*world{alone, beside} {
			if step.do != nil {
				step.do(w)
			}
			got[i] = w.coho(strings.Fields(strings.ReplaceAll(step.args, "DIR", w.dir))...)
			if got[i].code != step.code {
				t.Errorf("coho %s (%s): exit code %d, want %d\n%s%s", step.args, []string{"alone", "beside a daemon"}[i], got[i].code, step.code, got[i].stdout, got[i].stderr)
			}
		}
		if a, b := sameText(alone, got[0].stdout), sameText(beside, got[1].stdout); a != b {
			t.Errorf("coho %s prints alone\n%sand beside a daemon\n%s", step.args, a, b)
		}
		if a, b := sameText(alone, said(got[0])), sameText(beside, said(got[1])); a != b {
			t.Errorf("coho %s says alone\n%s\nand beside a daemon\n%s", step.args, a, b)
		}
	}
	if runs := beside.runsOf("accounts"); len(runs) == 0 || runs[0].PID != s.cmd.Process.Pid || !strings.HasPrefix(runs[0].Trigger, "cli ") {
		t.Errorf("the runs are not the daemon's")
	}
	s.stop()
}

// TestPauseAndStatus: what only a daemon knows.
func TestPauseAndStatus(t *testing.T) {
	w := newBeside(t)
	w.config(strings.Replace(besideConfig, "on_removed", "schedule = \"0 0 29 2 *\"\non_removed", 1))
	if r := w.coho("reload"); r.code != exitUsage || !strings.Contains(r.stderr, "no daemon runs") {
		t.Errorf("reload without a daemon: %d %s", r.code, r.stderr)
	}
	// What is paused while no daemon runs, the next one finds so.
	for _, step := range []struct{ args, want string }{
		{"pause accounts contacts", "sync contacts: schedule paused"},
		{"pause --sequence nightly", "sequence nightly: schedule paused"},
		{"pause accounts", "sync accounts: schedule paused"}, // twice is no error
		{"resume contacts", "sync contacts: schedule resumed"},
		{"status", `(?s)accounts +never .*0 0 29 2 \* \(paused\)\ncontacts .* -\n.*nightly +never +- +- \(paused\)`},
		{"status --json", `"sync":"accounts","schedule":"0 0 29 2 \*","paused":true`},
	} {
		r := w.coho(strings.Fields(step.args)...)
		if r.code != exitDone || !regexp.MustCompile(step.want).MatchString(r.stdout) || said(r) != "" {
			t.Errorf("coho %s: %d %s%s", step.args, r.code, r.stdout, said(r))
		}
	}
	if r := w.coho("pause", "contacts", "acounts"); r.code != exitUsage || !strings.Contains(r.stderr, "accounts") {
		t.Errorf("pause of nobody: %d %s", r.code, r.stderr)
	}
	s := w.serve()
	if r := w.coho("status"); !regexp.MustCompile(`(?s)accounts .* paused\ncontacts .* -\n.*nightly +never +- +- +paused`).MatchString(r.stdout) {
		t.Errorf("what was paused before the daemon began: %s", r.stdout)
	}
	w.coho("resume", "accounts")
	for _, step := range []struct{ args, want string }{
		{"status", `accounts +never .*0 0 29 2 \* +\d{4}-02-29 00:00:00`},
		{"pause accounts", "sync accounts: schedule paused"},
		{"status", `accounts +never .*0 0 29 2 \* +paused`},
		{"status --json", `"paused":true`},
		{"resume accounts", "sync accounts: schedule resumed"},
		{"status --json", `"next_run":"\d{4}-02-29`},
		{"pause --sequence nightly", "sequence nightly: schedule paused"},
		{"status", `nightly +never +- +- +paused`},
		{"reload", "the daemon has read its config again"},
	} {
		r := w.coho(strings.Fields(step.args)...)
		if r.code != exitDone || !regexp.MustCompile(step.want).MatchString(r.stdout) || said(r) != "" {
			t.Errorf("coho %s: %d %s%s", step.args, r.code, r.stdout, said(r))
		}
	}
	if r := w.coho("pause", "acounts"); r.code != exitUsage || !strings.Contains(r.stderr, "accounts") {
		t.Errorf("pause of nobody: %d %s", r.code, r.stderr)
	}
	s.stop()
}

// told waits until the daemon's metrics have a line.
func (s *serving) told(line string) {
	s.t.Helper()
	addr := regexp.MustCompile(`addr=(\S+)`).FindStringSubmatch(s.said())
	if addr == nil {
		s.t.Fatalf("the daemon does not say where it answers:\n%s", s.said())
	}
	for until := time.Now().Add(daemonLimit); ; {
		resp, err := http.Get("http://" + addr[1] + "/metrics")
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			s.t.Fatal(err)
		}
		if strings.Contains(string(text), line) {
			return
		}
		if time.Now().After(until) {
			s.t.Fatalf("the metrics do not say %s:\n%s", line, text)
		}
	}
}

// blocked starts `coho run accounts` beside a daemon as a process of its own, and
// returns when its n-th write waits.
func (w *world) blocked(n int64, args ...string) (cmd *exec.Cmd, out *bytes.Buffer, errs *awaited, release func()) {
	w.t.Helper()
	working, going := make(chan struct{}), make(chan struct{})
	w.onWrite(func(i int64) {
		if i == n {
			close(working)
			<-going
		}
	})
	release = sync.OnceFunc(func() { close(going) })
	w.t.Cleanup(release)
	cmd = w.child(append([]string{"run", "accounts"}, args...)...)
	out, errs = &bytes.Buffer{}, &awaited{text: "stopping: ", said: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	<-working
	return cmd, out, errs, release
}

// code is the exit code of a command that was waited for.
func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

// TestInterruptStopsTheDaemonsRun: Ctrl-C of the command stops the run as it would
// stop its own, and not the daemon; the sync is busy meanwhile.
func TestInterruptStopsTheDaemonsRun(t *testing.T) {
	w := newBeside(t)
	var text strings.Builder
	text.WriteString("k,name\n")
	for i := range 20 {
		fmt.Fprintf(&text, "A%d,n%d\n", i, i)
	}
	w.write("accounts.csv", text.String())
	s := w.serve()
	cmd, out, errs, release := w.blocked(2, "--json")
	if r := w.coho("run", "accounts"); r.code != exitLocked || r.stdout != "" {
		t.Errorf("a second run: %d %s%s", r.code, r.stdout, r.stderr)
	}
	if r := w.coho("status", "--json"); !strings.Contains(r.stdout, `"running":"`) {
		t.Errorf("status: %s", r.stdout)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.told(`coho_http_requests_total{code="202",method="POST",route="/api/v1/runs/{run}/cancel"} 1`)
	release()
	if got := code(t, cmd.Wait()); got != exitInt {
		t.Errorf("exit code %d, want %d\n%s%s", got, exitInt, out, errs)
	}
	w.org.OnCall(nil)
	if run := decodeRun(t, out.String()); run.Status != engine.Canceled || run.Outcomes.Created == 0 || run.Outcomes.Created == 20 {
		t.Errorf("%s %+v", run.Status, run.Outcomes)
	}
	w.run(exitDone, "accounts")
	if n := w.org.Org().Count("Account"); n != 20 {
		t.Errorf("the org has %d accounts", n)
	}
	s.stop()
}

// TestCancel: of a run of the daemon, and of one of another process.
func TestCancel(t *testing.T) {
	for _, daemon := range []bool{false, true} {
		t.Run(fmt.Sprintf("daemon=%v", daemon), func(t *testing.T) {
			w := newBeside(t)
			w.write("accounts.csv", "k,name\nA1,a\nA2,b\nA3,c\nA4,d\nA5,e\nA6,f\n")
			if daemon {
				w.serve()
			}
			cmd, out, errs, release := w.blocked(2, "--json")
			if r := w.coho("cancel", "accounts"); r.code != exitDone || !strings.Contains(r.stdout, "is stopping") {
				t.Errorf("cancel: %d %s%s", r.code, r.stdout, r.stderr)
			}
			if !daemon { // a signal is on its way for as long as it likes
				select {
				case <-errs.said:
				case <-time.After(daemonLimit):
					t.Errorf("the run does not stop:\n%s", errs)
				}
			}
			release()
			// A process that is signalled says so by its code; one whose daemon's
			// run was canceled has not been.
			want := exitInt
			if daemon {
				want = exitFailed
			}
			if got := code(t, cmd.Wait()); got != want {
				t.Errorf("exit code %d, want %d\n%s%s", got, want, out, errs)
			}
			if run := decodeRun(t, out.String()); run.Status != engine.Canceled {
				t.Errorf("%s", run.Status)
			}
		})
	}
}

// TestDaemonKilledInMidCommand: one line that says so, and exit code 1.
func TestDaemonKilledInMidCommand(t *testing.T) {
	w := newBeside(t)
	s := w.serve()
	cmd, out, errs, release := w.blocked(1)
	s.signal(syscall.SIGKILL)
	err := cmd.Wait()
	release()
	w.org.OnCall(nil)
	r := result{code(t, err), out.String(), errs.String()}
	if text := said(r); r.code != exitFailed || r.stdout != "" || strings.Count(text, "\n") != 0 || !strings.Contains(text, fmt.Sprintf("the daemon (process %d) went away", s.cmd.Process.Pid)) {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	s.wait()
	// Its socket is nobody's: the commands do by themselves what is left.
	w.run(exitDone, "accounts")
	w.run(exitDone, "accounts")
	if n := w.org.Org().Count("Account"); n != 3 {
		t.Errorf("the org has %d accounts", n)
	}
}

// TestOtherConfigAndVersion: a daemon that goes by another config, is another
// version, or speaks another API is told of.
func TestOtherConfigAndVersion(t *testing.T) {
	w := newBeside(t)
	s := w.serve()
	if r := w.coho("status"); said(r) != "" {
		t.Errorf("with the same config: %s", r.stderr)
	}
	w.write("other.toml", strings.Replace(besideConfig, `Name = "name"`, `Name = "k"`, 1))
	if r := w.coho("--config", filepath.Join(w.dir, "other.toml"), "status"); r.code != exitDone || !strings.Contains(said(r), "a config that differs from") {
		t.Errorf("with another config: %d %s", r.code, r.stderr)
	}
	s.stop()

	state := filepath.Join(w.dir, ".coho")
	for _, c := range []struct {
		version, api, want string
		code               int
	}{
		{"v99.0.0", "v1", "warning: the daemon (process 7) is coho v99.0.0 and this is coho " + version(), exitDone},
		{"v99.0.0", "v2", "speaks API v2", exitFailed},
	} {
		if err := os.Remove(filepath.Join(state, server.SocketName)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", filepath.Join(state, server.SocketName))
		if err != nil {
			t.Fatal(err)
		}
		other := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			text := `{"runs":[]}`
			if strings.HasSuffix(r.URL.Path, "/server") {
				text = fmt.Sprintf(`{"version":%q,"api":%q,"pid":7,"started_at":"2026-01-01T00:00:00Z","config_fingerprint":"x"}`, c.version, c.api)
			}
			_, _ = io.WriteString(rw, text)
		})}
		served := make(chan error, 1)
		go func() { served <- other.Serve(l) }()
		r := w.coho("runs")
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		<-served
		if r.code != c.code || !strings.Contains(said(r), c.want) {
			t.Errorf("%+v: %d %s", c, r.code, r.stderr)
		}
	}
}
