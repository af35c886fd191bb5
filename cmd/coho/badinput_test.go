package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// TestBadInput: each mistake gives one clear line, the right exit code, and
// nothing half-written.
func TestBadInput(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		setup  func(w *world)
		args   []string
		code   int
		stderr []string // parts of the line
	}{
		{"no config", func(w *world) { _ = os.Remove(filepath.Join(w.dir, "coho.toml")) }, []string{"run", "accounts"}, exitUsage, []string{"coho.toml", "coho init"}},
		{"config is a folder", func(w *world) {
			_ = os.Remove(filepath.Join(w.dir, "coho.toml"))
			if err := os.Mkdir(filepath.Join(w.dir, "coho.toml"), 0o700); err != nil {
				w.t.Fatal(err)
			}
		}, []string{"run", "accounts"}, exitUsage, []string{"coho.toml"}},
		{"unknown command", nil, []string{"rum"}, exitUsage, []string{`"rum"`}},
		{"unknown flag", nil, []string{"run", "accounts", "--fast"}, exitUsage, []string{"--fast"}},
		{"no sync named", nil, []string{"run"}, exitUsage, []string{"--all"}},
		{"unknown sync", nil, []string{"run", "acounts"}, exitUsage, []string{`"acounts"`, `"accounts"`}},
		{"unknown sequence", nil, []string{"run", "--sequence", "x"}, exitUsage, []string{`"x"`}},
		{"unknown run", nil, []string{"runs", "show", "nothing"}, exitUsage, []string{"nothing"}},
		{"two mistakes in the config", func(w *world) {
			w.config(strings.Replace(accounts("colour = 1"), `model = "accounts"`, `model = "acounts"`, 1))
		}, []string{"run", "accounts"}, exitUsage, []string{"colour", "acounts"}},
		{"wrong client secret", func(w *world) { w.env["ORG_SECRET"] = "wr0ng-secret" }, []string{"run", "accounts"}, exitFailed, []string{"client_secret"}},
		{"org refuses connections", func(w *world) { w.env["ORG_URL"] = "http://127.0.0.1:1" }, []string{"run", "accounts"}, exitFailed, []string{"127.0.0.1:1"}},
		{"missing variable", func(w *world) { delete(w.env, "ORG_URL") }, []string{"run", "accounts"}, exitUsage, []string{"ORG_URL"}},
		{"missing warehouse", func(w *world) { _ = os.Remove(filepath.Join(w.dir, "warehouse.duckdb")) }, []string{"run", "accounts"}, exitFailed, []string{"warehouse.duckdb"}},
		{"bad SQL", func(w *world) {
			w.config(strings.Replace(accounts(""), "SELECT * FROM accounts", "SELEC * FROM accounts", 1))
		}, []string{"run", "accounts"}, exitFailed, []string{"SELEC"}},
		{"query without the key column", func(w *world) {
			w.config(strings.Replace(accounts(""), "SELECT * FROM accounts", "SELECT name, phone FROM accounts", 1))
		}, []string{"run", "accounts"}, exitUsage, []string{`"k"`}},
		{"mapping of a column the query has not", func(w *world) {
			w.config(strings.Replace(accounts(""), `Phone = "phone"`, `Phone = "fone"`, 1))
		}, []string{"run", "accounts"}, exitUsage, []string{`fone`, `phone`}},
		{"expression over a column the query has not", func(w *world) {
			w.config(strings.Replace(accounts(""), `Phone = "phone"`, `Phone = { expr = 'trim(fone)' }`, 1))
		}, []string{"validate"}, exitUsage, nil},
		{"object that is not there", func(w *world) {
			w.config(strings.Replace(accounts(""), `"Account"`, `"Acount"`, 1))
		}, []string{"run", "accounts"}, exitUsage, []string{"Acount"}},
		{"field that is not there", func(w *world) {
			w.config(accounts("") + "Nmae = \"name\"\n")
		}, []string{"run", "accounts"}, exitUsage, []string{"Nmae", "Name"}},
		{"read-only field", func(w *world) {
			w.config(accounts("") + "CreatedDate = \"name\"\n")
		}, []string{"run", "accounts"}, exitUsage, []string{"CreatedDate"}},
		{"match field is no external id", func(w *world) {
			w.config(strings.Replace(accounts(""), `field = "Warehouse_Key__c"`, `field = "Site"`, 1))
		}, []string{"run", "accounts"}, exitUsage, []string{"Site", "external id"}},
		{"state directory of a newer version", func(w *world) {
			dir := filepath.Join(w.dir, ".coho")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				w.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte("coho-state-99\n"), 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, []string{"run", "accounts"}, exitFailed, []string{"newer"}},
		{"state directory held by another process", func(w *world) {
			dir := filepath.Join(w.dir, ".coho")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				w.t.Fatal(err)
			}
			f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				w.t.Fatal(err)
			}
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { _ = f.Close() })
		}, []string{"run", "accounts"}, exitLocked, []string{"in use"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(accounts(""))
			w.sql(threeAccounts)
			if c.setup != nil {
				c.setup(w)
			}
			r := w.coho(c.args...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", r.code, c.code, r.stdout, r.stderr)
			}
			var said []string
			for _, line := range strings.Split(strings.TrimSpace(r.stderr), "\n") {
				if !strings.HasPrefix(line, "time=") {
					said = append(said, line)
				}
			}
			if len(c.stderr) > 0 && len(said) > 2 {
				t.Errorf("said %d lines:\n%s", len(said), strings.Join(said, "\n"))
			}
			for _, part := range c.stderr {
				if !strings.Contains(strings.Join(said, "\n"), part) {
					t.Errorf("does not name %q:\n%s", part, r.stderr)
				}
			}
			for _, secret := range []string{"wr0ng-secret", w.org.Credentials().ClientSecret} {
				if strings.Contains(r.stdout+r.stderr, secret) {
					t.Error("a secret is shown")
				}
			}
			if n := w.org.Org().Count("Account"); n != 0 {
				t.Errorf("%d accounts were written", n)
			}
		})
	}
}

func TestRevokedLogin(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.env["REFRESH"] = "not-a-token"
	text := strings.Replace(accounts(""), `auth = "client_credentials"`, "auth = \"refresh_token\"\nrefresh_token = \"${REFRESH}\"", 1)
	w.config(text)
	w.sql(threeAccounts)
	r := w.coho("run", "accounts")
	if r.code != exitFailed || !strings.Contains(r.stderr, "refresh") || strings.Contains(r.stderr, "not-a-token") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

// TestUnwritableState: as on a full disk, nothing is sent.
func TestUnwritableState(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.sql(threeAccounts)
	// A file where the state directory should be.
	if err := os.WriteFile(filepath.Join(w.dir, ".coho"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.coho("run", "accounts"); r.code != exitFailed || !strings.Contains(r.stderr, ".coho") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if n := w.org.Org().Count("Account"); n != 0 {
		t.Errorf("%d accounts were written", n)
	}
}

// TestFullDisk: at whatever write the disk is full, the run fails with one
// line, nothing is lost, and once there is room again the org ends equal to
// the model.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"100", "5000", "60000", "150000", "400000"} {
		t.Run(limit, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			w.config(accounts("[syncs.accounts.write]\ningestion_api = \"bulk\""))
			w.sql(`CREATE TABLE accounts AS SELECT 'A' || i AS k, 'a name that takes some room ' || i AS name, i::VARCHAR AS phone FROM range(5000) t(i)`)
			cmd := w.child("run", "accounts")
			cmd.Env = append(cmd.Env, fileLimitVar+"="+limit)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
				t.Errorf("want exit code %d, got %v\n%s", exitFailed, err, out)
			}
			if !strings.Contains(string(out), "file too large") || strings.Contains(string(out), "goroutine ") {
				t.Errorf("the run said:\n%s", out)
			}
			if r := w.run(exitDone, "accounts"); r.Outcomes.Failed != 0 {
				t.Errorf("%+v", r.Outcomes)
			}
			if n := len(w.records("Account")); n != 5000 {
				t.Errorf("the org has %d accounts, want 5000", n)
			}
		})
	}
}
