package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/sources/postgres/postgrestest"
)

// dbtConfig takes its models from a dbt project, but for one.
const dbtConfig = `
[server]
addr = "127.0.0.1:0"
[dbt]
manifest = "project/target/manifest.json"
[sources.warehouse]
type = "postgres"
dsn = "${DSN}"
[destinations.crm]
type = "salesforce"
domain = "${ORG_URL}"
auth = "client_credentials"
client_id = "${ORG_ID}"
client_secret = "${ORG_SECRET}"

[models.accounts]
source = "warehouse"
dbt_model = "dim_accounts"
[models.contacts]
source = "warehouse"
dbt_model = "int_contacts"
primary_key = ["c"]
[models.leads]
source = "warehouse"
primary_key = ["l"]
sql = "SELECT 'L1' AS l, 'Kim' AS name, 'Acme' AS company"

[syncs.accounts]
model = "accounts"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
fields = { Name = "name", Phone = "phone" }
[syncs.contacts]
model = "contacts"
destination = "crm"
object = "Contact"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "c" }
fields = { LastName = "name" }
[syncs.leads]
model = "leads"
destination = "crm"
object = "Lead"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "l" }
fields = { LastName = "name", Company = "company" }

[sequences.nightly]
steps = ["accounts", ["contacts", "leads"]]
`

// dbtManifest is what dbt compile writes for the project, as far as coho reads
// it, with the accounts' relation in it.
func dbtManifest(database, accounts string) string {
	relation := func(name string) string {
		return string(must(json.Marshal(fmt.Sprintf("%q.\"marts\".%q", database, name))))
	}
	return `{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"}, "nodes": {
	"model.shop.dim_accounts": {"resource_type": "model", "package_name": "shop", "name": "dim_accounts", "relation_name": ` + relation(accounts) + `,
		"description": "One row per account,\nas sales counts them.", "config": {"enabled": true, "materialized": "table"}},
	"model.shop.stg_contacts": {"resource_type": "model", "package_name": "shop", "name": "stg_contacts", "relation_name": ` + relation("stg_contacts") + `, "config": {"materialized": "view"}},
	"model.shop.int_contacts": {"resource_type": "model", "package_name": "shop", "name": "int_contacts", "config": {"materialized": "ephemeral"},
		"compiled_code": "select c, upper(name) as name from marts.stg_contacts -- the last ones", "depends_on": {"nodes": ["model.shop.stg_contacts"]}},
	"test.shop.unique_k": {"resource_type": "test", "attached_node": "model.shop.dim_accounts", "column_name": "k", "test_metadata": {"name": "unique", "kwargs": {}}, "config": {"enabled": true}},
	"test.shop.not_null_k": {"resource_type": "test", "attached_node": "model.shop.dim_accounts", "column_name": "k", "test_metadata": {"name": "not_null", "kwargs": {}}, "config": {"enabled": true}}
}, "disabled": {}}`
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// dbtResults is the run_results.json of a dbt run: names of models, each with what
// became of it.
func dbtResults(status ...string) string {
	var results []string
	for i := 0; i < len(status); i += 2 {
		results = append(results, fmt.Sprintf(`{"unique_id": "model.shop.%s", "status": %q}`, status[i], status[i+1]))
	}
	return `{"metadata": {}, "results": [` + strings.Join(results, ",") + `]}`
}

// dbtWorld is a PostgreSQL server with what dbt has built, and the project's files.
func dbtWorld(t *testing.T, server *postgrestest.Server) (w *world, database string) {
	t.Helper()
	dsn := server.CreateDatabase(t)
	server.Exec(t, dsn, `CREATE SCHEMA marts;
CREATE TABLE marts.dim_accounts AS SELECT 'A' || i AS k, 'n' || i AS name, i::text AS phone FROM generate_series(1, 3) i;
CREATE TABLE marts.dim_accounts_next AS SELECT 'A' || i AS k, 'next ' || i AS name, i::text AS phone FROM generate_series(1, 3) i;
CREATE TABLE marts.raw AS SELECT 'C1' AS c, 'ann' AS name;
CREATE VIEW marts.stg_contacts AS SELECT * FROM marts.raw`)
	database = string(server.Query(t, dsn, "SELECT current_database()")[0][0])
	w = newWorld(t, emulator.Options{Seed: 7})
	w.env["DSN"] = dsn
	if err := os.MkdirAll(filepath.Join(w.dir, "project", "target"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("project/target/manifest.json", dbtManifest(database, "dim_accounts"))
	w.config(dbtConfig)
	return w, database
}

// asProcess runs a command as a process of its own.
func (w *world) asProcess(args ...string) result {
	w.t.Helper()
	cmd := w.child(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// afterDBT runs coho run with the results of a dbt run, and returns which syncs ran
// and what was said of those left out.
func (w *world) afterDBT(code int, results string, args ...string) (ran, left []string) {
	w.t.Helper()
	w.write("project/target/run_results.json", results)
	r := w.asProcess(append([]string{"run", "--json", "--after-dbt", filepath.Join(w.dir, "project/target/run_results.json")}, args...)...)
	if r.code != code {
		w.t.Fatalf("coho run %v: exit code %d, want %d\n%s%s", args, r.code, code, r.stdout, r.stderr)
	}
	for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
		if line != "" {
			ran = append(ran, decodeRun(w.t, line).Sync)
		}
	}
	slices.Sort(ran)
	for _, line := range strings.Split(r.stderr, "\n") {
		if _, said, ok := strings.Cut(line, `msg="sync left out" `); ok {
			left = append(left, said)
		}
	}
	return ran, left
}

// TestDBT: models of a dbt project on a real server, and a run after dbt's own, in
// processes; the same with a daemon that holds the state and without.
func TestDBT(t *testing.T) {
	server := postgrestest.Start(t)
	for _, with := range []string{"alone", "beside a daemon"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			w, database := dbtWorld(t, server)
			var s *serving
			if with != "alone" {
				s = w.serve()
			}
			if r := w.coho("validate"); r.code != exitDone || !strings.Contains(r.stdout, "accounts: ok\n  model.shop.dim_accounts: One row per account, as sales counts them.\n") || !strings.Contains(r.stdout, "contacts: ok\n  model.shop.int_contacts\n") {
				t.Errorf("validate: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}

			const failed, skipped = `sync=accounts why="model.shop.dim_accounts failed in dbt (error)"`, `sync=contacts why="dbt skipped model.shop.stg_contacts"`
			for _, c := range []struct {
				results   string
				args      []string
				ran, left []string
			}{
				{dbtResults("dim_accounts", "error", "stg_contacts", "skipped"), []string{"accounts"}, nil, []string{failed}},
				{dbtResults("dim_accounts", "error", "stg_contacts", "skipped"), []string{"--all"}, []string{"leads"}, []string{failed, skipped}},
				{dbtResults("dim_accounts", "error"), []string{"accounts", "contacts"}, []string{"contacts"}, []string{failed}},
				{dbtResults("dim_accounts", "error", "stg_contacts", "success"), []string{"--sequence", "nightly"}, []string{"contacts", "leads"}, []string{failed}},
				{dbtResults("dim_accounts", "error"), []string{"accounts", "leads", "--dry-run"}, []string{"leads"}, []string{failed}},
			} {
				ran, left := w.afterDBT(exitDone, c.results, c.args...)
				if !slices.Equal(ran, c.ran) || !slices.Equal(left, c.left) {
					t.Errorf("run %v after %s: ran %q, left out %q; want %q and %q", c.args, c.results, ran, left, c.ran, c.left)
				}
			}
			w.want(map[string]string{}) // accounts were left out each time
			if got := field(w.records("Contact")["C1"], "LastName"); got != "ANN" {
				t.Errorf("the contact is %q; the compiled SQL of its model was not what was read", got)
			}

			// A sequence's record says which part was left out and why.
			var record engine.SequenceRun
			r := w.coho("runs", "show", "nightly", "--json")
			if err := json.Unmarshal([]byte(r.stdout), &record); err != nil {
				t.Fatal(err)
			}
			if p := record.Steps[0][0]; record.Status != engine.Succeeded || p.Status != engine.PassedOver || p.Why != "model.shop.dim_accounts failed in dbt (error)" || p.Run != "" {
				t.Errorf("the sequence's record: %+v", record)
			}
			if r := w.coho("runs", "show", "nightly"); !strings.Contains(r.stdout, "\n  accounts left out: model.shop.dim_accounts failed in dbt (error)\n") {
				t.Errorf("runs show nightly:\n%s", r.stdout)
			}

			// What a test of dbt says of a model is no failure of the model.
			if ran, left := w.afterDBT(exitDone, dbtResults("dim_accounts", "success", "unique_k", "fail"), "--all"); len(ran) != 3 || len(left) != 0 {
				t.Errorf("ran %q, left out %q", ran, left)
			}
			w.want(map[string]string{"A1": "n1|1", "A2": "n2|2", "A3": "n3|3"})

			// dbt builds into another table, as blue and green deployments do.
			w.write("project/target/manifest.json", dbtManifest(database, "dim_accounts_next"))
			if s != nil {
				s.await("the config was reloaded", "syncs=3")
			}
			w.run(exitDone, "accounts")
			w.want(map[string]string{"A1": "next 1|1", "A2": "next 2|2", "A3": "next 3|3"})

			for name, c := range map[string]struct{ results, want string }{
				"torn":    {`{"results": [{"unique_id": "model.shop.dim`, "it ends too early; was dbt interrupted?"},
				"another": {`{"nodes": {}}`, "is it a run_results.json?"},
			} {
				w.write("project/target/run_results.json", c.results)
				r := w.asProcess("run", "accounts", "--after-dbt", filepath.Join(w.dir, "project/target/run_results.json"))
				if r.code != exitUsage || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, c.want) {
					t.Errorf("%s: exit code %d\n%s%s", name, r.code, r.stdout, r.stderr)
				}
			}
			if r := w.asProcess("run", "--all", "--after-dbt", filepath.Join(w.dir, "none.json")); r.code != exitUsage || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "none.json: no such file") {
				t.Errorf("no results: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			if s != nil {
				s.stop()
			}
		})
	}
}

// TestAfterDBTWithoutDBT: a config without a model of dbt leaves nothing out, so
// asking for it is a mistake.
func TestAfterDBTWithoutDBT(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(accounts(""))
	w.write("run_results.json", dbtResults())
	if r := w.coho("run", "accounts", "--after-dbt", filepath.Join(w.dir, "run_results.json")); r.code != exitUsage || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "no model of the config has a dbt_model") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}
