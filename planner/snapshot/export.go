package snapshot

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"coho/models"
	"coho/planner"
)

// Reset empties the store, durably: rows, identity, plan and journal.
func (s *Store) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reset()
}

func (s *Store) reset() error {
	if err := s.folded(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	var errs []error
	for _, p := range []byte{prefixBatch, prefixDisplaced, prefixEntry, prefixOwner, prefixPending, prefixRecord, prefixSettled} {
		errs = append(errs, b.DeleteRange([]byte{p}, []byte{p + 1}, nil))
	}
	for _, k := range [][]byte{keyIdentity, keyRevision, keyRows, keyFields, keyPlan, keyBatches, keyNotes, keyImporting} {
		errs = append(errs, b.Delete(k, nil))
	}
	if err := errors.Join(errs...); err != nil {
		return s.wrap("reset the state", err)
	}
	if err := s.commit("reset the state", b, pebble.Sync); err != nil {
		return err
	}
	s.rows, s.sets, s.batches, s.applied = 0, 0, 0, 0
	s.revision = planner.Hash{}
	s.owned, s.moved = false, false
	s.plan, s.columns, s.identity = nil, nil, nil
	s.settled = planner.SettledSet{}
	s.pending.reset(0)
	s.setNames(nil)
	clear(s.open)
	return nil
}

// Stats counts what a store holds.
type Stats struct {
	Rows    int64 // acknowledged and in the model
	Gone    int64 // acknowledged and left the model
	Refused int64 // refused as they were last sent
	Bytes   int64 // on disk
}

// Stats reads every entry.
func (s *Store) Stats() (st Stats, err error) {
	c, err := s.Scan(planner.Hash{}, planner.Hash{})
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, c.Err(), c.Close()) }()
	for c.Next() {
		e := c.Entry()
		if e.Refused {
			st.Refused++
		}
		switch {
		case e.Acked && e.Gone:
			st.Gone++
		case e.Acked:
			st.Rows++
		}
	}
	st.Bytes = int64(s.db.Metrics().DiskSpaceUsage())
	return st, nil
}

// exportHead is an export's first line.
type exportHead struct {
	Format   int       `json:"coho_snapshot"`
	Identity *Identity `json:"identity"`
}

// exportRow is each further line. Fields that are null are null there; a row that
// was only ever refused has neither key nor fields.
type exportRow struct {
	Key         []string           `json:"key,omitempty"`
	ID          string             `json:"id,omitempty"`
	Match       string             `json:"match,omitempty"`
	Fields      map[string]*string `json:"fields,omitempty"`
	Acked       bool               `json:"acked"`
	Gone        bool               `json:"gone,omitempty"`
	Disowned    bool               `json:"disowned,omitempty"` // another row owns the record by now
	Refused     *exportRefused     `json:"refused,omitempty"`
	Hash        string             `json:"hash"`
	Fingerprint string             `json:"fingerprint"`
}

type exportRefused struct {
	Code        string `json:"code"`
	Times       uint32 `json:"times"`
	Skips       uint32 `json:"skips,omitempty"`
	Fingerprint string `json:"fingerprint"`
}

const exportFormat = 1

// Export writes the rows as JSON lines, in the order of their hashes: first a line
// on the whole, then one a row.
func (s *Store) Export(w io.Writer) (err error) {
	buf := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	head := exportHead{Format: exportFormat}
	if id, ok := s.Identity(); ok {
		head.Identity = &id
	}
	if err := enc.Encode(head); err != nil {
		return fmt.Errorf("export the state: %w", err)
	}
	c, err := s.Scan(planner.Hash{}, planner.Hash{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for c.Next() {
		e := c.Entry()
		row := exportRow{Acked: e.Acked, Gone: e.Gone, Hash: e.KeyHash.String(), Fingerprint: e.Fingerprint.String()}
		if e.Refused {
			row.Refused = &exportRefused{Code: e.RefusedCode, Times: e.RefusedTimes, Skips: e.RefusedSkips, Fingerprint: e.RefusedPrint.String()}
		}
		if e.Acked || e.Held() {
			rec, err := c.Record()
			if err != nil {
				return err
			}
			row.Key, row.ID, row.Match = rec.Key, rec.ID, rec.Match
			owner, owned, err := s.Owner(rec.ID)
			if err != nil {
				return err
			}
			row.Disowned = owned && owner != e.KeyHash
			row.Fields = make(map[string]*string, len(rec.Fields))
			for i := range rec.Fields {
				f := &rec.Fields[i]
				if row.Fields[f.Name] = nil; !f.Cell.Null {
					row.Fields[f.Name] = &f.Cell.Text
				}
			}
		}
		if err := enc.Encode(row); err != nil {
			return fmt.Errorf("export the state: %w", err)
		}
	}
	if err := c.Err(); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("export the state: %w", err)
	}
	return nil
}

// importAtOnce is how many rows of an import go into one Pebble batch.
const importAtOnce = 4096

// Import fills an empty store from an export. It takes all or nothing: after an
// error, or a crash, the store is empty.
func (s *Store) Import(r io.Reader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity != nil || s.plan != nil || s.rows > 0 {
		return fmt.Errorf("import: the state in %s is not empty; reset it first", s.dir)
	}
	if err := s.set("import", keyImporting, []byte{1}); err != nil {
		return err
	}
	if err := s.importAll(r); err != nil {
		return errors.Join(err, s.reset())
	}
	return nil
}

func (s *Store) importAll(r io.Reader) error {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	var head exportHead
	if err := dec.Decode(&head); err != nil || head.Format == 0 {
		return errors.Join(errors.New("import: this is not an export of a snapshot"), err)
	}
	if head.Format > exportFormat {
		return fmt.Errorf("import: the export has format %d, written by a newer coho", head.Format)
	}
	w := importing{s: s, b: s.db.NewBatch(), matchIsKey: head.Identity != nil && head.Identity.MatchIsKey}
	pending := 0
	for line := 2; ; line++ {
		var row exportRow
		err := dec.Decode(&row)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = w.row(&row)
		}
		if err != nil {
			return fmt.Errorf("import: line %d: %w", line, err)
		}
		if pending++; pending == importAtOnce {
			if err := s.commit("import", w.b, pebble.NoSync); err != nil {
				return err
			}
			w.b, pending = s.db.NewBatch(), 0
		}
	}
	revision, err := revise(w.b)
	err = errors.Join(err, w.b.Set(keyRows, count(w.rows), nil), setJSON(w.b, keyFields, s.names), w.b.Delete(keyImporting, nil))
	if head.Identity != nil {
		err = errors.Join(err, setJSON(w.b, keyIdentity, head.Identity))
	}
	if err != nil {
		return s.wrap("import", err)
	}
	if err := s.commit("import", w.b, pebble.Sync); err != nil {
		return err
	}
	s.rows, s.identity, s.revision = w.rows, head.Identity, revision
	s.owned, s.moved = true, true
	return nil
}

// importing is one Import under way.
type importing struct {
	s          *Store
	b          *pebble.Batch
	matchIsKey bool
	rows       int64
}

func (w *importing) row(row *exportRow) error {
	e := planner.Entry{Acked: row.Acked, Gone: row.Gone}
	err := errors.Join(parseHash(&e.KeyHash, row.Hash), parseHash(&e.Fingerprint, row.Fingerprint))
	if r := row.Refused; r != nil {
		e.Refused, e.RefusedCode, e.RefusedTimes, e.RefusedSkips = true, r.Code, r.Times, r.Skips
		err = errors.Join(err, parseHash(&e.RefusedPrint, r.Fingerprint))
	}
	if err != nil {
		return err
	}
	if err := w.b.Set(hashKey(nil, prefixEntry, e.KeyHash), planner.AppendEntry(nil, &e), nil); err != nil || !e.Acked && !e.Held() {
		return err
	}
	if e.Acked && !e.Gone {
		w.rows++
	}
	v := appendRecordHead(nil, row.ID, row.Key, row.Match)
	names := make([]string, 0, len(row.Fields))
	for name := range row.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		number, ok := w.s.numbers[name]
		if !ok {
			number = len(w.s.names)
			w.s.names = append(w.s.names, name)
			w.s.numbers[name] = number
		}
		cell := models.NullCell
		if text := row.Fields[name]; text != nil {
			cell = models.Cell{Text: *text}
		}
		v = appendField(v, number, cell)
	}
	err = w.b.Set(hashKey(nil, prefixRecord, e.KeyHash), v, nil)
	switch {
	case row.ID == "" || w.matchIsKey:
	case row.Disowned:
		err = errors.Join(err, w.b.Set(hashKey(nil, prefixDisplaced, e.KeyHash), nil, nil))
	default:
		err = errors.Join(err, w.b.Set(ownerKey(nil, row.ID), e.KeyHash[:], nil))
	}
	return err
}

func parseHash(h *planner.Hash, text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return fmt.Errorf("%q is not a hash", text)
	}
	copy(h[:], b)
	return nil
}
