package main

import (
	"errors"

	"github.com/spf13/cobra"

	"coho/engine"
)

func (c *cli) runCommand() *cobra.Command {
	var full, approve, dryRun, all bool
	var sequence string
	cmd := &cobra.Command{
		Use:   "run SYNC...",
		Short: "Run syncs now",
		Long: `Run syncs now: read the model, plan what changed, check the guards, apply the
plan. A plan that an earlier run left unfinished is finished first.

` + exitCodeHelp,
		Example: `  coho run accounts contacts
  coho run --sequence nightly
  coho run --all --json
  coho run accounts --approve     # go on with the plan that a guard halted`,
		ValidArgsFunction: c.completeSyncs,
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen := 0
			for _, b := range []bool{len(args) > 0, sequence != "", all} {
				if b {
					chosen++
				}
			}
			if chosen != 1 {
				return &flagError{errors.New("coho run: name syncs, or give --sequence NAME, or --all")}
			}
			w, err := c.wire()
			if err != nil {
				return err
			}
			defer w.close()
			names := args
			if all {
				names = w.engine.AllSyncs()
			}
			if dryRun {
				if sequence != "" {
					s, err := w.engine.Sequence(sequence)
					if err != nil {
						return err
					}
					for _, step := range s.Steps {
						names = append(names, step...)
					}
				}
				return c.plan(cmd.Context(), w, names, full, false)
			}
			c.writing.Store(true)
			live := c.newLive()
			defer live.close()
			o := engine.RunOptions{Full: full, Approve: approve, Trigger: "cli", Abort: c.abort}
			failedRows := false
			printed := 0
			each := func(ended engine.Ended) {
				live.end(ended.Sync)
				if ended.Run == nil {
					return
				}
				printed++
				failedRows = failedRows || ended.Run.Status == engine.CompletedWithErrors
				c.showRun(ended.Run)
			}
			if sequence != "" {
				err = w.engine.RunSequence(cmd.Context(), sequence, o, live.begin, each)
			} else {
				err = w.engine.RunSyncs(cmd.Context(), names, o, live.begin, each)
			}
			if err == nil && failedRows {
				return errRowsFailed
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&sequence, "sequence", "", "run the syncs of this sequence, step by step")
	f.BoolVar(&all, "all", false, "run every sync, parents before those that look them up")
	f.BoolVar(&full, "full", false, "send every row again; forget state bound to another org, object, match field or primary key")
	f.BoolVar(&approve, "approve", false, "pass the guards; where a run was halted by one, go on with that very plan")
	f.BoolVar(&dryRun, "dry-run", false, "same as coho plan")
	return cmd
}

// showRun prints a run's record.
func (c *cli) showRun(r *engine.Run) {
	if c.json {
		c.printJSON(r)
		return
	}
	showRun(c.stdout, r)
}
