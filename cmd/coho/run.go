package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coho/engine"
	"coho/engine/server"
)

func (c *cli) runCommand() *cobra.Command {
	var full, approve, dryRun, all bool
	var sequence, afterDBT string
	var key []string
	cmd := &cobra.Command{
		Use:   "run SYNC...",
		Short: "Run syncs now",
		Long: `Run syncs now: read the model, plan what changed, check the guards, apply the
plan. A plan that an earlier run left unfinished is finished first.

Beside a running ` + "`coho serve`" + ` the daemon runs them, and this command shows how far
they are; Ctrl-C stops those runs as it would stop its own: the first time gently,
the second at once. What a connection that is lost leaves running goes on.

With --key one row is sent alone: planned as the whole model's plan would have it
and sent whatever retry_rejected says, with --full all of its fields. Nothing else
is sent. While the plan of an earlier run waits the command refuses, since that may
hold the row too.

With --after-dbt, syncs whose dbt model failed or was skipped in that dbt run are
left out, each with a line that says why; that is no error, and the others run.

` + exitCodeHelp,
		Example: `  coho run accounts contacts
  coho run --sequence nightly
  coho run --all --after-dbt target/run_results.json
  coho run --all --json
  coho run accounts --key A17     # that row alone
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
			if len(key) > 0 && (len(args) != 1 || afterDBT != "") {
				return &flagError{errors.New("coho run --key: name one sync, without --after-dbt")}
			}
			if len(key) > 0 && dryRun {
				if full {
					return &flagError{errors.New("coho run --dry-run --key: without --full")}
				}
				return c.conductState(cmd.Context(), func(x *conducted) error { return c.preview(cmd.Context(), x, args[0], key, false) })
			}
			return c.conductState(cmd.Context(), func(x *conducted) error {
				var leaveOut map[string]string
				if afterDBT != "" {
					var err error
					if leaveOut, err = x.config.FailedInDBT(afterDBT); err != nil {
						return &flagError{fmt.Errorf("--after-dbt: %w", err)}
					}
				}
				return c.run(cmd.Context(), x, args, sequence, key, all, full, approve, dryRun, leaveOut)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&sequence, "sequence", "", "run the syncs of this sequence, step by step")
	f.BoolVar(&all, "all", false, "run every sync, parents before those that look them up")
	f.BoolVar(&full, "full", false, "send every row again; forget state bound to another org, object, match field or primary key")
	f.BoolVar(&approve, "approve", false, "pass the guards; where a run was halted by one, go on with that very plan")
	f.StringArrayVar(&key, "key", nil, "run the row with this primary key alone: `VALUE`, or COLUMN=VALUE for each column")
	f.StringVar(&afterDBT, "after-dbt", "", "the run_results.json of a dbt run: leave out syncs whose dbt model failed or was skipped in it")
	f.BoolVar(&dryRun, "dry-run", false, "same as coho plan")
	return cmd
}

// run runs what the command line names: syncs one after another, a sequence, or
// all; without those left out, each of which has its reason.
func (c *cli) run(ctx context.Context, x *conducted, names []string, sequence string, key []string, all, full, approve, dryRun bool, leaveOut map[string]string) error {
	if dryRun {
		meant, err := x.meant(names, sequence, all)
		if err != nil {
			return err
		}
		return c.plan(ctx, x, x.without(ctx, meant, leaveOut), full, false)
	}
	c.writing.Store(true)
	live := c.newLive()
	defer live.close()
	failedRows := false
	each := func(ended engine.Ended) {
		live.end(ended.Sync)
		if ended.Run == nil {
			return
		}
		failedRows = failedRows || ended.Run.Status == engine.CompletedWithErrors
		c.showRun(ended.Run)
	}
	if all {
		for _, w := range x.engine.CircleWarnings() {
			x.log.WarnContext(ctx, w)
		}
	}
	o := engine.RunOptions{Full: full, Approve: approve, Trigger: caller(), Abort: c.abort, LeaveOut: leaveOut}
	var err error
	switch {
	case x.daemon != nil:
		if leaveOut, err = x.leftOut(ctx, names, sequence, all, leaveOut); err != nil {
			return err
		}
		ask := server.StartRequest{LeaveOut: leaveOut, Syncs: names, Sequence: sequence, All: all, Full: full, Approve: approve, Key: key, By: strings.TrimPrefix(o.Trigger, "cli ")}
		err = runByDaemon(ctx, x, ask, live, c.abort, each)
	case len(key) > 0:
		if o.Key, err = x.engine.RowKey(names[0], key); err == nil {
			err = x.engine.RunSyncs(ctx, names, o, live.begin, each)
		}
	case sequence != "":
		err = x.engine.RunSequence(ctx, sequence, o, live.begin, each)
	case all:
		err = x.engine.RunSyncs(ctx, x.engine.AllSyncs(), o, live.begin, each)
	default:
		err = x.engine.RunSyncs(ctx, names, o, live.begin, each)
	}
	if err == nil && failedRows {
		return errRowsFailed
	}
	return err
}

// meant lists the syncs that the command line names.
func (x *conducted) meant(names []string, sequence string, all bool) ([]string, error) {
	switch {
	case all:
		return x.engine.AllSyncs(), nil
	case sequence != "":
		s, err := x.engine.Sequence(sequence)
		if err != nil {
			return nil, err
		}
		return slices.Concat(s.Steps...), nil
	}
	return names, nil
}

// without takes those that are left out from names, and says so of each.
func (x *conducted) without(ctx context.Context, names []string, leaveOut map[string]string) []string {
	var left []string
	for _, n := range names {
		if why, ok := leaveOut[n]; ok {
			x.log.WarnContext(ctx, engine.LeftOut, "sync", n, "why", why)
			continue
		}
		left = append(left, n)
	}
	return left
}

// leftOut says of each sync that the daemon is to leave out of what the command
// line names that it is, and returns them: the daemon need not know the others.
func (x *conducted) leftOut(ctx context.Context, names []string, sequence string, all bool, leaveOut map[string]string) (map[string]string, error) {
	if len(leaveOut) == 0 {
		return nil, nil
	}
	meant, err := x.meant(names, sequence, all)
	if err != nil {
		return nil, err
	}
	x.without(ctx, meant, leaveOut)
	of := map[string]string{}
	for _, n := range meant {
		if why, ok := leaveOut[n]; ok {
			of[n] = why
		}
	}
	return of, nil
}

// showRun prints a run's record.
func (c *cli) showRun(r *engine.Run) {
	if c.json {
		c.printJSON(r)
		return
	}
	showRun(c.stdout, r)
}
