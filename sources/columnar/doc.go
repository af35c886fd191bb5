// Package columnar turns columnar results, Arrow record batches above all, into
// row frames (see models.Schema) for the sources whose drivers hand out Arrow.
//
// A cell has one canonical form a type, whatever width or unit the batch
// carried it in: a warehouse picks the narrowest integer for each chunk of a
// result, and answers small results in another format altogether, and neither
// may change a row's fingerprint. Putting a cell into its form copies bytes; it
// never prints or parses, save for nested objects, which become JSON.
//
// It knows no warehouse, holds no more than the batch it was given, and must
// never lose a digit.
package columnar
