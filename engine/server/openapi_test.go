package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coho/engine"
)

// description is openapi.json, and what the tests have seen of it.
type description struct {
	doc map[string]any

	mu   sync.Mutex      // guards seen
	seen map[string]bool // operations answered as described, by method and path
}

var described = func() *description {
	d := &description{seen: map[string]bool{}}
	if err := json.Unmarshal(openAPI, &d.doc); err != nil {
		panic(err)
	}
	return d
}()

func (d *description) paths() map[string]any { return d.doc["paths"].(map[string]any) }

// operation finds what describes a request.
func (d *description) operation(method, path string) (pattern string, op map[string]any) {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	for pattern, item := range d.paths() {
		want := strings.Split(pattern, "/")
		if len(want) != len(parts) {
			continue
		}
		same, literal := true, true
		for i := range want {
			if strings.HasPrefix(want[i], "{") {
				literal = false
			} else if want[i] != parts[i] {
				same = false
			}
		}
		if op, ok := item.(map[string]any)[strings.ToLower(method)].(map[string]any); same && ok {
			return pattern, op
		} else if same && literal {
			return pattern, nil
		}
	}
	return "", nil
}

// check holds an answer against its description.
func (d *description) check(t *testing.T, method, path string, a answer) {
	t.Helper()
	pattern, op := d.operation(method, path)
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	if op == nil {
		if a.code < 400 {
			t.Errorf("%s %s is answered with %d and not described", method, path, a.code)
			return
		}
		d.body(t, method+" "+path, "application/problem+json", map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/Problem"}}, kind, a.body)
		return
	}
	what := method + " " + pattern
	responses := op["responses"].(map[string]any)
	r, ok := responses[fmt.Sprint(a.code)].(map[string]any)
	if !ok {
		if r, ok = responses["default"].(map[string]any); !ok || a.code < 400 {
			t.Errorf("%s is answered with %d, which is not described", what, a.code)
			return
		}
	} else {
		d.mu.Lock()
		d.seen[what] = true
		d.mu.Unlock()
	}
	content, _ := r["content"].(map[string]any)
	if content == nil {
		if a.body != "" || kind != "" {
			t.Errorf("%s is answered with a body of %s, and described without: %s", what, kind, a.body)
		}
		return
	}
	media, ok := content[kind].(map[string]any)
	if !ok {
		t.Errorf("%s is answered as %q, which is not described", what, kind)
		return
	}
	d.body(t, what, kind, media, kind, a.body)
}

// body holds a body against a media type's description.
func (d *description) body(t *testing.T, what, want string, media map[string]any, kind, body string) {
	t.Helper()
	if kind != want {
		t.Errorf("%s is answered as %q, want %q: %s", what, kind, want, body)
		return
	}
	schema := media["schema"].(map[string]any)
	hold := func(text string) {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Errorf("%s: %v in %s", what, err, text)
			return
		}
		for _, p := range d.problems(schema, v, "") {
			t.Errorf("%s: %s\n%s", what, p, text)
		}
	}
	switch kind {
	case "application/json", "application/problem+json":
		hold(body)
	case ndjson:
		if schema["$ref"] == nil {
			return // an export's lines are between export and import
		}
		for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
			if line != "" {
				hold(line)
			}
		}
	case "text/event-stream":
		err := readEvents(strings.NewReader(body), func(event string, data []byte) (bool, error) {
			name := map[string]string{eventProgress: "Progress", eventEnded: "Ended"}[event]
			if name == "" {
				t.Errorf("%s sends an event %q", what, event)
				return true, nil
			}
			schema = map[string]any{"$ref": "#/components/schemas/" + name}
			hold(string(data))
			return true, nil
		})
		if err == nil {
			t.Errorf("%s: a stream without an end", what)
		}
	}
}

// problems says where a value does not fit a schema. A keyword that it does not
// know is a problem too, so that none is passed over.
func (d *description) problems(schema map[string]any, v any, at string) (out []string) {
	fail := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("%s: ", at)+fmt.Sprintf(format, args...))
	}
	for _, key := range slices.Sorted(maps.Keys(schema)) {
		arg := schema[key]
		switch key {
		case "description", "default":
		case "$ref":
			name := strings.TrimPrefix(arg.(string), "#/components/schemas/")
			named, ok := d.doc["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any)
			if !ok {
				fail("there is no schema %s", name)
				continue
			}
			out = append(out, d.problems(named, v, at)...)
		case "anyOf":
			fits := slices.ContainsFunc(arg.([]any), func(s any) bool { return len(d.problems(s.(map[string]any), v, at)) == 0 })
			if !fits {
				fail("fits none of its schemas: %v", v)
			}
		case "type":
			types, ok := arg.([]any)
			if !ok {
				types = []any{arg}
			}
			if !slices.ContainsFunc(types, func(x any) bool { return isType(x.(string), v) }) {
				fail("%v is no %v", v, arg)
			}
		case "enum":
			if !slices.Contains(arg.([]any), v) {
				fail("%v is none of %v", v, arg)
			}
		case "format":
			if s, ok := v.(string); ok {
				if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
					fail("%q is no %v", s, arg)
				}
			}
		case "items":
			list, _ := v.([]any)
			for i, x := range list {
				out = append(out, d.problems(arg.(map[string]any), x, fmt.Sprintf("%s[%d]", at, i))...)
			}
		case "required":
			if m, ok := v.(map[string]any); ok {
				for _, k := range arg.([]any) {
					if _, ok := m[k.(string)]; !ok {
						fail("%s is missing", k)
					}
				}
			}
		case "properties":
			m, _ := v.(map[string]any)
			for k, s := range arg.(map[string]any) {
				if x, ok := m[k]; ok {
					out = append(out, d.problems(s.(map[string]any), x, at+"."+k)...)
				}
			}
		case "additionalProperties":
			known, _ := schema["properties"].(map[string]any)
			m, _ := v.(map[string]any)
			for k, x := range m {
				if known[k] != nil {
					continue
				}
				if s, ok := arg.(map[string]any); ok {
					out = append(out, d.problems(s, x, at+"."+k)...)
				} else if arg == false {
					fail("%s is not described", k)
				}
			}
		default:
			fail("the schema says %s, which the test does not understand", key)
		}
	}
	return out
}

func isType(name string, v any) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case string:
		return name == "string"
	case bool:
		return name == "boolean"
	case float64:
		return name == "number" || name == "integer" && v == float64(int64(v))
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}

// TestSchemaChecker: a check that cannot fail is none.
func TestSchemaChecker(t *testing.T) {
	for _, c := range []struct{ schema, value, want string }{
		{`{"type":"string"}`, `"x"`, ""},
		{`{"type":"string"}`, `1`, "no string"},
		{`{"type":["string","null"]}`, `null`, ""},
		{`{"type":"integer"}`, `1.5`, "no integer"},
		{`{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}`, `{"a":1}`, ""},
		{`{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}`, `{}`, "a is missing"},
		{`{"type":"object","properties":{},"additionalProperties":false}`, `{"b":1}`, "b is not described"},
		{`{"type":"object","additionalProperties":{"type":"string"}}`, `{"b":1}`, "no string"},
		{`{"type":"array","items":{"type":"string"}}`, `["a",2]`, "[1]"},
		{`{"type":"string","enum":["a"]}`, `"b"`, "none of"},
		{`{"type":"string","format":"date-time"}`, `"yesterday"`, "no date-time"},
		{`{"anyOf":[{"type":"string"},{"type":"null"}]}`, `1`, "fits none"},
		{`{"$ref":"#/components/schemas/Nobody"}`, `1`, "no schema"},
		{`{"pattern":"x"}`, `"x"`, "does not understand"},
	} {
		var schema map[string]any
		var v any
		if err := json.Unmarshal([]byte(c.schema), &schema); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.value), &v); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(described.problems(schema, v, ""), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s of %s: %q, want %q", c.value, c.schema, got, c.want)
		}
	}
}

// TestEveryRouteIsDescribed: in both directions, with each path's parameters.
func TestEveryRouteIsDescribed(t *testing.T) {
	s := &Server{o: Options{Metrics: NewMetrics("")}}
	routes := map[string]bool{}
	for _, rt := range s.table() {
		for m := range rt.methods {
			what := m + " " + rt.path
			routes[what] = true
			pattern, op := described.operation(m, rt.path)
			if pattern != rt.path || op == nil {
				t.Errorf("%s is not described", what)
				continue
			}
			var params []string
			for _, p := range listOf(op["parameters"]) {
				if p := p.(map[string]any); p["in"] == "path" {
					params = append(params, "{"+p["name"].(string)+"}")
				}
			}
			var want []string
			for _, part := range strings.Split(rt.path, "/") {
				if strings.HasPrefix(part, "{") {
					want = append(want, part)
				}
			}
			if !slices.Equal(params, want) {
				t.Errorf("%s: parameters %v are described, want %v", what, params, want)
			}
			security, ok := op["security"].([]any)
			if isOpen := ok && len(security) == 0; isOpen != (rt.access == open) {
				t.Errorf("%s is described as open: %v, and is: %v", what, isOpen, rt.access == open)
			}
		}
	}
	ids := map[string]bool{}
	for pattern, item := range described.paths() {
		for m, op := range item.(map[string]any) {
			what := strings.ToUpper(m) + " " + pattern
			if !routes[what] {
				t.Errorf("%s is described and there is no such route", what)
			}
			id, _ := op.(map[string]any)["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s has no operationId of its own: %q", what, id)
			}
			ids[id] = true
		}
	}
	codes := described.doc["components"].(map[string]any)["schemas"].(map[string]any)["Problem"].(map[string]any)["properties"].(map[string]any)["code"].(map[string]any)["enum"].([]any)
	for _, c := range allCodes {
		if !slices.Contains(codes, any(c)) {
			t.Errorf("the code %s is not described", c)
		}
	}
	if len(codes) != len(allCodes) {
		t.Errorf("%d codes are described, there are %d", len(codes), len(allCodes))
	}
}

var allCodes = []string{
	CodeBadRequest, CodeUsage, CodeTooLarge, CodeMediaType, CodeHost, CodeNotFound, CodeMethod, CodeUnauthorized, CodeNoToken, CodeUnknownName,
	CodeInvalidSync, CodeBound, CodeBusy, CodeHalted, CodeCanceled, CodeRunFailed, CodeNotBegun, CodeEnded, CodeNoPlan, CodeConfig, CodeStopping, CodeTooMany,
}

func listOf(v any) []any {
	l, _ := v.([]any)
	return l
}

// TestAnswersAreAsDescribed goes through every operation; each answer of the
// package's tests is held against its schema, and here every operation must have
// succeeded once.
func TestAnswersAreAsDescribed(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.want(200, "GET", "/healthz", "")
	w.want(200, "GET", "/readyz", "")
	w.want(200, "GET", "/metrics", "")
	w.want(200, "GET", "/api/v1/openapi.json", "")
	w.want(200, "GET", "/api/v1/server", "")
	w.want(200, "GET", "/api/v1/syncs", "") // never run
	w.want(200, "GET", "/api/v1/sequences", "")
	w.want(200, "POST", "/api/v1/syncs/accounts/plan", "")
	w.want(200, "POST", "/api/v1/syncs/accounts/preview", `{"key":["A1"]}`)
	w.want(400, "POST", "/api/v1/syncs/accounts/preview", `{"key":[]}`)
	w.want(200, "POST", "/api/v1/syncs/accounts/plan", `{"full":true}`, "Accept", "text/event-stream")

	working, release := w.held(2)
	started := w.want(202, "POST", "/api/v1/runs", `{"sequence":"nightly"}`)
	var answer struct {
		Runs []StartedRun `json:"runs"`
	}
	if err := json.Unmarshal([]byte(started.body), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Runs) != 2 || answer.Runs[0].Sync != "accounts" {
		t.Fatalf("started %s", started.body)
	}
	<-working
	w.want(200, "GET", "/api/v1/runs/"+answer.Runs[0].Run, "") // while it goes on
	w.want(200, "GET", "/api/v1/sequence-runs/nightly", "")
	w.want(409, "POST", "/api/v1/runs", `{"syncs":["accounts"]}`)
	w.want(409, "POST", "/api/v1/syncs/accounts/plan", "")
	release()
	for _, e := range w.watch(answer.Runs) {
		want := map[string]engine.Status{"accounts": engine.Succeeded, "contacts": engine.CompletedWithErrors}[e.Sync]
		if e.Record == nil || e.Record.Status != want || e.Problem != nil {
			t.Errorf("ended: %s, want %s", e, want)
		}
	}
	w.org.OnCall(nil)
	w.want(200, "GET", "/api/v1/events?run="+answer.Runs[0].Run+"&run="+answer.Runs[1].Run, "")
	w.want(200, "GET", "/api/v1/runs/contacts/events", "")
	w.want(200, "GET", "/api/v1/syncs", "")
	w.want(200, "GET", "/api/v1/syncs/accounts", "")
	w.want(200, "GET", "/api/v1/sequences", "")
	w.want(200, "GET", "/api/v1/sequences/nightly", "")
	w.want(200, "GET", "/api/v1/sequences/nightly/runs?limit=1", "")
	w.want(200, "GET", "/api/v1/sequence-runs?sequence=nightly", "")
	w.want(200, "GET", "/api/v1/runs?limit=1", "")
	w.want(200, "GET", "/api/v1/runs/contacts/errors", "")
	w.want(200, "GET", "/api/v1/runs/contacts/errors", "", "Accept", ndjson)
	w.want(200, "GET", "/api/v1/runs/accounts/calls?bodies=true&limit=2", "")
	w.want(200, "GET", "/api/v1/runs/accounts/calls", "", "Accept", ndjson)

	working, release = w.held(1)
	started = w.want(202, "POST", "/api/v1/runs", `{"all":true,"full":true}`)
	if err := json.Unmarshal([]byte(started.body), &answer); err != nil {
		t.Fatal(err)
	}
	<-working
	w.want(202, "POST", "/api/v1/runs/"+answer.Runs[0].Run+"/cancel", "")
	w.want(202, "POST", "/api/v1/runs/"+answer.Runs[1].Run+"/cancel", `{"abort":true}`)
	release()
	w.watch(answer.Runs)
	w.org.OnCall(nil)
	w.want(409, "POST", "/api/v1/runs/"+answer.Runs[0].Run+"/cancel", "")
	if e := w.run(StartRequest{Syncs: []string{"accounts"}}); e[0].Problem != nil {
		t.Fatalf("ended: %s", e[0])
	}

	halted := w.halt("A1", "A2", "A3")
	w.want(200, "GET", "/api/v1/runs/accounts/plan?operation=archive&limit=2", "")
	w.want(200, "GET", "/api/v1/runs/"+halted+"/plan", "", "Accept", ndjson)
	w.want(202, "POST", "/api/v1/runs/"+halted+"/approve", `{"by":"ada"}`)
	w.want(409, "POST", "/api/v1/runs/"+halted+"/approve", "") // it goes on already
	w.daemonRests()

	w.want(200, "GET", "/api/v1/syncs/accounts/snapshot", "")
	rows := w.want(200, "GET", "/api/v1/syncs/accounts/snapshot/rows", "")
	w.want(204, "DELETE", "/api/v1/syncs/accounts/snapshot", "")
	w.want(204, "PUT", "/api/v1/syncs/accounts/snapshot/rows", rows.body, "Content-Type", ndjson)
	if got := w.want(200, "GET", "/api/v1/syncs/accounts/snapshot/rows", ""); got.body != rows.body {
		t.Errorf("an export of what was imported differs")
	}
	for _, x := range []string{"syncs/accounts", "sequences/nightly"} {
		w.want(204, "POST", "/api/v1/"+x+"/pause", "")
		if got := w.want(200, "GET", "/api/v1/"+x, ""); !strings.Contains(got.body, `"paused":true`) || strings.Contains(got.body, `"next_run"`) {
			t.Errorf("paused: %s", got.body)
		}
		w.want(204, "POST", "/api/v1/"+x+"/resume", "")
		if got := w.want(200, "GET", "/api/v1/"+x, ""); !strings.Contains(got.body, `"paused":false`) || !strings.Contains(got.body, `"next_run"`) {
			t.Errorf("resumed: %s", got.body)
		}
	}
	w.want(204, "POST", "/api/v1/reload", "")
	w.config("nonsense = true")
	if p := w.want(422, "POST", "/api/v1/reload", "").problem(t); p.Code != CodeConfig || !strings.Contains(strings.Join(p.Problems, "\n"), "coho.toml:1:") {
		t.Errorf("a broken config: %+v", p)
	}
	if got := w.want(200, "GET", "/api/v1/server", ""); !strings.Contains(got.body, "config_error") {
		t.Errorf("the refused config is not told of: %s", got.body)
	}

	for pattern, item := range described.paths() {
		for m := range item.(map[string]any) {
			if what := strings.ToUpper(m) + " " + pattern; !described.seen[what] {
				t.Errorf("%s was never answered as described", what)
			}
		}
	}
}

// TestBadRequests: each gets a problem with a stable code.
func TestBadRequests(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, c := range []struct {
		method, path, body string
		header             []string
		code               int
		want               string
	}{
		{"GET", "/api/v1/nothing", "", nil, 404, CodeNotFound},
		{"GET", "/", "", nil, 404, CodeNotFound},
		{"DELETE", "/api/v1/runs", "", nil, 405, CodeMethod},
		{"GET", "/api/v1/syncs/acounts", "", nil, 404, CodeUnknownName},
		{"POST", "/api/v1/syncs/acounts/plan", "", nil, 404, CodeUnknownName},
		{"POST", "/api/v1/syncs/acounts/pause", "", nil, 404, CodeUnknownName},
		{"DELETE", "/api/v1/syncs/acounts/snapshot", "", nil, 404, CodeUnknownName},
		{"GET", "/api/v1/sequences/x", "", nil, 404, CodeUnknownName},
		{"GET", "/api/v1/sequence-runs/x", "", nil, 404, CodeUnknownName},
		{"GET", "/api/v1/runs/x", "", nil, 404, CodeUnknownName},
		{"GET", "/api/v1/runs/..%2F..%2Fdaemon", "", nil, 404, CodeUnknownName},
		{"GET", "/api/v1/runs/x/errors", "", nil, 404, CodeUnknownName},
		{"GET", "/api/v1/runs/x/events", "", nil, 404, CodeUnknownName},
		{"POST", "/api/v1/runs/x/cancel", "", nil, 404, CodeUnknownName},
		{"GET", "/api/v1/events?run=x", "", nil, 404, CodeUnknownName},
		{"POST", "/api/v1/runs/x/approve", "", nil, 404, CodeUnknownName},
		{"POST", "/api/v1/runs/x/approve", `{"by":"two\nlines"}`, nil, 400, CodeBadRequest},
		{"GET", "/api/v1/runs/x/plan", "", nil, 409, CodeNoPlan},
		{"GET", "/api/v1/runs/..%2F..%2Fdaemon/plan", "", nil, 409, CodeNoPlan},
		{"GET", "/api/v1/runs/accounts/plan?operation=delete", "", nil, 400, CodeBadRequest},
		{"GET", "/api/v1/runs/accounts/plan?limit=0", "", nil, 400, CodeBadRequest},
		{"GET", "/api/v1/sequence-runs?limit=0", "", nil, 400, CodeBadRequest},
		{"GET", "/api/v1/runs?limit=0", "", nil, 400, CodeBadRequest},
		{"GET", "/api/v1/runs?limit=many", "", nil, 400, CodeBadRequest},
		{"GET", "/api/v1/runs?limit=100000", "", nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", `{}`, nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", "", nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", `{"syncs":["accounts"],"all":true}`, nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", `{"syncs":["accounts"],"ful":true}`, nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", `{"syncs":["accounts"]} x`, nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", `{"syncs":`, nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", `{"all":true,"leave_out":{"accounts":"two\nlines"}}`, nil, 400, CodeBadRequest},
		{"POST", "/api/v1/runs", `{"all":true,"leave_out":{"acounts":"no such sync"}}`, nil, 400, CodeUsage},
		{"POST", "/api/v1/runs", `{"syncs":["acounts"]}`, nil, 400, CodeUsage},
		{"POST", "/api/v1/runs", `{"sequence":"x"}`, nil, 400, CodeUsage},
		{"POST", "/api/v1/runs", `{"all":true}`, []string{"Content-Type", "text/plain"}, 415, CodeMediaType},
		{"POST", "/api/v1/runs", `{"syncs":["` + strings.Repeat("x", maxBody) + `"]}`, nil, 413, CodeTooLarge},
		{"PUT", "/api/v1/syncs/accounts/snapshot/rows", "{}", nil, 415, CodeMediaType},
		{"PUT", "/api/v1/syncs/accounts/snapshot/rows", "nonsense", []string{"Content-Type", ndjson}, 422, CodeRunFailed},
	} {
		a := w.ask(c.method, c.path, c.body, c.header...)
		if p := a.problem(t); a.code != c.code || p.Code != c.want || p.Detail == "" {
			t.Errorf("%s %s %.60s: %d %+v, want %d %s", c.method, c.path, c.body, a.code, p, c.code, c.want)
		}
	}
	if a := w.ask("DELETE", "/api/v1/runs", ""); a.header.Get("Allow") != "GET, POST" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	if a := w.want(200, http.MethodHead, "/healthz", ""); a.body != "" {
		t.Errorf("HEAD has a body: %q", a.body)
	}
}
