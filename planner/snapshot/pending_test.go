package snapshot

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"coho/planner"
)

// TestPendingSort sorts rows that come as batches in and out of order, some of them
// twice, and keeps the last of each.
func TestPendingSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pending
		last := map[planner.Hash]uint32{}
		for range rapid.IntRange(0, 5).Draw(t, "folds") {
			p.reset(0)
			clear(last)
			for range rapid.IntRange(0, 80).Draw(t, "batches") {
				first := rapid.Byte().Draw(t, "first")
				for i := range rapid.IntRange(1, 4).Draw(t, "rows") {
					h := planner.Hash{first, 7: byte(i), 15: rapid.ByteRange(0, 2).Draw(t, "tail")}
					at := uint32(len(p.refs))
					p.refs = append(p.refs, pendingRow{hash: h, at: at})
					last[h] = at
				}
			}
			p.sort()
			if len(p.refs) != len(last) || !slices.IsSortedFunc(p.refs, orderPending) {
				t.Fatalf("%d rows of %d, or not in order: %v", len(p.refs), len(last), p.refs)
			}
			for _, r := range p.refs {
				if last[r.hash] != r.at {
					t.Fatalf("row %s is the one at %d, want %d", r.hash, r.at, last[r.hash])
				}
			}
		}
	})
}
