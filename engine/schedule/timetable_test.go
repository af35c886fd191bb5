package schedule

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", "2026-03-01 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func (d Due) text() string {
	s := d.Name + " " + d.At.Format("15:04:05")
	if d.Missed > 0 {
		s += fmt.Sprintf(" missed %d", d.Missed)
	}
	if d.Late {
		s += " late"
	}
	if !d.Run {
		s += " lost"
	}
	return s
}

// TestDue: a timetable looked at at moments of the test's choosing.
func TestDue(t *testing.T) {
	for _, c := range []struct {
		name  string
		line  string
		entry Entry
		looks []string
		want  []string // one a look
	}{
		{"on time", "*/5 * * * *", Entry{}, []string{"12:04:59", "12:05:00", "12:05:00", "12:10:00"}, []string{"", "x 12:05:00", "", "x 12:10:00"}},
		{"noticed within a minute", "*/5 * * * *", Entry{}, []string{"12:06:00"}, []string{"x 12:05:00"}},
		{"missed, lost", "*/5 * * * *", Entry{}, []string{"12:06:01", "12:10:00"}, []string{"x 12:05:00 missed 1 late lost", "x 12:10:00"}},
		{"missed, made up for", "*/5 * * * *", Entry{CatchUp: true}, []string{"12:06:01", "12:10:00"}, []string{"x 12:05:00 missed 1 late", "x 12:10:00"}},
		{"many missed, made up for once", "*/5 * * * *", Entry{CatchUp: true}, []string{"13:58:00"}, []string{"x 13:55:00 missed 23 late"}},
		{"the last of several on time", "*/5 * * * *", Entry{}, []string{"12:15:30"}, []string{"x 12:15:00 missed 2"}},
		{"missed before a restart", "0 * * * *", Entry{After: at("08:00:00"), CatchUp: true}, []string{"12:00:00", "12:30:00"}, []string{"x 12:00:00 missed 3", ""}},
		{"missed before a restart, lost", "30 * * * *", Entry{After: at("08:30:00")}, []string{"12:00:00", "12:30:00"}, []string{"x 11:30:00 missed 3 late lost", "x 12:30:00"}},
		{"nothing missed before a restart", "0 0 * * *", Entry{After: at("00:00:00"), CatchUp: true}, []string{"12:00:00", "23:59:59"}, []string{"", ""}},
		{"a clock that was set back", "0 * * * *", Entry{After: at("20:00:00")}, []string{"13:00:00"}, []string{"x 13:00:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := c.entry
			e.Name, e.Schedule = "x", mustParse(t, c.line, "UTC")
			table := NewTimetable([]Entry{e}, noon)
			for i, look := range c.looks {
				var got []string
				for _, d := range table.Due(at(look)) {
					got = append(got, d.text())
				}
				if g := strings.Join(got, ", "); g != c.want[i] {
					t.Errorf("at %s: %q, want %q", look, g, c.want[i])
				}
			}
		})
	}
}

func TestTimetableOrder(t *testing.T) {
	table := NewTimetable([]Entry{
		{Name: "b", Schedule: mustParse(t, "*/2 * * * *", "UTC")},
		{Name: "a", Schedule: mustParse(t, "*/2 * * * *", "UTC")},
		{Name: "c", Schedule: mustParse(t, "1 * * * *", "UTC")},
		{Name: "never", Schedule: mustParse(t, "0 0 31 2 *", "UTC")},
	}, noon)
	if got := table.Next(); !got.Equal(at("12:01:00")) {
		t.Errorf("next at %s", got)
	}
	if got := table.NextOf("b"); !got.Equal(at("12:02:00")) {
		t.Errorf("b next at %s", got)
	}
	if got := table.NextOf("never"); !got.IsZero() {
		t.Errorf("never next at %s", got)
	}
	var got []string
	for _, d := range table.Due(at("12:02:00")) {
		got = append(got, d.text())
	}
	if g := strings.Join(got, ", "); g != "c 12:01:00, a 12:02:00, b 12:02:00" {
		t.Error(g)
	}
	if got := NewTimetable(nil, noon); !got.Next().IsZero() || len(got.Due(noon)) != 0 {
		t.Error("an empty timetable has something due")
	}
}

// TestJitter: times are spread over the jitter, never lost or swapped, and the
// same after a restart.
func TestJitter(t *testing.T) {
	const names = 200
	build := func(jitter time.Duration) *Timetable {
		var entries []Entry
		for i := range names {
			entries = append(entries, Entry{Name: fmt.Sprint("s", i), Schedule: mustParse(t, "* * * * *", "UTC"), Jitter: jitter})
		}
		return NewTimetable(entries, noon)
	}
	for _, jitter := range []time.Duration{time.Second, 30 * time.Second, time.Hour} {
		spread := min(jitter, time.Minute) // never past the next time
		one, other := build(jitter), build(jitter)
		var quarters [4]int
		for i := range names {
			name := fmt.Sprint("s", i)
			next := one.NextOf(name)
			if next != other.NextOf(name) {
				t.Fatalf("jitter %s: %s comes at %s, and after a restart at %s", jitter, name, next, other.NextOf(name))
			}
			late := next.Sub(at("12:01:00"))
			if late < 0 || late >= spread {
				t.Fatalf("jitter %s: %s comes %s late", jitter, name, late)
			}
			quarters[int(4*late/spread)]++
		}
		for q, n := range quarters {
			if n < names/8 {
				t.Errorf("jitter %s: only %d of %d times in quarter %d of it", jitter, n, names, q+1)
			}
		}
		came := map[string][]time.Time{}
		for now := noon; now.Before(noon.Add(20 * time.Minute)); now = one.Next() {
			for _, d := range one.Due(now) {
				if d.Missed > 0 || !d.Run {
					t.Fatalf("jitter %s: %s", jitter, d.text())
				}
				came[d.Name] = append(came[d.Name], d.At)
			}
		}
		for name, times := range came {
			if len(times) < 19 {
				t.Errorf("jitter %s: %s came %d times", jitter, name, len(times))
			}
			for i, x := range times {
				if want := noon.Add(time.Duration(i+1) * time.Minute); !x.Equal(want) {
					t.Fatalf("jitter %s: time %d of %s is %s, want %s", jitter, i, name, x, want)
				}
			}
		}
	}
}
