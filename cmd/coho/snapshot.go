package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Look at, move or forget what is known of a sync's records",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:               "show SYNC",
			Short:             "Show what the snapshot holds",
			Args:              usageArgs(cobra.ExactArgs(1)),
			ValidArgsFunction: c.completeSyncs,
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.conductState(cmd.Context(), func(x *conducted) error {
					info, err := x.snapshot(cmd.Context(), args[0])
					if err != nil {
						return err
					}
					if c.json {
						c.printJSON(info)
						return nil
					}
					if info.Org == "" {
						_, err := fmt.Fprintf(c.stdout, "sync %s has no state yet\n", info.Sync)
						return err
					}
					fmt.Fprintf(c.stdout, "sync %s: %s rows acknowledged by org %s (object %s, match %s, key %s), %s on disk\n", info.Sync, comma(info.Rows), info.Org, info.Object, dash(info.MatchField), strings.Join(info.PrimaryKey, ", "), bytesText(info.Bytes))
					if info.Gone > 0 {
						fmt.Fprintf(c.stdout, "  %s more left the model, their records were left in place\n", comma(info.Gone))
					}
					if info.Refused > 0 {
						fmt.Fprintf(c.stdout, "  %s were refused by the org in their last run\n", comma(info.Refused))
					}
					if info.Unfinished != "" {
						fmt.Fprintf(c.stdout, "  the plan of run %s is not finished\n", info.Unfinished)
					}
					return nil
				})
			},
		},
		c.snapshotResetCommand(),
		&cobra.Command{
			Use:               "export SYNC",
			Short:             "Print the snapshot, a JSON document a row",
			Args:              usageArgs(cobra.ExactArgs(1)),
			ValidArgsFunction: c.completeSyncs,
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.conductState(cmd.Context(), func(x *conducted) error {
					out := bufio.NewWriter(c.stdout)
					return errors.Join(x.exportSnapshot(cmd.Context(), args[0], out), out.Flush())
				})
			},
		},
		&cobra.Command{
			Use:   "import SYNC FILE",
			Short: "Fill a sync's empty state from what export printed (FILE -: standard input)",
			Args:  usageArgs(cobra.ExactArgs(2)),
			RunE: func(cmd *cobra.Command, args []string) (err error) {
				in := cmd.InOrStdin()
				if args[1] != "-" {
					f, err := os.Open(args[1])
					if err != nil {
						return fmt.Errorf("read the export: %w", err)
					}
					defer func() { err = errors.Join(err, f.Close()) }()
					in = f
				}
				return c.conductState(cmd.Context(), func(x *conducted) error {
					return x.importSnapshot(cmd.Context(), args[0], in)
				})
			},
		},
	)
	return cmd
}

func (c *cli) snapshotResetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reset SYNC",
		Short: "Forget what is known of a sync's records; the next run takes every row for new",
		Long: `Forget what is known of a sync's records, and a plan left unfinished with it.
Nothing is sent. The next run takes every row for new: in upsert and update mode
it writes every record again, in insert mode it creates every record again.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: c.completeSyncs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conductState(cmd.Context(), func(x *conducted) error {
				if err := x.resetSnapshot(cmd.Context(), args[0]); err != nil {
					return err
				}
				if c.json {
					c.printJSON(map[string]any{"sync": args[0], "reset": true})
					return nil
				}
				_, err := fmt.Fprintf(c.stdout, "sync %s: state forgotten\n", args[0])
				return err
			})
		},
	}
}
