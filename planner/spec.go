package planner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"coho/models"
)

// Rows streams a model's result; sources.Rows is one.
type Rows interface {
	Schema() models.Schema
	Next() bool
	// Row returns the current row's frame (see models.Schema), valid until
	// the next call of Next.
	Row() []byte
	Err() error
}

// Evaluator gives a row's mapped values: out and errs have a slot for each of
// Spec.Fields. It is used by one goroutine; *models.Evaluator is one.
type Evaluator interface {
	Eval(cells [][]byte, out []models.Value, errs []error)
}

// Spec says how rows become operations.
type Spec struct {
	Mode      models.Mode
	OnRemoved models.OnRemoved

	Send          string // changed, all; "" is changed
	Nulls         string // on_change, write, ignore; "" is on_change
	RetryRejected string // always, backoff, on_change; "" is always

	// OnUnknown says what becomes of a row whose entry has CodeUnknown: "hold"
	// rejects it run after run, "resend" plans it again, "accept" takes it as
	// done; "" is hold. Full plans it again in any case.
	OnUnknown string

	// Full plans every row again, with all of its fields, whatever the
	// snapshot says; rows that an insert sync has inserted are left out.
	Full bool

	Fields []Field

	// KeyColumns are the primary key's columns in the model's order, and
	// KeyNames their names for messages (nil: those of the rows' schema).
	KeyColumns []int
	KeyNames   []string

	// MatchColumn is the column of the match value, -1 where the sync has
	// none. MatchField is the destination's field, which clear_fields leaves
	// alone should the mapping name it too.
	MatchColumn int
	MatchField  string

	// MatchIsKey: the match column is the only primary key column and the
	// destination tells match values apart as keys are, case included. A row's
	// identity is then its key as NormalizeMatch folds it, so that keys which
	// are one record to the destination (two that differ in white space only)
	// are duplicates of one key, and no two rows ever own one record. The
	// snapshot keeps no index of owners, and none is asked.
	//
	// Without it every row, also an unchanged one, has its match value decoded
	// and compared with all others, and the snapshot keeps an index of owners:
	// the price of noticing a row that would take over another's record.
	MatchIsKey bool

	// MappedColumns are the columns whose bytes decide the match value and
	// the fields, ascending. A row is looked at only when one of them has
	// changed.
	MappedColumns []int

	// Version is a hash of all that decides a row's operation besides the
	// mapped columns' bytes: the mapping, the schema's Version. It seeds the
	// fingerprints, so that after a change of it no fingerprint matches and
	// every row is compared field by field.
	Version uint64

	// NewEvaluator returns an evaluator for one more goroutine. The texts of its
	// values may be parts of the row: nothing is kept of them but what is written.
	NewEvaluator func() Evaluator

	// Convert turns a value into the canonical text of Fields[field], or of
	// the match field where field is -1. Safe for several goroutines.
	Convert func(field int, v models.Value) (models.Cell, error)

	// ColumnName says what fills a field, for messages: "column arr", or
	// "expression". nil where the caller has no names.
	ColumnName func(field int) string

	// NormalizeMatch folds a match value as the destination compares it; nil
	// leaves it as it is. Safe for several goroutines.
	NormalizeMatch func(match string) string

	// Partitions is how many ranges of key hashes the rows are spread over,
	// rounded up to a power of two, at most 1024; 0 chooses.
	Partitions int

	// MemoryLimit is how much memory rows may take before they go to disk, in
	// bytes; 0 is 8 MiB.
	MemoryLimit int64

	// SpillDir is where rows go past MemoryLimit; "" is the plan's own
	// directory. Whatever is written there is removed before Build returns.
	SpillDir string

	// OrderLog is a file beside the snapshot that remembers the order of the last
	// read, so that unchanged rows in the same order cost little more than
	// reading them; "" for none. It is a hint: it may be missing, torn or
	// foreign, and only makes a plan slower then. OrderLogReadOnly leaves it as
	// it is, which is right for a plan that will not be applied.
	OrderLog         string
	OrderLogReadOnly bool

	// OrderEarly passes rows over before it is known that the log says what the
	// snapshot says, which takes a large one a second. Where it then does not,
	// Build ends with ErrReadAgain: the rows must be read once more, without
	// OrderEarly. A row that the destination refuses run after run makes its range
	// differ each time, so that its sync is begun twice each time: the check takes
	// about a second for ten million rows, and what was read until then is lost.
	OrderEarly bool

	// Workers is how many pieces of partitions are joined side by side; 0 is 2.
	Workers int
}

// ErrReadAgain is what Build ends with where Spec.OrderEarly asked for too much, or
// where the order log was damaged since it was last compared.
var ErrReadAgain = errors.New("rows were passed over that are needed; read them again")

// matchField is the index by which Convert knows the match field.
const matchField = -1

func (s *Spec) check() error {
	switch {
	case len(s.KeyColumns) == 0:
		return errors.New("the model has no primary key column")
	case s.Mode != models.ModeArchive && s.NewEvaluator == nil, s.Convert == nil:
		return errors.New("the plan's spec has no evaluator or converter")
	case s.MatchColumn < 0 && s.Mode != models.ModeInsert:
		return fmt.Errorf("mode %s needs a match", s.Mode)
	}
	switch s.Mode {
	case models.ModeInsert, models.ModeUpdate, models.ModeUpsert, models.ModeArchive:
	default:
		return fmt.Errorf("unknown mode %q", s.Mode)
	}
	return nil
}

func (s *Spec) normalize(match string) string {
	if s.NormalizeMatch == nil {
		return match
	}
	return s.NormalizeMatch(match)
}

func (s *Spec) columnName(field int) string {
	if s.ColumnName == nil {
		return ""
	}
	return s.ColumnName(field)
}

// absorbed is the index of the field that says where rows were merged into; -1 where
// there is none.
func (s *Spec) absorbed() int {
	return slices.IndexFunc(s.Fields, func(f Field) bool { return f.Absorbed })
}

// kind is the operation that a row becomes in this mode.
func (s *Spec) kind() Kind {
	switch s.Mode {
	case models.ModeInsert:
		return Insert
	case models.ModeUpdate:
		return Update
	case models.ModeUpsert:
		return Upsert
	}
	return Archive
}

// valueProblem words a value that cannot be sent: what fills which field, and
// what is wrong with it.
func (s *Spec) valueProblem(field int, err error) (code, message string) {
	var group *GroupError
	if errors.As(err, &group) {
		return CodeMergeGroup, group.Message
	}
	code = CodeInvalidValue
	what := s.columnName(field)
	if strings.HasPrefix(what, "expression") {
		code = CodeExpression
	}
	if what == "" || strings.HasPrefix(err.Error(), what) {
		return code, fmt.Sprintf("%s: %v", s.Fields[field].Name, err)
	}
	return code, fmt.Sprintf("%s from %s: %v", s.Fields[field].Name, what, err)
}

// Phase is what Build is doing.
type Phase int32

// The phases of Build, in order.
const (
	PhaseReading Phase = iota
	PhaseComparing
	PhaseOrdering
	PhaseDone
)

// String names the phase for people.
func (p Phase) String() string {
	return [...]string{"reading", "comparing", "ordering", "planned"}[p]
}

// Progress is where Build has got to. All of it may be read while Build runs.
type Progress struct {
	RowsRead atomic.Int64
	// PassedOver is how many of the rows were where the last read had them, and
	// were not kept. It is there once the rows are read.
	PassedOver atomic.Int64
	Planned    atomic.Int64 // operations so far
	phase      atomic.Int32
}

// Phase returns what Build is doing.
func (p *Progress) Phase() Phase { return Phase(p.phase.Load()) }
