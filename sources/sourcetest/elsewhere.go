package sourcetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// elsewhere is the variable that makes a test's binary a server.
const elsewhere = "COHO_SERVE_ELSEWHERE"

// ServeElsewhere is for TestMain: in a process that [Elsewhere] started it serves
// and does not return. start starts the server and returns its addresses.
func ServeElsewhere(start func(tb testing.TB) []string) {
	if os.Getenv(elsewhere) == "" {
		return
	}
	testing.Benchmark(func(b *testing.B) { // whose clean-up ends nothing before its time
		fmt.Println(elsewhere + " " + strings.Join(start(b), " "))
		_, _ = io.Copy(io.Discard, os.Stdin) // until the one who asked for it has gone
		os.Exit(0)
	})
	os.Exit(1) // it could not start
}

// Elsewhere starts the server of ServeElsewhere in a process of its own, so that
// what it costs is not counted as the reader's, and returns its addresses. It ends
// with the test.
func Elsewhere(tb testing.TB) []string {
	tb.Helper()
	binary, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), elsewhere+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", filepath.Base(binary), err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			tb.Errorf("end the server: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	addresses, ok := strings.CutPrefix(strings.TrimSpace(line), elsewhere+" ")
	if !ok {
		tb.Fatalf("the server said %q, %v", line, err)
	}
	return strings.Fields(addresses)
}

// Peak returns the most memory in bytes that the process held while f ran (Linux's
// VmHWM, begun anew).
func Peak(tb testing.TB, f func()) int {
	tb.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		tb.Fatalf("begin the peak anew: %v", err)
	}
	f()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				tb.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	tb.Fatal("the system does not say how much memory was held")
	return 0
}

// maxGrowth is how much more memory fifty times the rows may take.
const maxGrowth = 1.2

// Flat measures the most memory that reading takes, from results of 100 thousand
// rows, ten after each other, to one of 5 million.
func Flat(b *testing.B, read func(b *testing.B, rows int)) {
	least := 0
	for _, rows := range []int{100_000, 1_000_000, 5_000_000} {
		b.Run("rows="+strconv.Itoa(rows), func(b *testing.B) {
			peak := 0
			for b.Loop() {
				peak = max(peak, Peak(b, func() {
					for range max(1, 1_000_000/rows) {
						read(b, rows)
					}
				}))
			}
			b.ReportMetric(float64(peak)/1e6, "peak-MB")
			if least == 0 {
				least = peak
			}
			if float64(peak) > maxGrowth*float64(least) {
				b.Errorf("%d rows take %d bytes of memory, 100000 took %d", rows, peak, least)
			}
		})
	}
}
