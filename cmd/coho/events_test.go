package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/planner"
)

// orders is the config of a sync that publishes platform events; more goes into
// its write section.
func orders(more string) string {
	return head + `
[models.orders]
source = "warehouse"
primary_key = ["k"]
sql = "SELECT * FROM orders"

[syncs.orders]
model = "orders"
destination = "crm"
object = "Order_Placed__e"
mode = "insert"

[syncs.orders.fields]
Order_Number__c = "k"
Amount__c = "amount"

[syncs.orders.write]
` + more
}

func (w *world) someOrders(n int) {
	w.t.Helper()
	w.sql(fmt.Sprintf("CREATE TABLE orders AS SELECT 'O' || i AS k, (i * 1.5)::DECIMAL(18,2) AS amount FROM range(%d) t(i)", n))
}

// published counts the events of each order.
func (w *world) published() map[string]int {
	out := map[string]int{}
	for _, e := range w.org.Org().Published("Order_Placed__e") {
		out[field(e, "Order_Number__c")]++
	}
	return out
}

// wantPublished checks that each of n orders was published, and so many in all.
func (w *world) wantPublished(n, all int) {
	w.t.Helper()
	got, sum := w.published(), 0
	for i := range n {
		if got[fmt.Sprint("O", i)] == 0 {
			w.t.Errorf("order O%d was not published", i)
		}
	}
	for _, times := range got {
		sum += times
	}
	if len(got) != n || sum != all {
		w.t.Errorf("%d orders were published in %d events, want %d in %d", len(got), sum, n, all)
	}
}

// TestEvents: each new key is published once and its EventUuid kept; rows that
// change, leave or return are no operations.
func TestEvents(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(orders("rest_batch_size = 50"))
	w.someOrders(120)
	if r := w.coho("validate", "orders"); r.code != exitDone {
		t.Fatalf("validate: %s%s", r.stdout, r.stderr)
	}
	plan := w.coho("plan", "orders")
	for _, part := range []string{"120 insert", "about 5 calls", "platform events"} {
		if !strings.Contains(plan.stdout, part) {
			t.Errorf("the plan does not say %q:\n%s", part, plan.stdout)
		}
	}
	w.wantPublished(0, 0)
	run := w.run(exitDone, "orders")
	if run.Operations.Insert != 120 || run.Outcomes.Created != 120 || run.Outcomes.Unknown != 0 {
		t.Errorf("%+v %+v", run.Operations, run.Outcomes)
	}
	w.wantPublished(120, 120)

	kept := w.coho("snapshot", "export", "orders")
	if kept.code != exitDone {
		t.Fatalf("export: %s", kept.stderr)
	}
	for _, e := range w.org.Org().Published("Order_Placed__e") {
		if !strings.Contains(kept.stdout, `"id":"`+field(e, "EventUuid")+`"`) {
			t.Fatalf("the snapshot does not know event %s", field(e, "EventUuid"))
		}
	}

	w.sql("UPDATE orders SET amount = 1 WHERE k = 'O1'; DELETE FROM orders WHERE k IN ('O2', 'O3')")
	if r := w.run(exitDone, "orders"); r.Operations.Total() != 0 || r.Rows.Removed != 2 {
		t.Errorf("%+v %+v", r.Rows, r.Operations)
	}
	w.sql("INSERT INTO orders VALUES ('O2', 3), ('O120', 4)")
	if r := w.run(exitDone, "orders", "--full"); r.Operations.Insert != 1 || r.Outcomes.Created != 1 {
		t.Errorf("%+v %+v", r.Operations, r.Outcomes)
	}
	w.wantPublished(121, 121)
	if r := w.coho("plan", "orders", "--key", "O1"); r.code != exitDone || !strings.Contains(r.stdout, "unchanged") {
		t.Errorf("plan --key: %d %s%s", r.code, r.stdout, r.stderr)
	}
}

// TestLostEvents: an event whose answer was lost is counted and shown, and then
// sent again, held for a person, or taken as published, as on_unknown says.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision string
		code     int
		created  int64
		held     int64
		events   int
		said     string
	}{
		{"", exitDone, 120, 0, 170, "sent again"},
		{"resend", exitDone, 120, 0, 170, "sent again"},
		{"hold", exitRows, 70, 50, 120, "held"},
		{"accept", exitDone, 120, 0, 120, "counts it as published"},
	} {
		t.Run("on_unknown="+test.decision, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			decide := func(s string) {
				if s != "" {
					s = fmt.Sprintf("\non_unknown = %q", s)
				}
				w.config(orders("rest_batch_size = 50\nparallelism = 1" + s))
			}
			decide(test.decision)
			w.someOrders(120)
			w.org.AddFault(emulator.Fault{Match: "collections", CutAfter: true})
			text := w.coho("run", "orders")
			if text.code != test.code || !strings.Contains(text.stdout, "50 events whose answer was lost") {
				t.Fatalf("exit code %d\n%s%s", text.code, text.stdout, text.stderr)
			}
			run := decodeRun(t, w.coho("runs", "show", "orders", "--json").stdout)
			if o := run.Outcomes; o.Unknown != 50 || o.Created != test.created || o.Held != test.held || o.Total() != 120 || len(run.Errors) != 1 {
				t.Errorf("%+v %+v", o, run.Errors)
			}
			w.wantPublished(120, test.events)
			errs := w.errorsOf("orders")
			for _, e := range errs {
				if e.Code != planner.CodeUnknown || e.Operation != "insert" || e.Key["k"] == "" || !strings.Contains(e.Message, test.said) {
					t.Fatalf("%+v", e)
				}
			}
			if len(errs) != 50 {
				t.Errorf("%d row errors", len(errs))
			}
			if hints := w.coho("runs", "errors", "orders").stdout; !strings.Contains(hints, "--full") {
				t.Errorf("no hint: %s", hints)
			}
			if test.held == 0 {
				if r := w.run(exitDone, "orders"); r.Operations.Total() != 0 || r.Rows.Unchanged != 120 {
					t.Errorf("%+v", r.Rows)
				}
				w.wantPublished(120, test.events)
				return
			}
			// They stay held, shown by every run, while new rows go on.
			w.sql("INSERT INTO orders VALUES ('O120', 1); UPDATE orders SET amount = 7")
			again := w.run(exitRows, "orders")
			if again.Operations.Insert != 1 || again.Rows.Rejected != 50 || again.Errors[0].Code != planner.CodeUnknown {
				t.Errorf("%+v %+v %+v", again.Rows, again.Operations, again.Errors)
			}
			w.wantPublished(121, 121)
			// A held row that leaves the model and returns is held still.
			w.sql("CREATE TABLE aside AS SELECT * FROM orders; DELETE FROM orders")
			w.run(exitDone, "orders")
			w.sql("INSERT INTO orders SELECT * FROM aside")
			if r := w.run(exitRows, "orders"); r.Rows.Rejected != 50 || r.Operations.Total() != 0 {
				t.Errorf("%+v %+v", r.Rows, r.Operations)
			}
			// Nor does it get lost on the way to another machine.
			moved := filepath.Join(w.dir, "moved.jsonl")
			if err := os.WriteFile(moved, []byte(w.coho("snapshot", "export", "orders").stdout), 0o600); err != nil {
				t.Fatal(err)
			}
			if r := w.coho("snapshot", "reset", "orders"); r.code != exitDone {
				t.Fatalf("reset: %s", r.stderr)
			}
			if r := w.coho("snapshot", "import", "orders", moved); r.code != exitDone {
				t.Fatalf("import: %s", r.stderr)
			}
			if r := w.run(exitRows, "orders"); r.Rows.Rejected != 50 || r.Rows.Unchanged != 71 {
				t.Errorf("%+v %+v", r.Rows, r.Operations)
			}
			decide("accept")
			if r := w.run(exitDone, "orders"); r.Operations.Total() != 0 || r.Rows.Unchanged != 121 {
				t.Errorf("%+v %+v", r.Rows, r.Operations)
			}
			decide("hold")
			if r := w.run(exitDone, "orders"); r.Operations.Total() != 0 || r.Rows.Unchanged != 121 {
				t.Errorf("%+v %+v", r.Rows, r.Operations)
			}
			if r := w.coho("snapshot", "export", "orders"); r.code != exitDone {
				t.Errorf("export: %s", r.stderr)
			}
			w.wantPublished(121, 121)
		})
	}
}

// TestHeldEventsAreLetGo: --full sends what is held, and nothing else.
func TestHeldEventsAreLetGo(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.config(orders("rest_batch_size = 50\nparallelism = 1\non_unknown = \"hold\""))
	w.someOrders(120)
	w.org.AddFault(emulator.Fault{Match: "collections", CutBefore: true})
	if r := w.run(exitRows, "orders"); r.Outcomes.Held != 50 {
		t.Fatalf("%+v", r.Outcomes)
	}
	w.wantPublishedIn(70)
	one := w.errorsOf("orders")[0].Key["k"]
	w.run(exitRows, "orders", "--key", one)
	w.wantPublishedIn(70)
	w.run(exitDone, "orders", "--key", one, "--full")
	w.wantPublishedIn(71)
	if r := w.run(exitDone, "orders", "--full"); r.Operations.Insert != 49 || r.Outcomes.Created != 49 {
		t.Errorf("%+v %+v", r.Operations, r.Outcomes)
	}
	w.wantPublished(120, 120)
	if r := w.run(exitDone, "orders"); r.Operations.Total() != 0 {
		t.Errorf("%+v", r.Operations)
	}
}

func (w *world) wantPublishedIn(n int) {
	w.t.Helper()
	if got := len(w.org.Org().Published("Order_Placed__e")); got != n {
		w.t.Errorf("%d events were published, want %d", got, n)
	}
}

// TestEventsKilled: killed at any call and run again, every event is published;
// what may have been published twice is counted, and held where that is said.
func TestEventsKilled(t *testing.T) {
	t.Parallel()
	for _, decision := range []string{"resend", "hold"} {
		t.Run(decision, func(t *testing.T) {
			unknown := int64(0)
			for n := int64(1); ; n++ {
				w := newWorld(t, emulator.Options{Seed: n})
				w.config(orders("rest_batch_size = 20\nparallelism = 2\non_unknown = \"" + decision + "\""))
				w.someOrders(60)
				alive := w.killed(n, "run", "orders", "--json")
				before := len(w.org.Org().Published("Order_Placed__e"))
				r := w.coho("run", "orders", "--json")
				o := decodeRun(t, r.stdout).Outcomes
				unknown += o.Unknown
				after := w.published()
				switch {
				case decision == "hold":
					if missing := 60 - len(after); int64(missing) > o.Held || o.Held != o.Unknown || (r.code == exitRows) != (o.Held > 0) {
						t.Errorf("killed at call %d: %d events missing, %+v, exit code %d", n, missing, o, r.code)
					}
					if len(w.org.Org().Published("Order_Placed__e")) > 60 {
						t.Errorf("killed at call %d: an event was sent twice", n)
					}
				case len(after) != 60 || r.code != exitDone:
					t.Errorf("killed at call %d: %d orders published, exit code %d", n, len(after), r.code)
				default:
					twice := len(w.org.Org().Published("Order_Placed__e")) - 60
					if int64(twice) > o.Unknown || twice > before {
						t.Errorf("killed at call %d: %d events twice, %d counted", n, twice, o.Unknown)
					}
				}
				if alive {
					break
				}
			}
			if unknown == 0 {
				t.Error("no kill left an event in doubt")
			}
		})
	}
}

// TestHourlyEvents: the run halts before the org's hourly limit of events is
// passed, or where the org says that it is, and goes on later.
func TestHourlyEvents(t *testing.T) {
	org := filepath.Join(t.TempDir(), "org.toml")
	if err := os.WriteFile(org, []byte("[limits]\nhourly_platform_events = 70\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, hidden := range map[string]bool{"watched": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{OrgFile: org})
			w.config(orders("rest_batch_size = 50\nparallelism = 1"))
			w.someOrders(120)
			if hidden {
				w.org.AddFault(emulator.Fault{Match: "/limits", Status: 403, Code: "FUNCTIONALITY_NOT_ENABLED", Times: -1})
			}
			first := w.run(exitHalted, "orders")
			if first.Status != engine.Halted || !strings.Contains(first.Error, "platform events an hour") || first.Outcomes.Created != 70 || first.Outcomes.Failed != 0 {
				t.Errorf("%s: %s %+v", first.Status, first.Error, first.Outcomes)
			}
			w.wantPublishedIn(70)
			if failed := w.org.Counters().Records.RowsFailed; (failed > 0) != hidden {
				t.Errorf("the org had to refuse %d events", failed)
			}
			w.run(exitHalted, "orders")
			w.org.Org().AdvanceTime(61 * time.Minute)
			if last := w.run(exitDone, "orders"); last.Resumed != first.ID || last.Outcomes.Created != 50 {
				t.Errorf("resumed %q, %+v", last.Resumed, last.Outcomes)
			}
			w.wantPublished(120, 120)
		})
	}
}
