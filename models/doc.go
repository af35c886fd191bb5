// Package models is the vocabulary of coho: what a user describes (models,
// syncs, sequences, mappings) and what flows between the other packages (typed
// values read from a warehouse, cells written to a destination).
//
// It imports the standard library and the expression library, nothing else of
// the project, and everything else may import it. It must never open a
// connection, read a file or look at the clock.
package models
