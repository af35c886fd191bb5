package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"coho/engine"
)

func (c *cli) planCommand() *cobra.Command {
	var full, detailed bool
	var key []string
	cmd := &cobra.Command{
		Use:   "plan SYNC...",
		Short: "Show what a run would do, and send nothing",
		Long: `Show what a run would do: counts by operation and by field, samples with
before and after, the API calls it would cost. Nothing is sent.

With --key everything about one row is shown: the model's columns, what the
mapping makes of them, what the snapshot and the org hold, what a run would do
with the row and why. The model is read whole for it, and once more where rows
of other keys may have the same match value. A key of several columns is given
column by column.

` + exitCodeHelp,
		Example: `  coho plan accounts
  coho plan accounts --key A17
  coho plan contacts --key region=EU --key contact_no=7`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: c.completeSyncs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(key) > 0 {
				if len(args) != 1 || full {
					return &flagError{errors.New("coho plan --key: name one sync, without --full")}
				}
				return c.conductState(cmd.Context(), func(x *conducted) error { return c.preview(cmd.Context(), x, args[0], key, detailed) })
			}
			return c.conductState(cmd.Context(), func(x *conducted) error { return c.plan(cmd.Context(), x, args, full, detailed) })
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "plan as run --full would")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 10 when there is something to do")
	cmd.Flags().StringArrayVar(&key, "key", nil, "show all about the row with this primary key: `VALUE`, or COLUMN=VALUE for each column")
	return cmd
}

func (c *cli) plan(ctx context.Context, x *conducted, names []string, full, detailed bool) error {
	if err := x.checkNames(ctx, names); err != nil {
		return err
	}
	live := c.newLive()
	defer live.close()
	var errs []error
	todo := false
	for _, n := range names {
		var run *engine.Run
		var err error
		if x.daemon != nil {
			run, err = x.daemon.Plan(ctx, n, full, live.follow)
		} else {
			run, err = x.engine.Plan(ctx, n, engine.PlanOptions{Full: full, Progress: live.begin(n)})
		}
		live.end(n)
		if err != nil {
			errs = append(errs, fmt.Errorf("sync %s: %w", n, err))
			continue
		}
		todo = todo || run.Operations.Total() > 0
		if c.json {
			c.printJSON(planDocument(run))
		} else {
			showPlan(c.stdout, run)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if todo && detailed {
		return errChanges
	}
	return nil
}

// checkNames returns an error where one of the names is no sync's.
func (x *conducted) checkNames(ctx context.Context, names []string) error {
	if x.daemon == nil {
		for _, n := range names {
			if _, err := x.engine.Sync(n); err != nil {
				return err
			}
		}
		return nil
	}
	for _, n := range names {
		if _, err := x.daemon.Sync(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// planDocument is a plan's JSON: fields and estimate are always there.
func planDocument(r *engine.Run) *engine.Run {
	if r.Fields == nil {
		r.Fields = map[string]int64{}
	}
	return r
}
