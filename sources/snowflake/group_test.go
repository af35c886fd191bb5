package snowflake

import (
	"strings"
	"testing"

	"coho/models"
)

func TestGroups(t *testing.T) {
	got, err := querySQL(models.Model{SQL: "SELECT 1; -- end", Groups: &models.Grouping{Master: "M", Match: "K"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`PARTITION BY COALESCE("M", "K")`, `CAST("K" AS VARCHAR)`, "FROM (\nSELECT * FROM (\nSELECT 1\n)\n) coho_rows", `AS "coho_merge"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	if _, err := querySQL(models.Model{SQL: "SELECT 1) UNION (SELECT 2", Groups: &models.Grouping{Master: "M", Match: "K"}}); err == nil {
		t.Error("what would end the subquery early runs")
	}
}
