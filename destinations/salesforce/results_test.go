package salesforce

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/destinations/salesforce/emulator"
	"coho/models"
	"coho/planner"
)

// tamper changes the result files of jobs on their way to the client.
type tamper struct {
	next   http.RoundTripper
	change func(file, body string) string
	hits   atomic.Int64
}

func (x *tamper) RoundTrip(req *http.Request) (*http.Response, error) {
	i := strings.LastIndex(strings.TrimSuffix(req.URL.Path, "/"), "/")
	file := strings.Trim(req.URL.Path[i:], "/")
	if !strings.HasSuffix(file, "Results") && file != "unprocessedrecords" {
		return x.next.RoundTrip(req)
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := x.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	changed := x.change(file, string(body))
	if changed != string(body) {
		x.hits.Add(1)
	}
	resp.Body = io.NopCloser(strings.NewReader(changed))
	resp.ContentLength = int64(len(changed))
	resp.Header.Del("Content-Length")
	return resp, nil
}

// lines applies a change to the lines below the header.
func lines(body string, change func([]string) []string) string {
	all := strings.SplitAfter(strings.TrimSuffix(body, "\n")+"\n", "\n")
	all = all[:len(all)-1]
	return all[0] + strings.Join(change(all[1:]), "")
}

func TestResults(t *testing.T) {
	drop := func(file, body string) string {
		if file != "successfulResults" {
			return body
		}
		return lines(body, func(rows []string) []string { return rows[:len(rows)/2] })
	}
	tests := []struct {
		name   string
		change func(file, body string) string
		err    string
		again  int64 // calls that write rows again
	}{
		{"rows in no file", drop, "", 1},
		{"empty file", func(file, body string) string {
			if file == "successfulResults" {
				return ""
			}
			return body
		}, "", 1},
		{"reversed", func(file, body string) string {
			return lines(body, func(rows []string) []string {
				out := make([]string, 0, len(rows))
				for i := range rows {
					out = append(out, rows[len(rows)-1-i])
				}
				return out
			})
		}, "", 0},
		{"a row twice", func(file, body string) string {
			return lines(body, func(rows []string) []string { return append(rows, rows[:min(1, len(rows))]...) })
		}, "twice", 0},
		{"a stranger", func(_, body string) string { return strings.Replace(body, "K00003", "Q00003", 1) }, `"Q00003", which no row of it has`, 0},
		{"padded keys", func(_, body string) string { return strings.ReplaceAll(body, "K0", " K0") }, "", 0},
		{"no key column", func(_, body string) string {
			return strings.Replace(body, "Warehouse_Key__c", "Other__c", 1)
		}, "lack the column Warehouse_Key__c", 0},
	}
	for _, test := range tests {
		for _, mode := range []models.Mode{models.ModeInsert, models.ModeUpsert} {
			t.Run(test.name+"/"+string(mode), func(t *testing.T) {
				w := newWorld(t, emulator.Options{})
				base := http.DefaultTransport.(*http.Transport).Clone()
				t.Cleanup(base.CloseIdleConnections)
				x := &tamper{next: base, change: test.change}
				w.dest = w.connect(api.Config{Transport: x})
				target := w.open(accountSync(mode, "bulk"))
				kind := planner.Upsert
				if mode == models.ModeInsert {
					kind = planner.Insert
				}
				l := w.ledger(many(kind, 20))
				err := w.apply(target, l)
				if x.hits.Load() == 0 {
					t.Fatal("nothing was changed")
				}
				if test.err != "" {
					if err == nil {
						t.Fatal("no error")
					}
					contains(t, err.Error(), test.err)
					if len(l.open) != 1 {
						t.Fatalf("open batches: %v", l.open)
					}
					// The next run asks the org itself.
					x.change = func(_, body string) string { return body }
					w.mustApply(target, l)
					w.once(20)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				l.done()
				w.once(20)
				l.want(destinations.Failed, 0)
				wrote := w.org.Counters().Calls["collections.upsert"] + w.org.Counters().Calls["collections.create"]
				if want := test.again; mode == models.ModeUpsert && int64(wrote) != want || mode == models.ModeInsert && wrote != 0 {
					t.Fatalf("%d further writes", wrote)
				}
			})
		}
	}
}

// Numbers come back as Java writes doubles.
func TestNumberKeys(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	s := &models.Sync{
		Name: "revenue", Object: "Account", Mode: models.ModeInsert, Model: models.Model{PrimaryKey: []string{"arr"}},
		Fields: []models.Field{{Name: "AnnualRevenue", Column: "arr"}, {Name: "Name", Column: "name"}},
		Write:  models.Write{IngestionAPI: "bulk"},
	}
	target := w.open(s)
	var ops []*planner.Operation
	for _, n := range []string{"912260031", "42", "0", "123456789012345"} {
		o := op(planner.Insert, n, set(0, n), set(1, "n"+n))
		o.Match = ""
		ops = append(ops, o)
	}
	l := w.ledger(ops)
	w.mustApply(target, l)
	l.want(destinations.Created, 4)
	for _, r := range w.org.Org().Records("Account") {
		key := strings.TrimPrefix(r["Name"].(string), "n")
		if l.of(key).ID != r["Id"] {
			t.Errorf("%s has the outcome of another row", key)
		}
	}
}

// The headers that a sync asks for go out, and a job takes a rule's Id.
func TestHeadersOfWrites(t *testing.T) {
	for name, test := range map[string]struct {
		write  models.Write
		header string
		want   string
		rows   int
	}{
		"rule off":   {models.Write{AssignmentRule: "false"}, "Sforce-Auto-Assign", "FALSE", 3},
		"rule":       {models.Write{AssignmentRule: "01Q5f000000IjVeEAK"}, "Sforce-Auto-Assign", "01Q5f000000IjVeEAK", 3},
		"duplicates": {models.Write{AllowDuplicates: true}, "Sforce-Duplicate-Rule-Header", "allowSave=true", 3000},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{})
			base := http.DefaultTransport.(*http.Transport).Clone()
			t.Cleanup(base.CloseIdleConnections)
			x := &sniff{next: base, header: test.header}
			w.dest = w.connect(api.Config{Transport: x})
			s := accountSync(models.ModeUpsert, "automatic")
			s.Write.AllowDuplicates, s.Write.AssignmentRule = test.write.AllowDuplicates, test.write.AssignmentRule
			l := w.ledger(many(planner.Upsert, test.rows))
			w.mustApply(w.open(s), l)
			l.want(destinations.Created, test.rows)
			if got, _ := x.seen.Load().(string); !strings.Contains(got, test.want) || w.org.Counters().JobsCreated != 0 {
				t.Fatalf("%s was %q", test.header, got)
			}
		})
	}
}

// sniff remembers a header of writes.
type sniff struct {
	next   http.RoundTripper
	header string
	seen   atomic.Value
}

func (x *sniff) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.Contains(req.URL.Path, "/composite/sobjects") {
		x.seen.Store(req.Header.Get(x.header))
	}
	return x.next.RoundTrip(req)
}
