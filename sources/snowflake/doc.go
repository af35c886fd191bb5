// Package snowflake reads models from Snowflake through its Go driver.
//
// Results come as Arrow batches, several of them fetched at once, and rows are
// framed without being decoded (see coho/sources/columnar). What the server
// answers as JSON instead, as it does for some statements, ends in the same
// bytes.
//
// It never writes: a model runs as a subquery, so that nothing but a query
// runs at all, and the role that it signs in with should be able to read only.
// It never logs what the driver would: the driver's messages name result files
// with their signatures.
package snowflake
