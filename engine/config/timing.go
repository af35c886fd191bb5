package config

import (
	"strings"
	"time"

	"coho/engine/schedule"
	"coho/models"
)

// schedules reads what holds for every schedule that says nothing else.
func (d *decoder) schedules(e *entry) {
	n := &node{kind: tableKind}
	if e != nil {
		n = e.value
	}
	d.timing = models.Timing{CatchUp: "skip", Overlap: "skip"}
	t := d.newTable(n, "schedules", "schedules")
	if t == nil {
		return
	}
	d.timing = t.timing(d.timing)
	t.done()
}

// timing reads how a schedule's times are kept; def is what holds where nothing
// is said.
func (t *table) timing(def models.Timing) models.Timing {
	return models.Timing{
		Jitter:  t.durationOr("jitter", def.Jitter),
		CatchUp: t.choice("catch_up", def.CatchUp, "skip", "once"),
		Overlap: t.choice("overlap", def.Overlap, "skip", "queue"),
	}
}

// someDay is where looking for a schedule's next time begins: the answer to
// whether there is one at all must not depend on the day of asking. cron
// looks five years ahead, which includes a leap day.
var someDay = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// schedule returns an optional cron line.
func (t *table) schedule(key string) string {
	line := t.str(key)
	if line == "" {
		return ""
	}
	v := t.value(key)
	if strings.Contains(line, "TZ=") {
		t.fail(v.pos, "%s: %s: the zone goes into the key timezone", key, v.shown())
		return ""
	}
	s, err := schedule.Parse(line, "")
	if err != nil {
		why := err.Error()
		if v.raw != v.text {
			why = "not a cron line"
		}
		t.fail(v.pos, "%s: %s: %s (five fields such as \"*/15 * * * *\", @hourly, or @every 10m)", key, v.shown(), why)
		return ""
	}
	if s.Next(someDay).IsZero() {
		t.fail(v.pos, "%s: %s never comes", key, v.shown())
		return ""
	}
	return line
}

// timezone returns the name of a time zone, UTC where there is none.
func (t *table) timezone(key string) string {
	name := t.str(key)
	if name == "" {
		return "UTC"
	}
	if _, err := schedule.Zone(name); err != nil {
		v := t.value(key)
		t.fail(v.pos, "%s: %s is not a time zone such as UTC or America/New_York", key, v.shown())
		return "UTC"
	}
	return name
}
