package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"coho/models"
)

// namedSections are the sections that hold tables by the user's names; they
// may be spread over files.
var namedSections = []string{"sources", "destinations", "models", "syncs", "sequences", "alerts"}

// decoder turns the merged tree into a Config. Names are collected before
// anything is decoded, so that one broken model is not reported again by
// every sync that uses it.
type decoder struct {
	*loader
	config  *Config
	names   map[string][]string // section to the names defined in it
	keys    map[string]bool     // every key asked for, by schema path: was it there
	project dbtProject
	timing  models.Timing // what [schedules] says of all
}

func (d *decoder) decode(root *node) {
	d.keys = map[string]bool{}
	d.names = map[string][]string{}
	top := &table{d: d, n: root}
	top.known = append(top.known, "include")
	sections := map[string]*node{}
	for _, section := range namedSections {
		top.known = append(top.known, section)
		if e := root.get(section); e != nil {
			sections[section] = e.value
			d.collect(section, e.value)
		}
	}
	d.state(root.get("state"))
	d.history(root.get("history"))
	d.server(root.get("server"))
	d.dbt(root.get("dbt"))
	d.schedules(root.get("schedules"))
	top.known = append(top.known, "state", "history", "server", "dbt", "schedules")

	d.each("sources", sections["sources"], d.source)
	d.each("destinations", sections["destinations"], d.destination)
	d.each("models", sections["models"], d.model)
	d.each("syncs", sections["syncs"], d.sync)
	d.each("sequences", sections["sequences"], d.sequence)
	d.each("alerts", sections["alerts"], d.alert)

	for _, e := range root.entries {
		if !slices.Contains(top.known, e.name) {
			d.fail(e.pos, "unknown key %q%s", e.name, near(e.name, top.known))
		}
	}
}

// validName is what a name may hold: it becomes part of file names, URLs and
// command lines.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// collect gathers the names of a section and reports those that cannot be one.
func (d *decoder) collect(section string, n *node) {
	if n.kind != tableKind {
		d.fail(n.pos, "%s: want a table, not %s", section, kindNames[n.kind])
		return
	}
	folded := map[string]string{}
	for _, e := range n.entries {
		if !validName.MatchString(e.name) {
			d.fail(e.pos, "%s: the name %q has other characters than letters, digits, _ and -, or more than 100", section, e.name)
		}
		lower := strings.ToLower(e.name)
		if other, ok := folded[lower]; ok {
			d.fail(e.pos, "%s: the names %q and %q differ in case only", section, other, e.name)
		}
		folded[lower] = e.name
		d.names[section] = append(d.names[section], e.name)
	}
}

func (d *decoder) each(section string, n *node, decode func(name string, t *table)) {
	if n == nil || n.kind != tableKind {
		return
	}
	for _, e := range n.entries {
		if t := d.newTable(e.value, section+"."+e.name, section+".*"); t != nil {
			decode(e.name, t)
		}
	}
}

// defined reports whether the name is, or may be, in the section.
func (d *decoder) defined(section, name string) bool {
	return d.incomplete || slices.Contains(d.names[section], name)
}

// reference returns a required key that names something of a section.
func (t *table) reference(key, section string) string {
	name := t.required(key)
	if name != "" && !t.d.defined(section, name) {
		v := t.value(key)
		kind := strings.TrimSuffix(section, "s")
		t.fail(v.pos, "%s: there is no %s %s%s", key, kind, v.shown(), near(v.raw, t.d.names[section]))
	}
	return name
}

func (d *decoder) state(e *entry) {
	n := &node{kind: tableKind}
	if e != nil {
		n = e.value
	}
	t := d.newTable(n, "state", "state")
	if t == nil {
		return
	}
	if dir := t.file("dir"); dir != "" {
		d.config.StateDir = dir
	}
	t.done()
}

func (d *decoder) history(e *entry) {
	n := &node{kind: tableKind}
	if e != nil {
		n = e.value
	}
	t := d.newTable(n, "history", "history")
	if t == nil {
		return
	}
	h := &d.config.History
	h.KeepRuns = int(t.integer("keep_runs", int64(h.KeepRuns), 1, 1_000_000))
	h.KeepDays = int(t.integer("keep_days", int64(h.KeepDays), 0, 36_500))
	t.done()
}

func (d *decoder) server(e *entry) {
	n := &node{kind: tableKind}
	if e != nil {
		n = e.value
	}
	t := d.newTable(n, "server", "server")
	if t == nil {
		return
	}
	if addr := t.address("addr"); addr != "" {
		d.config.Server.Addr = addr
	}
	d.config.Server.Token = t.secret("token")
	d.config.Server.MaxRuns = int(t.integer("max_runs", 4, 1, 100))
	d.config.Server.ShutdownTimeout = t.durationOr("shutdown_timeout", 30*time.Second)
	t.done()
}

func (d *decoder) sequence(name string, t *table) {
	s := d.config.Sequences[name]
	s.Name = name
	steps := t.of("steps", arrayKind)
	switch {
	case !t.has("steps"):
		t.fail(t.n.pos, "steps is missing")
	case steps != nil && len(steps.items) == 0:
		t.fail(steps.pos, "steps is empty")
	case steps != nil:
		for _, item := range steps.items {
			if step := t.step(item); len(step) > 0 {
				s.Steps = append(s.Steps, step)
			}
		}
	}
	s.Schedule = t.schedule("schedule")
	s.Timezone = t.timezone("timezone")
	s.Timing = t.timing(d.timing)
	s.OnError = t.choice("on_error", "stop", "stop", "continue")
	s.MaxRowErrors = t.limit("max_row_errors")
	t.done()
	d.config.Sequences[name] = s
}

// step reads a step: a sync, or an array of syncs that run side by side.
func (t *table) step(n *node) []string {
	items := []*node{n}
	if n.kind == arrayKind {
		items = n.items
		if len(items) == 0 {
			t.fail(n.pos, "steps: an empty step")
		}
	}
	var step []string
	for _, item := range items {
		switch {
		case item.kind != stringKind:
			t.fail(item.pos, "steps: want the name of a sync or an array of names, not %s", kindNames[item.kind])
		case item.broken:
			t.failed = true
		case !t.d.defined("syncs", item.text):
			t.fail(item.pos, "steps: there is no sync %s%s", item.shown(), near(item.raw, t.d.names["syncs"]))
		case slices.Contains(step, item.text):
			t.fail(item.pos, "steps: %s runs beside itself", item.shown())
		default:
			step = append(step, item.text)
		}
	}
	return step
}

// alertEvents are the ends of a run that an alert can tell of.
var alertEvents = []string{"failed", "halted", "completed_with_errors", "recovered"}

func (d *decoder) alert(name string, t *table) {
	a := Alert{Name: name, URL: t.alertAddress("url"), Pos: t.pos("url").String()}
	for _, sync := range t.strings("syncs") {
		if !d.defined("syncs", sync.text) {
			t.fail(sync.pos, "syncs: there is no sync %s%s", sync.shown(), near(sync.raw, d.names["syncs"]))
			continue
		}
		a.Syncs = append(a.Syncs, sync.text)
	}
	if t.has("syncs") && len(a.Syncs) == 0 && !t.failed {
		t.fail(t.pos("syncs"), "syncs is empty: the alert would never be sent")
	}
	for _, on := range t.strings("on") {
		if !slices.Contains(alertEvents, on.text) {
			t.fail(on.pos, "on: %s is none of %s%s", on.shown(), strings.Join(alertEvents, ", "), nearChoice(on.raw, alertEvents))
			continue
		}
		a.On = append(a.On, on.text)
	}
	if !t.has("on") {
		a.On = slices.Clone(alertEvents)
	} else if v := t.n.get("on").value; v.kind == arrayKind && len(v.items) == 0 {
		t.fail(v.pos, "on is empty: the alert would never be sent")
	}
	t.done()
	d.config.Alerts[name] = a
}
