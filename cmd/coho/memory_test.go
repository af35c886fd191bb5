package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

// BenchmarkMemory measures the most memory that a process of coho has, from its
// start to its end, while it reads Parquet, plans and creates records: by each API,
// a tenth of the rows and all of them. growth-% is how much more all take.
//
// COHO_BENCH_ROWS is the number of rows (100,000; a million is what the goal is
// about). The files have row groups of 10,000 rows, so that DuckDB reads both with all
// its threads, each of which takes memory of its own. What fills up with the first hundred thousand rows or so, such as
// DuckDB's buffers of a core and the planner's of rows, grows until it is full:
// only from there on can growth be nothing.
func BenchmarkMemory(b *testing.B) {
	rows := benchNumber(b, "COHO_BENCH_ROWS", 100_000)
	dir := b.TempDir()
	for _, n := range []int64{rows / 10, rows} {
		db, err := sql.Open("duckdb", "")
		if err != nil {
			b.Fatal(err)
		}
		_, err = db.Exec(fmt.Sprintf(`COPY (SELECT 'acct-' || (1000000 + i) AS k, 'Account ' || i AS name, '+1 555 ' || i AS phone, 'https://www.example' || i %% 5000 || '.com' AS site, i %% 977 AS employees FROM range(%d) t(i)) TO '%s' (ROW_GROUP_SIZE 10000)`,
			n, filepath.Join(dir, fmt.Sprint(n, ".parquet"))))
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct{ name, write string }{
		{"bulk2", `ingestion_api = "bulk"`},
		{"bulk1", "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\""},
		{"rest", `ingestion_api = "rest"`},
	} {
		b.Run(fmt.Sprintf("api=%s/rows=%d", c.name, rows), func(b *testing.B) {
			var few, all int64
			for range b.N {
				few = max(few, peakOfRun(b, filepath.Join(dir, fmt.Sprint(rows/10, ".parquet")), c.write, rows/10))
				all = max(all, peakOfRun(b, filepath.Join(dir, fmt.Sprint(rows, ".parquet")), c.write, rows))
			}
			b.ReportMetric(float64(few)/(1<<20), "peak-of-tenth-MiB")
			b.ReportMetric(float64(all)/(1<<20), "peak-MiB")
			b.ReportMetric(100*(float64(all)/float64(few)-1), "growth-%")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// peakOfRun creates the rows of a file in a new org, and returns the most memory
// that the process had.
func peakOfRun(b *testing.B, parquet, write string, rows int64) int64 {
	b.Helper()
	org, err := emulator.Start(context.Background(), emulator.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := org.Close(); err != nil {
			b.Error(err)
		}
	}()
	who, dir := org.Credentials(), b.TempDir()
	text := head + fmt.Sprintf(`
[models.accounts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM read_parquet('%s')"

[syncs.accounts]
model = "accounts"
destination = "crm"
object = "Account"
mode = "upsert"
match = { field = "Warehouse_Key__c", column = "k" }
[syncs.accounts.fields]
Name = "name"
Phone = "phone"
Website = "site"
NumberOfEmployees = "employees"
[syncs.accounts.write]
%s
`, parquet, write)
	text = strings.Replace(text, "path = \"warehouse.duckdb\"\n", "", 1)
	config := filepath.Join(dir, "coho.toml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "--config", config, "run", "accounts", "--json")
	cmd.Env = append(os.Environ(), childVar+"=1", "ORG_URL="+who.URL, "ORG_ID="+who.ClientID, "ORG_SECRET="+who.ClientSecret)
	out, m := process(b, cmd)
	var run engine.Run
	if err := json.Unmarshal(out, &run); err != nil {
		b.Fatalf("%v in %s", err, out)
	}
	if run.Outcomes.Created != rows {
		b.Fatalf("%d of %d rows were created", run.Outcomes.Created, rows)
	}
	return m.peak
}
