package snapshot

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"coho/planner"
)

// Identity is what a store's rows are about. The engine compares it: rows that
// were acknowledged as one thing prove nothing about another.
type Identity struct {
	Org         string   `json:"org"`
	Destination string   `json:"destination"`
	Object      string   `json:"object"`
	Mode        string   `json:"mode"`
	MatchField  string   `json:"match_field"`
	PrimaryKey  []string `json:"primary_key"`

	// MatchIsKey is Spec.MatchIsKey: the store then keeps no index of owners.
	MatchIsKey bool `json:"match_is_key"`
}

// Identity returns what SetIdentity stored. ok is false for a new or reset
// store.
func (s *Store) Identity() (id Identity, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity == nil {
		return Identity{}, false
	}
	id = *s.identity
	id.PrimaryKey = slices.Clone(id.PrimaryKey)
	return id, true
}

// SetIdentity stores what the rows are about, durably.
func (s *Store) SetIdentity(id Identity) error {
	id.PrimaryKey = slices.Clone(id.PrimaryKey)
	v, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("store the identity: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.set("store the identity", keyIdentity, v); err != nil {
		return err
	}
	s.identity = &id
	return nil
}

// set writes one value durably.
func (s *Store) set(doing string, key, value []byte) error {
	b := s.db.NewBatch()
	if err := b.Set(key, value, nil); err != nil {
		return s.wrap(doing, err)
	}
	return s.commit(doing, b, pebble.Sync)
}

// PlanRef names the plan that is being applied.
type PlanRef struct {
	RunID string `json:"run"`
	Dir   string `json:"dir"` // relative to the state directory

	// Halted says why the plan waits ("guard", "budget"), "" while it does
	// not.
	Halted string `json:"halted,omitempty"`
	Full   bool   `json:"full,omitempty"`

	// Fields is planner.Plan.Fields: what Settle needs to name an
	// operation's fields.
	Fields []string `json:"fields"`
}

// ActivePlan returns the plan that was set and neither finished nor dropped.
func (s *Store) ActivePlan() (PlanRef, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan == nil {
		return PlanRef{}, false, nil
	}
	ref := *s.plan
	ref.Fields = slices.Clone(ref.Fields)
	return ref, true, nil
}

// SetActivePlan makes a plan the active one, durably, or changes what is said of
// the active plan (Halted). A plan of another directory is refused while one is
// active: finish or drop it first.
func (s *Store) SetActivePlan(ref PlanRef) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan != nil && s.plan.Dir != ref.Dir {
		return fmt.Errorf("set the active plan: the plan in %s is still active", s.plan.Dir)
	}
	ref.Fields = slices.Clone(ref.Fields)
	names := slices.Clone(s.names)
	known := len(names)
	for _, f := range ref.Fields {
		if _, ok := s.numbers[f]; !ok && !slices.Contains(names[known:], f) {
			names = append(names, f)
		}
	}
	b := s.db.NewBatch()
	err := setJSON(b, keyPlan, ref)
	if len(names) > known {
		err = errors.Join(err, setJSON(b, keyFields, names))
	}
	if err != nil {
		return s.wrap("set the active plan", err)
	}
	if err := s.commit("set the active plan", b, pebble.Sync); err != nil {
		return err
	}
	s.setNames(names)
	s.plan = &ref
	s.columns, err = s.columnsOf(ref.Fields)
	return err
}

func setJSON(b *pebble.Batch, key []byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Set(key, text, nil)
}

// Batch is a set of operations that is sent in one request or job.
type Batch struct {
	Number uint64 // given by Begin
	API    string
	Step   string
	Handle string
	Seqs   planner.Seqs
}

var errNoPlan = errors.New("no plan is active")

// Begin records a batch of the active plan, durably, and returns its number.
func (s *Store) Begin(batch Batch) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan == nil {
		return 0, fmt.Errorf("begin a batch: %w", errNoPlan)
	}
	n := s.batches + 1
	b := s.db.NewBatch()
	err := errors.Join(b.Set(numberKey(prefixBatch, n), appendBatch(nil, &batch), nil), b.Set(keyBatches, count(int64(n)), nil))
	if err != nil {
		return 0, s.wrap("begin a batch", err)
	}
	if err := s.commit("begin a batch", b, pebble.Sync); err != nil {
		return 0, err
	}
	s.batches = n
	s.open[n] = struct{}{}
	return n, nil
}

// UpdateBatch replaces what is recorded of an open batch, durably.
func (s *Store) UpdateBatch(batch Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[batch.Number]; !ok {
		return fmt.Errorf("update batch %d: it is not open", batch.Number)
	}
	return s.set("update a batch", numberKey(prefixBatch, batch.Number), appendBatch(nil, &batch))
}

// OpenBatches lists the batches that were begun and not closed, in the order in
// which they were begun.
func (s *Store) OpenBatches() ([]Batch, error) {
	var out []Batch
	err := s.each(prefixBatch, func(key, value []byte) error {
		b, err := decodeBatch(value)
		if err != nil || len(key) != 9 {
			return errDamaged
		}
		b.Number = binary.BigEndian.Uint64(key[1:])
		out = append(out, b)
		return nil
	})
	return out, s.wrap("read the open batches", err)
}

// Settled returns a copy of the set of operations of the active plan that have an
// outcome.
func (s *Store) Settled() (*planner.SettledSet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled.Clone(), nil
}

// Notes is a plan's notes; *planner.NoteReader is one.
type Notes interface {
	Next() bool
	Note() *planner.Note
	Err() error
}

// notesAtOnce is how many notes go into one Pebble batch.
const notesAtOnce = 8192

// FinishPlan applies the active plan's notes and then ends the plan, durably.
// notes starts at the plan's first note, also when an earlier FinishPlan was cut
// short: those that are in the store already are passed over. It refuses while a
// batch is open.
func (s *Store) FinishPlan(notes Notes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan == nil {
		return fmt.Errorf("finish the plan: %w", errNoPlan)
	}
	if len(s.open) > 0 {
		return fmt.Errorf("finish the plan: %d batches are open", len(s.open))
	}
	if err := s.foldAll(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	var key, value []byte
	rows, n, pending := s.rows, int64(0), 0
	for notes.Next() {
		if n++; n <= s.applied {
			continue
		}
		note := notes.Note()
		var err error
		if key, value, err = s.applyNote(b, note, key, value); err != nil {
			return s.wrap("finish the plan", err)
		}
		rows += noteDelta(note)
		if pending++; pending < notesAtOnce {
			continue
		}
		if err := s.commitNotes(b, rows, n); err != nil {
			return err
		}
		b, pending = s.db.NewBatch(), 0
	}
	if err := notes.Err(); err != nil {
		return errors.Join(err, b.Close())
	}
	if pending > 0 {
		if err := s.commitNotes(b, rows, n); err != nil {
			return err
		}
		b = s.db.NewBatch()
	}
	return s.endPlan("finish the plan", b)
}

// commitNotes writes a piece of the notes. It need not be synced: the write that
// ends the plan is, and comes later in the same log.
func (s *Store) commitNotes(b *pebble.Batch, rows, n int64) error {
	revision, err := revise(b)
	err = errors.Join(err, b.Set(keyRows, count(rows), nil), b.Set(keyNotes, count(n), nil))
	if err != nil {
		return s.wrap("finish the plan", err)
	}
	if err := s.commit("finish the plan", b, pebble.NoSync); err != nil {
		return err
	}
	s.rows, s.applied, s.revision = rows, n, revision
	return nil
}

func (s *Store) applyNote(b *pebble.Batch, note *planner.Note, key, value []byte) ([]byte, []byte, error) {
	key = hashKey(key[:0], prefixEntry, note.Entry.KeyHash)
	if note.Kind == planner.NoteForget {
		err := b.Delete(key, nil)
		key[0] = prefixRecord
		err = errors.Join(err, b.Delete(key, nil))
		if s.moved {
			key[0] = prefixDisplaced
			err = errors.Join(err, b.Delete(key, nil))
		}
		return key, value, err
	}
	value = planner.AppendEntry(value[:0], &note.Entry)
	return key, value, b.Set(key, value, nil)
}

// noteDelta is by how much a note changes the number of rows.
func noteDelta(note *planner.Note) (n int64) {
	if note.Kind != planner.NoteForget && note.Entry.Acked && !note.Entry.Gone {
		n++
	}
	if note.Counted {
		n--
	}
	return n
}

// endPlan clears all that belongs to the active plan, durably.
func (s *Store) endPlan(doing string, b *pebble.Batch) error {
	err := errors.Join(b.Delete(keyPlan, nil), b.Delete(keyNotes, nil),
		b.DeleteRange([]byte{prefixSettled}, []byte{prefixSettled + 1}, nil))
	if err != nil {
		return s.wrap(doing, err)
	}
	if err := s.commit(doing, b, pebble.Sync); err != nil {
		return err
	}
	s.plan, s.columns, s.applied, s.sets = nil, nil, 0, 0
	s.settled = planner.SettledSet{}
	return nil
}

// DropPlan gives the active plan up, durably; what was settled of it stays. It
// refuses while a batch is open: what became of that must be found out first.
func (s *Store) DropPlan() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.plan == nil:
		return nil
	case len(s.open) > 0:
		return fmt.Errorf("drop the plan: %d batches are open", len(s.open))
	}
	if err := s.foldAll(); err != nil {
		return err
	}
	return s.endPlan("drop the plan", s.db.NewBatch())
}
