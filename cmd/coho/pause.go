package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coho/engine/daemon"
)

func (c *cli) pauseCommand() *cobra.Command {
	return c.scheduleCommand("pause", "Stop the schedules of syncs and sequences until they are resumed",
		"Runs that are asked for go on as ever, and so does a run that is under way. A pause outlives the daemon, and may be made while none runs.", true)
}

func (c *cli) resumeCommand() *cobra.Command {
	return c.scheduleCommand("resume", "Take schedules up again that were paused",
		"The next run is the schedule's next; times that passed meanwhile are not caught up.", false)
}

func (c *cli) scheduleCommand(verb, short, long string, pause bool) *cobra.Command {
	var sequence bool
	cmd := &cobra.Command{
		Use:               verb + " NAME...",
		Short:             short,
		Long:              short + ".\n" + long,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: c.completeSyncs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conductState(cmd.Context(), func(x *conducted) error {
				kind := daemon.Sync
				if sequence {
					kind = daemon.Sequence
				}
				if err := x.setPaused(cmd.Context(), kind, args, pause); err != nil {
					return err
				}
				for _, name := range args {
					if c.json {
						c.printJSON(map[string]any{string(kind): name, "paused": pause})
						continue
					}
					if _, err := fmt.Fprintf(c.stdout, "%s %s: schedule %sd\n", kind, name, verb); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&sequence, "sequence", false, "the names are of sequences")
	return cmd
}

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its config again",
		Long: `Have the daemon read its config again, as a SIGHUP does. A config with mistakes is
refused and the old one kept. Runs under way end by the config they began with.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// This process's own look at the config says what is wrong with
			// file, line and column, and the daemon need not be asked.
			return c.with(func(w *wired) error {
				d, err := dialQuietly(cmd.Context(), w)
				if err != nil {
					return err
				}
				x := &conducted{wired: w, daemon: d}
				if err := x.needDaemon(); err != nil {
					return err
				}
				defer d.Close()
				if err := d.Reload(cmd.Context()); err != nil {
					return err
				}
				if c.json {
					c.printJSON(map[string]any{"reloaded": true})
					return nil
				}
				_, err = fmt.Fprintln(c.stdout, "the daemon has read its config again")
				return err
			})
		},
	}
}
