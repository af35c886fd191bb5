package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coho/destinations/salesforce/emulator"
)

func (c *cli) emulatorCommand() *cobra.Command {
	var o emulator.Options
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "A local Salesforce org on a port, for tests, demos and your own CI",
		Long: `A local Salesforce org in a process: OAuth, describe, rows, collections, SOQL
and Bulk. Without --org it is a small Sales Cloud org; without --dir its records
are gone when it ends. It stops on a signal.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Logger = c.logger()
			s, err := emulator.Start(cmd.Context(), o)
			if err != nil {
				return err
			}
			cred := s.Credentials()
			if c.json {
				c.printJSON(cred)
			} else {
				fmt.Fprintf(c.stdout, "a Salesforce org listens on %s\n\n[destinations.crm]\ntype = \"salesforce\"\ndomain = %q\nauth = \"client_credentials\"\nclient_id = %q\nclient_secret = %q\n", cred.URL, cred.URL, cred.ClientID, cred.ClientSecret)
			}
			<-cmd.Context().Done()
			return s.Close()
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Addr, "addr", "127.0.0.1:0", "where to listen; port 0 picks a free one")
	f.StringVar(&o.OrgFile, "org", "", "the org's description, a TOML file")
	f.StringVar(&o.Dir, "dir", "", "keep the records in this directory")
	f.IntVar(&o.DailyAPICalls, "daily-api-calls", 0, "the org's API calls a day; 0: the org file's, or 100,000")
	f.Int64Var(&o.Seed, "seed", 1, "seed of all that is random: result order, Ids, faults")
	f.DurationVar(&o.ProcessingDelay, "processing-delay", 0, "time that a chunk of 200 records takes")
	f.BoolVar(&o.Locks, "locks", false, "lock parents while a batch is processed, as an org under load does")
	f.DurationVar(&o.LockWait, "lock-wait", 10*time.Second, "how long a write waits for a lock")
	return cmd
}
