package salesforce

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// made is a plan of upserts that is made as it is read, and a journal that
// counts outcomes.
type made struct {
	rows    int
	first   int                  // number in the first row's key
	parent  func(row int) string // nil: rows have none
	number  atomic.Uint64
	settled atomic.Int64
	failed  atomic.Int64
	tries   atomic.Int64
}

func (p *made) Passes() int                                      { return 1 }
func (p *made) Update(context.Context, destinations.Batch) error { return nil }
func (p *made) Open() ([]destinations.Batch, error)              { return nil, nil }
func (p *made) Begin(context.Context, destinations.Batch) (uint64, error) {
	return p.number.Add(1), nil
}

func (p *made) Operations(int) (destinations.Operations, error) {
	return p.Read(planner.Seqs{{From: 0, To: int64(p.rows)}})
}

func (p *made) Read(seqs planner.Seqs) (destinations.Operations, error) {
	return &making{p: p, seqs: seqs}, nil
}

func (p *made) Settle(_ context.Context, _ uint64, ops []*planner.Operation, outcomes []destinations.Outcome, _ bool) error {
	p.settled.Add(int64(len(ops)))
	for _, o := range outcomes {
		p.tries.Add(int64(o.Attempts))
		if o.Result == destinations.Failed {
			p.failed.Add(1)
		}
	}
	return nil
}

type making struct {
	p      *made
	seqs   planner.Seqs
	at     int64 // in the first range
	op     planner.Operation
	key    [1]string
	fields [5]planner.Assignment
}

func (m *making) Next() bool {
	for len(m.seqs) > 0 && m.seqs[0].From+m.at >= m.seqs[0].To {
		m.seqs, m.at = m.seqs[1:], 0
	}
	if len(m.seqs) == 0 {
		return false
	}
	seq := m.seqs[0].From + m.at
	m.at++
	number := strconv.FormatInt(seq+int64(m.p.first)+1_000_000, 10)
	m.key[0] = "acct-" + number
	m.fields[fRevenue] = set(fRevenue, number+".50")
	m.fields[fAbout] = set(fAbout, "Imported from the warehouse")
	m.fields[fName] = set(fName, "Account "+number)
	n := fParent
	if m.p.parent != nil {
		m.fields[n] = set(fParent, m.p.parent(int(seq)))
		n++
	}
	m.fields[n] = set(fPhone, "+1 555 "+number)
	m.op = planner.Operation{Seq: seq, Kind: planner.Upsert, Key: m.key[:], Match: m.key[0], Assignments: m.fields[:n+1]}
	return true
}
func (m *making) Operation() *planner.Operation { return &m.op }
func (m *making) Err() error                    { return nil }
func (m *making) Close() error                  { return nil }

// orgVar makes the test binary be an org, in a process of its own, whose time
// and memory are then not the writer's. Its value is the org's options.
const orgVar = "COHO_TEST_ORG"

// serveOrg is that process: it ends with its standard input.
func serveOrg(options string) error {
	var o emulator.Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return err
	}
	org, err := emulator.Start(context.Background(), o)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(org.Credentials()); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return org.Close()
}

// farOrg is an org in a process of its own.
type farOrg struct {
	t    testing.TB
	who  emulator.Credentials
	pid  int
	dest *Destination
}

func newFarOrg(t testing.TB, o emulator.Options, d Options) *farOrg {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orgVar+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := &farOrg{t: t, pid: cmd.Process.Pid}
	t.Cleanup(func() {
		if f.dest != nil {
			if err := f.dest.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &f.who)
	}
	if err != nil {
		t.Fatalf("the org did not start: %v", err)
	}
	client, err := api.New(api.Config{Domain: f.who.URL, Auth: api.AuthClientCredentials, ClientID: f.who.ClientID, ClientSecret: models.Secret(f.who.ClientSecret)})
	if err != nil {
		t.Fatal(err)
	}
	d.SpoolDir = t.TempDir()
	f.dest = New(client, d)
	return f
}

// apply runs a plan and returns what it cost.
func (f *farOrg) apply(s *models.Sync, p *made) destinations.Usage {
	f.t.Helper()
	target, err := f.dest.Open(f.t.Context(), s, accountColumns)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := target.Apply(f.t.Context(), destinations.Application{Plan: p, Journal: p}); err != nil {
		f.t.Fatal(err)
	}
	if n := p.settled.Load(); n != int64(p.rows) {
		f.t.Fatalf("%d of %d rows were settled", n, p.rows)
	}
	return target.Usage()
}

// counters asks the org what clients did.
func (f *farOrg) counters() (c emulator.Counters) {
	f.t.Helper()
	res, err := http.Get(f.who.URL + "/emulator/counters")
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&c); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// cpu is the processor time that a process has used, in seconds.
func cpu(t testing.TB, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks float64
	for _, at := range []int{11, 12} { // utime and stime, in hundredths (proc(5))
		n, err := strconv.ParseFloat(fields[at], 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

// peak is the most memory that this process had since the last call, in MB.
func peak(t testing.TB) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}

// benchRows is how many rows benchmarks write: COHO_BENCH_ROWS, or a few.
func benchRows(t testing.TB, few int) int {
	s := os.Getenv("COHO_BENCH_ROWS")
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// BenchmarkUpsert creates records in an org that is a process of its own, with
// five fields each. Beside the time it reports
//
//	rows/s   with the org's processor time taken out of the time that passed
//	wall/s   rows a second of the time that passed
//	own-s    processor time of the writer; org-s that of the org
//	peak-MB  the most memory that the writer's process had
//	calls    API calls, describe and all
func BenchmarkUpsert(b *testing.B) {
	rows := benchRows(b, 20_000)
	for _, ingestion := range []string{"bulk", "bulk 1.0", "rest"} {
		b.Run(fmt.Sprintf("api=%s/rows=%d", strings.ReplaceAll(ingestion, " ", "-"), rows), func(b *testing.B) {
			var calls int64
			var wall, own, org float64
			most := 0.0
			for range b.N {
				b.StopTimer()
				f := newFarOrg(b, emulator.Options{}, Options{})
				s := accountSync(models.ModeUpsert, ingestion)
				s.Write.Parallelism = 0
				peak(b)
				own0, org0, begun := cpu(b, os.Getpid()), cpu(b, f.pid), time.Now()
				b.StartTimer()
				calls += f.apply(s, &made{rows: rows}).Calls
				b.StopTimer()
				wall += time.Since(begun).Seconds()
				own += cpu(b, os.Getpid()) - own0
				org += cpu(b, f.pid) - org0
				most = max(most, peak(b))
				if c := f.counters(); c.Records.UpsertCreated != rows {
					b.Fatalf("%+v", c.Records)
				}
				b.StartTimer()
			}
			n := float64(b.N)
			// On several processors the two work side by side: what is left of
			// the time is never less than what the writer itself took.
			net := max(wall-org, own)
			b.ReportMetric(n*float64(rows)/net, "rows/s")
			b.ReportMetric(n*float64(rows)/wall, "wall/s")
			b.ReportMetric(own/n, "own-s")
			b.ReportMetric(org/n, "org-s")
			b.ReportMetric(most, "peak-MB")
			b.ReportMetric(float64(calls)/n, "calls")
			b.ReportMetric(0, "ns/op")
		})
	}
}
