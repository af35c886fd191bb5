package models

import (
	"strings"
	"time"
)

// Model is a query on a source with a primary key. Exactly one of SQL and
// Table is set (a sql_file has been read into SQL).
type Model struct {
	Name       string
	Source     string
	SQL        string
	Table      string
	PrimaryKey []string // one or more columns, in the order given

	// Groups has the source add MergeColumn to the result; nil for most.
	Groups *Grouping `json:",omitempty"`

	// DBTModel is the unique id of the dbt model that it was taken from, and
	// Description what dbt says of it; "" for others. They decide nothing
	// about rows, so they are no part of a sync's meaning.
	DBTModel    string `json:"-"`
	Description string `json:"-"`
}

// Mode says what a sync does with a row of its model.
type Mode string

// The modes of a sync.
const (
	ModeInsert  Mode = "insert"
	ModeUpdate  Mode = "update"
	ModeUpsert  Mode = "upsert"
	ModeArchive Mode = "archive"

	// ModeAll is that of picklist syncs: the model's rows are all of the active
	// values.
	ModeAll Mode = "all"
)

// OnRemoved says what happens to the record of a row that left the model.
type OnRemoved string

// What on_removed can say.
const (
	RemovedNothing     OnRemoved = "nothing"
	RemovedClearFields OnRemoved = "clear_fields"
	RemovedDelete      OnRemoved = "delete"
)

// Match says how a row finds its record: the destination field whose value
// equals the model's column.
type Match struct {
	Field  string
	Column string
}

// Lookup fills a reference field with the record of Object whose Field equals
// the row's Column.
type Lookup struct {
	Object string
	Field  string
	Column string
}

// Field maps one destination field. Exactly one of Column, Expr, Constant, Lookup
// and RecordType says what fills it.
type Field struct {
	Name     string // the destination's field
	Object   string `json:",omitempty"` // of a two-object sync's objects, the only one it is written to; "" for both
	Column   string
	Expr     string
	Constant *Value
	Lookup   *Lookup
	OnCreate bool   // written only when the record is created
	Merge    bool   `json:",omitempty"` // this is MergeField, filled by MergeColumn
	Pos      string // file:line:column of the mapping, for messages; "" if unknown

	// RecordType is the developer name of the record type that every row gets. It
	// is the name that the mapping's hash covers, not the Id by which a destination
	// knows it: orgs that are copies of each other may differ in the Id, and the
	// mapping means the same in all of them.
	RecordType string `json:",omitempty"`
}

// Write is a sync's [syncs.X.write] section, defaults filled in.
type Write struct {
	IngestionAPI         string // automatic, rest, bulk
	BulkAPIVersion       string // "2.0" or "1.0"
	RESTBatchSize        int    // records a request, 1 to 200
	BulkBatchSize        int    // records a job or batch; 0: what fits
	Parallelism          int    // requests or jobs in flight, 1 to 50
	ConcurrencyMode      string // parallel, serial
	SortBatchesBy        string // a field, none, auto
	SplitRetries         bool
	MaxAttempts          int    // tries a row gets in one run
	RetryRejected        string // always, backoff, on_change
	OnUnknown            string // hold, resend, accept: inserts and platform events of which nobody can say any more whether they landed
	Send                 string // changed, all
	Nulls                string // on_change, write, ignore
	InvalidRelationships string // error, omit_values, omit_records
	OnlySyncDifferent    bool
	SkipConverted        bool
	CreateRecordsAs      string
	AssignmentRule       string
	AllowDuplicates      bool
}

// Limit is a guard's limit: a count of rows, or a share of the snapshot's
// rows. The zero Limit is unset.
type Limit struct {
	Set     bool
	Percent float64 // 0 to 100, where IsShare
	Count   int64
	IsShare bool
}

// Allows reports whether n rows of a snapshot of total rows stay within the
// limit. An unset limit allows everything.
func (l Limit) Allows(n, total int64) bool {
	switch {
	case !l.Set:
		return true
	case l.IsShare:
		return float64(n)*100 <= l.Percent*float64(total)
	}
	return n <= l.Count
}

// Guards are the limits on a plan past which a run halts.
type Guards struct {
	MaxDeletes Limit // archive and clear_fields operations
	MaxChanges Limit // operations on records that the snapshot holds
}

// Timing says how a schedule's times are kept.
type Timing struct {
	Jitter  time.Duration // each time comes up to so much later
	CatchUp string        // skip, once: what becomes of times missed while coho was down
	Overlap string        // skip, queue: what becomes of a time at which the last run still goes on
}

// Sync is a model, a destination's object, a mode, a match rule and mappings.
//
// In a picklist sync the rows are values of a list: its Match is the value's API
// name, which is also the key, and Fields are the value's label, default and order.
type Sync struct {
	Name        string
	Picklist    string `json:",omitempty"` // the field, or the global value set; "" for syncs of records
	Model       Model
	Destination string
	Object      string
	Mode        Mode
	Match       Match
	OnRemoved   OnRemoved
	Schedule    string
	Timezone    string
	Timing      Timing
	Fields      []Field // sorted by Name, then Object
	Write       Write
	Guards      Guards
	Pos         string // file:line:column of the sync, for messages
}

// The objects of two-object syncs: a row's record is of the first or of the second,
// whichever has it.
var pairs = map[string][]string{
	"leadorcontact": {"Contact", "Lead"},
	"leadoraccount": {"Account", "Lead"},
}

// Objects returns the objects that the sync's records may be of: in a two-object sync
// the one that is looked at first comes first, and in any other there is one.
func (s *Sync) Objects() []string {
	if pair := pairs[strings.ToLower(s.Object)]; pair != nil && s.Picklist == "" {
		return pair
	}
	return []string{s.Object}
}

// Sequence is an ordered list of steps, a step being syncs that run side by
// side.
type Sequence struct {
	Name     string
	Steps    [][]string // names of syncs
	Schedule string
	Timezone string
	Timing   Timing
	OnError  string // stop, continue
	// MaxRowErrors is how many rows of a sync may fail for their own fault, or
	// what share of those that its run was to write, before that counts as an
	// error of the sequence; unset: any.
	MaxRowErrors Limit
}

// Columns returns the model's columns that the sync reads besides those its
// expressions name: primary key, match, columns and lookups; each once, in
// order of first use.
func (s *Sync) Columns() []string {
	var out []string
	add := func(c string) {
		for _, have := range out {
			if have == c {
				return
			}
		}
		if strings.TrimSpace(c) != "" {
			out = append(out, c)
		}
	}
	for _, c := range s.Model.PrimaryKey {
		add(c)
	}
	add(s.Match.Column)
	for i := range s.Fields {
		f := &s.Fields[i]
		add(f.Column)
		if f.Lookup != nil {
			add(f.Lookup.Column)
		}
	}
	return out
}
