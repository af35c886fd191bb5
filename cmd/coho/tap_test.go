package main

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// tap stands between coho and the org and keeps the records that are sent, by their
// warehouse key and field.
type tap struct {
	mu   sync.Mutex
	json map[string]map[string]string // guarded by mu: fields of records in JSON, as they are written
	csv  map[string]map[string]string // guarded by mu: fields of records in CSV that are not empty
}

// newTap puts a tap between the world's coho and its org.
func newTap(w *world) *tap {
	w.t.Helper()
	org, err := url.Parse(w.org.Credentials().URL)
	if err != nil {
		w.t.Fatal(err)
	}
	tp := &tap{}
	tp.empty()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(org)
		r.Out.Header.Set("Accept-Encoding", "identity")
	}}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		tp.keep(w.t, r, body)
		proxy.ServeHTTP(rw, r)
	}))
	// The org tells its own address at login.
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.URL.Path != "/services/oauth2/token" {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = bytes.ReplaceAll(body, []byte(org.String()), []byte(server.URL))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Del("Content-Length")
		return nil
	}
	w.t.Cleanup(server.Close)
	w.env["ORG_URL"] = server.URL
	return tp
}

// empty forgets what was sent.
func (p *tap) empty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.json, p.csv = map[string]map[string]string{}, map[string]map[string]string{}
}

func (p *tap) keep(t *testing.T, r *http.Request, body []byte) {
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(z)
		}
		if err != nil {
			t.Error(err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch kind := r.Header.Get("Content-Type"); {
	case strings.HasPrefix(kind, "text/csv"):
		rows, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
		if err != nil || len(rows) == 0 {
			t.Errorf("the CSV sent: %v", err)
			return
		}
		for _, row := range rows[1:] {
			fields := map[string]string{}
			for i, cell := range row {
				if cell != "" {
					fields[rows[0][i]] = cell
				}
			}
			p.csv[fields["Warehouse_Key__c"]] = fields
		}
	case strings.Contains(r.URL.Path, "/composite/sobjects"):
		var request struct{ Records []map[string]json.RawMessage }
		if err := json.Unmarshal(body, &request); err != nil {
			t.Errorf("the JSON sent: %v", err)
			return
		}
		for _, record := range request.Records {
			fields, key := map[string]string{}, ""
			for name, value := range record {
				fields[name] = string(value)
			}
			if err := json.Unmarshal(record["Warehouse_Key__c"], &key); err != nil {
				t.Errorf("the JSON sent: %v", err)
			}
			p.json[key] = fields
		}
	}
}
