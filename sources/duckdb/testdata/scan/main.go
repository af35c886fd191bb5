// Command scan reads a Parquet file with DuckDB alone, as Arrow batches that it
// throws away: what the benchmarks compare a model of that file with. It prints the
// number of rows and how many nanoseconds they took. It is built with the tag
// duckdb_arrow.
package main

import (
	"fmt"
	"os"
	"time"

	bindings "github.com/duckdb/duckdb-go-bindings"
)

func main() { os.Exit(scan(os.Args[1])) }

// scan has DuckDB make Arrow batches of a Parquet file, throws them away
// and prints the number of rows and the time.
func scan(name string) int {
	var db bindings.Database
	var conn bindings.Connection
	var stmt bindings.PreparedStatement
	var pending bindings.PendingResult
	var res bindings.Result
	var rows int64
	began := time.Now()
	query := "SELECT * FROM read_parquet('" + name + "')"
	if bindings.Open("", &db) == bindings.StateError || bindings.Connect(db, &conn) == bindings.StateError ||
		bindings.Prepare(conn, query, &stmt) == bindings.StateError ||
		bindings.PendingPreparedStreaming(stmt, &pending) == bindings.StateError ||
		bindings.ExecutePending(pending, &res) == bindings.StateError {
		fmt.Fprintln(os.Stderr, "scan:", bindings.ResultError(&res))
		return 1
	}
	var options bindings.ArrowOptions
	bindings.ConnectionGetArrowOptions(conn, &options)
	var types []bindings.LogicalType
	var names []string
	for i := range bindings.ColumnCount(&res) {
		types, names = append(types, bindings.ColumnLogicalType(&res, i)), append(names, bindings.ColumnName(&res, i))
	}
	schema, bad := bindings.NewArrowSchema(options, types, names)
	if message := problem(bad); message != "" {
		fmt.Fprintln(os.Stderr, "scan:", message)
		return 1
	}
	for {
		chunk := bindings.FetchChunk(res)
		if chunk.Ptr == nil {
			break
		}
		batch, bad := bindings.DataChunkToArrowArray(options, schema, chunk)
		if message := problem(bad); message != "" {
			fmt.Fprintln(os.Stderr, "scan:", message)
			return 1
		}
		rows += batch.NumRows()
		batch.Release()
		bindings.DestroyDataChunk(&chunk)
	}
	fmt.Println(rows, time.Since(began).Nanoseconds())
	return 0
}

func problem(e bindings.ErrorData) string {
	defer bindings.DestroyErrorData(&e)
	if e.Ptr == nil || !bindings.ErrorDataHasError(e) {
		return ""
	}
	return bindings.ErrorDataMessage(e)
}
