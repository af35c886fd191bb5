package salesforce

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

func TestMain(m *testing.M) {
	if options := os.Getenv(orgVar); options != "" {
		if err := serveOrg(options); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if spec := os.Getenv(writerVar); spec != "" {
		if err := serveWriter(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// world is an org over HTTP, a client of it, and a plan with its journal.
type world struct {
	*testing.T
	org   *emulator.Server
	dest  *Destination
	spool string
}

func newWorld(t *testing.T, o emulator.Options) *world {
	t.Helper()
	org, err := emulator.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := org.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{T: t, org: org, spool: t.TempDir()}
	w.dest = w.connect(api.Config{})
	t.Cleanup(func() {
		left, err := os.ReadDir(w.spool)
		if err != nil || len(left) > 0 {
			t.Errorf("files left in the spool: %v (%v)", left, err)
		}
	})
	return w
}

func (w *world) connect(c api.Config) *Destination {
	w.Helper()
	who := w.org.Credentials()
	c.Domain, c.Auth, c.ClientID, c.ClientSecret = w.org.URL(), api.AuthClientCredentials, who.ClientID, models.Secret(who.ClientSecret)
	client, err := api.New(c)
	if err != nil {
		w.Fatal(err)
	}
	dest := New(client, Options{SpoolDir: w.spool, RetryPause: 2 * time.Millisecond, Poll: api.Poll{Start: 5 * time.Millisecond, Cap: 20 * time.Millisecond}})
	w.Cleanup(func() {
		if err := dest.Close(); err != nil {
			w.Error(err)
		}
	})
	return dest
}

// accountSync maps Account fields from columns of the same meaning.
func accountSync(mode models.Mode, ingestion string) *models.Sync {
	s := &models.Sync{
		Name: "accounts", Object: "Account", Mode: mode, OnRemoved: models.RemovedNothing, Pos: "coho.toml:1:1",
		Model: models.Model{PrimaryKey: []string{"key"}},
		Match: models.Match{Field: "Warehouse_Key__c", Column: "key"},
		Fields: []models.Field{
			{Name: "AnnualRevenue", Column: "arr"},
			{Name: "Description", Column: "about"},
			{Name: "Name", Column: "name"},
			{Name: "ParentId", Lookup: &models.Lookup{Object: "Account", Field: "Warehouse_Key__c", Column: "parent"}},
			{Name: "Phone", Column: "phone"},
		},
		Write: models.Write{IngestionAPI: ingestion, RESTBatchSize: 200, Parallelism: 4, SplitRetries: true, MaxAttempts: 5},
	}
	if ingestion == "bulk 1.0" {
		s.Write.IngestionAPI, s.Write.BulkAPIVersion = "bulk", "1.0"
	}
	return s
}

// The fields of accountSync, by index.
const (
	fRevenue = iota
	fAbout
	fName
	fParent
	fPhone
)

var accountColumns = []models.Column{
	{Name: "key", Kind: models.Text}, {Name: "name", Kind: models.Text}, {Name: "phone", Kind: models.Text},
	{Name: "arr", Kind: models.Decimal}, {Name: "parent", Kind: models.Text}, {Name: "about", Kind: models.Text},
	{Name: "origin", Kind: models.Text},
}

func (w *world) open(s *models.Sync) *Target {
	w.Helper()
	target, err := w.dest.Open(context.Background(), s, accountColumns)
	if err != nil {
		w.Fatal(err)
	}
	return target.(*Target)
}

// op makes an operation of a key and assignments.
func op(kind planner.Kind, key string, as ...planner.Assignment) *planner.Operation {
	slices.SortFunc(as, func(a, b planner.Assignment) int { return a.Field - b.Field })
	return &planner.Operation{Kind: kind, Key: []string{key}, Match: key, Assignments: as}
}

// many makes n operations with a name and a phone.
func many(kind planner.Kind, n int) []*planner.Operation {
	out := make([]*planner.Operation, n)
	for i := range out {
		if kind == planner.Archive {
			out[i] = op(kind, fmt.Sprintf("K%05d", i))
			continue
		}
		out[i] = op(kind, fmt.Sprintf("K%05d", i), set(fName, fmt.Sprintf("Name %d", i)), set(fPhone, fmt.Sprint(5550000+i)))
	}
	return out
}

func (w *world) apply(t *Target, l *ledger) error {
	w.Helper()
	return t.Apply(w.Context(), destinations.Application{Plan: l, Journal: l})
}

func (w *world) mustApply(t *Target, l *ledger) {
	w.Helper()
	if err := w.apply(t, l); err != nil {
		w.Fatal(err)
	}
	l.done()
}

// ledger is a plan and its journal in memory. It holds the writer to the
// journal's contract.
type ledger struct {
	t      *testing.T
	passes [][]*planner.Operation
	ops    []*planner.Operation

	mu       sync.Mutex
	next     uint64
	open     map[uint64]destinations.Batch
	outcomes map[int64]destinations.Outcome
	begun    []destinations.Batch
	hook     func() // sees each call to the org
	killed   bool   // runs are killed
	onBegin  func(destinations.Batch)
	onUpdate func(destinations.Batch) error
	onSettle func(uint64) error
}

func (w *world) ledger(passes ...[]*planner.Operation) *ledger {
	l := &ledger{t: w.T, passes: passes, open: map[uint64]destinations.Batch{}, outcomes: map[int64]destinations.Outcome{}}
	for _, p := range passes {
		for _, o := range p {
			o.Seq = int64(len(l.ops))
			l.ops = append(l.ops, o)
		}
	}
	// Nothing is written before the journal knows of it.
	w.org.OnCall(func(kind string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.hook != nil {
			l.hook()
		}
		if l.killed {
			return // a call of a dead run may arrive late
		}
		handles := 0
		for _, b := range l.open {
			if b.Handle != "" {
				handles++
			}
		}
		switch kind {
		case "collections.create", "collections.update", "collections.upsert", "collections.delete", "bulk.create":
			if len(l.open) == 0 {
				l.t.Errorf("%s before a batch was begun", kind)
			}
		case "bulk.upload", "bulk1.batch":
			if handles == 0 {
				l.t.Errorf("%s before the job's handle was recorded", kind)
			}
		}
	})
	return l
}

func (l *ledger) setHook(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hook, l.killed = f, true
}

func (l *ledger) Passes() int { return len(l.passes) }

func (l *ledger) Operations(pass int) (destinations.Operations, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*planner.Operation
	for _, o := range l.passes[pass] {
		if _, done := l.outcomes[o.Seq]; !done {
			out = append(out, o)
		}
	}
	return &reader{ops: out}, nil
}

func (l *ledger) Read(seqs planner.Seqs) (destinations.Operations, error) {
	var out []*planner.Operation
	for _, r := range seqs {
		out = append(out, l.ops[r.From:r.To]...)
	}
	return &reader{ops: out}, nil
}

// reader hands out one operation that it overwrites, as a real one may.
type reader struct {
	ops []*planner.Operation
	now planner.Operation
}

func (r *reader) Next() bool {
	if len(r.ops) == 0 {
		r.now = planner.Operation{Seq: -1}
		return false
	}
	r.now = *r.ops[0]
	r.ops = r.ops[1:]
	return true
}
func (r *reader) Operation() *planner.Operation { return &r.now }
func (r *reader) Err() error                    { return nil }
func (r *reader) Close() error                  { return nil }

func (l *ledger) Begin(_ context.Context, b destinations.Batch) (uint64, error) {
	if l.onBegin != nil {
		l.onBegin(b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	b.Number = l.next
	b.Seqs = slices.Clone(b.Seqs)
	if b.Seqs.Len() == 0 {
		l.t.Error("a batch of nothing")
	}
	l.open[b.Number] = b
	l.begun = append(l.begun, b)
	return b.Number, nil
}

func (l *ledger) Update(_ context.Context, b destinations.Batch) error {
	if l.onUpdate != nil {
		if err := l.onUpdate(b); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	had, ok := l.open[b.Number]
	if !ok {
		l.t.Errorf("update of batch %d, which is not open", b.Number)
	}
	had.Step, had.Handle = b.Step, b.Handle
	l.open[b.Number] = had
	return nil
}

func (l *ledger) Settle(_ context.Context, number uint64, ops []*planner.Operation, outcomes []destinations.Outcome, last bool) error {
	if l.onSettle != nil {
		if err := l.onSettle(number); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.open[number]
	if !ok {
		l.t.Errorf("settle of batch %d, which is not open", number)
	}
	if len(ops) != len(outcomes) {
		l.t.Fatalf("%d operations, %d outcomes", len(ops), len(outcomes))
	}
	for i, o := range ops {
		if _, twice := l.outcomes[o.Seq]; twice {
			l.t.Errorf("operation %d was settled twice", o.Seq)
		}
		if !slices.ContainsFunc(b.Seqs, func(r planner.SeqRange) bool { return r.From <= o.Seq && o.Seq < r.To }) {
			l.t.Errorf("operation %d was settled by a batch that it is not in", o.Seq)
		}
		if o.Seq < 0 || !slices.Equal(o.Key, l.ops[o.Seq].Key) {
			l.t.Errorf("operation %d came back as %v", o.Seq, o.Key)
		}
		l.outcomes[o.Seq] = outcomes[i]
	}
	if last {
		delete(l.open, number)
	}
	return nil
}

func (l *ledger) Open() ([]destinations.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []destinations.Batch
	for _, b := range l.open {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b destinations.Batch) int { return int(a.Number) - int(b.Number) })
	return out, nil
}

// done checks that every operation has an outcome and no batch is open.
func (l *ledger) done() {
	l.t.Helper()
	for _, o := range l.ops {
		if _, ok := l.outcomes[o.Seq]; !ok {
			l.t.Errorf("operation %d (%s %v) has no outcome", o.Seq, o.Kind, o.Key)
		}
	}
	for _, b := range l.open {
		l.t.Errorf("batch %+v is still open", b)
	}
}

// of gives the outcome of a key.
func (l *ledger) of(key string) destinations.Outcome {
	l.t.Helper()
	for _, o := range l.ops {
		if o.Key[0] == key {
			out, ok := l.outcomes[o.Seq]
			if !ok {
				l.t.Fatalf("%s has no outcome", key)
			}
			return out
		}
	}
	l.t.Fatalf("no operation with key %s", key)
	return destinations.Outcome{}
}

// counts counts outcomes by result.
func (l *ledger) counts() (n [destinations.ResultCount]int) {
	for _, o := range l.outcomes {
		n[o.Result]++
	}
	return n
}

func (l *ledger) want(r destinations.Result, n int) {
	l.t.Helper()
	if got := l.counts(); got[r] != n {
		var first string
		for _, o := range l.outcomes {
			if o.Code != "" {
				first = fmt.Sprintf("; for example %+v", o)
				break
			}
		}
		l.t.Fatalf("%d %s, want %d (all: %v%s)", got[r], r, n, got, first)
	}
}

// account reads the one live account of a key.
func (w *world) account(key string) map[string]any {
	w.Helper()
	found := w.org.Org().Find("Account", "Warehouse_Key__c", key)
	if len(found) != 1 {
		w.Fatalf("%d accounts have key %s", len(found), key)
	}
	return found[0]
}

func (w *world) wantField(key, field string, want any) {
	w.Helper()
	got, ok := w.account(key)[field]
	if want == nil && ok || want != nil && fmt.Sprint(got) != fmt.Sprint(want) {
		w.Fatalf("%s of %s is %v, want %v", field, key, got, want)
	}
}

// once checks that no key is on two records and that n are there.
func (w *world) once(n int) {
	w.Helper()
	seen := map[string]bool{}
	for _, r := range w.org.Org().Records("Account") {
		key := fmt.Sprint(r["Warehouse_Key__c"])
		if seen[key] {
			w.Fatalf("key %s is on two records", key)
		}
		seen[key] = true
	}
	if len(seen) != n {
		w.Fatalf("%d records, want %d", len(seen), n)
	}
}

func (w *world) insert(fields map[string]any) string {
	w.Helper()
	id, err := w.org.Org().Insert("Account", fields)
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// both runs a test over Collections and the Bulk APIs.
func both(t *testing.T, f func(t *testing.T, ingestion string)) {
	for _, ingestion := range []string{"rest", "bulk", "bulk 1.0"} {
		t.Run(ingestion, func(t *testing.T) {
			t.Parallel()
			f(t, ingestion)
		})
	}
}

func contains(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("%q does not hold %q", text, part)
	}
}
