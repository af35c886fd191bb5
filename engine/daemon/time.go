package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"coho/engine/schedule"
	"coho/models"
)

// longestSleep bounds how long the timetable is not looked at: timers do not
// see that the machine slept or that its clock was set.
const longestSleep = 20 * time.Second

// lastTime is how far a schedule has come.
type lastTime struct {
	Line     string    `json:"line"`
	Timezone string    `json:"timezone"`
	At       time.Time `json:"at"`
}

func (e entry) String() string { return string(e.kind) + "/" + e.name }

func entryOf(text string) entry {
	kind, name, _ := strings.Cut(text, "/")
	return entry{Kind(kind), name}
}

// scheduled are the entries of a config that have a schedule.
func (g *generation) scheduled(each func(e entry, line, zone string, t models.Timing)) {
	for _, name := range g.Engine.SyncOrder {
		if s := g.Engine.Syncs[name]; s.Schedule != "" {
			each(entry{Sync, name}, s.Schedule, s.Timezone, s.Timing)
		}
	}
	for name, s := range g.Engine.Sequences {
		if s.Schedule != "" {
			each(entry{Sequence, name}, s.Schedule, s.Timezone, s.Timing)
		}
	}
}

// setTable makes the timetable of the config in force. A schedule that is new,
// or was changed, begins now: nothing of it was missed. d.mu is held.
func (d *Daemon) setTable(now time.Time) {
	var entries []schedule.Entry
	last := map[entry]lastTime{}
	d.gen.scheduled(func(e entry, line, zone string, t models.Timing) {
		s, err := schedule.Parse(line, zone)
		if err != nil {
			// The config was checked by the same parser.
			d.log.Error("a schedule cannot be kept", string(e.kind), e.name, "schedule", line, "error", err)
			return
		}
		at := now
		if l, ok := d.last[e]; ok && l.Line == line && l.Timezone == zone && !l.At.After(now) {
			at = l.At
		}
		last[e] = lastTime{line, zone, at}
		entries = append(entries, schedule.Entry{Name: e.String(), Schedule: s, Jitter: t.Jitter, After: at, CatchUp: t.CatchUp == "once"})
	})
	d.last = last
	d.table = schedule.NewTimetable(entries, now)
}

// rouse has keepTime look at the timetable again.
func (d *Daemon) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// keepTime runs what is due until ctx ends.
func (d *Daemon) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return
		}
		d.runDue(ctx, time.Now())
		d.mu.Lock()
		next := d.table.Next()
		d.mu.Unlock()
		sleep := longestSleep
		if !next.IsZero() {
			// By the clock on the wall, which may have been set.
			sleep = max(min(sleep, next.Sub(time.Now().Round(0))), 0)
		}
		timer.Reset(sleep)
	}
}

// runDue sets off what has come due.
func (d *Daemon) runDue(ctx context.Context, now time.Time) {
	var jobs []*job
	d.mu.Lock()
	due := d.table.Due(now.Round(0))
	for _, x := range due {
		e := entryOf(x.Name)
		l := d.last[e]
		l.At = x.At
		d.last[e] = l
		j, err := d.setOff(ctx, e, x)
		if err != nil {
			d.log.ErrorContext(ctx, "a scheduled run could not be set off", string(e.kind), e.name, "error", err)
			continue
		}
		if j != nil {
			jobs = append(jobs, j)
		}
	}
	d.mu.Unlock()
	if len(due) == 0 {
		return
	}
	d.note()
	for _, j := range jobs {
		d.begin(j)
	}
}

// setOff makes and accepts the job of a scheduled time; nil where there is
// nothing to run, which is said in the log and, where a run is the reason, in
// that run's record. d.mu is held.
func (d *Daemon) setOff(ctx context.Context, e entry, due schedule.Due) (*job, error) {
	log := d.log.With(string(e.kind), e.name, "scheduled", due.At)
	at := due.At.Format(time.RFC3339)
	if d.paused[e] {
		log.DebugContext(ctx, "paused: the scheduled time passes")
		return nil, nil
	}
	trigger, remark := "schedule", ""
	switch {
	case due.Late && !due.Run:
		log.WarnContext(ctx, "scheduled times were missed and are skipped (catch_up = \"skip\")", "missed", due.Missed)
		return nil, nil
	case due.Late:
		trigger = "catch-up"
		remark = fmt.Sprintf("makes up for %d scheduled times that were missed, the last at %s", due.Missed, at)
		log.InfoContext(ctx, "scheduled times were missed and are made up for by one run (catch_up = \"once\")", "missed", due.Missed)
	case due.Missed > 0:
		remark = fmt.Sprintf("%d scheduled times before %s were missed; this run stands for them too", due.Missed, at)
		log.WarnContext(ctx, "scheduled times were missed; one run stands for them", "missed", due.Missed)
	}
	var j *job
	var first int
	var err error
	if e.kind == Sync {
		s, err := d.gen.engine.Sync(e.name)
		if err != nil {
			return nil, err
		}
		if p := d.inUse(e.name); p != nil {
			if s.Timing.Overlap != overlapQueue || d.queued(e.name) != nil {
				log.WarnContext(ctx, "skipped: a run of the sync has not ended", "run", p.id, "overlap", s.Timing.Overlap)
				p.progress.Remark(fmt.Sprintf("the run scheduled for %s was skipped: this one had not ended", at))
				return nil, nil
			}
			log.InfoContext(ctx, "queued: a run of the sync has not ended", "run", p.id, "overlap", s.Timing.Overlap)
			remark = fmt.Sprintf("scheduled for %s; queued behind run %s, which had not ended", at, p.id)
		}
		if j, err = d.makeJob([][]string{{e.name}}, time.Now()); err != nil {
			return nil, err
		}
		j.syncs, first = []string{e.name}, 1
	} else {
		s, err := d.gen.engine.Sequence(e.name)
		if err != nil {
			return nil, err
		}
		active, waiting := d.jobsOf(e.name)
		if active != nil && (s.Timing.Overlap != overlapQueue || waiting != nil) {
			log.WarnContext(ctx, "skipped: a run of the sequence has not ended", "run", active.id, "overlap", s.Timing.Overlap)
			active.remark(fmt.Sprintf("the run of sequence %s scheduled for %s was skipped: this one had not ended", e.name, at))
			return nil, nil
		}
		if j, err = d.makeJob(s.Steps, time.Now()); err != nil {
			return nil, err
		}
		j.sequence, j.after, first = e.name, active, len(s.Steps[0])
		if active != nil {
			log.InfoContext(ctx, "queued: a run of the sequence has not ended", "run", active.id, "overlap", s.Timing.Overlap)
			remark = fmt.Sprintf("scheduled for %s; queued behind run %s of the sequence, which had not ended", at, active.id)
		}
	}
	if err != nil {
		return nil, err
	}
	j.trigger, j.byItself = trigger, true
	if remark != "" {
		j.remark(remark)
	}
	d.accept(j, first)
	return j, nil
}

const overlapQueue = "queue"

// remark puts a line into the record of the job's first run that has not ended.
// Daemon.mu is held.
func (j *job) remark(line string) {
	for _, p := range j.parts {
		if p.state != RunEnded {
			p.progress.Remark(line)
			return
		}
	}
}

// Pause keeps a sync or a sequence from being run by schedules, also after a
// restart; started by name it runs as ever. A paused sync is passed over in
// sequences that a schedule sets off. What goes on is not stopped, and what
// waits by schedule is called off. Pausing twice is no error; a name that does
// not exist is an *engine.UsageError.
func (d *Daemon) Pause(kind Kind, name string) error { return d.setPaused(kind, name, true) }

// Resume ends what Pause began. Times that passed meanwhile are not made up
// for.
func (d *Daemon) Resume(kind Kind, name string) error { return d.setPaused(kind, name, false) }

func (d *Daemon) setPaused(kind Kind, name string, paused bool) error {
	d.mu.Lock()
	if d.notReady != nil {
		defer d.mu.Unlock()
		return d.notReady
	}
	var err error
	if kind == Sync {
		_, err = d.gen.engine.Sync(name)
	} else {
		_, err = d.gen.engine.Sequence(name)
	}
	if err != nil {
		d.mu.Unlock()
		return err
	}
	e := entry{kind, name}
	if paused {
		d.paused[e] = true
		for _, j := range d.jobs {
			waits := j.after != nil && !j.after.ended() || j.sequence == "" && len(d.queue) > 0 && d.queued(name) != nil && d.queued(name).job == j
			if j.byItself && waits && (kind == Sequence && j.sequence == name || kind == Sync && j.sequence == "" && j.syncs[0] == name) {
				d.callOff(j)
			}
		}
	} else {
		delete(d.paused, e)
	}
	d.mu.Unlock()
	d.log.Info("paused or resumed", string(kind), name, "paused", paused)
	return d.persist()
}

// next is when an entry comes next. d.mu is held.
func (d *Daemon) next(e entry) time.Time {
	if d.paused[e] {
		return time.Time{}
	}
	return d.table.NextOf(e.String())
}

// Syncs returns how each sync of the config stands, in the config's order.
func (d *Daemon) Syncs() ([]SyncStatus, error) {
	var out []SyncStatus
	d.mu.Lock()
	if d.gen == nil {
		defer d.mu.Unlock()
		return nil, d.notReady
	}
	g := d.gen
	for _, name := range g.Engine.SyncOrder {
		s, e := g.Engine.Syncs[name], entry{Sync, name}
		one := SyncStatus{Name: name, Schedule: s.Schedule, Timezone: s.Timezone, NextRun: d.next(e), Paused: d.paused[e]}
		if p := d.busy[name]; p != nil {
			one.Running = p.id
		}
		if p := d.queued(name); p != nil {
			one.Queued = p.id
		}
		out = append(out, one)
	}
	d.mu.Unlock()
	for i := range out {
		last, err := g.engine.History().List(out[i].Name, 1)
		if err != nil {
			return nil, err
		}
		if len(last) > 0 {
			out[i].LastRun = last[0]
		}
	}
	return out, nil
}

// Sequences returns how each sequence of the config stands, by name.
func (d *Daemon) Sequences() []SequenceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gen == nil {
		return nil
	}
	var out []SequenceStatus
	for _, name := range sortedNames(d.gen.Engine.Sequences) {
		s, e := d.gen.Engine.Sequences[name], entry{Sequence, name}
		one := SequenceStatus{Name: name, Steps: s.Steps, Schedule: s.Schedule, Timezone: s.Timezone, NextRun: d.next(e), Paused: d.paused[e]}
		active, waiting := d.jobsOf(name)
		if active != nil {
			one.Running = active.id
		}
		if waiting != nil {
			one.Queued = waiting.id
		}
		out = append(out, one)
	}
	return out
}

// Paused reports whether a sync or a sequence is paused.
func (d *Daemon) Paused(kind Kind, name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused[entry{kind, name}]
}
