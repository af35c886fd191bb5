//go:build unix

package planner_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coho/models"
	"coho/planner"
	"coho/planner/plannertest"
	"coho/planner/snapshot"
)

var crmColumns = []string{"account_key", "id", "name", "phone", "website", "arr", "employees", "active", "customer_since", "updated_at"}

// held are rows of ten typical CRM columns in memory that the garbage collector
// does not count, each behind its length.
type held struct {
	*plannertest.Table
	all, left, row []byte
}

func (h *held) Next() bool {
	if len(h.left) == 0 {
		return false
	}
	n := 4 + binary.BigEndian.Uint32(h.left)
	h.row, h.left = h.left[4:n], h.left[n:]
	return true
}

func (h *held) Row() []byte { return h.row }

// holdRows makes rows, the same that testdata/join makes.
func holdRows(b *testing.B, rows int) *held {
	b.Helper()
	const most = 320 // bytes a row
	all, err := syscall.Mmap(-1, 0, rows*most, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			b.Error(err)
		}
	})
	since, updated := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	out := all[:0]
	for g := int64(1); g <= int64(rows); g++ {
		at := len(out)
		out = append(out, 0, 0, 0, 0)
		cents := g * 104729 % 100000000
		for _, cell := range []string{
			fmt.Sprintf("ACC-%010d", g), strconv.FormatInt(g, 10), fmt.Sprint("Account number ", g), fmt.Sprint("+49 30 ", g*7919%10000000),
			fmt.Sprintf("https://www.example%d.com/about-the-company", g%5000), fmt.Sprintf("%d.%02d", cents/100, cents%100),
			strconv.FormatInt(g*31%5000, 10), strconv.FormatBool(g%3 == 0),
			since.AddDate(0, 0, int(g%3650)).Format(time.DateOnly), updated.Add(time.Duration(g) * time.Second).Format(time.DateTime),
		} {
			out = models.AppendCell(out, []byte(cell))
		}
		binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	}
	return &held{Table: plannertest.NewTable(crmColumns...), all: out}
}

// BenchmarkAlone has the planner alone find that nothing changed among rows in
// memory, and DuckDB do the same by a full outer join of two tables in its memory,
// on two threads, in turn. Of both it says by how much the process grew meanwhile.
//
// The planner does so three times: after a plan that changed nothing, as most do;
// after one that did, so that snapshot and order log must first be compared; and with
// no order log, where every row is spilled and joined.
//
// COHO_BENCH_ROWS is the number of rows; ten million take five minutes to prepare.
func BenchmarkAlone(b *testing.B) {
	const pairs = 5
	rows, dir := rowsOfBench(b), b.TempDir()
	join := filepath.Join(dir, "join")
	if out, err := exec.Command("go", "build", "-o", join, "./testdata/join").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	h := holdRows(b, rows)
	store, err := snapshot.Open(filepath.Join(dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	log := filepath.Join(dir, "order")
	build := func(log string) *planner.Plan {
		h.left = h.all
		spec := h.Spec(models.ModeUpsert, crmColumns[0], crmColumns[0], crmColumns[1:]...)
		spec.MatchIsKey, spec.OrderLog = true, log
		spec.NormalizeMatch = strings.TrimSpace // what is compared without its case is not taken for the key
		spec.OrderEarly = sizeOf(b, log) >= 16<<20
		plan, err := planner.Build(context.Background(), spec, h, store, filepath.Join(dir, "plan"), nil)
		if err != nil {
			b.Fatal(err)
		}
		return plan
	}
	first := build(log)
	settleAll(b, store, first, true)
	if err := first.Remove(); err != nil {
		b.Fatal(err)
	}
	type kind struct {
		name, what   string
		log          string
		forget       bool // the verdict
		took, ratios []float64
		grown        int64
	}
	kinds := []*kind{
		{name: "again", what: "after a plan without changes", log: log},
		{name: "compared", what: "after a plan with changes", log: log, forget: true},
		{name: "joined", what: "without an order log"},
	}
	var theirs []float64
	var joined int64
	for b.Loop() {
		for range pairs {
			out, err := exec.Command(join, strconv.Itoa(rows)).Output()
			var seconds float64
			var bytes, same int64
			if _, bad := fmt.Sscan(string(out), &seconds, &bytes, &same); err != nil || bad != nil || same != int64(rows) {
				b.Fatalf("the join: %v, %v, %s", err, bad, out)
			}
			joined, theirs = max(joined, bytes), append(theirs, seconds)
			for _, k := range kinds {
				if k.log != "" { // the kept verdict is there, or is not
					if err := build(k.log).Remove(); err != nil {
						b.Fatal(err)
					}
				}
				if k.forget {
					if err := os.Remove(k.log + ".verdict"); err != nil {
						b.Fatal(err)
					}
				}
				debug.FreeOSMemory()
				before, peak := anonymousMemory(b), watchAnonymous(b)
				began := time.Now()
				plan := build(k.log)
				took := time.Since(began).Seconds()
				k.grown = max(k.grown, peak()-before)
				if n := plan.Summary().Rows.Unchanged; n != int64(rows) {
					b.Fatalf("%d of %d rows are unchanged", n, rows)
				}
				if err := plan.Remove(); err != nil {
					b.Fatal(err)
				}
				k.took, k.ratios = append(k.took, took), append(k.ratios, took/seconds)
			}
		}
	}
	middle := func(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }
	fmt.Printf("\nthe planner alone, %d unchanged rows; DuckDB's join took %.2fs (%.2f to %.2f of %d) and %d MiB; goals 0.5 of the time and 0.1 of the memory\n",
		rows, middle(theirs), slices.Min(theirs), slices.Max(theirs), len(theirs), joined>>20)
	for _, k := range kinds {
		share := float64(k.grown) / float64(max(joined, 1))
		b.ReportMetric(middle(k.ratios), k.name+"-ratio")
		b.ReportMetric(share, k.name+"-memory-ratio")
		fmt.Printf("%s: %.3fs and %d MiB, %.2f of the time (%.2f to %.2f) and %.2f of the memory\n",
			k.what, middle(k.took), k.grown>>20, middle(k.ratios), slices.Min(k.ratios), slices.Max(k.ratios), share)
	}
}

// edited are rows of which, with each round, another one in a hundred changes.
type edited struct {
	*held
	round, g int64
	cells    [][]byte
	frame    []byte
	phone    []byte
}

func (e *edited) Next() bool {
	if !e.held.Next() {
		return false
	}
	e.g++
	last := e.round - (e.g+e.round)%100 // the round in which the row changed
	if last < 1 {
		e.frame = append(e.frame[:0], e.row...)
		return true
	}
	if err := models.SplitFrame(e.row, e.cells); err != nil {
		e.Fail = err
		return false
	}
	e.phone = strconv.AppendInt(append(e.phone[:0], "+49 40 "...), e.g*7919%10000000+last, 10)
	e.frame = e.frame[:0]
	for i, cell := range e.cells {
		if i == 3 {
			cell = e.phone
		}
		e.frame = models.AppendCell(e.frame, cell)
	}
	return true
}

func (e *edited) Row() []byte { return e.frame }

// BenchmarkChurn measures the snapshot on disk after a first load, and after a
// hundred runs in each of which another one row in a hundred has changed.
// COHO_BENCH_ROWS is the number of rows; ten million take a quarter of an hour.
func BenchmarkChurn(b *testing.B) {
	const rounds = 100
	rows, dir := rowsOfBench(b), b.TempDir()
	h := holdRows(b, rows)
	state, order := filepath.Join(dir, "state"), filepath.Join(dir, "order")
	store, err := snapshot.Open(state)
	if err != nil {
		b.Fatal(err)
	}
	var loaded, churned, log int64
	run := func(round int64, changed int64) {
		h.left = h.all
		spec := h.Spec(models.ModeUpsert, crmColumns[0], crmColumns[0], crmColumns[1:]...)
		spec.MatchIsKey, spec.OrderLog = true, order
		e := &edited{held: h, round: round, cells: make([][]byte, len(crmColumns))}
		plan, err := planner.Build(context.Background(), spec, e, store, filepath.Join(dir, "plan"), nil)
		if err != nil {
			b.Fatal(err)
		}
		if s := plan.Summary(); s.Rows.Changed+s.Rows.Added != changed {
			b.Fatalf("round %d: %+v, want %d operations", round, s.Rows, changed)
		}
		settleAll(b, store, plan, true)
		if err := plan.Remove(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		run(0, int64(rows))
		loaded, log = sizeOf(b, state), sizeOf(b, order)
		for round := int64(1); round <= rounds; round++ {
			run(round, int64(rows)/100)
			churned = max(churned, sizeOf(b, state))
		}
	}
	b.ReportMetric(float64(loaded)/float64(rows), "B/row")
	b.ReportMetric(float64(churned)/float64(rows), "churned-B/row")
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\nthe snapshot of %d rows: %d MB after a first load (goal 100 bytes a row), %d MB at most in %d runs with 1%% changed each (goal 130), %d MB closed after them; the order of the last read beside it: %d MB\n",
		rows, loaded/1e6, churned/1e6, rounds, sizeOf(b, state)/1e6, log/1e6)
}

// sizeOf is how many bytes a file, or the files below a directory, take.
func sizeOf(b *testing.B, name string) (n int64) {
	b.Helper()
	err := filepath.WalkDir(name, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil // the store tidies up
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.Fatal(err)
	}
	return n
}

// watchAnonymous returns the peak of anonymousMemory until the function is called.
func watchAnonymous(b *testing.B) func() int64 {
	stop, peak := make(chan struct{}), int64(0)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				peak = max(peak, anonymousMemory(b))
			}
		}
	})
	return func() int64 {
		close(stop)
		done.Wait()
		return peak
	}
}

// anonymousMemory is the process's resident memory that no file is behind, in
// bytes; 0 where the system does not say.
func anonymousMemory(b *testing.B) (kib int64) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	if _, after, ok := bytes.Cut(text, []byte("RssAnon:")); ok {
		if _, err := fmt.Sscan(string(after), &kib); err != nil {
			b.Error(err)
		}
	}
	return kib << 10
}
