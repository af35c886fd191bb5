package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"coho/engine"
)

// preview shows one row of a sync.
func (c *cli) preview(ctx context.Context, x *conducted, sync string, parts []string, detailed bool) error {
	var p *engine.Preview
	var err error
	if x.daemon != nil {
		p, err = x.daemon.Preview(ctx, sync, parts)
	} else {
		var key []string
		if key, err = x.engine.RowKey(sync, parts); err == nil {
			p, err = x.engine.Preview(ctx, sync, key)
		}
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", sync, err)
	}
	if c.json {
		c.printJSON(p)
	} else {
		showPreview(c.stdout, p)
	}
	if detailed && p.Operation != "unchanged" && p.Operation != "rejected" && p.Operation != "nothing" {
		return errChanges
	}
	return nil
}

func showPreview(w io.Writer, p *engine.Preview) {
	fmt.Fprintf(w, "%s: row %s\n", p.Sync, keyText(p.Key))
	fmt.Fprintf(w, "  %s: %s\n", p.Operation, strings.TrimSpace(p.Code+" "+p.Why))
	for _, f := range p.Changes {
		held := ""
		if slices.Contains(p.Equal, f.Field) {
			held = ", which the org holds already"
		}
		fmt.Fprintf(w, "    %s: %s -> %s%s\n", f.Field, cellText(f.Before, "(nothing)"), cellText(f.After, "null"), held)
	}
	switch {
	case p.InModel == 0:
		fmt.Fprintf(w, "  model: no such row\n")
	case p.InModel == 1:
		fmt.Fprintf(w, "  model:\n")
	default:
		fmt.Fprintf(w, "  model: %d rows, the first is\n", p.InModel)
	}
	value := func(text *string, bad string) string {
		if bad != "" {
			return "error: " + oneLine(bad)
		}
		return cellText(text, "null")
	}
	for _, col := range p.Columns {
		fmt.Fprintf(w, "    %s (%s) = %s\n", col.Name, col.Type, value(col.Value, col.Error))
	}
	if len(p.Fields) > 0 || p.Match != nil {
		fmt.Fprintf(w, "  mapping:\n")
	}
	if m := p.Match; m != nil {
		fmt.Fprintf(w, "    %s = %s, the match, from %s\n", m.Field, value(m.Value, m.Error), m.From)
	}
	for _, f := range p.Fields {
		fmt.Fprintf(w, "    %s = %s, from %s\n", f.Field, value(f.Value, f.Error), f.From)
	}
	for _, l := range p.Lookups {
		fmt.Fprintf(w, "    lookup %s\n", l)
	}
	if s := p.Snapshot; s == nil {
		fmt.Fprintf(w, "  snapshot: nothing\n")
	} else {
		fmt.Fprintf(w, "  snapshot: record %s\n", dash(s.ID))
		showCells(w, s.Fields)
		if s.Gone {
			fmt.Fprintf(w, "    the row had left the model\n")
		}
		if s.Refused != "" {
			fmt.Fprintf(w, "    last refused with %s\n", s.Refused)
		}
	}
	if len(p.Org) == 0 {
		fmt.Fprintf(w, "  org: no such record\n")
	}
	for _, r := range p.Org {
		fmt.Fprintf(w, "  org: record %s\n", r.ID)
		showCells(w, r.Fields)
	}
	for _, text := range p.Warnings {
		fmt.Fprintf(w, "  warning: %s\n", text)
	}
}

func showCells(w io.Writer, fields map[string]*string) {
	for _, n := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(w, "    %s = %s\n", n, cellText(fields[n], "null"))
	}
}
