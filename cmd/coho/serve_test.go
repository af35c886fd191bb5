package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// daemonLimit is how long tests wait for what a daemon is to do.
const daemonLimit = 60 * time.Second

// serving is a daemon as a process of its own.
type serving struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of its log, closed at its end
	read  chan struct{}

	mu  sync.Mutex
	log strings.Builder // guarded by mu
}

// serve starts a daemon and waits until it works.
func (w *world) serve() *serving {
	w.t.Helper()
	s := w.startServing()
	s.await("coho serves")
	return s
}

// startServing starts a daemon.
func (w *world) startServing() *serving {
	w.t.Helper()
	s := &serving{t: w.t, cmd: w.child("serve"), lines: make(chan string, 100_000), read: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(s.read)
		defer close(s.lines)
		for r := bufio.NewReader(stderr); ; {
			line, err := r.ReadString('\n')
			s.mu.Lock()
			s.log.WriteString(line)
			s.mu.Unlock()
			if err != nil {
				return
			}
			s.lines <- line
		}
	}()
	w.t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
			<-s.read
			_ = s.cmd.Wait()
		}
		if w.t.Failed() {
			w.t.Logf("the daemon's log:\n%s", s.said())
		}
	})
	return s
}

func (s *serving) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// await waits for the next log line that holds all the parts.
func (s *serving) await(parts ...string) string {
	s.t.Helper()
	limit := time.After(daemonLimit)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the daemon ended without saying %q:\n%s", parts, s.said())
			}
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return line
			}
		case <-limit:
			s.t.Fatalf("the daemon does not say %q:\n%s", parts, s.said())
		}
	}
}

func (s *serving) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
}

// wait waits for the process to end and returns its exit code, -1 where it was
// killed.
func (s *serving) wait() int {
	s.t.Helper()
	select {
	case <-s.read:
	case <-time.After(daemonLimit):
		s.t.Fatalf("the daemon does not end:\n%s", s.said())
	}
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return s.cmd.ProcessState.ExitCode()
}

// stop ends the daemon as systemd and Docker do; the exit code must say so.
func (s *serving) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.wait(); code != exitTerm {
		s.t.Errorf("coho serve ended with exit code %d, want %d", code, exitTerm)
	}
}

// served is the config of a daemon on any free port.
const served = "\n[server]\naddr = \"127.0.0.1:0\"\n"

// scheduled is the accounts sync with a schedule, in small batches.
func scheduled(line, api string) string {
	return accounts("schedule = \""+line+"\"\n[syncs.accounts.write]\ningestion_api = \""+api+"\"\nrest_batch_size = 10\nbulk_batch_size = 20\nparallelism = 2") + served
}

// never is a schedule that does not come while a test runs.
const never = "0 0 29 2 *"

// onWrite calls f with the number of each request that writes records.
func (w *world) onWrite(f func(n int64)) {
	var n atomic.Int64
	w.org.OnCall(func(kind string) {
		if strings.HasPrefix(kind, "collections") || kind == "bulk.close" {
			f(n.Add(1))
		}
	})
}

// endAt sends a daemon a signal at its n-th write, and returns what waits for its
// end and returns its exit code. Where it is not killed, that write is in flight
// until it has begun to stop.
func (w *world) endAt(s *serving, n int64, sig syscall.Signal) (wait func() int) {
	stopping := make(chan struct{})
	release := sync.OnceFunc(func() { close(stopping) })
	w.t.Cleanup(release)
	w.onWrite(func(i int64) {
		if i != n {
			return
		}
		s.signal(sig)
		if sig != syscall.SIGKILL {
			<-stopping
		}
	})
	return func() int {
		w.t.Helper()
		if sig != syscall.SIGKILL {
			s.await("coho is stopping")
			release()
		}
		defer w.org.OnCall(nil)
		return s.wait()
	}
}

// runsOf lists a sync's runs, oldest first.
func (w *world) runsOf(sync string) []*engine.Run {
	w.t.Helper()
	runs, err := engine.OpenHistory(filepath.Join(w.dir, ".coho", "runs"), engine.Retention{}).List(sync, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(runs)
	return runs
}

// twoHundred fills the warehouse and returns what the org is to hold.
func (w *world) twoHundred() map[string]string {
	w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::VARCHAR AS phone FROM range(200) t(i)`)
	want := map[string]string{}
	for i := range 200 {
		want[fmt.Sprintf("A%d", i)] = fmt.Sprintf("n%d|%d", i, i)
	}
	return want
}

// TestServeStopsCleanly: on SIGTERM a daemon lets batches in flight finish and
// commits them; what is left goes on at the next start, without waiting for the
// schedule, and nothing is sent twice.
func TestServeStopsCleanly(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			want := w.twoHundred()
			w.config(scheduled("@every 1s", api))
			s := w.startServing()
			if code := w.endAt(s, 3, syscall.SIGTERM)(); code != exitTerm {
				t.Errorf("exit code %d, want %d", code, exitTerm)
			}
			runs := w.runsOf("accounts")
			landed := w.org.Org().Count("Account")
			if len(runs) != 1 || runs[0].Status != engine.Canceled || landed == 0 || landed == 200 || runs[0].Outcomes.Created != int64(landed) || runs[0].Trigger != "schedule" {
				t.Fatalf("%d landed; %d runs, the first %+v", landed, len(runs), runs[0])
			}
			w.config(scheduled(never, api))
			s = w.serve()
			s.await("run ended", "succeeded")
			s.stop()
			w.want(want)
			if runs = w.runsOf("accounts"); len(runs) != 2 || runs[1].Resumed != runs[0].ID || len(runs[1].Warnings) == 0 || !strings.Contains(strings.Join(runs[1].Warnings, "\n"), "goes on with run "+runs[0].ID) {
				t.Errorf("%d runs, the last %+v", len(runs), runs[len(runs)-1])
			}
			if c := w.org.Counters().Records; c.UpsertCreated != 200 || c.UpsertUpdated != 0 {
				t.Errorf("the org was sent %+v", c)
			}
			// And that was all.
			s = w.serve()
			s.stop()
			if runs = w.runsOf("accounts"); len(runs) != 2 {
				t.Errorf("%d runs", len(runs))
			}
		})
	}
}

// TestServeStopsInTime: a batch that does not come to its end within the
// shutdown timeout is given up; the next start asks what became of it.
func TestServeStopsInTime(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	want := w.twoHundred()
	w.config(scheduled("@every 1s", "rest") + "shutdown_timeout = \"1s\"\n")
	s := w.startServing()
	release := make(chan struct{})
	var stopped atomic.Int64
	w.onWrite(func(n int64) {
		if n == 3 {
			stopped.Store(time.Now().UnixNano())
			s.signal(syscall.SIGTERM)
		}
		if n >= 3 {
			<-release
		}
	})
	code := s.wait()
	took := time.Since(time.Unix(0, stopped.Load()))
	close(release)
	w.org.OnCall(nil)
	if code != exitTerm || took < time.Second || took > 20*time.Second || !strings.Contains(s.said(), "the shutdown timeout is over") {
		t.Errorf("exit code %d after %s", code, took)
	}
	w.config(scheduled(never, "rest"))
	s = w.serve()
	s.await("run ended", "succeeded")
	s.stop()
	w.want(want)
	if n := w.org.Org().Count("Account"); n != 200 {
		t.Errorf("the org has %d accounts", n)
	}
}

// three is a config of three syncs and a sequence of them.
func three(line string) string {
	text := head + served
	for _, n := range []string{"a", "b", "c"} {
		text += fmt.Sprintf(`
[models.%[1]s]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM accounts WHERE k LIKE '%[1]s%%'"
[syncs.%[1]s]
model = "%[1]s"
destination = "crm"
object = "Account"
mode = "insert"
fields = { Name = "name", Warehouse_Key__c = "k" }
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.%[1]s.write]
ingestion_api = "rest"
rest_batch_size = 10
parallelism = 1
`, n)
	}
	return text + fmt.Sprintf(`
[sequences.nightly]
steps = ["a", "b", "c"]
schedule = %q
`, line)
}

// TestServeEndsInMidSequence: the daemon is killed, or stopped, while the second of
// three steps writes. The next start finishes that step's plan and takes the third,
// at once; the first is not run again, no record is lost or doubled, and one
// record tells of the whole sequence.
func TestServeEndsInMidSequence(t *testing.T) {
	for _, c := range []struct {
		sig    syscall.Signal
		code   int
		second engine.Status // of the run that was cut short
	}{{syscall.SIGKILL, -1, engine.Failed}, {syscall.SIGTERM, exitTerm, engine.Canceled}} {
		t.Run(c.sig.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, emulator.Options{})
			w.sql(`CREATE TABLE accounts AS SELECT s || i AS k, s || i AS name FROM range(60) t(i), (VALUES ('a'), ('b'), ('c')) v(s)`)
			w.config(three("@every 1s"))
			s := w.startServing()
			if code := w.endAt(s, 9, c.sig)(); code != c.code { // a took 6, b is at its third
				t.Fatalf("exit code %d, want %d", code, c.code)
			}
			if n := w.org.Org().Count("Account"); n < 80 || n > 100 {
				t.Fatalf("%d accounts in the org", n)
			}
			w.config(three(never))
			s = w.serve()
			s.await("sequence ended", "succeeded")
			s.stop()
			names := map[string]int{}
			for _, r := range w.org.Org().Records("Account") {
				names[field(r, "Name")]++
			}
			if n := w.org.Org().Count("Account"); n != 180 || len(names) != 180 {
				t.Errorf("the org has %d accounts of %d names, want 180", n, len(names))
			}
			for sync, want := range map[string][]engine.Status{
				"a": {engine.Succeeded}, "b": {c.second, engine.Succeeded}, "c": {engine.Succeeded},
			} {
				var got []engine.Status
				for _, r := range w.runsOf(sync) {
					got = append(got, r.Status)
				}
				if !slices.Equal(got, want) {
					t.Errorf("runs of %s: %v, want %v", sync, got, want)
				}
			}
			if b := w.runsOf("b"); len(b) == 2 && b[1].Resumed != b[0].ID {
				t.Errorf("b's second run did not go on with the first's plan: %+v", b[1])
			}
			whole, err := engine.OpenHistory(filepath.Join(w.dir, ".coho", "runs"), engine.Retention{}).ListSequences("nightly", 0)
			if err != nil || len(whole) != 1 || whole[0].Status != engine.Succeeded || !whole[0].Resumed {
				t.Errorf("%+v %v", whole, err)
			}
		})
	}
}

// TestServeFinishesOthersPlans: what a killed `coho run` has left is finished
// when a daemon starts.
func TestServeFinishesOthersPlans(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	want := w.twoHundred()
	w.config(scheduled(never, "rest"))
	if w.killedAtCall(9) {
		t.Fatal("the run was not killed")
	}
	s := w.serve()
	s.await("run ended", "succeeded")
	s.stop()
	w.want(want)
	if runs := w.runsOf("accounts"); len(runs) != 2 || runs[1].Trigger != "resume" || runs[1].Resumed != runs[0].ID {
		t.Errorf("%d runs, the last %+v", len(runs), runs[len(runs)-1])
	}
}

// TestServeReloads: on SIGHUP and when a file changes; a config with mistakes is
// refused and the old one kept.
func TestServeReloads(t *testing.T) {
	t.Parallel() // most of it is waiting
	w := newWorld(t, emulator.Options{})
	w.sql(threeAccounts)
	good := "include = [\"more/*.toml\"]\n" + scheduled(never, "rest")
	w.config(good)
	s := w.serve()
	w.config(strings.Replace(good, never, "every day", 1))
	s.await("the new config is refused", "coho.toml:", "schedule")
	s.signal(syscall.SIGHUP)
	s.await("the new config is refused", "coho.toml:", "schedule")
	if r := w.coho("status"); r.code != 0 && !strings.Contains(r.stderr, "schedule") {
		t.Errorf("%d %s", r.code, r.stderr)
	}
	if got := w.runsOf("accounts"); len(got) != 0 {
		t.Errorf("%d runs", len(got))
	}
	// A new file that the pattern includes is enough.
	w.config(good)
	s.await("the config was reloaded", "syncs=1")
	if err := os.Mkdir(filepath.Join(w.dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	more := "[syncs.more]\nmodel = \"accounts\"\ndestination = \"crm\"\nobject = \"Account\"\nmode = \"upsert\"\nmatch = { field = \"Warehouse_Key__c\", column = \"k\" }\nschedule = \"@every 1s\"\nfields = { Name = \"name\" }\n"
	if err := os.WriteFile(filepath.Join(w.dir, "more", "more.toml"), []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	s.await("the config was reloaded", "syncs=2")
	s.await("run ended", "sync=more", "succeeded")
	// What is not changed is not made of a new engine on SIGHUP only.
	s.signal(syscall.SIGHUP)
	s.await("the config was reloaded", "syncs=2")
	s.await("run ended", "sync=more", "succeeded")
	s.stop()
	if n := w.org.Org().Count("Account"); n != 3 {
		t.Errorf("the org has %d accounts", n)
	}
}

// TestTwoServe: a second daemon on the same state ends with exit code 5 and
// names the first; the first goes on.
func TestTwoServe(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql(threeAccounts)
	w.config(scheduled("@every 1s", "rest"))
	s := w.serve()
	var errs bytes.Buffer
	second := w.child("serve")
	second.Stderr = &errs
	err := second.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitLocked || !strings.Contains(errs.String(), fmt.Sprint(s.cmd.Process.Pid)) {
		t.Errorf("%v: %s", err, errs.String())
	}
	s.await("run ended", "succeeded")
	s.stop()
	w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
}

// TestServeMany: a dozen syncs, each due every second, on three places, with
// real runs: none overlaps itself, never more than three at once, and each has
// its turn.
func TestServeMany(t *testing.T) {
	t.Parallel() // most of it is waiting
	const syncs, places, rounds = 12, 3, 3
	w := newWorld(t, emulator.Options{})
	w.sql(`CREATE TABLE accounts AS SELECT 'k' || i AS k, 'n' || i AS name FROM range(1200) t(i)`)
	text := head + served + fmt.Sprintf("max_runs = %d\n[schedules]\noverlap = \"queue\"\ncatch_up = \"once\"\n", places)
	for i := range syncs {
		text += fmt.Sprintf("[models.m%[1]d]\nsource = \"warehouse\"\nprimary_key = [\"k\"]\nsql = \"SELECT * FROM accounts WHERE hash(k) %% %[2]d = %[1]d\"\n[syncs.s%[1]d]\nmodel = \"m%[1]d\"\ndestination = \"crm\"\nobject = \"Account\"\nmode = \"upsert\"\nschedule = \"@every 1s\"\nmatch = { field = \"Warehouse_Key__c\", column = \"k\" }\nfields = { Name = \"name\" }\n", i, syncs)
	}
	w.config(text)
	s := w.serve()
	ended := map[string]int{}
	for len(ended) < syncs || slices.Min(turns(ended)) < rounds {
		line := s.await("run ended")
		_, rest, _ := strings.Cut(line, " sync=")
		name, _, _ := strings.Cut(rest, " ")
		ended[name]++
	}
	s.stop()
	if n := w.org.Org().Count("Account"); n != 1200 {
		t.Errorf("the org has %d accounts", n)
	}
	most := 0
	var all []*engine.Run
	for i := range syncs {
		runs := w.runsOf(fmt.Sprint("s", i))
		for j, r := range runs {
			if r.Status != engine.Succeeded && (r.Status != engine.Canceled || j < len(runs)-1) {
				t.Errorf("%+v", r)
			}
			if j > 0 && r.StartedAt.Before(*runs[j-1].FinishedAt) {
				t.Errorf("run %s of s%d began before %s ended", r.ID, i, runs[j-1].ID)
			}
		}
		all = append(all, runs...)
	}
	for _, r := range all {
		at := 0
		for _, other := range all {
			if !other.StartedAt.After(r.StartedAt) && other.FinishedAt.After(r.StartedAt) {
				at++
			}
		}
		most = max(most, at)
	}
	if most > places {
		t.Errorf("%d runs at once, %d allowed", most, places)
	}
	t.Logf("%d runs, at most %d at once", len(all), most)
}

func turns(m map[string]int) (out []int) {
	for _, n := range m {
		out = append(out, n)
	}
	return out
}

// TestServeTellsSystemd: Type=notify hears when the daemon is ready, and when it
// stops.
func TestServeTellsSystemd(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(scheduled(never, "rest"))
	dir, err := os.MkdirTemp("", "coho") // a socket's name is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "n")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.SetReadDeadline(time.Now().Add(daemonLimit)); err != nil {
		t.Fatal(err)
	}
	w.env["NOTIFY_SOCKET"] = name
	s := w.startServing()
	heard := func() string {
		b := make([]byte, 100)
		n, err := socket.Read(b)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got := heard(); got != "READY=1" {
		t.Errorf("heard %q", got)
	}
	s.stop()
	if got := heard(); got != "STOPPING=1" {
		t.Errorf("heard %q", got)
	}
}

// TestServeSaysSkips: a scheduled time that is skipped because the last run goes
// on is said in the log and in that run's record.
func TestServeSaysSkips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{})
	w.twoHundred()
	w.config(scheduled("@every 1s", "rest"))
	s := w.startServing()
	release := make(chan struct{})
	w.onWrite(func(n int64) {
		if n == 1 {
			<-release
		}
	})
	s.await("skipped: a run of the sync has not ended", "sync=accounts")
	close(release)
	s.await("run ended", "succeeded")
	w.org.OnCall(nil)
	s.stop()
	first := w.runsOf("accounts")[0]
	if !slices.ContainsFunc(first.Warnings, func(line string) bool { return strings.Contains(line, "was skipped: this one had not ended") }) {
		t.Errorf("%q", first.Warnings)
	}
	shown := w.coho("runs", "show", first.ID, "--json")
	var run engine.Run
	if err := json.Unmarshal([]byte(shown.stdout), &run); err != nil || len(run.Warnings) != len(first.Warnings) {
		t.Errorf("%v: %s", err, shown.stdout)
	}
}
