package salesforce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"coho/destinations"
	"coho/destinations/salesforce/api"
	"coho/models"
	"coho/planner"
)

// Options of a destination. The zero value is usable.
type Options struct {
	Logger *slog.Logger // nil discards

	// SpoolDir holds the CSV files of jobs until they are uploaded, and the
	// errors of a job while they are read. Files are removed after use. ""
	// is the system's temporary directory.
	SpoolDir string

	// RetryPause is the first pause before rows are sent again; each further
	// one doubles, up to 30 seconds. 0 is one second.
	RetryPause time.Duration

	// Poll says how a job is waited for.
	Poll api.Poll
}

// Destination is a Salesforce org.
type Destination struct {
	client  *api.Client
	options Options
	limiter *limiter // shared by all runs
	hourly  *hourly  // of events, shared by all runs
	tally   *tally   // of all runs
}

var _ destinations.Destination = (*Destination)(nil)
var _ destinations.Meter = (*Destination)(nil)
var _ destinations.Target = (*Target)(nil)

// New returns the org that client talks to. The client stays the caller's
// until Close, which closes it.
func New(client *api.Client, o Options) *Destination {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SpoolDir == "" {
		o.SpoolDir = os.TempDir()
	}
	if o.RetryPause <= 0 {
		o.RetryPause = time.Second
	}
	return &Destination{client: client, options: o, limiter: newLimiter(0), hourly: newHourly(), tally: new(tally)}
}

// Org returns the org's Id, in 18 characters.
func (d *Destination) Org(ctx context.Context) (string, error) {
	id, err := d.client.Identity(ctx)
	if err != nil {
		return "", fmt.Errorf("ask the org for its Id: %w", budget(d.client, err))
	}
	if full, ok := canonicalID(id.OrgID); ok {
		return full, nil
	}
	return id.OrgID, nil
}

// Open checks a sync against the org's describe.
func (d *Destination) Open(ctx context.Context, sync *models.Sync, columns []models.Column) (destinations.Target, error) {
	if sync.Picklist != "" {
		return d.openPicklist(ctx, sync, columns)
	}
	if len(sync.Objects()) > 1 {
		return d.openPair(ctx, sync, columns)
	}
	calls := new(atomic.Int64)
	c := &checker{client: d.client, sync: sync, columns: columns}
	t, err := c.run(api.CountCalls(ctx, calls))
	if err != nil {
		return nil, budget(d.client, err)
	}
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	d.adopt(t, c, calls)
	if err := t.countRecords(api.CountCalls(ctx, calls)); err != nil {
		return nil, budget(d.client, err)
	}
	return t, nil
}

// adopt makes a target that was found right one of the destination's.
func (d *Destination) adopt(t *Target, c *checker, calls *atomic.Int64) {
	sync := t.sync
	if t.mergeColumn >= 0 {
		one := *sync
		one.Write.Parallelism = 1
		t.sync = &one
	}
	t.calls = calls
	t.options, t.limiter, t.hourly, t.tally = d.options, d.limiter, d.hourly, d.tally
	t.log = d.options.Logger.With("sync", sync.Name, "object", t.object.Name)
	t.warnings = c.warnings
	for _, col := range t.columns {
		t.hasCreateOnly = t.hasCreateOnly || col.createOnly
	}
	t.lockField = lockField(t, sync.Write.SortBatchesBy)
	t.records = -1
}

// lockField finds the column by which rows are kept apart, as sort_batches_by
// says. auto is the reference that a row is likeliest to lock: a master, then any
// other, save users, queues and record types, which no row locks ("Record Locking
// Cheat Sheet").
func lockField(t *Target, by string) int {
	best, rank := -1, 0
	for i, col := range t.columns {
		switch {
		case by == "none":
		case by != "" && by != "auto":
			if strings.EqualFold(col.Name, by) {
				return i
			}
		case col.class == classReference:
			weight := 1
			if col.WriteRequiresMasterRead || col.CascadeDelete {
				weight = 2
			}
			if weight > rank && !slices.ContainsFunc(col.ReferenceTo, unlocked) {
				best, rank = i, weight
			}
		}
	}
	return best
}

func unlocked(object string) bool {
	return slices.Contains([]string{"User", "Group", "RecordType", "Profile", "UserRole"}, object)
}

// Close closes the client.
func (d *Destination) Close() error { return d.client.Close() }

// budget turns the client's word for a used-up budget, and the org's for its
// own daily limit, into the port's.
func budget(client *api.Client, err error) error {
	var b *api.BudgetError
	if errors.As(err, &b) {
		return &destinations.BudgetError{Used: b.Used, Limit: b.Limit}
	}
	var e *api.Error
	if errors.As(err, &e) && e.Class == api.StopRun && callsUsedUp(e) {
		u := client.Usage()
		return &destinations.BudgetError{Used: u.Limit - max(0, u.Remaining), Limit: u.Limit}
	}
	return err
}

// callsUsedUp reports the refusal of a call because the day's are used up. Bulk
// API 1.0 has one code for that and for the day's batches.
func callsUsedUp(e *api.Error) bool {
	return e.Code == "REQUEST_LIMIT_EXCEEDED" || e.Code == "ExceededQuota" && strings.Contains(e.Message, "TotalRequests")
}

// Target is a sync's object in an org.
type Target struct {
	client   *api.Client
	options  Options
	limiter  *limiter // the org's
	hourly   *hourly  // the org's
	tally    *tally   // the org's
	log      *slog.Logger
	sync     *models.Sync
	object   *api.Object
	idField  *field
	match    *field    // nil where the sync has none
	columns  []*column // as sync.Fields
	keyField int       // insert: the column whose value finds a record again; MatchField for the match field
	warnings []string

	// keyless: the sync inserts, and no field of the mapping finds a record
	// again. Only Bulk API 1.0 can then say what became of an insert.
	keyless bool

	event bool // the object is a platform event

	paired bool // the object is one of a two-object sync's

	mergeColumn int // the column that says which record a row's is merged into; -1: none

	hasCreateOnly bool
	lockField     int   // the column whose parents rows would fight over; -1: none
	records       int64 // about how many the object has, where rows are compared with them; -1: not known

	parents destinations.Parents // nil where no snapshot can be asked

	calls *atomic.Int64 // API calls of Open and Apply
	jobs  atomic.Int64
}

// Fields describes the mapped fields, named as the org names them.
func (t *Target) Fields() []planner.Field {
	out := make([]planner.Field, len(t.columns))
	for i, c := range t.columns {
		out[i] = planner.Field{Name: c.Name, CreateOnly: c.createOnly, KeepOnClear: c.keep, SelfReference: c.self || c.merge, Absorbed: c.merge, CountValues: c.byQuery || c.merge}
	}
	return out
}

// Convert turns a value into a field's canonical text. A lookup's cells are
// values of the field that the lookup finds its record by. Match and lookup
// values lose the white space at their ends, as the org drops it when it
// compares.
func (t *Target) Convert(i int, v models.Value) (models.Cell, error) {
	var f *field
	switch {
	case i == destinations.MatchField && t.match != nil:
		f = t.match
	case i >= 0 && i == t.mergeColumn:
		return t.mergeTo(v)
	case i >= 0 && i < len(t.columns) && t.columns[i].recordType != "":
		return models.Cell{Text: t.columns[i].recordType}, nil
	case i >= 0 && i < len(t.columns):
		f = t.columns[i].source()
	default:
		return models.Cell{}, fmt.Errorf("the sync has no field %d", i)
	}
	cell, err := f.convert(v)
	if err == nil && !cell.Null && (i == destinations.MatchField || t.columns[i].parent != nil) {
		cell.Text = trim(cell.Text)
	}
	return cell, err
}

// NormalizeMatch folds a match value as the org compares it.
func (t *Target) NormalizeMatch(match string) string {
	if t.match == nil {
		return trim(match)
	}
	return t.match.fold(match)
}

// Warnings are remarks on the sync that do not stop it.
func (t *Target) Warnings() []string { return t.warnings }

// Estimate says what applying a plan would cost.
func (t *Target) Estimate(s planner.Summary) destinations.Estimate {
	merges, known := int64(0), s.Known
	if t.mergeColumn >= 0 {
		merges = s.Fields[models.MergeField]
		s = withoutMerges(s, merges)
	}
	r := t.route()
	r.lanes = t.lockField >= 0 && !t.serial() && parallelism(&t.sync.Write) > 1 && s.Fields[t.columns[t.lockField].Name] > 0
	e := estimate(r, &t.sync.Write, s)
	if n, _ := t.comparedIn(s); n > 0 {
		calls := t.compareCalls(r, s)
		if t.readsAhead(r, n, calls) {
			calls = t.aheadCalls()
			e.BulkJobs++
		}
		e.APICalls += calls
		e.AtMost = atMost
	}
	e.APICalls += t.lookUpCalls(r, s) + t.referenceCalls(s) + mergeCalls(merges, known, s.Values[models.MergeField])
	if t.event && e.APICalls > 0 {
		e.APICalls++ // the org's limits
	}
	return e
}

// Usage counts the calls that Open and Apply made for this target and the jobs
// among them, and gives the org's remaining calls.
func (t *Target) Usage() destinations.Usage {
	u := t.client.Usage()
	return destinations.Usage{Calls: t.calls.Load(), BulkJobs: t.jobs.Load(), Remaining: u.Remaining}
}

// collectionOptions are the headers that the sync asks for.
func (t *Target) collectionOptions() api.CollectionOptions {
	return api.CollectionOptions{
		AllowDuplicates: t.sync.Write.AllowDuplicates,
		AssignmentRule:  t.assignmentRule(),
	}
}

// assignmentRule is the rule to apply: TRUE, FALSE, an Id, or "".
func (t *Target) assignmentRule() string {
	rule := t.sync.Write.AssignmentRule
	if upper := strings.ToUpper(rule); upper == "TRUE" || upper == "FALSE" {
		return upper
	}
	return rule
}
