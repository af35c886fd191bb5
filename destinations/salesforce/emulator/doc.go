// Package emulator is a local Salesforce org in a process: OAuth, describe,
// rows, collections, composite, SOQL, Bulk API 2.0 and 1.0, SOAP, platform
// events, limits and locks over real HTTP, for tests, demos and continuous
// integration.
//
// It is written from Salesforce's documented behaviour alone and must never
// import or share anything with coho's own Salesforce client, so that each
// finds the other's mistakes. It enforces what an org enforces, with the org's
// error codes; CONFORMANCE.md beside this file lists each behaviour, where it
// is documented, the test that shows it, and what is knowingly different.
//
// The org is described by one TOML file (see OrgFile in Options and the
// embedded defaultorg.toml for every key by example). Records live in memory,
// or in a directory when one is given.
package emulator
