package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
)

func (w *world) preview(args ...string) *engine.Preview {
	w.t.Helper()
	r := w.coho(append([]string{"plan", "--json"}, args...)...)
	if r.code != 0 {
		w.t.Fatalf("coho plan %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	var p engine.Preview
	if err := json.Unmarshal([]byte(r.stdout), &p); err != nil {
		w.t.Fatalf("%v in %s", err, r.stdout)
	}
	return &p
}

// TestPreview follows one row from new to gone; what the preview says of it is
// what a run then does, and nothing is sent or remembered by looking.
func TestPreview(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql("CREATE TABLE accounts AS SELECT 'A' || i AS k, 'Name ' || i AS name, '1' AS phone FROM range(1, 400) t(i)")
	w.config(accounts(`on_removed = "delete"`))
	row := func(operation, why string) *engine.Preview {
		t.Helper()
		p := w.preview("accounts", "--key", "A7")
		if p.Operation != operation || !strings.Contains(p.Why, why) {
			t.Errorf("got %s because %q, want %s because %q", p.Operation, p.Why, operation, why)
		}
		return p
	}
	p := row("upsert", "nothing was acknowledged")
	if p.Snapshot != nil || len(p.Org) != 0 || len(p.Changes) != 2 || len(p.Columns) != 3 || *p.Columns[1].Value != "Name 7" || *p.Match.Value != "A7" {
		t.Errorf("a new row is %+v", p)
	}
	w.want(nil)
	if run := w.run(0, "accounts"); run.Operations.Upsert != 399 {
		t.Fatalf("the run sent %+v", run.Operations)
	}
	p = row("unchanged", "acknowledged")
	if p.Snapshot == nil || p.Snapshot.ID == "" || *p.Snapshot.Fields["Phone"] != "1" || len(p.Org) != 1 || p.Org[0].ID != p.Snapshot.ID || *p.Org[0].Fields["Name"] != "Name 7" {
		t.Errorf("a row that is done is %+v", p)
	}
	w.sql("UPDATE accounts SET phone = '2'")
	p = row("upsert", "1 fields differ")
	if len(p.Changes) != 1 || p.Changes[0].Field != "Phone" || *p.Changes[0].Before != "1" || *p.Changes[0].After != "2" {
		t.Errorf("the changes are %+v", p.Changes)
	}
	if r := w.coho("plan", "accounts", "--key", "k=A7", "--detailed-exitcode"); r.code != 10 || !strings.Contains(r.stdout, `Phone: "1" -> "2"`) {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	w.sql("INSERT INTO accounts VALUES ('A7', 'again', '3')")
	if p = row("rejected", "2 rows share the primary key"); p.Code != "DUPLICATE_PRIMARY_KEY" || p.InModel != 2 {
		t.Errorf("a doubled row is %+v", p)
	}
	w.sql("DELETE FROM accounts WHERE k = 'A7'")
	row("archive", "no such row any more")
	if p := w.preview("accounts", "--key", "nobody"); p.Operation != "nothing" || p.InModel != 0 || p.Snapshot != nil {
		t.Errorf("an unknown key is %+v", p)
	}
	if run := w.run(0, "accounts"); run.Operations.Archive != 1 || run.Operations.Upsert != 398 {
		t.Errorf("the run after the previews did %+v", run.Operations)
	}
}

// TestPreviewMatchShared: two rows of other keys that are one record are
// rejected by a run, and the preview of each says so.
func TestPreviewMatchShared(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.sql("CREATE TABLE accounts AS SELECT * FROM (VALUES ('EU', 1, 'A', 'one'), ('EU', 2, 'A', 'two'), ('US', 1, 'B', 'b=c')) t(region, no, k, name)")
	w.config(strings.Replace(strings.Replace(accounts(""), `["k"]`, `["region", "no"]`, 1), `Phone = "phone"`, "", 1))
	if p := w.preview("accounts", "--key", "no=1", "--key", "region=EU"); p.Code != "DUPLICATE_MATCH_VALUE" {
		t.Errorf("a shared match value is %s %s", p.Operation, p.Code)
	}
	if p := w.preview("accounts", "--key", "region=US", "--key", "no=1"); p.Operation != "upsert" || len(p.Changes) != 1 {
		t.Errorf("a row of its own is %+v", p)
	}
	for _, args := range [][]string{{"--key", "EU"}, {"--key", "region=EU"}, {"--key", "no=1", "--key", "no=2"}, {"--full", "--key", "no=1", "--key", "region=EU"}} {
		if r := w.coho(slices.Concat([]string{"plan", "accounts"}, args)...); r.code != 2 {
			t.Errorf("plan %v: exit code %d, want 2\n%s", args, r.code, r.stderr)
		}
	}
}
