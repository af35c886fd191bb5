package engine

import (
	"os"
	"strconv"
	"testing"
)

// TestRepeats: the counts are exact, in memory and past it, and nothing can be left on
// disk, since no file has a name.
func TestRepeats(t *testing.T) {
	for name, n := range map[string]int{"in memory": 1000, "spilled": 300_000} {
		t.Run(name, func(t *testing.T) {
			r := &repeats{dir: t.TempDir()}
			for i := range n {
				b := []byte(strconv.Itoa(i))
				for range 1 + min(2, max(0, i-(n-3))) { // the last once more than the one before it
					if err := r.add(b, b); err != nil {
						t.Fatal(err)
					}
				}
			}
			if left, err := os.ReadDir(r.dir); err != nil || len(left) != 0 {
				t.Errorf("%d files have a name, %v", len(left), err)
			}
			if r.held > repeatMemory {
				t.Errorf("%d bytes are held", r.held)
			}
			got, err := r.count()
			if err != nil || got.Values != 2 || got.Rows != 5 || len(got.Examples) != 2 {
				t.Errorf("counted %+v, %v", got, err)
			}
			if err := r.close(); err != nil {
				t.Error(err)
			}
		})
	}
}
