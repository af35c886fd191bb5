package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"github.com/spf13/cobra"

	"coho/destinations"
	"coho/destinations/salesforce"
	"coho/destinations/salesforce/api"
	"coho/engine"
	"coho/engine/alerts"
	"coho/engine/config"
	"coho/sources"
	"coho/sources/bigquery"
	"coho/sources/duckdb"
	"coho/sources/postgres"
	"coho/sources/snowflake"
)

// wired is a config made into an engine: the one place that names concrete
// sources and destinations.
type wired struct {
	config *config.Config
	engine *engine.Engine
	log    *slog.Logger
	stderr func(error)
	usages []*engine.Usage
	alerts *alerts.Notifier
}

func (c *cli) wire() (*wired, error) {
	cfg, err := config.Load(c.configPath, c.env)
	if err != nil {
		return nil, err
	}
	return c.wireConfig(cfg)
}

// with loads the config, makes an engine of it, and closes that after do.
func (c *cli) with(do func(*wired) error) error {
	w, err := c.wire()
	if err != nil {
		return err
	}
	defer w.close()
	return do(w)
}

func (c *cli) wireConfig(cfg *config.Config) (*wired, error) {
	w, o, err := c.connect(cfg)
	if err != nil {
		return nil, err
	}
	e, err := engine.New(o)
	if err != nil {
		return nil, err
	}
	w.engine = e
	return w, nil
}

// connect makes of a config what an engine needs, and opens nothing yet.
func (c *cli) connect(cfg *config.Config) (*wired, engine.Options, error) {
	w := &wired{config: cfg, log: c.logger()}
	w.stderr = func(err error) { fmt.Fprintln(c.stderr, "coho: "+err.Error()) }
	var err error
	if w.alerts, err = notifier(cfg, w.log); err != nil {
		return nil, engine.Options{}, err
	}
	keep := engine.Retention{Runs: cfg.History.KeepRuns, Age: time.Duration(cfg.History.KeepDays) * 24 * time.Hour}
	if keep.Age == 0 {
		keep.Age = -1 // any
	}
	return w, engine.Options{
		StateDir: cfg.StateDir, Syncs: cfg.Syncs, SyncOrder: cfg.SyncNames(), Sequences: cfg.Sequences,
		OpenSource: w.openSource, OpenDestination: w.openDestination, Logger: w.log,
		Keep: keep, RunEnded: w.alerts.RunEnded,
	}, nil
}

// close closes the engine and writes the API usage out; what goes wrong then
// is said, and changes nothing of what the command did.
func (w *wired) close() {
	if err := errors.Join(w.engine.Close(), w.closeBeside()); err != nil {
		w.stderr(err)
	}
}

// closeBeside closes what is used beside the engine, when that is closed: no run
// goes on whose alerts or calls would be missed.
func (w *wired) closeBeside() error {
	errs := []error{w.alerts.Close()}
	for _, u := range w.usages {
		errs = append(errs, u.Close())
	}
	return errors.Join(errs...)
}

func (w *wired) openSource(name string) (sources.Source, error) {
	s, ok := w.config.Sources[name]
	if !ok {
		return nil, fmt.Errorf("no source is named %q", name)
	}
	switch {
	case s.Postgres != nil:
		return postgres.Open(postgres.Options{DSN: s.Postgres.DSN, StatementTimeout: s.Postgres.StatementTimeout, ApplicationName: "coho", Logger: w.log})
	case s.Snowflake != nil:
		return w.openSnowflake(s.Snowflake)
	case s.BigQuery != nil:
		c := s.BigQuery
		return bigquery.Open(bigquery.Options{
			Project: c.Project, Dataset: c.Dataset, Location: c.Location, Credentials: c.Credentials, MaxBytesBilled: c.MaxBytesBilled,
			Timeout: c.Timeout, Endpoint: c.Endpoint, StorageEndpoint: c.StorageEndpoint, Logger: w.log,
		})
	case s.DuckDB != nil:
		return duckdb.Open(duckdb.Options{Path: s.DuckDB.Path, Dir: s.DuckDB.Dir, Logger: w.log})
	}
	return nil, fmt.Errorf("source type %q is not known", s.Type)
}

func (w *wired) openSnowflake(c *config.Snowflake) (sources.Source, error) {
	o := snowflake.Options{
		Account: c.Account, Host: c.Host, User: c.User, Role: c.Role, Warehouse: c.Warehouse, Database: c.Database, Schema: c.Schema,
		Password: c.Password, OAuthToken: c.OAuthToken, AccessToken: c.AccessToken, StatementTimeout: c.StatementTimeout, Logger: w.log,
	}
	if c.PrivateKey != "" {
		var err error
		if o.PrivateKey, err = snowflake.ParsePrivateKey(c.PrivateKey, c.Passphrase); err != nil {
			return nil, fmt.Errorf("private_key_file: %w", err)
		}
	}
	return snowflake.Open(o)
}

func (w *wired) openDestination(name string) (destinations.Destination, error) {
	client, err := w.client(name)
	if err != nil {
		return nil, err
	}
	return salesforce.New(client, salesforce.Options{Logger: w.log}), nil
}

// client returns the API client of a destination.
func (w *wired) client(name string) (*api.Client, error) {
	d, ok := w.config.Destinations[name]
	if !ok || d.Salesforce == nil {
		return nil, fmt.Errorf("no destination is named %q", name)
	}
	usage, err := engine.OpenUsage(w.config.StateDir, name, time.Now)
	if err != nil {
		return nil, err
	}
	w.usages = append(w.usages, usage)
	s := d.Salesforce
	return api.New(api.Config{
		Domain: s.Domain, Auth: s.Auth, ClientID: s.ClientID, ClientSecret: s.ClientSecret,
		Username: s.Username, PrivateKeyPEM: s.PrivateKey, RefreshToken: s.RefreshToken,
		APIVersion: s.APIVersion, DailyCalls: s.DailyAPICalls, EnforceLimits: s.EnforceAPILimits,
		Trace: recordCall, TraceBytes: engine.CallBytes,
		UsedToday: usage.Others, UserAgent: "coho/" + version(),
		OnCall: func(call api.Call) {
			if !call.Login { // the org does not count those either
				if err := usage.Add(); err != nil {
					w.log.Warn("the API usage could not be written", "error", err)
				}
			}
			w.log.Debug("api call", "method", call.Method, "path", call.Path, "status", call.Status, "duration", call.Duration)
		},
	})
}

// recordCall puts a call into the log of the run that made it.
func recordCall(ctx context.Context, call api.Call) {
	recorded := engine.APICall{
		Time: call.Time, Method: call.Method, Path: call.Path, Status: call.Status, MS: float64(call.Duration.Microseconds()) / 1000,
		Sent: call.Sent, Received: call.Received, Rows: call.Rows, Login: call.Login, Request: call.Request, Answer: call.Answer,
	}
	if call.Err != nil {
		recorded.Error = call.Err.Error()
	}
	engine.RecordCall(ctx, recorded)
}

// destinationName picks the destination a look into the org is meant for: the
// one named, or the only one there is.
func (w *wired) destinationName(named string) (string, error) {
	var names []string
	for n := range w.config.Destinations {
		names = append(names, n)
	}
	sort.Strings(names)
	switch {
	case named != "":
		if _, ok := w.config.Destinations[named]; !ok {
			return "", &flagError{fmt.Errorf("no destination is named %q; there is %v", named, names)}
		}
		return named, nil
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", &flagError{errors.New("the config has no destination")}
	}
	return "", &flagError{fmt.Errorf("the config has several destinations; name one with --destination: %v", names)}
}

// completeSyncs completes sync names for the shell.
func (c *cli) completeSyncs(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := config.Load(c.configPath, c.env)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cfg.SyncNames(), cobra.ShellCompDirectiveNoFileComp
}
