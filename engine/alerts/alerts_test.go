package alerts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/engine"
	"coho/models"
)

// ran is the record of a run that ended.
func ran(sync, id string, status engine.Status) *engine.Run {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := &engine.Run{ID: id, Sync: sync, Status: status, StartedAt: at, FinishedAt: &at}
	switch status {
	case engine.Failed:
		r.Error = "the warehouse is gone\nand more"
	case engine.CompletedWithErrors:
		r.Errors = []engine.ErrorCount{{Code: "A", Count: 9, Example: "a value"}, {Code: "B", Count: 3}, {Code: "C", Count: 2}, {Code: "D", Count: 1}}
	}
	return r
}

// process is a notifier's life: as coho run has one.
func process(t *testing.T, dir string, alerts []Alert, runs ...*engine.Run) {
	t.Helper()
	n, err := New(Options{StateDir: dir, Alerts: alerts})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		n.RunEnded(r)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// events takes what has arrived, as "sync event run".
func (r *receiver) events(t *testing.T) (out []string) {
	t.Helper()
	for {
		select {
		case got := <-r.got:
			body := decoded(t, got.body)
			out = append(out, fmt.Sprint(body["sync"], " ", body["event"], " ", body["run"]))
		default:
			return out
		}
	}
}

func TestOnceAChangeOfStateAndNotOnceARun(t *testing.T) {
	const ok, failed, halted, rows, canceled = engine.Succeeded, engine.Failed, engine.Halted, engine.CompletedWithErrors, engine.Canceled
	for _, c := range []struct {
		name   string
		on     []string
		states []engine.Status
		want   []string // what the run of that place sets off, "" nothing
	}{
		{"all is well", nil, []engine.Status{ok, ok}, []string{"", ""}},
		{"it fails and goes on failing", nil, []engine.Status{ok, failed, failed, failed}, []string{"", "failed", "", ""}},
		{"the first run fails", nil, []engine.Status{failed, ok, ok}, []string{"failed", "recovered", ""}},
		{"from one trouble to another", nil, []engine.Status{rows, failed, halted, rows, ok}, []string{"completed_with_errors", "failed", "halted", "completed_with_errors", "recovered"}},
		{"fails again", nil, []engine.Status{failed, ok, failed}, []string{"failed", "recovered", "failed"}},
		{"a canceled run says nothing", nil, []engine.Status{failed, canceled, failed, canceled, ok}, []string{"failed", "", "", "", "recovered"}},
		{"rows that fail are not its affair", []string{"failed", "recovered"}, []engine.Status{rows, failed, rows, ok, rows}, []string{"", "failed", "recovered", "", ""}},
		{"halts are not its affair", []string{"failed", "recovered"}, []engine.Status{halted, ok, failed, halted, failed, ok}, []string{"", "", "failed", "", "", "recovered"}},
		{"recoveries are not its affair", []string{"failed"}, []engine.Status{failed, ok, failed}, []string{"failed", "", "failed"}},
		{"only recoveries", []string{"recovered"}, []engine.Status{failed, ok}, []string{"", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, dir := newReceiver(t), t.TempDir()
			alerts := []Alert{{Name: "oncall", URL: models.Secret(r.URL), On: c.on}}
			for i, s := range c.states {
				id := fmt.Sprint("r", i)
				process(t, dir, alerts, ran("accounts", id, s)) // each run a process of its own
				got := strings.Join(r.events(t), ", ")
				want := ""
				if c.want[i] != "" {
					want = "accounts " + c.want[i] + " " + id
				}
				if got != want {
					t.Errorf("run %d, %s: told %q, want %q", i, s, got, want)
				}
			}
		})
	}
}

func TestAlertsOfSomeSyncs(t *testing.T) {
	r, dir := newReceiver(t), t.TempDir()
	process(t, dir, []Alert{{Name: "oncall", URL: models.Secret(r.URL), Syncs: []string{"contacts", "leads"}}},
		ran("accounts", "r1", engine.Failed), ran("contacts", "r2", engine.Failed))
	if got := r.events(t); len(got) != 1 || got[0] != "contacts failed r2" {
		t.Errorf("%q", got)
	}
}

func TestMessageSaysWhyAndNoValues(t *testing.T) {
	r, dir := newReceiver(t), t.TempDir()
	alerts := []Alert{{Name: "oncall", URL: models.Secret(r.URL)}}
	process(t, dir, alerts, ran("accounts", "r1", engine.CompletedWithErrors))
	got := r.next(t)
	body := decoded(t, got.body)
	if body["reason"] != "15 rows failed: A 9, B 3, C 2 and 1 more codes" || body["command"] != "coho runs show r1 and coho runs errors r1" || body["title"] != "coho: accounts completed with errors" {
		t.Errorf("%s", got.body)
	}
	if strings.Contains(got.body, "a value") {
		t.Errorf("a row's value is told: %s", got.body)
	}
	process(t, dir, alerts, ran("accounts", "r2", engine.Failed))
	if body := decoded(t, r.next(t).body); body["reason"] != "the warehouse is gone" {
		t.Errorf("%v", body)
	}
	process(t, dir, alerts, ran("accounts", "r3", engine.Succeeded))
	if body := decoded(t, r.next(t).body); body["reason"] != "it had failed in run r2" || body["title"] != "coho: accounts recovered" {
		t.Errorf("%v", body)
	}
}

func TestFailedDeliveryIsTriedAtTheNextRun(t *testing.T) {
	r, dir := newReceiver(t), t.TempDir()
	alerts := []Alert{{Name: "oncall", URL: models.Secret(r.URL)}}
	r.answers(500, "")
	process(t, dir, alerts, ran("accounts", "r1", engine.Failed))
	if got := r.events(t); len(got) != 1 {
		t.Fatalf("%q", got)
	}
	process(t, dir, alerts, ran("accounts", "r2", engine.Failed))
	if got := r.events(t); len(got) != 1 || got[0] != "accounts failed r2" {
		t.Fatalf("the next run of the sync: %q", got)
	}
	// Another sync's run serves too.
	r.answers(200, "")
	process(t, dir, alerts, ran("contacts", "r3", engine.Succeeded))
	if got := r.events(t); len(got) != 1 || got[0] != "accounts failed r2" {
		t.Fatalf("another sync's run: %q", got)
	}
	process(t, dir, alerts, ran("accounts", "r4", engine.Failed))
	if got := r.events(t); len(got) != 0 {
		t.Errorf("told twice: %q", got)
	}
}

func TestTroubleThatWasNeverToldIsNotTakenBack(t *testing.T) {
	r, dir := newReceiver(t), t.TempDir()
	alerts := []Alert{{Name: "oncall", URL: models.Secret(r.URL)}}
	r.answers(500, "")
	process(t, dir, alerts, ran("accounts", "r1", engine.Failed))
	r.events(t)
	r.answers(200, "")
	process(t, dir, alerts, ran("accounts", "r2", engine.Succeeded))
	if got := r.events(t); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// TestFailedDeliveryIsRetriedWithGrowingPauses is the daemon's case: the process
// lives on, and no run comes.
func TestFailedDeliveryIsRetriedWithGrowingPauses(t *testing.T) {
	r, dir := newReceiver(t), t.TempDir()
	r.answers(500, "")
	n, err := New(Options{StateDir: dir, Alerts: []Alert{{Name: "oncall", URL: models.Secret(r.URL)}}, Retry: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	n.RunEnded(ran("accounts", "r1", engine.Failed))
	var at []time.Time
	for range 4 {
		r.next(t)
		at = append(at, time.Now())
	}
	// Pauses of 20, 40 and 80 ms; the answers take time too.
	if first, last := at[1].Sub(at[0]), at[3].Sub(at[2]); first < 15*time.Millisecond || last < 60*time.Millisecond {
		t.Errorf("pauses of %s and %s", first, last)
	}
	r.answers(200, "")
	r.next(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if got := r.events(t); len(got) > 0 {
		t.Errorf("told again: %q", got)
	}
}

// TestHangingReceiverDelaysNothing: runs go on at once, Close ends in its time,
// and no second request is begun.
func TestHangingReceiverDelaysNothing(t *testing.T) {
	r, other, dir := newReceiver(t), newReceiver(t), t.TempDir()
	r.hang = make(chan struct{})
	defer close(r.hang)
	var log bytes.Buffer
	n, err := New(Options{
		StateDir: dir, Timeout: 2 * time.Second, CloseTimeout: 3 * time.Second, Retry: 50 * time.Millisecond,
		Alerts: []Alert{{Name: "dead", URL: models.Secret(r.URL + "/verysecret")}, {Name: "alive", URL: models.Secret(other.URL)}},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for i := range 50 {
		n.RunEnded(ran(fmt.Sprint("sync", i), "r", engine.Failed))
	}
	if d := time.Since(begun); d > 50*time.Second { // half of what waiting for each would take
		t.Errorf("50 runs were held up for %s", d)
	}
	for range 50 {
		other.next(t) // who answers is told of all meanwhile
	}
	closing := time.Now()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(closing); d > 50*time.Second {
		t.Errorf("closed after %s", d)
	}
	r.next(t)
	r.none(t)
	if text := log.String(); !strings.Contains(text, "alert=dead") || strings.Contains(text, "verysecret") {
		t.Errorf("the log: %s", text)
	}
}

// TestManyRunsAtOnce: two notifiers, as an engine and its successor have, are
// told of many syncs by many goroutines; each trouble is told once.
func TestManyRunsAtOnce(t *testing.T) {
	r, dir := newReceiver(t), t.TempDir()
	alerts := []Alert{{Name: "oncall", URL: models.Secret(r.URL)}}
	var two []*Notifier
	for range 2 {
		n, err := New(Options{StateDir: dir, Alerts: alerts})
		if err != nil {
			t.Fatal(err)
		}
		two = append(two, n)
	}
	const syncs = 30
	var all sync.WaitGroup
	for i := range syncs {
		all.Go(func() {
			for j := range 3 {
				two[i%2].RunEnded(ran(fmt.Sprint("sync", i), fmt.Sprint("r", j), engine.Failed))
			}
		})
	}
	all.Wait()
	for _, n := range two {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	for _, e := range r.events(t) {
		seen[strings.Fields(e)[0]]++
	}
	if len(seen) != syncs {
		t.Errorf("%d syncs told, want %d", len(seen), syncs)
	}
	for s, n := range seen {
		if n != 1 {
			t.Errorf("%s told %d times", s, n)
		}
	}
}

func TestTornStateIsNoState(t *testing.T) {
	for _, text := range []string{"", "{", `{"accounts":null}`, "[]", "\x00"} {
		r, dir := newReceiver(t), t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "alerts.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		process(t, dir, []Alert{{Name: "oncall", URL: models.Secret(r.URL)}}, ran("accounts", "r1", engine.Failed))
		if got := r.events(t); len(got) != 1 {
			t.Errorf("%q: told %q", text, got)
		}
	}
}

func TestNothingIsWrittenWithoutAlertsOrTrouble(t *testing.T) {
	dir := t.TempDir()
	process(t, dir, nil, ran("accounts", "r1", engine.Failed))
	if _, err := os.Stat(filepath.Join(dir, "alerts.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestTestMessage(t *testing.T) {
	r, dir := newReceiver(t), t.TempDir()
	n, err := New(Options{StateDir: dir, Alerts: []Alert{{Name: "oncall", URL: models.Secret(r.URL), On: []string{"failed"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Test(t.Context(), "oncall"); err != nil {
		t.Fatal(err)
	}
	if body := decoded(t, r.next(t).body); body["event"] != "test" || body["title"] != "coho: test of the alert oncall" {
		t.Errorf("%v", body)
	}
	if err := n.Test(t.Context(), "nobody"); err == nil {
		t.Error("an alert that is not there was tested")
	}
	r.answers(404, "")
	if err := n.Test(t.Context(), "oncall"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
}
