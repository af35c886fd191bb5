package snapshot_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"coho/planner/snapshot"
)

// letters are those of the format now, and of format 1.
var letters = map[byte]byte{'f': 'r', 't': 'o', 'u': 'd', 'v': 'b', 'x': 's', 'y': 'm'}

// TestUpgrade opens stores of format 1, also one that a crash left half brought to
// this format, and finds in them what was in them.
func TestUpgrade(t *testing.T) {
	for _, half := range []bool{false, true} {
		fs := vfs.NewMem()
		s := open(t, fs)
		if err := s.SetIdentity(snapshot.Identity{Org: "00D", Object: "Account"}); err != nil {
			t.Fatal(err)
		}
		fill(t, s, 500)
		n, err := s.Begin(snapshot.Batch{API: "bulk", Handle: "750"})
		if err != nil {
			t.Fatal(err)
		}
		want := exported(t, s)
		closeStore(t, s)

		db, err := pebble.Open("state", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatWALSyncChunks, Logger: quiet{}})
		if err != nil {
			t.Fatal(err)
		}
		it, err := db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		owners := 0
		for it.First(); it.Valid(); it.Next() {
			key := bytes.Clone(it.Key())
			old, ok := letters[key[0]]
			if !ok {
				continue
			}
			if !half {
				err = db.Delete(key, nil)
			}
			if key[0] == 't' {
				owners++
			}
			key[0] = old
			if err = errors.Join(err, db.Set(key, it.Value(), nil)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(it.Close(), db.Set([]byte("mformat"), []byte{1}, pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		if owners != 500 {
			t.Fatalf("%d owners", owners)
		}

		s = open(t, fs)
		if got := exported(t, s); got != want {
			t.Errorf("half %t: the upgraded store has other rows", half)
		}
		open, err := s.OpenBatches()
		if err != nil || len(open) != 1 || open[0].Number != n || open[0].Handle != "750" {
			t.Errorf("half %t: the open batches are %+v, %v", half, open, err)
		}
		settled, err := s.Settled()
		if err != nil || settled.Len() != 500 || s.Rows() != 500 {
			t.Errorf("half %t: %d settled, %d rows, %v", half, settled.Len(), s.Rows(), err)
		}
		plan, active, err := s.ActivePlan()
		if err != nil || !active || plan.Dir != ref.Dir {
			t.Errorf("half %t: the active plan is %+v, %t, %v", half, plan, active, err)
		}
		if _, ok, err := s.Owner(applied500(t)); !ok || err != nil {
			t.Errorf("half %t: no owner, %v", half, err)
		}
		closeStore(t, s)
	}
}

// applied500 is the Id of a record that fill makes.
func applied500(t *testing.T) string {
	t.Helper()
	out, _ := applied(499, 500)
	return out[0].ID
}

func exported(t *testing.T, s *snapshot.Store) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Export(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestUpgradeOfEntries opens a store of format 2, whose entries had whole hashes for
// fingerprints.
func TestUpgradeOfEntries(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	fill(t, s, 500)
	want := exported(t, s)
	closeStore(t, s)

	db, err := pebble.Open("state", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatWALSyncChunks, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte("e"), UpperBound: []byte("f")})
	if err != nil {
		t.Fatal(err)
	}
	entries := 0
	for it.First(); it.Valid(); it.Next() {
		const acked = 1 << 2
		old := append([]byte{acked}, it.Value()[1:13]...)
		if err := db.Set(bytes.Clone(it.Key()), append(old, "tail"...), nil); err != nil {
			t.Fatal(err)
		}
		entries++
	}
	if err := errors.Join(it.Close(), db.Set([]byte("mformat"), []byte{2}, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	if entries != 500 {
		t.Fatalf("%d entries", entries)
	}
	s = open(t, fs)
	defer closeStore(t, s)
	if got := exported(t, s); got != want {
		t.Error("the upgraded store has other rows")
	}
	if s.Rows() != 500 {
		t.Errorf("%d rows", s.Rows())
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
