package planner

import (
	"fmt"
	"testing"
)

// Different values are counted exactly while they are few and closely when they
// are many, whoever counted them, however often each comes.
func TestValueCount(t *testing.T) {
	for _, n := range []int{0, 1, 200, 201, exactValues, exactValues + 1, 12_000, 50_000, 300_000} {
		parts := []*valueCount{newValueCount(), newValueCount(), newValueCount()}
		for i := range 2 * n {
			parts[i*7%3].add(fmt.Sprintf("value %07d", i%n))
		}
		all := newValueCount()
		for _, d := range parts {
			all.merge(d)
		}
		v := all.values()
		off := float64(v.Distinct-int64(n)) / float64(max(n, 1))
		if n <= exactValues && v.Distinct != int64(n) || off > 0.06 || off < -0.06 {
			t.Errorf("%d different values count as %d", n, v.Distinct)
		}
		if n > 0 && v.Bytes != int64(len("value 0000000")) {
			t.Errorf("values of 13 bytes count as %d bytes", v.Bytes)
		}
	}
}
