package bigquery

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"coho/models"
	"coho/sources"
)

func TestQuerySQL(t *testing.T) {
	for _, c := range []struct{ name, sql, want, err string }{
		{name: "as it is", sql: "SELECT 1", want: "SELECT 1"},
		{name: "a semicolon at the end", sql: "select 1 ; \n-- done;", want: "select 1 "},
		{name: "semicolons in texts and comments", sql: "WITH x AS (SELECT ';' AS a, \"\\\";\" AS b, r'\\';' AS c, `;`, ''';\n''', \"\"\";\"\"\") # ;\nSELECT /* ; */ * FROM x", want: "WITH x AS (SELECT ';' AS a, \"\\\";\" AS b, r'\\';' AS c, `;`, ''';\n''', \"\"\";\"\"\") # ;\nSELECT /* ; */ * FROM x"},
		{name: "in parentheses", sql: "((SELECT 1))", want: "((SELECT 1))"},
		{name: "a pipe", sql: "FROM t |> WHERE a > 1", want: "FROM t |> WHERE a > 1"},
		{name: "two statements", sql: "SELECT 1; SELECT 2", err: "several statements"},
		{name: "a statement hidden behind a comment", sql: "SELECT 1 -- x\n; DROP TABLE y", err: "several statements"},
		{name: "no query", sql: "/* SELECT */ drop table x", err: "\"DROP\""},
		{name: "a script", sql: "DECLARE x INT64", err: "a model must be one SELECT"},
		{name: "an open text", sql: "SELECT 'x", err: "ends within"},
		{name: "an open triple text", sql: "SELECT '''x'", err: "ends within"},
		{name: "an open comment", sql: "SELECT 1 /* x", err: "ends within"},
		{name: "an open name", sql: "SELECT `x", err: "ends within"},
		{name: "only comments", sql: "-- SELECT 1", err: "empty"},
		{name: "nothing", sql: " \n", err: "neither a query nor a table"},
		{name: "NUL", sql: "SELECT '\x00'", err: "NUL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := querySQL(models.Model{SQL: c.sql})
			if got != c.want || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestQuoteTable(t *testing.T) {
	for given, want := range map[string]string{
		"t": "`t`", "shop.things": "`shop`.`things`", "my-project.shop.things": "`my-project`.`shop`.`things`",
		"`my-project.shop.things`": "`my-project`.`shop`.`things`", "`my-project`.`shop`.`things`": "`my-project`.`shop`.`things`",
		"example.com:old.shop.things": "`example.com:old`.`shop`.`things`", "shop.naïve table": "`shop`.`naïve table`",
		"": "", ".": "", "a..b": "", "a.b.c.d": "", "t`; DROP TABLE x": "", "a\nb": "", "t; SELECT 1": "", "t -- x": "`t -- x`", "x:y": "",
	} {
		got, err := quoteTable(given)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", given, got, err, want)
		}
	}
}

func TestLabels(t *testing.T) {
	got := labels(sources.Purpose{Sync: "Accounts_EU", Run: "20260101T000000Z-" + strings.Repeat("a", 60)})
	if got["coho_sync"] != "accounts_eu" || len(got["coho_run"]) != 63 || !strings.HasPrefix(got["coho_run"], "20260101t000000z-a") || got["application"] != "coho" {
		t.Errorf("got %v", got)
	}
	if got := labels(sources.Purpose{}); len(got) != 1 {
		t.Errorf("without a purpose: %v", got)
	}
}

func TestCredentialsType(t *testing.T) {
	for text, want := range map[string]string{
		`{"type": "service_account"}`: "", `{"type": "authorized_user"}`: "", `{"type": "external_account"}`: "", `{"type": "impersonated_service_account"}`: "",
		`{"type": "gdch_service_account"}`: "gdch_service_account", `{}`: "of the type", `{"private_key": "s3cret`: "not JSON",
	} {
		_, err := credentialsType(models.Secret(text))
		if (err != nil) != (want != "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzQuerySQL(f *testing.F) {
	f.Add("SELECT ';' -- ;\n;")
	f.Add("('''\\''''")
	f.Fuzz(func(t *testing.T, sql string) {
		got, err := querySQL(models.Model{SQL: sql})
		if err != nil {
			return
		}
		if again, err := querySQL(models.Model{SQL: got}); err != nil || again != got {
			t.Fatalf("%q became %q, and that %q, %v", sql, got, again, err)
		}
	})
}

// FuzzCutMessage: what a broken server sends instead of Arrow messages is an
// error, and messages are cut where they end.
func FuzzCutMessage(f *testing.F) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.StringBuilder).Append("a text")
	var stream bytes.Buffer
	w := ipc.NewWriter(&stream, ipc.WithSchema(schema))
	if err := errors.Join(w.Write(b.NewRecordBatch()), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(stream.Bytes())
	f.Add(stream.Bytes()[:stream.Len()/2])
	f.Add(stream.Bytes()[4:]) // as before Arrow 0.15
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, stream []byte) {
		for len(stream) > 0 {
			_, rest, err := cutMessage(stream)
			if err != nil {
				return
			}
			if len(rest) >= len(stream) || !bytes.HasSuffix(stream, rest) {
				t.Fatalf("%d of %d bytes are left", len(rest), len(stream))
			}
			stream = rest
		}
	})
}
