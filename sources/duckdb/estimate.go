package duckdb

import (
	"encoding/json"
	"strconv"

	bindings "github.com/duckdb/duckdb-go-bindings"

	"coho/models"
)

// estimate is how many rows DuckDB expects of a query that could be prepared: for
// tables and Parquet files it knows, from their metadata. It is -1 where DuckDB does
// not say.
func (c *session) estimate(m models.Model) int64 {
	sql, err := querySQL(m)
	if err != nil {
		return -1
	}
	var res bindings.Result
	defer bindings.DestroyResult(&res)
	query := "EXPLAIN (FORMAT json) " + resolveFiles(sql, c.source.options.Dir)
	if bindings.Query(c.conn, query, &res) == bindings.StateError || bindings.ColumnCount(&res) != 2 {
		return -1
	}
	chunk := bindings.FetchChunk(res)
	if chunk.Ptr == nil {
		return -1
	}
	defer bindings.DestroyDataChunk(&chunk)
	if bindings.DataChunkGetSize(chunk) == 0 {
		return -1
	}
	text := newVector(&dataType{shape: shapeBlob})
	text.bind(bindings.DataChunkGetVector(chunk, 1))
	var plan []planNode
	if text.null(0) || json.Unmarshal(text.blob(0), &plan) != nil {
		return -1
	}
	// Some operators at the top pass on what they get and say nothing themselves.
	for len(plan) == 1 {
		if digits, ok := plan[0].Info["Estimated Cardinality"].(string); ok {
			if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
				return n
			}
		}
		plan = plan[0].Children
	}
	return -1
}

// planNode is an operator of DuckDB's plan.
type planNode struct {
	Children []planNode     `json:"children"`
	Info     map[string]any `json:"extra_info"`
}
