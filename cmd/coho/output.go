package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"coho/engine"
)

// printJSON prints one document a line.
func (c *cli) printJSON(v any) {
	enc := json.NewEncoder(c.stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		fmt.Fprintln(c.stderr, "coho: "+err.Error())
	}
}

func showRun(w io.Writer, r *engine.Run) {
	head := fmt.Sprintf("%s: %s", r.Sync, statusText(r.Status))
	if r.FinishedAt != nil {
		head += " in " + took(r)
	}
	fmt.Fprintf(w, "%s  (run %s)\n", head, r.ID)
	if len(r.Key) > 0 {
		fmt.Fprintf(w, "  this row alone: %s\n", keyText(r.Key))
	}
	if r.Resumed != "" {
		fmt.Fprintf(w, "  finished first: what run %s had left\n", r.Resumed)
	}
	if r.Status != engine.Failed || r.Rows.Read+r.Operations.Total() > 0 {
		showRows(w, r)
	}
	if r.Outcomes != nil && (r.Operations.Total() > 0 || r.Outcomes.Total() > 0) {
		o := r.Outcomes
		fmt.Fprintf(w, "  outcomes    %s\n", counts("none", count{"created", o.Created}, count{"updated", o.Updated}, count{"deleted", o.Deleted}, count{"cleared", o.Cleared}, count{"skipped", o.Skipped}, count{"deactivated", o.Deactivated}, count{"failed", o.Failed}, count{"held", o.Held}))
		if o.Equal > 0 {
			fmt.Fprintf(w, "  equal       %s of the skipped held all of it in the org already: nothing was sent\n", plural(o.Equal, "row"))
		}
		if o.Unknown > 0 {
			fmt.Fprintf(w, "  unknown     %s whose answer was lost, so nobody can say whether it was published\n", plural(o.Unknown, "event"))
		}
	}
	if r.API != nil {
		line := plural(r.API.Calls, "call")
		if r.API.BulkJobs > 0 {
			line += ", " + plural(r.API.BulkJobs, "bulk job")
		}
		if r.API.Remaining >= 0 {
			line += ", " + comma(r.API.Remaining) + " left today"
		}
		fmt.Fprintf(w, "  api         %s\n", line)
	}
	if r.Choice != "" && r.Operations.Total() > 0 {
		fmt.Fprintf(w, "  api used    %s\n", r.Choice)
	}
	showTail(w, r)
	if r.Status == engine.Halted {
		showSamples(w, r.Samples, "archive", "clear_fields")
		if len(r.Samples) > 0 {
			fmt.Fprintf(w, "  all of it: coho runs plan %s; go on with that very plan: coho run %s --approve\n", r.ID, r.Sync)
		}
	}
	if len(r.Errors) > 0 {
		fmt.Fprintf(w, "  rows: coho runs errors %s\n", r.ID)
	}
}

func showRows(w io.Writer, r *engine.Run) {
	c := r.Rows
	fmt.Fprintf(w, "  rows        %s read: %s\n", comma(c.Read), counts("none", count{"unchanged", c.Unchanged}, count{"added", c.Added}, count{"changed", c.Changed}, count{"removed", c.Removed}, count{"rejected", c.Rejected}))
	fmt.Fprintf(w, "  operations  %s\n", operationsText(r.Operations))
}

func operationsText(o engine.OperationCounts) string {
	return counts("none: nothing to send", count{"insert", o.Insert}, count{"update", o.Update}, count{"upsert", o.Upsert}, count{"archive", o.Archive}, count{"clear_fields", o.ClearFields})
}

func showTail(w io.Writer, r *engine.Run) {
	for _, e := range r.Errors {
		fmt.Fprintf(w, "  %s: %s, such as: %s\n", e.Code, plural(e.Count, "row"), oneLine(e.Example))
	}
	for _, x := range r.Warnings {
		fmt.Fprintf(w, "  warning: %s\n", x)
	}
}

func showPlan(w io.Writer, r *engine.Run) {
	fmt.Fprintf(w, "%s: plan\n", r.Sync)
	showRows(w, r)
	if len(r.Fields) > 0 {
		names := make([]string, 0, len(r.Fields))
		for n := range r.Fields {
			names = append(names, n)
		}
		sort.Slice(names, func(i, j int) bool {
			if r.Fields[names[i]] != r.Fields[names[j]] {
				return r.Fields[names[i]] > r.Fields[names[j]]
			}
			return names[i] < names[j]
		})
		parts := make([]string, len(names))
		for i, n := range names {
			parts[i] = n + " " + comma(r.Fields[n])
		}
		fmt.Fprintf(w, "  fields      %s\n", strings.Join(parts, ", "))
	}
	if r.Estimate != nil && r.Operations.Total() > 0 {
		line := "about " + plural(r.Estimate.APICalls, "call")
		if r.Estimate.BulkJobs > 0 {
			line += ", " + plural(r.Estimate.BulkJobs, "bulk job")
		}
		if r.Choice != "" {
			line += "; " + r.Choice
		}
		fmt.Fprintf(w, "  api         %s\n", line)
		if r.Estimate.AtMost != "" {
			fmt.Fprintf(w, "  at most     %s\n", r.Estimate.AtMost)
		}
	}
	if r.Estimate != nil && r.Estimate.BytesBilled > 0 {
		fmt.Fprintf(w, "  warehouse   the query bills %s\n", bytesText(r.Estimate.BytesBilled))
	}
	if r.Operations.Total() > 0 {
		for _, l := range r.Lookups {
			fmt.Fprintf(w, "  lookup      %s\n", l)
		}
	}
	showSamples(w, r.Samples)
	showTail(w, r)
}

// shownSamples is how many samples of a kind people are shown; --json has all.
const shownSamples = 3

// showSamples prints sampled operations, of all kinds or of those named.
func showSamples(w io.Writer, samples []engine.Sample, kinds ...string) {
	shown := map[string]int{}
	for _, s := range samples {
		if shown[s.Operation]++; shown[s.Operation] > shownSamples {
			continue
		}
		if len(kinds) > 0 && !strings.Contains(strings.Join(kinds, " "), s.Operation) {
			continue
		}
		line := fmt.Sprintf("  %-13s%s", s.Operation, keyText(s.Key))
		if s.ID != "" {
			line += " " + s.ID
		}
		fmt.Fprintln(w, line)
		for _, f := range s.Fields {
			if s.Operation == "archive" {
				fmt.Fprintf(w, "    %s: %s\n", f.Field, cellText(f.Before, "(empty)"))
				continue
			}
			fmt.Fprintf(w, "    %s: %s -> %s\n", f.Field, cellText(f.Before, "(not written yet)"), cellText(f.After, "(cleared)"))
		}
	}
}

func showChecked(w io.Writer, ch engine.Checked) {
	if len(ch.Problems) == 0 {
		fmt.Fprintf(w, "%s: ok\n", ch.Sync)
	} else {
		fmt.Fprintf(w, "%s: %s\n", ch.Sync, plural(int64(len(ch.Problems)), "problem"))
	}
	if ch.DBTModel != "" {
		fmt.Fprintf(w, "  %s%s\n", ch.DBTModel, after(": ", oneLine(ch.Description)))
	}
	for _, p := range ch.Problems {
		fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(p, "\n", "\n  "))
	}
	for _, x := range ch.Warnings {
		fmt.Fprintf(w, "  warning: %s\n", x)
	}
	if ch.BytesBilled > 0 {
		fmt.Fprintf(w, "  the query bills %s\n", bytesText(ch.BytesBilled))
	}
	if ch.Data != nil {
		showData(w, ch.Data)
	}
}

// after is a text with a separator before it, "" where there is no text.
func after(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

type count struct {
	name string
	n    int64
}

// counts lists the counts that are not zero.
func counts(none string, cs ...count) string {
	var parts []string
	for _, c := range cs {
		if c.n != 0 {
			parts = append(parts, comma(c.n)+" "+c.name)
		}
	}
	if len(parts) == 0 {
		return none
	}
	return strings.Join(parts, ", ")
}

func statusText(s engine.Status) string { return strings.ReplaceAll(string(s), "_", " ") }

func took(r *engine.Run) string {
	if r.FinishedAt == nil {
		return "-"
	}
	d := r.FinishedAt.Sub(r.StartedAt)
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func comma(n int64) string {
	s := strconv.FormatInt(n, 10)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		return "-" + s
	}
	return s
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return comma(n) + " " + what + "s"
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return plural(n, "byte")
	case n < 1<<20-51: // 1,023.95 KiB and more would round to 1,024.0
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func keyText(key map[string]string) string {
	names := make([]string, 0, len(key))
	for n := range key {
		names = append(names, n)
	}
	sort.Strings(names)
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + "=" + key[n]
	}
	if len(parts) == 0 {
		return "(no key)"
	}
	return strings.Join(parts, " ")
}

func cellText(s *string, null string) string {
	if s == nil {
		return null
	}
	t := oneLine(*s)
	if r := []rune(t); len(r) > 60 {
		t = string(r[:57]) + "..."
	}
	return strconv.Quote(t)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}
