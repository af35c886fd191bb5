package planner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSorterOrders compares the sorter with a comparing sort, over hashes that lie
// evenly, in two far heaps, in one place, and of one value, with memory of the sort
// before.
func TestSorterOrders(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name string
		hi   func() uint64
	}{
		{"even", random.Uint64},
		{"a range", func() uint64 { return 0x7f<<56 | random.Uint64()>>8 }},
		{"two heaps", func() uint64 { return random.Uint64N(2)<<63 | random.Uint64N(3) }},
		{"one place", func() uint64 { return 1<<63 + random.Uint64N(50) }},
		{"one value", func() uint64 { return 7 }},
		{"the ends", func() uint64 { return -random.Uint64N(2) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s sorter
			var rows []rowRef
			for _, n := range []int{0, 1, fewRows, fewRows + 1, 5000, 300} {
				rows = rows[:0]
				for i := range n {
					rows = append(rows, rowRef{hi: c.hi(), lo: random.Uint64N(4), off: uint32(i)})
				}
				want := slices.Clone(rows)
				slices.SortFunc(want, compareRefs)
				rows = s.sort(rows)
				if fmt.Sprint(keysOf(rows)) != fmt.Sprint(keysOf(want)) {
					t.Fatalf("%d rows are not in order", n)
				}
				seen := make([]bool, n)
				for _, r := range rows {
					seen[r.off] = true
				}
				if slices.Contains(seen, false) {
					t.Fatalf("a row of %d was lost", n)
				}
			}
		})
	}
}

func keysOf(rows []rowRef) [][2]uint64 {
	keys := make([][2]uint64, len(rows))
	for i, r := range rows {
		keys[i] = [2]uint64{r.hi, r.lo}
	}
	return keys
}
