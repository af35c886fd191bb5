package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coho/engine"
	"coho/engine/daemon"
	"coho/engine/server"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how each sync and sequence stands",
		Long: `Show how each sync and sequence stands: its last run and its schedule; and, of a
running ` + "`coho serve`" + `, when the schedule comes next, what is paused, what runs and
what waits for its turn.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.conduct(cmd.Context(), func(x *conducted) error {
				if x.daemon != nil {
					return c.daemonStatus(cmd.Context(), x.daemon)
				}
				paused, err := daemon.Paused(x.engine, x.config.StateDir)
				if err != nil {
					return err
				}
				var syncs []server.SyncState
				for _, name := range x.config.SyncNames() {
					last, err := x.engine.History().List(name, 1)
					if err != nil {
						return err
					}
					one := server.SyncState{Sync: name, Schedule: x.config.Syncs[name].Schedule, Paused: paused(daemon.Sync, name)}
					if len(last) > 0 {
						one.LastRun = last[0]
					}
					syncs = append(syncs, one)
				}
				var sequences []server.SequenceState
				for _, name := range slices.Sorted(maps.Keys(x.config.Sequences)) {
					last, err := x.engine.History().ListSequences(name, 1)
					if err != nil {
						return err
					}
					one := server.SequenceState{Sequence: name, Schedule: x.config.Sequences[name].Schedule, Paused: paused(daemon.Sequence, name)}
					if len(last) > 0 {
						one.LastRun = last[0]
					}
					sequences = append(sequences, one)
				}
				return c.showStatus(syncs, sequences, false)
			})
		},
	}
}

func (c *cli) daemonStatus(ctx context.Context, d *server.Client) error {
	syncs, err := d.Syncs(ctx)
	if err != nil {
		return err
	}
	sequences, err := d.Sequences(ctx)
	if err != nil {
		return err
	}
	return c.showStatus(syncs, sequences, true)
}

// syncStatus is what `coho status --json` prints of a sync.
type syncStatus struct {
	Sync     string      `json:"sync"`
	Schedule string      `json:"schedule,omitempty"`
	NextRun  *time.Time  `json:"next_run,omitempty"`
	Paused   bool        `json:"paused,omitempty"`
	Running  string      `json:"running,omitempty"`
	Queued   string      `json:"queued,omitempty"`
	LastRun  *engine.Run `json:"last_run"`
}

// showStatus prints how syncs and sequences stand. What comes next is known of a
// daemon's only.
func (c *cli) showStatus(syncs []server.SyncState, sequences []server.SequenceState, daemon bool) error {
	if c.json {
		for _, s := range syncs {
			c.printJSON(syncStatus{Sync: s.Sync, Schedule: s.Schedule, NextRun: s.NextRun, Paused: s.Paused, Running: s.Running, Queued: s.Queued, LastRun: s.LastRun})
		}
		return nil
	}
	tw := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	head := "SYNC\tLAST RUN\tSTATUS\tROWS\tOPERATIONS\tFAILED\tREJECTED\tSCHEDULE"
	if daemon {
		head += "\tNEXT RUN"
	}
	fmt.Fprintln(tw, head)
	for _, s := range syncs {
		line := s.Sync + "\tnever\t-\t-\t-\t-\t-"
		if r := s.LastRun; r != nil {
			line = fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", s.Sync, localTime(r.StartedAt), r.Status, comma(r.Rows.Read), comma(r.Operations.Total()), comma(r.Outcomes.Failed), comma(r.Rows.Rejected))
		}
		line += "\t" + scheduleText(s.Schedule, s.Paused && !daemon)
		if daemon {
			line += "\t" + nextText(s.NextRun, s.Paused, s.Running != "", s.Queued != "")
		}
		fmt.Fprintln(tw, line)
	}
	if len(sequences) > 0 {
		head := "\nSEQUENCE\tLAST RUN\tSTATUS\tSCHEDULE"
		if daemon {
			head += "\tNEXT RUN"
		}
		fmt.Fprintln(tw, head)
		for _, q := range sequences {
			line := q.Sequence + "\tnever\t-"
			if r := q.LastRun; r != nil {
				line = fmt.Sprintf("%s\t%s\t%s", q.Sequence, localTime(r.StartedAt), r.Status)
			}
			line += "\t" + scheduleText(q.Schedule, q.Paused && !daemon)
			if daemon {
				line += "\t" + nextText(q.NextRun, q.Paused, q.Running, false)
			}
			fmt.Fprintln(tw, line)
		}
	}
	return tw.Flush()
}

func scheduleText(line string, paused bool) string {
	if paused {
		return dash(line) + " (paused)"
	}
	return dash(line)
}

// nextText says when a schedule comes next and what is so now.
func nextText(next *time.Time, paused, running, queued bool) string {
	text := "-"
	if next != nil {
		text = localTime(*next)
	}
	if paused {
		text = "paused"
	}
	switch {
	case running:
		text += " (running)"
	case queued:
		text += " (queued)"
	}
	return text
}
