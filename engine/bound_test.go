package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coho/models"
)

// strangers are changes after which a sync's state belongs to something else.
var strangers = []struct {
	what   string
	change func(w *world)
	insert bool // --full would create every record a second time
}{
	{"org", func(w *world) { w.org.id = "00D000000000002EAA" }, false},
	{"destination", func(w *world) { w.syncs["accounts"].Destination = "crm2" }, true},
	{"object", func(w *world) { w.syncs["accounts"].Object = "Lead" }, false},
	{"match field", func(w *world) { w.syncs["accounts"].Match.Field = "Other__c" }, true},
	{"primary key", func(w *world) { w.syncs["accounts"].Model.PrimaryKey = []string{"k", "name"} }, true},
}

func TestStateIsBound(t *testing.T) {
	for _, c := range strangers {
		for _, mode := range []models.Mode{models.ModeUpsert, models.ModeInsert} {
			t.Run(c.what+" in mode "+string(mode), func(t *testing.T) {
				w := newWorld(t, "accounts")
				w.syncs["accounts"].Mode = mode
				w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
				w.must("accounts")
				c.change(w)
				refused := func(o RunOptions) {
					t.Helper()
					before := w.org.sent
					run, err := w.run("accounts", o)
					var bound *BoundError
					if !errors.As(err, &bound) || bound.What != c.what || run.Status != Failed {
						t.Fatalf("%v, %+v", err, run)
					}
					unsafe := mode == models.ModeInsert && c.insert
					if bound.FullIsUnsafe != unsafe || strings.Contains(err.Error(), "--full` forgets") == unsafe || !strings.Contains(err.Error(), "coho snapshot reset accounts") {
						t.Errorf("what to do next: %v", err)
					}
					if w.org.sent != before || len(w.plans("accounts")) != 0 {
						t.Errorf("%d sent, on disk %v", w.org.sent-before, w.plans("accounts"))
					}
				}
				refused(RunOptions{})
				refused(RunOptions{Approve: true})
				w.with(func(e *Engine) {
					var bound *BoundError
					if _, err := e.Plan(context.Background(), "accounts", PlanOptions{}); !errors.As(err, &bound) {
						t.Errorf("plan: %v", err)
					}
					_, err := e.Plan(context.Background(), "accounts", PlanOptions{Full: true})
					if unsafe := mode == models.ModeInsert && c.insert; errors.As(err, &bound) != unsafe {
						t.Errorf("plan --full: %v", err)
					}
				})
				if mode == models.ModeInsert && c.insert {
					refused(RunOptions{Full: true})
					w.with(func(e *Engine) {
						if err := e.ResetSnapshot("accounts"); err != nil {
							t.Fatal(err)
						}
					})
				}
				run, err := w.run("accounts", RunOptions{Full: true})
				if err != nil || run.Rows.Added != 3 {
					t.Fatalf("%v, %+v", err, run)
				}
				w.must("accounts")
			})
		}
	}
}

func TestUnfinishedPlanOfWhatIsNoLongerMeant(t *testing.T) {
	for _, c := range strangers {
		for _, inFlight := range []bool{false, true} {
			name := c.what + " changed"
			if inFlight {
				name += ", a batch in flight"
			}
			t.Run(name, func(t *testing.T) {
				w, _ := halfSent(t, inFlight)
				c.change(w)
				before := w.org.sent
				w.org.opened = nil
				run, err := w.run("accounts", RunOptions{})
				var bound *BoundError
				if !errors.As(err, &bound) || bound.What != c.what || run.Status != Failed {
					t.Fatalf("%v, %+v", err, run)
				}
				if w.org.sent != before {
					t.Fatalf("%d operations of the old plan were sent", w.org.sent-before)
				}
				run, err = w.run("accounts", RunOptions{Full: true})
				if err != nil || run.Resumed != "" || run.Rows.Added != 3 {
					t.Fatalf("%v, %+v", err, run)
				}
				if left := w.plans("accounts"); len(left) > 1 {
					t.Errorf("on disk: %v", left)
				}
				w.must("accounts")
				if left := w.plans("accounts"); len(left) != 0 {
					t.Errorf("on disk: %v", left)
				}
			})
		}
	}
}

func TestFullInInsertModeDoublesNothing(t *testing.T) {
	w := newWorld(t, "accounts")
	w.syncs["accounts"].Mode, w.syncs["accounts"].Match = models.ModeInsert, models.Match{}
	w.fill("accounts", "a", "Acme", "b", "Bolt")
	w.must("accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt", "c", "Core")
	if run, err := w.run("accounts", RunOptions{Full: true}); err != nil || run.Outcomes.Created != 1 {
		t.Errorf("%v, %+v", err, run)
	}
	w.equal("accounts")
}

func TestSnapshotShowResetExport(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt")
	w.must("accounts")
	w.with(func(e *Engine) {
		info, err := e.SnapshotInfo("accounts")
		if err != nil || info.Rows != 2 || info.Org != w.org.id || info.Object != "Account" || info.MatchField != "Key__c" || info.Unfinished != "" {
			t.Errorf("%v, %+v", err, info)
		}
		var out strings.Builder
		if err := e.ExportSnapshot("accounts", &out); err != nil || !strings.Contains(out.String(), `"Bolt"`) {
			t.Errorf("%v, %s", err, out.String())
		}
		if err := e.ResetSnapshot("accounts"); err != nil {
			t.Fatal(err)
		}
		if info, err := e.SnapshotInfo("accounts"); err != nil || info.Rows != 0 || info.Org != "" {
			t.Errorf("after the reset: %v, %+v", err, info)
		}
		var usage *UsageError
		if err := e.ResetSnapshot("account"); !errors.As(err, &usage) {
			t.Errorf("%v", err)
		}
	})
}

func TestResetOfADamagedSnapshot(t *testing.T) {
	w := newWorld(t, "accounts")
	w.fill("accounts", "a", "Acme", "b", "Bolt")
	w.must("accounts")
	store := filepath.Join(w.dir, "syncs", "accounts", "store")
	manifests, err := filepath.Glob(filepath.Join(store, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifest: %v", err)
	}
	for _, m := range manifests {
		if err := os.WriteFile(m, []byte("no manifest at all"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run, err := w.run("accounts", RunOptions{})
	if err == nil || run.Status != Failed || !strings.Contains(err.Error(), "coho snapshot reset") {
		t.Fatalf("%v, %+v", err, run)
	}
	w.with(func(e *Engine) {
		if err := e.ResetSnapshot("accounts"); err != nil {
			t.Fatal(err)
		}
	})
	w.must("accounts")
	w.equal("accounts")
}

func TestStateDirectoryOfAnyName(t *testing.T) {
	w := newWorld(t, "accounts")
	w.dir = filepath.Join(w.dir, "a[b]c")
	w.syncs["accounts"].OnRemoved = models.RemovedDelete
	w.syncs["accounts"].Guards.MaxDeletes = models.Limit{Set: true}
	w.fill("accounts", "a", "Acme", "b", "Bolt")
	w.must("accounts")
	w.fill("accounts", "a", "Acme")
	for range 2 {
		if run, err := w.run("accounts", RunOptions{}); err == nil || run.Status != Halted {
			t.Fatalf("%v, %+v", err, run)
		}
	}
	if left := w.plans("accounts"); len(left) != 1 {
		t.Errorf("on disk: %v", left)
	}
}

func TestValidate(t *testing.T) {
	w := newWorld(t, "good", "bad", "down")
	w.syncs["bad"].Fields[0].Column = "nam"
	w.syncs["bad"].Fields[0].Pos = "coho.toml:7:1"
	w.with(func(e *Engine) {
		got, err := e.Validate(t.Context(), []string{"good", "bad"}, true)
		if err != nil || len(got) != 2 || len(got[0].Problems) != 0 || got[0].Warnings[0] != "a remark" {
			t.Fatalf("%v, %+v", err, got)
		}
		if len(got[1].Problems) != 1 || !strings.HasPrefix(got[1].Problems[0], "coho.toml:7:1: ") || !strings.Contains(got[1].Problems[0], `"name"`) || got[1].Err != nil {
			t.Errorf("%+v", got[1])
		}
		w.org.orgErr = errors.New("connection refused")
		got, err = e.Validate(t.Context(), []string{"down"}, true)
		if err != nil || !errors.Is(got[0].Err, w.org.orgErr) || len(got[0].Problems) != 1 {
			t.Errorf("%v, %+v", err, got)
		}
		var usage *UsageError
		if _, err := e.Validate(t.Context(), []string{"godo"}, true); !errors.As(err, &usage) {
			t.Errorf("%v", err)
		}
	})
	if w.org.sent != 0 || w.warehouse.reads != 0 {
		t.Error("checking read rows or wrote some")
	}
	if _, err := os.Stat(w.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("checking made a state directory: %v", err)
	}
}
