package salesforce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"coho/destinations/salesforce/api"
)

func TestIndex(t *testing.T) {
	x := newIndex(fieldOf(api.Field{Name: "N__c", Type: "double"}), t.TempDir())
	for i := range 1000 {
		if !x.add(fmt.Sprint(i * 1_000_003)) {
			t.Fatalf("key %d taken", i)
		}
	}
	if x.add("1000003.00") {
		t.Fatal("a second row with the same number was let in")
	}
	if !x.mayHold(x.hash("1.000003E6")) || x.mayHold(x.hash("17")) {
		t.Fatal("the filter is not told by the numbers")
	}
}

// A large job's index keeps out what is there, lets in what is not, and takes
// no memory to speak of.
func TestLargeIndex(t *testing.T) {
	const rows = 200_000
	x := newIndex(fieldOf(api.Field{Name: "Key__c", Type: "string"}), t.TempDir())
	for i := range rows {
		if !x.add(fmt.Sprint("K", i)) {
			t.Fatalf("key %d taken", i)
		}
	}
	if x.doubts > maxDoubts/10 {
		t.Errorf("the filter took %d of %d new keys for known", x.doubts, rows)
	}
	var bytes int
	for _, f := range x.filter {
		bytes += len(f.blocks) * 64
	}
	if bytes > 9*rows || x.keys.file == nil || len(x.keys.open) > tapeBytes {
		t.Errorf("%d bytes of filters, %d of keys", bytes, len(x.keys.open))
	}
	for i := 0; i < rows; i += rows / 20 {
		if x.add(fmt.Sprint("K", i)) {
			t.Fatalf("key %d was let in twice", i)
		}
	}
	if err := x.keys.discard(); err != nil {
		t.Fatal(err)
	}
}

// Results in any order find their rows, whatever the number of shares.
func TestJoin(t *testing.T) {
	for _, rows := range []int{1, 1000, joinRows + 1, 3*joinRows + 77} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			target := &Target{options: Options{SpoolDir: t.TempDir()}}
			x := newIndex(fieldOf(api.Field{Name: "Key__c", Type: "string"}), target.options.SpoolDir)
			for i := range rows {
				x.add(fmt.Sprint("K", i))
			}
			say := func(a *answers, i int) {
				s := slot{state: slotAccepted}
				copy(s.data[:], fmt.Sprintf("001%012d", i))
				b := a.said.room()
				binary.LittleEndian.PutUint64(b, x.hash(fmt.Sprint("K", i)))
				s.put(b[8:])
			}
			a := newAnswers(target, int64(rows))
			for i := rows - 1; i >= 0; i-- {
				if i%10 != 5 {
					say(a, i)
				}
			}
			// A download that is read again from its beginning leaves nothing.
			n := a.said.len()
			for i := range min(rows, 20_000) {
				say(a, i)
			}
			a.said.cut(n)
			if err := a.join(x); err != nil {
				t.Fatal(err)
			}
			for i := range rows {
				s, err := a.at(int64(i))
				if err != nil {
					t.Fatal(err)
				}
				said, err := a.answer(s)
				if err != nil || s.state != slotUnknown && said.id != fmt.Sprintf("001%012d", i) || (s.state == slotUnknown) != (i%10 == 5) {
					t.Fatalf("row %d has %+v, %v", i, said, err)
				}
			}
			for _, wrong := range []int{0, rows + 1} {
				b := newAnswers(target, int64(rows))
				say(b, 0)
				say(b, wrong)
				var misfit *misfitError
				if err := b.join(x); !errors.As(err, &misfit) {
					t.Fatalf("result %d: %v", wrong, err)
				}
				b.discard()
			}
			a.discard()
			if err := x.keys.discard(); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(target.options.SpoolDir); err != nil || len(left) > 0 {
				t.Fatalf("left behind: %v, %v", left, err)
			}
		})
	}
}

// A tape whose file cannot be written says so, and is not read as if it were
// whole.
func TestTapeOnAFullDisk(t *testing.T) {
	x := tape{dir: t.TempDir() + "/none", each: 8}
	for range tapeBytes/8 + 1 {
		x.room()
	}
	if err := x.scan(func([]byte) error { return nil }); err == nil || x.err == nil {
		t.Fatal("no error")
	}
}
