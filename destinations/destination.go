// Package destinations declares what an org must do for coho: check a sync
// against its objects, say how values are written there, and apply a plan's
// operations with an outcome for each. Each subfolder is one kind of
// destination.
//
// A destination never decides what should change (the planner does) and never
// writes the snapshot: it reports outcomes to the journal it is given, which is
// durable before Settle returns.
package destinations

import (
	"context"

	"coho/models"
	"coho/planner"
)

// Destination is a connection to an org. It is safe for use by several
// goroutines; calls and limits are shared by all syncs that use it.
type Destination interface {
	// Org returns the org's own Id, to which a sync's state is bound.
	Org(ctx context.Context) (string, error)

	// Open checks a sync against the org and prepares it. columns is the
	// model's result. All that is wrong with the mapping comes back at once
	// as a Problems error.
	Open(ctx context.Context, sync *models.Sync, columns []models.Column) (Target, error)

	Close() error
}

// Meter is an optional ability of a Destination: to say at any time how much
// it is doing. What it counts is of all syncs that use the destination, since
// the process began.
type Meter interface {
	// Reading is cheap and safe for use by several goroutines.
	Reading() Reading
}

// Reading is what a destination does at one moment.
type Reading struct {
	// Parallelism is how many requests or bulk batches the org is given at once
	// at present: what was configured, less what locks and limits have taught.
	// It is 0 before the first run.
	Parallelism int
	InFlight    int   // requests and bulk batches that wait for the org
	Calls       int64 // API calls made
	Remaining   int64 // the org's remaining calls of the day as last heard; -1 unknown
	Locks       int64 // answers that refused a row for a lock somebody else held
	Retries     int64 // rows that were sent again
}

// Target is one sync's object in an org. Convert is safe for use by several
// goroutines.
type Target interface {
	// Fields describes sync.Fields, index by index.
	Fields() []planner.Field

	// Convert turns a row's value into the canonical text of a field:
	// sync.Fields[field], or the match field where field is MatchField. An
	// error says, in one line naming the value, why the field cannot take it.
	Convert(field int, v models.Value) (models.Cell, error)

	// NormalizeMatch folds a match value the way the org compares it (spaces
	// trimmed; case where the field ignores it): two values that fold alike
	// are one record.
	NormalizeMatch(match string) string

	// Warnings are remarks on the sync that do not stop it, a line each.
	Warnings() []string

	// Estimate says what applying a plan would cost.
	Estimate(planner.Summary) Estimate

	// Apply sends the plan's operations that are not settled yet, pass by
	// pass, and settles each through the journal. It first finds out what
	// became of the journal's open batches. It returns nil once every
	// operation has an outcome, failed rows included; ErrStopped after Stop;
	// a *BudgetError where the API budget is used up; and otherwise the error
	// that makes going on pointless. Operations without an outcome stay in the
	// plan.
	Apply(ctx context.Context, a Application) error

	// Usage counts what this target has cost so far.
	Usage() Usage
}

// Referrer is an optional ability of a Target: its fields hold references that
// it finds by what is known of other records.
type Referrer interface {
	// UseParents gives it what the syncs of the same org know of their
	// records. It is called once, before Estimate and Apply.
	UseParents(p Parents)

	// Lookups says how each reference is found, in the order of the fields.
	Lookups() []Lookup

	// UnknownReferences counts the API calls for references of a plan that the
	// syncs of UseParents are asked for and do not know, which Estimate leaves
	// out. It makes no call; where there are such references it reads the
	// plan.
	UnknownReferences(ctx context.Context, plan Plan) (calls int64, err error)
}

// Lookup is how a field's references are found.
type Lookup struct {
	Field  string // the field that refers
	Object string // what it refers to
	By     string // the field of Object that is compared
	// How is "external_id" where the org itself finds the record, "snapshot"
	// where the snapshots of Syncs are asked before the org, and "query" where
	// the org is asked. "describe" is a record that the config names, Value, and
	// ID what the org knows it by.
	How   string
	Syncs []string
	Value string
	ID    string
	// Setup: Object is part of the org's setup, such as its users, and comes
	// about by other ways than syncs.
	Setup bool
}

// Parents is what the snapshots of an org's syncs hold. It is safe for use by
// several goroutines.
type Parents interface {
	// Syncs names the syncs that know the records of an object by a field.
	Syncs(object, field string) []string

	// Records gives the value of a field of every record of an object that
	// those syncs know, with its Id, in no order, a record perhaps several
	// times. A snapshot that belongs to another org is passed over.
	Records(ctx context.Context, object, field string, each func(value, id string)) error
}

// MatchField is the index by which Convert knows the match field.
const MatchField = -1

// Application is what Apply works on.
type Application struct {
	Plan    Plan
	Journal Journal
	// Stop, when closed, begins no further batch; those in flight finish and
	// are settled.
	Stop <-chan struct{}
	// Owner tells which row has a record with an Id, as the snapshot knows it; nil
	// where that cannot be asked.
	Owner func(id string) (row planner.Hash, ok bool, err error)
}

// Plan gives out a plan's operations.
type Plan interface {
	Passes() int

	// Operations yields the operations of a pass that were not settled when
	// it was called, in the plan's order.
	Operations(pass int) (Operations, error)

	// Read yields the operations of a set in ascending order of Seq, settled
	// or not. Several readers may be open at once.
	Read(seqs planner.Seqs) (Operations, error)
}

// Operations is a stream of operations, used by one goroutine.
type Operations interface {
	Next() bool
	// Operation is valid until the next call of Next; Clone keeps it.
	Operation() *planner.Operation
	Err() error
	Close() error
}

// Batch is a set of operations that is sent in one request or job.
type Batch struct {
	Number uint64 // given by Begin
	API    string // "rest", "bulk2": how to ask what became of it
	Step   string // which call of the writer's own protocol it is in
	Handle string // the org's name for it (a job id), "" until it has one
	Seqs   planner.Seqs
}

// Journal makes what is in flight and what has been acknowledged durable. It is
// safe for use by several goroutines.
type Journal interface {
	// Begin records a batch, durably, before anything of it is sent, and
	// returns its number.
	Begin(ctx context.Context, b Batch) (uint64, error)

	// Update replaces an open batch's Step and Handle, durably.
	Update(ctx context.Context, b Batch) error

	// Settle records outcomes, durably, in one piece with the snapshot's
	// advance: afterwards the snapshot holds the acknowledged records. last
	// closes the batch; operations of it without an outcome are then as if
	// never sent. outcomes[i] belongs to ops[i].
	Settle(ctx context.Context, batch uint64, ops []*planner.Operation, outcomes []Outcome, last bool) error

	// Open lists the batches that were begun and not closed, as after a
	// crash.
	Open() ([]Batch, error)
}

// Result is how an operation ended.
type Result uint8

// The results. Every operation of a run that completes ends in exactly one.
const (
	Created Result = iota
	Updated
	Deleted
	Cleared
	Skipped
	Failed
	Deactivated // a picklist value that can be picked no more, and is not deleted
	Held        // nobody can say whether it was carried out; it waits for a person
	// Resent is no end: nobody can say whether the operation was carried out, and
	// it is sent again. A journal counts it and leaves the operation planned.
	Resent
	ResultCount int = iota
)

// String names the result as JSON does.
func (r Result) String() string {
	return [...]string{"created", "updated", "deleted", "cleared", "skipped", "failed", "deactivated", "held", "resent"}[r]
}

// Outcome is what the destination said of one operation.
type Outcome struct {
	Result Result
	ID     string // the record's Id, 18 characters, where one is known

	// Forget: the record is no more (deleted, or found deleted), so the
	// snapshot drops the row.
	Forget bool

	// Absorbed: the row has no record of its own, because it was merged into
	// another or there was none to merge; the snapshot remembers that.
	Absorbed bool

	// Same: nothing was sent, because the record holds all of it already; the
	// snapshot takes the operation in as carried out. The result is Skipped.
	Same bool

	// Code, Message and Fields say why a row failed or was skipped: the
	// org's own words where they are the org's.
	Code     string
	Message  string
	Fields   []string
	Attempts int // tries the row got in this run

	// Unknown: the answer to it was lost, and nothing can be asked what became of
	// it. Result says what was done about that; Code and Message say it to people.
	Unknown bool

	// Omitted are the fields of the operation, by index, that it was carried
	// out without, because what they refer to is not there: the snapshot must
	// not claim them, and the next run tries them again.
	Omitted []int
}

// Usage counts what a run has cost.
type Usage struct {
	Calls     int64 // API calls made
	BulkJobs  int64
	Remaining int64 // the org's remaining calls of the day as last heard; -1 unknown
}

// Estimate is what a plan would cost.
type Estimate struct {
	APICalls int64
	BulkJobs int64
	// Choice says in a line which API was chosen for the plan and why.
	Choice string
	// AtMost says in a line why less may be sent than is planned, and what is
	// counted here is then the most that it can cost; "" where it will be.
	AtMost string
}

// Looker is an optional ability of a Target: to read what the org holds of one
// row.
type Looker interface {
	// Look reads the records with an Id, or, where that is "", those with a
	// match value: the mapped fields as the org holds them now.
	Look(ctx context.Context, id, match string) ([]Found, error)
}

// Found is a record as the org holds it.
type Found struct {
	ID     string
	Fields map[string]models.Cell // by the names of Target.Fields
}

// Comparer is an optional ability of a Target: to say what a record holds already of
// what an operation would write.
type Comparer interface {
	// Holds reports whether a record that Look found has a value already, so that
	// it would not be sent. It is false where that cannot be told, and always
	// where the sync sends fields whether they differ or not.
	Holds(field int, cell models.Cell, record Found) bool
}

// Mirror is an optional ability of a Target: its rows are compared with what the
// org holds, and not with what coho wrote there. The snapshot takes in nothing of
// such a sync, and an unfinished plan is made anew.
type Mirror interface {
	// Mirror shows what the org held when the target was opened. hash gives the
	// identity of a row with a key, as the planner knows it.
	Mirror(ctx context.Context, hash func(key []string) planner.Hash) (planner.Snapshot, error)

	// CheckPlan says in one line why a plan must not be applied, of which
	// nothing was sent. rejected is how many rows of the model are not in it.
	CheckPlan(plan Plan, rejected int64) error
}

// Describer is an optional ability of a Target: to say what its fields take.
type Describer interface {
	// DescribeField describes sync.Fields[field], or the match field where
	// field is MatchField.
	DescribeField(field int) FieldNote
}

// FieldNote is what a field takes.
type FieldNote struct {
	Name   string
	Type   string // the destination's own name of the type, with what limits it
	Length int    // how many characters it takes; 0 where that is not counted
	// Required: a record cannot be created without a value, or the field cannot
	// be emptied.
	Required bool
}
