package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"coho/models"
)

// TestTiming: what a schedule says of itself wins, then [schedules], then the
// defaults.
func TestTiming(t *testing.T) {
	const sequence = "\n[sequences.q]\nsteps = [\"s\"]\n"
	for _, c := range []struct {
		name, text     string
		sync, sequence models.Timing
	}{
		{"nothing said", baseSync + sequence,
			models.Timing{CatchUp: "skip", Overlap: "skip"}, models.Timing{CatchUp: "skip", Overlap: "skip"}},
		{"for all", baseSync + sequence + "[schedules]\njitter = \"1m\"\ncatch_up = \"once\"\noverlap = \"queue\"\n",
			models.Timing{Jitter: time.Minute, CatchUp: "once", Overlap: "queue"}, models.Timing{Jitter: time.Minute, CatchUp: "once", Overlap: "queue"}},
		{"for one", baseSync + "jitter = \"0s\"\noverlap = \"skip\"\n" + sequence + "catch_up = \"skip\"\n[schedules]\njitter = \"1m\"\ncatch_up = \"once\"\noverlap = \"queue\"\n",
			models.Timing{CatchUp: "once", Overlap: "skip"}, models.Timing{Jitter: time.Minute, CatchUp: "skip", Overlap: "queue"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mustLoad(t, c.text)
			if got.Syncs["s"].Timing != c.sync || got.Sequences["q"].Timing != c.sequence {
				t.Errorf("got %+v and %+v, want %+v and %+v", got.Syncs["s"].Timing, got.Sequences["q"].Timing, c.sync, c.sequence)
			}
		})
	}
	got := mustLoad(t, baseSync+"[server]\nmax_runs = 9\nshutdown_timeout = \"2m\"\n").Server
	if got.MaxRuns != 9 || got.ShutdownTimeout != 2*time.Minute {
		t.Errorf("server: %+v", got)
	}
}

// TestInputs: whatever file a config is made of, a change of it shows.
func TestInputs(t *testing.T) {
	main := `include = ["syncs/*.toml"]
[sources.pg]
type = "postgres"
dsn = "${file:secret}"
[destinations.crm]
type = "salesforce"
domain = "acme.my.salesforce.com"
auth = "jwt_bearer"
client_id = "id"
username = "u"
private_key_file = "key.pem"
[models.m]
source = "pg"
primary_key = ["k"]
sql_file = "m.sql"
`
	const sync = "[syncs.s]\nmodel = \"m\"\ndestination = \"crm\"\nobject = \"Account\"\nmode = \"insert\"\nfields = { Name = \"k\" }\n"
	dir := write(t, "coho.toml", main, "secret", "postgres://h/db", "key.pem", keyPEM(t), "m.sql", "SELECT 1 AS k", "syncs/s.toml", sync)
	at := func(name string) string { return filepath.Join(dir, name) }
	load := func() (Inputs, error) {
		_, in, err := LoadInputs(at("coho.toml"), environment())
		return in, err
	}
	in, err := load()
	if err != nil {
		t.Fatal(err)
	}
	was := in.Fingerprint()
	if again := in.Fingerprint(); again != was {
		t.Fatal("two looks at the same files differ")
	}
	change := func(name string, do func() error) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		now := in.Fingerprint()
		if now == was {
			t.Errorf("%s: the change is not seen", name)
		}
		was = now
	}
	for _, name := range []string{"coho.toml", "secret", "key.pem", "m.sql", "syncs/s.toml"} {
		change(name, func() error {
			return os.Chtimes(at(name), time.Time{}, time.Now().Add(time.Hour))
		})
	}
	change("a file that a pattern includes", func() error { return os.WriteFile(at("syncs/b.toml"), nil, 0o600) })
	change("it taken away", func() error { return os.Remove(at("syncs/b.toml")) })
	change("another file in its place", func() error {
		if err := os.WriteFile(at("new"), []byte("SELECT 2 AS k"), 0o600); err != nil {
			return err
		}
		if info, err := os.Stat(at("m.sql")); err != nil {
			return err
		} else if err := os.Chtimes(at("new"), time.Time{}, info.ModTime()); err != nil {
			return err
		}
		return os.Rename(at("new"), at("m.sql"))
	})
	change("a file that is gone", func() error { return os.Remove(at("secret")) })
	// A config that is refused is watched too.
	if in, err = load(); err == nil {
		t.Fatal("a config without its secret was taken")
	}
	was = in.Fingerprint()
	change("the file back", func() error { return os.WriteFile(at("secret"), []byte("postgres://h/db"), 0o600) })
}
