package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // the demo makes its own warehouse
	"github.com/spf13/cobra"

	"coho/destinations/salesforce/emulator"
	"coho/engine"
	"coho/engine/config"
)

var (
	//go:embed demo/coho.toml
	demoConfig []byte
	//go:embed demo/warehouse.sql
	demoWarehouse string
	//go:embed demo/edits.sql
	demoEdits string
)

func (c *cli) demoCommand() *cobra.Command {
	var rows int
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "A complete run on an embedded warehouse and a local org; needs nothing",
		Long: `A complete run on an embedded DuckDB warehouse and the emulator: a first load,
then edits in the warehouse and by a person in the org, a second run that sends
only the warehouse's changes, a third with nothing to do, and what landed.
Nothing leaves this machine.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if rows < 2000 {
				return &flagError{errors.New("--rows takes 2000 or more")}
			}
			if dir == "" {
				if dir, err = os.MkdirTemp("", "coho-demo-"); err != nil {
					return fmt.Errorf("make the demo's folder: %w", err)
				}
				defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			} else if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make the demo's folder: %w", err)
			}
			c.quiet = true
			c.writing.Store(true)
			d := &demo{c: c, out: c.stdout, dir: dir, accounts: rows / 6, contacts: rows - rows/6}
			if c.json {
				d.out = io.Discard
			}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().IntVar(&rows, "rows", 240000, "how many rows the warehouse has")
	cmd.Flags().StringVar(&dir, "dir", "", "a new folder to work in and keep (default: a temporary one)")
	return cmd
}

// demo is one run of the demo.
type demo struct {
	c                  *cli
	out                io.Writer
	dir                string
	accounts, contacts int
	runs               []*engine.Run
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context) (err error) {
	begun := time.Now()
	org, err := emulator.Start(ctx, emulator.Options{Seed: 1, Logger: d.c.logger()})
	if err != nil {
		return fmt.Errorf("start the local org: %w", err)
	}
	defer func() { err = errors.Join(err, org.Close()) }()
	d.say("A DuckDB warehouse with %s accounts and %s contacts, and a Salesforce org on %s.", comma(int64(d.accounts)), comma(int64(d.contacts)), org.URL())
	replace := strings.NewReplacer("$accounts", strconv.Itoa(d.accounts), "$contacts", strconv.Itoa(d.contacts))
	if err := d.warehouse(ctx, replace.Replace(demoWarehouse)); err != nil {
		return fmt.Errorf("make the demo's warehouse: %w", err)
	}
	cred := org.Credentials()
	vars := map[string]string{"DEMO_ORG_URL": cred.URL, "DEMO_CLIENT_ID": cred.ClientID, "DEMO_CLIENT_SECRET": cred.ClientSecret}
	path := filepath.Join(d.dir, "coho.toml")
	if err := os.WriteFile(path, demoConfig, 0o644); err != nil {
		return fmt.Errorf("write the demo's config: %w", err)
	}
	cfg, err := config.Load(path, func(k string) (string, bool) { v, ok := vars[k]; return v, ok })
	if err != nil {
		return fmt.Errorf("the demo's config: %w", err)
	}

	d.say("\n1. First load: every row is new.\n")
	if err := d.sequence(ctx, cfg); err != nil {
		return err
	}
	before, err := d.records(org)
	if err != nil {
		return err
	}

	d.say("\n2. Edits in the warehouse (a few hundred rows), and by a person in Salesforce: the")
	d.say("   industry of account A0000042. The second run sends the warehouse's changes only.\n")
	if err := d.warehouse(ctx, demoEdits); err != nil {
		return fmt.Errorf("edit the demo's warehouse: %w", err)
	}
	edited := org.Org().Find("Account", "Warehouse_Key__c", "A0000042")
	if len(edited) != 1 {
		return fmt.Errorf("the org has %d accounts with key A0000042, not 1", len(edited))
	}
	if err := org.Org().Update("Account", fmt.Sprint(edited[0]["Id"]), map[string]any{"Industry": "Consulting"}); err != nil {
		return fmt.Errorf("edit an account in the org: %w", err)
	}
	if err := d.sequence(ctx, cfg); err != nil {
		return err
	}

	d.say("\n3. Nothing changed: the third run sends nothing.\n")
	if err := d.sequence(ctx, cfg); err != nil {
		return err
	}
	after, err := d.records(org)
	if err != nil {
		return err
	}
	return d.close(org, before, after, time.Since(begun))
}

// warehouse runs statements in the demo's DuckDB file.
func (d *demo) warehouse(ctx context.Context, statements string) (err error) {
	db, err := sql.Open("duckdb", filepath.Join(d.dir, "warehouse.duckdb"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, statements)
	return err
}

// sequence runs the demo's syncs as `coho run --sequence demo` would.
func (d *demo) sequence(ctx context.Context, cfg *config.Config) error {
	w, err := d.c.wireConfig(cfg)
	if err != nil {
		return err
	}
	defer w.close()
	live := d.c.newLive()
	defer live.close()
	rowsFailed := false
	err = w.engine.RunSequence(ctx, "demo", engine.RunOptions{Trigger: "demo", Abort: d.c.abort}, live.begin, func(e engine.Ended) {
		live.end(e.Sync)
		if e.Run == nil {
			return
		}
		d.runs = append(d.runs, e.Run)
		rowsFailed = rowsFailed || e.Run.Status == engine.CompletedWithErrors
		if d.c.json {
			d.c.printJSON(e.Run)
			return
		}
		showRun(d.out, e.Run)
	})
	if err == nil && rowsFailed {
		return errRowsFailed
	}
	return err
}

// demoWatched are the records whose before and after the demo shows.
var demoWatched = []struct{ object, key string }{
	{"Account", "A0000042"}, {"Account", "A0001001"}, {"Account", "N0000000"}, {"Contact", "C00000007"}, {"Contact", "C00005000"},
}

var demoFields = map[string][]string{
	"Account": {"Name", "Phone", "Industry", "Tier__c", "AnnualRevenue"},
	"Contact": {"LastName", "Phone", "Title"},
}

func (d *demo) records(org *emulator.Server) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, w := range demoWatched {
		found := org.Org().Find(w.object, "Warehouse_Key__c", w.key)
		if len(found) > 1 {
			return nil, fmt.Errorf("the org has %d records with key %s", len(found), w.key)
		}
		if len(found) == 0 {
			continue
		}
		fields := map[string]string{}
		for _, f := range demoFields[w.object] {
			if v := found[0][f]; v != nil {
				fields[f] = fmt.Sprint(v)
			}
		}
		out[w.key] = fields
	}
	return out, nil
}

// close draws the closing picture.
func (d *demo) close(org *emulator.Server, before, after map[string]map[string]string, whole time.Duration) error {
	d.say("\nWhat happened\n")
	tw := tabwriter.NewWriter(d.out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "run\tsync\tread\tunchanged\tsent\tcreated\tupdated\tdeleted\tfailed\tAPI calls\ttook\t")
	for i, r := range d.runs {
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", i/2+1, r.Sync, comma(r.Rows.Read), comma(r.Rows.Unchanged), comma(r.Operations.Total()), comma(r.Outcomes.Created), comma(r.Outcomes.Updated), comma(r.Outcomes.Deleted), comma(r.Outcomes.Failed), comma(r.API.Calls), took(r))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	d.say("\nA few records in the org, after the first load and now\n")
	rec := tabwriter.NewWriter(d.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(rec, "record\tfield\tafter the first load\tnow")
	for _, w := range demoWatched {
		for _, f := range demoFields[w.object] {
			b, had := before[w.key]
			a := after[w.key]
			switch {
			case !had:
				fmt.Fprintf(rec, "%s %s\t%s\t(no record)\t%s\n", w.object, w.key, f, dash(a[f]))
			case b[f] != a[f]:
				fmt.Fprintf(rec, "%s %s\t%s\t%s\t%s\n", w.object, w.key, f, dash(b[f]), dash(a[f]))
			}
		}
	}
	if err := rec.Flush(); err != nil {
		return err
	}
	if after["A0000042"]["Industry"] != "Consulting" {
		return errors.New("the person's edit of account A0000042 did not survive")
	}
	d.say("\nThe person's edit of A0000042's industry survived: the warehouse had not changed that field.")
	d.say("The org now holds %s accounts and %s contacts. All of it took %s.", comma(int64(org.Org().Count("Account"))), comma(int64(org.Org().Count("Contact"))), whole.Round(100*time.Millisecond))
	return nil
}
