package salesforce

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
)

// writerVar makes the test binary be a writer, in a process of its own. Its value
// is what it writes, and to where.
const writerVar = "COHO_TEST_WRITER"

// writing is what such a process is told.
type writing struct {
	Org       emulator.Credentials
	Ingestion string
	Rows      int
	Dir       string
}

// serveWriter is that process: it prints the most memory that it had, in KiB.
func serveWriter(spec string) error {
	var w writing
	if err := json.Unmarshal([]byte(spec), &w); err != nil {
		return err
	}
	client, err := api.New(api.Config{Domain: w.Org.URL, Auth: api.AuthClientCredentials, ClientID: w.Org.ClientID, ClientSecret: models.Secret(w.Org.ClientSecret)})
	if err != nil {
		return err
	}
	dest := New(client, Options{SpoolDir: w.Dir})
	ctx := context.Background()
	target, err := dest.Open(ctx, accountSync(models.ModeUpsert, w.Ingestion), accountColumns)
	if err != nil {
		return err
	}
	p := &made{rows: w.Rows}
	if err := target.Apply(ctx, destinations.Application{Plan: p, Journal: p}); err != nil {
		return err
	}
	if n := p.settled.Load(); n != int64(w.Rows) || p.failed.Load() > 0 {
		return fmt.Errorf("%d of %d rows were settled, %d failed", n, w.Rows, p.failed.Load())
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fmt.Println(strings.Fields(rest)[0])
	return dest.Close()
}

// TestMemoryDoesNotGrow: guarantee 8 for the writer. The most memory that a
// process has which writes many rows is hardly more than for a few. Beside a fifth
// it may be what the jobs take that are in flight at once where there are many
// rows, and are larger: some megabytes, whatever the rows. With
// COHO_BENCH_ROWS=1000000 it is a million rows beside 100,000.
func TestMemoryDoesNotGrow(t *testing.T) {
	rows := benchRows(t, 60_000)
	few := max(rows/10, 20_000)
	for _, ingestion := range []string{"bulk", "bulk 1.0", "rest"} {
		t.Run(ingestion, func(t *testing.T) {
			t.Parallel()
			peak := func(rows int) int64 {
				w := newWorld(t, emulator.Options{})
				spec, err := json.Marshal(writing{w.org.Credentials(), ingestion, rows, t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), writerVar+"="+string(spec))
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("the writer: %v", err)
				}
				kib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				return kib
			}
			small, large := peak(few), peak(rows)
			t.Logf("%d rows: %d MiB; %d rows: %d MiB", few, small>>10, rows, large>>10)
			if large > small*12/10+8<<10 {
				t.Errorf("%d rows took %d KiB, %d rows %d KiB", few, small, rows, large)
			}
		})
	}
}
