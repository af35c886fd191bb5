package bigquery

import (
	"testing"

	"coho/sources/bigquery/bigquerytest"
	"coho/sources/sourcetest"
)

// TestTypeProbes: the probes of types ask for what the suite does, in the forms of
// BigQuery's documentation.
func TestTypeProbes(t *testing.T) {
	_, o := start(t, bigquerytest.Options{Answer: func(q *bigquerytest.Query) (*bigquerytest.Result, error) {
		for _, f := range forms() {
			if q.SQL == "SELECT "+f.SQL+" AS v" {
				return &bigquerytest.Result{Rows: 1, Columns: []bigquerytest.Column{f.constant("v")}}, nil
			}
		}
		if q.SQL == "SELECT CAST(NULL AS STRING) AS v" {
			null := words("v", func([]byte, int64) []byte { return nil })
			return &bigquerytest.Result{Rows: 1, Columns: []bigquerytest.Column{null}}, nil
		}
		return nil, &bigquerytest.Failure{Status: 400, Reason: "invalidQuery", Message: "not one of the suite's: " + q.SQL}
	}})
	sourcetest.Probes(t, open(t, o))
}
