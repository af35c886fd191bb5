package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"coho/engine"
	"coho/engine/config"
)

func (c *cli) validateCommand() *cobra.Command {
	var offline, noData bool
	var liveTypes string
	cmd := &cobra.Command{
		Use:   "validate [SYNC...]",
		Short: "Check the config, then check it against the live warehouse and org",
		Long: `Check the config, then check each sync against the live warehouse and org:
every column, field, type, permission and external id. All mistakes are shown
at once, each with file, line and column.

Then each model is read once, and for each field it is shown what fills it, what it
takes, and what of the data as it is now does not fit: values too long or in no
restricted picklist, nulls where a value is needed, primary keys and match values
that rows share. Such rows fail in a run while the others land, so they are a report
and not a mistake: the exit code is 0. --no-data reads no model.

` + exitCodeHelp,
		ValidArgsFunction: c.completeSyncs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(c.configPath, c.env)
			if err != nil {
				return err
			}
			w, err := c.wireConfig(cfg)
			if err != nil {
				return err
			}
			defer w.close()
			if liveTypes != "" {
				if offline || len(args) > 0 {
					return &flagError{errors.New("--live-types takes a source and no syncs, and asks it")}
				}
				return c.validateTypes(cmd.Context(), w, liveTypes)
			}
			names := args
			if len(names) == 0 {
				names = cfg.SyncNames()
			}
			if offline {
				for _, n := range names {
					if _, err := w.engine.Sync(n); err != nil {
						return err
					}
				}
				if c.json {
					for _, n := range names {
						c.printJSON(engine.Checked{Sync: n, Problems: []string{}, Warnings: append([]string{}, w.engine.LookupWarnings(n)...)})
					}
					return nil
				}
				for _, n := range names {
					for _, x := range w.engine.LookupWarnings(n) {
						if _, err := fmt.Fprintf(c.stdout, "%s: warning: %s\n", n, x); err != nil {
							return err
						}
					}
				}
				_, err := fmt.Fprintf(c.stdout, "%s is well formed: %d syncs (warehouse and org were not asked)\n", c.configPath, len(names))
				return err
			}
			checked, err := w.engine.Validate(cmd.Context(), names, !noData)
			if err != nil {
				return err
			}
			var failed error
			bad := 0
			for _, ch := range checked {
				if len(ch.Problems) > 0 {
					bad++
				}
				if ch.Err != nil {
					failed = ch.Err
				}
				if c.json {
					c.printJSON(ch)
					continue
				}
				showChecked(c.stdout, ch)
			}
			switch {
			case bad == 0:
				return nil
			case failed != nil:
				c.reported = true
				return failed
			}
			c.reported = true
			return &flagError{fmt.Errorf("%d syncs have problems", bad)}
		},
	}
	cmd.Flags().BoolVar(&noData, "no-data", false, "do not read the models' rows")
	cmd.Flags().BoolVar(&offline, "offline", false, "check the files only")
	cmd.Flags().StringVar(&liveTypes, "live-types", "", "show for a `SOURCE` that each of its types arrives as it should: one small query a type, that reads no table")
	return cmd
}
