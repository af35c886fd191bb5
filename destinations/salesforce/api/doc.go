// Package api is a client of an org's HTTP APIs: OAuth, describe, SOQL,
// sObject Collections, Bulk API 2.0 and Bulk API 1.0, and the Metadata API's
// lists of picklist values. It is usable alone.
//
// It says exactly what became of a request, so that a caller who writes can
// tell a refusal from a lost answer: reads and control calls that may be
// repeated are retried here, writes never are. It must never guess an outcome,
// never put a credential or token into an error, and never know what a sync,
// a plan or a batch is.
package api
