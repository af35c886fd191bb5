package planner

import (
	"encoding/binary"
	"fmt"

	"coho/models"
)

// comparesMatches says whether match values are compared across rows. Where the
// match value is the key, rows of one value are duplicates of one key already, and
// only removals and references need it.
func (s *Spec) comparesMatches() bool {
	if s.MatchColumn < 0 || !s.MatchIsKey {
		return s.MatchColumn >= 0
	}
	if s.OnRemoved != models.RemovedNothing && s.OnRemoved != "" {
		return true
	}
	for i := range s.Fields {
		if s.Fields[i].SelfReference {
			return true
		}
	}
	return false
}

// holdsMatches says whether rows of which nothing is sent take part in that. In
// archive mode they have no record any more that another could take over.
func (s *Spec) holdsMatches() bool {
	return s.MatchColumn >= 0 && !s.MatchIsKey && s.Mode != models.ModeArchive
}

// hold claims the match value of a row of which nothing is sent: as matchHeld, so
// that no other row takes over its record, or as matchWanted.
func (j *joiner) hold(rec []byte, kind matchKind) error {
	if !j.holds {
		return nil
	}
	if err := j.row(rec); err != nil {
		return err
	}
	c := j.spec.MatchColumn
	if j.cells[c] == nil {
		return nil
	}
	v, err := j.b.schema.Decode(c, j.cells[c])
	if err != nil {
		return nil // it was acknowledged under another value
	}
	cell, err := j.spec.Convert(matchField, v)
	if err != nil || cell.Null {
		return nil
	}
	return j.claim(j.spec.normalize(cell.Text), kind, Hash(rec[:16]))
}

// keep claims for a row that is rejected what it has, the record of its entry e
// (nil where there is none), and what it would have.
func (j *joiner) keep(rec []byte, e *Entry) error {
	if err := j.hold(rec, matchWanted); err != nil {
		return err
	}
	if !j.holds || e == nil || !e.Acked || e.Gone {
		return nil
	}
	if err := j.checkDisplaced(); err != nil || e.Displaced {
		return err
	}
	record, err := j.cur.Record()
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	return j.claim(j.spec.normalize(record.Match), matchHeld, e.KeyHash)
}

func (j *joiner) claim(match string, kind matchKind, key Hash) error {
	if match == "" {
		return nil
	}
	seq := int64(binary.BigEndian.Uint64(key[:8]) >> kindBits)
	j.chunk.matches = append(j.chunk.matches, newMatchRef(match, kind, seq))
	return j.grown()
}

// checkDisplaced takes back that the current entry was displaced where the two
// rows' match values are different ones here: then the destination alone takes
// them for one, and sending both over and over would not help.
func (j *joiner) checkDisplaced() (err error) {
	e := &j.entry
	if !e.Displaced || !e.Acked {
		e.Displaced = false // a mark that outlived its row
		return nil
	}
	record, err := j.cur.Record()
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	owner, ok, err := j.b.snap.Owner(record.ID)
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if !ok || owner == e.KeyHash {
		return nil
	}
	cur, err := j.b.snap.Scan(owner, Hash{})
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	var other Record
	if cur.Next() && cur.Entry().KeyHash == owner && cur.Entry().Acked {
		other, err = cur.Record()
		e.Displaced = j.spec.normalize(other.Match) == j.spec.normalize(record.Match)
	}
	for _, bad := range []error{cur.Err(), cur.Close()} {
		if err == nil {
			err = bad
		}
	}
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	return nil
}
