package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// TestRunsCalls: every call of a run is listed, and nothing secret with it.
func TestRunsCalls(t *testing.T) {
	for _, api := range []string{"rest", "bulk"} {
		for _, version := range []string{"2.0", "1.0"} {
			w := newWorld(t, emulator.Options{})
			w.config(accounts("[syncs.accounts.write]\ningestion_api = \"" + api + "\"\nbulk_api_version = \"" + version + "\""))
			w.sql(threeAccounts)
			w.org.AddFault(emulator.Fault{ExpireSession: true, After: 3})
			r := w.run(exitDone, "accounts")
			out := w.coho("runs", "calls", r.ID, "--json", "--bodies")
			if out.code != exitDone {
				t.Fatalf("exit code %d: %s", out.code, out.stderr)
			}
			var counted, rows int64
			bodies := ""
			for line := range strings.SplitSeq(strings.TrimSpace(out.stdout), "\n") {
				var c engine.APICall
				if err := json.Unmarshal([]byte(line), &c); err != nil {
					t.Fatalf("%v in %s", err, line)
				}
				if c.Time.IsZero() || c.Method == "" || !strings.HasPrefix(c.Path, "/services/") || c.MS <= 0 {
					t.Errorf("%+v", c)
				}
				if c.Login {
					if c.Request != "" || c.Answer != "" {
						t.Errorf("the bodies of a login were recorded: %+v", c)
					}
					continue
				}
				counted++
				if c.Method != "GET" {
					rows += c.Rows
				}
				bodies += c.Request + c.Answer
			}
			if counted != int64(w.org.Counters().APICalls) {
				t.Errorf("%s %s: %d calls are listed, the org counted %d", api, version, counted, w.org.Counters().APICalls)
			}
			if rows < 3 || !strings.Contains(bodies, "Acme") {
				t.Errorf("%s %s: %d rows written, bodies %q", api, version, rows, bodies)
			}
			text := w.coho("runs", "calls", "accounts")
			if n := strings.Count(text.stdout, "\n"); n < int(counted)+1 || strings.Contains(text.stdout, "Acme") || !strings.Contains(text.stdout, "METHOD") {
				t.Errorf("%s", text.stdout)
			}
			// Neither in what is shown nor in what is kept.
			who := w.org.Credentials()
			kept := out.stdout + text.stdout
			files, err := filepath.Glob(filepath.Join(w.dir, ".coho", "runs", "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				kept += string(b)
			}
			for name, secret := range map[string]string{"client secret": who.ClientSecret, "token": who.AccessToken, "refresh token": who.RefreshToken, "password": who.Password} {
				if secret != "" && strings.Contains(kept, secret) {
					t.Errorf("the %s is in the log of calls", name)
				}
			}
			if strings.Contains(kept, "!AQ") {
				t.Error("a session id is in the log of calls")
			}
		}
	}
}

// TestRunsCallsOfNoRun: there is something to say without calls too.
func TestRunsCallsOfNoRun(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	if r := w.coho("runs", "calls", "accounts"); r.code != exitUsage {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	r := w.run(exitDone, "accounts")
	if err := os.Remove(filepath.Join(w.dir, ".coho", "runs", r.ID+".calls.jsonl")); err != nil {
		t.Fatal(err)
	}
	if out := w.coho("runs", "calls", r.ID); out.code != exitDone || !strings.Contains(out.stdout, "no API calls of run") {
		t.Errorf("exit code %d: %s%s", out.code, out.stdout, out.stderr)
	}
}
