package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coho/engine"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how each sync stands",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return c.with(func(w *wired) error {
				tw := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
				if !c.json {
					fmt.Fprintln(tw, "SYNC\tLAST RUN\tSTATUS\tROWS\tOPERATIONS\tFAILED\tREJECTED\tSCHEDULE")
				}
				for _, name := range w.config.SyncNames() {
					last, err := w.engine.History().List(name, 1)
					if err != nil {
						return err
					}
					s := w.config.Syncs[name]
					if c.json {
						doc := struct {
							Sync     string      `json:"sync"`
							Schedule string      `json:"schedule,omitempty"`
							LastRun  *engine.Run `json:"last_run"`
						}{Sync: name, Schedule: s.Schedule}
						if len(last) > 0 {
							doc.LastRun = last[0]
						}
						c.printJSON(doc)
						continue
					}
					if len(last) == 0 {
						fmt.Fprintf(tw, "%s\tnever\t-\t-\t-\t-\t-\t%s\n", name, dash(s.Schedule))
						continue
					}
					r := last[0]
					fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, localTime(r.StartedAt), r.Status, comma(r.Rows.Read), comma(r.Operations.Total()), comma(r.Outcomes.Failed), comma(r.Rows.Rejected), dash(s.Schedule))
				}
				return tw.Flush()
			})
		},
	}
}
