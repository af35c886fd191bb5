package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"coho/engine"
)

func (c *cli) cancelCommand() *cobra.Command {
	var abort bool
	cmd := &cobra.Command{
		Use:   "cancel RUN...",
		Short: "Stop runs cleanly (RUN: a run's id, or a sync's name for its last run)",
		Long: `Stop runs of the daemon, or of another coho process, as a Ctrl-C does: nothing
new is begun, what is in flight is finished, and the rest stays planned for the
next run. A run that waits for its turn is called off. The command does not wait
for the end; ` + "`coho runs show RUN`" + ` shows it.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: c.completeSyncs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conduct(cmd.Context(), func(x *conducted) error {
				for _, name := range args {
					id, err := x.cancel(cmd.Context(), name, abort)
					if err != nil {
						return err
					}
					if c.json {
						c.printJSON(map[string]any{"run": id, "canceling": true})
						continue
					}
					if _, err := fmt.Fprintf(c.stdout, "run %s is stopping\n", id); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&abort, "abort", false, "give up what is in flight too; the next run asks the org what became of it")
	return cmd
}

// cancel stops a run and returns its id.
func (x *conducted) cancel(ctx context.Context, idOrSync string, abort bool) (string, error) {
	if x.daemon != nil {
		return x.daemon.Cancel(ctx, idOrSync, abort)
	}
	run, err := x.engine.History().Get(idOrSync)
	if err != nil {
		return "", err
	}
	ended := func(run *engine.Run) error {
		return &engine.UsageError{Message: fmt.Sprintf("run %s of sync %s has ended: %s", run.ID, run.Sync, run.Status)}
	}
	if run.Status != engine.Running {
		return "", ended(run)
	}
	err = x.engine.Lock("coho cancel")
	var locked *engine.LockedError
	switch {
	case err == nil:
		// Its process is dead, which taking the lock has noted in its record.
		if run, err = x.engine.History().Get(run.ID); err != nil {
			return "", err
		}
		return "", ended(run)
	case !errors.As(err, &locked):
		return "", err
	case run.PID <= 0 || !strings.HasPrefix(locked.Holder, fmt.Sprintf("process %d (", run.PID)):
		return "", fmt.Errorf("run %s is of process %d, and the state is held by %s; it has ended, or is about to", run.ID, run.PID, dash(locked.Holder))
	}
	// A coho process stops gently at the first signal and at once at the second.
	signals := 1
	if abort {
		signals = 2
	}
	for range signals {
		if err := syscall.Kill(run.PID, syscall.SIGINT); err != nil {
			return "", fmt.Errorf("stop process %d: %w", run.PID, err)
		}
	}
	return run.ID, nil
}
