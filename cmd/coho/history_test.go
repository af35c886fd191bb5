package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// TestAlertsOfARunFromCron: coho run itself tells of a run that was halted, once,
// and of the recovery; the test command tells without a run.
func TestAlertsOfARunFromCron(t *testing.T) {
	got := make(chan map[string]string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		m := map[string]string{}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Errorf("%v: %s", err, b)
		}
		got <- m
	}))
	defer s.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	next := func() map[string]string {
		t.Helper()
		select {
		case m := <-got:
			return m
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was told")
			return nil
		}
	}
	w := newWorld(t, emulator.Options{})
	w.env["ALERT"] = s.URL + "/hooks/opensesame"
	w.config(accounts("on_removed = \"delete\"\nguards = { max_deletes = 1 }") + "\n[alerts.oncall]\nurl = \"${ALERT}\"\n")
	w.sql(threeAccounts)
	w.run(exitDone, "accounts")
	w.sql("DELETE FROM accounts WHERE k <> 'A1'")
	halted := w.run(exitHalted, "accounts")
	if m := next(); m["event"] != "halted" || m["sync"] != "accounts" || m["run"] != halted.ID || m["command"] != "coho runs show "+halted.ID {
		t.Errorf("told %v", m)
	}
	halted = w.run(exitHalted, "accounts") // not once a run
	shown := w.coho("runs", "show", halted.ID)
	for _, want := range []string{"archive", "k=A2", `Name: "Bolt"`, "coho runs plan " + halted.ID, "by cli ", "checking", "config      " + halted.ConfigHash} {
		if shown.code != exitDone || !strings.Contains(shown.stdout, want) {
			t.Errorf("runs show lacks %q:\n%s", want, shown.stdout)
		}
	}
	if plan := w.coho("runs", "plan", "accounts", "--json"); plan.code != exitDone || strings.Count(plan.stdout, `"operation":"archive"`) != 2 {
		t.Errorf("runs plan: %+v", plan)
	}
	if plan := w.coho("runs", "plan", "accounts", "--max", "1"); plan.code != exitDone || !strings.Contains(plan.stdout, "1 operation of the plan of run "+halted.ID) {
		t.Errorf("runs plan: %+v", plan)
	}
	if r := w.run(exitDone, "accounts", "--approve"); r.Outcomes.Deleted != 2 {
		t.Errorf("%+v", r.Outcomes)
	}
	if m := next(); m["event"] != "recovered" {
		t.Errorf("told %v", m)
	}
	if r := w.coho("alerts", "test"); r.code != exitDone || !strings.Contains(r.stdout, "oncall: sent") {
		t.Errorf("%+v", r)
	}
	if m := next(); m["event"] != "test" {
		t.Errorf("told %v", m)
	}
	select {
	case m := <-got:
		t.Errorf("told too: %v", m)
	default:
	}
	// A receiver that is gone fails no run, and its address is not said.
	s.Close()
	w.sql("INSERT INTO accounts VALUES (NULL, 'Nobody', NULL)")
	if r := w.coho("run", "accounts"); r.code != exitRows || !strings.Contains(r.stderr, "an alert could not be delivered") || strings.Contains(r.stdout+r.stderr, "opensesame") {
		t.Errorf("%+v", r)
	}
	if r := w.coho("alerts", "test", "oncall"); r.code != exitFailed || strings.Contains(r.stdout+r.stderr, "opensesame") {
		t.Errorf("%+v", r)
	}
	if r := w.coho("alerts", "test", "nobody"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
	w.env["ALERT"] = "slack://opensesame"
	if r := w.coho("validate", "--offline"); r.code != exitUsage || !strings.Contains(r.stderr, "alerts.oncall: url: ") || strings.Contains(r.stderr, "opensesame") {
		t.Errorf("%+v", r)
	}
}

// TestSequenceRecordAndExitCodes: one record of the whole, shown by its id and
// its name, and the exit code of the worst part.
func TestSequenceRecordAndExitCodes(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	second := strings.NewReplacer("[syncs.accounts]", "[syncs.again]", "[syncs.accounts.", "[syncs.again.").Replace(syncSection(t))
	config := func(extra string) {
		w.config(accounts("") + "\n" + second + served + "\n[sequences.nightly]\nsteps = [\"accounts\", \"again\"]\n" + extra)
	}
	config("")
	w.sql(threeAccounts)
	if r := w.coho("run", "--sequence", "nightly"); r.code != exitDone {
		t.Fatalf("%+v", r)
	}
	show := func(of string) (s engine.SequenceRun) {
		t.Helper()
		r := w.coho("runs", "show", of, "--json")
		if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || r.code != exitDone {
			t.Fatalf("%v, %+v", err, r)
		}
		return s
	}
	s := show("nightly")
	if s.Status != engine.Succeeded || len(s.Steps) != 2 || s.Steps[0][0].Run == "" || !strings.HasPrefix(s.Trigger, "cli ") || show(s.ID).ID != s.ID {
		t.Errorf("%+v", s)
	}
	if r := w.coho("runs"); !strings.Contains(r.stdout, "nightly (sequence)") {
		t.Errorf("%+v", r)
	}
	if r := w.coho("runs", "--sequence", "nightly", "--json"); strings.Count(r.stdout, "\n") != 1 || !strings.Contains(r.stdout, `"sequence_run":"`+s.ID) {
		t.Errorf("%+v", r)
	}
	w.sql("INSERT INTO accounts VALUES (NULL, 'Nobody', NULL)")
	if r := w.coho("run", "--sequence", "nightly"); r.code != exitRows {
		t.Errorf("rows fail: %+v", r)
	}
	config("max_row_errors = 0\n")
	if r := w.coho("run", "--sequence", "nightly"); r.code != exitFailed || !strings.Contains(r.stderr, "max_row_errors") {
		t.Errorf("too many rows fail: %+v", r)
	}
	if s := show("nightly"); s.Status != engine.Failed || strings.Join(s.NotBegun(), " ") != "again" {
		t.Errorf("%+v", s)
	}
	// What the status says of it, alone and by a daemon.
	alone := w.coho("status")
	d := w.serve()
	for _, r := range []result{alone, w.coho("status")} {
		if !regexp.MustCompile(`(?m)^nightly +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +failed +-`).MatchString(r.stdout) {
			t.Errorf("%+v", r)
		}
	}
	d.stop()
	if r := w.coho("runs", "show", "nightly"); !strings.Contains(r.stdout, "not_begun") || !strings.Contains(r.stdout, "not begun: again") {
		t.Errorf("%+v", r)
	}
}

// syncSection is the part of the accounts config that is the sync.
func syncSection(t *testing.T) string {
	t.Helper()
	text := accounts("")
	i := strings.Index(text, "[syncs.accounts]")
	if i < 0 {
		t.Fatal("the config has no sync accounts")
	}
	return text[i:]
}

// TestSequenceKilledInTheMiddle: a process that is killed between two calls of a
// sequence's second part leaves a record that the next start closes, with the
// run of each part that was begun; and the org ends equal to the model.
func TestSequenceKilledInTheMiddle(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	second := strings.NewReplacer("[syncs.accounts]", "[syncs.again]", "[syncs.accounts.", "[syncs.again.").Replace(syncSection(t))
	w.config(accounts("") + "\n" + second + "\n[sequences.nightly]\nsteps = [\"accounts\", \"again\", \"accounts\"]\n")
	w.sql(threeAccounts)
	cmd := w.child("run", "--sequence", "nightly")
	var writes atomic.Int64
	started := make(chan struct{})
	w.org.OnCall(func(kind string) {
		if strings.Contains(kind, "collections") || strings.Contains(kind, "composite") {
			if writes.Add(1) == 2 { // the second part's
				<-started
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process was not killed")
	}
	w.org.OnCall(nil)
	show := func() (s engine.SequenceRun) {
		t.Helper()
		r := w.coho("runs", "show", "nightly", "--json")
		if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
			t.Fatalf("%v, %+v", err, r)
		}
		return s
	}
	if s := show(); s.Status != engine.Running {
		t.Fatalf("before the next start: %+v", s)
	}
	w.run(exitDone, "again") // any command that takes the state
	s := show()
	if s.Status != engine.Failed || !strings.Contains(s.Error, "the process ended before the sequence did; not begun: accounts") {
		t.Errorf("%+v", s)
	}
	for i, want := range []engine.Status{engine.Succeeded, engine.Failed, engine.NotBegun} {
		p := s.Steps[i][0]
		if p.Status != want || (p.Run == "") != (want == engine.NotBegun) {
			t.Errorf("part %d: %+v", i+1, p)
		}
	}
	w.want(map[string]string{"A1": "Acme|1", "A2": "Bolt|", "A3": "Core|3"})
}
