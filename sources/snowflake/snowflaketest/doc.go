// Package snowflaketest is a small server of the protocol that Snowflake's
// drivers speak, as far as the Go driver's own code tells it: sign-in by
// password, key pair, OAuth and access token, sessions that expire and are
// renewed, statements that are in progress and are aborted, results in JSON
// or in Arrow, within the answer or in files behind links that expire.
//
// It understands no SQL: the test that starts it says what a statement gives.
// It is for tests alone and must never be imported by anything else.
package snowflaketest
