package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"coho/sources"
)

// typeShown is a type in the answer of validate --live-types.
type typeShown struct {
	Type     string  `json:"type"`
	Expr     string  `json:"expr"`
	Expected *string `json:"expected"` // null for NULL
	Arrived  *string `json:"arrived"`
	OK       bool    `json:"ok"`
	Error    string  `json:"error,omitempty"`
}

// validateTypes asks a source for a value of each of its types, and shows what
// arrived.
func (c *cli) validateTypes(ctx context.Context, w *wired, name string) error {
	if _, ok := w.config.Sources[name]; !ok {
		return &flagError{fmt.Errorf("no source is named %q", name)}
	}
	s, err := w.openSource(name)
	if err != nil {
		return err
	}
	prober, ok := s.(sources.TypeProber)
	if !ok {
		return errors.Join(fmt.Errorf("source %q has no list of its types", name), s.Close())
	}
	probed := sources.Probe(ctx, s, prober.TypeProbes())
	if err := s.Close(); err != nil {
		return fmt.Errorf("close source %q: %w", name, err)
	}
	shown, bad := make([]typeShown, len(probed)), 0
	for i, p := range probed {
		shown[i] = typeShown{Type: p.Type, Expr: p.Expr, OK: p.OK}
		if !p.Null {
			shown[i].Expected = &p.Text
		}
		switch {
		case p.Err != nil:
			shown[i].Error = oneLine(p.Err.Error())
		case !p.GotNull:
			shown[i].Arrived = &p.Got
		}
		if !p.OK {
			bad++
		}
	}
	if c.json {
		c.printJSON(struct {
			Source string      `json:"source"`
			OK     bool        `json:"ok"`
			Types  []typeShown `json:"types"`
		}{name, bad == 0, shown})
	} else if err := c.showTypes(shown); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("source %s: %d of %d types differ", name, bad, len(shown))
	}
	return nil
}

func (c *cli) showTypes(shown []typeShown) error {
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TYPE\tARRIVED\tEXPECTED\t") // errors come with Flush
	text := func(s *string) string {
		if s == nil {
			return "NULL"
		}
		return fmt.Sprintf("%q", *s)
	}
	for _, s := range shown {
		verdict, arrived := "ok", text(s.Arrived)
		switch {
		case s.Error != "":
			verdict, arrived = "differs", s.Error
		case !s.OK:
			verdict = "differs"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Type, arrived, text(s.Expected), verdict)
	}
	return t.Flush()
}
