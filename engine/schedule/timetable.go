package schedule

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// grace is how late a time may be noticed and still count as on time: a
// process that is started again, or a machine that is slow, misses nothing
// within it.
const grace = time.Minute

// Entry is a line of a timetable.
type Entry struct {
	Name     string
	Schedule *Schedule
	// Jitter spreads what is due at the same moment: each time comes up to so
	// much later, by an amount that the name and the time decide, so that it
	// is the same after a restart. It never reaches the next time.
	Jitter time.Duration
	// After is the last time that is accounted for; zero: none before now.
	After time.Time
	// CatchUp makes up, once, for times that were missed; else they are lost.
	CatchUp bool
}

// Due is a time that has come.
type Due struct {
	Name string
	At   time.Time // as scheduled, without jitter: the last one, where several have passed
	// Missed is how many times passed unnoticed, At among them where Late.
	Missed int
	// Late says that At was missed too: nobody looked at the timetable within
	// a minute of it.
	Late bool
	// Run says whether there is something to run now.
	Run bool
}

// Timetable is a set of schedules and how far each has come.
type Timetable struct {
	lines []*line
}

type line struct {
	Entry
	next time.Time // the next time as scheduled; zero: none
	fire time.Time // next with its jitter
}

// NewTimetable returns a timetable of entries as it is at a moment.
func NewTimetable(entries []Entry, now time.Time) *Timetable {
	t := &Timetable{}
	for _, e := range entries {
		if e.After.IsZero() || e.After.After(now) {
			// A time yet to come cannot have been dealt with: the clock was
			// set back.
			e.After = now
		}
		l := &line{Entry: e}
		l.advance(e.After)
		t.lines = append(t.lines, l)
	}
	return t
}

// advance finds the next time after one.
func (l *line) advance(after time.Time) {
	l.next = l.Schedule.Next(after)
	l.fire = l.next.Add(l.delay())
}

// delay is the jitter of the next time.
func (l *line) delay() time.Duration {
	if l.next.IsZero() || l.Jitter <= 0 {
		return 0
	}
	spread := l.Jitter
	if following := l.Schedule.Next(l.next); !following.IsZero() {
		spread = min(spread, following.Sub(l.next))
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(l.Name + "\x00" + strconv.FormatInt(l.next.Unix(), 10))) // never fails
	// FNV's low bits alone are poor in what differs at the end.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return time.Duration(x % uint64(spread))
}

// Due returns what has come by a moment, in the order in which it came, and
// takes it off the timetable.
func (t *Timetable) Due(now time.Time) []Due {
	type fired struct {
		Due
		at time.Time
	}
	var out []fired
	for _, l := range t.lines {
		if l.next.IsZero() || l.fire.After(now) {
			continue
		}
		f := fired{Due: Due{Name: l.Name}}
		passed := 0
		for !l.next.IsZero() && !l.fire.After(now) {
			passed++
			f.At, f.at = l.next, l.fire
			l.advance(l.next)
		}
		f.Late = now.Sub(f.at) > grace
		f.Run = !f.Late || l.CatchUp
		f.Missed = passed
		if !f.Late {
			f.Missed--
		}
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b fired) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	due := make([]Due, len(out))
	for i, f := range out {
		due[i] = f.Due
	}
	return due
}

// Next returns the moment at which something is due next; the zero time where
// nothing ever is.
func (t *Timetable) Next() time.Time {
	var first time.Time
	for _, l := range t.lines {
		if !l.next.IsZero() && (first.IsZero() || l.fire.Before(first)) {
			first = l.fire
		}
	}
	return first
}

// NextOf returns the moment at which an entry is due next; the zero time where
// it never is, or there is none of the name.
func (t *Timetable) NextOf(name string) time.Time {
	for _, l := range t.lines {
		if l.Name == name && !l.next.IsZero() {
			return l.fire
		}
	}
	return time.Time{}
}
