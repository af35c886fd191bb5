// Package sources declares what a warehouse must do for coho: describe a
// model query's result and stream its rows in wire form. Each subfolder is one
// kind of warehouse. A source never writes to the warehouse, never holds a
// whole result in memory, and knows nothing of destinations or plans.
package sources

import (
	"context"

	"coho/models"
)

// Source is a connection to a warehouse. It is safe for use by several
// goroutines.
type Source interface {
	// Ping checks that the warehouse answers and accepts the credentials.
	Ping(ctx context.Context) error

	// Describe returns the schema of the model's result without reading
	// rows.
	Describe(ctx context.Context, m models.Model) (models.Schema, error)

	// Read runs the model's query in a read-only transaction. ctx bounds the
	// rows' whole life: when it ends, the running statement is cancelled in
	// the warehouse and Next returns false.
	Read(ctx context.Context, m models.Model) (Rows, error)

	// Close releases every connection.
	Close() error
}

// Rows streams a result. It is used by one goroutine.
type Rows interface {
	Schema() models.Schema

	// Next advances to the next row; false at the end or on an error, which
	// Err then returns. An end without error is the warehouse's own word
	// that the result is complete.
	Next() bool

	// Row returns the current row's frame (see models.Schema), valid until
	// the next call of Next.
	Row() []byte

	Err() error

	// Close ends the query. It is safe to call twice and at any time.
	Close() error
}

// Parted is an optional ability of a Source: to read a model over several
// connections at once.
type Parted interface {
	// ReadParts is Read, in one part or several that are read side by side, each
	// by one goroutine. Together they are the result as of one moment, every row
	// in one of them, with equal schemas. Of a table that has not changed every
	// part gives the same rows in the same order each time. A model that cannot be
	// divided comes in one part.
	ReadParts(ctx context.Context, m models.Model) ([]Rows, error)
}

// Estimator is an optional ability of Rows: to say beforehand how many there are.
type Estimator interface {
	// Estimate returns the warehouse's own guess, or count, that was had without
	// reading any rows; ok is false where there is none.
	Estimate() (rows int64, ok bool)
}
