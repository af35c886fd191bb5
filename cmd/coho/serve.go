package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	_ "time/tzdata" // schedules mean the same on a machine without a zone database

	"github.com/spf13/cobra"

	"coho/engine"
	"coho/engine/config"
	"coho/engine/daemon"
	"coho/engine/server"
)

func (c *cli) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run syncs by their schedules, and answer the HTTP API",
		Long: `Run syncs and sequences by their schedules until told to end, and answer the HTTP
API on [server] addr. What an earlier process left unfinished is gone on with
first.

SIGTERM or Ctrl-C takes no more work and lets batches in flight finish, for as
long as [server] shutdown_timeout; a second one gives them up at once. What is
left goes on at the next start. It then ends with exit code 143 after SIGTERM
and 130 after Ctrl-C, as every command does that a signal ends cleanly. SIGHUP,
or a change of the config's files, reloads the config; one with mistakes is
refused and the old one kept.

` + exitCodeHelp,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.serve(cmd.Context()) },
	}
}

// serve is the daemon's whole life.
func (c *cli) serve(ctx context.Context) (err error) {
	c.serving = true
	log := c.logger()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	metrics := server.NewMetrics(version())
	l := &loader{c: c, log: log, metrics: metrics}
	if l.traces, err = c.traces(ctx, log); err != nil {
		return err
	}
	if l.traces != nil {
		defer func() {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesTimeout)
			defer cancel()
			if cerr := l.traces.Close(closing); cerr != nil {
				log.Warn("the last traces were not sent", "error", cerr)
			}
		}()
	}
	d := daemon.New(daemon.Options{Load: l.load, Fingerprint: l.fingerprint, Logger: log, Abort: c.abort})
	l.daemon = d
	if err := d.Open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := l.remember(); err != nil {
		return err
	}
	s, err := server.New(server.Options{
		Daemon: d, StateDir: l.first.StateDir, Addr: l.first.Server.Addr, Token: l.first.Server.Token,
		Version: version(), Metrics: metrics, Logger: log,
		Config: func() string {
			w, _, _ := d.Config()
			return w.Fingerprint
		},
	})
	if err != nil {
		return err
	}
	at, err := s.Listen()
	if err != nil {
		return err
	}

	// The server answers to the last: it is asked how the runs that come to
	// their end are doing.
	work, stop := context.WithCancel(ctx)
	answers, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	var broken error
	background.Go(func() {
		defer stop() // without its server the daemon is not what was asked for
		broken = s.Serve(answers, at)
	})
	background.Go(func() {
		<-work.Done()
		s.Stop()
		notify(log, c.env, "STOPPING=1")
	})
	background.Go(func() {
		for {
			select {
			case <-work.Done():
				return
			case <-hangup:
				// What is wrong with the config is in the log.
				if err := d.Reload(work); errors.Is(err, daemon.ErrStopping) {
					return
				}
			}
		}
	})
	log.Info("coho answers", "version", version(), "addr", at.Addr())
	notify(log, c.env, "READY=1")
	err = d.Run(work)
	stop()
	hangUp()
	background.Wait()
	return errors.Join(err, broken)
}

// loader reads and wires the config, over and over.
type loader struct {
	c       *cli
	log     *slog.Logger
	metrics *server.Metrics
	traces  *server.Traces // nil: none are sent
	daemon  *daemon.Daemon

	mu     sync.Mutex     // guards the rest
	first  *config.Config // the one that the server goes by
	inputs *config.Inputs // of the last config read, good or bad
}

// load reads the config and makes of it what the daemon needs.
func (l *loader) load() (*daemon.Wired, error) {
	cfg, inputs, err := config.LoadInputs(l.c.configPath, l.c.env)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inputs = &inputs
	if err != nil {
		return nil, err
	}
	switch {
	case l.first == nil:
		l.first = cfg
	case cfg.Server.Addr != l.first.Server.Addr, cfg.Server.Token != l.first.Server.Token:
		l.log.Warn("[server] addr and token stay as they were until coho is started anew")
	}
	w, o, err := l.c.connect(cfg)
	if err != nil {
		return nil, err
	}
	o.RunEnded = func(r *engine.Run) {
		l.runEnded(r)
		w.alerts.RunEnded(r)
	}
	return &daemon.Wired{
		Engine: o, MaxRuns: cfg.Server.MaxRuns, ShutdownTimeout: cfg.Server.ShutdownTimeout,
		Fingerprint: fingerprint(cfg), Close: w.closeBeside,
	}, nil
}

// fingerprint says what the config's files look like.
func (l *loader) fingerprint() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inputs == nil {
		// Which files they are is known once the config was read; a mistake in
		// it is reported by the reading that counts.
		_, inputs, _ := config.LoadInputs(l.c.configPath, l.c.env)
		l.inputs = &inputs
	}
	return l.inputs.Fingerprint()
}

// runEnded tells metrics and traces of a run.
func (l *loader) runEnded(r *engine.Run) {
	l.metrics.RunEnded(r)
	if e := l.daemon.Engine(); l.traces != nil && e != nil {
		l.traces.RunEnded(r, e.History())
	}
}

// rememberRuns is among how many of a sync's last runs its last success is looked for.
const rememberRuns = 100

// remember has the metrics begin with how each sync's last runs ended.
func (l *loader) remember() error {
	for _, name := range l.first.SyncNames() {
		runs, err := l.daemon.Engine().History().List(name, rememberRuns)
		if err != nil {
			return err
		}
		for _, r := range slices.Backward(runs) { // the newest last
			l.metrics.Remember(r)
		}
	}
	return nil
}

// tracesTimeout is how long the last traces may take to be sent.
const tracesTimeout = 5 * time.Second

// traces sends traces where an endpoint is set in the environment, by the names
// that all of OpenTelemetry's tools know; nil where none is.
func (c *cli) traces(ctx context.Context, log *slog.Logger) (*server.Traces, error) {
	env := func(name string) string {
		v, _ := c.env(name)
		return strings.TrimSpace(v)
	}
	endpoint, own := env("OTEL_EXPORTER_OTLP_ENDPOINT"), env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" && own == "" || strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") || env("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	const spoken = "http/protobuf"
	if p := cmp.Or(env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), env("OTEL_EXPORTER_OTLP_PROTOCOL"), spoken); p != spoken {
		log.Warn("traces are sent as "+spoken+", which collectors take on port 4318; the protocol asked for is not spoken", "asked", p)
	}
	if own != "" {
		endpoint = "" // the exporter reads the other, which is whole, by itself
	}
	return server.NewTraces(ctx, server.TracesOptions{Endpoint: endpoint, Version: version(), Logger: log})
}

// notify tells systemd, where it is what started coho, how coho stands
// (sd_notify(3), Type=notify). That it cannot be told is no reason to end.
func notify(log *slog.Logger, env func(string) (string, bool), state string) {
	name, _ := env("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		log.Warn("systemd could not be told", "state", state, "error", fmt.Errorf("notify: %w", err))
	}
}
