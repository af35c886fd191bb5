package main

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"coho/destinations/salesforce/api"
	"coho/engine"
)

func (c *cli) runsCommand() *cobra.Command {
	var sync, sequence string
	var max int
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List runs; show one, its errors, its API calls",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.conduct(cmd.Context(), func(x *conducted) error {
				var runs []*engine.Run
				var err error
				if sequence == "" {
					if runs, err = x.list(cmd.Context(), sync, max); err != nil {
						return err
					}
				}
				var sequences []*engine.SequenceRun
				if sync == "" {
					if sequences, err = x.listSequences(cmd.Context(), sequence, max); err != nil {
						return err
					}
				}
				return c.showRuns(runs, sequences, max)
			})
		},
	}
	cmd.Flags().StringVar(&sync, "sync", "", "runs of this sync only")
	cmd.Flags().StringVar(&sequence, "sequence", "", "runs of this sequence only, as wholes")
	cmd.Flags().IntVar(&max, "max", 20, "how many, newest first; 0: all")
	cmd.AddCommand(c.runsShowCommand(), c.runsErrorsCommand(), c.runsCallsCommand(), c.runsPlanCommand())
	return cmd
}

func (c *cli) runsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a run (ID: a run's or a sequence's, or the name of a sync or sequence for its last run)",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conduct(cmd.Context(), func(x *conducted) error {
				r, err := x.get(cmd.Context(), args[0])
				if err != nil {
					if s, serr := x.sequence(cmd.Context(), args[0]); serr == nil {
						return c.showSequence(s)
					}
					return err
				}
				c.showRun(r)
				if !c.json {
					showLife(c.stdout, r)
				}
				if r.Error != "" && !c.json {
					// While a run goes on, standard error says it.
					_, err := fmt.Fprintf(c.stdout, "  %s\n", strings.ReplaceAll(r.Error, "\n", "\n  "))
					return err
				}
				return nil
			})
		},
	}
}

func (c *cli) runsErrorsCommand() *cobra.Command {
	var max int
	var values bool
	cmd := &cobra.Command{
		Use:   "errors ID",
		Short: "Show a run's failed and rejected rows (ID: a run's, or a sync's name for its last run)",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conduct(cmd.Context(), func(x *conducted) error {
				r, err := x.get(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if c.json {
					return x.errors(cmd.Context(), r.ID, func(e *engine.RowError) bool {
						c.printJSON(e)
						return true
					})
				}
				return c.showErrors(cmd.Context(), x, r, max, values)
			})
		},
	}
	cmd.Flags().IntVar(&max, "max", 10, "how many rows of each code; 0: all")
	cmd.Flags().BoolVar(&values, "values", false, "show what the record held and what was to be written; --json always does")
	return cmd
}

func (c *cli) runsCallsCommand() *cobra.Command {
	var bodies bool
	cmd := &cobra.Command{
		Use:   "calls ID",
		Short: "Show the API calls of a run (ID: a run's, or a sync's name for its last run)",
		Long:  "Show the API calls of a run, in the order in which they ended: time, method, path, HTTP status, duration, bytes and rows. Logins are among them; the org does not count those. The calls of the last 50 runs are kept, 64 MB at most, and of each body its beginning, without secrets.",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.conduct(cmd.Context(), func(x *conducted) error {
				r, err := x.get(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.showCalls(cmd.Context(), x, r, bodies)
			})
		},
	}
	cmd.Flags().BoolVar(&bodies, "bodies", false, "show the beginnings of the bodies too")
	return cmd
}

// showCalls prints a run's API calls, a line each.
func (c *cli) showCalls(ctx context.Context, x *conducted, r *engine.Run, bodies bool) error {
	if !c.json {
		fmt.Fprintf(c.stdout, "%-12s  %-6s  %6s  %9s  %10s  %10s  %8s  %s\n", "TIME", "METHOD", "STATUS", "MS", "SENT", "RECEIVED", "ROWS", "PATH")
	}
	kept, err := x.calls(ctx, r.ID, bodies, func(call *engine.APICall) bool {
		if c.json {
			c.printJSON(call)
			return true
		}
		status := "none"
		if call.Status != 0 {
			status = strconv.Itoa(call.Status)
		}
		fmt.Fprintf(c.stdout, "%-12s  %-6s  %6s  %9.1f  %10s  %10s  %8s  %s\n", call.Time.Local().Format("15:04:05.000"), call.Method, status, call.MS, comma(call.Sent), comma(call.Received), comma(call.Rows), call.Path)
		for _, part := range []struct{ mark, text string }{{"!", call.Error}, {">", call.Request}, {"<", call.Answer}} {
			if part.text != "" {
				fmt.Fprintf(c.stdout, "  %s %s\n", part.mark, strings.ReplaceAll(strings.TrimRight(part.text, "\n"), "\n", "\n    "))
			}
		}
		return true
	})
	if err == nil && !kept && !c.json {
		_, err = fmt.Fprintf(c.stdout, "no API calls of run %s are kept\n", r.ID)
	}
	return err
}

// showErrors prints a run's row errors grouped by code, each group with what
// to do about it. Rows past max of a code are counted, not held.
func (c *cli) showErrors(ctx context.Context, x *conducted, r *engine.Run, max int, values bool) error {
	groups := map[string][]*engine.RowError{}
	counts := map[string]int64{}
	err := x.errors(ctx, r.ID, func(e *engine.RowError) bool {
		counts[e.Code]++
		if max == 0 || len(groups[e.Code]) < max {
			groups[e.Code] = append(groups[e.Code], e)
		}
		return true
	})
	if err != nil {
		return err
	}
	if len(counts) == 0 {
		_, err := fmt.Fprintf(c.stdout, "run %s of sync %s has no row errors\n", r.ID, r.Sync)
		return err
	}
	codes := make([]string, 0, len(counts))
	for code := range counts {
		codes = append(codes, code)
	}
	sort.Slice(codes, func(i, j int) bool {
		if counts[codes[i]] != counts[codes[j]] {
			return counts[codes[i]] > counts[codes[j]]
		}
		return codes[i] < codes[j]
	})
	for _, code := range codes {
		fmt.Fprintf(c.stdout, "%s: %s\n", code, plural(counts[code], "row"))
		if hint := explain(code); hint != "" {
			fmt.Fprintf(c.stdout, "  %s\n", hint)
		}
		for _, e := range groups[code] {
			line := fmt.Sprintf("  %s  %s: %s", keyText(e.Key), e.Operation, oneLine(e.Message))
			if len(e.Fields) > 0 {
				line += " [" + strings.Join(e.Fields, ", ") + "]"
			}
			fmt.Fprintln(c.stdout, line)
			if values {
				showValues(c.stdout, e)
			}
		}
		if more := counts[code] - int64(len(groups[code])); more > 0 {
			fmt.Fprintf(c.stdout, "  and %s more; --max 0 or --json shows all\n", comma(more))
		}
	}
	return nil
}

// explain says in a sentence what to do about a code: coho's own, or the org's.
func explain(code string) string {
	switch code {
	case "NULL_PRIMARY_KEY":
		return "The primary key is null; leave such rows out of the model's query, or fill the key."
	case "DUPLICATE_PRIMARY_KEY":
		return "Several rows of the model share a primary key, so none was sent; make the query return one row a key."
	case "DUPLICATE_MATCH_VALUE":
		return "Several rows would write the same record, so none was sent; make the match column unique."
	case "NULL_MATCH_VALUE":
		return "The match column is null, so the row's record cannot be found; leave such rows out, or fill the column."
	case "INVALID_VALUE":
		return "The field cannot take the value; change the query or map the field through an expression."
	case "UNKNOWN_OUTCOME":
		return "The org's answer was lost, so the event may have been published or not. on_unknown = \"resend\" sends it again, perhaps twice; with \"hold\" look at what subscribers got: coho run SYNC --full sends the events that are held, and one run with on_unknown = \"accept\" counts them as published."
	case "PICKLIST_REFUSED":
		return "The org would not take the list as it would have become, so none of it was sent; the message says why. The next run compares anew."
	case "NOT_FOUND":
		return "No record of the org has the row's match value; create the record, use mode upsert, or leave the row out of the model's query."
	case "MULTIPLE_MATCHES":
		return "Several records of the org have the value, so none was chosen; merge them, or match on a unique field."
	case "REFERENCE_NOT_FOUND":
		return "The record that a lookup names is not in the org; sync the parents first, or correct the value. New records that refer to each other in a circle are written with invalid_relationships = \"omit_values\", and refer to each other after the next run."
	case "RETRY_LATER":
		return "The org refused the row before and retry_rejected passes it over for now; correct the row or the mapping, or run with --full."
	case "NOT_SENDABLE_IN_CSV":
		return "Bulk API's CSV cannot carry the value (the text #N/A, a carriage return, an oversized cell) and nothing would find the record again elsewhere; map the primary key to a field of the object."
	case "EXPRESSION_FAILED":
		return "The mapping's expression failed on this row; make it deal with such values."
	}
	return api.Explain(code)
}
