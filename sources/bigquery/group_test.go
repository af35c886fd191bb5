package bigquery

import (
	"strings"
	"testing"

	"coho/models"
)

func TestGroups(t *testing.T) {
	got, err := querySQL(models.Model{SQL: "SELECT 1;", Groups: &models.Grouping{Group: "a`b", Child: "c", Match: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PARTITION BY `a\\`b`", "CAST(`k` AS STRING)", "FROM (\nSELECT 1\n) coho_rows", "AS `coho_merge`"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	if _, err := querySQL(models.Model{SQL: "DROP TABLE x", Groups: &models.Grouping{Group: "a", Child: "c", Match: "k"}}); err == nil {
		t.Error("a statement that is no query runs")
	}
}
