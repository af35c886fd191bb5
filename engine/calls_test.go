package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCallLog(t *testing.T) {
	h := OpenHistory(filepath.Join(t.TempDir(), "runs"), Retention{Runs: 100, Age: -1})
	id := saved(t, h, "accounts")[0]
	paths := func() (out []string) {
		t.Helper()
		if _, err := h.Calls(id, func(c *APICall) bool {
			out = append(out, c.Path)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if kept, err := h.Calls(id, nil); kept || err != nil {
		t.Fatalf("calls of a run that made none: %v, %v", kept, err)
	}
	l := &callLog{path: h.callsPath(id), most: 600}
	ctx := context.WithValue(t.Context(), callLogKey{}, l)
	call := APICall{Time: time.Now(), Method: "GET", Path: "/a", Status: 200}
	RecordCall(t.Context(), call) // of no run
	RecordCall(ctx, call)
	if got := paths(); len(got) != 0 {
		t.Fatalf("a good call was not buffered: %q", got)
	}
	call.Path, call.Status = "/b", 503
	RecordCall(ctx, call)
	if got := strings.Join(paths(), " "); got != "/a /b" {
		t.Fatalf("after a refusal there are %q", got)
	}
	for range 10 {
		RecordCall(ctx, call)
	}
	missed, err := l.close()
	if err != nil || missed == 0 || int(missed)+len(paths()) != 12 {
		t.Fatalf("%d missed, %d kept, %v", missed, len(paths()), err)
	}
	RecordCall(ctx, call) // outlives its run
	if int(missed)+len(paths()) != 12 {
		t.Fatal("a call was recorded after the end")
	}
	// A line that a crash tore is passed over.
	f, err := os.OpenFile(h.callsPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"path":"/to`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if int(missed)+len(paths()) != 12 {
		t.Fatal("a torn line was read")
	}
	// What cannot be written is said at the end.
	l = &callLog{path: filepath.Join(t.TempDir(), "nowhere", "x"), most: 100}
	RecordCall(context.WithValue(t.Context(), callLogKey{}, l), call)
	if _, err := l.close(); err == nil {
		t.Fatal("a log that cannot be written went unnoticed")
	}
}

func TestCallsAreKeptForSoManyRunsAndBytes(t *testing.T) {
	h := OpenHistory(filepath.Join(t.TempDir(), "runs"), Retention{Runs: 100, Age: -1})
	ids := saved(t, h, "a", "a", "a", "a")
	write := func(id string) {
		t.Helper()
		if err := os.WriteFile(h.callsPath(id), make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() (out string) {
		for i, id := range ids {
			if _, err := os.Stat(h.callsPath(id)); err == nil {
				out += string(rune('0' + i))
			}
		}
		return out
	}
	newest := []string{ids[3], ids[2], ids[1], ids[0]}
	for _, c := range []struct {
		runs  int
		bytes int64
		want  string
	}{{4, 1000, "0123"}, {2, 1000, "23"}, {4, 300, "123"}, {4, 99, ""}} {
		for _, id := range append([]string{"20200101T000000.000Z-gone"}, ids...) {
			write(id)
		}
		if err := h.pruneCalls(newest, c.runs, c.bytes); err != nil {
			t.Fatal(err)
		}
		if got := kept(); got != c.want {
			t.Errorf("%d runs, %d bytes: kept %q, want %q", c.runs, c.bytes, got, c.want)
		}
		if _, err := os.Stat(h.callsPath("20200101T000000.000Z-gone")); err == nil {
			t.Error("the calls of a run that is gone are kept")
		}
	}
}
