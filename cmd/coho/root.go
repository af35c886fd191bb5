package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// cli is one invocation: its flags and where it writes.
type cli struct {
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	abort          <-chan struct{}
	terminal       *os.File // standard error, where it is one

	configPath string
	json       bool
	logFormat  string
	verbose    bool
	quiet      bool // the command tells its own story
	serving    bool // its log is all that the command says

	// writing: the command writes to an org, so a signal has something to
	// wait for.
	writing atomic.Bool

	// reported: the error has been shown as part of the command's own
	// output, so it is not printed once more.
	reported bool
}

// newCLI returns an invocation. Standard error is written by several
// goroutines: the log, the live progress, the word on a signal.
func newCLI(stdout, stderr io.Writer, env func(string) (string, bool), abort <-chan struct{}) *cli {
	c := &cli{stdout: stdout, stderr: &lockedWriter{w: stderr}, env: env, abort: abort}
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		c.terminal = f
	}
	return c
}

// lockedWriter lets several goroutines write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// flagError is a mistake on the command line.
type flagError struct{ err error }

func (e *flagError) Error() string { return e.err.Error() + "; see coho --help" }
func (e *flagError) Unwrap() error { return e.err }

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "coho",
		Short: "Move what the warehouse knows into Salesforce, and only its changes after that",
		Long: `coho runs a model query in a data warehouse, works out what changed since
Salesforce last acknowledged it, and writes only that.

` + exitCodeHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.logFormat != "text" && c.logFormat != "json" {
				return &flagError{fmt.Errorf("--log-format takes text or json, not %q", c.logFormat)}
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &flagError{err} })
	f := root.PersistentFlags()
	f.StringVarP(&c.configPath, "config", "c", "coho.toml", "the config file")
	f.BoolVar(&c.json, "json", false, "print one JSON document a sync on standard output and nothing else there")
	f.StringVar(&c.logFormat, "log-format", "text", "format of the log on standard error: text or json")
	f.BoolVarP(&c.verbose, "verbose", "v", false, "log more")
	root.AddCommand(
		c.demoCommand(), c.initCommand(), c.validateCommand(), c.planCommand(), c.runCommand(), c.serveCommand(),
		c.statusCommand(), c.runsCommand(), c.alertsCommand(), c.cancelCommand(), c.pauseCommand(), c.resumeCommand(), c.reloadCommand(), c.snapshotCommand(), c.describeCommand(), c.queryCommand(),
		c.emulatorCommand(), c.versionCommand(),
	)
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &flagError{fmt.Errorf("coho has no command %q", args[0])}
	}
	return nil
}

// exactArgs, minArgs: cobra's own checks, as usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &flagError{fmt.Errorf("%s: %w", cmd.CommandPath(), err)}
		}
		return nil
	}
}

// logger writes to standard error: progress lines where no terminal shows a
// live picture, else only what needs attention.
func (c *cli) logger() *slog.Logger {
	level := slog.LevelWarn
	if c.verbose {
		level = slog.LevelDebug
	} else if c.serving || c.terminal == nil && !c.quiet {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.stderr, o))
	}
	return slog.New(slog.NewTextHandler(c.stderr, o))
}
