// Package sourcetest is the conformance suite of sources.Source: what every
// warehouse must do, whichever it is. A source's package adopts it with a
// [Harness] that says how to reach a warehouse and which types it has:
//
//	func TestConformance(t *testing.T) {
//		sourcetest.Run(t, sourcetest.Harness{Open: open, Types: types, ...})
//	}
//
// The suite's queries use what the warehouses have in common:
// generate_series, repeat and CASE. It is for tests alone and must never be
// imported by anything else.
package sourcetest
