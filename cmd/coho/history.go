package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coho/engine"
)

// showRuns lists runs of syncs and of sequences, newest first.
func (c *cli) showRuns(runs []*engine.Run, sequences []*engine.SequenceRun, max int) error {
	tw := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(tw, "RUN\tSYNC\tSTATUS\tTOOK\tROWS\tOPERATIONS\tFAILED\tREJECTED\tAPI CALLS")
	}
	for n := 0; (len(runs) > 0 || len(sequences) > 0) && (max == 0 || n < max); n++ {
		// A sequence is listed above its first run, which began after it.
		if len(runs) == 0 || len(sequences) > 0 && sequences[0].StartedAt.After(runs[0].StartedAt) {
			s := sequences[0]
			sequences = sequences[1:]
			if c.json {
				c.printJSON(s)
				continue
			}
			rows, operations, failed := s.Sum()
			fmt.Fprintf(tw, "%s\t%s (sequence)\t%s\t%s\t%s\t%s\t%s\t-\t-\n", s.ID, s.Sequence, s.Status, tookBetween(s.StartedAt, s.FinishedAt), comma(rows), comma(operations), comma(failed))
			continue
		}
		r := runs[0]
		runs = runs[1:]
		if c.json {
			c.printJSON(r)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Sync, r.Status, took(r), comma(r.Rows.Read), comma(r.Operations.Total()), comma(r.Outcomes.Failed), comma(r.Rows.Rejected), comma(r.API.Calls))
	}
	return tw.Flush()
}

// showSequence prints the record of a sequence.
func (c *cli) showSequence(s *engine.SequenceRun) error {
	if c.json {
		c.printJSON(s)
		return nil
	}
	fmt.Fprintf(c.stdout, "%s: %s in %s  (sequence run %s)\n", s.Sequence, statusText(s.Status), tookBetween(s.StartedAt, s.FinishedAt), s.ID)
	if s.Trigger != "" {
		fmt.Fprintf(c.stdout, "  started     %s by %s\n", localTime(s.StartedAt), s.Trigger)
	}
	if s.Resumed {
		fmt.Fprintln(c.stdout, "  goes on with what an earlier process began")
	}
	tw := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "  STEP\tSYNC\tSTATUS\tROWS\tOPERATIONS\tROW ERRORS\tRUN")
	for i, step := range s.Steps {
		for _, p := range step {
			fmt.Fprintf(tw, "  %d\t%s\t%s\t%s\t%s\t%s\t%s\n", i+1, p.Sync, p.Status, comma(p.Rows), comma(p.Operations), comma(p.RowErrors), dash(p.Run))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, step := range s.Steps {
		for _, p := range step {
			if p.Why != "" {
				fmt.Fprintf(c.stdout, "  %s left out: %s\n", p.Sync, p.Why)
			}
		}
	}
	if s.Error != "" {
		_, err := fmt.Fprintf(c.stdout, "  %s\n", s.Error)
		return err
	}
	return nil
}

func tookBetween(begun time.Time, ended *time.Time) string {
	return took(&engine.Run{StartedAt: begun, FinishedAt: ended})
}

// showLife prints who started a run, by what config, and how long it was at what.
func showLife(w io.Writer, r *engine.Run) {
	if r.Trigger != "" {
		line := localTime(r.StartedAt) + " by " + r.Trigger
		if r.Sequence != "" {
			line += ", in sequence " + r.Sequence + " (" + r.SequenceRun + ")"
		}
		fmt.Fprintf(w, "  started     %s\n", line)
	}
	if d := r.Durations; d != nil {
		var parts []string
		for _, x := range []struct {
			name    string
			seconds float64
		}{{"waiting", d.Waiting}, {"checking", d.Checking}, {"reading", d.Reading}, {"applying", d.Applying}, {"committing", d.Committing}} {
			if x.seconds >= 0.0005 {
				parts = append(parts, time.Duration(x.seconds*float64(time.Second)).Round(time.Millisecond).String()+" "+x.name)
			}
		}
		if len(parts) > 0 {
			fmt.Fprintf(w, "  time        %s\n", strings.Join(parts, ", "))
		}
	}
	if r.ConfigHash != "" {
		fmt.Fprintf(w, "  config      %s\n", r.ConfigHash)
	}
}

// showValues prints what a record held and what was to be written, by field.
func showValues(w io.Writer, e *engine.RowError) {
	fields := map[string]bool{}
	for f := range e.Before {
		fields[f] = true
	}
	for f := range e.After {
		fields[f] = true
	}
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		before, known := e.Before[f]
		text := "(not written yet)"
		if known {
			text = cellText(before, "(empty)")
		}
		if after, ok := e.After[f]; ok {
			text += " -> " + cellText(after, "(cleared)")
		}
		fmt.Fprintf(w, "    %s: %s\n", f, text)
	}
}

func (c *cli) runsPlanCommand() *cobra.Command {
	var o engine.KeptOptions
	cmd := &cobra.Command{
		Use:   "plan ID",
		Short: "List the operations of a run's kept plan (ID: a run's, or a sync's name)",
		Long: `List the operations of a plan that waits: halted by a guard or by the API budget, or
unfinished. What is deleted or cleared is shown with the values last written.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conduct(cmd.Context(), func(x *conducted) error { return c.showKept(cmd.Context(), x, args[0], o) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Kinds, "operation", nil, "only these operations, such as archive,clear_fields")
	f.Int64Var(&o.Offset, "offset", 0, "pass over so many")
	f.Int64Var(&o.Max, "max", 100, "list so many; 0: all")
	return cmd
}

func (c *cli) showKept(ctx context.Context, x *conducted, id string, o engine.KeptOptions) error {
	listed := int64(0)
	kept, err := x.keptPlan(ctx, id, o, func(op *engine.KeptOperation) bool {
		listed++
		if c.json {
			c.printJSON(op)
			return true
		}
		showSamples(c.stdout, []engine.Sample{op.Sample})
		return true
	})
	if err != nil || c.json {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "%s of the plan of run %s of sync %s, from %s on; in all %s\n", plural(listed, "operation"), kept.Run, kept.Sync, comma(o.Offset+1), operationsText(kept.Operations))
	return err
}
