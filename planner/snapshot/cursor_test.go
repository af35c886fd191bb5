package snapshot_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"coho/planner"
	"coho/planner/snapshot"
)

// TestCursorSeek moves through a store by steps and by seeks, some of whose rows
// are displaced, and finds what a walk through all of it finds.
func TestCursorSeek(t *testing.T) {
	const rows = 400
	s := open(t, vfs.NewMem())
	defer closeStore(t, s)
	fill(t, s, rows)
	var taken []snapshot.Settlement // every third record is acknowledged for another row
	for n := int64(0); n < rows; n += 3 {
		op := upsert(rows + n)
		op.Seq = rows + n
		taken = append(taken, snapshot.Settlement{Op: op, Applied: true, ID: fmt.Sprintf("id%d", n)})
	}
	n, err := s.Begin(snapshot.Batch{API: "rest"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(n, taken, true); err != nil {
		t.Fatal(err)
	}
	scan := func(first, limit planner.Hash) planner.Cursor {
		t.Helper()
		c, err := s.Scan(first, limit)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	finish := func(c planner.Cursor) {
		t.Helper()
		if err := c.Err(); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	var all []planner.Entry
	displaced := 0
	whole := scan(planner.Hash{}, planner.Hash{})
	for whole.Next() {
		all = append(all, whole.Entry())
		if whole.Entry().Displaced {
			displaced++
		}
	}
	finish(whole)
	if len(all) != rows+len(taken) || displaced != len(taken) {
		t.Fatalf("%d entries, %d of them displaced", len(all), displaced)
	}

	compare := func(a, b planner.Hash) int { return bytes.Compare(a[:], b[:]) }
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		limit, left := planner.Hash{}, all
		if rng.IntN(2) == 0 {
			limit = all[rng.IntN(len(all))].KeyHash
			left = all[:slices.IndexFunc(all, func(e planner.Entry) bool { return e.KeyHash == limit })]
		}
		c := scan(planner.Hash{}, limit)
		for {
			var have bool
			if rng.IntN(3) == 0 {
				have = c.Next()
			} else {
				var from planner.Hash
				if len(left) > 0 {
					from = left[rng.IntN(min(len(left), 40))].KeyHash
				} else {
					from = planner.Hash{0xff}
				}
				if rng.IntN(2) == 0 { // between two entries
					from[15]++
				}
				for len(left) > 0 && compare(left[0].KeyHash, from) < 0 {
					left = left[1:]
				}
				have = c.Seek(from)
			}
			if have != (len(left) > 0) {
				t.Fatalf("an entry: %t, where %d are left", have, len(left))
			}
			if !have {
				break
			}
			if c.Entry() != left[0] {
				t.Fatalf("found %+v, want %+v", c.Entry(), left[0])
			}
			rec, err := c.Record()
			if err != nil || rec.ID == "" {
				t.Fatalf("record %+v, %v", rec, err)
			}
			left = left[1:]
		}
		finish(c)
	}
}
