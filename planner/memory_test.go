package planner_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"coho/planner"
)

// TestMemory: a scan yields the rows of its range in the order of their hashes.
func TestMemory(t *testing.T) {
	var rows []planner.MemoryRow
	var all []byte
	for _, n := range rand.Perm(200) {
		rows = append(rows, planner.MemoryRow{KeyHash: planner.Hash{byte(n)}, Record: planner.Record{Match: string(rune('a' + n))}})
		all = append(all, byte(n))
	}
	slices.Sort(all)
	m := planner.NewMemory(rows)
	for range 200 {
		from, to := byte(rand.IntN(256)), byte(rand.IntN(256))
		cur, err := m.Scan(planner.Hash{from}, planner.Hash{to})
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for cur.Next() {
			e := cur.Entry()
			got = append(got, e.KeyHash[0])
			if rec, err := cur.Record(); err != nil || rec.Match != string(rune('a'+int(e.KeyHash[0]))) || !e.Acked {
				t.Fatalf("%+v %+v (%v)", e, rec, err)
			}
		}
		want := slices.DeleteFunc(slices.Clone(all), func(b byte) bool { return b < from || to != 0 && b >= to })
		if !slices.Equal(got, want) {
			t.Fatalf("from %d to %d: %v, want %v", from, to, got, want)
		}
	}
	if m.Rows() != 200 {
		t.Errorf("%d rows", m.Rows())
	}
}
