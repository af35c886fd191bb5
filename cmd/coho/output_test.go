package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coho/engine"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew from what the views print")

// golden compares what a view printed with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./cmd/coho -run %s -rewrite writes it)", err, t.Name())
	}
	if got != string(want) {
		t.Errorf("%s has changed; if that is meant: go test ./cmd/coho -run TestView -rewrite\n--- got\n%s--- want\n%s", path, got, want)
	}
}

func text(s string) *string { return &s }

// ended is a run of some seconds.
func ended(status engine.Status, took time.Duration) *engine.Run {
	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	finished := started.Add(took)
	return &engine.Run{
		ID: "20260301T120000.000Z-0123abcd", Sync: "accounts", Status: status, StartedAt: started, FinishedAt: &finished,
		Outcomes: &engine.OutcomeCounts{}, API: &engine.APICounts{Remaining: -1}, Errors: []engine.ErrorCount{},
	}
}

func TestViewRun(t *testing.T) {
	first := ended(engine.Succeeded, 12345*time.Millisecond)
	first.Rows = engine.RowCounts{Read: 1234567, Added: 1234567}
	first.Operations = engine.OperationCounts{Upsert: 1234567}
	first.Outcomes = &engine.OutcomeCounts{Created: 1234566, Updated: 1}
	first.API = &engine.APICounts{Calls: 431, BulkJobs: 13, Remaining: 14569}
	first.Choice = "Bulk API 2.0: 13 jobs"
	first.Warnings = []string{"field Phone: longer texts are refused by the org"}

	nothing := ended(engine.Succeeded, 87*time.Millisecond)
	nothing.Rows = engine.RowCounts{Read: 3, Unchanged: 3}
	nothing.Choice = "not shown where nothing is sent"

	rows := ended(engine.CompletedWithErrors, time.Second)
	rows.Rows = engine.RowCounts{Read: 10, Unchanged: 4, Added: 1, Changed: 3, Removed: 2, Rejected: 2}
	rows.Operations = engine.OperationCounts{Upsert: 4, Archive: 1, ClearFields: 1}
	rows.Outcomes = &engine.OutcomeCounts{Created: 1, Updated: 1, Deleted: 1, Cleared: 1, Skipped: 1, Failed: 1}
	rows.API = &engine.APICounts{Calls: 1, BulkJobs: 1, Remaining: 0}
	rows.Errors = []engine.ErrorCount{
		{Code: "DUPLICATE_PRIMARY_KEY", Count: 2, Example: "2 rows have the primary key A7"},
		{Code: "STRING_TOO_LONG", Count: 1, Example: "Name: data value too large:\n  a very long name (max length=255)"},
	}
	rows.Resumed = "20260228T120000.000Z-76543210"

	halted := ended(engine.Halted, 2*time.Minute)
	halted.Rows = engine.RowCounts{Read: 0, Removed: 3}
	halted.Operations = engine.OperationCounts{Archive: 3}
	halted.Error = "halted by the guard max_deletes"
	halted.Samples = []engine.Sample{
		{Operation: "upsert", Key: map[string]string{"k": "not shown: no delete"}},
		{Operation: "archive", Key: map[string]string{"k": "A1", "region": "EU"}, ID: "0015f0000004OmfAAE"},
		{Operation: "archive", Key: map[string]string{"k": "A2"}},
	}

	goesOn := ended(engine.Running, 0)
	goesOn.FinishedAt = nil

	for name, r := range map[string]*engine.Run{
		"run_first": first, "run_nothing": nothing, "run_rows_failed": rows, "run_halted": halted, "run_running": goesOn,
		"run_canceled": ended(engine.Canceled, 999*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			showRun(&out, r)
			golden(t, name, out.String())
		})
	}
}

func TestViewPlan(t *testing.T) {
	full := ended(engine.Planned, time.Second)
	full.Outcomes, full.API = nil, nil
	full.Rows = engine.RowCounts{Read: 2000, Unchanged: 500, Added: 1000, Changed: 499, Removed: 3, Rejected: 1}
	full.Operations = engine.OperationCounts{Upsert: 1499, Archive: 3}
	full.Fields = map[string]int64{"Name": 1200, "Phone": 1200, "AnnualRevenue": 3}
	full.Estimate = &engine.EstimateCounts{APICalls: 9, BulkJobs: 1}
	full.Choice = "Bulk API 2.0, since 1,502 operations would cost more calls otherwise"
	full.Samples = []engine.Sample{
		{Operation: "upsert", Key: map[string]string{"k": "A1"}, ID: "0015f0000004OmfAAE", Fields: []engine.SampleField{
			{Field: "Name", Before: text("Acme"), After: text("Acme \"& Son\"")},
			{Field: "Notes", Before: text(""), After: text("two\nlines, and more than the sixty characters that a line of the view has room for")},
			{Field: "Phone", Before: text("1"), After: nil},
		}},
		{Operation: "upsert", Key: map[string]string{"k": "A2"}, Fields: []engine.SampleField{{Field: "Name", After: text("Ärger GmbH")}}},
		{Operation: "archive", Key: map[string]string{"k": "A3"}},
		{Operation: "insert"},
	}
	full.Errors = []engine.ErrorCount{{Code: "INVALID_VALUE", Count: 1, Example: "Phone from column phone: no"}}
	full.Warnings = []string{"a run would halt: halted by the guard max_deletes"}

	nothing := ended(engine.Planned, time.Second)
	nothing.Rows = engine.RowCounts{Read: 1, Unchanged: 1}
	nothing.Estimate = &engine.EstimateCounts{}

	for name, r := range map[string]*engine.Run{"plan_full": full, "plan_nothing": nothing} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			showPlan(&out, r)
			golden(t, name, out.String())
		})
	}
}

func TestViewChecked(t *testing.T) {
	var out bytes.Buffer
	for _, ch := range []engine.Checked{
		{Sync: "accounts"},
		{Sync: "contacts", Warnings: []string{"field Title: is cleared as null"}},
		{Sync: "leads", Problems: []string{"coho.toml:9:1: Lead has no field Nam; did you mean \"Name\"?"}},
		{Sync: "cases", Problems: []string{"first\nsecond line of it", "another"}, Warnings: []string{"a remark"}},
	} {
		showChecked(&out, ch)
	}
	golden(t, "checked", out.String())
}

func TestViewErrors(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.New(engine.Options{StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "runs"), 0o700); err != nil {
		t.Fatal(err)
	}
	lines := []string{
		`{"key":{"k":"A1"},"operation":"upsert","code":"STRING_TOO_LONG","message":"Name: data value too large:\n a (max length=255)","fields":["Name"],"attempts":1,"id":""}`,
		`{"key":{"k":"A2"},"operation":"upsert","code":"UNABLE_TO_LOCK_ROW","message":"unable to obtain exclusive access","fields":[],"attempts":5,"id":"0015f0000004OmfAAE"}`,
		`{"key":{"k":"A3","region":"EU"},"operation":"upsert","code":"STRING_TOO_LONG","message":"Name: data value too large","fields":["Name","Phone"],"attempts":1,"id":""}`,
		`{"key":{"k":"A4"},"operation":"upsert","code":"STRING_TOO_LONG","message":"past the limit","fields":["Name"],"attempts":1,"id":""}`,
		`{"key":{},"operation":"upsert","code":"NULL_PRIMARY_KEY","message":"primary key column k is null","fields":[],"attempts":0,"id":""}`,
		`{"key":{"k":"A5"},"operation":"upsert","code":"NO_SUCH_CODE","message":"that nobody has heard of","fields":[],"attempts":1,"id":""}`,
	}
	r := ended(engine.CompletedWithErrors, time.Second)
	if err := os.WriteFile(filepath.Join(dir, "runs", r.ID+".errors.jsonl"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		id   string
		max  int
	}{{"errors_some", r.ID, 2}, {"errors_all", r.ID, 0}, {"errors_none", "another", 10}} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			one := *r
			one.ID = c.id
			if err := (&cli{stdout: &out}).showErrors(t.Context(), &conducted{wired: &wired{engine: e}}, &one, c.max, false); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name, out.String())
		})
	}
}

func TestComma(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 999999: "999,999", 1000000: "1,000,000",
		-1: "-1", -999: "-999", -1000: "-1,000", 9223372036854775807: "9,223,372,036,854,775,807", -9223372036854775808: "-9,223,372,036,854,775,808",
	} {
		if got := comma(n); got != want {
			t.Errorf("comma(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int64]string{0: "0 rows", 1: "1 row", 2: "2 rows", 1001: "1,001 rows", -1: "-1 rows"} {
		if got := plural(n, "row"); got != want {
			t.Errorf("plural(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 1023: "1,023 bytes", 1024: "1.0 KiB", 1536: "1.5 KiB",
		1 << 20: "1.0 MiB", 5<<20 + 1<<19: "5.5 MiB", 1 << 30: "1.0 GiB", 1 << 40: "1024.0 GiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Microsecond: "2ms", 999 * time.Millisecond: "999ms", 1049 * time.Millisecond: "1s",
		12345 * time.Millisecond: "12.3s", 90 * time.Minute: "1h30m0s",
	} {
		if got := took(ended(engine.Succeeded, d)); got != want {
			t.Errorf("took(%s) = %q, want %q", d, got, want)
		}
	}
	r := ended(engine.Running, 0)
	r.FinishedAt = nil
	if got := took(r); got != "-" {
		t.Errorf("took of a run that goes on: %q", got)
	}
}

func TestCellText(t *testing.T) {
	for _, c := range []struct {
		cell *string
		want string
	}{
		{nil, "(null)"}, {text(""), `""`}, {text("a\tb\n c"), `"a b c"`},
		{text(strings.Repeat("x", 60)), `"` + strings.Repeat("x", 60) + `"`},
		{text(strings.Repeat("ä", 61)), `"` + strings.Repeat("ä", 57) + `..."`},
	} {
		if got := cellText(c.cell, "(null)"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
