package config

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"coho/models"
)

func (d *decoder) model(name string, t *table) {
	m := models.Model{Name: name, Source: t.reference("source", "sources")}
	for _, column := range t.strings("primary_key") {
		m.PrimaryKey = append(m.PrimaryKey, column.text)
	}
	if t.has("primary_key") {
		if v := t.n.get("primary_key").value; v.kind == arrayKind && len(v.items) == 0 {
			t.fail(v.pos, "primary_key is empty")
		}
	} else if !t.has("dbt_model") {
		t.fail(t.n.pos, "primary_key is missing: the columns that identify a row")
	}
	m.SQL, m.Table = t.str("sql"), t.str("table")
	path := t.file("sql_file")
	dbtModel := t.str("dbt_model")
	given := 0
	for _, key := range []string{"sql", "sql_file", "table", "dbt_model"} {
		if t.has(key) {
			given++
		}
	}
	switch {
	case given == 0:
		t.fail(t.n.pos, "one of sql, sql_file, table and dbt_model is missing")
	case given > 1:
		t.fail(t.n.pos, "sql, sql_file, table and dbt_model exclude each other")
	case path != "":
		m.SQL = t.query(path)
	case dbtModel != "":
		t.dbtModel(dbtModel, &m)
	}
	t.done()
	d.config.Models[name] = m
}

// query reads a sql_file.
func (t *table) query(path string) string {
	v := t.value("sql_file")
	data, err := t.d.readFile(path)
	if err != nil {
		t.fail(v.pos, "sql_file: %s: %s", v.shown(), reason(err))
		return ""
	}
	if strings.TrimSpace(string(data)) == "" {
		t.fail(v.pos, "sql_file: %s is empty", v.shown())
	}
	return string(data)
}

var modes = []string{string(models.ModeInsert), string(models.ModeUpdate), string(models.ModeUpsert), string(models.ModeArchive)}

func (d *decoder) sync(name string, t *table) {
	s := &models.Sync{
		Name:        name,
		Destination: t.reference("destination", "destinations"),
		Pos:         t.n.pos.String(),
	}
	picklist := t.choice("type", "records", "records", picklistType) == picklistType
	if !picklist {
		s.Object = t.required("object")
	}
	model := t.reference("model", "models")
	s.Model = d.config.Models[model]
	if picklist {
		t.picklist(s)
	} else {
		t.records(s)
	}
	s.Schedule = t.schedule("schedule")
	s.Timezone = t.timezone("timezone")
	s.Timing = t.timing(t.d.timing)
	s.Guards = t.guards(s)
	t.done()
	d.config.Syncs[name] = s
	d.config.syncOrder = append(d.config.syncOrder, name)
}

// records reads what a sync of records has and one of picklist values has not.
func (t *table) records(s *models.Sync) {
	if !t.has("mode") {
		t.fail(t.n.pos, "mode is missing: %s", strings.Join(modes, ", "))
	}
	s.Mode = models.Mode(t.choice("mode", "", modes...))
	t.event(s)
	t.match(s)
	t.onRemoved(s)
	t.fields(s)
	s.Write = t.write(s)
	t.twoObjects(s)
	t.merge(s)
}

func (t *table) match(s *models.Sync) {
	m := t.sub("match")
	if m == nil {
		if s.Mode != "" && s.Mode != models.ModeInsert && !t.has("match") {
			t.fail(t.n.pos, "match is missing: mode %q needs the field and the column by which a row finds its record", s.Mode)
		}
		return
	}
	s.Match = models.Match{Field: m.required("field"), Column: m.required("column")}
	if s.Mode == models.ModeUpsert && strings.EqualFold(s.Match.Field, "Id") {
		m.fail(m.pos("field"), "an upsert matches on an external id, never on Id")
	}
	m.done()
}

// removals are the values of on_removed that a mode allows.
func removals(mode models.Mode) []string {
	switch mode {
	case models.ModeInsert, models.ModeArchive:
		return []string{string(models.RemovedNothing)}
	case models.ModeUpdate:
		return []string{string(models.RemovedNothing), string(models.RemovedClearFields)}
	}
	return []string{string(models.RemovedNothing), string(models.RemovedClearFields), string(models.RemovedDelete)}
}

func (t *table) onRemoved(s *models.Sync) {
	value := t.choice("on_removed", string(models.RemovedNothing), removals(models.ModeUpsert)...)
	if allowed := removals(s.Mode); !slices.Contains(allowed, value) {
		t.fail(t.pos("on_removed"), "on_removed: %q does not go with mode %q, which allows %s", value, s.Mode, strings.Join(allowed, ", "))
		value = string(models.RemovedNothing)
	}
	s.OnRemoved = models.OnRemoved(value)
}

// isEvent reports whether an object is a platform event.
func isEvent(object string) bool { return strings.HasSuffix(strings.ToLower(object), "__e") }

// event checks what a sync that publishes platform events may say, before the rest
// of it is read.
func (t *table) event(s *models.Sync) {
	if !isEvent(s.Object) {
		return
	}
	if s.Mode != "" && s.Mode != models.ModeInsert {
		t.fail(t.pos("mode"), "mode: %q does not go with the platform event %s, which can only be published: \"insert\"", s.Mode, s.Object)
		s.Mode = models.ModeInsert
	}
	if t.has("match") {
		t.fail(t.pos("match"), "match: a platform event is no record that could be found; map the field under fields instead")
	}
}

// unknownDefault is what becomes of what nobody can say whether it landed: an event
// too many does little harm, a record too many does.
func unknownDefault(s *models.Sync) string {
	if isEvent(s.Object) {
		return "resend"
	}
	return "hold"
}

func (t *table) write(s *models.Sync) models.Write {
	w := t.sub("write")
	if w == nil {
		// The defaults, and every key known, come from an empty table.
		w = t.d.newTable(&node{kind: tableKind, pos: t.n.pos}, t.path+".write", t.schema+".write")
	}
	out := models.Write{
		IngestionAPI:         w.choice("ingestion_api", "automatic", "automatic", "rest", "bulk"),
		BulkAPIVersion:       w.choice("bulk_api_version", "2.0", "1.0", "2.0"),
		RESTBatchSize:        int(w.integer("rest_batch_size", 200, 1, 200)),
		Parallelism:          int(w.integer("parallelism", 10, 1, 50)),
		ConcurrencyMode:      w.choice("concurrency_mode", "parallel", "parallel", "serial"),
		SortBatchesBy:        w.str("sort_batches_by"),
		SplitRetries:         w.boolean("split_retries", true),
		MaxAttempts:          int(w.integer("max_attempts", 5, 1, 100)),
		RetryRejected:        w.choice("retry_rejected", "always", "always", "backoff", "on_change"),
		OnUnknown:            w.choice("on_unknown", unknownDefault(s), "hold", "resend", "accept"),
		Send:                 w.choice("send", "changed", "changed", "all"),
		Nulls:                w.choice("nulls", "on_change", "on_change", "write", "ignore"),
		InvalidRelationships: w.choice("invalid_relationships", "error", "error", "omit_values", "omit_records"),
		OnlySyncDifferent:    w.boolean("only_sync_different", false),
		SkipConverted:        w.boolean("skip_converted", false),
		CreateRecordsAs:      w.choice("create_records_as", "", "Account", "Contact", "ContactIfAccountId", "Lead"),
		AssignmentRule:       w.str("assignment_rule"),
		AllowDuplicates:      w.boolean("allow_duplicates", false),
	}
	if out.SortBatchesBy == "" {
		out.SortBatchesBy = "auto"
	}
	// A Bulk 1.0 batch holds 10,000 records at most; a Bulk 2.0 job is bounded
	// by its bytes, and by the 150 million records a day of an org ("Bulk API
	// and Bulk API 2.0 Limits and Allocations").
	most, usual := int64(150_000_000), int64(0)
	if out.BulkAPIVersion == "1.0" {
		most, usual = 10_000, 10_000
	}
	out.BulkBatchSize = int(w.integer("bulk_batch_size", usual, 1, most))
	w.done()
	return out
}

// guards reads the limits on a plan. One that is not given is left unset: what
// then guards a sync that removes records is the planner's affair.
func (t *table) guards(s *models.Sync) models.Guards {
	var g models.Guards
	in := t.sub("guards")
	if in == nil {
		return g
	}
	g.MaxDeletes = in.limit("max_deletes")
	if s.Mode == models.ModeArchive && g.MaxDeletes.IsShare {
		in.fail(in.pos("max_deletes"), "max_deletes: in archive mode it takes a count of rows: the snapshot holds what was deleted before, and a share of that says nothing")
	}
	g.MaxChanges = in.limit("max_changes")
	in.done()
	return g
}

// limit returns a count, as a number, or a share, as "10%"; unset where the
// key is not there.
func (t *table) limit(key string) models.Limit {
	v := t.value(key)
	if v == nil || v.broken {
		return models.Limit{}
	}
	switch v.kind {
	case integerKind:
		if n, err := strconv.ParseInt(v.text, 0, 64); err == nil && n >= 0 {
			return models.Limit{Set: true, Count: n}
		}
	case stringKind:
		if digits, ok := strings.CutSuffix(strings.TrimSpace(v.text), "%"); ok {
			p, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
			if err == nil && !math.IsNaN(p) && p >= 0 && p <= 100 {
				return models.Limit{Set: true, IsShare: true, Percent: p}
			}
		} else if n, err := strconv.ParseInt(strings.TrimSpace(v.text), 10, 64); err == nil && n >= 0 {
			return models.Limit{Set: true, Count: n}
		}
	}
	t.fail(v.pos, "%s: want a share such as \"10%%\" or a count of rows, not %s", key, v.limitShown())
	return models.Limit{}
}

func (n *node) limitShown() string {
	switch n.kind {
	case tableKind, arrayKind:
		return kindNames[n.kind]
	}
	return n.shown()
}
