package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"coho/engine"
	"coho/engine/config"
	"coho/engine/daemon"
	"coho/engine/server"
)

// beside returns the daemon that holds the config's state directory, nil where
// none does. What does not fit between the daemon and this process is said.
func (c *cli) beside(ctx context.Context, w *wired) (*server.Client, error) {
	d, err := dialQuietly(ctx, w)
	if d == nil {
		return nil, err
	}
	info := d.Info()
	if info.API != apiVersion {
		d.Close()
		return nil, fmt.Errorf("the daemon (process %d) is coho %s, which speaks API %s, and this is coho %s, which speaks API %s; use the same version, or restart the daemon with this one", info.PID, info.Version, info.API, version(), apiVersion)
	}
	if v := version(); info.Version != v {
		fmt.Fprintf(c.stderr, "coho: warning: the daemon (process %d) is coho %s and this is coho %s; restart the daemon to have them the same\n", info.PID, info.Version, v)
	}
	switch own := fingerprint(w.config); {
	case info.Config == own:
	case info.ConfigError != "":
		fmt.Fprintf(c.stderr, "coho: warning: the daemon (process %d) goes by an older config than %s, which it refused: %s\n", info.PID, c.configPath, oneLine(info.ConfigError))
	default:
		fmt.Fprintf(c.stderr, "coho: warning: the daemon (process %d) goes by a config that differs from %s (fingerprint %s, here %s); what it does, it does by its own; `coho reload` has it read its config again\n", info.PID, c.configPath, info.Config, own)
	}
	return d, nil
}

// dialQuietly is beside without a word on what differs.
func dialQuietly(ctx context.Context, w *wired) (*server.Client, error) {
	d, err := server.Dial(ctx, w.config.StateDir)
	if errors.Is(err, server.ErrNoDaemon) {
		return nil, nil
	}
	return d, err
}

// apiVersion is the version of the daemon's API that this coho speaks.
const apiVersion = "v1"

// How long a daemon that has just been started is waited for.
const (
	startingWait = 5 * time.Second
	startingLook = 50 * time.Millisecond
)

// conducted is a config and who works on its state: the daemon that holds it or,
// where daemon is nil, this process.
type conducted struct {
	*wired
	daemon *server.Client
}

// conduct calls do with the daemon that holds the state directory, or, where none
// does, with an engine of this process's own.
func (c *cli) conduct(ctx context.Context, do func(*conducted) error) error {
	return c.with(func(w *wired) error {
		d, err := c.beside(ctx, w)
		if err != nil {
			return err
		}
		if d != nil {
			defer d.Close()
		}
		return do(&conducted{wired: w, daemon: d})
	})
}

// conductState is conduct for what needs the state: a daemon that has taken the
// state directory and does not answer yet is waited for. do has done nothing where
// it returns that another process holds the state.
func (c *cli) conductState(ctx context.Context, do func(*conducted) error) error {
	until := time.Now().Add(startingWait)
	for {
		err := c.conduct(ctx, do)
		var locked *engine.LockedError
		if !errors.As(err, &locked) || !strings.Contains(locked.Holder, "(coho serve)") || time.Now().After(until) {
			return err
		}
		wait := time.NewTimer(startingLook)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return err
		}
	}
}

// needDaemon returns an error for a command that is about schedules, where no
// daemon keeps them.
func (x *conducted) needDaemon() error {
	if x.daemon == nil {
		return &engine.UsageError{Message: fmt.Sprintf("no daemon runs on %s; schedules are kept by `coho serve`", x.config.StateDir)}
	}
	return nil
}

// setPaused pauses or resumes schedules: the daemon's, or, where none runs, what the
// next one will find.
func (x *conducted) setPaused(ctx context.Context, kind daemon.Kind, names []string, paused bool) error {
	if x.daemon == nil {
		return daemon.SetPaused(x.engine, x.config.StateDir, kind, names, paused)
	}
	set, path := x.daemon.Resume, "syncs"
	if paused {
		set = x.daemon.Pause
	}
	if kind == daemon.Sequence {
		path = "sequences"
	}
	for _, name := range names {
		if err := set(ctx, path, name); err != nil {
			return err
		}
	}
	return nil
}

// The history of runs: read by the daemon, or by this process, which needs no
// lock for it.

func (x *conducted) list(ctx context.Context, sync string, max int) ([]*engine.Run, error) {
	if x.daemon != nil {
		return x.daemon.List(ctx, sync, max)
	}
	return x.engine.History().List(sync, max)
}

func (x *conducted) get(ctx context.Context, idOrSync string) (*engine.Run, error) {
	if x.daemon != nil {
		return x.daemon.Get(ctx, idOrSync)
	}
	return x.engine.History().Get(idOrSync)
}

func (x *conducted) listSequences(ctx context.Context, sequence string, max int) ([]*engine.SequenceRun, error) {
	if x.daemon != nil {
		return x.daemon.ListSequences(ctx, sequence, max)
	}
	return x.engine.History().ListSequences(sequence, max)
}

func (x *conducted) sequence(ctx context.Context, idOrName string) (*engine.SequenceRun, error) {
	if x.daemon != nil {
		return x.daemon.SequenceRun(ctx, idOrName)
	}
	return x.engine.History().Sequence(idOrName)
}

func (x *conducted) keptPlan(ctx context.Context, runOrSync string, o engine.KeptOptions, yield func(*engine.KeptOperation) bool) (engine.KeptPlan, error) {
	if x.daemon != nil {
		return x.daemon.KeptPlan(ctx, runOrSync, o, yield)
	}
	return x.engine.KeptPlan(runOrSync, o, yield)
}

func (x *conducted) errors(ctx context.Context, run string, yield func(*engine.RowError) bool) error {
	if x.daemon != nil {
		return x.daemon.Errors(ctx, run, yield)
	}
	return x.engine.History().Errors(run, yield)
}

func (x *conducted) calls(ctx context.Context, run string, bodies bool, yield func(*engine.APICall) bool) (kept bool, err error) {
	if x.daemon != nil {
		return x.daemon.Calls(ctx, run, bodies, yield)
	}
	return x.engine.History().Calls(run, func(call *engine.APICall) bool {
		if !bodies {
			call.Request, call.Answer = "", ""
		}
		return yield(call)
	})
}

// A sync's snapshot: looked at and changed by who holds the state.

func (x *conducted) snapshot(ctx context.Context, sync string) (engine.SnapshotInfo, error) {
	if x.daemon != nil {
		return x.daemon.Snapshot(ctx, sync)
	}
	return x.engine.SnapshotInfo(sync)
}

func (x *conducted) resetSnapshot(ctx context.Context, sync string) error {
	if x.daemon != nil {
		return x.daemon.ResetSnapshot(ctx, sync)
	}
	return x.engine.ResetSnapshot(sync)
}

func (x *conducted) exportSnapshot(ctx context.Context, sync string, w io.Writer) error {
	if x.daemon != nil {
		return x.daemon.ExportSnapshot(ctx, sync, w)
	}
	return x.engine.ExportSnapshot(sync, w)
}

func (x *conducted) importSnapshot(ctx context.Context, sync string, r io.Reader) error {
	if x.daemon != nil {
		return x.daemon.ImportSnapshot(ctx, sync, r)
	}
	return x.engine.ImportSnapshot(sync, r)
}

// fingerprint says in a few letters what a config means: the same for two
// processes that would do the same by it, wherever they were started and whatever
// their secrets are, which are no part of it.
func fingerprint(cfg *config.Config) string {
	text, err := json.Marshal(struct {
		Sources, Destinations, Models, Syncs, Sequences any
	}{cfg.Sources, cfg.Destinations, cfg.Models, cfg.Syncs, cfg.Sequences})
	var plain any
	if err == nil {
		err = json.Unmarshal(text, &plain)
	}
	if err == nil {
		text, err = json.Marshal(placeless(plain))
	}
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// placeless takes out of decoded JSON where in which file a thing is said, and
// makes paths of files absolute.
func placeless(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "Pos")
		for _, key := range []string{"Path", "Dir"} {
			if p, ok := v[key].(string); ok && p != "" {
				if full, err := filepath.Abs(p); err == nil {
					v[key] = full
				}
			}
		}
		for _, x := range v {
			placeless(x)
		}
	case []any:
		for _, x := range v {
			placeless(x)
		}
	}
	return v
}
