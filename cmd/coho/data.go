package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"coho/engine"
)

// showData prints how a model's rows fit, as a table and a line for each thing that
// does not.
func showData(w io.Writer, d *engine.Data) {
	fmt.Fprintf(w, "  %s read\n", plural(d.Rows, "row"))
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "  FIELD\tFROM\tTYPE\tSALESFORCE\tLONGEST\tNULLS\tDO NOT FIT")
	fields := d.Fields
	if d.Match != nil {
		fields = append([]engine.DataField{*d.Match}, fields...)
	}
	for i, f := range fields {
		longest := "-"
		if f.Length > 0 {
			longest = strconv.Itoa(f.Longest)
		}
		name := f.Field
		if i == 0 && d.Match != nil {
			name += " (match)"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, f.From, dash(f.SourceType), f.Type, longest, comma(f.Nulls), comma(f.Unfit))
	}
	_ = tw.Flush() // as Fprintf: an output that is gone is no error here
	if d.NullKeys > 0 {
		fmt.Fprintf(w, "  %s without a primary key: none of them can be sent\n", plural(d.NullKeys, "row"))
	}
	showRepeated(w, d.RepeatedKeys, "primary keys", "none of them can be sent")
	for i, f := range fields {
		if f.Required && f.Nulls > 0 {
			what := "a record needs a value"
			if i == 0 && d.Match != nil {
				what = "no record is found without a match value"
			}
			fmt.Fprintf(w, "  %s: %s null: %s\n", f.Field, plural(f.Nulls, "row"), what)
		}
		for _, why := range f.Examples {
			fmt.Fprintf(w, "  %s: %s\n", f.Field, oneLine(why))
		}
	}
	showRepeated(w, d.RepeatedMatches, "match values", "one row at most can have the record")
	if d.Note != "" {
		fmt.Fprintf(w, "  %s\n", d.Note)
	}
}

func showRepeated(w io.Writer, r engine.Repeated, what, so string) {
	if r.Values == 0 {
		return
	}
	shown := make([]string, len(r.Examples))
	for i, e := range r.Examples {
		shown[i] = strconv.Quote(e)
	}
	fmt.Fprintf(w, "  repeated %s: %s in %s (%s): %s\n", what, comma(r.Values), plural(r.Rows, "row"), strings.Join(shown, ", "), so)
}
