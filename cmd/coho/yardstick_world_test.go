package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/engine/config"
	"coho/models"
	"coho/planner"
	"coho/sources/postgres/postgrestest"
)

// yardstick is a warehouse, an org and a built coho.
type yardstick struct {
	rows      int64
	pairCount int

	dsn     string
	server  *postgrestest.Server
	psql    string
	parquet string

	scanner             string // the program of sources/duckdb/testdata/scan
	coho, config, state string
	env                 []string
}

// yardstickColumns are ten typical CRM columns of row g, 161 bytes a row as text
// with keys of ten million.
const yardstickColumns = `g::bigint AS id, 'ACC-' || lpad(g::varchar, 10, '0') AS account_key, 'Account number ' || g AS name,
	'+49 30 ' || (g * 7919 %% 10000000) AS phone, 'https://www.example' || g %% 5000 || '.com/about-the-company' AS website,
	%s AS arr, (g * 31 %% 5000)::int AS employees, g %% 3 = 0 AS active,
	DATE '2015-01-01' + (g %% 3650)::int AS customer_since, %s AS updated_at`

var (
	postgresColumns = fmt.Sprintf(yardstickColumns, "(g * 104729 % 100000000)::numeric(12,2) / 100", "TIMESTAMPTZ '2024-01-01' + g * INTERVAL '1 second'")
	duckdbColumns   = fmt.Sprintf(yardstickColumns, "((g * 104729 % 100000000) / 100)::DECIMAL(12,2)", "TIMESTAMPTZ '2024-01-01' + to_seconds(g)")
)

const yardstickOrg = `
[[objects]]
name = "Account"
fields = [
  { name = "Warehouse_Id__c", type = "double", precision = 18, scale = 0 },
  { name = "Revenue__c", type = "currency", precision = 18, scale = 2 },
  { name = "Active__c", type = "boolean" },
  { name = "Customer_Since__c", type = "date" },
  { name = "Updated_In_Warehouse__c", type = "datetime" },
]
`

const yardstickSync = `
[models.%[1]s]
source = %[2]q
primary_key = ["account_key"]
%[3]s

[syncs.%[1]s]
model = %[1]q
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "account_key" }

[syncs.%[1]s.guards]
max_deletes = "100%%"

[syncs.%[1]s.fields]
Warehouse_Id__c = "id"
Name = "name"
Phone = "phone"
Website = "website"
Revenue__c = "arr"
NumberOfEmployees = "employees"
Active__c = "active"
Customer_Since__c = "customer_since"
Updated_In_Warehouse__c = "updated_at"
`

func newYardstick(b *testing.B) *yardstick {
	b.Helper()
	dir := b.TempDir()
	y := &yardstick{
		rows: benchNumber(b, "COHO_BENCH_ROWS", 100_000), pairCount: int(benchNumber(b, "COHO_BENCH_PAIRS", 5)),
		server: postgrestest.Start(b), parquet: filepath.Join(dir, "accounts.parquet"),
		scanner: filepath.Join(dir, "scan"), coho: filepath.Join(dir, "coho"), config: filepath.Join(dir, "coho.toml"), state: filepath.Join(dir, "state"),
	}
	for _, args := range [][]string{{"-o", y.coho, "."}, {"-tags", "duckdb_arrow", "-o", y.scanner, "../../sources/duckdb/testdata/scan"}} {
		if out, err := exec.Command("go", append([]string{"build"}, args...)...).CombinedOutput(); err != nil {
			b.Fatalf("go build %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	y.psql = y.server.Tool("psql")
	y.dsn = y.server.CreateDatabase(b)
	for _, t := range []struct {
		name string
		rows int64
	}{{"accounts", y.rows}, {"accounts_tenth", y.rows / 10}} {
		y.server.Exec(b, y.dsn, fmt.Sprintf("CREATE TABLE %s AS SELECT %s FROM generate_series(1::bigint, %d) AS s(g)", t.name, postgresColumns, t.rows))
		y.server.Exec(b, y.dsn, "VACUUM ANALYZE "+t.name)
	}

	file := filepath.Join(dir, "org.toml")
	if err := os.WriteFile(file, []byte(yardstickOrg), 0o600); err != nil {
		b.Fatal(err)
	}
	org, err := emulator.Start(context.Background(), emulator.Options{OrgFile: file})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := org.Close(); err != nil {
			b.Error(err)
		}
	})
	c := org.Credentials()
	text := fmt.Sprintf(`
[state]
dir = %q

[sources.warehouse]
type = "postgres"
dsn = %q

[sources.files]
type = "duckdb"

[destinations.crm]
type = "salesforce"
domain = %q
auth = "client_credentials"
client_id = %q
client_secret = %q
`, y.state, y.dsn, c.URL, c.ClientID, c.ClientSecret)
	for _, m := range []struct{ name, source, rows string }{
		{"fresh", "warehouse", `sql = "SELECT * FROM accounts"`},
		{"query", "warehouse", `sql = "SELECT * FROM accounts"`},
		{"query_tenth", "warehouse", `sql = "SELECT * FROM accounts_tenth"`},
		{"table", "warehouse", `table = "accounts"`},
		{"table_tenth", "warehouse", `table = "accounts_tenth"`},
		{"parquet", "files", fmt.Sprintf(`sql = "SELECT * FROM read_parquet('%s')"`, y.parquet)},
	} {
		text += fmt.Sprintf(yardstickSync, m.name, m.source, m.rows)
	}
	if err := os.WriteFile(y.config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return y
}

// benchNumber is a number of the environment.
func benchNumber(b *testing.B, name string, otherwise int64) int64 {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		b.Fatalf("%s is %q, want a number from 1 on", name, text)
	}
	return n
}

// forget removes a sync's state.
func (y *yardstick) forget(sync string) {
	_ = os.RemoveAll(filepath.Join(y.state, "syncs", sync))
}

// engine is coho's own, but that its org acknowledges without being asked.
func (y *yardstick) engine(b *testing.B, acks *acknowledging) *engine.Engine {
	b.Helper()
	cfg, err := config.Load(y.config, os.LookupEnv)
	if err != nil {
		b.Fatal(err)
	}
	w := &wired{config: cfg, log: slog.New(slog.DiscardHandler)}
	e, err := engine.New(engine.Options{
		StateDir: cfg.StateDir, Syncs: cfg.Syncs, SyncOrder: cfg.SyncNames(), OpenSource: w.openSource,
		OpenDestination: func(name string) (destinations.Destination, error) {
			d, err := w.openDestination(name)
			acks.Destination = d
			return acks, err
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, u := range w.usages {
			if err := u.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	return e
}

// edit changes one row in a hundred, and removes and adds one in two hundred.
func (y *yardstick) edit(b *testing.B) want {
	b.Helper()
	w := want{changed: y.rows / 100, added: y.rows / 200, removed: y.rows / 200}
	w.unchanged = y.rows - w.changed - w.removed
	y.server.Exec(b, y.dsn, fmt.Sprintf(`
		UPDATE accounts SET phone = '+49 40 ' || id WHERE id %% 100 = 1;
		DELETE FROM accounts WHERE id %% 200 = 2;
		INSERT INTO accounts SELECT %s FROM generate_series(%d::bigint, %d) AS s(g)`, postgresColumns, y.rows+1, y.rows+w.added))
	y.server.Exec(b, y.dsn, "VACUUM ANALYZE accounts")
	return w
}

// acknowledging is a destination whose every operation succeeds at once.
type acknowledging struct {
	destinations.Destination
	took  time.Duration // that operations which lie in memory took to be settled
	ended time.Time     // when all were
}

// settleAtOnce is how many outcomes of a job the writer records at once of such rows, and
// settleWindow how many operations lie in memory, with their outcomes, while the clock
// runs: reading them off the plan log and out of answers, before that, is no part of a
// commit. Of what is settled in a window less than one row in twenty has not been taken
// in by the store when its clock stops, and all of it when the last one does.
const (
	settleAtOnce = 13_000
	settleWindow = 1_000_000
)

// Open implements destinations.Destination.
func (d *acknowledging) Open(ctx context.Context, s *models.Sync, columns []models.Column) (destinations.Target, error) {
	t, err := d.Destination.Open(ctx, s, columns)
	return &acknowledgingTarget{t, d}, err
}

type acknowledgingTarget struct {
	destinations.Target
	d *acknowledging
}

// settlers is how many batches are settled side by side, as by a writer that has
// several requests in flight.
const settlers = 4

// Apply implements destinations.Target.
func (t *acknowledgingTarget) Apply(ctx context.Context, a destinations.Application) error {
	window := make([]*planner.Operation, 0, settleWindow)
	for pass := range a.Plan.Passes() {
		in, err := a.Plan.Operations(pass)
		if err != nil {
			return err
		}
		for more := true; more; {
			if more = in.Next(); more {
				window = append(window, in.Operation().Clone())
			}
			if len(window) == settleWindow || !more && len(window) > 0 {
				if err := t.settle(ctx, a.Journal, window); err != nil {
					return errors.Join(err, in.Close())
				}
				window = window[:0]
			}
		}
		if err := errors.Join(in.Err(), in.Close()); err != nil {
			return err
		}
	}
	t.d.ended = time.Now()
	return nil
}

// answered is a batch all of whose operations created a record.
type answered struct {
	ops      []*planner.Operation
	seqs     planner.Seqs
	outcomes []destinations.Outcome
}

// settle settles a window's operations, several batches side by side.
func (t *acknowledgingTarget) settle(ctx context.Context, journal destinations.Journal, window []*planner.Operation) error {
	batches := make(chan answered, len(window)/settleAtOnce+1)
	for ops := range slices.Chunk(window, settleAtOnce) {
		a := answered{ops: ops, outcomes: make([]destinations.Outcome, len(ops))}
		for i, op := range ops {
			a.seqs = a.seqs.Append(op.Seq)
			id := strconv.FormatInt(op.Seq, 10)
			a.outcomes[i] = destinations.Outcome{Result: destinations.Created, ID: "001000000000000000"[:18-len(id)] + id}
		}
		batches <- a
	}
	close(batches)
	errs := make([]error, settlers)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range settlers {
		wg.Go(func() {
			for a := range batches {
				n, err := journal.Begin(ctx, destinations.Batch{API: "bench", Seqs: a.seqs})
				if err == nil {
					err = journal.Settle(ctx, n, a.ops, a.outcomes, true)
				}
				if errs[i] = err; err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	t.d.took += time.Since(began)
	return errors.Join(errs...)
}

// writeParquet writes the same rows to a file.
func (y *yardstick) writeParquet(b *testing.B) {
	b.Helper()
	db, err := sql.Open("duckdb", "")
	if err == nil {
		_, err = db.Exec(fmt.Sprintf("COPY (SELECT %s FROM range(1, %d) AS s(g)) TO '%s'", duckdbColumns, y.rows+1, y.parquet))
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
}
