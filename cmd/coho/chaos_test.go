package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
)

// chaosFaults is what a run meets, by chance, as calls go by. Rows fail for as
// long as a row fault lasts, each once; requests and jobs as often as it says.
var chaosFaults = []emulator.Fault{
	{Match: "POST", Status: 503, Times: 3}, {Match: "GET", Status: 503, Times: 3}, {Match: "PATCH", Status: 503}, {Match: "bulk.results", Status: 504},
	{Match: "collections", CutBefore: true}, {Match: "collections", CutAfter: true, Times: 2}, {Match: "collections", Delay: 200 * time.Millisecond, CutAfter: true},
	{Match: "bulk.create", CutAfter: true}, {Match: "bulk.upload", CutBefore: true}, {Match: "bulk.upload", CutAfter: true}, {Match: "bulk.close", CutBefore: true},
	{Match: "bulk.close", CutAfter: true}, {Match: "bulk.status", CutAfter: true}, {Match: "bulk.results", CutAfter: true},
	{Match: "bulk1.create", CutAfter: true}, {Match: "bulk1.batch", CutBefore: true}, {Match: "bulk1.batch", CutAfter: true, Times: 2}, {Match: "bulk1.status", CutAfter: true},
	{Match: "bulk1.results", CutAfter: true}, {Match: "bulk1.close", CutAfter: true}, {Match: "query", CutAfter: true},
	{Match: "collections.upsert", Twice: true}, {Match: "bulk.upload", Twice: true}, {Match: "bulk.close", Twice: true}, {Match: "bulk1.close", Twice: true},
	{ExpireSession: true, Times: 2}, {Match: "bulk.close", ExpireSession: true}, {Match: "bulk.status", ExpireSession: true}, {Match: "bulk1.batch", ExpireSession: true},
	{Match: "token", Status: 503},
	{AbortJob: true}, {AbortJob: true, FailJobAfter: 400}, {FailJob: "InternalServerError : Unknown", FailJobAfter: 600},
	{FailJob: "TooManyLockFailure : Too many lock failure 200 Trying again later.", FailJobAfter: 200},
	{RepeatResults: 0.01}, {LoseResults: 0.05},
	{RowCode: "UNABLE_TO_LOCK_ROW", RowMessage: "unable to obtain exclusive access to this record", RowShare: 0.2, RowTries: 1, Times: 500},
	{RowCode: "TOO_MANY_APEX_REQUESTS", RowMessage: "too many", RowShare: 0.1, RowTries: 1, Times: 200},
	{Match: "collections", Status: 400, Code: "TOO_MANY_APEX_REQUESTS"}, {Match: "collections", Status: 500, Code: "REQUEST_RUNNING_TOO_LONG"},
}

// chaos is one way to write under chaos.
type chaos struct {
	name, mode, write, match, key string
	rows, calls                   int           // and how many calls a run makes, about
	every                         int           // a fault each so many calls
	kills                         int           // how many runs are killed at first
	delay                         time.Duration // the org's for a batch, or for a Collections call
}

// TestChaos: guarantee 1 under everything at once. Children of a hundred parents,
// of which one has half of them, are written to an org with row locks that takes
// its time, with faults of every kind and the process killed at random calls: all
// land, none twice. How often the org took a row up stands beside the number of
// rows. COHO_CHAOS=200000 sets how many rows there are.
func TestChaos(t *testing.T) {
	total := 0
	if s := os.Getenv("COHO_CHAOS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		total = n
	}
	const byKey, keyField = `match = { field = "Warehouse_Key__c", column = "k" }`, "Warehouse_Key__c"
	const note = "Description = \"k\"\n" // holds the key, but no query can filter on it
	for _, c := range []chaos{
		{name: "upsert bulk 2.0", mode: "upsert", write: "ingestion_api = \"bulk\"\nbulk_batch_size = %d\n", match: byKey, key: keyField, rows: 6000, delay: 30 * time.Millisecond},
		{name: "upsert bulk 1.0", mode: "upsert", write: "ingestion_api = \"bulk\"\nbulk_api_version = \"1.0\"\nbulk_batch_size = %d\n", match: byKey, key: keyField, rows: 6000, delay: 30 * time.Millisecond},
		{name: "upsert rest", mode: "upsert", write: "ingestion_api = \"rest\"\nrest_batch_size = %d\n", match: byKey, key: keyField, rows: 4000, delay: 2 * time.Millisecond},
		{name: "insert bulk 2.0", mode: "insert", write: "ingestion_api = \"bulk\"\nbulk_batch_size = %d\n", match: byKey, key: keyField, rows: 6000, delay: 30 * time.Millisecond},
		{name: "insert rest", mode: "insert", write: "ingestion_api = \"rest\"\nrest_batch_size = %d\n", match: byKey, key: keyField, rows: 4000, delay: 2 * time.Millisecond},
		{name: "insert without a key", mode: "insert", write: "bulk_batch_size = %d\n", key: "Description", rows: 6000, delay: 30 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			rest, size := strings.Contains(c.write, "rest_batch_size"), 1000
			if c.every, c.kills = 8, 2; rest {
				size, c.every = 40, 16
			}
			if total > 0 {
				c.rows, c.every, c.kills = total, 20, 8
				if size = 10_000; rest {
					size, c.delay = 200, 5*c.delay
				}
			} else {
				t.Parallel() // most of it is waiting
			}
			if c.calls = 6 + 2*c.rows/size; rest {
				c.calls = c.rows / size
			}
			c.write = fmt.Sprintf(c.write, size)
			if c.key == "Description" {
				c.match += "\n[syncs.contacts.fields]\n" + note
			} else {
				c.match += "\n[syncs.contacts.fields]\n"
			}
			c.run(t)
		})
	}
}

const chaosParents = 100

func (c *chaos) run(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("COHO_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("COHO_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, emulator.Options{Seed: int64(seed), Locks: true, LockWait: 20 * time.Millisecond, ProcessingDelay: c.delay, DailyAPICalls: 1 << 30})
	for i := range chaosParents {
		if _, err := w.org.Org().Insert("Account", map[string]any{"Name": "p", "Warehouse_Key__c": fmt.Sprintf("P%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	sync, fields, _ := strings.Cut(c.match, "\n[syncs.contacts.fields]\n")
	w.config(head + `
[models.contacts]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM contacts"

[syncs.contacts]
model = "contacts"
destination = "crm"
object = "Contact"
mode = "` + c.mode + `"
` + sync + `

[syncs.contacts.fields]
LastName = "name"
AccountId = { lookup = { object = "Account", field = "Warehouse_Key__c", column = "parent" } }
` + fields + `
[syncs.contacts.write]
` + c.write)
	w.sql(fmt.Sprintf(`CREATE TABLE contacts AS SELECT 'C' || i AS k, 'n' || i AS name, 'P' || (CASE WHEN i %% 2 = 0 THEN 0 ELSE (i * 7919) %% %d END) AS parent FROM range(%d) t(i)`, chaosParents, c.rows))

	begin, kills, runs, struck := time.Now(), 0, 0, c.weather(w, rng)
	for ; ; runs++ {
		if runs > 60 {
			t.Fatal("the rows do not come to rest")
		}
		// The first runs die; then the weather goes on until a run comes to
		// its end, and clears for those that come after ten more.
		if runs == c.kills+10 {
			w.org.OnCall(nil)
			w.org.ClearFaults()
		}
		deadline := int64(-1)
		if runs < c.kills {
			deadline = 1 + rng.Int64N(int64(c.calls))
		}
		code, killed, said := w.killedAfter(struck, deadline, "run", "contacts", "--json")
		if killed {
			kills++
		}
		if code == exitDone {
			break
		}
		if strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
			t.Fatal(said)
		}
	}
	w.org.OnCall(nil)
	w.org.ClearFaults()

	landed := map[string]int{}
	half := 0
	for _, r := range w.org.Org().Records("Contact") {
		landed[field(r, c.key)]++
	}
	for i := range c.rows {
		switch landed[fmt.Sprintf("C%d", i)] {
		case 0:
			t.Errorf("C%d is not in the org", i)
			half++
		case 1:
		default:
			t.Errorf("C%d is in the org %d times", i, landed[fmt.Sprintf("C%d", i)])
			half++
		}
		if half > 10 {
			t.FailNow()
		}
	}
	if n := w.org.Org().Count("Contact"); n != c.rows {
		t.Errorf("the org has %d contacts, want %d", n, c.rows)
	}
	n := w.org.Counters()
	t.Logf("%d rows, all landed once; %d row attempts; %d runs, %d of them killed; %d faults struck; %d API calls; %.1fs",
		c.rows, n.Records.RowAttempts, runs+1, kills, struck.faults(), n.APICalls, time.Since(begin).Seconds())
	if n.Records.RowAttempts > 6*c.rows {
		t.Errorf("%d rows took %d attempts", c.rows, n.Records.RowAttempts)
	}
	// What landed is known to have landed.
	before := w.org.Counters().Writes
	if code, _, said := w.killedAfter(struck, -1, "run", "contacts", "--json"); code != exitDone || w.org.Counters().Writes != before {
		t.Errorf("a run without changes made %d writes: exit code %d\n%s", w.org.Counters().Writes-before, code, said)
	}
}

// weather adds faults as calls arrive.
type weather struct {
	mu    sync.Mutex
	rng   *rand.Rand // guarded by mu
	calls int        // guarded by mu
	count int        // guarded by mu

	sinceKill atomic.Int64
	deadline  atomic.Int64
	kill      atomic.Pointer[func()]
}

func (c *chaos) weather(w *world, rng *rand.Rand) *weather {
	x := &weather{rng: rand.New(rand.NewPCG(rng.Uint64(), 2))}
	x.deadline.Store(-1)
	w.org.OnCall(func(string) {
		if x.sinceKill.Add(1) == x.deadline.Load() {
			if kill := x.kill.Load(); kill != nil {
				(*kill)()
			}
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.calls++; x.rng.IntN(c.every) == 0 {
			f := chaosFaults[x.rng.IntN(len(chaosFaults))]
			f.After = x.rng.IntN(3)
			x.count++
			w.org.AddFault(f)
		}
	})
	return x
}

// faults is how many faults were put in force.
func (x *weather) faults() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.count
}

// killedAfter runs coho in a process of its own that is killed as the org gets
// its n-th call; never where n is negative. Chance decides whether the call is
// carried out.
func (w *world) killedAfter(x *weather, n int64, args ...string) (code int, killed bool, said string) {
	w.t.Helper()
	cmd := w.child(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := make(chan struct{})
	kill := func() {
		<-started
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			w.t.Error(err)
		}
	}
	x.kill.Store(&kill)
	x.sinceKill.Store(0)
	x.deadline.Store(n)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	close(started)
	err := cmd.Wait()
	x.deadline.Store(-1)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), cmd.ProcessState.ExitCode() == -1, out.String()
}
