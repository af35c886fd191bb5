// Package schedule says what is due when: cron lines in time zones, and a
// timetable of many of them. It is pure: every moment is handed to it, and it
// starts nothing and waits for nothing.
//
// # Clocks that are changed
//
// A cron line names times on a clock on the wall, and twice a year most walls'
// clocks are changed. The rules are those that cron(8) documents:
//
//   - A line for every hour goes by elapsed time: whatever the clock is set
//     to, "*/15 * * * *" comes every 15 minutes and "30 * * * *" once an hour.
//   - A line for some hours of the day whose time the clock skips comes once,
//     at the moment of the change: "30 2 * * *" at 3:00 on the day on which
//     2:00 becomes 3:00.
//   - A line for some hours and minutes of the day whose time comes twice comes
//     the first time only. Where every minute, or every few minutes, of those
//     hours is meant ("*/15 1-3 * * *"), it goes on through both.
//
// "@every 10m" counts elapsed time from a fixed moment in the past, so its times
// do not depend on when coho was started.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule is a cron line in a time zone.
type Schedule struct {
	every time.Duration      // for @every; else 0
	spec  *cron.SpecSchedule // on a clock that is never changed
	zone  *time.Location

	everyHour   bool // the line is for each hour of the day
	manyMinutes bool // its minutes are a wildcard, perhaps with a step
}

// Parse reads five fields, a descriptor such as @hourly, or @every with a
// duration of whole seconds. timezone is a name of the IANA database; "" is UTC.
func Parse(line, timezone string) (*Schedule, error) {
	// The library takes a zone inside the line, and panics on a bad one.
	if strings.Contains(line, "TZ=") {
		return nil, errors.New("the zone does not belong in the line")
	}
	zone, err := Zone(timezone)
	if err != nil {
		return nil, err
	}
	line = strings.TrimSpace(line)
	parsed, err := cron.ParseStandard(line)
	if err != nil {
		return nil, err
	}
	if _, ok := parsed.(cron.ConstantDelaySchedule); ok {
		// The library rounds in silence what it cannot do.
		_, text, _ := strings.Cut(line, " ")
		every, err := time.ParseDuration(text)
		if err != nil || every < time.Second || every%time.Second != 0 {
			return nil, fmt.Errorf("@every takes whole seconds, 1s or more, not %s", text)
		}
		return &Schedule{every: every, zone: zone}, nil
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("%T is no kind of schedule that coho knows", parsed)
	}
	clock := *spec
	clock.Location = time.UTC
	s := &Schedule{spec: &clock, zone: zone}
	const allHours = 1<<24 - 1
	s.everyHour = spec.Hour&allHours == allHours
	fields := strings.Fields(line)
	s.manyMinutes = len(fields) == 5 && strings.ContainsAny(fields[0], "*?/")
	return s, nil
}

// Zone returns a time zone by its name in the IANA database; "" is UTC. The
// machine's own zone ("Local") is none: a config means the same everywhere.
func Zone(name string) (*time.Location, error) {
	if name != "Local" {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, fmt.Errorf("%q is not a time zone", name)
}

// Next returns the first time after t, in the schedule's zone; the zero time
// where there is none within five years.
func (s *Schedule) Next(t time.Time) time.Time {
	if s.every > 0 {
		// Truncate counts from the zero time, which is the same for all.
		return t.UTC().Truncate(s.every).Add(s.every).In(s.zone)
	}
	t = t.In(s.zone)
	limit := t.AddDate(5, 1, 0)
	for after := t; t.Before(limit); {
		begin, end := t.ZoneBounds()
		if at := s.within(after, t, begin, end); !at.IsZero() {
			return at
		}
		if end.IsZero() {
			break
		}
		end = end.In(s.zone)
		if s.skipped(end) {
			return end
		}
		t, after = end, end.Add(-time.Nanosecond)
	}
	return time.Time{}
}

// wall is what a clock shows at t, as if that were UTC.
func wall(t time.Time, offset int) time.Time {
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// within returns the first time after a moment, in the period without a change
// of the clock that t is in; the zero time where there is none.
func (s *Schedule) within(after, t, begin, end time.Time) time.Time {
	_, offset := t.Zone()
	seen := time.Time{} // what the clock had shown when it was last set back
	if !begin.IsZero() && !s.everyHour && !s.manyMinutes {
		if _, before := begin.Add(-time.Nanosecond).In(s.zone).Zone(); before > offset {
			seen = wall(begin, before)
		}
	}
	for w := wall(after, offset); ; {
		if w = s.spec.Next(w); w.IsZero() {
			return time.Time{}
		}
		at := w.Add(-time.Duration(offset) * time.Second)
		switch {
		case !end.IsZero() && !at.Before(end):
			return time.Time{}
		case !w.Before(seen):
			return at.In(s.zone)
		}
	}
}

// skipped reports whether the change of the clock at a moment skips a time of
// a schedule that must not lose one.
func (s *Schedule) skipped(change time.Time) bool {
	_, before := change.Add(-time.Nanosecond).Zone()
	_, offset := change.Zone()
	if s.everyHour || offset <= before {
		return false
	}
	w := s.spec.Next(wall(change, before).Add(-time.Nanosecond))
	return !w.IsZero() && w.Before(wall(change, offset))
}
