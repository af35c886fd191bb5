package schedule

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
)

func mustParse(t testing.TB, line, zone string) *Schedule {
	t.Helper()
	s, err := Parse(line, zone)
	if err != nil {
		t.Fatalf("%s in %s: %v", line, zone, err)
	}
	return s
}

// TestClockChanges holds the times of schedules on the days on which clocks are
// changed against what cron(8) documents.
func TestClockChanges(t *testing.T) {
	for _, c := range []struct {
		name, line, zone string
		from, to         string // both in UTC
		want             string // in the zone, with its offset
	}{
		// New York, 8 March 2026: 2:00 EST becomes 3:00 EDT at 7:00 UTC.
		{"spring, a skipped time", "30 2 * * *", "America/New_York", "2026-03-07T12:00", "2026-03-09T12:00",
			"03-08 03:00 -0400, 03-09 02:30 -0400"},
		{"spring, several skipped times come once", "0,15,30 2 * * *", "America/New_York", "2026-03-08T00:00", "2026-03-09T00:00",
			"03-08 03:00 -0400"},
		{"spring, skipped and at the change", "0 2,3 * * *", "America/New_York", "2026-03-08T00:00", "2026-03-09T00:00",
			"03-08 03:00 -0400"},
		{"spring, a time before and one after", "30 1,3 * * *", "America/New_York", "2026-03-08T00:00", "2026-03-09T00:00",
			"03-08 01:30 -0500, 03-08 03:30 -0400"},
		{"spring, hourly", "30 * * * *", "America/New_York", "2026-03-08T05:00", "2026-03-08T09:00",
			"03-08 00:30 -0500, 03-08 01:30 -0500, 03-08 03:30 -0400, 03-08 04:30 -0400"},
		{"spring, a quarter of an hour", "*/15 * * * *", "America/New_York", "2026-03-08T06:30", "2026-03-08T07:20",
			"03-08 01:45 -0500, 03-08 03:00 -0400, 03-08 03:15 -0400"},
		{"spring, every other hour", "0 */2 * * *", "America/New_York", "2026-03-08T04:30", "2026-03-08T09:00",
			"03-08 00:00 -0500, 03-08 03:00 -0400, 03-08 04:00 -0400"},
		{"spring, a window within the skipped hour", "*/15 2 * * *", "America/New_York", "2026-03-08T00:00", "2026-03-10T00:00",
			"03-08 03:00 -0400, 03-09 02:00 -0400, 03-09 02:15 -0400, 03-09 02:30 -0400, 03-09 02:45 -0400"},
		{"spring, another day of the week", "30 2 * * 1", "America/New_York", "2026-03-08T00:00", "2026-03-09T12:00",
			"03-09 02:30 -0400"},
		// New York, 1 November 2026: 2:00 EDT becomes 1:00 EST at 6:00 UTC.
		{"autumn, a time that comes twice", "30 1 * * *", "America/New_York", "2026-11-01T00:00", "2026-11-02T12:00",
			"11-01 01:30 -0400, 11-02 01:30 -0500"},
		{"autumn, at the change", "0 1 * * *", "America/New_York", "2026-11-01T00:00", "2026-11-02T12:00",
			"11-01 01:00 -0400, 11-02 01:00 -0500"},
		{"autumn, the first that comes once", "0 2 * * *", "America/New_York", "2026-11-01T00:00", "2026-11-02T12:00",
			"11-01 02:00 -0500, 11-02 02:00 -0500"},
		{"autumn, asked between the two", "30 1 * * *", "America/New_York", "2026-11-01T06:10", "2026-11-02T12:00",
			"11-02 01:30 -0500"},
		{"autumn, hourly", "30 * * * *", "America/New_York", "2026-11-01T04:00", "2026-11-01T08:00",
			"11-01 00:30 -0400, 11-01 01:30 -0400, 11-01 01:30 -0500, 11-01 02:30 -0500"},
		{"autumn, @hourly", "@hourly", "America/New_York", "2026-11-01T04:30", "2026-11-01T07:30",
			"11-01 01:00 -0400, 11-01 01:00 -0500, 11-01 02:00 -0500"},
		{"autumn, every other hour", "0 1-23/2 * * *", "America/New_York", "2026-11-01T04:30", "2026-11-01T08:30",
			"11-01 01:00 -0400, 11-01 03:00 -0500"},
		{"autumn, a window goes on through both", "*/30 1 * * *", "America/New_York", "2026-11-01T04:30", "2026-11-01T08:30",
			"11-01 01:00 -0400, 11-01 01:30 -0400, 11-01 01:00 -0500, 11-01 01:30 -0500"},
		{"every ten minutes counts elapsed time", "@every 30m", "America/New_York", "2026-11-01T05:15", "2026-11-01T06:45",
			"11-01 01:30 -0400, 11-01 01:00 -0500, 11-01 01:30 -0500"},
		// Berlin, another year: 31 March and 27 October 2024, at 1:00 UTC.
		{"Berlin, spring", "15 2 * * *", "Europe/Berlin", "2024-03-30T12:00", "2024-04-01T12:00",
			"03-31 03:00 +0200, 04-01 02:15 +0200"},
		{"Berlin, autumn", "15 2 * * *", "Europe/Berlin", "2024-10-26T12:00", "2024-10-28T12:00",
			"10-27 02:15 +0200, 10-28 02:15 +0100"},
		// Midnight itself may be skipped, or come twice.
		{"São Paulo, midnight skipped", "@daily", "America/Sao_Paulo", "2018-11-03T12:00", "2018-11-05T12:00",
			"11-04 01:00 -0200, 11-05 00:00 -0200"},
		{"São Paulo, the hour to midnight twice", "30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00", "2018-02-19T12:00",
			"02-17 23:30 -0200, 02-18 23:30 -0300"},
		{"Cairo, midnight skipped", "0 0 * * *", "Africa/Cairo", "2024-04-25T12:00", "2024-04-27T12:00",
			"04-26 01:00 +0300, 04-27 00:00 +0300"},
		{"Havana, midnight twice", "0 0 * * *", "America/Havana", "2025-11-01T12:00", "2025-11-03T12:00",
			"11-02 00:00 -0400, 11-03 00:00 -0500"},
		// Changes that are not of an hour, and seasons the other way round.
		{"Lord Howe, half an hour, spring", "15 2 * * *", "Australia/Lord_Howe", "2025-10-04T00:00", "2025-10-06T00:00",
			"10-05 02:30 +1100, 10-06 02:15 +1100"},
		{"Lord Howe, half an hour, autumn", "45 1 * * *", "Australia/Lord_Howe", "2025-04-05T00:00", "2025-04-07T00:00",
			"04-06 01:45 +1100, 04-07 01:45 +1030"},
		{"Troll, two hours", "30 2 * * *", "Antarctica/Troll", "2025-03-29T12:00", "2025-03-31T12:00",
			"03-30 03:00 +0200, 03-31 02:30 +0200"},
		{"Apia, a whole day skipped", "0 9 * * *", "Pacific/Apia", "2011-12-29T12:00", "2011-12-31T12:00",
			"12-29 09:00 -1000, 12-31 00:00 +1400, 12-31 09:00 +1400"},
		{"Casablanca, Ramadan", "30 2 * * *", "Africa/Casablanca", "2025-02-22T12:00", "2025-02-24T12:00",
			"02-23 02:30 +0100, 02-24 02:30 +0000"},
		{"Casablanca, after Ramadan", "30 2 * * *", "Africa/Casablanca", "2025-04-05T12:00", "2025-04-07T12:00",
			"04-06 03:00 +0100, 04-07 02:30 +0100"},
		{"Dublin, whose winter is the exception", "30 1 * * *", "Europe/Dublin", "2026-10-24T12:00", "2026-10-26T12:00",
			"10-25 01:30 +0100, 10-26 01:30 +0000"},
		{"no changes", "30 2 * * *", "Asia/Kolkata", "2026-03-07T12:00", "2026-03-09T12:00",
			"03-08 02:30 +0530, 03-09 02:30 +0530"},
		// Far from now, where the zone's rule is all there is.
		{"2060, spring", "30 2 * * *", "America/New_York", "2060-03-13T12:00", "2060-03-15T12:00",
			"03-14 03:00 -0400, 03-15 02:30 -0400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, err := time.Parse("2006-01-02T15:04", c.from)
			if err != nil {
				t.Fatal(err)
			}
			to, err := time.Parse("2006-01-02T15:04", c.to)
			if err != nil {
				t.Fatal(err)
			}
			s := mustParse(t, c.line, c.zone)
			var got []string
			for at := s.Next(from); at.Before(to); at = s.Next(at) {
				got = append(got, at.Format("01-02 15:04 -0700"))
			}
			if g := strings.Join(got, ", "); g != c.want {
				t.Errorf("%s in %s\n got %s\nwant %s", c.line, c.zone, g, c.want)
			}
		})
	}
}

// minutes is what a day's walk with a clock in hand finds: each minute at which
// a schedule comes, by looking at every minute of a span. It knows the rules
// and shares no code with Next.
func minutes(s *Schedule, spec *cron.SpecSchedule, zone *time.Location, from, to time.Time) (out []time.Time) {
	match := func(t time.Time) bool {
		day := spec.Dom&(1<<t.Day()) != 0
		week := spec.Dow&(1<<t.Weekday()) != 0
		const star = 1 << 63
		either := day && week
		if spec.Dom&star == 0 && spec.Dow&star == 0 {
			either = day || week
		}
		return either && spec.Month&(1<<t.Month()) != 0 && spec.Hour&(1<<t.Hour()) != 0 && spec.Minute&(1<<t.Minute()) != 0
	}
	shown := func(t time.Time) time.Time { // what the clock shows, as UTC
		t = t.In(zone)
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC)
	}
	seen := map[time.Time]bool{}
	highest := shown(from.Add(-48 * time.Hour))
	for t := from.Add(-48 * time.Hour); t.Before(to); t = t.Add(time.Minute) {
		clock := shown(t)
		due := match(clock)
		if due && seen[clock] && !s.everyHour && !s.manyMinutes {
			due = false // it came before the clock was set back
		}
		if !s.everyHour && clock.Sub(highest) > time.Minute {
			for skipped := highest.Add(time.Minute); skipped.Before(clock); skipped = skipped.Add(time.Minute) {
				due = due || match(skipped)
			}
		}
		if due && t.After(from) {
			out = append(out, t)
		}
		seen[clock] = true
		// A clock set back and forward again skips what it has not shown.
		highest = clock
	}
	return out
}

// TestAgainstAWalk compares Next, over spans around changes of the clock, with
// a walk from minute to minute.
func TestAgainstAWalk(t *testing.T) {
	zones := []string{
		"America/New_York", "Europe/Berlin", "Europe/Dublin", "America/Sao_Paulo", "Africa/Cairo", "Australia/Lord_Howe",
		"Antarctica/Troll", "Africa/Casablanca", "America/Havana", "Pacific/Chatham", "Asia/Tehran", "America/St_Johns", "UTC",
	}
	lines := []string{
		"* * * * *", "*/7 * * * *", "0 * * * *", "59 * * * *", "0 0 * * *", "30 2 * * *", "0 3 * * *", "15,45 1-3 * * *",
		"*/10 2 * * *", "0 */2 * * *", "0 */3 * * 0", "5 0 1 * *", "30 1 * 3,10,11 0", "0-20/5 0-4 * * 6,0", "? 1 * * ?", "59 23 * * *",
	}
	n := 0
	for _, name := range zones {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for year := 2014; year <= 2038; year += 3 {
			var spans []time.Time
			at := time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC)
			for range 4 {
				_, end := at.In(zone).ZoneBounds()
				if end.IsZero() || end.Year() > year {
					break
				}
				spans = append(spans, end)
				at = end
			}
			if len(spans) == 0 {
				spans = append(spans, at)
			}
			for i, change := range spans {
				line := lines[(n+i)%len(lines)]
				n += 5
				s := mustParse(t, line, name)
				from := change.Add(-26 * time.Hour).Truncate(time.Minute)
				to := change.Add(26 * time.Hour)
				parsed, err := cron.ParseStandard(line)
				if err != nil {
					t.Fatal(err)
				}
				want := minutes(s, parsed.(*cron.SpecSchedule), zone, from, to)
				var got []time.Time
				for next := s.Next(from); !next.IsZero() && next.Before(to); next = s.Next(next) {
					got = append(got, next)
				}
				if len(got) != len(want) {
					t.Errorf("%s in %s around %s: %d times, want %d", line, name, change.In(zone), len(got), len(want))
					continue
				}
				for i := range got {
					if !got[i].Equal(want[i]) {
						t.Errorf("%s in %s: %s, want %s", line, name, got[i], want[i].In(zone))
						break
					}
				}
			}
		}
	}
}

// TestNextFromAnywhere: the next time does not depend on when it is asked for
// within the time before it.
func TestNextFromAnywhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, line := range []string{"30 2 * * *", "*/20 * * * *", "0 0 * * 0", "15 1-3 * * *", "@every 90s", "@hourly", "@monthly"} {
		for _, zone := range []string{"America/New_York", "Europe/Berlin", "Australia/Lord_Howe"} {
			s := mustParse(t, line, zone)
			for range 300 {
				at := time.Unix(1_700_000_000+rng.Int64N(100_000_000), rng.Int64N(1e9))
				next := s.Next(at)
				if !next.After(at) {
					t.Fatalf("%s in %s: %s does not come after %s", line, zone, next, at)
				}
				between := at.Add(time.Duration(rng.Int64N(int64(next.Sub(at)))))
				if again := s.Next(between); !again.Equal(next) {
					t.Fatalf("%s in %s: %s after %s, but %s after %s", line, zone, next, at, again, between)
				}
				if got := next.Location().String(); got != zone {
					t.Fatalf("in zone %s, want %s", got, zone)
				}
			}
		}
	}
}

func TestEvery(t *testing.T) {
	s := mustParse(t, "@every 7m", "UTC")
	at := time.Date(2026, 3, 1, 12, 0, 0, 1, time.UTC)
	first := s.Next(at)
	for i := range 10 {
		next := s.Next(first.Add(time.Duration(i) * 7 * time.Minute))
		if got := next.Sub(first); got != time.Duration(i+1)*7*time.Minute {
			t.Errorf("time %d comes %s after the first", i+1, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":                     "empty",
		"* * * *":              "exactly 5 fields",
		"* * * * * *":          "exactly 5 fields",
		"60 * * * *":           "above maximum",
		"@sometimes":           "unrecognized descriptor",
		"@every":               "unrecognized descriptor",
		"@every 0s":            "whole seconds",
		"@every -5m":           "whole seconds",
		"@every 1500ms":        "whole seconds",
		"TZ=UTC * * * * *":     "zone",
		"CRON_TZ=X":            "zone",
		"*/15 * * * * TZ=UTC ": "zone",
	} {
		if _, err := Parse(line, "UTC"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", line, err, want)
		}
	}
	for _, zone := range []string{"Local", "Mars/Olympus", "../etc/passwd"} {
		if _, err := Parse("@daily", zone); err == nil || !strings.Contains(err.Error(), "time zone") {
			t.Errorf("zone %q: %v", zone, err)
		}
	}
	if next := mustParse(t, "0 0 31 2 *", "UTC").Next(time.Now()); !next.IsZero() {
		t.Errorf("the 31st of February is at %s", next)
	}
}

// FuzzParse: no line brings the parser down, and what it takes has times that
// ascend.
func FuzzParse(f *testing.F) {
	for _, line := range []string{"*/15 * * * *", "@every 10m", "0 2 * * mon-fri", "TZ=UTC * * * * *", "@daily", "5/10 1,2 ? jan *", "@every 1h2m3s"} {
		f.Add(line, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, line, zone string) {
		s, err := Parse(line, zone)
		if err != nil {
			return
		}
		at := time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC)
		for range 5 {
			next := s.Next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) {
				t.Fatalf("%q in %q: %s does not come after %s", line, zone, next, at)
			}
			at = next
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, line := range []string{"*/15 * * * *", "30 2 * * *", "0 0 29 2 *"} {
		b.Run(fmt.Sprintf("line=%q", line), func(b *testing.B) {
			s := mustParse(b, line, "America/New_York")
			at := time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC)
			for b.Loop() {
				at = s.Next(at)
				if at.Year() > 2035 {
					at = at.AddDate(-9, 0, 0)
				}
			}
		})
	}
}
