package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"coho/engine"
)

// BenchmarkYardstick measures whole `coho plan` processes against what reading
// the same rows costs without coho: psql's COPY of a table to /dev/null, and
// DuckDB's own Arrow scan of a Parquet file into nothing. Yardstick and coho run
// in turn, in pairs; what is reported is the ratio of a pair, its median and its
// spread over the pairs, and at the end all of it as a table. One line of it
// measures the yardstick against itself: that is the noise.
//
// COHO_BENCH_ROWS is the number of rows (100,000; ten million is what the goals
// are about), COHO_BENCH_PAIRS the number of pairs (5). Below a million rows the
// start of a process is a good part of what is measured.
func BenchmarkYardstick(b *testing.B) {
	y := newYardstick(b)
	table := &figures{rows: y.rows}
	b.Run("noise", y.pairs(table, "the yardstick against itself", "", 0, y.copyOut, y.copyOut))
	b.Run("first", func(b *testing.B) {
		y.forget("fresh")
		y.pairs(table, "plan of a first load", "2.2", 0, y.copyOut, y.plan("fresh", want{added: y.rows}))(b)
	})
	y.load(b, "query")
	b.Run("commit", func(b *testing.B) {
		y.pairs(table, "commit of a first load", "1.3", 0, y.copyOut, func(b *testing.B) measured {
			y.forget("query")
			return y.load(b, "query")
		})(b)
		y.disk(b, table)
	})
	for _, sync := range []string{"table", "query_tenth", "table_tenth"} {
		y.load(b, sync)
	}
	for _, kind := range []struct{ name, what, goal string }{
		{"query", "unchanged, a query", "0.90"},
		{"table", "unchanged, a table over two connections", "0.75"},
	} {
		b.Run("unchanged/"+kind.name, func(b *testing.B) {
			all := want{unchanged: y.rows}
			y.pairs(table, kind.what, kind.goal, 150, y.copyOut, y.plan(kind.name, all))(b)
			tenth := y.plan(kind.name+"_tenth", want{unchanged: y.rows / 10})
			table.note(b, fmt.Sprintf("%s: peak memory at %d rows", kind.what, y.rows/10), tenth(b).peak)
		})
	}
	// The same without a process of its own: for profiles, and to count what is
	// allocated.
	for _, sync := range []string{"query", "table"} {
		b.Run("inside/"+sync, func(b *testing.B) { y.inside(b, sync) })
	}
	b.Run("changed", func(b *testing.B) {
		w := y.edit(b)
		y.pairs(table, "1% changed, 0.5% added, 0.5% removed", "1.05", 0, y.copyOut, y.plan("query", w))(b)
	})
	b.Run("parquet", func(b *testing.B) {
		y.writeParquet(b)
		y.load(b, "parquet")
		plan := y.plan("parquet", want{unchanged: y.rows})
		plan(b) // those that follow find what it found of the order log
		b.Run("again", y.pairs(table, "unchanged, Parquet through DuckDB", "1.25", 0, y.scan, plan))
		b.Run("first", y.pairs(table, "the same, the first plan after changes", "", 0, y.scan, func(b *testing.B) measured {
			if err := os.Remove(filepath.Join(y.state, "syncs", "parquet", "order.verdict")); err != nil {
				b.Fatal(err)
			}
			return plan(b)
		}))
	})
	table.print()
}

// measured is what one process, or one step, took.
type measured struct {
	took time.Duration
	cpu  time.Duration // of a process, both kinds; 0 where it is not known
	peak int64         // bytes; 0 where it is not known
}

// want is what a plan has to say of its rows.
type want struct{ unchanged, added, changed, removed int64 }

// pairs runs the yardstick and what is compared with it in turn.
func (y *yardstick) pairs(table *figures, what, goal string, maxMiB int64, reference, compared func(*testing.B) measured) func(*testing.B) {
	return func(b *testing.B) {
		var ratios, ref, got, cpu []float64
		var peak int64
		for b.Loop() {
			for range y.pairCount {
				r, c := reference(b), compared(b)
				ratios = append(ratios, c.took.Seconds()/r.took.Seconds())
				ref, got, cpu = append(ref, r.took.Seconds()), append(got, c.took.Seconds()), append(cpu, c.cpu.Seconds())
				peak = max(peak, c.peak)
			}
		}
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(float64(y.rows)/median(got), "rows/s")
		if busy := median(cpu); busy > 0 {
			b.ReportMetric(busy, "cpu-s")
		}
		line := figure{
			what: what, goal: goal, yardstick: fmt.Sprintf("%.2fs", median(ref)), coho: fmt.Sprintf("%.2fs", median(got)),
			ratio: fmt.Sprintf("%.2f", median(ratios)), spread: fmt.Sprintf("%.2f to %.2f of %d", slices.Min(ratios), slices.Max(ratios), len(ratios)),
		}
		if peak > 0 {
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
			line.memory = fmt.Sprintf("%d MiB", peak>>20)
			if maxMiB > 0 {
				line.memory += fmt.Sprintf(" (goal %d)", maxMiB)
			}
		}
		table.add(line)
	}
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// figure is a line of the table.
type figure struct{ what, goal, ratio, spread, yardstick, coho, memory string }

// figures are printed once all of them are there.
type figures struct {
	rows  int64
	lines []figure
}

// add replaces the line of the same measurement, as a benchmark may be run again
// with more rounds.
func (t *figures) add(r figure) {
	t.lines = append(slices.DeleteFunc(t.lines, func(l figure) bool { return l.what == r.what }), r)
}

// note adds a line that has no yardstick.
func (t *figures) note(b *testing.B, what string, peak int64) {
	b.Helper()
	t.add(figure{what: what, memory: fmt.Sprintf("%d MiB", peak>>20)})
}

func (t *figures) print() {
	if len(t.lines) == 0 {
		return
	}
	fmt.Printf("\n%d rows, %s/%s, %d processors, %s\n", t.rows, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tgoal\tratio\tpairs\tyardstick\tcoho\tpeak memory")
	for _, l := range t.lines {
		fmt.Fprintln(w, strings.Join([]string{l.what, l.goal, l.ratio, l.spread, l.yardstick, l.coho, l.memory}, "\t"))
	}
	w.Flush()
	fmt.Println()
}

// process runs a command to its end and returns what it printed.
func process(b *testing.B, cmd *exec.Cmd) (stdout []byte, m measured) {
	b.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	peak := watchPeak(cmd.Process.Pid)
	err := cmd.Wait()
	m = measured{took: time.Since(began), peak: peak()}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err != nil {
		b.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes(), m
}

// watchPeak looks at a process's peak of resident memory until the returned
// function is called, which returns the last that was seen. What wait4 reports
// would be no less than the memory of this process, whose it was before exec.
func watchPeak(pid int) func() int64 {
	name := filepath.Join("/proc", strconv.Itoa(pid), "status")
	stop := make(chan struct{})
	var peak int64
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			text, err := os.ReadFile(name)
			if err != nil {
				continue // gone, or no such file system
			}
			_, after, ok := bytes.Cut(text, []byte("VmHWM:"))
			if !ok {
				continue
			}
			var kib int64
			if _, err := fmt.Sscan(string(after), &kib); err == nil {
				peak = kib << 10
			}
		}
	})
	return func() int64 {
		close(stop)
		done.Wait()
		return peak
	}
}

// plan runs `coho plan` and checks that it found what is there.
func (y *yardstick) plan(sync string, w want) func(*testing.B) measured {
	return func(b *testing.B) measured {
		b.Helper()
		cmd := exec.Command(y.coho, "--config", y.config, "plan", sync, "--json")
		cmd.Env = append(os.Environ(), y.env...)
		out, m := process(b, cmd)
		var run engine.Run
		if err := json.Unmarshal(out, &run); err != nil {
			b.Fatalf("%v in %s", err, out)
		}
		got := want{run.Rows.Unchanged, run.Rows.Added, run.Rows.Changed, run.Rows.Removed}
		if got != w {
			b.Fatalf("coho plan %s: %+v, want %+v", sync, got, w)
		}
		return m
	}
}

// inside plans in this process.
func (y *yardstick) inside(b *testing.B, sync string) {
	b.ReportAllocs()
	planned := 0
	for b.Loop() {
		e := y.engine(b, &acknowledging{})
		run, err := e.Plan(context.Background(), sync, engine.PlanOptions{})
		if err = errors.Join(err, e.Close()); err != nil {
			b.Fatal(err)
		}
		if run.Rows.Unchanged != y.rows {
			b.Fatalf("%+v", run.Rows)
		}
		planned++
	}
	b.ReportMetric(float64(y.rows)*float64(planned)/b.Elapsed().Seconds(), "rows/s")
}

// copyOut has psql write the table to /dev/null.
func (y *yardstick) copyOut(b *testing.B) measured {
	b.Helper()
	cmd := exec.Command(y.psql, "-X", "-q", "-d", y.dsn, "-c", "COPY (SELECT * FROM accounts) TO STDOUT")
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = null, &errs // a file, so that the bytes pass no pipe
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("psql: %v\n%s", err, errs.Bytes())
	}
	return measured{took: time.Since(began)}
}

// scan has DuckDB read the Parquet file in a process of its own.
func (y *yardstick) scan(b *testing.B) measured {
	b.Helper()
	out, m := process(b, exec.Command(y.scanner, y.parquet))
	if n, _, _ := strings.Cut(string(out), " "); n != strconv.FormatInt(y.rows, 10) {
		b.Fatalf("the scan read %s rows, want %d", n, y.rows)
	}
	return m
}

// load makes a sync's state as after a first load that an org has acknowledged
// row by row, and measures what comes after the plan.
func (y *yardstick) load(b *testing.B, sync string) measured {
	b.Helper()
	y.forget(sync)
	acks := &acknowledging{}
	e := y.engine(b, acks)
	run, err := e.Run(context.Background(), sync, engine.RunOptions{})
	ended := time.Now()
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	if run.Outcomes.Created == 0 {
		b.Fatalf("the first load of %s created nothing: %+v", sync, run)
	}
	return measured{took: acks.took + ended.Sub(acks.ended)}
}

// disk adds what the snapshot takes.
func (y *yardstick) disk(b *testing.B, table *figures) {
	b.Helper()
	var store, all int64
	base := filepath.Join(y.state, "syncs", "query")
	err := filepath.Walk(base, func(name string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			all += fi.Size()
			if strings.HasPrefix(name, filepath.Join(base, "store")) {
				store += fi.Size()
			}
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(store)/float64(y.rows), "snapshot-B/row")
	table.add(figure{what: "snapshot on disk", goal: "100 bytes a row", coho: fmt.Sprintf("%d MB", store/1e6), ratio: fmt.Sprintf("%.0f", float64(store)/float64(y.rows)), memory: fmt.Sprintf("%d MB with the order of the last read", all/1e6)})
}
