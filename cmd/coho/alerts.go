package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coho/engine"
	"coho/engine/alerts"
	"coho/engine/config"
)

func (c *cli) alertsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "List alerts; test them",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return c.with(func(w *wired) error { return c.showAlerts(w.config) })
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "test [NAME...]",
		Short: "Send a test message by alerts, all of them or those named",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(func(w *wired) error { return c.testAlerts(cmd.Context(), w, args) })
		},
	})
	return cmd
}

func (c *cli) showAlerts(cfg *config.Config) error {
	tw := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(tw, "ALERT\tON\tSYNCS")
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Alerts)) {
		a := cfg.Alerts[name]
		if c.json {
			if a.Syncs == nil {
				a.Syncs = []string{}
			}
			c.printJSON(struct {
				Alert string   `json:"alert"`
				On    []string `json:"on"`
				Syncs []string `json:"syncs"` // none: all
			}{name, a.On, a.Syncs})
			continue
		}
		syncs := "all"
		if len(a.Syncs) > 0 {
			syncs = strings.Join(a.Syncs, ", ")
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", name, strings.Join(a.On, ", "), syncs)
	}
	return tw.Flush()
}

func (c *cli) testAlerts(ctx context.Context, w *wired, names []string) error {
	all := slices.Sorted(maps.Keys(w.config.Alerts))
	if len(names) == 0 {
		names = all
	}
	if len(names) == 0 {
		return &engine.UsageError{Message: "the config has no [alerts.NAME]"}
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			return &engine.UsageError{Message: fmt.Sprintf("no alert is named %q; there is %s", name, strings.Join(all, ", "))}
		}
	}
	var errs []error
	for _, name := range names {
		err := w.alerts.Test(ctx, name)
		if err != nil {
			err = fmt.Errorf("alert %s: %w", name, err)
			errs = append(errs, err)
		}
		switch {
		case c.json:
			result := struct {
				Alert string `json:"alert"`
				Sent  bool   `json:"sent"`
				Error string `json:"error,omitempty"`
			}{Alert: name, Sent: err == nil}
			if err != nil {
				result.Error = err.Error()
			}
			c.printJSON(result)
		case err == nil:
			fmt.Fprintf(c.stdout, "%s: sent\n", name)
		}
	}
	return errors.Join(errs...)
}

// notifier makes the config's alerts. What is wrong with an address is a mistake
// of the config like any other.
func notifier(cfg *config.Config, log *slog.Logger) (*alerts.Notifier, error) {
	o := alerts.Options{StateDir: cfg.StateDir, Logger: log}
	for _, name := range slices.Sorted(maps.Keys(cfg.Alerts)) {
		a := cfg.Alerts[name]
		o.Alerts = append(o.Alerts, alerts.Alert{Name: a.Name, URL: a.URL, On: a.On, Syncs: a.Syncs, Pos: a.Pos})
	}
	n, err := alerts.New(o)
	if err != nil {
		return nil, &engine.UsageError{Message: err.Error()}
	}
	return n, nil
}

// caller says who runs this command, for the history.
func caller() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return "cli " + name + "@" + host
}
