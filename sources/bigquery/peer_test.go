//go:build warehouses

package bigquery

import (
	"math"
	"slices"
	"testing"

	"coho/models"
	"coho/sources"
	"coho/sources/sourcetest"
)

// emulator starts goccy/bigquery-emulator and returns how to reach it.
func emulator(t *testing.T) Options {
	t.Helper()
	port, storage := sourcetest.FreePort(t), sourcetest.FreePort(t)
	p := sourcetest.StartPeer(t, "bigquery-emulator", nil, "--host=127.0.0.1", "--project=test", "--dataset=shop", "--port="+port, "--grpc-port="+storage)
	p.Await(t, "127.0.0.1:"+port)
	p.Await(t, "127.0.0.1:"+storage)
	return Options{Project: "test", Dataset: "shop", Endpoint: "http://127.0.0.1:" + port, StorageEndpoint: "127.0.0.1:" + storage}
}

// exec runs a statement that is no query.
func exec(t *testing.T, o Options, sql string) {
	t.Helper()
	client, err := open(t, o).jobs()
	if err != nil {
		t.Fatal(err)
	}
	job, err := client.Query(sql).Run(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	status, err := job.Wait(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if err := status.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestPeer runs the suite by REST and through the Storage Read API. Each part of
// it has an emulator of its own, which takes the longer for every query the more
// rows it has ever given.
func TestPeer(t *testing.T) {
	values := []string{"types", "all types in one row", "empty result", "500 columns"}
	words := []string{"ping and describe", "cancel while the warehouse works", "context that has ended", "bad query", "failure after some rows", "refused statements", "comments and semicolons", "table"}
	long := []string{"text of a megabyte", "cancel between rows", "two reads at once", "close", "close of the source ends its rows"}
	many := []string{"a million rows in flat memory"}
	// The emulator puts these into Arrow otherwise than BigQuery does, or not at
	// all; sources/columnar tests them from Arrow's own forms.
	inArrow := slices.DeleteFunc(types(), func(t sourcetest.Type) bool {
		k := t.Want.Kind()
		return k == models.Bytes || k == models.Timestamp || k == models.Time || k == models.List
	})
	for _, part := range []struct {
		name  string
		large uint64
		types []sourcetest.Type
		only  []string
	}{
		{"REST", math.MaxUint64, types(), slices.Concat(values, words)},
		{"REST, long results", math.MaxUint64, nil, long},
		{"REST, many rows", math.MaxUint64, nil, many},
		// What is said about queries before they run is said by REST.
		{"storage", 1, inArrow, values},
		{"storage, long results", 1, nil, long},
		{"storage, many rows", 1, nil, many},
	} {
		t.Run(part.name, func(t *testing.T) {
			o := emulator(t)
			exec(t, o, "CREATE TABLE shop.things (id INT64, label STRING)")
			exec(t, o, "INSERT INTO shop.things (id, label) VALUES (1, 'one'), (2, NULL)")
			sourcetest.Run(t, sourcetest.Harness{
				Open: func(tb testing.TB) sources.Source {
					s := open(tb, o)
					s.large = part.large
					return s
				},
				Types:        part.types,
				Table:        "shop.things",
				Slow:         slow,
				Failing:      failing,
				FailingError: "zero",
				FailsWhole:   true,
				Refused:      refused,
				Only:         part.only,
				Dialect:      dialect,
			})
		})
	}
}
