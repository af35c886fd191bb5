package snapshot_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"coho/planner/snapshot"
)

// TestSettleTwiceAtOnce has several callers settle the same operations, each as
// tables of its own: the first one counts, and nothing is left of the others.
func TestSettleTwiceAtOnce(t *testing.T) {
	defer snapshot.FoldAt(1, 1)()
	fs := vfs.NewMem()
	s := open(t, fs)
	defer closeStore(t, s)
	if err := errors.Join(s.SetIdentity(snapshot.Identity{MatchIsKey: true}), s.SetActivePlan(ref)); err != nil {
		t.Fatal(err)
	}
	const rounds, size, callers = 40, 50, 4
	for i := range int64(rounds) {
		out, seqs := applied(i*size, (i+1)*size)
		n, err := s.Begin(snapshot.Batch{API: "rest", Seqs: seqs})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				if err := s.Settle(n, out, false); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	st, err := s.Stats()
	if err != nil || st.Rows != rounds*size || s.Rows() != rounds*size {
		t.Errorf("%d rows counted, %+v, %v; want %d", s.Rows(), st, err, rounds*size)
	}
	if left := tablesIn(t, fs); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestTablesAreMissing opens stores whose tables of acknowledged rows were taken away
// after a crash: that is damage, unless all was taken in before it.
func TestTablesAreMissing(t *testing.T) {
	for _, lost := range []string{"-e", "-f"} {
		t.Run(lost, func(t *testing.T) {
			defer snapshot.FoldAt(1, 1)()
			fs := newCrashable()
			s := open(t, fs)
			defer closeStore(t, s)
			if err := errors.Join(s.SetIdentity(snapshot.Identity{MatchIsKey: true}), s.SetActivePlan(ref)); err != nil {
				t.Fatal(err)
			}
			for i := int64(0); i < 2000; i++ {
				out, seqs := applied(i*9, (i+1)*9)
				n, err := s.Begin(snapshot.Batch{API: "rest", Seqs: seqs})
				if err == nil {
					err = s.Settle(n, out, true)
				}
				if err != nil {
					t.Fatal(err)
				}
				// It is durable, and taken in about now.
				after := fs.crash(vfs.CrashCloneCfg{})
				left := tablesIn(t, after)
				if len(left) != 2 {
					continue
				}
				for _, name := range left {
					if strings.HasSuffix(name, lost) {
						if err := after.Remove(fs.PathJoin("state", name)); err != nil {
							t.Fatal(err)
						}
					}
				}
				again, err := snapshot.OpenFS("state", after)
				if err == nil {
					if st, err := again.Stats(); err != nil || st.Rows != (i+1)*9 {
						t.Errorf("a store that opens has %d rows, %v, want %d", st.Rows, err, (i+1)*9)
					}
					closeStore(t, again)
					continue
				}
				var corrupt *snapshot.CorruptError
				if !errors.As(err, &corrupt) {
					t.Errorf("%T %v, want a CorruptError", err, err)
				}
				return
			}
			t.Error("no store was refused")
		})
	}
}

func tablesIn(t *testing.T, fs vfs.FS) (names []string) {
	t.Helper()
	all, err := fs.List("state")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if strings.HasPrefix(name, "fold-") {
			names = append(names, name)
		}
	}
	return names
}
