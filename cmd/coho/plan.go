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
	cmd := &cobra.Command{
		Use:   "plan SYNC...",
		Short: "Show what a run would do, and send nothing",
		Long: `Show what a run would do: counts by operation and by field, samples with
before and after, the API calls it would cost. Nothing is sent.

` + exitCodeHelp,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: c.completeSyncs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conductState(cmd.Context(), func(x *conducted) error { return c.plan(cmd.Context(), x, args, full, detailed) })
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "plan as run --full would")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 10 when there is something to do")
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
