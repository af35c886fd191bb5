package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"coho/models"
	"coho/planner"
	"coho/planner/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, fs vfs.FS) *snapshot.Store {
	t.Helper()
	s, err := snapshot.OpenFS("state", fs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *snapshot.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func hash(n int64) planner.Hash {
	return planner.Hash{byte(n >> 16), byte(n >> 8), byte(n), 1}
}

func upsert(n int64) *planner.Operation {
	return &planner.Operation{
		Seq: n, Kind: planner.Upsert, KeyHash: hash(n), Fingerprint: planner.Hash{11: byte(n)}, Key: []string{fmt.Sprint("k", n)}, Match: fmt.Sprint("k", n),
		Assignments: []planner.Assignment{{Field: 0, Cell: models.Cell{Text: strings.Repeat("x", 100)}, Send: planner.Always}, {Field: 1, Cell: models.NullCell, Send: planner.Keep}},
	}
}

func applied(from, to int64) (out []snapshot.Settlement, seqs planner.Seqs) {
	for n := from; n < to; n++ {
		out = append(out, snapshot.Settlement{Op: upsert(n), Applied: true, ID: fmt.Sprintf("id%d", n)})
	}
	return out, planner.Seqs{{From: from, To: to}}
}

var ref = snapshot.PlanRef{RunID: "r1", Dir: "plan", Fields: []string{"Name", "Phone"}}

// fill settles n operations and leaves the plan active.
func fill(t *testing.T, s *snapshot.Store, n int64) {
	t.Helper()
	if err := s.SetActivePlan(ref); err != nil {
		t.Fatal(err)
	}
	out, seqs := applied(0, n)
	number, err := s.Begin(snapshot.Batch{API: "rest", Step: "write", Handle: "h", Seqs: seqs})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(number, out, true); err != nil {
		t.Fatal(err)
	}
}

type noteList struct {
	notes []planner.Note
	at    int
}

func (l *noteList) Next() bool          { l.at++; return l.at <= len(l.notes) }
func (l *noteList) Note() *planner.Note { return &l.notes[l.at-1] }
func (l *noteList) Err() error          { return nil }

// TestCrashWhileSettling takes what a power loss would leave, at any moment: an
// operation is settled exactly where its entry is there, the count is exact, and
// what a call has acknowledged is there.
//
// Acknowledged rows come to their place in the four ways there are: at the end,
// beside the settling by batches, beside it by tables, and as the tables that they
// are made durable in, of several callers.
func TestCrashWhileSettling(t *testing.T) {
	for name, c := range map[string]struct {
		at, tables int
		callers    int64
		matchIsKey bool
	}{
		"at the end":    {1 << 30, 1 << 30, 1, false},
		"batches":       {3000, 1 << 30, 1, false},
		"tables":        {3000, 1, 1, false},
		"lots":          {3000, 1, 1, true},
		"lots, callers": {3000, 1, 3, true},
		// A third of each batch is less than a lot.
		"lots and batches": {3000, 4000, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			defer snapshot.FoldAt(c.at, c.tables)()
			crashWhileSettling(t, c.callers, c.matchIsKey)
		})
	}
}

func crashWhileSettling(t *testing.T, callers int64, matchIsKey bool) {
	fs := newCrashable()
	s := open(t, fs)
	defer closeStore(t, s)
	if err := errors.Join(s.SetIdentity(snapshot.Identity{MatchIsKey: matchIsKey}), s.SetActivePlan(ref)); err != nil {
		t.Fatal(err)
	}
	const rounds, size = 60, 50
	var acked atomic.Int64
	done := make(chan error, 1)
	settle := func(caller int64) error {
		for i := caller; i < rounds; i += callers {
			out, seqs := applied(i*size, (i+1)*size)
			n, err := s.Begin(snapshot.Batch{API: "rest", Handle: fmt.Sprint("h", i), Seqs: seqs})
			if err == nil {
				err = s.Settle(n, out[:size/3], false)
			}
			if err == nil {
				err = s.Settle(n, out, true)
			}
			if err != nil {
				return err
			}
			acked.Add(size)
		}
		return nil
	}
	go func() {
		errs := make([]error, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() { errs[i] = settle(i) })
		}
		wg.Wait()
		done <- errors.Join(errs...)
	}()
	rng := rand.New(rand.NewPCG(5, 6))
	crashes := 0
	for running := true; running; crashes++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		promised := acked.Load()
		after := open(t, fs.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(2) * 50, RNG: rng}))
		settled, err := after.Settled()
		if err != nil {
			t.Fatal(err)
		}
		c, err := after.Scan(planner.Hash{}, planner.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		entries := int64(0)
		for c.Next() {
			entries++
			if _, err := c.Record(); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(c.Err(), c.Close()); err != nil {
			t.Fatal(err)
		}
		if entries != settled.Len() || entries != after.Rows() || entries < promised {
			t.Fatalf("after a crash: %d entries, %d settled, counted %d, promised %d", entries, settled.Len(), after.Rows(), promised)
		}
		batches, err := after.OpenBatches()
		if err != nil || int64(len(batches)) > callers {
			t.Fatalf("%d open batches, %v", len(batches), err)
		}
		if len(batches) > 0 && (batches[0].Seqs.Len() != size || batches[0].Handle == "") {
			t.Errorf("the open batch is %+v", batches[0])
		}
		closeStore(t, after)
	}
	if crashes < 3 {
		t.Errorf("only %d crashes", crashes)
	}
}

// TestCrashWhileFinishing cuts FinishPlan short at any moment and repeats it.
func TestCrashWhileFinishing(t *testing.T) {
	const rows = 30000
	fs := newCrashable()
	s := open(t, fs)
	fill(t, s, rows)
	var notes []planner.Note
	for n := int64(0); n < rows; n++ {
		note := planner.Note{Kind: planner.NoteGone, Counted: true, Entry: planner.Entry{KeyHash: hash(n), Acked: true, Gone: true}}
		if n%3 == 0 {
			note = planner.Note{Kind: planner.NoteForget, Counted: true, Entry: planner.Entry{KeyHash: hash(n)}}
		}
		notes = append(notes, note)
	}
	done := make(chan error, 1)
	go func() { done <- s.FinishPlan(&noteList{notes: notes[:rows-100]}) }()
	rng := rand.New(rand.NewPCG(7, 8))
	resumed := 0
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		after := open(t, fs.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}))
		if _, active, _ := after.ActivePlan(); active {
			resumed++
			if err := after.FinishPlan(&noteList{notes: notes[:rows-100]}); err != nil {
				t.Fatal(err)
			}
		}
		st, err := after.Stats()
		if err != nil || st.Rows != 100 || after.Rows() != 100 || st.Gone != 20000-67 {
			t.Fatalf("finished after a crash: %+v, counted %d, %v", st, after.Rows(), err)
		}
		settled, _ := after.Settled()
		if _, active, _ := after.ActivePlan(); active || settled.Len() != 0 {
			t.Fatal("the plan is still there")
		}
		closeStore(t, after)
	}
	if resumed == 0 {
		t.Error("no crash came in time")
	}
	closeStore(t, s)
}

func TestSettlementsAreIdempotent(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	if err := s.SetActivePlan(ref); err != nil {
		t.Fatal(err)
	}
	n, err := s.Begin(snapshot.Batch{Seqs: planner.Seqs{{From: 0, To: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	op := upsert(0)
	for range 3 {
		if err := s.Settle(n, []snapshot.Settlement{{Op: op, Applied: true, ID: "a"}, {Op: op, Failed: true, Code: "X"}}, false); err != nil {
			t.Fatal(err)
		}
	}
	if st, _ := s.Stats(); s.Rows() != 1 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
	if err := s.FinishPlan(&noteList{}); err == nil || !strings.Contains(err.Error(), "1 batches are open") {
		t.Errorf("a plan with an open batch is finished: %v", err)
	}
	if err := s.DropPlan(); err == nil {
		t.Error("a plan with an open batch is dropped")
	}
	if err := s.SetActivePlan(snapshot.PlanRef{Dir: "other"}); err == nil {
		t.Error("the active plan is replaced")
	}
	if err := s.Settle(n, nil, true); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Settle(n, nil, true), s.UpdateBatch(snapshot.Batch{Number: n})} {
		if err == nil || !strings.Contains(err.Error(), "not open") {
			t.Errorf("a closed batch is used: %v", err)
		}
	}
	if err := s.DropPlan(); err != nil {
		t.Error(err)
	}
	if _, err := s.Begin(snapshot.Batch{}); err == nil {
		t.Error("a batch begins without a plan")
	}
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 10)
	id := snapshot.Identity{Org: "00D", Object: "Account", PrimaryKey: []string{"k"}}
	if err := s.SetIdentity(id); err != nil {
		t.Fatal(err)
	}
	n, err := s.Begin(snapshot.Batch{API: "bulk2", Step: "create", Seqs: planner.Seqs{{From: 3, To: 9}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateBatch(snapshot.Batch{Number: n, API: "bulk2", Step: "upload", Handle: "750", Seqs: planner.Seqs{{From: 3, To: 9}}}); err != nil {
		t.Fatal(err)
	}
	var locked *snapshot.LockedError
	if _, err := snapshot.Open(dir); !errors.As(err, &locked) {
		t.Errorf("opened twice: %v", err)
	}
	closeStore(t, s)

	s, err = snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	if got, ok := s.Identity(); !ok || fmt.Sprint(got) != fmt.Sprint(id) {
		t.Errorf("identity %+v", got)
	}
	if got, ok, err := s.ActivePlan(); !ok || err != nil || fmt.Sprint(got) != fmt.Sprint(ref) {
		t.Errorf("plan %+v", got)
	}
	batches, err := s.OpenBatches()
	if err != nil || len(batches) != 1 || fmt.Sprint(batches[0]) != fmt.Sprint(snapshot.Batch{Number: n, API: "bulk2", Step: "upload", Handle: "750", Seqs: planner.Seqs{{From: 3, To: 9}}}) {
		t.Errorf("batches %+v, %v", batches, err)
	}
	owner, ok, err := s.Owner("id7")
	if !ok || err != nil || owner != hash(7) {
		t.Errorf("owner %v %v %v", owner, ok, err)
	}
	if s.Rows() != 10 {
		t.Errorf("%d rows", s.Rows())
	}
}

func TestNewerVersions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	markers, err := filepath.Glob(filepath.Join(dir, "marker.format-version.*"))
	if err != nil || len(markers) != 1 {
		t.Fatalf("%v %v", markers, err)
	}
	if err := os.Rename(markers[0], filepath.Join(dir, "marker.format-version.000099.999")); err != nil {
		t.Fatal(err)
	}
	var version *snapshot.VersionError
	if _, err := snapshot.Open(dir); !errors.As(err, &version) || !strings.Contains(err.Error(), "written by a newer coho") {
		t.Errorf("a newer Pebble: %v", err)
	}
}

// TestDamage flips bytes in tables: what is read is right or refused.
func TestDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 60000)
	if _, err := s.Stats(); err != nil { // which reads them all, so that they are at their place
		t.Fatal(err)
	}
	closeStore(t, s)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, path := range tables {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1000; i < len(b); i += 20000 {
			b[i] ^= 0x55
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err = snapshot.Open(dir)
	if err == nil {
		_, err = s.Stats()
		if err == nil {
			err = s.Export(&bytes.Buffer{})
		}
		s.Close()
	}
	var corrupt *snapshot.CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "coho snapshot reset") {
		t.Errorf("a damaged state is read: %v", err)
	}
}

func TestExportAndImport(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	fill(t, s, 10)
	if err := s.SetIdentity(snapshot.Identity{Org: "00D"}); err != nil {
		t.Fatal(err)
	}
	n, err := s.Begin(snapshot.Batch{})
	if err != nil {
		t.Fatal(err)
	}
	var more []snapshot.Settlement
	for i := int64(10); i < 13; i++ {
		more = append(more, snapshot.Settlement{Op: upsert(i), Failed: true, Code: "REQUIRED_FIELD_MISSING"})
	}
	if err := s.Settle(n, more, true); err != nil {
		t.Fatal(err)
	}
	gone := planner.Note{Kind: planner.NoteGone, Counted: true, Entry: planner.Entry{KeyHash: hash(1), Acked: true, Gone: true}}
	if err := s.FinishPlan(&noteList{notes: []planner.Note{gone}}); err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := s.Export(&first); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(first.String(), `{"key":["k0"],"id":"id0","match":"k0","fields":{"Name":"xxx`) {
		t.Errorf("the export begins %.300s", first.String())
	}
	if err := s.Import(bytes.NewReader(first.Bytes())); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("imported over rows: %v", err)
	}
	fs := vfs.NewMem()
	into := open(t, fs)
	for _, bad := range []string{"", "[]", `{"coho_snapshot":2}`, first.String()[:first.Len()-40], first.String() + `{"hash":"00"}`} {
		if err := into.Import(strings.NewReader(bad)); err == nil {
			t.Errorf("imported %.40q", bad)
		}
		if st, _ := into.Stats(); st.Rows+st.Gone+st.Refused != 0 {
			t.Fatalf("a failed import left %+v", st)
		}
	}
	if err := into.Import(bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}
	closeStore(t, into)
	into = open(t, fs)
	defer closeStore(t, into)
	if err := into.Export(&second); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() || into.Rows() != s.Rows() || into.Rows() != 9 {
		t.Errorf("imported otherwise:\n%s\n%s", first.String(), second.String())
	}
	if err := into.Reset(); err != nil {
		t.Fatal(err)
	}
	if st, _ := into.Stats(); into.Rows() != 0 || st.Rows+st.Gone+st.Refused != 0 {
		t.Errorf("reset left %+v", st)
	}
}

// Guarantee 2: fields that an operation was carried out without are not claimed;
// what was acknowledged of them before stays, and the row is compared again.
func TestSettleOmitted(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	if err := s.SetActivePlan(ref); err != nil {
		t.Fatal(err)
	}
	settle := func(seq int64, known bool, omitted []int, name, phone string) planner.Record {
		t.Helper()
		op := upsert(7)
		op.Seq, op.Known, op.Counted = seq, known, known
		op.Assignments = []planner.Assignment{{Field: 0, Cell: models.Cell{Text: name}, Send: planner.Always}, {Field: 1, Cell: models.Cell{Text: phone}, Send: planner.Always}}
		n, err := s.Begin(snapshot.Batch{API: "rest", Seqs: planner.Seqs{{From: seq, To: seq + 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(n, []snapshot.Settlement{{Op: op, Applied: true, ID: "id", Omitted: omitted}}, true); err != nil {
			t.Fatal(err)
		}
		c, err := s.Scan(planner.Hash{}, planner.Hash{})
		if err != nil || !c.Next() {
			t.Fatal(err)
		}
		defer c.Close()
		e := c.Entry()
		if compared := (e.Fingerprint == planner.Hash{}); !e.Acked || compared != (len(omitted) > 0) {
			t.Errorf("%d: the entry is %+v", seq, e)
		}
		rec, err := c.Record()
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	for i, c := range []struct {
		known   bool
		omitted []int
		name    string
		want    string
	}{
		{false, []int{1}, "a", "[{Name {false a}}]"},
		{true, nil, "b", "[{Name {false b}} {Phone {false p1}}]"},
		{true, []int{1}, "c", "[{Name {false c}} {Phone {false p1}}]"},
		{false, []int{0}, "d", "[{Phone {false p3}}]"}, // another record: nothing is known of it
	} {
		if got := fmt.Sprint(settle(int64(i), c.known, c.omitted, c.name, fmt.Sprint("p", i)).Fields); got != c.want {
			t.Errorf("%d: the record holds %s, want %s", i, got, c.want)
		}
	}
}

// TestClosedStoreKeepsOneLog fills several memtables: what Pebble keeps of their
// logs, to write over it, is not left behind, and nothing with it.
func TestClosedStoreKeepsOneLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetActivePlan(ref); err != nil {
		t.Fatal(err)
	}
	const rows, size = 120_000, 10_000
	text := make([]byte, 300)
	rng := rand.NewChaCha8([32]byte{7})
	for from := int64(0); from < rows; from += size {
		out, seqs := applied(from, from+size)
		for i := range out {
			if _, err := rng.Read(text); err != nil {
				t.Fatal(err)
			}
			out[i].Op.Assignments[0].Cell.Text = string(text) // incompressible
		}
		n, err := s.Begin(snapshot.Batch{API: "rest", Seqs: seqs})
		if err == nil {
			err = s.Settle(n, out, true)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	logs := func() int {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if n := logs(); n < 3 {
		t.Fatalf("%d logs while open: this shows nothing", n)
	}
	closeStore(t, s)
	if n := logs(); n != 1 {
		t.Errorf("%d logs are left", n)
	}

	s, err = snapshot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	c, err := s.Scan(planner.Hash{}, planner.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for c.Next() {
		found++
	}
	settled, serr := s.Settled()
	if err := errors.Join(c.Err(), c.Close(), serr); err != nil || found != rows || s.Rows() != rows || settled.Len() != rows {
		t.Errorf("%d entries, counted %d, settled %d, %v", found, s.Rows(), settled.Len(), err)
	}
}
