package sourcetest

import (
	"testing"

	"coho/sources"
)

// Probes runs the source's own probes of its types, as coho validate --live-types
// does.
func Probes(tb testing.TB, s sources.Source) {
	tb.Helper()
	prober, ok := s.(sources.TypeProber)
	if !ok {
		tb.Fatalf("%T has no probes of its types", s)
	}
	for _, p := range sources.Probe(tb.Context(), s, prober.TypeProbes()) {
		if !p.OK {
			tb.Errorf("%s: %s arrived as %q (null: %t), %v; want %q", p.Type, p.Expr, p.Got, p.GotNull, p.Err, p.Text)
		}
	}
}
