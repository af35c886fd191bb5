package planner

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"coho/models"
)

func drawHash(t *rapid.T) (h Hash) {
	copy(h[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "hash"))
	return h
}

// drawPrint draws a fingerprint.
func drawPrint(t *rapid.T) (h Hash) {
	copy(h[:printSize], rapid.SliceOfN(rapid.Byte(), printSize, printSize).Draw(t, "print"))
	return h
}

// show words all of an operation; its own String is that of its kind.
func show(o *Operation) string {
	return fmt.Sprint(o.Kind, o.Seq, o.KeyHash, o.Fingerprint, o.Key, o.ID, o.Match, o.Known, o.Counted, o.held, o.Assignments)
}

func TestOperationsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Operation{
			Kind: Kind(rapid.IntRange(0, KindCount-1).Draw(t, "kind")), KeyHash: drawHash(t), Fingerprint: drawHash(t),
			Key: rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "key"), ID: rapid.String().Draw(t, "id"), Match: rapid.String().Draw(t, "match"),
			Known: rapid.Bool().Draw(t, "known"), Counted: rapid.Bool().Draw(t, "counted"), held: rapid.Bool().Draw(t, "held"),
		}
		if rapid.Bool().Draw(t, "removed") {
			o.Fingerprint = Hash{}
		}
		if rapid.Bool().Draw(t, "key matches") {
			o.Match = o.Key[0]
		}
		for f := range rapid.IntRange(0, 5).Draw(t, "fields") {
			c := models.Cell{Text: rapid.String().Draw(t, "cell")}
			if rapid.Bool().Draw(t, "null") {
				c = models.NullCell
			}
			o.Assignments = append(o.Assignments, Assignment{Field: f, Cell: c, Send: Send(rapid.IntRange(0, 2).Draw(t, "send"))})
		}
		body := appendOperation(nil, &o)
		var back Operation
		if err := decodeOperation(string(body), &back, 5); err != nil || !reflect.DeepEqual(o, back) {
			t.Fatalf("%s comes back as %s, %v", show(&o), show(&back), err)
		}
		if isRemoval(string(body)) != (o.Fingerprint == Hash{}) {
			t.Fatal("a removal is taken for what it is not")
		}
		c := o.Clone()
		if len(c.Assignments) == 0 {
			c.Assignments = nil
		}
		if !reflect.DeepEqual(&o, c) {
			t.Fatalf("the clone of %s is %s", show(&o), show(c))
		}
	})
}

func TestEntriesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{KeyHash: drawHash(t), Fingerprint: drawPrint(t), Gone: rapid.Bool().Draw(t, "gone"), Acked: rapid.Bool().Draw(t, "acked")}
		if e.Refused = rapid.Bool().Draw(t, "refused"); e.Refused {
			e.RefusedPrint, e.RefusedCode = drawPrint(t), rapid.String().Draw(t, "code")
			e.RefusedTimes, e.RefusedSkips = rapid.Uint32Range(0, 1<<30).Draw(t, "times"), rapid.Uint32Range(0, 1<<30).Draw(t, "skips")
		}
		back := Entry{KeyHash: e.KeyHash, RefusedCode: "left over", Refused: true}
		if err := DecodeEntry(AppendEntry(nil, &e), &back); err != nil || e != back {
			t.Fatalf("%+v comes back as %+v, %v", e, back, err)
		}
		n := Note{Kind: NoteKind(rapid.IntRange(0, int(noteKinds)-1).Draw(t, "kind")), Entry: e, Counted: rapid.Bool().Draw(t, "counted")}
		var note Note
		if err := decodeNote(string(appendNote(nil, &n)), &note); err != nil || n != note {
			t.Fatalf("%+v comes back as %+v, %v", n, note, err)
		}
	})
}

// TestWholePrints reads entries as they were while they had whole hashes.
func TestWholePrints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole, refused := drawHash(t), drawHash(t)
		e := Entry{KeyHash: drawHash(t), Acked: true}
		copy(e.Fingerprint[:printSize], whole[:])
		old := append([]byte{entryAcked}, whole[:]...)
		if e.Refused = rapid.Bool().Draw(t, "refused"); e.Refused {
			copy(e.RefusedPrint[:printSize], refused[:])
			e.RefusedTimes, e.RefusedSkips, e.RefusedCode = 3, 2, "CODE"
			old[0] |= entryRefused
			old = appendText(append(append(old, refused[:]...), 3, 2), "CODE")
		}
		back := Entry{KeyHash: e.KeyHash}
		if err := DecodeEntry(old, &back); err != nil || e != back {
			t.Fatalf("%+v is read as %+v, %v", e, back, err)
		}
		if err := DecodeEntry(old[:len(old)-1], &back); err == nil {
			t.Fatal("an entry that was cut off is read")
		}
	})
}

// TestSettledSet compares the bitmap with a map.
func TestSettledSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s SettledSet
		want := map[int64]bool{}
		for range rapid.IntRange(0, 6).Draw(t, "adds") {
			from := rapid.Int64Range(0, 400).Draw(t, "from")
			to := from + rapid.Int64Range(0, 300).Draw(t, "size")
			s.Add(Seqs{{from, to}})
			for i := from; i < to; i++ {
				want[i] = true
			}
		}
		for i := int64(-1); i < 800; i++ {
			if s.Has(i) != want[i] {
				t.Fatalf("Has(%d) = %v", i, s.Has(i))
			}
		}
		if s.Len() != int64(len(want)) || s.seqs().Len() != s.Len() || s.Clone().Len() != s.Len() {
			t.Fatalf("%d numbers, %d are in it", s.Len(), len(want))
		}
	})
}

func TestDiskErrors(t *testing.T) {
	err := diskError("plan", &os.PathError{Op: "write", Path: "plan", Err: syscall.ENOSPC})
	if !strings.Contains(err.Error(), "the disk is full; free some space and run again, nothing was sent") {
		t.Errorf("a full disk is worded %q", err)
	}
	if err := diskError("plan", os.ErrPermission); strings.Contains(err.Error(), "full") {
		t.Errorf("a disk that is not full is worded %q", err)
	}
}

// TestLevelsAgainstBruteForce: no operation comes before one that it waits for,
// but for circles, and none later than it must.
func TestLevelsAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		n := 1 + rng.IntN(12)
		var edges []edge
		for range rng.IntN(2 * n) {
			edges = append(edges, edge{parent: uint32(rng.IntN(n)), child: uint32(rng.IntN(n))})
		}
		longest := make([]int, n) // by relaxation; past n: a circle
		for range n + 1 {
			for _, e := range edges {
				longest[e.child] = min(max(longest[e.child], longest[e.parent]+1), n+1)
			}
		}
		for range n + 1 {
			for _, e := range edges {
				if longest[e.parent] > n {
					longest[e.child] = n + 1
				}
			}
		}
		b := &builder{operations: &logWriter{next: int64(n)}}
		levels, passes, err := b.assignLevels(append([]edge(nil), edges...))
		if err != nil {
			t.Fatal(err)
		}
		for seq := range n {
			got := 0
			if levels != nil {
				got = int(levels[seq])
			}
			if longest[seq] <= n && got != longest[seq] || longest[seq] > n && got != passes-1 {
				t.Fatalf("operation %d is on level %d of %d, by brute force %d; edges %v", seq, got, passes, longest[seq], edges)
			}
		}
	}
}

func FuzzRecords(f *testing.F) {
	o := Operation{Key: []string{"k"}, Match: "k", ID: "i", Assignments: []Assignment{{Field: 1, Cell: models.Cell{Text: "x"}, Send: Always}}}
	f.Add(appendOperation(nil, &o))
	f.Add(appendRejected(nil, &Rejected{Key: []string{"k"}, Code: CodeNullMatch, Fields: []string{"F"}}))
	f.Add(appendNote(nil, &Note{Entry: Entry{Refused: true, RefusedCode: "X"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var o Operation
		if err := decodeOperation(string(b), &o, 4); err == nil {
			var again Operation
			if err := decodeOperation(string(appendOperation(nil, &o)), &again, 4); err != nil || !reflect.DeepEqual(o, again) {
				t.Errorf("%s comes back as %s, %v", show(&o), show(&again), err)
			}
		}
		var r Rejected
		if err := decodeRejected(string(b), &r); err == nil {
			var again Rejected
			if err := decodeRejected(string(appendRejected(nil, &r)), &again); err != nil || r.Message != again.Message {
				t.Errorf("%+v comes back as %+v, %v", r, again, err)
			}
		}
		var n Note
		if err := decodeNote(string(b), &n); err == nil {
			var again Note
			if err := decodeNote(string(appendNote(nil, &n)), &again); err != nil || n != again {
				t.Errorf("%+v comes back as %+v, %v", n, again, err)
			}
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add(append(markerMagic[:], 2, '{', '}', 0, 0, 0, 0, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, logs, dropped, err := decodeMarker(b); err == nil && len(logs[0])+len(dropped) > len(b) {
			t.Errorf("%d bytes hold %d blocks", len(b), len(logs[0]))
		}
	})
}

func FuzzBlock(f *testing.F) {
	f.Add([]byte("\x02ab\x00"), int64(2))
	f.Fuzz(func(t *testing.T, b []byte, count int64) {
		payload := string(b)
		for range min(max(count, 0), 1000) {
			body, rest, err := nextRecord(payload)
			if err != nil {
				return
			}
			if len(body)+len(rest) >= len(payload) {
				t.Fatal("a record of no length")
			}
			payload = rest
		}
		if _, err := readBlock(bytes.NewReader(b), "fuzz", blockAt{size: int64(len(b)), count: count}); err == nil && len(b) < blockHeader {
			t.Error("a block shorter than its header")
		}
	})
}

func FuzzSeqs(f *testing.F) {
	f.Add(Seqs{{0, 3}, {5, 9}}.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := DecodeSeqs(b)
		if err != nil {
			return
		}
		again, left, err := DecodeSeqs(s.AppendBinary(nil))
		if err != nil || len(left) != 0 || len(rest) > len(b) || again.Len() != s.Len() {
			t.Errorf("%v comes back as %v, %v", s, again, err)
		}
	})
}
