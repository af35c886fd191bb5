package api

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func csvAnswer(header map[string]string, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		for name, value := range header {
			w.Header().Set(name, value)
		}
		_, _ = io.WriteString(w, text)
	}
}

// all reads a result file to its end.
func all(r *CSVResults) (rows [][]string, err error) {
	defer r.Close()
	for r.Next() {
		rows = append(rows, append([]string(nil), r.Row()...))
	}
	return rows, r.Err()
}

func TestIngestResults(t *testing.T) {
	org := newOrg(t)
	org.on("GET "+jobURL+"/successfulResults/", csvAnswer(nil, "\"sf__Id\",\"sf__Created\",Name,ShippingCity,NumberOfEmployees,AnnualRevenue\n\"0018c00002FInboAAD\",\"true\",\"Lorem \"\"I\"\", x\",\"Mi\r\nlano\",\"2676\",\"9.12260031E8\"\n"))
	org.on("GET "+jobURL+"/failedResults/", csvAnswer(nil, "\"sf__Id\",\"sf__Error\",Name\n\"\",\"REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --\",\"x\"\n"))
	org.on("GET "+jobURL+"/unprocessedrecords/", csvAnswer(nil, "Name,Ext__c\r\nx,\r\n\r\n\"\",\"2\""))
	c := org.client(t)
	ctx := t.Context()
	for name, test := range map[string]struct {
		open   func() (*CSVResults, error)
		header []string
		rows   [][]string
	}{
		"successful": {func() (*CSVResults, error) { return c.SuccessfulResults(ctx, jobID) },
			[]string{"sf__Id", "sf__Created", "Name", "ShippingCity", "NumberOfEmployees", "AnnualRevenue"},
			[][]string{{"0018c00002FInboAAD", "true", `Lorem "I", x`, "Mi\r\nlano", "2676", "9.12260031E8"}}},
		"failed": {func() (*CSVResults, error) { return c.FailedResults(ctx, jobID) },
			[]string{"sf__Id", "sf__Error", "Name"},
			[][]string{{"", "REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --", "x"}}},
		"unprocessed": {func() (*CSVResults, error) { return c.UnprocessedRecords(ctx, jobID) },
			[]string{"Name", "Ext__c"}, [][]string{{"x", ""}, {"", "2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := test.open()
			if err != nil {
				t.Fatal(err)
			}
			rows, err := all(r)
			if err != nil || !reflect.DeepEqual(r.Header(), test.header) || !reflect.DeepEqual(rows, test.rows) {
				t.Errorf("header %q, rows %q, %v", r.Header(), rows, err)
			}
		})
	}
}

func TestEmptyResults(t *testing.T) {
	for name, test := range map[string]struct {
		h      http.HandlerFunc
		header []string
	}{
		"204":         {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, nil},
		"empty":       {csvAnswer(nil, ""), nil},
		"header only": {csvAnswer(map[string]string{"Sforce-NumberOfRecords": "0", "Sforce-Locator": "null"}, "\"sf__Id\",\"sf__Error\",Name\n"), []string{"sf__Id", "sf__Error", "Name"}},
		"no newline":  {csvAnswer(nil, "A,B"), []string{"A", "B"}},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.on("GET "+jobURL+"/failedResults/", test.h)
			r, err := org.client(t).FailedResults(t.Context(), jobID)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := all(r)
			if err != nil || len(rows) != 0 || !reflect.DeepEqual(r.Header(), test.header) {
				t.Errorf("header %q, rows %q, %v", r.Header(), rows, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResultPages(t *testing.T) {
	org := newOrg(t)
	pages := map[string]http.HandlerFunc{
		"":        csvAnswer(map[string]string{"Sforce-Locator": "MTAwMDA", "Sforce-NumberOfRecords": "2"}, "\"Id\",\"Account.Name\"\n\"1\",\"a\"\n\"2\",\"\"\n"),
		"MTAwMDA": csvAnswer(map[string]string{"Sforce-Locator": "Mj+=", "Sforce-NumberOfRecords": "0"}, "\"Id\",\"Account.Name\"\n"),
		"Mj+=":    csvAnswer(map[string]string{"Sforce-Locator": "null", "Sforce-NumberOfRecords": "1"}, "\"Id\",\"Account.Name\"\n\"3\",\"c\"\n"),
	}
	org.on("GET /services/data/v62.0/jobs/query/750Q/results", func(w http.ResponseWriter, r *http.Request) {
		h := pages[r.URL.Query().Get("locator")]
		if h == nil {
			t.Errorf("locator %q", r.URL.RawQuery)
			h = pages[""]
		}
		if r.URL.Query().Get("locator") == "MTAwMDA" {
			org.expire() // between two pages
		}
		h(w, r)
	})
	r, err := org.client(t).QueryResults(t.Context(), "750Q", 0)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := all(r)
	if want := [][]string{{"1", "a"}, {"2", ""}, {"3", "c"}}; err != nil || !reflect.DeepEqual(rows, want) {
		t.Errorf("rows %q, %v", rows, err)
	}
}

// However a result file is cut short, it ends in an error and not in fewer
// rows.
func TestCutResultsAreAnError(t *testing.T) {
	const text = "\"sf__Id\",\"sf__Created\",Name\n\"001A\",\"true\",\"first\"\n\"001B\",\"true\",\"sec\nond\"\n"
	length := map[string]string{"Content-Length": fmt.Sprint(len(text))}
	for n := range len(text) {
		for name, h := range map[string]http.HandlerFunc{
			"by length": csvAnswer(length, text[:n]),
			"by chunks": func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, text[:n])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			},
			"by count": csvAnswer(map[string]string{"Sforce-NumberOfRecords": "2"}, text[:n]),
		} {
			if name == "by count" && n == len(text)-1 {
				continue // only the last line break is missing
			}
			org := newOrg(t)
			org.on("GET "+jobURL+"/successfulResults/", h)
			c := org.client(t)
			c.retry.attempts = 1
			r, err := c.SuccessfulResults(t.Context(), jobID)
			var rows [][]string
			if err == nil {
				rows, err = all(r)
			}
			if err == nil {
				t.Errorf("%s: %d of %d bytes gave %q", name, n, len(text), rows)
			}
			_ = c.Close()
			org.Close()
		}
	}
}

func TestResultErrors(t *testing.T) {
	for name, test := range map[string]struct {
		h    http.HandlerFunc
		says string
	}{
		"gone":          {answering(404, gone), "does not exist"},
		"ragged":        {csvAnswer(nil, "A,B\n1,2\n3\n"), "row 2 has 1 cells under 2 columns"},
		"text after":    {csvAnswer(nil, "A,B\n\"1\" ,2\n"), "follows a closing quote"},
		"HTML":          {csvAnswer(nil, "<html>\n</html>\n"), "HTML"},
		"loops":         {csvAnswer(map[string]string{"Sforce-Locator": "x"}, "A,B\n"), "names itself"},
		"other columns": {sequence(csvAnswer(map[string]string{"Sforce-Locator": "x"}, "A,B\n1,2\n"), csvAnswer(nil, "B,A\n1,2\n")), "other columns"},
	} {
		t.Run(name, func(t *testing.T) {
			org := newOrg(t)
			org.on("GET "+jobURL+"/failedResults/", test.h)
			org.mux.HandleFunc("GET /services/data/{$}", answering(200, `[{"version":"62.0"}]`))
			r, err := org.client(t).FailedResults(t.Context(), jobID)
			if err == nil {
				_, err = all(r)
			}
			if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestResultsAreReportedOnceRead(t *testing.T) {
	org := newOrg(t)
	org.on("GET "+jobURL+"/successfulResults/", csvAnswer(nil, "A\n1\n"))
	var calls []Call
	c := org.client(t, func(c *Config) { c.OnCall = func(call Call) { calls = append(calls, call) } })
	r, err := c.SuccessfulResults(t.Context(), jobID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all(r); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 2 || calls[1].Received != 4 || calls[1].Err != nil || c.Usage().Calls != 1 {
		t.Errorf("calls %+v, usage %+v", calls, c.Usage())
	}
}

// A reader may take its time; an org that stops in the middle may not.
func TestSlowReaderAndSilentOrg(t *testing.T) {
	org := newOrg(t)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	org.on("GET "+jobURL+"/successfulResults/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "A\n1\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	c := org.client(t)
	c.patience.read = 50 * time.Millisecond
	r, err := c.SuccessfulResults(t.Context(), jobID)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(120 * time.Millisecond)
	if !r.Next() || r.Row()[0] != "1" {
		t.Fatalf("row %q, %v", r.Row(), r.Err())
	}
	if r.Next() || !errors.Is(r.Err(), errSilent) {
		t.Errorf("error %v", r.Err())
	}
}

func TestParseResultError(t *testing.T) {
	for cell, want := range map[string]RowError{
		"REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --":                                                           {Code: "REQUIRED_FIELD_MISSING", Message: "Required fields are missing: [LastName]", Fields: []string{"LastName"}},
		"UNABLE_TO_LOCK_ROW:unable to obtain exclusive access to this record or 200 records: 001xxx,001yyy,...:--":                             {Code: "UNABLE_TO_LOCK_ROW", Message: "unable to obtain exclusive access to this record or 200 records: 001xxx,001yyy,..."},
		"INVALID_CROSS_REFERENCE_KEY:invalid cross reference id:--":                                                                            {Code: "INVALID_CROSS_REFERENCE_KEY", Message: "invalid cross reference id"},
		"MISSING_ARGUMENT:Agency_BP_Id__c not specified:--":                                                                                    {Code: "MISSING_ARGUMENT", Message: "Agency_BP_Id__c not specified"},
		"INVALID_FIELD:Failed to deserialize field at col 4. Due to, '6/15/19' is not a valid value for the type xsd:date:Trip_End_Date__c --": {Code: "INVALID_FIELD", Message: "Failed to deserialize field at col 4. Due to, '6/15/19' is not a valid value for the type xsd:date", Fields: []string{"Trip_End_Date__c"}},
		"FIELD_CUSTOM_VALIDATION_EXCEPTION:two\nlines:Name,Phone --":                                                                           {Code: "FIELD_CUSTOM_VALIDATION_EXCEPTION", Message: "two\nlines", Fields: []string{"Name", "Phone"}},
		"Something else: entirely": {Code: "", Message: "Something else: entirely"},
		"CODE:no end":              {Code: "CODE", Message: "no end"},
		"":                         {},
	} {
		if got := ParseResultError(cell); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v", cell, got)
		}
	}
}

// What encoding/csv writes is read back as it was, whatever the sizes of the
// reads; nothing that is read panics or goes on for ever.
func FuzzCSV(f *testing.F) {
	f.Add("a,b\n1,2\n", "x", "y\r\nz", 3)
	f.Add("\"a\"\"b\",\"c\nd\"\r\n", "\"", ",", 1)
	f.Add("\xef\xbb\xbf\"a\"", "", " ", 2)
	f.Add("\"open", "\n", "", 1)
	f.Fuzz(func(t *testing.T, text, one, two string, size int) {
		r := newCSVReader(strings.NewReader(text))
		for rows := 0; ; rows++ {
			if _, err := r.read(); err != nil {
				break
			}
			if rows > len(text) {
				t.Fatal("more rows than bytes")
			}
		}

		if one == "" && two == "" || strings.HasPrefix(one, "\xef\xbb\xbf") {
			return
		}
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		if err := w.Write([]string{one, two}); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		r = newCSVReader(&small{b.Bytes(), max(1, size%7)})
		row, err := r.read()
		if err != nil || !reflect.DeepEqual(row, []string{one, two}) {
			t.Errorf("%q was read as %q, %v", b.String(), row, err)
		}
		if _, err := r.read(); err != io.EOF {
			t.Errorf("after the last row: %v", err)
		}
	})
}

func FuzzResultError(f *testing.F) {
	f.Add("REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --")
	f.Add("A:--")
	f.Fuzz(func(t *testing.T, cell string) {
		e := ParseResultError(cell)
		if len(e.Code)+len(e.Message) > len(cell) {
			t.Errorf("%q grew to %+v", cell, e)
		}
	})
}

// small gives few bytes at a time.
type small struct {
	left []byte
	n    int
}

func (s *small) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.left[:min(s.n, len(s.left))])
	s.left = s.left[n:]
	return n, nil
}

func BenchmarkCSV(b *testing.B) {
	text := []byte(strings.Repeat("\"0018c00002FInboAAD\",\"true\",\"Lorem Ipsum\",\"Milano\",\"2676\",\"9.12260031E8\"\n", 10_000))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		r := newCSVReader(bytes.NewReader(text))
		for {
			if _, err := r.read(); err != nil {
				break
			}
		}
	}
}
