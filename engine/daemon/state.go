package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"coho/engine"
	"coho/models"
)

// stateFile is where the daemon keeps what must outlive it, in the state
// directory.
const stateFile = "daemon.json"

// stateFormat is what the file says of its format.
const stateFormat = "coho-daemon-1"

// kept is what the file holds.
type kept struct {
	Format    string              `json:"format"`
	Schedules map[string]lastTime `json:"schedules"`
	Paused    []string            `json:"paused"`
	Jobs      []keptJob           `json:"jobs"`
}

type keptJob struct {
	ID       string   `json:"id"`
	Sequence string   `json:"sequence,omitempty"`
	Syncs    []string `json:"syncs,omitempty"`
	Full     bool     `json:"full,omitempty"`
	Approve  bool     `json:"approve,omitempty"`
	// ApproveRun is in it only where a halted run was approved.
	ApproveRun string    `json:"approve_run,omitempty"`
	Trigger    string    `json:"trigger"`
	ByItself   bool      `json:"by_itself,omitempty"`
	At         time.Time `json:"accepted_at"`
	Resumes    int       `json:"resumes,omitempty"`
	// Key is in it only where one row is run.
	Key []string `json:"key,omitempty"`
	// LeaveOut is in it only where something is left out.
	LeaveOut map[string]string `json:"leave_out,omitempty"`
	Parts    []keptPart        `json:"parts"`
}

type keptPart struct {
	Sync string `json:"sync"`
	Run  string `json:"run"`
	Over bool   `json:"over,omitempty"`
}

// files writes the daemon's file, once for all who ask for it at the same time.
type files struct {
	write sync.Mutex // held while the file is written

	mu      sync.Mutex // guards asked
	asked   uint64     // how often the file was asked for
	written uint64     // up to which of them it has been written; guarded by write
}

// persist writes what must outlive the process. It returns once the file holds
// all that was so when it was called.
func (d *Daemon) persist() error {
	f := &d.files
	f.mu.Lock()
	f.asked++
	mine := f.asked
	f.mu.Unlock()
	f.write.Lock()
	defer f.write.Unlock()
	if f.written >= mine {
		return nil
	}
	f.mu.Lock()
	all := f.asked
	f.mu.Unlock()
	d.mu.Lock()
	e := d.gen.engine
	k := d.kept()
	d.mu.Unlock()
	if err := save(e, k); err != nil {
		return err
	}
	f.written = all
	return nil
}

// note is persist where nobody can be told that it failed but the log. What is
// not noted is done once more after a crash, which does no harm.
func (d *Daemon) note() {
	if err := d.persist(); err != nil {
		d.log.Error("the daemon's state could not be written", "error", err)
	}
}

// kept is what the file is to hold. d.mu is held.
func (d *Daemon) kept() kept {
	k := kept{Format: stateFormat, Schedules: map[string]lastTime{}, Paused: []string{}, Jobs: []keptJob{}}
	for e, l := range d.last {
		k.Schedules[e.String()] = l
	}
	for e := range d.paused {
		k.Paused = append(k.Paused, e.String())
	}
	slices.Sort(k.Paused)
	for _, j := range d.jobs {
		out := keptJob{ID: j.id, Sequence: j.sequence, Syncs: j.syncs, Full: j.full, Approve: j.approve, ApproveRun: j.approveRun, Key: j.key, Trigger: j.trigger, ByItself: j.byItself, At: j.acceptedAt, Resumes: j.resumes, LeaveOut: j.leaveOut}
		left := false
		for _, p := range j.parts {
			out.Parts = append(out.Parts, keptPart{p.sync, p.id, p.over})
			left = left || !p.over
		}
		if left {
			k.Jobs = append(k.Jobs, out)
		}
	}
	return k
}

// load reads the file; one that is not there holds nothing.
func load(e *engine.Engine, stateDir string) (kept, error) {
	k := kept{Format: stateFormat, Schedules: map[string]lastTime{}, Paused: []string{}, Jobs: []keptJob{}}
	b, err := e.LoadFile(stateFile)
	if b == nil || err != nil {
		return k, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&k); err != nil {
		return k, fmt.Errorf("the daemon's state, %s in the state directory, is damaged (%w); it says what is paused and what is to be gone on with: delete it to begin without", stateFile, err)
	}
	if k.Format != stateFormat {
		return k, &engine.StateVersionError{Dir: stateDir, Version: k.Format}
	}
	return k, nil
}

// SetPaused pauses or resumes, where no daemon runs, what the next one will find
// so; see [Daemon.Pause]. Either all the names are paused or resumed or, where one
// is not in the config, none. It returns an *engine.LockedError where a process has
// the state.
func SetPaused(e *engine.Engine, stateDir string, kind Kind, names []string, paused bool) error {
	for _, name := range names {
		var err error
		if kind == Sync {
			_, err = e.Sync(name)
		} else {
			_, err = e.Sequence(name)
		}
		if err != nil {
			return err
		}
	}
	if err := e.Lock("coho pause"); err != nil {
		return err
	}
	k, err := load(e, stateDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		text := entry{kind, name}.String()
		k.Paused = slices.DeleteFunc(k.Paused, func(p string) bool { return p == text })
		if paused {
			k.Paused = append(k.Paused, text)
		}
	}
	slices.Sort(k.Paused)
	return save(e, k)
}

// Paused returns what the next daemon will find paused, where none runs.
func Paused(e *engine.Engine, stateDir string) (func(Kind, string) bool, error) {
	k, err := load(e, stateDir)
	return func(kind Kind, name string) bool {
		return slices.Contains(k.Paused, entry{kind, name}.String())
	}, err
}

// save replaces the file.
func save(e *engine.Engine, k kept) error {
	b, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode the daemon's state: %w", err)
	}
	if err := e.SaveFile(stateFile, append(b, '\n')); err != nil {
		return fmt.Errorf("keep the daemon's state: %w", err)
	}
	return nil
}

// maxResumes is how often starts go on with a job: one that brings the process
// down each time must not do so for ever.
const maxResumes = 5

// restore reads what an earlier process left and goes on with it: its jobs, and
// the plans of syncs that no job knows of.
func (d *Daemon) restore() error {
	d.mu.Lock()
	g := d.gen
	d.mu.Unlock()
	k, err := load(g.engine, g.Wired.Engine.StateDir)
	if err != nil {
		return err
	}
	now := time.Now()
	plans, err := unfinishedSyncs(g)
	if err != nil {
		return err
	}

	d.mu.Lock()
	for text, l := range k.Schedules {
		d.last[entryOf(text)] = l
	}
	for _, text := range k.Paused {
		d.paused[entryOf(text)] = true
	}
	d.setTable(now)
	var jobs []*job
	for _, left := range k.Jobs {
		j, err := d.again(g, left, plans, now)
		if err != nil {
			d.mu.Unlock()
			return err
		}
		if j != nil {
			jobs = append(jobs, j)
		}
	}
	for _, name := range g.Engine.SyncOrder {
		u := plans[name]
		if u.run == "" || u.canceled || slices.ContainsFunc(jobs, func(j *job) bool { return j.hasLeft(name) }) {
			continue
		}
		if d.paused[entry{Sync, name}] {
			d.log.Info("a paused sync has an unfinished plan; its next run finishes it", "sync", name, "run", u.run)
			continue
		}
		j, err := d.makeJob([][]string{{name}}, now)
		if err != nil {
			d.mu.Unlock()
			return err
		}
		j.syncs, j.trigger, j.byItself = []string{name}, "resume", true
		d.accept(j, 1)
		jobs = append(jobs, j)
	}
	d.mu.Unlock()
	if err := d.persist(); err != nil {
		return err
	}
	for _, j := range jobs {
		d.log.Info("going on with what was left", "sequence", j.sequence, "syncs", j.syncs, "run", j.id)
		d.begin(j)
	}
	return nil
}

func (j *job) hasLeft(sync string) bool {
	return slices.ContainsFunc(j.parts, func(p *part) bool { return p.sync == sync && !p.over })
}

// unfinished is a plan that a sync has left.
type unfinished struct {
	run string // whose plan it is
	// canceled: a person canceled the sync's last run. What it left waits for
	// the next one.
	canceled bool
}

func unfinishedSyncs(g *generation) (map[string]unfinished, error) {
	out := map[string]unfinished{}
	for _, name := range g.Engine.SyncOrder {
		run, err := g.engine.Unfinished(name)
		if err != nil {
			return nil, fmt.Errorf("look for an unfinished plan of sync %s: %w", name, err)
		}
		if run == "" {
			continue
		}
		last, err := g.engine.History().List(name, 1)
		if err != nil {
			return nil, err
		}
		out[name] = unfinished{run, len(last) > 0 && last[0].Status == engine.Canceled}
	}
	return out, nil
}

// again makes a job once more of what was left of it; nil where it is given up.
// d.mu is held.
func (d *Daemon) again(g *generation, left keptJob, plans map[string]unfinished, now time.Time) (*job, error) {
	log := d.log.With("sequence", left.Sequence, "syncs", left.Syncs, "run", left.ID)
	if left.Resumes >= maxResumes {
		log.Error("given up: the process ended each time that it was gone on with", "times", left.Resumes)
		return nil, nil
	}
	if left.Sequence != "" {
		if _, err := g.engine.Sequence(left.Sequence); err != nil {
			log.Warn("what was left is dropped: the config does not have it any more", "error", err)
			return nil, nil
		}
	}
	for _, s := range left.Syncs {
		if _, err := g.engine.Sync(s); err != nil {
			log.Warn("what was left is dropped: the config does not have it any more", "error", err)
			return nil, nil
		}
	}
	if left.ApproveRun != "" && !slices.ContainsFunc(left.Syncs, func(s string) bool { return plans[s].run == left.ApproveRun }) {
		if _, err := g.engine.Approval(left.ApproveRun); err != nil {
			log.Info("the plan that was approved waits no more", "plan", left.ApproveRun, "error", err)
			return nil, nil
		}
	}
	j, err := d.makeJob(nil, now)
	if err != nil {
		return nil, err
	}
	j.id, j.acceptedAt, j.resumes = left.ID, left.At, left.Resumes+1
	j.sequence, j.syncs, j.full, j.approve, j.trigger, j.byItself = left.Sequence, left.Syncs, left.Full, left.Approve, left.Trigger, left.ByItself
	j.leaveOut, j.approveRun, j.key = left.LeaveOut, left.ApproveRun, left.Key
	for _, was := range left.Parts {
		p, err := j.add(was.Sync, now)
		if err != nil {
			return nil, err
		}
		if !was.Over {
			p.progress.Remark(fmt.Sprintf("goes on with run %s, which ended with the process that ran it", was.Run))
			p.again = plans[was.Sync].run == was.Run
			p.approved = approvedBefore(g.engine, plans[was.Sync].run)
			continue
		}
		p.id, p.over, p.state = was.Run, true, RunEnded
		p.run, p.err = endOf(g.engine, was.Run)
		close(p.done)
	}
	d.jobs = append(d.jobs, j)
	if next := slices.IndexFunc(j.parts, func(p *part) bool { return !p.over }); next >= 0 {
		d.enqueue(j.parts[next]) // see accept
	}
	return j, nil
}

// approvedBefore reports whether a plan that is to be finished is one that was
// halted and went on since. What is planned after it nobody has seen.
func approvedBefore(e *engine.Engine, plan string) bool {
	if plan == "" {
		return false
	}
	run, err := e.History().Get(plan)
	return err == nil && run.Status == engine.Halted
}

// endOf returns how a run ended that is over, as far as the history knows.
func endOf(e *engine.Engine, id string) (*engine.Run, error) {
	run, err := e.History().Get(id)
	if err != nil {
		return nil, nil // it never began, or is forgotten
	}
	return run, errorOf(run)
}

// errorOf is why a run of the history did not complete, nil where it did.
func errorOf(run *engine.Run) error {
	switch run.Status {
	case engine.Succeeded, engine.CompletedWithErrors:
		return nil
	}
	return errors.New(run.Error)
}

func sortedNames(m map[string]models.Sequence) []string { return slices.Sorted(maps.Keys(m)) }
