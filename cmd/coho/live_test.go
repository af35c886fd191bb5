package main

import (
	"fmt"
	"testing"
	"time"

	"coho/engine/server"
)

// TestReadingPace: while a run reads, its lines say how fast, and how long it will
// take where the source said how many rows there are.
func TestReadingPace(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		name     string
		read     int64
		expected int64
		seconds  float64
		line     string
		logged   string
	}{
		{"just begun", 4096, 1_000_000, 0.1, "accounts: reading  4,096 of about 1,000,000 rows", "[rows_expected 1000000]"},
		{"half", 500_000, 1_000_000, 10, "accounts: reading  500,000 of about 1,000,000 rows  50,000 rows/s  about 10s left", "[rows_expected 1000000 rows_per_second 50000 left 10s]"},
		{"more than expected", 500_000, 400_000, 10, "accounts: reading  500,000 rows  50,000 rows/s", "[rows_expected 400000 rows_per_second 50000]"},
		{"nobody knows", 500_000, 0, 10, "accounts: reading  500,000 rows  50,000 rows/s", "[rows_per_second 50000]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := server.Progress{Sync: "accounts", Stage: "reading", RowsRead: c.read, RowsExpected: c.expected}
			r := &liveRun{progress: func() server.Progress { return p }, stage: "reading", since: at}
			now := at.Add(time.Duration(c.seconds * float64(time.Second)))
			if got := r.line("accounts", now); got != c.line {
				t.Errorf("the line is\n%q, want\n%q", got, c.line)
			}
			if got := fmt.Sprint(r.logged(now)[12:]); got != c.logged {
				t.Errorf("what is logged is\n%s, want\n%s", got, c.logged)
			}
		})
	}
}

// TestWritingTellsParallelism: while a run writes, its line on a terminal and what
// is logged elsewhere say how much the org is given at once.
func TestWritingTellsParallelism(t *testing.T) {
	at := time.Now()
	p := server.Progress{Sync: "accounts", Stage: "writing", Total: 1000, Settled: 400, InFlight: 3, Parallelism: 7, Locks: 2, Retries: 5}
	r := &liveRun{progress: func() server.Progress { return p }, stage: "writing", since: at}
	if got, want := r.line("accounts", at), "accounts: writing  400 of 1,000 sent  3 of 7 in flight"; got != want {
		t.Errorf("the line is\n%q, want\n%q", got, want)
	}
	if got, want := fmt.Sprint(r.logged(at)[12:]), "[in_flight 3 parallelism 7 locks 2 retries 5]"; got != want {
		t.Errorf("what is logged is\n%s, want\n%s", got, want)
	}
}
