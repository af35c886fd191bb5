package emulator

import (
	"strings"
	"time"
)

// dateRange is what a date literal means: from is in it, to is not.
type dateRange struct{ from, to string }

func (r dateRange) text(f *field, t string) string {
	if f.kind == kindDatetime {
		return t + "T00:00:00.000Z"
	}
	return t
}

// dateLiteral resolves TODAY, LAST_N_DAYS:7 and their like (SOQL and SOSL
// Reference, "Date Formats and Date Literals"), in UTC. Weeks begin on Sunday;
// fiscal periods are those of the calendar.
func dateLiteral(name string, n int, now time.Time) (dateRange, bool) {
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	show := func(from, to time.Time) (dateRange, bool) {
		return dateRange{from.Format(time.DateOnly), to.Format(time.DateOnly)}, true
	}
	name = strings.Replace(name, "FISCAL_", "", 1)
	switch name {
	case "YESTERDAY":
		return show(day.AddDate(0, 0, -1), day)
	case "TODAY":
		return show(day, day.AddDate(0, 0, 1))
	case "TOMORROW":
		return show(day.AddDate(0, 0, 1), day.AddDate(0, 0, 2))
	case "LAST_90_DAYS":
		return show(day.AddDate(0, 0, -90), day.AddDate(0, 0, 1))
	case "NEXT_90_DAYS":
		return show(day.AddDate(0, 0, 1), day.AddDate(0, 0, 91))
	case "LAST_N_DAYS":
		return show(day.AddDate(0, 0, -n), day.AddDate(0, 0, 1))
	case "NEXT_N_DAYS":
		return show(day.AddDate(0, 0, 1), day.AddDate(0, 0, n+1))
	case "N_DAYS_AGO":
		return show(day.AddDate(0, 0, -n), day.AddDate(0, 0, 1-n))
	}
	if k := strings.TrimSuffix(name, "_AGO"); k != name && strings.HasPrefix(k, "N_") {
		return dateLiteralAgo(strings.TrimPrefix(k, "N_"), n, now)
	}
	unit := name[strings.LastIndexByte(name, '_')+1:]
	var start time.Time
	step := func(t time.Time, k int) time.Time { return t.AddDate(0, k, 0) }
	switch strings.TrimSuffix(unit, "S") {
	case "WEEK":
		start = day.AddDate(0, 0, -int(day.Weekday()))
		step = func(t time.Time, k int) time.Time { return t.AddDate(0, 0, 7*k) }
	case "MONTH":
		start = day.AddDate(0, 0, 1-day.Day())
	case "QUARTER":
		start = time.Date(day.Year(), (day.Month()-1)/3*3+1, 1, 0, 0, 0, 0, time.UTC)
		step = func(t time.Time, k int) time.Time { return t.AddDate(0, 3*k, 0) }
	case "YEAR":
		start = time.Date(day.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
		step = func(t time.Time, k int) time.Time { return t.AddDate(k, 0, 0) }
	default:
		return dateRange{}, false
	}
	switch strings.TrimSuffix(name, unit) {
	case "THIS_":
		return show(start, step(start, 1))
	case "LAST_":
		return show(step(start, -1), start)
	case "NEXT_":
		return show(step(start, 1), step(start, 2))
	case "LAST_N_":
		return show(step(start, -n), start)
	case "NEXT_N_":
		return show(step(start, 1), step(start, n+1))
	}
	return dateRange{}, false
}

// dateLiteralAgo resolves N_MONTHS_AGO:2 and the like.
func dateLiteralAgo(unit string, n int, now time.Time) (dateRange, bool) {
	switch unit {
	case "WEEKS":
		return dateLiteral("THIS_WEEK", 0, now.AddDate(0, 0, -7*n))
	case "MONTHS":
		return dateLiteral("THIS_MONTH", 0, time.Date(now.Year(), now.Month()-time.Month(n), 1, 0, 0, 0, 0, time.UTC))
	case "QUARTERS":
		return dateLiteral("THIS_QUARTER", 0, time.Date(now.Year(), now.Month()-time.Month(3*n), 1, 0, 0, 0, 0, time.UTC))
	case "YEARS":
		return dateLiteral("THIS_YEAR", 0, time.Date(now.Year()-n, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	return dateRange{}, false
}
