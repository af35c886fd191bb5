package planner_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coho/models"
	"coho/planner"
)

// TestRecordsStayTheirRows: a row that comes to a match value whose record another
// row has is rejected, whatever becomes of either later.
func TestRecordsStayTheirRows(t *testing.T) {
	const dup = " rejected DUPLICATE_MATCH_VALUE"
	type step struct{ rows, want []string }
	rows := func(rows ...string) []string { return rows }
	for _, c := range []struct {
		name    string
		removed models.OnRemoved
		steps   []step
	}{
		{"unchanged", models.RemovedDelete, []step{
			{rows("1 m x y z"), rows("1 upsert a=x b=y c=z")},
			{rows("1 m x y z", "2 M a b c"), rows("2" + dup)},
			{rows("1 m x y z", "2 M a b c", "3 m a b c"), rows("2"+dup, "3"+dup)},
			{rows("1 m x y z"), nil},
			{rows("2 M a b c"), rows("2 upsert a=a b=b c=c")}, // it is free, and stays
			{rows(), rows("2 archive known")},
		}},
		{"changed", models.RemovedDelete, []step{
			{rows("1 m x y z"), rows("1 upsert a=x b=y c=z")},
			{rows("1 m x Q z", "2 m a b c"), rows("1 upsert known a==x b=Q c==z", "2"+dup)},
		}},
		{"moved to it", models.RemovedDelete, []step{
			{rows("1 m1 x y z", "2 m2 x y z"), rows("1 upsert a=x b=y c=z", "2 upsert a=x b=y c=z")},
			{rows("1 m1 x y z", "2 m1 x y z"), rows("2" + dup)},
			{rows("1 m2 x y z", "2 m1 x y z"), rows("1 upsert a=x b=y c=z", "2 upsert a=x b=y c=z")}, // swapped
			{rows("1 m2 x y z", "2 m1 x y z"), nil},
			{rows("1 m2 x y z"), rows("2 archive known")},
		}},
		{"rejected for a value", models.RemovedDelete, []step{
			{rows("1 m x y z"), rows("1 upsert a=x b=y c=z")},
			{rows("1 m x !bad z", "2 m a b c"), rows("1 rejected INVALID_VALUE", "2"+dup)},
			{rows("1 - x y z", "2 m a b c"), rows("1 rejected NULL_MATCH_VALUE", "2"+dup)},
			{rows("1 m x y z", "1 m x y z", "2 m a b c"), rows("1 rejected DUPLICATE_PRIMARY_KEY", "1 rejected DUPLICATE_PRIMARY_KEY", "2"+dup)},
			{rows("1 m x y z"), nil},
		}},
		{"back after another row had it", models.RemovedNothing, []step{
			{rows("1 m x y z"), rows("1 upsert a=x b=y c=z")},
			{rows(), nil},
			{rows("2 m a b c"), rows("2 upsert a=a b=b c=c")},
			{rows("1 m x y z", "2 m a b c"), rows("1" + dup)},
			{rows("1 m x y z"), rows("1 upsert a=x b=y c=z")},
			{rows("1 m x y z"), nil},
		}},
	} {
		for _, memory := range []int64{0, 1} {
			t.Run(fmt.Sprintf("%s, memory %d", c.name, memory), func(t *testing.T) {
				b := newBench(t, models.ModeUpsert, func(s *planner.Spec) { s.OnRemoved, s.MemoryLimit = c.removed, memory })
				for _, s := range c.steps {
					b.want(b.run(s.rows...), s.want...)
				}
			})
		}
	}
}

func TestRejectedForAMatchValueNamesTheOther(t *testing.T) {
	b := newBench(t, models.ModeUpsert, nil)
	messages := func(lines ...string) (out []string) {
		b.run(lines...)
		r, err := b.plan.Rejected()
		if err != nil {
			t.Fatal(err)
		}
		for r.Next() {
			out = append(out, r.Rejected().Message)
		}
		slices.Sort(out)
		return out
	}
	first := messages("1 m x y z", "2 M x y z")
	if len(first) != 2 || !strings.HasPrefix(first[0], `row key=1 has the match value "M" too`) || !strings.HasPrefix(first[1], `row key=2 has the match value "m" too`) {
		t.Errorf("two new rows: %q", first)
	}
	b.run("1 m x y z")
	for name, lines := range map[string][]string{
		"unchanged": {"1 m x y z", "3 m x y z"},
		"changed":   {"1 m x Q z", "3 m x y z"},
	} {
		if got := messages(lines...); len(got) != 1 || !strings.HasPrefix(got[0], `row key=1 has the match value "m" too`) {
			t.Errorf("beside a row that is %s: %q", name, got)
		}
	}
}

// TestKeysThatAreOneRecord: where the key is the match value, keys that differ in
// white space only are one identity, so that neither's removal deletes the other's
// record.
func TestKeysThatAreOneRecord(t *testing.T) {
	b := newBench(t, models.ModeUpsert, func(s *planner.Spec) {
		s.MatchIsKey, s.MatchColumn, s.OnRemoved = true, s.KeyColumns[0], models.RemovedDelete
		s.MappedColumns = []int{0, 2, 3, 4}
		s.NormalizeMatch = strings.TrimSpace
	})
	b.want(b.run("k - x y z"), "k upsert a=x b=y c=z")
	b.want(b.run("k - x y z", "k_ - a b c"), "k rejected DUPLICATE_PRIMARY_KEY", "k rejected DUPLICATE_PRIMARY_KEY")
	b.want(b.run("k_ - x y z"))
	b.want(b.run("K - x y z", "k_ - x Q z"), "K upsert a=x b=y c=z", "k  upsert known a==x b=Q c==z")
	b.want(b.run("k - x Q z"), "K archive known")
	b.want(b.run(), "k  archive known")
}
