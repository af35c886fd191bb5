package sources

import (
	"strings"
	"testing"

	"coho/models"
)

func TestGrouped(t *testing.T) {
	const query = "SELECT * FROM t -- all of it\n;\n"
	d := Dialect{Quote: DoubleQuote, Text: "TEXT"}
	if got := Grouped(query, nil, d); got != query {
		t.Fatalf("without groups it is %q", got)
	}
	for name, test := range map[string]struct {
		g    models.Grouping
		want []string
	}{
		"group":  {models.Grouping{Group: `a"b`, Child: "c", Match: "k"}, []string{`WHEN "a""b" IS NULL`, `PARTITION BY "a""b"`, `COALESCE("c", FALSE)`, `CAST("k" AS TEXT)`}},
		"master": {models.Grouping{Master: "m", Match: "k"}, []string{`PARTITION BY COALESCE("m", "k")`, `("m" IS NOT NULL AND "m" <> "k")`}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Grouped(query, &test.g, d)
			for _, want := range append(test.want, "FROM (\nSELECT * FROM t -- all of it\n) coho_rows", `AS "coho_merge"`) {
				if !strings.Contains(got, want) {
					t.Errorf("%s is not in\n%s", want, got)
				}
			}
			if strings.Contains(got, ";") || strings.Contains(got, "%!") {
				t.Errorf("%s", got)
			}
		})
	}
}
