// Command join has DuckDB alone find what differs between two tables of ten
// typical CRM columns, by a full outer join on two threads: what the benchmarks
// compare the planner with. It prints the join's seconds, by how many bytes the
// process grew meanwhile, and the number of rows that are the same.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"
)

const table = `CREATE TABLE %s AS SELECT 'ACC-' || lpad(g::varchar, 10, '0') AS account_key, g::varchar AS id, 'Account number ' || g AS name,
	'+49 30 ' || (g * 7919 %% 10000000) AS phone, 'https://www.example' || g %% 5000 || '.com/about-the-company' AS website,
	((g * 104729 %% 100000000) / 100)::DECIMAL(12,2)::varchar AS arr, (g * 31 %% 5000)::varchar AS employees, (g %% 3 = 0)::varchar AS active,
	(DATE '2015-01-01' + (g %% 3650)::int)::varchar AS customer_since, (TIMESTAMP '2024-01-01' + to_seconds(g))::varchar AS updated_at
	FROM range(1, %d) AS s(g)`

const join = `SELECT count(*) FROM model m FULL OUTER JOIN before b USING (account_key)
	WHERE m.id IS NOT DISTINCT FROM b.id AND m.name IS NOT DISTINCT FROM b.name AND m.phone IS NOT DISTINCT FROM b.phone
	AND m.website IS NOT DISTINCT FROM b.website AND m.arr IS NOT DISTINCT FROM b.arr AND m.employees IS NOT DISTINCT FROM b.employees
	AND m.active IS NOT DISTINCT FROM b.active AND m.customer_since IS NOT DISTINCT FROM b.customer_since AND m.updated_at IS NOT DISTINCT FROM b.updated_at`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	var rows int64
	if _, err := fmt.Sscan(os.Args[1], &rows); err != nil {
		return err
	}
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, q := range []string{"SET threads = 2", fmt.Sprintf(table, "before", rows+1), fmt.Sprintf(table, "model", rows+1)} {
		if _, err := conn.ExecContext(context.Background(), q); err != nil {
			return err
		}
	}
	stop, before, peak := make(chan struct{}), anonymous(), int64(0)
	var watch sync.WaitGroup
	watch.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				peak = max(peak, anonymous())
			}
		}
	})
	var same int64
	began := time.Now()
	err = conn.QueryRowContext(context.Background(), join).Scan(&same)
	took := time.Since(began)
	close(stop)
	watch.Wait()
	fmt.Println(took.Seconds(), peak-before, same)
	return err
}

// anonymous is the process's resident memory that no file is behind, in bytes; 0
// where the system does not say.
func anonymous() (kib int64) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	if _, after, ok := bytes.Cut(text, []byte("RssAnon:")); ok {
		_, _ = fmt.Sscan(string(after), &kib)
	}
	return kib << 10
}
