package snapshot

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/klauspost/compress/s2"

	"coho/planner"
)

// Settlement is what became of one operation. With none of Applied, Forget,
// Failed and Held the operation was skipped: it is settled and the snapshot stays as it is.
type Settlement struct {
	Op *planner.Operation

	Applied bool // the destination acknowledged it
	Forget  bool // the record is no more, so the row is dropped
	Failed  bool // the destination refused it
	// Held: nobody can say whether the destination carried it out, and it waits
	// for a person. Only inserts are; Code is planner.CodeUnknown.
	Held bool

	ID      string // the record's Id, where one is known
	Code    string // of a failure
	Message string

	// Omitted are fields, by index, that an applied operation was carried out
	// without: the record keeps what was acknowledged of them before, and the
	// row is compared again by the next run.
	Omitted []int
}

// Settle records outcomes of a batch's operations in one synced write: the
// snapshot's advance, the operations as settled, and with last the end of the
// batch. The first outcome of an operation stands; later ones are passed over.
//
// A failed operation leaves the entry's fingerprint and record as they are and
// notes what was refused. An applied archive ends the row's entry where the row
// left the model, and records the key as done where the sync is in archive mode.
//
// Several goroutines may settle different batches side by side: they take turns,
// and wait together for the disk.
func (s *Store) Settle(batch uint64, settlements []Settlement, last bool) error {
	wait, err := s.settle(batch, settlements, last)
	if wait != nil {
		err = errors.Join(err, wait())
	}
	return err
}

func (s *Store) settle(batch uint64, settlements []Settlement, last bool) (wait func() error, err error) {
	const doing = "settle a batch"
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.encode(batch, settlements)
	if err != nil {
		return nil, err
	}
	var lot *pending
	if s.isLot(w) {
		if lot, err = s.writeLot(w); err != nil {
			return nil, s.wrap(doing, errors.Join(err, w.b.Close()))
		}
		if !s.isCurrent(w) {
			err := errors.Join(s.removeTables(lot.tables.names(s)...), w.b.Close())
			if err != nil {
				return nil, s.wrap(doing, err)
			}
			s.giveBlock(w.block)
			lot = nil
			if w, err = s.encode(batch, settlements); err != nil {
				return nil, err
			}
		}
	}
	err = w.b.Set(keyRows, count(s.rows+w.rows), nil)
	if lot != nil {
		err = errors.Join(err, w.b.Set(numberKey(prefixPending, s.pending.to), lot.tables.append(nil), nil))
	} else if len(w.block) > 0 {
		s.packed = s2.Encode(s.packed[:cap(s.packed)], w.block)
		err = errors.Join(err, w.b.Set(numberKey(prefixPending, s.pending.to), s.packed, nil))
	}
	revision := s.revision
	if len(w.seqs) > 0 {
		var bad error
		revision, bad = revise(w.b)
		err = errors.Join(err, bad, w.b.Set(numberKey(prefixSettled, s.sets), w.seqs.AppendBinary(nil), nil))
	}
	if last {
		err = errors.Join(err, w.b.Delete(numberKey(prefixBatch, batch), nil))
	}
	if err != nil {
		return nil, s.wrap(doing, err)
	}
	if wait, err = s.apply(doing, w.b); err != nil {
		return nil, err
	}
	s.rows += w.rows
	s.revision = revision
	s.owned, s.moved = w.owned, w.moved
	if len(w.seqs) > 0 {
		s.sets++
		s.settled.Add(w.seqs)
	}
	if last {
		delete(s.open, batch)
	}
	if lot != nil {
		err = s.pendLot(lot)
	} else if len(w.block) > 0 {
		err = s.pend(w.block)
	}
	s.giveBlock(w.block)
	return wait, err
}

// takeBlock returns a buffer to be used again. s.mu is held.
func (s *Store) takeBlock() []byte {
	n := len(s.blocks)
	if n == 0 {
		return nil
	}
	b := s.blocks[n-1]
	s.blocks = s.blocks[:n-1]
	return b[:0]
}

// keptBlock is up to how many bytes a buffer is worth keeping: very wide rows make
// larger ones.
const keptBlock = 4 << 20

// giveBlock takes it back. s.mu is held.
func (s *Store) giveBlock(b []byte) {
	if len(s.blocks) < lotsAtOnce && cap(b) <= keptBlock {
		s.blocks = append(s.blocks, b)
	}
}

// encode makes what a Settle writes, but for what depends on those that come before
// it. s.mu is held.
func (s *Store) encode(batch uint64, settlements []Settlement) (*settling, error) {
	if s.plan == nil {
		return nil, fmt.Errorf("settle batch %d: %w", batch, errNoPlan)
	}
	if _, ok := s.open[batch]; !ok {
		return nil, fmt.Errorf("settle batch %d: it is not open", batch)
	}
	bySeq := func(a, b Settlement) int { return cmp.Compare(a.Op.Seq, b.Op.Seq) }
	if !slices.IsSortedFunc(settlements, bySeq) {
		settlements = slices.Clone(settlements)
		slices.SortStableFunc(settlements, bySeq)
	}
	w := &settling{s: s, b: s.db.NewBatch(), batch: batch, plan: s.plan, block: s.takeBlock(), owned: s.owned, moved: s.moved}
	if err := w.findOwners(settlements); err != nil {
		return nil, s.wrap("settle a batch", errors.Join(err, w.b.Close()))
	}
	for i := range settlements {
		st := &settlements[i]
		if n := len(w.seqs); s.settled.Has(st.Op.Seq) || n > 0 && w.seqs[n-1].To > st.Op.Seq {
			continue
		}
		if err := w.one(st); err != nil {
			return nil, s.wrap("settle a batch", errors.Join(err, w.b.Close()))
		}
		w.seqs = w.seqs.Append(st.Op.Seq)
	}
	return w, nil
}

// settling is one Settle under way.
type settling struct {
	s          *Store
	b          *pebble.Batch
	batch      uint64
	plan       *PlanRef
	seqs       planner.Seqs // that are settled by it
	rows       int64        // by how much the count of rows changes
	block      []byte       // acknowledged rows, as appendPending has them
	key, value []byte
	entryValue []byte

	owned, moved bool // as the store's, once this is in it
	// What this Settle has written, which a read does not see: the owners of
	// records, and the records of rows.
	owners map[string]planner.Hash
	ids    map[planner.Hash]string
	found  map[string]planner.Hash // the owners that the store has of the records at hand
}

// one writes what a settlement changes.
func (w *settling) one(st *Settlement) error {
	op := st.Op
	removed := op.Fingerprint == planner.Hash{} // the row left the model
	done := op.Kind == planner.Archive && !removed
	switch {
	case st.Failed && (done || !st.Forget):
		return w.refused(st, removed)
	case st.Held:
		// The record is there already, should a person say that it landed.
		return w.record(st, planner.Entry{KeyHash: op.KeyHash, Refused: true, RefusedPrint: op.Fingerprint, RefusedTimes: 1, RefusedCode: st.Code})
	case st.Forget && !done, st.Applied && op.Kind == planner.Archive && removed:
		return w.forget(op)
	case st.Applied && op.Kind == planner.ClearFields:
		// The row may come back as it was, and the record is not: no
		// fingerprint, so that it is compared.
		if op.Counted {
			w.rows--
		}
		return w.record(st, planner.Entry{KeyHash: op.KeyHash, Acked: true, Gone: true})
	case st.Applied, st.Forget:
		if !op.Counted {
			w.rows++
		}
		e := planner.Entry{KeyHash: op.KeyHash, Fingerprint: op.Fingerprint, Acked: true}
		if len(st.Omitted) > 0 {
			e.Fingerprint = planner.Hash{}
		}
		return w.record(st, e)
	}
	return nil
}

// record writes an acknowledged entry with its record and owner.
func (w *settling) record(st *Settlement, e planner.Entry) error {
	op := st.Op
	id := st.ID
	if id == "" {
		id = op.ID
	}
	before, err := w.before(st)
	if err != nil {
		return err
	}
	w.value = appendRecordHead(w.value[:0], id, op.Key, op.Match)
	dense := w.dense(st)
	if dense {
		w.value[0] |= recordDense
	}
	for i := range op.Assignments {
		a := &op.Assignments[i]
		if a.Send == planner.OnCreate {
			continue
		}
		cell := a.Cell
		if slices.Contains(st.Omitted, a.Field) && a.Send == planner.Always {
			was := slices.IndexFunc(before, func(f planner.RecordField) bool {
				return a.Field >= 0 && a.Field < len(w.s.columns) && f.Name == w.s.names[w.s.columns[a.Field]]
			})
			if was < 0 {
				continue
			}
			cell = before[was].Cell
		}
		if a.Field < 0 || a.Field >= len(w.s.columns) {
			return fmt.Errorf("operation %d names field %d, which its plan does not have", op.Seq, a.Field)
		}
		if dense {
			w.value = appendCell(w.value, cell)
			continue
		}
		w.value = appendField(w.value, w.s.columns[a.Field], cell)
	}
	w.entryValue = planner.AppendEntry(w.entryValue[:0], &e)
	w.block = appendPending(w.block, op.KeyHash, w.entryValue, w.value)
	if id == "" || op.Kind == planner.Archive || w.s.identity != nil && w.s.identity.MatchIsKey {
		return nil
	}
	if op.ID != "" && op.ID != id {
		if err := w.disown(op.ID, op.KeyHash); err != nil {
			return err
		}
	}
	if w.moved {
		w.key = hashKey(w.key[:0], prefixDisplaced, op.KeyHash)
		if err := w.b.Delete(w.key, nil); err != nil {
			return err
		}
	}
	if op.Known && op.ID == id {
		return nil // the owner already
	}
	if err := w.displace(id, op.KeyHash); err != nil {
		return err
	}
	w.key = ownerKey(w.key[:0], id)
	return w.b.Set(w.key, op.KeyHash[:], nil)
}

// dense says whether a record has the fields 0 to n, in that order, as one has whose
// sync's mapping has only ever grown.
func (w *settling) dense(st *Settlement) bool {
	for i := range st.Op.Assignments {
		a := &st.Op.Assignments[i]
		if a.Send == planner.OnCreate || a.Field < 0 || a.Field >= len(w.s.columns) || w.s.columns[a.Field] != i {
			return false
		}
	}
	return len(st.Omitted) == 0
}

// displace marks the row that had a record which now is the row of key's: it knows
// nothing any more of what the record holds. The first load asks nothing of the
// store, as there is no owner in it.
func (w *settling) displace(id string, key planner.Hash) error {
	owner, ok := w.ownerOf(id)
	if w.owners == nil {
		w.owners, w.ids = map[string]planner.Hash{}, map[planner.Hash]string{}
	}
	w.owners[id], w.ids[key], w.owned = key, id, true
	if !ok || owner == key {
		return nil
	}
	has, ok := w.ids[owner]
	if !ok {
		if err := w.s.foldHash(owner); err != nil {
			return err
		}
		v, err := w.s.get(hashKey(nil, prefixRecord, owner))
		if err != nil || v == nil {
			return err
		}
		rec, err := decodeRecord(v, w.s.names)
		if err != nil {
			return fmt.Errorf("%w: record %s", errDamaged, owner)
		}
		has = rec.ID
	}
	if has != id {
		return nil // it has moved on to another record
	}
	w.moved = true
	return w.b.Set(hashKey(nil, prefixDisplaced, owner), nil, nil)
}

// ownerOf is the owner of a record, as of the settlements so far.
func (w *settling) ownerOf(id string) (owner planner.Hash, ok bool) {
	if owner, ok = w.owners[id]; !ok {
		owner, ok = w.found[id]
	}
	return owner, ok
}

// findOwners reads who owns the records that the settlements may take from a row
// or give to one: in one walk in the order of the Ids, as the Ids of new records
// lie behind all others or close to each other.
func (w *settling) findOwners(settlements []Settlement) error {
	if !w.s.owned || w.s.identity != nil && w.s.identity.MatchIsKey {
		return nil
	}
	var ids []string
	for i := range settlements {
		st := &settlements[i]
		same := st.ID == "" || st.ID == st.Op.ID
		if !same {
			ids = append(ids, st.ID)
		}
		if st.Op.ID != "" && (!same || !st.Op.Known || st.Forget || st.Op.Kind == planner.Archive) {
			ids = append(ids, st.Op.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	it, err := w.s.db.NewIter(&pebble.IterOptions{LowerBound: ownerKey(nil, ids[0]), UpperBound: []byte{prefixOwner + 1}})
	if err != nil {
		return err
	}
	valid := it.First()
	for _, id := range ids {
		w.key = ownerKey(w.key[:0], id)
		for steps := 0; valid && bytes.Compare(it.Key(), w.key) < 0; steps++ {
			if steps < 8 {
				valid = it.Next()
			} else {
				valid = it.SeekGE(w.key)
			}
		}
		if !valid {
			break
		}
		if !bytes.Equal(it.Key(), w.key) {
			continue
		}
		value, err := it.ValueAndErr()
		if err == nil && len(value) != len(planner.Hash{}) {
			err = fmt.Errorf("%w: owner of %s", errDamaged, id)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if w.found == nil {
			w.found = map[string]planner.Hash{}
		}
		w.found[id] = planner.Hash(value)
	}
	return errors.Join(it.Error(), it.Close())
}

// before is what was acknowledged of a record some fields of which were left out
// now.
func (w *settling) before(st *Settlement) ([]planner.RecordField, error) {
	if len(st.Omitted) == 0 || !st.Op.Known {
		return nil, nil
	}
	v, err := w.s.get(hashKey(nil, prefixRecord, st.Op.KeyHash))
	if err != nil || v == nil {
		return nil, err
	}
	rec, err := decodeRecord(v, w.s.names)
	if err != nil {
		return nil, fmt.Errorf("%w: record %s", errDamaged, st.Op.KeyHash)
	}
	return rec.Fields, nil
}

func (w *settling) entry(e *planner.Entry) error {
	w.key = hashKey(w.key[:0], prefixEntry, e.KeyHash)
	w.value = planner.AppendEntry(w.value[:0], e)
	return w.b.Set(w.key, w.value, nil)
}

// forget drops a row.
func (w *settling) forget(op *planner.Operation) error {
	if op.Counted {
		w.rows--
	}
	w.key = hashKey(w.key[:0], prefixEntry, op.KeyHash)
	err := w.b.Delete(w.key, nil)
	w.key[0] = prefixRecord
	err = errors.Join(err, w.b.Delete(w.key, nil))
	if w.moved {
		w.key[0] = prefixDisplaced
		err = errors.Join(err, w.b.Delete(w.key, nil))
	}
	if op.ID != "" {
		err = errors.Join(err, w.disown(op.ID, op.KeyHash))
	}
	return err
}

// disown drops the owner of a record if it is the row of this key.
func (w *settling) disown(id string, key planner.Hash) error {
	if owner, ok := w.ownerOf(id); !ok || owner != key {
		return nil
	}
	delete(w.owners, id)
	delete(w.found, id)
	return w.b.Delete(ownerKey(nil, id), nil)
}

// refused notes a refusal. That of a row which left the model is not kept: the
// removal is due again in any case.
func (w *settling) refused(st *Settlement, removed bool) error {
	if removed {
		return nil
	}
	e := planner.Entry{KeyHash: st.Op.KeyHash}
	old, err := w.s.get(hashKey(nil, prefixEntry, st.Op.KeyHash))
	if err != nil {
		return err
	}
	if old != nil {
		if err := planner.DecodeEntry(old, &e); err != nil {
			return fmt.Errorf("%w: entry %s", errDamaged, e.KeyHash)
		}
	}
	times := uint32(1)
	if e.Refused && e.RefusedPrint == st.Op.Fingerprint && e.RefusedCode == st.Code {
		times = e.RefusedTimes + 1
	}
	e.Refused, e.RefusedPrint, e.RefusedTimes, e.RefusedSkips, e.RefusedCode = true, st.Op.Fingerprint, times, 0, st.Code
	return w.entry(&e)
}
